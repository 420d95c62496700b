//! An auditor without the database: what the published checkpoints, an export and a proof bundle say, by the program that auditors
//! get.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use postgres::Client;
use zeroauth_audit_tests::{wait_until, workspace};

use crate::log_tamper::RECOMPUTE;
use crate::publish::{Publishing, append, publishing};
use crate::support::{DEADLINE, Sql};

/// The program, built from this checkout.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--locked", "--package", "zeroauth-audit-verifier"])
            .current_dir(workspace())
            .status()
            .unwrap();
        assert!(built.success(), "zeroauth-audit does not build");
        workspace().join("target/debug/zeroauth-audit")
    })
}

struct Auditor {
    folder: tempfile::TempDir,
    key: String,
}

impl Auditor {
    fn new(publishing: &Publishing) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, key: publishing.key.verifier_key().to_string() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Takes away an export of all tenants.
    fn export(&self, client: &mut Client) {
        self.save(client, "trail.jsonl", "SELECT audit_export()");
    }

    fn save(&self, client: &mut Client, name: &str, sql: &str) {
        let lines: Vec<String> = client.rows(sql).into_iter().map(|mut row| row.remove(0).unwrap()).collect();
        std::fs::write(self.path(name), lines.join("\n") + "\n").unwrap();
    }

    /// Exit code, verdict and classes.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> (i32, String, Vec<String>) {
        let output =
            Command::new(program()).args(arguments).args(["--json", "--key", &self.key]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{error}: {} {}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        });
        println!("{arguments:?}: {json}");
        let classes = json["classes"].as_object().unwrap().keys().cloned().collect();
        (output.status.code().unwrap(), json["verdict"].as_str().unwrap().to_owned(), classes)
    }

    /// The export against run files that were kept, with the key of names that was kept with them.
    #[track_caller]
    fn verify(&self, kept: &Path) -> (i32, String, Vec<String>) {
        let (trail, names) = (self.path("trail.jsonl"), self.path("names"));
        let [trail, names, kept] = [&trail, &names, kept].map(|path| path.to_str().unwrap());
        self.run(&["verify-export", trail, "--names", names, "--runs", kept, "--all-tenants"])
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn pitfall_18_28_whoever_kept_last_weeks_checkpoints_finds_what_a_superuser_with_the_key_made_consistent() {
    let publishing = publishing("offline_rewritten", &[]);
    let mut client = publishing.cluster.client();
    client.run(RECOMPUTE);
    client.run(
        "UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name IN ('drift', 'tripwire', 'pins')",
    );
    append(&mut client, "acme", 299);
    append(&mut client, "globex", 50);
    // A second chain of acme.
    let mut other = publishing.cluster.client();
    other.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'held')");
    append(&mut client, "acme", 40);
    other.run("COMMIT");
    append(&mut client, "initech", 5);
    publishing.wait_for(&["acme 341", "globex 50", "initech 5"]);
    client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false");
    let auditor = Auditor::new(&publishing);
    let kept = auditor.path("kept");
    copy(&publishing.directory, &kept);
    auditor.save(&mut client, "names", "SELECT audit_export_names()");
    auditor.export(&mut client);
    assert_eq!(auditor.verify(&kept), (0, "verified".to_owned(), vec![]));
    let history = auditor.run(&["verify-checkpoints", kept.to_str().unwrap()]);
    assert_eq!(history, (0, "verified".to_owned(), vec![]));

    // Whoever does these also sets watermarks, tiles, intervals and checkpoints right, and signs: nothing inside is left to compare
    // with, so all of it is thrown away and made anew.
    let forget = "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.watermarks; DELETE FROM zeroauth_audit_internal.tiles; DELETE FROM zeroauth_audit_internal.log_intervals; DELETE FROM zeroauth_audit_internal.logs; DELETE FROM zeroauth_audit_internal.sinks; DELETE FROM zeroauth_audit_internal.registry_entries; DELETE FROM zeroauth_audit_internal.registry_tiles; DELETE FROM zeroauth_audit_internal.registry_runs; DELETE FROM zeroauth_audit_internal.registry_names";
    for (tampering, expected) in [
        (
            "UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'acme' AND chain = 0 AND seq = 123; SELECT recompute('acme', 0::smallint, 123)",
            "checkpoint_mismatch",
        ),
        ("DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 0 AND seq > 250", "tail_truncated"),
        ("DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1", "chain_missing"),
        ("DELETE FROM audit_events WHERE tenant_id = 'globex'", "tenant_missing"),
        (
            "DELETE FROM audit_events WHERE tenant_id = 'globex' AND seq <= 20; UPDATE audit_events SET seq = seq + 1000 WHERE tenant_id = 'globex'; UPDATE audit_events SET seq = seq - 1020 WHERE tenant_id = 'globex'; SELECT recompute('globex', 0::smallint, 1)",
            "tail_truncated",
        ),
    ] {
        client.run("BEGIN; SET LOCAL zeroauth_audit.maintenance = on");
        client.run(&format!("{tampering}; {forget}"));
        client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
        assert_eq!(
            client.lines("SELECT * FROM audit_findings()"),
            [] as [&str; 0],
            "inside all is well: {tampering}"
        );
        auditor.export(&mut client);
        let (code, verdict, classes) = auditor.verify(&kept);
        client.run("ROLLBACK");
        assert_eq!((code, verdict.as_str()), (1, "tampered"), "{tampering}: {classes:?}");
        assert!(classes.contains(&expected.to_owned()), "{tampering}: {classes:?}");
    }
}

