//! The Merkle log of a tenant as it is stored: its row, its tiles, the intervals that say where an event is.
//!
//! Reads only. [`crate::log::seal`] writes; nothing here checks that the tables are as they were written: a caller that draws
//! conclusions from them compares with a signed root.

use std::cell::RefCell;
use std::collections::HashMap;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::registry::entry;
use zeroauth_audit_core::tile::builder::Builder;
use zeroauth_audit_core::tile::{self, Tile, TileSource};

use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Row, Session};

/// The row of a log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its epoch.
    pub epoch: i32,
    /// How many events are in it.
    pub size: u64,
    /// `open`, `held` or `ended`.
    pub state: String,
}

impl Log {
    /// The current log of `tenant`.
    pub fn current(session: &Session, schema: &str, tenant: &str) -> Result<Option<Self>, Failure> {
        let sql = format!(
            "SELECT epoch, tree_size, state FROM {schema}.logs WHERE tenant_id = $1 ORDER BY epoch DESC LIMIT 1"
        );
        let mut found = None;
        session.again(&sql, &[Parameter::Text(tenant)], |row| {
            found = Some(Self::of(row, 0)?);
            Ok(())
        })?;
        Ok(found)
    }

    fn of(row: &Row<'_>, from: usize) -> Result<Self, Failure> {
        Ok(Self {
            epoch: row.int4(from).unwrap_or(0),
            size: row.count(from + 1).unwrap_or(0),
            state: row.text(from + 2)?.unwrap_or_default(),
        })
    }
}

/// A slice of one chain in a log: events behind `from` up to `to`, from `first_leaf` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// `seq` of the event before the first.
    pub from: i64,
    /// `seq` of the last event.
    pub to: i64,
    /// Place of the first event in the log.
    pub first_leaf: u64,
    /// Tree size of the checkpoint that added it.
    pub tree_size: u64,
}

impl Interval {
    /// The interval of `chain` that contains `seq`.
    pub fn of(
        session: &Session,
        schema: &str,
        (tenant, epoch): (&str, i32),
        chain: i16,
        seq: i64,
    ) -> Result<Option<Self>, Failure> {
        let sql = format!(
            "SELECT from_seq, to_seq, first_leaf, tree_size FROM {schema}.log_intervals
             WHERE tenant_id = $1 AND epoch = $2::pg_catalog.int4 AND chain = $3 AND to_seq >= $4 ORDER BY to_seq LIMIT 1"
        );
        let parameters = [
            Parameter::Text(tenant),
            Parameter::Int8(i64::from(epoch)),
            Parameter::Int2(chain),
            Parameter::Int8(seq),
        ];
        let mut found = None;
        session.again(&sql, &parameters, |row| {
            found = Some(Self::read(row, 0));
            Ok(())
        })?;
        Ok(found.filter(|interval| interval.from < seq))
    }

    /// From four columns of a row.
    pub fn read(row: &Row<'_>, from: usize) -> Self {
        let number = |n: usize| row.int8(from + n).unwrap_or(0);
        let place = |n: usize| u64::try_from(number(n)).unwrap_or(0);
        Self { from: number(0), to: number(1), first_leaf: place(2), tree_size: place(3) }
    }

    /// Place of an event of this interval in the log.
    pub fn leaf(&self, seq: i64) -> u64 {
        self.first_leaf.saturating_add(u64::try_from(seq - self.from - 1).unwrap_or(0))
    }
}

