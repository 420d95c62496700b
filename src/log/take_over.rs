//! Takes over runs that a directory has and this database lacks: after a failover that lost the last commits, after a restore, and when
//! two servers signed one registry.
//!
//! The entries are this registry's own. What they say of events that are here is sealed again, in the same order, and must come to the
//! same; a tenant of whom it does not is held, all others go on. Nothing is signed before the last of these runs is taken over. A run that
//! contradicts one of ours which has left the database is not taken over: then nothing is signed at all.

use std::collections::{HashMap, HashSet};

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::range::{Frontier, Range};
use zeroauth_audit_core::registry::entry::{self, Entry};
use zeroauth_audit_core::registry::label::Label;
use zeroauth_audit_core::registry::run::{self, Block, File};

use crate::log::registry_rows::Run;
use crate::log::seal::{Chain, Sealer};
use crate::log::store::{Tiles, digests};
use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::spi::{Parameter, Session};

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A part of what there is to take over.
    Some,
    /// Nothing may be signed.
    Refused,
}

/// A run of a directory.
struct Found {
    number: u64,
    sink: String,
    /// `None`: it contradicts what has left this database.
    file: Option<String>,
}

/// Takes over the first run that there is; `None` when there is none.
pub fn next(sealer: &Sealer<'_>) -> Result<Option<Taken>, Failure> {
    let Some(found) = first(sealer.session, sealer.schema)? else { return Ok(None) };
    let Some(text) = &found.file else { return Ok(Some(Taken::Refused)) };
    let ours = sealer.registry.newest_run.as_ref();
    if ours.is_some_and(|run| run.number >= found.number) {
        // Only a directory says what has left, and no other has ours.
        second_signer(sealer, &found)?;
        rewind(sealer, found.number - 1)?;
        return Ok(Some(Taken::Some));
    }
    let taken = match File::read(text.as_bytes()) {
        Ok(file) => take(sealer, &found, text, &file)?,
        Err(error) => Err(error.to_string()),
    };
    Ok(Some(match taken {
        Ok(()) => Taken::Some,
        Err(why) => {
            let sql = format!("SELECT {}.registry_forked($1, $2, $3, NULL)", sealer.schema);
            let parameters =
                [Parameter::Text(&found.sink), Parameter::count(found.number), Parameter::Text(&why)];
            sealer.session.change_again(&sql, &parameters, |_| Ok(()))?;
            Taken::Refused
        }
    }))
}

/// One that contradicts us comes before all others. Its sink is locked before anything else, as by the worker that records what a sink said:
/// they do not wait for each other.
fn first(session: &Session, schema: &str) -> Result<Option<Found>, Failure> {
    let sql = format!(
        "SELECT f.number, f.sink, f.file FROM {schema}.registry_found f JOIN {schema}.sinks s ON s.name = f.sink
         WHERE s.enabled ORDER BY f.file IS NOT NULL, f.number, f.sink LIMIT 1 FOR NO KEY UPDATE OF s"
    );
    let mut found = None;
    session.change_again(&sql, &[], |row| {
        let (number, sink) = (row.count(0).unwrap_or(0), row.text(1)?.unwrap_or_default());
        found = Some(Found { number, sink, file: row.text(2)? });
        Ok(())
    })?;
    Ok(found)
}

fn second_signer(sealer: &Sealer<'_>, found: &Found) -> Result<(), Failure> {
    let sql = format!("SELECT {}.second_signer($1, $2)", sealer.schema);
    let parameters = [Parameter::Text(&found.sink), Parameter::count(found.number)];
    sealer.session.change_again(&sql, &parameters, |_| Ok(()))
}

/// Takes back what was sealed behind a run; the next step reads what is left.
fn rewind(sealer: &Sealer<'_>, run: u64) -> Result<(), Failure> {
    let sql = format!("SELECT {}.registry_rewind($1)", sealer.schema);
    sealer.session.change_again(&sql, &[Parameter::count(run)], |_| Ok(()))
}

