//! Run files of a directory: whether every log only grew.
//!
//! Reads them in the order of their numbers, and demands all of section 22 of `docs/format.md`. After a file that is missing or cannot be
//! read, it goes on at the next that begins with a snapshot. Memory is one compact range for each log, and some bytes for each file.

mod files;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::note::VerifierKey;
use zeroauth_audit_core::registry::Label;
use zeroauth_audit_core::registry::entry::{Entry, Log};
use zeroauth_audit_core::registry::replay::{Problem, Replay, Said};
use zeroauth_audit_core::registry::run::{self, Head, Reader, Tail, Written};
use zeroauth_audit_core::trust::Trust;

use crate::clock;
use crate::progress::Progress;
use crate::sealed;
use crate::verdict::{Finding, Restored, Sealed, Verdict};
pub use files::{RunFile, files};

/// What the reader knows, and demands.
#[derive(Clone, Copy, Default)]
pub struct Demands<'a> {
    /// Entries of restores that are known.
    pub accepted: &'a [u64],
    /// The longest time between two runs, in seconds.
    pub max_silence: Option<u64>,
}

/// What was read of a registry.
pub struct Runs<'a> {
    /// Whom to believe; a key that the registry announces is added.
    trust: Trust,
    quorum: usize,
    demands: Demands<'a>,
    files: &'a [RunFile],
    state: Option<State>,
    /// The state after each file, by size.
    checkpoints: Vec<(u64, Digest)>,
    newest: Option<Sealed>,
    witnessed: Option<(u64, Vec<String>)>,
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
}

/// Why the rest of a file is not read.
struct Unreadable(String);

impl<'a> Runs<'a> {
    /// Reads `files`, in the order of their numbers.
    pub fn read(
        files: &'a [RunFile],
        trust: &Trust,
        demands: Demands<'a>,
        verdict: &mut Verdict,
        progress: &mut Progress,
    ) {
        let mut believed = trust.clone();
        believed.require(0);
        let mut runs = Self {
            trust: believed,
            quorum: trust.quorum(),
            demands,
            files,
            state: None,
            checkpoints: Vec::new(),
            newest: None,
            witnessed: None,
            anchors: 0,
            read: 0,
            skipped: 0,
            begun: 0,
        };
        let mut bytes = 0;
        let mut last: Option<&RunFile> = None;
        for (at, file) in files.iter().enumerate() {
            if let Some(last) = last {
                runs.order(last, file, verdict);
            }
            // A second file of a number is no continuation of anything.
            if last.is_none_or(|last| last.number < file.number)
                && let Err(Unreadable(what)) = runs.file(at, verdict)
            {
                verdict.trouble_with(file.name(), what);
                runs.state = None;
            }
            last = Some(file);
            bytes += file.length;
            progress.at(bytes);
        }
        runs.end(verdict);
    }

    fn order(&mut self, last: &RunFile, file: &RunFile, verdict: &mut Verdict) {
        if file.number == last.number {
            let detail =
                format!("there are two run files with this number: {:?} and {:?}", last.name(), file.name());
            verdict.found(Finding { class: "registry_forked", detail, ..Finding::default() });
        } else if file.number != last.number + 1 {
            let what = format!("is preceded by number {}: files are missing", last.number);
            verdict.trouble_with(file.name(), what);
            self.state = None;
        } else if file.day < last.day {
            verdict
                .trouble_with(file.name(), format!("is in a folder before that of number {}", last.number));
        }
    }

