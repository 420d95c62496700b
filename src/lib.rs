//! `zeroauth_audit`: a tamper-evident audit trail for PostgreSQL. This file only wires: hooks, settings, shared memory, SQL files.
//!
//! Folders in the order of dependency: a file imports from its own folder and from those below, `cargo xtask tree` keeps it so, and nothing
//! imports from here. `docs/architecture.md` is the map.
//!
//! | folder | what is in it |
//! |---|---|
//! | `worker` | the launcher, the worker of one database, its jobs and when they are due |
//! | `destination` | places outside that a person names: checked when they are given |
//! | `anchor` | anchors: planning, sending, missed days, the daily check |
//! | `alert` | what an alert leaves behind, and its delivery |
//! | `tripwire` | installed definitions, pinned files, clocks |
//! | `verify` | `audit_verify` and its kin: aggregate, replay, newest events, drift, progress |
//! | `log` | the Merkle log of each tenant: reading, sealing, comparing, proofs, publishing, keys |
//! | `guard` | refusing changes of stored events, and of the table itself |
//! | `chain` | the chaining trigger: lock, head, heads in shared memory, what a commit does |
//! | `shared` | shared memory between processes: databases and their workers, restores, privileged use |
//! | `trail` | which table is the trail, its columns as fields, what a finding is |
//! | `pg` | the edge to PostgreSQL: nothing there knows what an event is |

mod alert;
mod anchor;
mod chain;
mod destination;
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
pgrx::extension_sql_file!(
    "../sql/schema/worker/replication.sql",
    name = "replication",
    requires = ["tripwires"]
);
pgrx::extension_sql_file!("../sql/schema/worker/health.sql", name = "health", requires = ["replication"]);
pgrx::extension_sql_file!("../sql/schema/log/tables.sql", name = "log_tables", requires = ["health"]);
pgrx::extension_sql_file!("../sql/schema/log/registry.sql", name = "registry", requires = ["log_tables"]);
pgrx::extension_sql_file!("../sql/schema/log/functions.sql", name = "log_functions", requires = ["registry"]);
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
pgrx::extension_sql_file!(
    "../sql/schema/destination/calls.sql",
    name = "destination_calls",
    requires = ["anchor_check"]
);
pgrx::extension_sql_file!(
    "../sql/schema/alert/public.sql",
    name = "alert_public",
    requires = ["destination_calls"]
);
pgrx::extension_sql_file!(
    "../sql/schema/alert/routes.sql",
    name = "alert_routes",
    requires = ["alert_public"]
);
pgrx::extension_sql_file!(
    "../sql/schema/worker/public.sql",
    name = "worker_public",
    requires = ["alert_routes"]
);
pgrx::extension_sql_file!("../sql/schema/log/public.sql", name = "log_public", requires = ["worker_public"]);
pgrx::extension_sql_file!(
    "../sql/schema/anchor/public.sql",
    name = "anchor_public",
    requires = ["log_public"]
);
pgrx::extension_sql_file!(
    "../sql/schema/verify/tenants.sql",
    name = "tenants_public",
    requires = ["anchor_public"]
);
pgrx::extension_sql_file!(
    "../sql/schema/trail/public_events.sql",
    name = "public_events",
    requires = ["tenants_public"]
);
pgrx::extension_sql_file!("../sql/schema/duty/list.sql", name = "duty_list", requires = ["public_events"]);
pgrx::extension_sql_file!("../sql/schema/duty/rights.sql", name = "duty_rights", requires = ["duty_list"]);
pgrx::extension_sql_file!("../sql/schema/duty/ends.sql", name = "duty_ends", requires = ["duty_rights"]);
pgrx::extension_sql_file!("../sql/schema/duty/grant.sql", name = "duty_grant", requires = ["duty_ends"]);
pgrx::extension_sql_file!("../sql/schema/duty/upkeep.sql", name = "duty_upkeep", requires = ["duty_grant"]);
pgrx::extension_sql_file!("../sql/schema/duty/duties.sql", name = "duties", requires = ["duty_upkeep"]);
pgrx::extension_sql_file!("../sql/schema/worker/status.sql", name = "status", requires = ["duties"]);
pgrx::extension_sql_file!("../sql/schema/worker/help.sql", name = "help", requires = ["status"]);
// After everything that is made.
pgrx::extension_sql_file!(
    "../sql/schema/duty/default_grants.sql",
    name = "duty_default_grants",
    requires = ["help"]
);
// The last: it says that everything is there.
pgrx::extension_sql_file!(
    "../sql/schema/worker/installed.sql",
    name = "installed",
    requires = ["duty_default_grants"]
);

/// Called by PostgreSQL when the library is loaded: at server start, or by the first session that needs it.
#[allow(non_snake_case)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // SAFETY: PostgreSQL loads libraries in the process's only thread.
    unsafe { pg::error::hide_backtraces() };
    // SAFETY: the hook raises nothing.
    unsafe { pg::settings::define(shared::privileged_use::maintenance_assigned) };
    // SAFETY: read by the only thread, set before any library is loaded.
    if unsafe { pgrx::pg_sys::IsBinaryUpgrade } {
        return; // pg_upgrade moves files and recreates the catalog: this library must not interfere.
    }
    trail::identity::watch();
    guard::ddl::install_hooks();
    guard::executor::install_hooks();
    guard::functions::install_hook();
    guard::refused_writes::install();
    // SAFETY: set by PostgreSQL around the loading of the libraries.
    let preloaded = unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress };
    if preloaded {
        request_shared_memory();
    }
    shared::notices::install();
    if preloaded {
        worker::launcher::register();
    }
}

/// Every module that has shared memory requests its own. Pinned files are looked at first: the server may refuse to start.
fn request_shared_memory() {
    tripwire::pins::check_at_start();
    tripwire::pins::request_shared_memory();
    verify::progress::request_shared_memory();
    shared::privileged_use::request_shared_memory();
    chain::shared_heads::request_shared_memory();
    shared::databases::request_shared_memory();
    pg::shmem::requested();
}
