//! Other implementations accept what we make, and we what they make.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

#[path = "../support/registry.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod registry;
#[path = "../support/trail.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod trail;

mod crates;
mod mirrored;
mod python;

use std::collections::HashMap;

use registry::Registry;
use trail::Trail;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::registry::{Entry, entry};
use zeroauth_audit_core::tile::builder::Builder;
use zeroauth_audit_core::tile::{Tile, TileSource};
use zeroauth_audit_core::tree::Tree;

/// Entries of a registry when it was signed.
const SIZES: [usize; 3] = [205, 505, 766];

/// A registry that was signed three times, and its tiles as of the last time.
struct Log {
    registry: Registry,
    /// A tenant's events, whose log is `entry` of the registry.
    trail: Trail,
    entry: u64,
    leaves: Vec<Digest>,
    checkpoints: Vec<Checkpoint>,
    tiles: HashMap<(u8, u64), Tile>,
}

impl Log {
    fn made() -> Self {
        let mut trail = Trail::new("acme & co");
        trail.append(0, 200);
        trail.append(1, 5);
        let sealed = trail.seal();
        let mut registry = Registry::new();
        let other = |registry: &Registry| {
            let size = registry.entries.len() as u64;
            let label = registry.names.label(&format!("tenant {size}"));
            let root = sealed.root;
            Entry::Log(entry::Log { label, epoch: 0, size, root, previous: None, restored: None })
        };
        while registry.entries.len() < 300 {
            registry.entries.push(other(&registry));
        }
        let (entry, _) = registry.log(&trail.tenant, &sealed);
        while registry.entries.len() < SIZES[2] {
            registry.entries.push(other(&registry));
        }
        let leaves = registry.leaves();
        let checkpoint = |size: usize| {
            let root = Tree::new(leaves[..size].to_vec()).root();
            Checkpoint { origin: trail::BASE.into(), size: size as u64, root }
        };
        let checkpoints = SIZES.map(checkpoint).into();
        let mut builder = Builder::resume(0, []).unwrap();
        leaves.iter().for_each(|leaf| builder.push(*leaf));
        let tiles = builder.finish().tiles;
        let tiles = tiles.into_iter().map(|tile| ((tile.level, tile.index), tile)).collect();
        Self { registry, trail, entry, leaves, checkpoints, tiles }
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
