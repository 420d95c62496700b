//! Private PostgreSQL clusters for tests, the demo and benchmarks.
//!
//! A [`Cluster`] is a real server with its own data directory and its own unix socket, run by an unprivileged user,
//! that finds the staged extension without anything being written to the system's PostgreSQL directories. It never
//! listens on the network and never touches another cluster of the machine.
//!
//! State outside the process: the folder of clusters (`target/clusters`, or one in `/var/tmp`) with the template that
//! initdb made. Whoever holds the lock on the file `lock` in it may make the template or sweep what dead processes left;
//! a cluster's own folder belongs to the process whose id is in its name.
#![forbid(unsafe_code)]

mod base;
mod builder;
mod cluster;
mod environment;
mod installation;
mod kept;
mod postmaster;
pub mod reference;
mod relocated;
mod stage;
mod sweep;
mod template;
mod trouble;
mod wait;

pub use builder::Builder;
pub use cluster::{Cluster, PsqlOutput};
pub use environment::{BadEnvironment, OsUser, workspace};
pub use installation::Installation;
pub use kept::{clusters_folder, is_running, stop_kept};
pub use stage::staged_folder;
pub use wait::wait_until;
