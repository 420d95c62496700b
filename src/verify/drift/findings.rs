//! The defects that a replay or a watermark shows, grouped by class and chain: one finding each, however many events it is
//! about.

use serde::Serialize;

use crate::trail::finding::Finding;

/// This many events of a finding are named; the rest is counted.
const NAMED: usize = 5;

/// An event at its place in a chain.
#[derive(Serialize, Clone)]
pub struct PlacedEvent {
    /// The chain; -1 for rows without one.
    pub chain: i16,
    /// Its `seq`.
    pub seq: i64,
    /// Its `event_hash`, in hexadecimal.
    pub hash: String,
}

/// One event of a finding, for a person.
#[derive(Serialize)]
struct Named {
    seq: Option<i64>,
    event_id: Option<String>,
    expected: Option<String>,
    actual: Option<String>,
    detail: String,
}

/// The source of a finding.
#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The events contradict each other, or themselves.
    Replay,
    /// The events contradict a watermark.
    Memory,
    /// The events contradict the log, or the log contradicts itself.
    Log,
}

/// One class of defect in one chain.
#[derive(Serialize)]
pub struct DriftFinding {
    /// The class.
    pub kind: &'static str,
    /// Its source.
    pub source: Source,
    /// The tenant.
    pub tenant: String,
    /// The chain; -1: all chains of the tenant, or rows without one.
    pub chain: i16,
    count: i64,
    first_seq: i64,
    last_seq: i64,
    /// Of a class that says that events are not there: the first that are not.
    absent: Option<[i64; 2]>,
    /// The events that were there.
    pub expected: Vec<PlacedEvent>,
    places: Vec<Named>,
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|n| char::from_digit(n.into(), 16).unwrap_or('0'))
        .collect()
}

/// Adds a defect that a replay, or the comparison with the log, named.
pub fn collect(findings: &mut Vec<DriftFinding>, source: Source, tenant: &str, finding: &Finding) {
    let chain = finding.chain.unwrap_or(-1);
    // A chain that is missing is missing from its first event on.
    let seq = finding.seq.unwrap_or(i64::from(finding.missing_to.is_some()));
    let end = finding.missing_to.unwrap_or(seq);
    let same = |found: &&mut DriftFinding| {
        found.kind == finding.class
            && found.source == source
            && found.chain == chain
            && found.tenant == tenant
    };
    let place = Named {
        seq: finding.seq,
        event_id: finding.event_id.map(|id| pgrx::datum::Uuid::from_bytes(id).to_string()),
        expected: finding.expected.map(|hash| hex(&hash)),
        actual: finding.actual.map(|hash| hex(&hash)),
        detail: finding.detail.clone(),
    };
    if let Some(found) = findings.iter_mut().find(same) {
        found.count += 1;
        found.first_seq = found.first_seq.min(seq);
        found.last_seq = found.last_seq.max(end);
        if found.places.len() < NAMED {
            found.places.push(place);
        }
        return;
    }
    findings.push(DriftFinding {
        kind: finding.class,
        source,
        tenant: tenant.to_owned(),
        chain,
        // A replay reports one event at a time, the log a range.
        count: if source == Source::Log { end.saturating_sub(seq).saturating_add(1) } else { 1 },
        first_seq: seq,
        last_seq: end,
        absent: finding.missing_to.map(|to| [seq, to]),
        expected: Vec::new(),
        places: vec![place],
    });
}

/// The finding that the event of a watermark is another one now.
pub fn rewritten(tenant: &str, was: PlacedEvent, is: Option<String>) -> DriftFinding {
    let place = Named {
        seq: Some(was.seq),
        event_id: None,
        expected: Some(was.hash.clone()),
        actual: is,
        detail: "the event here was another one when it was last verified: the chain was written anew"
            .to_owned(),
    };
    DriftFinding {
        kind: "content_mismatch",
        source: Source::Memory,
        tenant: tenant.to_owned(),
        chain: was.chain,
        count: 1,
        first_seq: was.seq,
        last_seq: was.seq,
        absent: None,
        expected: vec![was],
        places: vec![place],
    }
}

/// The finding that events are gone: those from `from` to the watermark's.
pub fn missing(
    kind: &'static str,
    tenant: &str,
    chain: i16,
    from: i64,
    was: Vec<PlacedEvent>,
) -> DriftFinding {
    let last = was.iter().map(|known| known.seq).max().unwrap_or(from);
    DriftFinding {
        kind,
        source: Source::Memory,
        tenant: tenant.to_owned(),
        chain,
        count: was
            .iter()
            .map(|known| known.seq.saturating_sub(from).saturating_add(1))
            .fold(0, i64::saturating_add),
        first_seq: from,
        last_seq: last,
        absent: Some([from, last]),
        expected: was,
        places: Vec::new(),
    }
}
