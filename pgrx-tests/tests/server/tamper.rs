//! What a superuser can do to stored rows, with triggers off, in replica role or in maintenance: each change is named
//! with its class and place. Every case runs in a transaction that is rolled back.

use std::collections::BTreeSet;

use postgres::Client;

use crate::support::audit::{Place, export, place, reference_places};
use crate::support::{Database, Sql, assert_whole, findings, verdict};
use crate::tamper_columns::COLUMNS;

/// The ways to get past the guards; `zeroauth_audit.maintenance` is on in all of them.
const WAYS: [&str; 3] = [
    "SELECT 1",
    "ALTER TABLE audit_events DISABLE TRIGGER ALL",
    "SET LOCAL session_replication_role = replica; ALTER TABLE audit_events DISABLE TRIGGER USER",
];

/// Two tenants with three chains each, ten events a chain.
pub fn trail(name: &str) -> (Database, Client) {
    let database = Database::audited(name);
    let mut holders: Vec<Client> = (0..3).map(|_| database.client()).collect();
    for client in &mut holders {
        client.run(
            "BEGIN; INSERT INTO audit_events (tenant_id, action, actor_id, ip, details, resource)
             SELECT tenant, 'step ' || i, 'actor', '10.0.0.7', jsonb_build_object('amount', i), 'file'
             FROM unnest('{acme,globex}'::text[]) tenant, generate_series(1, 10) i",
        );
    }
    for client in &mut holders {
        client.run("COMMIT");
    }
    let mut client = database.client();
    assert_eq!(client.line("SELECT count(*), count(DISTINCT (tenant_id, chain)) FROM audit_events"), "60|6");
    assert_whole(&mut client);
    client.run("SET zeroauth_audit.maintenance = on");
    (database, client)
}

/// Tampers, asserts what every way of verifying says, and takes the tampering back.
#[track_caller]
fn case(client: &mut Client, tampering: &str, expected: &[Place]) {
    let mut expected = expected.to_vec();
    expected.sort();
    for way in WAYS {
        client.run(&format!("BEGIN; {way}; {tampering}"));
        let found = findings(client, "");
        assert_eq!(found, expected, "audit_findings() after {tampering}, {way}");
        let tenants: BTreeSet<&String> = expected.iter().map(|(_, tenant, ..)| tenant).collect();
        for tenant in &tenants {
            let own: Vec<Place> = expected.iter().filter(|(_, t, ..)| t == *tenant).cloned().collect();
            assert_eq!(
                findings(client, &format!("'{tenant}'")),
                own,
                "audit_findings('{tenant}') after {tampering}, {way}"
            );
            let classes: BTreeSet<&str> = own.iter().map(|(class, ..)| class.as_str()).collect();
            let classes = classes.into_iter().collect::<Vec<_>>().join(" ");
            for call in
                [format!("audit_verify('{tenant}')"), format!("audit_verify() WHERE tenant_id = '{tenant}'")]
            {
                assert_eq!(
                    client.line(&format!("SELECT ok, findings, (SELECT string_agg(c, ' ' ORDER BY c) FROM unnest(classes) c), first_finding IS NOT NULL FROM {call}")),
                    format!("f|{}|{classes}|t", own.len()),
                    "{call} after {tampering}, {way}"
                );
            }
        }
        assert_eq!(
            client.line("SELECT count(*) FROM audit_verify() WHERE NOT ok"),
            tenants.len().to_string(),
            "audit_verify() after {tampering}, {way}"
        );
        if way == WAYS[0] {
            assert_eq!(
                reference_places(&export(client)),
                expected.iter().cloned().collect(),
                "reference after {tampering}"
            );
        }
        client.run("ROLLBACK");
    }
    assert_eq!(findings(client, ""), []);
}

/// `WHERE` of one event of acme's chain 1.
fn at(seq: u32) -> String {
    format!("WHERE tenant_id = 'acme' AND chain = 1 AND seq = {seq}")
}

#[test]
fn a_clean_trail_has_no_findings() {
    let (_database, mut client) = trail("tamper_clean");
    assert_eq!(
        client.lines("SELECT * FROM audit_verify() ORDER BY tenant_id"),
        ["acme|t|30|0|{}|3|~", "globex|t|30|0|{}|3|~"]
    );
    assert_eq!(verdict(&mut client, "acme"), "t|30|3|0|{}");
    let empty = Database::audited("tamper_empty");
    let mut empty = empty.client();
    assert_eq!(empty.lines("SELECT * FROM audit_verify()"), [] as [&str; 0]);
    assert_eq!(findings(&mut empty, ""), []);
    assert_eq!(export(&mut empty), [] as [&str; 0]);
}