    fn file(&mut self, at: usize, verdict: &mut Verdict) -> Result<(), Unreadable> {
        let file = &self.files[at];
        let bytes = sealed::read_file(&file.path, run::MAX_BYTES).map_err(Unreadable)?;
        let unreadable = |error: run::Error| Unreadable(error.to_string());
        let mut reader = Reader::new(&bytes).map_err(unreadable)?;
        let head = reader.head().clone();
        if head.number != file.number {
            return Err(Unreadable(format!("says that it is number {}", head.number)));
        }
        // What cannot be read to its end leaves no state.
        let before = self.state.take();
        let (written, sealed_before) =
            before.as_ref().map_or((head.written, 0), |state| (state.written, state.sealed_at));
        if written != head.written {
            let Written { system, database } = head.written;
            let name = file.name();
            verdict
                .note(format!("from {name:?} on another database writes: system {system}, OID {database}"));
        }
        let Some(mut replay) = self.begin(before, &head, &bytes)? else {
            self.skipped += 1;
            return Ok(());
        };
        let mut keys = Vec::new();
        while let Some(block) = reader.block().map_err(unreadable)? {
            let index = replay.size();
            let older = match Replay::needs(&block.entry) {
                Some(older) if older < index => self.entry(older, &bytes, head.size.0),
                _ => None,
            };
            let said = replay.add(&block, older.as_ref());
            let place = || format!("{:?}, entry {index}", file.name());
            match said {
                Ok(Said::Key(key)) => keys.push(key),
                Ok(Said::Restored { label, lost }) => {
                    let accepted = self.demands.accepted.contains(&index);
                    verdict.restored(Restored { label: label.text(), entry: index, lost, accepted });
                }
                Ok(_) => {}
                Err(problem) => report(problem, &block.entry, &place(), verdict),
            }
        }
        let tail = reader.tail().map_err(unreadable)?;
        let sealed_at = self.checkpoint(file, &tail, &replay, keys, verdict)?;
        let silence = sealed_at.saturating_sub(sealed_before);
        if let Some(most) = self.demands.max_silence.filter(|most| sealed_before > 0 && silence > *most) {
            let since = clock::print(sealed_before);
            let what =
                format!("nothing was sealed for {silence} s after {since}, which is longer than {most} s");
            verdict.trouble_with(file.name(), what);
        }
        if sealed_at < sealed_before {
            verdict.note(format!(
                "{:?} was sealed before the file before it, by the log's own clock",
                file.name()
            ));
        }
        self.outside(file, &tail, verdict);
        self.read += 1;
        let digest = run::digest(&bytes);
        self.state = Some(State { replay, number: file.number, digest, written: head.written, sealed_at });
        Ok(())
    }

    /// The state before a file: that of the one before, or of its snapshot. `None`: neither is there.
    fn begin(
        &mut self,
        before: Option<State>,
        head: &Head,
        bytes: &[u8],
    ) -> Result<Option<Replay>, Unreadable> {
        if let Some(state) = before {
            if head.after != Some(state.digest) {
                return Err(Unreadable(format!("does not follow file {} as it is here", state.number)));
            }
            if head.size.0 != state.replay.size() {
                let (says, is) = (head.size.0, state.replay.size());
                return Err(Unreadable(format!(
                    "says that there were {says} entries before, and there are {is}"
                )));
            }
            return Ok(Some(state.replay));
        }
        let Some(origin) = origin(bytes) else { return Ok(None) };
        let replay = match &head.edge {
            Some(edge) => Replay::at_snapshot(&origin, head.size.0, edge.clone()),
            None => (head.number == 1 && head.size.0 == 0).then(|| Replay::new(&origin)),
        };
        if replay.is_some() && self.read == 0 {
            self.begun = head.size.0;
        }
        Ok(replay)
    }

    /// The checkpoint of a file; its time.
    fn checkpoint(
        &mut self,
        file: &RunFile,
        tail: &Tail<'_>,
        replay: &Replay,
        keys: Vec<VerifierKey>,
        verdict: &mut Verdict,
    ) -> Result<u64, Unreadable> {
        let known = self.trust.clone();
        for key in &keys {
            // Of the registry's own name: that is a base origin.
            let _ = self.trust.add_log(key.clone());
        }
        let believed = match self.trust.registry(tail.checkpoint.as_bytes()) {
            Ok(believed) => believed,
            Err(error) if error.is_forgery() => {
                let detail = format!("{:?}: {error}", file.name());
                verdict.found(Finding { class: "checkpoint_mismatch", detail, ..Finding::default() });
                return Err(Unreadable("its checkpoint is not to be believed".into()));
            }
            Err(error) => return Err(Unreadable(error.to_string())),
        };
        let signed = |key: &VerifierKey| believed.keys.contains(key);
        let by_known = known.registry(tail.checkpoint.as_bytes()).is_ok();
        if !(keys.is_empty() || by_known && keys.iter().all(signed)) {
            let detail = format!(
                "{:?}: a new key is announced, and not signed by it and by one known before",
                file.name()
            );
            verdict.found(Finding { class: "key_changed", detail, ..Finding::default() });
        }
        let sealed_at =
            believed.sealed_at.ok_or_else(|| Unreadable(sealed::Unbelieved::NoTime.to_string()))?;
        if let Err(problem) = replay.checkpoint(believed.checkpoint.size, &believed.checkpoint.root) {
            report(problem, &Entry::SnapshotBegin, &format!("{:?}", file.name()), verdict);
        }
        self.checkpoints.push((replay.size(), replay.root()));
        self.newest = Some(Sealed {
            origin: believed.checkpoint.origin,
            tree_size: believed.checkpoint.size,
            sealed_at: Some(sealed_at),
            witnesses: Vec::new(),
            result: String::new(),
        });
        Ok(sealed_at)
    }

