//! A chain as plain data, a driver on it with programmed failures, and a worker that may crash between any two things it does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use zeroauth_audit_anchor::batch::{Batch, Hash, Moment, Seal};
use zeroauth_audit_anchor::driver::{Attempt, Driver, Fees, Inclusion, Need, Nonces, Place, Sent, View};
use zeroauth_audit_anchor::failure::{Failure, Refusal};
use zeroauth_audit_anchor::machine::{Action, Event, Notice, Phase, Policy, State, step};
use zeroauth_audit_anchor::pursue::perform;

pub fn batch(epoch: u64) -> Batch {
    Batch {
        log_id: Batch::log_id("example.org/audit"),
        epoch,
        root: Hash::sha256(b"root"),
        size: 10_000,
        batch_time: Moment(0),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tx {
    pub id: String,
    nonce: u64,
    max_fee: u64,
    /// None: somebody else's, of no concern to the contract.
    anchor: Option<(u64, Seal)>,
}

#[derive(Clone, Debug, Default)]
pub struct Block {
    number: u64,
    /// Differs after a reorganisation.
    fork: u64,
    txs: Vec<Tx>,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    NotDone,
    ButDone,
    /// Not done, and it took its time to say so.
    Hung,
}

#[derive(Debug, Default)]
pub struct Chain {
    pub now: i64,
    pub blocks: Vec<Block>,
    /// So many blocks are final.
    pub finalized: usize,
    pub pool: Vec<Tx>,
    pub base_fee: u64,
    pub fee_cap: u64,
    pub paused: bool,
    fork: u64,
    made: u64,
    pub faults: VecDeque<Fault>,
    /// Every endpoint is away.
    pub down: bool,
    /// Ids of stored attempts: nothing else may be sent.
    stored: Vec<String>,
    pub sends: Vec<String>,
}

/// What the contract has after some blocks: epoch -> (seal, block, tx).
type Anchors = BTreeMap<u64, (Seal, u64, u64, String)>;

impl Chain {
    fn anchors(&self, blocks: usize) -> (Anchors, Vec<String>) {
        let (mut anchors, mut reverted) = (Anchors::new(), Vec::new());
        for block in &self.blocks[..blocks] {
            for tx in &block.txs {
                let Some((epoch, seal)) = tx.anchor else { continue };
                let latest = anchors.keys().last().copied().unwrap_or(0);
                if epoch > latest && !tx.id.ends_with('!') {
                    anchors.insert(epoch, (seal, block.number, block.fork, tx.id.clone()));
                } else {
                    reverted.push(tx.id.clone());
                }
            }
        }
        (anchors, reverted)
    }

    fn nonce(&self, blocks: usize) -> u64 {
        self.blocks[..blocks].iter().map(|block| block.txs.len() as u64).sum()
    }

    /// Epochs under which the root is anchored for good.
    pub fn anchored_for_good(&self, root: Hash) -> Vec<u64> {
        let (anchors, _) = self.anchors(self.finalized);
        anchors.iter().filter(|(_, (seal, ..))| seal.root == root).map(|(epoch, _)| *epoch).collect()
    }

    pub fn mine(&mut self) {
        let mut nonce = self.nonce(self.blocks.len());
        let mut txs = Vec::new();
        loop {
            let best = self.pool.iter().filter(|tx| tx.nonce == nonce && tx.max_fee >= self.base_fee);
            let Some(mut tx) = best.max_by_key(|tx| tx.max_fee).cloned() else { break };
            if self.paused {
                tx.id.push('!'); // What was included while it was paused failed, and still has when it no longer is.
            }
            txs.push(tx);
            nonce += 1;
        }
        self.pool.retain(|tx| tx.nonce >= nonce);
        self.blocks.push(Block { number: self.blocks.len() as u64 + 1, fork: self.fork, txs });
        self.now += 12;
    }

    pub fn reorg(&mut self, depth: usize, lose: bool) {
        self.fork += 1;
        for _ in 0..depth.min(self.blocks.len() - self.finalized) {
            let block = self.blocks.pop().unwrap();
            if !lose {
                self.pool.extend(block.txs.into_iter().map(|mut tx| {
                    tx.id.truncate(tx.id.trim_end_matches('!').len());
                    tx
                }));
            }
        }
    }

    pub fn finalize(&mut self, behind: usize) {
        self.finalized = self.finalized.max(self.blocks.len().saturating_sub(behind));
    }

    /// Somebody with our key sends something; with fees that win.
    pub fn foreign(&mut self, anchor: Option<(u64, Seal)>) {
        self.made += 1;
        let tx = Tx {
            id: format!("foreign {}", self.made),
            nonce: self.nonce(self.blocks.len()),
            max_fee: u64::MAX,
            anchor,
        };
        self.pool.push(tx);
    }

    /// How the next call ends.
    fn fault(&mut self) -> Fault {
        let fault = self.faults.pop_front().unwrap_or(Fault::None);
        if fault == Fault::Hung {
            self.now += 60;
        }
        if self.down { Fault::NotDone } else { fault }
    }
}

fn away() -> Failure {
    Failure::Unreachable { endpoint: 1, reason: "no answer in time".into() }
}

#[derive(Clone, Default)]
pub struct SimDriver(pub Arc<Mutex<Chain>>);

impl SimDriver {
    pub fn chain(&self) -> MutexGuard<'_, Chain> {
        self.0.lock().unwrap()
    }

    fn call<T>(&self, work: impl FnOnce(&mut Chain) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut chain = self.chain();
        match chain.fault() {
            Fault::None => work(&mut chain),
            Fault::NotDone | Fault::Hung => Err(away()),
            Fault::ButDone => work(&mut chain).and_then(|_| Err(away())),
        }
    }
}

impl Driver for SimDriver {
    fn look(&self, batch: &Batch, attempts: &[&Attempt]) -> Result<View, Failure> {
        self.call(|chain| {
            let (anchors, reverted) = chain.anchors(chain.blocks.len());
            let (final_anchors, _) = chain.anchors(chain.finalized);
            let place = match (anchors.get(&batch.epoch), anchors.keys().last()) {
                (Some((seal, number, fork, id)), _) => Place::Included(Inclusion {
                    seal: *seal,
                    id: id.clone(),
                    block_number: Some(*number),
                    block_hash: Some(format!("{number}/{fork}")),
                    anchored_at: Moment(chain.now),
                    finalized: final_anchors.contains_key(&batch.epoch),
                    token: None,
                }),
                (None, Some(latest)) if *latest > batch.epoch => Place::Passed {
                    latest: *latest,
                    finalized: final_anchors.keys().last().is_some_and(|latest| *latest > batch.epoch),
                },
                _ => Place::Free,
            };
            let known = |attempt: &&Attempt| chain.pool.iter().any(|tx| tx.id == attempt.id);
            Ok(View {
                place,
                waiting: attempts.first().is_some_and(known),
                nonces: Some(Nonces {
                    latest: chain.nonce(chain.blocks.len()),
                    finalized: chain.nonce(chain.finalized),
                }),
                reverted: attempts.iter().any(|attempt| reverted.contains(&format!("{}!", attempt.id))),
            })
        })
    }

    fn prepare(&self, _batch: &Batch, need: &Need, now: Moment) -> Result<Attempt, Failure> {
        self.call(|chain| {
            if chain.paused {
                return Err(Failure::Refused { refusal: Refusal::Paused });
            }
            let next = chain.nonce(chain.blocks.len());
            let (nonce, floor) = match need {
                Need::Fresh { behind_pending } => {
                    let pending = (next..).find(|n| !chain.pool.iter().any(|tx| tx.nonce == *n)).unwrap();
                    (if *behind_pending { pending } else { next }, 0)
                }
                Need::Replace { nonce, above } => (*nonce, above.max_fee + above.max_fee / 8 + 1),
            };
            let max_fee = floor.max(2 * chain.base_fee);
            if max_fee > chain.fee_cap {
                return Err(Failure::FeesAboveCap { needed: max_fee, cap: chain.fee_cap });
            }
            chain.made += 1;
            Ok(Attempt {
                id: format!("ours {}", chain.made),
                bytes: "02".into(),
                nonce: Some(nonce),
                fees: Some(Fees { max_fee, max_priority_fee: 1 }),
                prepared_at: now,
                sent_at: None,
                sends: 0,
                underpriced: false,
            })
        })
    }

    fn send(&self, batch: &Batch, attempt: &Attempt) -> Result<Sent, Failure> {
        let mut chain = self.chain();
        assert!(chain.stored.contains(&attempt.id), "{} was sent before it was stored", attempt.id);
        drop(chain);
        let attempt = attempt.clone();
        let batch = *batch;
        let result = self.call(move |chain| {
            let nonce = attempt.nonce.unwrap();
            chain.sends.push(attempt.id.clone());
            if chain.nonce(chain.blocks.len()) > nonce {
                return Ok(Sent::NonceUsed);
            }
            if chain.pool.iter().any(|tx| tx.id == attempt.id) {
                return Ok(Sent::Accepted);
            }
            let max_fee = attempt.fees.unwrap().max_fee;
            if let Some(other) = chain.pool.iter().find(|tx| tx.nonce == nonce) {
                if max_fee <= other.max_fee.saturating_add(other.max_fee / 10) {
                    return Ok(Sent::Underpriced);
                }
                chain.pool.retain(|tx| tx.nonce != nonce);
            }
            chain.pool.push(Tx { id: attempt.id, nonce, max_fee, anchor: Some((batch.epoch, batch.seal())) });
            Ok(Sent::Accepted)
        });
        chain = self.chain();
        chain.now += 1;
        result
    }

    fn evidence(&self, batch: &Batch, _: &Inclusion) -> Result<Value, Failure> {
        self.call(|chain| {
            let (anchors, _) = chain.anchors(chain.finalized);
            assert!(anchors.contains_key(&batch.epoch), "evidence of something that is not final");
            Ok(json!({}))
        })
    }
}

/// Where a worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    BeforeStore(usize),
    AfterStore(usize),
    BeforeCall(usize),
    AfterCall(usize),
}

