//! The threads: a route at a time, in order, and none delays another.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroauth_audit_alert_delivery::{Batch, Outcome, Report, Senders, Shipment};
use zeroauth_audit_test_servers::{Server, respond};

use super::route::Files;

const DEADLINE: Duration = Duration::from_secs(4);

fn batch(files: &Files, name: &str, numbers: std::ops::Range<i64>) -> Batch {
    let mut route = files.route.clone();
    route.name = name.into();
    let shipments =
        numbers.map(|id| Shipment { id, key: id.to_string(), body: format!("{{\"n\":{id}}}") }).collect();
    Batch { route, shipments }
}

/// Whether the descriptor becomes readable in time.
fn woken(senders: &Senders, milliseconds: u16) -> bool {
    let wake = senders.wake_fd();
    let mut fds = [PollFd::new(wake, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(milliseconds)).unwrap() == 1
}

fn next(senders: &mut Senders) -> Report {
    assert!(woken(senders, 10_000), "no report");
    let mut reports = senders.reports();
    assert_eq!(reports.len(), 1);
    assert!(!woken(senders, 0), "a byte was left in the pipe");
    reports.remove(0)
}

#[test]
fn a_server_that_hangs_delays_no_other_route() {
    let (hangs, fine) = (Server::new(|_| sleep(Duration::from_secs(30))), Server::status("200 OK"));
    let (to_hangs, to_fine) = (
        Files::webhook(&format!("http://{}", hangs.address)),
        Files::webhook(&format!("http://{}", fine.address)),
    );
    let mut senders = Senders::with_deadline(DEADLINE).unwrap();
    senders.send(batch(&to_hangs, "hangs", 1..3));
    senders.send(batch(&to_fine, "fine", 3..5));
    let report = next(&mut senders);
    assert_eq!(report.route, "fine");
    assert_eq!(report.outcomes, [(3, Outcome::Delivered), (4, Outcome::Delivered)]);
    assert_eq!(senders.busy().collect::<Vec<_>>(), ["hangs"]);
    let report = next(&mut senders);
    // The first that fails ends the batch: the next would only take as long.
    assert!(matches!(report.outcomes.as_slice(), [(1, Outcome::Retry { .. })]), "{report:?}");
    assert_eq!(report.untried, [2]);
    assert_eq!(senders.busy().count(), 0);
    assert_eq!(hangs.connections(), 1);
}

#[test]
fn a_batch_goes_out_in_order_past_what_is_refused() {
    let count = AtomicUsize::new(0);
    let server = Server::new(move |stream| {
        let status = if count.fetch_add(1, Ordering::Relaxed) == 1 { "404 Not Found" } else { "200 OK" };
        respond(stream, status);
    });
    let files = Files::webhook(&format!("http://{}", server.address));
    let mut senders = Senders::with_deadline(DEADLINE).unwrap();
    senders.send(batch(&files, "a", 1..5));
    let report = next(&mut senders);
    let delivered: Vec<(i64, bool)> =
        report.outcomes.iter().map(|(id, o)| (*id, *o == Outcome::Delivered)).collect();
    assert_eq!(delivered, [(1, true), (2, false), (3, true), (4, true)]);
    let keys: Vec<String> =
        server.requests().iter().map(|r| r.header("zeroauth-audit-delivery").to_owned()).collect();
    assert_eq!(keys, ["1", "2", "3", "4"]);
}

#[test]
fn a_route_with_a_batch_under_way_gets_no_second_one() {
    let server = Server::new(|stream| {
        sleep(Duration::from_millis(300));
        respond(stream, "200 OK");
    });
    let files = Files::webhook(&format!("http://{}", server.address));
    let mut senders = Senders::with_deadline(DEADLINE).unwrap();
    senders.send(batch(&files, "a", 1..2));
    senders.send(batch(&files, "a", 2..3));
    let refused = next(&mut senders);
    assert_eq!((refused.outcomes.len(), refused.untried.as_slice()), (0, [2].as_slice()));
    assert_eq!(senders.busy().count(), 1, "the first is still under way");
    assert_eq!(next(&mut senders).outcomes, [(1, Outcome::Delivered)]);
    assert_eq!(server.connections(), 1);
}

#[test]
fn there_is_an_end_to_the_number_of_threads() {
    let server = Server::new(|_| sleep(Duration::from_secs(30)));
    let files = Files::webhook(&format!("http://{}", server.address));
    let mut senders = Senders::with_deadline(DEADLINE).unwrap();
    let room = senders.room();
    for n in 0..room {
        senders.send(batch(&files, &format!("route {n}"), 1..2));
    }
    assert_eq!(senders.room(), 0);
    senders.send(batch(&files, "one too many", 7..8));
    assert_eq!(next(&mut senders).untried, [7]);
}

#[test]
fn a_batch_ends_in_time_when_each_attempt_is_slow() {
    let server = Server::new(|stream| {
        sleep(Duration::from_millis(400));
        respond(stream, "200 OK");
    });
    let files = Files::webhook(&format!("http://{}", server.address));
    let mut senders = Senders::with_deadline(DEADLINE).unwrap();
    let begun = Instant::now();
    senders.send(batch(&files, "a", 0..100));
    let report = next(&mut senders);
    assert!(begun.elapsed() < DEADLINE * 2, "{:?}", begun.elapsed());
    assert_eq!(report.outcomes.len() + report.untried.len(), 100);
    assert!(
        report.outcomes.len() >= 2
            && report.outcomes.iter().all(|(_, outcome)| *outcome == Outcome::Delivered)
    );
}

#[test]
fn a_route_whose_files_are_bad_is_reported_like_any_trouble() {
    let mut files = Files::webhook("http://127.0.0.1:1");
    files.route.url_file = files.folder.path().join("none");
    let mut senders = Senders::with_deadline(DEADLINE).unwrap();
    senders.send(batch(&files, "a", 1..3));
    let report = next(&mut senders);
    assert!(
        matches!(&report.outcomes[..], [(1, Outcome::Retry { error, .. })] if error.starts_with("cannot open the URL file")),
        "{report:?}"
    );
    assert_eq!(report.untried, [2]);
}

#[test]
fn no_signal_is_delivered_to_a_sending_thread() {
    let server = Server::new(|_| sleep(Duration::from_secs(30)));
    let files = Files::webhook(&format!("http://{}", server.address));
    let mut senders = Senders::with_deadline(DEADLINE).unwrap();
    senders.send(batch(&files, "a", 1..2));
    let begun = Instant::now();
    let blocked = loop {
        let found = fs::read_dir("/proc/self/task").unwrap().find_map(|task| {
            let task = task.unwrap().path();
            let named = fs::read_to_string(task.join("comm")).ok()?.trim() == "audit delivery";
            let status = named.then(|| fs::read_to_string(task.join("status")).ok()).flatten()?;
            status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).map(str::to_owned)
        });
        if let Some(found) = found {
            break found;
        }
        assert!(begun.elapsed() < DEADLINE, "no sending thread seen");
        sleep(Duration::from_millis(5));
    };
    let mask = u64::from_str_radix(&blocked, 16).unwrap();
    // All but KILL, STOP and the two that the C library keeps to itself.
    for signal in (1..=64u32).filter(|n| ![9, 19, 32, 33].contains(n)) {
        assert!(mask & (1 << (signal - 1)) != 0, "signal {signal} is let in: {blocked}");
    }
    // This thread's own mask is as it was.
    let own = fs::read_to_string("/proc/thread-self/status").unwrap();
    assert!(own.contains("SigBlk:\t0000000000000000"), "{own}");
}
