//! Running other programs: cargo without what our own cargo put into the environment, and anything else.

use std::env;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use zeroauth_audit_tests::workspace;

/// A cargo command in the workspace. What the cargo that started us set for us is taken away: it would make every nested
/// build differ from the same one typed by hand. So is RUST_BACKTRACE, which a server would inherit.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if is_ours(&name) {
            command.env_remove(name);
        }
    }
    command.current_dir(workspace()).env("PGRX_HOME", pgrx_home());
    command
}

fn is_ours(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    const NAMES: [&str; 6] = [
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
        "LD_LIBRARY_PATH",
        "RUST_BACKTRACE",
        "RUST_LIB_BACKTRACE",
        "RUST_RECURSION_COUNT",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// Where pgrx looks for what `cargo pgrx init` wrote; never in the user's home, whose changes would have everything built anew.
pub(crate) fn pgrx_home() -> std::path::PathBuf {
    workspace().join("target/pgrx")
}

/// Runs a command with its output going where ours goes; an error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed; an error with the end of its standard error when it fails.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            name(command),
            output.status,
            text.trim().lines().last().unwrap_or("it says nothing")
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command quietly to its end.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", name(command)))
}

/// A command as a reader knows it: the program's own name and its first argument.
fn name(command: &Command) -> String {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match command.get_args().next() {
        Some(first) => format!("{program} {}", first.to_string_lossy()),
        None => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_build_sees_no_trace_of_the_outer_one() {
        for name in ["CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR", "RUST_BACKTRACE"] {
            assert!(is_ours(name), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_TARGET_DIR", "RUSTUP_TOOLCHAIN", "PATH", "CARGO_NET_OFFLINE", "RUSTFLAGS"]
        {
            assert!(!is_ours(name), "{name}");
        }
    }
}
