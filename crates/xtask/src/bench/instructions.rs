//! Where the time of an insert goes, counted in instructions by callgrind: the same on a busy machine.
//!
//! A single-user server inserts row after row, each in a transaction of its own, into either table. Two runs of different length are
//! subtracted, so that starting the server does not count. Valgrind has no SHA instructions: what SHA-256 takes without them is
//! left out, and its time is measured beside it.

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sha2::block_api::compress256;
use zeroauth_audit_tests::Cluster;

use super::report::{grouped, markdown};
use super::scenario::Side;
use super::tables;

const SHORT: u64 = 500;
const LONG: u64 = 2500;

const SOFTWARE_SHA: &str = "sha2::sha256::compress256";

/// What is shown: in words, the functions that count with all they call, and whether they call SHA-256, which is taken off.
const PARTS: [(&str, &[&str], bool); 7] = [
    ("all of it", &["PROGRAM TOTALS"], true),
    ("- CHECK constraints", &["ExecConstraints"], false),
    ("- index entries", &["ExecInsertIndexTuples"], false),
    ("- BEFORE trigger", &["ExecBRInsertTriggers"], true),
    ("- of it: claiming a chain", &["zeroauth_audit::chain::lock::claim_chain"], false),
    (
        "- of it: the head of the chain, when it is not in shared memory",
        &["zeroauth_audit::chain::head::read"],
        false,
    ),
    (
        "- of it: encoding",
        &["zeroauth_audit_core::hash::event_hash", "zeroauth_audit_core::hash::private_hash"],
        true,
    ),
];

/// Counts, and returns a section for the results. Stops the cluster.
pub(crate) fn count(cluster: Cluster) -> Result<String> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return Ok("Instructions were not counted: valgrind is not installed.\n\n".into());
    }
    let (wal, bytes) = {
        let mut client = cluster.try_client()?;
        let mut wal = Vec::new();
        for side in [Side::Plain, Side::Ours] {
            tables::empty(&mut client, side)?;
            // The first rows bring whole pages into the WAL.
            client.batch_execute(&script(side, SHORT))?;
            let before: String = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[])?.get(0);
            client.batch_execute(&script(side, LONG))?;
            let written: i64 = client
                .query_one(
                    "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::bigint",
                    &[&before],
                )?
                .get(0);
            wal.push(written.unsigned_abs() / LONG);
        }
        let row =
            client.query_one(include_str!("bytes_hashed.sql"), &[]).context("cannot count the bytes")?;
        for side in [Side::Plain, Side::Ours] {
            tables::empty(&mut client, side)?;
        }
        (wal, [row.get::<_, i64>(0), row.get::<_, i64>(1)].map(|bytes| bytes.unsigned_abs() as usize))
    };
    cluster.shut_down()?;
    let plain = per_row(&cluster, Side::Plain)?;
    let ours = per_row(&cluster, Side::Ours)?;
    let mut rows = vec![["instructions of one insert", "plain", "ours"].map(str::to_owned)];
    for (words, functions, hashes) in PARTS {
        let shown = |counted: &HashMap<String, u64>| {
            let of = |function: &str| counted.get(function).copied().unwrap_or_default();
            let all: u64 = functions.iter().map(|function| of(function)).sum();
            grouped(all.saturating_sub(if hashes { of(SOFTWARE_SHA) } else { 0 }))
        };
        rows.push([words.to_owned(), shown(&plain), shown(&ours)]);
    }
    let [public, private] = bytes;
    Ok(format!(
        "## Where the time goes\n\n{table}\n\
         - Counted by callgrind in a single-user server, one transaction a row, without the client and the kernel. Valgrind has no SHA\n  \
         instructions: what SHA-256 took in software there is taken off, and is {nanos:.0} ns with them on this machine, for the {public}\n  \
         public and {private} private bytes that are hashed of an event.\n\
         - WAL of one insert with its commit: {plain_wal} bytes plain, {our_wal} ours.\n\
         - The floor: SHA-256 of those bytes, PostgreSQL's call of a trigger that returns another row, and forming that row.\n\n",
        table = markdown(&rows),
        nanos = sha_nanos(public, private),
        plain_wal = grouped(wal.first().copied().unwrap_or_default()),
        our_wal = grouped(wal.get(1).copied().unwrap_or_default()),
    ))
}

/// Inserts `rows` rows, a transaction each.
fn script(side: Side, rows: u64) -> String {
    include_str!("instructions.sql")
        .replace("@table@", side.table())
        .replace("@rows@", &rows.to_string())
        .replace('\n', " ")
}

