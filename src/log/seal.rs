//! Adds the new events of each tenant to its log, and the log's new state to the registry.
//!
//! The snapshot of a step sees a prefix of each chain, so a sealed log has no holes. Before a log grows, its end is compared with what was
//! sealed: the first new event of a chain must follow the last one in the log. A log that fails the comparison is refused: it stays as it
//! is, is not signed, and raises an alert.

mod writes;

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::registry::entry::{self, Restored};
use zeroauth_audit_core::tile::builder::Builder;

use crate::log::compare::{Comparison, End, Sealed};
use crate::log::keys::Signer;
use crate::log::registry::Registry;
use crate::log::restart;
use crate::log::store::{Interval, Log, Tiles};
use crate::pg::error::{Failure, Kind};
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::Trail;
use crate::trail::finding::Finding;
pub use writes::Writes;

const HOUR: Duration = Duration::from_secs(3600);
/// Chains that a step looks at.
const MOST_CHAINS: usize = 2000;
/// Events that are added to a log at once; a longer one gets several checkpoints.
const MOST_EVENTS: i64 = 200_000;

thread_local! {
    /// When this process last looked for logs that are not there at all.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A chain with events that its log does not have.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// Its number.
    pub chain: i16,
    /// Its last event that is to be in the log.
    pub head: i64,
    /// The last one that is.
    pub covered: i64,
}

/// Why a log is refused: nothing is added to it.
pub enum Refusal {
    /// Events behind this one are not there.
    Gap(i16, i64),
    /// The chain does not continue the sealed events, at this event.
    Rewritten(i16, i64),
    /// The log's own tables do not fit together.
    Log(String),
    /// Sealed events are changed or gone: a class of finding, and words.
    Sealed(&'static str, String),
}

impl Refusal {
    fn of(finding: &Finding) -> Self {
        let place = match (finding.chain, finding.seq) {
            (Some(chain), Some(seq)) => format!("chain {chain}, event {seq}: "),
            (Some(chain), None) => format!("chain {chain}: "),
            _ => String::new(),
        };
        Self::Sealed(finding.class, place + &finding.detail)
    }

    /// The reason in words.
    pub fn words(&self) -> String {
        match self {
            Self::Gap(chain, seq) => format!("event {seq} of chain {chain} is not there"),
            Self::Rewritten(chain, seq) => {
                format!("event {seq} of chain {chain} is not the one that was sealed")
            }
            Self::Log(why) | Self::Sealed(_, why) => why.clone(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Gap(..) => "gap",
            Self::Rewritten(..) | Self::Log(_) => "checkpoint_mismatch",
            Self::Sealed(class, _) => class,
        }
    }
}

/// Adds events to the logs of one trail.
pub struct Sealer<'a> {
    /// Where everything is read and written.
    pub session: &'a Session,
    /// What is sealed.
    pub trail: &'a Trail,
    /// Schema of the logs' tables.
    pub schema: &'a str,
    /// The signer; `None`: nobody signs for now.
    pub signer: Option<Signer>,
    /// The comparison that is made before a log grows.
    pub comparison: Comparison<'a>,
    /// The log of all logs.
    pub registry: Registry<'a>,
    /// Rows to be stored: nothing is stored before they are flushed.
    pub writes: Writes<'a>,
}

/// Tenants with something to do, and their chains.
pub type Grown = Vec<(String, Vec<Chain>)>;

impl<'a> Sealer<'a> {
    /// For the trail whose logs are in `schema`; `Ok(Err(..))` with the reason when the registry cannot be continued.
    pub fn start(
        session: &'a Session,
        trail: &'a Trail,
        schema: &'a str,
        signer: Option<Signer>,
    ) -> Result<Result<Self, String>, Failure> {
        let comparison = Comparison::start(session, trail)?.ok_or_else(|| {
            Failure::new(Kind::DamagedLog, "the tables of the logs are not there")
                .hint("Update the extension: ALTER EXTENSION zeroauth_audit UPDATE.")
        })?;
        let comparison = comparison.of_logs();
        let base = signer.as_ref().map(Signer::base);
        let registry = match Registry::open(session, schema, comparison.newest_run.clone(), base)? {
            Ok(registry) => registry,
            Err(why) => return Ok(Err(why)),
        };
        let writes = Writes::new(session, schema);
        Ok(Ok(Self { session, trail, schema, signer, comparison, registry, writes }))
    }

