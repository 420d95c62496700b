//! What the registry says of one tenant's log: its newest entry, and whether the log goes on from it.

use zeroauth_audit_core::registry::entry::{self, Entry, Restored};
use zeroauth_audit_core::registry::label::NameKey;

use crate::log::registry_rows::{LOG, log, name_key};
use crate::log::store::Tiles;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session, bigint};

/// The entries of a registry.
pub struct Entries<'a> {
    session: &'a Session,
    schema: &'a str,
    /// What labels are made with.
    pub names: NameKey,
    /// The tiles of the registry.
    pub tiles: Tiles<'a>,
}

/// The newest entry of a tenant.
pub struct Newest {
    /// Its index.
    pub index: u64,
    /// What it says.
    pub log: entry::Log,
}

impl<'a> Entries<'a> {
    /// The entries in these tables, with the name key that they have.
    pub fn new(session: &'a Session, schema: &'a str, names: NameKey) -> Self {
        Self { session, schema, names, tiles: Tiles::registry(session, schema) }
    }

    /// The entries of a registry that has begun.
    pub fn open(session: &'a Session, schema: &'a str) -> Result<Option<Self>, Failure> {
        Ok(name_key(session, schema)?.map(|names| Self::new(session, schema, names)))
    }

    /// The newest entry of a tenant's log; `Ok(Err(..))` when its row is not what the registry has there.
    pub fn newest(&self, tenant: &str) -> Result<Result<Option<Newest>, String>, Failure> {
        let sql = format!(
            "SELECT entry, {LOG} FROM {}.registry_entries WHERE tenant_id = $1 ORDER BY entry DESC LIMIT 1",
            self.schema
        );
        let mut newest = None;
        self.session.again(&sql, &[Parameter::Text(tenant)], |row| {
            newest = Some((row.count(0).unwrap_or(0), log(row, 1, &self.names, tenant)));
            Ok(())
        })?;
        let Some((index, log)) = newest else { return Ok(Ok(None)) };
        let leaf = log.map(|log| (log, Entry::leaf(&Entry::Log(log).text())));
        match leaf {
            Some((log, leaf)) if self.tiles.leaf(index)? == Some(leaf) => Ok(Ok(Some(Newest { index, log }))),
            _ => Ok(Err(format!("entry {index} of the registry is not what was sealed"))),
        }
    }

    /// Whether a tenant that has no log is one of whom a directory had told before it was here: its entries are its own from now on, and its log
    /// is held until somebody acknowledges the restore.
    pub fn recognize(&self, tenant: &str) -> Result<bool, Failure> {
        let begins = format!("{}\nlog {} ", entry::HEADER, self.names.label(tenant));
        let sql = format!(
            "SELECT entry, text FROM {}.registry_entries WHERE tenant_id IS NULL AND text >= $1 AND text < $2 ORDER BY entry",
            self.schema
        );
        let mut known = Vec::new();
        // The text goes on with a digit.
        let parameters = [Parameter::Text(&begins), Parameter::Text(&format!("{begins}:"))];
        self.session.again(&sql, &parameters, |row| {
            if let Some(Entry::Log(log)) = row.text(1)?.and_then(|text| Entry::parse(text.as_bytes()).ok()) {
                known.push((row.count(0).unwrap_or(0), log));
            }
            Ok(())
        })?;
        let Some((_, newest)) = known.last() else { return Ok(false) };
        let newest = *newest;
        let sql = format!(
            "UPDATE {}.registry_entries SET text = NULL, tenant_id = $2, epoch = $3::pg_catalog.int4, tree_size = $4, root = $5,
                 previous = NULLIF($6, -1), restored = NULLIF($7, -2) WHERE entry = $1",
            self.schema
        );
        for (index, log) in known {
            let parameters = [
                Parameter::count(index),
                Parameter::Text(tenant),
                Parameter::Int8(i64::from(log.epoch)),
                Parameter::count(log.size),
                Parameter::Bytes(log.root.as_bytes()),
                Parameter::Int8(previous(&log)),
                Parameter::Int8(restored(&log)),
            ];
            self.session.change_again(&sql, &parameters, |_| Ok(()))?;
        }
        let hold = format!(
            "SELECT {0}.hold_tenant($1, $2, $3, COALESCE((SELECT s.name FROM {0}.sinks s WHERE s.kind = 'directory' ORDER BY s.enabled DESC, s.name LIMIT 1), 'registry'))",
            self.schema
        );
        let state = [
            Parameter::Text(tenant),
            Parameter::count(newest.size),
            Parameter::Bytes(newest.root.as_bytes()),
        ];
        self.session.change_again(&hold, &state, |_| Ok(()))?;
        Ok(true)
    }

    /// Every tenant that it has an entry of.
    pub fn tenants(&self, each: &mut dyn FnMut(String) -> Result<(), Failure>) -> Result<(), Failure> {
        let sql = include_str!("../../sql/queries/registered_tenants.sql").replace("@logs@", self.schema);
        self.session.all(&sql, &[], |row| row.text(0)?.map_or(Ok(()), &mut *each))
    }
}

/// As the table has it; -1 for none.
pub fn previous(log: &entry::Log) -> i64 {
    log.previous.map_or(-1, bigint)
}

/// As the table has it; -2 for none.
pub fn restored(log: &entry::Log) -> i64 {
    match log.restored {
        None => -2,
        Some(Restored::Nothing) => -1,
        Some(Restored::Entry(index)) => bigint(index),
    }
}
