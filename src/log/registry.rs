//! The registry, the log of all logs: reading it, adding to it, and signing it (`docs/format.md`, section 20).
//!
//! An entry is appended in the transaction in which its log grows. The entry before is looked up here, and not in the row of the log:
//! whoever rewrites a log must rewrite the registry, too, whose checkpoints have left the database. A run is signed in a transaction
//! of its own, when its entries are committed.

use std::cell::RefCell;

use pgrx::pg_sys;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::note::Note;
use zeroauth_audit_core::registry::entry::{self, Entry};
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::registry::run;
use zeroauth_audit_core::tile::builder::Builder;

use crate::log::cosignatures;
use crate::log::keys::Signer;
use crate::log::registry_entries::{self, Entries, previous, restored};
use crate::log::registry_rows::{Run, name_key};
use crate::log::run_file;
use crate::log::snapshot;
use crate::log::store::{Tiles, joined};
use crate::pg::error::Failure;
use crate::pg::out_of_memory;
use crate::pg::random;
use crate::pg::spi::{Parameter, Session, bigint, columns};

/// While nothing is added, a run is signed this often: minutes.
const SILENCE: i64 = 10;

/// Every log is stated again this often: days.
const SNAPSHOT: i64 = 30;

/// What one registry has, and another that takes its place has not.
const REPLACED: [&str; 5] =
    ["registry_entries", "registry_tiles", "registry_cosignatures", "registry_runs", "registry_names"];

/// The registry of a database, or of a drill.
pub struct Registry<'a> {
    session: &'a Session,
    schema: &'a str,
    /// What it says of each log.
    pub entries: Entries<'a>,
    /// What was signed last.
    pub newest_run: Option<Run>,
    /// Whether it took the place of another one in this statement, which still reads that one.
    pub replaced: bool,
    /// Entries whose hashes are stored.
    stored: u64,
    added: RefCell<Added>,
}

/// Entries that are not stored yet, a column of the table in each vector.
struct Added {
    builder: Builder,
    entries: Vec<i64>,
    /// Empty for the state of a log.
    texts: Vec<String>,
    tenants: Vec<String>,
    epochs: Vec<i64>,
    sizes: Vec<i64>,
    roots: Vec<Vec<u8>>,
    /// -1: none.
    previous: Vec<i64>,
    /// -1: nothing; -2: not the first of an epoch above 0.
    restored: Vec<i64>,
    /// Empty where tiles have it.
    edges: Vec<Vec<u8>>,
}

impl<'a> Registry<'a> {
    /// Reads what is needed to go on, or begins a registry of the name `base`, when the key has another name than before; `Ok(Err(..))` with
    /// the reason when it does not agree with itself, or with what was signed. `newest`: the newest run, and why it is in doubt if it is.
    pub fn open(
        session: &'a Session,
        schema: &'a str,
        newest: Option<(Run, Option<String>)>,
        base: Option<&str>,
    ) -> Result<Result<Self, String>, Failure> {
        let size = registry_entries::count(session, schema)?;
        let tiles = Tiles::registry(session, schema);
        if tiles.hashes_behind(size)? {
            return Ok(Err("its last entries are gone".to_owned()));
        }
        let mut after = None;
        if let Some((run, doubt)) = &newest {
            if run.size > size {
                return Ok(Err(format!("{} entries were signed, and {size} are there", run.size)));
            }
            if let Some(why) = doubt {
                return Ok(Err(why.clone()));
            }
            if base.is_some_and(|base| base != run.origin()) {
                after =
                    Some(Entry::After { origin: run.origin().to_owned(), size: run.size, root: run.root });
            }
        }
        let builder = match tiles.builder(size)? {
            Ok(builder) => builder,
            Err(why) => return Ok(Err(why)),
        };
        let names = match name_key(session, schema)? {
            Some(names) => names,
            None if size > 0 => return Ok(Err("its name key is gone".to_owned())),
            None => NameKey::new(random::bytes()),
        };
        let goes_on = size > 0 && after.is_none();
        let added = RefCell::new(Added::on(builder));
        let mut entries = Entries::new(session, schema, names);
        entries.tiles = tiles;
        let newest_run = newest.map(|(run, _)| run);
        let registry = Self { session, schema, entries, newest_run, replaced: false, stored: size, added };
        if goes_on { Ok(Ok(registry)) } else { registry.begin(after) }
    }

