//! What can go wrong between the worker and a chain, on a real one: nothing is anchored twice, nothing is lost, nothing is called final
//! that is not, and people are told. Hours go by in virtual time: what the worker stored is moved back.

use std::time::{Duration, Instant};

use serde_json::json;
use zeroauth_audit_tests::wait_until;

use crate::support::anchors::anvil::number;
use crate::support::anchors::proxy::Behaviour;
use crate::support::anchors::{Anchoring, Chain};
use crate::support::worker::{ENDS, timed, watcher, worker, worker_after};
use crate::support::{DEADLINE, Sql};

const FAILING: &str = "SELECT coalesce(last_error, '-'), state, attempts, first_failed_at IS NOT NULL, paged_at IS NOT NULL FROM zeroauth_audit_internal.anchor_batches WHERE target = 'chain' ORDER BY epoch DESC LIMIT 1";

fn start(name: &str) -> (Anchoring, Chain) {
    let mut server = Anchoring::start(name);
    let chain = Chain::start();
    chain.target(&mut server);
    (server, chain)
}

/// Waits until the newest batch is as `FAILING` says.
#[track_caller]
fn wait_for(server: &mut Anchoring, expected: &str) {
    let mut last = String::new();
    let since = Instant::now();
    while since.elapsed() < DEADLINE {
        last = server.client.line(FAILING);
        if last.contains(expected) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain for {expected:?}, it is {last:?}");
}

/// How long an endpoint may take, in seconds.
fn patience(server: &mut Anchoring, seconds: u64) {
    server.client.run(&format!(
        "UPDATE zeroauth_audit_internal.anchor_targets SET config = config || '{{\"timeout_seconds\": {seconds}}}' WHERE name = 'chain'"
    ));
}

/// Anchored exactly once, final, with evidence, and told so.
#[track_caller]
fn assert_anchored_once(server: &mut Anchoring, chain: &Chain) {
    chain.settle(server, "finalized");
    wait_until(DEADLINE, "the batch to be over", || {
        server
            .client
            .line("SELECT count(*) FROM zeroauth_audit_internal.anchor_batches WHERE next_at IS NOT NULL")
            == "0"
    });
    let batches = server.client.lines(
        "SELECT epoch, '0x' || encode(root, 'hex'), machine #>> '{inclusion,id}', evidence IS NOT NULL FROM zeroauth_audit_internal.anchor_batches WHERE state = 'finalized' ORDER BY epoch",
    );
    let events: Vec<String> =
        chain.events().iter().map(|(epoch, id, root)| format!("{epoch}|{root}|{id}|t")).collect();
    assert_eq!(events, batches, "what the chain has is what is called final");
    assert_eq!(
        server.client.line("SELECT count(*) FROM audit_anchors a JOIN zeroauth_audit_internal.anchor_batches b ON b.target = a.target AND b.epoch = a.batch WHERE (a.state, a.tx_hash) IS DISTINCT FROM (b.state, b.machine #>> '{inclusion,id}')"),
        "0"
    );
}

#[test]
fn seven_hours_without_endpoints_call_a_person_after_six_and_end_by_themselves() {
    let (mut server, chain) = start("anchor_down");
    chain.behave(&Behaviour::Down);
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    for hour in 0..7 {
        wait_for(&mut server, "endpoint 1");
        assert_eq!(
            server.alerts().contains(&"1|anchor_failing:chain".to_owned()),
            hour >= 6,
            "after {hour} hours"
        );
        let failures = server
            .client
            .line("SELECT machine #>> '{trouble,failures}' FROM zeroauth_audit_internal.anchor_batches WHERE target = 'chain'");
        server.pass("60 minutes 1 second");
        wait_until(DEADLINE, "another try", || {
            server.client.line(
                "SELECT machine #>> '{trouble,failures}' FROM zeroauth_audit_internal.anchor_batches WHERE target = 'chain'",
            ) != failures
        });
    }
    wait_until(DEADLINE, "the page", || server.alerts() == ["1|anchor_failing:chain"]);
    assert_eq!(
        server.client.line(
            "SELECT state, reasons FROM jsonb_to_record(zeroauth_audit_internal.health_anchors()) h (state text, reasons jsonb)"
        ),
        r#"failing|["anchor_failing:chain"]"#
    );
    assert_eq!(
        server
            .client
            .line("SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE kind = 'anchor_failing'"),
        "1"
    );
    // It tries on, and that ends it; a person has to say that they saw.
    chain.behave(&Behaviour::Honest);
    server.pass("1 hour");
    assert_anchored_once(&mut server, &chain);
    assert_eq!(server.alerts(), [] as [&str; 0]);
    assert_eq!(
        server.client.line(
            "SELECT state, condition_gone_at IS NOT NULL FROM zeroauth_audit_internal.alerts WHERE kind = 'anchor_failing'"
        ),
        "open|t"
    );
    let all = server.everything_stored();
    for secret in ["u53r", "pa55", "s3cret"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn what_was_sent_and_lost_its_answer_is_found_and_not_sent_twice() {
    let (mut server, chain) = start("anchor_lost");
    chain.behave(&Behaviour::DoneButLost("eth_sendRawTransaction"));
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_for(&mut server, "endpoint 1");
    // It is on the chain whatever the worker thinks.
    wait_until(DEADLINE, "the transaction", || chain.events().len() == 1);
    chain.behave(&Behaviour::Honest);
    server.pass("6 minutes");
    assert_anchored_once(&mut server, &chain);
}

#[test]
fn a_reorganisation_undoes_what_was_included_and_it_is_sent_again() {
    let (mut server, chain) = start("anchor_reorg");
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    server.pass("1 minute");
    wait_until(DEADLINE, "the transaction", || chain.events().len() == 1);
    // Time goes by for what is stored: that it was accepted has to be.
    server.wait("chain", "submitted");
    server.pass("1 minute");
    server.wait("chain", "included");
    assert_eq!(server.client.line("SELECT count(DISTINCT tx_hash), bool_and(anchored_at IS NOT NULL) FROM audit_anchors WHERE target = 'chain' AND state = 'included'"), "1|t");
    chain.anvil.call("anvil_reorg", json!([1, []]));
    assert_eq!(chain.events().len(), 0);
    server.pass("2 minutes");
    wait_until(DEADLINE, "the alert", || server.alerts() == ["3|anchor_orphaned:chain:1"]);
    // Of several blocks at once it would see only the end: final, without having been included.
    chain.anvil.mine(1);
    server.pass_until("chain", "included", || ());
    assert_anchored_once(&mut server, &chain);
    assert_eq!(server.alerts(), [] as [&str; 0]);
    assert_eq!(
        server.client.lines("SELECT action FROM audit_events WHERE tenant_id = 'zeroauth_audit' AND action ~ '^anchor\\.[ifo]' ORDER BY seq"),
        ["anchor.included", "anchor.orphaned", "anchor.included", "anchor.finalized"]
    );
}

#[test]
fn a_transaction_that_is_stuck_or_dropped_is_replaced_at_its_nonce() {
    let (mut server, chain) = start("anchor_stuck");
    chain.anvil.call("evm_setAutomine", json!([false]));
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    server.wait("chain", "submitted");
    let first =
        server.client.line("SELECT machine #>> '{attempt,id}' FROM zeroauth_audit_internal.anchor_batches");
    // Nobody has it any more: it is sent again.
    chain.anvil.call("anvil_dropTransaction", json!([first]));
    server.pass("2 minutes");
    wait_until(DEADLINE, "it is sent again", || {
        chain.anvil.call("eth_getTransactionByHash", json!([first])).is_object()
    });
    // The worker stores what it has done after it has: time must not go by in between.
    let stored = "SELECT next_at > now() FROM zeroauth_audit_internal.anchor_batches";
    wait_until(DEADLINE, "and stored", || server.client.line(stored) == "t");
    // Nobody includes it: its fees rise.
    server.pass("11 minutes");
    wait_until(DEADLINE, "a replacement", || {
        server.client.line("SELECT machine #>> '{attempt,id}' FROM zeroauth_audit_internal.anchor_batches")
            != first
    });
    let nonces = "SELECT machine #>> '{attempt,nonce}' = machine #>> '{replaced,0,nonce}', (machine #>> '{attempt,fees,max_fee}')::bigint > (machine #>> '{replaced,0,fees,max_fee}')::bigint FROM zeroauth_audit_internal.anchor_batches";
    assert_eq!(server.client.line(nonces), "t|t");
    wait_until(DEADLINE, "the alert", || server.alerts() == ["4|anchor_replaced:chain:1"]);
    chain.anvil.call("evm_setAutomine", json!([true]));
    assert_anchored_once(&mut server, &chain);
    assert_eq!(server.alerts(), [] as [&str; 0]);
}

#[test]
fn somebody_else_with_our_key_is_told_and_does_not_stop_us() {
    let (mut server, chain) = start("anchor_nonce");
    chain.anvil.call("evm_setAutomine", json!([false]));
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    server.wait("chain", "submitted");
    let id =
        server.client.line("SELECT machine #>> '{attempt,id}' FROM zeroauth_audit_internal.anchor_batches");
    chain.anvil.call("anvil_dropTransaction", json!([id]));
    let anchorer = chain.anvil.account(1);
    chain.anvil.call("evm_setAutomine", json!([true]));
    let receipt = chain.anvil.send(&anchorer, Some(&chain.anvil.account(5)), &[]);
    assert_eq!(receipt["status"], "0x1");
    chain.anvil.mine(4);
    server.pass("2 minutes");
    wait_until(DEADLINE, "the alert", || {
        server.alerts().contains(&"1|anchor_nonce_taken:chain:0".to_owned())
    });
    assert_anchored_once(&mut server, &chain);
}

#[test]
fn an_endpoint_that_lies_makes_nothing_final() {
    let (mut server, chain) = start("anchor_liar");
    // One of the two says that everything is there.
    let other = "0x".to_owned() + &"11".repeat(32);
    chain.second.behave(Behaviour::lies(move |method, _, mut answer| {
        if method == "eth_getLogs" || method == "eth_getTransactionReceipt" {
            answer["result"] = json!(null);
        }
        if method == "eth_sendRawTransaction" {
            answer["result"] = json!(other);
        }
        answer
    }));
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_until(DEADLINE, "the transaction", || {
        server.pass("1 minute");
        chain.events().len() == 1
    });
    for _ in 0..5 {
        chain.anvil.mine(1);
        server.pass("6 minutes");
    }
    wait_for(&mut server, "endpoint");
    assert_ne!(server.client.line("SELECT state FROM zeroauth_audit_internal.anchor_batches"), "finalized");
    assert_eq!(server.client.line("SELECT count(*) FROM audit_anchors WHERE anchored_at IS NOT NULL"), "0");
    chain.second.behave(Behaviour::Honest);
    assert_anchored_once(&mut server, &chain);
}

#[test]
fn what_the_chain_refuses_is_said_in_words_and_tried_again_when_it_was_mended() {
    let (mut server, chain) = start("anchor_refused");
    let owner = chain.anvil.account(0);
    let call = |signature: &str| {
        use zeroauth_audit_anchor::evm::contract::topic;
        topic(signature).0[..4].to_vec()
    };
    // Paused.
    assert_eq!(chain.anvil.send(&owner, Some(&chain.contract), &call("pause()"))["status"], "0x1");
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_for(&mut server, "the contract refuses: it is paused|planned|0|t|f");
    assert_eq!(
        server.client.lines("SELECT DISTINCT error, state FROM audit_anchors WHERE target = 'chain'"),
        ["the contract refuses: it is paused|planned"]
    );
    assert_eq!(chain.anvil.send(&owner, Some(&chain.contract), &call("unpause()"))["status"], "0x1");
    // No money.
    let anchorer = chain.anvil.account(1);
    chain.anvil.call("anvil_setBalance", json!([anchorer, "0x0"]));
    assert_eq!(server.client.line("SELECT audit_anchor_retry('chain')"), "1");
    wait_for(&mut server, "the account cannot pay for the transaction|planned|0|t|f");
    chain.anvil.call("anvil_setBalance", json!([anchorer, "0x56bc75e2d63100000"]));
    // Another chain.
    chain.behave(&Behaviour::lies(|method, _, mut answer| {
        if method == "eth_chainId" {
            answer["result"] = json!("0x1");
        }
        answer
    }));
    server.client.run("SELECT audit_anchor_retry('chain')");
    wait_for(&mut server, "endpoint 1 is on chain 1, not 31337|planned|0|t|f");
    chain.behave(&Behaviour::Honest);
    // No contract.
    let code = chain.anvil.call("eth_getCode", json!([chain.contract, "latest"]));
    chain.anvil.call("anvil_setCode", json!([chain.contract, "0x"]));
    server.client.run("SELECT audit_anchor_retry('chain')");
    wait_for(&mut server, "there is no anchor contract at the configured address|planned|0|t|f");
    chain.anvil.call("anvil_setCode", json!([chain.contract, code]));
    server.client.run("SELECT audit_anchor_retry('chain')");
    assert_anchored_once(&mut server, &chain);
    assert_eq!(server.client.line("SELECT count(*) FROM audit_anchors WHERE error IS NOT NULL"), "0");
}

#[test]
fn an_endpoint_that_hangs_delays_no_job_and_no_shutdown() {
    let (mut server, chain) = start("anchor_hangs");
    chain.behave(&Behaviour::Hangs);
    patience(&mut server, 60);
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_until(DEADLINE, "a call", || !chain.first.methods().is_empty());
    server.client.run("UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'prune'");
    wait_until(DEADLINE, "a job while it hangs", || {
        server.client.line("SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'prune' AND run_by = 'worker' AND status = 'succeeded'") == "1"
    });
    wait_for(&mut server, "-|planned|0|f|f");
    // Another target goes on, too.
    server.client.run("UPDATE zeroauth_audit_internal.anchor_targets SET enabled = true WHERE name = 'file'");
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    server.wait("file", "finalized");
    assert_eq!(
        server
            .client
            .line("SELECT last_epoch FROM zeroauth_audit_internal.anchor_targets WHERE name = 'chain'"),
        "2"
    );
    let before = chain.first.methods().len();
    patience(&mut server, 5);
    let mut one = watcher(&server.cluster);
    let pid = worker(&mut one, "audit").unwrap();
    one.run(&format!("SELECT pg_terminate_backend({pid})"));
    worker_after(&mut one, "audit", Some(pid));
    wait_until(DEADLINE, "a call of the next worker", || chain.first.methods().len() > before);
    wait_for(&mut server, "no answer in time|planned|");
    let before = chain.first.methods().len();
    server.pass("61 minutes");
    wait_until(DEADLINE, "another call", || chain.first.methods().len() > before);
    drop(one);
    let took = timed(|| server.cluster.shut_down().unwrap());
    assert!(took < ENDS, "{took:?}");
}

#[test]
fn ten_thousand_tenants_are_one_transaction_of_less_than_100_000_gas() {
    let (mut server, chain) = start("anchor_scale");
    server.client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'tenant ' || i, 'x' FROM generate_series(1, 10000) i");
    assert_eq!(server.run("checkpoint"), "succeeded|-|-");
    let sealed: i64 =
        server.client.line("SELECT count(*) FROM zeroauth_audit_internal.registry_entries").parse().unwrap();
    assert!(sealed >= 10_002, "{sealed}");
    let outcome = server
        .client
        .line("SELECT r ->> 'status', r -> 'summary' FROM zeroauth_audit_internal.run_job('anchor') r");
    assert!(outcome.starts_with("succeeded|"), "{outcome}");
    chain.settle(&mut server, "finalized");
    assert_anchored_once(&mut server, &chain);
    let gas = number(&chain.anvil.receipt(&chain.events()[0].1)["gasUsed"]);
    println!("{gas} gas");
    assert!(gas <= 100_000, "{gas}");
    assert_eq!(
        server.client.line("SELECT count(*) >= 10002, count(DISTINCT tx_hash), bool_and(state = 'finalized') FROM audit_anchors WHERE anchored_at > now() - interval '36 hours'"),
        "t|1|t"
    );
}
