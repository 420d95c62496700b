//! The fault table: every call and every stored step, each way it can go wrong.

use zeroauth_audit_anchor::machine::Phase;

use super::world::{Crash, Fault, Worker, batch};

/// Plays a batch from its plan to its evidence, with the given ends of calls and the given crashes; how many calls and stores
/// each of its runs made.
fn play(faults: &[(usize, Fault)], crash: Option<(usize, Crash)>) -> (Worker, Vec<(usize, usize)>) {
    let mut worker = Worker::new(batch(1));
    let last = faults.iter().map(|(at, _)| *at + 1).max().unwrap_or(0);
    let fault = |at| faults.iter().find(|(known, _)| *known == at).map_or(Fault::None, |(_, fault)| *fault);
    worker.driver.chain().faults = (0..last).map(fault).collect();
    let mut runs = Vec::new();
    for round in 0..400 {
        let crash = crash.filter(|(at, _)| *at == round).map(|(_, crash)| crash);
        runs.push(worker.run(crash));
        if worker.state().is_over() {
            break;
        }
        let mut chain = worker.driver.chain();
        chain.mine();
        chain.finalize(1);
        drop(chain);
        if crash.is_none() {
            worker.sleep();
        }
    }
    (worker, runs)
}

fn assert_anchored_once(worker: &Worker, what: &str) {
    assert_eq!(worker.state().phase, Phase::Finalized, "{what}: {:?}", worker.state());
    let chain = worker.driver.chain();
    assert_eq!(chain.anchored_for_good(batch(1).root), [1], "{what}");
}

#[test]
fn every_call_may_fail_done_or_not_or_hang_and_the_batch_is_anchored_once() {
    let (worker, runs) = play(&[], None);
    assert_anchored_once(&worker, "no fault");
    let calls: usize = runs.iter().map(|(calls, _)| calls).sum();
    // Look, prepare, send; look and look again; collect.
    assert!(calls >= 6, "{runs:?}");
    for call in 0..calls {
        for fault in [Fault::NotDone, Fault::ButDone, Fault::Hung] {
            let what = format!("call {call} {fault:?}");
            let (worker, _) = play(&[(call, fault)], None);
            assert_anchored_once(&worker, &what);
            assert_eq!(worker.pages(), 0, "{what}: one failure calls nobody");
            // And any other call after it.
            for second in call + 1..calls + 3 {
                for then in [Fault::NotDone, Fault::ButDone] {
                    let (worker, _) = play(&[(call, fault), (second, then)], None);
                    assert_anchored_once(&worker, &format!("{what}, then call {second} {then:?}"));
                }
            }
        }
    }
}

#[test]
fn a_crash_right_before_or_after_any_call_or_store_changes_nothing() {
    let (_, runs) = play(&[], None);
    let mut crashes = 0;
    for (round, (calls, stores)) in runs.iter().enumerate() {
        let at_calls = (0..*calls).flat_map(|n| [Crash::BeforeCall(n), Crash::AfterCall(n)]);
        let at_stores = (0..*stores).flat_map(|n| [Crash::BeforeStore(n), Crash::AfterStore(n)]);
        for crash in at_calls.chain(at_stores) {
            let (worker, _) = play(&[], Some((round, crash)));
            assert_anchored_once(&worker, &format!("{crash:?} in run {round}"));
            crashes += 1;
            for fault in [Fault::NotDone, Fault::ButDone] {
                for call in 0..8 {
                    let (worker, _) = play(&[(call, fault)], Some((round, crash)));
                    let what = format!("{crash:?} in run {round}, call {call} {fault:?}");
                    assert_anchored_once(&worker, &what);
                }
            }
        }
    }
    assert!(crashes >= 20, "{crashes} crashes in {runs:?}");
}

#[test]
fn a_crash_between_storing_and_sending_sends_the_stored_bytes_and_no_others() {
    for crash in [Crash::AfterStore(1), Crash::BeforeCall(2), Crash::AfterCall(2)] {
        let mut worker = Worker::new(batch(1));
        worker.run(Some(crash));
        let stored = worker.state().attempt.map(|attempt| attempt.id);
        assert_eq!(worker.recover(), Phase::Finalized);
        let chain = worker.driver.chain();
        let mut sent = chain.sends.clone();
        sent.dedup();
        match stored {
            Some(stored) => assert_eq!(sent, [stored], "{crash:?}"),
            None => panic!("{crash:?} was before anything was stored"),
        }
    }
}

#[test]
fn an_attempt_sent_right_before_a_crash_takes_the_place_of_a_transaction_that_a_reorg_lost() {
    let mut worker = Worker::new(batch(1));
    {
        let mut chain = worker.driver.chain();
        chain.foreign(None);
        chain.mine();
    }
    // Look, prepare, send: that it was sent is not stored.
    worker.run(Some(Crash::AfterCall(2)));
    assert_eq!(worker.driver.chain().pool.len(), 1);
    // Nothing has the nonce before it any more, and nobody sends that transaction again.
    worker.driver.chain().reorg(1, true);
    assert_eq!(worker.recover(), Phase::Finalized);
    assert_anchored_once(&worker, "after the reorg");
}
