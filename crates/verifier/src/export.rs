//! Exports: every event recomputed, every chain replayed, in one reading and constant memory.
//!
//! With checkpoints ([`crate::sealed`]) also whether the export holds just the events that were sealed ([`coverage`]); that takes
//! memory for the intervals of one tenant at a time, and none for events.

pub mod coverage;
pub mod event;
pub mod line;
pub mod time;

use std::io::Read;

use zeroauth_audit_core::replay::{LinkFinding, Replay};

use crate::input::{Lines, Place};
use crate::progress::Progress;
use crate::verdict::{Finding, Trouble, Verdict};
use coverage::{Coverage, Sealings};
use event::{Content, Event};
use line::Values;

/// Bytes of a line at most, unless the caller says otherwise.
pub const MAX_LINE: usize = 64 << 20;

/// Which events the next one must follow: the place in an export.
struct Chain {
    tenant: String,
    number: i16,
    seq: i64,
    replay: Replay,
}

/// Checks the export in `source`, called `name` in the verdict.
pub fn verify(
    source: impl Read,
    name: &str,
    max_line: usize,
    sealings: Sealings,
    verdict: &mut Verdict,
    progress: &mut Progress,
) {
    let mut reading = Reading { name, chain: None, coverage: None, sealings, verdict, withheld: 0 };
    let mut lines = Lines::new(source, max_line);
    let mut values = Values::default();
    let complete = loop {
        let (place, line) = match lines.next_line() {
            Ok(Some(next)) => next,
            Ok(None) => break true,
            Err(error) => {
                let (line, byte) = match &error {
                    crate::input::Error::TooLong(place, _) | crate::input::Error::Truncated(place) => {
                        (Some(place.line), Some(place.byte))
                    }
                    crate::input::Error::Io(_) => (None, None),
                };
                let what = error.to_string();
                reading.verdict.trouble(Trouble { file: name.into(), line, byte, what });
                break false;
            }
        };
        if let Err(malformed) = values.read(line) {
            reading.trouble(place, malformed.at, malformed.what.to_string());
            break false;
        }
        match Event::judge(&values, line) {
            Err(unreadable) => {
                reading.trouble(place, 0, unreadable.to_string());
                break false;
            }
            Ok(event) => {
                if !reading.take(place, &event) {
                    break false;
                }
            }
        }
        progress.at(lines.position());
    };
    reading.end(complete);
}

struct Reading<'a> {
    name: &'a str,
    chain: Option<Chain>,
    coverage: Option<Coverage>,
    sealings: Sealings,
    verdict: &'a mut Verdict,
    /// Events whose private fields were left out.
    withheld: u64,
}

impl Reading<'_> {
    fn trouble(&mut self, place: Place, at: usize, what: String) {
        let (line, byte) = (Some(place.line), Some(place.byte + at as u64));
        self.verdict.trouble(Trouble { file: self.name.into(), line, byte, what });
    }

    /// Takes the next event; `false` when it is not in the order of an export, so that nothing after it can be judged.
    fn take(&mut self, place: Place, event: &Event<'_>) -> bool {
        if !self.enter(event) {
            self.trouble(place, 0, "not in the order of an export: tenant, chain, seq".into());
            return false;
        }
        self.verdict.events += 1;
        self.withheld += u64::from(event.withheld);
        let (tenant, id) = (event.tenant, event.event_id.as_ref());
        if let Content::UnknownVersion(version) = event.content {
            self.trouble(place, 0, format!("hash_version {version} is not known to this program"));
        }
        if let Ok((prev, stored)) = &event.links {
            let Some(chain) = &mut self.chain else { return false };
            if let Some(finding) = chain.replay.step(event.seq, prev, stored) {
                self.verdict.found(link_finding(tenant, event, finding, prev));
            }
            if let Some(coverage) = &mut self.coverage {
                coverage.add(event.chain, event.seq, stored);
            }
        }
        let finding =
            |detail| Finding::new("content_mismatch", tenant, detail).at(event.chain, event.seq).event(id);
        match (event.content, &event.links) {
            (Content::Mismatch { recomputed }, Ok((_, stored))) => {
                let mismatch = finding("the stored fields do not have the recorded hash");
                self.verdict.found(mismatch.hashes(stored, &recomputed));
            }
            (Content::Wrong(why), _) => self.verdict.found(finding(why)),
            _ => {}
        }
        true
    }

    /// Goes to the event's chain, which may be a new one.
    fn enter(&mut self, event: &Event<'_>) -> bool {
        if let Some(chain) = &mut self.chain {
            let here = (chain.tenant.as_bytes(), chain.number);
            let there = (event.tenant.as_bytes(), event.chain);
            if here == there {
                let follows = event.seq >= chain.seq;
                chain.seq = event.seq;
                return follows;
            }
            if there < here {
                return false;
            }
        }
        let same_tenant = self.chain.as_ref().is_some_and(|chain| chain.tenant == event.tenant);
        if !same_tenant {
            self.end_tenant();
            self.verdict.tenants += 1;
            self.coverage = self.sealings.take(event.tenant, self.verdict);
        }
        self.verdict.chains += 1;
        self.chain = Some(Chain {
            tenant: event.tenant.into(),
            number: event.chain,
            seq: event.seq,
            replay: Replay::from_genesis(),
        });
        true
    }

    fn end_tenant(&mut self) {
        if let Some(coverage) = self.coverage.take() {
            coverage.end(self.verdict);
        }
    }

    /// The end of the file, or of what could be read of it.
    fn end(mut self, complete: bool) {
        if self.withheld > 0 {
            self.verdict.note(format!(
                "{} of {} events are without their private fields: only the hash of those was checked",
                self.withheld, self.verdict.events
            ));
        }
        if !complete {
            // What is missing behind is not missing from the trail.
            self.verdict.note(
                "the file was read up to the first line that could not be; nothing is said about the rest",
            );
            return;
        }
        self.end_tenant();
        self.sealings.end(self.verdict);
        if self.verdict.events == 0 && self.verdict.classes.is_empty() {
            self.verdict.trouble_with(self.name, "there is no event in it");
        }
    }
}

fn link_finding(
    tenant: &str,
    event: &Event<'_>,
    finding: LinkFinding,
    prev: &zeroauth_audit_core::Digest,
) -> Finding {
    let (chain, id) = (event.chain, event.event_id.as_ref());
    match finding {
        LinkFinding::Gap { from, to } => {
            let missing = if from == to { "this event is".into() } else { format!("events up to {to} are") };
            Finding::new("gap", tenant, format!("{missing} missing")).at(chain, from)
        }
        LinkFinding::LinkBroken { expected } => {
            let detail = "prev_hash is not the event_hash of the event before";
            Finding::new("link_broken", tenant, detail).at(chain, event.seq).event(id).hashes(&expected, prev)
        }
        other => {
            let detail = "this seq is there more than once, or is no valid seq";
            Finding::new(other.class(), tenant, detail).at(chain, event.seq).event(id)
        }
    }
}
