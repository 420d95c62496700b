//! What the demo came to, on one screen: what was stored, what was forged, who noticed, what proves it.
//!
//! Everything longer is in a file, in the order in which it happened.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::outside::Anchored;
use super::tamper::Tampered;

/// A line of the summary is no wider.
const WIDTH: usize = 100;
/// Where the text beside the headings begins.
const INDENT: usize = 10;
/// Names from logs are no longer than this in the summary; the file has all of them.
const NAME: usize = 60;

/// The file with what does not fit on the screen.
pub(crate) struct Record {
    path: PathBuf,
    text: String,
}

impl Record {
    /// Writes to `path` at the end of each part, so that a demo that fails leaves what it saw.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), text: String::new() }
    }

    /// Adds a part under a heading.
    pub(crate) fn add(&mut self, heading: &str, text: &str) -> Result<()> {
        let _ = write!(self.text, "== {heading}\n\n{}\n\n", text.trim_end());
        fs::write(&self.path, &self.text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What happened.
pub(crate) struct Story<'a> {
    /// Lines of the package log.
    pub(crate) packages: usize,
    /// Commits; none in a checkout without its history.
    pub(crate) commits: Option<usize>,
    pub(crate) tampered: &'a Tampered,
    /// From the forgery to the verdict of the function that a person calls.
    pub(crate) verified_after: Duration,
    /// From the beginning of the worker's replay to the alert at the webhook.
    pub(crate) alerted_after: Duration,
    pub(crate) anchored: &'a Anchored,
    /// The command that connects to the cluster.
    pub(crate) psql: &'a str,
    /// Whether the cluster is still running.
    pub(crate) kept: bool,
    /// The file with everything else, as the reader finds it.
    pub(crate) record: &'a str,
    pub(crate) took: Duration,
}

/// The screen.
pub(crate) fn summary(story: &Story<'_>) -> String {
    let tampered = story.tampered;
    let mut out = String::new();
    let commits = match story.commits {
        Some(commits) => format!(" and {commits} commits of this project (tenant repo)"),
        None => String::new(),
    };
    part(
        &mut out,
        "STORED",
        &[&format!(
            "{} events, each chained as it was inserted: {} lines of this machine's package log (tenant host){commits}. \
         Verified: all whole.",
            story.packages + story.commits.unwrap_or_default(),
            story.packages,
        )],
    );
    part(
        &mut out,
        "FORGED",
        &[
            &format!(
                "Event {} of chain {} of tenant {}: a superuser lifted the guard and made the {} of {} look like one of {}.",
                tampered.seq,
                tampered.chain,
                tampered.tenant,
                tampered.action,
                short(&tampered.before),
                short(&tampered.after),
            ),
            &format!("With the guard he got: {}", tampered.refusal),
        ],
    );
    part(
        &mut out,
        "NOTICED",
        &[
            &format!(
                "After {:.1} s by audit_verify(): this event, and no other, is not what was written.",
                story.verified_after.as_secs_f32()
            ),
            &format!(
                "By the worker's hourly replay, run at once for the demo: {:.1} s after its beginning a webhook had the \
                 severity-1 alert.",
                story.alerted_after.as_secs_f32()
            ),
        ],
    );
    part(
        &mut out,
        "PROVED",
        &[
            &format!(
                "A checkpoint signed before the forgery is anchored in a contract on a local chain, in block {}, which is \
                 final. With the database stopped, zeroauth-audit verify-bundle says",
                story.anchored.block
            ),
            "of an untouched event: verified;",
            "of the forged one: tampered. Checkpoint and anchor vouch for the recorded hash, not for the shown fields.",
        ],
    );
    // Alone in its line, however long: it is there to be copied.
    let _ = writeln!(out, "{:INDENT$}{}", "LOOK", story.psql);
    part(
        &mut out,
        "",
        &[if story.kept {
            "It is running until cargo xtask stop. The local chain is gone."
        } else {
            "It runs after cargo xtask demo --keep, until cargo xtask stop."
        }],
    );
    part(
        &mut out,
        "DETAILS",
        &[&format!("{} has what psql, the webhook and verify-bundle said.", story.record)],
    );
    let _ = writeln!(out, "\nIt took {:.0} s, without installing and building.", story.took.as_secs_f32());
    out
}

/// A heading with paragraphs beside it.
fn part(out: &mut String, heading: &str, paragraphs: &[&str]) {
    let mut heading = heading;
    for paragraph in paragraphs {
        for line in wrapped(paragraph, WIDTH - INDENT) {
            let _ = writeln!(out, "{heading:INDENT$}{line}");
            heading = "";
        }
    }
}

/// A text as lines of at most `width` characters, but for words that are longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let fits = lines
            .last()
            .is_some_and(|line| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width);
        if !fits {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A name that may come from anywhere, cut short and without what plays tricks on a terminal.
fn short(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if clean.chars().count() <= NAME { clean } else { clean.chars().take(NAME - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tampered(name: &str) -> Tampered {
        Tampered {
            tenant: "host".into(),
            event_id: "0197".into(),
            chain: 0,
            seq: 123_456,
            action: "package.remove".into(),
            before: name.into(),
            after: "coreutils:amd64".into(),
            refusal: "ERROR ZA003: UPDATE of audit_events is refused".into(),
            done: std::time::Instant::now(),
        }
    }

    fn screen(name: &str, kept: bool) -> String {
        summary(&Story {
            packages: 123_456,
            commits: Some(1234),
            tampered: &tampered(name),
            verified_after: Duration::from_millis(1234),
            alerted_after: Duration::from_millis(4321),
            anchored: &Anchored { transaction: format!("0x{}", "ab".repeat(32)), block: 1234, entries: 3 },
            psql: "psql -h /home/somebody/zeroauth_audit/target/clusters/demo/socket -p 54000 -U postgres audit",
            kept,
            record: "target/demo.txt",
            took: Duration::from_millis(14_321),
        })
    }

    #[test]
    fn the_summary_fits_one_screen() {
        for text in [screen("libcurl4:amd64", true), screen(&"a very long name ".repeat(20), false)] {
            assert!(text.lines().count() <= 24, "{} lines\n{text}", text.lines().count());
            for line in text.lines().filter(|line| !line.contains("psql -h")) {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }

    #[test]
    fn the_summary_says_what_was_stored_and_forged_who_noticed_and_what_proves_it() {
        let text = screen("libcurl4:amd64", false).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "124690 events",
            "(tenant repo)",
            "Event 123456 of chain 0 of tenant host",
            "package.remove of libcurl4:amd64 look like one of coreutils:amd64",
            "ERROR ZA003",
            "After 1.2 s by audit_verify()",
            "4.3 s after its beginning a webhook",
            "block 1234",
            "verify-bundle",
            "vouch for the recorded hash, not for the shown fields",
            "psql -h /home",
            "target/demo.txt",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn a_name_from_a_log_cannot_play_tricks_on_the_terminal() {
        assert!(!screen("a\u{1b}[2Jb", true).contains('\u{1b}'));
    }
}
