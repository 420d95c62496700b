//! Whether an export holds just the events that checkpoints cover.
//!
//! The root over the events must be the signed one at the size of each checkpoint. In which order events are leaves is told by
//! the intervals ([`pieces`]). Without them one order can be tried: a tenant that only ever had chain 0 has its leaves in the
//! order of `seq`; if the root is right then, that proves it, and if another chain is there, nothing is said.

mod pieces;

use std::collections::{BTreeMap, HashMap, HashSet};

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::origin::Base;
use zeroauth_audit_core::range::Frontier;
use zeroauth_audit_core::registry::Label;
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::trust::Believed;

use crate::clock;
use crate::intervals::Logs;
use crate::runs::logs::{OfLog, State};
use crate::sealed;
use crate::verdict::{Finding, Verdict};
use pieces::Pieces;

/// The checkpoints and intervals that an export is held against, by tenant.
#[derive(Default)]
pub struct Sealings {
    checkpoints: HashMap<String, Vec<Believed>>,
    intervals: HashMap<String, Logs>,
    expected: HashSet<String>,
    registry: Option<OfRegistry>,
}

/// Logs of a registry, whose tenants have labels.
pub struct OfRegistry {
    /// Makes the labels.
    pub names: NameKey,
    /// The registry's name.
    pub base: Base,
    /// Its logs that are not closed.
    pub logs: BTreeMap<Label, OfLog>,
    /// Whether every log must have events in the export.
    pub all_tenants: bool,
}

impl Sealings {
    /// `checkpoints` in any order, `intervals` by tenant. A tenant that is `expected`, has a checkpoint, and no event in the
    /// export, is missing.
    #[must_use]
    pub fn new(
        checkpoints: Vec<Believed>,
        intervals: HashMap<String, Logs>,
        expected: HashSet<String>,
    ) -> Self {
        let mut of_tenants: HashMap<String, Vec<Believed>> = HashMap::new();
        for checkpoint in checkpoints {
            of_tenants.entry(checkpoint.tenant.clone()).or_default().push(checkpoint);
        }
        Self { checkpoints: of_tenants, intervals, expected, registry: None }
    }

    /// Also the logs of a registry.
    pub fn with_registry(&mut self, registry: OfRegistry) {
        self.registry = Some(registry);
    }

    /// What the events of a tenant are held against, if there is anything.
    pub(super) fn take(&mut self, tenant: &str, verdict: &mut Verdict) -> Option<Coverage> {
        if let Some(coverage) = self.registry.as_mut().and_then(|registry| registry.take(tenant, verdict)) {
            return Some(coverage);
        }
        let checkpoints = self.checkpoints.remove(tenant)?;
        Coverage::new(tenant, checkpoints, self.intervals.remove(tenant), verdict)
    }

    /// The whole export was read: which tenants are not in it.
    pub(super) fn end(mut self, verdict: &mut Verdict) {
        if let Some(registry) = self.registry.take() {
            registry.end(verdict);
        }
        let mut left: Vec<_> = self.checkpoints.into_iter().collect();
        left.sort_by(|a, b| a.0.cmp(&b.0));
        for (tenant, checkpoints) in left {
            let newest = checkpoints.iter().max_by_key(|c| (c.epoch, c.checkpoint.size));
            let Some(newest) = newest.filter(|newest| newest.checkpoint.size > 0) else { continue };
            if self.expected.contains(&tenant) {
                let size = newest.checkpoint.size;
                let detail = format!("a checkpoint covers {size} events of it, and the export has none");
                verdict.found(Finding::new("tenant_missing", &tenant, detail));
                verdict.checkpoints.push(sealed::report(newest, "its tenant is not in the export"));
            } else {
                verdict.note(format!("tenant {tenant:?} has checkpoints and is not in the export"));
            }
        }
    }
}

impl OfRegistry {
    /// What the events of a tenant are held against: every state of its log. A tenant without an entry was sealed by none.
    fn take(&mut self, tenant: &str, verdict: &mut Verdict) -> Option<Coverage> {
        let OfLog { newest, states, intervals, .. } = self.logs.remove(&self.names.label(tenant))?;
        let (entry, log) = newest?;
        let origin = self.base.as_str();
        let believed = |state: &State| Believed {
            checkpoint: Checkpoint {
                origin: format!("{origin}, entry {}", state.entry),
                size: state.size,
                root: state.root,
            },
            tenant: tenant.into(),
            epoch: log.epoch.into(),
            base: self.base.clone(),
            sealed_at: None,
            witnesses: Vec::new(),
        };
        let checkpoints: Vec<Believed> = states.iter().map(believed).collect();
        let logs = intervals.map(|intervals| Logs::from([(log.epoch.into(), intervals)]));
        verdict.note(format!("tenant {tenant:?}: complete as of entry {entry} of {origin:?}"));
        Coverage::new(tenant, checkpoints, logs, verdict)
    }