    /// Cosignatures and anchors, which are about states that were read.
    fn outside(&mut self, file: &RunFile, tail: &Tail<'_>, verdict: &mut Verdict) {
        for note in &tail.cosigned {
            let believed = match self.trust.registry(note.as_bytes()) {
                Ok(believed) => believed,
                Err(error) => {
                    let class = if error.is_forgery() { Some("checkpoint_mismatch") } else { None };
                    said(class, None, format!("{:?}, cosigned: {error}", file.name()), file.name(), verdict);
                    continue;
                }
            };
            let (size, root) = (believed.checkpoint.size, believed.checkpoint.root);
            self.is_state(size, &root, "checkpoint_mismatch", file, verdict);
            let witnesses: Vec<String> = believed.witnesses.into_iter().map(|(name, _)| name).collect();
            if !witnesses.is_empty() && witnesses.len() >= self.quorum {
                self.witnessed = Some((size, witnesses));
            }
        }
        for anchor in &tail.anchored {
            self.anchors += 1;
            self.is_state(anchor.size, &anchor.root, "anchor_mismatch", file, verdict);
        }
    }

    /// A finding unless the registry had this root at this size; nothing is known of sizes before the first file.
    fn is_state(&self, size: u64, root: &Digest, class: &'static str, file: &RunFile, verdict: &mut Verdict) {
        let known = self.checkpoints.iter().rev().find(|(known, _)| *known <= size);
        match known {
            Some((known, is)) if *known == size && is != root => {
                let detail = format!("{:?} has another root for {size} entries", file.name());
                let finding = Finding { class, detail, ..Finding::default() };
                verdict.found(finding.hashes(is, root));
            }
            Some((known, _)) if *known < size => {
                let detail = format!("{:?} is about {size} entries, which no run ended with", file.name());
                verdict.found(Finding { class, detail, ..Finding::default() });
            }
            _ => {}
        }
    }

    /// An entry `log` that was read before, from its file.
    fn entry(&self, index: u64, here: &[u8], begins: u64) -> Option<Log> {
        if index >= begins {
            return find(here, index);
        }
        // Sizes before ascend with the files; one that cannot be read was told already.
        self.files.iter().rev().find_map(|file| {
            let bytes = sealed::read_file(&file.path, run::MAX_BYTES).ok()?;
            let (from, to) = Reader::new(&bytes).ok()?.head().size;
            (from <= index && index < to).then(|| find(&bytes, index)).flatten()
        })
    }

    fn end(self, verdict: &mut Verdict) {
        if self.skipped > 0 {
            verdict
                .trouble_with("run files", format!("{} were skipped up to the next snapshot", self.skipped));
        }
        let (Some(state), Some(mut newest)) = (self.state, self.newest) else { return };
        let logs = state.replay.logs().filter(|(_, log)| !log.is_closed());
        let (mut open, mut events) = (0, 0_u64);
        for (_, log) in logs {
            open += 1;
            events = events.saturating_add(log.size);
        }
        verdict.tenants = open;
        verdict.note(format!(
            "{} run files, {} entries, {open} logs with {events} events, {} anchors",
            self.read,
            state.replay.size(),
            self.anchors
        ));
        if self.begun > 0 {
            verdict.note(format!(
                "the files begin with a snapshot after {} entries: nothing is known of what was before",
                self.begun
            ));
        }
        match self.witnessed {
            Some((size, witnesses)) => {
                verdict.note(format!("witnesses have signed up to {size} entries: {}", witnesses.join(", ")));
                newest.witnesses = witnesses;
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

/// The first line of the checkpoint in a file, which names the registry. Nothing is known of it before the signature is verified.
fn origin(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bytes).ok()?;
    while reader.block().ok()?.is_some() {}
    reader.tail().ok()?.checkpoint.lines().next().map(Into::into)
}

/// An entry `log` in a file.
fn find(bytes: &[u8], index: u64) -> Option<Log> {
    let mut reader = Reader::new(bytes).ok()?;
    let mut at = reader.head().size.0;
    while let Some(block) = reader.block().ok()? {
        if at == index {
            return if let Entry::Log(log) = block.entry { Some(log) } else { None };
        }
        at += 1;
    }
    None
}

fn report(problem: Problem, entry: &Entry, place: &str, verdict: &mut Verdict) {
    let label = match entry {
        Entry::Log(log) => Some(log.label),
        _ => None,
    };
    said(problem.class(), label, format!("{place}: {problem}"), place.into(), verdict);
}

/// A finding of a class; without one, something that could not be checked.
fn said(
    class: Option<&'static str>,
    label: Option<Label>,
    detail: String,
    place: String,
    verdict: &mut Verdict,
) {
    match class {
        Some(class) => {
            let tenant_id = label.map(|label| format!("label {label}"));
            verdict.found(Finding { class, tenant_id, detail, ..Finding::default() });
        }
        None => verdict.trouble_with(place, detail),
    }
}
