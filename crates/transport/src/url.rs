//! A URL as it stands in its file, taken apart: the parts that go on the wire, and the secrets that are shown nowhere else.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use percent_encoding::percent_decode_str;
use ureq::http::Uri;
use ureq::http::uri::{Authority, Scheme};

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

/// Where `http://` may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// To this very machine.
    Loopback,
    /// Anywhere: what comes back is signed, and what goes there is no secret. Never with a user and password.
    Anywhere,
}

const NO_URL: &str = "the URL file does not hold one URL";
const ENCODE: &str = "the URL file does not hold one URL: encode /, ?, # in user and password as %2F, %3F, %23 \
                      (and @ in a path or query as %40)";
const NO_TLS: &str = "the URL is not https:// (http:// is for loopback addresses only)";
const BARE_PASSWORD: &str =
    "the URL is http:// and has a user or password, which anyone on the way could read: use https://";

impl Endpoint {
    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// `https://..`, or `http://..` to this very machine. `append` goes at the end of the path.
    pub fn parse(url: &str, append: &str) -> Result<Self, &'static str> {
        Self::parse_allowing(url, append, Plaintext::Loopback)
    }

    /// As [`Endpoint::parse`], with `http://` to wherever `plaintext` allows. Errors are in fixed words: nothing of the URL is in them.
    pub fn parse_allowing(url: &str, append: &str, plaintext: Plaintext) -> Result<Self, &'static str> {
        if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(NO_URL);
        }
        let (scheme, rest) = url.split_once("://").ok_or(NO_URL)?;
        let scheme: Scheme = scheme.parse().map_err(|_| NO_URL)?;
        // RFC 3986, 3.2: the authority ends at the first of these, also within a password that has one. What was taken for a host would
        // then be a part of the secret, and a name server would be asked for it.
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None if rest.contains('@') => return Err(ENCODE),
            None => (None, authority),
        };
        let path_and_query = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (path, query) =
            path_and_query.split_once('?').map_or((path_and_query, None), |(p, q)| (p, Some(q)));
        let authority: Authority = host.parse().map_err(|_| NO_URL)?;
        if authority.host().is_empty() || (has_port(host) && authority.port_u16().is_none()) {
            return Err(NO_URL);
        }
        let loopback = is_loopback(authority.host());
        if scheme == Scheme::HTTP && !loopback && plaintext == Plaintext::Anywhere && user.is_some() {
            return Err(BARE_PASSWORD);
        }
        if scheme != Scheme::HTTPS
            && !(scheme == Scheme::HTTP && (loopback || plaintext == Plaintext::Anywhere))
        {
            return Err(NO_TLS);
        }
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let path = match append.is_empty() {
            true if path.is_empty() => "/".to_owned(),
            true => path.to_owned(),
            // Somebody may have copied the whole of it.
            false => format!(
                "{}{append}",
                path.trim_end_matches('/').trim_end_matches(append).trim_end_matches('/')
            ),
        };
        let bare = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(format!("{path}{query}"))
            .build()
            .map_err(|_| NO_URL)?;
        Ok(Self { uri: bare, authorization: user.map(basic) })
    }
}

/// Whether a colon follows the name or address of a host.
fn has_port(host: &str) -> bool {
    host.rsplit_once(']').map_or(host, |(_, after)| after).contains(':')
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
    fn public_report_d4_what_a_password_may_hold_unencoded_is_never_taken_for_a_host() {
        const SAY: &str = "the URL file does not hold one URL: encode /, ?, # in user and password as %2F, %3F, %23 (and @ in a path or query as %40)";
        for url in [
            "https://audit:pa#ss@localhost:9093/",
            "https://audit:sec?ret@localhost:9093/",
            "https://audit:1234/5@localhost:9093/",
            "https://audit:#@localhost/",
            "https://audit:a/b@c@localhost/",
            "https://to/ken@localhost/",
            "https://to.ken/x@localhost",
            "https://to?ken@localhost/",
            "http://127.0.0.1/x@localhost/",
        ] {
            assert_eq!(uri(url), Err(SAY), "{url}");
            assert_eq!(Endpoint::parse_allowing(url, "", Plaintext::Anywhere).unwrap_err(), SAY, "{url}");
        }
        // A port that is none: without an @ behind it nobody can say what was meant.
        for url in [
            "https://audit:pa#ss",
            "https://audit:pa/",
            "https://audit:/",
            "https://a:65536/",
            "https://[::1]:x/",
        ] {
            assert_eq!(uri(url), Err("the URL file does not hold one URL"), "{url}");
        }
        let of = |url| Endpoint::parse(url, "").unwrap();
        for (url, plain) in [
            ("https://audit:pa%23s%2Fs%3F@localhost:9093/", "audit:pa#s/s?"),
            ("https://audit:a@b:c[d]é@localhost/", "audit:a@b:c[d]é"),
            ("https://audit:100%25@localhost/", "audit:100%"),
            ("https://audit@localhost/", "audit:"),
        ] {
            let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
            assert_eq!(of(url).authorization, Some(format!("Basic {encoded}")), "{url}");
            assert_eq!(of(url).uri.host(), Some("localhost"));
        }
        assert_eq!(
            of("https://a.example/hook%40team?to=b%40c").uri,
            "https://a.example/hook%40team?to=b%40c"
        );
    }

    #[test]
    fn public_report_d6_answers_that_are_signed_may_come_without_tls_and_a_password_never_goes_so() {
        let open = |url| Endpoint::parse_allowing(url, "", Plaintext::Anywhere).map(|e| e.uri.to_string());
        for url in ["http://timestamp.example.net/", "https://tsa.example/tsr", "http://192.0.2.1:8080/ts"] {
            assert_eq!(open(url).as_deref(), Ok(url));
        }
        assert!(open("http://ann:pass@timestamp.example.net/").unwrap_err().contains("anyone on the way"));
        assert!(open("http://ann@timestamp.example.net/").unwrap_err().contains("anyone on the way"));
        assert_eq!(open("http://ann:pass@127.0.0.1/").as_deref(), Ok("http://127.0.0.1/"));
        assert!(open("ftp://timestamp.example.net/").unwrap_err().contains("not https://"));
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
        // As somebody copies it from a manual of the API.
        assert_eq!(at("https://am/api/v2/alerts"), "https://am/api/v2/alerts");
        assert_eq!(at("https://am/prefix/api/v2/alerts/"), "https://am/prefix/api/v2/alerts");
        assert_eq!(at("https://am/#/alerts?silenced=false"), "https://am/api/v2/alerts");
    }
}
