//! Whether each anchor continues the one before it at its target: only then does it cover the days in between.
//!
//! The consistency proof comes from the tiles. If the tiles give none, the log does not continue what was anchored, which is a
//! finding at once.

use std::time::Instant;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::verify_consistency;

use crate::log::store::Tiles;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// Anchors that a step looks at.
const MOST: i64 = 500;

/// The outcome of one step.
#[derive(Default)]
pub struct Links {
    /// Anchors that continue the one before.
    pub linked: u64,
    /// Anchors that do not.
    pub unlinked: u64,
    /// Whether there are more.
    pub more: bool,
}

/// An anchor, and the one before.
struct Pair {
    tenant: String,
    epoch: i32,
    target: String,
    batch: i64,
    size: u64,
    root: Digest,
    before: Option<(u64, Digest)>,
}

/// Links anchors to their predecessors, until `until`.
pub fn link(session: &Session, schema: &str, until: Instant) -> Result<Links, Failure> {
    let sql = include_str!("../../sql/queries/anchors_to_link.sql");
    let (mut pairs, mut rows) = (Vec::new(), 0);
    session.change(sql, &[Parameter::Int8(MOST)], |row| {
        let size = |n: usize| row.count(n);
        let root = |n: usize| row.bytes(n).and_then(Digest::from_slice);
        rows += 1;
        pairs.push(Pair {
            tenant: row.text(0)?.unwrap_or_default(),
            epoch: row.int4(1).unwrap_or(0),
            target: row.text(2)?.unwrap_or_default(),
            batch: row.int8(3).unwrap_or(0),
            size: size(4).unwrap_or(0),
            root: root(5).unwrap_or(Digest::new([0; 32])),
            before: size(6).zip(root(7)),
        });
        Ok(())
    })?;
    let mut links = Links { more: rows >= MOST, ..Links::default() };
    for pair in &pairs {
        if Instant::now() > until {
            links.more = true;
            break;
        }
        let why = difference(session, schema, pair)?;
        if why.is_none() {
            links.linked += 1;
        } else {
            links.unlinked += 1;
        }
        let sql = format!("SELECT {schema}.anchor_linked($1, $2::pg_catalog.int4, $3, $4, NULLIF($5, ''))");
        let parameters = [
            Parameter::Text(&pair.tenant),
            Parameter::Int8(i64::from(pair.epoch)),
            Parameter::Text(&pair.target),
            Parameter::Int8(pair.batch),
            Parameter::Text(why.as_deref().unwrap_or_default()),
        ];
        session.change_again(&sql, &parameters, |_| Ok(()))?;
    }
    Ok(links)
}

/// Why an anchor does not continue the one before it.
fn difference(session: &Session, schema: &str, pair: &Pair) -> Result<Option<String>, Failure> {
    let Some((old, old_root)) = &pair.before else { return Ok(None) };
    if *old == 0 {
        return Ok(None);
    }
    if *old > pair.size {
        return Ok(Some(format!("{old} events were anchored before, and the log has {}", pair.size)));
    }
    let proof = Tiles::new(session, schema, &pair.tenant, pair.epoch).consistency(*old, pair.size)?;
    let holds = proof.is_ok_and(|hashes| {
        let hashes: Vec<Digest> = hashes.into_iter().map(Digest::new).collect();
        verify_consistency(*old, pair.size, old_root, &pair.root, &hashes).is_ok()
    });
    Ok((!holds)
        .then(|| format!("the log of {} events does not continue the {old} that were anchored", pair.size)))
}
