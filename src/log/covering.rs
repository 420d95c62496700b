//! What covers an event outside its tenant's log: the entry of the registry that states the log, the signed run behind it, and anchors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::verify_consistency;
use zeroauth_audit_core::proof::anchor::MAX_PAYLOAD;
use zeroauth_audit_core::proof::{Anchor, MAX_ANCHORS};
use zeroauth_audit_core::registry::entry::{self, Entry};
use zeroauth_audit_core::registry::label::NameKey;

use crate::log::registry_rows::{LOG, log};
use crate::log::store::Tiles;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// An entry of the registry that states a tenant's log.
pub struct Stated {
    /// Its index.
    pub index: u64,
    /// What it states.
    pub log: entry::Log,
}

impl Stated {
    /// Its text.
    pub fn text(&self) -> String {
        Entry::Log(self.log).text()
    }

    /// The oldest stored entry whose tree has leaf `leaf` of the log of a tenant in an epoch.
    ///
    /// The states of a log only grow, so it is found by halving, and no index beside that of the newest entries is kept for it.
    pub fn oldest(
        session: &Session,
        schema: &str,
        names: &NameKey,
        (tenant, epoch): (&str, i32),
        leaf: u64,
    ) -> Result<Option<Self>, Failure> {
        let sql = format!(
            "SELECT entry, {LOG} FROM {schema}.registry_entries WHERE tenant_id = $1 AND entry >= $2 ORDER BY entry LIMIT 1"
        );
        let from = |at: u64| {
            let mut found = None;
            session.again(&sql, &[Parameter::Text(tenant), Parameter::count(at)], |row| {
                let stated = row.count(0).zip(log(row, 1, names, tenant));
                found = stated.map(|(index, log)| Self { index, log });
                Ok(())
            })?;
            Ok::<_, Failure>(found)
        };
        let epoch = u32::try_from(epoch).unwrap_or(0);
        let covers = |log: &entry::Log| (log.epoch, log.size) > (epoch, leaf);
        let (mut low, mut high) = (0, entries(session, schema)?);
        while low < high {
            let middle = low + (high - low) / 2;
            match from(middle)? {
                Some(stated) if !covers(&stated.log) => low = stated.index + 1,
                _ => high = middle,
            }
        }
        Ok(from(low)?.filter(|stated| stated.log.epoch == epoch && stated.log.size > leaf))
    }
}

fn entries(session: &Session, schema: &str) -> Result<u64, Failure> {
    let mut size = 0;
    let sql = format!("SELECT COALESCE(pg_catalog.max(entry) + 1, 0) FROM {schema}.registry_entries");
    session.again(&sql, &[], |row| {
        size = row.count(0).unwrap_or(0);
        Ok(())
    })?;
    Ok(size)
}

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
        self.note.lines().next().unwrap_or_default()
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
        let (old, new) = if anchored.0 <= bundled.0 { (anchored, bundled) } else { (bundled, anchored) };
        let Ok(hashes) = tiles.consistency(old.0, new.0)? else { continue };
        let hashes: Vec<Digest> = hashes.into_iter().map(Digest::new).collect();
        if verify_consistency(old.0, new.0, old.1, new.1, &hashes).is_ok()
            && anchor.payload.len() <= MAX_PAYLOAD
        {
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
