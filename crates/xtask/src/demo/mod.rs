//! `cargo xtask demo`: the main job on real input, from an empty cluster to a found forgery, and to a proof that holds without the
//! cluster.
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
mod tamper;
mod verdict;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use zeroauth_audit_tests::Cluster;

use crate::setup;

/// What a role needs to write events, and nothing else. The default of event_id calls audit_uuid_v7().
const WRITER: &str = "CREATE ROLE demo_writer LOGIN; \
     GRANT INSERT ON audit_events TO demo_writer; \
     GRANT EXECUTE ON FUNCTION audit_uuid_v7() TO demo_writer";

/// Runs the demo. Fails when a whole trail is reported broken, or a forged one is not found.
pub(crate) fn run(keep: bool) -> Result<ExitCode> {
    let home = home::claim()?;
    let program = setup::for_demo()?;
    let started = Instant::now();

    println!("Starting a private PostgreSQL under {}", home.path().display());
    let cluster = Cluster::builder("demo").home(home.path()).start()?;
    let mut admin = cluster.try_client()?;
    admin.batch_execute("CREATE EXTENSION zeroauth_audit").context("cannot create the extension")?;
    admin.batch_execute(WRITER).context("cannot create the writer")?;
    let inbox = alert::Inbox::open(&mut admin, home.path())?;
    let outside = outside::Outside::open(&mut admin, home.path(), program)?;
    println!("A new key signs checkpoints, and a local chain has the anchor contract.");

    let mut writer = cluster.connect("demo_writer", "audit")?;
    let packages = load::load(&mut writer, dpkg::TENANT, &dpkg::events()?)?;
    println!("Tenant host: {packages} lines of this machine's package log");
    match git::events()? {
        Some(commits) => {
            let commits = load::load(&mut writer, git::TENANT, &commits)?;
            println!("Tenant repo: {commits} commits of this project's history");
        }
        None => println!("Tenant repo: left out, because this is not a git checkout"),
    }
    let victim = if packages > 0 { dpkg::TENANT } else { git::TENANT };

    println!("\nVerifying every tenant:\n");
    verdict::print_all(&cluster)?;
    let clean = verdict::all(&mut admin)?;
    verdict::require_whole(&clean)?;
    println!("The trail is whole.");
    outside::Outside::begin(&mut admin)?;

    let tampered = tamper::change_one_event(&mut admin, victim)?;
    println!("\nA superuser tries to change one event: {}", tampered.refusal);
    println!(
        "The superuser lifts the guard (zeroauth_audit.maintenance = on) and makes the {} of {} look like one of {}.",
        tampered.action, tampered.before, tampered.after
    );

    println!("\nVerifying again:\n");
    verdict::print_all(&cluster)?;
    verdict::print_findings(&cluster)?;
    let found = verdict::findings(&mut admin)?;
    verdict::require_found(&verdict::all(&mut admin)?, &found, &tampered)?;
    println!(
        "Found: event {} of chain {} of tenant {} does not have the content it was written with.",
        tampered.seq, tampered.chain, tampered.tenant
    );
    println!("Every other event is as it was.");

    let (message, took) = inbox.wait_for(&mut admin, &tampered)?;
    println!(
        "\nThe worker finds it, too, in its hourly replay, which is run now. The webhook gets, after {:.1} s:",
        took.as_secs_f32()
    );
    println!("  severity 1, content_mismatch: {message}");

    let anchored = outside::Outside::wait(&mut admin)?;
    println!(
        "\nBefore the forgery, the worker signed a checkpoint of every log, and anchored {} of them:",
        anchored.logs
    );
    println!("  transaction {}, in block {}, which is final", anchored.transaction, anchored.block);
    let bundle = outside.bundle(&mut admin, victim)?;
    drop((admin, writer));
    cluster.shut_down()?;
    println!(
        "An auditor takes the proof of the first event of {victim} away. The database is stopped now.\n"
    );
    println!("$ zeroauth-audit verify-bundle {bundle}");
    print!("{}", outside.verify(bundle, 0)?);
    let forged = outside.flip()?;
    println!("\nOne flipped bit in the event:\n\n$ zeroauth-audit verify-bundle {forged}");
    print!("{}", outside.verify(forged, 1)?);
    println!("\nIt took {:.1} s.", started.elapsed().as_secs_f32());

    let psql = format!(
        "{} -h {} -p {} -U postgres audit",
        cluster.installation().bindir.join("psql").display(),
        cluster.socket_dir().display(),
        cluster.port()
    );
    if keep {
        cluster.start_again()?;
        println!(
            "\nThe cluster is running again; cargo xtask stop ends it. Its chain is gone. Connect with:\n  {psql}"
        );
        cluster.keep();
    } else {
        println!("\nTo look around in the cluster, use cargo xtask demo --keep and connect with:\n  {psql}");
        println!("(the folder's name is another each time)");
    }
    Ok(ExitCode::SUCCESS)
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
