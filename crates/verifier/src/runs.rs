//! Run files of a directory: whether every log only grew.
//!
//! Reads them in the order of their numbers, and demands all of section 22 of `docs/format.md`. After a file that is missing or cannot be
//! read, it goes on at the next that begins with a snapshot. Memory is one compact range for each log, and some bytes for each file.

mod files;
pub mod logs;
mod order;
mod outside;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::note::VerifierKey;
use zeroauth_audit_core::registry::Label;
use zeroauth_audit_core::registry::entry::{Entry, Log};
use zeroauth_audit_core::registry::replay::{Problem, Replay, Said};
use zeroauth_audit_core::registry::run::{self, Block, Head, Reader, Tail, Written};
use zeroauth_audit_core::trust::{self, Registry, Trust};

use crate::clock;
use crate::progress::Progress;
use crate::sealed::{self, Unbelieved};
use crate::verdict::{Finding, Restored, Sealed, Verdict};
pub use files::{RunFile, files};
pub use logs::Logs;

/// What the reader knows, and demands.
#[derive(Clone, Copy, Default)]
pub struct Demands<'a> {
    /// Entries of restores that are known.
    pub accepted: &'a [u64],
    /// The longest time between two runs, in seconds.
    pub max_silence: Option<u64>,
    /// Whether to keep the states of each log, and in which order its events are leaves.
    pub keep_logs: bool,
}

/// A registry as it was read so far.
pub struct Runs<'a> {
    /// Whom to believe; a key that the registry announces is added.
    trust: Trust,
    quorum: usize,
    demands: Demands<'a>,
    files: Vec<RunFile>,
    state: Option<State>,
    /// After a file that could not be read: what was known before.
    before: Option<Replay>,
    logs: Logs,
    /// What the entry `names` says, if it was read.
    names: Option<Digest>,
    /// Which file the entries from an index on are in.
    begins: Vec<(u64, usize)>,
    /// The state after each file, by size.
    checkpoints: Vec<(u64, Digest)>,
    newest: Option<Sealed>,
    witnessed: Option<(u64, Vec<String>)>,
    monitored: Option<(u64, Vec<String>)>,
    anchors: u64,
    read: u64,
    skipped: u64,
    /// Entries before the first file.
    begun: u64,
}

struct State {
    replay: Replay,
    number: u64,
    digest: Digest,
    written: Written,
    sealed_at: u64,
    checkpoint: String,
}

/// Why a file is not read, and nothing of it counts.
enum Refused {
    Unreadable(String),
    /// A signature by a key that is trusted is wrong.
    Forged(String),
}

impl<'a> Runs<'a> {
    /// Nothing read yet.
    #[must_use]
    pub fn new(trust: &Trust, demands: Demands<'a>) -> Self {
        let mut believed = trust.clone();
        believed.require(0);
        Self {
            trust: believed,
            quorum: trust.quorum(),
            demands,
            files: Vec::new(),
            state: None,
            before: None,
            logs: Logs::default(),
            names: None,
            begins: Vec::new(),
            checkpoints: Vec::new(),
            newest: None,
            witnessed: None,
            monitored: None,
            anchors: 0,
            read: 0,
            skipped: 0,
            begun: 0,
        }
    }

    /// Reads `files`, in the order of their numbers, and shows how far it is.
    pub fn read(files: Vec<RunFile>, trust: &Trust, demands: Demands<'a>, verdict: &mut Verdict) -> Self {
        let mut progress = Progress::new(files.iter().map(|file| file.length).sum());
        let mut runs = Self::new(trust, demands);
        runs.take(files, verdict, &mut progress);
        runs
    }

    /// Reads more files, in the order of their numbers.
    pub fn take(&mut self, files: Vec<RunFile>, verdict: &mut Verdict, progress: &mut Progress) {
        let mut bytes = 0;
        let from = self.files.len();
        self.files.extend(files);
        for at in from..self.files.len() {
            if self.is_in_order(at, verdict)
                && let Err(refused) = self.file(at, verdict)
            {
                match refused {
                    // Behind a file that could not be read: on the way to the next snapshot.
                    Refused::Unreadable(_) if self.is_skipping() => self.skipped += 1,
                    Refused::Unreadable(what) => verdict.trouble_with(self.files[at].name(), what),
                    Refused::Forged(detail) => found("checkpoint_mismatch", None, detail, verdict),
                }
                self.forget();
            }
            bytes += self.files[at].length;
            progress.at(bytes);
        }
    }

