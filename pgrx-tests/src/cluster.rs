//! A running cluster: connections, client programs, crashes and restarts.
//!
//! Dropping it stops its postmaster at once and removes its folders, and panics when its log tells of trouble inside the
//! server (see [`Cluster::trouble`]), so that every test looks there; [`Cluster::keep`] leaves it running.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::builder::Builder;
use crate::environment::OsUser;
use crate::installation::Installation;
use crate::{postmaster, trouble};

/// The database every cluster has, and the one connections go to unless told otherwise.
const DATABASE: &str = "audit";
/// The superuser of every cluster.
const SUPERUSER: &str = "postgres";

/// What a cluster is made of, before and while it runs.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) home: PathBuf,
    pub(crate) sockets: TempDir,
    pub(crate) port: u16,
    pub(crate) user: OsUser,
    pub(crate) installation: Installation,
    pub(crate) environment: Vec<(String, String)>,
}

/// A private PostgreSQL server; see the crate's description.
#[derive(Debug)]
pub struct Cluster {
    parts: Parts,
    /// The postmaster, while it runs. Behind a lock, so that one thread can crash and restart the server while others
    /// share the cluster to connect.
    pid: Mutex<Option<i32>>,
    /// How many of its processes were killed on purpose.
    killed: AtomicUsize,
    /// Parts of log lines that a test brings about on purpose.
    asked_for: Mutex<Vec<String>>,
}

/// How a `psql` run ended and what it printed.
#[derive(Debug)]
pub struct PsqlOutput {
    /// Exit status: 0 fine, 1 fatal error, 2 connection lost, 3 an SQL error stopped the script.
    pub status: ExitStatus,
    /// Rows, unaligned and without headers.
    pub stdout: String,
    /// Errors and notices, with their SQLSTATE.
    pub stderr: String,
}

impl Cluster {
    /// Describes a cluster; `name` becomes part of its folder's name.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// Starts a cluster with the library preloaded and the extension created in the database `audit`. It has no worker, which
    /// would add events of its own to the trail: alerts about what a test does to it.
    pub fn audited(name: &str) -> Result<Self> {
        let cluster = Self::builder(name).conf("zeroauth_audit.worker", "off").start()?;
        cluster
            .try_client()?
            .batch_execute("CREATE EXTENSION zeroauth_audit")
            .context("cannot create the extension")?;
        Ok(cluster)
    }

    pub(crate) fn start(parts: Parts) -> Result<Self> {
        // Made first, so that a failed start is cleaned up by the drop.
        let cluster =
            Self { parts, pid: Mutex::new(None), killed: AtomicUsize::new(0), asked_for: Mutex::default() };
        cluster.start_again()?;
        Ok(cluster)
    }

