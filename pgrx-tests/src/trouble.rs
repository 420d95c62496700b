//! Lines of a server log that no test ever wants: crashes nobody asked for, and what PostgreSQL says when an extension
//! left something open at the end of a transaction.

/// What PostgreSQL's own warnings about things left behind have in common, in lower case, over all versions: "buffer
/// refcount leak", "resource was not closed", "snapshot .. still active", "you don't own a lock of type ..".
const LEFT_BEHIND: [&str; 10] = [
    "leak",
    "not closed",
    "still referenced",
    "still active",
    "own a lock",
    "refcount",
    "snapshot",
    "non-empty spi stack",
    "problem in alloc",
    "abort transaction",
];

/// The lines of `log` that say that something went wrong inside the server. The first `killed` deaths by SIGKILL were
/// asked for.
pub(crate) fn lines(log: &str, killed: usize) -> Vec<&str> {
    let mut killed = killed;
    log.lines()
        .filter(|line| {
            if line.contains("was terminated by signal 9") && killed > 0 {
                killed -= 1;
                return false;
            }
            is_trouble(line)
        })
        .collect()
}

fn is_trouble(line: &str) -> bool {
    if let Some((_, warning)) = line.split_once("WARNING:  ") {
        let warning = warning.to_lowercase();
        return LEFT_BEHIND.iter().any(|words| warning.contains(words));
    }
    // XX001 and XX002: a damaged table or index.
    ["PANIC:  ", "TRAP: ", "was terminated by signal", "] XX001 ", "] XX002 ", "panicked at"]
        .iter()
        .any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn only_what_was_not_asked_for_is_trouble() {
        let log = "2024-01-01 00:00:00.000 UTC [7] 01000 WARNING:  buffer refcount leak: [042] (rel=base/1/2)\n\
                   2024-01-01 00:00:00.000 UTC [7] 01000 WARNING:  resource was not closed: relation \"audit_events\"\n\
                   2024-01-01 00:00:00.000 UTC [7] 01000 WARNING:  you don't own a lock of type ExclusiveLock\n\
                   2024-01-01 00:00:00.000 UTC [7] XX000 PANIC:  stuck spinlock\n\
                   2024-01-01 00:00:00.000 UTC [1] 00000 LOG:  server process (PID 8) was terminated by signal 9: Killed\n\
                   2024-01-01 00:00:00.000 UTC [1] 00000 LOG:  server process (PID 9) was terminated by signal 9: Killed\n\
                   2024-01-01 00:00:00.000 UTC [1] 00000 LOG:  server process (PID 9) was terminated by signal 11: Segmentation fault";
        assert_eq!(lines(log, 0).len(), 7);
        assert_eq!(lines(log, 1).len(), 6);
        assert_eq!(lines(log, 9).len(), 5, "a segmentation fault is never asked for");
        let calm = "2024-01-01 00:00:00.000 UTC [7] 01000 WARNING:  terminating connection because of crash of another server process\n\
                    2024-01-01 00:00:00.000 UTC [7] 42601 STATEMENT:  SELECT 'leaked snapshot'";
        assert_eq!(lines(calm, 0), [] as [&str; 0]);
    }
}
