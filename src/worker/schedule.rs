//! What the worker knows of the table `jobs`: which job is due, and until when nothing is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::pg::error::Failure;
use crate::pg::spi::Parameter;
use crate::pg::time::{self, SECOND};
use crate::trail::owner_transaction::{self, Open, WorkerError};
use crate::worker::run::Run;

/// Overdue jobs are looked for this often, whatever the table says of when.
const WATCH_EVERY: i64 = 120 * SECOND;
/// Wall clock and steady clock do not drift apart by this much unless one is set.
const STEP_BACK: i64 = 60 * SECOND;

struct Job {
    name: String,
    /// `None` when another scheduler runs it.
    next_run: Option<i64>,
    overdue_at: Option<i64>,
    timeout: Duration,
}

/// The jobs, as last read.
pub struct Plan {
    /// Whether the table must be read again.
    pub outdated: bool,
    /// Whether this database is a copy of another: then nothing leaves it.
    pub is_copy: bool,
    jobs: Vec<Job>,
    /// Jobs that are not tried again before this time.
    postponed: HashMap<String, Instant>,
    overdue_checked: i64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            outdated: true,
            is_copy: false,
            jobs: Vec::new(),
            postponed: HashMap::new(),
            overdue_checked: time::now(),
        }
    }
}

impl Plan {
    /// Reads the table.
    pub fn load(&mut self) -> Result<(), WorkerError> {
        let mut is_copy = false;
        self.jobs = owner_transaction::run(None, |open| {
            let mut jobs = Vec::new();
            // An older version of the extension has no jobs.
            let mut there = false;
            let table = format!("{}.jobs", open.schema);
            open.session.all(
                "SELECT pg_catalog.to_regclass($1) IS NOT NULL",
                &[Parameter::Text(&table)],
                |row| {
                    there = row.datum(0).is_some_and(|datum| datum.value() != 0);
                    Ok(())
                },
            )?;
            if !there {
                return Ok(jobs);
            }
            let copy = format!("SELECT {}.copy_of() IS NOT NULL", open.schema);
            open.session.change(&copy, &[], |row| {
                is_copy = row.bool(0);
                Ok(())
            })?;
            let sql = include_str!("../../sql/queries/job_plan.sql");
            open.session.all(sql, &[], |row| {
                jobs.push(Job {
                    name: row.text(0)?.unwrap_or_default(),
                    next_run: row.int8(1),
                    overdue_at: row.int8(2),
                    timeout: Duration::from_millis(row.count(3).unwrap_or(1)),
                });
                Ok(())
            })?;
            Ok(jobs)
        })?;
        (self.outdated, self.is_copy) = (false, is_copy);
        self.postponed.retain(|_, until| *until > Instant::now());
        Ok(())
    }

    /// The job that is due longest, and not running.
    pub fn due(&self, runs: &[Run]) -> Option<&str> {
        let now = time::now();
        let due = self.waiting().filter(|(_, at)| *at <= now);
        let idle = due.filter(|(job, _)| !runs.iter().any(|run| run.job == job.name));
        idle.min_by_key(|(_, at)| *at).map(|(job, _)| job.name.as_str())
    }

    fn waiting(&self) -> impl Iterator<Item = (&Job, i64)> {
        let now = Instant::now();
        self.jobs
            .iter()
            .filter(move |job| self.postponed.get(&job.name).is_none_or(|until| *until <= now))
            .filter_map(|job| Some((job, job.next_run?)))
    }

    /// How long a run of `job` may take.
    pub fn timeout(&self, job: &str) -> Duration {
        self.jobs.iter().find(|known| known.name == job).map_or(Duration::from_secs(1), |known| known.timeout)
    }

    /// Does not try `job` again for a while.
    pub fn postpone(&mut self, job: &str, pause: Duration) {
        self.postponed.insert(job.to_owned(), Instant::now() + pause);
    }

    /// A run ended; one that failed may have made its job overdue.
    pub fn ended(&mut self, succeeded: bool) {
        self.outdated = true;
        if !succeeded {
            self.overdue_checked = i64::MIN;
        }
    }