#[test]
fn pitfall_23_a_deleted_event_is_a_gap_where_it_was() {
    let (_database, mut client) = trail("tamper_delete");
    case(&mut client, &format!("DELETE FROM audit_events {}", at(5)), &[place("gap", "acme", 1, 5)]);
    case(
        &mut client,
        "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq IN (3, 4, 7)",
        &[place("gap", "acme", 1, 3), place("gap", "acme", 1, 7)],
    );
    case(
        &mut client,
        "DELETE FROM audit_events WHERE seq = 6",
        &["acme", "globex"].map(|t| [0, 1, 2].map(|c| place("gap", t, c, 6))).concat(),
    );
}

#[test]
fn the_first_events_deleted_are_a_gap_from_1() {
    let (_database, mut client) = trail("tamper_first");
    case(&mut client, &format!("DELETE FROM audit_events {}", at(1)), &[place("gap", "acme", 1, 1)]);
    case(
        &mut client,
        "DELETE FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq < 9",
        &[place("gap", "acme", 1, 1)],
    );
}

#[test]
fn pitfall_27_two_rows_swapped_are_two_mismatches() {
    let (_database, mut client) = trail("tamper_swap");
    // Only the places change: each row keeps its content, its link and its hash.
    case(
        &mut client,
        &format!(
            "UPDATE audit_events SET seq = 1000 {}; UPDATE audit_events SET seq = 4 {}; UPDATE audit_events SET seq = 5 {}",
            at(4),
            at(5),
            at(1000)
        ),
        &[
            place("content_mismatch", "acme", 1, 4),
            place("content_mismatch", "acme", 1, 5),
            place("link_broken", "acme", 1, 4),
            place("link_broken", "acme", 1, 5),
            place("link_broken", "acme", 1, 6),
        ],
    );
    // The contents change places, hashes stay.
    case(
        &mut client,
        "UPDATE audit_events e SET action = o.action, details = o.details FROM (SELECT 9 - seq AS seq, action, details FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq IN (4, 5)) o
         WHERE e.tenant_id = 'acme' AND e.chain = 1 AND e.seq = o.seq",
        &[place("content_mismatch", "acme", 1, 4), place("content_mismatch", "acme", 1, 5)],
    );
}

