//! Proof bundles: one event to a signed checkpoint, and anchors.

use zeroauth_audit_anchor::batch::{Hash, Moment, Seal};
use zeroauth_audit_anchor::evidence::{RestsOn, Verdict as Proven};
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::proof::{Anchor, Bundle, InLog};
use zeroauth_audit_verifier::anchor::{Claim, Evidence, Said, require};
use zeroauth_audit_verifier::bundle;
use zeroauth_audit_verifier::outside::Outside;
use zeroauth_audit_verifier::verdict::{AnchorOutcome, Outcome, Verdict};

use super::registry::Registry;
use super::trail::{self, Trail};
use super::{places, trust};

struct Made {
    trail: Trail,
    registry: Registry,
    /// The registry before and after the log grew once more.
    older: Checkpoint,
    newer: Checkpoint,
    bundle: Bundle,
}

/// Event 6 of chain 1, leaf 205 of a log that had 290 events in entry 1 of the registry, and 331 in entry 3.
fn made() -> Made {
    let (mut trail, mut registry) = (Trail::new("a b"), Registry::new());
    trail.append(0, 200);
    trail.append(1, 90);
    let (entry, older) = registry.log("a b", &trail.seal());
    trail.append(0, 41);
    let sealed = trail.seal();
    registry.log("other", &sealed);
    let (_, newer) = registry.log("a b", &sealed);
    let bundle = registry.bundle(&newer, entry, &trail, 205, &trail.chains[1].0[5]);
    Made { trail, registry, older, newer, bundle }
}

fn judge(bundle: &Bundle, evidence: &dyn Evidence) -> Verdict {
    judge_text(&bundle.format(), evidence)
}

fn judge_text(text: &str, evidence: &dyn Evidence) -> Verdict {
    let mut verdict = Verdict::new("verify-bundle", "bundle");
    bundle::verify(text.as_bytes(), "bundle", &trust(), evidence, &mut verdict);
    verdict
}

/// An anchor of the registry's state `anchored`, in a bundle of its state `bundled`.
fn anchor(registry: &Registry, anchored: &Checkpoint, bundled: &Checkpoint) -> Anchor {
    Anchor {
        kind: "file".into(),
        tree_size: anchored.size,
        root: anchored.root,
        consistency: registry.consistency(anchored, bundled),
        payload: "{}".into(),
    }
}

/// Knows of one root that was fixed.
struct Fixed(Digest);

impl Evidence for Fixed {
    fn check(&self, claim: &Claim<'_>) -> Said {
        match claim.kind {
            "file" if claim.root == self.0 => Said::Holds {
                evidence: Box::new(Proven {
                    log_id: None,
                    epoch: None,
                    seal: Seal { root: Hash(*self.0.as_bytes()), size: claim.size, batch_time: Moment(0) },
                    anchored_at: Moment(0),
                    rests_on: RestsOn::Key { name: "somebody".into() },
                }),
                by: "fixed yesterday".into(),
                notes: vec!["look again tomorrow".into()],
            },
            "file" => Said::Refuted("another root was fixed".into()),
            "evm" => Said::NotAsked("no block is trusted".into()),
            other => Said::Unknown(format!("no check for {other}")),
        }
    }
}

#[test]
fn an_event_in_a_signed_log_is_verified() {
    let verdict = judge(&made().bundle, &Outside::default());
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert_eq!(verdict.checkpoints[0].result, "contains the event, as was claimed");
}

#[test]
fn a_bundle_as_psql_writes_it_to_a_file_is_read_and_one_with_more_behind_it_is_not() {
    let text = made().bundle.format();
    assert!(text.ends_with('\n'));
    let outcome = |text: &str| judge_text(text, &Outside::default()).verdict;
    assert_eq!(outcome(&format!("{text}\n")), Outcome::Verified);
    for more in ["\n\n", " ", "x\n", "\nx\n"] {
        assert_eq!(outcome(&format!("{text}{more}")), Outcome::CouldNotCheck, "{more:?}");
    }
}

#[test]
fn pitfall_41_red_team_d1_a_key_that_no_hash_covers_keeps_a_bundle_from_being_checked_and_is_named() {
    let bundle = made().bundle;
    for key in ["Action", "outcome_final", "act\\u0131on"] {
        let event = bundle.event.clone().unwrap();
        let more = event.replace("\"outcome\":", &format!("\"{key}\":\"b\",\"outcome\":"));
        let verdict = judge(&Bundle { event: Some(more), ..bundle.clone() }, &Outside::default());
        assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
        let shown = key.replace("\\u0131", "\u{131}");
        let expected = format!("the event: unknown key {shown:?}, which no hash covers");
        assert_eq!(verdict.troubles[0].what, expected);
        assert_eq!(verdict.troubles.len(), 1);
    }
}

