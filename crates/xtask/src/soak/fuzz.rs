//! The fuzz targets of `fuzz/`, under libFuzzer.
//!
//! Built as `cargo fuzz build --sanitizer none` builds them: coverage is a pass of the stable compiler. So neither cargo-fuzz nor
//! a nightly toolchain is needed, and the targets run wherever a C++ compiler is.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use zeroauth_audit_tests::workspace;

use crate::process;
use crate::setup::say;
use crate::test::tally::Tally;

/// The targets, each with a corpus of its name.
const TARGETS: [&str; 17] = [
    "anchor_answer",
    "anchor_evidence",
    "anchor_file",
    "anchor_token",
    "anchored_bundle",
    "bundle",
    "chain_state",
    "checkpoint",
    "decoder",
    "event",
    "export_lines",
    "interval_lines",
    "key",
    "links",
    "registry_entry",
    "run_file",
    "signed_note",
];

/// What makes libFuzzer see which branches an input takes, and what makes every overflow and assertion a finding.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

/// Runs every target for its share of `time`; one passed or failed each.
pub(crate) fn check(time: Duration) -> Result<Tally> {
    let programs = build()?;
    let seconds = (time.as_secs() / TARGETS.len() as u64).max(1);
    let mut sum = Tally::default();
    for target in TARGETS {
        say(&format!("fuzzing: {target} for {seconds} s"));
        let work = workspace().join("target/fuzz");
        let (grown, found) = (work.join("corpus").join(target), work.join("found"));
        for folder in [&grown, &found] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let output = process::output(
            Command::new(programs.join(target))
                .arg(format!("-max_total_time={seconds}"))
                .arg(format!("-artifact_prefix={}/{target}-", found.display()))
                .args([&grown, &workspace().join("fuzz/corpus").join(target)]),
        )?;
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            eprintln!("{target}: the input is in {}", found.display());
        }
        sum += Tally::one(output.status.success());
    }
    Ok(sum)
}

/// Builds the targets and returns their folder.
fn build() -> Result<PathBuf> {
    say("building the fuzz targets");
    let version = process::read(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc has no host")?;
    let folder = workspace().join("target/fuzz");
    let mut command = process::cargo();
    command
        .args(["build", "--quiet", "--locked", "--release", "--manifest-path", "fuzz/Cargo.toml"])
        // With a target named, the flags are those of the targets alone and not of build scripts.
        .args(["--target", host, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS);
    process::run(&mut command)?;
    Ok(folder.join(host).join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_there_is_runs_and_has_a_corpus() {
        let mut names: Vec<String> = fs::read_dir(workspace().join("fuzz/fuzz_targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, TARGETS);
        for target in TARGETS {
            assert!(workspace().join("fuzz/corpus").join(target).is_dir(), "{target}");
        }
    }
}
