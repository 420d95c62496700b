//! Heads of chains in shared memory, so that an append need not look for the end of its chain in the index.
//!
//! A head is *taken* by the transaction that has just locked the chain, and *put* back when that transaction has committed, while
//! it still holds the lock ([`crate::chain::head`] knows whether its last row was stored). A transaction that does not commit with all
//! its rows stored (a rollback, a savepoint, PREPARE TRANSACTION, a crash) puts nothing back, and the next append reads the index.
//! So nothing needs undoing, and a slot is either empty or true.
//!
//! Rows can also change without the chain's lock: rows that bring their hashes, and changes under maintenance. Their transactions
//! are *unlocked writers*, counted by relation. While one is open no head of its relation is taken or put, and its end invalidates
//! all heads in the slots: their keys contain the count of unlocked writers.
//!
//! | field | written by | under |
//! |---|---|---|
//! | `Slot::content` | any transaction that takes or puts a head | the slot's own flag `busy`, held for a copy of 64 bytes |
//! | `unlocked_writers` | unlocked writers, when they begin and when they have ended | atomic addition |
//! | `secret` | the postmaster, before it forks | |
//!
//! Without `shared_preload_libraries` there are no slots, and every head is read from the index.

use std::cell::{Cell, UnsafeCell};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgrx::{AssertPGRXSharedMemory, PgLwLock, pg_guard, pg_sys};
use siphasher::sip128::{Hasher128 as _, SipHasher13};
use std::hash::Hasher as _;
use zeroauth_audit_core::Digest;

use crate::chain::chain_end::Head;
use crate::pg::shmem;

/// So often a busy slot is tried: some milliseconds.
const MOST_TRIES: u32 = 128 * 256;

/// Two heads of one slot evict each other, which only costs a look into the index.
const SLOTS: usize = 8192;

/// Relations share counters; a head that another relation's unlocked writers invalidate costs a look into the index.
const COUNTERS: usize = 64;

/// Added when an unlocked writer begins; [`ENDED`] subtracts it again and counts the end.
const BEGUN: u64 = 1;
const ENDED: u64 = (1 << 32) - BEGUN;

const EMPTY: [u64; 2] = [0; 2];

#[derive(Clone, Copy)]
struct Content {
    /// Keyed hash of the chain and of the state it was put in, 0 when the slot is empty.
    key: [u64; 2],
    seq: i64,
    hash: [u8; 32],
}

#[repr(C, align(64))]
struct Slot {
    busy: AtomicBool,
    content: UnsafeCell<Content>,
}

impl Slot {
    /// Runs `body` alone; `None` when the slot stays busy. `body` must not call PostgreSQL: an error would leave the slot busy for ever.
    fn with<T>(&self, body: impl FnOnce(&mut Content) -> T) -> Option<T> {
        let mut tries = 0_u32;
        while self.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            tries += 1;
            // The owner may be stopped, for as long as somebody likes: heads can be read from the index.
            if tries > MOST_TRIES {
                return None;
            }
            // The owner of the flag copies 64 bytes; it takes longer only when the kernel took the processor away.
            if tries.is_multiple_of(128) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        // SAFETY: `busy` was false and is ours now: nobody else looks at the content.
        let done = body(unsafe { &mut *self.content.get() });
        self.busy.store(false, Ordering::Release);
        Some(done)
    }
}

// SAFETY: the content is only touched through `with`.
unsafe impl Sync for Slot {}

struct Shared {
    secret: [u8; 16],
    unlocked_writers: [AtomicU64; COUNTERS],
    slots: [Slot; SLOTS],
}

impl Shared {
    fn slot(&self, key: [u64; 2]) -> &Slot {
        &self.slots[key[1] as usize % SLOTS]
    }
}

// SAFETY: named once, initialised by pg_shmem_init! below; no pointers and a fixed layout.
static SHARED: PgLwLock<AssertPGRXSharedMemory<Shared>> = unsafe { PgLwLock::new(c"zeroauth_audit_heads") };

/// Requests the shared memory; to be called while the server itself is loading the library.
pub fn request_shared_memory() {
    pgrx::pg_shmem_init!(SHARED = empty());
}

fn empty() -> AssertPGRXSharedMemory<Shared> {
    let mut secret = [0; 16];
    // SAFETY: the buffer has 16 bytes.
    if !unsafe { pg_sys::pg_strong_random(secret.as_mut_ptr().cast(), 16) } {
        pgrx::error!("could not generate random bytes");
    }
    let content = Content { key: EMPTY, seq: 0, hash: [0; 32] };
    let shared = Shared {
        secret,
        unlocked_writers: std::array::from_fn(|_| AtomicU64::new(0)),
        slots: std::array::from_fn(|_| Slot {
            busy: AtomicBool::new(false),
            content: UnsafeCell::new(content),
        }),
    };
    // SAFETY: no pointers and a fixed layout.
    unsafe { AssertPGRXSharedMemory::new(shared) }
}

