//! Alert routes: `zeroauth_audit_internal.route_config_check`.

use pgrx::pg_sys;
use zeroauth_audit_alert_delivery::{Kind, Route, Target, check_url};

use super::config::Given;
use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::Failure;

fn check(arguments: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let route = Given::read(arguments, "alert route")?;
    let kind = Kind::named(&route.kind).ok_or_else(|| route.no_kind(&Kind::ALL.map(|(name, _)| name)))?;
    route.only(match kind.takes_secret() {
        true => &["url_file", "secret_file", "ca_file", "min_severity", "from_level"],
        false => &["url_file", "ca_file", "min_severity", "from_level"],
    })?;
    let url_file = route.required("url_file", route.path("url_file")?)?;
    let (secret_file, ca_file) = (route.path("secret_file")?, route.path("ca_file")?);
    if kind.needs_secret() {
        route.required("secret_file", secret_file.as_ref())?;
    }
    route.number("min_severity", 1..=4)?;
    route.number("from_level", 1..=4)?;
    let endpoint = route.url("url_file", &url_file)?;
    check_url(kind, &endpoint).map_err(|problem| {
        route.field("url_file", problem).hint("docs/alerts.md says which URL each kind has.")
    })?;
    route.authorities(&endpoint, ca_file.as_deref())?;
    // What is left is the secret; read as the sender reads it.
    Target::open(&Route { name: String::new(), kind, url_file, secret_file, ca_file })
        .map_err(|problem| route.file("secret_file", problem))?;
    Ok(pg_sys::Datum::null())
}

sql_function!(zeroauth_audit_route_config_check, pg_finfo_zeroauth_audit_route_config_check, check);
