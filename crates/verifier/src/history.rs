//! All checkpoints of a directory: whether each log only ever grew.
//!
//! Files come in the order of their names, so of time; but only signed times count. Of one log the sizes never shrink as time
//! goes on, and one size has one root. The first file of a day holds the newest checkpoint of every log there ever was. That a
//! log grew by appending is shown by consistency proofs ([`proofs`]), where somebody has them.
//!
//! Memory is some hundred bytes for each checkpoint at which a log had grown.

pub mod proofs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::trust::{Believed, Trust};

use crate::clock;
use crate::progress::Progress;
use crate::sealed;
use crate::verdict::{Finding, Verdict};

/// What is known of each log, by its origin.
#[derive(Default)]
pub struct History {
    logs: HashMap<String, Log>,
    checkpoints: u64,
}

/// One log.
pub struct Log {
    /// Whose.
    pub tenant: String,
    /// The checkpoints by size.
    pub points: BTreeMap<u64, Point>,
    newest: Believed,
    /// The longest time between two seals, and when it began.
    silence: (u64, u64),
    last_seal: u64,
    /// Larger and smaller sizes that were in the wrong order: each is told once, however often both were sealed.
    shrunk: HashSet<(u64, u64)>,
}

/// The checkpoints of one size.
pub struct Point {
    /// Its root.
    pub root: Digest,
    /// When it was sealed first and last.
    pub sealed: (u64, u64),
    /// Whether a proof shows that it continues the one of the size before.
    pub proven: bool,
}

impl History {
    /// Reads every file of checkpoints below `folder`.
    pub fn read(&mut self, folder: &Path, trust: &Trust, verdict: &mut Verdict, progress: &mut Progress) {
        let files = match sealed::files(folder) {
            Ok(files) => files,
            Err(trouble) => return verdict.trouble(trouble),
        };
        if files.is_empty() {
            return verdict
                .trouble_with(folder.display().to_string(), "there is no file of checkpoints in it");
        }
        let mut day = None;
        let mut bytes = 0;
        for file in &files {
            let full = file.as_os_str().to_string_lossy().ends_with(sealed::FULL);
            let first = day != file.parent();
            day = file.parent();
            if first && !full {
                let what =
                    "is the first of its day, and not the one with every log: files before it are missing";
                verdict.trouble_with(file.display().to_string(), what);
            }
            self.read_file(file, full, trust, verdict);
            bytes += file.metadata().map_or(0, |data| data.len());
            progress.at(bytes);
        }
        verdict.note(format!("{} checkpoints in {} files", self.checkpoints, files.len()));
    }

    fn read_file(&mut self, file: &Path, full: bool, trust: &Trust, verdict: &mut Verdict) {
        let known: HashSet<String> = if full { self.logs.keys().cloned().collect() } else { HashSet::new() };
        let mut here = HashMap::new();
        sealed::each(file, trust, verdict, &mut |believed, verdict| {
            here.insert(believed.checkpoint.origin.clone(), believed.checkpoint.size);
            self.add(believed, verdict);
        });
        // In the order of names, so that the same directory gives the same verdict.
        let mut known: Vec<String> = known.into_iter().collect();
        known.sort();
        for origin in known {
            let Some(log) = self.logs.get(&origin) else { continue };
            let newest = log.newest.checkpoint.size;
            let (class, detail) = match here.get(&origin) {
                None => (
                    "tenant_missing",
                    format!("{origin:?} had {newest} events, and is not among all logs in {file:?}"),
                ),
                Some(size) if *size < newest => {
                    let detail = format!(
                        "{origin:?} had {newest} events before, and has {size} among all logs in {file:?}"
                    );
                    ("tail_truncated", detail)
                }
                Some(_) => continue,
            };
            verdict.found(Finding::new(class, &log.tenant, detail));
        }
    }

