//! What a server's log says of a soak: crashes, and internal errors that are ours.
//!
//! PostgreSQL has internal errors of its own that a random query reaches (a catalog function called with nonsense). With
//! verbose messages each of them names its place in a file of C; an error of the extension has none, or one in a file of Rust.

/// Lines about a process that failed inside, whatever the query was.
const ALWAYS_WRONG: [&str; 7] = [
    "PANIC:",
    "was terminated by signal",
    "terminating any other active server processes",
    "panicked at",
    "fatal runtime error",
    "leak: ",
    "still referenced",
];

/// The lines that must not be there.
pub(crate) fn wrong(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    let mut found: Vec<String> = lines
        .iter()
        // The text of a query may say anything.
        .filter(|line| !line.contains("STATEMENT:") && ALWAYS_WRONG.iter().any(|part| line.contains(part)))
        .map(|line| (*line).to_owned())
        .collect();
    for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("you don't own a lock")) {
        // What pg_advisory_unlock() and its kin say of a lock that the session does not hold. Nothing of ours releases such a lock, but
        // one of a relation or an object released twice would be ours.
        let unlocks = process(line).is_some_and(|process| {
            statement(&lines[n + 1..], process).any(|line| line.contains("pg_advisory_unlock"))
        });
        if !unlocks {
            found.push((*line).to_owned());
        }
    }
    for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(" XX000 ERROR: ")) {
        let Some(process) = process(line) else { continue };
        let following = lines[n + 1..].iter().filter(|line| line.contains(process));
        let location =
            following.take_while(|line| !line.contains("ERROR: ")).find(|line| line.contains("LOCATION: "));
        if !location.is_some_and(|line| line.contains(".c:")) {
            found.push((*line).to_owned());
        }
    }
    found
}

/// The lines of the statement that the next message of `process` is about: those behind the first begin with a tab.
fn statement<'a>(lines: &'a [&str], process: &'a str) -> impl Iterator<Item = &'a str> {
    let is_first = |line: &&str| line.contains(process) && line.contains("STATEMENT:");
    let from = lines.iter().position(is_first).unwrap_or(lines.len());
    let more = lines[from..].iter().skip(1).take_while(|line| line.starts_with('\t'));
    lines[from..].iter().take(1).chain(more).copied()
}

/// `[pid]` of a line.
fn process(line: &str) -> Option<&str> {
    let begin = line.find('[')?;
    let length = line[begin..].find(']')?;
    Some(&line[begin..=begin + length])
}

#[cfg(test)]
mod tests {
    use super::wrong;

    #[test]
    fn an_internal_error_counts_unless_it_comes_from_a_file_of_postgresql() {
        let of = |location: &str| {
            format!(
                "t [7] XX000 ERROR:  XX000: cache lookup failed\nt [8] 42601 LOCATION:  f, x.c:1\n{location}t [7] XX000 STATEMENT:  select\nt [7] 42601 ERROR:  no\nt [7] 42601 LOCATION:  g, y.c:9\n"
            )
        };
        assert_eq!(wrong(&of("t [7] XX000 LOCATION:  getBaseType, lsyscache.c:2500\n")), [] as [&str; 0]);
        assert_eq!(wrong(&of("t [7] XX000 LOCATION:  src/verify.rs:12\n")).len(), 1);
        assert_eq!(wrong(&of("")).len(), 1, "no location at all: raised by ourselves");
    }

    #[test]
    fn a_lock_that_is_not_owned_counts_unless_the_query_releases_locks() {
        let of = |query: &str| {
            format!(
                "t [7] 01000 WARNING:  you don't own a lock of type ShareLock\nt [8] 0 STATEMENT:  x\nt [7] 01000 LOCATION:  LockRelease, lock.c:1\nt [7] 01000 STATEMENT:  {query}\n"
            )
        };
        assert_eq!(wrong(&of("select pg_advisory_unlock_shared(1)")), [] as [&str; 0]);
        assert_eq!(wrong(&of("select\n\t  pg_advisory_unlock(1)\n\tfrom x")), [] as [&str; 0]);
        assert_eq!(wrong(&of("select audit_verify()\nt [7] 0 LOG:  pg_advisory_unlock")).len(), 1);
    }

    #[test]
    fn a_crash_counts_and_a_query_that_speaks_of_one_does_not() {
        assert_eq!(wrong("t [1] 00000 LOG:  server process (PID 2) was terminated by signal 11: x").len(), 1);
        assert_eq!(wrong("t [1] 42601 STATEMENT:  select 'panicked at'").len(), 0);
    }
}
