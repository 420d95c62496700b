//! Who a package names as its maintainer: whoever hands it out. The project has no address of its own, so the one here is reserved
//! for examples (RFC 2606) and reaches nobody.

use std::env;
use std::fmt::{self, Display};
use std::str::FromStr;

use anyhow::Result;

use crate::failure;

/// Stand for the two parts in `packaging/debian`.
pub(super) const NAME: &str = "MAINTAINERNAME";
pub(super) const MAIL: &str = "MAINTAINERMAIL";
/// What a package has when nobody is named: the only place with this address.
const PLACEHOLDER: (&str, &str) = ("zeroauth_audit maintainers", "maintainers@example.org");

/// A name and an address, as Debian writes them: `Name <mail>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maintainer {
    pub(super) name: String,
    pub(super) mail: String,
}

impl Maintainer {
    /// The one in `DEBFULLNAME` and `DEBEMAIL`, which Debian's own tools read too; the placeholder when no address is set.
    pub(super) fn of_environment() -> Result<Self> {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        named(set("DEBFULLNAME"), set("DEBEMAIL"))
            .map_err(|reason| failure::environment(format!("DEBFULLNAME and DEBEMAIL: {reason}")))
    }

    /// Whether nobody was named.
    pub(super) fn is_placeholder(&self) -> bool {
        *self == Self::placeholder()
    }

    fn placeholder() -> Self {
        Self { name: PLACEHOLDER.0.to_owned(), mail: PLACEHOLDER.1.to_owned() }
    }
}

impl FromStr for Maintainer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.trim().strip_suffix('>').and_then(|text| text.split_once('<'));
        let (name, mail) = parts.ok_or_else(|| format!("{text} is not of the form 'Name <mail>'"))?;
        let (name, mail) = (name.trim(), mail.trim());
        // In a control file a comma begins another person, and a line another field.
        if name.is_empty() || name.contains(['<', '>', ',']) || name.contains(char::is_control) {
            return Err(format!("{name:?} cannot be a maintainer's name"));
        }
        let whole = mail.split_once('@').is_some_and(|(user, host)| !user.is_empty() && host.contains('.'));
        if !whole
            || mail.contains(['<', '>', ','])
            || mail.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(format!("{mail:?} cannot be a maintainer's address"));
        }
        Ok(Self { name: name.to_owned(), mail: mail.to_owned() })
    }
}

impl Display for Maintainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.mail)
    }
}

/// As debchange(1) has it: `DEBEMAIL` may have the name as well, and `DEBFULLNAME` goes before it.
fn named(name: Option<String>, mail: Option<String>) -> Result<Maintainer, String> {
    let Some(mail) = mail else { return Ok(Maintainer::placeholder()) };
    let (inside, mail) = match mail.parse::<Maintainer>() {
        Ok(both) => (Some(both.name), both.mail),
        Err(_) => (None, mail),
    };
    let name = name.or(inside).unwrap_or_else(|| PLACEHOLDER.0.to_owned());
    format!("{name} <{mail}>").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, mail: &str) -> Result<String, String> {
        let set = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        super::named(set(name), set(mail)).map(|maintainer| maintainer.to_string())
    }

    #[test]
    fn the_environment_names_a_maintainer_as_it_does_for_debians_own_tools() {
        assert_eq!(named("Zoe", "zoe@example.com").unwrap(), "Zoe <zoe@example.com>");
        assert_eq!(named("", "Zoe <zoe@example.com>").unwrap(), "Zoe <zoe@example.com>");
        assert_eq!(named("Adam", "Zoe <zoe@example.com>").unwrap(), "Adam <zoe@example.com>");
        assert_eq!(named("", "zoe@example.com").unwrap(), "zeroauth_audit maintainers <zoe@example.com>");
    }

    #[test]
    fn nobody_named_is_the_placeholder_and_a_name_alone_is_nobody() {
        for name in ["", "Zoe"] {
            assert!(super::named(Some(name.to_owned()), None).unwrap().is_placeholder());
        }
        assert!(!"Zoe <zoe@example.com>".parse::<Maintainer>().unwrap().is_placeholder());
    }

    #[test]
    fn what_would_break_a_control_file_is_refused() {
        for text in [
            "Zoe",
            "Zoe <>",
            "<zoe@example.com>",
            "Zoe <zoe>",
            "Zoe <a b@example.com>",
            "Zoe, Adam <z@example.com>",
            "Z\nX: y <z@example.com>",
        ] {
            assert!(text.parse::<Maintainer>().is_err(), "{text:?}");
        }
        assert_eq!(
            "Zoe <zoe>".parse::<Maintainer>().unwrap_err(),
            "\"zoe\" cannot be a maintainer's address"
        );
    }
}
