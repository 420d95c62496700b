//! What the harness needs from the machine: the operating-system user that runs the servers, and where the workspace is.

use std::fmt;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The machine lacks something a person has to provide; the text is one line that says what to do.
#[derive(Debug)]
pub struct BadEnvironment(pub String);

impl fmt::Display for BadEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadEnvironment {}

/// The user that owns and runs the clusters: `postgres` when we are root, because the server refuses root; else us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OsUser {
    /// We are an ordinary user and run everything ourselves.
    Ourselves,
    /// We are root and run everything as `postgres`.
    Postgres {
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

impl OsUser {
    /// Finds out which user runs the clusters; a root without a `postgres` user is a [`BadEnvironment`].
    pub fn current() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        match (id("-u")?, id("-g")?) {
            (Some(uid), Some(gid)) => Ok(Self::Postgres { uid, gid }),
            _ => Err(BadEnvironment(
                "running as root, and there is no user postgres to run the server: apt-get install postgresql-common, or run as an ordinary user".into(),
            )
            .into()),
        }
    }

    /// A command that runs `program` as this user, with the caller's environment but no RUST_BACKTRACE, which would
    /// leak backtraces into the DETAIL of server errors.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let mut command = match self {
            Self::Ourselves => Command::new(program),
            Self::Postgres { .. } => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
        };
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command
    }

    /// Gives one file or folder to this user.
    pub fn own(&self, path: &Path) -> Result<()> {
        if let Self::Postgres { uid, gid } = self {
            chown(path, Some(*uid), Some(*gid))
                .with_context(|| format!("cannot give {} to postgres", path.display()))?;
        }
        Ok(())
    }

    /// Whether this user passes `test <flag> <path>`, which includes entering every folder above it.
    pub fn can(&self, flag: &str, path: &Path) -> Result<bool> {
        let status = self
            .command("test")
            .arg(flag)
            .arg(path)
            .current_dir("/")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run commands as the server's user")?;
        Ok(status.success())
    }
}

/// One id of the user `postgres`, or None when there is no such user.
fn id(flag: &str) -> Result<Option<u32>> {
    let output = Command::new("id").args([flag, "postgres"]).output().context("cannot run id")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

/// The root folder of the workspace this harness was compiled in.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
