//! Sessions that restore events with their hashes. Until a restore has ended no job may write to the tables that it still has
//! to fill, or the rows of the two would clash, and the restore would fail.
//!
//! A session notes itself when it has committed such rows: see [`crate::chain::supplied`]. The end of a restore cannot be seen from here,
//! so it counts as running for as long as its session is there, but no longer than [`LONGEST`] after its last event. Rows that
//! replication brings are not noted: they never end. Whether a trail may be restored at all, a function in SQL says (`jobs_held`).
//!
//! Also which databases have had an event chained since the server started: what comes with its hashes from then on is no first
//! restore.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use pgrx::pg_sys;

use super::{BOARD, Loader, me};
use crate::pg::shmem;
use crate::pg::time::{SECOND, now};

/// A session that is gone counts for this long: a parallel restore continues in others.
const AFTERWARDS: i64 = 60 * SECOND;
/// A session that stays connected counts for this long after its last event.
const LONGEST: i64 = 600 * SECOND;
/// How often a session notes itself while it brings one event after the other.
const EVERY: i64 = SECOND;

/// This session has committed events with their hashes. Raises nothing.
pub fn note() {
    static NOTED: AtomicI64 = AtomicI64::new(i64::MIN);
    let at = now();
    if !shmem::is_shared() || NOTED.load(Relaxed).saturating_add(EVERY) > at {
        return;
    }
    NOTED.store(at, Relaxed);
    let (pid, database) = (me(), here());
    let mut board = BOARD.exclusive();
    // Its own place, or that of the session whose last event is the oldest.
    let place = board.loaders.iter_mut().min_by_key(|loader| (loader.pid != pid, loader.at));
    if let Some(place) = place {
        let goes_on = (place.pid, place.database) == (pid, database) && place.at > at - LONGEST;
        *place = Loader { pid, database, since: if goes_on { place.since } else { at }, at };
    }
}

/// Since when events are being restored into `database`; `None` when they are not.
pub fn since(database: u32) -> Option<i64> {
    let loaders = BOARD.share().loaders;
    let now = now();
    let here = loaders.iter().filter(|loader| loader.pid != 0 && loader.database == database);
    let runs = |loader: &&Loader| {
        loader.at > now - AFTERWARDS || loader.at > now - LONGEST && is_there(loader.pid, database)
    };
    here.filter(runs).map(|loader| loader.since).min()
}

/// This session has committed an event that was chained here. Raises nothing.
pub fn note_chained() {
    if !shmem::is_shared() {
        return;
    }
    let database = here();
    let mut board = BOARD.exclusive();
    if board.living.contains(&database) {
        return;
    }
    match board.living.iter_mut().find(|living| **living == 0) {
        Some(free) => *free = database,
        None => board.all_live = true,
    }
}

/// Whether an event was chained in `database` since the server started.
pub fn was_chained(database: u32) -> bool {
    let board = BOARD.share();
    board.all_live || board.living.contains(&database)
}

fn here() -> u32 {
    // SAFETY: set when the backend connected.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

fn is_there(pid: i32, database: u32) -> bool {
    // SAFETY: looks a pid up among the backends; the PGPROC stays in shared memory for ever.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        !process.is_null() && (*process).databaseId.to_u32() == database
    }
}
