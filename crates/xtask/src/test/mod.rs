//! `cargo xtask test`: every check there is, and one closing line.
//!
//! A check that fails does not keep the others from running. Standard output ends with `N passed, N failed`.

pub(crate) mod deny;
mod interop;
mod pgrx;
pub(crate) mod pgspot;
pub(crate) mod rust;
pub(crate) mod tally;

use std::process::ExitCode;

use anyhow::Result;
use zeroauth_audit_tests::BadEnvironment;

use crate::setup::build::Profile;
use crate::setup::{self, Ready, say};
use crate::{process, soak, versions};
pub(crate) use rust::closing;
pub(crate) use tally::Tally;

/// On which PostgreSQL the tests run.
pub(crate) struct Where {
    /// Only on this major version, in a folder of its own.
    pub(crate) pg: Option<u32>,
    /// On this machine's, and then on this major version.
    pub(crate) also_pg: Option<u32>,
    /// Already in such a folder.
    pub(crate) inside: bool,
    /// Without the tests that come out alike on every version.
    pub(crate) different: bool,
}

/// Runs the checks; with a filter only the Rust tests whose name contains it.
pub(crate) fn run(filter: Option<&str>, place: &Where, deny: bool) -> Result<ExitCode> {
    for major in place.pg.iter().chain(&place.also_pg) {
        // Told before anything is built.
        versions::suite(*major)?;
    }
    let ready = setup::run(Profile::Dev)?;
    let mut sum = Sum::default();
    if let Some(major) = place.pg {
        sum.add(&format!("PostgreSQL {major}"), versions::test(major, filter, &ready, false)?);
        return Ok(sum.close());
    }
    if filter.is_none() && !place.inside {
        sum.add("cargo fmt --check", check("format", process::cargo().args(["fmt", "--all", "--check"])));
        sum.add("cargo deny", deny::check(deny)?);
        sum.add("cargo pgrx", pgrx::check(&ready)?);
    }
    if filter.is_none_or(|filter| filter == "pgspot") && !place.inside {
        sum.add("pgspot", pgspot::check(&ready.installation)?);
    }
    if filter.is_none() {
        sum.add("cargo clippy", check("lints", &mut rust::clippy(&ready)));
    }
    if !place.inside {
        setup::node::ready()?;
        sum.add("unit tests", rust::unit_tests(filter)?);
    }
    if filter.is_none_or(|filter| filter == "interoperability") && !place.inside {
        sum.add("interoperability", interop::check()?);
    }
    let left_out = if place.different { rust::ALIKE } else { &[] };
    sum.add("tests on servers", rust::server_tests(filter, left_out, &ready.installation)?);
    if filter.is_none() && !place.inside {
        sum.add("a minute of soak", soak::short()?);
    }
    if let Some(major) = place.also_pg {
        sum.add(&format!("PostgreSQL {major}"), if_possible(major, filter, &ready)?);
    }
    Ok(sum.close())
}

/// The tests that another major version could change, skipped where the machine does not allow it.
fn if_possible(major: u32, filter: Option<&str>, ready: &Ready) -> Result<Tally> {
    match versions::test(major, filter, ready, filter.is_none()) {
        Err(error) if error.chain().any(|cause| cause.is::<BadEnvironment>()) => {
            say(&format!("skipping PostgreSQL {major}: {error:#}"));
            Ok(Tally::skipped())
        }
        done => done,
    }
}

/// What all checks together came to.
#[derive(Default)]
struct Sum {
    tally: Tally,
    failures: Vec<String>,
}

impl Sum {
    fn add(&mut self, name: &str, tally: Tally) {
        if tally.failed > 0 {
            self.failures.push(format!("{name}: {} failed", tally.failed));
        }
        self.tally += tally;
    }

    fn close(self) -> ExitCode {
        for failure in &self.failures {
            eprintln!("{failure}");
        }
        println!("{}", self.tally);
        self.tally.exit_code()
    }
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
