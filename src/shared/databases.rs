//! Which databases have a worker or need one: a board in shared memory between sessions, launcher and workers.
//!
//! | field | written by |
//! |---|---|
//! | an entry's `state`, from `Requested` to `Starting`; `retry_at` | the launcher |
//! | `state` from `Starting` on, `pid`, `since`, `standby` | the worker of that database |
//! | `state` to `Requested`, `stop`, `wake`; exclusive uses | any session, in its hooks and at the end of its transaction |
//! | `launcher` | the launcher |
//! | an entry's `key` | the process that signs in that database: see [`signing_keys`] |
//! | `loaders` | sessions that restore events: see [`restores`] |
//! | `living`, `all_live` | the first session that chains an event in a database |
//!
//! One lock protects the board, held for a few loads and stores, never across anything that can raise or wait. A crash of any
//! process rebuilds the board empty; the launcher, started anew, then requests every database again.

pub mod launch;
pub mod restores;
pub mod signing_keys;
pub mod work;

use crate::pg::time::{SECOND, now};
use pgrx::{AssertPGRXSharedMemory, PgLwLock, pg_guard, pg_sys};

/// Databases on the board at once. A worker is a process: no server has nearly as many.
const ENTRIES: usize = 512;
/// Statements at once that use a database exclusively, without its worker.
const EXCLUSIVE_USES: usize = 64;
/// Sessions at once that restore events.
const LOADERS: usize = 64;
/// Databases in which events were chained; when there are more, all count as such.
const LIVING: usize = 512;
/// A worker that ran for this long did not fail at its start: the next failure counts as the first.
const SETTLED: i64 = 60 * SECOND;
/// The longest wait before a worker that fails is started again.
const LONGEST_WAIT: i64 = 60;
/// The state of a database and its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No entry.
    Free,
    /// A worker is requested: it looks whether the database has the extension, and leaves if not.
    Requested,
    /// The launcher has requested a process from the postmaster.
    Starting,
    /// The process is there, and connects and looks.
    Looking,
    /// It has the extension, and its worker runs.
    Running,
    /// It has the extension, and its worker is gone: to be started at `retry_at`.
    Waiting,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The database does not have the extension.
    NothingToDo,
    /// Anything else, such as a request to stop.
    Ended,
}

/// One database.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its oid.
    pub database: u32,
    /// Its state.
    pub state: State,
    /// The worker's process, 0 for none.
    pub pid: i32,
    /// When the entry came into its state, microseconds since 2000.
    pub since: i64,
    /// Whether the worker only verifies, on a standby.
    pub standby: bool,
    /// Part of the public key that it signs with, 0 for none.
    key: u64,
    retry_at: i64,
    failures: u32,
    stop: bool,
    wake: bool,
}

const NO_ENTRY: Entry = Entry {
    database: 0,
    state: State::Free,
    pid: 0,
    since: 0,
    standby: false,
    key: 0,
    retry_at: 0,
    failures: 0,
    stop: false,
    wake: false,
};

#[derive(Clone, Copy)]
struct ExclusiveUse {
    pid: i32,
    database: u32,
}

#[derive(Clone, Copy)]
struct Loader {
    pid: i32,
    database: u32,
    /// When it first brought one, without a longer pause since.
    since: i64,
    /// When it last brought an event.
    at: i64,
}

struct Board {
    launcher: i32,
    /// Every database is to be requested again.
    request_all: bool,
    entries: [Entry; ENTRIES],
    exclusive_uses: [ExclusiveUse; EXCLUSIVE_USES],
    loaders: [Loader; LOADERS],
    living: [u32; LIVING],
    all_live: bool,
}

impl Board {
    fn find(&mut self, database: u32) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.state != State::Free && entry.database == database)
    }

    fn is_used_exclusively(&self, database: u32) -> bool {
        self.exclusive_uses.iter().any(|one| one.pid != 0 && one.database == database)
    }

    /// Marks `database` to be looked at. Returns the pid of its worker, if it has one, which looks for itself.
    fn request(&mut self, database: u32) -> Option<i32> {
        if let Some(entry) = self.find(database) {
            entry.wake = true;
            if entry.state == State::Waiting {
                entry.retry_at = 0;
            }
            return (entry.pid != 0).then_some(entry.pid);
        }
        if let Some(free) = self.entries.iter_mut().find(|entry| entry.state == State::Free) {
            *free = Entry { database, state: State::Requested, since: now(), ..NO_ENTRY };
        }
        None
    }
}

