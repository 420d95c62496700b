//! How far each running verification is: one slot in shared memory for each, read by `audit_progress()`.
//!
//! | field | written by | under |
//! |---|---|---|
//! | `pid`, `about` | the verifying backend, when it claims and when it frees its slot | the board's lock, exclusive |
//! | `done` | that backend and its parallel workers | the board's lock, shared, by atomic addition |
//!
//! A backend that died without freeing its slot left a pid that no backend has: the next claim takes it over. Without
//! `shared_preload_libraries` there is no shared memory: verification works, progress is not shown.

use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use pgrx::{AssertPGRXSharedMemory, PgLwLock, pg_guard, pg_sys};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;
use crate::pg::result_rows::{Rows, Value};
use crate::pg::shmem;
use crate::pg::versions;

const SLOTS: usize = 64;
const TENANT_BYTES: usize = 128;

/// A worker adds what it did in steps of so many events: often enough to watch, rarely enough to cost nothing.
pub const STEP: u32 = 1024;

#[repr(C)]
#[derive(Clone, Copy)]
struct About {
    database: u32,
    tenant_length: u32,
    tenant: [u8; TENANT_BYTES],
    total: i64,
    started: i64,
}

#[repr(C)]
struct Slot {
    pid: AtomicI32,
    done: AtomicI64,
    about: About,
}

struct Board {
    slots: [Slot; SLOTS],
}

impl Default for Board {
    fn default() -> Self {
        let about = About { database: 0, tenant_length: 0, tenant: [0; TENANT_BYTES], total: -1, started: 0 };
        Self {
            slots: std::array::from_fn(|_| Slot { pid: AtomicI32::new(0), done: AtomicI64::new(0), about }),
        }
    }
}

// SAFETY: named once, initialised by pg_shmem_init! below; the board has no pointers and a fixed layout.
static BOARD: PgLwLock<AssertPGRXSharedMemory<Board>> = unsafe { PgLwLock::new(c"zeroauth_audit_progress") };

/// Requests the shared memory. To be called while the server loads the library.
pub fn request_shared_memory() {
    pgrx::pg_shmem_init!(BOARD = empty_board());
}

fn empty_board() -> AssertPGRXSharedMemory<Board> {
    // SAFETY: a board has no pointers and a fixed layout.
    unsafe { AssertPGRXSharedMemory::new(Board::default()) }
}

/// The slot of one verification, freed when dropped.
pub struct Progress {
    slot: Option<usize>,
    pending: u32,
}

impl Progress {
    /// Shows that `tenant` (`None`: every tenant) is being verified; `total` is an estimate.
    pub fn start(tenant: Option<&str>, total: Option<i64>) -> Self {
        if !shmem::is_shared() {
            return Self { slot: None, pending: 0 };
        }
        let mut bytes = [0; TENANT_BYTES];
        let name = tenant.unwrap_or_default().as_bytes();
        let length = name.len().min(TENANT_BYTES);
        bytes[..length].copy_from_slice(&name[..length]);
        let about = About {
            // SAFETY: set when the backend connected.
            database: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            tenant_length: length as u32,
            tenant: bytes,
            total: total.unwrap_or(-1),
            // SAFETY: reads the clock.
            started: unsafe { pg_sys::GetCurrentTimestamp() },
        };
        // SAFETY: set at process start.
        let me = unsafe { pg_sys::MyProcPid };
        let mut board = BOARD.exclusive();
        let free = board.slots.iter().position(|slot| {
            let owner = slot.pid.load(Ordering::Relaxed);
            // SAFETY: looks a pid up among the backends.
            owner == 0 || owner == me || unsafe { pg_sys::BackendPidGetProc(owner) }.is_null()
        });
        if let Some(slot) = free.map(|n| &mut board.slots[n]) {
            slot.about = about;
            slot.done.store(0, Ordering::Relaxed);
            slot.pid.store(me, Ordering::Relaxed);
        }
        Self { slot: free, pending: 0 }
    }

    /// Counts one event.
    #[inline]
    pub fn tick(&mut self) {
        self.pending += 1;
        if self.pending >= STEP {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(slot) = self.slot {
            BOARD.share().slots[slot].done.fetch_add(i64::from(self.pending), Ordering::Relaxed);
        }
        self.pending = 0;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            BOARD.exclusive().slots[slot].pid.store(0, Ordering::Relaxed);
        }
    }
}

/// Counts [`STEP`] events for the verification that this process works for, as its leader or a parallel worker.
#[cold]
pub fn add_step_for_leader() {
    if !shmem::is_shared() {
        return;
    }
    let leader = versions::leader_pid();
    let board = BOARD.share();
    if let Some(slot) = board.slots.iter().find(|slot| slot.pid.load(Ordering::Relaxed) == leader) {
        slot.done.fetch_add(i64::from(STEP), Ordering::Relaxed);
    }
}

/// `progress_slots()`: one row for each running verification of this database.
fn audit_progress_slots(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    if !shmem::is_shared() {
        return Ok(pg_sys::Datum::null());
    }
    // Copied out first: rows are built with no lock held.
    let running: Vec<(i32, i64, About)> = {
        let board = BOARD.share();
        let copy =
            |slot: &Slot| (slot.pid.load(Ordering::Relaxed), slot.done.load(Ordering::Relaxed), slot.about);
        board.slots.iter().map(copy).filter(|(pid, ..)| *pid != 0).collect()
    };
    // SAFETY: set when the backend connected.
    let here = unsafe { pg_sys::MyDatabaseId }.to_u32();
    for (pid, done, about) in running {
        // SAFETY: looks a pid up among the backends.
        if about.database != here || unsafe { pg_sys::BackendPidGetProc(pid) }.is_null() {
            continue;
        }
        let tenant = String::from_utf8_lossy(&about.tenant[..about.tenant_length as usize]).into_owned();
        rows.push(vec![
            Value::Int4(pid),
            if tenant.is_empty() { Value::Null } else { Value::Text(tenant) },
            Value::Int8(done),
            if about.total < 0 { Value::Null } else { Value::Int8(about.total) },
            Value::Int8(about.started),
        ]);
    }
    Ok(pg_sys::Datum::null())
}

sql_function!(zeroauth_audit_progress_slots, pg_finfo_zeroauth_audit_progress_slots, audit_progress_slots);
