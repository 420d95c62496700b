//! The tests on other major versions of PostgreSQL than Debian 12 has: the same sources, in a folder with the Debian release
//! that has it.
//!
//! Under `target/versions`: `<suite>` is that Debian, `<suite>-target` what is `target` inside it.

mod folder;
pub(crate) mod from_15;
mod wheel;

use std::path::Path;

use anyhow::Result;
use zeroauth_audit_tests::workspace;

use crate::failure;
use crate::setup::packages::MAJOR;
use crate::setup::{self, Ready};
use crate::test::{Tally, closing};
pub(crate) use folder::{As, Folder, make};

/// Runs the tests on PostgreSQL `major`; `different`: those that could come out differently than here. `ready` is this machine's
/// own, to dump from.
pub(crate) fn test(major: u32, filter: Option<&str>, ready: &Ready, different: bool) -> Result<Tally> {
    // The folder shows what is there when it is prepared.
    setup::node::ready()?;
    let suite = suite(major)?;
    let (folder, pg_config) = if major == wheel::MAJOR {
        // What else the tests need is there with Debian's own server.
        let folder = Folder::prepared(suite, MAJOR)?;
        let pg_config = wheel::install(&folder)?;
        (folder, pg_config)
    } else {
        (Folder::prepared(suite, major)?, format!("/usr/lib/postgresql/{major}/bin/pg_config").into())
    };
    folder.take_over_builds()?;
    let dumped = from_15::dump(ready, &folder.target().join(from_15::FOLDER))?;
    let mut command = folder.command(As::Caller, "env")?;
    command.arg(format!("PG_CONFIG={}", pg_config.display()));
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

/// The Debian release to test PostgreSQL `major` in: the one that has it, and this machine's for 16, which none has; a
/// [`failure::environment`] error for any other.
pub(crate) fn suite(major: u32) -> Result<&'static str> {
    match major {
        wheel::MAJOR => Ok("bookworm"),
        17 => Ok("trixie"),
        18 => Ok("sid"),
        15 => Err(failure::environment("PostgreSQL 15 is what cargo xtask test runs on without --pg")),
        _ => Err(failure::environment(format!(
            "PostgreSQL {major} is not tested: --pg 16, --pg 17 or --pg 18"
        ))),
    }
}

/// The Debian release that has packages of PostgreSQL `major`.
pub(crate) fn with_packages(major: u32) -> Result<&'static str> {
    if major == wheel::MAJOR {
        return Err(failure::environment("no Debian release has PostgreSQL 16 to make packages for"));
    }
    suite(major)
}

#[cfg(test)]
mod tests {
    use super::{suite, with_packages};

    #[test]
    fn only_versions_that_can_be_had_are_offered() {
        let suites = [16, 17, 18].map(|major| suite(major).ok());
        assert_eq!(suites, [Some("bookworm"), Some("trixie"), Some("sid")]);
        assert!(with_packages(16).is_err() && with_packages(17).is_ok());
        for other in [14, 15, 19] {
            assert!(suite(other).is_err(), "{other}");
        }
    }
}