    /// Takes a checkpoint.
    pub fn add(&mut self, believed: Believed, verdict: &mut Verdict) {
        let origin = &believed.checkpoint.origin;
        // One without a time does not get here.
        let Some(time) = believed.sealed_at else { return };
        self.checkpoints += 1;
        match self.logs.get_mut(origin) {
            Some(log) => log.add(believed, time, verdict),
            None => {
                let log = Log {
                    tenant: believed.tenant.clone(),
                    points: BTreeMap::from([(believed.checkpoint.size, Point::new(&believed, time))]),
                    silence: (0, time),
                    last_seal: time,
                    shrunk: HashSet::new(),
                    newest: believed,
                };
                self.logs.insert(log.newest.checkpoint.origin.clone(), log);
            }
        }
    }

    /// A log by its origin.
    pub fn log_mut(&mut self, origin: &str) -> Option<&mut Log> {
        self.logs.get_mut(origin)
    }

    /// Every log, by its origin.
    pub fn logs_mut(&mut self) -> impl Iterator<Item = (&String, &mut Log)> {
        let mut logs: Vec<_> = self.logs.iter_mut().collect();
        logs.sort_by(|a, b| a.0.cmp(b.0));
        logs.into_iter()
    }

    /// Says what there is; a silence longer than `max_silence` seconds is a trouble.
    pub fn end(mut self, max_silence: Option<u64>, verdict: &mut Verdict) {
        let found = !verdict.classes.is_empty();
        for (origin, log) in self.logs_mut() {
            let (length, since) = log.silence;
            if let Some(most) = max_silence.filter(|most| length > *most) {
                let since = clock::print(since);
                let what =
                    format!("nothing was sealed for {length} s after {since}, which is longer than {most} s");
                verdict.trouble_with(origin.clone(), what);
            }
            let steps = log.points.len().saturating_sub(1);
            let proven = log.points.values().filter(|point| point.proven).count();
            let result = match (found, steps) {
                (true, _) => "see the findings".to_owned(),
                (false, 0) => "the only size there is".to_owned(),
                (false, _) if proven == steps => format!("continues all {steps} before it, by proofs"),
                (false, _) => format!(
                    "not smaller than the {steps} before it, of which {proven} are shown to be continued by proofs"
                ),
            };
            verdict
                .checkpoints
                .push(sealed::report(&log.newest, format!("{result}; longest silence {length} s")));
        }
        verdict.tenants = verdict.checkpoints.len() as u64;
    }
}

impl Point {
    const fn new(believed: &Believed, time: u64) -> Self {
        Self { root: believed.checkpoint.root, sealed: (time, time), proven: false }
    }
}

impl Log {
    fn add(&mut self, believed: Believed, time: u64, verdict: &mut Verdict) {
        let (size, root) = (believed.checkpoint.size, believed.checkpoint.root);
        // The neighbours: sizes and times of all others are in order already, or were reported.
        let larger = self.points.range(size + 1..).next().filter(|(_, point)| point.sealed.0 < time);
        let larger = larger.map(|(more, point)| (*more, point.sealed.0, size, time));
        let smaller = self.points.range(..size).next_back().filter(|(_, point)| point.sealed.1 > time);
        let smaller = smaller.map(|(less, point)| (size, time, *less, point.sealed.1));
        for (more, first, less, then) in larger.into_iter().chain(smaller) {
            if self.shrunk.insert((more, less)) {
                verdict.found(self.shrank(more, first, less, then));
            }
        }
        match self.points.get_mut(&size) {
            None => {
                self.points.insert(size, Point::new(&believed, time));
            }
            Some(point) if point.root != root => {
                let detail = format!("two different roots were signed for {size} events");
                let finding = Finding::new("checkpoint_mismatch", &self.tenant, detail);
                verdict.found(finding.hashes(&point.root, &root));
            }
            Some(point) => point.sealed = (point.sealed.0.min(time), point.sealed.1.max(time)),
        }
        if time > self.last_seal {
            if time - self.last_seal > self.silence.0 {
                self.silence = (time - self.last_seal, self.last_seal);
            }
            self.last_seal = time;
        }
        if (size, time) > (self.newest.checkpoint.size, self.newest.sealed_at.unwrap_or(0)) {
            self.newest = believed;
        }
    }

    fn shrank(&self, more: u64, first: u64, less: u64, then: u64) -> Finding {
        let (first, then) = (clock::print(first), clock::print(then));
        let detail = format!("the log had {more} events at {first}, and {less} at {then}");
        Finding::new("tail_truncated", &self.tenant, detail)
    }
}
