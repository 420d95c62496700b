//! The definitions that a version of the extension must have, and what differs from them.
//!
//! A definition is a line of three: object, part, value. The schema's name stands in them wherever the install script had
//! `@extschema@`. The committed file has that word again, so one file fits every schema. A long value is kept as its
//! digest, with the places of the word: to put the word back, they must be known, for the schema may be called like
//! anything else in the value.
//!
//! A definition may have several values: pg_upgrade makes views and functions anew from the text that PostgreSQL writes of them,
//! and what it writes of those can be another text of the same.
//!
//! This module does not know the objects: the query decides which to read (`sql/queries/installed_definitions.sql`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::sha256_hex;

/// Stands for the schema of the extension, quoted as an identifier.
const SCHEMA: &str = "@extschema@";
/// What begins a value that is a digest.
const DIGEST: &str = "sha256:";
/// Longer values, and those of several lines, are kept as a digest.
const LONGEST_PLAIN: usize = 300;

/// One definition, as the catalogs have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Definition {
    /// What it is about, for example `function audit_verify(tenant text, n bigint)`.
    pub object: String,
    /// Which part of it, for example `body`.
    pub part: String,
    /// Its value.
    pub value: String,
}

/// A difference from the expected definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// As in [`Definition`].
    pub object: String,
    /// As in [`Definition`].
    pub part: String,
    /// How it must be: `None` when there must not be any such thing.
    pub was: Option<String>,
    /// How it is: `None` when it is gone.
    pub now: Option<String>,
}

/// A line of the file that cannot be read, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLine(pub usize);

/// A value as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    /// With `@extschema@` where the schema's name belongs.
    Plain(String),
    /// Of the value with `@extschema@`; the places are bytes in that.
    Digest { digest: String, places: Vec<usize> },
}

/// The definitions of one version: of each, the values that it may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions(BTreeMap<(String, String), Vec<Expected>>);

