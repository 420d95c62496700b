//! The contract against a model of it: whatever anybody calls in whatever order, only what the model allows happens.

use std::collections::{BTreeMap, BTreeSet};

use ethers_core::abi::{Abi, Token};
use ethers_core::types::{Address, U256};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use zeroauth_audit_anchor::batch::{Batch, Hash, Moment};
use zeroauth_audit_anchor::evm::contract;

use super::anvil::{Anvil, bytes, hex, number};
use super::artifact::artifact;

pub fn abi() -> Abi {
    serde_json::from_value(artifact()["abi"].clone()).unwrap()
}

/// Deploys as `deployer`, owned by `owner`; the address.
pub fn deploy(anvil: &Anvil, deployer: &str, owner: &str, log_id: Hash, anchorer: &str) -> String {
    let code = bytes(&artifact()["bytecode"]);
    let arguments = [address(owner), Token::FixedBytes(log_id.0.to_vec()), address(anchorer)];
    let data = abi().constructor().unwrap().encode_input(code, &arguments).unwrap();
    let receipt = anvil.send(deployer, None, &data);
    assert_eq!(receipt["status"], "0x1", "{receipt}");
    receipt["contractAddress"].as_str().unwrap().to_owned()
}

pub fn address(text: &str) -> Token {
    Token::Address(text.parse::<Address>().unwrap())
}

pub fn encode(function: &str, arguments: &[Token]) -> Vec<u8> {
    abi().function(function).unwrap().encode_input(arguments).unwrap()
}

fn batch(log: u8, epoch: u64, root: u8, size: u64) -> Batch {
    let root = if root == 0 { Hash([0; 32]) } else { Hash::sha256(&[root]) };
    Batch { log_id: Hash::sha256(&[log]), epoch, root, size, batch_time: Moment(1_700_000_000) }
}

const MAX_STEP: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Call {
    Anchor { log: u8, epoch: Epoch, root: u8, size: u64 },
    SetAnchorer { log: u8, who: Option<usize>, allowed: bool },
    Pause,
    Unpause,
    Offer { to: Option<usize> },
    Accept,
}

#[derive(Clone, Debug)]
enum Epoch {
    Above(u64),
    Below(u64),
    Exactly(u64),
}

/// A model of the contract, as plain as possible.
#[derive(Clone, Debug, Default)]
struct Model {
    owner: usize,
    pending: Option<usize>,
    paused: bool,
    anchorers: BTreeSet<(u8, usize)>,
    anchors: BTreeMap<(u8, u64), (u8, u64)>,
}

impl Model {
    fn latest(&self, log: u8) -> u64 {
        self.anchors.keys().filter(|(known, _)| *known == log).map(|(_, epoch)| *epoch).max().unwrap_or(0)
    }

    fn epoch(&self, log: u8, epoch: &Epoch) -> u64 {
        match epoch {
            Epoch::Above(n) => self.latest(log).saturating_add(*n),
            Epoch::Below(n) => self.latest(log).saturating_sub(*n),
            Epoch::Exactly(n) => *n,
        }
    }

    /// Whether the call is allowed; the model after it.
    fn take(&mut self, caller: usize, call: &Call) -> bool {
        let allowed = match call {
            Call::Anchor { log, epoch, root, size } => {
                let epoch = self.epoch(*log, epoch);
                let allowed = !self.paused
                    && self.anchorers.contains(&(*log, caller))
                    && *root != 0
                    && *size != 0
                    && epoch > self.latest(*log)
                    && epoch - self.latest(*log) <= MAX_STEP;
                if allowed {
                    let before = self.anchors.insert((*log, epoch), (*root, *size));
                    assert_eq!(before, None);
                }
                return allowed;
            }
            Call::Accept => self.pending == Some(caller),
            Call::SetAnchorer { who, .. } => self.owner == caller && who.is_some(),
            Call::Pause => self.owner == caller && !self.paused,
            Call::Unpause => self.owner == caller && self.paused,
            Call::Offer { .. } => self.owner == caller,
        };
        if allowed {
            match call {
                Call::SetAnchorer { log, who: Some(who), allowed: true } => {
                    self.anchorers.insert((*log, *who));
                }
                Call::SetAnchorer { log, who: Some(who), allowed: false } => {
                    self.anchorers.remove(&(*log, *who));
                }
                Call::Pause => self.paused = true,
                Call::Unpause => self.paused = false,
                Call::Offer { to } => self.pending = *to,
                Call::Accept => (self.owner, self.pending) = (caller, None),
                Call::Anchor { .. } | Call::SetAnchorer { .. } => unreachable!(),
            }
        }
        allowed
    }
}

