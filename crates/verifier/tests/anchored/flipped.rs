//! Every byte of a bundle with an anchor of each kind, flipped in several ways.

use zeroauth_audit_anchor::rfc3161::token::Authorities;
use zeroauth_audit_core::proof::{Anchor, Bundle};
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_verifier::bundle;
use zeroauth_audit_verifier::outside::Outside;
use zeroauth_audit_verifier::verdict::{AnchorOutcome, Outcome, Verdict};

use super::anvil::Anvil;
use super::made::Made;
use super::trail;

/// The least significant bit, the bit that tells upper case from lower case, and the one that ASCII does not have.
const FLIPS: [u8; 3] = [1, 0x20, 0x80];

fn judge(text: &[u8], outside: &Outside) -> Verdict {
    let mut trust = Trust::new();
    trust.add_log(trail::key().verifier_key()).unwrap();
    let mut verdict = Verdict::new("verify-bundle", "bundle");
    bundle::verify(text, "bundle", &trust, outside, &mut verdict);
    verdict
}

/// Whatever is flipped is tampered or could not be checked, and never verified.
fn flip(made: &Made, anchor: Anchor, outside: &Outside) {
    let kind = anchor.kind.clone();
    let text = Bundle { anchors: vec![anchor], ..made.bundle.clone() }.format().into_bytes();
    let whole = judge(&text, outside);
    assert_eq!(whole.verdict, Outcome::Verified, "{}", whole.text());
    assert_eq!(whole.anchors[0].outcome, AnchorOutcome::Verified, "{}", whole.text());
    let (mut unseen, mut outcomes) = (Vec::new(), [0; 3]);
    for at in 0..text.len() {
        for flip in FLIPS {
            let mut changed = text.clone();
            changed[at] ^= flip;
            let verdict = judge(&changed, outside).verdict;
            outcomes[usize::from(verdict.exit_code())] += 1;
            if verdict == Outcome::Verified {
                let from = at.saturating_sub(40);
                let near = String::from_utf8_lossy(&changed[from..(at + 20).min(text.len())]).into_owned();
                unseen.push(format!("byte {at} ^ {flip:#x}: {near:?}"));
            }
        }
    }
    assert!(unseen.is_empty(), "{kind}: {} unseen: {:#?}", unseen.len(), &unseen[..unseen.len().min(20)]);
    // Both happen: it is not that nothing can be read any more.
    assert!(outcomes[1] > text.len() / 2 && outcomes[2] > text.len() / 2, "{kind}: {outcomes:?}");
}

#[test]
fn of_a_bundle_with_an_entry_of_an_anchor_file() {
    let made = Made::new();
    flip(&made, made.file(), &Outside::with_keys(vec![trail::key().verifier_key()]));
}

#[test]
fn of_a_bundle_with_a_time_stamp() {
    let made = Made::new();
    let anchor = made.stamp();
    let mut outside = Outside::default();
    let roots = std::fs::read(made.at("tsa.pem")).unwrap();
    outside.trust.authorities = Authorities::from_pem(&roots).unwrap();
    flip(&made, anchor, &outside);
}

#[test]
fn of_a_bundle_with_an_anchor_in_a_contract() {
    let (made, anvil) = (Made::new(), Anvil::start());
    let deployed = made.deploy(&anvil);
    let anchor = made.evm(&anvil, &deployed["config"]);
    let evidence: serde_json::Value = serde_json::from_str(&anchor.payload).unwrap();
    let block = evidence["block_hash"].as_str().unwrap().parse().unwrap();
    flip(&made, anchor, &Outside { blocks: vec![block], ..Outside::default() });
}
