//! `zeroauth_audit`: a tamper-evident audit trail for PostgreSQL. This file only wires the modules together.
//!
//! | module | what it does |
//! |---|---|
//! | [`chain`] | BEFORE INSERT trigger: gives every event its place and its hash |
//! | [`lock`], [`head`] | which chain a transaction may append to, and where that chain ends |
//! | [`shared_heads`], [`ending`] | ends of chains in shared memory, and what follows a transaction's end |
//! | [`guard`], [`ddl`], [`statements`], [`member`] | refuse changes of rows, and of the table itself |
//! | [`verify`], [`pass`], [`walk`] | replay: SQL functions, the one pass in any order, the walk in order |
//! | [`newest`], [`drift`] | the newest events of a tenant; the reading part of the job that replays on a schedule |
//! | [`drill`] | the scratch table that `audit_drill()` plays attacks on |
//! | [`columns`], [`jsonb`], [`hashes`] | stored values as the core sees them; the two hashes as SQL functions |
//! | [`definitions`], [`uses`], [`clock`], [`pins`] | what the tripwires look at: definitions, who opened the trail, the clock, pinned files |
//! | [`alerts`] | what an alert leaves behind besides its row: an event of our own, a log line |
//! | [`deliver`] | the worker's part in sending alerts |
//! | [`log`], [`seal`], [`keys`], [`publish`] | the Merkle log: reading it, sealing it, keys, and how checkpoints leave the machine |
//! | [`compare`] | the trail against what was sealed |
//! | [`prove`], [`proofs`] | proof bundles and consistency proofs |
//! | [`anchoring`] | anchors: planning them, the worker's part, missed days, the daily check |
//! | [`query`], [`access`], [`progress`], [`srf`] | reading through SQL, who may check what, how far a check is, returning rows |
//! | [`launcher`], [`registry`], [`process`] | one background worker for each database that has the extension |
//! | [`worker`], [`schedule`], [`run`], [`transaction`], [`standby`], [`jobs`], [`pg_cron`] | what a worker does: jobs, when they are due |
//! | [`tell`], [`hold`] | what sessions tell launcher and workers, and statements that a worker must make way for |
//! | [`call`], [`error`], [`memory`], [`settings`], [`random`], [`compat`] | the edge to PostgreSQL |

mod access;
mod alerts;
mod anchoring;
mod call;
mod chain;
mod clock;
mod columns;
mod compare;
mod compat;
mod ddl;
mod definitions;
mod deliver;
mod drift;
mod drill;
mod ending;
mod error;
mod guard;
mod hashes;
mod head;
mod hold;
mod jobs;
mod jsonb;
mod keys;
mod launcher;
mod lock;
mod log;
mod member;
mod memory;
mod newest;
mod pass;
mod pg_cron;
mod pins;
mod process;
mod progress;
mod proofs;
mod prove;
mod publish;
mod query;
mod random;
mod registry;
mod run;
mod schedule;
mod seal;
mod settings;
mod shared_heads;
mod srf;
mod standby;
mod statements;
mod tell;
mod transaction;
mod uses;
mod verify;
mod walk;
mod worker;

::pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/schema/01_functions.sql", name = "functions", bootstrap);
pgrx::extension_sql_file!("../sql/schema/02_events.sql", name = "events", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/schema/03_verify.sql", name = "verify", requires = ["events"]);
pgrx::extension_sql_file!("../sql/schema/04_drill.sql", name = "drill", requires = ["verify"]);
pgrx::extension_sql_file!("../sql/schema/05_alerts.sql", name = "alerts", requires = ["drill"]);
pgrx::extension_sql_file!("../sql/schema/06_jobs.sql", name = "jobs", requires = ["alerts"]);
pgrx::extension_sql_file!("../sql/schema/07_drift.sql", name = "drift", requires = ["jobs"]);
pgrx::extension_sql_file!("../sql/schema/07_drift_job.sql", name = "drift_job", requires = ["drift"]);
pgrx::extension_sql_file!("../sql/schema/07_integrity.sql", name = "integrity", requires = ["drift_job"]);
pgrx::extension_sql_file!("../sql/schema/08_tripwires.sql", name = "tripwires", requires = ["integrity"]);
pgrx::extension_sql_file!("../sql/schema/09_health.sql", name = "health", requires = ["tripwires"]);
pgrx::extension_sql_file!("../sql/schema/10_log.sql", name = "log", requires = ["health"]);
pgrx::extension_sql_file!("../sql/schema/11_log_functions.sql", name = "log_functions", requires = ["log"]);
pgrx::extension_sql_file!("../sql/schema/12_anchors.sql", name = "anchors", requires = ["log_functions"]);
pgrx::extension_sql_file!(
    "../sql/schema/13_anchor_functions.sql",
    name = "anchor_functions",
    requires = ["anchors"]
);
pgrx::extension_sql_file!(
    "../sql/schema/13_anchors_check.sql",
    name = "anchors_check",
    requires = ["anchor_functions"]
);

/// Called by PostgreSQL when the library is loaded: at server start, or by the first session that needs it.
#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    // SAFETY: read by the only thread, set before any library is loaded.
    if unsafe { pgrx::pg_sys::IsBinaryUpgrade } {
        return; // pg_upgrade moves files and recreates the catalog: nothing of ours may stand in its way.
    }
    ddl::install_hooks();
    progress::request_shared_memory();
    tell::install();
    // SAFETY: set by PostgreSQL around the loading of the libraries.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress } {
        launcher::register();
    }
}
