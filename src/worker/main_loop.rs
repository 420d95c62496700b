//! The worker of one database: runs the jobs of the table `jobs` when they are due, one step at a time.
//!
//! A step is one transaction. Other runs get their turn between two steps of a run, so a long run delays no other. The
//! worker reads the due jobs from the table, at the start and whenever it is woken; in between it sleeps until the next one is
//! due. An error of a job ends its run and is recorded. An error around a job is logged, and retried after a
//! pause. Anything worse ends the process, and the launcher starts another.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pgrx::{pg_guard, pg_sys};

use crate::alert::delivery::Delivery;
use crate::alert::outbox::Outbox;
use crate::anchor::sending::Anchoring;
use crate::log::publish::Publication;
use crate::shared::databases::{End, work};
use crate::trail::owner_transaction::{self, WorkerError};
use crate::worker::jobs::Exclusive;
use crate::worker::process::{
    Wake, accept_signals, dying, leave, reload_if_asked, set_parameter, show, wait, wait_also_for,
};
use crate::worker::run::Run;
use crate::worker::schedule;
use crate::worker::schedule::{Clock, Plan};
use crate::worker::standby;

static DATABASE: AtomicU32 = AtomicU32::new(0);
static NOTHING_TO_DO: AtomicBool = AtomicBool::new(false);

/// How long to wait after an error.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// The time limit of a transaction that records and takes deliveries, reports or batches.
const DELIVERY_LIMIT: Option<Duration> = Some(Duration::from_secs(60));
/// The job that plans anchors.
const ANCHORING: &str = "anchor";
/// The job that signs checkpoints.
const SEALING: &str = "checkpoint";
/// How long the job `checkpoint` waits until the directories of sinks were read.
const PAUSE_BEFORE_SEALING: Duration = Duration::from_millis(200);
/// The longest sleep: a clock that is set forward is noticed within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

#[pg_guard]
unsafe extern "C-unwind" fn at_exit(_code: i32, _argument: pg_sys::Datum) {
    let end = if NOTHING_TO_DO.load(Relaxed) { End::NothingToDo } else { End::Ended };
    work::leave(DATABASE.load(Relaxed), end);
}

/// The main function of a worker process; its argument is the database's oid.
#[unsafe(no_mangle)]
#[pg_guard]
pub extern "C-unwind" fn zeroauth_audit_worker_main(argument: pg_sys::Datum) {
    let database = argument.value() as u32;
    // SAFETY: reads shared state.
    let on_standby = unsafe { pg_sys::RecoveryInProgress() };
    if !work::claim(database, on_standby) {
        leave(0);
    }
    DATABASE.store(database, Relaxed);
    // SAFETY: after the claim, which it gives back; it runs after this process is gone from the list of backends.
    unsafe { pg_sys::on_shmem_exit(Some(at_exit), pg_sys::Datum::from(0)) };
    // SAFETY: reads shared state.
    if on_standby && !unsafe { pg_sys::RecoveryInProgress() } {
        // Promoted in between: the new launcher did not see this process, and starts a full worker.
        leave(0);
    }
    accept_signals();
    // SAFETY: once, at the start. An error, such as a database that is gone, ends the process.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            pg_sys::Oid::from(database),
            pg_sys::Oid::INVALID,
            0,
        );
    }
    // Settings of the database or of the role are for sessions; what would change the meaning of a job is fixed here.
    for (name, value) in [
        (c"application_name", c"zeroauth_audit"),
        (c"search_path", c"pg_catalog, pg_temp"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_isolation", c"read committed"),
        // Commits wait for no standby: alerts must go out when one is away. Publishing checks by itself what standbys must have.
        (c"synchronous_commit", c"local"),
        (c"session_replication_role", c"origin"),
        (c"zeroauth_audit.maintenance", c"off"),
        (c"statement_timeout", c"0"),
        (c"lock_timeout", c"10s"),
        (c"idle_in_transaction_session_timeout", c"0"),
        (c"TimeZone", c"UTC"),
        (c"DateStyle", c"ISO"),
        (c"IntervalStyle", c"postgres"),
        (c"standard_conforming_strings", c"on"),
        (c"backslash_quote", c"safe_encoding"),
        (c"transform_null_equals", c"off"),
        (c"array_nulls", c"on"),
        (c"bytea_output", c"hex"),
        (c"quote_all_identifiers", c"off"),
        (c"row_security", c"on"),
    ] {
        set_parameter(name, value);
    }
    let end = if on_standby { standby::serve(database) } else { serve(database) };
    NOTHING_TO_DO.store(end == End::NothingToDo, Relaxed);
    // Stopped by request, or nothing to do: no line in the log. After pg_terminate_backend there is one.
    leave(if dying() && !work::signals(database).0 { 1 } else { 0 });
}

