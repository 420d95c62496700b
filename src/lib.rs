//! `zeroauth_audit`: a tamper-evident audit trail for PostgreSQL. This file only wires the modules together.
//!
//! | module | what it does |
//! |---|---|
//! | [`chain`] | BEFORE INSERT trigger: gives every event its place and its hash |
//! | [`lock`], [`head`] | which chain a transaction may append to, and where that chain ends |
//! | [`shared_heads`], [`ending`] | ends of chains in shared memory, and what follows a transaction's end |
//! | [`guard`], [`ddl`], [`statements`], [`member`] | refuse changes of rows, and of the table itself |
//! | [`verify`], [`pass`], [`walk`] | replay: SQL functions, the one pass in any order, the walk in order |
//! | [`drill`] | the scratch table that `audit_drill()` plays attacks on |
//! | [`columns`], [`jsonb`], [`hashes`] | stored values as the core sees them; the two hashes as SQL functions |
//! | [`query`], [`access`], [`progress`], [`srf`] | reading through SQL, who may check what, how far a check is, returning rows |
//! | [`call`], [`error`], [`memory`], [`settings`], [`random`], [`compat`] | the edge to PostgreSQL |

mod access;
mod call;
mod chain;
mod columns;
mod compat;
mod ddl;
mod drill;
mod ending;
mod error;
mod guard;
mod hashes;
mod head;
mod jsonb;
mod lock;
mod member;
mod memory;
mod pass;
mod progress;
mod query;
mod random;
mod settings;
mod shared_heads;
mod srf;
mod statements;
mod verify;
mod walk;

::pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/schema/01_functions.sql", name = "functions", bootstrap);
pgrx::extension_sql_file!("../sql/schema/02_events.sql", name = "events", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/schema/03_verify.sql", name = "verify", requires = ["events"]);
pgrx::extension_sql_file!("../sql/schema/04_drill.sql", name = "drill", requires = ["verify"]);

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
