//! Parts of a proof bundle as they are stored: the newest signed checkpoint with its cosignatures, and anchors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::proof::Anchor;

use crate::error::Failure;
use crate::log::Tiles;
use crate::query::{Parameter, Session};

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
            SELECT pg_catalog.string_agg(s.line || E'\\n', '' ORDER BY s.sink) FROM {schema}.audit_cosignatures s
            WHERE s.tenant_id = c.tenant_id AND s.epoch = c.epoch AND s.tree_size = c.tree_size), '')
         FROM {schema}.audit_checkpoints c
         WHERE c.tenant_id = $1 AND c.epoch = $2::pg_catalog.int4 AND c.note IS NOT NULL ORDER BY c.tree_size DESC LIMIT 1"
    );
    let mut found = None;
    session.again(&sql, &[Parameter::Text(tenant), Parameter::Int8(i64::from(epoch))], |row| {
        let size = row.int8(0).and_then(|size| u64::try_from(size).ok());
        let root = row.bytes(1).and_then(Digest::from_slice);
        found = size.zip(root).zip(row.text(2)?).map(|((size, root), note)| Signed { size, root, note });
        Ok(())
    })?;
    Ok(found)
}

/// The anchors that cover the event at `leaf`.
pub fn anchors(
    _session: &Session,
    _schema: &str,
    _place: (&str, i32),
    _tiles: &Tiles<'_>,
    _leaf: u64,
    _checkpoint: &Signed,
) -> Result<Vec<Anchor>, Failure> {
    Ok(Vec::new())
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
