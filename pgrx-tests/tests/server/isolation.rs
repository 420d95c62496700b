//! The isolation specs, each through PostgreSQL's own isolation tester in a database of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Database, Sql, shared};

fn specs() -> PathBuf {
    zeroauth_audit_tests::workspace().join("pgrx-tests/isolation")
}

/// A folder of the cluster, with its files readable and its place writable for the cluster's user.
fn copied(name: &str) -> PathBuf {
    let folder = shared().data_dir().parent().unwrap().join(format!("isolation-{name}"));
    for (part, file) in [("specs", format!("{name}.spec")), ("expected", format!("{name}.out"))] {
        fs::create_dir_all(folder.join(part)).unwrap();
        let from = specs().join(part).join(&file);
        if from.exists() {
            fs::copy(from, folder.join(part).join(file)).unwrap();
        }
    }
    let open = |path: &Path| {
        assert!(Command::new("chmod").args(["-R", "a+rwX"]).arg(path).status().unwrap().success())
    };
    open(&folder);
    folder
}

#[track_caller]
fn run(name: &str) {
    let database = Database::audited(&format!("spec_{}", &name[..name.len().min(40)]));
    // A session that wrote for a tenant a moment ago tries the chain it had then first, for a tenth of a second. What a
    // spec shows may not depend on that: each session starts fresh from many other tenants.
    database.client().run(
        "CREATE PROCEDURE busy_elsewhere() LANGUAGE plpgsql AS $$ BEGIN
           INSERT INTO audit_events (tenant_id, action) SELECT 'elsewhere ' || i, 'x' FROM generate_series(1, 3000) i;
           RAISE EXCEPTION 'take it back';
         EXCEPTION WHEN raise_exception THEN NULL; END $$",
    );
    let folder = copied(name);
    let pg_isolation_regress =
        shared().installation().pkglibdir.join("pgxs/src/test/isolation/pg_isolation_regress");
    let output = shared()
        .command(pg_isolation_regress)
        .arg(format!("--bindir={}", shared().installation().bindir.display()))
        .arg(format!("--inputdir={}", folder.display()))
        .arg(format!("--outputdir={}", folder.display()))
        .args(["--use-existing", &format!("--dbname={}", database.name), name])
        .current_dir(&folder)
        .output()
        .unwrap();
    let result = folder.join(format!("results/{name}.out"));
    if std::env::var_os("ZEROAUTH_ISOLATION_ACCEPT").is_some() {
        // For the person who reads the difference before committing it.
        fs::copy(&result, specs().join("expected").join(format!("{name}.out"))).unwrap();
        return;
    }
    let differences = fs::read_to_string(folder.join("regression.diffs")).unwrap_or_default();
    assert!(
        output.status.success(),
        "{}{}\n{differences}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

macro_rules! specs {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_spec_is_run() {
            let listed = [$(concat!(stringify!($name), ".spec")),*];
            let mut files: Vec<_> = fs::read_dir(specs().join("specs")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            files.sort();
            assert_eq!(files, listed);
        }
    };
}

specs! {
    cached_head_conflict_inside_a_multi_row_insert
    cached_head_error_caught_in_plpgsql
    cached_head_later_trigger_returns_null
    cached_head_savepoint_between_inserts
    pitfall_01_concurrent_inserts_fork_no_chain
    pitfall_02_request_on_two_connections_goes_on
    pitfall_03_application_lock_order_no_deadlock
    pitfall_04_tenants_share_no_lock
    pitfall_05_seq_follows_the_lock_not_the_clock
    pitfall_06_old_snapshots_follow_the_newest_head
    pitfall_07_on_conflict_do_nothing_leaves_no_gap
    pitfall_09_rollbacks_leave_no_gap
    strict_order_one_chain_waits
}
