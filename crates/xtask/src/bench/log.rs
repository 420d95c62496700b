//! What the Merkle log costs: processor time of the job checkpoint, space, proofs, and what inserts notice of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::Client;
use zeroauth_audit_tests::{Cluster, OsUser};

use super::Effort;
use super::pgbench;
use super::round::{processor_time, run_job};
use super::scenario::Side;
use super::tables::{self, COLUMNS};

/// So often the job runs beside inserts: many times as often as it does by default.
const EVERY: Duration = Duration::from_secs(3);
/// A key that everybody knows signs the checkpoints, made of the seed `[7; 32]`.
const KEY: &str = "PRIVATE+KEY+log.example/bench+6de6d5aa+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n";
/// Longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Proofs that are timed.
const PROOFS: i64 = 200;

/// The logs that are measured: the extension's own tenant has one, too.
const LOGS: &str = "SELECT count(*) FROM zeroauth_audit_internal.logs WHERE tenant_id LIKE 'tenant-%'";
/// The events in them.
const SEALED: &str = "SELECT coalesce(sum(tree_size), 0)::bigint FROM zeroauth_audit_internal.logs WHERE tenant_id LIKE 'tenant-%'";

/// Makes this session sign, as every later one does.
fn sign(client: &mut Client, cluster: &Cluster) -> Result<()> {
    let path = cluster.data_dir().with_file_name("checkpoint.key");
    if !path.exists() {
        fs::write(&path, KEY).context("cannot write the key file")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        OsUser::current()?.own(&path)?;
    }
    let name = path.display();
    // For the worker, too, which runs already.
    client
        .batch_execute(&format!("ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{name}'"))
        .context("cannot set the key file")?;
    client.batch_execute(&format!(
        "SELECT pg_reload_conf(); SET zeroauth_audit.checkpoint_key_file = '{name}'"
    ))?;
    Ok(())
}

/// Adds `events` events of `tenants` tenants, in turn.
fn add(client: &mut Client, tenants: u32, events: u64) -> Result<()> {
    let columns = COLUMNS.strip_prefix("tenant_id, ").context("the columns begin with the tenant")?;
    let insert = format!(
        "INSERT INTO audit_events ({COLUMNS}) SELECT 'tenant-' || ltrim(request_id, 'req-')::int % {tenants}, {columns} FROM source"
    );
    let mut added = 0;
    while added < events {
        added += client
            .execute(&format!("{insert} LIMIT {}", events - added), &[])
            .context("cannot fill audit_events")?;
    }
    Ok(())
}

/// Makes `audit_events` hold at least so many events of so many tenants, all of them sealed.
fn hold(client: &mut Client, cluster: &Cluster, effort: &Effort, tenants: u32) -> Result<()> {
    sign(client, cluster)?;
    stop(client)?;
    let logs: i64 = client.query_one(LOGS, &[])?.get(0);
    if logs.unsigned_abs() == u64::from(tenants) {
        return Ok(());
    }
    tables::empty(client, Side::Ours)?;
    add(client, tenants, effort.huge)?;
    client.batch_execute("VACUUM ANALYZE audit_events")?;
    run(client)?;
    let sealed: i64 = client.query_one(SEALED, &[])?.get(0);
    ensure!(sealed.unsigned_abs() >= effort.huge, "{sealed} events were sealed instead of {}", effort.huge);
    for table in [
        "zeroauth_audit_internal.logs",
        "zeroauth_audit_internal.log_intervals",
        "zeroauth_audit_internal.tiles",
        "zeroauth_audit_internal.registry_entries",
        "zeroauth_audit_internal.registry_tiles",
    ] {
        client.batch_execute(&format!("VACUUM ANALYZE {table}"))?;
    }
    client.batch_execute("CHECKPOINT")?;
    let logs: i64 = client.query_one(LOGS, &[])?.get(0);
    ensure!(logs.unsigned_abs() == u64::from(tenants), "{logs} logs instead of {tenants}");
    Ok(())
}

/// As [`hold`], with nothing new since.
fn rest(client: &mut Client, cluster: &Cluster, effort: &Effort, tenants: u32) -> Result<()> {
    hold(client, cluster, effort, tenants)?;
    run(client)?;
    Ok(())
}

/// Only what is measured runs the job from now on. Nor do tripwires look: emptying the table is what they are for.
fn stop(client: &mut Client) -> Result<()> {
    client.batch_execute(
        "UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name IN ('checkpoint', 'tripwire', 'pins', 'anchor', 'anchor_check')",
    )?;
    let ended = "SELECT NOT EXISTS (SELECT FROM zeroauth_audit_internal.job_runs WHERE job = 'checkpoint' AND finished_at IS NULL)";
    until("the worker's run to end", || Ok(client.query_one(ended, &[])?.get(0)))
}

