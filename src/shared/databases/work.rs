//! A worker's side of the board: it claims its database, keeps its state, and gives it back.

use super::{BOARD, End, LONGEST_WAIT, NO_ENTRY, SETTLED, State, me, set_latch};
use crate::pg::time::{SECOND, now};

/// This process becomes the worker of `database`. False when a statement uses the database exclusively, or there is
/// another worker. To be called before connecting, so that the statement need not wait for a process that only starts.
pub fn claim(database: u32, standby: bool) -> bool {
    let mut board = BOARD.exclusive();
    let held = board.is_used_exclusively(database);
    let Some(entry) = board.find(database).filter(|entry| entry.pid == 0) else { return false };
    if held {
        entry.state = State::Waiting;
        return false;
    }
    (entry.state, entry.pid, entry.since, entry.standby) = (State::Looking, me(), now(), standby);
    // Earlier requests are served by this start.
    (entry.wake, entry.stop) = (false, false);
    true
}

/// The database has the extension: this process stays.
pub fn settle(database: u32) {
    let launcher = {
        let mut board = BOARD.exclusive();
        if let Some(entry) = board.find(database) {
            (entry.state, entry.since) = (State::Running, now());
        }
        board.launcher
    };
    set_latch(launcher);
}

/// Whether this process must stop, and whether it was woken since the last call.
pub fn signals(database: u32) -> (bool, bool) {
    BOARD.exclusive().find(database).map_or((true, false), |e| (e.stop, std::mem::take(&mut e.wake)))
}

/// This process ends.
pub fn leave(database: u32, end: End) {
    let launcher = {
        let mut board = BOARD.exclusive();
        if let Some(entry) = board.find(database).filter(|entry| entry.pid == me()) {
            let ran = now() - entry.since;
            entry.pid = 0;
            match end {
                // Requested again after it had looked.
                End::NothingToDo if entry.wake => (entry.state, entry.retry_at) = (State::Requested, 0),
                End::NothingToDo => *entry = NO_ENTRY,
                _ if entry.stop => (entry.state, entry.retry_at, entry.failures) = (State::Waiting, 0, 0),
                End::Ended => {
                    entry.failures = if ran > SETTLED { 1 } else { entry.failures.saturating_add(1) };
                    let wait = (1i64 << (entry.failures - 1).min(10)).min(LONGEST_WAIT);
                    (entry.state, entry.retry_at) = (State::Waiting, now() + wait * SECOND);
                }
            }
        }
        board.launcher
    };
    set_latch(launcher);
}