/// Takes over a run, or as much of it as one step can; the reason when it does not follow from what is here.
fn take(
    sealer: &Sealer<'_>,
    found: &Found,
    text: &str,
    file: &File<'_>,
) -> Result<Result<(), String>, Failure> {
    let registry = &sealer.registry;
    let ours = registry.newest_run.as_ref();
    let (before, digest) = ours.map_or((0, None), |run| (run.size, Some(run.digest)));
    let head = &file.head;
    if head.number != found.number || head.number != ours.map_or(1, |run| run.number + 1) {
        return Ok(Err(format!("it is number {}", head.number)));
    }
    if head.after != digest || head.size.0 != before {
        return Ok(Err("it does not follow the run before it as it is here".to_owned()));
    }
    let signed = match sealer.comparison.trust.registry(file.tail.checkpoint.as_bytes()) {
        Ok(signed) => signed.checkpoint,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if signed.size != head.size.1 {
        return Ok(Err("its checkpoint is of another size".to_owned()));
    }
    // What is stored behind the last run was never signed: the same, from a server that signed it, or something else.
    let stored = registry.stored();
    for (index, block) in (before..stored).zip(&file.blocks) {
        if registry.entries.tiles.leaf(index)? != Some(Entry::leaf(block.text)) {
            rewind(sealer, head.number - 1)?;
            return Ok(Ok(()));
        }
    }
    if stored > head.size.1 {
        rewind(sealer, head.number - 1)?;
        return Ok(Ok(()));
    }
    let labels = labels(sealer)?;
    let mut grown = HashSet::new();
    let mut edges = Edges { sealer, known: HashMap::new() };
    let mut in_snapshot = false;
    let mut whole = true;
    for (index, block) in (before..).zip(&file.blocks) {
        match &block.entry {
            Entry::SnapshotBegin => in_snapshot = true,
            Entry::SnapshotEnd(_) => in_snapshot = false,
            _ => {}
        }
        if index < stored {
            continue;
        }
        let known = match &block.entry {
            Entry::Log(log) => labels.get(&log.label).map(|tenant| (tenant, log)),
            Entry::Names(digest) if *digest != registry.entries.names.digest() => {
                return Ok(Err("its labels are made with another name key".to_owned()));
            }
            _ => None,
        };
        let Some((tenant, log)) = known else {
            let edge = match &block.entry {
                Entry::Log(log) if in_snapshot => edges.stated(log, block),
                Entry::Log(log) => edges.grown(None, log, block)?,
                _ => None,
            };
            registry.append_text(&block.entry, edge.as_deref());
            continue;
        };
        if in_snapshot {
            let tiles = Tiles::stated(sealer.session, sealer.schema, tenant, log);
            let here = tiles.root(log.size)?.is_ok_and(|root| root == log.root);
            let edge = edges.stated(log, block).filter(|_| !here);
            registry.append(tenant, log, edge.as_deref())?;
            continue;
        }
        if !grown.insert(tenant.as_str()) {
            // This statement still reads the log as it was.
            whole = false;
            break;
        }
        let chains = block.intervals.iter().map(|interval| Chain {
            chain: interval.chain,
            head: interval.to,
            covered: interval.from,
        });
        if sealer.seal(tenant, &chains.collect::<Vec<_>>(), Some(log))?.is_err() {
            let edge = edges.grown(Some(tenant), log, block)?;
            registry.append(tenant, log, edge.as_deref())?;
            hold(sealer, tenant, log, &found.sink)?;
        }
        out_of_memory::check()?;
    }
    if whole && registry.root() != signed.root {
        return Ok(Err("its checkpoint has another root than its entries".to_owned()));
    }
    sealer.writes.flush()?;
    registry.flush()?;
    if whole {
        let run = Run {
            number: head.number,
            size: signed.size,
            root: signed.root,
            written: head.written,
            note: file.tail.checkpoint.to_owned(),
            digest: run::digest(text.as_bytes()),
            minutes_ago: 0,
        };
        run.store(sealer.session, sealer.schema, before, Some(text))?;
        let sql = format!("SELECT {}.registry_taken_over($1, $2)", sealer.schema);
        let parameters = [Parameter::Text(&found.sink), Parameter::count(found.number)];
        sealer.session.change_again(&sql, &parameters, |_| Ok(()))?;
    }
    Ok(Ok(()))
}

/// The compact ranges of logs whose events are not here, so that a later snapshot can state them again.
struct Edges<'a> {
    sealer: &'a Sealer<'a>,
    /// What entries of this step said.
    known: HashMap<Label, (u64, Vec<Digest>)>,
}

