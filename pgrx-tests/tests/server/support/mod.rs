//! The cluster the tests share, and the few ways they talk to it.
//!
//! The cluster lives as long as the test program. A static is never dropped, so a small watcher process holds the read
//! end of a pipe whose write end is ours: it ends the server and removes its folder when we are gone, however we went.

pub mod anchors;
pub mod audit;
pub mod backend;
pub mod clean_log;
pub mod examples;
pub mod pages;
pub mod receiver;
pub mod sealed;
pub mod small_disk;
pub mod sql;
pub mod witness;
pub mod worker;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use postgres::Client;
use zeroauth_audit_tests::{Cluster, Installation, wait_until};

pub use audit::{assert_replays, assert_whole, findings, places, verdict};
pub use backend::{Backend, assert_nothing_is_held, held_by, wait_until_nothing_is_held};
pub use clean_log::{assert_clean_log, assert_clean_log_but};
pub use pages::pages;
pub use small_disk::SmallDisk;
pub use sql::Sql;

/// How long a test polls for something that normally takes milliseconds.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The cluster shared by all tests that leave the server itself alone.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| {
        // The extension has to get along with another one that is preloaded.
        let beside = if Installation::find().unwrap().has_contrib() { "pg_stat_statements," } else { "" };
        let cluster = Cluster::builder("shared")
            .conf("shared_preload_libraries", &format!("{beside}zeroauth_audit"))
            // Hundreds of databases would have as many workers; those are tested on servers of their own.
            .conf("zeroauth_audit.worker", "off")
            .conf("max_prepared_transactions", "20")
            .conf("max_connections", "150")
            // What would hang for ever fails instead; tests of waiting set shorter ones.
            .conf("lock_timeout", "30s")
            .conf("statement_timeout", "2min")
            // Nothing here crashes the machine, and hundreds of databases are made.
            .conf("fsync", "off")
            .conf("autovacuum_naptime", "5min")
            .start()
            .expect("the shared cluster starts");
        end_with_this_process(&cluster);
        let mut postgres = cluster.connect("postgres", "postgres").unwrap();
        postgres.run("CREATE DATABASE audited");
        cluster.connect("postgres", "audited").unwrap().run("CREATE EXTENSION zeroauth_audit");
        cluster
    })
}

fn end_with_this_process(cluster: &Cluster) {
    let pid = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap();
    let home = cluster.data_dir().parent().unwrap().to_path_buf();
    let watcher = Command::new("sh")
        .args([
            "-c",
            r#"cat; kill -QUIT "$1"; while kill -0 "$1"; do sleep 0.02; done; rm -rf "$2" "$3""#,
            "sh",
            pid,
        ])
        .arg(home)
        .arg(cluster.socket_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C reaches the whole process group of the terminal; the watcher has to outlive it.
        .process_group(0)
        .spawn()
        .expect("the watcher starts");
    // Neither waited for nor dropped: its stdin is the pipe that says that we live.
    std::mem::forget(watcher);
}

/// One database of the shared cluster, for one test.
pub struct Database {
    pub name: String,
}

impl Database {
    /// A database with the extension, superuser's work all done.
    pub fn audited(name: &str) -> Self {
        Self::create(name, "TEMPLATE audited")
    }

    /// A database without the extension.
    pub fn empty(name: &str) -> Self {
        Self::create(name, "TEMPLATE template0")
    }

    /// A database with the given options of CREATE DATABASE. `name` may be odd; a number is appended to it.
    pub fn create(name: &str, options: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut postgres = shared().connect("postgres", "postgres").unwrap();
        postgres.run(&format!("CREATE DATABASE {} {options}", quoted(&name)));
        Self { name }
    }

    /// A superuser's connection.
    pub fn client(&self) -> Client {
        self.client_as("postgres")
    }

    pub fn client_as(&self, role: &str) -> Client {
        shared().connect(role, &self.name).unwrap()
    }

    /// Makes a login role without any right; its name is this database's own, since roles belong to the whole cluster.
    pub fn role(&self, what: &str) -> String {
        let role = format!("{}_{what}", self.name);
        self.client().run(&format!("CREATE ROLE {} LOGIN", quoted(&role)));
        role
    }

    /// Makes a login role that has one duty.
    pub fn on_duty(&self, duty: &str) -> String {
        let role = self.role(duty);
        self.client().run(&format!("SELECT audit_grant('{role}', '{duty}')"));
        role
    }
}

impl Drop for Database {
    /// Every test that leaves the shared server looks into its log. Trouble may come from a neighbour: the line says who.
    fn drop(&mut self) {
        let trouble = shared().trouble();
        assert!(
            trouble.is_empty() || std::thread::panicking(),
            "trouble in the server's log:\n{}",
            trouble.join("\n")
        );
    }
}

/// Runs a command that has to end well and without a word of an error, and returns what it printed.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let well = output.status.success() && !stderr.to_lowercase().contains("error");
    assert!(well, "{command:?}: {stderr}\n{stdout}");
    stdout
}

/// A base backup of `cluster`, in its own folder.
#[track_caller]
pub fn base_backup(cluster: &Cluster, options: &[&str]) -> PathBuf {
    let path = cluster.data_dir().with_file_name("backup");
    succeed(cluster.command("pg_basebackup").args(["-c", "fast", "-D"]).arg(&path).args(options));
    path
}

/// A hot standby of `primary`, whose settings come along with the backup.
#[track_caller]
pub fn standby_of(primary: &Cluster, name: &str) -> Cluster {
    Cluster::builder(name).data(&base_backup(primary, &["-X", "stream", "-R"])).start().unwrap()
}

/// Makes a standby a server of its own. `pg_promote()` would wait with a snapshot, which what is replayed last may cancel.
#[track_caller]
pub fn promote(standby: &mut Client) {
    standby.run("SELECT pg_promote(wait => false)");
    wait_until(DEADLINE, "the promotion", || standby.line("SELECT pg_is_in_recovery()") == "f");
}

/// An identifier in double quotes.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// Sets a flag when a scope ends, also by a failed assertion: threads that run until then would go on for ever.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
