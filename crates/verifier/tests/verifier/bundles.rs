//! Proof bundles: one event to a signed checkpoint, and anchors.

use zeroauth_audit_anchor::batch::{Hash, Moment, Seal};
use zeroauth_audit_anchor::evidence::{RestsOn, Verdict as Proven};
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::proof::{Anchor, Bundle};
use zeroauth_audit_core::tile::{TileSource, consistency_proof};
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_verifier::anchor::{Claim, Evidence, Said, require};
use zeroauth_audit_verifier::bundle;
use zeroauth_audit_verifier::outside::Outside;
use zeroauth_audit_verifier::verdict::{AnchorOutcome, Outcome, Verdict};

use super::trail::{self, Trail};
use super::{places, trust};

/// Leaves as tiles.
pub struct Leaves<'a>(pub &'a [Digest]);

impl TileSource for Leaves<'_> {
    type Error = std::convert::Infallible;

    fn tile(&self, level: u8, index: u64, _width: u16) -> Result<Vec<Digest>, Self::Error> {
        let each = 256_usize.pow(u32::from(level));
        let tiles = self.0.chunks_exact(each).skip(index as usize * 256).take(256);
        Ok(tiles.map(|leaves| Tree::new(leaves.to_vec()).root()).collect())
    }
}

/// Event 6 of chain 1 of a tenant with 300 events and more, in the newest checkpoint.
fn made() -> (Trail, Checkpoint, Checkpoint, Bundle) {
    let mut trail = Trail::new("a b");
    trail.append(0, 200);
    trail.append(1, 90);
    let older = trail.seal();
    trail.append(0, 41);
    let newer = trail.seal();
    let index = 205;
    let path = Tree::new(trail.leaves.clone()).inclusion_proof(index).unwrap();
    let bundle = Bundle {
        index,
        path,
        extra: None,
        log: None,
        checkpoint: newer.sign(&trail::key(), trail::BEGIN).unwrap(),
        event: Some(trail.chains[1].0[5].clone()),
        anchors: Vec::new(),
    };
    (trail, older, newer, bundle)
}

fn judge(bundle: &Bundle, evidence: &dyn Evidence) -> Verdict {
    judge_text(&bundle.format(), evidence)
}

fn judge_text(text: &str, evidence: &dyn Evidence) -> Verdict {
    let mut verdict = Verdict::new("verify-bundle", "bundle");
    bundle::verify(text.as_bytes(), "bundle", &trust(), evidence, &mut verdict);
    verdict
}

/// An anchor of `checkpoint` in a batch of three.
fn anchor(trail: &Trail, checkpoint: &Checkpoint, bundled: &Checkpoint) -> (Anchor, Digest) {
    let (old, new) = (checkpoint.size.min(bundled.size), checkpoint.size.max(bundled.size));
    let body = leaf_hash(checkpoint.body().as_bytes());
    let batch = Tree::new(vec![leaf_hash(b"one"), body, leaf_hash(b"three")]);
    let anchor = Anchor {
        kind: "file".into(),
        tree_size: checkpoint.size,
        root: checkpoint.root,
        consistency: consistency_proof(old, new, &Leaves(&trail.leaves)).unwrap(),
        batch_index: 1,
        batch_size: 3,
        batch_path: batch.inclusion_proof(1).unwrap(),
        payload: "{}".into(),
    };
    (anchor, batch.root())
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
                    seal: Seal { root: Hash(*self.0.as_bytes()), size: claim.leaves, batch_time: Moment(0) },
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
    let (_, _, _, bundle) = made();
    let verdict = judge(&bundle, &Outside::default());
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
    assert_eq!(verdict.checkpoints[0].result, "contains the event");
}

#[test]
fn a_bundle_as_psql_writes_it_to_a_file_is_read_and_one_with_more_behind_it_is_not() {
    let text = made().3.format();
    assert!(text.ends_with('\n'));
    let outcome = |text: &str| judge_text(text, &Outside::default()).verdict;
    assert_eq!(outcome(&format!("{text}\n")), Outcome::Verified);
    for more in ["\n\n", " ", "x\n", "\nx\n"] {
        assert_eq!(outcome(&format!("{text}{more}")), Outcome::CouldNotCheck, "{more:?}");
    }
}

