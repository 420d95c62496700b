//! Long verifications: progress is shown to others, cancel stops them at once, workers help, an export streams.

use std::sync::OnceLock;
use std::thread;
use std::time::Instant;

use postgres::NoTls;
use postgres::error::SqlState;
use zeroauth_audit_tests::wait_until;

use crate::support::{DEADLINE, Database, Sql, shared};

const EVENTS: u32 = 300_000;

/// The tests below only read it, so they share it.
fn big() -> &'static Database {
    static BIG: OnceLock<Database> = OnceLock::new();
    BIG.get_or_init(|| {
        let database = Database::audited("long");
        let mut client = database.client();
        client.run(&format!(
            "INSERT INTO audit_events (tenant_id, action, details) SELECT CASE WHEN i % 10 = 0 THEN 'small' ELSE 'big' END, 'x', jsonb_build_object('i', i) FROM generate_series(1, {EVENTS}) i;
             ANALYZE audit_events"
        ));
        database
    })
}

/// Calls that read everything again for each of many rounds, so that they are long on any machine.
const ENDLESS: [&str; 4] = [
    "SELECT count(*) FROM generate_series(1, 1000) g, LATERAL audit_verify('big' || left(g::text, 0)) v",
    // In a select list: in FROM, what does not depend on the round is read once and kept.
    "SELECT count(v) FROM (SELECT audit_verify() v FROM generate_series(1, 1000) OFFSET 0) rounds",
    "SELECT count(*) FROM generate_series(1, 1000) g, LATERAL audit_findings('big' || left(g::text, 0)) v",
    "SELECT count(length(e)) FROM generate_series(1, 1000) g, LATERAL audit_export('big' || left(g::text, 0)) e",
];

