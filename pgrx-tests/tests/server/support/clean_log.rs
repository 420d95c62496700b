//! What the log of a server never says when everything that was taken is given back and nothing dies, internal errors included.
//! Every cluster looks for most of it when it is dropped; this is for a test that wants to know at once.

use zeroauth_audit_tests::Cluster;

/// Parts of the warnings about what a transaction or a session left behind.
const LEAKS: [&str; 7] = [
    "leak",
    "still referenced",
    "refcount",
    "you don't own a lock",
    "snapshot reference",
    "still active",
    "not closed",
];

/// Parts of the lines about a server process that failed inside.
const CRASHES: [&str; 7] = [
    "PANIC:",
    "was terminated by signal",
    "terminating any other active server processes",
    "panicked at",
    "fatal runtime error",
    "memory allocation of",
    "TRAP:",
];

/// Lines of `log` about something that leaked, or about an internal error.
pub fn leaks(log: &str) -> Vec<&str> {
    let leaked = |line: &&str| {
        line.contains("WARNING:") && LEAKS.iter().any(|part| line.contains(part))
            || line.contains(" XX000 ")
            || line.contains(" XX001 ")
            || line.contains(" XX002 ")
    };
    log.lines().filter(leaked).collect()
}

/// Lines of `log` about a process that crashed.
pub fn crashes(log: &str) -> Vec<&str> {
    log.lines().filter(|line| CRASHES.iter().any(|part| line.contains(part))).collect()
}

/// Asserts that nothing leaked and no process crashed.
#[track_caller]
pub fn assert_clean_log(cluster: &Cluster) {
    let log = cluster.log();
    assert_eq!(leaks(&log), [] as [&str; 0], "leaks in the server log");
    assert_eq!(crashes(&log), [] as [&str; 0], "crashes in the server log");
}

/// Asserts that nothing leaked, and that a process crashed, but only in the way that the lines with one of `expected` say.
#[track_caller]
pub fn assert_clean_log_but(cluster: &Cluster, expected: &[&str]) {
    for part in expected {
        cluster.asks_for(part);
    }
    let log = cluster.log();
    assert_eq!(leaks(&log), [] as [&str; 0], "leaks in the server log");
    let (asked_for, others): (Vec<&str>, Vec<&str>) =
        crashes(&log).into_iter().partition(|line| expected.iter().any(|part| line.contains(part)));
    assert!(!asked_for.is_empty(), "no line with any of {expected:?}");
    let of_a_restart = |line: &&str| line.contains("terminating any other active server processes");
    assert!(others.iter().all(of_a_restart), "crashes in the server log: {others:#?}");
}

#[test]
fn the_lines_that_matter_are_found_and_no_others() {
    let log = "2026 [1] 01000 WARNING:  you don't own a lock of type ExclusiveLock\n\
               2026 [1] 00000 LOG:  statement: SELECT 'WARNINGs about a leak'\n\
               2026 [1] 01000 WARNING:  buffer refcount leak: [001] (rel=base/1/2)\n\
               2026 [1] XX000 ERROR:  cache lookup failed for function 17\n\
               2026 [1] 00000 LOG:  server process (PID 5) was terminated by signal 6: Aborted\n\
               fatal runtime error: failed to initiate panic, error 5, aborting";
    assert_eq!(leaks(log).len(), 3);
    assert_eq!(crashes(log).len(), 2);
}
