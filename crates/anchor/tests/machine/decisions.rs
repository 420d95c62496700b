//! Single decisions in virtual time.

use zeroauth_audit_anchor::batch::{Hash, Moment, Seal};
use zeroauth_audit_anchor::driver::{Attempt, Need, Nonces, Place, View};
use zeroauth_audit_anchor::failure::{Failure, Refusal};
use zeroauth_audit_anchor::machine::{Action, Event, Notice, Phase, Policy, step};
use zeroauth_audit_anchor::missed::{Anchored, Health, health};

use super::world::{Fault, Worker, batch};

const HOUR: i64 = 3600;

/// Runs whenever there is something to do, until `until`. When it ran.
fn live_until(worker: &mut Worker, until: i64) -> Vec<i64> {
    let mut ran = Vec::new();
    loop {
        let now = worker.driver.chain().now;
        ran.push(now);
        worker.run(None);
        let next = worker.state().next.0;
        if worker.state().is_over() || next > until {
            let mut chain = worker.driver.chain();
            chain.now = until;
            return ran;
        }
        worker.sleep();
    }
}

#[test]
fn an_outage_is_retried_every_hour_for_six_hours_then_paged_once_and_retried_on() {
    let mut worker = Worker::new(batch(1));
    worker.driver.chain().down = true;
    let ran = live_until(&mut worker, 7 * HOUR);
    assert_eq!(ran, (0..=7).map(|hour| hour * HOUR).collect::<Vec<_>>());
    let Notice::Page { since, failures, last: Failure::Unreachable { .. } } = &worker.notices[0] else {
        panic!("{:?}", worker.notices);
    };
    // By the failure at the sixth hour, the seventh in all.
    assert_eq!((*since, *failures, worker.pages()), (Moment(0), 7, 1));
    assert_eq!(worker.recover(), Phase::Finalized);
    assert!(matches!(worker.notices.last(), Some(Notice::Recovered { since: Moment(0), .. })));
    assert_eq!(worker.pages(), 1);
}

#[test]
fn nobody_is_called_before_six_hours_are_over() {
    let mut worker = Worker::new(batch(1));
    worker.driver.chain().down = true;
    live_until(&mut worker, 6 * HOUR - 1);
    assert_eq!(worker.notices, []);
    assert_eq!(worker.recover(), Phase::Finalized);
    assert_eq!(worker.notices, [], "nobody was called, so nobody is notified of its end");
}

#[test]
fn two_days_of_outage_degrade_the_tenant_until_an_anchor_covers_the_gap() {
    let due: Vec<Moment> = (0..9).map(|day| Moment(day * 24 * HOUR)).collect();
    let mut worker = Worker::new(batch(1));
    worker.driver.chain().down = true;
    live_until(&mut worker, 47 * HOUR);
    assert_eq!(health(&due, &[], Moment(47 * HOUR)), Health::Late { missed: Moment(0) });
    live_until(&mut worker, 49 * HOUR);
    assert_eq!(health(&due, &[], Moment(49 * HOUR)), Health::Degraded { since: Moment(0), missed: 2 });
    assert_eq!(worker.pages(), 1);
    assert_eq!(worker.recover(), Phase::Finalized);
    let included_at = worker.state().included_since.unwrap();
    // The first day's batch is anchored and does not cover the second day; the third day's does.
    let anchored = |day: i64| Anchored {
        batch_time: Moment(day * 24 * HOUR),
        included_at: Moment(included_at.0.max(day * 24 * HOUR + 60)),
        finalized: true,
    };
    let now = Moment(51 * HOUR);
    assert_eq!(health(&due, &[anchored(0)], now), Health::Degraded { since: Moment(0), missed: 2 });
    assert_eq!(health(&due, &[anchored(0), anchored(2)], now), Health::Ok);
}

#[test]
fn a_reorganisation_orphans_and_the_same_bytes_are_sent_again() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    worker.driver.chain().mine();
    worker.sleep();
    worker.run(None);
    assert_eq!(worker.state().phase, Phase::Included);
    worker.driver.chain().reorg(1, true);
    worker.sleep();
    worker.run(None);
    assert!(matches!(&worker.notices[..], [Notice::Orphaned { block_number: Some(1), .. }]));
    assert_eq!((worker.state().phase, worker.state().orphaned), (Phase::Submitted, 1));
    assert_eq!(worker.recover(), Phase::Finalized);
    let chain = worker.driver.chain();
    assert_eq!(chain.sends, ["ours 1", "ours 1"]);
}

