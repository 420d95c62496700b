//! Whatever happens in whatever order: a batch is anchored once, none is lost, and nothing is called final that is not.

use proptest::prelude::*;
use zeroauth_audit_anchor::batch::{Hash, Moment, Seal};
use zeroauth_audit_anchor::driver::{Attempt, Fees, Inclusion, Nonces, Place, Sent, View};
use zeroauth_audit_anchor::failure::Failure;
use zeroauth_audit_anchor::machine::{Action, Call, Event, Notice, Phase, Policy, State, step};

use super::world::{Crash, Fault, Worker, batch};

#[derive(Clone, Debug)]
enum Happens {
    Run { faults: Vec<Fault>, crash: Option<Crash> },
    Sleep,
    Later(i64),
    Mine,
    Finalize(usize),
    Reorg(usize, bool),
    Drop,
    Foreign(Option<u64>),
    BaseFee(u64),
    Paused(bool),
    Down(bool),
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![5 => Just(Fault::None), 2 => Just(Fault::NotDone), 2 => Just(Fault::ButDone), 1 => Just(Fault::Hung)]
}

fn any_crash() -> impl Strategy<Value = Crash> {
    (0..4usize).prop_flat_map(|at| {
        prop_oneof![
            Just(Crash::BeforeStore(at)),
            Just(Crash::AfterStore(at)),
            Just(Crash::BeforeCall(at)),
            Just(Crash::AfterCall(at))
        ]
    })
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (prop::collection::vec(any_fault(), 0..6), prop::option::of(any_crash()))
            .prop_map(|(faults, crash)| Happens::Run { faults, crash }),
        6 => Just(Happens::Sleep),
        2 => (0..20_000i64).prop_map(Happens::Later),
        6 => Just(Happens::Mine),
        2 => (0..3usize).prop_map(Happens::Finalize),
        3 => (1..4usize, any::<bool>()).prop_map(|(depth, lose)| Happens::Reorg(depth, lose)),
        1 => Just(Happens::Drop),
        1 => prop::option::of(1..4u64).prop_map(Happens::Foreign),
        1 => prop_oneof![Just(10), Just(30), Just(5_000)].prop_map(Happens::BaseFee),
        1 => any::<bool>().prop_map(Happens::Paused),
        1 => any::<bool>().prop_map(Happens::Down),
    ]
}

fn garbage() -> Seal {
    Seal { root: Hash::sha256(b"garbage"), size: 1, batch_time: Moment(0) }
}

