//! Records a sink's report in the tables: what is published, what a witness signed, and what contradicts a log.

use zeroauth_audit_checkpoint_sinks::{Answer, SinkReport, Unwritten};
use zeroauth_audit_core::Digest;

use crate::log::keys;
use crate::log::registry_entries::Entries;
use crate::log::registry_rows::Run;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session, bigint, columns};

/// The work that a sink's thread has and has not reported on.
#[derive(Clone)]
pub enum Given {
    /// The directory is to be read.
    Open,
    /// Files of the directory are to be read, which are to be taken over.
    Read,
    /// Run files are to be written to the directory.
    Write,
    /// This is to be shown to the witness.
    Show(Exhibit),
}

/// A checkpoint that was shown to a witness.
#[derive(Clone)]
pub struct Exhibit {
    /// The run that it is of.
    pub run: u64,
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
    /// The number of the first file of the directory that is to be taken over, and was not read yet.
    pub lacking: Option<u64>,
    /// How many entries of which registry the witness saw last.
    pub saw: Option<(String, u64)>,
}

impl Outcome {
    fn failed() -> Self {
        Self { failed: true, ..Self::default() }
    }
}

/// Records one report. `all_read`: whether every directory was read.
pub fn record(
    session: &Session,
    schema: &str,
    sink: &str,
    given: &Given,
    report: Option<&SinkReport>,
    vkey: Option<&str>,
    all_read: bool,
) -> Result<Outcome, Failure> {
    let recorder = Recorder { session, schema, sink, all_read };
    match (given, report) {
        (Given::Open, Some(SinkReport::Opened(Ok(files)))) => recorder.opened(files),
        (Given::Read, Some(SinkReport::Read(Ok(texts)))) => recorder.read(texts),
        (Given::Write, Some(SinkReport::Written(Ok(to)))) => {
            recorder.reported(None, bigint(*to))?;
            Ok(Outcome::default())
        }
        (Given::Show(exhibit), Some(SinkReport::Shown(Ok(answer)))) => {
            recorder.shown(exhibit, answer, vkey.unwrap_or_default())
        }
        (_, Some(SinkReport::Written(Err(Unwritten::Contradicts { number, label, why })))) => {
            recorder.contradicted(*number, label.as_deref(), why)?;
            Ok(Outcome::failed())
        }
        (
            _,
            Some(
                SinkReport::Opened(Err(error))
                | SinkReport::Read(Err(error))
                | SinkReport::Shown(Err(error))
                | SinkReport::Written(Err(Unwritten::Failed(error))),
            ),
        ) => {
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
    all_read: bool,
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

    /// A run that was signed here does not go on from what the directory has.
    fn contradicted(&self, number: u64, label: Option<&str>, why: &str) -> Result<(), Failure> {
        let mut whose = None;
        if let (Some(label), Some(entries)) = (label, Entries::open(self.session, self.schema)?) {
            entries.tenants(&mut |tenant| {
                if entries.names.label(&tenant).text() == label {
                    whose = Some(tenant);
                }
                Ok(())
            })?;
        }
        let why = match &whose {
            Some(tenant) => format!("the log of tenant {tenant}, {why}"),
            None => why.to_owned(),
        };
        self.forked(number, &why, whose.as_deref())?;
        self.reported(Some(&format!("it does not take run {number}: {why}")), 0)
    }

    /// Nothing is signed any more.
    fn forked(&self, number: u64, why: &str, tenant: Option<&str>) -> Result<(), Failure> {
        let sql = format!("SELECT {}.registry_forked($1, $2, $3, NULLIF($4, ''))", self.schema);
        let parameters = [
            Parameter::Text(self.sink),
            Parameter::count(number),
            Parameter::Text(why),
            Parameter::Text(tenant.unwrap_or_default()),
        ];
        self.session.change(&sql, &parameters, |_| Ok(()))
    }

    /// The witness saw so many entries, which do not lead to what it was shown; in words, unless there are so many by now.
    fn contradicts(&self, exhibit: &Exhibit, saw: u64) -> Result<Option<String>, Failure> {
        let newest = Run::newest(self.session, self.schema)?.map_or(0, |run| run.size);
        if saw > exhibit.size && saw <= newest {
            return Ok(None);
        }
        let why = format!("the witness saw {saw} entries that do not lead to our {}", exhibit.size);
        if self.all_read {
            self.forked(exhibit.run, &why, None)?;
            return Ok(Some(why));
        }
        // What a directory has that could not be read yet may explain it.
        Ok(Some(format!("{why}, and not every directory could be read yet")))
    }

    /// Compares the files of a directory with the runs that were signed here.
    fn opened(&self, files: &[(u64, Digest)]) -> Result<Outcome, Failure> {
        let numbers: Vec<i64> = files.iter().map(|(number, _)| bigint(*number)).collect();
        let digests: Vec<Vec<u8>> = files.iter().map(|(_, digest)| digest.as_bytes().to_vec()).collect();
        let sql = format!("SELECT {}.sink_opened($1, $2, $3)", self.schema);
        let parameters =
            [Parameter::Text(self.sink), Parameter::Int8s(&numbers), Parameter::Byteas(&digests)];
        let mut differs = None;
        self.session.change(&sql, &parameters, |row| {
            differs = row.int8(0);
            Ok(())
        })?;
        match differs.map(u64::try_from) {
            Some(Err(_)) => {
                self.reported(Some("it contradicts what was signed here"), 0)?;
                Ok(Outcome::failed())
            }
            Some(Ok(from)) => Ok(Outcome { lacking: Some(from), ..Outcome::default() }),
            None => {
                self.reported(None, 0)?;
                Ok(Outcome::default())
            }
        }
    }

    /// Keeps files that are to be taken over by the job checkpoint.
    fn read(&self, texts: &[(u64, String)]) -> Result<Outcome, Failure> {
        let Some((last, _)) = texts.last() else {
            self.reported(None, 0)?;
            return Ok(Outcome::default());
        };
        let numbers: Vec<i64> = texts.iter().map(|(number, _)| bigint(*number)).collect();
        let files: Vec<String> = texts.iter().map(|(_, text)| text.clone()).collect();
        let sql = format!(
            "INSERT INTO {}.registry_found AS f (number, sink, file) SELECT r.number, $3, r.file FROM {} AS r (number, file)
             ON CONFLICT (number, sink) DO UPDATE SET file = excluded.file",
            self.schema,
            columns(2)
        );
        let parameters = [Parameter::Int8s(&numbers), Parameter::Texts(&files), Parameter::Text(self.sink)];
        self.session.change(&sql, &parameters, |_| Ok(()))?;
        Ok(Outcome { lacking: Some(last + 1), ..Outcome::default() })
    }

    fn shown(&self, exhibit: &Exhibit, answer: &Answer, vkey: &str) -> Result<Outcome, Failure> {
        let (mut saw, mut trouble) = (None, None);
        match answer {
            Answer::Cosigned(lines) => match keys::cosignature(&exhibit.note, lines, vkey) {
                Ok((line, at)) => self.cosigned(exhibit, &line, at)?,
                Err(why) => trouble = Some(why),
            },
            // It saw more than this, or as much with another root: it was shown that very size before.
            Answer::SawSize(size)
                if *size > exhibit.size || *size == exhibit.size && exhibit.old_size == *size =>
            {
                trouble = self.contradicts(exhibit, *size)?;
                saw = trouble.is_none().then_some(*size);
            }
            Answer::SawSize(size) => saw = Some(*size),
            Answer::Inconsistent => trouble = self.contradicts(exhibit, exhibit.old_size)?,
            Answer::Refused(why) => trouble = Some(why.clone()),
        }
        self.reported(trouble.as_deref(), 0)?;
        let saw = saw.map(|size| (exhibit.origin.clone(), size));
        Ok(Outcome { failed: trouble.is_some(), saw, ..Outcome::default() })
    }

    fn cosigned(&self, exhibit: &Exhibit, line: &str, at: u64) -> Result<(), Failure> {
        let sql = format!("SELECT {}.registry_cosigned($1, $2, $3, $4, $5)", self.schema);
        let parameters = [
            Parameter::Text(self.sink),
            Parameter::count(exhibit.run),
            Parameter::count(exhibit.size),
            Parameter::Text(line),
            Parameter::count(at),
        ];
        self.session.change_again(&sql, &parameters, |_| Ok(()))
    }
}