/// A worker: what it stored, and nothing else, survives it.
pub struct Worker {
    pub driver: SimDriver,
    pub policy: Policy,
    pub batch: Batch,
    stored: String,
    pub notices: Vec<Notice>,
    pub last: Action,
}

impl Worker {
    pub fn new(batch: Batch) -> Self {
        let driver = SimDriver::default();
        {
            let mut chain = driver.chain();
            (chain.base_fee, chain.fee_cap) = (10, 1_000_000);
        }
        Self::on(driver, batch)
    }

    pub fn on(driver: SimDriver, batch: Batch) -> Self {
        let now = driver.chain().now;
        let stored = serde_json::to_string(&State::planned(Moment(now))).unwrap();
        Self { driver, policy: Policy::default(), batch, stored, notices: Vec::new(), last: Action::Look }
    }

    pub fn state(&self) -> State {
        serde_json::from_str(&self.stored).unwrap()
    }

    fn store(&mut self, state: &State, notices: Vec<Notice>) {
        let text = serde_json::to_string(state).unwrap();
        assert_eq!(
            serde_json::from_str::<State>(&text).unwrap(),
            *state,
            "what is stored is what comes back"
        );
        self.stored = text;
        self.notices.extend(notices);
        if let Some(attempt) = &state.attempt {
            self.driver.chain().stored.push(attempt.id.clone());
        }
    }

