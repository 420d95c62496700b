//! The job `checkpoint`: adds the new events of each tenant to its log, and signs what the log is then.
//!
//! One step is one transaction: it takes some tenants in order and leaves the rest to the next. Whatever the step's snapshot sees
//! of a chain is a prefix of it, so what is sealed has no holes. Before a log grows, its end is compared with what was sealed: the
//! first new event of a chain has to follow the last one that the log holds. A log that does not pass is left as it is, and people
//! are told; nothing is signed over a doubt.
//!
//! The place in the list of tenants is kept in this process alone: a run that is interrupted begins anew, and finds nothing to do
//! for those that are done.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use serde::Serialize;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::tile::Tile;
use zeroauth_audit_core::tile::builder::Builder;

use crate::access::Trail;
use crate::call::{Arguments, jsonb, sql_function};
use crate::compare::Comparison;
use crate::error::Failure;
use crate::keys::Signer;
use crate::log::{Interval, Log, Tiles};
use crate::query::{Parameter, Session};
use crate::{keys, memory};

/// A step takes about so long: other jobs have their turn in between.
const STEP: Duration = Duration::from_millis(300);
/// Chains that a step looks at.
const MOST_CHAINS: usize = 2000;
/// Events that are added to a log at once; a longer one gets several checkpoints.
const MOST_EVENTS: i64 = 200_000;

thread_local! {
    /// The last tenant that this process's run has done.
    static AFTER: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A chain with events that its log does not have.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    chain: i16,
    head: i64,
    covered: i64,
}

/// What a step did.
#[derive(Default, Serialize)]
struct Done {
    logs: u64,
    events: i64,
    refused: u64,
}

#[derive(Serialize)]
struct Step {
    more: bool,
    done: Done,
}

/// Why a log is not added to.
pub enum Doubt {
    /// Events behind this one are not there.
    Gap(i16, i64),
    /// The chain does not go on from what was sealed, at this event.
    Rewritten(i16, i64),
    /// The log's own tables do not fit together.
    Log(String),
    /// What was sealed is not there as it was: a class of finding, and words.
    Sealed(&'static str, String),
}

impl Doubt {
    /// What it is about.
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

fn step(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let after = AFTER.take();
    let schema = arguments.quoted_schema();
    let trail = Trail::open(arguments)?;
    let session = Session::connect();
    let signer = keys::signer(&session, &schema)?;
    let comparison = Comparison::start(&session, &trail)?;
    let sealer = Sealer { session: &session, trail: &trail, schema: &schema, signer, comparison };
    let (tenants, mut complete) = sealer.grown(&after)?;
    // To find them may take as long as a step, when few of many tenants have grown: some are done in each all the same.
    let begun = Instant::now();
    let mut done = Done::default();
    let mut last = String::new();
    for (tenant, chains) in tenants {
        if begun.elapsed() > STEP {
            complete = false;
            break;
        }
        match sealer.seal(&tenant, &chains)? {
            Ok((events, whole)) => {
                done.logs += 1;
                done.events += events;
                if !whole {
                    // The same tenant once more: there is more than fits one checkpoint.
                    complete = false;
                    break;
                }
                sealer.settled(&tenant)?;
            }
            Err(doubt) => {
                done.refused += 1;
                sealer.refuse(&tenant, &doubt)?;
            }
        }
        last = tenant;
        memory::check()?;
    }
    if complete {
        done.refused += sealer.missing()?;
    } else {
        AFTER.replace(if last.is_empty() { after } else { last });
    }
    drop(sealer);
    drop(session);
    jsonb(&Step { more: !complete, done })
}

/// Adds events to the logs of one trail.
pub struct Sealer<'a> {
    pub session: &'a Session,
    pub trail: &'a Trail,
    /// Schema of the logs' tables.
    pub schema: &'a str,
    /// Who signs; `None`: nobody, for now.
    pub signer: Option<Signer>,
    /// What is asked before a log grows.
    pub comparison: Option<Comparison<'a>>,
}

/// Tenants with something to do, and their chains.
pub type Grown = Vec<(String, Vec<Chain>)>;

impl Sealer<'_> {
    /// Tenants behind `after` with something to do, and whether those are all.
    pub fn grown(&self, after: &str) -> Result<(Grown, bool), Failure> {
        let sql = include_str!("../sql/worker/grown.sql")
            .replace("@extschema@.audit_events", &self.trail.name)
            .replace("@extschema@", self.schema);
        let mut tenants: Grown = Vec::new();
        let (mut chains, mut complete) = (0, true);
        let can_sign = Parameter::Int8(i64::from(self.signer.is_some()));
        self.session.stream(&sql, &[Parameter::Text(after), can_sign], |row| {
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
                    memory::grow(&mut tenants)?;
                    tenants.push((tenant, vec![chain]));
                }
            }
            chains += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((tenants, complete))
    }

