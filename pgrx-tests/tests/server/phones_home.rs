//! Nothing phones home: with everything running that runs by itself, the server's processes open no socket but unix sockets, until
//! somebody names an address.
//!
//! Seen from outside, in /proc: which sockets each process of the server has, and of which family each is. The second test shows that a
//! connection is seen this way.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::receiver::{Receiver, SILENT, webhook};
use crate::support::sealed::{ORIGIN, folder, key_file, key_path};
use crate::support::{SetOnDrop, Sql};

/// Jobs are due every minute here; each needs its turn, and an anchor needs a few steps of the worker.
const ROUND: Duration = Duration::from_secs(240);

/// The postmaster and its children, by /proc.
fn processes(postmaster: i32) -> Vec<i32> {
    let mut found = vec![postmaster];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(postmaster) {
            found.push(pid);
        }
    }
    found
}

/// Inode numbers of the sockets that a process has open; none if it has ended.
fn sockets(pid: i32) -> HashSet<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return HashSet::new() };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

/// Inode numbers of all unix sockets that the process could have.
fn unix_sockets(pid: i32) -> HashSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(6)).map(str::to_owned).collect()
}

/// What the tables of other families say of a socket.
fn named(pid: i32, inode: &str) -> String {
    for family in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "icmp6", "packet", "netlink"] {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{family}")).unwrap_or_default();
        if let Some(line) = table.lines().find(|line| line.split_whitespace().any(|word| word == inode)) {
            return format!("{family}: {}", line.trim());
        }
    }
    "of no table".into()
}

/// Sockets of the server that are no unix sockets, as they are now.
fn others(postmaster: i32) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pid in processes(postmaster) {
        let unix = unix_sockets(pid);
        for inode in sockets(pid).difference(&unix) {
            // One that was opened or closed between the two looks is a unix socket all the same: both are looked at again.
            if sockets(pid).contains(inode) && !unix_sockets(pid).contains(inode) {
                found.insert(format!("process {pid}: {}", named(pid, inode)));
            }
        }
    }
    found
}

/// A server with the extension, its worker, a key, a directory, and each job due every minute.
fn busy(name: &str) -> Cluster {
    let cluster = Cluster::builder(name).start().unwrap();
    let key = key_path(&cluster);
    key_file(&key, ORIGIN, 7);
    let directory = folder(&cluster, "published");
    let mut client = cluster.client();
    client.run(&format!("ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'", key.display()));
    client.run("SELECT pg_reload_conf()");
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run(&format!(
        "INSERT INTO zeroauth_audit_internal.sinks (name, kind, directory) VALUES ('worm', 'directory', '{}');
         UPDATE zeroauth_audit_internal.jobs SET schedule = '* * * * *';
         INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'login'), ('globex', 'login')",
        directory.display()
    ));
    cluster
}

#[test]
fn nothing_phones_home_before_somebody_names_an_address() {
    let cluster = busy("phones_home");
    let postmaster = cluster.pid().unwrap();
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let (mut seen, mut looks) = (BTreeSet::new(), 0_u32);
            // Jobs may be quick: it goes on until it has looked often enough, or it would be no look at all.
            while !done.load(Ordering::Relaxed) || looks <= 100 {
                seen.extend(others(postmaster));
                looks += 1;
                thread::sleep(Duration::from_millis(5));
            }
            (seen, looks)
        });
        let ends = SetOnDrop(&done);
        let mut client = cluster.client();
        wait_until(ROUND, "every job has ended well, and an anchor is final", || {
            client.line(
                "SELECT count(*) FROM zeroauth_audit_internal.jobs j
                 WHERE j.enabled AND NOT EXISTS (SELECT FROM zeroauth_audit_internal.job_runs r WHERE r.job = j.name AND r.status = 'succeeded')",
            ) == "0"
                && client.line("SELECT count(*) > 0 FROM zeroauth_audit_internal.anchor_batches WHERE state = 'finalized'") == "t"
        });
        drop(ends);
        watching.join().unwrap()
    });
    assert!(seen.0.is_empty(), "{:#?}", seen.0);
    assert!(seen.1 > 100, "looked {} times", seen.1);
    assert!(processes(postmaster).len() > 5, "the server's processes are seen");
    let published = fs::read_dir(cluster.data_dir().with_file_name("published")).unwrap().count();
    assert!(published > 0, "checkpoints left the database, for a directory");
}

#[test]
fn an_address_that_somebody_names_is_seen_to_be_called() {
    let cluster = busy("phones_home_route");
    let receiver = Receiver::start();
    receiver.answer(SILENT);
    let mut client = cluster.client();
    client.run(&webhook(&cluster, "named", receiver.address));
    client.run("SELECT zeroauth_audit_internal.raise_alert('gap', 3::smallint, 'acme', 'gap:acme:0', 'a test', '{}')");
    let postmaster = cluster.pid().unwrap();
    let port = format!("{:04X}", receiver.address.port());
    wait_until(Duration::from_secs(60), "the worker's connection to the receiver", || {
        others(postmaster).iter().any(|socket| socket.contains("tcp") && socket.contains(&port))
    });
}
