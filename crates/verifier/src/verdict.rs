//! What a check came to, for people and for programs.
//!
//! Outcomes that are never mixed up: verified; restored, when tenants were put back to an earlier state and the reader did not say
//! that this is known; could not check, when something stood in the way and nothing was found; tampered, when there is at least one
//! finding. Of findings and troubles the first thousand are kept and all are counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use zeroauth_audit_anchor::evidence;
use zeroauth_audit_core::Digest;

use crate::export::event::print_uuid;

/// Findings and troubles that are kept.
const KEPT: usize = 1000;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that was asked for is as it should be.
    Verified,
    /// Nothing is wrong, but tenants were restored to an earlier state, and nobody has said that this is known.
    Restored,
    /// Something is not what was recorded.
    Tampered,
    /// The answer is not known.
    CouldNotCheck,
}

impl Outcome {
    /// The exit code of the program.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Outcome::Verified => 0,
            Outcome::Tampered => 1,
            Outcome::CouldNotCheck => 2,
            Outcome::Restored => 3,
        }
    }

    /// Which of several outcomes counts: the one that weighs most.
    #[must_use]
    pub const fn weight(self) -> u8 {
        match self {
            Outcome::Verified => 0,
            Outcome::Restored => 1,
            Outcome::CouldNotCheck => 2,
            Outcome::Tampered => 3,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Outcome::Verified => "verified",
            Outcome::Restored => "restored",
            Outcome::Tampered => "tampered",
            Outcome::CouldNotCheck => "could not check",
        }
    }
}

/// One defect, in the words of `audit_findings()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The class, as in `docs/format.md` and `docs/verification.md`.
    pub class: &'static str,
    /// Whose trail.
    pub tenant_id: Option<String>,
    /// Which chain.
    pub chain: Option<i16>,
    /// Where in it.
    pub seq: Option<i64>,
    /// Which event.
    pub event_id: Option<String>,
    /// The hash that should be there, in hexadecimal.
    pub expected: Option<String>,
    /// The hash that is there.
    pub actual: Option<String>,
    /// In words.
    pub detail: String,
}

impl Finding {
    /// A finding of a tenant.
    pub fn new(class: &'static str, tenant: &str, detail: impl Into<String>) -> Self {
        Self { class, tenant_id: Some(tenant.into()), detail: detail.into(), ..Self::default() }
    }

    /// At a place of a chain.
    #[must_use]
    pub const fn at(mut self, chain: i16, seq: i64) -> Self {
        self.chain = Some(chain);
        self.seq = Some(seq);
        self
    }

    /// Of an event.
    #[must_use]
    pub fn event(mut self, id: Option<&[u8; 16]>) -> Self {
        self.event_id = id.map(print_uuid);
        self
    }

    /// With the hash that should be there and the one that is.
    #[must_use]
    pub fn hashes(mut self, expected: &Digest, actual: &Digest) -> Self {
        self.expected = Some(expected.to_string());
        self.actual = Some(actual.to_string());
        self
    }
}

/// Why something could not be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// In which file.
    pub file: String,
    /// In which line, counted from 1.
    pub line: Option<u64>,
    /// At which byte, counted from 0.
    pub byte: Option<u64>,
    /// What.
    pub what: String,
}

/// A restore of a tenant to an earlier state, as the registry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The tenant's label.
    pub label: String,
    /// The entry that says it.
    pub entry: u64,
    /// Events that were in its log before, and are not any more.
    pub lost: u64,
    /// Whether it goes on from a state that was read; if not, nothing before it is proven.
    pub proven: bool,
    /// Whether the reader said that it is known.
    pub accepted: bool,
}

/// What is said of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// Which log.
    pub origin: String,
    /// Events that it covers; of a registry, entries.
    pub tree_size: u64,
    /// Whether it is of a registry.
    pub of_registry: bool,
    /// When it was sealed, in seconds since 1970 in UTC.
    pub sealed_at: Option<u64>,
    /// Witnesses that signed it.
    pub witnesses: Vec<String>,
    /// What the check says of it.
    pub result: String,
}

/// What is said of an anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anchored {
    /// Which driver made it.
    pub kind: String,
    /// Entries of the registry that were anchored.
    pub tree_size: u64,
    /// Their root, in hexadecimal.
    pub root: String,
    /// What came of checking it.
    pub outcome: AnchorOutcome,
    /// What its evidence proves, when it holds.
    pub evidence: Option<evidence::Verdict>,
    /// What the check says of it.
    pub result: String,
}

