//! Privileged use of the trail: who set `zeroauth_audit.maintenance`, what it let through, who wrote to the trail in replica role, who
//! wrote to a system catalog, and who brought events with their hashes. Noted in shared memory until the job `tripwire` has raised an alert.
//!
//! Not noted: workers of logical replication, which are always in replica role; tables that the transaction itself created, a
//! drill's among them; and anything when the library is not in `shared_preload_libraries`. A crash of the server loses what no
//! job has taken; each change that was let through is a line in the log as well.
//!
//! One lock protects the board, held for a few loads and stores. Any session writes a note; the job reads those of its
//! database and says which it has told of, and the commit of its transaction takes them off: see [`told`]. A full board gives up the oldest
//! note of the database that has most of them, and counts it there: filling the board hides no other database's notes.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::{AssertPGRXSharedMemory, PgLwLock, pg_guard, pg_sys};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::names;
use crate::pg::result_rows::{Rows, Value};
use crate::pg::shmem;
use crate::pg::time::now;
use crate::pg::versions;
use crate::trail::own_functions;
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
    /// A system catalog was written to; the note says which.
    CatalogWritten,
    /// A table that only the extension's functions write was written to; the note says which.
    StateWritten,
    /// A table that holds what people set was written to by hand; the note says which.
    SettingsWritten,
    /// VACUUM FULL, CLUSTER or another tablespace gave the trail another file; the note says which table.
    TableRewritten,
    /// Notes that a full board gave up.
    NotKept,
    /// Rows that brought their hashes were stored.
    EventsSupplied,
    /// An INSERT was refused after the trigger had passed the row: by row-level security, mostly.
    WriteRefused,
}

impl What {
    const COUNT: usize = 13;

    /// Kind of the alert, and the privileged use in words; of what is written to, its name comes instead.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::CatalogWritten => ("catalog_written", ""),
            Self::StateWritten => ("state_written", ""),
            Self::SettingsWritten => ("settings_written", ""),
            Self::TableRewritten => ("table_rewritten", ""),
            Self::NotKept => ("notes_not_kept", "not kept"),
            Self::MaintenanceSet => ("maintenance_used", "switched on"),
            Self::MaintenanceChange => ("maintenance_used", "UPDATE, DELETE or TRUNCATE let through"),
            Self::MaintenanceDdl => ("maintenance_used", "DDL let through"),
            Self::RowChanged => ("rows_modified", "rows updated or deleted"),
            Self::ReplicaInsert => ("replica_role_used", "INSERT"),
            Self::ReplicaChange => ("replica_role_used", "UPDATE, DELETE or TRUNCATE tried"),
            Self::EventsSupplied => ("events_supplied", "events stored with their hashes"),
            Self::WriteRefused => ("write_refused", "INSERT refused by row-level security"),
        }
    }
}

/// Notes at once, of all databases: one for each role and kind of use.
const NOTES: usize = 1024;

#[derive(Clone, Copy)]
struct Note {
    /// Rises with every privileged use; 0: free.
    number: i64,
    database: u32,
    role: u32,
    what: What,
    /// The relation that was written to, 0 where that goes without saying.
    object: u32,
    times: i64,
    first: i64,
    last: i64,
}

const FREE: Note = Note {
    number: 0,
    database: 0,
    role: 0,
    what: What::MaintenanceSet,
    object: 0,
    times: 0,
    first: 0,
    last: 0,
};

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
    note_object(what, pg_sys::Oid::INVALID);
}

/// As [`note`], of one relation: once for each transaction and as long as no other comes between.
#[cold]
pub fn note_object(what: What, object: pg_sys::Oid) {
    thread_local!(static LAST: [Cell<(u32, u32)>; What::COUNT] = const { [const { Cell::new((0, 0)) }; What::COUNT] });
    let object = object.to_u32();
    // The setting gets its value from the configuration before a process is anything else.
    let database = here();
    if !shmem::is_shared() || database == 0 {
        return;
    }
    let this = (versions::local_transaction(), object);
    let noted = LAST.with(|last| last[what as usize].replace(this) == this);
    // Switching it on is rare, and may come where there is no transaction; a commit is noted when there is none any more.
    if noted && !matches!(what, What::MaintenanceSet | What::EventsSupplied) {
        return;
    }
    // SAFETY: reads a variable of this process; invalid while the session only starts.
    let role = unsafe { pg_sys::GetSessionUserId() }.to_u32();
    BOARD.exclusive().add(Note { database, role, what, object, ..FREE }, now());
}

impl Board {
    /// Counts up the note that is like `new`, or adds it.
    fn add(&mut self, new: Note, at: i64) {
        let mark = |note: &Note| (note.database, note.role, note.what, note.object);
        let known = self.notes.iter().position(|note| note.number != 0 && mark(note) == mark(&new));
        let Some(place) = known.or_else(|| self.place_for(new, at)) else { return };
        let number = self.next;
        self.next += 1;
        let note = &mut self.notes[place];
        if known.is_none() {
            *note = Note { first: at, ..new };
        }
        (note.number, note.last, note.times) = (number, at, note.times + 1);
    }

