//! What the registry says of one tenant's log: its newest entry, and the oldest that has an event.

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

/// An entry that states a tenant's log.
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
}

/// How many entries are stored.
pub fn count(session: &Session, schema: &str) -> Result<u64, Failure> {
    let mut size = 0;
    let sql = format!("SELECT COALESCE(pg_catalog.max(entry) + 1, 0) FROM {schema}.registry_entries");
    session.again(&sql, &[], |row| {
        size = row.count(0).unwrap_or(0);
        Ok(())
    })?;
    Ok(size)
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
    pub fn newest(&self, tenant: &str) -> Result<Result<Option<Stated>, String>, Failure> {
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
        match log.map(|log| Stated { index, log }) {
            Some(stated) if self.tiles.leaf(index)? == Some(Entry::leaf(&stated.text())) => {
                Ok(Ok(Some(stated)))
            }
            _ => Ok(Err(format!("entry {index} of the registry is not what was sealed"))),
        }
    }

    /// The oldest stored entry whose tree has leaf `leaf` of the log of a tenant in an epoch; whether it is what was sealed is the caller's to
    /// find out.
    ///
    /// The states of a log only grow, so it is found by halving, and no index beside that of the newest entries is kept for it.
    pub fn oldest(&self, (tenant, epoch): (&str, i32), leaf: u64) -> Result<Option<Stated>, Failure> {
        let sql = format!(
            "SELECT entry, {LOG} FROM {}.registry_entries WHERE tenant_id = $1 AND entry >= $2 ORDER BY entry LIMIT 1",
            self.schema
        );
        let from = |at: u64| {
            let mut found = None;
            self.session.again(&sql, &[Parameter::Text(tenant), Parameter::count(at)], |row| {
                let stated = row.count(0).zip(log(row, 1, &self.names, tenant));
                found = stated.map(|(index, log)| Stated { index, log });
                Ok(())
            })?;
            Ok::<_, Failure>(found)
        };
        let epoch = u32::try_from(epoch).unwrap_or(0);
        let covers = |log: &entry::Log| (log.epoch, log.size) > (epoch, leaf);
        let (mut low, mut high) = (0, count(self.session, self.schema)?);
        while low < high {
            let middle = low + (high - low) / 2;
            match from(middle)? {
                Some(stated) if !covers(&stated.log) => low = stated.index + 1,
                _ => high = middle,
            }
        }
        Ok(from(low)?.filter(|stated| stated.log.epoch == epoch && stated.log.size > leaf))
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
