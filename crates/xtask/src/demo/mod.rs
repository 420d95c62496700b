//! `cargo xtask demo`: the main job on real input, from an empty cluster to a found forgery, and to a proof that holds without the
//! cluster. What is said on the screen is in `summary.rs`; everything else goes to a file.
//!
//! The cluster's folder is always the same, so `stop` finds it. A lock beside it keeps two demos apart; the cluster itself
//! belongs to the demo until it is kept, and then to `stop`.

mod alert;
mod dpkg;
mod event;
mod git;
mod home;
mod load;
mod outside;
mod summary;
mod tamper;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use zeroauth_audit_tests::{Cluster, workspace};

use crate::setup;
use crate::steps::Step;
use summary::{Record, Story};

/// A role that may write events, and nothing else.
const WRITER: &str = "CREATE ROLE demo_writer LOGIN; SELECT audit_grant('demo_writer', 'writer')";

/// The file with all that does not fit on the screen, below the workspace.
const RECORD: &str = "target/demo.txt";

/// Runs the demo. Fails when a whole trail is reported broken, or a forged one is not found.
pub(crate) fn run(keep: bool) -> Result<ExitCode> {
    let program = setup::for_demo()?;
    // On a new machine the user who is to own the folder comes with the packages.
    let home = home::claim()?;
    let started = Instant::now();
    let mut record = Record::new(&workspace().join(RECORD));

    let step = Step::begin("starting a private PostgreSQL and a local chain", "5 seconds");
    let cluster = Cluster::builder("demo").home(home.path()).start()?;
    let mut admin = cluster.try_client()?;
    admin.batch_execute("CREATE EXTENSION zeroauth_audit").context("cannot create the extension")?;
    admin.batch_execute(WRITER).context("cannot create the writer")?;
    let inbox = alert::Inbox::open(&mut admin, home.path())?;
    let outside = outside::Outside::open(&mut admin, home.path(), program)?;
    step.done();

    let mut writer = cluster.connect("demo_writer", "audit")?;
    let packages = load::load(&mut writer, dpkg::TENANT, &dpkg::events()?)?;
    let commits = match git::events()? {
        Some(commits) => Some(load::load(&mut writer, git::TENANT, &commits)?),
        None => None,
    };
    let victim = if packages > 0 { dpkg::TENANT } else { git::TENANT };

    let step = Step::begin("verifying, forging an event, verifying again", "5 seconds");
    record.add("The trail is whole: SELECT * FROM audit_verify()", &verdict::shown(&cluster)?)?;
    verdict::require_whole(&verdict::all(&mut admin)?)?;
    outside::Outside::seal(&mut admin)?;
    let tampered = tamper::change_one_event(&mut admin, victim)?;
    record.add("A superuser tries to change an event", &tampered.refusal)?;
    let verdicts = verdict::all(&mut admin)?;
    let verified_after = tampered.done.elapsed();
    let forged = verdict::shown(&cluster)? + "\n" + &verdict::findings_shown(&cluster)?;
    record.add("He lifted the guard and did it: audit_verify() and audit_findings()", &forged)?;
    verdict::require_found(&verdicts, &verdict::findings(&mut admin)?, &tampered)?;
    let (message, alerted_after) = inbox.wait_for(&mut admin, &tampered)?;
    record.add("The webhook's alert", &format!("severity 1, content_mismatch: {message}"))?;
    step.done();

    let step = Step::begin("waiting until the anchor is final, proving two events", "10 seconds");
    let anchored = outside::Outside::wait(&mut admin)?;
    record.add(
        "The anchor",
        &format!(
            "{} entries of the registry, in transaction {} of block {}, which is final",
            anchored.entries, anchored.transaction, anchored.block
        ),
    )?;
    outside.prove_untouched(&mut admin, &tampered, "untouched.bundle")?;
    outside.prove(&mut admin, &tampered.tenant, &tampered.event_id, "forged.bundle")?;
    drop((admin, writer));
    cluster.shut_down()?;
    for (bundle, expected) in [("untouched.bundle", 0), ("forged.bundle", 1)] {
        let said = outside.verify(bundle, expected)?;
        record.add(&format!("The database is stopped: zeroauth-audit verify-bundle {bundle}"), &said)?;
    }
    step.done();

    let psql = format!("psql -h {} -p {} -U postgres audit", socket(&cluster, home.path()), cluster.port());
    if keep {
        cluster.start_again()?;
    }
    let story = Story {
        packages,
        commits,
        tampered: &tampered,
        verified_after,
        alerted_after,
        anchored: &anchored,
        psql: &psql,
        kept: keep,
        record: RECORD,
        took: started.elapsed(),
    };
    print!("{}", summary::summary(&story));
    if keep {
        cluster.keep();
    }
    Ok(ExitCode::SUCCESS)
}

/// Where psql finds the cluster: by the link that is called the same in every demo, unless its name is too long for a socket.
fn socket(cluster: &Cluster, home: &Path) -> String {
    const LONGEST: usize = 107 - "/.s.PGSQL.65535".len();
    let link = home.join("socket");
    let folder = if link.as_os_str().len() <= LONGEST { link.as_path() } else { cluster.socket_dir() };
    folder.display().to_string()
}

/// Ends the cluster that `demo --keep` left running.
pub(crate) fn stop() -> Result<ExitCode> {
    if home::stop()? {
        println!("The demo's cluster is stopped and removed.");
    } else {
        println!("No demo is running.");
    }
    Ok(ExitCode::SUCCESS)
}
