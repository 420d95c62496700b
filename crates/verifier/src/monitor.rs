//! A monitor: reads run files as they come, and says that every log only grew.
//!
//! What it verified it may sign, as a witness of its own name: "every entry below this size continues the newest one of its log before it, but
//! for restores that are entries themselves". It remembers the newest checkpoint in a file of its own, so a directory that was replaced as a
//! whole while it did not run is seen, too. The clock and the waiting are the caller's.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use zeroauth_audit_core::note::{Note, SigningKey};
use zeroauth_audit_core::trust::Trust;

use crate::mirror::replace;
use crate::progress::Progress;
use crate::runs::{self, Demands, Runs};
use crate::sealed;
use crate::verdict::{Outcome, Trouble, Verdict};

/// Rounds in which a missing number may still come: a folder over a network may show a newer file first.
const PATIENCE: u32 = 2;

/// What a monitor reads and writes.
pub struct Monitor<'a> {
    folder: PathBuf,
    trust: &'a Trust,
    max_silence: Option<u64>,
    /// The newest checkpoint that was verified, kept from round to round and from start to start.
    state: Option<PathBuf>,
    runs: Runs<'a>,
    /// What was found stays found.
    verdict: Verdict,
    /// Rounds in which the next number was missing and a later one there.
    waited: u32,
    kept: bool,
}

/// What a round came to.
pub struct Round {
    /// All that was found so far, and what could not be done in this round.
    pub verdict: Verdict,
    /// The newest checkpoint of which everything before was verified, as a signed note.
    pub checkpoint: Option<String>,
}

impl<'a> Monitor<'a> {
    /// Of the run files below `folder`.
    #[must_use]
    pub fn new(folder: &Path, trust: &'a Trust, demands: Demands<'a>, state: Option<PathBuf>) -> Self {
        let max_silence = demands.max_silence;
        Self {
            folder: folder.to_owned(),
            trust,
            max_silence,
            state,
            runs: Runs::new(trust, demands),
            verdict: Verdict::new("monitor", folder.display().to_string()),
            waited: 0,
            kept: false,
        }
    }

    /// Reads what is new; `now` in seconds since 1970 in UTC.
    pub fn round(&mut self, now: u64) -> Round {
        let read = self.read();
        let mut verdict = self.verdict.clone();
        if let Err(trouble) = read {
            verdict.trouble(trouble);
        }
        self.runs.end(&mut verdict);
        let name = || self.folder.display().to_string();
        match self.runs.sealed_at() {
            None => verdict.trouble_with(name(), "there is nothing yet that was verified"),
            Some(sealed_at) => {
                let silence = now.saturating_sub(sealed_at);
                if let Some(most) = self.max_silence.filter(|most| silence > *most) {
                    let what =
                        format!("nothing was published for {silence} s, which is longer than {most} s");
                    verdict.trouble_with(name(), what);
                }
            }
        }
        let checkpoint = self.runs.checkpoint().map(str::to_owned);
        if let (Outcome::Verified, Some(note), Some(state)) = (verdict.verdict, &checkpoint, &self.state)
            && let Err(what) = replace(state, note.as_bytes())
        {
            verdict.trouble_with(state.display().to_string(), what);
        }
        Round { verdict, checkpoint }
    }

    fn read(&mut self) -> Result<(), Trouble> {
        let mut files = runs::files(&self.folder)?;
        let known = self.runs.number();
        files.retain(|file| file.number > known);
        // Of a number that is missing only for now, what comes after is left for the next round.
        let mut next = if known > 0 { known + 1 } else { files.first().map_or(1, |file| file.number) };
        let whole = files.iter().take_while(|file| {
            let fits = file.number <= next;
            next = next.max(file.number + 1);
            fits
        });
        let whole = whole.count();
        if whole < files.len() && self.waited < PATIENCE {
            self.waited += 1;
            files.truncate(whole);
        } else {
            self.waited = 0;
        }
        // Files that are there and cannot be read now are tried again: what was read is not forgotten for it.
        for file in &files {
            fs::File::open(&file.path).map_err(|error| Trouble {
                file: file.name(),
                what: format!("cannot be read: {error}"),
                ..Trouble::default()
            })?;
        }
        self.runs.take(files, &mut self.verdict, &mut Progress::none());
        self.remember()
    }

    /// Once, after the first files: the registry has had the state that was verified when the monitor ran last.
    fn remember(&mut self) -> Result<(), Trouble> {
        let Some(state) = self.state.as_ref().filter(|_| !self.kept && self.runs.checkpoint().is_some())
        else {
            return Ok(());
        };
        let trouble =
            |what: String| Trouble { file: state.display().to_string(), what, ..Trouble::default() };
        match fs::metadata(state) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => {
                let kept = sealed::registry(state, self.trust).map_err(trouble)?;
                self.runs.remember(&kept, &mut self.verdict);
            }
        }
        self.kept = true;
        Ok(())
    }

    /// Numbers for Prometheus, in its text format 0.0.4.
    #[must_use]
    pub fn metrics(&self, round: &Round, now: u64) -> String {
        let mut out = String::new();
        let mut gauge = |name: &str, help: &str, value: String| {
            out.push_str(&format!(
                "# HELP zeroauth_monitor_{name} {help}\n# TYPE zeroauth_monitor_{name} gauge\n{value}"
            ));
        };
        let outcome = round.verdict.verdict.exit_code();
        let help = "0 verified, 1 tampered, 2 could not check, 3 restored to an earlier state.";
        gauge("outcome", help, format!("zeroauth_monitor_outcome {outcome}\n"));
        gauge(
            "round_timestamp_seconds",
            "When the monitor looked last.",
            format!("zeroauth_monitor_round_timestamp_seconds {now}\n"),
        );
        if let Some(sealed_at) = self.runs.sealed_at() {
            let value = format!("zeroauth_monitor_sealed_timestamp_seconds {sealed_at}\n");
            gauge(
                "sealed_timestamp_seconds",
                "When the newest checkpoint that was verified was sealed.",
                value,
            );
        }
        if let Some((entries, logs, events)) = self.runs.extent() {
            gauge("entries", "Entries of the registry.", format!("zeroauth_monitor_entries {entries}\n"));
            gauge("logs", "Logs that are not closed.", format!("zeroauth_monitor_logs {logs}\n"));
            gauge("events", "Events in them.", format!("zeroauth_monitor_events {events}\n"));
        }
        gauge(
            "run",
            "The number of the newest run file.",
            format!("zeroauth_monitor_run {}\n", self.runs.number()),
        );
        let classes: String = round
            .verdict
            .classes
            .iter()
            .map(|(class, count)| format!("zeroauth_monitor_findings{{class=\"{class}\"}} {count}\n"))
            .collect();
        gauge("findings", "What was found since the monitor was started.", classes);
        out
    }
}

/// A note with the monitor's own signature: everything before it was verified.
///
/// # Errors
/// A key of the registry's own name, in words.
pub fn cosigned(note: &str, key: &SigningKey, now: u64) -> Result<String, String> {
    let parsed = Note::parse(note.as_bytes()).map_err(|error| error.to_string())?;
    let origin = parsed.text().lines().next().unwrap_or_default();
    if key.name() == origin {
        return Err(
            "the key of a monitor has another name than the registry: the log signs for itself".into()
        );
    }
    let line = key.cosign(key.name(), now, parsed.text()).ok_or("the clock is beyond all times")?;
    Ok(format!("{note}{line}"))
}