    fn end(self, verdict: &mut Verdict) {
        let left = self.logs.iter().filter_map(|(label, log)| Some((label, log.newest?.1.size)));
        let mut others = 0;
        for (label, size) in left {
            others += 1;
            if self.all_tenants {
                let detail =
                    format!("its log has {size} events, and the export has none of a tenant with this label");
                verdict.found(Finding::new("tenant_missing", &format!("label {label}"), detail));
            }
        }
        if others > 0 && !self.all_tenants {
            verdict.note(format!("{others} logs of the registry are of tenants that are not in the export"));
        }
    }
}

/// What became of the comparison with a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Not,
    Same,
    Other(Digest),
    /// The intervals have no checkpoint of this size.
    NoSuchSize,
}

/// One tenant's events against its checkpoints.
pub struct Coverage {
    tenant: String,
    /// Of the newest epoch, by size, one of each, and what became of it.
    checkpoints: Vec<(Believed, Compared)>,
    /// The next to be compared.
    next: usize,
    frontier: Frontier,
    order: Order,
    /// Events of each chain, and its last `seq`.
    chains: BTreeMap<i16, (u64, i64)>,
    /// Findings of others before this tenant.
    findings_before: u64,
}

enum Order {
    /// Chain 0 by `seq`; `whole` while nothing was missing.
    Chain0 {
        whole: bool,
    },
    Intervals(Pieces),
}

fn findings(verdict: &Verdict) -> u64 {
    verdict.classes.values().sum()
}

impl Coverage {
    fn new(
        tenant: &str,
        mut checkpoints: Vec<Believed>,
        logs: Option<Logs>,
        verdict: &mut Verdict,
    ) -> Option<Self> {
        let findings_before = findings(verdict);
        let epoch = checkpoints.iter().map(|c| c.epoch).max()?;
        let all = checkpoints.len();
        checkpoints.retain(|c| c.epoch == epoch);
        if checkpoints.len() < all {
            let older = all - checkpoints.len();
            verdict.note(format!(
                "restored: tenant {tenant:?} is in epoch {epoch}, and {older} checkpoints of earlier epochs are not compared"
            ));
        }
        checkpoints.sort_by_key(|c| (c.checkpoint.size, c.sealed_at));
        for pair in checkpoints.windows(2) {
            if let Some(finding) = sealed::two_roots(&pair[0], &pair[1]) {
                verdict.found(finding);
            }
        }
        // Of each size the one that was sealed last.
        checkpoints.reverse();
        checkpoints.dedup_by_key(|c| c.checkpoint.size);
        checkpoints.reverse();
        let most = checkpoints.last()?.checkpoint.size;
        let order = match logs.and_then(|mut logs| logs.remove(&epoch)) {
            None => Order::Chain0 { whole: true },
            Some(log) => Order::Intervals(Pieces::new(&log, most)),
        };
        let mut coverage = Self {
            tenant: tenant.into(),
            checkpoints: checkpoints.into_iter().map(|c| (c, Compared::Not)).collect(),
            next: 0,
            frontier: Frontier::new(),
            order,
            chains: BTreeMap::new(),
            findings_before,
        };
        coverage.compare();
        Some(coverage)
    }

    /// Takes the next event in the order of the export.
    pub(super) fn add(&mut self, chain: i16, seq: i64, event_hash: &Digest) {
        let (events, last) = self.chains.entry(chain).or_default();
        *events += 1;
        *last = seq;
        match &mut self.order {
            Order::Chain0 { whole } => {
                if chain == 0 && *whole {
                    *whole = u64::try_from(seq) == Ok(self.frontier.size() + 1);
                    if *whole {
                        self.frontier.push(leaf_hash(event_hash.as_bytes()));
                        self.compare();
                    }
                }
            }
            Order::Intervals(pieces) => {
                pieces.add(chain, seq, event_hash);
                self.join();
            }
        }
    }

    /// Joins what is whole and next.
    fn join(&mut self) {
        while let Order::Intervals(pieces) = &mut self.order
            && let Some(range) = pieces.next_whole()
            // It begins where the one before ended.
            && self.frontier.append(&range).is_ok()
        {
            self.compare();
        }
    }

    /// Compares the root with the checkpoint of this size, if there is one.
    fn compare(&mut self) {
        while let Some((next, compared)) = self.checkpoints.get_mut(self.next)
            && next.checkpoint.size <= self.frontier.size()
        {
            *compared = if next.checkpoint.size < self.frontier.size() {
                Compared::NoSuchSize
            } else if next.checkpoint.root == self.frontier.root() {
                Compared::Same
            } else {
                Compared::Other(self.frontier.root())
            };
            self.next += 1;
        }
    }

