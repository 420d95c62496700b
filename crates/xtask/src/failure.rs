//! How a failure is told: one line, and the exit code that says whose turn it is.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Error;
use zeroauth_audit_tests::{BadEnvironment, workspace};

/// Less free space than this at the moment of a failure is taken for its cause.
const FULL_BELOW: u64 = 32 << 20;

/// An error that a person mends outside the project; `text` is one line that says how.
pub(crate) fn environment(text: impl Into<String>) -> Error {
    BadEnvironment(text.into()).into()
}

/// Prints `error` on standard error and returns the exit code for it.
pub(crate) fn report(error: &Error) -> ExitCode {
    if let Some(place) = full_disk(error) {
        eprintln!("error: no space left on the disk of {place}: free some and run this again");
        return ExitCode::from(2);
    }
    if let Some(bad) = error.chain().find_map(|cause| cause.downcast_ref::<BadEnvironment>()) {
        eprintln!("error: {bad}");
        return ExitCode::from(2);
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Which disk is full, if that is why `error` happened.
fn full_disk(error: &Error) -> Option<String> {
    if says_full(error) {
        return Some(workspace().display().to_string());
    }
    [workspace().as_path(), Path::new("/var/tmp"), Path::new("/tmp")]
        .into_iter()
        .find(|place| free(place).is_some_and(|bytes| bytes < FULL_BELOW))
        .map(|place| place.display().to_string())
}

fn says_full(error: &Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        kind == Some(io::ErrorKind::StorageFull) || cause.to_string().contains("No space left on device")
    })
}

/// Bytes an ordinary user may still write to the file system of `place`.
pub(crate) fn free(place: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(place).ok()?;
    Some(system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_full_disk_is_recognised_below_other_context() {
        let error =
            Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull)).context("cannot write").unwrap_err();
        assert!(says_full(&error));
        assert!(says_full(&anyhow::anyhow!("initdb failed: could not write file: No space left on device")));
        assert!(!says_full(&anyhow::anyhow!("initdb failed")));
    }

    #[test]
    fn a_bad_environment_keeps_its_own_line_below_context() {
        let error = environment("install it").context("while building");
        assert!(error.chain().any(|cause| cause.downcast_ref::<BadEnvironment>().is_some()));
    }
}
