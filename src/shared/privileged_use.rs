//! Privileged use of the trail: who set `zeroauth_audit.maintenance`, what it let through, and who wrote to the trail in replica
//! role. Noted in shared memory until the job `tripwire` has raised an alert.
//!
//! Not noted: workers of logical replication, which are always in replica role; tables that the transaction itself created, a
//! drill's among them; and anything when the library is not in `shared_preload_libraries`. A crash of the server loses what no
//! job has taken; each change that was let through is a line in the log as well.
//!
//! One lock protects the board, held for a few loads and stores. Any session writes a note; the job reads those of its
//! database and, once they are dealt with for good, takes them off: see [`forget`].

use std::cell::Cell;

use pgrx::{AssertPGRXSharedMemory, PgLwLock, pg_guard, pg_sys};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;
use crate::pg::result_rows::{Rows, Value};
use crate::pg::shmem;
use crate::pg::time::now;
use crate::pg::versions;
use crate::trail::scratch;

/// A kind of privileged use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// `zeroauth_audit.maintenance` was switched on.
    MaintenanceSet,
    /// UPDATE, DELETE or TRUNCATE was let through.
    MaintenanceChange,
    /// DDL was let through.
    MaintenanceDdl,
    /// A row was updated or deleted.
    RowChanged,
    /// An event was added in replica role.
    ReplicaInsert,
    /// UPDATE, DELETE or TRUNCATE was tried in replica role.
    ReplicaChange,
}

impl What {
    const COUNT: usize = 6;

    /// Kind of the alert, and the privileged use in words.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::MaintenanceSet => ("maintenance_used", "switched on"),
            Self::MaintenanceChange => ("maintenance_used", "UPDATE, DELETE or TRUNCATE let through"),
            Self::MaintenanceDdl => ("maintenance_used", "DDL let through"),
            Self::RowChanged => ("rows_modified", "rows updated or deleted"),
            Self::ReplicaInsert => ("replica_role_used", "INSERT"),
            Self::ReplicaChange => ("replica_role_used", "UPDATE, DELETE or TRUNCATE tried"),
        }
    }
}

/// Notes at once, of all databases: one for each role and kind of use.
const NOTES: usize = 256;

#[derive(Clone, Copy)]
struct Note {
    /// Rises with every privileged use; 0: free.
    number: i64,
    database: u32,
    role: u32,
    what: What,
    times: i64,
    first: i64,
    last: i64,
}

const FREE: Note =
    Note { number: 0, database: 0, role: 0, what: What::MaintenanceSet, times: 0, first: 0, last: 0 };

struct Board {
    /// When the board was made: numbers are comparable within one board only.
    epoch: i64,
    next: i64,
    notes: [Note; NOTES],
}

// SAFETY: named once, initialised by pg_shmem_init! below; the board has no pointers and a fixed layout.
static BOARD: PgLwLock<AssertPGRXSharedMemory<Board>> =
    unsafe { PgLwLock::new(c"zeroauth_audit_privileged_use") };

/// Requests the shared memory. To be called while the server loads the library.
pub fn request_shared_memory() {
    pgrx::pg_shmem_init!(BOARD = empty_board());
}

fn empty_board() -> AssertPGRXSharedMemory<Board> {
    let board = Board { epoch: now(), next: 1, notes: [FREE; NOTES] };
    // SAFETY: a board has no pointers and a fixed layout.
    unsafe { AssertPGRXSharedMemory::new(board) }
}

