//! The worker dies in the middle of every call, and after every step that is stored: what it does next is what it does every day.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zeroauth_audit_tests::wait_until;

use crate::support::anchors::proxy::Behaviour;
use crate::support::anchors::{Anchoring, Chain, run_job};
use crate::support::worker::{watcher, worker, worker_after};
use crate::support::{DEADLINE, Sql};

/// The answer to this method does not come, though what it asks for was done, while the gate is shut.
fn held(method: &'static str) -> (Behaviour, Arc<AtomicBool>, Arc<AtomicBool>) {
    let (shut, reached) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let gate = (Arc::clone(&shut), Arc::clone(&reached));
    let behaviour = Behaviour::lies(move |asked, _, answer| {
        if asked == method {
            gate.1.store(true, Ordering::Relaxed);
            while gate.0.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        answer
    });
    (behaviour, shut, reached)
}

#[test]
fn a_crash_during_any_call_anchors_once_and_loses_nothing() {
    let mut server = Anchoring::start("anchor_crash");
    let chain = Chain::start();
    chain.target(&mut server);
    // Looking, preparing, sent but not answered, looking at what is included, collecting evidence.
    let methods = [
        ("eth_chainId", true),
        ("eth_estimateGas", false),
        ("eth_sendRawTransaction", true),
        ("eth_sendRawTransaction", false),
        ("eth_getLogs", true),
        ("eth_getBlockReceipts", false),
    ];
    for (number, (method, at_once)) in methods.into_iter().enumerate() {
        server.client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'more')");
        let (behaviour, shut, reached) = held(method);
        chain.first.behave(behaviour);
        assert_eq!(run_job(&mut server.client, "anchor"), "succeeded|-|-");
        wait_until(DEADLINE * 2, &format!("a call of {method}"), || {
            if !reached.load(Ordering::Relaxed) {
                chain.anvil.mine(1);
                server.pass("2 minutes");
                std::thread::sleep(Duration::from_millis(50));
            }
            reached.load(Ordering::Relaxed)
        });
        if at_once {
            server.cluster.crash().unwrap();
            server.cluster.start_again().unwrap();
        } else {
            let mut one = watcher(&server.cluster);
            let pid = worker(&mut one, "audit").unwrap();
            assert!(server.cluster.kill(pid).unwrap());
            wait_until(DEADLINE, "the restart", || one.simple_query("SELECT 1").is_err());
            wait_until(DEADLINE, "the server", || server.cluster.try_client().is_ok());
        }
        chain.first.behave(Behaviour::Honest);
        shut.store(false, Ordering::Relaxed);
        server.client = server.cluster.client();
        worker_after(&mut watcher(&server.cluster), "audit", None);
        chain.settle(&mut server, "finalized");
        wait_until(DEADLINE, "the batch to be over", || {
            server
                .client
                .line("SELECT count(*) FROM zeroauth_audit_internal.anchor_batches WHERE next_at IS NOT NULL")
                == "0"
        });
        let batches = server.client.lines("SELECT epoch, machine #>> '{inclusion,id}', evidence IS NOT NULL FROM zeroauth_audit_internal.anchor_batches WHERE state = 'finalized' ORDER BY epoch");
        let events: Vec<String> =
            chain.events().iter().map(|(epoch, id, _)| format!("{epoch}|{id}|t")).collect();
        assert_eq!(events, batches, "{method}");
        assert_eq!(events.len(), number + 1, "one for each batch: {method}");
    }
    assert_eq!(server.client.line("SELECT count(*) FROM audit_anchors WHERE state <> 'finalized'"), "0");
    assert_eq!(
        server
            .client
            .line("SELECT last_epoch FROM zeroauth_audit_internal.anchor_targets WHERE name = 'chain'"),
        "6"
    );
    server.cluster.asks_for("terminated by signal 9");
}

#[test]
fn a_run_that_a_crash_cut_short_is_made_up_for_at_once() {
    let mut server = Anchoring::start("anchor_cut");
    // As a worker leaves it that died while it sealed.
    server
        .client
        .run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.job_runs (job, run_by) VALUES ('anchor', 'worker')");
    server.cluster.crash().unwrap();
    server.cluster.start_again().unwrap();
    server.client = server.cluster.client();
    server.wait("file", "finalized");
    assert_eq!(
        server.client.lines(
            "SELECT status, coalesce(error_code, '-') FROM zeroauth_audit_internal.job_runs WHERE job = 'anchor' ORDER BY id"
        ),
        ["failed|57P01", "succeeded|-"]
    );
}
