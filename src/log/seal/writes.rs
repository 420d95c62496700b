//! What a step of the job checkpoint writes: gathered, and written with one statement for each table.
//!
//! PostgreSQL reads the CHECKs of a table anew for every statement, which takes longer than to store a row. The duration of a step
//! and the number of events that a log gets at once limit how much is gathered.

use std::cell::RefCell;

use zeroauth_audit_core::tile::Tile;

use crate::log::store::{Interval, joined};
use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session, bigint, columns};

/// Which log: tenant and epoch.
pub type Key<'a> = (&'a str, i32);

/// Rows to be written to the tables of logs.
pub struct Writes<'a> {
    session: &'a Session,
    schema: &'a str,
    rows: RefCell<Rows>,
}

/// A column of each table is a vector here, and an array in the statement.
#[derive(Default)]
struct Rows {
    tiles: Tiles,
    intervals: Intervals,
    sizes: Sizes,
}

/// The logs that rows are of.
#[derive(Default)]
struct Keys {
    tenants: Vec<String>,
    epochs: Vec<i64>,
}

#[derive(Default)]
struct Tiles {
    keys: Keys,
    levels: Vec<i64>,
    places: Vec<i64>,
    hashes: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Intervals {
    keys: Keys,
    chains: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    first_leaves: Vec<i64>,
    sizes: Vec<i64>,
}

#[derive(Default)]
struct Sizes {
    keys: Keys,
    sizes: Vec<i64>,
}

impl Keys {
    fn push(&mut self, (tenant, epoch): Key<'_>) -> Result<(), Failure> {
        out_of_memory::grow(&mut self.tenants)?;
        self.tenants.push(tenant.to_owned());
        out_of_memory::grow(&mut self.epochs)?;
        self.epochs.push(i64::from(epoch));
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }
}

impl<'a> Writes<'a> {
    /// Nothing yet.
    pub fn new(session: &'a Session, schema: &'a str) -> Self {
        Self { session, schema, rows: RefCell::default() }
    }

    /// A tile that is new or has more hashes than before.
    pub fn tile(&self, key: Key<'_>, tile: &Tile) -> Result<(), Failure> {
        let tiles = &mut self.rows.borrow_mut().tiles;
        out_of_memory::room(size_of_val(tile.hashes.as_slice()))?;
        let hashes = joined(&tile.hashes);
        tiles.keys.push(key)?;
        tiles.levels.push(i64::from(tile.level));
        tiles.places.push(bigint(tile.index));
        tiles.hashes.push(hashes);
        Ok(())
    }

    /// A slice of a chain that was added.
    pub fn interval(&self, key: Key<'_>, chain: i16, interval: &Interval) -> Result<(), Failure> {
        let intervals = &mut self.rows.borrow_mut().intervals;
        intervals.keys.push(key)?;
        intervals.chains.push(i64::from(chain));
        intervals.from.push(interval.from);
        intervals.to.push(interval.to);
        intervals.first_leaves.push(bigint(interval.first_leaf));
        intervals.sizes.push(bigint(interval.tree_size));
        Ok(())
    }

    /// How many events the log has now.
    pub fn size(&self, key: Key<'_>, size: u64) -> Result<(), Failure> {
        let sizes = &mut self.rows.borrow_mut().sizes;
        sizes.keys.push(key)?;
        sizes.sizes.push(bigint(size));
        Ok(())
    }

    /// Writes all there is.
    pub fn flush(&self) -> Result<(), Failure> {
        let rows = self.rows.take();
        self.write_tiles(&rows.tiles)?;
        self.write_intervals(&rows.intervals)?;
        self.write_sizes(&rows.sizes)
    }

    fn write_tiles(&self, tiles: &Tiles) -> Result<(), Failure> {
        if tiles.keys.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {}.tiles (tenant_id, epoch, level, place, hashes)
             SELECT r.tenant_id, r.epoch, r.level, r.place, r.hashes FROM {} AS r (tenant_id, epoch, level, place, hashes)
             ON CONFLICT (tenant_id, epoch, level, place) DO UPDATE SET hashes = excluded.hashes",
            self.schema,
            columns(5)
        );
        let parameters = [
            Parameter::Texts(&tiles.keys.tenants),
            Parameter::Int8s(&tiles.keys.epochs),
            Parameter::Int8s(&tiles.levels),
            Parameter::Int8s(&tiles.places),
            Parameter::Byteas(&tiles.hashes),
        ];
        self.session.change(&sql, &parameters, |_| Ok(()))
    }

    fn write_intervals(&self, intervals: &Intervals) -> Result<(), Failure> {
        if intervals.keys.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {}.log_intervals (tenant_id, epoch, chain, to_seq, from_seq, first_leaf, tree_size)
             SELECT r.tenant_id, r.epoch, r.chain, r.to_seq, r.from_seq, r.first_leaf, r.tree_size
             FROM {} AS r (tenant_id, epoch, chain, to_seq, from_seq, first_leaf, tree_size)",
            self.schema,
            columns(7)
        );
        let parameters = [
            Parameter::Texts(&intervals.keys.tenants),
            Parameter::Int8s(&intervals.keys.epochs),
            Parameter::Int8s(&intervals.chains),
            Parameter::Int8s(&intervals.to),
            Parameter::Int8s(&intervals.from),
            Parameter::Int8s(&intervals.first_leaves),
            Parameter::Int8s(&intervals.sizes),
        ];
        self.session.change(&sql, &parameters, |_| Ok(()))
    }

    fn write_sizes(&self, sizes: &Sizes) -> Result<(), Failure> {
        if sizes.keys.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "UPDATE {}.logs l SET tree_size = r.tree_size FROM {} AS r (tenant_id, epoch, tree_size)
             WHERE l.tenant_id = r.tenant_id AND l.epoch = r.epoch",
            self.schema,
            columns(3)
        );
        let parameters = [
            Parameter::Texts(&sizes.keys.tenants),
            Parameter::Int8s(&sizes.keys.epochs),
            Parameter::Int8s(&sizes.sizes),
        ];
        self.session.change(&sql, &parameters, |_| Ok(()))
    }
}
