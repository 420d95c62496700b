//! Everything that can go wrong with a chain, on a real one: no double anchor, no lost anchor, no false `finalized`.

use serde_json::{Value, json};
use zeroauth_audit_anchor::batch::{Hash, Moment};
use zeroauth_audit_anchor::evm::{EvmDriver, contract};
use zeroauth_audit_anchor::machine::{Action, Notice, Phase, Policy};
use zeroauth_audit_anchor::pursue::pursue;

use super::anvil::{hex, number};
use super::contract::encode;
use super::live::{Crashed, KEY, Live, batch, secret};
use super::proxy::Behaviour;

const HOUR: i64 = 3600;

#[test]
fn endpoints_down_for_seven_hours_page_after_six_and_the_batch_is_anchored_afterwards() {
    let mut live = Live::start();
    live.behave(&Behaviour::Down);
    let begun = live.now;
    let mut paged_at = None;
    while live.now <= begun + 7 * HOUR {
        live.run();
        if paged_at.is_none() && !live.memory.notices.is_empty() {
            paged_at = Some(live.now - begun);
        }
        live.sleep();
    }
    assert_eq!(paged_at, Some(6 * HOUR));
    assert_eq!(live.trouble(), "endpoint 1: the server closed the connection");
    live.behave(&Behaviour::Honest);
    live.assert_anchored_once();
    assert!(matches!(&live.memory.notices[..], [Notice::Page { failures: 7, .. }, Notice::Recovered { .. }]));
}

#[test]
fn one_endpoint_down_is_an_outage_because_two_have_to_agree() {
    let mut live = Live::start();
    live.second.behave(Behaviour::Down);
    live.run();
    assert_eq!(live.trouble(), "endpoint 2: the server closed the connection");
    assert_eq!(live.events(), []);
    live.second.behave(Behaviour::Honest);
    live.assert_anchored_once();
}

#[test]
fn a_reorganisation_after_inclusion_orphans_it_and_the_same_bytes_are_anchored_once() {
    let mut live = Live::start();
    live.run();
    live.wait_included();
    live.sleep();
    live.run();
    assert_eq!(live.state().phase, Phase::Included);
    let before = live.state().attempt.unwrap();
    // Nothing of the old block comes back by itself.
    live.anvil.call("anvil_reorg", json!([1, []]));
    assert_eq!(live.events(), []);
    live.sleep();
    live.run();
    assert!(matches!(&live.memory.notices[..], [Notice::Orphaned { id, .. }] if *id == before.id));
    assert_eq!((live.state().phase, live.state().orphaned), (Phase::Submitted, 1));
    assert_eq!(live.state().attempt.unwrap().bytes, before.bytes);
    live.assert_anchored_once();
}

#[test]
fn a_dropped_transaction_is_sent_again_with_the_same_bytes() {
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    live.run();
    let before = live.state().attempt.unwrap();
    live.anvil.call("anvil_dropTransaction", json!([before.id]));
    live.sleep();
    live.run();
    let after = live.state().attempt.unwrap();
    assert_eq!((&after.bytes, after.sends), (&before.bytes, 2));
    live.assert_anchored_once();
}

#[test]
fn a_stuck_transaction_is_replaced_at_its_nonce_with_higher_fees() {
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    live.run();
    let before = live.state().attempt.unwrap();
    live.now += 601;
    live.run();
    let after = live.state().attempt.unwrap();
    assert_ne!(before.id, after.id);
    assert_eq!(before.nonce, after.nonce);
    assert!(after.fees.unwrap().max_fee > before.fees.unwrap().max_fee);
    assert!(matches!(live.memory.notices[..], [Notice::Replaced { .. }]));
    live.assert_anchored_once();
    assert_eq!(live.state().inclusion.unwrap().id, after.id);
}

