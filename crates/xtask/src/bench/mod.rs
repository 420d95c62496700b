//! `cargo xtask bench`: what an audited insert costs against the same table without the extension.
//!
//! The sides of a comparison take turns, round by round, on one server: a noisy machine then disturbs both. The ratio is
//! the median of the rounds' ratios.

mod auditor;
mod chart;
mod drift;
mod instructions;
mod jobs;
mod log;
mod machine;
mod peers;
mod pgbench;
mod reading;
mod report;
mod round;
mod scenario;
mod session;
mod tables;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Builder, Cluster, workspace};

use crate::setup::build::Profile;
use crate::setup::{self, say};
use report::Line;
use scenario::{SCENARIOS, Scenario};

/// How long and how much is measured.
pub(crate) struct Effort {
    /// Rounds of each comparison.
    pub(crate) rounds: usize,
    /// Seconds of a pgbench run.
    pub(crate) seconds: u32,
    /// Rows of a bulk load.
    pub(crate) rows: u32,
    /// Events of a large table.
    pub(crate) large: u64,
    /// Events of a huge one.
    pub(crate) huge: u64,
}

const FULL: Effort = Effort { rounds: 5, seconds: 8, rows: 300_000, large: 2_000_000, huge: 10_000_000 };
const QUICK: Effort = Effort { rounds: 3, seconds: 2, rows: 30_000, large: 100_000, huge: 300_000 };

/// Settings of the measured server; they are printed with the results.
pub(crate) const SETTINGS: [(&str, &str); 5] = [
    ("shared_buffers", "1GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "30min"),
    ("autovacuum", "off"),
    ("jit", "off"),
];

/// Measures, prints the table, and writes docs/benchmarks.md after a full run.
pub(crate) fn run(quick: bool, filter: Option<&str>) -> Result<ExitCode> {
    setup::run(Profile::Release)?;
    let effort = if quick { QUICK } else { FULL };
    let cluster = configured("bench").start()?;
    let mut client = cluster.try_client()?;
    client.batch_execute("CREATE EXTENSION zeroauth_audit").context("cannot create the extension")?;
    tables::create(&mut client, effort.rows)?;

    if filter == Some("instructions") {
        println!("{}", instructions::count(cluster)?);
        return Ok(ExitCode::SUCCESS);
    }
    let wanted: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| filter.is_none_or(|filter| scenario.name.contains(filter)))
        .collect();
    let mut lines = Vec::new();
    for scenario in wanted {
        say(&format!("measuring: {}", scenario.name));
        lines.push(compare(scenario, &cluster, &effort)?);
    }
    let table = report::table(&lines);
    println!("{table}");
    if !quick && filter.is_none() {
        let docs = workspace().join("docs");
        fs::create_dir_all(&docs)?;
        let machine = machine::describe(&mut client)?;
        drop(client);
        say("counting instructions");
        let instructions = instructions::count(cluster)?;
        println!("{instructions}");
        let path = docs.join("benchmarks.md");
        fs::write(&path, report::document(&table, &instructions, &machine, &effort))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let bars: Vec<report::Bar> = lines.iter().filter_map(Line::bar).collect();
        chart::draw(&docs.join("benchmarks.svg"), &bars)?;
        say("wrote docs/benchmarks.md and docs/benchmarks.svg");
    }
    Ok(ExitCode::SUCCESS)
}

/// A server with the settings of the benchmark.
fn configured(name: &str) -> Builder {
    SETTINGS.iter().fold(Cluster::builder(name), |builder, (key, value)| builder.conf(key, value))
}

/// All rounds of one scenario. Every other round runs the sides in the other order.
fn compare(scenario: &'static Scenario, cluster: &Cluster, effort: &Effort) -> Result<Line> {
    let mut line = Line::new(scenario);
    for number in 0..scenario.work.rounds(effort.rounds) {
        let measure = |side| round::measure(scenario, side, cluster, effort).with_context(|| scenario.name);
        let (baseline, ours) = match scenario.baseline {
            None => (None, measure(scenario.subject)?),
            Some(side) if number % 2 == 0 => {
                let baseline = measure(side)?;
                (Some(baseline), measure(scenario.subject)?)
            }
            Some(side) => {
                let ours = measure(scenario.subject)?;
                (Some(measure(side)?), ours)
            }
        };
        let second = scenario.second.map(measure).transpose()?;
        line.add(baseline, ours, second);
    }
    Ok(line)
}