#[test]
fn pitfall_27_a_row_moved_to_another_tenant_or_chain_is_missing_here_and_false_there() {
    let (_database, mut client) = trail("tamper_move");
    case(
        &mut client,
        &format!("UPDATE audit_events SET tenant_id = 'initech' {}", at(5)),
        &[
            place("gap", "acme", 1, 5),
            place("gap", "initech", 1, 1),
            place("content_mismatch", "initech", 1, 5),
        ],
    );
    case(
        &mut client,
        &format!("UPDATE audit_events SET tenant_id = 'globex', seq = 11 {}", at(10)),
        &[place("content_mismatch", "globex", 1, 11), place("link_broken", "globex", 1, 11)],
    );
    case(
        &mut client,
        &format!("UPDATE audit_events SET chain = 7, seq = 1 {}", at(5)),
        &[
            place("gap", "acme", 1, 5),
            place("content_mismatch", "acme", 7, 1),
            place("link_broken", "acme", 7, 1),
        ],
    );
    // A whole chain, or a whole tenant, under another name.
    case(
        &mut client,
        "UPDATE audit_events SET chain = 3 WHERE tenant_id = 'acme' AND chain = 1",
        &(1..=10).map(|seq| place("content_mismatch", "acme", 3, seq)).collect::<Vec<_>>(),
    );
    case(
        &mut client,
        "UPDATE audit_events SET tenant_id = 'initech' WHERE tenant_id = 'acme'",
        &(0..3)
            .flat_map(|chain| (1..=10).map(move |seq| place("content_mismatch", "initech", chain, seq)))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn renumbered_events_are_named() {
    let (_database, mut client) = trail("tamper_renumber");
    // A gap closed by renumbering what follows: contents carry their seq.
    let mut expected: Vec<Place> = (5..=9).map(|seq| place("content_mismatch", "acme", 1, seq)).collect();
    expected.push(place("link_broken", "acme", 1, 5));
    case(
        &mut client,
        &format!(
            "DELETE FROM audit_events {}; UPDATE audit_events SET seq = seq + 99 WHERE tenant_id = 'acme' AND chain = 1 AND seq > 5; UPDATE audit_events SET seq = seq - 100 WHERE tenant_id = 'acme' AND chain = 1 AND seq > 99",
            at(5)
        ),
        &expected,
    );
    case(
        &mut client,
        &format!("UPDATE audit_events SET seq = 20 {}", at(10)),
        &[place("gap", "acme", 1, 10), place("content_mismatch", "acme", 1, 20)],
    );
}

/// A copy of acme's event 1/5 with some columns replaced, inserted past the chaining trigger.
fn made_up(columns: &[(&str, &str)]) -> String {
    let mut list = COLUMNS.map(String::from).to_vec();
    for (column, value) in columns {
        let found = list.iter_mut().find(|c| c == column).unwrap();
        *found = (*value).into();
    }
    format!(
        "ALTER TABLE audit_events DISABLE TRIGGER ALL; INSERT INTO audit_events SELECT {} FROM audit_events {}",
        list.join(", "),
        at(5)
    )
}

#[test]
fn a_made_up_row_is_named() {
    let (_database, mut client) = trail("tamper_made_up");
    let fresh = ("event_id", "gen_random_uuid()");
    case(
        &mut client,
        &made_up(&[fresh, ("seq", "11"), ("action", "'made up'")]),
        &[place("content_mismatch", "acme", 1, 11), place("link_broken", "acme", 1, 11)],
    );
    // Linked to the head, but with a hash that is not its own.
    let head = "(SELECT event_hash FROM audit_events WHERE tenant_id = 'acme' AND chain = 1 AND seq = 10)";
    case(
        &mut client,
        &made_up(&[fresh, ("seq", "11"), ("prev_hash", head)]),
        &[place("content_mismatch", "acme", 1, 11)],
    );
    case(
        &mut client,
        &made_up(&[
            fresh,
            ("tenant_id", "'initech'"),
            ("chain", "0"),
            ("seq", "1"),
            ("prev_hash", "decode(repeat('00', 32), 'hex')"),
        ]),
        &[place("content_mismatch", "initech", 0, 1)],
    );
    // Before the first: what it is called is open, that it is found there is not.
    let before = made_up(&[fresh, ("seq", "0")]);
    client.run(&format!("BEGIN; {before}"));
    assert!(
        findings(&mut client, "")
            .iter()
            .any(|(_, tenant, chain, seq)| (tenant.as_str(), *chain, *seq) == ("acme", 1, 0))
    );
    assert_eq!(client.line("SELECT ok FROM audit_verify() WHERE tenant_id = 'acme'"), "f");
    client.run("ROLLBACK");
}

#[test]
fn pitfall_26_content_is_read_again_whatever_the_stored_hashes_say() {
    let (_database, mut client) = trail("tamper_content");
    // The right commitment beside other details: the fields themselves have to be read.
    let checks = "ALTER TABLE audit_events DISABLE TRIGGER zeroauth_audit_refuse_row;";
    let right = "private_hash = zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)";
    for set in [
        format!("{right}, details = '{{\"amount\": 0}}'"),
        format!("{right}, salt = NULL, details = '{{\"amount\": 0}}'"),
        format!("{right}, salt = NULL"),
        "salt = NULL".into(),
    ] {
        client.run(&format!("BEGIN; {checks} UPDATE audit_events SET {set} {}", at(5)));
        assert_eq!(findings(&mut client, ""), [place("content_mismatch", "acme", 1, 5)], "{set}");
        assert_eq!(findings(&mut client, "'acme'"), [place("content_mismatch", "acme", 1, 5)], "{set}");
        assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "f", "{set}");
        assert_eq!(client.line("SELECT ok FROM audit_verify() WHERE tenant_id = 'acme'"), "f", "{set}");
        client.run("ROLLBACK");
    }
    // One row's hash recomputed after its content was changed: the row is whole, the next one's link is not.
    let public = COLUMNS[..23].join(", ").replace("action", "'forged'");
    let recomputed = format!(
        "zeroauth_audit_internal.event_hash(prev_hash, {public}, zeroauth_audit_internal.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details))"
    );
    case(
        &mut client,
        &format!("UPDATE audit_events SET action = 'forged', event_hash = {recomputed} {}", at(5)),
        &[place("link_broken", "acme", 1, 6)],
    );
}

#[test]
fn a_duplicated_row_is_a_fork_once_nothing_forbids_it() {
    let (_database, mut client) = trail("tamper_fork");
    let without_keys = "ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey; ALTER TABLE audit_events DROP CONSTRAINT audit_events_event_id_key;";
    for (query, keep) in [("", at(5)), (" ORDER BY seq DESC", at(1))] {
        client.run(&format!("BEGIN; ALTER TABLE audit_events DISABLE TRIGGER ALL; {without_keys} INSERT INTO audit_events SELECT * FROM audit_events {keep}{query}"));
        let seq = if keep == at(5) { 5 } else { 1 };
        let found: BTreeSet<Place> = findings(&mut client, "").into_iter().collect();
        assert_eq!(found, BTreeSet::from([place("fork", "acme", 1, seq)]));
        assert_eq!(reference_places(&client.lines("SELECT audit_export()")), found);
        assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "f");
        assert_eq!(client.line("SELECT ok FROM audit_verify() WHERE tenant_id = 'acme'"), "f");
        assert_eq!(client.line("SELECT ok FROM audit_verify() WHERE tenant_id = 'globex'"), "t");
        client.run("ROLLBACK");
    }
}
