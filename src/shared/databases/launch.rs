//! The launcher's side of the board: which workers to start, and when.

use super::{BOARD, Board, Entry, NO_ENTRY, State, me};
use crate::pg::time::SECOND;

/// This process is the launcher now. Stops the launcher and the workers of a standby, which only verify.
pub fn begin(standby: bool) {
    let mut board = BOARD.exclusive();
    let before = std::mem::replace(&mut board.launcher, me());
    board.request_all = true;
    if standby {
        return;
    }
    let workers: Vec<i32> = board.entries.iter().filter(|e| e.standby && e.pid != 0).map(|e| e.pid).collect();
    for entry in board.entries.iter_mut().filter(|entry| entry.standby && entry.pid != 0) {
        entry.stop = true;
    }
    for pid in workers.into_iter().chain((before != 0 && before != me()).then_some(before)) {
        // SAFETY: pids on the board are cleared under this lock before their processes end.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

/// This process is no longer the launcher.
pub fn end() {
    let mut board = BOARD.exclusive();
    if board.launcher == me() {
        board.launcher = 0;
    }
}

/// Every database is to be looked at again: see [`due`].
pub fn request_all() {
    BOARD.exclusive().request_all = true;
}

/// What the launcher is to do next.
pub enum Next {
    /// Read the list of databases, then [`reconcile`]: a worker may be due to start.
    Databases,
    /// Wait until then, or until woken.
    Wait(Option<i64>),
}

/// What to do at `now`.
pub fn due(now: i64) -> Next {
    let board = BOARD.share();
    if board.request_all || (!busy(&board, now) && board.entries.iter().any(|e| startable(&board, e, now))) {
        return Next::Databases;
    }
    let later = |entry: &Entry| match entry.state {
        State::Requested | State::Waiting if !board.is_used_exclusively(entry.database) => {
            Some(entry.retry_at.max(now))
        }
        State::Starting | State::Looking => Some(entry.since + STARTS_WITHIN),
        _ => None,
    };
    Next::Wait(board.entries.iter().filter_map(later).filter(|at| *at > now).min())
}

/// A worker that has not started and looked within this time no longer blocks others.
const STARTS_WITHIN: i64 = 10 * SECOND;

/// One process starts at a time.
fn busy(board: &Board, now: i64) -> bool {
    let starting = |e: &Entry| matches!(e.state, State::Starting | State::Looking);
    board.entries.iter().any(|e| starting(e) && now - e.since < STARTS_WITHIN)
}

fn startable(board: &Board, entry: &Entry, now: i64) -> bool {
    matches!(entry.state, State::Requested | State::Waiting)
        && entry.retry_at <= now
        && !board.is_used_exclusively(entry.database)
}

/// Compares the board with the existing databases. Returns one to start a process for, marked as starting.
pub fn reconcile(databases: &[u32], now: i64) -> Option<u32> {
    let mut board = BOARD.exclusive();
    if std::mem::take(&mut board.request_all) {
        for &database in databases {
            board.request(database);
        }
    }
    for entry in board.entries.iter_mut().filter(|entry| entry.state != State::Free) {
        if entry.state == State::Starting && now - entry.since >= STARTS_WITHIN {
            // The process never came.
            entry.state = State::Waiting;
            entry.retry_at = now;
        }
        if entry.pid == 0 && entry.state != State::Starting && !databases.contains(&entry.database) {
            *entry = NO_ENTRY;
        }
    }
    if busy(&board, now) {
        return None;
    }
    let next = board.entries.iter().position(|entry| startable(&board, entry, now))?;
    let entry = &mut board.entries[next];
    (entry.state, entry.since, entry.stop) = (State::Starting, now, false);
    Some(entry.database)
}

/// The postmaster had no process for `database`: try again at `retry_at`.
pub fn postpone(database: u32, retry_at: i64) {
    if let Some(entry) = BOARD.exclusive().find(database) {
        (entry.state, entry.retry_at) = (State::Waiting, retry_at);
    }
}

/// There may be room now: databases that wait for it, and did not fail, may try at once.
pub fn retry_postponed() {
    for entry in BOARD.exclusive().entries.iter_mut().filter(|e| e.state == State::Waiting && e.failures == 0)
    {
        entry.retry_at = 0;
    }
}
