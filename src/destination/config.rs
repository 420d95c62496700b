//! The `config` of a destination, read field by field: every error is ZA060 and names the field, none shows what is in a file.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};
use zeroauth_audit_transport::{Endpoint, Plaintext, agent, file};

use crate::pg::call::Arguments;
use crate::pg::error::{Failure, Kind};

/// Only files are read here.
const NO_CALL: Duration = Duration::from_secs(1);

/// What a setter was given, from the arguments (name, kind, config) of a check.
pub struct Given {
    what: &'static str,
    name: String,
    /// The kind, as it was given.
    pub kind: String,
    /// The fields that are not null.
    pub fields: Map<String, Value>,
}

impl Given {
    /// `what`: how messages call such a destination.
    pub fn read(arguments: &Arguments, what: &'static str) -> Result<Self, Failure> {
        let text = |n| Ok::<_, Failure>(arguments.text(n)?.unwrap_or_default());
        let (name, kind) = (text(0)?, text(1)?);
        let mut given = Self { what, name, kind, fields: Map::new() };
        match serde_json::from_str(&arguments.json(2)?.unwrap_or_default()) {
            Ok(Value::Object(fields)) => {
                given.fields = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
                Ok(given)
            }
            _ => Err(given.wrong("config is no object").hint("Give it fields: '{\"name\": \"value\"}'.")),
        }
    }

    /// A failure of the whole.
    pub fn wrong(&self, problem: impl Display) -> Failure {
        Failure::new(Kind::InvalidDestination, format!("{} \"{}\": {problem}", self.what, self.name))
    }

    /// A failure of one field.
    pub fn field(&self, field: &str, problem: impl Display) -> Failure {
        self.wrong(format!("field \"{field}\": {problem}"))
    }

    /// A failure of a file that a field names.
    pub fn file(&self, field: &str, problem: impl Display) -> Failure {
        self.field(field, problem).hint(
            "It must belong to the server's user or to root. What is secret has mode 0600 or 0400; the rest may be read by all and written by its owner only.",
        )
    }

    /// The kind is none of these.
    pub fn no_kind(&self, kinds: &[&str]) -> Failure {
        self.wrong(format!("there is no kind \"{}\"", self.kind))
            .hint(format!("The kinds: {}.", kinds.join(", ")))
    }

    /// Refuses fields that the kind does not have.
    pub fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.fields.keys().find(|field| !known.contains(&field.as_str())) {
            None => Ok(()),
            Some(field) => Err(self
                .field(field, format!("{} has none of this name", self.kind))
                .hint(format!("The fields of {}: {}.", self.kind, known.join(", ")))),
        }
    }

    /// A text.
    pub fn text(&self, field: &str) -> Result<Option<&str>, Failure> {
        match self.fields.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.field(field, "it is no text").hint("Put it in double quotes.")),
        }
    }

    /// An absolute path.
    pub fn path(&self, field: &str) -> Result<Option<PathBuf>, Failure> {
        match self.text(field)?.map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(self
                .field(field, "the path is not absolute")
                .hint("A relative path would depend on where the server was started.")),
            path => Ok(path),
        }
    }

    /// A number, if it is there, from a range.
    pub fn number(&self, field: &str, range: RangeInclusive<i64>) -> Result<(), Failure> {
        match self.fields.get(field) {
            None => Ok(()),
            Some(value) if value.as_i64().is_some_and(|number| range.contains(&number)) => Ok(()),
            Some(_) => Err(self
                .field(field, format!("it is no whole number from {} to {}", range.start(), range.end()))
                .hint("Leave it out for its default.")),
        }
    }

    /// A field that the kind cannot do without.
    pub fn required<T>(&self, field: &str, value: Option<T>) -> Result<T, Failure> {
        value.ok_or_else(|| {
            self.field(field, "it is missing")
                .hint(format!("Every {} of kind {} has one.", self.what, self.kind))
        })
    }

    /// The URL in a file: `https://`, or `http://` to this machine.
    pub fn url(&self, field: &str, path: &Path) -> Result<Endpoint, Failure> {
        self.url_allowing(field, path, Plaintext::Loopback)
    }

    /// The URL in a file, `http://` as far as `plaintext` allows.
    pub fn url_allowing(&self, field: &str, path: &Path, plaintext: Plaintext) -> Result<Endpoint, Failure> {
        let read = || {
            let url = file::secret(path, "URL")?;
            let text = url.text().ok_or("the URL file does not hold one URL")?;
            Ok::<_, String>(Endpoint::parse_allowing(text, "", plaintext)?)
        };
        read().map_err(|problem| self.file(field, problem))
    }

    /// The authorities that may vouch for an endpoint.
    pub fn authorities(&self, endpoint: &Endpoint, ca_file: Option<&Path>) -> Result<(), Failure> {
        let open = || {
            if let Some(path) = ca_file {
                file::public(path, "CA")?;
            }
            agent::agent(endpoint, ca_file, NO_CALL).map(drop)
        };
        open().map_err(|problem| self.file("ca_file", problem))
    }
}
