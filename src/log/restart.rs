//! After an acknowledged restore: which sealed state of a tenant the new epoch of its log goes on from.
//!
//! It is the newest one in the registry of which every event is still there, unchanged. What is lost is what was sealed behind it,
//! and nothing before it can have changed: the new tree begins with the old one, and the entry says so (`docs/format.md`, section 20).

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::leaf_hash;

use crate::log::compare::{Comparison, End};
use crate::log::registry_entries::Stated;
use crate::log::store::{Tiles, joined};
use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session, bigint};

/// A sealed state of a tenant's log.
pub struct State<'a> {
    /// The registry's entry that states it.
    pub entry: u64,
    /// Events.
    pub size: u64,
    /// The last interval of each chain.
    pub ends: Vec<End>,
    /// The tiles that it is in.
    pub tiles: Tiles<'a>,
    /// Where it is.
    pub place: Place<'a>,
}

/// The first leaves of the log of an epoch.
pub struct Place<'a> {
    tenant: &'a str,
    epoch: i32,
    size: u64,
}

/// What an entry says.
struct Sealed {
    entry: u64,
    size: u64,
    root: Digest,
}

/// The newest state up to `newest` whose events are all there.
pub fn newest_kept<'a>(
    comparison: &'a Comparison<'_>,
    schema: &str,
    tenant: &'a str,
    newest: &Stated,
) -> Result<Option<State<'a>>, Failure> {
    for epoch in (0..=newest.log.epoch).rev() {
        let epoch = i32::try_from(epoch).unwrap_or(i32::MAX);
        let states = sealed(comparison.session(), schema, (tenant, epoch))?;
        // Each state of an epoch contains those before it: found by halving.
        let (mut kept, mut lost) = (None, states.len());
        let mut first = 0;
        while first < lost {
            let middle = first + (lost - first) / 2;
            match state(comparison, schema, (tenant, epoch), &states[middle])? {
                Some(state) => (kept, first) = (Some(state), middle + 1),
                None => lost = middle,
            }
        }
        if kept.is_some() {
            return Ok(kept);
        }
    }
    Ok(None)
}

/// The states of an epoch, from the oldest.
fn sealed(session: &Session, schema: &str, (tenant, epoch): (&str, i32)) -> Result<Vec<Sealed>, Failure> {
    let sql = format!(
        "SELECT entry, tree_size, root FROM {schema}.registry_entries
         WHERE tenant_id = $1 AND epoch = $2::pg_catalog.int4 ORDER BY entry"
    );
    let mut states = Vec::new();
    session.all(&sql, &[Parameter::Text(tenant), Parameter::Int8(i64::from(epoch))], |row| {
        let Some(root) = row.bytes(2).and_then(Digest::from_slice) else { return Ok(()) };
        out_of_memory::grow(&mut states)?;
        states.push(Sealed { entry: row.count(0).unwrap_or(0), size: row.count(1).unwrap_or(0), root });
        Ok(())
    })?;
    Ok(states)
}

/// A state, if its tree is there and every event of it.
fn state<'a>(
    comparison: &'a Comparison<'_>,
    schema: &str,
    (tenant, epoch): (&'a str, i32),
    sealed: &Sealed,
) -> Result<Option<State<'a>>, Failure> {
    let tiles = Tiles::new(comparison.session(), schema, tenant, epoch);
    if tiles.root(sealed.size)?.ok() != Some(sealed.root) {
        return Ok(None);
    }
    let ends = comparison.ends((tenant, epoch), sealed.size)?;
    let covered = ends.iter().map(|end| u64::try_from(end.interval.to).unwrap_or(0));
    if covered.fold(0, u64::saturating_add) != sealed.size {
        return Ok(None);
    }
    for end in &ends {
        let (chain, to) = (end.chain, end.interval.to);
        // An event's hash is made from the one before: the last one of a chain stands for all of them.
        let stored = comparison.event_hash(tenant, chain, to)?.map(|hash| leaf_hash(hash.as_bytes()));
        if stored.is_none() || stored != tiles.leaf(end.interval.leaf(to))? {
            return Ok(None);
        }
    }
    let place = Place { tenant, epoch, size: sealed.size };
    Ok(Some(State { entry: sealed.entry, size: sealed.size, ends, tiles, place }))
}

impl Place<'_> {
    /// Has the log of a new epoch begin with these leaves, whose tiles are `tiles`.
    pub fn copy(
        &self,
        session: &Session,
        schema: &str,
        tiles: &Tiles<'_>,
        epoch: i32,
    ) -> Result<(), Failure> {
        let intervals = format!(
            "INSERT INTO {schema}.log_intervals (tenant_id, epoch, chain, to_seq, from_seq, first_leaf, tree_size)
             SELECT i.tenant_id, $3::pg_catalog.int4, i.chain, i.to_seq, i.from_seq, i.first_leaf, i.tree_size
             FROM {schema}.log_intervals i WHERE i.tenant_id = $1 AND i.epoch = $2::pg_catalog.int4 AND i.tree_size <= $4"
        );
        // The full ones: level 7 has none.
        let full = format!(
            "INSERT INTO {schema}.tiles (tenant_id, epoch, level, place, hashes)
             SELECT t.tenant_id, $3::pg_catalog.int4, t.level, t.place, t.hashes FROM {schema}.tiles t
             WHERE t.tenant_id = $1 AND t.epoch = $2::pg_catalog.int4 AND t.level < 7 AND t.place < $4 >> (8 * (t.level + 1))"
        );
        let from_to = [
            Parameter::Text(self.tenant),
            Parameter::Int8(i64::from(self.epoch)),
            Parameter::Int8(i64::from(epoch)),
            Parameter::count(self.size),
        ];
        session.change_again(&intervals, &from_to, |_| Ok(()))?;
        session.change_again(&full, &from_to, |_| Ok(()))?;
        let edge = format!(
            "INSERT INTO {schema}.tiles (tenant_id, epoch, level, place, hashes) VALUES ($1, $2::pg_catalog.int4, $3, $4, $5)"
        );
        for tile in tiles.edge(self.size)? {
            let hashes = joined(&tile.hashes);
            let parameters = [
                Parameter::Text(self.tenant),
                Parameter::Int8(i64::from(epoch)),
                Parameter::Int2(i16::from(tile.level)),
                Parameter::Int8(bigint(tile.index)),
                Parameter::Bytes(&hashes),
            ];
            session.change_again(&edge, &parameters, |_| Ok(()))?;
        }
        Ok(())
    }
}
