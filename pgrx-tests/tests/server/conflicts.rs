//! Rows that the chaining trigger has seen and that are not stored after all: conflicts, savepoints, caught errors,
//! other triggers. Each would leave a gap if a seq were given away for good when the trigger runs.

use crate::support::{Database, Sql, assert_whole, verdict};

/// One event id for each number.
fn id(number: u32) -> String {
    format!("00000000-0000-7000-8000-{number:012}")
}

fn insert(tenant: &str, numbers: &[u32]) -> String {
    let rows: Vec<String> =
        numbers.iter().map(|n| format!("('{tenant}', '{}', 'event {n}')", id(*n))).collect();
    format!("INSERT INTO audit_events (tenant_id, event_id, action) VALUES {}", rows.join(", "))
}

#[test]
fn pitfall_07_on_conflict_do_nothing_leaves_no_gap() {
    let database = Database::audited("conflicts_nothing");
    let mut client = database.client();
    client.run(&insert("acme", &[1]));
    for (rows, stored) in [
        (vec![2, 1, 3], vec!["0|2", "0|3"]),
        (vec![1, 2, 3], vec![]),
        (vec![1, 4], vec!["0|4"]),
        (vec![5, 1, 1, 5, 6], vec!["0|5", "0|6"]),
    ] {
        let sql = insert("acme", &rows);
        assert_eq!(
            client.lines(&format!("{sql} ON CONFLICT DO NOTHING RETURNING chain, seq")),
            stored,
            "{rows:?}"
        );
    }
    assert_eq!(
        client.lines(&format!(
            "{} ON CONFLICT (tenant_id, event_id) DO NOTHING RETURNING seq",
            insert("acme", &[6, 7])
        )),
        ["7"]
    );
    assert_eq!(
        client.lines(&format!(
            "{} ON CONFLICT ON CONSTRAINT audit_events_event_id_key DO NOTHING RETURNING seq",
            insert("acme", &[7, 8])
        )),
        ["8"]
    );
    // Two tenants in turn, one of them with a duplicate.
    assert_eq!(
        client.lines(&format!(
            "INSERT INTO audit_events (tenant_id, event_id, action) VALUES ('globex', '{0}', 'x'), ('acme', '{0}', 'x'), ('globex', '{1}', 'x'), ('acme', '{2}', 'x') ON CONFLICT DO NOTHING RETURNING tenant_id, seq",
            id(1), id(2), id(9)
        )),
        ["globex|1", "globex|2", "acme|9"]
    );
    assert_eq!(
        client.line(
            "SELECT string_agg(seq::text, ',' ORDER BY seq) FROM audit_events WHERE tenant_id = 'acme'"
        ),
        "1,2,3,4,5,6,7,8,9"
    );
    assert_whole(&mut client);
}

