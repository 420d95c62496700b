//! `cargo xtask test`: every check there is, and one closing line.
//!
//! A check that fails does not keep the others from running. Standard output ends with `N passed, N failed`.

pub(crate) mod deny;
pub(crate) mod pgspot;
pub(crate) mod rust;
pub(crate) mod tally;

use std::process::ExitCode;

use anyhow::Result;

use crate::process;
use crate::setup::{self, say};
use crate::soak;
use tally::Tally;

/// Runs the checks; with a filter only the Rust tests whose name contains it.
pub(crate) fn run(filter: Option<&str>, deny: bool) -> Result<ExitCode> {
    let ready = setup::run()?;
    let mut sum = Tally::default();
    let mut failures = Vec::new();
    let mut add = |name: &str, tally: Tally| {
        if tally.failed > 0 {
            failures.push(format!("{name}: {} failed", tally.failed));
        }
        sum += tally;
    };

    if filter.is_none() {
        add("cargo fmt --check", check("format", process::cargo().args(["fmt", "--all", "--check"])));
        add("cargo clippy", check("lints", &mut rust::clippy()));
        add("cargo deny", deny::check(deny)?);
        add("pgspot", pgspot::check(&ready.installation)?);
    }
    add("unit tests", rust::unit_tests(filter)?);
    add("tests on servers", rust::server_tests(filter, &ready.installation)?);

    if filter.is_none() {
        add("a minute of soak", soak::short()?);
    }

    for failure in &failures {
        eprintln!("{failure}");
    }
    println!("{sum}");
    Ok(if sum.failed == 0 && sum.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One check that is a whole program.
fn check(what: &str, command: &mut std::process::Command) -> Tally {
    say(&format!("checking: {what}"));
    let done = process::run(command);
    if let Err(error) = &done {
        eprintln!("{error:#}");
    }
    Tally::one(done.is_ok())
}
