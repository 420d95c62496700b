//! Sinks: `zeroauth_audit_internal.sink_config_check`.

use pgrx::pg_sys;
use zeroauth_audit_checkpoint_sinks::Directory;
use zeroauth_audit_core::note::{Algorithm, VerifierKey};

use super::config::Given;
use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;

fn check(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let sink = Given::read(arguments, "sink")?;
    match sink.kind.as_str() {
        "directory" => directory(&sink)?,
        "witness" => witness(&sink)?,
        _ => return Err(sink.no_kind(&["directory", "witness"])),
    }
    Ok(pg_sys::Datum::null())
}

fn directory(sink: &Given) -> Result<(), Failure> {
    sink.only(&["directory"])?;
    let path = sink.required("directory", sink.path("directory")?)?;
    Directory::check(&path).map_err(|problem| {
        sink.field("directory", problem)
            .hint("It must exist, belong to the server's user or to root, and be writable by the server's user and by nobody else.")
    })
}

fn witness(sink: &Given) -> Result<(), Failure> {
    sink.only(&["url_file", "ca_file", "vkey"])?;
    let url_file = sink.required("url_file", sink.path("url_file")?)?;
    let vkey = sink.required("vkey", sink.text("vkey")?)?;
    let key = VerifierKey::parse(vkey).map_err(|error| {
        sink.field("vkey", error).hint("A key as C2SP writes it: name+hash+key; the witness publishes it.")
    })?;
    if key.algorithm() != Algorithm::CosignatureV1 {
        return Err(sink
            .field("vkey", "it is no key of a witness")
            .hint("A witness signs with the algorithm cosignature/v1; this is the key of a log."));
    }
    let ca_file = sink.path("ca_file")?;
    let endpoint = sink.url("url_file", &url_file)?;
    sink.authorities(&endpoint, ca_file.as_deref())
}

sql_function!(zeroauth_audit_sink_config_check, pg_finfo_zeroauth_audit_sink_config_check, check);
