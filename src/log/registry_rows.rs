//! The rows of the registry's tables: entries, runs and the name key.

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::registry::entry::{self, Restored};
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::registry::run::Written;
use zeroauth_audit_core::trust::Trust;

use crate::log::store::Tiles;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Row, Session};

/// The columns that [`log`] reads.
pub const LOG: &str = "epoch, tree_size, root, previous, restored";

/// The statement of an entry, from the columns [`LOG`].
pub fn log(row: &Row<'_>, from: usize, names: &NameKey, tenant: &str) -> Option<entry::Log> {
    let restored = row.int8(from + 4).map(|index| match u64::try_from(index) {
        Ok(index) => Restored::Entry(index),
        Err(_) => Restored::Nothing,
    });
    Some(entry::Log {
        label: names.label(tenant),
        epoch: row.int4(from).and_then(|epoch| u32::try_from(epoch).ok())?,
        size: row.count(from + 1)?,
        root: row.bytes(from + 2).and_then(Digest::from_slice)?,
        previous: row.count(from + 3),
        restored,
    })
}

/// What labels are made with, once there is an entry.
pub fn name_key(session: &Session, schema: &str) -> Result<Option<NameKey>, Failure> {
    let mut key = None;
    session.again(&format!("SELECT key FROM {schema}.registry_names"), &[], |row| {
        key = row.bytes(0).and_then(|bytes| bytes.try_into().ok()).map(NameKey::new);
        Ok(())
    })?;
    Ok(key)
}

/// The origin of a checkpoint: its first line.
pub fn origin(note: &str) -> &str {
    note.lines().next().unwrap_or_default()
}

/// What was signed of the registry.
#[derive(Clone)]
pub struct Run {
    /// Counted from 1.
    pub number: u64,
    /// Entries.
    pub size: u64,
    /// Their root.
    pub root: Digest,
    /// By which database.
    pub written: Written,
    /// The signed checkpoint.
    pub note: String,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// When it was signed.
    pub minutes_ago: i64,
}

/// The columns of a run.
const RUN: &str = "number, size, root, system_identifier, database::pg_catalog.int8, note, digest,
    (EXTRACT(epoch FROM pg_catalog.clock_timestamp() - sealed_at) / 60)::pg_catalog.int8";

impl Run {
    /// The newest one.
    pub fn newest(session: &Session, schema: &str) -> Result<Option<Self>, Failure> {
        let sql = format!("SELECT {RUN} FROM {schema}.registry_runs ORDER BY number DESC LIMIT 1");
        Self::one(session, &sql, &[])
    }

    /// The one with this number.
    pub fn numbered(session: &Session, schema: &str, number: u64) -> Result<Option<Self>, Failure> {
        let sql = format!("SELECT {RUN} FROM {schema}.registry_runs WHERE number = $1");
        Self::one(session, &sql, &[Parameter::count(number)])
    }

    fn one(session: &Session, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Self>, Failure> {
        let mut found = None;
        session.again(sql, parameters, |row| {
            found = Some(Self::of(row)?);
            Ok(())
        })?;
        Ok(found)
    }

    fn of(row: &Row<'_>) -> Result<Self, Failure> {
        let hash = |n: usize| row.bytes(n).and_then(Digest::from_slice).unwrap_or(Digest::new([0; 32]));
        Ok(Self {
            number: row.count(0).unwrap_or(0),
            size: row.count(1).unwrap_or(0),
            root: hash(2),
            written: Written {
                system: row.text(3)?.and_then(|system| system.parse().ok()).unwrap_or(0),
                database: row.int8(4).and_then(|oid| u32::try_from(oid).ok()).unwrap_or(0),
            },
            note: row.text(5)?.unwrap_or_default(),
            digest: hash(6),
            minutes_ago: row.int8(7).unwrap_or(0),
        })
    }

    /// The origin of the registry.
    pub fn origin(&self) -> &str {
        origin(&self.note)
    }

    /// The reason why its checkpoint was not signed by one of these keys, or why the registry does not have the root that was signed.
    pub fn doubt(&self, trust: &Trust, tiles: &Tiles<'_>) -> Result<Option<String>, Failure> {
        match trust.registry(self.note.as_bytes()) {
            Ok(signed) if signed.checkpoint.size == self.size && signed.checkpoint.root == self.root => {}
            Ok(_) => return Ok(Some("its newest checkpoint was signed for something else".to_owned())),
            Err(error) => return Ok(Some(format!("its newest checkpoint: {error}"))),
        }
        Ok(match tiles.root(self.size)? {
            Ok(root) if root == self.root => None,
            Ok(_) => Some(format!("another root of {} entries was signed", self.size)),
            Err(why) => Some(why),
        })
    }

    /// Whether it was signed longer ago. A clock that was set back makes it so.
    pub const fn is_older_than(&self, minutes: i64) -> bool {
        self.minutes_ago >= minutes || self.minutes_ago < 0
    }

    /// Stores it, behind all others; with its file, if it was taken over.
    pub fn store(
        &self,
        session: &Session,
        schema: &str,
        size_before: u64,
        file: Option<&str>,
    ) -> Result<(), Failure> {
        let sql = format!(
            "INSERT INTO {schema}.registry_runs (number, size_before, size, root, system_identifier, database, note, digest, file, sealed_at)
             VALUES ($1, $2, $3, $4, $5, $6::pg_catalog.oid, $7, $8, NULLIF($9, ''), pg_catalog.clock_timestamp())"
        );
        let parameters = [
            Parameter::count(self.number),
            Parameter::count(size_before),
            Parameter::count(self.size),
            Parameter::Bytes(self.root.as_bytes()),
            Parameter::Text(&self.written.system.to_string()),
            Parameter::Int8(i64::from(self.written.database)),
            Parameter::Text(&self.note),
            Parameter::Bytes(self.digest.as_bytes()),
            Parameter::Text(file.unwrap_or_default()),
        ];
        session.change_again(&sql, &parameters, |_| Ok(()))
    }
}
