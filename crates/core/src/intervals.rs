//! Where an event is in its tenant's log, and which event a leaf is.
//!
//! A checkpoint adds to the log, for every chain, the events of an interval (from, to] of `seq`: the intervals by ascending
//! chain, in each the events by ascending `seq`. So no event's place is stored. The functions take the intervals of one
//! checkpoint and the size of the log before it.

/// The events of one chain that one checkpoint added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// Which chain.
    pub chain: i16,
    /// The last `seq` that was there before; 0 for none.
    pub from: i64,
    /// The last `seq` of the interval.
    pub to: i64,
}

/// Why intervals are not those of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An interval is empty, negative or of no chain.
    #[error("({from}, {to}] of chain {chain} is no interval", chain = .0.chain, from = .0.from, to = .0.to)]
    Interval(Interval),
    /// The chains do not ascend.
    #[error("the intervals are not in the order of their chains at chain {0}")]
    Order(i16),
    /// They have another number of events than the log grew by.
    #[error("the intervals hold {events} events and the log grew by {grown}")]
    Events {
        /// In the intervals.
        events: u64,
        /// Between the sizes.
        grown: u64,
    },
}

impl Interval {
    /// Events in it; 0 when it is none.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.to.checked_sub(self.from).and_then(|events| u64::try_from(events).ok()).unwrap_or(0)
    }
}

/// Checks that these are the intervals of a checkpoint that took the log from `old_size` to `new_size` leaves.
///
/// # Errors
/// Any [`Error`].
pub fn check(intervals: &[Interval], old_size: u64, new_size: u64) -> Result<(), Error> {
    let mut events: u64 = 0;
    let mut last: Option<i16> = None;
    for interval in intervals {
        if interval.chain < 0 || interval.from < 0 || interval.to <= interval.from {
            return Err(Error::Interval(*interval));
        }
        if last.is_some_and(|last| last >= interval.chain) {
            return Err(Error::Order(interval.chain));
        }
        last = Some(interval.chain);
        // 32768 chains of less than 2^63 events stay below 2^78, so a sum can overflow 64 bits; no size is as large.
        events = events.saturating_add(interval.events());
    }
    let grown = new_size.saturating_sub(old_size);
    if events == grown { Ok(()) } else { Err(Error::Events { events, grown }) }
}

/// The leaf index of event `seq` of `chain`, or `None` when these intervals do not contain it. `old_size` is the size of the log
/// before the checkpoint.
#[must_use]
pub fn leaf_index(old_size: u64, intervals: &[Interval], chain: i16, seq: i64) -> Option<u64> {
    let mut first = old_size;
    for interval in intervals {
        if interval.chain == chain && interval.from < seq && seq <= interval.to {
            return first.checked_add(seq.abs_diff(interval.from) - 1);
        }
        first = first.checked_add(interval.events())?;
    }
    None
}

/// Chain and `seq` of leaf `index`, or `None` when these intervals do not contain it.
#[must_use]
pub fn event_at(old_size: u64, intervals: &[Interval], index: u64) -> Option<(i16, i64)> {
    let mut left = index.checked_sub(old_size)?;
    for interval in intervals {
        if left < interval.events() {
            return Some((interval.chain, interval.from.checked_add_unsigned(left)?.checked_add(1)?));
        }
        left -= interval.events();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [Interval; 3] = [
        Interval { chain: 0, from: 10, to: 13 },
        Interval { chain: 2, from: 0, to: 1 },
        Interval { chain: 5, from: 7, to: 9 },
    ];

    #[test]
    fn leaves_are_numbered_by_chain_and_then_by_seq() {
        assert_eq!(check(&THREE, 100, 106), Ok(()));
        let order = [(0, 11), (0, 12), (0, 13), (2, 1), (5, 8), (5, 9)];
        for (index, (chain, seq)) in (100..).zip(order) {
            assert_eq!(leaf_index(100, &THREE, chain, seq), Some(index));
            assert_eq!(event_at(100, &THREE, index), Some((chain, seq)));
        }
        for (chain, seq) in [(0, 10), (0, 14), (1, 1), (2, 0), (2, 2), (5, i64::MIN), (5, i64::MAX)] {
            assert_eq!(leaf_index(100, &THREE, chain, seq), None, "{chain} {seq}");
        }
        assert_eq!((event_at(100, &THREE, 99), event_at(100, &THREE, 106)), (None, None));
    }

    #[test]
    fn what_no_checkpoint_has_is_refused() {
        assert_eq!(check(&THREE, 100, 107), Err(Error::Events { events: 6, grown: 7 }));
        assert_eq!(check(&[THREE[1], THREE[0]], 0, 4), Err(Error::Order(0)));
        assert_eq!(check(&[THREE[0], THREE[0]], 0, 6), Err(Error::Order(0)));
        for interval in [
            Interval { chain: 0, from: 3, to: 3 },
            Interval { chain: 0, from: 3, to: 2 },
            Interval { chain: 0, from: -1, to: 2 },
            Interval { chain: -1, from: 0, to: 2 },
            Interval { chain: 0, from: i64::MIN, to: i64::MAX },
        ] {
            assert_eq!(check(&[interval], 0, 0), Err(Error::Interval(interval)));
        }
    }

    #[test]
    fn the_ends_of_the_ranges_do_not_overflow() {
        let all = Interval { chain: 0, from: 0, to: i64::MAX };
        let next = Interval { chain: 1, ..all };
        assert_eq!(leaf_index(u64::MAX, &[all, next], 1, 1), None);
        assert_eq!(leaf_index(1, &[all], 0, i64::MAX), Some((1 << 63) - 1));
        let many: [Interval; 4] = core::array::from_fn(|chain| Interval { chain: chain as i16, ..all });
        assert!(matches!(check(&many, 0, u64::MAX), Ok(()) | Err(Error::Events { .. })));
        assert_eq!(event_at(0, &[all], u64::MAX), None);
    }
}
