//! The tests that need a real server, in one program: they share one cluster, each test with a database of its own.
//! Tests that crash, replicate or configure a server start one for themselves.
//!
//! A name `pitfall_NN_..` answers one row of the list of things that broke other audit trails.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

mod alerts;
mod anchor_check;
mod anchor_crashes;
mod anchor_days;
mod anchor_faults;
mod anchor_targets;
mod anchors;
mod chain;
mod checks;
mod conflicts;
mod deliveries;
mod details;
mod drift;
mod drift_history;
mod drift_quiet;
mod drift_scale;
mod drift_worker;
mod drill;
mod drill_around;
mod dump;
mod environments;
mod fault_acknowledged;
mod fault_cancel;
mod fault_crash;
mod fault_disk;
mod fault_kill;
mod fault_load;
mod fault_memory;
mod fault_recovery;
mod fault_scale;
mod fault_shared_memory;
mod fault_standby;
mod fault_upgrade;
mod formats;
mod from_15;
mod guards;
mod guards_ddl;
mod heads;
mod integrity;
mod isolation;
mod isolation_levels;
mod log;
mod log_tamper;
mod objects;
mod prepared;
mod publish;
mod reference;
mod replication;
mod roles;
mod standby;
mod storm;
mod storm_known;
mod storm_writer;
mod strict_order;
mod supplied;
mod tamper;
mod tamper_columns;
mod unloaded;
mod vectors;
mod verify;
mod verify_long;
mod worker_alerts;
mod worker_cron;
mod worker_jobs;
mod worker_life;
mod worker_restore;
mod worker_rounds;
