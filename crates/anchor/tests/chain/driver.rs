//! The driver against a real chain, when all is well: every signer, every step, and the evidence of it.

use serde_json::{Value, json};
use zeroauth_audit_anchor::Hash;
use zeroauth_audit_anchor::driver::Driver;
use zeroauth_audit_anchor::evidence::{Error, RestsOn, evm::Evidence};
use zeroauth_audit_anchor::failure::Failure;
use zeroauth_audit_anchor::machine::{Action, Phase};

use super::anvil::number;
use super::live::{KEY, Live, batch, secret};

#[test]
fn a_batch_goes_from_planned_to_finalized_in_one_transaction() {
    let mut live = Live::start();
    assert!(matches!(live.run(), Action::Wait(_)));
    assert_eq!(live.state().phase, Phase::Submitted);
    live.wait_included();
    live.sleep();
    live.run();
    let state = live.state();
    assert_eq!(state.phase, Phase::Included);
    assert!(!state.inclusion.unwrap().finalized);
    live.assert_anchored_once();
    let inclusion = live.state().inclusion.unwrap();
    assert_eq!(inclusion.seal, live.batch.seal());
    let receipt = live.anvil.receipt(&inclusion.id);
    assert_eq!(number(&receipt["blockNumber"]), inclusion.block_number.unwrap());
    let gas = number(&receipt["gasUsed"]);
    println!("gas of one batch of {} tenants: {gas}", live.batch.size);
    assert!(gas <= 100_000);
    assert_eq!(live.memory.notices, []);
    // And the next epoch.
    live.plan(batch(2));
    assert_eq!(live.finish(), Phase::Finalized);
    assert_eq!(live.events().len(), 2);
}

#[test]
fn another_run_without_blocks_sends_nothing_again() {
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    for _ in 0..5 {
        live.run();
        live.sleep();
    }
    let sent = live.second.methods().iter().filter(|method| *method == "eth_sendRawTransaction").count();
    assert_eq!((sent, live.state().attempt.unwrap().sends), (1, 1));
    live.assert_anchored_once();
}

fn evidence() -> (Live, Evidence) {
    let mut live = Live::start();
    live.assert_anchored_once();
    let evidence = serde_json::from_value(live.memory.evidence.clone().unwrap()).unwrap();
    (live, evidence)
}

#[test]
fn evidence_is_checked_offline_down_from_the_hash_of_the_block() {
    let (live, evidence) = evidence();
    let verdict = evidence.verify(&live.batch.root).unwrap();
    let inclusion = live.state().inclusion.unwrap();
    assert_eq!((verdict.epoch, verdict.seal), (Some(1), live.batch.seal()));
    assert_eq!(verdict.anchored_at, inclusion.anchored_at);
    let RestsOn::Block { chain_id, block_hash, anchorer, contract, transaction, .. } = verdict.rests_on
    else {
        panic!("{verdict:?}")
    };
    assert_eq!((chain_id, block_hash.to_string()), (31337, inclusion.block_hash.unwrap()));
    assert_eq!(transaction.to_string(), inclusion.id);
    assert_eq!(
        (anchorer.to_lowercase(), contract.to_lowercase()),
        (live.anchorer.to_lowercase(), live.contract.clone())
    );
    println!("evidence: {} bytes of JSON", serde_json::to_string(&evidence).unwrap().len());
}

