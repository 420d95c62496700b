//! What a cluster is made with, and the making of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::base;
use crate::cluster::{Cluster, Parts};
use crate::environment::OsUser;
use crate::installation::Installation;
use crate::{relocated, stage, sweep, template};

/// Numbers the clusters of this process: part of the folder's name, and of the port in the socket's name.
static NUMBER: AtomicU16 = AtomicU16::new(0);

/// Describes a cluster before it is started.
#[derive(Debug)]
pub struct Builder {
    name: String,
    preload: bool,
    home: Option<PathBuf>,
    conf: Vec<(String, String)>,
    data: Option<PathBuf>,
    stage: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            preload: true,
            home: None,
            conf: Vec::new(),
            data: None,
            stage: None,
            environment: Vec::new(),
        }
    }

    /// Whether the library is in `shared_preload_libraries`; it is, unless told otherwise.
    #[must_use]
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// Sets one parameter in postgresql.conf; `value` is written in quotes. A later one wins, also over the harness's own.
    #[must_use]
    pub fn conf(mut self, key: &str, value: &str) -> Self {
        self.conf.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Uses this folder, which must not exist yet, instead of a fresh one named after the process. Such a cluster is not
    /// swept when its process dies: whoever chose the folder removes it.
    #[must_use]
    pub fn home(mut self, home: &Path) -> Self {
        self.home = Some(home.to_path_buf());
        self
    }

    /// Takes over this data directory, such as what `pg_basebackup` wrote, instead of a fresh one. It is moved into the
    /// cluster's own folder.
    #[must_use]
    pub fn data(mut self, data: &Path) -> Self {
        self.data = Some(data.to_path_buf());
        self
    }

    /// Finds the extension in this folder, laid out like the staged one, instead of there.
    #[must_use]
    pub fn stage(mut self, stage: &Path) -> Self {
        self.stage = Some(stage.to_path_buf());
        self
    }

    /// Sets one environment variable of the server.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the cluster, starts it and waits until it answers.
    pub fn start(self) -> Result<Cluster> {
        let user = OsUser::current()?;
        let installation = Installation::find()?;
        let base = base::folder(user)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let home = self
            .home
            .clone()
            .unwrap_or_else(|| base.join(format!("{}-{}-{number}", self.name, process::id())));
        let sockets = tempfile::Builder::new()
            .prefix("zaa-")
            .rand_bytes(6)
            .tempdir_in("/tmp")
            .context("cannot make a folder for the socket in /tmp")?;
        user.own(sockets.path())?;
        {
            let _lock = base::lock(&base)?;
            sweep::sweep(&base);
            fs::create_dir(&home).with_context(|| format!("cannot make {}", home.display()))?;
            user.own(&home)?;
            match &self.data {
                Some(data) => fs::rename(data, home.join("data"))
                    .with_context(|| format!("cannot move {}", data.display()))?,
                None => template::copy(&base, &home.join("data"), user, &installation)?,
            }
        }
        // A sweep, and a command in a later process, find the socket folder by this link.
        symlink(sockets.path(), home.join("socket")).context("cannot link the socket folder")?;
        let port = 54_000 + number % 1000;
        let installation = self.configure(&home, &sockets, port, user, installation)?;
        Cluster::start(Parts { home, sockets, port, user, installation, environment: self.environment })
    }

    /// Writes the settings; returns the installation that the server is to run from.
    fn configure(
        &self,
        home: &Path,
        sockets: &TempDir,
        port: u16,
        user: OsUser,
        installation: Installation,
    ) -> Result<Installation> {
        let stage = self.stage.clone().unwrap_or_else(stage::staged_folder);
        let stage = stage::readable(stage, home, user, &installation)?;
        let mut from = installation.clone();
        if self.preload && stage.is_none() {
            return Err(stage::missing().into());
        }
        let mut lines = String::from("\n# zeroauth_audit: written by the harness\n");
        let mut set = |key: &str, value: &str| lines.push_str(&format!("{key} = {}\n", quoted(value)));
        set("listen_addresses", "");
        set("unix_socket_directories", &sockets.path().to_string_lossy());
        set("port", &port.to_string());
        set("max_connections", "200");
        set("shared_buffers", "64MB");
        set("log_line_prefix", "%m [%p] %e ");
        set("logging_collector", "off");
        if let Some(stage) = stage {
            if installation.major() < 18 && installation.is_of_debian() {
                set("extension_destdir", &stage.to_string_lossy());
            } else if installation.major() < 18 {
                from = relocated::make(&home.join("server"), &stage, user, &installation)?;
            } else {
                let sharedir = stage::below(&stage, &installation.sharedir);
                set("extension_control_path", &format!("{}:$system", sharedir.display()));
            }
            set(
                "dynamic_library_path",
                &format!("{}:$libdir", stage::library_folder(&stage, &installation).display()),
            );
        }
        if self.preload {
            set("shared_preload_libraries", "zeroauth_audit");
        }
        // Whether somebody synchronises the clock of this machine is not what is tested.
        set("zeroauth_audit.max_clock_error", "-1");
        for (key, value) in &self.conf {
            set(key, value);
        }
        let path = home.join("data/postgresql.conf");
        let mut text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.push_str(&lines);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(from)
    }
}

/// A value as postgresql.conf wants it: in single quotes, with quotes and backslashes doubled.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_value_cannot_end_its_own_quotes() {
        assert_eq!(quoted(r"it's C:\x"), r"'it''s C:\\x'");
    }
}
