//! What reading the trail costs: time and memory.

use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postgres::Client;
use zeroauth_audit_tests::Cluster;

use super::round::timed;
use super::tables::TENANTS;

/// Events a second of verify_all().
pub(crate) fn verify_all(client: &mut Client, workers: u32, events: u64) -> Result<f64> {
    client.batch_execute(&format!("SET max_parallel_workers_per_gather = {workers}"))?;
    timed(events, || checked(client))
}

/// The same number of events, read up to their largest column, and SHA-256 over as many bytes as are hashed of them: what no way of
/// verifying can do without. Processes share the work as they share that of a verification.
pub(crate) fn read_and_hash(client: &mut Client, workers: u32, events: u64) -> Result<f64> {
    client.batch_execute(&format!("SET max_parallel_workers_per_gather = {workers}"))?;
    let row = client.query_one(include_str!("bytes_hashed.sql"), &[]).context("cannot count the bytes")?;
    let [public, private] =
        [row.get::<_, i64>(0), row.get::<_, i64>(1)].map(|bytes| bytes.unsigned_abs() as usize);
    let started = Instant::now();
    let read: i64 = client.query_one("SELECT count(details) FROM audit_events", &[])?.get(0);
    let reading = started.elapsed().as_secs_f64();
    ensure!(read.unsigned_abs() >= events, "{read} events instead of {events}");
    let hashing =
        super::instructions::sha_nanos(public, private) * events as f64 / 1e9 / f64::from(workers + 1);
    Ok(events as f64 / (reading + hashing))
}

/// How many events verify_all() has checked, without those of the worker's own tenant, which come when they like; an error if it found
/// anything.
fn checked(client: &mut Client) -> Result<u64> {
    let verdicts = client
        .query("SELECT ok, events * (tenant_id <> 'zeroauth_audit')::int FROM audit_verify()", &[])
        .context("cannot verify")?;
    ensure!(
        verdicts.iter().all(|row| row.get::<_, bool>(0)),
        "the table that was just filled is reported broken"
    );
    Ok(verdicts.iter().map(|row| row.get::<_, i64>(1).unsigned_abs()).sum())
}

/// Milliseconds of audit_verify(tenant, 1000): the median over some tenants, after one that warms the session up.
pub(crate) fn verify_last(client: &mut Client) -> Result<f64> {
    let mut times = Vec::new();
    for tenant in 0..=20 {
        let name = format!("tenant-{}", tenant * 7 % TENANTS);
        let started = Instant::now();
        let row = client.query_one("SELECT ok, events FROM audit_verify($1, 1000)", &[&name])?;
        let elapsed = started.elapsed().as_secs_f64() * 1000.0;
        ensure!(row.get::<_, bool>(0) && row.get::<_, i64>(1) >= 1000, "{name} was not verified");
        if tenant > 0 {
            times.push(elapsed);
        }
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context("nothing was measured")
}

/// Mebibytes of own memory that verify_all() needs at its peak, over all its processes, beyond an idle session.
pub(crate) fn verify_memory(mut client: Client, cluster: &Cluster, events: u64) -> Result<f64> {
    client.batch_execute("SET max_parallel_workers_per_gather = 1")?;
    peak(client, cluster, |client| {
        let checked = checked(client)?;
        ensure!(checked == events, "{checked} events instead of {events}");
        Ok(())
    })
}

/// The same of audit_export(), read to its end.
pub(crate) fn export_memory(client: Client, cluster: &Cluster, events: u64) -> Result<f64> {
    peak(client, cluster, |client| {
        let mut lines = 0;
        let mut export =
            client.copy_out("COPY (SELECT audit_export()) TO STDOUT").context("cannot export")?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = export.read(&mut buffer).context("the export broke off")?;
            if read == 0 {
                break;
            }
            lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
        }
        ensure!(lines == events, "{lines} events instead of {events}");
        Ok(())
    })
}

/// The most anonymous memory that the client's backend and its parallel workers have while `work` runs, less what the backend had
/// before. Shared buffers do not count: they belong to the server.
fn peak(mut client: Client, cluster: &Cluster, work: impl FnOnce(&mut Client) -> Result<()>) -> Result<f64> {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let idle = anonymous(pid).context("the backend is gone")?;
    let mut observer = cluster.try_client()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| -> Result<u64> {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                let workers = observer
                    .query("SELECT pid FROM pg_stat_activity WHERE leader_pid = $1 AND pid <> $1", &[&pid])?;
                let pids = workers.iter().map(|row| row.get::<_, i32>(0)).chain([pid]);
                most = most.max(pids.filter_map(anonymous).sum());
                thread::sleep(Duration::from_millis(20));
            }
            Ok(most)
        });
        let done = work(&mut client);
        over.store(true, Ordering::Relaxed);
        let most = sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))??;
        done?;
        ensure!(most > 0, "the memory could not be read");
        Ok(most.saturating_sub(idle) as f64 / 1024.0)
    })
}

/// Kibibytes of memory that a process shares with nobody.
pub(crate) fn anonymous(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?.split_whitespace().next()?.parse().ok()
}
