//! The leaves of a log as runs of chains: what goes by in the order of chains is put into the order of the log.
//!
//! Memory: a few hashes for each interval that is not joined yet, so those of one chain need none to speak of.

use std::collections::{BTreeMap, VecDeque};

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::range::Range;

use crate::intervals::Log;

/// The intervals of a log up to a size.
pub(super) struct Pieces {
    /// In the order of the log; those before `joined` are gone.
    pieces: VecDeque<Piece>,
    joined: usize,
    /// Numbers of each chain's pieces that are not over.
    of_chain: BTreeMap<i16, VecDeque<usize>>,
    covered: BTreeMap<i16, i64>,
    reach: u64,
}

struct Piece {
    from: i64,
    to: i64,
    range: Range,
}

impl Piece {
    fn is_whole(&self) -> bool {
        let events = self.to.abs_diff(self.from);
        self.range.end() - self.range.begin() == events
    }
}

impl Pieces {
    /// Those of checkpoints of at most `most` events.
    pub(super) fn new(log: &Log, most: u64) -> Self {
        let mut new = Self {
            pieces: VecDeque::new(),
            joined: 0,
            of_chain: BTreeMap::new(),
            covered: BTreeMap::new(),
            reach: 0,
        };
        let mut first = 0;
        for (size, interval) in log.iter().take_while(|(size, _)| *size <= most) {
            new.of_chain.entry(interval.chain).or_default().push_back(new.pieces.len());
            new.pieces.push_back(Piece { from: interval.from, to: interval.to, range: Range::empty(first) });
            new.covered.insert(interval.chain, interval.to);
            // The log was checked: no sum of its intervals is beyond its sizes.
            first += interval.events();
            new.reach = *size;
        }
        new
    }

    /// The last `seq` of each chain that is covered.
    pub(super) const fn covered(&self) -> &BTreeMap<i16, i64> {
        &self.covered
    }

    /// The size that the intervals reach.
    pub(super) const fn reach(&self) -> u64 {
        self.reach
    }

    /// Takes an event; those of a chain come by `seq`.
    pub(super) fn add(&mut self, chain: i16, seq: i64, event_hash: &Digest) {
        let Some(waiting) = self.of_chain.get_mut(&chain) else { return };
        while let Some(number) = waiting.front() {
            // What is not over is not joined.
            let Some(piece) = self.pieces.get_mut(number - self.joined) else { return };
            if seq <= piece.to {
                // After an event that is missing nothing of the piece can be a leaf, and it will not be whole.
                let next = piece.from.saturating_add_unsigned(piece.range.end() - piece.range.begin() + 1);
                if seq == next {
                    piece.range.push(leaf_hash(event_hash.as_bytes()));
                }
                if seq == piece.to {
                    waiting.pop_front();
                }
                return;
            }
            waiting.pop_front();
        }
    }

    /// The next run of leaves, if it is whole.
    pub(super) fn next_whole(&mut self) -> Option<Range> {
        let whole = self.pieces.pop_front_if(|piece| piece.is_whole())?;
        self.joined += 1;
        Some(whole.range)
    }
}