    /// Runs until there is nothing to do for now, or until it crashes. How many calls and stores it made.
    pub fn run(&mut self, crash: Option<Crash>) -> (usize, usize) {
        let (mut calls, mut stores) = (0, 0);
        let mut state = self.state();
        let mut event = Event::Resume;
        for _ in 0..100 {
            let now = Moment(self.driver.chain().now);
            let next = step(&self.policy, &self.batch, state.clone(), event, now);
            if next.state != state || !next.notices.is_empty() {
                if crash == Some(Crash::BeforeStore(stores)) {
                    return (calls, stores);
                }
                self.store(&next.state, next.notices);
                if crash == Some(Crash::AfterStore(stores)) {
                    return (calls, stores);
                }
                stores += 1;
            }
            state = next.state;
            self.check(&state, now);
            event = match &next.action {
                Action::Store => Event::Stored,
                Action::Wait(_) | Action::Done | Action::Replan { .. } => {
                    self.last = next.action;
                    return (calls, stores);
                }
                action => {
                    if crash == Some(Crash::BeforeCall(calls)) {
                        return (calls, stores);
                    }
                    let (event, _) = perform(&self.driver, &self.batch, &state, action, now).unwrap();
                    if crash == Some(Crash::AfterCall(calls)) {
                        return (calls, stores);
                    }
                    calls += 1;
                    event
                }
            };
        }
        panic!("it goes round and round: {state:?}");
    }

    /// What holds of every state.
    fn check(&self, state: &State, now: Moment) {
        let chain = self.driver.chain();
        let there = chain.anchored_for_good(self.batch.root);
        if state.phase == Phase::Finalized {
            assert_eq!(there, [self.batch.epoch], "a false `finalized`");
        }
        assert!(there.len() <= 1, "anchored twice: {there:?}");
        assert!(
            state.is_over() || state.next <= now.plus(6 * 60 * 60),
            "the next moment is out of reach: {state:?} at {now:?}"
        );
    }

    /// Lets time pass until the worker has something to do.
    pub fn sleep(&mut self) {
        let next = self.state().next.0;
        let mut chain = self.driver.chain();
        chain.now = chain.now.max(next);
    }

    /// Everything works from now on: runs until the batch is over, and returns its phase.
    pub fn recover(&mut self) -> Phase {
        {
            let mut chain = self.driver.chain();
            (chain.down, chain.paused, chain.base_fee) = (false, false, 10);
            chain.faults.clear();
        }
        for _ in 0..200 {
            self.run(None);
            if self.state().is_over() {
                return self.state().phase;
            }
            let mut chain = self.driver.chain();
            chain.mine();
            chain.finalize(1);
            drop(chain);
            self.sleep();
        }
        panic!("lost: {:?}", self.state());
    }

    pub fn pages(&self) -> usize {
        self.notices.iter().filter(|notice| matches!(notice, Notice::Page { .. })).count()
    }
}
