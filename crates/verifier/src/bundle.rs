//! Proof bundles: one event, from its fields to a signed checkpoint.

mod registry;

use zeroauth_audit_core::proof::Bundle;
use zeroauth_audit_core::trust::Trust;

use crate::anchor::{self, Evidence};
use crate::export::event::{Content, Event};
use crate::export::line::Values;
use crate::input;
use crate::verdict::{Finding, Trouble, Verdict};

/// Checks the bundle in `bytes`, called `name` in the verdict.
pub fn verify(bytes: &[u8], name: &str, trust: &Trust, evidence: &dyn Evidence, verdict: &mut Verdict) {
    let trouble = |line: Option<usize>, byte: usize, what: String| Trouble {
        file: name.into(),
        line: line.map(|line| line as u64),
        byte: Some(byte as u64),
        what,
    };
    let bytes = match input::text(bytes) {
        Ok(bytes) => bytes,
        Err(what) => return verdict.trouble_with(name, format!("no proof bundle: {what}")),
    };
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(error) => {
            return verdict.trouble(trouble(
                Some(error.line),
                error.offset,
                format!("no proof bundle: {error}"),
            ));
        }
    };
    let Some(line) = &bundle.event else {
        return verdict.trouble_with(name, "there is no event in it: it proves nothing by itself");
    };
    let mut values = Values::default();
    let event = values
        .read(line.as_bytes())
        .map_err(|malformed| (malformed.at, malformed.what.to_string()))
        .and_then(|()| {
            Event::judge(&values, line.as_bytes()).map_err(|unreadable| (0, unreadable.to_string()))
        });
    let event = match event {
        Ok(event) => event,
        Err((at, what)) => return verdict.trouble(event_trouble(bytes, line, at, what, &trouble)),
    };
    (verdict.events, verdict.tenants, verdict.chains) = (1, 1, 1);
    content(&event, name, verdict);
    if event.withheld {
        verdict.note("the event is without its private fields: only the hash of those was checked");
    }
    let Some(log) = &bundle.log else {
        return verdict.trouble_with(name, "it does not say where in its tenant's log the event is");
    };
    let Some(checkpoint) = registry::included(&bundle, log, &event, name, trust, verdict) else { return };
    for anchor in &bundle.anchors {
        let of = (bundle.index, event.tenant);
        anchor::verify(anchor, &checkpoint, of, name, evidence, verdict);
    }
}

/// The place of an error within the event's line is one in the file.
fn event_trouble(
    bytes: &[u8],
    event: &str,
    at: usize,
    what: String,
    trouble: &dyn Fn(Option<usize>, usize, String) -> Trouble,
) -> Trouble {
    let section = b"\n--- event\n";
    let begin =
        bytes.windows(section.len()).position(|window| window == section).unwrap_or(0) + section.len();
    let line = bytes.iter().take(begin).filter(|byte| **byte == b'\n').count() + 1;
    let at = at.min(event.len());
    trouble(Some(line), begin + at, format!("the event: {what}"))
}

fn content(event: &Event<'_>, name: &str, verdict: &mut Verdict) {
    let finding = |detail| {
        let finding = Finding::new("content_mismatch", event.tenant, detail);
        finding.at(event.chain, event.seq).event(event.event_id.as_ref())
    };
    match (event.content, &event.links) {
        (Content::Mismatch { recomputed }, Ok((_, stored))) => {
            let mismatch = finding("the fields do not have the recorded hash");
            verdict.found(mismatch.hashes(stored, &recomputed));
        }
        (Content::Wrong(why), _) => verdict.found(finding(why)),
        (Content::UnknownVersion(version), _) => {
            verdict.trouble_with(name, format!("hash_version {version} is not known to this program"));
        }
        _ => {}
    }
}

/// A finding of this event.
fn at_event(event: &Event<'_>, class: &'static str, detail: String) -> Finding {
    let finding = Finding::new(class, event.tenant, detail);
    finding.at(event.chain, event.seq).event(event.event_id.as_ref())
}

/// What the log contains: it is made of recorded hashes, so it proves shown fields only as far as they have the recorded hash.
fn contained(event: &Event<'_>, verdict: &mut Verdict) -> &'static str {
    match event.content {
        Content::Whole => "contains the event",
        Content::UnknownVersion(_) => {
            "contains the recorded hash, and it is not known whether the shown fields have it"
        }
        Content::Mismatch { .. } | Content::Wrong(_) => {
            verdict
                .note("the checkpoint and its anchors vouch for the recorded hash, not for the shown fields");
            "contains the recorded hash, which the shown fields do not have"
        }
    }
}