/// What came of checking an anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorOutcome {
    /// It is where it should be, and covers the event.
    Verified,
    /// It is right, and older than the event.
    Older,
    /// It is not known whether it is right.
    NotChecked,
    /// It is of something else.
    Mismatch,
}

/// What a check came to.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The outcome.
    pub verdict: Outcome,
    /// The subcommand.
    pub command: &'static str,
    /// What was checked.
    pub subject: String,
    /// Events read.
    pub events: u64,
    /// Their tenants.
    pub tenants: u64,
    /// Their chains.
    pub chains: u64,
    /// Checkpoints that were compared.
    pub checkpoints: Vec<Sealed>,
    /// Anchors that were looked at.
    pub anchors: Vec<Anchored>,
    /// Restores of tenants.
    pub restores: Vec<Restored>,
    /// How many findings there are of each class.
    pub classes: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// How many troubles there are.
    pub troubles_total: u64,
    /// The first of them.
    pub troubles: Vec<Trouble>,
    /// What else is worth knowing, and what was left unchecked without changing the verdict.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Nothing found yet.
    #[must_use]
    pub fn new(command: &'static str, subject: impl Into<String>) -> Self {
        Self {
            verdict: Outcome::Verified,
            command,
            subject: subject.into(),
            events: 0,
            tenants: 0,
            chains: 0,
            checkpoints: Vec::new(),
            anchors: Vec::new(),
            restores: Vec::new(),
            classes: BTreeMap::new(),
            findings: Vec::new(),
            troubles_total: 0,
            troubles: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a finding: tampered.
    pub fn found(&mut self, finding: Finding) {
        self.verdict = Outcome::Tampered;
        *self.classes.entry(finding.class).or_default() += 1;
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        }
    }

    /// Adds a restore: its own outcome unless it is accepted, or something weighs more.
    pub fn restored(&mut self, restored: Restored) {
        if !restored.accepted && self.verdict == Outcome::Verified {
            self.verdict = Outcome::Restored;
        }
        self.restores.push(restored);
    }

    /// Adds a trouble: could not check, unless something is found.
    pub fn trouble(&mut self, trouble: Trouble) {
        if self.verdict.weight() < Outcome::CouldNotCheck.weight() {
            self.verdict = Outcome::CouldNotCheck;
        }
        self.troubles_total += 1;
        if self.troubles.len() < KEPT {
            self.troubles.push(trouble);
        }
    }

    /// Adds a trouble of a whole file.
    pub fn trouble_with(&mut self, file: impl Into<String>, what: impl Into<String>) {
        self.trouble(Trouble { file: file.into(), what: what.into(), ..Trouble::default() });
    }

    /// Adds what is worth knowing.
    pub fn note(&mut self, note: impl Into<String>) {
        if self.notes.len() < KEPT {
            self.notes.push(note.into());
        }
    }

    /// One JSON object in one line.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings and numbers under keys that are strings: nothing here fails to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Lines for people, the verdict first. Names and texts of the trail are quoted, so that none can play tricks on a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}: {:?}", self.verdict.words(), self.subject);
        if self.events > 0 {
            let _ = write!(
                out,
                ", {} in {} of {}",
                count(self.events, "event"),
                count(self.chains, "chain"),
                count(self.tenants, "tenant")
            );
        }
        out.push('\n');
        for finding in &self.findings {
            let _ = writeln!(out, "{}", line(finding));
        }
        let total: u64 = self.classes.values().sum();
        more(&mut out, total, self.findings.len(), "findings");
        for trouble in &self.troubles {
            let _ = write!(out, "not checked: {:?}", trouble.file);
            if let Some(line) = trouble.line {
                let _ = write!(out, ", line {line}");
            }
            if let Some(byte) = trouble.byte {
                let _ = write!(out, ", byte {byte}");
            }
            let _ = writeln!(out, ": {}", trouble.what);
        }
        more(&mut out, self.troubles_total, self.troubles.len(), "things that could not be checked");
        for Restored { label, entry, lost, proven, accepted } in &self.restores {
            let unproven = if *proven { "" } else { ", as is claimed: nothing before is proven" };
            let known = if *accepted { ", which is known" } else { "" };
            let _ = writeln!(
                out,
                "restored: label {label}, entry {entry}: {} lost{unproven}{known}",
                count(*lost, "event")
            );
        }
        for sealed in &self.checkpoints {
            let Sealed { origin, tree_size, result, .. } = sealed;
            let size = if sealed.of_registry { entries(*tree_size) } else { count(*tree_size, "event") };
            let _ = write!(out, "checkpoint: {origin:?}, {size}");
            if let Some(time) = sealed.sealed_at {
                let _ = write!(out, ", sealed at {}", crate::clock::print(time));
            }
            if !sealed.witnesses.is_empty() {
                let _ = write!(out, ", witnessed by {:?}", sealed.witnesses);
            }
            let _ = writeln!(out, ": {result}");
        }
        for anchor in &self.anchors {
            let Anchored { kind, tree_size, result, .. } = anchor;
            let _ = writeln!(out, "anchor: {kind}, {}: {result}", entries(*tree_size));
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        // An error may quote what it is about, such as the origin of a checkpoint.
        if out.chars().any(deceives) { out.chars().map(shown).collect() } else { out }
    }
}

