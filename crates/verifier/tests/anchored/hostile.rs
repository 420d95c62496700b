//! Evidence that is of something else, or made to break whoever reads it.

use serde_json::{Value, json};
use zeroauth_audit_anchor::batch::{Batch, Hash};
use zeroauth_audit_core::proof::Anchor;
use zeroauth_audit_core::proof::anchor::MAX_PAYLOAD;

use super::made::Made;
use super::{judge, trail};

/// Exit code, and what is said of the one anchor.
fn said(made: &Made, anchor: Anchor) -> (i32, String) {
    let bundle = made.with("bundle", vec![anchor]);
    let (code, verdict) = judge(&[&bundle, "--key", &made.at("log.pub"), "--block-hash", &"00".repeat(32)]);
    (code, verdict["anchors"][0]["result"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn true_evidence_of_another_batch_another_size_or_another_registry_is_a_mismatch() {
    let made = Made::new();
    let own = made.batch();
    let with = |batch: Batch| made.anchor("file", &made.file_evidence(&trail::key(), &batch));
    let cases = [
        (Batch { root: Hash([7; 32]), epoch: 2, ..own }, "of another root"),
        (Batch { size: 4, epoch: 3, ..own }, "4 entries were anchored, not 2"),
        (Batch { log_id: Hash([7; 32]), ..own }, "it is of another registry"),
    ];
    for (batch, why) in cases {
        let (code, result) = said(&made, with(batch));
        assert_eq!(code, 1, "{result}");
        assert!(result.contains(why), "{result}");
    }
    assert_eq!(said(&made, with(Batch { epoch: 9, ..own })).0, 0, "the honest one");
}

#[test]
fn evidence_that_cannot_be_read_could_not_be_checked() {
    let made = Made::new();
    let honest = made.file();
    let note: Value = serde_json::from_str(&honest.payload).unwrap();
    let payload = |text: String| Anchor { payload: text, ..honest.clone() };
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let huge = format!("{{\"version\": 1, \"note\": \"{}\"}}", "x".repeat(MAX_PAYLOAD - 40));
    let mut cases = vec![
        payload("{}".into()),
        payload("null".into()),
        payload("x".into()),
        payload(deep),
        payload(huge),
        payload(honest.payload.replacen("{", "{\"version\": 1, ", 1)),
        payload(honest.payload.replacen("\"version\": 1", "\"version\": 1.0", 1)),
        payload(honest.payload.replacen("\"version\": 1", "\"version\": 2", 1)),
        payload(honest.payload.replacen("{", "{\"more\": 1, ", 1)),
        payload(json!({ "version": 1, "note": "no note" }).to_string()),
        Anchor { kind: "pigeon".into(), ..honest.clone() },
    ];
    // Evidence of one kind under the name of another.
    for kind in ["evm", "rfc3161"] {
        cases.push(Anchor { kind: kind.into(), ..honest.clone() });
    }
    let zeros = format!("0x{}", "00".repeat(32));
    let evm = json!({
        "version": 1, "chain_id": 1, "contract": format!("0x{}", "00".repeat(20)), "log_id": zeros, "epoch": 1,
        "block_hash": "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470", "header": "0x",
        "receipt_index": 0, "receipt": "0x", "receipt_proof": [], "log_index": u64::MAX, "transaction": "0x"
    });
    cases.push(Anchor { kind: "evm".into(), payload: evm.to_string(), ..honest.clone() });
    let token = json!({
        "version": 1, "log_id": zeros, "epoch": 1, "seal": { "root": zeros, "size": 3, "batch_time": 0 }, "token": "30"
    });
    cases.push(Anchor { kind: "rfc3161".into(), payload: token.to_string(), ..honest.clone() });
    for anchor in cases {
        let about = format!("{} {:.100}", anchor.kind, anchor.payload);
        let (code, result) = said(&made, anchor);
        assert_eq!(code, 2, "{about}: {result}");
        assert!(result.starts_with("could not check: "), "{about}: {result}");
    }
    // The header of the evidence above is nothing, and its hash is right: one byte of it, and it is of another block.
    let other = evm.to_string().replace("\"header\":\"0x\"", "\"header\":\"0x00\"");
    assert_eq!(said(&made, Anchor { kind: "evm".into(), payload: other, ..honest.clone() }).0, 1);
    // A signature by a trusted key that does not hold is a forgery, not a riddle.
    let forged = note["note"].as_str().unwrap().replacen("epoch 1\n", "epoch 2\n", 1);
    let (code, result) = said(&made, payload(json!({ "version": 1, "note": forged }).to_string()));
    assert_eq!(code, 1, "{result}");
}