/// Hashes as a column has them, one behind the other.
pub fn joined(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// The hashes of such a column.
pub fn digests(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks_exact(32).filter_map(Digest::from_slice).collect()
}

/// Tiles that are kept in memory, of 8 kB each: those of a proof are few, but each tenant's entry may be in another one of the registry.
const MOST_KNOWN: usize = 1024;

/// The tiles of one log, each read once.
pub struct Tiles<'a> {
    session: &'a Session,
    sql: String,
    /// Tenant and epoch; `None`: the registry.
    log: Option<(&'a str, i32)>,
    known: RefCell<HashMap<(u8, u64), Vec<Digest>>>,
}

impl<'a> Tiles<'a> {
    /// The tiles of `tenant`'s log of that epoch.
    pub fn new(session: &'a Session, schema: &str, tenant: &'a str, epoch: i32) -> Self {
        let sql = format!(
            "SELECT hashes FROM {schema}.tiles WHERE tenant_id = $1 AND epoch = $2::pg_catalog.int4 AND level = $3 AND place = $4"
        );
        Self { session, sql, log: Some((tenant, epoch)), known: RefCell::default() }
    }

    /// The tiles of the log of a tenant that an entry of the registry is about.
    pub fn stated(session: &'a Session, schema: &str, tenant: &'a str, log: &entry::Log) -> Self {
        Self::new(session, schema, tenant, i32::try_from(log.epoch).unwrap_or(i32::MAX))
    }

    /// The tiles of the registry.
    pub fn registry(session: &'a Session, schema: &str) -> Self {
        let sql = format!("SELECT hashes FROM {schema}.registry_tiles WHERE level = $1 AND place = $2");
        Self { session, sql, log: None, known: RefCell::default() }
    }

    /// Root of the first `size` entries; `Ok(Err(..))` when the tiles do not give it.
    pub fn root(&self, size: u64) -> Result<Result<Digest, String>, Failure> {
        apart(tile::root(size, self))
    }

    /// Proof that the entry at `leaf` is in the tree of the first `size`.
    pub fn inclusion(&self, leaf: u64, size: u64) -> Result<Result<Vec<Digest>, String>, Failure> {
        apart(tile::inclusion_proof(leaf, size, self))
    }

    /// Proof that the tree of the first `size` entries begins with that of the first `old`.
    pub fn consistency(&self, old: u64, size: u64) -> Result<Result<Vec<Digest>, String>, Failure> {
        apart(tile::consistency_proof(old, size, self))
    }

    /// The compact range of the leaves from `begin` to `end` (not included).
    pub fn range(&self, begin: u64, end: u64) -> Result<Result<Vec<Digest>, String>, Failure> {
        apart(tile::range(begin, end, self))
    }

    /// The leaf hash at a place.
    pub fn leaf(&self, leaf: u64) -> Result<Option<Digest>, Failure> {
        let (place, within) = (leaf / 256, (leaf % 256) as usize);
        Ok(self.tile(0, place, within as u16 + 1)?.get(within).copied())
    }

    /// Whether there are hashes of leaves behind the first `size`.
    pub fn hashes_behind(&self, size: u64) -> Result<bool, Failure> {
        Ok(self.tile(0, size / 256, 1)?.len() as u64 > size % 256)
    }

    /// The partial tiles at the right edge of the first `size` leaves, cut to these.
    pub fn edge(&self, size: u64) -> Result<Vec<Tile>, Failure> {
        let mut edge = Vec::new();
        for at in tile::edge(size) {
            let mut hashes = self.tile(at.level, at.index, at.width)?;
            hashes.truncate(usize::from(at.width));
            edge.push(Tile { level: at.level, index: at.index, hashes });
        }
        Ok(edge)
    }

    /// A builder that continues after the first `size` entries; `Ok(Err(..))` when the tiles do not fit together.
    pub fn builder(&self, size: u64) -> Result<Result<Builder, String>, Failure> {
        Ok(Builder::resume(size, self.edge(size)?).map_err(|error| error.to_string()))
    }
}

/// Separates errors of reading from tiles that do not fit together.
fn apart<T>(result: Result<T, tile::Error<Failure>>) -> Result<Result<T, String>, Failure> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(tile::Error::Source(failure)) => Err(failure),
        Err(other) => Ok(Err(other.to_string())),
    }
}

impl TileSource for Tiles<'_> {
    type Error = Failure;

    /// Returns as many hashes as there are: the caller counts them.
    fn tile(&self, level: u8, index: u64, _width: u16) -> Result<Vec<Digest>, Failure> {
        if let Some(hashes) = self.known.borrow().get(&(level, index)) {
            return Ok(hashes.clone());
        }
        let Ok(place) = i64::try_from(index) else { return Ok(Vec::new()) };
        let place = [Parameter::Int2(i16::from(level)), Parameter::Int8(place)];
        let parameters = match self.log {
            Some((tenant, epoch)) => {
                vec![Parameter::Text(tenant), Parameter::Int8(i64::from(epoch)), place[0], place[1]]
            }
            None => place.to_vec(),
        };
        let mut hashes = Vec::new();
        self.session.again(&self.sql, &parameters, |row| {
            hashes = digests(row.bytes(0).unwrap_or_default());
            Ok(())
        })?;
        let known = &mut *self.known.borrow_mut();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert((level, index), hashes.clone());
        Ok(hashes)
    }
}