    /// An empty registry with its first entries, in place of what is there. One that continues another states every log.
    fn begin(self, after: Option<Entry>) -> Result<Result<Self, String>, Failure> {
        let Self { session, schema, entries: Entries { names, .. }, .. } = self;
        for table in REPLACED {
            session.change_again(&format!("DELETE FROM {schema}.{table}"), &[], |_| Ok(()))?;
        }
        if after.is_some() {
            // The directories have runs of the one before: this one begins in others.
            session.change_again(&format!("DELETE FROM {schema}.registry_found"), &[], |_| Ok(()))?;
            session.change_again(&format!("UPDATE {schema}.sinks SET published_to = 0"), &[], |_| Ok(()))?;
        }
        let key = format!("INSERT INTO {schema}.registry_names (id, key) VALUES (true, $1)");
        session.change_again(&key, &[Parameter::Bytes(names.as_bytes())], |_| Ok(()))?;
        let replaced = after.is_some();
        let mut added = Added::on(Builder::default());
        for entry in after.into_iter().chain([Entry::Names(names.digest())]) {
            added.text(&entry, None);
        }
        if replaced {
            let logs = match all_logs(session, schema, &names)? {
                Ok(logs) => logs,
                Err(why) => return Ok(Err(why)),
            };
            added.text(&Entry::SnapshotBegin, None);
            for (tenant, log) in &logs {
                added.log(tenant, log, None)?;
            }
            added.text(&Entry::SnapshotEnd(logs.len() as u64), None);
        }
        let entries = Entries::new(session, schema, names);
        let added = RefCell::new(added);
        Ok(Ok(Self { session, schema, entries, newest_run: None, replaced, stored: 0, added }))
    }

    /// Adds an entry for each key that is going to sign and has not signed the newest run, if one that has goes on signing: a reader that
    /// knows that one learns of the others from it. A key that comes without it must be handed out by hand.
    pub fn announce(&self, signer: &Signer) -> Result<(), Failure> {
        let Some(run) = &self.newest_run else { return Ok(()) };
        let signed: Vec<u32> = match Note::parse(run.note.as_bytes()) {
            Ok(note) => note.signatures().iter().map(|signature| signature.id).collect(),
            Err(_) => return Ok(()),
        };
        let (known, new): (Vec<_>, Vec<_>) = signer.public().partition(|key| signed.contains(&key.id()));
        if known.is_empty() {
            return Ok(());
        }
        let sql = format!("SELECT 1 FROM {}.registry_entries WHERE entry >= $1 AND text = $2", self.schema);
        for key in new {
            let entry = Entry::Key(key);
            let mut waits = false;
            let parameters = [Parameter::count(run.size), Parameter::Text(&entry.text())];
            self.session.again(&sql, &parameters, |_| {
                waits = true;
                Ok(())
            })?;
            if !waits {
                self.added.borrow_mut().text(&entry, None);
            }
        }
        Ok(())
    }

    /// Adds the state of a tenant's log, which is not there yet. `edge`: its compact range, if its events are not here.
    pub fn append(&self, tenant: &str, log: &entry::Log, edge: Option<&[Digest]>) -> Result<(), Failure> {
        self.added.borrow_mut().log(tenant, log, edge)
    }

    /// Adds an entry that is of no tenant here.
    pub fn append_text(&self, entry: &Entry, edge: Option<&[Digest]>) {
        self.added.borrow_mut().text(entry, edge);
    }

    /// Entries that are stored.
    pub const fn stored(&self) -> u64 {
        self.stored
    }

    /// Root of the entries with those that were added.
    pub fn root(&self) -> Digest {
        self.added.borrow().builder.root()
    }

