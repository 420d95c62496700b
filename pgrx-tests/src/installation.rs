//! The PostgreSQL installation that clusters are made of, as its `pg_config` describes it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::environment::BadEnvironment;

/// Where one PostgreSQL installation keeps its programs and libraries.
#[derive(Debug, Clone)]
pub struct Installation {
    /// The `pg_config` that was asked.
    pub pg_config: PathBuf,
    /// Programs: `initdb`, `postgres`, `psql`, `pgbench`.
    pub bindir: PathBuf,
    /// Libraries; `pg_regress` and `pg_isolation_regress` lie under `pgxs/src/test` in it.
    pub pkglibdir: PathBuf,
    /// Shared files; extensions are in `extension` under it.
    pub sharedir: PathBuf,
    /// What `pg_config --version` prints, such as `PostgreSQL 15.20 (Debian 15.20-0+deb12u1)`.
    pub version: String,
}

impl Installation {
    /// The installation named by `PG_CONFIG`, else Debian's PostgreSQL 15, else the first `pg_config` in the PATH.
    pub fn find() -> Result<Self> {
        Self::at(&pg_config_path())
    }

    /// The installation of one `pg_config`.
    pub fn at(pg_config: &Path) -> Result<Self> {
        Ok(Self {
            pg_config: pg_config.to_path_buf(),
            bindir: ask(pg_config, "--bindir")?.into(),
            pkglibdir: ask(pg_config, "--pkglibdir")?.into(),
            sharedir: ask(pg_config, "--sharedir")?.into(),
            version: ask(pg_config, "--version")?,
        })
    }

    /// The major version, such as 15; 0 when `pg_config` names none.
    #[must_use]
    pub fn major(&self) -> u32 {
        major(&self.version).unwrap_or(0)
    }

    /// Whether Debian built it, whose servers know `extension_destdir`.
    pub(crate) fn is_of_debian(&self) -> bool {
        self.version.contains("(Debian ")
    }

    /// Whether it comes with the libraries of PostgreSQL's `contrib`.
    #[must_use]
    pub fn has_contrib(&self) -> bool {
        self.pkglibdir.join("pg_stat_statements.so").exists()
    }
}

fn pg_config_path() -> PathBuf {
    if let Some(path) = env::var_os("PG_CONFIG") {
        return path.into();
    }
    let debian = Path::new("/usr/lib/postgresql/15/bin/pg_config");
    if debian.exists() { debian.into() } else { "pg_config".into() }
}

fn major(version: &str) -> Option<u32> {
    version.split_whitespace().nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn ask(pg_config: &Path, flag: &str) -> Result<String> {
    let missing = |why: String| {
        BadEnvironment(format!(
            "{} does not work ({why}): apt-get install postgresql-15 postgresql-server-dev-15, or set PG_CONFIG",
            pg_config.display()
        ))
    };
    let output = Command::new(pg_config).arg(flag).output().map_err(|e| missing(e.to_string()))?;
    if !output.status.success() {
        return Err(missing(format!("{} gives {}", flag, output.status)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        assert_eq!(major("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(major("PostgreSQL 18beta1"), Some(18));
        assert_eq!(major(""), None);
    }
}
