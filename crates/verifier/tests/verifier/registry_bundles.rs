//! Bundles of the registry: an event, the entry of its log, the registry's checkpoint.

use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::{Algorithm, SigningKey};
use zeroauth_audit_core::proof::{Bundle, InLog};
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_verifier::bundle;
use zeroauth_audit_verifier::outside::Outside;
use zeroauth_audit_verifier::verdict::{Outcome, Verdict};

use super::registry::Registry;
use super::trail::Trail;
use super::trust;

const INDEX: u64 = 205;

struct Made {
    trail: Trail,
    registry: Registry,
    bundle: Bundle,
}

/// Event 6 of chain 1, leaf 205 of a log of 331, which is entry 3 of a registry.
fn made() -> Made {
    let (mut trail, mut registry) = (Trail::new("a b"), Registry::new());
    trail.append(0, 200);
    trail.append(1, 90);
    trail.seal();
    trail.append(0, 41);
    let sealed = trail.seal();
    registry.entries.push(Entry::SnapshotBegin);
    registry.log("other", &sealed);
    let (entry, checkpoint) = registry.log("a b", &sealed);
    let bundle = registry.bundle(&checkpoint, entry, &trail, INDEX, &trail.chains[1].0[5]);
    Made { trail, registry, bundle }
}

fn judge(bundle: &Bundle, monitors: &[&SigningKey]) -> Verdict {
    let mut trust = trust();
    for key in monitors {
        let key = key.verifier_key().renamed(key.name(), Algorithm::CosignatureV1);
        trust.add_monitor(key).unwrap();
    }
    let text = bundle.format();
    assert_eq!(Bundle::parse(text.as_bytes()).unwrap(), *bundle, "it is read as it was written");
    let mut verdict = Verdict::new("verify-bundle", "bundle");
    bundle::verify(text.as_bytes(), "bundle", &trust, &Outside::default(), &mut verdict);
    verdict
}

#[test]
fn an_event_is_verified_as_was_claimed_and_with_a_monitor_as_of_a_log_that_only_grew() {
    let made = made();
    let claimed = judge(&made.bundle, &[]);
    assert_eq!(claimed.verdict, Outcome::Verified, "{}", claimed.text());
    assert_eq!(claimed.checkpoints[0].result, "contains the event, as was claimed");
    assert!(claimed.text().contains("that the log only grew is shown by run files"), "{}", claimed.text());

    let monitor = SigningKey::from_seed("monitor.example", &[5; 32]).unwrap();
    let mut bundle = made.bundle.clone();
    let body = bundle.checkpoint.split("\n\n").next().unwrap().to_owned() + "\n";
    bundle.checkpoint += &monitor.cosign(monitor.name(), 9, &body).unwrap();
    let grew = judge(&bundle, &[&monitor]);
    assert_eq!(
        grew.checkpoints[0].result,
        "contains the event, and every log only grew, says monitor.example"
    );
    // A monitor that nobody trusts says nothing.
    assert_eq!(judge(&bundle, &[]).checkpoints[0].result, "contains the event, as was claimed");
    let other = SigningKey::from_seed("monitor.example", &[6; 32]).unwrap();
    assert_eq!(judge(&bundle, &[&other]).checkpoints[0].result, "contains the event, as was claimed");
}

#[test]
fn whatever_does_not_lead_from_the_event_to_the_checkpoint_is_a_finding() {
    let Made { trail, mut registry, bundle } = made();
    let place = bundle.log.clone().unwrap();
    let with = |change: &dyn Fn(&mut Bundle)| {
        let mut changed = bundle.clone();
        change(&mut changed);
        let verdict = judge(&changed, &[]);
        assert_eq!(verdict.verdict, Outcome::Tampered, "{}", verdict.text());
        verdict.findings[0].detail.clone()
    };
    let in_log = |change: &dyn Fn(&mut InLog)| with(&|bundle| change(bundle.log.as_mut().unwrap()));
    assert!(in_log(&|place| place.index = 204).starts_with("the event is not in the log"));
    assert!(in_log(&|place| place.path.truncate(3)).starts_with("the event is not in the log"));
    assert!(in_log(&|place| place.names = NameKey::new([4; 32])).contains("is of another tenant"));
    assert!(with(&|bundle| bundle.index = 2).starts_with("the entry is not in the registry"));
    assert!(with(&|bundle| bundle.path.truncate(1)).starts_with("the entry is not in the registry"));
    // The entry of another tenant, at its place, with the very same tree.
    let tree = Tree::new(registry.leaves());
    let other = with(&|bundle| {
        bundle.extra = Some(registry.entries[2].text().into_bytes());
        (bundle.index, bundle.path) = (2, tree.inclusion_proof(2).unwrap());
    });
    assert!(other.contains("is of another tenant"), "{other}");
    // An entry that nobody sealed.
    let root = Tree::new(trail.leaves.iter().rev().copied().collect()).root();
    registry.log("a b", &Checkpoint { origin: String::new(), size: 331, root });
    let forged = registry.entries.pop().unwrap().text().into_bytes();
    assert!(with(&|bundle| bundle.extra = Some(forged.clone())).starts_with("the entry is not in the"));
    let event = bundle.event.clone().unwrap();
    let changed = with(&|bundle| bundle.event = Some(event.replace("success", "failure")));
    assert_eq!(changed, "the fields do not have the recorded hash");
    assert_eq!(place, made().bundle.log.unwrap());
}

#[test]
fn what_is_no_entry_of_a_log_cannot_be_checked() {
    let made = made();
    for extra in [made.registry.entries[0].text(), "zeroauth.audit/entry/v2\n".into(), "approved".into()] {
        let bundle = Bundle { extra: Some(extra.into_bytes()), ..made.bundle.clone() };
        let verdict = judge(&bundle, &[]);
        assert_eq!(verdict.verdict, Outcome::CouldNotCheck, "{}", verdict.text());
    }
    let text = made.bundle.format();
    for (from, to) in [
        ("--- log\nnames ", "--- log\nname "),
        ("\n--- event", "\n--- log\n--- event"),
        ("extra ", "index 3\n"),
    ] {
        assert!(Bundle::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from:?}");
    }
    assert!(!format!("{:?}", made.bundle).contains("names"), "the key of names is not printed");
}
