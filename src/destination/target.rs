//! Anchor targets: `zeroauth_audit_internal.target_config_check`. What a driver understands is decided where it is configured
//! ([`crate::anchor::target`]); here every file is named by its field.

use std::path::Path;

use pgrx::pg_sys;
use zeroauth_audit_anchor::evm::{self, Signer};
use zeroauth_audit_anchor::file::FileDriver;
use zeroauth_audit_anchor::rfc3161;
use zeroauth_audit_transport::file;

use super::config::Given;
use crate::anchor::target::{Config, DRIVERS, parse};
use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;

fn check(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let target = Given::read(arguments, "anchor target")?;
    if !DRIVERS.contains(&target.kind.as_str()) {
        return Err(target.no_kind(&DRIVERS));
    }
    let fields = serde_json::Value::Object(target.fields.clone()).to_string();
    let fields = parse(&target.kind, &fields)
        .map_err(|problem| target.wrong(problem).hint("docs/anchors.md lists the fields of each kind."))?;
    let config = fields.complete(&[]);
    match &config {
        Config::File { config, own_folder } => {
            if own_folder.is_none() {
                FileDriver::check(&config.path).map_err(|problem| target.file("path", problem))?;
            }
            secret(&target, "key_file", &config.key_file, "key")?;
        }
        Config::Evm(config) => evm_files(&target, config)?,
        Config::Rfc3161(config) => rfc3161_files(&target, config)?,
        // No key yet: what is missing is a setting, not a field.
        Config::Unusable(_) => return Ok(pg_sys::Datum::null()),
    }
    if !matches!(config, Config::File { own_folder: Some(_), .. }) {
        config.open().map_err(|failure| {
            target.wrong(failure).hint("docs/anchors.md says what the files of each kind hold.")
        })?;
    }
    Ok(pg_sys::Datum::null())
}

fn secret(target: &Given, field: &str, path: &Path, what: &str) -> Result<(), Failure> {
    file::secret(path, what).map(drop).map_err(|problem| target.file(field, problem))
}

fn evm_files(target: &Given, config: &evm::Config) -> Result<(), Failure> {
    for path in &config.rpc_url_files {
        let endpoint = target.url("rpc_url_files", path)?;
        target.authorities(&endpoint, config.ca_file.as_deref())?;
    }
    match &config.signer {
        Signer::Raw { key_file } => secret(target, "signer.key_file", key_file, "key"),
        Signer::Keystore { key_file, password_file } => {
            secret(target, "signer.key_file", key_file, "key")?;
            secret(target, "signer.password_file", password_file, "password")
        }
        Signer::Remote { url_file, .. } => target.url("signer.url_file", url_file).map(drop),
    }
}

fn rfc3161_files(target: &Given, config: &rfc3161::Config) -> Result<(), Failure> {
    let endpoint = target.url_allowing("url_file", &config.url_file, rfc3161::PLAINTEXT)?;
    target.authorities(&endpoint, config.ca_file.as_deref())?;
    file::public(&config.authorities_file, "authorities")
        .map(drop)
        .map_err(|problem| target.file("authorities_file", problem))
}

sql_function!(zeroauth_audit_target_config_check, pg_finfo_zeroauth_audit_target_config_check, check);
