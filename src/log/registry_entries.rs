//! What the registry says of one tenant's log: its newest entry, and whether the log goes on from it.

use zeroauth_audit_core::registry::entry::{self, Entry};
use zeroauth_audit_core::registry::label::NameKey;

use crate::log::registry_rows::{LOG, log, name_key};
use crate::log::store::Tiles;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

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

    /// Every tenant that it has an entry of.
    pub fn tenants(&self, each: &mut dyn FnMut(String) -> Result<(), Failure>) -> Result<(), Failure> {
        let sql = include_str!("../../sql/queries/registered_tenants.sql").replace("@logs@", self.schema);
        self.session.all(&sql, &[], |row| row.text(0)?.map_or(Ok(()), &mut *each))
    }
}