#[test]
fn an_attempt_that_was_replaced_and_included_all_the_same_counts() {
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    live.run();
    let before = live.state().attempt.unwrap();
    // The replacement is stored and never arrives.
    live.behave(&Behaviour::lies(|method, _, answer| {
        if method == "eth_sendRawTransaction" { error(-32000, "no room") } else { answer }
    }));
    // A transaction sent to a liar does arrive here, so it must be missing from the chain's own pool.
    live.now += 601;
    live.run();
    let after = live.state().attempt.unwrap();
    assert_ne!(before.id, after.id);
    live.anvil.call("anvil_dropTransaction", json!([after.id]));
    live.anvil.call("eth_sendRawTransaction", json!([format!("0x{}", before.bytes)]));
    live.behave(&Behaviour::Honest);
    live.assert_anchored_once();
    assert_eq!(live.state().inclusion.unwrap().id, before.id);
}

fn error(code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": message } })
}

#[test]
fn a_nonce_that_somebody_else_used_costs_a_new_one_once_that_is_final() {
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    live.run();
    let before = live.state().attempt.unwrap();
    live.anvil.call("anvil_dropTransaction", json!([before.id]));
    let other = json!([{ "from": live.anchorer, "to": live.owner, "nonce": format!("{:#x}", before.nonce.unwrap()) }]);
    let other = live.anvil.call("eth_sendTransaction", other);
    live.anvil.mine(1);
    live.anvil.receipt(other.as_str().unwrap());
    live.sleep();
    live.run();
    assert_eq!(live.state().attempt.as_ref(), Some(&before), "it could still be undone");
    assert_eq!(live.trouble(), "the anchor is not final yet");
    live.assert_anchored_once();
    assert_eq!(live.state().attempt.unwrap().nonce, before.nonce.map(|nonce| nonce + 1));
    assert!(matches!(live.memory.notices[..], [Notice::NonceTaken { .. }]));
}

#[test]
fn an_endpoint_that_lies_about_anything_makes_nothing_final() {
    let other = Hash::sha256(b"lie").to_string();
    let lies: [(&str, Behaviour); 6] = [
        ("the receipt", {
            Behaviour::lies(|method, _, mut answer| {
                if method == "eth_getTransactionReceipt" && answer["result"].is_object() {
                    answer["result"]["status"] = json!("0x0");
                }
                answer
            })
        }),
        ("the event of the anchor", {
            let other = other.clone();
            Behaviour::lies(move |method, _, mut answer| {
                if method == "eth_getLogs" && answer["result"][0].is_object() {
                    answer["result"][0]["transactionHash"] = json!(other);
                }
                answer
            })
        }),
        ("the block of the anchor", {
            let other = other.clone();
            Behaviour::lies(move |method, params, mut answer| {
                if method == "eth_getBlockByNumber" && params[0].as_str().unwrap().starts_with("0x") {
                    answer["result"]["hash"] = json!(other);
                }
                answer
            })
        }),
        ("what is anchored under this epoch", {
            Behaviour::lies(|method, _, mut answer| {
                let anchor = answer["result"].as_str().map(str::to_owned).filter(|text| text.len() == 322);
                if let (true, Some(anchor)) = (method == "eth_call", anchor) {
                    // Another root.
                    answer["result"] = json!(format!("0x{}{}", "77".repeat(32), &anchor[66..]));
                }
                answer
            })
        }),
        ("whether this epoch is anchored", {
            Behaviour::lies(|method, _, mut answer| {
                if method == "eth_call" && answer["result"].as_str().is_some_and(|text| text.len() == 322) {
                    answer["result"] = json!(format!("0x{}", "00".repeat(160)));
                }
                answer
            })
        }),
        ("", {
            // Only how far it is: everything else is as it is. Nothing is final then, either.
            Behaviour::lies(|method, params, mut answer| {
                if method == "eth_getBlockByNumber" && params[0] == "finalized" {
                    answer["result"]["number"] = json!("0x1");
                }
                answer
            })
        }),
    ];
    let mut live = Live::start();
    live.run();
    live.wait_included();
    live.anvil.mine(5);
    let begun = live.now;
    let whole = live.memory.state.clone();
    for (about, lie) in lies {
        live.memory.state.clone_from(&whole);
        live.memory.notices.clear();
        live.now = begun;
        live.second.behave(lie);
        live.sleep();
        live.run();
        assert_ne!(live.state().phase, Phase::Finalized, "{about}");
        if about.is_empty() {
            assert_eq!(live.state().phase, Phase::Included);
            continue;
        }
        assert_eq!(live.trouble(), format!("the endpoints disagree about {about}"));
        assert!(live.memory.notices.is_empty());
        // The trouble lasts until a person is called; nothing is sent meanwhile.
        live.now += 6 * HOUR;
        live.run();
        assert!(matches!(live.memory.notices[..], [Notice::Page { .. }]), "{:?}", live.memory.notices);
        assert_eq!(live.state().attempt.unwrap().sends, 1);
    }
    live.second.behave(Behaviour::Honest);
    live.assert_anchored_once();
}

