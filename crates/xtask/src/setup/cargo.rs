//! `cargo build` with a bar of its own: how many of its units are done is read from what cargo shows people.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::steps::Step;

/// Runs `command`, a `cargo build` with its arguments, and returns the files it made: the newest ones last. What cargo and the
/// compiler have to say is printed if it fails.
pub(crate) fn build(mut command: Command, step: &Step) -> Result<Vec<PathBuf>> {
    command
        .arg("--message-format=json-render-diagnostics")
        // Cargo shows its bar to nobody but a terminal, unless it is asked to.
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "100")
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo")?;
    let (files, said) = listen(&mut child, step)?;
    if !child.wait().context("cargo is lost")?.success() {
        bail!("cargo build failed:\n{}", said.join("\n"));
    }
    Ok(files)
}

/// Reads both pipes to their ends: the files from the messages on standard output, and from standard error the bar, and what
/// is not the bar.
fn listen(child: &mut Child, step: &Step) -> Result<(Vec<PathBuf>, Vec<String>)> {
    let messages = child.stdout.take().context("cargo has no output")?;
    let shown = child.stderr.take().context("cargo has no standard error")?;
    thread::scope(|threads| {
        let said = threads.spawn(move || watch(shown, step));
        let mut files = Vec::new();
        for line in BufReader::new(messages).lines() {
            files.extend(files_of(&line.context("cannot read what cargo says")?));
        }
        Ok((files, said.join().map_err(|_| anyhow!("cannot read what cargo shows"))?))
    })
}

/// Moves the bar, and returns every other line but those about progress.
fn watch(shown: impl Read, step: &Step) -> Vec<String> {
    const ROUTINE: [&str; 9] = [
        "Compiling",
        "Downloading",
        "Downloaded",
        "Updating",
        "Locking",
        "Fresh",
        "Finished",
        "Blocking",
        "Adding",
    ];
    let mut said = Vec::new();
    let mut reader = BufReader::new(shown);
    let mut piece = Vec::new();
    while read_piece(&mut reader, &mut piece) {
        let text = String::from_utf8_lossy(&piece);
        let text = text.trim_end();
        let word = text.split_whitespace().next().unwrap_or_default();
        if let Some((done, of, what)) = units(text) {
            step.at(done, of);
            step.now(what);
        } else if matches!(word, "Updating" | "Downloading" | "Blocking") {
            step.now(text.trim());
        } else if !text.is_empty() && !ROUTINE.contains(&word) {
            said.push(text.to_owned());
        }
    }
    said
}

/// The next piece, up to the end of a line or to the return of the carriage that the bar's drawing ends with.
fn read_piece(reader: &mut impl BufRead, piece: &mut Vec<u8>) -> bool {
    piece.clear();
    loop {
        let Ok(buffer) = reader.fill_buf() else { return !piece.is_empty() };
        if buffer.is_empty() {
            return !piece.is_empty();
        }
        let end = buffer.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let taken = end.map_or(buffer.len(), |end| end + 1);
        piece.extend_from_slice(buffer.get(..end.unwrap_or(taken)).unwrap_or_default());
        reader.consume(taken);
        if end.is_some() {
            return true;
        }
    }
}

/// `12`, `133` and `serde, syn` of `Building [===>    ] 12/133: serde, syn`.
fn units(text: &str) -> Option<(u64, u64, &str)> {
    let (_, rest) = text.trim_start().strip_prefix("Building [")?.split_once("] ")?;
    let (counts, what) = rest.split_once(": ").unwrap_or((rest, ""));
    let (done, of) = counts.trim().split_once('/')?;
    Some((done.parse().ok()?, of.trim_end_matches(':').parse().ok()?, what))
}

/// The files that a message says were made, if it is about that.
fn files_of(message: &str) -> Vec<PathBuf> {
    let Ok(message) = serde_json::from_str::<Value>(message) else { return Vec::new() };
    if message["reason"] != "compiler-artifact" {
        return Vec::new();
    }
    let names = message["filenames"].as_array().into_iter().flatten();
    names.chain([&message["executable"]]).filter_map(Value::as_str).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_bar_of_cargo_is_read_and_no_other_line_is() {
        assert_eq!(
            units("    Building [=======>                    ] 12/133: serde_core, syn(build)..."),
            Some((12, 133, "serde_core, syn(build)..."))
        );
        assert_eq!(units("    Building [===========================> ] 132/133"), Some((132, 133, "")));
        assert_eq!(units("   Compiling serde v1.0.229"), None);
        assert_eq!(units("    Building [==> ] something else"), None);
    }

    #[test]
    fn what_is_no_progress_is_kept_for_a_failure() {
        let shown = "   Compiling a v1\n    Building [=> ] 1/2: a\r    Building [=> ] 1/2: a\rerror[E0425]: no b\n  --> c.rs\n\n";
        let step = Step::begin("test", "no time");
        let mut reader = BufReader::with_capacity(7, Cursor::new(shown));
        let mut piece = Vec::new();
        assert!(read_piece(&mut reader, &mut piece));
        assert_eq!(piece, b"   Compiling a v1", "also when it does not fit into the buffer");
        assert_eq!(watch(Cursor::new(shown), &step), ["error[E0425]: no b", "  --> c.rs"]);
    }

    #[test]
    fn files_come_from_messages_about_artifacts() {
        let made = r#"{"reason":"compiler-artifact","filenames":["/t/libx.so"],"executable":null}"#;
        assert_eq!(files_of(made), [PathBuf::from("/t/libx.so")]);
        assert!(files_of(r#"{"reason":"build-finished","success":true}"#).is_empty());
        assert!(files_of("warning: no JSON").is_empty());
    }
}
