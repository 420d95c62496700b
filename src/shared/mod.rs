//! Shared memory between processes: the workers of databases, restores under way, privileged use of the trail.

pub(crate) mod databases;
pub(crate) mod notices;
pub(crate) mod privileged_use;
