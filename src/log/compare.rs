//! Compares a trail with what the registry states of its tenant's log: sealed events must be there, unchanged.
//!
//! Each event's hash is made from the one before. So it is enough to show that the last event of each chain that the log covers is
//! the sealed one, by its inclusion in the stated root; a replay shows the rest. The comparison costs a few reads for each chain,
//! whatever the length of the trail. It does not trust the tables of the log: the proofs bind places, in the log and in the registry, and
//! the signature binds the registry's root.
//!
//! An attacker who can change these tables *and* has the key can forge all of it. Only copies outside the machine are out of reach.

use std::collections::{BTreeMap, BTreeSet};

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{leaf_hash, verify_inclusion};
use zeroauth_audit_core::registry::entry::{self, Entry};
use zeroauth_audit_core::trust::Trust;

use crate::log::keys;
use crate::log::registry_entries::{Entries, Stated};
use crate::log::registry_rows::Run;
use crate::log::store::{Interval, Log, Tiles};
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::Trail;
use crate::trail::finding::Finding;
use crate::trail::membership::INTERNAL;

/// Compares tenants of one trail with their logs.
pub struct Comparison<'a> {
    session: &'a Session,
    trail: &'a Trail,
    /// Schema of the log's tables.
    logs: &'a str,
    /// The keys that signed here.
    pub trust: Trust,
    /// What the registry says; `None` before its first entry.
    entries: Option<Entries<'a>>,
    /// What was signed last of the registry, and why that is in doubt if it is.
    pub newest_run: Option<(Run, Option<String>)>,
    /// Findings of the job `anchor_check`, by tenant: only that job reads anchors.
    anchored: Anchored,
    /// Whether to report contradictions of sinks and anchors.
    outside: bool,
}

/// By tenant classes of findings, and words.
type Anchored = BTreeMap<String, Vec<(&'static str, String)>>;

/// The newest sealed state of a tenant.
pub struct Sealed<'a> {
    /// The log.
    pub log: Log,
    /// Its root, as the registry states it.
    pub root: Digest,
    /// The entry of the registry that states it.
    pub newest: Option<Stated>,
    /// The last interval of each of its chains.
    pub ends: Vec<End>,
    /// Its tiles, as far as they were read.
    pub tiles: Tiles<'a>,
}

/// Where a log says that a chain ends.
pub struct End {
    /// The chain.
    pub chain: i16,
    /// Its last interval.
    pub interval: Interval,
}

impl<'a> Comparison<'a> {
    /// `None` when the table has no logs, or the extension's tables are older than logs.
    pub fn start(session: &'a Session, trail: &'a Trail) -> Result<Option<Self>, Failure> {
        let Some(logs) = &trail.logs else { return Ok(None) };
        let mut there = false;
        let name = format!("{logs}.logs");
        session.again("SELECT pg_catalog.to_regclass($1) IS NOT NULL", &[Parameter::Text(&name)], |row| {
            there = row.bool(0);
            Ok(())
        })?;
        if !there {
            return Ok(None);
        }
        let trust = keys::trust(session, logs)?;
        let (entries, anchored) = (Entries::open(session, logs)?, anchored(session, trail)?);
        let newest_run = match Run::newest(session, logs)? {
            None => None,
            Some(run) => {
                let doubt = run.doubt(&trust, &Tiles::registry(session, logs))?;
                Some((run, doubt))
            }
        };
        Ok(Some(Self { session, trail, logs, trust, entries, newest_run, anchored, outside: true }))
    }