#[test]
fn a_proof_that_does_not_say_where_in_its_log_the_event_is_could_not_be_checked() {
    let without = Bundle { log: None, ..made().bundle };
    let verdict = judge(&without, &Outside::default());
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert_eq!(verdict.troubles[0].what, "it does not say where in its tenant's log the event is");
}

#[test]
fn any_flipped_byte_of_a_bundle_is_tampered_or_could_not_be_checked_and_never_verified() {
    let bundle = made().bundle;
    let text = bundle.format().into_bytes();
    let mut outcomes = [0; 3];
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1;
        let mut verdict = Verdict::new("verify-bundle", "bundle");
        bundle::verify(&changed, "bundle", &trust(), &Outside::default(), &mut verdict);
        assert_ne!(verdict.verdict, Outcome::Verified, "byte {at}: {}", String::from_utf8_lossy(&changed));
        outcomes[usize::from(verdict.verdict.exit_code())] += 1;
    }
    assert!(outcomes[1] > text.len() / 2, "{outcomes:?}");
}

#[test]
fn a_changed_event_is_named_and_a_forged_one_is_not_in_the_log() {
    let Made { trail, bundle, .. } = made();
    let event = bundle.event.clone().unwrap();
    let changed = Bundle { event: Some(event.replace("success", "failure")), ..bundle.clone() };
    assert_eq!(places(&judge(&changed, &Outside::default())), [("content_mismatch", Some(1), Some(6))]);
    // Its neighbour, whole, with the proof of this one.
    let other = Bundle { event: Some(trail.chains[1].0[6].clone()), ..bundle.clone() };
    assert_eq!(places(&judge(&other, &Outside::default())), [("checkpoint_mismatch", Some(1), Some(7))]);
    let place = bundle.log.clone().map(|place| InLog { index: place.index + 1, ..place });
    let elsewhere = Bundle { log: place, ..bundle };
    assert_eq!(places(&judge(&elsewhere, &Outside::default())), [("checkpoint_mismatch", Some(1), Some(6))]);
}

#[test]
fn the_checkpoint_of_a_changed_event_vouches_for_the_recorded_hash_only() {
    const NOTE: &str =
        "note: the checkpoint and its anchors vouch for the recorded hash, not for the shown fields\n";
    let bundle = made().bundle;
    let event = bundle.event.clone().unwrap();
    let changed = Bundle { event: Some(event.replace("success", "failure")), ..bundle.clone() };
    let verdict = judge(&changed, &Outside::default());
    assert_eq!(
        verdict.checkpoints[0].result,
        "contains the recorded hash, which the shown fields do not have, as was claimed"
    );
    assert!(verdict.text().ends_with(NOTE), "{}", verdict.text());
    assert!(
        !judge(&bundle, &Outside::default()).text().contains("vouch"),
        "a whole event needs no such note"
    );
    // A version of the hash that is not known: the fields were neither confirmed nor refuted.
    let unknown =
        Bundle { event: Some(event.replace("\"hash_version\":\"1\"", "\"hash_version\":\"9\"")), ..bundle };
    let verdict = judge(&unknown, &Outside::default());
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck, "{}", verdict.text());
    assert_eq!(
        verdict.checkpoints[0].result,
        "contains the recorded hash, and it is not known whether the shown fields have it, as was claimed"
    );
}

#[test]
fn a_checkpoint_by_a_key_that_is_not_trusted_could_not_be_checked() {
    let Made { newer, bundle, .. } = made();
    let stranger = SigningKey::from_seed(trail::BASE, &[8; 32]).unwrap();
    let other = Bundle { checkpoint: newer.sign(&stranger, 1).unwrap(), ..bundle.clone() };
    assert_eq!(judge(&other, &Outside::default()).verdict, Outcome::CouldNotCheck);
    let changed = bundle.checkpoint.replace("\n4\n", "\n5\n");
    assert_ne!(changed, bundle.checkpoint);
    let forged = Bundle { checkpoint: changed, ..bundle };
    assert_eq!(judge(&forged, &Outside::default()).verdict, Outcome::Tampered);
}

#[test]
fn a_tlog_proof_without_an_event_proves_nothing_by_itself() {
    let bundle = made().bundle;
    assert_eq!(judge_text(&bundle.tlog_proof(), &Outside::default()).verdict, Outcome::CouldNotCheck);
}