#[test]
fn a_finalized_anchor_that_no_endpoint_has_is_never_reported() {
    // Both lie that everything is final: what is included in a block that is not there is still not included.
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    live.behave(&Behaviour::lies(|method, params, mut answer| {
        if method == "eth_getBlockByNumber" && params[0] == "finalized" {
            answer["result"]["number"] = json!("0xffffff");
        }
        answer
    }));
    for _ in 0..4 {
        live.run();
        live.sleep();
    }
    assert_eq!(live.state().phase, Phase::Submitted);
    live.behave(&Behaviour::Honest);
    live.assert_anchored_once();
}

#[test]
fn an_endpoint_on_another_chain_is_not_used() {
    let mut live = Live::start();
    live.second.behave(Behaviour::lies(|method, _, mut answer| {
        if method == "eth_chainId" {
            answer["result"] = json!("0x1");
        }
        answer
    }));
    live.run();
    assert_eq!(live.trouble(), "endpoint 2 is on chain 1, not 31337");
    // It changes between preparing and sending, and nothing goes out.
    live.second.behave(Behaviour::Honest);
    live.anvil.call("evm_setAutomine", json!([false]));
    let calls = std::sync::atomic::AtomicUsize::new(0);
    live.second.behave(Behaviour::lies(move |method, _, mut answer| {
        // One call each to look, to prepare and to send.
        if method == "eth_chainId" && calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2 {
            answer["result"] = json!("0x5");
        }
        answer
    }));
    live.sleep();
    live.run();
    assert_eq!(live.trouble(), "endpoint 2 is on chain 5, not 31337");
    assert!(live.state().attempt.is_some());
    assert!(!live.first.methods().contains(&"eth_sendRawTransaction".to_owned()));
    live.second.behave(Behaviour::Honest);
    live.assert_anchored_once();
}

#[test]
fn a_paused_contract_is_named_and_retried_until_it_is_not() {
    let mut live = Live::start();
    live.anvil.send(&live.owner, Some(&live.contract), &encode("pause", &[]));
    live.run();
    assert_eq!(live.trouble(), "the contract refuses: it is paused");
    assert_eq!(live.state().next.0, live.now + HOUR);
    live.anvil.send(&live.owner, Some(&live.contract), &encode("unpause", &[]));
    live.assert_anchored_once();
}

#[test]
fn a_pause_between_sending_and_inclusion_reverts_and_a_new_transaction_anchors() {
    let mut live = Live::start();
    live.anvil.call("evm_setAutomine", json!([false]));
    live.run();
    // The owner pays more and is first.
    let pause = json!([{ "from": live.owner, "to": live.contract, "data": hex(&encode("pause", &[])), "gas": "0x30000",
        "maxFeePerGas": "0x2540be400", "maxPriorityFeePerGas": "0x2540be400" }]);
    let pause = live.anvil.call("eth_sendTransaction", pause);
    live.anvil.mine(1);
    assert_eq!(live.anvil.receipt(pause.as_str().unwrap())["status"], "0x1");
    let reverted = live.state().attempt.unwrap();
    assert_eq!(live.anvil.receipt(&reverted.id)["status"], "0x0");
    live.anvil.mine(4);
    live.sleep();
    live.run();
    assert_eq!(live.trouble(), "the transaction was included and reverted");
    live.anvil.call("evm_setAutomine", json!([true]));
    live.anvil.send(&live.owner, Some(&live.contract), &encode("unpause", &[]));
    live.assert_anchored_once();
    assert_eq!(live.state().attempt.unwrap().nonce, reverted.nonce.map(|nonce| nonce + 1));
}

