//! Run files: what one run added to the registry, made from the tables (`docs/format.md`, section 21).

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::intervals::Interval;
use zeroauth_audit_core::registry::entry::{Entry, Restored};
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::registry::run::{self, Head, Writer};

use crate::log::cosignatures;
use crate::log::registry_rows::{LOG, Run, log, name_key};
use crate::log::store::{Tiles, digests};
use crate::pg::call::{self, Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session, bigint};
use crate::trail::membership::INTERNAL;

/// An entry of a run, as the tables have it.
struct Stored {
    /// Whose log, for the state of one.
    tenant: Option<String>,
    entry: Result<Entry, String>,
    /// Size of the tree that it continues.
    continues: Option<u64>,
    /// Its compact range, if no tile has it.
    edge: Option<Vec<Digest>>,
}

/// The text of a run's file, which follows the file of `before` and carries the notes that witnesses signed since; `Ok(Err(..))` when the
/// tables do not give it.
pub fn text(
    session: &Session,
    schema: &str,
    names: &NameKey,
    run: &Run,
    before: Option<&Run>,
    cosigned: &[String],
) -> Result<Result<String, String>, Failure> {
    let size_before = before.map_or(0, |before| before.size);
    let mut entries = Vec::new();
    let sql = format!(
        "SELECT e.tenant_id, e.text, b.tree_size, e.edge, {}
         FROM {schema}.registry_entries e LEFT JOIN {schema}.registry_entries b ON b.entry = COALESCE(e.restored, e.previous)
         WHERE e.entry >= $1 AND e.entry < $2 ORDER BY e.entry",
        LOG.split(", ").map(|column| format!("e.{column}")).collect::<Vec<_>>().join(", ")
    );
    session.again(&sql, &[Parameter::count(size_before), Parameter::count(run.size)], |row| {
        out_of_memory::grow(&mut entries)?;
        let (tenant, text) = (row.text(0)?, row.text(1)?);
        let entry = match (&tenant, text) {
            (None, Some(text)) => Entry::parse(text.as_bytes()).map_err(|error| error.to_string()),
            (Some(tenant), None) => log(row, 4, names, tenant)
                .map(Entry::Log)
                .ok_or_else(|| "an entry of a log is incomplete".to_owned()),
            _ => Err("an entry has no text".to_owned()),
        };
        let continues = row.count(2);
        let edge = row.bytes(3).map(digests);
        entries.push(Stored { tenant, entry, continues, edge });
        Ok(())
    })?;
    if entries.len() as u64 != run.size - size_before {
        return Ok(Err(format!(
            "run {} has {} entries, not {}",
            run.number,
            entries.len(),
            run.size - size_before
        )));
    }
    let states_all = entries.first().is_some_and(|first| first.entry == Ok(Entry::SnapshotBegin));
    let edge = match (states_all && run.number > 1)
        .then(|| Tiles::registry(session, schema).range(0, size_before))
    {
        None => None,
        Some(edge) => match edge? {
            Ok(edge) => Some(edge),
            Err(why) => return Ok(Err(why)),
        },
    };
    let mut file = Writer::new(&Head {
        number: run.number,
        after: before.map(|before| before.digest),
        written: run.written,
        size: (size_before, run.size),
        edge,
    });
    let mut in_snapshot = false;
    for stored in entries {
        let entry = match stored.entry {
            Ok(entry) => entry,
            Err(why) => return Ok(Err(why)),
        };
        let text = entry.text();
        let (Entry::Log(log), Some(tenant)) = (&entry, &stored.tenant) else {
            in_snapshot = match entry {
                Entry::SnapshotBegin => true,
                Entry::SnapshotEnd(_) => false,
                _ => in_snapshot,
            };
            file.entry(&text, stored.edge.as_deref(), &[], None);
            continue;
        };
        let from = match log.restored {
            Some(Restored::Nothing) => 0,
            _ => stored.continues.unwrap_or(0),
        };
        let epoch = i32::try_from(log.epoch).unwrap_or(i32::MAX);
        let tiles = Tiles::new(session, schema, tenant, epoch);
        if in_snapshot {
            match stored.edge.map_or_else(|| tiles.range(0, log.size), |edge| Ok(Ok(edge)))? {
                Ok(edge) => file.entry(&text, Some(&edge), &[], None),
                Err(why) => return Ok(Err(why)),
            }
            continue;
        }
        let growth = match tiles.range(from, log.size)? {
            Ok(growth) => growth,
            Err(why) => return Ok(Err(why)),
        };
        let edge = match log.restored {
            None => None,
            Some(_) => match tiles.range(0, from)? {
                Ok(edge) => Some(edge),
                Err(why) => return Ok(Err(why)),
            },
        };
        let added = intervals(session, schema, (tenant, epoch), (from, log.size))?;
        file.entry(&text, edge.as_deref(), &added, Some(&growth));
    }
    let cosigned: Vec<&str> = cosigned.iter().map(String::as_str).collect();
    Ok(Ok(file.finish(&run.note, &cosigned, &[])))
}