/// Runs jobs until the process must stop.
fn serve(database: u32) -> End {
    show(true, "starting");
    let mut errors = ErrorLog::default();
    match schedule::settle() {
        Err(WorkerError::Gone) => return End::NothingToDo,
        Err(WorkerError::Error(message)) => errors.log("settling jobs", &message),
        Ok(()) => {}
    }
    work::settle(database);
    let mut delivery = match Delivery::new() {
        Ok(delivery) => delivery,
        Err(error) => {
            errors.log("preparing delivery", &error.to_string());
            return End::Ended;
        }
    };
    let mut publication = match Publication::new() {
        Ok(publication) => publication,
        Err(error) => {
            errors.log("preparing publication", &error.to_string());
            return End::Ended;
        }
    };
    let mut anchoring = match Anchoring::new() {
        Ok(anchoring) => anchoring,
        Err(error) => {
            errors.log("preparing anchors", &error.to_string());
            return End::Ended;
        }
    };
    let wake = match Wake::of(&[delivery.wake_fd(), publication.wake_fd(), anchoring.wake_fd()]) {
        Ok(wake) => wake,
        Err(error) => {
            errors.log("preparing to wait", &error.to_string());
            return End::Ended;
        }
    };
    let mut outbox = Outbox::default();
    let (mut plan, mut runs, mut clock) = (Plan::default(), Vec::<Run>::new(), Clock::start());
    loop {
        let (stop, woken) = work::signals(database);
        if dying() || stop {
            return End::Ended;
        }
        if clock.was_set_back() {
            plan.note(schedule::correct());
        }
        if reload_if_asked() || woken {
            plan.outdated = true;
        }
        if plan.outdated {
            match plan.load() {
                Err(WorkerError::Gone) => return End::NothingToDo,
                Err(WorkerError::Error(message)) => {
                    errors.log("reading the jobs", &message);
                    wait(Some(PAUSE_AFTER_TROUBLE));
                    continue;
                }
                Ok(()) => {}
            }
        }
        if !plan.is_copy && (woken || delivery.is_due()) {
            show(true, "delivering alerts");
            match delivery
                .tick(|body| owner_transaction::run(DELIVERY_LIMIT, |open| body(&open.session, open.schema)))
            {
                Err(WorkerError::Gone) => return End::NothingToDo,
                Err(WorkerError::Error(message)) => errors.log("delivering alerts", &message),
                Ok(()) => outbox.look(),
            }
        }
        // After the deliveries: people are told first.
        if !plan.is_copy && (woken || outbox.is_due()) {
            show(true, "appending events about alerts");
            match outbox.tick() {
                Err(WorkerError::Gone) => return End::NothingToDo,
                Err(WorkerError::Error(message)) => errors.log("appending events about alerts", &message),
                Ok(()) => {}
            }
        }
        if !plan.is_copy && (woken || publication.is_due()) {
            if woken {
                publication.look();
            }
            show(true, "publishing checkpoints");
            match publication
                .tick(|body| owner_transaction::run(DELIVERY_LIMIT, |open| body(&open.session, open.schema)))
            {
                Err(WorkerError::Gone) => return End::NothingToDo,
                Err(WorkerError::Error(message)) => errors.log("publishing checkpoints", &message),
                Ok(()) => {}
            }
        }
        if !plan.is_copy && (woken || anchoring.is_due()) {
            if woken {
                anchoring.look();
            }
            show(true, "anchoring");
            match anchoring
                .tick(|body| owner_transaction::run(DELIVERY_LIMIT, |open| body(&open.session, open.schema)))
            {
                Err(WorkerError::Gone) => return End::NothingToDo,
                Err(WorkerError::Error(message)) => errors.log("anchoring", &message),
                Ok(()) => {}
            }
        }
        if let Some(job) = plan.due(&runs) {
            let job = job.to_owned();
            if job == SEALING && !plan.is_copy && !publication.is_ready() {
                plan.postpone(&job, PAUSE_BEFORE_SEALING);
                continue;
            }
            show(true, &format!("beginning job {job}"));
            let exclusive = Exclusive::acquire(&job);
            match Run::begin(&job, exclusive, plan.timeout(&job)) {
                Ok(Some(run)) => runs.push(run),
                Ok(None) => plan.postpone(&job, PAUSE_AFTER_TROUBLE),
                Err(WorkerError::Gone) => return End::NothingToDo,
                Err(WorkerError::Error(message)) => {
                    errors.log(&format!("beginning job {job}"), &message);
                    plan.postpone(&job, PAUSE_AFTER_TROUBLE);
                }
            }
            plan.outdated = true;
            continue;
        }
        // The run that has waited longest.
        runs.sort_by_key(|run| run.next_step);
        if runs.first().is_some_and(|run| run.next_step <= Instant::now()) {
            show(true, &runs[0].activity());
            match runs[0].step() {
                Ok(false) => {}
                Ok(true) => {
                    let run = runs.remove(0);
                    plan.ended(run.succeeded());
                    if run.job == SEALING {
                        publication.look();
                    }
                    if run.job == ANCHORING {
                        anchoring.look();
                    }
                }
                Err(WorkerError::Gone) => return End::NothingToDo,
                Err(WorkerError::Error(message)) => {
                    errors.log(&runs[0].activity(), &message);
                    if runs[0].gave_up() {
                        runs.remove(0);
                    }
                }
            }
            continue;
        }
        if plan.overdue_to_check() {
            plan.note(schedule::check_overdue());
            continue;
        }
        show(false, &plan.waiting_for());
        let step = runs.first().map(|run| run.next_step.saturating_duration_since(Instant::now()));
        // What leaves the database, and when; nothing leaves a copy of one.
        let out = [delivery.next_due(), outbox.next_due(), publication.next_due(), anchoring.next_due()];
        let out = out.into_iter().flatten().filter(|_| !plan.is_copy);
        let out = out.map(|due| due.saturating_duration_since(Instant::now()));
        let times = plan.sleep().into_iter().chain(step).chain(out);
        wait_also_for(wake.descriptor(), Some(times.fold(LONGEST_SLEEP, Duration::min)));
    }
}

/// Errors around the jobs, each logged once a minute at most.
#[derive(Default)]
struct ErrorLog {
    last: Option<(String, Instant)>,
}

impl ErrorLog {
    fn log(&mut self, doing: &str, message: &str) {
        let line = format!("zeroauth_audit: error while {doing}: {message}");
        let repeated = self
            .last
            .as_ref()
            .is_some_and(|(last, at)| *last == line && at.elapsed() < Duration::from_secs(60));
        if !repeated {
            pgrx::warning!("{line}");
            self.last = Some((line, Instant::now()));
        }
    }
}