#[test]
fn a_wrong_address_is_named_whether_nothing_or_something_else_is_there() {
    let mut live = Live::start();
    // Initialisation code that returns one byte, 00: a contract that accepts every call and does nothing.
    let receipt = live.anvil.send(&live.owner, None, &[0x60, 0x01, 0x60, 0x00, 0xf3]);
    let other = receipt["contractAddress"].as_str().unwrap().to_owned();
    for address in [live.owner.clone(), other] {
        let mut config = live.config();
        config["contract"] = json!(address);
        live.run_with(&Live::driver_of(config));
        assert_eq!(live.trouble(), "there is no anchor contract at the configured address");
        assert_eq!(live.state().attempt, None);
        live.now += HOUR;
    }
    live.assert_anchored_once();
}

#[test]
fn an_account_that_is_no_anchorer_any_more_is_named() {
    let mut live = Live::start();
    let set = |allowed| {
        let log = ethers_core::abi::Token::FixedBytes(batch(1).log_id.0.to_vec());
        encode(
            "setAnchorer",
            &[log, super::contract::address(&live.anchorer), ethers_core::abi::Token::Bool(allowed)],
        )
    };
    let (remove, appoint) = (set(false), set(true));
    live.anvil.send(&live.owner, Some(&live.contract), &remove);
    live.run();
    assert_eq!(live.trouble(), "the contract refuses: the account is not an anchorer of this log");
    live.anvil.send(&live.owner, Some(&live.contract), &appoint);
    live.assert_anchored_once();
}

#[test]
fn an_empty_account_is_named_and_a_filled_one_anchors() {
    let mut live = Live::start();
    live.anvil.call("anvil_setBalance", json!([live.anchorer, "0x1"]));
    live.run();
    assert_eq!(live.trouble(), "the account cannot pay for the transaction");
    // Enough for the estimate, and not for the fees that would be offered.
    live.anvil.call("anvil_setBalance", json!([live.anchorer, "0x5af3107a4000"]));
    live.sleep();
    live.run();
    assert_eq!(live.trouble(), "the account cannot pay for the transaction");
    live.anvil.call("anvil_setBalance", json!([live.anchorer, "0xde0b6b3a7640000"]));
    live.assert_anchored_once();
}

#[test]
fn caps_on_fees_and_gas_are_kept() {
    let mut live = Live::start();
    let capped = |live: &Live, key: &str, cap: u64| {
        let mut config = live.config();
        config[key] = json!(cap);
        Live::driver_of(config)
    };
    live.run_with(&capped(&live, "max_gas", 80_000));
    let trouble = live.trouble();
    assert!(
        trouble.starts_with("the transaction needs 1") && trouble.ends_with(" gas, the cap is 80000"),
        "{trouble}"
    );
    live.now += HOUR;
    live.run_with(&capped(&live, "max_fee_per_gas", 1000));
    let trouble = live.trouble();
    assert!(trouble.ends_with(" wei per gas, the cap is 1000"), "{trouble}");
    assert_eq!(live.state().attempt, None);
    live.assert_anchored_once();
}

