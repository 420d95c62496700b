//! Which events of a tenant are its newest: the heads of its chains, and from where on each chain must be read.
//!
//! Everything is found by descending the primary key, so that the cost depends on the number of chains and on n, not on
//! the length of the trail.

use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session};
use crate::trail::access::Trail;
use crate::verify::replay::ChainSlice;

/// A chain, and the `seq` of its newest event; NULLs where the rows have NULLs.
#[derive(Clone, Copy)]
pub struct ChainEnd {
    /// The chain.
    pub chain: Option<i16>,
    /// The largest `seq`.
    pub seq: Option<i64>,
}

/// The chains of tenant $1 with the `seq` of their heads, by skipping through the primary key. Rows whose chain is NULL, which
/// only a changed table has, are one more chain.
pub fn heads(table: &str) -> String {
    format!(
        "WITH RECURSIVE heads AS (
            (SELECT chain, seq FROM {table} WHERE tenant_id = $1 AND chain IS NOT NULL ORDER BY chain DESC, seq DESC LIMIT 1)
            UNION ALL
            SELECT below.chain, below.seq FROM heads CROSS JOIN LATERAL (
                SELECT e.chain, e.seq FROM {table} e WHERE e.tenant_id = $1 AND e.chain < heads.chain
                ORDER BY e.chain DESC, e.seq DESC LIMIT 1) below),
         ends AS (
            TABLE heads
            UNION ALL
            (SELECT chain, NULL::pg_catalog.int8 FROM {table} WHERE tenant_id = $1 AND chain IS NULL LIMIT 1))"
    )
}

/// The heads of `tenant`'s chains, by ascending chain.
pub fn chain_ends(session: &Session, trail: &Trail, tenant: &str) -> Result<Vec<ChainEnd>, Failure> {
    let sql = format!("{} SELECT chain, seq FROM ends ORDER BY chain", heads(&trail.name));
    let mut ends = Vec::new();
    session.again(&sql, &[Parameter::Text(tenant)], |row| {
        out_of_memory::grow(&mut ends)?;
        ends.push(ChainEnd { chain: row.int2(0), seq: row.int8(1) });
        Ok(())
    })?;
    Ok(ends)
}

/// For each of `ends`, the slice of its chain that contains its share of the tenant's newest `n` events, and its head.
pub fn slices(
    session: &Session,
    trail: &Trail,
    tenant: &str,
    ends: &[ChainEnd],
    n: i64,
) -> Result<Vec<ChainSlice>, Failure> {
    let from = if let [only] = ends {
        vec![only.seq.map(|seq| seq.saturating_sub(n - 1).max(1))]
    } else if ends.iter().map(|end| end.seq.unwrap_or(i64::MAX)).fold(0, i64::saturating_add) <= n {
        vec![None; ends.len()]
    } else if n > MOST_IN_MEMORY {
        sorted(session, trail, tenant, ends, n)?
    } else {
        merged(session, trail, tenant, ends, n)?
    };
    let slice =
        |(end, from): (&ChainEnd, _)| ChainSlice { tenant: Some(tenant.to_owned()), chain: end.chain, from };
    Ok(ends.iter().zip(from).map(slice).collect())
}

/// More events than this are left to PostgreSQL's sort, which goes to disk when it must.
const MOST_IN_MEMORY: i64 = 200_000;

/// The smallest `seq` of each chain among the newest `n` events, or that of its head.
fn sorted(
    session: &Session,
    trail: &Trail,
    tenant: &str,
    ends: &[ChainEnd],
    n: i64,
) -> Result<Vec<Option<i64>>, Failure> {
    let table = &trail.name;
    let sql = format!(
        "{heads}, newest AS (
            SELECT heads.chain, e.seq FROM heads CROSS JOIN LATERAL (
                SELECT seq, recorded_at FROM {table} WHERE tenant_id = $1 AND chain = heads.chain
                ORDER BY seq DESC LIMIT $2) e
            ORDER BY e.recorded_at DESC, heads.chain, e.seq DESC LIMIT $2)
         SELECT chain, pg_catalog.min(seq) FROM (TABLE newest UNION ALL TABLE heads) n GROUP BY chain",
        heads = heads(table),
    );
    let mut from = vec![None; ends.len()];
    session.all(&sql, &[Parameter::Text(tenant), Parameter::Int8(n)], |row| {
        let place = ends.iter().position(|end| end.chain == row.int2(0));
        if let Some(place) = place.filter(|&place| ends[place].seq.is_some()) {
            from[place] = row.int8(1);
        }
        Ok(())
    })?;
    Ok(from)
}