#[test]
fn a_malformed_event_is_named_with_its_place_in_the_bundle() {
    let bundle = made().bundle;
    let text = bundle.format().replacen("\"chain\":\"1\"", "\"chain\":1", 1);
    let trouble = judge_text(&text, &Outside::default()).troubles[0].clone();
    let byte = text.find("\"chain\":1").unwrap() + 8;
    assert_eq!(trouble.byte, Some(byte as u64), "{trouble:?}");
    let line = text[..byte].matches('\n').count() + 1;
    assert_eq!(trouble.line, Some(line as u64));
}

#[test]
fn anchors_of_older_and_newer_checkpoints_hold_when_the_registry_is_the_same() {
    let Made { trail, registry, older, newer, bundle } = made();
    for anchored in [&older, &newer] {
        let anchors = vec![anchor(&registry, anchored, &newer)];
        let verdict = judge(&Bundle { anchors, ..bundle.clone() }, &Fixed(anchored.root));
        assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
        assert_eq!(verdict.anchors[0].result, "fixed yesterday");
        assert_eq!(verdict.anchors[0].root, anchored.root.to_string());
        assert!(
            verdict.notes.contains(&"file anchor: look again tomorrow".to_owned()),
            "{:?}",
            verdict.notes
        );
    }
    // The bundle's checkpoint may be the older one.
    let mut bundle = registry.bundle(&older, bundle.index, &trail, 205, &trail.chains[1].0[5]);
    bundle.anchors = vec![anchor(&registry, &newer, &older)];
    let verdict = judge(&bundle, &Fixed(newer.root));
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
}

#[test]
fn an_anchor_of_another_registry_or_another_root_is_a_mismatch() {
    let Made { registry, older, newer, bundle, .. } = made();
    let right = anchor(&registry, &older, &newer);
    let mismatch = |anchor: Anchor, fixed: Digest, why: &str| {
        let verdict = judge(&Bundle { anchors: vec![anchor], ..bundle.clone() }, &Fixed(fixed));
        assert_eq!(places(&verdict), [("anchor_mismatch", None, None)]);
        assert!(verdict.findings[0].detail.contains(why), "{}", verdict.text());
    };
    mismatch(Anchor { root: leaf_hash(b"x"), ..right.clone() }, older.root, "not of the same registry");
    mismatch(Anchor { tree_size: 1 << 40, ..right.clone() }, older.root, "not of the same registry");
    mismatch(Anchor { consistency: vec![], ..right.clone() }, older.root, "not of the same registry");
    mismatch(right, leaf_hash(b"x"), "another root was fixed");
}

#[test]
fn what_nobody_asked_for_is_said_not_to_be_checked_and_what_cannot_be_told_could_not_be() {
    let Made { registry, older, newer, bundle, .. } = made();
    let (anchor, root) = (anchor(&registry, &older, &newer), older.root);
    let with = |kind: &str| {
        let anchor = Anchor { kind: kind.into(), ..anchor.clone() };
        judge(&Bundle { anchors: vec![anchor], ..bundle.clone() }, &Fixed(root))
    };
    let verdict = with("evm");
    assert_eq!(verdict.verdict, Outcome::Verified);
    assert_eq!(verdict.anchors[0].outcome, AnchorOutcome::NotChecked);
    assert!(verdict.text().contains("note: not checked: evm anchor: no block is trusted"));
    let verdict = with("pigeon");
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert_eq!(verdict.anchors[0].outcome, AnchorOutcome::NotChecked);
    assert_eq!(verdict.troubles[0].what, "pigeon anchor: no check for pigeon");
}

#[test]
fn fewer_anchors_than_are_required_could_not_be_checked_and_one_twice_is_one() {
    let Made { registry, older, newer, bundle, .. } = made();
    let (anchor, root) = (anchor(&registry, &older, &newer), older.root);
    let twice = Bundle { anchors: vec![anchor.clone(), anchor], ..bundle };
    let mut verdict = judge(&twice, &Fixed(root));
    require(1, "bundle", &mut verdict);
    assert_eq!(verdict.verdict, Outcome::Verified);
    require(2, "bundle", &mut verdict);
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert_eq!(verdict.troubles[0].what, "verified anchors: 1, and 2 are required");
}

#[test]
fn an_anchor_older_than_the_entry_says_nothing_of_the_event() {
    let Made { trail, registry, older, newer, .. } = made();
    // The newest event of chain 0, which is in the second state of the log alone.
    let mut bundle = registry.bundle(&newer, 3, &trail, 330, &trail.chains[0].0[240]);
    bundle.anchors = vec![anchor(&registry, &older, &newer)];
    let mut verdict = judge(&bundle, &Fixed(older.root));
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert_eq!(verdict.anchors[0].result, "older than the event: says nothing of it");
    require(1, "bundle", &mut verdict);
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck, "it counted");
}