#[test]
fn pitfall_41_red_team_d1_a_key_that_no_hash_covers_keeps_a_bundle_from_being_checked_and_is_named() {
    let (_, _, _, bundle) = made();
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
fn data_of_a_proof_that_nothing_vouches_for_are_mentioned() {
    let with = Bundle { extra: Some(b"approved".to_vec()), ..made().3 };
    let verdict = judge(&with, &Outside::default());
    assert_eq!(verdict.verdict, Outcome::Verified);
    assert!(verdict.text().contains("extra data: nothing vouches for them"), "{}", verdict.text());
}

#[test]
fn any_flipped_byte_of_a_bundle_is_tampered_or_could_not_be_checked_and_never_verified() {
    let (_, _, _, bundle) = made();
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
    let (trail, _, _, bundle) = made();
    let event = bundle.event.clone().unwrap();
    let changed = Bundle { event: Some(event.replace("success", "failure")), ..bundle.clone() };
    assert_eq!(places(&judge(&changed, &Outside::default())), [("content_mismatch", Some(1), Some(6))]);
    // Its neighbour, whole, with the proof of this one.
    let other = Bundle { event: Some(trail.chains[1].0[6].clone()), ..bundle.clone() };
    assert_eq!(places(&judge(&other, &Outside::default())), [("checkpoint_mismatch", Some(1), Some(7))]);
    let elsewhere = Bundle { index: bundle.index + 1, ..bundle };
    assert_eq!(places(&judge(&elsewhere, &Outside::default())), [("checkpoint_mismatch", Some(1), Some(6))]);
}

#[test]
fn the_checkpoint_of_a_changed_event_vouches_for_the_recorded_hash_only() {
    const NOTE: &str =
        "note: the checkpoint and its anchors vouch for the recorded hash, not for the shown fields\n";
    let (_, _, _, bundle) = made();
    let event = bundle.event.clone().unwrap();
    let changed = Bundle { event: Some(event.replace("success", "failure")), ..bundle.clone() };
    let verdict = judge(&changed, &Outside::default());
    assert_eq!(
        verdict.checkpoints[0].result,
        "contains the recorded hash, which the shown fields do not have"
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
        "contains the recorded hash, and it is not known whether the shown fields have it"
    );
}

#[test]
fn the_log_of_another_tenant_proves_nothing() {
    let (_, _, newer, bundle) = made();
    let origin = format!("{}/other", trail::BASE);
    let checkpoint = Checkpoint { origin, ..newer };
    let other = Bundle { checkpoint: checkpoint.sign(&trail::key(), 1).unwrap(), ..bundle };
    let verdict = judge(&other, &Outside::default());
    assert!(verdict.findings[0].detail.contains("of tenant \"other\""), "{}", verdict.text());
}

#[test]
fn a_checkpoint_by_a_key_that_is_not_trusted_could_not_be_checked() {
    let (_, _, newer, bundle) = made();
    let stranger = SigningKey::from_seed(trail::BASE, &[8; 32]).unwrap();
    let other = Bundle { checkpoint: newer.sign(&stranger, 1).unwrap(), ..bundle.clone() };
    assert_eq!(judge(&other, &Outside::default()).verdict, Outcome::CouldNotCheck);
    let changed = bundle.checkpoint.replace("\n331\n", "\n332\n");
    assert_ne!(changed, bundle.checkpoint);
    let forged = Bundle { checkpoint: changed, ..bundle };
    assert_eq!(judge(&forged, &Outside::default()).verdict, Outcome::Tampered);
}

#[test]
fn a_tlog_proof_without_an_event_proves_nothing_by_itself() {
    let (_, _, _, bundle) = made();
    assert_eq!(judge_text(&bundle.tlog_proof(), &Outside::default()).verdict, Outcome::CouldNotCheck);
}

#[test]
fn a_malformed_event_is_named_with_its_place_in_the_bundle() {
    let (_, _, _, bundle) = made();
    let text = bundle.format().replacen("\"chain\":\"1\"", "\"chain\":1", 1);
    let trouble = judge_text(&text, &Outside::default()).troubles[0].clone();
    let byte = text.find("\"chain\":1").unwrap() + 8;
    assert_eq!(trouble.byte, Some(byte as u64), "{trouble:?}");
    let line = text[..byte].matches('\n').count() + 1;
    assert_eq!(trouble.line, Some(line as u64));
}

#[test]
fn anchors_of_older_and_newer_checkpoints_hold_when_the_log_is_the_same() {
    let (trail, older, newer, bundle) = made();
    for checkpoint in [&older, &newer] {
        let (anchor, root) = anchor(&trail, checkpoint, &newer);
        let anchored = Bundle { anchors: vec![anchor], ..bundle.clone() };
        let verdict = judge(&anchored, &Fixed(root));
        assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
        assert_eq!(verdict.anchors[0].result, "fixed yesterday");
        assert_eq!(verdict.anchors[0].batch_root, Some(root.to_string()));
        assert_eq!(verdict.notes, ["file anchor: look again tomorrow"]);
    }
    // The bundle's checkpoint may be the older one.
    let path = Tree::new(trail.leaves[..older.size as usize].to_vec()).inclusion_proof(205).unwrap();
    let checkpoint = older.sign(&trail::key(), 1).unwrap();
    let (anchor, root) = anchor(&trail, &newer, &older);
    let anchored = Bundle { path, checkpoint, anchors: vec![anchor], ..bundle };
    let verdict = judge(&anchored, &Fixed(root));
    assert_eq!(verdict.verdict, Outcome::Verified, "{}", verdict.text());
}

#[test]
fn an_anchor_of_another_log_or_another_batch_is_a_mismatch() {
    let (trail, older, newer, bundle) = made();
    let (right, root) = anchor(&trail, &older, &newer);
    let with = |anchor: Anchor| judge(&Bundle { anchors: vec![anchor], ..bundle.clone() }, &Fixed(root));
    let mismatch = |anchor: Anchor, why: &str| {
        let verdict = with(anchor);
        assert_eq!(places(&verdict), [("anchor_mismatch", None, None)]);
        assert!(verdict.findings[0].detail.contains(why), "{}", verdict.text());
    };
    mismatch(Anchor { root: leaf_hash(b"x"), ..right.clone() }, "not of the same log");
    mismatch(Anchor { tree_size: 1 << 40, ..right.clone() }, "not of the same log");
    mismatch(Anchor { batch_index: 0, ..right.clone() }, "another root was fixed");
    mismatch(Anchor { batch_index: 3, ..right.clone() }, "the path in the batch");
    mismatch(Anchor { batch_path: vec![], ..right.clone() }, "the path in the batch");
}

#[test]
fn what_nobody_asked_for_is_said_not_to_be_checked_and_what_cannot_be_told_could_not_be() {
    let (trail, older, newer, bundle) = made();
    let (anchor, root) = anchor(&trail, &older, &newer);
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
    let (trail, older, newer, bundle) = made();
    let (anchor, root) = anchor(&trail, &older, &newer);
    let twice = Bundle { anchors: vec![anchor.clone(), anchor], ..bundle };
    let mut verdict = judge(&twice, &Fixed(root));
    require(1, "bundle", &mut verdict);
    assert_eq!(verdict.verdict, Outcome::Verified);
    require(2, "bundle", &mut verdict);
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck);
    assert_eq!(verdict.troubles[0].what, "verified anchors: 1, and 2 are required");
}

#[test]
fn an_anchor_older_than_the_event_says_nothing_of_it() {
    let mut trail = Trail::new("a");
    trail.append(0, 4);
    let older = trail.seal();
    trail.append(0, 4);
    let newer = trail.seal();
    let (anchor, root) = anchor(&trail, &older, &newer);
    let bundle = Bundle {
        index: 5,
        path: Tree::new(trail.leaves.clone()).inclusion_proof(5).unwrap(),
        extra: None,
        log: None,
        checkpoint: newer.sign(&trail::key(), 1).unwrap(),
        event: Some(trail.chains[0].0[5].clone()),
        anchors: vec![anchor],
    };
    let verdict = judge(&bundle, &Fixed(root));
    assert_eq!(verdict.verdict, Outcome::Verified);
    assert_eq!(verdict.anchors[0].result, "older than the event: says nothing of it");
    let mut verdict = verdict;
    require(1, "bundle", &mut verdict);
    assert_eq!(verdict.verdict, Outcome::CouldNotCheck, "it counted");
}