    /// Tenants behind `after` with something to do, and whether the list is complete.
    pub fn grown(&self, after: &str) -> Result<(Grown, bool), Failure> {
        let sql = include_str!("../../sql/queries/grown_chains.sql")
            .replace("@trail@", &self.trail.name)
            .replace("@logs@", self.schema);
        let mut tenants: Grown = Vec::new();
        let (mut chains, mut complete) = (0, true);
        self.session.stream(&sql, &[Parameter::Text(after)], |row| {
            let tenant = row.text(0)?.unwrap_or_default();
            let chain = Chain {
                chain: row.int2(1).unwrap_or(0),
                head: row.int8(2).unwrap_or(0),
                covered: row.int8(3).unwrap_or(0),
            };
            match tenants.last_mut() {
                Some((known, of)) if *known == tenant => of.push(chain),
                _ if chains >= MOST_CHAINS => {
                    complete = false;
                    return Ok(ControlFlow::Break(()));
                }
                _ => {
                    out_of_memory::grow(&mut tenants)?;
                    tenants.push((tenant, vec![chain]));
                }
            }
            chains += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((tenants, complete))
    }

    /// Signs the registry, if a run of it is due; `Ok(Err(..))` when it does not agree with itself.
    pub fn close(&self) -> Result<Result<(), String>, Failure> {
        self.signer.as_ref().map_or(Ok(Ok(())), |signer| self.registry.close(signer))
    }

    /// Adds new events and signs. Returns how many events, and whether no new event is left. `expected`: refused unless the log is this then.
    pub fn seal(
        &self,
        tenant: &str,
        chains: &[Chain],
        expected: Option<&entry::Log>,
    ) -> Result<Result<(i64, bool), Refusal>, Failure> {
        let (log, root, newest, mut ends, mut tiles) = match self.compare(tenant, false)? {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(Some(sealed)) => (sealed.log, Some(sealed.root), sealed.newest, sealed.ends, sealed.tiles),
            Ok(None) => {
                let log = match Log::current(self.session, self.schema, tenant)? {
                    Some(log) => log,
                    None if self.registry.entries.recognize(tenant)? => {
                        let why = "a directory has a log of this tenant from before it was here";
                        return Ok(Err(Refusal::Log(why.to_owned())));
                    }
                    None => self.begin(tenant)?,
                };
                let newest = match self.registry.entries.newest(tenant)? {
                    Ok(newest) => newest,
                    Err(why) => return Ok(Err(Refusal::Log(why))),
                };
                let tiles = Tiles::new(self.session, self.schema, tenant, log.epoch);
                (log, None, newest, Vec::new(), tiles)
            }
        };
        let mut begins_with = log.size;
        let mut restored = None;
        let mut copied = None;
        if log.size == 0
            && let Some(newest) = newest.as_ref().filter(|newest| is_epoch(newest.log.epoch + 1, log.epoch))
        {
            restored = Some(Restored::Nothing);
            if let Some(state) = restart::newest_kept(&self.comparison, self.schema, tenant, newest)? {
                restored = Some(Restored::Entry(state.entry));
                begins_with = state.size;
                (ends, tiles) = (state.ends, state.tiles);
                copied = Some(state.place);
            }
        }
        let mut builder = match tiles.builder(begins_with)? {
            Ok(builder) => builder,
            Err(why) => return Ok(Err(Refusal::Log(why))),
        };
        // Others could have written to the tiles: nothing is added to a log that is not as it was sealed.
        if log.size > 0 && root != Some(builder.root()) {
            return Ok(Err(Refusal::Log("the log's root is not the one that was sealed".to_owned())));
        }
        let (mut added, mut whole) = (Vec::new(), true);
        let mut room = MOST_EVENTS;
        let covered = |chain: &Chain| match restored {
            None => chain.covered,
            Some(_) => ends.iter().find(|end| end.chain == chain.chain).map_or(0, |end| end.interval.to),
        };
        let chains = chains.iter().map(|chain| Chain { covered: covered(chain), ..*chain });
        for chain in chains.filter(|chain| chain.head > chain.covered) {
            let chain = &chain;
            let to = chain.head.min(chain.covered.saturating_add(room));
            whole &= to == chain.head;
            if to == chain.covered {
                break;
            }
            let first_leaf = builder.size();
            let before = match sealed_leaf(&tiles, &ends, chain)? {
                Ok(before) => before,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if let Err(refusal) = self.add(&mut builder, before, tenant, chain, to)? {
                return Ok(Err(refusal));
            }
            room -= to - chain.covered;
            added.push((chain.chain, Interval { from: chain.covered, to, first_leaf, tree_size: 0 }));
        }
        let events = MOST_EVENTS - room;
        let grown = builder.finish();
        let entry = entry::Log {
            label: self.registry.entries.names.label(tenant),
            epoch: u32::try_from(log.epoch).unwrap_or(0),
            size: grown.size,
            root: grown.root,
            previous: newest.as_ref().map(|newest| newest.index),
            restored,
        };
        if expected.is_some_and(|expected| *expected != entry) {
            return Ok(Err(Refusal::Log("the log is another one than a directory has".to_owned())));
        }
        // Nothing is stored of a log that is refused: the next run begins its epoch again.
        if let Some(place) = &copied {
            place.copy(self.session, self.schema, &tiles, log.epoch)?;
        }
        let key = (tenant, log.epoch);
        for tile in &grown.tiles {
            self.writes.tile(key, tile)?;
        }
        for (chain, interval) in added {
            self.writes.interval(key, chain, &Interval { tree_size: grown.size, ..interval })?;
        }
        if restored.is_some() || grown.size > log.size {
            self.registry.append(tenant, &entry, None)?;
            self.writes.size(key, grown.size)?;
        }
        Ok(Ok((events, whole)))
    }

    /// The sealed state of a tenant, or the reason to refuse its log; `empty`: none of its events is there.
    fn compare<'t>(
        &'t self,
        tenant: &'t str,
        empty: bool,
    ) -> Result<Result<Option<Sealed<'t>>, Refusal>, Failure> {
        let mut first = None;
        let sealed = self.comparison.compare(tenant, empty, &mut |finding| {
            first.get_or_insert(Refusal::of(&finding));
        })?;
        Ok(first.map_or(Ok(sealed), Err))
    }

    /// Tenants that were sealed and are not there at all. How many.
    pub fn missing(&self) -> Result<u64, Failure> {
        let sql = format!(
            "SELECT l.tenant_id FROM {0}.logs l WHERE l.state = 'open' AND l.tree_size > 0
             AND NOT EXISTS (SELECT 1 FROM {1} e WHERE e.tenant_id = l.tenant_id)
             OR l.state = 'ended' AND NOT EXISTS (SELECT 1 FROM {0}.logs n WHERE n.tenant_id = l.tenant_id AND n.epoch > l.epoch) LIMIT 1000",
            self.schema, self.trail.name
        );
        let mut tenants = Vec::new();
        self.session.all(&sql, &[], |row| {
            tenants.extend(row.text(0)?);
            Ok(())
        })?;
        tenants.extend(self.without_log()?);
        for tenant in &tenants {
            if let Err(refusal) = self.compare(tenant, true)? {
                self.refuse(tenant, &refusal)?;
            }
        }
        Ok(tenants.len() as u64)
    }

    /// Tenants of the registry that have no log; each process looks for them at its first run, and then every hour.
    fn without_log(&self) -> Result<Vec<String>, Failure> {
        if LOOKED.get().is_some_and(|at| at.elapsed() < HOUR) {
            return Ok(Vec::new());
        }
        LOOKED.set(Some(Instant::now()));
        let mut tenants = Vec::new();
        self.registry.entries.tenants(&mut |tenant| {
            if Log::current(self.session, self.schema, &tenant)?.is_none() && tenants.len() < 1000 {
                tenants.push(tenant);
            }
            Ok(())
        })?;
        Ok(tenants)
    }

    /// Adds the events of one chain up to `to`; `before` is the leaf of the one before them, if there is one.
    fn add(
        &self,
        builder: &mut Builder,
        mut before: Option<Digest>,
        tenant: &str,
        chain: &Chain,
        to: i64,
    ) -> Result<Result<(), Refusal>, Failure> {
        let sql = format!(
            "SELECT seq, prev_hash, event_hash FROM {} WHERE tenant_id = $1 AND chain = $2 AND seq > $3 AND seq <= $4 ORDER BY seq",
            self.trail.name
        );
        let parameters = [
            Parameter::Text(tenant),
            Parameter::Int2(chain.chain),
            Parameter::Int8(chain.covered),
            Parameter::Int8(to),
        ];
        let mut expected = chain.covered + 1;
        let mut refusal = None;
        self.session.stream(&sql, &parameters, |row| {
            let digest = |n: usize| row.bytes(n).and_then(Digest::from_slice);
            let (seq, prev, hash) = (row.int8(0), digest(1), digest(2));
            let (Some(prev), Some(hash)) = (prev, hash) else {
                refusal = Some(Refusal::Gap(chain.chain, expected));
                return Ok(ControlFlow::Break(()));
            };
            if seq != Some(expected) {
                refusal = Some(Refusal::Gap(chain.chain, expected));
                return Ok(ControlFlow::Break(()));
            }
            if before.take().is_some_and(|sealed| leaf_hash(prev.as_bytes()) != sealed) {
                refusal = Some(Refusal::Rewritten(chain.chain, chain.covered));
                return Ok(ControlFlow::Break(()));
            }
            builder.push(leaf_hash(hash.as_bytes()));
            expected += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        if refusal.is_none() && expected != to + 1 {
            refusal = Some(Refusal::Gap(chain.chain, expected));
        }
        Ok(refusal.map_or(Ok(()), Err))
    }

    fn begin(&self, tenant: &str) -> Result<Log, Failure> {
        let sql = format!("INSERT INTO {}.logs (tenant_id) VALUES ($1)", self.schema);
        self.session.change_again(&sql, &[Parameter::Text(tenant)], |_| Ok(()))?;
        Ok(Log { epoch: 0, size: 0, state: "open".to_owned() })
    }

    /// Tenants with an open alert that their log is refused.
    pub fn refused(&self) -> Result<HashSet<String>, Failure> {
        let sql = format!(
            "SELECT tenant FROM {}.alerts WHERE fingerprint LIKE 'checkpoint\\_refused:%' AND state <> 'resolved'",
            self.schema
        );
        let mut tenants = HashSet::new();
        self.session.all(&sql, &[], |row| {
            tenants.extend(row.text(0)?);
            Ok(())
        })?;
        Ok(tenants)
    }

    pub fn refuse(&self, tenant: &str, refusal: &Refusal) -> Result<(), Failure> {
        let sql = format!(
            "SELECT {}.raise_alert($1, 1::pg_catalog.int2, $2, 'checkpoint_refused:' || $2,
                'the log of tenant ' || $2 || ' is not sealed any more: ' || $3, pg_catalog.jsonb_build_object('why', $3))",
            self.schema
        );
        let words = refusal.words();
        let parameters = [Parameter::Text(refusal.kind()), Parameter::Text(tenant), Parameter::Text(&words)];
        self.session.change_again(&sql, &parameters, |_| Ok(()))
    }

    /// Resolves alerts about refused logs that agree again and have no new event, which would have them sealed.
    pub fn settle(&self, refused: &HashSet<String>) -> Result<(), Failure> {
        for tenant in refused {
            if matches!(self.compare(tenant, false)?, Ok(Some(_))) {
                self.settled(tenant)?;
            }
        }
        Ok(())
    }

    /// Resolves the alert about a refused log: it was sealed again.
    pub fn settled(&self, tenant: &str) -> Result<(), Failure> {
        let sql = format!(
            "SELECT {0}.resolve_alert(a.fingerprint, 'the log was sealed') FROM {0}.alerts a
             WHERE a.fingerprint = 'checkpoint_refused:' || $1 AND a.state <> 'resolved'",
            self.schema
        );
        self.session.change_again(&sql, &[Parameter::Text(tenant)], |_| Ok(()))
    }
}

/// Whether both are the same epoch.
fn is_epoch(in_registry: u32, of_log: i32) -> bool {
    u32::try_from(of_log) == Ok(in_registry)
}

/// The leaf of the last event of a chain in the log.
fn sealed_leaf(
    tiles: &Tiles<'_>,
    ends: &[End],
    chain: &Chain,
) -> Result<Result<Option<Digest>, Refusal>, Failure> {
    if chain.covered == 0 {
        return Ok(Ok(None));
    }
    let end = ends.iter().find(|end| end.chain == chain.chain && end.interval.to == chain.covered);
    let leaf = match end {
        Some(end) => tiles.leaf(end.interval.leaf(chain.covered))?,
        None => None,
    };
    Ok(match leaf {
        Some(leaf) => Ok(Some(leaf)),
        None => {
            Err(Refusal::Log(format!("event {} of chain {} is not in the log", chain.covered, chain.chain)))
        }
    })
}