    /// States every log again, if none was for long: whoever begins to read there needs nothing from before. Not before everything is signed,
    /// because such a run has nothing else; and not while there is a log whose tree cannot be shown, which is told elsewhere.
    pub fn snapshot(&self) -> Result<bool, Failure> {
        let size = self.added.borrow().builder.size();
        if self.newest_run.as_ref().is_none_or(|run| run.size != size) || !self.is_snapshot_due()? {
            return Ok(false);
        }
        let Some(states) = snapshot::states(self.session, self.schema, &self.entries.names)? else {
            return Ok(false);
        };
        let mut added = self.added.borrow_mut();
        added.text(&Entry::SnapshotBegin, None);
        for state in &states {
            match &state.tenant {
                Some(tenant) => added.log(tenant, &state.log, state.edge.as_deref())?,
                None => added.text(&Entry::Log(state.log), state.edge.as_deref()),
            }
        }
        added.text(&Entry::SnapshotEnd(states.len() as u64), None);
        Ok(true)
    }

    /// Whether the last snapshot, or the first run, was signed longer ago than [`SNAPSHOT`].
    fn is_snapshot_due(&self) -> Result<bool, Failure> {
        let sql = format!(
            "SELECT r.sealed_at < pg_catalog.clock_timestamp() - $2 * INTERVAL '1 day' FROM {0}.registry_runs r
             WHERE r.size > COALESCE((SELECT max(e.entry) FROM {0}.registry_entries e WHERE e.tenant_id IS NULL AND e.text = $1), -1)
             ORDER BY r.number LIMIT 1",
            self.schema
        );
        let mut due = false;
        let parameters = [Parameter::Text(&Entry::SnapshotBegin.text()), Parameter::Int8(SNAPSHOT)];
        self.session.again(&sql, &parameters, |row| {
            due = row.bool(0);
            Ok(())
        })?;
        Ok(due)
    }

    /// Stores what was added. True when something was.
    pub fn flush(&self) -> Result<bool, Failure> {
        if self.added.borrow().builder.size() == self.stored {
            return Ok(false);
        }
        // The next transaction reads the tables.
        let Added { builder, entries, texts, tenants, epochs, sizes, roots, previous, restored, edges } =
            self.added.replace(Added::on(Builder::default()));
        let (mut levels, mut places, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
        for tile in builder.finish().tiles {
            levels.push(i64::from(tile.level));
            places.push(bigint(tile.index));
            hashes.push(joined(&tile.hashes));
        }
        let schema = self.schema;
        let tiles = format!(
            "INSERT INTO {schema}.registry_tiles (level, place, hashes)
             SELECT r.level, r.place, r.hashes FROM {} AS r (level, place, hashes)
             ON CONFLICT (level, place) DO UPDATE SET hashes = excluded.hashes",
            columns(3)
        );
        let parameters = [Parameter::Int8s(&levels), Parameter::Int8s(&places), Parameter::Byteas(&hashes)];
        self.session.change(&tiles, &parameters, |_| Ok(()))?;
        let rows = format!(
            "INSERT INTO {schema}.registry_entries (entry, text, tenant_id, epoch, tree_size, root, previous, restored, edge)
             SELECT r.entry, NULLIF(r.text, ''), NULLIF(r.tenant_id, ''), NULLIF(r.epoch, -1), NULLIF(r.tree_size, 0), NULLIF(r.root, ''),
                 NULLIF(r.previous, -1), NULLIF(r.restored, -2), NULLIF(r.edge, '')
             FROM {} AS r (entry, text, tenant_id, epoch, tree_size, root, previous, restored, edge)",
            columns(9)
        );
        let parameters = [
            Parameter::Int8s(&entries),
            Parameter::Texts(&texts),
            Parameter::Texts(&tenants),
            Parameter::Int8s(&epochs),
            Parameter::Int8s(&sizes),
            Parameter::Byteas(&roots),
            Parameter::Int8s(&previous),
            Parameter::Int8s(&restored),
            Parameter::Byteas(&edges),
        ];
        self.session.change(&rows, &parameters, |_| Ok(()))?;
        Ok(true)
    }

    /// Signs the registry as it is stored, if a run is due. To be called when nothing was added in this transaction. Its file carries what
    /// witnesses have signed since the run before.
    pub fn close(&self, signer: &Signer) -> Result<Result<(), String>, Failure> {
        let size = self.added.borrow().builder.size();
        let due = match &self.newest_run {
            None => size > 0,
            Some(run) => run.size < size || run.is_older_than(SILENCE),
        };
        if !due {
            return Ok(Ok(()));
        }
        let root = match self.entries.tiles.root(size)? {
            Ok(root) => root,
            Err(why) => return Ok(Err(why)),
        };
        let mut run = Run {
            number: self.newest_run.as_ref().map_or(1, |run| run.number + 1),
            size,
            root,
            written: run::Written {
                // SAFETY: read when the server started.
                system: unsafe { pg_sys::GetSystemIdentifier() },
                // SAFETY: set when the process connected.
                database: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            },
            note: signer.sign(size, &root),
            digest: Digest::new([0; 32]),
            minutes_ago: 0,
        };
        let before = self.newest_run.as_ref();
        let cosigned = cosignatures::carry(self.session, self.schema, run.number)?;
        let file = run_file::text(self.session, self.schema, &self.entries.names, &run, before, &cosigned)?;
        let file = match file {
            Ok(file) => file,
            Err(why) => return Ok(Err(why)),
        };
        run.digest = run::digest(file.as_bytes());
        run.store(self.session, self.schema, before.map_or(0, |before| before.size), None)?;
        Ok(Ok(()))
    }
}

impl Added {
    fn on(builder: Builder) -> Self {
        Self {
            builder,
            entries: Vec::new(),
            texts: Vec::new(),
            tenants: Vec::new(),
            epochs: Vec::new(),
            sizes: Vec::new(),
            roots: Vec::new(),
            previous: Vec::new(),
            restored: Vec::new(),
            edges: Vec::new(),
        }
    }

