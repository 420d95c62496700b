//! `zeroauth_audit`: a tamper-evident audit trail for PostgreSQL. This file only wires the modules together.
//!
//! | module | what it does |
//! |---|---|
//! | [`chain`] | BEFORE INSERT trigger: gives every event its place and its hash |
//! | [`lock`], [`head`] | which chain a transaction may append to, and where that chain ends |
//! | [`guard`], [`ddl`], [`statements`], [`member`] | refuse changes of rows, and of the table itself |
//! | [`verify`], [`pass`], [`walk`] | replay: SQL functions, the one pass in any order, the walk in order |
//! | [`columns`], [`hashes`] | stored values as the core sees them; the two hashes as SQL functions |
//! | [`alerts`] | what an alert leaves behind besides its row: an event of our own, a log line |
//! | [`deliver`] | the worker's part in sending alerts |
//! | [`query`], [`access`], [`progress`], [`srf`] | reading through SQL, who may check what, how far a check is, returning rows |
//! | [`call`], [`error`], [`settings`], [`random`], [`compat`] | the edge to PostgreSQL |

mod access;
mod alerts;
mod call;
mod chain;
mod columns;
mod compat;
mod ddl;
#[expect(dead_code, reason = "called by the loop of the worker, which comes next")]
mod deliver;
mod error;
mod guard;
mod hashes;
mod head;
mod lock;
mod member;
mod pass;
mod progress;
mod query;
mod random;
mod settings;
mod srf;
mod statements;
mod verify;
mod walk;

::pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/schema/01_functions.sql", name = "functions", bootstrap);
pgrx::extension_sql_file!("../sql/schema/02_events.sql", name = "events", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/schema/03_verify.sql", name = "verify", requires = ["events"]);
pgrx::extension_sql_file!("../sql/schema/05_alerts.sql", name = "alerts", requires = ["verify"]);

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
}
