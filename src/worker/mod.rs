//! The launcher, the worker of one database, its jobs and when they are due.
//!
//! A job runs once at a time: its heavyweight lock is held over all transactions of a run, see [`jobs`]. Launcher and workers meet on the
//! board of shared/; everything else belongs to one process. On top: imports from any folder.

pub(crate) mod jobs;
pub(crate) mod launcher;
pub(crate) mod main_loop;
pub(crate) mod pg_cron;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod standby;