#[test]
fn an_inclusion_in_another_block_starts_to_wait_for_finality_anew() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    worker.driver.chain().mine();
    worker.sleep();
    worker.run(None);
    {
        let mut chain = worker.driver.chain();
        chain.reorg(1, false);
        chain.mine();
    }
    worker.sleep();
    worker.run(None);
    assert_eq!((worker.state().phase, worker.state().orphaned), (Phase::Included, 1));
    assert_eq!(worker.recover(), Phase::Finalized);
}

#[test]
fn what_is_stuck_is_replaced_at_the_same_nonce_with_higher_fees() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    worker.driver.chain().base_fee = 1000;
    for _ in 0..30 {
        worker.driver.chain().mine();
        worker.sleep();
        worker.run(None);
    }
    let state = worker.state();
    assert_eq!(state.phase, Phase::Included, "{state:?}");
    let replaced: Vec<_> = worker.notices.iter().filter(|n| matches!(n, Notice::Replaced { .. })).collect();
    assert!(!replaced.is_empty(), "{:?}", worker.notices);
    let nonces: Vec<_> = state.attempts().iter().map(|attempt| attempt.nonce).collect();
    assert!(nonces.iter().all(|nonce| *nonce == Some(0)), "{nonces:?}");
}

#[test]
fn a_nonce_behind_a_lost_transaction_of_others_is_given_up_for_the_free_one() {
    let mut worker = Worker::new(batch(1));
    worker.driver.chain().foreign(None);
    worker.run(None);
    assert_eq!(worker.state().attempt.unwrap().nonce, Some(1), "queued behind what is waiting");
    worker.driver.chain().pool.remove(0);
    let begun = worker.driver.chain().now;
    assert_eq!(worker.recover(), Phase::Finalized);
    let state = worker.state();
    assert_eq!(state.attempt.unwrap().nonce, Some(0));
    assert!(worker.driver.chain().now - begun >= HOUR, "others get their time");
}

#[test]
fn a_transaction_that_is_never_included_pages_however_often_it_is_replaced() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    worker.driver.chain().base_fee = 1_000_000_000;
    worker.driver.chain().fee_cap = u64::MAX;
    let mut paged_at = None;
    while paged_at.is_none() && worker.driver.chain().now < 8 * HOUR {
        worker.sleep();
        worker.run(None);
        // What was replaced is forgotten by the nodes, and so is the replacement.
        worker.driver.chain().pool.clear();
        paged_at = (worker.pages() > 0).then(|| worker.driver.chain().now);
    }
    let paged_at = paged_at.expect("somebody is called");
    assert!((6 * HOUR..6 * HOUR + 700).contains(&paged_at), "{paged_at}");
}

#[test]
fn fees_above_the_cap_leave_the_old_bytes_in_play() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    {
        let mut chain = worker.driver.chain();
        (chain.base_fee, chain.fee_cap) = (1000, 21);
    }
    live_until(&mut worker, 3 * HOUR);
    assert!(matches!(worker.state().trouble.unwrap().last, Failure::FeesAboveCap { cap: 21, .. }));
    worker.driver.chain().pool.clear();
    assert_eq!(worker.recover(), Phase::Finalized);
    let chain = worker.driver.chain();
    assert!(chain.sends.iter().all(|sent| sent == "ours 1"), "{:?}", chain.sends);
}

#[test]
fn a_nonce_that_somebody_else_used_costs_a_new_one_only_when_that_is_final() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    {
        let mut chain = worker.driver.chain();
        chain.pool.clear();
        chain.foreign(None);
        chain.mine();
    }
    worker.sleep();
    worker.run(None);
    // It could still be undone, and then our bytes would be good again.
    assert_eq!(worker.state().attempt.unwrap().nonce, Some(0));
    worker.driver.chain().finalize(0);
    worker.sleep();
    worker.run(None);
    assert_eq!(worker.state().attempt.unwrap().nonce, Some(1));
    assert!(matches!(worker.notices[..], [Notice::NonceTaken { nonce: 0 }]));
    assert_eq!(worker.recover(), Phase::Finalized);
}

fn garbage() -> Seal {
    Seal { root: Hash::sha256(b"garbage"), size: 1, batch_time: Moment(0) }
}

#[test]
fn an_epoch_that_holds_something_else_is_given_up_only_when_that_is_final() {
    let mut worker = Worker::new(batch(1));
    {
        let mut chain = worker.driver.chain();
        chain.foreign(Some((1, garbage())));
        chain.mine();
    }
    worker.run(None);
    assert_eq!(worker.state().phase, Phase::Planned);
    worker.driver.chain().finalize(0);
    worker.sleep();
    worker.run(None);
    assert_eq!((worker.state().phase, worker.last.clone()), (Phase::Failed, Action::Replan { above: 1 }));
    assert!(matches!(&worker.notices[..], [Notice::EpochTaken { epoch: 1, seal, .. }] if *seal == garbage()));
    assert_eq!(worker.notices[0].severity(), 1);
    // Resumed after a crash, the decision is the same, and nobody is notified twice.
    worker.run(None);
    assert_eq!((worker.last.clone(), worker.notices.len()), (Action::Replan { above: 1 }, 1));
    // Under the next epoch the same root is anchored, once.
    let mut next = Worker::on(worker.driver.clone(), batch(2));
    assert_eq!(next.recover(), Phase::Finalized);
}

