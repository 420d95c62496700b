//! The positions of the synchronous standbys: commits that they do not have yet could be lost with this machine.

use pgrx::pg_sys;

use crate::pg::error::Failure;
use crate::pg::spi::Session;

/// Their positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standbys {
    /// None is configured.
    #[default]
    None,
    /// Some are configured, and none is connected.
    Away,
    /// All that are connected have flushed up to this position of the WAL.
    At(u64),
}

impl Standbys {
    /// Whether there is no standby to wait for.
    pub fn none(self) -> bool {
        self == Self::None
    }

    /// Whether all have flushed up to `position`.
    pub fn have(self, position: u64) -> bool {
        match self {
            Self::None => true,
            Self::Away => false,
            Self::At(flushed) => flushed >= position,
        }
    }
}

/// Queries the server.
pub fn look(session: &Session) -> Result<Standbys, Failure> {
    let mut found = Standbys::None;
    session.all(
        "SELECT pg_catalog.current_setting('synchronous_standby_names') OPERATOR(pg_catalog.<>) '',
                (SELECT (pg_catalog.min(r.flush_lsn) OPERATOR(pg_catalog.-) '0/0'::pg_catalog.pg_lsn)::pg_catalog.int8 FROM pg_catalog.pg_stat_replication r
                 WHERE r.sync_state OPERATOR(pg_catalog.=) ANY ('{sync,quorum}'))",
        &[],
        |row| {
            let flushed = row.count(1);
            found = match flushed {
                _ if !row.bool(0) => Standbys::None,
                None => Standbys::Away,
                Some(at) => Standbys::At(at),
            };
            Ok(())
        },
    )?;
    Ok(found)
}

/// Where the WAL was after this process's last commit.
pub fn last_commit() -> u64 {
    // SAFETY: written by this process only.
    unsafe { pg_sys::XactLastCommitEnd }
}
