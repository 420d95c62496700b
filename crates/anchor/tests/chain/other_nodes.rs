//! Chains and nodes that do some things in another way than the local chain does: hashes without seals, no final tag, receipts that lag.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use alloy_primitives::{Bytes, keccak256};
use serde_json::{Value, json};
use zeroauth_audit_anchor::evidence::evm::Evidence;
use zeroauth_audit_anchor::evidence::{Error, Trust, verify_evidence};
use zeroauth_audit_anchor::evm::answer::Block;
use zeroauth_audit_anchor::evm::seals::Rule;
use zeroauth_audit_anchor::evm::trie::{raw_list, write_header};
use zeroauth_audit_anchor::machine::Phase;

use super::anvil::call;
use super::live::Live;
use super::proxy::Behaviour;

/// A chain whose nodes show `extraData` with round and seals, and whose blocks have hashes without them.
struct Sealed {
    rule: Rule,
    upstream: String,
    /// Hashes as they are here, by those of the chain below, and back.
    here: HashMap<String, String>,
    below: HashMap<String, String>,
}

impl Sealed {
    fn behaviour(rule: Rule, upstream: String) -> Behaviour {
        let sealed = Self { rule, upstream, here: HashMap::new(), below: HashMap::new() };
        let sealed = Arc::new(Mutex::new(sealed));
        Behaviour::lies(move |method, params, mut answer| {
            let mut sealed = sealed.lock().unwrap();
            match method {
                "eth_getBlockByHash" => {
                    let below = sealed.below.get(params[0].as_str().unwrap()).cloned();
                    answer["result"] = below.map_or(Value::Null, |hash| sealed.block(json!(hash)));
                }
                "eth_getBlockByNumber" => {
                    let hash = answer["result"]["hash"].clone();
                    answer["result"] = sealed.block(hash);
                }
                "debug_getRawHeader" => {
                    answer = json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32601, "message": "" } })
                }
                _ => sealed.rename(&mut answer["result"]),
            }
            answer
        })
    }

    /// The block with this hash of the chain below, as it is here.
    fn block(&mut self, hash: Value) -> Value {
        let mut block = call(&self.upstream, "eth_getBlockByHash", json!([hash, false])).unwrap();
        let (vanity, seal, validator) = (text(&[0; 32]), text(&[9; 65]), text(&[1; 20]));
        let validators = raw_list(&[&validator, &validator]);
        let seals = raw_list(&[&seal, &seal]);
        // No vote, round 3.
        let (shown, hashed): (Vec<u8>, Vec<u8>) = match self.rule {
            Rule::Qbft => (
                raw_list(&[&vanity, &validators, &[0xc0], &[3], &seals]),
                raw_list(&[&vanity, &validators, &[0xc0], &[0x80], &[0xc0]]),
            ),
            Rule::Ibft2 => (
                raw_list(&[&vanity, &validators, &[0x80], &[0x84, 0, 0, 0, 3], &seals]),
                raw_list(&[&vanity, &validators, &[0x80]]),
            ),
        };
        let mut read: Block = serde_json::from_value(block.clone()).unwrap();
        read.extra_data = hashed.into();
        let here = keccak256(write_header(&read)).to_string();
        block["extraData"] = json!(Bytes::from(shown));
        block["hash"] = json!(here);
        self.here.insert(hash.as_str().unwrap().into(), here.clone());
        self.below.insert(here, hash.as_str().unwrap().into());
        block
    }

    fn rename(&mut self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.rename(item)),
            Value::Object(fields) => {
                if let Some(hash) = fields.get("blockHash").cloned().filter(Value::is_string) {
                    let known = self.here.get(hash.as_str().unwrap()).cloned();
                    let here = known.map_or_else(|| self.block(hash)["hash"].clone(), Value::from);
                    fields["blockHash"] = here;
                }
                fields.values_mut().for_each(|item| self.rename(item));
            }
            _ => {}
        }
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    alloy_rlp::encode(Bytes::copy_from_slice(bytes))
}

#[test]
fn public_report_d9_blocks_that_are_hashed_without_seals_have_evidence_that_names_the_rule() {
    for (rule, name, other) in [(Rule::Qbft, "qbft", "ibft2"), (Rule::Ibft2, "ibft2", "qbft")] {
        let mut live = Live::start();
        live.behave(&Sealed::behaviour(rule, live.anvil.url()));
        live.assert_anchored_once();
        let stored = live.memory.evidence.clone().unwrap();
        assert_eq!(stored["block_hash_rule"], name);
        let check = |evidence: &Value| {
            verify_evidence("evm", evidence.to_string().as_bytes(), &live.batch.root, &Trust::default())
        };
        let verdict = check(&stored).unwrap();
        let here = live.state().inclusion.unwrap().block_hash.unwrap();
        assert!(serde_json::to_string(&verdict.rests_on).unwrap().contains(&here));
        // The rule is checked, not believed.
        let with = |rule: Value| {
            let mut evidence = stored.clone();
            evidence["block_hash_rule"] = rule;
            check(&evidence)
        };
        let wrong = Err(Error::DoesNotHold("the header is not one of the rule that the evidence names"));
        assert_eq!(with(json!(other)), wrong);
        assert_eq!(with(json!("aura")), Err(Error::Malformed("it is not the JSON of this kind")));
        assert_eq!(with(Value::Null), Err(Error::Malformed("it is not written as it would be")));
        let evidence: Evidence = serde_json::from_value(stored).unwrap();
        assert_eq!(evidence.block_hash_rule, Some(rule));
    }
}

