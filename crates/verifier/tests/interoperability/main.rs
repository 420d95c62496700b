//! Other implementations accept what we make, and we what they make.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

#[path = "../support/trail.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod trail;

mod crates;
mod mirrored;
mod python;

use std::collections::HashMap;

use trail::Trail;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::tile::builder::Builder;
use zeroauth_audit_core::tile::{Tile, TileSource};

/// A log that was sealed three times, and its tiles as of the last time.
struct Log {
    trail: Trail,
    checkpoints: Vec<Checkpoint>,
    tiles: HashMap<(u8, u64), Tile>,
}

impl Log {
    fn made() -> Self {
        let mut trail = Trail::new("acme & co");
        let checkpoints = [(200, 5), (300, 0), (1, 260)].map(|(first, second)| {
            trail.append(0, first);
            trail.append(1, second);
            trail.seal()
        });
        let mut builder = Builder::resume(0, []).unwrap();
        trail.leaves.iter().for_each(|leaf| builder.push(*leaf));
        let tiles = builder.finish().tiles;
        let tiles = tiles.into_iter().map(|tile| ((tile.level, tile.index), tile)).collect();
        Self { trail, checkpoints: checkpoints.into(), tiles }
    }

    fn newest(&self) -> &Checkpoint {
        &self.checkpoints[2]
    }
}

impl TileSource for Log {
    type Error = &'static str;

    fn tile(&self, level: u8, index: u64, _width: u16) -> Result<Vec<Digest>, Self::Error> {
        self.tiles.get(&(level, index)).map(|tile| tile.hashes.clone()).ok_or("no such tile")
    }
}
