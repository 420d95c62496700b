//! The order-free chain check and the ordered replay: one question, two answers that must agree.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sha2::{Digest as _, Sha256};
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::multiset::{ChainState, Key, Scan};
use zeroauth_audit_core::replay::{LinkFinding, Replay};

/// What the chain checks see of one stored event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    seq: i64,
    prev: Digest,
    hash: Digest,
}

/// A hash that differs from every other of the same test run.
fn distinct(seed: u64, number: u64) -> Digest {
    Digest::new(Sha256::digest([seed.to_le_bytes(), number.to_le_bytes()].concat()).into())
}

/// A whole chain of `length` events.
fn chain(seed: u64, length: usize) -> Vec<Link> {
    let mut prev = Digest::GENESIS;
    let mut links = Vec::new();
    for seq in 1..=i64::try_from(length).unwrap() {
        let hash = distinct(seed, seq.unsigned_abs());
        links.push(Link { seq, prev, hash });
        prev = hash;
    }
    links
}

fn state(key: &Key, links: &[Link]) -> ChainState {
    let mut state = ChainState::default();
    for link in links {
        state.add(key, link.seq, &link.prev, &link.hash, true);
    }
    state
}

/// What a replay in order finds.
fn findings(links: &[Link]) -> Vec<LinkFinding> {
    let mut links = links.to_vec();
    links.sort_by_key(|link| link.seq);
    let mut replay = Replay::from_genesis();
    links.iter().filter_map(|link| replay.step(link.seq, &link.prev, &link.hash)).collect()
}

/// One way to damage a chain, always at a place that the chain itself can prove.
#[derive(Clone, Copy, Debug)]
enum Mutation {
    Drop,
    Duplicate,
    SwapTwo,
    Renumber,
    ChangePrev,
    ChangeHash,
    CutTheFirst,
}

const MUTATIONS: [Mutation; 7] = [
    Mutation::Drop,
    Mutation::Duplicate,
    Mutation::SwapTwo,
    Mutation::Renumber,
    Mutation::ChangePrev,
    Mutation::ChangeHash,
    Mutation::CutTheFirst,
];

/// `links` (two at least) damaged at places that `at`, `other` and `by` choose.
fn damaged(links: &[Link], mutation: Mutation, at: Index, other: Index, by: i64) -> Vec<Link> {
    let mut links = links.to_vec();
    // Without its newest event a chain is a shorter whole chain; that one is not judged here.
    let (any, not_last) = (at.index(links.len()), at.index(links.len() - 1));
    match mutation {
        Mutation::Drop => drop(links.remove(not_last)),
        Mutation::Duplicate => links.push(links[any]),
        Mutation::SwapTwo => {
            let second = (not_last + 1) + other.index(links.len() - 1 - not_last);
            (links[not_last].seq, links[second].seq) = (links[second].seq, links[not_last].seq);
        }
        Mutation::Renumber => links[any].seq = links[any].seq.wrapping_add(by),
        Mutation::ChangePrev => links[any].prev = distinct(u64::MAX, 0),
        // The newest event's hash is no link of anything: only its content can prove it.
        Mutation::ChangeHash => links[not_last].hash = distinct(u64::MAX, 1),
        Mutation::CutTheFirst => drop(links.drain(..=not_last)),
    }
    links
}

/// A chain of two events or more.
fn chains() -> impl Strategy<Value = Vec<Link>> {
    (0..u64::MAX, 2..60usize).prop_map(|(seed, length)| chain(seed, length))
}

