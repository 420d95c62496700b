//! Targets as their rows say: what each driver needs, put together from the row, the settings and the public keys. Nothing is opened
//! here; the files of a configuration are read by the thread that uses them ([`super::driver_thread`]).

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;
use serde::Deserialize;
use serde_json::Value;
use zeroauth_audit_anchor::Failure as DriverFailure;
use zeroauth_audit_anchor::driver::Driver;
use zeroauth_audit_anchor::evm::{self, EvmDriver};
use zeroauth_audit_anchor::file::{self, FileDriver};
use zeroauth_audit_anchor::rfc3161::{self, Rfc3161Driver};

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::settings;
use crate::pg::spi::Session;

/// Every kind of target.
pub const DRIVERS: [&str; 3] = ["evm", "file", "rfc3161"];
/// The folder of anchor files without a configured place.
const FOLDER: &str = "zeroauth_audit_anchors";

/// What a `file` target says; what it does not say is the extension's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileFields {
    path: Option<PathBuf>,
    key_file: Option<PathBuf>,
    earlier_keys: Vec<String>,
}

/// What a driver is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// `own_folder`: to be made first.
    File { config: file::Config, own_folder: Option<PathBuf> },
    /// A contract.
    Evm(Box<evm::Config>),
    /// An authority.
    Rfc3161(rfc3161::Config),
    /// Nothing can be opened, and why.
    Unusable(String),
}

impl Config {
    /// Opens the driver: reads files, and makes no call.
    pub fn open(&self) -> Result<Box<dyn Driver>, DriverFailure> {
        match self {
            Self::File { config, own_folder } => {
                if let Some(folder) = own_folder {
                    make(folder).map_err(|reason| DriverFailure::File { reason })?;
                }
                Ok(Box::new(FileDriver::open(config)?))
            }
            Self::Evm(config) => Ok(Box::new(EvmDriver::open((**config).clone())?)),
            Self::Rfc3161(config) => Ok(Box::new(Rfc3161Driver::open(config)?)),
            Self::Unusable(problem) => Err(DriverFailure::Configuration { problem: problem.clone() }),
        }
    }

    /// Whether the target itself keeps anchors, and can be queried for them.
    pub fn keeps(&self) -> bool {
        !matches!(self, Self::Rfc3161(_))
    }
}

fn make(folder: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("cannot make the folder of the anchor file: {error}"))
        }
        _ => Ok(()),
    }
}

/// A target that is enabled.
pub struct Target {
    /// What its driver is opened with.
    pub config: Config,
    /// The highest epoch that a batch was given.
    pub last_epoch: u64,
    /// When the job `anchor_check` made its query, if that is not answered yet.
    pub queried_at: Option<String>,
}

/// Every target that is enabled, by name.
pub fn enabled(session: &Session, schema: &str) -> Result<BTreeMap<String, Target>, Failure> {
    let mut keys = Vec::new();
    session.all(&format!("SELECT vkey FROM {schema}.keys ORDER BY vkey"), &[], |row| {
        keys.extend(row.text(0)?);
        Ok(())
    })?;
    let sql = format!(
        "SELECT name, driver, config::pg_catalog.text, last_epoch, CASE WHEN checked_at IS DISTINCT FROM check_requested_at THEN check_requested_at::pg_catalog.text END
         FROM {schema}.anchor_targets WHERE enabled"
    );
    let mut found = BTreeMap::new();
    session.all(&sql, &[], |row| {
        let text = |n| Ok::<_, Failure>(row.text(n)?.unwrap_or_default());
        let config =
            parse(&text(1)?, &text(2)?).map_or_else(Config::Unusable, |fields| fields.complete(&keys));
        let last_epoch = row.count(3).unwrap_or(0);
        found.insert(text(0)?, Target { config, last_epoch, queried_at: row.text(4)? });
        Ok(())
    })?;
    Ok(found)
}

/// A configuration as it is in the row.
pub enum Fields {
    /// What is not said is the extension's own.
    File(FileFields),
    /// All of it.
    Other(Config),
}

/// Reads a configuration, and opens no file. The error names the field that is wrong.
pub fn parse(driver: &str, config: &str) -> Result<Fields, String> {
    let value: Value = serde_json::from_str(config).map_err(|error| error.to_string())?;
    // serde's own words, without a place in the text and with the quotes that every other message has.
    let words = |error: serde_json::Error| {
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or_default().replace('`', "\"")
    };
    match driver {
        "file" => {
            let fields: FileFields = serde_json::from_value(value).map_err(words)?;
            let relative =
                [&fields.path, &fields.key_file].into_iter().flatten().any(|path| !path.is_absolute());
            if relative { Err("has a path that is not absolute".into()) } else { Ok(Fields::File(fields)) }
        }
        "evm" => {
            let config: evm::Config = serde_json::from_value(value).map_err(words)?;
            config.check().map_err(|failure| match failure {
                DriverFailure::Configuration { problem } => problem,
                other => other.to_string(),
            })?;
            Ok(Fields::Other(Config::Evm(Box::new(config))))
        }
        "rfc3161" => Ok(Fields::Other(Config::Rfc3161(serde_json::from_value(value).map_err(words)?))),
        _ => Err("is of no driver".into()),
    }
}

impl Fields {
    /// With what the extension has of its own; `keys` are those that signed before.
    pub fn complete(self, keys: &[String]) -> Config {
        let fields = match self {
            Self::Other(config) => return config,
            Self::File(fields) => fields,
        };
        let key_file = fields.key_file.unwrap_or_else(|| settings::checkpoint_key_file().into());
        if key_file.as_os_str().is_empty() {
            return Config::Unusable("has no key: zeroauth_audit.checkpoint_key_file is empty".into());
        }
        let mut earlier_keys = fields.earlier_keys;
        earlier_keys.extend_from_slice(keys);
        earlier_keys.sort_unstable();
        earlier_keys.dedup();
        let set = Some(settings::anchor_file()).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (path, own_folder) = match fields.path.or(set) {
            Some(path) => (path, None),
            None => {
                let folder = data_directory().join(FOLDER);
                // SAFETY: set when the process connected.
                let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
                (folder.join(database.to_string()), Some(folder))
            }
        };
        Config::File { config: file::Config { path, key_file, earlier_keys }, own_folder }
    }
}

fn data_directory() -> PathBuf {
    // SAFETY: set at server start, NUL-terminated.
    let data = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    PathBuf::from(data.to_string_lossy().into_owned())
}

/// `anchor_config_check(target, driver, config)`
fn config_check(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let (name, driver) = (arguments.text(0)?.unwrap_or_default(), arguments.text(1)?.unwrap_or_default());
    let config = arguments.json(2)?.unwrap_or_default();
    parse(&driver, &config).map_err(|problem| {
        Failure::new(Kind::InvalidDestination, format!("anchor target \"{name}\": {problem}"))
            .hint("docs/anchors.md lists the fields of each kind.")
    })?;
    Ok(pg_sys::Datum::null())
}

sql_function!(zeroauth_audit_anchor_config_check, pg_finfo_zeroauth_audit_anchor_config_check, config_check);