#[test]
fn evidence_with_anything_changed_does_not_hold() {
    let (live, evidence) = evidence();
    let other = Hash::sha256(b"other");
    assert_eq!(evidence.verify(&other), Err(Error::OtherRoot { found: live.batch.root }));
    let whole = serde_json::to_value(&evidence).unwrap();
    let mut changed = 0;
    for (key, value) in whole.as_object().unwrap() {
        // Every byte of what is bytes, one at a time.
        if let Some(digits) = value.as_str().and_then(|text| text.strip_prefix("0x")) {
            let bytes = hex::decode(digits).unwrap();
            let step = (bytes.len() / 80).max(1);
            for at in (0..bytes.len()).step_by(step) {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << (at % 8);
                let mut evidence = whole.clone();
                evidence[key] = json!(format!("0x{}", hex::encode(bytes)));
                let read: Result<Evidence, _> = serde_json::from_value(evidence);
                assert!(read.is_err() || read.unwrap().verify(&live.batch.root).is_err(), "{key} at {at}");
                changed += 1;
            }
        }
    }
    assert!(changed > 200, "{changed}");
    let with = |key: &str, value: Value| {
        let mut evidence = whole.clone();
        evidence[key] = value;
        serde_json::from_value::<Evidence>(evidence).unwrap().verify(&live.batch.root).unwrap_err()
    };
    assert_eq!(with("chain_id", json!(1)), Error::DoesNotHold("the transaction anchors something else"));
    assert_eq!(with("epoch", json!(2)), Error::DoesNotHold("the event is of another log or epoch"));
    assert_eq!(with("log_index", json!(1)), Error::DoesNotHold("the receipt does not have the event"));
    assert_eq!(with("receipt_index", json!(1)), Error::DoesNotHold("the receipt is not in the block"));
    assert_eq!(with("receipt_proof", json!([])), Error::DoesNotHold("the receipt is not in the block"));
    assert_eq!(with("version", json!(2)), Error::Unknown);
}

#[test]
fn evidence_holds_in_a_block_with_many_transactions() {
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    live.run();
    for _ in 0..150 {
        let other = live.anvil.account(3);
        live.anvil.call("eth_sendTransaction", json!([{ "from": other, "to": other, "value": "0x1" }]));
    }
    live.assert_anchored_once();
    let evidence: Evidence = serde_json::from_value(live.memory.evidence.clone().unwrap()).unwrap();
    assert!(evidence.receipt_proof.len() > 1);
    evidence.verify(&live.batch.root).unwrap();
}

#[test]
fn a_node_without_receipts_of_whole_blocks_is_queried_for_each() {
    use super::proxy::Behaviour;
    let mut live = Live::start();
    live.behave(&Behaviour::lies(|method, _, answer| {
        if method == "eth_getBlockReceipts" {
            return json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32601, "message": "method not found" } });
        }
        answer
    }));
    live.anvil.call("evm_setAutomine", json!([false]));
    live.run();
    let other = live.anvil.account(3);
    for _ in 0..20 {
        live.anvil.call("eth_sendTransaction", json!([{ "from": other, "to": other, "value": "0x1" }]));
    }
    live.assert_anchored_once();
    assert!(live.first.methods().contains(&"eth_getBlockReceipts".to_owned()));
}