#[test]
fn an_epoch_that_was_passed_is_given_up_only_when_that_is_final() {
    let mut worker = Worker::new(batch(1));
    {
        let mut chain = worker.driver.chain();
        chain.foreign(Some((5, garbage())));
        chain.mine();
    }
    worker.run(None);
    assert_eq!(worker.state().phase, Phase::Planned);
    worker.driver.chain().finalize(0);
    worker.sleep();
    worker.run(None);
    assert_eq!(worker.last, Action::Replan { above: 5 });
    assert!(matches!(worker.notices[..], [Notice::EpochPassed { epoch: 1, latest: 5 }]));
}

#[test]
fn a_paused_contract_is_retried_and_a_transaction_that_reverted_is_made_anew_after_the_pause() {
    let mut worker = Worker::new(batch(1));
    worker.driver.chain().paused = true;
    live_until(&mut worker, 2 * HOUR);
    let trouble = worker.state().trouble.unwrap();
    assert_eq!(trouble.last, Failure::Refused { refusal: Refusal::Paused });
    assert_eq!(trouble.failures, 3);
    assert_eq!(worker.recover(), Phase::Finalized);

    // Paused between sending and inclusion.
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    {
        let mut chain = worker.driver.chain();
        chain.paused = true;
        chain.mine();
        chain.finalize(0);
    }
    worker.sleep();
    worker.run(None);
    let state = worker.state();
    assert_eq!(state.trouble.unwrap().last, Failure::Reverted);
    assert_eq!((state.phase, state.attempt), (Phase::Planned, None));
    assert_eq!(worker.recover(), Phase::Finalized);
}

#[test]
fn failed_evidence_is_fetched_again_and_takes_nothing_from_finalized() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    {
        let mut chain = worker.driver.chain();
        chain.mine();
        chain.finalize(0);
        chain.faults = [Fault::None, Fault::NotDone].into();
    }
    worker.sleep();
    worker.run(None);
    assert_eq!((worker.state().phase, worker.state().evidence), (Phase::Finalized, false));
    worker.sleep();
    worker.run(None);
    assert!(worker.state().is_over());
    assert_eq!(worker.last, Action::Done);
}

#[test]
fn an_attempt_other_than_the_requested_one_is_neither_stored_nor_sent() {
    let mut worker = Worker::new(batch(1));
    worker.run(None);
    let state = worker.state();
    let attempt = state.attempt.clone().unwrap();
    let at = |state, event, now| step(&Policy::default(), &batch(1), state, event, Moment(now));
    let nonces = Nonces { latest: 0, finalized: 0 };
    let view = View { place: Place::Free, waiting: true, nonces: Some(nonces), reverted: false };
    let replacing = at(state, Event::Viewed(view), 700);
    assert!(matches!(replacing.action, Action::Prepare(Need::Replace { nonce: 0, .. })), "{replacing:?}");
    // A replacement at another nonce would be a second transaction.
    let other = Attempt { id: "other".into(), nonce: Some(1), ..attempt.clone() };
    let refused = at(replacing.state.clone(), Event::Prepared(other.clone()), 701);
    assert!(matches!(refused.action, Action::Wait(_)));
    assert_eq!(refused.state.attempt.as_ref(), Some(&attempt));
    assert!(matches!(refused.state.trouble.unwrap().last, Failure::Defect { .. }));
    // A replacement that was not requested is ignored.
    let mut unrequested = replacing.state;
    unrequested.need = None;
    let ignored = at(unrequested, Event::Prepared(other), 701);
    assert_eq!((ignored.action, ignored.state.attempt), (Action::Look, Some(attempt)));
}

#[test]
fn a_clock_that_was_set_back_puts_nothing_out_of_reach() {
    let mut worker = Worker::new(batch(1));
    worker.driver.chain().now = 1_000_000_000;
    worker.driver.chain().down = true;
    worker.run(None);
    worker.driver.chain().now = 0;
    assert_eq!(worker.recover(), Phase::Finalized);
    assert!(worker.driver.chain().now < 24 * HOUR, "it did not wait for the old time to come again");
}
