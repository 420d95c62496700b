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

mod alert;
mod anchor;
mod chain;
mod guard;
mod log;
mod pg;
mod shared;
mod trail;
mod tripwire;
mod verify;
mod worker;

::pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/schema/trail/functions.sql", name = "trail_functions", bootstrap);
pgrx::extension_sql_file!(
    "../sql/schema/trail/events.sql",
    name = "trail_events",
    requires = ["trail_functions"]
);
pgrx::extension_sql_file!("../sql/schema/verify/verify.sql", name = "verify", requires = ["trail_events"]);
pgrx::extension_sql_file!("../sql/schema/verify/export.sql", name = "export", requires = ["verify"]);
pgrx::extension_sql_file!("../sql/schema/verify/drill.sql", name = "drill", requires = ["export"]);
pgrx::extension_sql_file!("../sql/schema/alert/alerts.sql", name = "alerts", requires = ["drill"]);
pgrx::extension_sql_file!("../sql/schema/worker/jobs.sql", name = "jobs", requires = ["alerts"]);
pgrx::extension_sql_file!("../sql/schema/verify/drift.sql", name = "drift", requires = ["jobs"]);
pgrx::extension_sql_file!("../sql/schema/verify/drift_job.sql", name = "drift_job", requires = ["drift"]);
pgrx::extension_sql_file!("../sql/schema/verify/integrity.sql", name = "integrity", requires = ["drift_job"]);
pgrx::extension_sql_file!(
    "../sql/schema/tripwire/tripwires.sql",
    name = "tripwires",
    requires = ["integrity"]
);
pgrx::extension_sql_file!("../sql/schema/worker/health.sql", name = "health", requires = ["tripwires"]);
pgrx::extension_sql_file!("../sql/schema/log/tables.sql", name = "log_tables", requires = ["health"]);
pgrx::extension_sql_file!(
    "../sql/schema/log/functions.sql",
    name = "log_functions",
    requires = ["log_tables"]
);
pgrx::extension_sql_file!(
    "../sql/schema/anchor/tables.sql",
    name = "anchor_tables",
    requires = ["log_functions"]
);
pgrx::extension_sql_file!(
    "../sql/schema/anchor/functions.sql",
    name = "anchor_functions",
    requires = ["anchor_tables"]
);
pgrx::extension_sql_file!(
    "../sql/schema/anchor/check.sql",
    name = "anchor_check",
    requires = ["anchor_functions"]
);
pgrx::extension_sql_file!("../sql/schema/worker/status.sql", name = "status", requires = ["anchor_check"]);
pgrx::extension_sql_file!("../sql/schema/worker/help.sql", name = "help", requires = ["status"]);
// The last: it says that everything is there.
pgrx::extension_sql_file!("../sql/schema/worker/installed.sql", name = "installed", requires = ["help"]);

/// Called by PostgreSQL when the library is loaded: at server start, or by the first session that needs it.
#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::settings::define();
    // SAFETY: read by the only thread, set before any library is loaded.
    if unsafe { pgrx::pg_sys::IsBinaryUpgrade } {
        return; // pg_upgrade moves files and recreates the catalog: nothing of ours may stand in its way.
    }
    guard::ddl::install_hooks();
    verify::progress::request_shared_memory();
    shared::notices::install();
    // SAFETY: set by PostgreSQL around the loading of the libraries.
    if unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress } {
        worker::launcher::register();
    }
}
