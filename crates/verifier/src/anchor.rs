//! Anchors of a bundle: that an anchored checkpoint continues, or is continued by, the bundle's, and which batch it went out in.
//!
//! Whether the batch's root really was fixed outside is a matter of each driver's evidence, behind [`Evidence`]; how evidence is
//! held against what an auditor trusts is in [`crate::outside`]. What nobody asked to be checked is reported so, never as right.

use zeroauth_audit_anchor::evidence;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::{inclusion_root, leaf_hash, verify_consistency};
use zeroauth_audit_core::proof::Anchor;
use zeroauth_audit_core::trust::Believed;

use crate::verdict::{AnchorOutcome, Anchored, Finding, Verdict};

/// What a bundle claims that was fixed outside.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Which driver made the anchor.
    pub kind: &'a str,
    /// The root of the batch that the anchored checkpoint is in.
    pub root: Digest,
    /// How many checkpoints the batch has.
    pub leaves: u64,
    /// The base origin of the log.
    pub base: &'a str,
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

/// Looks at one anchor of the bundle in the file `name`, whose checkpoint is `believed` and whose event is leaf `index`.
pub fn verify(
    anchor: &Anchor,
    believed: &Believed,
    index: u64,
    name: &str,
    evidence: &dyn Evidence,
    verdict: &mut Verdict,
) {
    let mut report = Anchored {
        kind: anchor.kind.clone(),
        tree_size: anchor.tree_size,
        batch_root: None,
        outcome: AnchorOutcome::NotChecked,
        evidence: None,
        result: String::new(),
    };
    let said = batch_root(anchor, &believed.checkpoint).and_then(|root| {
        report.batch_root = Some(root.to_string());
        match evidence.check(&Claim {
            kind: &anchor.kind,
            root,
            leaves: anchor.batch_size,
            base: believed.base.as_str(),
            payload: &anchor.payload,
        }) {
            Said::Refuted(why) => Err(why),
            said => Ok(said),
        }
    });
    match said {
        // Mismatches come first: what does not fit together is wrong whatever else is said of it.
        Err(why) | Ok(Said::Refuted(why)) => {
            let detail = format!("{} anchor: {why}", anchor.kind);
            verdict.found(Finding::new("anchor_mismatch", &believed.tenant, detail));
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

/// The root of the batch that the anchored checkpoint is in, if that checkpoint is of the same log as the bundle's.
fn batch_root(anchor: &Anchor, bundled: &Checkpoint) -> Result<Digest, String> {
    let anchored = Checkpoint { origin: bundled.origin.clone(), size: anchor.tree_size, root: anchor.root };
    let (older, newer) =
        if anchored.size <= bundled.size { (&anchored, bundled) } else { (bundled, &anchored) };
    verify_consistency(older.size, newer.size, &older.root, &newer.root, &anchor.consistency)
        .map_err(|error| format!("the anchored checkpoint is not of the same log: {error}"))?;
    let body = leaf_hash(anchored.body().as_bytes());
    inclusion_root(anchor.batch_index, anchor.batch_size, &body, &anchor.batch_path)
        .map_err(|error| format!("the path in the batch: {error}"))
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
