//! The events beside one that brings its hashes: where they are stored already, the chain must go through them.
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

/// Which neighbour does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It is the first of its chain and continues another event.
    First,
    /// Its prev_hash is not the event_hash of the event before it.
    Before,
    /// The event after it does not continue it.
    After,
}

/// What `event` contradicts, of the events stored beside it; `None` for nothing.
///
/// # Safety
/// `relation` must be open and have passed [`crate::chain::head::checked_key`], which returned `key`; `event.tenant` must be a valid text.
pub unsafe fn misfit(
    relation: pg_sys::Relation,
    key: pg_sys::Oid,
    event: &Event,
) -> Result<Option<Misfit>, Failure> {
    if event.seq == 1 && event.prev != Some(Digest::GENESIS) {
        return Ok(Some(Misfit::First));
    }
    let part = Part {
        tenant: event.tenant,
        chain: event.chain,
        from: Some(event.seq.saturating_sub(1)),
        to: Some(event.seq.saturating_add(1)),
    };
    let mut found = None;
    // SAFETY: by contract; both hashes are byteas.
    unsafe {
        primary_key::opened(key, |index| {
            primary_key::look(relation, index, part, pg_sys::ScanDirection::ForwardScanDirection, |row| {
                let seq = row.value(at::SEQ).map_or(0, |seq| seq.value() as i64);
                if seq == event.seq - 1 && columns::digest(row.value(at::EVENT_HASH)) != event.prev {
                    found = Some(Misfit::Before);
                } else if seq == event.seq + 1 && columns::digest(row.value(at::PREV_HASH)) != event.hash {
                    found = Some(Misfit::After);
                }
                if found.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            Ok(())
        })?;
    }
    Ok(found)
}
