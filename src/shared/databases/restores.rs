//! Sessions that restore events with their hashes. Until a restore has ended no job may write to the tables that it still has
//! to fill, or the rows of the two would clash, and the restore would fail.
//!
//! A session notes itself when such a row was accepted. The end of a restore cannot be seen from here, so it counts as
//! running for as long as its session is there, but no longer than [`LONGEST`] after its last event. Rows that replication
//! brings are not noted: they never end.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use pgrx::pg_sys;

use super::{BOARD, Loader, me};
use crate::pg::shmem;
use crate::pg::time::{SECOND, now};

/// A session that is gone counts for this long: a parallel restore continues in others.
const AFTERWARDS: i64 = 60 * SECOND;
/// A session that stays connected counts for this long after its last event.
const LONGEST: i64 = 3600 * SECOND;
/// How often a session notes itself while it brings one event after the other.
const EVERY: i64 = SECOND;

/// This session brought an event with its hashes.
pub fn note() {
    static NOTED: AtomicI64 = AtomicI64::new(i64::MIN);
    let at = now();
    if !shmem::is_shared() || NOTED.load(Relaxed).saturating_add(EVERY) > at {
        return;
    }
    NOTED.store(at, Relaxed);
    // SAFETY: set when the backend connected.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let mine = Loader { pid: me(), database, at };
    let mut board = BOARD.exclusive();
    // Its own place, or that of the session whose last event is the oldest.
    let place = board.loaders.iter_mut().min_by_key(|loader| (loader.pid != mine.pid, loader.at));
    if let Some(place) = place {
        *place = mine;
    }
}

/// Whether events are being restored into `database`.
pub fn runs_in(database: u32) -> bool {
    let loaders = BOARD.share().loaders;
    let now = now();
    loaders.iter().filter(|loader| loader.pid != 0 && loader.database == database).any(|loader| {
        loader.at > now - AFTERWARDS || loader.at > now - LONGEST && is_there(loader.pid, database)
    })
}

fn is_there(pid: i32, database: u32) -> bool {
    // SAFETY: looks a pid up among the backends; the PGPROC stays in shared memory for ever.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        !process.is_null() && (*process).databaseId.to_u32() == database
    }
}
