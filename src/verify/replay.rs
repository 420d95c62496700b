//! Replays one chain in order and names every defect that the scan only counts.

use std::ops::ControlFlow;

use zeroauth_audit_core::replay::{LinkFinding, Replay};

use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Row, Session};
use crate::trail::access::Trail;
use crate::trail::columns::{self, ContentFinding, at};
use crate::trail::finding::Finding;

/// A slice of a chain: all of it, or the part from a `seq` on.
pub struct ChainSlice {
    /// The tenant; `None` for rows without one.
    pub tenant: Option<String>,
    /// The chain; `None` for rows without one.
    pub chain: Option<i16>,
    /// The first `seq` to check; `None` for the whole chain.
    pub from: Option<i64>,
}

/// An event that was read: its `seq` and its stored `event_hash`.
pub type ReadEvent = (i64, [u8; 32]);

/// The outcome of a replay.
#[derive(Default)]
pub struct SliceReplayed {
    /// How many events were checked.
    pub events: i64,
    /// The last checked event that has a place in the chain.
    pub last: Option<ReadEvent>,
    /// The event before the slice, if it is there.
    pub before: Option<ReadEvent>,
    /// Whether `go_on` ended the replay before the end of the slice.
    pub broken_off: bool,
}

/// Replays `slice` up to `upto` (`None`: to the end of the chain), and hands every defect to `report`.
///
/// The event before the slice, if there is one, only serves to judge the first link: it is not checked itself. Calls `go_on` after
/// each event; if it returns false, the replay ends, and another can continue from there.
pub fn replay_slice(
    session: &Session,
    trail: &Trail,
    slice: &ChainSlice,
    upto: Option<i64>,
    go_on: &mut dyn FnMut() -> bool,
    report: &mut dyn FnMut(Finding),
) -> Result<SliceReplayed, Failure> {
    let before = slice.from.filter(|&from| from > 1).map(|from| from - 1);
    let mut replay = before.map_or_else(Replay::from_genesis, Replay::from_middle);
    let mut replayed = SliceReplayed::default();
    let (sql, parameters) = query(trail, slice, before, upto);
    session.stream(&sql, &parameters, |row| {
        let seq = row.int8(at::SEQ);
        let checked = seq.is_none_or(|seq| before.is_none_or(|before| seq > before));
        // SAFETY: the query selects a bytea there.
        let hash = unsafe { columns::digest(row.datum(at::EVENT_HASH)) };
        let seen = seq.zip(hash.map(|hash| *hash.as_bytes()));
        if checked {
            replayed.events += 1;
            replayed.last = seen.or(replayed.last);
        } else {
            replayed.before = seen;
        }
        check_row(
            row,
            checked,
            &mut replay,
            &mut |class, seq, event_id, expected, actual, missing_to, detail| {
                report(Finding {
                    class,
                    tenant: slice.tenant.clone(),
                    chain: slice.chain,
                    seq,
                    event_id,
                    expected,
                    actual,
                    missing_to,
                    detail,
                });
            },
        );
        replayed.broken_off = checked && !go_on();
        Ok(if replayed.broken_off { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(replayed)
}

fn query<'a>(
    trail: &Trail,
    slice: &'a ChainSlice,
    before: Option<i64>,
    upto: Option<i64>,
) -> (String, Vec<Parameter<'a>>) {
    let mut parameters = Vec::new();
    let mut conditions = Vec::new();
    match &slice.tenant {
        Some(tenant) => {
            parameters.push(Parameter::Text(tenant));
            conditions.push(format!("tenant_id = ${}", parameters.len()));
        }
        None => conditions.push("tenant_id IS NULL".to_owned()),
    }
    match slice.chain {
        Some(chain) => {
            parameters.push(Parameter::Int2(chain));
            conditions.push(format!("chain = ${}", parameters.len()));
        }
        None => conditions.push("chain IS NULL".to_owned()),
    }
    if let Some(before) = before {
        parameters.push(Parameter::Int8(before));
        conditions.push(format!("seq >= ${}", parameters.len()));
    }
    if let Some(upto) = upto {
        parameters.push(Parameter::Int8(upto));
        conditions.push(format!("seq <= ${}", parameters.len()));
    }
    let sql = format!(
        "SELECT {} FROM {} WHERE {} ORDER BY seq",
        columns::select_list(),
        trail.name,
        conditions.join(" AND ")
    );
    (sql, parameters)
}

type Hash = Option<[u8; 32]>;
type Report<'a> =
    dyn FnMut(&'static str, Option<i64>, Option<[u8; 16]>, Hash, Hash, Option<i64>, String) + 'a;

fn check_row(row: &Row<'_>, content: bool, replay: &mut Replay, report: &mut Report<'_>) {
    let seq = row.int8(at::SEQ);
    // SAFETY: a uuid is 16 bytes by reference, and the query selects one there.
    let event_id = row.datum(at::EVENT_ID).map(|datum| unsafe { *datum.cast_mut_ptr::<[u8; 16]>() });
    // SAFETY: the query selects the columns in their order.
    let event = match unsafe { columns::check_event(|n| row.datum(n)) } {
        Ok(event) => event,
        Err(why) => return report("content_mismatch", seq, event_id, None, None, None, why.to_owned()),
    };
    let Some(place) = seq else { return };
    match replay.step(place, &event.prev_hash, &event.event_hash) {
        None => {}
        Some(LinkFinding::Gap { from, to }) => {
            let missing = if from == to { "this event is".into() } else { format!("events up to {to} are") };
            report("gap", Some(from), None, None, None, Some(to), format!("{missing} missing"));
        }
        Some(LinkFinding::LinkBroken { expected }) => report(
            "link_broken",
            seq,
            event_id,
            Some(*expected.as_bytes()),
            Some(*event.prev_hash.as_bytes()),
            None,
            "prev_hash is not the event_hash of the event before".to_owned(),
        ),
        Some(other) => {
            let detail = "this seq is there more than once, or is no valid seq";
            report(other.class(), seq, event_id, None, None, None, detail.to_owned());
        }
    }
    let Some(finding) = event.finding.filter(|_| content) else { return };
    let (expected, actual, detail) = match finding {
        ContentFinding::Mismatch { recomputed, stored } => (
            Some(*stored.as_bytes()),
            Some(*recomputed.as_bytes()),
            "the stored fields do not have the recorded hash".to_owned(),
        ),
        ContentFinding::Unreadable(why) | ContentFinding::Private(why) => (None, None, why.to_owned()),
    };
    report("content_mismatch", seq, event_id, expected, actual, None, detail);
}