    /// A free place; on a full board that of the oldest note of the database that has most. `None` when there is nothing to give up.
    fn place_for(&mut self, new: Note, at: i64) -> Option<usize> {
        if let Some(free) = self.notes.iter().position(|note| note.number == 0) {
            return Some(free);
        }
        // The new one counts: a database at its share gives up its own. Nothing is allocated: the lock is held.
        let share = |database: u32| {
            let ours = self.notes.iter().filter(|n| n.database == database && n.what != What::NotKept);
            (ours.count() + usize::from(database == new.database), database)
        };
        let (_, greedy) = self.notes.iter().map(|note| share(note.database)).max()?;
        let oldest = |board: &Self| {
            let old = (0..NOTES)
                .filter(|n| board.notes[*n].database == greedy && board.notes[*n].what != What::NotKept);
            old.min_by_key(|n| board.notes[*n].number)
        };
        let lost = |note: &Note| note.database == greedy && note.what == What::NotKept;
        let counted = match self.notes.iter().position(lost) {
            Some(counted) => counted,
            None => {
                let given_up = oldest(self)?;
                let times = self.notes[given_up].times;
                self.notes[given_up] = Note {
                    number: self.next,
                    database: greedy,
                    what: What::NotKept,
                    times,
                    first: at,
                    ..FREE
                };
                given_up
            }
        };
        let given_up = oldest(self)?;
        let times = self.notes[given_up].times;
        let note = &mut self.notes[counted];
        (note.number, note.last, note.times) = (self.next, at, note.times + times);
        self.next += 1;
        Some(given_up)
    }
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

/// `privileged_uses()`: the notes of this database.
fn privileged_uses(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let mut rows = Rows::start(arguments);
    if !shmem::is_shared() {
        return Ok(pg_sys::Datum::null());
    }
    let (epoch, notes) = {
        let board = BOARD.share();
        let ours = |note: &&Note| note.number != 0 && note.database == here();
        (board.epoch, board.notes.iter().filter(ours).copied().collect::<Vec<_>>())
    };
    for note in notes {
        let (kind, words) = note.what.words();
        let named = || names::plain_relation(note.object.into()).unwrap_or_else(|| note.object.to_string());
        rows.push(vec![
            Value::Int8(epoch),
            Value::Int8(note.number),
            Value::Text(kind.to_owned()),
            Value::Text(if note.object == 0 { words.to_owned() } else { named() }),
            Value::Int8(i64::from(note.role)),
            Value::Int8(note.times),
            Value::Int8(note.first),
            Value::Int8(note.last),
        ]);
    }
    Ok(pg_sys::Datum::null())
}

thread_local! {
    /// What this transaction told of: a board, and the highest number.
    static TOLD: Cell<Option<(i64, i64)>> = const { Cell::new(None) };
}

/// `privileged_uses_told(board, number)`: alerts tell of the notes of this database up to that number, so the commit of this transaction
/// takes them off the board. Only the extension's own functions may say so: somebody else could have told nobody.
fn told(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    if !own_functions::running() {
        return Err(Failure::new(
            Kind::ChangeRefused,
            "notes of privileged use are taken off by the job tripwire alone",
        )
        .hint("SELECT zeroauth_audit_internal.run_job('tripwire') raises alerts about them."));
    }
    if let Some(said) = arguments.int8(0).zip(arguments.int8(1))
        && shmem::is_shared()
    {
        thread_local!(static WATCHING: Cell<bool> = const { Cell::new(false) });
        if !WATCHING.replace(true) {
            // SAFETY: registered once in each process, for as long as it lives.
            unsafe { pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut()) };
        }
        TOLD.set(Some(said));
    }
    Ok(pg_sys::Datum::from(0))
}

/// Nothing may fail after the commit: a few stores under a lock.
#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent as on;
    match event {
        on::XACT_EVENT_COMMIT => {
            if let Some((epoch, number)) = TOLD.take() {
                let mut board = BOARD.exclusive();
                if board.epoch == epoch {
                    let database = here();
                    let old = |note: &&mut Note| note.database == database && note.number <= number;
                    board.notes.iter_mut().filter(old).for_each(|note| *note = FREE);
                }
            }
        }
        on::XACT_EVENT_ABORT | on::XACT_EVENT_PREPARE => TOLD.set(None),
        _ => {}
    }
}

sql_function!(zeroauth_audit_privileged_uses, pg_finfo_zeroauth_audit_privileged_uses, privileged_uses);
sql_function!(zeroauth_audit_privileged_uses_told, pg_finfo_zeroauth_audit_privileged_uses_told, told);
