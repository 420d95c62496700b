//! One server process seen from outside: what it holds, how much memory it may have, and its end.

use std::fs;

use postgres::Client;
use rustix::process::{Pid, Signal, kill_process};
use zeroauth_audit_tests::{OsUser, wait_until};

use super::{DEADLINE, Sql};

/// The fourth field of the extension's own locks: chain and tenant.
const OURS: &str = "locktype = 'advisory' AND objsubid IN (23105, 23106)";

/// The process that serves `client`.
pub struct Backend(i32);

impl Backend {
    #[track_caller]
    pub fn of(client: &mut Client) -> Self {
        Self(client.line("SELECT pg_backend_pid()").parse().unwrap())
    }

    pub fn pid(&self) -> i32 {
        self.0
    }

    /// Waits until the process is in the middle of appending: it holds a chain.
    #[track_caller]
    pub fn wait_until_it_appends(&self, look: &mut Client) {
        let sql = format!("SELECT count(*) > 0 FROM pg_locks WHERE pid = {} AND granted AND {OURS}", self.0);
        wait_until(DEADLINE, "a chain to be held", || look.line(&sql) == "t");
    }

    /// Waits until the statement of the process has run for a moment.
    #[track_caller]
    pub fn wait_until_it_runs(&self, look: &mut Client) {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND state = 'active' AND query_start < clock_timestamp() - interval '100 ms'",
            self.0
        );
        wait_until(DEADLINE, "the statement to run", || look.line(&sql) == "1");
    }

    /// Lets the process take `more` bytes of address space beyond what it has; `None` for as much as it likes.
    #[track_caller]
    pub fn limit_memory(&self, more: Option<u64>) {
        let limit = more.map_or("unlimited:".to_owned(), |more| format!("{}:", self.address_space() + more));
        // As the server's own user: root in a container may not touch the limits of others.
        let output = OsUser::current()
            .unwrap()
            .command("prlimit")
            .args(["--pid", &self.0.to_string(), &format!("--as={limit}")])
            .current_dir("/")
            .output()
            .expect("prlimit of util-linux runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn address_space(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends the process as the kernel does when the machine is out of memory.
    pub fn kill(&self) {
        kill_process(Pid::from_raw(self.0).unwrap(), Signal::KILL).unwrap();
    }
}

/// Waits until no process holds a lock of the extension: an ended one gives its locks back a moment after its client knows.
#[track_caller]
pub fn wait_until_nothing_is_held(look: &mut Client) {
    let sql = format!("SELECT count(*) FROM pg_locks WHERE {OURS}");
    wait_until(DEADLINE, "every chain to be free", || look.line(&sql) == "0");
}

/// Asserts that no process holds a lock of the extension, right now.
#[track_caller]
pub fn assert_nothing_is_held(look: &mut Client) {
    let sql = format!("SELECT pid, objid, classid, objsubid FROM pg_locks WHERE {OURS}");
    assert_eq!(look.lines(&sql), [] as [String; 0], "locks held");
}

/// How many locks of the extension the session of `client` holds.
#[track_caller]
pub fn held_by(client: &mut Client) -> u32 {
    client
        .line(&format!("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND {OURS}"))
        .parse()
        .unwrap()
}
