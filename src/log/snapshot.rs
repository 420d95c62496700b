//! The newest state of every log, for a snapshot: from the registry itself, also of logs whose events are not here.

use std::collections::BTreeMap;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::range::Frontier;
use zeroauth_audit_core::registry::entry::{self, Entry};
use zeroauth_audit_core::registry::label::NameKey;

use crate::log::registry_rows::{LOG, log};
use crate::log::store::{Tiles, digests};
use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::spi::{Row, Session};

/// A log as a snapshot states it.
pub struct State {
    /// Whose it is; `None`: nobody's here.
    pub tenant: Option<String>,
    /// What the entry says: the newest state, after the entry that said it.
    pub log: entry::Log,
    /// The compact range, if no tile has it.
    pub edge: Option<Vec<Digest>>,
}

/// Every log, by ascending label; `None` when the tree of one cannot be shown.
pub fn states(session: &Session, schema: &str, names: &NameKey) -> Result<Option<Vec<State>>, Failure> {
    let mut newest = BTreeMap::new();
    let edge = |row: &Row<'_>, n: usize| -> Option<Vec<Digest>> { row.bytes(n).map(digests) };
    let of_tenants = format!(
        "SELECT DISTINCT ON (tenant_id) entry, tenant_id, edge, {LOG} FROM {schema}.registry_entries
         WHERE tenant_id IS NOT NULL ORDER BY tenant_id, entry DESC"
    );
    session.all(&of_tenants, &[], |row| {
        let tenant = row.text(1)?.unwrap_or_default();
        if let Some(log) = log(row, 3, names, &tenant) {
            let log = entry::Log { previous: row.count(0), restored: None, ..log };
            newest.insert(log.label, State { tenant: Some(tenant), log, edge: edge(row, 2) });
        }
        out_of_memory::check()
    })?;
    let of_others = format!(
        "SELECT entry, text, edge FROM {schema}.registry_entries WHERE tenant_id IS NULL AND text > '{0}' AND text < '{0}~' ORDER BY entry",
        format_args!("{}\nlog ", entry::HEADER)
    );
    session.all(&of_others, &[], |row| {
        if let Some(Entry::Log(log)) = row.text(1)?.and_then(|text| Entry::parse(text.as_bytes()).ok()) {
            let log = entry::Log { previous: row.count(0), restored: None, ..log };
            newest.insert(log.label, State { tenant: None, log, edge: edge(row, 2) });
        }
        out_of_memory::check()
    })?;
    let states: Vec<State> = newest.into_values().collect();
    for state in &states {
        if !is_shown(session, schema, state)? {
            return Ok(None);
        }
    }
    Ok(Some(states))
}

/// Whether the tree of a state can be shown.
fn is_shown(session: &Session, schema: &str, State { tenant, log, edge }: &State) -> Result<bool, Failure> {
    let edge = match (edge, tenant) {
        (Some(edge), _) => edge.clone(),
        (None, Some(tenant)) => match Tiles::stated(session, schema, tenant, log).range(0, log.size)? {
            Ok(edge) => edge,
            Err(_) => return Ok(false),
        },
        (None, None) => return Ok(false),
    };
    Ok(Frontier::from_parts(log.size, edge).is_ok_and(|edge| edge.root() == log.root))
}