/// Runs the job in this session; how many events it sealed.
fn run(client: &mut Client) -> Result<u64> {
    let before: i64 = client.query_one(SEALED, &[])?.get(0);
    run_job(client, "checkpoint")?;
    let refused: Option<String> = client
        .query_one(
            "SELECT min(message) FROM zeroauth_audit_internal.alerts WHERE fingerprint LIKE 'checkpoint_refused:%'",
            &[],
        )?
        .get(0);
    ensure!(refused.is_none(), "the table that was just filled is refused: {refused:?}");
    let after: i64 = client.query_one(SEALED, &[])?.get(0);
    Ok((after - before).unsigned_abs())
}

/// Microseconds of processor time for each new event, when all tenants have some.
pub(crate) fn new_event(
    client: &mut Client,
    cluster: &Cluster,
    effort: &Effort,
    tenants: u32,
) -> Result<f64> {
    hold(client, cluster, effort, tenants)?;
    let events = effort.huge / 10;
    add(client, tenants, events)?;
    client.batch_execute("CHECKPOINT")?;
    let milliseconds = processor_time(client, |client| {
        let sealed = run(client)?;
        ensure!(sealed == events, "{sealed} events were sealed instead of {events}");
        Ok(())
    })?;
    Ok(milliseconds * 1000.0 / events as f64)
}

/// Milliseconds of processor time of a run with nothing to do.
pub(crate) fn nothing_new(
    client: &mut Client,
    cluster: &Cluster,
    effort: &Effort,
    tenants: u32,
) -> Result<f64> {
    rest(client, cluster, effort, tenants)?;
    processor_time(client, |client| {
        ensure!(run(client)? == 0, "there was something to do");
        Ok(())
    })
}

/// Microseconds of processor time for each tenant by which the first part of the job drift takes longer when it compares logs, too.
pub(crate) fn comparison(
    client: &mut Client,
    cluster: &Cluster,
    effort: &Effort,
    tenants: u32,
) -> Result<f64> {
    rest(client, cluster, effort, tenants)?;
    let replay = |client: &mut Client, logs: bool| {
        processor_time(client, |client| {
            let sql = "SELECT (r ->> 'end')::boolean, jsonb_array_length(r -> 'compared'), jsonb_array_length(r -> 'findings') FROM zeroauth_audit_internal.replay_tenants('', NULL, NULL, 1, $1, 600000) r";
            let row = client.query_one(sql, &[&logs])?;
            let (end, compared, findings): (bool, i32, i32) = (row.get(0), row.get(1), row.get(2));
            ensure!(end && findings == 0, "the replay found something, or did not come to its end");
            ensure!((compared.unsigned_abs() >= tenants) == logs, "{compared} logs were compared");
            Ok(())
        })
    };
    // The first pass warms what both read.
    replay(client, false)?;
    let (without, with) = (replay(client, false)?, replay(client, true)?);
    Ok((with - without) * 1000.0 / f64::from(tenants))
}

/// Milliseconds of processor time of the job anchor, when every log is part of its batch and none has grown.
pub(crate) fn anchor_batch(
    client: &mut Client,
    cluster: &Cluster,
    effort: &Effort,
    tenants: u32,
) -> Result<f64> {
    rest(client, cluster, effort, tenants)?;
    client.batch_execute("UPDATE zeroauth_audit_internal.anchor_targets SET enabled = false")?;
    // A name that no earlier round used.
    let number: i64 =
        client.query_one("SELECT count(*) FROM zeroauth_audit_internal.anchor_targets", &[])?.get(0);
    let name = format!("anchors-{number}");
    let directory = new_directory(cluster, &name)?;
    client.execute(
        "INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver, config) VALUES ($1, 'file', jsonb_build_object('path', $2::text))",
        &[&name, &directory.join("anchors").display().to_string()],
    )?;
    let milliseconds = processor_time(client, |client| run_job(client, "anchor"))?;
    let entries: i64 = client
        .query_one(
            "SELECT max(size) FROM zeroauth_audit_internal.anchor_batches WHERE target = $1",
            &[&name],
        )?
        .get(0);
    ensure!(entries >= i64::from(tenants), "{entries} entries were anchored, of {tenants} tenants");
    client.batch_execute("UPDATE zeroauth_audit_internal.anchor_targets SET enabled = false")?;
    Ok(milliseconds)
}

/// Bytes that the tiles take for each event.
pub(crate) fn tiles(client: &mut Client, cluster: &Cluster, effort: &Effort, tenants: u32) -> Result<f64> {
    hold(client, cluster, effort, tenants)?;
    client.batch_execute("VACUUM zeroauth_audit_internal.tiles")?;
    let row = client.query_one(
        "SELECT pg_total_relation_size('zeroauth_audit_internal.tiles')::float8 / sum(tree_size)::float8 FROM zeroauth_audit_internal.logs",
        &[],
    )?;
    Ok(row.get(0))
}