/// Whether a terminal would do something else with it than show it.
fn deceives(c: char) -> bool {
    c.is_control() && c != '\n'
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shown(c: char) -> String {
    if deceives(c) { c.escape_unicode().to_string() } else { c.to_string() }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn entries(number: u64) -> String {
    if number == 1 { "1 entry".into() } else { format!("{number} entries") }
}

fn more(out: &mut String, total: u64, shown: usize, what: &str) {
    let hidden = total.saturating_sub(shown as u64);
    if hidden > 0 {
        let _ = writeln!(out, "and {hidden} more {what}");
    }
}

fn line(finding: &Finding) -> String {
    let mut out = finding.class.to_owned();
    if let Some(tenant) = &finding.tenant_id {
        let _ = write!(out, ": tenant {tenant:?}");
    }
    if let Some(chain) = finding.chain {
        let _ = write!(out, ", chain {chain}");
    }
    if let Some(seq) = finding.seq {
        let _ = write!(out, ", seq {seq}");
    }
    if let Some(id) = &finding.event_id {
        let _ = write!(out, ", event {id}");
    }
    let _ = write!(out, ": {}", finding.detail);
    if let (Some(expected), Some(actual)) = (&finding.expected, &finding.actual) {
        let _ = write!(out, " (expected {expected}, found {actual})");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tampered_outweighs_what_could_not_be_checked_and_neither_is_forgotten() {
        let mut verdict = Verdict::new("verify-export", "x");
        assert_eq!(verdict.verdict.exit_code(), 0);
        verdict.trouble_with("x", "unreadable");
        assert_eq!(verdict.verdict.exit_code(), 2);
        verdict.found(Finding::new("gap", "a", "missing"));
        assert_eq!(verdict.verdict.exit_code(), 1);
        verdict.trouble_with("x", "unreadable");
        assert_eq!((verdict.verdict.exit_code(), verdict.troubles_total), (1, 2));
    }

    #[test]
    fn any_number_of_findings_takes_bounded_memory_and_is_counted() {
        let mut verdict = Verdict::new("verify-export", "x");
        (0..5000).for_each(|seq| verdict.found(Finding::new("fork", "a", "twice").at(0, seq)));
        assert_eq!((verdict.findings.len(), verdict.classes["fork"]), (1000, 5000));
        assert!(verdict.text().contains("and 4000 more findings"));
    }

    #[test]
    fn nor_can_what_an_error_quotes() {
        let mut verdict = Verdict::new("verify-bundle", "x");
        verdict.trouble_with("x", "no key is given for the origin log\u{9b}2J\u{7f}\u{202e}example");
        assert!(verdict.text().contains("origin log\\u{9b}2J\\u{7f}\\u{202e}example"), "{}", verdict.text());
    }

    #[test]
    fn a_tenant_s_name_cannot_play_tricks_on_a_terminal() {
        let mut verdict = Verdict::new("verify-export", "x");
        verdict.found(Finding::new("gap", "a\u{1b}[2Jb\nverified", "missing"));
        assert!(!verdict.text().contains('\u{1b}'));
        assert_eq!(verdict.text().lines().count(), 2);
        let json: serde_json::Value = serde_json::from_str(&verdict.json()).unwrap();
        assert_eq!(json["verdict"], "tampered");
        assert_eq!(json["findings"][0]["tenant_id"], "a\u{1b}[2Jb\nverified");
    }
}
