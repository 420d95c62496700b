//! One run of a job, from its row in `job_runs` to its outcome there.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::pg::error::log_line;
use crate::pg::spi::Parameter;
use crate::trail::owner_transaction::{self, WorkerError};
use crate::tripwire::definitions;
use crate::worker::jobs::Exclusive;

/// Attempts to record a run's end before that is left to the next worker.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);
/// The statement timeout counts in whole milliseconds, and fires that much before the deadline.
const SLACK: Duration = Duration::from_millis(50);

/// The job whose function is not trusted alone: see [`definitions::witness`].
const TRIPWIRE: &str = "tripwire";

/// A run that has begun.
pub struct Run {
    /// The job's name.
    pub job: String,
    /// When its next step is.
    pub next_step: Instant,
    id: i64,
    steps: i64,
    summary: serde_json::Value,
    deadline: Instant,
    end: Option<End>,
    tries: u32,
    _exclusive: Exclusive,
}

struct End {
    outcome: &'static str,
    code: Option<String>,
    message: Option<String>,
}

/// What `job_step` returns.
#[derive(Deserialize)]
struct JobStep {
    more: bool,
    #[serde(default)]
    pause_ms: u64,
    summary: serde_json::Value,
    code: Option<String>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    job: &'a str,
    run: i64,
    code: Option<&'a str>,
    message: Option<&'a str>,
}

impl Run {
    /// Begins the run of a job that is due. `None` when it is not, or when another process runs it.
    pub fn begin(
        job: &str,
        exclusive: Option<Exclusive>,
        timeout: Duration,
    ) -> Result<Option<Self>, WorkerError> {
        let free = exclusive.is_some();
        let id = owner_transaction::run(None, |open| {
            let mut id = None;
            let sql = format!("SELECT {}.job_begin($1, $2::pg_catalog.bool)", open.schema);
            let parameters = [Parameter::Text(job), Parameter::Text(if free { "on" } else { "off" })];
            open.session.change(&sql, &parameters, |row| {
                id = row.int8(0);
                Ok(())
            })?;
            Ok(id)
        })?;
        let now = Instant::now();
        Ok(id.zip(exclusive).map(|(id, exclusive)| Self {
            job: job.to_owned(),
            next_step: now,
            id,
            steps: 0,
            summary: serde_json::json!({}),
            deadline: now + timeout,
            end: None,
            tries: 0,
            _exclusive: exclusive,
        }))
    }

    /// For pg_stat_activity.
    pub fn activity(&self) -> String {
        format!("running job {}, step {}", self.job, self.steps + 1)
    }

    /// Whether it ended well.
    pub fn succeeded(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.outcome == "succeeded")
    }

    /// Whether its end cannot be recorded: the next worker will.
    pub fn gave_up(&self) -> bool {
        self.tries >= TRIES
    }

    /// Does one step, and records the end after the last. True when the run has ended.
    pub fn step(&mut self) -> Result<bool, WorkerError> {
        if self.end.is_none() {
            self.end = self.advance()?;
        }
        if self.end.is_none() {
            return Ok(false);
        }
        self.tries += 1;
        self.next_step = Instant::now() + PAUSE;
        self.record()?;
        Ok(true)
    }

    fn advance(&mut self) -> Result<Option<End>, WorkerError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timed_out = || End {
            outcome: "timed_out",
            code: Some("57014".to_owned()),
            message: Some("the run took longer than its timeout".to_owned()),
        };
        if left.is_zero() {
            return Ok(Some(timed_out()));
        }
        let stepped = owner_transaction::run(Some(left), |open| {
            if self.job == TRIPWIRE {
                definitions::witness(open)?;
            }
            let mut result = String::new();
            let sql = format!("SELECT {}.job_step($1, $2::pg_catalog.jsonb)::pg_catalog.text", open.schema);
            let summary = self.summary.to_string();
            open.session.change(&sql, &[Parameter::Text(&self.job), Parameter::Text(&summary)], |row| {
                result = row.text(0)?.unwrap_or_default();
                Ok(())
            })?;
            Ok(result)
        });
        self.steps += 1;
        let failed = |code: Option<String>, message: String| {
            // A step was cancelled after the run's deadline: the timeout did it.
            if self.deadline <= Instant::now() + SLACK {
                timed_out()
            } else {
                End { outcome: "failed", code, message: Some(message) }
            }
        };
        let text = match stepped {
            Ok(text) => text,
            Err(WorkerError::Gone) => return Err(WorkerError::Gone),
            // Not an error of the job's function, which is caught there: its commit failed.
            Err(WorkerError::Error(message)) => return Ok(Some(failed(None, message))),
        };
        let step: JobStep = match serde_json::from_str(&text) {
            Ok(step) => step,
            Err(error) => return Ok(Some(failed(None, format!("the job returned no result: {error}")))),
        };
        if let Some(error) = step.error {
            return Ok(Some(failed(step.code, error)));
        }
        self.summary = step.summary;
        if step.more {
            self.next_step = Instant::now() + Duration::from_millis(step.pause_ms);
            return Ok(None);
        }
        Ok(Some(End { outcome: "succeeded", code: None, message: None }))
    }

    fn record(&self) -> Result<(), WorkerError> {
        let Some(end) = &self.end else { return Ok(()) };
        let nothing = |text: &Option<String>| text.clone().unwrap_or_default();
        let (code, message) = (nothing(&end.code), nothing(&end.message));
        owner_transaction::run(None, |open| {
            let sql = format!(
                "SELECT {}.job_end($1, $2, $3::pg_catalog.int4, $4::pg_catalog.jsonb, nullif($5, ''), nullif($6, ''))",
                open.schema
            );
            let summary = self.summary.to_string();
            let parameters = [
                Parameter::Int8(self.id),
                Parameter::Text(end.outcome),
                Parameter::Int8(self.steps),
                Parameter::Text(&summary),
                Parameter::Text(&code),
                Parameter::Text(&message),
            ];
            open.session.change(&sql, &parameters, |_| Ok(()))
        })?;
        if end.outcome != "succeeded" {
            let line = Line {
                event: "job_failed",
                job: &self.job,
                run: self.id,
                code: end.code.as_deref(),
                message: end.message.as_deref(),
            };
            if let Ok(line) = serde_json::to_string(&line) {
                log_line(&format!("zeroauth_audit: {line}"));
            }
        }
        Ok(())
    }
}
