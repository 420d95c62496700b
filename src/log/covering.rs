//! What covers an entry of the registry that states a tenant's log: the signed run behind it, and anchors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::verify_either_grew;
use zeroauth_audit_core::proof::anchor::MAX_PAYLOAD;
use zeroauth_audit_core::proof::{Anchor, MAX_ANCHORS};

use crate::log::registry_rows::origin;
use crate::log::store::Tiles;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// A signed checkpoint of the registry.
pub struct Signed {
    /// Number of the run.
    pub run: u64,
    /// How many entries it covers.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// The note, with the lines of witnesses.
    pub note: String,
    /// When it was signed, to the minute.
    pub when: String,
}

impl Signed {
    /// The newest that covers an entry: of those that a witness has signed, if there is one.
    pub fn newest(session: &Session, schema: &str, entry: u64) -> Result<Option<Self>, Failure> {
        let sql = format!(
            "SELECT r.number, r.size, r.root, r.note || COALESCE((
                SELECT pg_catalog.string_agg(c.line || pg_catalog.chr(10), '' ORDER BY c.sink)
                FROM {schema}.registry_cosignatures c WHERE c.run = r.number), ''),
                pg_catalog.to_char(r.sealed_at, 'YYYY-MM-DD HH24:MI')
             FROM {schema}.registry_runs r
             WHERE r.size > $1 AND r.number = COALESCE(
                (SELECT c.run FROM {schema}.registry_cosignatures c WHERE c.size > $1 ORDER BY c.run DESC LIMIT 1),
                (SELECT n.number FROM {schema}.registry_runs n ORDER BY n.number DESC LIMIT 1))"
        );
        let mut found = None;
        session.again(&sql, &[Parameter::count(entry)], |row| {
            found = Some(Self {
                run: row.count(0).unwrap_or(0),
                size: row.count(1).unwrap_or(0),
                root: row.bytes(2).and_then(Digest::from_slice).unwrap_or(Digest::new([0; 32])),
                note: row.text(3)?.unwrap_or_default(),
                when: row.text(4)?.unwrap_or_default(),
            });
            Ok(())
        })?;
        Ok(found)
    }

    /// Its first line.
    pub fn origin(&self) -> &str {
        origin(&self.note)
    }
}

/// An anchor that covers an entry, and where it is.
pub struct Covered {
    /// The target.
    pub target: String,
    /// The number of the batch there.
    pub batch: u64,
    /// As a bundle has it.
    pub anchor: Anchor,
}

/// The anchors that cover entry `entry`: at each target the first final one, which says how long it has been there, and the newest.
/// Each is checked before it is handed out; the job `anchor_check` names one that does not fit.
pub fn anchors(
    session: &Session,
    tiles: &Tiles<'_>,
    entry: u64,
    signed: &Signed,
) -> Result<Vec<Covered>, Failure> {
    let sql = include_str!("../../sql/queries/final_anchors_of_entry.sql");
    let mut found = Vec::new();
    session.again(sql, &[Parameter::Text(signed.origin()), Parameter::count(entry)], |row| {
        let place = |n: usize| row.count(n).unwrap_or(0);
        found.push(Covered {
            target: row.text(0)?.unwrap_or_default(),
            batch: place(1),
            anchor: Anchor {
                kind: row.text(2)?.unwrap_or_default(),
                tree_size: place(3),
                root: row.bytes(4).and_then(Digest::from_slice).unwrap_or(Digest::new([0; 32])),
                consistency: Vec::new(),
                payload: row.text(5)?.unwrap_or_default(),
            },
        });
        Ok(())
    })?;
    let mut proven = Vec::new();
    for mut covered in found.into_iter().take(MAX_ANCHORS) {
        let anchor = &mut covered.anchor;
        let (anchored, bundled) = ((anchor.tree_size, &anchor.root), (signed.size, &signed.root));
        let (old, new) = (anchored.0.min(bundled.0), anchored.0.max(bundled.0));
        let Ok(hashes) = tiles.consistency(old, new)? else { continue };
        if verify_either_grew(anchored, bundled, &hashes).is_ok() && anchor.payload.len() <= MAX_PAYLOAD {
            anchor.consistency = hashes;
            proven.push(covered);
        }
    }
    Ok(proven)
}

/// Hashes as proofs are written: one base64 a line.
pub fn base64_lines(hashes: &[Digest]) -> String {
    let mut lines = String::new();
    for hash in hashes {
        STANDARD.encode_string(hash.as_bytes(), &mut lines);
        lines.push('\n');
    }
    lines
}
