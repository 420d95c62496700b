//! What demo, test and bench stand on: installed packages, a local chain, and the built extension in `target/stage`.
//!
//! Everything is checked before it is changed, so a second run only asks a few programs for their version.

pub(crate) mod build;
mod cargo;
pub(crate) mod node;
pub(crate) mod packages;
pub(crate) mod script;
mod stage;

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, anyhow};
use zeroauth_audit_tests::{Installation, OsUser, workspace};

pub(crate) use crate::steps::say;

use crate::failure;
use build::Profile;
use packages::Purpose;

/// A build of everything needs about this much; less is refused before anything is downloaded.
const SPACE_FOR_A_BUILD: u64 = 2 << 30;

/// What a set-up leaves ready for use.
pub(crate) struct Ready {
    /// The PostgreSQL that was built for.
    pub(crate) installation: Installation,
    /// The feature of the extension for its major version, such as `pg15`.
    pub(crate) feature: String,
}

/// Installs what is missing for everything that can be done with a checkout, builds the extension and stages it.
pub(crate) fn run(profile: Profile) -> Result<Ready> {
    let _lock = claim()?;
    packages::install_missing(&packages::missing(Purpose::Everything))?;
    OsUser::current()?;
    let installation = Installation::find()?;
    let package = build::package(&installation, profile)?;
    stage::publish(&package, &installation)?;
    let feature = build::feature(&installation)?;
    Ok(Ready { installation, feature })
}

/// Installs what building needs, and builds the extension as it is handed out; returns the installation that it is for and the
/// folder that it lies in. Nothing is staged.
pub(crate) fn handed_out() -> Result<(Installation, PathBuf)> {
    let _lock = claim()?;
    packages::install_missing(&packages::missing(Purpose::Demo))?;
    let installation = Installation::find()?;
    let package = build::package(&installation, Profile::Release)?;
    Ok((installation, package))
}

/// Installs what the demo needs, and builds the extension and the auditor's program, which is returned. Both at once as far as they
/// can be: apt waits for network and disk, the compiler for the processors.
pub(crate) fn for_demo() -> Result<PathBuf> {
    let _lock = claim()?;
    let missing = packages::missing(Purpose::Demo);
    if !missing.is_empty() || !node::can_be_ready() {
        packages::ask_for_password()?;
    }
    let nothing_to_install = missing.is_empty();
    let (send, installed) = mpsc::channel();
    thread::scope(|threads| {
        let installing = threads.spawn(move || {
            packages::install_missing(&missing)?;
            // Whoever waits for it is there until the end.
            let _ = send.send(());
            node::ready()
        });
        if !nothing_to_install {
            build::ahead(packages::MAJOR);
        }
        // When the packages cannot be installed the sender goes away without a word, and the thread's error tells why.
        let built = match installed.recv() {
            Ok(()) => staged_with_verifier().map(Some),
            Err(mpsc::RecvError) => Ok(None),
        };
        installing.join().map_err(|_| anyhow!("the installation of packages panicked"))??;
        built?.context("the packages were not installed")
    })
}

/// Builds the extension and puts it where clusters find it; returns the auditor's program, which is built with it.
fn staged_with_verifier() -> Result<PathBuf> {
    OsUser::current()?;
    let installation = Installation::find()?;
    let built = build::extension_and_verifier(&installation)?;
    stage::publish(&built.package, &installation)?;
    Ok(built.verifier)
}

/// Looks whether there is room, and holds the lock until the set-up is done: two at once would install and stage over each other.
fn claim() -> Result<File> {
    let target = workspace().join("target");
    let unwritable = |e: std::io::Error| {
        failure::environment(format!("cannot write in {}: {e}; make the checkout writable", target.display()))
    };
    fs::create_dir_all(&target).map_err(unwritable)?;
    if failure::free(&target).is_some_and(|bytes| bytes < SPACE_FOR_A_BUILD) {
        return Err(failure::environment(format!(
            "less than 2 GiB are free on the disk of {}: free some and run this again",
            target.display()
        )));
    }
    let lock = File::create(target.join("setup.lock")).map_err(unwritable)?;
    lock.lock().context("cannot lock target/setup.lock")?;
    Ok(lock)
}

/// The program of a local chain, installed.
pub(crate) fn chain() -> Result<PathBuf> {
    node::ready()?;
    Ok(node::anvil())
}

/// Whether Debian packages can be had here.
pub(crate) fn can_install() -> bool {
    packages::have_apt()
}

/// Installs the Debian packages among `wanted` that are missing.
pub(crate) fn need(wanted: &[&'static str]) -> Result<()> {
    packages::need(wanted)
}
