//! What counts as acknowledged by the driver these tests use, when the server dies in the middle of a commit. The other
//! tests rest on this: an event that they call lost must have been promised.

use std::thread;

use postgres::{Client, Error};
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::support::{DEADLINE, Sql};

type Way = (&'static str, fn(&mut Client) -> Result<(), Error>);

fn copy(client: &mut Client) -> Result<(), Error> {
    let mut copy = client.copy_in("COPY plain FROM STDIN")?;
    std::io::Write::write_all(&mut copy, b"1\n").unwrap();
    copy.finish().map(drop)
}

/// Every way of writing in these tests but COPY.
const WAYS: [Way; 4] = [
    ("COPY, then a question", |client| copy(client).and_then(|()| client.batch_execute(""))),
    ("simple", |client| client.batch_execute("INSERT INTO plain VALUES (1)")),
    ("execute", |client| client.execute("INSERT INTO plain VALUES (1)", &[]).map(drop)),
    ("query", |client| client.query("INSERT INTO plain VALUES (1) RETURNING i", &[]).map(drop)),
];

/// A plain table whose every commit runs `body` first.
fn cluster(name: &str, body: &str) -> Cluster {
    let cluster = Cluster::builder(name).conf("fsync", "off").start().unwrap();
    cluster.client().run(&format!(
        "CREATE TABLE plain (i int);
         CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN NULL; END$$;
         CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON plain DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit()",
    ));
    cluster
}

#[test]
fn the_driver_reports_a_copy_done_before_its_commit_and_every_other_statement_after_it() {
    let cluster = cluster("acknowledged_commit", "RAISE 'no commit'");
    let mut client = cluster.client();
    assert!(
        copy(&mut client).is_ok(),
        "if this fails, the question that storm_writer asks is no longer needed"
    );
    for (way, write) in &WAYS[1..] {
        let error = write(&mut client).expect_err(way);
        assert_eq!(error.code().unwrap().code(), "P0001", "{way}");
    }
    assert_eq!(client.line("SELECT count(*) FROM plain"), "0");
}

#[test]
fn a_crash_within_a_commit_is_never_taken_for_an_acknowledgement() {
    let cluster = cluster("acknowledged_crash", "PERFORM pg_advisory_xact_lock(1)");
    let mut holder = cluster.client();
    holder.run("SELECT pg_advisory_lock(1)");
    let results = thread::scope(|scope| {
        let waiting = WAYS.map(|(way, write)| {
            let mut client = cluster.client();
            (way, scope.spawn(move || write(&mut client)))
        });
        wait_until(DEADLINE, "every connection to be within its commit", || {
            holder.line("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
                == WAYS.len().to_string()
        });
        cluster.crash().unwrap();
        waiting.map(|(way, result)| (way, result.join().unwrap()))
    });
    cluster.start_again().unwrap();
    assert_eq!(cluster.client().line("SELECT count(*) FROM plain"), "0", "nothing was committed");
    for (way, result) in results {
        assert!(result.is_err(), "{way}");
    }
}