#[test]
fn a_chain_whose_hashes_are_not_those_of_its_headers_is_refused_before_anything_is_sent() {
    const REFUSED: &str = "this chain's block hashes are not those of its headers";
    let no_raw_header = |method: &str| method == "debug_getRawHeader";
    let no_such = json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32601, "message": "" } });
    let refuse = |block: fn(&mut Value)| {
        let no_such = no_such.clone();
        Behaviour::lies(move |method, _, mut answer| {
            if no_raw_header(method) {
                return no_such.clone();
            }
            if method.starts_with("eth_getBlockBy") && answer["result"].is_object() {
                block(&mut answer["result"]);
            }
            answer
        })
    };
    let mut live = Live::start();
    // Seals of a kind that is not known; and AuRa, as its nodes show it.
    for behaviour in [
        refuse(|block| block["extraData"] = json!("0xc0")),
        refuse(|block| {
            let fields = block.as_object_mut().unwrap();
            fields.retain(|key, _| key != "mixHash" && key != "nonce");
            fields.insert("sealFields".into(), json!(["0x841234", "0xb841"]));
        }),
    ] {
        live.plan(live.batch);
        live.behave(&behaviour);
        live.run();
        assert_eq!(live.trouble(), REFUSED);
        assert_eq!(live.events(), []);
        assert!(!live.first.methods().contains(&"eth_sendRawTransaction".to_owned()));
    }
    // A fork of which this version knows nothing is another matter: an anchor without evidence is better than none.
    live.plan(live.batch);
    live.behave(&refuse(|block| {
        block["extraData"] = json!("0xc0");
        block["newRoot"] = json!("0x01");
    }));
    live.run();
    live.wait_included();
    assert_eq!(live.state().phase, Phase::Submitted);
    assert_eq!(live.events().len(), 1);
}

#[test]
fn public_report_d12_a_node_without_the_final_tag_is_told_from_one_that_has_no_time() {
    const UNKNOWN: &str = r#"endpoint 2 does not know the block tag finalized: set finality to {"kind": "blocks", "blocks": N}"#;
    let mut live = Live::start();
    let error = |code: i64, message: &str| json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": message } });
    for (said, trouble) in [
        (error(-39001, "Unknown block"), UNKNOWN),
        (error(-32602, "invalid argument 0: hex string without 0x prefix"), UNKNOWN),
        (error(-32000, "finalized block not found"), UNKNOWN),
        (json!({ "jsonrpc": "2.0", "id": 1, "result": null }), UNKNOWN),
        (error(-32005, "limit exceeded"), "endpoint 2: eth_getBlockByNumber failed with error -32005"),
        (error(-32000, "Too many requests"), "endpoint 2: eth_getBlockByNumber failed with error -32000"),
    ] {
        live.plan(live.batch);
        live.second.behave(Behaviour::lies(move |method, params, answer| {
            if method == "eth_getBlockByNumber" && params[0] == "finalized" { said.clone() } else { answer }
        }));
        live.run();
        assert_eq!(live.trouble(), trouble);
    }
    // What the message says, works.
    let mut config = live.config();
    config["finality"] = json!({ "kind": "blocks", "blocks": 2 });
    let driver = Live::driver_of(config);
    live.sleep();
    live.run_with(&driver);
    live.wait_included();
    live.anvil.mine(3);
    live.sleep();
    live.run_with(&driver);
    assert_eq!(live.state().phase, Phase::Finalized);
}

#[test]
fn a_field_that_a_block_lacks_is_named() {
    for field in ["mixHash", "nonce", "sha3Uncles"] {
        for null in [false, true] {
            let mut live = Live::start();
            live.second.behave(Behaviour::lies(move |method, _, mut answer| {
                if method == "eth_getBlockByNumber" {
                    match null {
                        true => answer["result"][field] = Value::Null,
                        false => drop(answer["result"].as_object_mut().unwrap().remove(field)),
                    }
                }
                answer
            }));
            live.run();
            assert_eq!(
                live.trouble(),
                format!("endpoint 2: the answer to eth_getBlockByNumber has no {field}")
            );
        }
    }
}

#[test]
fn public_report_d13_receipts_of_a_block_that_a_node_loses_are_fetched_one_by_one() {
    for lost in [Value::Null, json!([])] {
        let mut live = Live::start();
        let answers = lost.clone();
        live.behave(&Behaviour::lies(move |method, _, mut answer| {
            if method == "eth_getBlockReceipts" {
                answer["result"] = answers.clone();
            }
            answer
        }));
        live.assert_anchored_once();
        assert!(live.first.methods().contains(&"eth_getBlockReceipts".to_owned()), "{lost}");
    }
}

#[test]
fn public_report_d13_a_receipt_that_lags_behind_its_event_is_no_disagreement() {
    let no_receipt = || {
        Behaviour::lies(|method, _, mut answer| {
            if method == "eth_getTransactionReceipt" {
                answer["result"] = Value::Null;
            }
            answer
        })
    };
    let mut live = Live::start();
    live.run();
    live.wait_included();
    live.anvil.mine(5);
    for (behave, endpoint) in [(1, 1), (2, 2)] {
        live.behave(&Behaviour::Honest);
        if behave == 1 { &live.first } else { &live.second }.behave(no_receipt());
        live.sleep();
        live.run();
        assert_eq!(live.trouble(), format!("endpoint {endpoint} has no receipt of the transaction yet"));
        assert_ne!(live.state().phase, Phase::Finalized);
    }
    live.behave(&Behaviour::Honest);
    live.assert_anchored_once();
}
