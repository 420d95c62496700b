//! Replay of one chain in order: names each defect.
//!
//! Feed the events of one chain by ascending `seq`; each [`Replay::step`] returns the defect at that place.
//! The same rules as the reference implementation's `verify_export`: a hole is a `gap`, and the link across it is not
//! judged, a repeated `seq` is a `fork`, a wrong `prev_hash` is a `link_broken`, and a content hash that
//! does not match is a `content_mismatch` whatever else is wrong.

use crate::digest::Digest;

/// A defect of the order or the link at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkFinding {
    /// Events `from ..= to` are not there.
    Gap {
        /// First missing `seq`.
        from: i64,
        /// Last missing `seq`.
        to: i64,
    },
    /// `seq` is there again, or out of range.
    Fork,
    /// `prev_hash` is not the hash of the event before.
    LinkBroken {
        /// The hash of the event before.
        expected: Digest,
    },
}

impl LinkFinding {
    /// The class as users read it.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            LinkFinding::Gap { .. } => "gap",
            LinkFinding::Fork => "fork",
            LinkFinding::LinkBroken { .. } => "link_broken",
        }
    }
}

/// Where the replay of one chain stands.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Of the event before; counting from it, not from the next, leaves no `seq` that could overflow.
    last_seq: i64,
    /// Its hash; `None` when the chain is entered in the middle: the first link cannot be judged.
    prev: Option<Digest>,
}

impl Replay {
    /// A replay from the first event of a chain.
    #[must_use]
    pub const fn from_genesis() -> Self {
        Self { last_seq: 0, prev: Some(Digest::GENESIS) }
    }

    /// A replay that enters a chain at `seq`, where the event before was not read.
    #[must_use]
    pub const fn from_middle(seq: i64) -> Self {
        if seq <= 1 {
            return Self::from_genesis();
        }
        Self { last_seq: seq - 1, prev: None }
    }

    /// Takes the next stored event; returns the defect of its place, if any.
    pub fn step(&mut self, seq: i64, prev_hash: &Digest, event_hash: &Digest) -> Option<LinkFinding> {
        let finding = if seq <= self.last_seq {
            Some(LinkFinding::Fork)
        } else if seq - 1 > self.last_seq {
            Some(LinkFinding::Gap { from: self.last_seq + 1, to: seq - 1 })
        } else {
            self.prev
                .filter(|expected| expected != prev_hash)
                .map(|expected| LinkFinding::LinkBroken { expected })
        };
        self.last_seq = seq;
        self.prev = Some(*event_hash);
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::new([n; 32])
    }

    #[test]
    fn a_whole_chain_has_no_findings() {
        let mut replay = Replay::from_genesis();
        assert_eq!(replay.step(1, &Digest::GENESIS, &digest(1)), None);
        assert_eq!(replay.step(2, &digest(1), &digest(2)), None);
    }

    #[test]
    fn a_hole_is_a_gap_and_does_not_also_break_the_link() {
        let mut replay = Replay::from_genesis();
        assert_eq!(replay.step(4, &digest(3), &digest(4)), Some(LinkFinding::Gap { from: 1, to: 3 }));
        assert_eq!(replay.step(5, &digest(4), &digest(5)), None);
    }

    #[test]
    fn a_repeated_seq_is_a_fork() {
        let mut replay = Replay::from_genesis();
        assert_eq!(replay.step(1, &Digest::GENESIS, &digest(1)), None);
        assert_eq!(replay.step(1, &Digest::GENESIS, &digest(9)), Some(LinkFinding::Fork));
    }

    #[test]
    fn a_seq_below_one_is_not_accepted_as_a_start() {
        assert_eq!(Replay::from_genesis().step(0, &Digest::GENESIS, &digest(1)), Some(LinkFinding::Fork));
    }

    #[test]
    fn a_first_event_that_does_not_start_from_genesis_breaks_the_link() {
        let found = Replay::from_genesis().step(1, &digest(7), &digest(1));
        assert_eq!(found, Some(LinkFinding::LinkBroken { expected: Digest::GENESIS }));
    }

    #[test]
    fn entering_in_the_middle_judges_every_link_but_the_first() {
        let mut replay = Replay::from_middle(5);
        assert_eq!(replay.step(5, &digest(4), &digest(5)), None);
        assert_eq!(
            replay.step(6, &digest(9), &digest(6)),
            Some(LinkFinding::LinkBroken { expected: digest(5) })
        );
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow_and_a_repeated_seq_is_a_fork_there_too() {
        let mut replay = Replay::from_middle(i64::MAX);
        assert_eq!(replay.step(i64::MAX, &digest(1), &digest(2)), None);
        assert_eq!(replay.step(i64::MAX, &digest(2), &digest(3)), Some(LinkFinding::Fork));

        let mut replay = Replay::from_genesis();
        assert_eq!(replay.step(i64::MIN, &Digest::GENESIS, &digest(1)), Some(LinkFinding::Fork));
        let everything = LinkFinding::Gap { from: i64::MIN + 1, to: i64::MAX - 1 };
        assert_eq!(replay.step(i64::MAX, &digest(1), &digest(2)), Some(everything));
    }
}
