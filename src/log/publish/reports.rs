//! Records a sink's report in the tables: what is published, what a witness signed, and what contradicts a log.

use std::collections::BTreeSet;

use zeroauth_audit_checkpoint_sinks::{Answer, Conflict, Sealed, SinkReport};

use crate::log::keys;
use crate::log::store::{Log, Tiles};
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// The work that a sink's thread has and has not reported on.
#[derive(Clone)]
pub enum Given {
    /// The directory is to be read.
    Open,
    /// Checkpoints up to this number are to be written to the directory.
    Write { to: i64 },
    /// These are to be shown to the witness.
    Show(Vec<Exhibit>),
}

/// A checkpoint that was shown to a witness.
#[derive(Clone)]
pub struct Exhibit {
    /// Whose log it is of.
    pub tenant: String,
    /// The epoch of the log.
    pub epoch: i32,
    /// Its origin.
    pub origin: String,
    /// The size that the witness saw last.
    pub old_size: u64,
    /// Its own size.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// What the worker remembers of a report.
#[derive(Default)]
pub struct Outcome {
    /// Whether to retry later.
    pub failed: bool,
    /// What the witness saw last, by origin.
    pub saw: Vec<(String, u64)>,
}

impl Outcome {
    fn failed() -> Self {
        Self { failed: true, ..Self::default() }
    }
}

/// Records one report.
pub fn record(
    session: &Session,
    schema: &str,
    sink: &str,
    given: &Given,
    report: Option<&SinkReport>,
    vkey: Option<&str>,
) -> Result<Outcome, Failure> {
    let recorder = Recorder { session, schema, sink };
    match (given, report) {
        (Given::Open, Some(SinkReport::Opened(Ok(newest)))) => recorder.opened(newest),
        (Given::Write { to }, Some(SinkReport::Written(Ok(conflicts)))) => recorder.written(*to, conflicts),
        (Given::Show(exhibits), Some(SinkReport::Shown(answers, error))) => {
            recorder.shown(exhibits, answers, error.as_deref(), vkey.unwrap_or_default())
        }
        (_, Some(SinkReport::Opened(Err(error)) | SinkReport::Written(Err(error)))) => {
            recorder.reported(Some(error), 0)?;
            Ok(Outcome::failed())
        }
        _ => {
            recorder.reported(Some("an internal error"), 0)?;
            Ok(Outcome::failed())
        }
    }
}

struct Recorder<'a> {
    session: &'a Session,
    schema: &'a str,
    sink: &'a str,
}

