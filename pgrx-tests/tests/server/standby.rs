//! A hot standby: everything that reads works there, and after a promotion the chains go on.

use std::fs;
use std::process::Command;
use std::time::Duration;

use postgres::{Client, NoTls};
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::dump::DIGEST;
use crate::support::{Sql, assert_whole, findings};

const DEADLINE: Duration = Duration::from_secs(60);

/// A standby in its primary's folder, on the same socket folder under another port.
pub struct Standby<'a> {
    primary: &'a Cluster,
}

impl<'a> Standby<'a> {
    fn port() -> &'static str {
        "53999"
    }

    pub fn start(primary: &'a Cluster) -> Self {
        succeed(primary.command("pg_basebackup").args(["-D", "standby", "-R", "-X", "stream", "-c", "fast"]));
        let standby = Self { primary };
        standby.pg_ctl(&["start", "-w", "-l", "standby.log", "-o", &format!("-p {}", Self::port())]);
        standby
    }

    pub fn pg_ctl(&self, arguments: &[&str]) {
        // The server inherits the output, and with it a pipe that would never end: it gets none.
        let status = self
            .primary
            .command("pg_ctl")
            .args(["-s", "-D", "standby"])
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "pg_ctl {arguments:?}: {}",
            fs::read_to_string(self.primary.data_dir().parent().unwrap().join("standby.log"))
                .unwrap_or_default()
        );
    }

    pub fn client(&self) -> Client {
        let mut config = self.primary.config();
        // A second port on one configuration pairs with a second host: start from a new one.
        config = postgres::Config::new()
            .host_path(self.primary.socket_dir())
            .port(Self::port().parse().unwrap())
            .connect_timeout(*config.get_connect_timeout().unwrap())
            .clone();
        config.user("postgres").dbname("audit").connect(NoTls).unwrap()
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        let _ =
            self.primary.command("pg_ctl").args(["-s", "-D", "standby", "stop", "-m", "immediate"]).status();
    }
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_hot_standby_verifies_and_exports_and_goes_on_after_promotion() {
    let primary = Cluster::builder("primary").conf("fsync", "off").start().unwrap();
    let mut on_primary = primary.client();
    on_primary.run("CREATE EXTENSION zeroauth_audit; CREATE EXTENSION pgcrypto");
    let mut holder = primary.client();
    holder.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'open')");
    on_primary.run("INSERT INTO audit_events (tenant_id, action, details) SELECT CASE WHEN i % 2 = 0 THEN 'acme' ELSE 'globex' END, 'x', to_jsonb(i) FROM generate_series(1, 20000) i");
    holder.run("COMMIT");

    let standby = Standby::start(&primary);
    let mut on_standby = standby.client();
    assert_eq!(on_standby.line("SELECT pg_is_in_recovery()"), "t");
    wait_until(DEADLINE, "the standby to have replayed", || {
        on_primary.line(DIGEST) == on_standby.line(DIGEST)
    });
    assert_whole(&mut on_standby);
    assert_eq!(on_standby.line("SELECT ok, events_checked, chains FROM audit_verify('acme')"), "t|10001|2");
    on_standby.run("SET max_parallel_workers_per_gather = 4; SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0");
    assert_eq!(
        on_standby.line("SELECT bool_and(ok), sum(events_checked) FROM audit_verify_all()"),
        "t|20001"
    );
    on_standby.run(
        "SELECT * FROM audit_verify_progress; SELECT * FROM audit_guard_status(); SELECT audit_uuid_v7()",
    );
    on_standby.refused("25006", "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x')");
    on_standby.refused("ZA005", "SELECT * FROM audit_verify('nobody')");

    // What is tampered with at the primary is found at the standby.
    on_primary.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET action = 'forged' WHERE tenant_id = 'globex' AND seq = 4711");
    wait_until(DEADLINE, "the tampering to arrive", || !findings(&mut on_standby, "").is_empty());
    assert_eq!(
        on_standby.line("SELECT class, tenant_id, chain, seq FROM audit_findings()"),
        "content_mismatch|globex|0|4711"
    );
    on_primary.run("UPDATE audit_events SET action = 'x' WHERE tenant_id = 'globex' AND seq = 4711");
    wait_until(DEADLINE, "the repair to arrive", || findings(&mut on_standby, "").is_empty());

    primary.crash().unwrap();
    standby.pg_ctl(&["promote", "-w"]);
    let mut promoted = standby.client();
    assert_eq!(promoted.line("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(promoted.line("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'after promotion') RETURNING chain = 0, seq > 1"), "t|t");
    // A session that was there before goes on too.
    on_standby
        .run("RESET ALL; INSERT INTO audit_events (tenant_id, action) VALUES ('globex', 'after promotion')");
    assert_whole(&mut promoted);
    assert_eq!(promoted.line("SELECT count(*) FROM audit_events"), "20003");
}