impl Definitions {
    /// Reads a file, over the definitions read before: a later file has those that differ on another major version of PostgreSQL. A value
    /// `-` takes a definition away; several lines are several values.
    pub fn read(&mut self, file: &str) -> Result<(), BadLine> {
        let mut read: BTreeMap<(String, String), Vec<Expected>> = BTreeMap::new();
        for (n, line) in file.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split('\t');
            let (Some(object), Some(part), Some(value), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return Err(BadLine(n + 1));
            };
            let values = read.entry((object.to_owned(), part.to_owned())).or_default();
            if value != "-" {
                values.push(Expected::read(value).ok_or(BadLine(n + 1))?);
            }
        }
        self.0.extend(read);
        self.0.retain(|_, values| !values.is_empty());
        Ok(())
    }

    /// What the catalogs of an untouched install say, where the schema's name occurs nowhere else.
    #[must_use]
    pub fn bless(actual: &[Definition], schema: &str) -> Self {
        let mut blessed = Self::default();
        blessed.bless_too(actual, schema);
        blessed
    }

    /// What they say of the same, made in another way.
    pub fn bless_too(&mut self, actual: &[Definition], schema: &str) {
        for definition in actual {
            let key = (definition.object.replace(schema, SCHEMA), definition.part.clone());
            let value = Expected::bless(&definition.value.replace(schema, SCHEMA));
            let values = self.0.entry(key).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }

    /// The file that [`Definitions::read`] reads.
    #[must_use]
    pub fn to_file(&self) -> String {
        let mut file = String::new();
        for ((object, part), values) in &self.0 {
            for value in values {
                let _ = writeln!(file, "{object}\t{part}\t{}", value.shown());
            }
        }
        file
    }

    /// The file that, read over `common`, gives these.
    #[must_use]
    pub fn to_file_over(&self, common: &Self) -> String {
        let mut file = String::new();
        for ((object, part), values) in
            self.0.iter().filter(|(key, values)| common.0.get(*key) != Some(*values))
        {
            for value in values {
                let _ = writeln!(file, "{object}\t{part}\t{}", value.shown());
            }
        }
        for (object, part) in common.0.keys().filter(|key| !self.0.contains_key(*key)) {
            let _ = writeln!(file, "{object}\t{part}\t-");
        }
        file
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What differs in `actual`, of the objects that `looked_at` says yes to. `schema` is the extension's, quoted. Indexes
    /// that are not the version's own may be added by anybody, if they have a definition and nothing else to say.
    #[must_use]
    pub fn differences(
        &self,
        actual: &[Definition],
        schema: &str,
        looked_at: impl Fn(&str) -> bool,
    ) -> Vec<Difference> {
        let actual: BTreeMap<(&str, &str), &str> = actual
            .iter()
            .map(|definition| {
                ((definition.object.as_str(), definition.part.as_str()), definition.value.as_str())
            })
            .collect();
        let mut found = Vec::new();
        // The arguments of a function may be of types of ours.
        let expected: BTreeMap<(String, &str), &Vec<Expected>> = self
            .0
            .iter()
            .map(|((object, part), values)| ((object.replace(SCHEMA, schema), part.as_str()), values))
            .collect();
        for ((object, part), values) in expected.iter().filter(|((object, _), _)| looked_at(object)) {
            let now = actual.get(&(object.as_str(), *part)).copied();
            if now.is_some_and(|now| values.iter().any(|value| value.is(now, schema))) {
                continue;
            }
            let first = values.first();
            found.push(Difference {
                object: object.clone(),
                part: (*part).to_owned(),
                was: first.map(|value| value.shown_in(schema)),
                now: now.map(|now| first.map_or_else(|| now.to_owned(), |value| value.alike(now))),
            });
        }
        for ((object, part), now) in actual {
            let is_new = !expected.contains_key(&(object.to_owned(), part));
            let plain_index = object.starts_with("index ") && *part == *"definition";
            if is_new && looked_at(object) && !plain_index {
                found.push(Difference {
                    object: object.to_owned(),
                    part: part.to_owned(),
                    was: None,
                    now: Some(now.to_owned()),
                });
            }
        }
        found.sort_by(|a, b| (&a.object, &a.part).cmp(&(&b.object, &b.part)));
        found
    }
}

impl Expected {
    fn read(value: &str) -> Option<Self> {
        let Some(rest) = value.strip_prefix(DIGEST) else {
            return Some(Self::Plain(value.to_owned()));
        };
        let (digest, places) = rest.split_once('@').unwrap_or((rest, ""));
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let places = places.split(',').filter(|place| !place.is_empty());
        Some(Self::Digest {
            digest: digest.to_owned(),
            places: places.map(|place| place.parse().ok()).collect::<Option<_>>()?,
        })
    }

    fn bless(template: &str) -> Self {
        let plain = template.len() <= LONGEST_PLAIN
            && !template.contains(['\n', '\r', '\t'])
            && !template.starts_with(DIGEST)
            && template != "-";
        if plain {
            return Self::Plain(template.to_owned());
        }
        Self::Digest {
            digest: sha256_hex(template.as_bytes()),
            places: template.match_indices(SCHEMA).map(|(place, _)| place).collect(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Plain(template) => template.clone(),
            Self::Digest { digest, places } if places.is_empty() => format!("{DIGEST}{digest}"),
            Self::Digest { digest, places } => {
                let places: Vec<String> = places.iter().map(usize::to_string).collect();
                format!("{DIGEST}{digest}@{}", places.join(","))
            }
        }
    }

    /// For a person.
    fn shown_in(&self, schema: &str) -> String {
        match self {
            Self::Plain(template) => template.replace(SCHEMA, schema),
            Self::Digest { digest, .. } => format!("{DIGEST}{digest}"),
        }
    }

    /// `now` for a person who compares: as a digest where the expected one is, with the beginning of the text.
    fn alike(&self, now: &str) -> String {
        match self {
            Self::Plain(_) => now.to_owned(),
            Self::Digest { .. } => {
                let start: String = now.trim_start().chars().take(120).collect();
                format!("{DIGEST}{} {start}", sha256_hex(now.as_bytes()))
            }
        }
    }

    fn is(&self, now: &str, schema: &str) -> bool {
        match self {
            Self::Plain(template) => template.replace(SCHEMA, schema) == now,
            Self::Digest { digest, places } => {
                template_of(now, schema, places).is_some_and(|it| sha256_hex(it.as_bytes()) == *digest)
            }
        }
    }
}

/// `value` with `@extschema@` put in at `places`, which count in the result; `None` when the schema's name is not there.
fn template_of(value: &str, schema: &str, places: &[usize]) -> Option<String> {
    let mut template = String::with_capacity(value.len());
    let mut rest = value;
    for &place in places {
        let before = rest.get(..place.checked_sub(template.len())?)?;
        template.push_str(before);
        template.push_str(SCHEMA);
        rest = rest.get(before.len()..)?.strip_prefix(schema)?;
    }
    template.push_str(rest);
    Some(template)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn definition(object: &str, part: &str, value: &str) -> Definition {
        Definition { object: object.into(), part: part.into(), value: value.into() }
    }

    fn everywhere(_: &str) -> bool {
        true
    }

    const UNIQUE: &str = "this_schema_is_called_like_nothing_else";

    fn blessed(template: &str) -> Definitions {
        Definitions::bless(&[definition("function f()", "body", &template.replace(SCHEMA, UNIQUE))], UNIQUE)
    }

    fn long(template: &str) -> String {
        format!("{template}{}\n", " ".repeat(LONGEST_PLAIN))
    }

    #[test]
    fn a_schema_called_like_an_alias_in_a_body_is_no_difference() {
        for template in [
            "SELECT a.x FROM @extschema@.t a",
            "SELECT j.name FROM @extschema@.j j JOIN @extschema@.a ON j.a",
        ] {
            for template in [template.to_owned(), long(template)] {
                let expected = blessed(&template);
                for schema in ["a", "j", "audit", "\"odd schema\"", "t a"] {
                    let now = [definition("function f()", "body", &template.replace(SCHEMA, schema))];
                    assert_eq!(expected.differences(&now, schema, everywhere), []);
                }
            }
        }
    }

    #[test]
    fn a_body_that_reads_another_schema_is_a_difference() {
        let template = long("SELECT a.x FROM @extschema@.t a");
        let now = [definition("function f()", "body", &template.replace(SCHEMA, "b"))];
        let found = blessed(&template).differences(&now, "a", everywhere);
        assert_eq!(found.len(), 1);
        assert!(found[0].now.as_deref().unwrap().contains("SELECT a.x FROM b.t a"), "{found:?}");
    }

    #[test]
    fn a_function_of_a_type_of_ours_is_the_same_in_every_schema() {
        let of = |schema: &str| definition(&format!("function f(x {schema}.t)"), "body", "b");
        let mut expected = Definitions::default();
        expected.read(&Definitions::bless(&[of(UNIQUE)], UNIQUE).to_file()).unwrap();
        assert_eq!(expected.differences(&[of("a")], "a", everywhere), []);
        assert_eq!(expected.differences(&[of("b")], "a", everywhere).len(), 2);
    }

    #[test]
    fn pitfall_35_a_new_index_that_enforces_something_is_a_difference() {
        let now = [
            definition("index i on t", "definition", "btree unique (a)"),
            definition("index i on t", "enforces", "unique"),
        ];
        let found = Definitions::default().differences(&now, "x", everywhere);
        let found: Vec<_> = found.iter().map(|it| (it.object.as_str(), it.part.as_str())).collect();
        assert_eq!(found, [("index i on t", "enforces")]);
    }

    #[test]
    fn what_is_gone_and_what_is_new_are_differences_but_not_an_index() {
        let expected = Definitions::bless(&[definition("trigger t", "definition", "A")], UNIQUE);
        let now =
            [definition("trigger u", "definition", "B"), definition("index i on t", "definition", "any")];
        assert_eq!(
            expected.differences(&now, "x", everywhere),
            [
                Difference {
                    object: "trigger t".into(),
                    part: "definition".into(),
                    was: Some("A".into()),
                    now: None
                },
                Difference {
                    object: "trigger u".into(),
                    part: "definition".into(),
                    was: None,
                    now: Some("B".into())
                },
            ]
        );
        assert_eq!(expected.differences(&now, "x", |object| object.starts_with("index")), []);
    }

    #[test]
    fn a_definition_may_have_several_values() {
        let of = |value: &str| [definition("view v", "query", value)];
        let mut blessed = Definitions::bless(&of("SELECT 1"), UNIQUE);
        blessed.bless_too(&of("SELECT 1 AS one"), UNIQUE);
        blessed.bless_too(&of("SELECT 1"), UNIQUE);
        let mut read = Definitions::default();
        read.read(&blessed.to_file()).unwrap();
        assert_eq!((&read, read.to_file().lines().count()), (&blessed, 2));
        for value in ["SELECT 1", "SELECT 1 AS one"] {
            assert_eq!(read.differences(&of(value), "x", everywhere), []);
        }
        assert_eq!(read.differences(&of("SELECT 2"), "x", everywhere).len(), 1);
        let over = Definitions::bless(&of("SELECT 2"), UNIQUE).to_file_over(&read);
        read.read(&over).unwrap();
        assert_eq!(read.differences(&of("SELECT 1"), "x", everywhere).len(), 1);
    }

    #[test]
    fn a_file_of_another_major_version_changes_adds_and_takes_away() {
        let of = |values: &[(&str, &str)]| {
            let all: Vec<_> =
                values.iter().map(|(object, value)| definition(object, "definition", value)).collect();
            Definitions::bless(&all, UNIQUE)
        };
        let (common, other) =
            (of(&[("a", "1"), ("b", "2"), ("c", "3")]), of(&[("a", "1"), ("b", "4"), ("d", "5")]));
        let mut read = Definitions::default();
        read.read(&common.to_file()).unwrap();
        assert_eq!(read, common);
        let over = other.to_file_over(&common);
        assert_eq!(over.lines().count(), 3);
        read.read(&over).unwrap();
        assert_eq!(read, other);
    }

    #[test]
    fn a_file_that_cannot_be_read_says_where() {
        for bad in ["a\tb", "a\tb\tc\td", "a\tb\tsha256:12", "a\tb\tsha256:zz@1"] {
            let file = format!("# a comment\n\nx\ty\tz\n{bad}\n");
            assert_eq!(Definitions::default().read(&file), Err(BadLine(4)), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back_in_every_schema(parts in prop::collection::vec("[a-z.\n]{0,80}", 1..8), schema in "[a-z]{1,3}|\"[a-z .]{1,9}\"") {
            let template = parts.join(SCHEMA);
            let mut expected = Definitions::default();
            expected.read(&blessed(&template).to_file()).unwrap();
            let now = template.replace(SCHEMA, &schema);
            prop_assert_eq!(&expected.differences(&[definition("function f()", "body", &now)], &schema, everywhere), &[]);
            let changed = format!("{now}x");
            prop_assert_eq!(expected.differences(&[definition("function f()", "body", &changed)], &schema, everywhere).len(), 1);
        }
    }
}