impl Recorder<'_> {
    fn reported(&self, error: Option<&str>, published: i64) -> Result<(), Failure> {
        let sql = format!("SELECT {}.sink_reported($1, NULLIF($2, ''), $3)", self.schema);
        let parameters = [
            Parameter::Text(self.sink),
            Parameter::Text(error.unwrap_or_default()),
            Parameter::Int8(published),
        ];
        self.session.change(&sql, &parameters, |_| Ok(()))
    }

    fn hold_log(&self, origin: &str, size: u64, root: Option<&[u8; 32]>) -> Result<(), Failure> {
        let sql = format!("SELECT {}.hold_log($1, $2, NULLIF($3, ''::pg_catalog.bytea), $4)", self.schema);
        let parameters = [
            Parameter::Text(origin),
            Parameter::count(size),
            Parameter::Bytes(root.map_or(&[], |root| &root[..])),
            Parameter::Text(self.sink),
        ];
        self.session.change(&sql, &parameters, |_| Ok(()))
    }

    /// Compares the newest checkpoints of a directory with the logs.
    fn opened(&self, newest: &[Sealed]) -> Result<Outcome, Failure> {
        if newest.is_empty() {
            let sql = format!("SELECT {}.sink_emptied($1)", self.schema);
            self.session.change(&sql, &[Parameter::Text(self.sink)], |_| Ok(()))?;
        }
        let mut missing = BTreeSet::new();
        for sealed in newest {
            match Log::by_origin(self.session, self.schema, &sealed.origin)? {
                None => {
                    missing.insert(sealed.origin.as_str());
                }
                Some((tenant, log)) if log.is_open() => {
                    let tiles = Tiles::new(self.session, self.schema, &tenant, log.epoch);
                    let same = sealed.size <= log.size
                        && tiles.root(sealed.size)?.is_ok_and(|root| *root.as_bytes() == sealed.root);
                    if !same {
                        self.hold_log(&sealed.origin, sealed.size, Some(&sealed.root))?;
                    }
                }
                Some(_) => {}
            }
        }
        let list = serde_json::to_string(&missing).unwrap_or_default();
        let sql = format!(
            "SELECT {}.log_missing(ARRAY(SELECT pg_catalog.jsonb_array_elements_text($1::pg_catalog.jsonb)), $2)",
            self.schema
        );
        self.session.change(&sql, &[Parameter::Text(&list), Parameter::Text(self.sink)], |_| Ok(()))?;
        self.reported(None, 0)?;
        Ok(Outcome::default())
    }

    fn written(&self, to: i64, conflicts: &[Conflict]) -> Result<Outcome, Failure> {
        for conflict in conflicts {
            self.hold_log(&conflict.origin, conflict.size, conflict.root.as_ref())?;
        }
        self.reported(None, to)?;
        Ok(Outcome::default())
    }

    fn shown(
        &self,
        exhibits: &[Exhibit],
        answers: &[(usize, Answer)],
        error: Option<&str>,
        vkey: &str,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let mut trouble = error.map(str::to_owned);
        for (number, answer) in answers {
            let Some(exhibit) = exhibits.get(*number) else { continue };
            match answer {
                Answer::Cosigned(lines) => match keys::cosignature(&exhibit.note, lines, vkey) {
                    Ok((line, at)) => self.cosigned(exhibit, &line, at)?,
                    Err(why) => trouble = Some(why),
                },
                // The witness saw a larger log than this one, or the same size with another root: it was shown that very size before.
                Answer::SawSize(size)
                    if *size > exhibit.size || *size == exhibit.size && exhibit.old_size == *size =>
                {
                    let current = Log::by_origin(self.session, self.schema, &exhibit.origin)?;
                    if current.is_none_or(|(_, log)| *size > log.size || *size == exhibit.size) {
                        self.hold_log(&exhibit.origin, *size, None)?;
                    } else {
                        outcome.saw.push((exhibit.origin.clone(), *size));
                    }
                }
                Answer::SawSize(size) => outcome.saw.push((exhibit.origin.clone(), *size)),
                Answer::Inconsistent => self.hold_log(&exhibit.origin, exhibit.old_size, None)?,
                Answer::Refused(why) => trouble = Some(why.clone()),
            }
        }
        self.reported(trouble.as_deref(), 0)?;
        outcome.failed = trouble.is_some();
        Ok(outcome)
    }

    fn cosigned(&self, exhibit: &Exhibit, line: &str, at: u64) -> Result<(), Failure> {
        let sql = format!(
            "INSERT INTO {}.cosignatures AS c (sink, tenant_id, epoch, tree_size, line, cosigned_at)
             VALUES ($1, $2, $3::pg_catalog.int4, $4, $5, pg_catalog.to_timestamp($6))
             ON CONFLICT (sink, tenant_id, epoch, tree_size) DO UPDATE SET line = excluded.line, cosigned_at = excluded.cosigned_at",
            self.schema
        );
        let parameters = [
            Parameter::Text(self.sink),
            Parameter::Text(&exhibit.tenant),
            Parameter::Int8(i64::from(exhibit.epoch)),
            Parameter::count(exhibit.size),
            Parameter::Text(line),
            Parameter::count(at),
        ];
        self.session.change_again(&sql, &parameters, |_| Ok(()))
    }
}