// SAFETY: named once, initialised by pg_shmem_init! below; the board has no pointers and a fixed layout.
static BOARD: PgLwLock<AssertPGRXSharedMemory<Board>> = unsafe { PgLwLock::new(c"zeroauth_audit_databases") };

/// Requests the shared memory. To be called while the server loads the library.
pub fn request_shared_memory() {
    pgrx::pg_shmem_init!(BOARD = empty_board());
}

fn empty_board() -> AssertPGRXSharedMemory<Board> {
    let board = Board {
        launcher: 0,
        request_all: false,
        entries: [NO_ENTRY; ENTRIES],
        exclusive_uses: [ExclusiveUse { pid: 0, database: 0 }; EXCLUSIVE_USES],
        loaders: [Loader { pid: 0, database: 0, since: i64::MIN, at: i64::MIN }; LOADERS],
        living: [0; LIVING],
        all_live: false,
    };
    // SAFETY: a board has no pointers and a fixed layout.
    unsafe { AssertPGRXSharedMemory::new(board) }
}

fn me() -> i32 {
    // SAFETY: set at process start.
    unsafe { pg_sys::MyProcPid }
}

/// Sets the latch of process `pid`, if there is one.
fn set_latch(pid: i32) {
    if pid == 0 {
        return;
    }
    // SAFETY: looks a pid up among the backends.
    let process = unsafe { pg_sys::BackendPidGetProc(pid) };
    if !process.is_null() {
        // SAFETY: the PGPROC is in shared memory for ever; setting the latch of its next owner is a spurious wake-up.
        unsafe { pg_sys::SetLatch(&raw mut (*process).procLatch) };
    }
}

/// Requests a look at a database: it may have got the extension, lost it, or have other jobs now.
pub fn request(database: u32) {
    let (worker, launcher) = {
        let mut board = BOARD.exclusive();
        (board.request(database), board.launcher)
    };
    set_latch(worker.unwrap_or(launcher));
}

/// Wakes the worker of `database`, if it has one: its jobs changed.
pub fn wake(database: u32) {
    let pid = BOARD.exclusive().find(database).map_or(0, |entry| {
        entry.wake = true;
        entry.pid
    });
    if pid != me() {
        set_latch(pid);
    }
}

/// The entry of `database`, if it has one.
pub fn look_up(database: u32) -> Option<Entry> {
    BOARD.exclusive().find(database).copied()
}

/// The launcher's process, 0 for none.
pub fn launcher() -> i32 {
    BOARD.share().launcher
}

/// Exclusive use: for statements that need a database free of other sessions.
pub mod exclusive_use {
    use super::{BOARD, ExclusiveUse, me, set_latch};

    /// Keeps workers away from `database` until [`release_mine`]. False when there is no room for it.
    pub fn take(database: u32) -> bool {
        let mine = ExclusiveUse { pid: me(), database };
        BOARD
            .exclusive()
            .exclusive_uses
            .iter_mut()
            .find(|one| one.pid == 0)
            .map(|free| *free = mine)
            .is_some()
    }

    /// Stops the worker of `database`; returns its pid, while it is still there.
    pub fn stop_worker(database: u32) -> Option<i32> {
        let mut board = BOARD.exclusive();
        let entry = board.find(database).filter(|entry| entry.pid != 0)?;
        entry.stop = true;
        let pid = entry.pid;
        // SAFETY: a worker clears its pid under this lock before it ends, so the pid is its own. The signal ends a running step.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        Some(pid)
    }

    /// Ends every exclusive use by this process.
    pub fn release_mine() {
        let launcher = {
            let mut board = BOARD.exclusive();
            for one in board.exclusive_uses.iter_mut().filter(|one| one.pid == me()) {
                one.pid = 0;
            }
            board.launcher
        };
        set_latch(launcher);
    }
}
