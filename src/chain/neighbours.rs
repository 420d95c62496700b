//! The events beside one that brings its hashes: where they are stored already, the chain must go through them. So it is with the place of
//! the event itself: a copy of it may be there, from an interrupted load or another subscription, and another event must not.
//!
//! A restore with several jobs brings rows in any order, so only what is there is compared; what is not there yet compares itself when
//! it comes.

use std::ops::ControlFlow;

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;

use crate::chain::primary_key::{self, Part};
use crate::pg::error::Failure;
use crate::trail::columns::{self, at};

/// An event's place, and its two hashes.
pub struct Event {
    /// Its tenant, a text.
    pub tenant: pg_sys::Datum,
    /// Its chain.
    pub chain: i16,
    /// Its seq.
    pub seq: i64,
    /// Its prev_hash.
    pub prev: Option<Digest>,
    /// Its event_hash.
    pub hash: Option<Digest>,
}

/// What is stored at the place of an event and beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Nothing that it contradicts.
    Fitting,
    /// The event itself.
    Same,
    /// A neighbour that does not fit.
    Misfit(Misfit),
}

/// Which neighbour does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Another event has its place, with this event_hash.
    Place(Option<Digest>),
    /// It is the first of its chain and continues another event.
    First,
    /// Its prev_hash is not the event_hash of the event before it.
    Before,
    /// The event after it does not continue it.
    After,
}

/// What is stored at the place of `event` and beside it.
///
/// # Safety
/// `relation` must be open and have passed [`crate::chain::head::checked_key`], which returned `key`; `event.tenant` must be a valid text.
pub unsafe fn stored(relation: pg_sys::Relation, key: pg_sys::Oid, event: &Event) -> Result<Stored, Failure> {
    if event.seq == 1 && event.prev != Some(Digest::GENESIS) {
        return Ok(Stored::Misfit(Misfit::First));
    }
    let part = Part {
        tenant: event.tenant,
        chain: event.chain,
        from: Some(event.seq.saturating_sub(1)),
        to: Some(event.seq.saturating_add(1)),
    };
    let mut found = Stored::Fitting;
    // SAFETY: by contract; both hashes are byteas.
    unsafe {
        primary_key::opened(key, |index| {
            primary_key::look(relation, index, part, pg_sys::ScanDirection::ForwardScanDirection, |row| {
                let seq = row.value(at::SEQ).map_or(0, |seq| seq.value() as i64);
                let hash = columns::digest(row.value(at::EVENT_HASH));
                if seq == event.seq {
                    // The hash is of all that the event is; what destroyed its private part leaves it the same.
                    let same = hash == event.hash;
                    found = if same { Stored::Same } else { Stored::Misfit(Misfit::Place(hash)) };
                    return ControlFlow::Break(());
                }
                if seq == event.seq - 1 && hash != event.prev {
                    found = Stored::Misfit(Misfit::Before);
                } else if seq == event.seq + 1 && columns::digest(row.value(at::PREV_HASH)) != event.hash {
                    found = Stored::Misfit(Misfit::After);
                }
                ControlFlow::Continue(())
            });
            Ok(())
        })?;
    }
    Ok(found)
}
