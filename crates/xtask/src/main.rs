//! `cargo xtask`: set-up, demo, tests, benchmarks and packages of zeroauth_audit.
//!
//! Exit codes: 0 fine; 1 a check, a test or the demo found something wrong; 2 the machine or the call is not as it has to
//! be, and one line on standard error says what to do.
#![forbid(unsafe_code)]

mod bench;
mod demo;
mod documents;
mod failure;
mod freeze;
mod package;
mod process;
mod setup;
mod signing_key;
mod soak;
mod steps;
mod test;
mod tree;
mod versions;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use setup::build::Profile;

/// Set-up, demo, tests, benchmarks and packages of zeroauth_audit.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing, build the extension and stage it in target/stage; a local chain in target/node.
    Setup,
    /// Put this machine's package log and this project's git history on an audit trail, tamper with it, find it.
    Demo {
        /// Leave the cluster running afterwards; `cargo xtask stop` ends it.
        #[arg(long)]
        keep: bool,
    },
    /// End the cluster that `demo --keep` left running.
    Stop,
    /// Format, lints, unit tests, tests on real servers, dependency and SQL checks.
    Test {
        /// Run only the tests whose name contains this, and none of the other checks.
        filter: Option<String>,
        /// Check dependencies with cargo-deny even if it has to be built first, which takes minutes.
        #[arg(long)]
        deny: bool,
        /// Test on this major version of PostgreSQL instead: 16, 17 or 18, in a folder with a Debian release.
        #[arg(long, conflicts_with = "deny")]
        pg: Option<u32>,
        /// Test on this major version, too, without what is alike on all; counted as skipped where no such folder can be made.
        #[arg(long, conflicts_with_all = ["pg", "inside"])]
        also_pg: Option<u32>,
        /// What `--pg` runs inside the folder: everything that depends on the version of PostgreSQL.
        #[arg(long, hide = true)]
        inside: bool,
        /// Of the tests on servers only those that could come out differently on another version.
        #[arg(long, hide = true, requires = "inside")]
        different: bool,
    },
    /// Check that imports in src/ run downwards through its folders, and that no files form a circle.
    Tree,
    /// Keep the install script of this version in sql/releases as the one that was released: it never changes again.
    Freeze,
    /// Random queries, fuzz targets, random attacks, the storm and crashes, for longer than a test has time for.
    Soak {
        /// For how long, about.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// Only random attacks by a superuser, each judged by what the trust table promises.
        #[arg(long)]
        red_team: bool,
        /// The seed of the first attack, and of the random queries: another one for each piece of a long soak. With --red-team and
        /// --minutes 0, of the only attack.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Write the SQL reference docs/sql.md from the extension's COMMENTs, and check links and completeness of the documents.
    Docs,
    /// Compare with the same table without the extension; writes docs/benchmarks.md.
    Bench {
        /// Shorter runs and fewer rows: shows that it works, not how fast it is; writes nothing.
        #[arg(long)]
        quick: bool,
        /// Run only the scenarios whose name contains this, or only count `instructions`; writes nothing.
        filter: Option<String>,
    },
    /// Make Debian packages of the extension and of the auditor's program, with bills of materials, in target/packages.
    Package {
        /// For this major version of PostgreSQL instead: 17 or 18, made in a folder with the Debian release that has it.
        #[arg(long)]
        pg: Option<u32>,
        /// Install, use, upgrade and remove the packages on a fresh Debian in a folder, too.
        #[arg(long)]
        check: bool,
        /// What `--pg` runs inside the folder: the package of the extension.
        #[arg(long, hide = true, conflicts_with_all = ["pg", "check"])]
        inside: bool,
        /// Whom the packages name as their maintainer, instead of DEBFULLNAME and DEBEMAIL.
        #[arg(long, value_name = "NAME <MAIL>")]
        maintainer: Option<package::Maintainer>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup => {
            setup::run(Profile::Dev).and_then(|_| setup::node::ready()).map(|()| ExitCode::SUCCESS)
        }
        Task::Demo { keep } => demo::run(keep),
        Task::Stop => demo::stop(),
        Task::Test { filter, deny, pg, also_pg, inside, different } => {
            test::run(filter.as_deref(), &test::Where { pg, also_pg, inside, different }, deny)
        }
        Task::Tree => tree::run(),
        Task::Freeze => freeze::run(),
        Task::Soak { minutes, red_team: true, seed } => soak::red_team(minutes, seed),
        Task::Soak { minutes, seed, .. } => soak::run(minutes, seed),
        Task::Docs => documents::run(),
        Task::Bench { quick, filter } => bench::run(quick, filter.as_deref()),
        Task::Package { pg, check, inside, maintainer } => {
            package::run(&package::Options { pg, check, inside, maintainer })
        }
    };
    done.unwrap_or_else(|error| failure::report(&error))
}
