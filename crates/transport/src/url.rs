//! A URL as it stands in its file, taken apart: the parts that go on the wire, and the secrets that are shown nowhere else.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use percent_encoding::percent_decode_str;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// Where to send, and as whom. `Debug` shows nothing of it.
pub struct Endpoint {
    /// Without user and password.
    pub uri: Uri,
    /// Value of an Authorization header, if the URL has a user.
    pub authorization: Option<String>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint(..)")
    }
}

impl Endpoint {
    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// `https://..`, or `http://..` to this very machine. `append` goes at the end of the path.
    pub fn parse(url: &str, append: &str) -> Result<Self, &'static str> {
        const NO_URL: &str = "the URL file does not hold one URL";
        let (before_fragment, _) = url.split_once('#').unwrap_or((url, ""));
        let uri: Uri = before_fragment.parse().map_err(|_| NO_URL)?;
        let scheme = uri.scheme().ok_or(NO_URL)?.clone();
        let authority = uri.authority().ok_or(NO_URL)?;
        if scheme != Scheme::HTTPS && !(scheme == Scheme::HTTP && is_loopback(authority.host())) {
            return Err("the URL is not https:// (http:// is for loopback addresses only)");
        }
        let (user, host) = match authority.as_str().rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority.as_str()),
        };
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = if append.is_empty() {
            uri.path().to_owned()
        } else {
            format!("{}{append}", uri.path().trim_end_matches('/'))
        };
        let bare = Uri::builder()
            .scheme(scheme)
            .authority(host)
            .path_and_query(format!("{path}{query}"))
            .build()
            .map_err(|_| NO_URL)?;
        Ok(Self { uri: bare, authorization: user.map(basic) })
    }
}

/// RFC 7617, of a URL's `user:password`.
fn basic(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain: Vec<u8> = percent_decode_str(name).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
}

/// Only addresses, and the one name that RFC 6761 reserves: any other could lead elsewhere tomorrow.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(url: &str) -> Result<String, &'static str> {
        Endpoint::parse(url, "").map(|e| e.uri.to_string())
    }

    #[test]
    fn without_tls_only_to_this_machine() {
        for url in [
            "http://127.0.0.1:9093/",
            "http://[::1]/x",
            "http://localhost/x?y=z",
            "http://127.8.9.1/",
            "https://example.org/",
        ] {
            assert_eq!(uri(url).as_deref(), Ok(url));
        }
        for url in [
            "http://example.org/",
            "http://127.0.0.1.example.org/",
            "http://localhost.example.org/",
            "http://127.0.0.1@example.org/",
            "http://[2001:db8::1]/",
            "http://0.0.0.0/",
            "ftp://127.0.0.1/",
        ] {
            assert!(uri(url).unwrap_err().contains("not https://"), "{url}");
        }
        for url in [
            "",
            "/etc/passwd",
            "example.org",
            "https://",
            "https:///x",
            "https://a b/",
            "https://a/\nhttps://b/",
        ] {
            assert_eq!(uri(url), Err("the URL file does not hold one URL"), "{url}");
        }
    }

    #[test]
    fn a_user_becomes_a_header_and_leaves_the_url() {
        let endpoint = Endpoint::parse("https://ann:p%40ss@example.org:8443/a?b=c#d", "").unwrap();
        assert_eq!(endpoint.uri, "https://example.org:8443/a?b=c");
        // "ann:p@ss"
        assert_eq!(endpoint.authorization.as_deref(), Some("Basic YW5uOnBAc3M="));
        assert_eq!(format!("{endpoint:?}"), "Endpoint(..)");
    }

    #[test]
    fn a_path_is_appended_before_the_query() {
        let at = |url| Endpoint::parse(url, "/api/v2/alerts").unwrap().uri.to_string();
        assert_eq!(at("https://am"), "https://am/api/v2/alerts");
        assert_eq!(at("https://am/"), "https://am/api/v2/alerts");
        assert_eq!(at("https://am/prefix/?x=1"), "https://am/prefix/api/v2/alerts?x=1");
    }
}
