//! Handing the schedules to pg_cron, and taking them back: the one place that knows pg_cron's tables and functions.
//!
//! Tried with pg_cron 1.4.2, which knows only GMT, and no seconds. Later ones have `cron.timezone`, which is queried. A schedule
//! that has no exact equal in pg_cron's zone is refused, and then nothing is handed over.

use pgrx::pg_sys;
use zeroauth_audit_schedule::Schedule;

use crate::pg::call::{Arguments, sql_function};
use crate::pg::error::{Failure, Kind};
use crate::pg::spi::{Parameter, Session};
use crate::pg::time::{self, EPOCH_SECONDS, SECOND};
use crate::trail::membership::INTERNAL;

/// What our jobs are called in pg_cron, before their own name.
const PREFIX: &str = "zeroauth_audit ";

/// pg_cron in this database.
struct PgCron<'a> {
    session: &'a Session,
}

/// A row of `cron.job`.
struct CronJob {
    id: i64,
}

impl<'a> PgCron<'a> {
    /// `None` when it is not installed in this database.
    fn find(session: &'a Session) -> Result<Option<Self>, Failure> {
        let mut there = false;
        session.all("SELECT 1 FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_cron'::pg_catalog.name", &[], |_| {
            there = true;
            Ok(())
        })?;
        Ok(there.then_some(Self { session }))
    }

    /// The time zone its schedules are meant in.
    fn zone(&self) -> Result<String, Failure> {
        Ok(setting(self.session, "cron.timezone")?.unwrap_or_else(|| "GMT".to_owned()))
    }

    /// `cron.schedule(job_name, schedule, command)`: its number.
    fn schedule(&self, name: &str, schedule: &str, command: &str) -> Result<i64, Failure> {
        let mut id = 0;
        let parameters = [Parameter::Text(name), Parameter::Text(schedule), Parameter::Text(command)];
        self.session.change("SELECT cron.schedule($1, $2, $3)", &parameters, |row| {
            id = row.int8(0).unwrap_or(0);
            Ok(())
        })?;
        Ok(id)
    }

    /// `cron.unschedule(job_id)`.
    fn unschedule(&self, job: &CronJob) -> Result<(), Failure> {
        self.session.change("SELECT cron.unschedule($1)", &[Parameter::Int8(job.id)], |_| Ok(()))
    }

    /// Our rows of `cron.job`, under any role.
    fn ours(&self) -> Result<Vec<CronJob>, Failure> {
        let mut jobs = Vec::new();
        let sql = "SELECT j.jobid FROM cron.job j WHERE pg_catalog.starts_with(j.jobname::pg_catalog.text, $1) AND j.database OPERATOR(pg_catalog.=) pg_catalog.current_database()::pg_catalog.text";
        self.session.all(sql, &[Parameter::Text(PREFIX)], |row| {
            jobs.push(CronJob { id: row.int8(0).unwrap_or(0) });
            Ok(())
        })?;
        Ok(jobs)
    }

    fn unschedule_ours(&self) -> Result<(), Failure> {
        self.ours()?.iter().try_for_each(|job| self.unschedule(job))
    }
}

fn setting(session: &Session, name: &str) -> Result<Option<String>, Failure> {
    let mut value = None;
    session.all("SELECT pg_catalog.current_setting($1, true)", &[Parameter::Text(name)], |row| {
        value = row.text(0)?.filter(|value| !value.is_empty());
        Ok(())
    })?;
    Ok(value)
}

fn not_here(session: &Session) -> Result<Failure, Failure> {
    let failure = Failure::new(Kind::PgCron, "pg_cron is not installed in this database");
    Ok(match setting(session, "cron.database_name")? {
        None => failure.hint("Add pg_cron to shared_preload_libraries, set cron.database_name to this database, restart the server, and CREATE EXTENSION pg_cron."),
        Some(database) => failure
            .detail(format!("cron.database_name is \"{database}\"; pg_cron works in that database only."))
            .hint("CREATE EXTENSION pg_cron in that database. In every other one the worker has to run the jobs."),
    })
}

fn use_pg_cron(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let session = Session::connect();
    let Some(cron) = PgCron::find(&session)? else { return Err(not_here(&session)?) };
    let zone = cron.zone()?;
    let mut jobs = Vec::new();
    let sql = format!(
        "SELECT j.name::pg_catalog.text, j.schedule, j.time_zone, j.enabled::pg_catalog.text FROM {INTERNAL}.jobs j ORDER BY j.name FOR UPDATE"
    );
    session.change(&sql, &[], |row| {
        let text = |n| Ok::<_, Failure>(row.text(n)?.unwrap_or_default());
        jobs.push((text(0)?, text(1)?, text(2)?, text(3)? == "true"));
        Ok(())
    })?;
    cron.unschedule_ours()?;
    let now = time::now() / SECOND + EPOCH_SECONDS;
    let mut handed_over = 0;
    for (name, expression, job_zone, enabled) in jobs {
        let schedule = Schedule::new(&expression, &job_zone)
            .map_err(|error| Failure::new(Kind::InvalidSchedule, error.to_string()))?;
        let expression = schedule.in_zone(&zone, now).map_err(|reason| {
            Failure::new(Kind::PgCron, format!("job \"{name}\" cannot be scheduled by pg_cron: {reason}"))
                .detail(format!("Its schedule is \"{expression}\" in {job_zone}; pg_cron's zone is {zone}."))
                .hint(format!("Give it a schedule in UTC with SELECT audit_job_set('{name}', schedule => .., time_zone => 'UTC'), or leave the jobs to the worker."))
        })?;
        // No scheduler lists a job that is off; the row keeps which one would run it.
        if enabled {
            let command = format!("SELECT {INTERNAL}.run_job('{name}', 'pg_cron')");
            cron.schedule(&format!("{PREFIX}{name}"), &expression, &command)?;
            handed_over += 1;
        }
    }
    assign(&session, INTERNAL, "pg_cron")?;
    drop(session);
    Ok(pg_sys::Datum::from(handed_over))
}

fn use_worker(_: &Arguments) -> Result<pg_sys::Datum, Failure> {
    let session = Session::connect();
    if let Some(cron) = PgCron::find(&session)? {
        cron.unschedule_ours()?;
    }
    let taken_back = assign(&session, INTERNAL, "worker")?;
    drop(session);
    Ok(pg_sys::Datum::from(taken_back))
}

/// Writes down who runs the jobs: how many changed hands.
fn assign(session: &Session, schema: &str, scheduler: &str) -> Result<i32, Failure> {
    let mut changed = 0;
    let sql = format!(
        "UPDATE {schema}.jobs AS j SET scheduler = $1 WHERE j.scheduler OPERATOR(pg_catalog.<>) $1 RETURNING 1"
    );
    session.change(&sql, &[Parameter::Text(scheduler)], |_| {
        changed += 1;
        Ok(())
    })?;
    Ok(changed)
}

sql_function!(zeroauth_audit_use_pg_cron, pg_finfo_zeroauth_audit_use_pg_cron, use_pg_cron);
sql_function!(zeroauth_audit_use_worker, pg_finfo_zeroauth_audit_use_worker, use_worker);
