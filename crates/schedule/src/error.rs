//! What is wrong with an expression or a zone, and why a schedule has no equal in another zone.

use std::fmt;

/// Why an expression and a zone are no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No time zone has this name.
    UnknownZone(String),
    /// Not five fields, or too long.
    FieldCount {
        /// What was given.
        expression: String,
        /// How many fields it has.
        fields: usize,
    },
    /// A field that cannot be read.
    Expression {
        /// What was given.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownZone(zone) => write!(f, "unknown time zone \"{zone}\""),
            Self::FieldCount { expression, fields } => {
                write!(f, "invalid schedule \"{expression}\": {fields} fields, not 5 of at most 256 bytes")
            }
            Self::Expression { expression, reason } => {
                write!(f, "invalid schedule \"{expression}\": {reason}")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Why a schedule cannot be said in another zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inexpressible {
    /// No time zone has this name.
    UnknownZone(String),
    /// The offset between the two zones changes during the year.
    OffsetChanges,
    /// The offset is no whole number of minutes.
    OddOffset,
    /// `L`, `W`, `#` or `?`, which crontab does not have.
    Modifier,
    /// The day changes, and the expression names days of the month or months.
    DayChanges,
    /// The times that result are no product of minutes and hours, or fall on different days.
    NoProduct,
}

impl fmt::Display for Inexpressible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownZone(zone) => write!(f, "unknown time zone \"{zone}\""),
            Self::OffsetChanges => f.write_str("the offset between the two zones changes during the year"),
            Self::OddOffset => f.write_str("the offset between the two zones is no whole number of minutes"),
            Self::Modifier => f.write_str("the expression uses L, W, # or ?"),
            Self::DayChanges => {
                f.write_str("the times fall on another day there, and the expression names days or months")
            }
            Self::NoProduct => {
                f.write_str("the times there are no product of minutes and hours on the same days")
            }
        }
    }
}

impl std::error::Error for Inexpressible {}
