//! The tests on other major versions of PostgreSQL than Debian 12 has: the same sources, in a folder with the Debian release
//! that has it.
//!
//! Under `target/versions`: `<suite>` is that Debian, `<suite>-target` what is `target` inside it.

mod folder;
pub(crate) mod from_15;

use std::path::Path;

use anyhow::Result;
use zeroauth_audit_tests::workspace;

use crate::failure;
use crate::setup::{self, Ready};
use crate::test::{Tally, closing};
pub(crate) use folder::{As, Folder, make};

/// Runs the tests on PostgreSQL `major`; `different`: those that could come out differently than here. `ready` is this machine's
/// own, to dump from.
pub(crate) fn test(major: u32, filter: Option<&str>, ready: &Ready, different: bool) -> Result<Tally> {
    // The folder shows what is there when it is prepared.
    setup::node::ready()?;
    let folder = Folder::prepared(suite(major)?, major)?;
    folder.take_over_builds()?;
    let dumped = from_15::dump(ready, &folder.target().join(from_15::FOLDER))?;
    let mut command = folder.command(As::Caller, "env")?;
    command.arg(format!("PG_CONFIG=/usr/lib/postgresql/{major}/bin/pg_config"));
    if dumped {
        let seen_inside = workspace().join("target").join(Path::new(from_15::FOLDER));
        command.arg(format!("{}={}", from_15::VARIABLE, seen_inside.display()));
    }
    command
        .args(["cargo", "xtask", "test", "--inside"])
        .args(different.then_some("--different"))
        .args(filter);
    closing(command)
}

/// The Debian release with PostgreSQL `major`; a [`failure::environment`] error when none has it.
pub(crate) fn suite(major: u32) -> Result<&'static str> {
    match major {
        17 => Ok("trixie"),
        18 => Ok("sid"),
        15 => Err(failure::environment("PostgreSQL 15 is what cargo xtask test runs on without --pg")),
        _ => {
            Err(failure::environment(format!("no Debian release has PostgreSQL {major}: --pg 17 or --pg 18")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::suite;

    #[test]
    fn only_versions_that_a_debian_release_has_are_offered() {
        assert_eq!((suite(17).ok(), suite(18).ok()), (Some("trixie"), Some("sid")));
        for other in [14, 15, 16, 19] {
            assert!(suite(other).is_err(), "{other}");
        }
    }
}