/// Instructions of one row, by function.
fn per_row(cluster: &Cluster, side: Side) -> Result<HashMap<String, u64>> {
    let short = run(cluster, side, SHORT)?;
    let long = run(cluster, side, LONG)?;
    let difference = |(name, count): (String, u64)| {
        let less = short.get(&name).copied().unwrap_or_default();
        (name, count.saturating_sub(less) / (LONG - SHORT))
    };
    Ok(long.into_iter().map(difference).collect())
}

fn run(cluster: &Cluster, side: Side, rows: u64) -> Result<HashMap<String, u64>> {
    let counted = cluster.data_dir().join("bench-callgrind");
    let server = cluster.installation().bindir.join("postgres");
    let mut child = cluster
        .command("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .arg(server)
        .args(["--single", "-D"])
        .arg(cluster.data_dir())
        .args(["-c", "fsync=off", "audit"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run valgrind")?;
    if let Some(mut stdin) = child.stdin.take() {
        // In single-user mode a statement is a line.
        writeln!(stdin, "{}", script(side, rows)).context("cannot give the server its script")?;
    }
    let output = child.wait_with_output().context("valgrind is lost")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || errors.contains("ERROR:") {
        bail!("the server under valgrind failed: {}", errors.trim());
    }
    let printed = annotate(&counted)?;
    fs::remove_file(&counted).with_context(|| format!("cannot remove {}", counted.display()))?;
    Ok(printed.lines().filter_map(line).fold(HashMap::new(), |mut all, (name, count)| {
        let most: &mut u64 = all.entry(name).or_default();
        *most = (*most).max(count);
        all
    }))
}

fn annotate(counted: &Path) -> Result<String> {
    let output = Command::new("callgrind_annotate")
        .args(["--inclusive=yes", "--threshold=100", "--auto=no"])
        .arg(counted)
        .output()
        .context("cannot run callgrind_annotate")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `1,234 ( 5.60%)  file:function [object]`
fn line(text: &str) -> Option<(String, u64)> {
    let (count, rest) = text.trim_start().split_once(' ')?;
    let count = count.replace(',', "").parse().ok()?;
    let (_, place) = rest.split_once("%)")?;
    if place.trim() == "PROGRAM TOTALS" {
        return Some(("PROGRAM TOTALS".into(), count));
    }
    let (_, function) = place.trim_start().trim_start_matches("*  ").split_once(':')?;
    let name = function.split(" [").next()?.split('\'').next()?;
    Some((name.trim().to_owned(), count))
}

/// Nanoseconds of SHA-256 over messages of these lengths: its compression function alone, without any copying.
pub(crate) fn sha_nanos(public: usize, private: usize) -> f64 {
    const EVENTS: u32 = 200_000;
    // Padding is at least nine bytes.
    let blocks = |bytes: usize| vec![[1_u8; 64]; (bytes + 9).div_ceil(64)];
    let (public, private) = (blocks(public), blocks(private));
    let mut state = [7; 8];
    let started = Instant::now();
    for _ in 0..EVENTS {
        compress256(&mut state, black_box(&private));
        compress256(&mut state, black_box(&public));
    }
    black_box(state);
    started.elapsed().as_nanos() as f64 / f64::from(EVENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_read_from_what_callgrind_prints() {
        let plain = "2,617,957,710 (66.51%)  ???:ExecConstraints [/usr/lib/postgresql/15/bin/postgres]";
        assert_eq!(line(plain), Some(("ExecConstraints".into(), 2_617_957_710)));
        let rust = "    8,129,988 ( 0.20%)  ???:zeroauth_audit::lock::claim_chain [/lib/zeroauth_audit.so]";
        assert_eq!(line(rust), Some(("zeroauth_audit::lock::claim_chain".into(), 8_129_988)));
        assert_eq!(line("12 ( 0.0%)  ./x/y.c:walker'2 [z]"), Some(("walker".into(), 12)));
        let totals = "4,104,466,050 (100.0%)  PROGRAM TOTALS";
        assert_eq!(line(totals), Some(("PROGRAM TOTALS".into(), 4_104_466_050)));
        assert_eq!(line("Ir                    file:function"), None);
    }

    #[test]
    fn the_script_is_one_line_without_holes() {
        let script = script(Side::Ours, 7);
        assert!(!script.contains('@') && !script.contains('\n'), "{script}");
    }
}