    /// The outcome of something that changed the table: tried again later when it failed.
    pub fn note(&mut self, outcome: Result<(), WorkerError>) {
        self.outdated = true;
        self.overdue_checked = time::now();
        if let Err(WorkerError::Error(message)) = outcome {
            pgrx::warning!("zeroauth_audit: error while looking after the jobs: {message}");
        }
    }

    /// Whether a job became overdue that was not reported yet.
    pub fn overdue_to_check(&self) -> bool {
        let now = time::now();
        // By this process's own clock: what the table says can be put off.
        now >= self.overdue_checked.saturating_add(WATCH_EVERY)
            || self
                .jobs
                .iter()
                .filter_map(|job| job.overdue_at)
                .any(|at| at <= now && at > self.overdue_checked)
    }

    /// How long there is nothing to do.
    pub fn sleep(&self) -> Option<Duration> {
        let now = time::now();
        let runs = self.waiting().map(|(_, at)| time::until(at));
        let overdue =
            self.jobs.iter().filter_map(|job| job.overdue_at).filter(|at| *at > now).map(time::until);
        let postponed = self.postponed.values().map(|at| at.saturating_duration_since(Instant::now()));
        let watch = std::iter::once(time::until(self.overdue_checked.saturating_add(WATCH_EVERY)));
        runs.chain(overdue).chain(watch).chain(postponed.filter(|pause| !pause.is_zero())).min()
    }

    /// For pg_stat_activity.
    pub fn waiting_for(&self) -> String {
        match self.waiting().min_by_key(|(_, at)| *at) {
            Some((job, _)) => format!("waiting for job {}", job.name),
            None => "waiting, no job is scheduled".to_owned(),
        }
    }
}

/// Notices a clock that is set back: planned times are then too far in the future.
pub struct Clock {
    wall: i64,
    steady: Instant,
}

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self { wall: time::now(), steady: Instant::now() }
    }

    /// Whether the clock was set back since the last call.
    pub fn was_set_back(&mut self) -> bool {
        let before = std::mem::replace(self, Self::start());
        let elapsed = i64::try_from((self.steady - before.steady).as_micros()).unwrap_or(i64::MAX);
        self.wall < before.wall.saturating_add(elapsed) - STEP_BACK
    }
}

/// Whether this version of the extension has `name`, a function by its signature.
fn has(open: &Open, signature: &str) -> Result<bool, Failure> {
    let mut there = false;
    open.session.all(
        "SELECT pg_catalog.to_regprocedure($1) IS NOT NULL",
        &[Parameter::Text(signature)],
        |row| {
            there = row.bool(0);
            Ok(())
        },
    )?;
    Ok(there)
}

/// Calls a function for every job, each time in a transaction of its own.
///
/// The worker holds the row of one job at a time: it and a session that changes several, in whatever order, do not wait for
/// each other for ever. Every job gets its call; the first error is returned.
fn for_each_job(function: &str) -> Result<(), WorkerError> {
    let jobs = owner_transaction::run(None, |open| {
        let mut jobs = Vec::new();
        if has(open, &format!("{}.{function}(text)", open.schema))? {
            let sql = include_str!("../../sql/queries/jobs_by_name.sql");
            open.session.all(sql, &[], |row| {
                jobs.extend(row.text(0)?);
                Ok(())
            })?;
        }
        Ok(jobs)
    })?;
    let mut outcome = Ok(());
    for job in jobs {
        let called = owner_transaction::run(None, |open| {
            let sql = format!("SELECT {}.{function}($1)", open.schema);
            open.session.change(&sql, &[Parameter::Text(&job)], |_| Ok(()))
        });
        match called {
            Err(WorkerError::Gone) => return Err(WorkerError::Gone),
            other => outcome = outcome.and(other),
        }
    }
    outcome
}

/// Ends what the worker before left behind.
pub fn settle() -> Result<(), WorkerError> {
    for_each_job("job_settle")
}

/// Plans anew what a wrong clock had planned.
pub fn correct() -> Result<(), WorkerError> {
    for_each_job("job_correct")
}

/// Raises an alert for every job that is overdue.
pub fn check_overdue() -> Result<(), WorkerError> {
    owner_transaction::run(None, |open| {
        let function = format!("{}.jobs_check_overdue()", open.schema);
        if !has(open, &function)? {
            return Ok(());
        }
        open.session.change(&format!("SELECT {function}"), &[], |_| Ok(()))
    })
}