    /// Adds what is new and signs. How many events, and whether those were all.
    pub fn seal(&self, tenant: &str, chains: &[Chain]) -> Result<Result<(i64, bool), Doubt>, Failure> {
        let log = match Log::current(self.session, self.schema, tenant)? {
            Some(log) => log,
            None => self.begin(tenant)?,
        };
        if let Some(doubt) = self.compare(tenant, false)? {
            return Ok(Err(doubt));
        }
        if self.signer.is_none() && log.origin.is_some() {
            // It waits for its key: an unsigned checkpoint behind signed ones is what tampering looks like.
            return Ok(Ok((0, true)));
        }
        let tiles = Tiles::new(self.session, self.schema, tenant, log.epoch);
        let mut builder = match tiles.builder(log.size)? {
            Ok(builder) => builder,
            Err(why) => return Ok(Err(Doubt::Log(why))),
        };
        // The tiles come from where others could have written: nothing is added to what is not as it was sealed.
        if log.size > 0 && self.sealed_root(tenant, &log)? != Some(builder.root()) {
            return Ok(Err(Doubt::Log("the log's root is not the one that was sealed".to_owned())));
        }
        let (mut added, mut whole) = (Vec::new(), true);
        let mut room = MOST_EVENTS;
        for chain in chains.iter().filter(|chain| chain.head > chain.covered) {
            let to = chain.head.min(chain.covered.saturating_add(room));
            whole &= to == chain.head;
            if to == chain.covered {
                break;
            }
            let first_leaf = builder.size();
            if let Err(doubt) = self.add(&mut builder, &tiles, tenant, log.epoch, chain, to)? {
                return Ok(Err(doubt));
            }
            room -= to - chain.covered;
            added.push((chain.chain, Interval { from: chain.covered, to, first_leaf, tree_size: 0 }));
        }
        let events = MOST_EVENTS - room;
        let grown = builder.finish();
        let root = grown.root;
        for tile in &grown.tiles {
            self.store_tile(tenant, log.epoch, tile)?;
        }
        for (chain, interval) in &added {
            self.store_interval(tenant, log.epoch, *chain, interval, grown.size)?;
        }
        self.sign(tenant, &log, grown.size, &root)?;
        Ok(Ok((events, whole)))
    }

    /// What of a tenant is not as it was sealed; `empty`: none of its events is there.
    fn compare(&self, tenant: &str, empty: bool) -> Result<Option<Doubt>, Failure> {
        let Some(comparison) = &self.comparison else { return Ok(None) };
        let mut first = None;
        comparison.compare(tenant, empty, &mut |finding| {
            let place = match (finding.chain, finding.seq) {
                (Some(chain), Some(seq)) => format!("chain {chain}, event {seq}: "),
                (Some(chain), None) => format!("chain {chain}: "),
                _ => String::new(),
            };
            first.get_or_insert(Doubt::Sealed(finding.class, place + &finding.detail));
        })?;
        Ok(first)
    }

    /// Tenants that were sealed and are not there at all. How many.
    fn missing(&self) -> Result<u64, Failure> {
        let sql = format!(
            "SELECT l.tenant_id FROM {0}.audit_logs l WHERE l.state = 'open' AND l.tree_size > 0
             AND NOT EXISTS (SELECT FROM {1} e WHERE e.tenant_id = l.tenant_id) LIMIT 1000",
            self.schema, self.trail.name
        );
        let mut tenants = Vec::new();
        self.session.all(&sql, &[], |row| {
            tenants.extend(row.text(0)?);
            Ok(())
        })?;
        for tenant in &tenants {
            if let Some(doubt) = self.compare(tenant, true)? {
                self.refuse(tenant, &doubt)?;
            }
        }
        Ok(tenants.len() as u64)
    }

