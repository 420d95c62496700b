//! What is kept of the body of a refusal: mostly the only place that says what was wrong with the request.
//!
//! A server may send back what it was sent. So every word of the body that shares a piece with the URL, the key or the password is left out,
//! and everything that is not printable.

use zeroauth_audit_transport::{Endpoint, Secret};

/// Bytes of a body that are looked at, and that are kept.
pub(crate) const MOST_READ: u64 = 4096;
const MOST_KEPT: usize = 100;
/// Characters of a piece of a secret that must not be shown.
const PIECE: usize = 5;
/// Words of URLs that everybody knows.
const PUBLIC: [&str; 22] = [
    "http",
    "https",
    "api",
    "v1",
    "v2",
    "alerts",
    "alert",
    "services",
    "service",
    "enqueue",
    "events",
    "hooks",
    "hook",
    "webhook",
    "webhooks",
    "slack",
    "pagerduty",
    "opsgenie",
    "com",
    "net",
    "org",
    "eu",
];

/// The words that must not be shown.
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    pub(crate) fn of(endpoint: &Endpoint, url: &str, key: Option<&Secret>) -> Self {
        let mut words = Vec::new();
        let mut add = |text: &str| words.extend(words_of(text).map(str::to_lowercase));
        add(url);
        // As it is meant, not only as it is written.
        add(&decoded(url));
        if let Some(authorization) = &endpoint.authorization {
            add(authorization);
        }
        if let Some(key) = key {
            add(&String::from_utf8_lossy(key.bytes()));
        }
        words.retain(|word| !PUBLIC.contains(&word.as_str()));
        words.sort();
        words.dedup();
        Self(words)
    }

    /// The beginning of a body, without them; None if nothing is left.
    pub(crate) fn kept_of(&self, body: &[u8]) -> Option<String> {
        let text = String::from_utf8_lossy(body);
        let mut kept = String::new();
        let mut rest = &*text;
        while let Some(c) = rest.chars().next() {
            let word = words_of(rest).next().filter(|word| rest.starts_with(word));
            let (shown, length) = match word {
                Some(word) if self.hold(word) => ("..".to_owned(), word.len()),
                Some(word) => (word.to_owned(), word.len()),
                None if c == ' ' || c.is_ascii_graphic() => (c.to_string(), c.len_utf8()),
                None => (" ".to_owned(), c.len_utf8()),
            };
            let double = shown == " " && (kept.is_empty() || kept.ends_with(' '));
            if !double {
                kept.push_str(&shown);
            }
            if kept.len() >= MOST_KEPT {
                break;
            }
            rest = &rest[length..];
        }
        // Only what is ASCII was kept.
        kept.truncate(MOST_KEPT);
        let kept = kept.trim();
        (!kept.is_empty()).then(|| kept.to_owned())
    }

    /// Whether a word is one of them, has a short one in it, or has a piece of a long one.
    fn hold(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        self.0.iter().any(|secret| match secret.len() {
            ..3 => word == *secret,
            3..PIECE => word.contains(secret.as_str()),
            // All of them are ASCII.
            length => (0..=length - PIECE).any(|at| word.contains(&secret[at..at + PIECE])),
        })
    }
}

/// A URL without percent-encoding.
fn decoded(url: &str) -> String {
    let mut out = Vec::new();
    let mut rest = url.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *byte == b'%') {
            Some(meant) => {
                out.push(meant);
                rest = &after[2..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Runs of letters and digits.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(url: &str, body: &str) -> Option<String> {
        let endpoint = Endpoint::parse(url, "").unwrap();
        Secrets::of(&endpoint, url, None).kept_of(body.as_bytes())
    }

    const URL: &str = "https://ann:pa%2Fss%23word@hooks.example.com/services/T01AB/B9/s3cretT0ken?k=v4lue";

    #[test]
    fn what_a_server_says_of_a_request_is_kept_up_to_a_hundred_printable_bytes() {
        assert_eq!(kept(URL, "no_text").as_deref(), Some("no_text"));
        assert_eq!(kept(URL, "404 page not found\n").as_deref(), Some("404 page not found"));
        assert_eq!(kept(URL, " \u{1b}[31mred\r\n\u{202e}é \0 end ").as_deref(), Some("[31mred end"));
        assert_eq!(kept(URL, &"x".repeat(500)), Some("x".repeat(100)));
        assert_eq!(kept(URL, &"y ".repeat(500)).unwrap().len(), 99);
        for nothing in ["", "\n\n", "\u{fffd}\u{1}"] {
            assert_eq!(kept(URL, nothing), None);
        }
        assert_eq!(Secrets(Vec::new()).kept_of(&[0xff, b'a', 0xfe]).as_deref(), Some("a"));
    }

    #[test]
    fn nothing_of_a_url_or_a_key_comes_back_in_whatever_form_a_server_sends_it() {
        for (said, shown) in [
            ("no team T01AB", "no team .."),
            ("no /services/T01AB/B9/s3cretT0ken here", "no /services/../../.. here"),
            ("S3CRETT0KEN", ".."),
            ("your token s3cretT0k... is wrong", "your token ..... is wrong"),
            ("xs3cretT0kenx", ".."),
            ("k=v4lue", "..=.."),
            ("user ann: pa/ss#word", "user ..: ../..#.."),
            // Of basic authentication, and the first half of it.
            ("YW5uOnBhL3NzI3dvcmQ", ".."),
            ("Basic YW5uOnBhL3", ".. .."),
            ("example", ".."),
        ] {
            assert_eq!(kept(URL, said).as_deref(), Some(shown), "{said}");
        }
        // One that is cut off by the limit does not slip through in part.
        let long = format!("{} s3cretT0ken", "x".repeat(96));
        assert_eq!(kept(URL, &long), Some(format!("{} ..", "x".repeat(96))));
        let key = |body: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("key");
            std::fs::write(&path, "a1b2c3d4e5f60718a9b0c1d2e3f40516\n").unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let key = zeroauth_audit_transport::file::secret(&path, "secret").unwrap();
            let endpoint = Endpoint::parse("https://events.pagerduty.com/", "").unwrap();
            Secrets::of(&endpoint, "https://events.pagerduty.com/", Some(&key)).kept_of(body.as_bytes())
        };
        assert_eq!(
            key("'routing_key' a1b2c3d4**** is wrong").as_deref(),
            Some("'routing_key' ..**** is wrong")
        );
        assert_eq!(key("Event object is invalid").as_deref(), Some("Event object is invalid"));
    }
}
