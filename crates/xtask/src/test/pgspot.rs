//! The install and upgrade scripts through pgspot, which knows how extension scripts let a user become superuser.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Installation, staged_folder, workspace};

use super::tally::Tally;
use crate::process;
use crate::setup::say;

/// Pinned: another version may know other findings.
const VERSION: &str = "0.9.4";
/// Findings that were looked at and accepted, each with its reason.
const ACCEPTED: &str = include_str!("pgspot_accepted.txt");

/// Checks every staged script; one passed or failed each.
pub(crate) fn check(installation: &Installation) -> Result<Tally> {
    let program = program()?;
    let mut sum = Tally::default();
    for script in scripts(installation)? {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        say(&format!("checking: {name} with pgspot"));
        let output = process::output(Command::new(&program).arg(&script))?;
        let printed =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let findings = unaccepted(&printed, &accepted(ACCEPTED)?);
        for finding in &findings {
            eprintln!("{name}: {finding}");
        }
        sum += Tally::one(findings.is_empty());
    }
    Ok(sum)
}

fn scripts(installation: &Installation) -> Result<Vec<PathBuf>> {
    let below_root = installation.sharedir.strip_prefix("/").unwrap_or(&installation.sharedir);
    let folder = staged_folder().join(below_root).join("extension");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// pgspot in an environment of its own under target/, installed the first time.
fn program() -> Result<PathBuf> {
    let environment = workspace().join("target").join(format!("pgspot-{VERSION}"));
    let program = environment.join("bin/pgspot");
    if !works(&program) {
        say(&format!("installing pgspot {VERSION} into target/"));
        process::read(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        process::read(
            Command::new(environment.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .arg(format!("pgspot=={VERSION}")),
        )?;
    }
    Ok(program)
}

fn works(program: &Path) -> bool {
    process::output(Command::new(program).arg("--version")).is_ok_and(|output| output.status.success())
}

/// The accepted findings: lines before which a `#` line gives the reason.
fn accepted(text: &str) -> Result<Vec<&str>> {
    let mut reason = false;
    let mut findings = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('#') {
            reason = true;
        } else if line.is_empty() {
            reason = false;
        } else {
            anyhow::ensure!(reason, "an accepted pgspot finding without its reason: {line}");
            findings.push(line);
        }
    }
    Ok(findings)
}

/// What pgspot printed and nobody accepted. Without its closing line it did not get to the end, which is a finding too.
fn unaccepted(printed: &str, accepted: &[&str]) -> Vec<String> {
    let mut findings: Vec<String> = Vec::new();
    let mut finished = false;
    for line in printed.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("Errors: ") {
            finished = true;
        } else if !accepted.iter().any(|known| matches(known, without_line_number(line))) {
            findings.push(line.to_owned());
        }
    }
    if !finished {
        findings.push("pgspot did not get to the end".into());
    }
    findings
}

/// Whether an accepted finding is this one; a `*` at its end stands for anything.
fn matches(accepted: &str, finding: &str) -> bool {
    accepted.strip_suffix('*').map_or(finding == accepted, |start| finding.starts_with(start))
}

/// A finding without the place, which moves with every edit.
fn without_line_number(line: &str) -> &str {
    line.rsplit_once(" at line ").map_or(line, |(finding, _)| finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_accepted_wherever_it_stands_but_not_without_a_reason() {
        let list = accepted("# because\nPS017: Unqualified object reference: x\n").unwrap();
        let printed =
            "PS017: Unqualified object reference: x at line 7\n\nErrors: 0 Warnings: 1 Unknown: 0\n";
        assert!(unaccepted(printed, &list).is_empty());
        assert_eq!(unaccepted(printed, &[]).len(), 1);
        assert!(unaccepted(printed, &["PS017: Unqualified object reference: *"]).is_empty());
        assert_eq!(unaccepted(printed, &["PS017: Unqualified object reference: y*", "PS017"]).len(), 1);
        assert!(accepted("PS017: x").is_err());
        assert!(accepted("# a\nPS017: x\n\nPS018: y").is_err());
    }

    #[test]
    fn a_crash_of_the_checker_is_not_a_clean_script() {
        assert_eq!(unaccepted("", &[]), ["pgspot did not get to the end"]);
    }

    #[test]
    fn every_accepted_finding_has_a_reason() {
        assert!(accepted(ACCEPTED).is_ok());
    }
}
