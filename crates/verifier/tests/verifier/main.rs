//! The verifier on made-up trails: whole ones, forged ones, and what is no trail at all.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/trail.rs"]
mod trail;

mod bundles;
mod command;
mod exports;
mod hostile;
mod monitors;
mod registry_bundles;
mod runs;
mod sealed_by_runs;
mod sealed_exports;
mod who_names_what;

use std::collections::{HashMap, HashSet};

use zeroauth_audit_core::trust::{Believed, Trust};
use zeroauth_audit_verifier::export::coverage::Sealings;
use zeroauth_audit_verifier::progress::Progress;
use zeroauth_audit_verifier::verdict::Verdict;
use zeroauth_audit_verifier::{export, intervals};

/// Trusts the key of the trails.
fn trust() -> Trust {
    let mut trust = Trust::new();
    trust.add_log(trail::key().verifier_key()).unwrap();
    trust
}

/// A checkpoint as it is believed, sealed at a time after [`trail::BEGIN`].
fn believed(checkpoint: &zeroauth_audit_core::checkpoint::Checkpoint, after: u64) -> Believed {
    let note = checkpoint.sign(&trail::key(), trail::BEGIN + after).unwrap();
    trust().open(note.as_bytes()).unwrap()
}

/// The verdict on an export, held against checkpoints and intervals; every tenant of the checkpoints is expected.
fn judged(export: &str, checkpoints: Vec<Believed>, intervals: &str) -> Verdict {
    let mut verdict = Verdict::new("verify-export", "export");
    let expected: HashSet<String> = checkpoints.iter().map(|c| c.tenant.clone()).collect();
    let intervals = match intervals {
        "" => HashMap::new(),
        lines => intervals::read(lines.as_bytes(), "intervals").unwrap(),
    };
    let sealings = Sealings::new(checkpoints, intervals, expected);
    let mut progress = Progress::none();
    export::verify(export.as_bytes(), "export", export::MAX_LINE, sealings, &mut verdict, &mut progress);
    verdict
}

/// Class, chain and seq of each finding.
fn places(verdict: &Verdict) -> Vec<(&'static str, Option<i16>, Option<i64>)> {
    verdict.findings.iter().map(|finding| (finding.class, finding.chain, finding.seq)).collect()
}
