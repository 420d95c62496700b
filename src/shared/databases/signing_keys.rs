//! Which database signs with which key: two databases with one key could have tenants of one name, and their checkpoints would
//! contradict each other outside.

use super::{BOARD, State};
use crate::pg::shmem;

/// Notes that `database` signs with this public key. False when another database with a worker does.
pub fn claim(database: u32, public_key: &[u8; 32]) -> bool {
    let mut key = [0; 8];
    key.copy_from_slice(&public_key[..8]);
    let key = u64::from_le_bytes(key);
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
