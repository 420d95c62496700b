//! Which database signs with which key: two databases with one key could have tenants of one name, and their checkpoints would
//! contradict each other outside.

use super::{BOARD, State};
use crate::pg::shmem;

/// Notes that `database` signs with this public key. False when another database with a worker does.
pub fn claim(database: u32, public_key: &[u8]) -> bool {
    let key = public_key.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    if !shmem::is_shared() {
        return true;
    }
    let mut board = BOARD.exclusive();
    let taken = board
        .entries
        .iter()
        .any(|entry| entry.database != database && entry.state == State::Running && entry.key == key);
    if !taken && let Some(entry) = board.find(database) {
        entry.key = key;
    }
    !taken
}