fn live(worker: &mut Worker, life: Vec<Happens>) {
    for happens in life {
        match happens {
            Happens::Run { faults, crash } => {
                worker.driver.chain().faults = faults.into();
                worker.run(crash);
            }
            Happens::Sleep => worker.sleep(),
            Happens::Later(seconds) => worker.driver.chain().now += seconds,
            Happens::Mine => worker.driver.chain().mine(),
            Happens::Finalize(behind) => worker.driver.chain().finalize(behind),
            Happens::Reorg(depth, lose) => worker.driver.chain().reorg(depth, lose),
            Happens::Drop => worker.driver.chain().pool.clear(),
            Happens::Foreign(epoch) => worker.driver.chain().foreign(epoch.map(|epoch| (epoch, garbage()))),
            Happens::BaseFee(fee) => worker.driver.chain().base_fee = fee,
            Happens::Paused(paused) => worker.driver.chain().paused = paused,
            Happens::Down(down) => worker.driver.chain().down = down,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_batch_is_anchored_once_and_none_is_lost(life in prop::collection::vec(happens(), 0..60)) {
        let mut epoch = 1;
        let mut worker = Worker::new(batch(epoch));
        live(&mut worker, life);
        // Somebody may have used up the epoch; then, and only then, the root gets another one.
        let mut rounds = 0;
        while worker.recover() == Phase::Failed {
            worker.run(None);
            let Action::Replan { above } = worker.last else { panic!("{:?}", worker.last) };
            prop_assert!(above >= epoch);
            let is_epoch_notice = |notice: &Notice| matches!(notice, Notice::EpochTaken { .. } | Notice::EpochPassed { .. });
            prop_assert_eq!(worker.notices.iter().filter(|notice| is_epoch_notice(notice)).count(), 1);
            epoch = above + 1;
            worker = Worker::on(worker.driver.clone(), batch(epoch));
            rounds += 1;
            prop_assert!(rounds < 5, "thieves are finite here");
        }
        let chain = worker.driver.chain();
        prop_assert_eq!(chain.anchored_for_good(batch(1).root), [epoch]);
        // A person is called once for each trouble, and notified of its end.
        let pages = worker.notices.iter().filter(|notice| matches!(notice, Notice::Page { .. })).count();
        let recovered = worker.notices.iter().filter(|notice| matches!(notice, Notice::Recovered { .. })).count();
        prop_assert_eq!(pages, recovered);
    }
}

/// Anything at all, also what no driver would say.
fn any_event() -> impl Strategy<Value = Event> {
    let seal = prop_oneof![3 => Just(batch(1).seal()), 1 => Just(garbage())];
    let inclusion = (seal, any::<bool>(), 0..3u64).prop_map(|(seal, finalized, block)| Inclusion {
        seal,
        id: "x".into(),
        block_number: Some(block),
        block_hash: Some(block.to_string()),
        anchored_at: Moment(5),
        finalized,
        token: None,
    });
    let place = prop_oneof![
        Just(Place::Free),
        Just(Place::Unsettled),
        inclusion.clone().prop_map(Place::Included),
        (any::<u64>(), any::<bool>()).prop_map(|(latest, finalized)| Place::Passed { latest, finalized }),
    ];
    let nonces =
        prop::option::of((0..4u64, 0..4u64).prop_map(|(latest, finalized)| Nonces { latest, finalized }));
    let fees = (any::<u64>(), any::<u64>())
        .prop_map(|(max_fee, max_priority_fee)| Fees { max_fee, max_priority_fee });
    let attempt = (prop::option::of(0..4u64), prop::option::of(fees)).prop_map(|(nonce, fees)| Attempt {
        id: "y".into(),
        bytes: "02".into(),
        nonce,
        fees,
        prepared_at: Moment(0),
        sent_at: None,
        sends: 0,
        underpriced: false,
    });
    let call = prop_oneof![Just(Call::Look), Just(Call::Prepare), Just(Call::Send), Just(Call::Collect)];
    prop_oneof![
        Just(Event::Resume),
        (place, any::<bool>(), nonces, any::<bool>()).prop_map(|(place, waiting, nonces, reverted)| {
            Event::Viewed(View { place, waiting, nonces, reverted })
        }),
        attempt.prop_map(Event::Prepared),
        Just(Event::Stored),
        prop_oneof![
            Just(Sent::Accepted),
            Just(Sent::NonceUsed),
            Just(Sent::Underpriced),
            inclusion.prop_map(Sent::Anchored)
        ]
        .prop_map(Event::Sent),
        Just(Event::Collected),
        call.prop_map(|call| Event::Failed(call, Failure::NoFunds)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_event_out_of_turn_makes_a_false_final_or_a_state_without_a_next_moment(
        events in prop::collection::vec((any_event(), 0..5_000i64), 0..60)
    ) {
        let (policy, batch) = (Policy::default(), batch(1));
        let mut state = State::planned(Moment(0));
        let (mut now, mut final_seen, mut gone) = (0, false, false);
        for (event, later) in events {
            now += later;
            match &event {
                Event::Viewed(View { place: Place::Included(inclusion), .. })
                | Event::Sent(Sent::Anchored(inclusion)) if inclusion.finalized => {
                    final_seen |= batch.is(&inclusion.seal);
                    gone |= !batch.is(&inclusion.seal);
                }
                Event::Viewed(View { place: Place::Passed { finalized: true, .. }, .. }) => gone = true,
                _ => {}
            }
            let before = state.clone();
            let next = step(&policy, &batch, state, event, Moment(now));
            state = next.state;
            prop_assert!(state.phase != Phase::Finalized || final_seen);
            prop_assert!(state.phase != Phase::Failed || gone);
            // What is final or given up stays so.
            for end in [Phase::Finalized, Phase::Failed] {
                prop_assert!(before.phase != end || state.phase == end);
            }
            if matches!(next.action, Action::Send) {
                prop_assert_eq!(state.attempt.as_ref().map(|a| &a.bytes), before.attempt.as_ref().map(|a| &a.bytes), "sent and stored are the same");
            }
            if matches!(next.action, Action::Done) {
                prop_assert!(state.is_over());
            }
            prop_assert!(state.is_over() || state.next <= Moment(now).plus(6 * 60 * 60));
            let text = serde_json::to_string(&state).unwrap();
            prop_assert_eq!(&serde_json::from_str::<State>(&text).unwrap(), &state);
        }
    }
}