#[test]
fn cancel_stops_any_verification_within_a_second() {
    let database = big();
    let mut look = database.client();
    for sql in ENDLESS {
        let mut client = database.client();
        let pid = client.line("SELECT pg_backend_pid()");
        let token = client.cancel_token();
        let elapsed = thread::scope(|scope| {
            let running = scope.spawn(|| client.refusal(sql).code);
            wait_until(DEADLINE, "the call to run", || {
                look.line(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active' AND query_start < clock_timestamp() - interval '200 ms'")) == "1"
            });
            let begun = Instant::now();
            token.cancel_query(NoTls).unwrap();
            assert_eq!(running.join().unwrap(), "57014", "{sql}");
            begun.elapsed()
        });
        assert!(elapsed < DEADLINE, "{elapsed:?}: {sql}");
        wait_until(DEADLINE, "its progress to be gone", || {
            look.line(&format!("SELECT count(*) FROM audit_progress() WHERE pid = {pid}")) == "0"
        });
        assert_eq!(client.line("SELECT ok FROM audit_verify('small')"), "t", "the session goes on");
    }
    // A session that is ended, and an error that is caught, leave no progress behind either.
    let mut client = database.client();
    let pid = client.line("SELECT pg_backend_pid()");
    client
        .run("DO $$ BEGIN PERFORM audit_verify('nobody'); EXCEPTION WHEN SQLSTATE 'ZA005' THEN NULL; END $$");
    let slots = format!("SELECT count(*) FROM audit_progress() WHERE pid = {pid}");
    assert_eq!(client.line(&slots), "0");
    thread::scope(|scope| {
        let running = scope.spawn(|| client.simple_query(ENDLESS[0]).unwrap_err());
        wait_until(DEADLINE, "progress", || look.line(&slots) == "1");
        look.run(&format!("SELECT pg_terminate_backend({pid})"));
        let end = running.join().unwrap();
        // On a busy machine the client reads the message and the end of the connection at once, and only tells the latter.
        assert!(end.is_closed() || end.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{end}");
    });
    wait_until(DEADLINE, "its progress to be gone", || look.line(&slots) == "0");
}

#[test]
fn a_long_verification_shows_its_progress_to_others() {
    let database = big();
    let mut look = database.client();
    for (sql, tenant, total) in [(ENDLESS[0], "big", EVENTS / 10 * 9), (ENDLESS[1], "~", EVENTS)] {
        let mut client = database.client();
        let pid = client.line("SELECT pg_backend_pid()");
        let token = client.cancel_token();
        thread::scope(|scope| {
            let running = scope.spawn(|| client.refusal(sql).code);
            let (mut seen, mut highest) = (0, 0);
            wait_until(DEADLINE, "progress that grows", || {
                for row in look.rows(&format!("SELECT done, total, what = 'verification', tenant_id, started_at BETWEEN now() - interval '10 minutes' AND clock_timestamp() FROM audit_progress() WHERE pid = {pid}")) {
                    let done: i64 = row[0].as_ref().unwrap().parse().unwrap();
                    if done > highest {
                        (highest, seen) = (done, seen + 1);
                    }
                    if let Some(of) = &row[1] {
                        // An estimate may be off, but not by much after ANALYZE.
                        let of: f64 = of.parse().unwrap();
                        assert!((0.5..2.0).contains(&(of / f64::from(total))), "{of} of {total}");
                    }
                    assert_eq!(row[2].as_deref(), Some("t"));
                    assert_eq!(row[3].as_deref().unwrap_or("~"), tenant);
                    assert_eq!(row[4].as_deref(), Some("t"));
                }
                seen >= 3
            });
            assert!(highest > 0 && highest <= i64::from(total), "{highest} of {total}");
            token.cancel_query(NoTls).unwrap();
            assert_eq!(running.join().unwrap(), "57014");
        });
    }
}

#[test]
fn verifying_everything_uses_parallel_workers() {
    let database = big();
    let mut look = database.client();
    let mut client = database.client();
    client.run("SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0");
    let pid = client.line("SELECT pg_backend_pid()");
    let token = client.cancel_token();
    thread::scope(|scope| {
        let running = scope.spawn(|| client.refusal(ENDLESS[1]).code);
        wait_until(DEADLINE, "a parallel worker", || {
            look.line(&format!("SELECT count(*) FROM pg_stat_activity WHERE leader_pid = {pid} AND backend_type = 'parallel worker'")) != "0"
        });
        token.cancel_query(NoTls).unwrap();
        assert_eq!(running.join().unwrap(), "57014");
    });
    assert_eq!(client.line("SELECT bool_and(ok), sum(events) FROM audit_verify()"), format!("t|{EVENTS}"));
}

#[test]
fn an_export_streams_in_constant_memory() {
    let database = big();
    let mut client = database.client();
    let pid: u32 = client.line("SELECT pg_backend_pid()").parse().unwrap();
    client.run("SET log_temp_files = 0; BEGIN; DECLARE c NO SCROLL CURSOR FOR SELECT audit_export()");
    // Few enough lines for the answer to a FETCH to stay below work_mem.
    let first = client.lines("FETCH 2000 FROM c").len();
    let looked_at = "SELECT pg_stat_get_xact_blocks_fetched('audit_events'::regclass)";
    let until_first: u64 = client.line(looked_at).parse().unwrap();
    assert_eq!(first, 2000);
    let at_first = anonymous_memory(pid);
    let (mut total, mut highest) = (first, at_first);
    loop {
        let lines = client.lines("FETCH 2000 FROM c").len();
        if lines == 0 {
            break;
        }
        total += lines;
        highest = highest.max(anonymous_memory(pid));
    }
    let whole: u64 = client.line(looked_at).parse().unwrap();
    client.run("COMMIT");
    assert_eq!(total, EVENTS as usize);
    // 300,000 exported events are more than 200 MB of text.
    assert!(highest < at_first + 16 * 1024, "{at_first} kB after the first lines, up to {highest} kB");
    println!("first lines after {until_first} of {whole} pages");
    assert!(0 < until_first && until_first < whole / 4, "first lines after {until_first} of {whole} pages");
    let spooled = format!("[{pid}] 00000 LOG:  temporary file");
    assert!(!shared().log().contains(&spooled), "nothing is spooled to disk");
}

/// Private memory of a server process in kB.
fn anonymous_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