#[test]
fn a_bundle_proves_its_event_with_the_database_gone_and_a_flipped_byte_is_seen() {
    let publishing = publishing("offline_bundle", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 299);
    publishing.wait_for(&["acme 300"]);
    let bundle = client.rows(
        "SELECT audit_prove('acme', event_id) FROM audit_events WHERE tenant_id = 'acme' AND seq = 200",
    );
    let bundle = bundle[0][0].clone().unwrap();
    drop(client);
    publishing.cluster.shut_down().unwrap();
    let auditor = Auditor::new(&publishing);
    let check = |bytes: &[u8]| {
        let path = auditor.path("bundle");
        std::fs::write(&path, bytes).unwrap();
        let (code, _, classes) = auditor.run(&["verify-bundle", path.to_str().unwrap()]);
        (code, classes)
    };
    assert_eq!(check(bundle.as_bytes()), (0, vec![]));
    let at = bundle.find("\"action\":\"n\"").unwrap() + 10;
    let mut forged = bundle.clone().into_bytes();
    forged[at] = b'm';
    assert_eq!(check(&forged), (1, vec!["content_mismatch".to_owned()]));
    // Wherever it is, it is never verified.
    for at in (0..bundle.len()).step_by(37) {
        let mut flipped = bundle.clone().into_bytes();
        flipped[at] ^= 1;
        assert_ne!(check(&flipped).0, 0, "byte {at}");
    }
}

#[test]
fn what_psql_writes_to_a_file_is_verified_as_it_is() {
    let publishing = publishing("offline_psql", &[]);
    let mut client = publishing.cluster.client();
    append(&mut client, "acme", 3);
    publishing.wait_for(&["acme 4"]);
    append(&mut client, "acme", 2);
    publishing.wait_for(&["acme 6"]);
    let auditor = Auditor::new(&publishing);
    // psql runs as the server's user here.
    std::fs::set_permissions(auditor.folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let save = |name: &str, options: &str, sql: &str| {
        let path = auditor.path(name);
        let mut psql = publishing.cluster.command("psql");
        let output = psql.args([options, "-o"]).arg(&path).args(["-c", sql]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path.to_str().unwrap().to_owned()
    };
    let prove = "SELECT audit_prove('acme', event_id) FROM audit_events WHERE tenant_id = 'acme' AND seq = 2";
    let export = save("export", "-AtX", "SELECT audit_export('acme')");
    let bundle = save("bundle", "-AtX", prove);
    let checkpoint =
        save("checkpoint", "-AtX", "SELECT note FROM audit_checkpoints ORDER BY run DESC LIMIT 1");
    let names = save("names", "-AtX", "SELECT audit_export_names()");
    for file in [&bundle, &checkpoint] {
        assert!(std::fs::read(file).unwrap().ends_with(b"\n\n"), "{file} is not as psql writes it");
    }
    let verified = (0, "verified".to_owned(), vec![]);
    assert_eq!(auditor.run(&["verify-bundle", &bundle]), verified);
    let kept = publishing.directory.to_str().unwrap();
    wait_until(DEADLINE, "every run to be published", || {
        client.line("SELECT published_to = (SELECT max(run) FROM audit_checkpoints) FROM zeroauth_audit_internal.sinks") == "t"
    });
    assert_eq!(auditor.run(&["verify-checkpoints", kept, "--kept", &checkpoint]), verified);
    assert_eq!(auditor.run(&["verify-export", &export, "--runs", kept, "--names", &names]), verified);
    // Without -At it is a table, and the verdict says so.
    let table = save("table", "-X", prove);
    let output =
        Command::new(program()).args(["verify-bundle", &table, "--key", &auditor.key]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("psql -AtX -o writes the value alone"), "{said}");
}
