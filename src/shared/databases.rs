//! Which databases have a worker or shall have one: a board in shared memory between sessions, launcher and workers.
//!
//! | field | written by |
//! |---|---|
//! | an entry's `state`, from `Asked` to `Starting`; `retry_at` | the launcher |
//! | `state` from `Starting` on, `pid`, `since`, `standby` | the worker of that database |
//! | `state` to `Asked`, `stop`, `wake`; the holds | any session, in its hooks and at the end of its transaction |
//! | `launcher` | the launcher |
//! | an entry's `key` | whoever signs in that database: see [`signing_keys`] |
//! | `loaders` | sessions that restore events: see [`restores`] |
//!
//! All under one lock, held for a few loads and stores, never across anything that can raise or wait. A crash of any process
//! rebuilds the board empty; the launcher, started anew, then asks for every database again.

pub mod launch;
pub mod restores;
pub mod signing_keys;
pub mod work;

use crate::pg::time::{SECOND, now};
use pgrx::{AssertPGRXSharedMemory, PgLwLock, pg_guard, pg_sys};

/// Databases that have a worker, or are asked for, at once. A worker is a process: this is far beyond what a server has.
const ENTRIES: usize = 512;
/// Statements at once that need a database free of its worker.
const HOLDS: usize = 64;
/// Sessions at once that restore events.
const LOADERS: usize = 64;
/// A worker that ran for so long did not fail at its start: the next failure counts as the first.
const SETTLED: i64 = 60 * SECOND;
/// The longest wait before a worker that fails is started again.
const LONGEST_WAIT: i64 = 60;
/// How far a database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No entry.
    Free,
    /// Somebody has to look whether it has the extension: the worker itself does, and leaves if not.
    Asked,
    /// A process was asked for.
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
    /// Anything else, also when it was asked to go.
    Ended,
}

/// One database.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its oid.
    pub database: u32,
    /// How far it is.
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
struct Hold {
    pid: i32,
    database: u32,
}

#[derive(Clone, Copy)]
struct Loader {
    pid: i32,
    database: u32,
    /// When it last brought an event.
    at: i64,
}

struct Board {
    launcher: i32,
    /// Every database has to be asked for again.
    ask_all: bool,
    entries: [Entry; ENTRIES],
    holds: [Hold; HOLDS],
    loaders: [Loader; LOADERS],
}

impl Board {
    fn find(&mut self, database: u32) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.state != State::Free && entry.database == database)
    }

    fn held(&self, database: u32) -> bool {
        self.holds.iter().any(|hold| hold.pid != 0 && hold.database == database)
    }

    /// Marks `database` to be looked at. Returns its worker's pid, if it has one: that looks for itself.
    fn ask(&mut self, database: u32) -> Option<i32> {
        if let Some(entry) = self.find(database) {
            entry.wake = true;
            if entry.state == State::Waiting {
                entry.retry_at = 0;
            }
            return (entry.pid != 0).then_some(entry.pid);
        }
        if let Some(free) = self.entries.iter_mut().find(|entry| entry.state == State::Free) {
            *free = Entry { database, state: State::Asked, since: now(), ..NO_ENTRY };
        }
        None
    }
}

// SAFETY: named once, initialised by pg_shmem_init! below; the board has no pointers and a fixed layout.
static BOARD: PgLwLock<AssertPGRXSharedMemory<Board>> = unsafe { PgLwLock::new(c"zeroauth_audit_registry") };

/// Asks for the shared memory. To be called while the server loads the library.
pub fn request_shared_memory() {
    pgrx::pg_shmem_init!(BOARD = empty_board());
}

fn empty_board() -> AssertPGRXSharedMemory<Board> {
    let board = Board {
        launcher: 0,
        ask_all: false,
        entries: [NO_ENTRY; ENTRIES],
        holds: [Hold { pid: 0, database: 0 }; HOLDS],
        loaders: [Loader { pid: 0, database: 0, at: i64::MIN }; LOADERS],
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
        // SAFETY: the PGPROC is in shared memory for ever; a latch set for whoever has it next is a wake-up for nothing.
        unsafe { pg_sys::SetLatch(&raw mut (*process).procLatch) };
    }
}

/// A database that may have got the extension, lost it, or has other jobs now.
pub fn ask(database: u32) {
    let (worker, launcher) = {
        let mut board = BOARD.exclusive();
        (board.ask(database), board.launcher)
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

/// What is known of `database`.
pub fn look_up(database: u32) -> Option<Entry> {
    BOARD.exclusive().find(database).copied()
}

/// The launcher's process, 0 for none.
pub fn launcher() -> i32 {
    BOARD.share().launcher
}

/// For statements that need a database free of other sessions.
pub mod hold {
    use super::{BOARD, Hold, me, set_latch};

    /// Keeps workers away from `database` until [`release_mine`]. False when there is no room for it.
    pub fn take(database: u32) -> bool {
        let mine = Hold { pid: me(), database };
        BOARD.exclusive().holds.iter_mut().find(|hold| hold.pid == 0).map(|free| *free = mine).is_some()
    }

    /// Asks the worker of `database` to go; its process, while it is still there.
    pub fn stop_worker(database: u32) -> Option<i32> {
        let mut board = BOARD.exclusive();
        let entry = board.find(database).filter(|entry| entry.pid != 0)?;
        entry.stop = true;
        let pid = entry.pid;
        // SAFETY: a worker clears its pid under this lock before it ends, so the pid is its own. The signal ends a running step.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        Some(pid)
    }

    /// Lets go of everything this process holds.
    pub fn release_mine() {
        let launcher = {
            let mut board = BOARD.exclusive();
            for hold in board.holds.iter_mut().filter(|hold| hold.pid == me()) {
                hold.pid = 0;
            }
            board.launcher
        };
        set_latch(launcher);
    }
}