#[test]
fn an_epoch_that_a_thief_of_the_key_used_is_reported_and_the_root_goes_out_under_the_next() {
    let mut live = Live::start();
    let garbage = zeroauth_audit_anchor::Batch { root: Hash::sha256(b"garbage"), ..batch(1) };
    let receipt = live.anvil.send(&live.anchorer, Some(&live.contract), &contract::anchor_call(&garbage));
    assert_eq!(receipt["status"], "0x1");
    live.anvil.mine(5);
    assert_eq!(live.run(), Action::Replan { above: 1 });
    assert_eq!(live.state().phase, Phase::Failed);
    assert!(
        matches!(&live.memory.notices[..], [Notice::EpochTaken { seal, .. }] if seal.root == garbage.root)
    );
    live.plan(zeroauth_audit_anchor::Batch { epoch: 2, ..batch(1) });
    assert_eq!(live.finish(), Phase::Finalized);
    assert_eq!(live.events().len(), 2);
}

/// The methods of a whole life, from the plan to the evidence.
const METHODS: [&str; 13] = [
    "eth_chainId",
    "eth_getCode",
    "eth_getBlockByNumber",
    "eth_call",
    "eth_getTransactionCount",
    "eth_estimateGas",
    "eth_maxPriorityFeePerGas",
    "eth_getBalance",
    "eth_sendRawTransaction",
    "eth_getLogs",
    "eth_getTransactionReceipt",
    "eth_getBlockByHash",
    "eth_getBlockReceipts",
];

#[test]
fn every_call_may_be_done_and_its_answer_lost_at_both_endpoints() {
    let mut live = Live::start();
    for (epoch, method) in (1..).zip(METHODS) {
        live.plan(batch(epoch));
        live.behave(&Behaviour::DoneButLost(method));
        let mut missed = false;
        for _ in 0..4 {
            live.run();
            missed |= live.state().trouble.is_some();
            live.anvil.mine(2);
            live.sleep();
        }
        assert!(missed, "{method} is not called");
        // What was sent is found; every other answer is needed.
        assert_eq!(live.state().is_over(), method == "eth_sendRawTransaction", "{method}");
        live.behave(&Behaviour::Honest);
        assert_eq!(live.finish(), Phase::Finalized, "{method}");
        let events = live.events();
        assert_eq!(events.len() as u64, epoch, "{method}");
    }
    let called = live.first.methods();
    let unknown: Vec<_> = called
        .iter()
        .filter(|method| !METHODS.contains(&method.as_str()) && *method != "eth_getTransactionByHash")
        .collect();
    assert!(unknown.is_empty(), "calls that are not in the table: {unknown:?}");
}

#[test]
fn a_worker_that_dies_before_any_store_goes_on_where_it_was() {
    let mut live = Live::start();
    let mut died = 0;
    for epoch in 1..12 {
        live.plan(batch(epoch));
        live.memory.crash_before = Some(epoch as usize - 1);
        for _ in 0..4 {
            let now = Moment(live.now);
            let driver: EvmDriver = live.driver();
            let state = live.state();
            let done = pursue(&Policy::default(), &batch(epoch), &driver, state, &mut live.memory, || now);
            if matches!(done, Err(Crashed)) {
                died += 1;
                live.memory.crash_before = None;
            }
            live.anvil.mine(2);
            live.sleep();
        }
        assert_eq!(live.finish(), Phase::Finalized);
        assert_eq!(live.events().len() as u64, epoch);
    }
    assert!(died >= 5, "{died}");
}

#[test]
fn the_account_pays_for_one_transaction_a_batch() {
    let mut live = Live::start();
    let nonce =
        |live: &Live| number(&live.anvil.call("eth_getTransactionCount", json!([live.anchorer, "latest"])));
    for epoch in 1..4 {
        live.plan(batch(epoch));
        live.finish();
        assert_eq!(nonce(&live), epoch);
    }
}

#[test]
fn the_error_of_an_invalid_key_file_does_not_show_its_content() {
    let live = Live::start();
    for content in ["", "0x12", "zz", &KEY[..62], &"0".repeat(64), &"f".repeat(64)] {
        secret(live.folder(), "key2", content);
        let mut config = live.config();
        config["signer"]["key_file"] = json!(live.folder().join("key2"));
        let error = EvmDriver::open(serde_json::from_value(config).unwrap()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the key file does not hold one key of 64 hexadecimal digits",
            "{content}"
        );
    }
}
