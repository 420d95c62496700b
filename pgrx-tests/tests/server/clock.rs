//! A clock that is set, or that nobody synchronises, is told. The server runs with a clock of the test's own: a small library in
//! front of the C library answers what the test wrote to a file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use postgres::Client;
use tempfile::TempDir;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::{DEADLINE, Sql, succeed};
use crate::tripwire::{alerts, look};

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

/* Microseconds that the wall clock is ahead; then state, status, offset, estimated and maximal error of adjtimex. */
static int answers(long *ahead, int *state, struct timex *kernel) {
    FILE *file = fopen(getenv("FAKE_CLOCK"), "r");
    if (!file) return 0;
    int read = fscanf(file, "%ld %d %d %ld %ld %ld", ahead, state, &kernel->status, &kernel->offset, &kernel->esterror, &kernel->maxerror);
    fclose(file);
    return read == 6;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = syscall(SYS_clock_gettime, clock, time);
    long ahead;
    int state;
    struct timex kernel;
    if (done == 0 && clock == CLOCK_REALTIME && answers(&ahead, &state, &kernel)) {
        long nanoseconds = time->tv_nsec + ahead % 1000000 * 1000 + 1000000000;
        time->tv_sec += ahead / 1000000 + nanoseconds / 1000000000 - 1;
        time->tv_nsec = nanoseconds % 1000000000;
    }
    return done;
}

int adjtimex(struct timex *kernel) {
    long ahead;
    int state;
    memset(kernel, 0, sizeof *kernel);
    return answers(&ahead, &state, kernel) ? state : -1;
}
"#;

/// A server whose clock is the test's.
struct Fake {
    folder: TempDir,
    cluster: Cluster,
}

/// What the kernel says.
const SYNCHRONISED: &str = "0 8193 0 500 90000";
const UNSYNCHRONISED: &str = "5 64 0 16000000 16000000";
const IMPRECISE: &str = "0 8193 0 150000 200000";

impl Fake {
    fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (source, library) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
        fs::write(&source, SHIM).unwrap();
        succeed(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source));
        fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
        let answers = folder.path().join("answers");
        fs::write(&answers, format!("0 {SYNCHRONISED}")).unwrap();
        let cluster = Cluster::builder(name)
            .conf("fsync", "off")
            .conf("zeroauth_audit.worker", "off")
            .conf("zeroauth_audit.max_clock_error", "100ms")
            .environment("LD_PRELOAD", &library.display().to_string())
            .environment("FAKE_CLOCK", &answers.display().to_string())
            .start()
            .unwrap();
        cluster.client().run("CREATE EXTENSION zeroauth_audit");
        Self { folder, cluster }
    }

    /// Replaced in one step: the server reads it all the time.
    fn answer(&self, ahead_ms: i64, kernel: &str) {
        let draft: PathBuf = self.folder.path().join("draft");
        fs::write(&draft, format!("{} {kernel}", ahead_ms * 1000)).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(&draft, self.folder.path().join("answers")).unwrap();
    }
}

fn forget(client: &mut Client) {
    client
        .run("SELECT zeroauth_audit_internal.resolve_alert(fingerprint, 'known') FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved'");
}

#[test]
fn a_clock_that_is_set_is_told_and_time_that_passes_is_not() {
    let fake = Fake::start("clock_step");
    let mut client = fake.cluster.client();
    for ahead in [0, 0, 60, -20, 90] {
        fake.answer(ahead, SYNCHRONISED);
        look(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0], "{ahead} ms");
    }
    // Small steps do not add up unseen.
    fake.answer(130, SYNCHRONISED);
    look(&mut client);
    assert_eq!(alerts(&mut client), ["clock_step|2|open|the server's clock was set forward by 0.130 s"]);
    forget(&mut client);
    for (ahead, message) in [
        (5130, "forward by 5.000 s"),
        (-3_594_870, "back by 3600.000 s"),
        (86_400_000, "forward by 89994.870 s"),
    ] {
        fake.answer(ahead, SYNCHRONISED);
        look(&mut client);
        assert_eq!(alerts(&mut client), [format!("clock_step|2|open|the server's clock was set {message}")]);
        look(&mut client);
        assert_eq!(client.line("SELECT max(occurrences) FROM zeroauth_audit_internal.alerts"), "1");
        forget(&mut client);
    }
    // Neither a restart nor a crash is a step; one meanwhile is.
    drop(client);
    fake.cluster.restart().unwrap();
    let mut client = fake.cluster.client();
    look(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    drop(client);
    fake.cluster.crash().unwrap();
    fake.answer(86_400_500, SYNCHRONISED);
    fake.cluster.start_again().unwrap();
    let mut client = fake.cluster.client();
    look(&mut client);
    assert_eq!(alerts(&mut client), ["clock_step|2|open|the server's clock was set forward by 0.500 s"]);
    forget(&mut client);
    // Another boot of the machine.
    client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tripwire_state SET boot = 'another', booted_at = 17");
    look(&mut client);
    assert_eq!(alerts(&mut client).iter().filter(|line| line.starts_with("clock_step")).count(), 0);
}

#[test]
fn red_team_f3_a_clock_that_nobody_synchronises_is_told_until_somebody_does() {
    let fake = Fake::start("clock_unsynchronised");
    let mut client = fake.cluster.client();
    let health = "SELECT h ->> 'state', h -> 'reasons', h -> 'synchronised' FROM zeroauth_audit_internal.health_time() h";
    assert_eq!(client.line(health), "ok|[]|true");
    for (kernel, message, synchronised) in [
        (UNSYNCHRONISED, "nobody synchronises the clock", "false"),
        (IMPRECISE, "the estimated error of the clock is more than is allowed", "true"),
    ] {
        fake.answer(0, kernel);
        look(&mut client);
        look(&mut client);
        assert_eq!(alerts(&mut client), [format!("clock_step|3|open|{message}")]);
        assert_eq!(client.line(health), format!(r#"degraded|["clock_unsynchronised"]|{synchronised}"#));
        fake.answer(0, SYNCHRONISED);
        look(&mut client);
        assert_eq!(alerts(&mut client), [] as [&str; 0]);
        assert_eq!(client.line(health), "ok|[]|true");
    }
    // Where nobody can mend it, in a container for example, a person takes note.
    fake.answer(0, UNSYNCHRONISED);
    look(&mut client);
    client.run("SELECT audit_alert_acknowledge(id, 'the host keeps it') FROM audit_alerts WHERE kind = 'clock_step' AND state = 'open'");
    assert_eq!(client.line(health), "ok|[]|false");
    fake.answer(0, SYNCHRONISED);
    look(&mut client);
    fake.answer(0, UNSYNCHRONISED);
    look(&mut client);
    assert_eq!(client.line(health), r#"degraded|["clock_unsynchronised"]|false"#);
    fake.answer(0, SYNCHRONISED);
    look(&mut client);
    // Told not to look: only a step of more than a second counts.
    client.run("ALTER SYSTEM SET zeroauth_audit.max_clock_error = -1");
    client.run("SELECT pg_reload_conf()");
    wait_until(DEADLINE, "the setting", || client.line("SHOW zeroauth_audit.max_clock_error") == "-1");
    fake.answer(900, UNSYNCHRONISED);
    look(&mut client);
    assert_eq!(alerts(&mut client), [] as [&str; 0]);
    assert_eq!(client.line(health), "ok|[]|false");
    fake.answer(2900, UNSYNCHRONISED);
    look(&mut client);
    assert_eq!(alerts(&mut client), ["clock_step|2|open|the server's clock was set forward by 2.900 s"]);
}