impl Edges<'_> {
    /// As a snapshot gives it.
    fn stated(&mut self, log: &entry::Log, block: &Block<'_>) -> Option<Vec<Digest>> {
        let edge = block.edge.clone()?;
        self.known.insert(log.label, (log.size, edge.clone()));
        Some(edge)
    }

    /// That of the tree that the log goes on from, with the growth; `None` where the former is not known.
    fn grown(
        &mut self,
        tenant: Option<&str>,
        log: &entry::Log,
        block: &Block<'_>,
    ) -> Result<Option<Vec<Digest>>, Failure> {
        let added =
            block.intervals.iter().map(|interval| u64::try_from(interval.to - interval.from).unwrap_or(0));
        let old = log.size.saturating_sub(added.fold(0, u64::saturating_add));
        let base = match (&block.edge, self.known.remove(&log.label)) {
            (Some(edge), _) => Some(edge.clone()),
            _ if old == 0 => Some(Vec::new()),
            (None, Some((size, edge))) if size == old => Some(edge),
            _ => self.before(tenant, log, old)?,
        };
        let grown = base.and_then(|base| {
            let mut edge = Frontier::from_parts(old, base).ok()?;
            let growth = Range::from_parts(old, log.size, block.growth.clone()?).ok()?;
            edge.append(&growth).ok()?;
            (edge.root() == log.root).then(|| edge.parts().1.to_vec())
        });
        if let Some(edge) = &grown {
            self.known.insert(log.label, (log.size, edge.clone()));
        }
        Ok(grown)
    }

    /// That of the entry before, as it is stored: in tiles, or beside the entry.
    fn before(
        &self,
        tenant: Option<&str>,
        log: &entry::Log,
        size: u64,
    ) -> Result<Option<Vec<Digest>>, Failure> {
        let Some(previous) = log.previous else { return Ok(None) };
        let sql = format!("SELECT edge FROM {}.registry_entries WHERE entry = $1", self.sealer.schema);
        let mut stored = None;
        self.sealer.session.again(&sql, &[Parameter::count(previous)], |row| {
            stored = row.bytes(0).map(digests);
            Ok(())
        })?;
        if let (None, Some(tenant)) = (&stored, tenant) {
            let tiles = Tiles::stated(self.sealer.session, self.sealer.schema, tenant, log);
            stored = tiles.range(0, size)?.ok();
        }
        Ok(stored)
    }
}

fn hold(sealer: &Sealer<'_>, tenant: &str, log: &entry::Log, sink: &str) -> Result<(), Failure> {
    let sql = format!("SELECT {}.hold_tenant($1, $2, $3, $4)", sealer.schema);
    let parameters = [
        Parameter::Text(tenant),
        Parameter::count(log.size),
        Parameter::Bytes(log.root.as_bytes()),
        Parameter::Text(sink),
    ];
    sealer.session.change_again(&sql, &parameters, |_| Ok(()))
}

/// Every tenant that is here, or was sealed here, by its label.
fn labels(sealer: &Sealer<'_>) -> Result<HashMap<Label, String>, Failure> {
    let names = &sealer.registry.entries.names;
    let mut labels = HashMap::new();
    let mut add = |tenant: String| labels.insert(names.label(&tenant), tenant);
    sealer.comparison.tenants()?.into_iter().for_each(|tenant| drop(add(tenant)));
    let sql =
        include_str!("../../sql/queries/tenants_with_events.sql").replace("@trail@", &sealer.trail.name);
    sealer.session.all(&sql, &[], |row| {
        row.text(0)?.into_iter().for_each(|tenant| drop(add(tenant)));
        Ok(())
    })?;
    out_of_memory::check()?;
    Ok(labels)
}
