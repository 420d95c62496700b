//! Bundles with anchors that are real: made by the drivers on a local chain, at an authority, and in a file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]
#![forbid(unsafe_code)]

#[path = "../../../anchor/tests/chain/anvil.rs"]
#[allow(dead_code, reason = "the tests of the chain's driver use all of it")]
mod anvil;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/trail.rs"]
#[allow(dead_code, reason = "the tests of exports use all of it")]
mod trail;
#[path = "../../../anchor/tests/authority/tsa.rs"]
#[allow(dead_code, reason = "the tests of the authority's driver use all of it")]
mod tsa;

mod deploying;
mod flipped;
mod hostile;
mod made;
mod offline;
mod verified;

use std::process::{Command, Output};

use serde_json::Value;

/// The program, as an auditor runs it.
const PROGRAM: &str = env!("CARGO_BIN_EXE_zeroauth-audit");

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    outcome(Command::new(PROGRAM).args(arguments).output().unwrap())
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Exit code and verdict.
#[track_caller]
fn judge(arguments: &[&str]) -> (i32, Value) {
    let (code, out, error) = run(&[&["--json", "verify-bundle"], arguments].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {out}{error}")))
}
