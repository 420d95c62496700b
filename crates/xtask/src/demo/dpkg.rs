//! Debian's package log as events of the tenant `host`: one event a line, whatever the line says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::event::Event;
use crate::process;

/// The tenant of these events.
pub(crate) const TENANT: &str = "host";

/// Every line of `/var/log/dpkg.log*`, oldest file first.
pub(crate) fn events() -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for file in files(Path::new("/var/log"))? {
        let text = contents(&file)?;
        // A line without a time gets that of the line before.
        let mut time = String::from("now");
        for (index, line) in text.lines().enumerate() {
            let event = event(line, &file, index + 1, &time);
            time.clone_from(&event.occurred_at);
            events.push(event);
        }
    }
    Ok(events)
}

/// The log and its rotated predecessors, oldest first: `dpkg.log.10.gz`, .., `dpkg.log.1`, `dpkg.log`.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(age) = age(&name) {
            found.push((age, path));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// How many rotations ago a file was the current log; None for another file.
fn age(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("dpkg.log")?;
    let rest = rest.strip_suffix(".gz").unwrap_or(rest);
    if rest.is_empty() { Some(0) } else { rest.strip_prefix('.')?.parse().ok() }
}

fn contents(file: &Path) -> Result<String> {
    if file.extension().is_some_and(|extension| extension == "gz") {
        return process::read(Command::new("gzip").arg("-dc").arg(file));
    }
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One line, in one of the forms of dpkg(1), section FILES, `dpkg.log`.
fn event(line: &str, file: &Path, number: usize, time_before: &str) -> Event {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (time, words) = match words.as_slice() {
        [date, time, rest @ ..] if is_date(date) && is_time(time) => (format!("{date} {time}"), rest),
        rest => (time_before.to_owned(), rest),
    };
    let (action, resource, mut details) = meaning(words, line);
    if let Value::Object(fields) = &mut details {
        fields.insert("file".into(), json!(file));
        fields.insert("line".into(), json!(number));
    }
    Event {
        tenant: TENANT,
        occurred_at: time,
        category: "package",
        severity: if matches!(action.as_str(), "package.remove" | "package.purge") { "low" } else { "info" },
        action,
        resource,
        service_name: "dpkg",
        provider: "debian",
        actor_type: "system",
        actor_id: "dpkg".into(),
        details,
    }
}

fn meaning(words: &[&str], line: &str) -> (String, Option<String>, Value) {
    let version = |word: &str| (word != "<none>").then(|| word.to_owned());
    match words {
        ["startup", what @ ..] => ("dpkg.startup".into(), None, json!({"command": what.join(" ")})),
        ["status", state, package, installed, ..] => (
            "package.status".into(),
            Some((*package).into()),
            json!({"state": state, "version": version(installed)}),
        ),
        ["conffile", path, decision, ..] => {
            ("package.conffile".into(), Some((*path).into()), json!({"decision": decision}))
        }
        [action, package, old, new] if action.bytes().all(|b| b.is_ascii_lowercase()) => (
            format!("package.{action}"),
            Some((*package).into()),
            json!({"old_version": version(old), "new_version": version(new)}),
        ),
        _ => ("dpkg.log".into(), None, json!({"text": line})),
    }
}

fn is_date(word: &str) -> bool {
    shaped(word, "dddd-dd-dd")
}

fn is_time(word: &str) -> bool {
    shaped(word, "dd:dd:dd")
}

/// Whether `word` has a digit for each `d` of `shape` and is equal to it otherwise.
fn shaped(word: &str, shape: &str) -> bool {
    word.len() == shape.len()
        && word.bytes().zip(shape.bytes()).all(|(w, s)| if s == b'd' { w.is_ascii_digit() } else { w == s })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Event {
        event(line, Path::new("/var/log/dpkg.log"), 7, "2026-01-01 00:00:00")
    }

    #[test]
    fn each_form_of_line_becomes_its_own_action() {
        let upgrade = read("2025-06-24 14:36:25 upgrade libsystemd0:amd64 252.36-1~deb12u1 252.38-1~deb12u1");
        assert_eq!(
            (upgrade.action.as_str(), upgrade.resource.as_deref()),
            ("package.upgrade", Some("libsystemd0:amd64"))
        );
        assert_eq!(upgrade.occurred_at, "2025-06-24 14:36:25");
        assert_eq!(upgrade.details["old_version"], "252.36-1~deb12u1");
        assert_eq!(upgrade.details["line"], 7);
        let remove = read("2026-09-22 04:48:38 remove libcurl4:amd64 7.88 <none>");
        assert_eq!((remove.action.as_str(), remove.severity), ("package.remove", "low"));
        assert!(remove.details["new_version"].is_null());
        let status = read("2025-06-24 14:36:25 status triggers-pending libc-bin:amd64 2.36-9+deb12u10");
        assert_eq!(status.details["state"], "triggers-pending");
        let startup = read("2025-06-24 14:36:25 startup packages configure");
        assert_eq!(
            (startup.action.as_str(), startup.details["command"].as_str()),
            ("dpkg.startup", Some("packages configure"))
        );
        let conffile = read("2025-06-24 14:36:25 conffile /etc/x keep");
        assert_eq!(conffile.resource.as_deref(), Some("/etc/x"));
    }

    #[test]
    fn a_line_in_no_known_form_is_kept_word_for_word() {
        let odd = read("?? torn line");
        assert_eq!(odd.action, "dpkg.log");
        assert_eq!(odd.details["text"], "?? torn line");
        assert_eq!(odd.occurred_at, "2026-01-01 00:00:00", "the time of the line before");
    }

    #[test]
    fn rotated_logs_come_oldest_first() {
        let ages: Vec<_> = ["dpkg.log", "dpkg.log.1", "dpkg.log.10.gz"].map(age).to_vec();
        assert_eq!(ages, [Some(0), Some(1), Some(10)]);
        assert_eq!([age("dpkg.logs"), age("alternatives.log"), age("dpkg.log.bak")], [None; 3]);
    }
}
