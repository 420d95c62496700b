//! `cargo xtask soak`: what finds more the longer it runs. Random queries, fuzz targets, random attacks, the storm, crashes.
//!
//! `cargo xtask test` runs a minute of it.

mod fuzz;
mod red_team;
mod server_log;
mod sqlsmith;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use zeroauth_audit_tests::Installation;

use crate::setup::build::Profile;
use crate::setup::{self, say};
use crate::test::tally::Tally;
use crate::test::{deny, pgspot, rust};

/// The part of a soak that `cargo xtask test` runs: about a minute.
pub(crate) fn short() -> Result<Tally> {
    let mut sum = sqlsmith::check(Duration::from_secs(40), 0)?;
    sum += fuzz::check(Duration::from_secs(20))?;
    sum += red_team::check(Duration::from_secs(20), 0)?;
    Ok(sum)
}

/// Runs everything, for about so many minutes and what the checks at the end take; queries and attacks from a seed on.
pub(crate) fn run(minutes: u64, seed: u64) -> Result<ExitCode> {
    let ready = setup::run(Profile::Dev)?;
    let whole = Duration::from_secs(minutes.max(1) * 60);
    let mut sum = sqlsmith::check(whole * 3 / 10, seed)?;
    sum += fuzz::check(whole * 2 / 10)?;
    sum += red_team::check(whole * 2 / 10, seed)?;
    sum += storms(whole * 3 / 10, &ready.installation)?;
    sum += pgspot::check(&ready.installation)?;
    sum += deny::check(false)?;
    println!("{sum}");
    Ok(sum.exit_code())
}

/// Only random attacks, from a seed on.
pub(crate) fn red_team(minutes: u64, seed: u64) -> Result<ExitCode> {
    setup::run(Profile::Dev)?;
    let sum = red_team::check(Duration::from_secs(minutes * 60), seed)?;
    println!("{sum}");
    Ok(sum.exit_code())
}

/// The tests whose length is set by a variable: the storm for most of the time, and rounds of crashes of some seconds each.
fn storms(time: Duration, installation: &Installation) -> Result<Tally> {
    say("soaking: the storm and the crashes");
    let (seconds, rounds) = (time.as_secs().max(20), (time.as_secs() / 20).max(3));
    let length =
        [("ZEROAUTH_STORM_SECONDS", seconds.to_string()), ("ZEROAUTH_CRASH_ROUNDS", rounds.to_string())];
    let mut sum = Tally::default();
    for filter in ["storm", "fault_crash"] {
        let tests = rust::server_tests_with(Some(filter), &[], installation, &length)?;
        if tests == Tally::default() {
            say(&format!("skipping {filter}: no test has this name"));
            sum += Tally::skipped();
        }
        sum += tests;
    }
    Ok(sum)
}