    /// All events of the tenant were taken.
    pub(super) fn end(self, verdict: &mut Verdict) {
        let Some((largest, last_compared)) = self.checkpoints.last() else { return };
        let several_chains = self.chains.keys().any(|chain| *chain != 0);
        let unknown_order = matches!(self.order, Order::Chain0 { .. }) && several_chains;
        self.missing(largest.checkpoint.size, verdict);
        if !unknown_order {
            self.mismatch(verdict);
        }
        let same = self.checkpoints.iter().filter(|(_, compared)| *compared == Compared::Same).count();
        let result = match last_compared {
            Compared::Same => "the events have its root",
            // Without knowing the order another root means nothing.
            Compared::Other(_) | Compared::NoSuchSize if !unknown_order => "the events do not have its root",
            _ if findings(verdict) > self.findings_before => {
                "events that it covers are missing or were changed"
            }
            _ => {
                let why = match self.order {
                    Order::Chain0 { .. } => "the order of the events is not known without the intervals",
                    Order::Intervals(_) => "the intervals are older than it",
                };
                let what =
                    format!("the checkpoint of {} events was not compared: {why}", largest.checkpoint.size);
                verdict.trouble_with(largest.checkpoint.origin.clone(), what);
                "not compared"
            }
        };
        verdict.checkpoints.push(sealed::report(largest, result));
        let all = self.checkpoints.len();
        if all > 1 {
            verdict.note(format!(
                "tenant {:?}: the events have the roots of {same} of {all} checkpoints",
                self.tenant
            ));
        }
    }

    /// Events that a checkpoint covers and that are not there.
    fn missing(&self, most: u64, verdict: &mut Verdict) {
        let finding = |class, detail| Finding::new(class, &self.tenant, detail);
        let last = |chain| self.chains.get(&chain).map(|(_, last)| *last);
        let events: u64 = self.chains.values().map(|(events, _)| events).sum();
        let too_few = format!("a checkpoint covers {most} events, and the export has {events}");
        match &self.order {
            Order::Chain0 { .. } if events < most => {
                let only_chain_0 = self.chains.len() == 1 && last(0).is_some();
                let finding = finding("tail_truncated", too_few);
                let next = last(0).unwrap_or(0).saturating_add(1);
                verdict.found(if only_chain_0 { finding.at(0, next) } else { finding });
            }
            Order::Chain0 { .. } => {}
            Order::Intervals(pieces) => {
                for (chain, to) in pieces.covered() {
                    match last(*chain) {
                        None => {
                            let detail = format!(
                                "a checkpoint covers it up to {to}, and the export has nothing of it"
                            );
                            verdict.found(finding("chain_missing", detail).at(*chain, 1));
                        }
                        Some(last) if last < *to => {
                            let detail = format!(
                                "a checkpoint covers events up to {to}, which are missing from here on"
                            );
                            verdict
                                .found(finding("tail_truncated", detail).at(*chain, last.saturating_add(1)));
                        }
                        Some(_) => {}
                    }
                }
                if events < most && pieces.reach() < most {
                    verdict.found(finding("tail_truncated", too_few));
                }
            }
        }
    }

    /// The first checkpoint whose root the events do not have.
    fn mismatch(&self, verdict: &mut Verdict) {
        let different = |(_, compared): &(Believed, Compared)| {
            matches!(compared, Compared::Other(_) | Compared::NoSuchSize)
        };
        let Some(at) = self.checkpoints.iter().position(different) else { return };
        let (Believed { checkpoint, sealed_at, .. }, compared) = &self.checkpoints[at];
        let when = sealed_at.map_or_else(String::new, |time| format!(" at {}", clock::print(time)));
        let size = checkpoint.size;
        let before = self.checkpoints[..at].iter().rev().find(|(_, compared)| *compared == Compared::Same);
        let before = match before {
            None => "no smaller checkpoint to compare with was given".to_owned(),
            Some((before, _)) => format!("the first {} still have theirs", before.checkpoint.size),
        };
        let finding = |detail| Finding::new("checkpoint_mismatch", &self.tenant, detail);
        verdict.found(match compared {
            Compared::Other(root) => {
                let detail =
                    format!("the first {size} events do not have the root that was sealed{when}; {before}");
                finding(detail).hashes(&checkpoint.root, root)
            }
            _ => finding(format!(
                "a checkpoint of {size} events was sealed{when}, and the intervals have none; {before}"
            )),
        });
    }
}
