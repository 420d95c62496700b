//! An HTTP client that follows no redirect, asks no proxy, and trusts only the given authorities.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::file;
use crate::url::Endpoint;

/// More than a well-meant head of an answer.
const MOST_HEADER_BYTES: usize = 16 * 1024;

/// A client for `endpoint`, each call within `deadline`, from resolving the name to the end of what is read of the answer.
/// `ca_file` holds the only authorities to be trusted; without it the system's are trusted.
pub fn agent(endpoint: &Endpoint, ca_file: Option<&Path>, deadline: Duration) -> Result<Agent, String> {
    let roots = if endpoint.is_https() { roots(ca_file)? } else { Vec::new() };
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Ok(Agent::config_builder()
        .http_status_as_error(false)
        // A redirect could lead anywhere, the local network included: its status is the answer.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // Nor may a proxy of the server's environment.
        .proxy(None)
        .tls_config(tls)
        .timeout_global(Some(deadline))
        .max_response_header_size(MOST_HEADER_BYTES)
        .max_idle_connections(0)
        .user_agent(concat!("zeroauth_audit/", env!("CARGO_PKG_VERSION")))
        .accept("*/*")
        .build()
        .into())
}

/// Authorities that may vouch for the server: those in the file and no others, or the system's.
fn roots(ca_file: Option<&Path>) -> Result<Vec<Certificate<'static>>, String> {
    let roots: Vec<Certificate<'static>> = match ca_file {
        Some(path) => parse_pem(&file::public(path, "CA")?)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect(),
        None => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect(),
    };
    if roots.is_empty() {
        return Err(match ca_file {
            Some(_) => "the CA file holds no certificate".into(),
            None => "the system trusts no certificate authority: install ca-certificates, or name a CA file"
                .into(),
        });
    }
    Ok(roots)
}