fn shared() -> Option<&'static Shared> {
    static ADDRESS: OnceLock<Option<&'static Shared>> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        shmem::is_shared().then(|| {
            let guard = SHARED.share();
            let address: *const Shared = &raw const **guard;
            // SAFETY: PostgreSQL's main shared memory stays where it is as long as the process lives, and every field that changes
            // is atomic or behind its slot's flag: the lock is not needed to look at it.
            unsafe { &*address }
        })
    })
}

/// How many unlocked writers of a relation have ended (high half) and are open (low half).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct State(u64);

impl State {
    /// A state in which no head is taken or put.
    pub const HAS_WRITERS: State = State(BEGUN);

    fn is_idle(self) -> bool {
        self.0 as u32 == 0
    }
}

/// A relation as the slots know it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Its oid.
    pub relation: pg_sys::Oid,
    /// Its file: TRUNCATE gives it another.
    pub file: u32,
}

impl Place {
    fn counter(self) -> usize {
        // SAFETY: set when the backend connected.
        let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
        (self.relation.to_u32() ^ database.rotate_left(3)) as usize % COUNTERS
    }

    /// Keys of different chains or states collide with a probability of about 2^-128.
    fn key(self, secret: &[u8; 16], state: State, tenant: &[u8], chain: u16) -> [u64; 2] {
        let mut hasher = SipHasher13::new_with_key(secret);
        // SAFETY: set when the backend connected.
        hasher.write_u32(unsafe { pg_sys::MyDatabaseId }.to_u32());
        hasher.write_u32(self.relation.to_u32());
        hasher.write_u32(self.file);
        hasher.write_u64(state.0);
        hasher.write_u16(chain);
        hasher.write(tenant);
        let hash = hasher.finish128();
        [hash.h1 | 1, hash.h2]
    }

    /// The state that must not change for a head of this relation to stay true.
    pub fn state(self) -> State {
        shared()
            .map_or(State(0), |shared| State(shared.unlocked_writers[self.counter()].load(Ordering::SeqCst)))
    }
}

/// Takes the head of a chain out of its slot. The caller has just locked the chain.
pub fn take(place: Place, tenant: &[u8], chain: u16) -> Option<Head> {
    let shared = shared()?;
    let state = place.state();
    if !state.is_idle() {
        return None; // the slot belongs to another state, which never comes back
    }
    let key = place.key(&shared.secret, state, tenant, chain);
    shared.slot(key).with(|content| {
        (content.key == key).then(|| {
            content.key = EMPTY;
            Head { chain, seq: content.seq, hash: Digest::new(content.hash) }
        })
    })?
}

/// Puts the head of a chain into its slot. The caller has committed the event at `head` and still holds the chain's lock; `since`
/// is the state from before the chain was locked.
pub fn put(place: Place, since: State, tenant: &[u8], head: &Head) {
    let Some(shared) = shared() else { return };
    if place.state() != since || !since.is_idle() {
        return;
    }
    let key = place.key(&shared.secret, since, tenant, head.chain);
    let content = Content { key, seq: head.seq, hash: *head.hash.as_bytes() };
    let _ = shared.slot(key).with(|slot| *slot = content);
}

thread_local! {
    /// The counters in which this transaction is an unlocked writer, one bit each.
    static WRITES_UNLOCKED: Cell<u64> = const { Cell::new(0) };
}

/// This transaction changes rows of `place` without a chain's lock. [`unlocked_writer_ended`] must follow when it has ended.
pub fn unlocked_writer_begins(place: Place) {
    begin(1 << place.counter());
}

/// As [`unlocked_writer_begins`], when the relations are unknown: the transaction was prepared elsewhere.
pub fn unlocked_writer_of_all_begins() {
    begin(u64::MAX);
}

fn begin(counters: u64) {
    let Some(shared) = shared() else { return };
    let new = counters & !WRITES_UNLOCKED.get();
    // Noted first: a counter that is one too low for a moment is one that ends too early.
    WRITES_UNLOCKED.set(WRITES_UNLOCKED.get() | new);
    for (n, counter) in shared.unlocked_writers.iter().enumerate() {
        if new & (1 << n) != 0 {
            counter.fetch_add(BEGUN, Ordering::SeqCst);
        }
    }
}

/// The transaction has ended. If it committed, others see its changes; if not, nothing has changed, and heads stay true. Raises nothing.
pub fn unlocked_writer_ended(committed: bool) {
    let counters = WRITES_UNLOCKED.replace(0);
    if counters == 0 {
        return;
    }
    let Some(shared) = shared() else { return };
    for (n, counter) in shared.unlocked_writers.iter().enumerate() {
        if counters & (1 << n) != 0 {
            if committed {
                counter.fetch_add(ENDED, Ordering::SeqCst);
            } else {
                counter.fetch_sub(BEGUN, Ordering::SeqCst);
            }
        }
    }
}