/// Notes a privileged use by this session, once for each transaction. Raises nothing and waits only for the lock.
#[cold]
pub fn note(what: What) {
    thread_local!(static LAST: [Cell<u32>; What::COUNT] = const { [const { Cell::new(0) }; What::COUNT] });
    // The setting gets its value from the configuration before a process is anything else.
    let database = here();
    if !shmem::is_shared() || database == 0 {
        return;
    }
    let transaction = versions::local_transaction();
    let noted = LAST.with(|last| last[what as usize].replace(transaction) == transaction);
    // Switching it on is rare, and may come where there is no transaction.
    if noted && what != What::MaintenanceSet {
        return;
    }
    // SAFETY: reads a variable of this process; invalid while the session only starts.
    let role = unsafe { pg_sys::GetSessionUserId() }.to_u32();
    let at = now();
    let mut board = BOARD.exclusive();
    let number = board.next;
    board.next += 1;
    let same =
        |note: &Note| note.number != 0 && (note.database, note.role, note.what) == (database, role, what);
    let known = board.notes.iter().position(same);
    // A full board drops its oldest note: filling it leaves notes of the attacker himself, and each change has its line in the log.
    let oldest = || (0..NOTES).min_by_key(|n| board.notes[*n].number).unwrap_or(0);
    let place = known.unwrap_or_else(oldest);
    let note = &mut board.notes[place];
    if known.is_none() {
        *note = Note { database, role, what, first: at, ..FREE };
    }
    (note.number, note.last, note.times) = (number, at, note.times + 1);
}

/// Notes that the trail is written to in replica role, if it is.
///
/// # Safety
/// `relation` must be open.
#[inline]
pub unsafe fn note_replica(relation: pg_sys::Relation, what: What) {
    // SAFETY: a variable of this process.
    if unsafe { pg_sys::SessionReplicationRole } == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 {
        // SAFETY: by contract.
        unsafe { note_on(relation, what) };
    }
}

/// Notes a privileged use of the trail.
///
/// # Safety
/// `relation` must be open.
#[cold]
pub unsafe fn note_on(relation: pg_sys::Relation, what: What) {
    // SAFETY: by contract; the other looks at this process.
    if unsafe { !scratch::is_created_here(relation) && !pg_sys::IsLogicalWorker() } {
        note(what);
    }
}

/// Called by PostgreSQL when `zeroauth_audit.maintenance` gets a value.
pub unsafe extern "C-unwind" fn maintenance_assigned(on: bool, _: *mut std::ffi::c_void) {
    // A parallel worker takes over what its leader has.
    // SAFETY: a variable of this process.
    if on && unsafe { pg_sys::ParallelWorkerNumber } < 0 {
        note(What::MaintenanceSet);
    }
}

fn here() -> u32 {
    // SAFETY: set when the backend connected, invalid before.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// `privileged_uses(epoch, number)`: the notes of this database above a number; all of them if `epoch` is another board's.
fn privileged_uses(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    if !shmem::is_shared() {
        return Ok(pg_sys::Datum::null());
    }
    let (epoch, notes) = {
        let board = BOARD.share();
        let seen = if arguments.int8(0) == Some(board.epoch) { arguments.int8(1).unwrap_or(0) } else { 0 };
        let new = |note: &&Note| note.number > seen && note.database == here();
        (board.epoch, board.notes.iter().filter(new).copied().collect::<Vec<_>>())
    };
    for note in notes {
        let (kind, words) = note.what.words();
        rows.push(vec![
            Value::Int8(epoch),
            Value::Int8(note.number),
            Value::Text(kind.to_owned()),
            Value::Text(words.to_owned()),
            Value::Int8(i64::from(note.role)),
            Value::Int8(note.times),
            Value::Int8(note.first),
            Value::Int8(note.last),
        ]);
    }
    Ok(pg_sys::Datum::null())
}

/// `forget_privileged_uses(epoch, number)`: takes the notes of this database up to that number off the board. To be called with
/// numbers that an earlier transaction has committed as dealt with.
fn forget(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    if shmem::is_shared() {
        let mut board = BOARD.exclusive();
        if arguments.int8(0) == Some(board.epoch) {
            let seen = arguments.int8(1).unwrap_or(0);
            let database = here();
            let old = |note: &&mut Note| note.database == database && note.number <= seen;
            board.notes.iter_mut().filter(old).for_each(|note| *note = FREE);
        }
    }
    Ok(pg_sys::Datum::from(0))
}

sql_function!(zeroauth_audit_privileged_uses, pg_finfo_zeroauth_audit_privileged_uses, privileged_uses);
sql_function!(zeroauth_audit_forget_privileged_uses, pg_finfo_zeroauth_audit_forget_privileged_uses, forget);
