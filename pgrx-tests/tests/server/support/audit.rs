//! The verifier's answers, and the independent reference program beside them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use postgres::Client;
use zeroauth_audit_verifier::export::coverage::Sealings;
use zeroauth_audit_verifier::export::{MAX_LINE, verify};
use zeroauth_audit_verifier::progress::Progress;
use zeroauth_audit_verifier::verdict::{Finding, Trouble, Verdict};

use super::Sql;

/// One row of `audit_findings`: class, tenant, chain and seq.
pub type Place = (String, String, i32, i64);

/// A place, for assertions that list them.
pub fn place(class: &str, tenant: &str, chain: i32, seq: i64) -> Place {
    (class.into(), tenant.into(), chain, seq)
}

/// The verdict on one tenant as `ok|events|chains|findings|classes`.
#[track_caller]
pub fn verdict(client: &mut Client, tenant: &str) -> String {
    client.line(&format!("SELECT ok, events, chains, findings, classes FROM audit_verify('{tenant}')"))
}

/// Every finding of `audit_findings(<arguments>)`, in a fixed order; duplicates stay.
#[track_caller]
pub fn findings(client: &mut Client, arguments: &str) -> Vec<Place> {
    let sql = format!("SELECT class, tenant_id, chain, seq FROM audit_findings({arguments})");
    let mut found: Vec<Place> = client
        .rows(&sql)
        .into_iter()
        .map(|row| {
            let text = |i: usize| row[i].clone().unwrap_or_default();
            (text(0), text(1), text(2).parse().unwrap_or(-1), text(3).parse().unwrap_or(-1))
        })
        .collect();
    found.sort();
    found
}

/// Findings of the whole table as a set.
#[track_caller]
pub fn places(client: &mut Client) -> BTreeSet<Place> {
    findings(client, "").into_iter().collect()
}

/// Asserts that every way of verifying finds every tenant whole, the reference included.
#[track_caller]
pub fn assert_whole(client: &mut Client) {
    assert_replays(client);
    assert_eq!(reference_places(&export(client)), BTreeSet::new(), "reference");
}

/// Asserts that the server's own ways of verifying find every tenant whole; for tests that ask many times.
#[track_caller]
pub fn assert_replays(client: &mut Client) {
    assert_eq!(findings(client, ""), [], "audit_findings");
    assert_eq!(
        client.lines("SELECT * FROM audit_verify() WHERE ok IS NOT TRUE OR findings <> 0"),
        [] as [String; 0],
        "zeroauth_audit_internal.verify_all"
    );
    // In one snapshot: the worker may store an event of its own at any time.
    let both = client.line(
        "SELECT (SELECT coalesce(sum(events), 0) FROM audit_verify()), (SELECT count(*) FROM audit_events)",
    );
    let (checked, stored) = both.split_once('|').unwrap();
    assert_eq!(checked, stored, "every stored event is checked");
}

/// The lines of `audit_export()`.
#[track_caller]
pub fn export(client: &mut Client) -> Vec<String> {
    client.lines("SELECT audit_export()")
}

/// What the reference program finds in exported lines; the offline verifier finds the same.
#[track_caller]
pub fn reference_places(lines: &[String]) -> BTreeSet<Place> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
    // Its own command line separates by tabs, which a tenant's name may contain: ask for JSON instead.
    let script = "import json, sys, audit_reference as r\n\
                  for t, c, s, k in r.verify_export(open(sys.argv[1], encoding='utf-8', newline='\\n')): print(json.dumps([k, t, c, s]))";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(file.path())
        .env("PYTHONPATH", reference_folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output();
    let output = output.expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(verifier_places(lines), found, "the offline verifier and the reference disagree");
    found
}

/// What the offline verifier finds in exported lines, but for erased events, which the reference takes for whole.
#[track_caller]
pub fn verifier_places(lines: &[String]) -> BTreeSet<Place> {
    let mut export = lines.join("\n");
    if !export.is_empty() {
        export.push('\n');
    }
    let mut verdict = Verdict::new("verify-export", "export");
    let (sealings, mut progress) = (Sealings::default(), Progress::none());
    verify(export.as_bytes(), "export", MAX_LINE, sealings, &mut verdict, &mut progress);
    let unexplained = |trouble: &&Trouble| lines.is_empty() && trouble.what == "there is no event in it";
    assert_eq!(verdict.troubles.iter().find(|trouble| !unexplained(trouble)), None);
    assert_eq!(verdict.events, lines.len() as u64);
    let of_finding = |finding: &Finding| {
        let (chain, seq) = (finding.chain.unwrap(), finding.seq.unwrap());
        place(finding.class, finding.tenant_id.as_deref().unwrap(), chain.into(), seq)
    };
    let told =
        verdict.findings.iter().filter(|finding| !finding.detail.starts_with("the private part is gone"));
    told.map(of_finding).collect()
}

/// Where the reference program lies.
pub fn reference_folder() -> PathBuf {
    zeroauth_audit_tests::workspace().join("pgrx-tests/reference")
}
