//! A log grows to the same tiles however it is cut into runs, at a cost of its new leaves, and its proofs read few tiles.

use proptest::collection::vec;
use proptest::prelude::*;
use zeroauth_audit_core::merkle::{verify_consistency, verify_inclusion};
use zeroauth_audit_core::range::Frontier;
use zeroauth_audit_core::tile::builder::{Builder, Error};
use zeroauth_audit_core::tile::{self, Extent, Tile, consistency_proof, edge, inclusion_proof};

use super::leaves;
use super::store::Store;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_log_that_grew_in_runs_has_the_tiles_and_the_root_of_one_made_at_once(runs in vec(prop_oneof![0..4u64, 250..260u64, 0..3000u64], 1..12)) {
        let all = leaves(runs.iter().sum());
        let mut grown = Store::default();
        let mut frontier = Frontier::new();
        let mut roots = vec![(0, frontier.root())];
        for run in &runs {
            let from = grown.size as usize;
            let new = &all[from..from + *run as usize];
            new.iter().for_each(|leaf| frontier.push(*leaf));
            let step = grown.grow(new);
            prop_assert_eq!(step.root, frontier.root());
            // What is written is new: full tiles for 256 leaves each, and one partial tile a level.
            prop_assert!(step.tiles.len() as u64 <= run / 200 + 8);
            roots.push((step.size, step.root));
        }
        prop_assert_eq!(&grown.tiles, &Store::of(&all).tiles);
        for pair in roots.windows(2) {
            let [(old, old_root), (new, new_root)] = pair else { unreachable!() };
            let path = consistency_proof(*old, *new, &grown).unwrap();
            prop_assert_eq!(verify_consistency(*old, *new, old_root, new_root, &path), Ok(()));
        }
        // Partial tiles have the widths that the specification gives them.
        for extent in edge(grown.size) {
            prop_assert_eq!(grown.tiles[&(extent.level, extent.index)].len(), usize::from(extent.width));
        }
    }

    #[test]
    fn proofs_of_any_leaf_hold(size in 1..70_000u64, at in any::<prop::sample::Index>()) {
        let all = leaves(size);
        let store = Store::of(&all);
        let index = at.index(size as usize) as u64;
        let root = tile::root(size, &store).unwrap();
        let path = inclusion_proof(index, size, &store).unwrap();
        prop_assert_eq!(verify_inclusion(index, size, &all[index as usize], &path, &root), Ok(()));
    }
}

#[test]
fn a_builder_s_frontier_goes_on_to_the_same_root() {
    let all = leaves(70_000);
    for size in [0, 1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999] {
        let mut builder = Builder::resume(0, []).unwrap();
        all[..size].iter().for_each(|leaf| builder.push(*leaf));
        let (parts_size, nodes) = {
            let frontier = builder.frontier();
            (frontier.size(), frontier.parts().1.to_vec())
        };
        let mut frontier = Frontier::from_parts(parts_size, nodes).unwrap();
        frontier.push(all[size]);
        builder.push(all[size]);
        assert_eq!(frontier.root(), builder.root());
    }
}

#[test]
fn tiles_that_were_taken_are_not_given_again() {
    let mut builder = Builder::resume(0, []).unwrap();
    leaves(600).iter().for_each(|leaf| builder.push(*leaf));
    assert_eq!(builder.take_full().iter().map(|tile| tile.index).collect::<Vec<_>>(), [0, 1]);
    let places: Vec<_> = builder.finish().tiles.iter().map(|tile| (tile.level, tile.index)).collect();
    assert_eq!(places, [(0, 2), (1, 0)]);
}

#[test]
fn an_edge_that_lacks_a_tile_or_hashes_of_one_is_refused() {
    let all = leaves(700);
    let store = Store::of(&all);
    let tiles = || {
        store.tiles.iter().map(|((level, index), hashes)| Tile {
            level: *level,
            index: *index,
            hashes: hashes.clone(),
        })
    };
    assert!(Builder::resume(700, tiles()).is_ok());
    let first = Extent { level: 0, index: 2, width: 188 };
    let without = tiles().filter(|tile| (tile.level, tile.index) != (0, 2));
    assert_eq!(Builder::resume(700, without).err(), Some(Error::Edge { size: 700, edge: first }));
    let shorter = tiles().map(|mut tile| {
        tile.hashes.truncate(187);
        tile
    });
    assert_eq!(Builder::resume(700, shorter).err(), Some(Error::Edge { size: 700, edge: first }));
}

#[test]
fn tiles_wider_than_an_old_size_serve_its_edge() {
    let all = leaves(700);
    let store = Store::of(&all);
    let wide = store.tiles.iter().map(|((level, index), hashes)| Tile {
        level: *level,
        index: *index,
        hashes: hashes.clone(),
    });
    let old = Builder::resume(600, wide).unwrap();
    assert_eq!(old.root(), tile::root(600, &store).unwrap());
}

#[test]
fn a_proof_reads_each_of_a_few_tiles_once() {
    let store = Store::of(&leaves(200_000));
    for (index, size) in [(0, 200_000), (199_999, 200_000), (77_777, 131_073), (65_536, 65_537)] {
        store.reads.borrow_mut().clear();
        inclusion_proof(index, size, &store).unwrap();
        let mut read = store.reads.borrow().clone();
        assert!(read.len() <= 6, "{read:?}");
        read.sort_unstable();
        read.dedup_by_key(|(level, index, _)| (*level, *index));
        assert_eq!(read.len(), store.reads.borrow().len(), "a tile was read twice");
    }
    store.reads.borrow_mut().clear();
    consistency_proof(77_777, 200_000, &store).unwrap();
    assert!(store.reads.borrow().len() <= 7);
}

#[test]
fn a_source_that_has_less_than_the_size_says_is_no_proof() {
    let mut store = Store::of(&leaves(700));
    let short = Extent { level: 0, index: 2, width: 188 };
    store.tiles.get_mut(&(0, 2)).unwrap().truncate(187);
    assert_eq!(tile::root(700, &store), Err(tile::Error::Short(short, 187)));
    store.tiles.remove(&(0, 2));
    assert_eq!(tile::root(700, &store), Err(tile::Error::Source("no tile 0/2".into())));
    assert_eq!(
        inclusion_proof(700, 700, &store),
        Err(tile::Error::IndexBeyondSize { index: 700, size: 700 })
    );
    assert_eq!(consistency_proof(701, 700, &store), Err(tile::Error::Shrunk { old: 701, new: 700 }));
}