    /// An entry of another kind than the state of a tenant's log.
    fn text(&mut self, entry: &Entry, edge: Option<&[Digest]>) {
        self.edges.push(joined(edge.unwrap_or_default()));
        let text = entry.text();
        self.entries.push(bigint(self.builder.size()));
        self.builder.push(Entry::leaf(&text));
        self.texts.push(text);
        self.tenants.push(String::new());
        self.epochs.push(-1);
        self.sizes.push(0);
        self.roots.push(Vec::new());
        self.previous.push(-1);
        self.restored.push(-2);
    }

    /// The state of a tenant's log.
    fn log(&mut self, tenant: &str, log: &entry::Log, edge: Option<&[Digest]>) -> Result<(), Failure> {
        out_of_memory::grow(&mut self.tenants)?;
        self.edges.push(joined(edge.unwrap_or_default()));
        self.entries.push(bigint(self.builder.size()));
        self.builder.push(Entry::leaf(&Entry::Log(*log).text()));
        self.texts.push(String::new());
        self.tenants.push(tenant.to_owned());
        self.epochs.push(i64::from(log.epoch));
        self.sizes.push(bigint(log.size));
        self.roots.push(log.root.as_bytes().to_vec());
        self.previous.push(previous(log));
        self.restored.push(restored(log));
        Ok(())
    }
}

/// The state of every log, by ascending label; `Ok(Err(..))` when the tiles of one do not give it.
fn all_logs(
    session: &Session,
    schema: &str,
    names: &NameKey,
) -> Result<Result<Vec<(String, entry::Log)>, String>, Failure> {
    let mut logs = Vec::new();
    let sql = format!(
        "SELECT tenant_id, epoch, tree_size FROM {schema}.logs WHERE state <> 'ended' AND tree_size > 0"
    );
    session.all(&sql, &[], |row| {
        out_of_memory::grow(&mut logs)?;
        logs.push((row.text(0)?.unwrap_or_default(), row.int4(1).unwrap_or(0), row.count(2).unwrap_or(0)));
        Ok(())
    })?;
    let mut states = Vec::with_capacity(logs.len());
    for (tenant, epoch, size) in logs {
        let root = match Tiles::new(session, schema, &tenant, epoch).root(size)? {
            Ok(root) => root,
            Err(why) => return Ok(Err(format!("the log of tenant {tenant}: {why}"))),
        };
        let (label, epoch) = (names.label(&tenant), u32::try_from(epoch).unwrap_or(0));
        states.push((tenant, entry::Log { label, epoch, size, root, previous: None, restored: None }));
    }
    states.sort_by_key(|(_, log)| log.label);
    Ok(Ok(states))
}
