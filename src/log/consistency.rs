//! Parts of a proof bundle as they are stored: the newest signed checkpoint with its cosignatures, and anchors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use zeroauth_audit_core::proof::anchor::MAX_PAYLOAD;
use zeroauth_audit_core::proof::{Anchor, MAX_ANCHORS};

use crate::log::store::{Tiles, digests};
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// A signed checkpoint.
pub struct Signed {
    /// How many events it covers.
    pub size: u64,
    /// Its root.
    pub root: Digest,
    /// The note, with the lines of witnesses.
    pub note: String,
}

/// The newest signed checkpoint of a tenant's log.
pub fn newest_signed(
    session: &Session,
    schema: &str,
    (tenant, epoch): (&str, i32),
) -> Result<Option<Signed>, Failure> {
    let sql = format!(
        "SELECT c.tree_size, c.root, c.note || COALESCE((
            SELECT pg_catalog.string_agg(s.line || E'\\n', '' ORDER BY s.sink) FROM {schema}.cosignatures s
            WHERE s.tenant_id = c.tenant_id AND s.epoch = c.epoch AND s.tree_size = c.tree_size), '')
         FROM {schema}.checkpoints c
         WHERE c.tenant_id = $1 AND c.epoch = $2::pg_catalog.int4 AND c.note IS NOT NULL ORDER BY c.tree_size DESC LIMIT 1"
    );
    let mut found = None;
    session.again(&sql, &[Parameter::Text(tenant), Parameter::Int8(i64::from(epoch))], |row| {
        let size = row.count(0);
        let root = row.bytes(1).and_then(Digest::from_slice);
        found = size.zip(root).zip(row.text(2)?).map(|((size, root), note)| Signed { size, root, note });
        Ok(())
    })?;
    Ok(found)
}

/// The anchors that cover the event at `leaf`: at each target the first final one, which says how long it has been there, and the
/// newest. Each is checked before it is handed out; the job `anchor_check` names one that does not fit.
pub fn anchors(
    session: &Session,
    (tenant, epoch): (&str, i32),
    tiles: &Tiles<'_>,
    leaf: u64,
    checkpoint: &Signed,
) -> Result<Vec<Anchor>, Failure> {
    let sql = include_str!("../../sql/queries/final_anchors_of_leaf.sql");
    let parameters = [
        Parameter::Text(tenant),
        Parameter::Int8(i64::from(epoch)),
        Parameter::count(leaf),
        Parameter::count(checkpoint.size),
    ];
    let mut anchors = Vec::new();
    let mut origin = None;
    session.again(sql, &parameters, |row| {
        let place = |n: usize| row.count(n).unwrap_or(0);
        let hash = |n: usize| row.bytes(n).and_then(Digest::from_slice).unwrap_or(Digest::new([0; 32]));
        let anchor = Anchor {
            kind: row.text(0)?.unwrap_or_default(),
            tree_size: place(1),
            root: hash(2),
            consistency: Vec::new(),
            batch_index: place(3),
            batch_size: place(4),
            batch_path: digests(row.bytes(5).unwrap_or_default()),
            payload: row.text(6)?.unwrap_or_default(),
        };
        anchors.push((anchor, hash(7)));
        origin = row.text(8)?;
        Ok(())
    })?;
    let origin = origin.unwrap_or_default();
    let mut proven = Vec::new();
    for (mut anchor, batch_root) in anchors.into_iter().take(MAX_ANCHORS) {
        let Ok(hashes) = tiles.consistency(anchor.tree_size, checkpoint.size)? else { continue };
        anchor.consistency = hashes.into_iter().map(Digest::new).collect();
        let continues = verify_consistency(
            anchor.tree_size,
            checkpoint.size,
            &anchor.root,
            &checkpoint.root,
            &anchor.consistency,
        );
        let body = Checkpoint { origin: origin.clone(), size: anchor.tree_size, root: anchor.root }.body();
        let entry = leaf_hash(body.as_bytes());
        let included =
            verify_inclusion(anchor.batch_index, anchor.batch_size, &entry, &anchor.batch_path, &batch_root);
        if continues.is_ok() && included.is_ok() && anchor.payload.len() <= MAX_PAYLOAD {
            proven.push(anchor);
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