/// One chain while the newest events of several are looked for.
#[derive(Default)]
struct Depth {
    /// `recorded_at` and `seq` of its newest events, newest first.
    events: Vec<(i64, i64)>,
    /// Whether there are older ones that were not read.
    more: bool,
}

/// The smallest `seq` of each chain among the newest `n` events, by `recorded_at`; `None` for a chain that must be read whole.
///
/// Each chain is first read as deep as its share of the events; those that are among the newest with all that was read
/// are read four times as deep, until none is. So about n events are read in each of a few rounds, and not n of each chain.
fn merged(
    session: &Session,
    trail: &Trail,
    tenant: &str,
    ends: &[ChainEnd],
    n: i64,
) -> Result<Vec<Option<i64>>, Failure> {
    let mut depth = (n.saturating_mul(2) / ends.len() as i64).max(1);
    let mut chains: Vec<Depth> = ends.iter().map(|_| Depth::default()).collect();
    let mut open: Vec<usize> = (0..ends.len()).filter(|&place| ends[place].chain.is_some()).collect();
    loop {
        read(session, trail, tenant, ends, &open, depth, &mut chains)?;
        let kept = newest(&chains, n)?;
        open.retain(|&place| chains[place].more && kept[place] == chains[place].events.len());
        if open.is_empty() {
            let smallest = |place: usize| {
                ends[place].seq?;
                let events = &chains[place].events;
                events[..kept[place].max(1).min(events.len())].iter().map(|(_, seq)| *seq).min()
            };
            return Ok((0..ends.len()).map(smallest).collect());
        }
        depth = depth.saturating_mul(4);
    }
}

/// Reads the newest `depth` events of the `open` chains.
fn read(
    session: &Session,
    trail: &Trail,
    tenant: &str,
    ends: &[ChainEnd],
    open: &[usize],
    depth: i64,
    chains: &mut [Depth],
) -> Result<(), Failure> {
    let sql = format!(
        "SELECT c.place, e.recorded_at, e.seq
         FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.int8[]), pg_catalog.unnest($3::pg_catalog.int2[])) c (place, chain)
         CROSS JOIN LATERAL (SELECT recorded_at, seq FROM {} WHERE tenant_id = $1 AND chain = c.chain
             ORDER BY seq DESC LIMIT $4) e",
        trail.name
    );
    let places = array(open.iter());
    let numbers = array(open.iter().filter_map(|&place| ends[place].chain));
    let parameters = [
        Parameter::Text(tenant),
        Parameter::Text(&places),
        Parameter::Text(&numbers),
        Parameter::Int8(depth),
    ];
    open.iter().for_each(|&place| chains[place] = Depth::default());
    session.again(&sql, &parameters, |row| {
        let place = row.int8(0).and_then(|place| usize::try_from(place).ok());
        if let Some(chain) = place.and_then(|place| chains.get_mut(place)) {
            out_of_memory::grow(&mut chain.events)?;
            // Events without a time count as the newest.
            chain.events.push((row.int8(1).unwrap_or(i64::MAX), row.int8(2).unwrap_or(i64::MAX)));
        }
        Ok(())
    })?;
    for &place in open {
        let chain = &mut chains[place];
        chain.events.sort_unstable_by_key(|(_, seq)| std::cmp::Reverse(*seq));
        chain.more =
            chain.events.len() as i64 == depth && chain.events.last().is_some_and(|(_, seq)| *seq > 1);
    }
    Ok(())
}

/// An array in PostgreSQL's text form.
fn array(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    format!("{{{}}}", items.join(","))
}

/// How many of each chain's events are among the newest `n` of all.
fn newest(chains: &[Depth], n: i64) -> Result<Vec<usize>, Failure> {
    let count = chains.iter().map(|chain| chain.events.len()).sum::<usize>();
    let mut all: Vec<(i64, usize, i64)> = Vec::new();
    all.try_reserve_exact(count).map_err(|_| out_of_memory::failure())?;
    for (place, chain) in chains.iter().enumerate() {
        all.extend(chain.events.iter().map(|(at, seq)| (*at, place, *seq)));
    }
    all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)).then(b.2.cmp(&a.2)));
    let mut kept = vec![0; chains.len()];
    for (_, place, _) in all.into_iter().take(usize::try_from(n).unwrap_or(usize::MAX)) {
        kept[place] += 1;
    }
    Ok(kept)
}
