//! The lock that makes a transaction the only one to append to a chain.
//!
//! Heavyweight locks of the advisory method with a fourth field of their own, so that SQL advisory locks never
//! collide with them; PostgreSQL releases them at the end of the transaction (or of the subtransaction that took
//! them), carries them across PREPARE TRANSACTION, and shows them in `pg_locks`.
//!
//! | lock | fields | mode | taken |
//! |---|---|---|---|
//! | chain | database, bucket of the tenant (0..255), chain, 0x5A41 | exclusive | only if free at once |
//! | tenant (`max_chains = 1`) | database, hash of the tenant, 0, 0x5A42 | exclusive | waits |
//! | chain 0 (`max_chains = 1`) | as chain | share | waits, and only while a session without the setting holds it |
//!
//! None is taken for a table that the transaction itself created: nobody else can append there ([`crate::chain::trigger`]).
//! A transaction over any number of tenants takes one chain of each bucket: at most 256 locks.
//! Two tenants that share a bucket never wait for each other: the second takes another chain.
//! Chain 0 is locked in share mode under `max_chains = 1`, so that the tenants of a bucket stay apart, and yet no session
//! without the setting can append to a chain 0 that is locked.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::pg::settings;
use crate::pg::versions;
use crate::trail::membership::OWN_TENANT;

const CHAIN_LOCK: u16 = 0x5A41;
const TENANT_LOCK: u16 = 0x5A42;
const BUCKETS: usize = 256;

/// The chain that this backend took last in a bucket, for which tenant, when, and the last `seq` that it appended.
#[derive(Clone, Copy)]
struct Last {
    transaction: u32,
    tenant: u32,
    chain: u16,
    seq: i64,
    at: i64,
}

/// Microseconds for which a backend tries the chain it had first. Under load each backend settles on one of its own
/// and finds it free at the first try; a tenant without load goes back to chain 0.
const SETTLED: i64 = 100_000;

thread_local! {
    static LAST: RefCell<[Last; BUCKETS]> =
        const { RefCell::new([Last { transaction: 0, tenant: 0, chain: 0, seq: 0, at: 0 }; BUCKETS]) };
}

// Never raises: called without pgrx's guard, which costs more than it does.
unsafe extern "C-unwind" {
    fn GetCurrentTransactionStartTimestamp() -> i64;
}

/// FNV-1a: the same in every backend, and no secret.
fn hash(tenant: &[u8]) -> u32 {
    tenant.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn acquire(fields: (u32, u32, u16), mode: u32, wait: bool) -> bool {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: set when the backend connected.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: fields.0,
        locktag_field3: fields.1,
        locktag_field4: fields.2,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    };
    // SAFETY: a complete tag; the lock belongs to the current resource owner. Raises on deadlock, lock_timeout, cancel
    // and a full lock table, all of which leave nothing behind.
    let result = unsafe { pg_sys::LockAcquire(&tag, mode as i32, false, !wait) };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// A chain that this transaction alone appends to, until it ends. The default is chain 0.
#[derive(Clone, Copy, Default)]
pub struct Claim {
    /// Its number.
    pub chain: u16,
    /// Where this backend thinks the chain's head is: a guess, to be checked, and 0 for no idea.
    pub guess: i64,
}

/// Claims a chain of `tenant`.
///
/// Waits only when `zeroauth_audit.max_chains` says that there are not enough chains for everybody; never for the extension's own tenant.
pub fn claim_chain(tenant: &[u8]) -> Claim {
    let hash = hash(tenant);
    let bucket = hash % BUCKETS as u32;
    let slot = bucket as usize;
    let exclusive = pg_sys::ExclusiveLock;
    // Alerts wait for nobody.
    let most = if tenant == OWN_TENANT.as_bytes() { None } else { settings::max_chains() };
    if most == Some(1) {
        acquire((hash, 0, TENANT_LOCK), exclusive, true);
        acquire((bucket, 0, CHAIN_LOCK), pg_sys::ShareLock, true);
        return Claim { chain: 0, guess: 0 };
    }
    let most = most.unwrap_or(i16::MAX as u16);
    // SAFETY: reads transaction state of this process.
    let now = unsafe { GetCurrentTransactionStartTimestamp() };
    let last = LAST.with_borrow(|chains| chains[slot]);
    let transaction = versions::local_transaction();
    // A transaction takes one chain of a bucket, whichever of its tenants needed it first.
    let settled = last.transaction == transaction || (last.tenant == hash && now - last.at < SETTLED);
    let settled = settled && last.chain < most;
    let first = if settled { last.chain } else { 0 };
    let free = |chain: &u16| acquire((bucket, u32::from(*chain), CHAIN_LOCK), exclusive, false);
    let found = std::iter::once(first).chain((0..most).filter(|&chain| chain != first)).find(free);
    let chain = found.unwrap_or_else(|| {
        acquire((bucket, u32::from(first), CHAIN_LOCK), exclusive, true);
        first
    });
    let guess = if last.tenant == hash && last.chain == chain { last.seq } else { 0 };
    LAST.with_borrow_mut(|chains| {
        chains[slot] = Last { transaction, tenant: hash, chain, seq: guess, at: now }
    });
    Claim { chain, guess }
}

/// Notes the last `seq` that this backend appended, as a guess for its next claim.
pub fn appended(tenant: &[u8], chain: u16, seq: i64) {
    let hash = hash(tenant);
    LAST.with_borrow_mut(|chains| {
        let last = &mut chains[hash as usize % BUCKETS];
        if last.tenant == hash && last.chain == chain {
            last.seq = seq;
        }
    });
}