#[test]
fn an_encrypted_key_signs_as_the_same_account() {
    let live = Live::start();
    let mut random = eth_keystore_random();
    let bytes = hex::decode(KEY).unwrap();
    eth_keystore::encrypt_key(live.folder(), &mut random, &bytes, "open sesame", Some("keystore")).unwrap();
    let keystore = live.folder().join("keystore");
    let mut config = live.config();
    let password = secret(live.folder(), "password", "open sesame\n");
    let signer = json!({ "kind": "keystore", "key_file": keystore, "password_file": password });
    config["signer"] = signer;
    let open = |config: &Value| {
        zeroauth_audit_anchor::evm::EvmDriver::open(serde_json::from_value(config.clone()).unwrap())
            .map(|driver| driver.account().to_string())
    };
    std::fs::set_permissions(&keystore, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!(
        open(&config).unwrap_err(),
        Failure::File { reason: "the key file has mode 0644, not 0600 or 0400".into() }
    );
    let content = std::fs::read_to_string(&keystore).unwrap();
    secret(live.folder(), "keystore", &content);
    assert_eq!(open(&config).unwrap().to_lowercase(), live.anchorer.to_lowercase());
    secret(live.folder(), "password", "wrong");
    assert_eq!(
        open(&config).unwrap_err(),
        Failure::File { reason: "the password does not open the key file".into() }
    );
    secret(live.folder(), "keystore", "{}");
    assert_eq!(
        open(&config).unwrap_err(),
        Failure::File { reason: "the key file is no encrypted key of version 3".into() }
    );
}

fn eth_keystore_random() -> rand_for_keystore::rngs::ThreadRng {
    rand_for_keystore::thread_rng()
}

#[test]
fn a_remote_signer_signs_and_is_not_believed_when_it_signs_something_else() {
    use super::proxy::{Behaviour, Proxy};
    let mut live = Live::start();
    // anvil signs for its own accounts.
    let signer = Proxy::of(&live.anvil);
    let mut config = live.config();
    config["signer"] = json!({
        "kind": "remote",
        "url_file": secret(live.folder(), "signer", &signer.url()),
        "address": live.anchorer,
    });
    let driver = Live::driver_of(config);
    for (field, value) in
        [("nonce", "0x7"), ("value", "0x1"), ("maxFeePerGas", "0xffffffffff"), ("data", "0x")]
    {
        signer.behave(Behaviour::Honest);
        let upstream = live.anvil.url();
        signer.behave(Behaviour::lies(move |method, params, _| {
            let mut params = params.clone();
            params[0][field] = json!(value);
            let result = super::anvil::call(&upstream, method, params).unwrap_or_default();
            json!({ "jsonrpc": "2.0", "id": 1, "result": result })
        }));
        live.run_with(&driver);
        let trouble = live.state().trouble.unwrap();
        assert_eq!(
            trouble.last.to_string(),
            "endpoint 3: the answer to eth_signTransaction is not the transaction it was to sign",
            "{field}"
        );
        assert_eq!(live.state().attempt, None);
        live.plan(batch(1));
    }
    signer.behave(Behaviour::Honest);
    live.run_with(&driver);
    assert_eq!(live.state().phase, Phase::Submitted, "{:?}", live.state());
    live.assert_anchored_once();
    assert_eq!(signer.methods().last().unwrap(), "eth_signTransaction");
}

#[test]
fn what_is_stored_is_sent_only_if_it_is_the_anchor_of_the_batch() {
    let live = Live::start();
    let driver = live.driver();
    let need = zeroauth_audit_anchor::driver::Need::Fresh { behind_pending: true };
    let attempt = driver.prepare(&live.batch, &need, zeroauth_audit_anchor::Moment(0)).unwrap();
    let refused = Failure::Defect { what: "the stored transaction is not for this batch".into() };
    assert_eq!(driver.send(&batch(2), &attempt), Err(refused.clone()));
    let mut other = attempt.clone();
    other.id = Hash::sha256(b"x").to_string();
    assert_eq!(driver.send(&live.batch, &other), Err(refused));
    other.bytes = "02ff".into();
    assert_eq!(
        driver.send(&live.batch, &other),
        Err(Failure::Defect { what: "the stored bytes are no transaction".into() })
    );
    assert!(driver.send(&live.batch, &attempt).is_ok());
}

#[test]
fn foundry_agrees_on_who_signed_what() {
    // An implementation that shares nothing with ours reads the transaction that we built.
    let mut live = Live::start();
    live.run();
    let attempt = live.state().attempt.unwrap();
    live.wait_included();
    let found = live.anvil.call("eth_getTransactionByHash", json!([attempt.id]));
    assert_eq!(found["from"].as_str().unwrap().to_lowercase(), live.anchorer.to_lowercase());
    assert_eq!(number(&found["nonce"]), attempt.nonce.unwrap());
    assert_eq!(number(&found["maxFeePerGas"]), attempt.fees.unwrap().max_fee);
    let raw = live.anvil.call("eth_getRawTransactionByHash", json!([attempt.id]));
    assert_eq!(raw.as_str().unwrap(), format!("0x{}", attempt.bytes));
}