/// The proofs of some events, spread over the one tenant's trail: milliseconds of each, and bytes without the event.
fn proofs(client: &mut Client, cluster: &Cluster, effort: &Effort) -> Result<Vec<(f64, f64)>> {
    hold(client, cluster, effort, 1)?;
    let events = i64::try_from(effort.huge)?;
    let mut found = Vec::new();
    for n in 0..=PROOFS {
        let seq = 1 + n * 7919 * (events / PROOFS) % events;
        let id: String = client
            .query_one("SELECT event_id::text FROM audit_events WHERE tenant_id = 'tenant-0' AND chain = 0 AND seq = $1", &[&seq])?
            .get(0);
        let prove = format!("SELECT audit_prove('tenant-0', '{id}')");
        let started = Instant::now();
        let bundle: String = client.query_one(&prove, &[])?.get(0);
        let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
        let event: i32 = client
            .query_one(&format!("SELECT octet_length(event) FROM zeroauth_audit_internal.exported WHERE tenant_id = 'tenant-0' AND event_id = '{id}'"), &[])?
            .get(0);
        // The first one warms the session up.
        if n > 0 {
            found.push((milliseconds, bundle.len() as f64 - f64::from(event)));
        }
    }
    Ok(found)
}

/// The median of the milliseconds of a proof.
pub(crate) fn proof_time(client: &mut Client, cluster: &Cluster, effort: &Effort) -> Result<f64> {
    let mut times: Vec<f64> = proofs(client, cluster, effort)?.into_iter().map(|(time, _)| time).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context("nothing was measured")
}

/// Bytes of the largest proof, without the event.
pub(crate) fn proof_size(client: &mut Client, cluster: &Cluster, effort: &Effort) -> Result<f64> {
    let sizes = proofs(client, cluster, effort)?.into_iter().map(|(_, size)| size);
    sizes.max_by(f64::total_cmp).context("nothing was measured")
}

/// Inserts a second; on the side [`Side::BesideCheckpoints`] while the worker seals what they add every few seconds, and publishes it
/// to a directory.
pub(crate) fn inserts(
    client: &mut Client,
    cluster: &Cluster,
    side: Side,
    clients: u32,
    effort: &Effort,
    tenants: u32,
) -> Result<f64> {
    hold(client, cluster, effort, tenants)?;
    let beside = side == Side::BesideCheckpoints;
    if beside {
        publish(client, cluster)?;
        client.batch_execute(
            "UPDATE zeroauth_audit_internal.jobs SET enabled = true WHERE name = 'checkpoint'",
        )?;
    }
    client.batch_execute("CHECKPOINT")?;
    let before = succeeded(client)?;
    let over = AtomicBool::new(false);
    let rate = thread::scope(|scope| -> Result<f64> {
        let runs = beside.then(|| scope.spawn(|| again_and_again(cluster, &over)));
        let rate = pgbench::prepared_rate(cluster, side, tables::TENANTS, clients, effort.seconds);
        over.store(true, Ordering::Relaxed);
        if let Some(runs) = runs {
            runs.join().map_err(|_| anyhow::anyhow!("what starts the job panicked"))??;
        }
        rate
    })?;
    if beside {
        let runs = succeeded(client)? - before;
        let least = i64::from(effort.seconds) / (2 * EVERY.as_secs() as i64);
        ensure!(runs >= least.max(1), "the job ran {runs} times beside the inserts");
    }
    stop(client)?;
    client.batch_execute("DELETE FROM zeroauth_audit_internal.sinks")?;
    // What is left is sealed out of the measurement.
    run(client)?;
    Ok(rate)
}

/// A new directory as the only sink, which has all checkpoints.
fn publish(client: &mut Client, cluster: &Cluster) -> Result<()> {
    let number: i64 = client
        .query_one("SELECT coalesce(max(number), 0) FROM zeroauth_audit_internal.registry_runs", &[])?
        .get(0);
    let directory = new_directory(cluster, &format!("sink-{number}"))?;
    client.batch_execute(&format!(
        "INSERT INTO zeroauth_audit_internal.sinks (name, kind, directory) VALUES ('bench', 'directory', '{}')",
        directory.display()
    ))?;
    until("the directory to have all checkpoints", || {
        let row = client.query_one(
            "SELECT published_to >= (SELECT max(number) FROM zeroauth_audit_internal.registry_runs) FROM zeroauth_audit_internal.sinks",
            &[],
        )?;
        Ok(row.get::<_, bool>(0))
    })
}

/// A directory that is the server's own to write.
fn new_directory(cluster: &Cluster, name: &str) -> Result<PathBuf> {
    let directory = cluster.data_dir().with_file_name(name);
    fs::create_dir(&directory).context("cannot make the directory")?;
    OsUser::current()?.own(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

fn succeeded(client: &mut Client) -> Result<i64> {
    let runs = "SELECT count(*) FROM zeroauth_audit_internal.job_runs WHERE job = 'checkpoint' AND run_by = 'worker' AND status = 'succeeded'";
    Ok(client.query_one(runs, &[])?.get(0))
}

/// Has the worker run the job every few seconds, until it is `over`.
fn again_and_again(cluster: &Cluster, over: &AtomicBool) -> Result<()> {
    let mut client = cluster.try_client()?;
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            next += EVERY;
            client.batch_execute(
                "UPDATE zeroauth_audit_internal.jobs SET next_run = now() WHERE name = 'checkpoint'",
            )?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn until(what: &str, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
    let since = Instant::now();
    while !met()? {
        ensure!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