fn any_call() -> impl Strategy<Value = Call> {
    let log = 0..2u8;
    let epoch = prop_oneof![
        6 => (1..4u64).prop_map(Epoch::Above),
        1 => Just(Epoch::Above(MAX_STEP)),
        1 => Just(Epoch::Above(MAX_STEP + 1)),
        2 => (0..3u64).prop_map(Epoch::Below),
        1 => prop_oneof![Just(0), Just(1), Just(u64::MAX)].prop_map(Epoch::Exactly),
    ];
    let who = prop::option::weighted(0.9, 0..4usize);
    prop_oneof![
        8 => (log.clone(), epoch, prop_oneof![9 => 1..9u8, 1 => Just(0)], prop_oneof![9 => 1..9u64, 1 => Just(0)])
            .prop_map(|(log, epoch, root, size)| Call::Anchor { log, epoch, root, size }),
        4 => (log, who.clone(), any::<bool>()).prop_map(|(log, who, allowed)| Call::SetAnchorer { log, who, allowed }),
        1 => Just(Call::Pause),
        2 => Just(Call::Unpause),
        1 => who.prop_map(|to| Call::Offer { to }),
        2 => Just(Call::Accept),
    ]
}

/// Callers are mostly those who may: the owner and the first accounts.
fn any_calls() -> impl Strategy<Value = Vec<(prop::sample::Index, bool, Call)>> {
    prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.5), any_call()), 1..40)
}

#[test]
fn whoever_calls_whatever_only_what_the_model_allows_happens() {
    let anvil = Anvil::start();
    let accounts: Vec<String> = (0..5).map(|n| anvil.account(n)).collect();
    let zero = format!("0x{}", "0".repeat(40));
    let who = |who: &Option<usize>| address(who.map_or(zero.as_str(), |who| accounts[who].as_str()));
    let (mut allowed_calls, mut refused_calls) = (0, 0);
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let counts = std::cell::RefCell::new((&mut allowed_calls, &mut refused_calls));
    runner
        .run(&any_calls(), |calls| {
            let log = Hash::sha256(&[0]);
            let contract = deploy(&anvil, &accounts[4], &accounts[0], log, &accounts[1]);
            let mut model = Model { anchorers: BTreeSet::from([(0, 1)]), ..Model::default() };
            for (caller, rightful, call) in calls {
                let mut caller = caller.index(accounts.len());
                if rightful {
                    caller = match &call {
                        Call::Anchor { log, .. } => model
                            .anchorers
                            .iter()
                            .find(|(known, _)| known == log)
                            .map_or(caller, |(_, account)| *account),
                        Call::Accept => model.pending.unwrap_or(caller),
                        _ => model.owner,
                    };
                }
                let data = match &call {
                    Call::Anchor { log, epoch, root, size } => {
                        contract::anchor_call(&batch(*log, model.epoch(*log, epoch), *root, *size))
                    }
                    Call::SetAnchorer { log, who: account, allowed } => {
                        let log = Hash::sha256(&[*log]).0.to_vec();
                        encode("setAnchorer", &[Token::FixedBytes(log), who(account), Token::Bool(*allowed)])
                    }
                    Call::Pause => encode("pause", &[]),
                    Call::Unpause => encode("unpause", &[]),
                    Call::Offer { to } => encode("offerOwnership", &[who(to)]),
                    Call::Accept => encode("acceptOwnership", &[]),
                };
                let before = model.clone();
                let expected = model.take(caller, &call);
                let receipt = anvil.send(&accounts[caller], Some(&contract), &data);
                let done = receipt["status"] == "0x1";
                prop_assert_eq!(done, expected, "{:?} by {} in {:?}", call, caller, before);
                prop_assert_eq!(receipt["logs"].as_array().unwrap().len(), usize::from(expected));
                let mut counts = counts.borrow_mut();
                *(if done { &mut *counts.0 } else { &mut *counts.1 }) += 1;
            }
            // What was anchored is still there, and nothing else is.
            let view = |data: Vec<u8>| {
                bytes(&anvil.call("eth_call", json!([{ "to": contract, "data": hex(&data) }, "latest"])))
            };
            for log in 0..2u8 {
                let id = Hash::sha256(&[log]);
                let latest = model.latest(log);
                prop_assert_eq!(
                    contract::read_latest(&view(contract::call(contract::LATEST, &[id.0]))),
                    Some(latest)
                );
                let near = (latest.saturating_sub(3)..=latest.saturating_add(3))
                    .chain([0, 1, u64::MAX])
                    .chain(model.anchors.keys().map(|(_, epoch)| *epoch));
                for epoch in near {
                    let call = contract::call(contract::ANCHOR_OF, &[id.0, contract::word(epoch)]);
                    let kept = contract::read_anchor_of(&view(call)).expect("an anchor or none");
                    let expected = model
                        .anchors
                        .get(&(log, epoch))
                        .map(|(root, size)| batch(log, epoch, *root, *size).seal());
                    prop_assert_eq!(kept.map(|kept| kept.seal), expected);
                }
            }
            let owner = view(encode("owner", &[]));
            prop_assert_eq!(hex(&owner[12..]), accounts[model.owner].to_lowercase());
            Ok(())
        })
        .unwrap();
    // The calls were of both kinds, or nothing was tested.
    assert!(allowed_calls > 100 && refused_calls > 100, "{allowed_calls} allowed, {refused_calls} refused");
}

