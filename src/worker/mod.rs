//! The launcher, the worker of one database, its jobs and when they are due.

pub(crate) mod jobs;
pub(crate) mod launcher;
pub(crate) mod main_loop;
pub(crate) mod pg_cron;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod standby;