    /// A superuser's connection to the database `audit`. Panics when there is none: a test cannot go on without.
    #[must_use]
    #[track_caller]
    pub fn client(&self) -> Client {
        match self.try_client() {
            Ok(client) => client,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// A superuser's connection to the database `audit`.
    pub fn try_client(&self) -> Result<Client> {
        self.connect(SUPERUSER, DATABASE)
    }

    /// A connection of role `user` to `database`; no password is asked.
    pub fn connect(&self, user: &str, database: &str) -> Result<Client> {
        self.config()
            .user(user)
            .dbname(database)
            .connect(NoTls)
            .with_context(|| format!("cannot connect to {database} as {user}"))
    }

    /// How to reach this server, for a connection with options of its own; role and database are still to be set.
    #[must_use]
    pub fn config(&self) -> postgres::Config {
        let mut config = Client::configure();
        config.host_path(self.socket_dir()).port(self.parts.port).connect_timeout(Duration::from_secs(20));
        config
    }

    /// Runs `sql` through psql as a superuser, one statement after the other, stopping at the first error.
    pub fn psql(&self, database: &str, sql: &str) -> Result<PsqlOutput> {
        let mut child = self
            .command("psql")
            .args([
                "-X",
                "-q",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-v",
                "VERBOSITY=verbose",
                "-v",
                "SHOW_CONTEXT=never",
                "-d",
                database,
                "-f",
                "-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run psql")?;
        let input = child.stdin.take();
        let sql = sql.to_owned();
        // Written from a thread of its own: a long script and long results would otherwise wait for each other. psql
        // closes the pipe early when a statement fails, so a failed write says nothing that the status does not.
        let writer = std::thread::spawn(move || {
            if let Some(mut input) = input {
                let _ = input.write_all(sql.as_bytes());
            }
        });
        let output = child.wait_with_output().context("cannot read from psql")?;
        let _ = writer.join();
        Ok(PsqlOutput {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// A client program (`pg_dump`, or a path) run as the cluster's user, in the cluster's own folder, with PGHOST,
    /// PGPORT, PGUSER and PGDATABASE set for it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = Path::new(program.as_ref());
        let installed = self.parts.installation.bindir.join(program);
        let mut command = self.parts.user.command(if installed.exists() { &installed } else { program });
        for (name, _) in std::env::vars_os() {
            // A PGSERVICE or PGOPTIONS of the caller's shell must not lead the client elsewhere.
            if name.to_string_lossy().starts_with("PG") && name != "PG_CONFIG" {
                command.env_remove(name);
            }
        }
        command
            .env("PGHOST", self.socket_dir())
            .env("PGPORT", self.parts.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGDATABASE", DATABASE)
            .current_dir(&self.parts.home);
        command
    }

    /// Stops the server as a crash would: at once, no shutdown checkpoint, recovery at the next start.
    pub fn crash(&self) -> Result<()> {
        self.stop(Signal::QUIT)
    }

    /// Starts the server again on the same data, after [`Cluster::crash`] or [`Cluster::shut_down`].
    pub fn start_again(&self) -> Result<()> {
        let mut pid = self.postmaster();
        if pid.is_none() {
            let Parts { user, installation, environment, .. } = &self.parts;
            *pid = Some(postmaster::start(
                &self.data_dir(),
                &self.log_file(),
                *user,
                installation,
                environment,
            )?);
        }
        Ok(())
    }

    /// Stops the server in good order ("fast": sessions are ended, then a shutdown checkpoint).
    pub fn shut_down(&self) -> Result<()> {
        self.stop(Signal::INT)
    }

    /// Stops the server in good order and starts it again.
    pub fn restart(&self) -> Result<()> {
        self.shut_down()?;
        self.start_again()
    }

    fn stop(&self, signal: Signal) -> Result<()> {
        let mut pid = self.postmaster();
        if let Some(running) = *pid {
            postmaster::stop(running, &self.data_dir(), signal)?;
            *pid = None;
        }
        Ok(())
    }

    /// Kills one process of this server with SIGKILL, as the kernel does when memory runs out; the postmaster then
    /// restarts all others. Returns whether there was such a process.
    pub fn kill(&self, pid: i32) -> Result<bool> {
        let parent = fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .and_then(|stat| stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok());
        if parent.is_none() || parent != self.pid() {
            return Ok(false);
        }
        let pid = Pid::from_raw(pid).context("not a process id")?;
        self.killed.fetch_add(1, Ordering::Relaxed);
        kill_process(pid, Signal::KILL).context("cannot kill a server process")?;
        Ok(true)
    }

    /// The lines of the log that no test ever wants: a PANIC, a process that died of a signal nobody sent, a damaged
    /// table, or PostgreSQL's warnings about what was left open at the end of a transaction. Looked at by every drop.
    #[must_use]
    pub fn trouble(&self) -> Vec<String> {
        let log = self.log();
        let asked_for = self.asked_for.lock().unwrap_or_else(PoisonError::into_inner);
        trouble::lines(&log, self.killed.load(Ordering::Relaxed))
            .into_iter()
            .filter(|line| !asked_for.iter().any(|part| line.contains(part)))
            .map(str::to_owned)
            .collect()
    }

    /// Says that this test brings about lines of the log with `part` in them: they are no [`Cluster::trouble`].
    pub fn asks_for(&self, part: &str) {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner).push(part.to_owned());
    }

    /// The postmaster's process id, locked. A thread that panicked while it held the lock left a valid value behind.
    fn postmaster(&self) -> MutexGuard<'_, Option<i32>> {
        self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.parts.home.join("data")
    }

    /// The folder of the unix socket: the host to connect to.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.parts.sockets.path()
    }

    /// The port: only part of the socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.parts.port
    }

    /// The process id of the postmaster, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        *self.postmaster()
    }

    /// The PostgreSQL installation this server runs from.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.parts.installation
    }

    /// Lets go of the cluster: it keeps running and its folders stay. [`crate::stop_kept`] ends it.
    pub fn keep(mut self) {
        self.parts.home = PathBuf::new();
        self.parts.sockets.disable_cleanup(true);
    }

    fn log_file(&self) -> PathBuf {
        self.parts.home.join("server.log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.parts.home.as_os_str().is_empty() {
            return;
        }
        let data = self.data_dir();
        let pid = *self.postmaster();
        if let Some(pid) = pid.or_else(|| postmaster::pid_of(&data)) {
            let _ = postmaster::stop(pid, &data, Signal::QUIT);
        }
        let trouble = self.trouble();
        remove(&self.parts.home);
        assert!(
            trouble.is_empty() || std::thread::panicking(),
            "trouble in the server's log:\n{}",
            trouble.join("\n")
        );
    }
}

/// Removes a folder that dying children of the postmaster may still write to for a moment.
pub(crate) fn remove(folder: &Path) {
    for _ in 0..100 {
        if fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            return;
        }
        sleep(Duration::from_millis(20));
    }
}