#[test]
fn a_plain_duplicate_is_refused_by_the_key_and_leaves_no_gap() {
    let database = Database::audited("conflicts_plain");
    let mut client = database.client();
    client.run(&insert("acme", &[1]));
    client.refused("23505", &insert("acme", &[2, 1, 3]));
    client.refused("23505", &insert("acme", &[1]));
    client.run(&insert("acme", &[2]));
    // The same id is another tenant's own business.
    client.run(&insert("globex", &[1, 2]));
    assert_eq!(verdict(&mut client, "acme"), "t|2|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn on_conflict_do_update_is_an_update_and_refused() {
    let database = Database::audited("conflicts_update");
    let mut client = database.client();
    client.run(&insert("acme", &[1]));
    client.refused(
        "ZA003",
        &format!(
            "{} ON CONFLICT (tenant_id, event_id) DO UPDATE SET action = 'changed'",
            insert("acme", &[1])
        ),
    );
    client.refused(
        "ZA003",
        &format!(
            "{} ON CONFLICT (tenant_id, event_id) DO UPDATE SET action = 'changed' WHERE false",
            insert("acme", &[2])
        ),
    );
    client.run(&insert("acme", &[2]));
    assert_eq!(client.lines("SELECT action FROM audit_events ORDER BY seq"), ["event 1", "event 2"]);
    assert_whole(&mut client);
}

#[test]
fn pitfall_09_savepoints_rolled_back_between_inserts_leave_no_gap() {
    let database = Database::audited("conflicts_savepoints");
    let mut client = database.client();
    let one =
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";
    client.run("BEGIN");
    assert_eq!(client.line(one), "0/1");
    client.run("SAVEPOINT a");
    assert_eq!(client.line(one), "0/2");
    client.run("SAVEPOINT b");
    assert_eq!(client.line(one), "0/3");
    client.run("ROLLBACK TO b");
    assert_eq!(client.line(one), "0/3");
    client.run("RELEASE b");
    assert_eq!(client.line(one), "0/4");
    client.run("ROLLBACK TO a");
    assert_eq!(client.line(one), "0/2");
    client.run("ROLLBACK TO a; ROLLBACK TO a");
    assert_eq!(client.line(one), "0/2");
    client.run("COMMIT");
    client.run("BEGIN");
    assert_eq!(client.line(one), "0/3");
    client.run("ROLLBACK");
    assert_eq!(client.line(one), "0/3");
    assert_whole(&mut client);
}

#[test]
fn a_lock_lost_with_its_savepoint_is_not_believed_held() {
    let database = Database::audited("conflicts_lost_lock");
    let (mut first, mut second) = (database.client(), database.client());
    let one =
        "INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'x') RETURNING chain || '/' || seq";
    first.run("BEGIN; SAVEPOINT a");
    assert_eq!(first.line(one), "0/1");
    first.run("ROLLBACK TO a");
    second.run("BEGIN");
    assert_eq!(second.line(one), "0/1");
    assert_eq!(first.line(one), "1/1", "chain 0 is the other session's by now");
    second.run("COMMIT");
    assert_eq!(first.line(one), "1/2");
    first.run("COMMIT");
    assert_whole(&mut first);
}

#[test]
fn plpgsql_exception_blocks_leave_no_gap() {
    let database = Database::audited("conflicts_plpgsql");
    let mut client = database.client();
    client.run(
        "DO $$ BEGIN
           FOR i IN 1 .. 30 LOOP
             INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'kept');
             BEGIN
               INSERT INTO audit_events (tenant_id, action) SELECT CASE WHEN j % 2 = 0 THEN 'acme' ELSE 'globex' END, 'lost' FROM generate_series(1, i) j;
               IF i % 3 = 0 THEN PERFORM 1 / 0;
               ELSIF i % 3 = 1 THEN INSERT INTO audit_events (tenant_id, action, severity) VALUES ('acme', 'lost', 'nonsense');
               ELSE INSERT INTO audit_events (tenant_id, action, seq) VALUES ('acme', 'lost', 7); END IF;
             EXCEPTION WHEN division_by_zero OR check_violation OR SQLSTATE 'ZA001' THEN NULL;
             END;
           END LOOP;
         END $$",
    );
    assert_eq!(
        client.line("SELECT count(*), min(action), max(action), max(seq), max(chain) FROM audit_events"),
        "30|kept|kept|30|0"
    );
    assert_whole(&mut client);
}

#[test]
fn a_later_trigger_that_drops_rows_leaves_no_gap() {
    let database = Database::audited("conflicts_trigger");
    let mut client = database.client();
    client.run(
        "CREATE FUNCTION drop_some() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN IF NEW.action = 'drop' THEN RETURN NULL; END IF; RETURN NEW; END $$;
         SET zeroauth_audit.maintenance = on;
         CREATE TRIGGER zzzz_later BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION drop_some();
         RESET zeroauth_audit.maintenance",
    );
    assert_eq!(
        client.lines("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'drop'), ('acme', 'a'), ('acme', 'drop'), ('acme', 'drop'), ('acme', 'b') RETURNING seq"),
        ["1", "2"]
    );
    client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', CASE WHEN i % 3 = 0 THEN 'drop' ELSE 'keep' END FROM generate_series(1, 300) i");
    assert_eq!(verdict(&mut client, "acme"), "t|202|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn a_statement_that_fails_half_way_leaves_no_gap() {
    let database = Database::audited("conflicts_half");
    let mut client = database.client();
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'first')");
    client.refused("22012", "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', (1 / (100 - i))::text FROM generate_series(1, 200) i");
    let mut copy = client.copy_in("COPY audit_events (tenant_id, action) FROM STDIN").unwrap();
    std::io::Write::write_all(&mut copy, b"acme\ta\nacme\tb\nacme\t\n").unwrap();
    let error = copy.finish().unwrap_err();
    assert_eq!(error.code().map(|c| c.code().to_owned()).as_deref(), Some("23514"));
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'second')");
    assert_eq!(verdict(&mut client, "acme"), "t|2|1|0|{}");
    assert_whole(&mut client);
}

#[test]
fn a_cursor_and_a_function_may_append_while_another_statement_appends() {
    let database = Database::audited("conflicts_nested");
    let mut client = database.client();
    client.run(
        "CREATE FUNCTION append(what text) RETURNS text LANGUAGE sql VOLATILE AS
           $$ INSERT INTO audit_events (tenant_id, action) VALUES ('acme', what) RETURNING what || seq $$;
         INSERT INTO audit_events (tenant_id, action) SELECT 'acme', append('inner ') FROM generate_series(1, 20);
         INSERT INTO audit_events (tenant_id, action, details) SELECT 'acme', 'outer', to_jsonb(append('inner ')) FROM generate_series(1, 20)",
    );
    assert_eq!(verdict(&mut client, "acme"), "t|80|1|0|{}");
    assert_whole(&mut client);
}
