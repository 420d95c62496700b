//! Anchors of a bundle: that the registry that was anchored continues, or is continued by, the bundle's.
//!
//! Whether its root really was fixed outside is a matter of each driver's evidence, behind [`Evidence`]; how evidence is
//! held against what an auditor trusts is in [`crate::outside`]. What nobody asked to be checked is reported so, never as right.

use zeroauth_audit_anchor::evidence;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::verify_either_grew;
use zeroauth_audit_core::proof::Anchor;

use crate::verdict::{AnchorOutcome, Anchored, Finding, Verdict};

/// What a bundle claims that was fixed outside.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Which driver made the anchor.
    pub kind: &'a str,
    /// The root of the registry.
    pub root: Digest,
    /// How many entries it has.
    pub size: u64,
    /// Its origin.
    pub origin: &'a str,
    /// The driver's evidence.
    pub payload: &'a str,
}

/// What evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The root was fixed.
    Holds {
        /// When, where and by whom.
        evidence: Box<evidence::Verdict>,
        /// Who vouches for what it rests on, in words.
        by: String,
        /// What is left to compare.
        notes: Vec<String>,
    },
    /// It was not, or the evidence is of something else.
    Refuted(String),
    /// What the check needs was not given: nobody asked for it. Does not change the verdict.
    NotAsked(String),
    /// It cannot be read, or cannot be told although what was given should do. Could not check.
    Unknown(String),
}

/// Checks the evidence of anchors.
pub trait Evidence {
    /// Whether it was fixed outside as claimed.
    fn check(&self, claim: &Claim<'_>) -> Said;
}

/// Looks at one anchor of the bundle in the file `name`, which proves entry `index` of the registry whose checkpoint is `bundled`, and is
/// about an event of `tenant`.
pub fn verify(
    anchor: &Anchor,
    bundled: &Checkpoint,
    (index, tenant): (u64, &str),
    name: &str,
    evidence: &dyn Evidence,
    verdict: &mut Verdict,
) {
    let mut report = Anchored {
        kind: anchor.kind.clone(),
        tree_size: anchor.tree_size,
        root: anchor.root.to_string(),
        outcome: AnchorOutcome::NotChecked,
        evidence: None,
        result: String::new(),
    };
    let claim = Claim {
        kind: &anchor.kind,
        root: anchor.root,
        size: anchor.tree_size,
        origin: &bundled.origin,
        payload: &anchor.payload,
    };
    let said = of_same_registry(anchor, bundled).and_then(|()| match evidence.check(&claim) {
        Said::Refuted(why) => Err(why),
        said => Ok(said),
    });
    match said {
        // Mismatches come first: what does not fit together is wrong whatever else is said of it.
        Err(why) | Ok(Said::Refuted(why)) => {
            let detail = format!("{} anchor: {why}", anchor.kind);
            verdict.found(Finding::new("anchor_mismatch", tenant, detail));
            (report.outcome, report.result) = (AnchorOutcome::Mismatch, why);
        }
        Ok(Said::Holds { evidence, by, notes }) => {
            let covers = anchor.tree_size > index;
            (report.outcome, report.result) = match covers {
                true => (AnchorOutcome::Verified, by),
                false => (AnchorOutcome::Older, "older than the event: says nothing of it".into()),
            };
            report.evidence = Some(*evidence);
            notes.into_iter().for_each(|note| verdict.note(format!("{} anchor: {note}", anchor.kind)));
        }
        Ok(Said::NotAsked(why)) => {
            verdict.note(format!("not checked: {} anchor: {why}", anchor.kind));
            report.result = format!("not checked: {why}");
        }
        Ok(Said::Unknown(why)) => {
            verdict.trouble_with(name, format!("{} anchor: {why}", anchor.kind));
            report.result = format!("could not check: {why}");
        }
    }
    verdict.anchors.push(report);
}

/// Whether one of the two is what the other has grown from.
fn of_same_registry(anchor: &Anchor, bundled: &Checkpoint) -> Result<(), String> {
    verify_either_grew((anchor.tree_size, &anchor.root), (bundled.size, &bundled.root), &anchor.consistency)
        .map_err(|error| format!("what was anchored is not of the same registry: {error}"))
}

/// Makes it a trouble of the file `name` when fewer than `least` anchors are verified. What says the same twice counts once.
pub fn require(least: usize, name: &str, verdict: &mut Verdict) {
    let mut different: Vec<&evidence::Verdict> = Vec::new();
    for anchor in verdict.anchors.iter().filter(|anchor| anchor.outcome == AnchorOutcome::Verified) {
        match &anchor.evidence {
            Some(evidence) if !different.contains(&evidence) => different.push(evidence),
            _ => {}
        }
    }
    let found = different.len();
    if found < least {
        verdict.trouble_with(name, format!("verified anchors: {found}, and {least} are required"));
    }
}