    /// Adds the events of one chain up to `to`.
    fn add(
        &self,
        builder: &mut Builder,
        tiles: &Tiles<'_>,
        tenant: &str,
        epoch: i32,
        chain: &Chain,
        to: i64,
    ) -> Result<Result<(), Doubt>, Failure> {
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
        let mut before = self.sealed_leaf(tiles, tenant, epoch, chain)?;
        if chain.covered > 0 && before.is_none() {
            return Ok(Err(Doubt::Log(format!(
                "event {} of chain {} is not in the log",
                chain.covered, chain.chain
            ))));
        }
        let mut expected = chain.covered + 1;
        let mut doubt = None;
        self.session.stream(&sql, &parameters, |row| {
            let digest = |n: usize| row.bytes(n).and_then(Digest::from_slice);
            let (seq, prev, hash) = (row.int8(0), digest(1), digest(2));
            let (Some(prev), Some(hash)) = (prev, hash) else {
                doubt = Some(Doubt::Gap(chain.chain, expected));
                return Ok(ControlFlow::Break(()));
            };
            if seq != Some(expected) {
                doubt = Some(Doubt::Gap(chain.chain, expected));
                return Ok(ControlFlow::Break(()));
            }
            if before.take().is_some_and(|sealed| leaf_hash(prev.as_bytes()) != sealed) {
                doubt = Some(Doubt::Rewritten(chain.chain, chain.covered));
                return Ok(ControlFlow::Break(()));
            }
            builder.push(leaf_hash(hash.as_bytes()));
            expected += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        if doubt.is_none() && expected != to + 1 {
            doubt = Some(Doubt::Gap(chain.chain, expected));
        }
        Ok(doubt.map_or(Ok(()), Err))
    }

    /// The leaf of the last event of a chain that the log holds.
    fn sealed_leaf(
        &self,
        tiles: &Tiles<'_>,
        tenant: &str,
        epoch: i32,
        chain: &Chain,
    ) -> Result<Option<Digest>, Failure> {
        if chain.covered == 0 {
            return Ok(None);
        }
        let interval = Interval::of(self.session, self.schema, (tenant, epoch), chain.chain, chain.covered)?;
        match interval {
            Some(interval) => tiles.leaf(interval.leaf(chain.covered)),
            None => Ok(None),
        }
    }

    fn begin(&self, tenant: &str) -> Result<Log, Failure> {
        let sql = format!("INSERT INTO {}.audit_logs (tenant_id) VALUES ($1)", self.schema);
        self.session.change_again(&sql, &[Parameter::Text(tenant)], |_| Ok(()))?;
        Ok(Log { epoch: 0, size: 0, state: "open".to_owned(), origin: None })
    }

    fn store_tile(&self, tenant: &str, epoch: i32, tile: &Tile) -> Result<(), Failure> {
        let sql = format!(
            "INSERT INTO {}.audit_tiles (tenant_id, epoch, level, place, hashes) VALUES ($1, $2::pg_catalog.int4, $3, $4, $5)
             ON CONFLICT (tenant_id, epoch, level, place) DO UPDATE SET hashes = excluded.hashes",
            self.schema
        );
        let bytes: Vec<u8> = tile.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        let parameters = [
            Parameter::Text(tenant),
            Parameter::Int8(i64::from(epoch)),
            Parameter::Int2(i16::from(tile.level)),
            Parameter::count(tile.index),
            Parameter::Bytes(&bytes),
        ];
        self.session.change_again(&sql, &parameters, |_| Ok(()))
    }

    fn store_interval(
        &self,
        tenant: &str,
        epoch: i32,
        chain: i16,
        interval: &Interval,
        size: u64,
    ) -> Result<(), Failure> {
        let sql = format!(
            "INSERT INTO {}.audit_log_intervals (tenant_id, epoch, chain, to_seq, from_seq, first_leaf, tree_size)
             VALUES ($1, $2::pg_catalog.int4, $3, $4, $5, $6, $7)",
            self.schema
        );
        let parameters = [
            Parameter::Text(tenant),
            Parameter::Int8(i64::from(epoch)),
            Parameter::Int2(chain),
            Parameter::Int8(interval.to),
            Parameter::Int8(interval.from),
            Parameter::count(interval.first_leaf),
            Parameter::count(size),
        ];
        self.session.change_again(&sql, &parameters, |_| Ok(()))
    }

    /// The root of the newest checkpoint.
    fn sealed_root(&self, tenant: &str, log: &Log) -> Result<Option<Digest>, Failure> {
        let sql = format!(
            "SELECT root FROM {}.audit_checkpoints WHERE tenant_id = $1 AND epoch = $2::pg_catalog.int4 AND tree_size = $3",
            self.schema
        );
        let parameters =
            [Parameter::Text(tenant), Parameter::Int8(i64::from(log.epoch)), Parameter::count(log.size)];
        let mut root = None;
        self.session.again(&sql, &parameters, |row| {
            root = row.bytes(0).and_then(Digest::from_slice);
            Ok(())
        })?;
        Ok(root)
    }

    /// Signs the log as it is, if there is a key, and stores the checkpoint.
    fn sign(&self, tenant: &str, log: &Log, size: u64, root: &Digest) -> Result<(), Failure> {
        let origin = match (&self.signer, &log.origin) {
            (None, origin) => origin.clone(),
            (Some(_), Some(origin)) => Some(origin.clone()),
            (Some(signer), None) => Some(signer.origin(tenant, log.epoch)?),
        };
        let note = match (&self.signer, &origin) {
            (Some(signer), Some(origin)) => Some(signer.sign(origin, size, root)?),
            _ => None,
        };
        let update = format!(
            "UPDATE {}.audit_logs SET tree_size = $3, origin = NULLIF($4, '') WHERE tenant_id = $1 AND epoch = $2::pg_catalog.int4",
            self.schema
        );
        let size = Parameter::count(size);
        let key = [Parameter::Text(tenant), Parameter::Int8(i64::from(log.epoch)), size];
        let [tenant, epoch, size] = key;
        let origin = Parameter::Text(origin.as_deref().unwrap_or_default());
        self.session.change_again(&update, &[tenant, epoch, size, origin], |_| Ok(()))?;
        let insert = format!(
            "INSERT INTO {0}.audit_checkpoints AS c (tenant_id, epoch, tree_size, root, note) VALUES ($1, $2::pg_catalog.int4, $3, $4, NULLIF($5, ''))
             ON CONFLICT (tenant_id, epoch, tree_size) DO UPDATE
             SET sealed_at = excluded.sealed_at, seal = excluded.seal, note = excluded.note",
            self.schema
        );
        let root = Parameter::Bytes(root.as_bytes());
        let note = Parameter::Text(note.as_deref().unwrap_or_default());
        self.session.change_again(&insert, &[tenant, epoch, size, root, note], |_| Ok(()))
    }

    fn refuse(&self, tenant: &str, doubt: &Doubt) -> Result<(), Failure> {
        let sql = format!(
            "SELECT {}.audit_raise_alert($1, 1::pg_catalog.int2, $2, 'checkpoint_refused:' || $2,
                'the log of tenant ' || $2 || ' is not sealed any more: ' || $3, pg_catalog.jsonb_build_object('why', $3))",
            self.schema
        );
        let words = doubt.words();
        let parameters = [Parameter::Text(doubt.kind()), Parameter::Text(tenant), Parameter::Text(&words)];
        self.session.change_again(&sql, &parameters, |_| Ok(()))
    }

    /// What a log was refused for is gone when it was sealed.
    fn settled(&self, tenant: &str) -> Result<(), Failure> {
        let sql = format!(
            "SELECT {0}.audit_resolve_alert(a.fingerprint, 'the log was sealed') FROM {0}.audit_alerts a
             WHERE a.fingerprint = 'checkpoint_refused:' || $1 AND a.state <> 'resolved'",
            self.schema
        );
        self.session.change_again(&sql, &[Parameter::Text(tenant)], |_| Ok(()))
    }
}

sql_function!(zeroauth_audit_job_checkpoint, pg_finfo_zeroauth_audit_job_checkpoint, step);
