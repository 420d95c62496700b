//! Anchors of a bundle: that an anchored checkpoint continues, or is continued by, the bundle's, and which batch it went out in.
//!
//! Whether the batch's root really was fixed outside is a matter of each driver's evidence. That is behind [`Evidence`]: who has
//! a check for a kind of anchor gives it; what nobody has a check for is reported as not checked, never as right.

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::{inclusion_root, leaf_hash, verify_consistency};
use zeroauth_audit_core::proof::Anchor;

use crate::verdict::{Anchored, Finding, Verdict};

/// What evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The root was fixed: when and where, in words.
    Holds(String),
    /// It was not, or the evidence is for another root.
    Refuted(String),
    /// Nobody can say here, and why.
    NotChecked(String),
}

/// Checks the evidence of anchors.
pub trait Evidence {
    /// Whether `payload`, of an anchor of this kind, shows that a batch with the root `root` was fixed outside.
    fn check(&self, kind: &str, root: &Digest, payload: &str) -> Said;
}

/// Has no check for any kind.
pub struct NoEvidence;

impl Evidence for NoEvidence {
    fn check(&self, kind: &str, _root: &Digest, _payload: &str) -> Said {
        Said::NotChecked(format!("this program has no check for the evidence of {kind} anchors"))
    }
}

/// Looks at one anchor of a bundle whose checkpoint is `bundled` and whose event is leaf `index`.
pub fn verify(
    anchor: &Anchor,
    bundled: &Checkpoint,
    tenant: &str,
    index: u64,
    evidence: &dyn Evidence,
    verdict: &mut Verdict,
) {
    let mut report = Anchored {
        kind: anchor.kind.clone(),
        tree_size: anchor.tree_size,
        batch_root: None,
        result: String::new(),
    };
    let mut mismatch = |what: String, report: &mut Anchored| {
        verdict.found(Finding::new("anchor_mismatch", tenant, format!("{} anchor: {what}", anchor.kind)));
        report.result = what;
    };
    let anchored = Checkpoint { origin: bundled.origin.clone(), size: anchor.tree_size, root: anchor.root };
    let (older, newer) =
        if anchored.size <= bundled.size { (&anchored, bundled) } else { (bundled, &anchored) };
    let continues = verify_consistency(older.size, newer.size, &older.root, &newer.root, &anchor.consistency);
    let body = leaf_hash(anchored.body().as_bytes());
    let batch = inclusion_root(anchor.batch_index, anchor.batch_size, &body, &anchor.batch_path);
    match (continues, batch) {
        (Err(error), _) => {
            mismatch(format!("the anchored checkpoint is not of the same log: {error}"), &mut report);
        }
        (_, Err(error)) => mismatch(format!("the path in the batch: {error}"), &mut report),
        (Ok(()), Ok(root)) => {
            report.batch_root = Some(root.to_string());
            let covers = anchored.size > index;
            match evidence.check(&anchor.kind, &root, &anchor.payload) {
                Said::Refuted(why) => mismatch(why, &mut report),
                Said::Holds(_) if !covers => {
                    report.result = "older than the event: says nothing of it".into()
                }
                Said::Holds(when) => report.result = when,
                Said::NotChecked(why) => {
                    verdict.note(format!("not checked: {} anchor: {why}", anchor.kind));
                    report.result = format!("not checked: {why}");
                }
            }
        }
    }
    verdict.anchors.push(report);
}