/// Which events a log got between two of its sizes.
fn intervals(
    session: &Session,
    schema: &str,
    (tenant, epoch): (&str, i32),
    (from, to): (u64, u64),
) -> Result<Vec<Interval>, Failure> {
    let sql = format!(
        "SELECT chain, from_seq, to_seq FROM {schema}.log_intervals
         WHERE tenant_id = $1 AND epoch = $2::pg_catalog.int4 AND tree_size > $3 AND tree_size <= $4 ORDER BY first_leaf"
    );
    let parameters = [
        Parameter::Text(tenant),
        Parameter::Int8(i64::from(epoch)),
        Parameter::Int8(bigint(from)),
        Parameter::Int8(bigint(to)),
    ];
    let mut added = Vec::new();
    session.again(&sql, &parameters, |row| {
        out_of_memory::grow(&mut added)?;
        let seq = |n: usize| row.int8(n).unwrap_or(0);
        added.push(Interval { chain: row.int2(0).unwrap_or(0), from: seq(1), to: seq(2) });
        Ok(())
    })?;
    Ok(added)
}

/// The text of the file of a run that was signed; `Ok(Err(..))` when it is not there, or not what was signed.
pub fn signed(session: &Session, schema: &str, number: u64) -> Result<Result<String, String>, Failure> {
    let (mut taken_over, mut before) = (None, None);
    let sql = format!("SELECT file FROM {schema}.registry_runs WHERE number = $1");
    session.again(&sql, &[Parameter::count(number)], |row| {
        taken_over = row.text(0)?;
        Ok(())
    })?;
    let Some(run) = Run::numbered(session, schema, number)? else {
        return Ok(Err("it is not there".to_owned()));
    };
    let file = match taken_over {
        Some(file) => file,
        None => {
            if number > 1 {
                before = Run::numbered(session, schema, number - 1)?;
                if before.is_none() {
                    return Ok(Err("the run before is not there".to_owned()));
                }
            }
            let Some(names) = name_key(session, schema)? else {
                return Ok(Err("the name key is gone".to_owned()));
            };
            let cosigned = cosignatures::carried_by(session, schema, number)?;
            match text(session, schema, &names, &run, before.as_ref(), &cosigned)? {
                Ok(file) => file,
                Err(why) => return Ok(Err(why)),
            }
        }
    };
    let same = run::digest(file.as_bytes()) == run.digest;
    Ok(if same { Ok(file) } else { Err("it is not what was signed".to_owned()) })
}

/// `registry_run_file(number)`
fn registry_run_file(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let number = arguments.datum(0).map_or(0, |datum| datum.value() as i64);
    let number = u64::try_from(number).unwrap_or(0);
    let session = Session::connect();
    if Run::numbered(&session, INTERNAL, number)?.is_none() {
        return Err(Failure::new(Kind::UnknownTenant, format!("there is no run {number} of the registry"))
            .hint("The job checkpoint numbers its runs from 1 on."));
    }
    let file = signed(&session, INTERNAL, number)?.map_err(|why| {
        Failure::new(Kind::DamagedLog, format!("the file of run {number} cannot be made: {why}"))
            .hint("SELECT * FROM audit_integrity() says which logs are not what was sealed.")
    })?;
    drop(session);
    Ok(call::text(&file))
}

sql_function!(zeroauth_audit_registry_run_file, pg_finfo_zeroauth_audit_registry_run_file, registry_run_file);