proptest! {
    #[test]
    fn a_whole_chain_is_whole_in_any_order(links in chains(), halves in any::<[u64; 2]>(), order in vec(any::<u64>(), 60)) {
        let key = Key::new(halves);
        prop_assert_eq!(findings(&links), vec![]);
        let mut shuffled: Vec<_> = links.iter().copied().zip(order).collect();
        shuffled.sort_by_key(|(_, place)| *place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(link, _)| link).collect();
        let in_any_order = state(&key, &shuffled);
        prop_assert!(in_any_order.is_whole(&key));
        prop_assert_eq!(in_any_order, state(&key, &links));
        prop_assert_eq!(in_any_order.head, links.last().unwrap().hash);
    }

    #[test]
    fn a_whole_chain_is_whole_however_workers_share_it_and_merge(
        links in chains(),
        halves in any::<[u64; 2]>(),
        worker_of in vec(0..7usize, 60),
        merges in vec(any::<(Index, Index)>(), 6),
    ) {
        let key = Key::new(halves);
        let mut workers = [ChainState::default(); 7].to_vec();
        for (link, worker) in links.iter().zip(worker_of) {
            workers[worker].add(&key, link.seq, &link.prev, &link.hash, true);
        }
        for (from, into) in merges {
            // The way a state travels between processes.
            let from = workers.swap_remove(from.index(workers.len()));
            let from = ChainState::from_bytes(&from.to_bytes()).unwrap();
            let into = into.index(workers.len());
            workers[into].merge(&from);
        }
        prop_assert_eq!(workers.len(), 1);
        prop_assert!(workers[0].is_whole(&key));
        prop_assert_eq!(workers[0], state(&key, &links));
    }

    #[test]
    fn a_scan_adds_up_to_the_same_whatever_the_order_and_the_damage(
        links in chains(),
        halves in any::<[u64; 2]>(),
        // Stretches in order, as a table has them, with places swapped, rows twice and rows changed.
        swaps in vec((any::<Index>(), any::<Index>()), 0..6),
        twice in vec(any::<Index>(), 0..3),
        changed in vec((any::<Index>(), any::<i64>(), any::<bool>()), 0..3),
        split in any::<Index>(),
    ) {
        let key = Key::new(halves);
        let mut links = links;
        for at in twice {
            let at = at.index(links.len());
            links.insert(at, links[at]);
        }
        for (a, b) in swaps {
            let length = links.len();
            links.swap(a.index(length), b.index(length));
        }
        for (at, seq, hash) in changed {
            let at = at.index(links.len());
            if hash {
                links[at].hash = distinct(9, seq.unsigned_abs());
            } else {
                links[at].seq = seq;
            }
        }
        let split = split.index(links.len() + 1);
        let mut scans = [Scan::new(key, ChainState::default()); 2];
        for (n, link) in links.iter().enumerate() {
            scans[usize::from(n >= split)].add(link.seq, &link.prev, &link.hash, true);
        }
        let [mut first, mut second] = scans;
        first.merge(&mut second);
        let expected = state(&key, &links);
        prop_assert_eq!(first.state(), expected);
        prop_assert_eq!(first.state().is_whole(&key), expected.is_whole(&key));
        // It can be looked at in the middle, and goes on from there.
        let mut scan = Scan::new(key, ChainState::default());
        for link in &links {
            scan.add(link.seq, &link.prev, &link.hash, true);
            let _ = scan.state();
        }
        prop_assert_eq!(scan.state(), expected);
    }

    #[test]
    fn no_damaged_chain_is_whole_and_replay_says_the_same(
        links in chains(),
        halves in any::<[u64; 2]>(),
        at in any::<Index>(),
        other in any::<Index>(),
        by in prop_oneof![-3..=-1i64, 1..4i64, Just(i64::MIN), Just(i64::MAX), any::<i64>()],
    ) {
        let key = Key::new(halves);
        prop_assume!(by != 0);
        for mutation in MUTATIONS {
            let damaged = damaged(&links, mutation, at, other, by);
            prop_assert!(!state(&key, &damaged).is_whole(&key), "{:?} is whole", mutation);
            prop_assert!(!findings(&damaged).is_empty(), "replay finds nothing after {:?}", mutation);
        }
    }

    /// With few hashes and few places, most of what can coincide does: repeated hashes, events that are
    /// their own predecessor, two heads, holes filled by a neighbour.
    #[test]
    fn both_checks_agree_on_any_set_of_events(
        links in vec((-1..6i64, 0..4u8, 0..4u8), 1..7),
        halves in any::<[u64; 2]>(),
    ) {
        let key = Key::new(halves);
        let small = |number: u8| Digest::new([number; 32]);
        let link = |(seq, prev, hash)| Link { seq, prev: small(prev), hash: small(hash) };
        let links: Vec<_> = links.into_iter().map(link).collect();
        prop_assert_eq!(state(&key, &links).is_whole(&key), findings(&links).is_empty());
    }

    #[test]
    fn one_event_of_wrong_content_or_one_unreadable_row_makes_a_chain_not_whole(
        links in chains(),
        halves in any::<[u64; 2]>(),
        at in any::<Index>(),
    ) {
        let key = Key::new(halves);
        let at = at.index(links.len());
        let mut wrong_content = ChainState::default();
        for (place, link) in links.iter().enumerate() {
            wrong_content.add(&key, link.seq, &link.prev, &link.hash, place != at);
        }
        prop_assert!(!wrong_content.is_whole(&key));
        prop_assert_eq!(wrong_content.bad_events, 1);

        let mut unreadable = state(&key, &links);
        unreadable.add_unreadable();
        prop_assert!(!unreadable.is_whole(&key));

        // Nor does an unreadable row stand in for a missing one.
        let mut replaced = state(&key, &links[..links.len() - 1]);
        replaced.add_unreadable();
        prop_assert!(!replaced.is_whole(&key));
    }

    #[test]
    fn a_state_reads_back_from_its_bytes(links in chains(), halves in any::<[u64; 2]>(), bad in 0..3u8) {
        let key = Key::new(halves);
        let mut state = state(&key, &links);
        for _ in 0..bad {
            state.add_unreadable();
        }
        let bytes = state.to_bytes();
        prop_assert_eq!(ChainState::from_bytes(&bytes), Some(state));
        prop_assert_eq!(ChainState::from_bytes(&bytes[1..]), None);
        prop_assert_eq!(ChainState::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn a_state_means_nothing_under_another_key(links in chains(), halves in any::<[u64; 2]>(), other in any::<[u64; 2]>()) {
        let key = Key::new(halves);
        let state = state(&key, &links);
        prop_assert!(state.is_whole(&key));
        prop_assert!(!state.is_whole(&Key::new(other)));
    }
}

/// Every set of at most four events over two hashes and four places, not a sample of them.
#[test]
fn both_checks_agree_on_every_small_set_of_events() {
    let key = Key::new([3, 5]);
    let hashes = [Digest::GENESIS, distinct(0, 1)];
    let mut events = Vec::new();
    for seq in 0..4 {
        for prev in hashes {
            for hash in hashes {
                events.push(Link { seq, prev, hash });
            }
        }
    }
    let (mut whole, mut tried) = (0, 0);
    let mut sets: Vec<Vec<usize>> = vec![vec![]];
    for _ in 0..4 {
        let mut larger = Vec::new();
        for set in &sets {
            for next in set.last().copied().unwrap_or(0)..events.len() {
                let set: Vec<usize> = set.iter().copied().chain([next]).collect();
                let links: Vec<_> = set.iter().map(|index| events[*index]).collect();
                let is_whole = state(&key, &links).is_whole(&key);
                assert_eq!(is_whole, findings(&links).is_empty(), "{links:?}");
                whole += usize::from(is_whole);
                tried += 1;
                larger.push(set);
            }
        }
        sets = larger;
    }
    // Chains of one, two and three events whose links match: 2, 4 and 8 ways to choose the hashes.
    assert_eq!((tried, whole), (16 + 136 + 816 + 3876, 2 + 4 + 8));
}

#[test]
fn pitfall_15_a_chain_without_its_newest_events_is_whole_which_only_a_checkpoint_could_tell() {
    let key = Key::new([7, 9]);
    let links = chain(1, 10);
    let cut = &links[..6];
    assert!(state(&key, cut).is_whole(&key));
    assert_eq!(findings(cut), vec![]);
}

#[test]
fn no_event_at_all_is_not_a_whole_chain() {
    let key = Key::new([7, 9]);
    assert!(!ChainState::default().is_whole(&key));
    let mut unreadable = ChainState::default();
    unreadable.add_unreadable();
    assert!(!unreadable.is_whole(&key));
    let mut merged = ChainState::default();
    merged.merge(&ChainState::default());
    assert_eq!(merged, ChainState::default());
}

#[test]
fn the_replay_names_what_was_done_and_where() {
    let links = chain(2, 6);
    let without = |seq: i64| links.iter().copied().filter(|link| link.seq != seq).collect::<Vec<_>>();
    assert_eq!(findings(&without(3)), vec![LinkFinding::Gap { from: 3, to: 3 }]);
    assert_eq!(findings(&links[2..]), vec![LinkFinding::Gap { from: 1, to: 2 }]);

    let mut again = links.clone();
    again.push(links[4]);
    // The next link holds all the same: only the repeated place is named.
    assert_eq!(findings(&again), vec![LinkFinding::Fork]);

    let mut forged = links.clone();
    forged[3].hash = distinct(3, 0);
    assert_eq!(findings(&forged), vec![LinkFinding::LinkBroken { expected: forged[3].hash }]);
}
