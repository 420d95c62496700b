//! Origins: the names of logs, one for each tenant, below one base origin for each installation.
//!
//! `base "/" escaped tenant`, and for a tenant epoch from 1 on (raised by an acknowledged restore) `"/" epoch` at the end. In
//! the tenant every byte but `A-Z a-z 0-9 . _ ~ -` is written as `%` and two upper-case hexadecimal digits, so an origin has
//! neither spaces nor `+`, as a C2SP key name must not. A base alone cannot be distinguished from an origin: reading an origin needs its base.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Bytes of a base origin at most.
pub const MAX_BASE: usize = 255;

/// Bytes of a tenant's name at most.
pub const MAX_TENANT: usize = 128;

/// Why something is no base origin, or no origin below a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is empty or too long.
    #[error("a base origin has 1 to {MAX_BASE} bytes, not {0}")]
    BaseLength(usize),
    /// It has a character that a key name must not have.
    #[error("a base origin has no spaces, no control characters and no plus sign")]
    BaseCharacter,
    /// It could make the text of a checkpoint look like that of a cosignature.
    #[error("a base origin does not start with \"cosignature\"")]
    BaseReserved,
    /// The tenant's name is empty, too long or has a zero byte.
    #[error("a tenant has 1 to {MAX_TENANT} bytes and no zero byte")]
    Tenant,
    /// The origin is that of something else.
    #[error("the origin is not one below the given base")]
    NotBelow,
    /// What follows the base is not written as this module writes it.
    #[error("the origin's tenant or epoch is not in the form it is written in")]
    NotCanonical,
}

/// The part of every origin that is the installation's own: the name of its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Base(String);

impl Base {
    /// Checks a base origin: 1 to 255 bytes without spaces, control characters and `+`, which does not start with
    /// `cosignature`.
    ///
    /// # Errors
    /// [`Error::BaseLength`], [`Error::BaseCharacter`] or [`Error::BaseReserved`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > MAX_BASE {
            return Err(Error::BaseLength(text.len()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(Error::BaseCharacter);
        }
        if text.starts_with("cosignature") {
            return Err(Error::BaseReserved);
        }
        Ok(Self(text.into()))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The origin of a tenant's log in an epoch (0 unless restores were acknowledged).
    ///
    /// # Errors
    /// [`Error::Tenant`].
    pub fn origin(&self, tenant: &str, epoch: u64) -> Result<String, Error> {
        if !is_tenant(tenant.as_bytes()) {
            return Err(Error::Tenant);
        }
        let mut origin = format!("{}/", self.0);
        for byte in tenant.bytes() {
            if is_plain(byte) {
                origin.push(char::from(byte));
            } else {
                origin.push_str(&format!("%{byte:02X}"));
            }
        }
        if epoch > 0 {
            origin.push_str(&format!("/{epoch}"));
        }
        Ok(origin)
    }

    /// Whether `origin` is the base and a `/` and more; [`Base::read`] says whether the rest is right, too.
    #[must_use]
    pub fn is_above(&self, origin: &str) -> bool {
        self.rest(origin).is_some()
    }

    /// Reads an origin below this base: the tenant and the epoch.
    ///
    /// # Errors
    /// [`Error::NotBelow`], [`Error::Tenant`], or [`Error::NotCanonical`] when [`Base::origin`] would write it in another way.
    pub fn read(&self, origin: &str) -> Result<(String, u64), Error> {
        let rest = self.rest(origin).ok_or(Error::NotBelow)?;
        let (escaped, epoch) = match rest.split_once('/') {
            None => (rest, 0),
            Some((escaped, epoch)) => (escaped, epoch.parse().map_err(|_| Error::NotCanonical)?),
        };
        let tenant = unescaped(escaped).ok_or(Error::NotCanonical)?;
        // Lower-case digits, an escaped letter, an epoch of 0 or with a sign are read alike and written otherwise.
        if self.origin(&tenant, epoch)? == origin { Ok((tenant, epoch)) } else { Err(Error::NotCanonical) }
    }

    fn rest<'a>(&self, origin: &'a str) -> Option<&'a str> {
        origin.strip_prefix(&*self.0)?.strip_prefix('/')
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base({:?})", self.0)
    }
}

fn is_tenant(bytes: &[u8]) -> bool {
    (1..=MAX_TENANT).contains(&bytes.len()) && !bytes.contains(&0)
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-')
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            plain => plain,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn base(text: &str) -> Base {
        Base::parse(text).unwrap()
    }

    #[test]
    fn a_tenant_is_escaped_but_for_letters_digits_and_four_marks() {
        let base = base("log.example/audit");
        assert_eq!(base.origin("acme", 0).unwrap(), "log.example/audit/acme");
        assert_eq!(base.origin("a/b +%é", 0).unwrap(), "log.example/audit/a%2Fb%20%2B%25%C3%A9");
        assert_eq!(base.origin("A-z_0.~", 3).unwrap(), "log.example/audit/A-z_0.~/3");
    }

    #[test]
    fn what_would_not_be_written_so_is_not_read() {
        let base = base("b");
        for origin in
            ["b/%2f", "b/%41", "b/a/0", "b/a/+1", "b/a/01", "b/a/1/2", "b/a/", "b/a b", "b/%4", "b/%FF"]
        {
            assert_eq!(base.read(origin), Err(Error::NotCanonical), "{origin}");
        }
        assert_eq!(base.read("b/"), Err(Error::Tenant));
        assert_eq!(base.read("b/%00"), Err(Error::Tenant));
        for origin in ["b", "", "bc/a", "a/b/c"] {
            assert_eq!(base.read(origin), Err(Error::NotBelow), "{origin}");
        }
    }

    #[test]
    fn a_base_keeps_the_rules_of_a_key_name_and_is_no_cosignature() {
        assert_eq!(Base::parse(""), Err(Error::BaseLength(0)));
        assert_eq!(Base::parse(&"x".repeat(256)), Err(Error::BaseLength(256)));
        assert!(Base::parse(&"x".repeat(255)).is_ok());
        for text in ["a b", "a+b", "a\nb", "a\u{2003}b", "a\u{7f}", "\0", "a\u{85}"] {
            assert_eq!(Base::parse(text), Err(Error::BaseCharacter), "{text:?}");
        }
        assert_eq!(Base::parse("cosignature/v1"), Err(Error::BaseReserved));
        assert_eq!(base("example.com/é").to_string(), "example.com/é");
    }

    proptest! {
        #[test]
        fn every_origin_is_read_back(tenant in "[^\0]{1,32}", epoch in any::<u64>()) {
            let base = base("example.com/log");
            let origin = base.origin(&tenant, epoch).unwrap();
            prop_assert!(origin.is_ascii() && !origin.contains([' ', '+']));
            prop_assert_eq!(base.read(&origin), Ok((tenant, epoch)));
        }
    }
}