    /// The number of the newest file that was looked at.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.files.last().map_or(0, |file| file.number)
    }

    /// The newest checkpoint that follows from all before it, as a signed note.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&str> {
        self.state.as_ref().map(|state| state.checkpoint.as_str())
    }

    /// When it was sealed, by the log's own clock.
    #[must_use]
    pub fn sealed_at(&self) -> Option<u64> {
        self.state.as_ref().map(|state| state.sealed_at)
    }

    /// Entries of the registry, logs that are not closed, and their events.
    #[must_use]
    pub fn extent(&self) -> Option<(u64, u64, u64)> {
        let replay = &self.state.as_ref()?.replay;
        let open = replay.logs().filter(|(_, log)| !log.is_closed());
        let (logs, events) =
            open.fold((0, 0_u64), |sum, (_, log)| (sum.0 + 1, sum.1.saturating_add(log.size)));
        Some((replay.size(), logs, events))
    }

    /// Whether something was told that keeps files from being read up to the next snapshot.
    fn is_skipping(&self) -> bool {
        self.state.is_none() && (self.before.is_some() || self.skipped > 0)
    }

    /// What follows cannot be read from here; what was known is kept for the next snapshot.
    fn forget(&mut self) {
        if let Some(state) = self.state.take() {
            self.before = Some(state.replay);
        }
    }

    fn file(&mut self, at: usize, verdict: &mut Verdict) -> Result<(), Refused> {
        let file = &self.files[at].clone();
        let bytes = sealed::read_file(&file.path, run::MAX_BYTES).map_err(Refused::Unreadable)?;
        let unreadable = |error: run::Error| Refused::Unreadable(error.to_string());
        // To its end before anything of it counts.
        let (announced, tail) = ends(&bytes).map_err(unreadable)?;
        if let Some(anchor) = tail.anchored.iter().find(|anchor| !is_object(anchor.evidence)) {
            return Err(Refused::Unreadable(format!(
                "the evidence of an anchor ({}) is not JSON",
                anchor.kind
            )));
        }
        let mut reader = Reader::new(&bytes).map_err(unreadable)?;
        let head = reader.head().clone();
        if head.number != file.number {
            return Err(Refused::Unreadable(format!("says that it is number {}", head.number)));
        }
        if let Some(state) = &self.state
            && head.after != Some(state.digest)
        {
            // It may begin with a snapshot: then it is read.
            let what = format!("does not follow number {} as it is here", state.number);
            verdict.trouble_with(file.name(), what);
            self.forget();
        }
        let believed = self.believed(&announced, &tail)?;
        let sealed_at = believed.sealed_at.ok_or(Unbelieved::NoTime);
        let sealed_at = sealed_at.map_err(|error| Refused::Unreadable(error.to_string()))?;

        let (written, sealed_before) =
            self.state.as_ref().map_or((head.written, 0), |state| (state.written, state.sealed_at));
        let name = file.name();
        let Some(mut replay) = self.begin(&head, &believed.checkpoint.origin, &name, verdict) else {
            if !self.is_skipping() {
                verdict.trouble_with(name, "neither begins with a snapshot, nor is the file before it here");
            }
            self.skipped += 1;
            return Ok(());
        };
        self.say_of_writer(&name, written, head.written, verdict);
        self.say_of_time(&name, sealed_before, sealed_at, verdict);
        while let Some(block) = reader.block().map_err(unreadable)? {
            self.entry(&mut replay, &block, &bytes, head.size.0, &name, verdict);
        }
        let place = format!("{name:?}");
        if let Err(problem) = replay.checkpoint(believed.checkpoint.size, &believed.checkpoint.root) {
            found(problem.class(), None, format!("{place}: {problem}"), verdict);
        }
        self.take_keys(announced, &believed, &place, verdict);
        self.outside(file, &head, &tail, verdict);
        if replay.is_known() {
            self.checkpoints.push((replay.size(), replay.root()));
        }
        self.newest = Some(Sealed {
            origin: believed.checkpoint.origin,
            tree_size: believed.checkpoint.size,
            of_registry: true,
            sealed_at: Some(sealed_at),
            witnesses: Vec::new(),
            result: String::new(),
        });
        self.read += 1;
        self.begins.push((head.size.0, at));
        let (number, digest, written) = (file.number, run::digest(&bytes), head.written);
        let checkpoint = tail.checkpoint.into();
        self.state = Some(State { replay, number, digest, written, sealed_at, checkpoint });
        Ok(())
    }

    /// The checkpoint of a file, signed by a key that was known before it, and who else has signed it of those that the file announces.
    fn believed(&self, announced: &[VerifierKey], tail: &Tail<'_>) -> Result<Registry, Refused> {
        let refused = |error: trust::Error| match error.is_forgery() {
            true => Refused::Forged(error.to_string()),
            false => Refused::Unreadable(error.to_string()),
        };
        let mut believed = self.trust.registry(tail.checkpoint.as_bytes()).map_err(refused)?;
        let mut with = self.trust.clone();
        let mut added = 0;
        for key in announced {
            added += usize::from(with.add_log(key.clone()).is_ok());
        }
        if added > 0 {
            // Who else has signed it. A key that has not is not taken for one.
            match with.registry(tail.checkpoint.as_bytes()) {
                Ok(by_both) => believed.keys = by_both.keys,
                Err(error) if error.is_forgery() => return Err(refused(error)),
                Err(_) => {}
            }
        }
        Ok(believed)
    }

    /// The state before a file: that of the one before, or of its snapshot. `None`: neither is there.
    fn begin(&mut self, head: &Head, origin: &str, name: &str, verdict: &mut Verdict) -> Option<Replay> {
        let mut contradicts = |problem: Problem| {
            found(problem.class(), None, format!("{name:?}: {problem}"), verdict);
        };
        if let Some(state) = self.state.take() {
            let mut replay = state.replay;
            if head.size.0 != replay.size() {
                contradicts(Problem::Size { checkpoint: head.size.0, entries: replay.size() });
                replay.lose(head.size.0);
            }
            if let Some(edge) = &head.edge
                && let Err(problem) = replay.repeated(edge)
            {
                contradicts(problem);
            }
            return Some(replay);
        }
        let Some(edge) = &head.edge else {
            return (self.before.is_none() && head.number == 1).then(|| Replay::new(origin)).map(
                |mut replay| {
                    if head.size.0 != 0 {
                        contradicts(Problem::Size { checkpoint: head.size.0, entries: 0 });
                        replay.lose(head.size.0);
                    }
                    replay
                },
            );
        };
        let (replay, problem) = match self.before.take() {
            Some(before) => before.resume(head.size.0, edge.clone()),
            None => Replay::at_snapshot(origin, head.size.0, edge.clone()),
        };
        if let Some(problem) = problem {
            contradicts(problem);
        }
        if self.read == 0 {
            self.begun = head.size.0;
        }
        Some(replay)
    }

    fn entry(
        &mut self,
        replay: &mut Replay,
        block: &Block<'_>,
        bytes: &[u8],
        begins: u64,
        name: &str,
        verdict: &mut Verdict,
    ) {
        let index = replay.size();
        let in_snapshot = replay.in_snapshot();
        let older = match Replay::needs(&block.entry) {
            Some(older) if older < index => self.older(older, bytes, begins),
            _ => None,
        };
        match replay.add(block, older.as_ref()) {
            Ok(Said::Restored { label, lost, proven }) => {
                let accepted = self.demands.accepted.contains(&index);
                verdict.restored(Restored { label: label.text(), entry: index, lost, proven, accepted });
                self.keep(index, block, in_snapshot);
            }
            Ok(_) => self.keep(index, block, in_snapshot),
            Err(problem) => {
                let label = match &block.entry {
                    Entry::Log(log) => Some(log.label),
                    _ => None,
                };
                found(problem.class(), label, format!("{name:?}, entry {index}: {problem}"), verdict);
            }
        }
        for label in replay.missing() {
            let detail = format!("{name:?}, entry {index}: the log is not in the snapshot of all logs");
            found("tenant_missing", Some(label), detail, verdict);
        }
    }

    fn keep(&mut self, index: u64, block: &Block<'_>, in_snapshot: bool) {
        match &block.entry {
            Entry::Log(log) if self.demands.keep_logs => self.logs.add(index, log, block, in_snapshot),
            Entry::Names(names) => self.names = Some(*names),
            Entry::Close(label) => self.logs.close(label),
            _ => {}
        }
    }

    /// What was read of each log, the registry's name, and the digest of its key of names, where that was read.
    #[must_use]
    pub fn into_logs(self) -> Option<(Logs, String, Option<Digest>)> {
        let origin = self.newest?.origin;
        Some((self.logs, origin, self.names))
    }

    fn take_keys(
        &mut self,
        announced: Vec<VerifierKey>,
        believed: &Registry,
        place: &str,
        verdict: &mut Verdict,
    ) {
        for key in announced {
            if key.name() != believed.checkpoint.origin {
                // Told as a problem of the entry.
                continue;
            }
            if believed.keys.contains(&key) {
                // It has signed, and its name is an origin.
                let _ = self.trust.add_log(key);
            } else {
                let detail = format!("{place}: a new key is announced that has not signed with the old one");
                found("checkpoint_mismatch", None, detail, verdict);
            }
        }
    }

    fn say_of_writer(&self, name: &str, before: Written, now: Written, verdict: &mut Verdict) {
        if before != now {
            let Written { system, database } = now;
            verdict
                .note(format!("from {name:?} on another database writes: system {system}, OID {database}"));
        }
    }

    /// The log's own clock proves nothing against the holder of its key; order is number and size.
    fn say_of_time(&self, name: &str, before: u64, now: u64, verdict: &mut Verdict) {
        let silence = now.saturating_sub(before);
        if let Some(most) = self.demands.max_silence.filter(|most| before > 0 && silence > *most) {
            let since = clock::print(before);
            let what =
                format!("nothing was sealed for {silence} s after {since}, which is longer than {most} s");
            verdict.trouble_with(name, what);
        }
        if now < before {
            verdict.note(format!("{name:?} was sealed before the file before it, by the log's own clock"));
        }
    }

    /// An entry `log` that was read before, from its file.
    fn older(&self, index: u64, here: &[u8], begins: u64) -> Option<Log> {
        if index >= begins {
            return run::log_at(here, index).ok().flatten();
        }
        let after = self.begins.partition_point(|(from, _)| *from <= index);
        let (_, file) = self.begins.get(after.checked_sub(1)?)?;
        let bytes = sealed::read_file(&self.files[*file].path, run::MAX_BYTES).ok()?;
        run::log_at(&bytes, index).ok().flatten()
    }

    /// Says what came of it.
    pub fn end(&self, verdict: &mut Verdict) {
        if self.skipped > 0 {
            verdict
                .trouble_with("run files", format!("{} were skipped up to the next snapshot", self.skipped));
        }
        let (Some((entries, logs, events)), Some(mut newest)) = (self.extent(), self.newest.clone()) else {
            return;
        };
        verdict.tenants = logs;
        verdict.note(format!(
            "{} run files, {entries} entries, {logs} logs with {events} events, {} anchors",
            self.read, self.anchors
        ));
        if self.begun > 0 {
            verdict.note(format!(
                "the files begin with a snapshot after {} entries: nothing is known of what was before",
                self.begun
            ));
        }
        if let Some((size, monitors)) = &self.monitored {
            verdict.note(format!("monitors have signed up to {size} entries: {}", monitors.join(", ")));
        }
        match &self.witnessed {
            Some((size, witnesses)) => {
                verdict.note(format!("witnesses have signed up to {size} entries: {}", witnesses.join(", ")));
                newest.witnesses.clone_from(witnesses);
            }
            None if self.quorum > 0 => verdict.trouble_with(
                newest.origin.clone(),
                format!("no checkpoint was signed by {} of the given witnesses", self.quorum),
            ),
            None => {}
        }
        newest.result = if !verdict.classes.is_empty() {
            "see the findings".into()
        } else if self.begun > 0 || self.skipped > 0 {
            "every log only grew, since the snapshot that was read first".into()
        } else if verdict.restores.is_empty() {
            "every log only grew".into()
        } else {
            format!("every log only grew, but for {} restores", verdict.restores.len())
        };
        verdict.checkpoints.push(newest);
    }
}

/// Reads a file to its end: the keys that it announces, and what stands behind its entries.
fn ends(bytes: &[u8]) -> Result<(Vec<VerifierKey>, Tail<'_>), run::Error> {
    let mut reader = Reader::new(bytes)?;
    let mut announced = Vec::new();
    while let Some(block) = reader.block()? {
        if let Entry::Key(key) = block.entry {
            announced.push(key);
        }
    }
    Ok((announced, reader.tail()?))
}

/// Whether a text is one object of JSON.
fn is_object(text: &str) -> bool {
    matches!(serde_json::from_str(text), Ok(serde_json::Value::Object(_)))
}

fn found(class: &'static str, label: Option<Label>, detail: String, verdict: &mut Verdict) {
    let tenant_id = label.map(|label| format!("label {label}"));
    verdict.found(Finding { class, tenant_id, detail, ..Finding::default() });
}