    /// What it reads with.
    pub fn session(&self) -> &'a Session {
        self.session
    }

    /// Leaves out contradictions of sinks and anchors: the jobs that query them have reported those.
    pub fn inside(self) -> Self {
        Self { anchored: Anchored::new(), outside: false, ..self }
    }

    /// Leaves out what is wrong with the registry as a whole: that is one alert, and keeps no log from being sealed.
    pub fn of_logs(mut self) -> Self {
        self.anchored.remove("");
        self
    }

    /// Every tenant whose log holds events.
    pub fn tenants(&self) -> Result<Vec<String>, Failure> {
        let sql = format!(
            "SELECT DISTINCT tenant_id FROM {}.logs WHERE tree_size > 0 AND state <> 'ended' ORDER BY tenant_id",
            self.logs
        );
        let mut tenants = BTreeSet::new();
        self.session.all(&sql, &[], |row| {
            tenants.extend(row.text(0)?);
            Ok(())
        })?;
        if let Some(entries) = &self.entries {
            entries.tenants(&mut |tenant| {
                tenants.insert(tenant);
                Ok(())
            })?;
        }
        crate::pg::out_of_memory::check()?;
        Ok(tenants.into_iter().collect())
    }

    /// Reports how `tenant` differs from its sealed state, and returns that state, if there is one that can be read. `empty`:
    /// whether the tenant has no event at all.
    pub fn compare<'t>(
        &'t self,
        tenant: &'t str,
        empty: bool,
        report: &mut dyn FnMut(Finding),
    ) -> Result<Option<Sealed<'t>>, Failure> {
        let finding = |class, chain, detail| Finding {
            class,
            tenant: Some(tenant.to_owned()),
            chain,
            seq: None,
            missing_to: None,
            event_id: None,
            expected: None,
            actual: None,
            detail,
        };
        // What is wrong with the registry is so for every tenant.
        for (class, detail) in [tenant, ""].iter().filter_map(|of| self.anchored.get(*of)).flatten() {
            report(finding(class, None, detail.clone()));
        }
        let log = Log::current(self.session, self.logs, tenant)?;
        let newest = match self.registered(tenant, log.as_ref())? {
            Ok(newest) => newest,
            Err(why) => {
                report(finding("checkpoint_mismatch", None, why));
                return Ok(None);
            }
        };
        let Some(log) = log.filter(|log| log.size > 0) else {
            return Ok(None);
        };
        if empty {
            let missing_to = Some(i64::try_from(log.size).unwrap_or(i64::MAX));
            let detail = format!("{} events were sealed, and none is there", log.size);
            report(Finding { missing_to, ..finding("tenant_missing", None, detail) });
            return Ok(None);
        }
        if let Some((class, detail)) = self.held(tenant, &log)? {
            report(finding(class, None, detail));
        }
        let root = match self.stated_root(tenant, &log, newest.as_ref())? {
            Ok(root) => root,
            Err(why) => {
                report(finding("checkpoint_mismatch", None, why));
                return Ok(None);
            }
        };
        let ends = self.ends((tenant, log.epoch), log.size)?;
        let covered = ends.iter().map(|end| u64::try_from(end.interval.to).unwrap_or(0));
        if covered.fold(0, u64::saturating_add) != log.size {
            let why = "the intervals of the log do not cover its events";
            report(finding("checkpoint_mismatch", None, why.to_owned()));
            return Ok(None);
        }
        let tiles = Tiles::new(self.session, self.logs, tenant, log.epoch);
        for end in &ends {
            let (chain, to) = (end.chain, end.interval.to);
            let Some(hash) = self.event_hash(tenant, chain, to)? else {
                let missing_to = Some(to);
                match self.head(tenant, chain)? {
                    None => {
                        let detail = format!("{to} events were sealed");
                        report(Finding { missing_to, ..finding("chain_missing", Some(chain), detail) });
                    }
                    Some(head) if head < to => {
                        let detail = format!("events up to {to} were sealed");
                        let seq = Some(head + 1);
                        report(Finding { seq, missing_to, ..finding("tail_truncated", Some(chain), detail) });
                    }
                    // A hole, which the replay names.
                    Some(_) => {}
                }
                continue;
            };
            let place = end.interval.leaf(to);
            let proven = match tiles.inclusion(place, log.size)? {
                Ok(path) => {
                    verify_inclusion(place, log.size, &leaf_hash(hash.as_bytes()), &path, &root).is_ok()
                }
                Err(_) => false,
            };
            if !proven {
                let (seq, hash, detail) = self.first_difference(tenant, &log, &tiles, chain, to, hash)?;
                let (seq, actual) = (Some(seq), Some(*hash.as_bytes()));
                report(Finding { seq, actual, ..finding("checkpoint_mismatch", Some(chain), detail) });
            }
        }
        Ok(Some(Sealed { log, root, newest, ends, tiles }))
    }

    /// The entry of the registry that the log of `tenant` goes on from; `Ok(Err(..))` when the log is not the one that the registry knows.
    /// Whoever rewrites a log, or begins it anew, can do so in the tables of the log; here it is one of all.
    pub fn registered(
        &self,
        tenant: &str,
        log: Option<&Log>,
    ) -> Result<Result<Option<Stated>, String>, Failure> {
        let newest = match &self.entries {
            Some(entries) => match entries.newest(tenant)? {
                Ok(newest) => newest,
                Err(why) => return Ok(Err(why)),
            },
            None => None,
        };
        let (size, epoch) = log.map_or((0, 0), |log| (log.size, i64::from(log.epoch)));
        let Some(Stated { index, log: known }) = &newest else {
            let unknown = || Err("the registry knows nothing of the log".to_owned());
            return Ok(if size == 0 { Ok(newest) } else { unknown() });
        };
        if log.is_none() {
            return Ok(Err(format!(
                "entry {index} of the registry has {} events, and there is no log",
                known.size
            )));
        }
        if log.is_some_and(|log| log.state == "ended") {
            return Ok(Err("the log has ended, and no other follows it".to_owned()));
        }
        if size == 0 && epoch == i64::from(known.epoch) + 1 {
            // Until its first run, the event alone says so.
            return Ok(match self.says_restored(tenant, epoch)? {
                true => Ok(newest),
                false => {
                    Err(format!("epoch {epoch} of the log was begun, and no event log.restored says so"))
                }
            });
        }
        Ok(if (size, epoch) == (known.size, i64::from(known.epoch)) {
            Ok(newest)
        } else if self.is_held_for(tenant, known)? {
            // Told as what it is: a directory has more.
            Ok(None)
        } else {
            Err(format!(
                "entry {index} of the registry has {} events of epoch {}, and the log is another one, with {size} of epoch {epoch}",
                known.size, known.epoch
            ))
        })
    }

    /// Whether the log is held because a directory has the state that the registry has.
    fn is_held_for(&self, tenant: &str, known: &entry::Log) -> Result<bool, Failure> {
        let sql = format!(
            "SELECT 1 FROM {}.logs WHERE tenant_id = $1 AND state = 'held' AND known_size = $2 AND known_root = $3",
            self.logs
        );
        let mut held = false;
        let parameters =
            [Parameter::Text(tenant), Parameter::count(known.size), Parameter::Bytes(known.root.as_bytes())];
        self.session.again(&sql, &parameters, |_| {
            held = true;
            Ok(())
        })?;
        Ok(held)
    }

    /// Whether an event says that this epoch begins after a restore.
    fn says_restored(&self, tenant: &str, epoch: i64) -> Result<bool, Failure> {
        let sql = format!(
            "SELECT 1 FROM {} WHERE tenant_id = $1 AND action = 'log.restored' AND details ->> 'epoch' = $2 LIMIT 1",
            self.trail.name
        );
        let mut says = false;
        self.session.again(&sql, &[Parameter::Text(tenant), Parameter::Text(&epoch.to_string())], |_| {
            says = true;
            Ok(())
        })?;
        Ok(says)
    }

    /// Reports the checkpoint of a sink that this log contradicts.
    fn held(&self, tenant: &str, log: &Log) -> Result<Option<(&'static str, String)>, Failure> {
        if log.state != "held" || !self.outside {
            return Ok(None);
        }
        let sql = format!(
            "SELECT known_by, known_size FROM {}.logs WHERE tenant_id = $1 AND epoch = $2::pg_catalog.int4",
            self.logs
        );
        let mut found = None;
        let parameters = [Parameter::Text(tenant), Parameter::Int8(i64::from(log.epoch))];
        self.session.again(&sql, &parameters, |row| {
            let (sink, size) = (row.text(0)?.unwrap_or_default(), row.int8(1).unwrap_or(0));
            let more = u64::try_from(size).is_ok_and(|size| size > log.size);
            found = Some(if more {
                (
                    "tail_truncated",
                    format!("sink {sink} holds a checkpoint of {size} events, the log has {}", log.size),
                )
            } else {
                ("checkpoint_mismatch", format!("sink {sink} holds another root of {size} events"))
            });
            Ok(())
        })?;
        Ok(found)
    }

    /// The root that the registry states of the log; `Ok(Err(..))` when it states none, or when that is not what was signed.
    fn stated_root(
        &self,
        tenant: &str,
        log: &Log,
        newest: Option<&Stated>,
    ) -> Result<Result<Digest, String>, Failure> {
        let Some(entries) = &self.entries else {
            return Ok(Err("the registry is not there".to_owned()));
        };
        let (index, stated) = match newest {
            Some(newest) => (newest.index, newest.log),
            // Of a log that is held the registry has taken over more.
            None => {
                let last = log.size.saturating_sub(1);
                let place = (tenant, log.epoch);
                match entries.oldest(place, last)? {
                    Some(stated) if stated.log.size == log.size => (stated.index, stated.log),
                    _ => {
                        return Ok(Err(format!(
                            "no entry of the registry has the log's {} events",
                            log.size
                        )));
                    }
                }
            }
        };
        match &self.newest_run {
            Some((_, Some(why))) => return Ok(Err(format!("the registry: {why}"))),
            Some((Run { size, root, .. }, None)) if index < *size => {
                let leaf = Entry::leaf(&Entry::Log(stated).text());
                let path = entries.tiles.inclusion(index, *size)?;
                if !path.is_ok_and(|path| verify_inclusion(index, *size, &leaf, &path, root).is_ok()) {
                    return Ok(Err(format!("entry {index} of the registry is not what was signed")));
                }
            }
            // It waits for its signature.
            _ => {}
        }
        Ok(Ok(stated.root))
    }

    /// The last interval of each chain that the first `size` leaves of a log cover.
    pub fn ends(&self, (tenant, epoch): (&str, i32), size: u64) -> Result<Vec<End>, Failure> {
        let schema = self.logs;
        let newest = format!(
            "SELECT i.chain, i.from_seq, i.to_seq, i.first_leaf, i.tree_size FROM {schema}.log_intervals i
             WHERE i.tenant_id = $1 AND i.epoch = $2::pg_catalog.int4 AND i.tree_size <= $3"
        );
        let sql = format!(
            "WITH RECURSIVE ends AS (
                ({newest} ORDER BY i.chain DESC, i.to_seq DESC LIMIT 1)
                UNION ALL
                SELECT below.* FROM ends CROSS JOIN LATERAL ({newest} AND i.chain < ends.chain ORDER BY i.chain DESC, i.to_seq DESC LIMIT 1) below)
             SELECT chain, from_seq, to_seq, first_leaf, tree_size FROM ends ORDER BY chain"
        );
        let mut ends = Vec::new();
        self.session.again(
            &sql,
            &[Parameter::Text(tenant), Parameter::Int8(i64::from(epoch)), Parameter::count(size)],
            |row| {
                ends.push(End { chain: row.int2(0).unwrap_or(0), interval: Interval::read(row, 1) });
                Ok(())
            },
        )?;
        Ok(ends)
    }

    /// The hash of an event, if it is there.
    pub fn event_hash(&self, tenant: &str, chain: i16, seq: i64) -> Result<Option<Digest>, Failure> {
        let sql = format!(
            "SELECT event_hash FROM {} WHERE tenant_id = $1 AND chain = $2 AND seq = $3",
            self.trail.name
        );
        let mut hash = None;
        let parameters = [Parameter::Text(tenant), Parameter::Int2(chain), Parameter::Int8(seq)];
        self.session.again(&sql, &parameters, |row| {
            hash = row.bytes(0).and_then(Digest::from_slice);
            Ok(())
        })?;
        Ok(hash)
    }

    fn head(&self, tenant: &str, chain: i16) -> Result<Option<i64>, Failure> {
        let sql = format!(
            "SELECT seq FROM {} WHERE tenant_id = $1 AND chain = $2 ORDER BY seq DESC LIMIT 1",
            self.trail.name
        );
        let mut head = None;
        self.session.again(&sql, &[Parameter::Text(tenant), Parameter::Int2(chain)], |row| {
            head = row.int8(0);
            Ok(())
        })?;
        Ok(head)
    }

    /// The first event of a chain that is not the sealed one, if the tiles still show it: every hash after a rewritten event differs,
    /// so it is found by halving. Otherwise the last one, where the proof failed.
    fn first_difference(
        &self,
        tenant: &str,
        log: &Log,
        tiles: &Tiles<'_>,
        chain: i16,
        to: i64,
        last: Digest,
    ) -> Result<(i64, Digest, String), Failure> {
        let place = (tenant, log.epoch);
        let (mut same, mut other, mut hash) = (0, to, last);
        let last_leaf = Interval::of(self.session, self.logs, place, chain, to)?
            .map(|interval| tiles.leaf(interval.leaf(to)))
            .transpose()?
            .flatten();
        match last_leaf {
            Some(leaf) if leaf == leaf_hash(last.as_bytes()) => {
                let detail = "the log's tiles or intervals are not what was sealed".to_owned();
                return Ok((to, last, detail));
            }
            Some(_) => {}
            None => return Ok((to, last, "the log's tiles are not there".to_owned())),
        }
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            let interval = Interval::of(self.session, self.logs, place, chain, middle)?;
            let sealed = match interval {
                Some(interval) => tiles.leaf(interval.leaf(middle))?,
                None => None,
            };
            let stored = self.event_hash(tenant, chain, middle)?;
            match (stored, sealed) {
                (Some(stored), Some(sealed)) if leaf_hash(stored.as_bytes()) == sealed => same = middle,
                (Some(stored), Some(_)) => (other, hash) = (middle, stored),
                _ => break,
            }
        }
        Ok((other, hash, format!("from this event on up to {to} the chain is not what was sealed")))
    }
}

/// What the job `anchor_check` found, by tenant.
fn anchored(session: &Session, trail: &Trail) -> Result<Anchored, Failure> {
    let mut found = Anchored::new();
    if trail.logs.as_deref() != Some(INTERNAL) {
        // Logs that were made for a drill are not anchored.
        return Ok(found);
    }
    let sql = format!(
        "SELECT tenant_id, kind, detail FROM {INTERNAL}.anchor_findings WHERE tenant_id <> '' OR source = 'rows' ORDER BY tenant_id, kind"
    );
    session.again(&sql, &[], |row| {
        let missing = row.text(1)?.as_deref() == Some("tenant_missing");
        let class = if missing { "tenant_missing" } else { "anchor_mismatch" };
        let of_tenant = found.entry(row.text(0)?.unwrap_or_default()).or_default();
        of_tenant.push((class, row.text(2)?.unwrap_or_default()));
        Ok(())
    })?;
    Ok(found)
}