#[test]
fn a_refusal_carries_its_reason() {
    let anvil = Anvil::start();
    let (owner, anchorer) = (anvil.account(0), anvil.account(1));
    let log = Hash::sha256(&[0]);
    let contract = deploy(&anvil, &owner, &owner, log, &anchorer);
    let refusal = |from: &str, batch: &Batch| {
        let call = json!([{ "from": from, "to": contract, "data": hex(&contract::anchor_call(batch)) }]);
        let error = anvil.try_call("eth_estimateGas", call).unwrap_err();
        contract::refusal(&bytes(&error["data"])).to_string()
    };
    assert_eq!(refusal(&owner, &batch(0, 1, 1, 1)), "the account is not an anchorer of this log");
    assert_eq!(refusal(&anchorer, &batch(1, 1, 1, 1)), "the account is not an anchorer of this log");
    assert_eq!(refusal(&anchorer, &batch(0, MAX_STEP + 1, 1, 1)), "the epoch is too far above 0");
    let receipt = anvil.send(&anchorer, Some(&contract), &contract::anchor_call(&batch(0, 7, 1, 1)));
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(refusal(&anchorer, &batch(0, 7, 2, 1)), "the log is at epoch 7 already");
    anvil.send(&owner, Some(&contract), &encode("pause", &[]));
    assert_eq!(refusal(&anchorer, &batch(0, 8, 1, 1)), "it is paused");
}

#[test]
fn one_anchor_costs_less_than_100_000_gas_whatever_it_covers() {
    let anvil = Anvil::start();
    let (owner, anchorer) = (anvil.account(0), anvil.account(1));
    let log = Hash::sha256(&[0]);
    let contract = deploy(&anvil, &owner, &owner, log, &anchorer);
    let gas = |epoch, size| {
        let batch = Batch { size, root: Hash([0xff; 32]), ..batch(0, epoch, 1, 1) };
        let receipt = anvil.send(&anchorer, Some(&contract), &contract::anchor_call(&batch));
        assert_eq!(receipt["status"], "0x1");
        number(&receipt["gasUsed"])
    };
    let used = [gas(1, 10_000), gas(2, 10_000), gas(1_000_002, u64::MAX)];
    println!("gas: first {}, second {}, at most {}", used[0], used[1], used[2]);
    assert!(used.iter().all(|gas| *gas <= 100_000), "{used:?}");
    assert!(used[0].abs_diff(used[1]) < 1_000, "the first anchor costs as much as any other: {used:?}");
}

#[test]
fn the_event_says_everything_that_the_storage_says() {
    let anvil = Anvil::start();
    let (owner, anchorer) = (anvil.account(0), anvil.account(1));
    let contract = deploy(&anvil, &owner, &owner, Hash::sha256(&[0]), &anchorer);
    let batch = batch(0, 3, 9, 10_000);
    let receipt = anvil.send(&anchorer, Some(&contract), &contract::anchor_call(&batch));
    let log = &receipt["logs"][0];
    let topics: Vec<Hash> = log["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| topic.as_str().unwrap().parse().unwrap())
        .collect();
    let event = contract::read_anchored(&topics, &bytes(&log["data"])).unwrap();
    assert_eq!((event.log_id, event.epoch, event.seal), (batch.log_id, 3, batch.seal()));
    assert_eq!(event.anchorer.to_string().to_lowercase(), anchorer.to_lowercase());
    let call = contract::call(contract::ANCHOR_OF, &[batch.log_id.0, contract::word(3)]);
    let answer = bytes(&anvil.call("eth_call", json!([{ "to": contract, "data": hex(&call) }, "latest"])));
    let kept = contract::read_anchor_of(&answer).unwrap().unwrap();
    assert_eq!(kept.seal, batch.seal());
    assert_eq!(kept.block_number, number(&receipt["blockNumber"]));
    let block = anvil.call("eth_getBlockByNumber", json!([receipt["blockNumber"], false]));
    assert_eq!(kept.anchored_at.0.unsigned_abs(), number(&block["timestamp"]));
    let transaction = anvil.call("eth_getTransactionByHash", json!([receipt["transactionHash"]]));
    assert_eq!(U256::from(number(&transaction["value"])), U256::zero());
}
