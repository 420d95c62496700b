//! The Merkle log: what the job checkpoint seals, in which order, and what it refuses to seal.

use postgres::Client;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use zeroauth_audit_core::proof::Bundle;
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_tests::Cluster;

use crate::support::sealed::{ORIGIN, key_file, key_path, trust};
use crate::support::{Database, Sql};

pub const SEAL: &str =
    "SELECT r ->> 'status', r -> 'summary' FROM zeroauth_audit_internal.run_job('checkpoint') r";

/// A server without workers, so that only the test seals, and a key.
pub fn cluster(name: &str) -> (Cluster, zeroauth_audit_core::note::SigningKey) {
    let cluster =
        Cluster::builder(name).conf("fsync", "off").conf("zeroauth_audit.worker", "off").start().unwrap();
    let path = key_path(&cluster);
    let key = key_file(&path, ORIGIN, 7);
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit");
    client.run(&format!("ALTER SYSTEM SET zeroauth_audit.checkpoint_key_file = '{}'", path.display()));
    client.run("SELECT pg_reload_conf()");
    (cluster, key)
}

fn bytes(hex: &str) -> Digest {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    Digest::from_slice(&bytes).unwrap()
}

/// The leaves of a tenant's current log by its intervals, read without the code under test.
fn leaves(client: &mut Client, tenant: &str) -> Vec<Digest> {
    client
        .lines(&format!(
            "SELECT encode(e.event_hash, 'hex') FROM zeroauth_audit_internal.log_intervals i JOIN audit_events e ON e.tenant_id = i.tenant_id AND e.chain = i.chain AND e.seq > i.from_seq AND e.seq <= i.to_seq
             WHERE i.tenant_id = '{tenant}' AND i.epoch = (SELECT max(epoch) FROM zeroauth_audit_internal.logs WHERE tenant_id = '{tenant}') ORDER BY i.tree_size, i.chain, e.seq"
        ))
        .iter()
        .map(|hash| leaf_hash(bytes(hash).as_bytes()))
        .collect()
}

/// The newest signed checkpoint.
fn newest(client: &mut Client) -> String {
    client.rows("SELECT note FROM audit_checkpoints ORDER BY run DESC LIMIT 1")[0][0].clone().unwrap()
}

/// Every root that the registry states is that of the events in the documented order.
fn assert_sealed(client: &mut Client, tenant: &str) {
    let leaves = leaves(client, tenant);
    let stated = client.lines(&format!(
        "SELECT tree_size, encode(root, 'hex') FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = '{tenant}' ORDER BY entry"
    ));
    assert!(!stated.is_empty());
    for line in stated {
        let (size, root) = line.split_once('|').unwrap();
        let size: usize = size.parse().unwrap();
        assert_eq!(Tree::new(leaves[..size].to_vec()).root(), bytes(root), "{tenant} at {size}");
    }
}

#[test]
fn what_is_sealed_is_the_events_by_chain_and_seq_in_the_order_of_checkpoints() {
    let (cluster, key) = cluster("log_order");
    let mut client = cluster.client();
    let mut other = cluster.client();
    for round in 0..5 {
        // Two chains of acme: one transaction holds chain 0.
        other.run("BEGIN; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'held' FROM generate_series(1, 70)");
        client.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'free' FROM generate_series(1, 90); INSERT INTO audit_events (tenant_id, action) SELECT 'glob/ex é', 'x' FROM generate_series(1, 3)");
        if round % 2 == 0 {
            assert!(client.line(SEAL).starts_with("succeeded|"), "sealed while a transaction is open");
        }
        other.run("COMMIT");
        assert!(client.line(SEAL).starts_with("succeeded|"));
        assert_sealed(&mut client, "acme");
        assert_sealed(&mut client, "glob/ex é");
    }
    assert_eq!(
        client.line("SELECT sum(to_seq - from_seq) FROM zeroauth_audit_internal.log_intervals"),
        "815"
    );
    assert_eq!(
        client.line("SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'"),
        "800"
    );
    assert_eq!(
        client.line("SELECT count(*) FROM zeroauth_audit_internal.log_intervals WHERE tenant_id = 'acme' AND chain = 1"),
        "5"
    );
    // An auditor with the public key believes each run.
    let trust = trust(&[&key]);
    for run in client.rows("SELECT note, origin, tree_size FROM audit_checkpoints ORDER BY run") {
        let believed = trust.registry(run[0].as_ref().unwrap().as_bytes()).unwrap();
        assert_eq!(Some(&believed.checkpoint.origin), run[1].as_ref());
        assert_eq!(Some(believed.checkpoint.size.to_string()), run[2]);
        assert!(believed.sealed_at.is_some());
    }
    // Nothing new: nothing is sealed, until ten minutes are over.
    let runs = "SELECT count(*), max(run) FROM audit_checkpoints";
    let before = client.line(runs);
    assert_eq!(client.line(SEAL), r#"succeeded|{"logs": 0, "events": 0, "refused": 0}"#);
    assert_eq!(client.line(runs), before);
    client
        .run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '11 minutes'");
    assert_eq!(client.line(SEAL), r#"succeeded|{"logs": 0, "events": 0, "refused": 0}"#);
    assert_eq!(
        client.line("SELECT count(*) FROM audit_checkpoints WHERE sealed_at > now() - interval '1 minute'"),
        "1"
    );
}

#[test]
fn every_event_has_a_proof_that_an_outsider_accepts() {
    let (cluster, key) = cluster("log_prove");
    let mut client = cluster.client();
    let trust = trust(&[&key]);
    let mut sizes = vec![0u64];
    for size in [1, 1, 5, 250, 300, 1] {
        client.run(&format!("INSERT INTO audit_events (tenant_id, action, details, actor_id) SELECT 'acme', 'n', '{{\"a\": \"é\\\\\"}}', 'zoe' FROM generate_series(1, {size})"));
        client.run(SEAL);
        sizes.push(sizes.last().unwrap() + size);
    }
    let total = *sizes.last().unwrap();
    let leaves = leaves(&mut client, "acme");
    let of = |size: u64| Tree::new(leaves[..size as usize].to_vec()).root();
    let note =
        client.rows("SELECT note FROM zeroauth_audit_internal.registry_runs ORDER BY number DESC LIMIT 1");
    let newest = trust.registry(note[0][0].as_ref().unwrap().as_bytes()).unwrap().checkpoint;
    for event in client.rows("SELECT event_id, row_number() OVER (ORDER BY seq) - 1, encode(event_hash, 'hex') FROM audit_events ORDER BY seq") {
        let [Some(id), Some(index), Some(hash)] = &event[..] else { panic!("{event:?}") };
        let text = client.rows(&format!("SELECT audit_prove('acme', '{id}')"));
        let text = text[0][0].clone().unwrap();
        let bundle = Bundle::parse(text.as_bytes()).unwrap();
        let registry = trust.registry(bundle.checkpoint.as_bytes()).unwrap().checkpoint;
        assert_eq!(registry, newest);
        let entry = bundle.extra.as_ref().unwrap();
        let in_registry = Entry::leaf(std::str::from_utf8(entry).unwrap());
        verify_inclusion(bundle.index, registry.size, &in_registry, &bundle.path, &registry.root).unwrap();
        // The oldest that has it.
        let (Ok(Entry::Log(log)), Some(place)) = (Entry::parse(entry), &bundle.log) else { panic!("{text}") };
        assert_eq!(place.index.to_string(), *index);
        assert_eq!(log.size, *sizes.iter().find(|size| **size > place.index).unwrap());
        assert_eq!((log.label, log.root), (place.names.label("acme"), of(log.size)));
        let leaf = leaf_hash(bytes(hash).as_bytes());
        verify_inclusion(place.index, log.size, &leaf, &place.path, &log.root).unwrap();
        let exported: serde_json::Value = serde_json::from_str(bundle.event.as_ref().unwrap()).unwrap();
        assert_eq!(exported["event_hash"], **hash);
        assert!(text.len() - bundle.event.unwrap().len() < 2048, "{} bytes", text.len());
    }
    let decode = |line: &str| {
        use base64::Engine as _;
        Digest::from_slice(&base64::engine::general_purpose::STANDARD.decode(line).unwrap()).unwrap()
    };
    for (at, old) in sizes.iter().enumerate() {
        for new in &sizes[at..] {
            let lines = client.rows(&format!("SELECT audit_prove_consistency('acme', {old}, {new})"));
            let proof: Vec<Digest> = lines[0][0].as_deref().unwrap_or("").lines().map(decode).collect();
            verify_consistency(*old, *new, &of(*old), &of(*new), &proof).unwrap();
        }
    }
    // The registry only grew, too.
    let (registry, _) = crate::registry::leaves(&mut client);
    let (old, new) = (1, newest.size);
    let lines = client.rows(&format!("SELECT audit_prove_consistency(NULL, {old}, {new})"));
    let proof: Vec<Digest> = lines[0][0].as_deref().unwrap_or("").lines().map(decode).collect();
    let root = Tree::new(registry[..old as usize].to_vec()).root();
    verify_consistency(old, new, &root, &newest.root, &proof).unwrap();
    assert_eq!(total, leaves.len() as u64);
    for (sql, code) in [
        ("SELECT audit_prove_consistency(NULL, 1, 1000)", "ZA009"),
        ("SELECT audit_prove('acme', gen_random_uuid())", "ZA005"),
        ("SELECT audit_prove('acne', gen_random_uuid())", "ZA005"),
        ("SELECT audit_prove_consistency('acne', 0, 1)", "ZA005"),
        ("SELECT audit_prove_consistency('acme', 2, 1)", "ZA009"),
        ("SELECT audit_prove_consistency('acme', -1, 1)", "ZA009"),
        ("SELECT audit_prove_consistency('acme', 1, 559)", "ZA009"),
    ] {
        let refusal = client.refused(code, sql);
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
    }
    client.run("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', 'too new')");
    client
        .refused("ZA050", "SELECT audit_prove('acme', event_id) FROM audit_events WHERE action = 'too new'");
}

#[test]
fn without_a_key_the_log_grows_unsigned_and_is_signed_once_there_is_one() {
    let cluster = Cluster::builder("log_unsigned")
        .conf("fsync", "off")
        .conf("zeroauth_audit.worker", "off")
        .start()
        .unwrap();
    let mut client = cluster.client();
    client.run("CREATE EXTENSION zeroauth_audit; INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'n' FROM generate_series(1, 300)");
    client.run(SEAL);
    assert_eq!(client.line("SELECT tree_size FROM zeroauth_audit_internal.logs"), "300");
    assert_eq!(
        client
            .line("SELECT tree_size FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'acme'"),
        "300"
    );
    assert_eq!(client.line("SELECT count(*) FROM audit_checkpoints"), "0");
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.health_log() -> 'reasons'"),
        r#"["checkpoints_not_signed"]"#
    );
    client.refused("ZA050", "SELECT audit_prove('acme', event_id) FROM audit_events LIMIT 1");
    let path = key_path(&cluster);
    let use_key = format!("SET zeroauth_audit.checkpoint_key_file = '{}'", path.display());
    // What cannot be used is said, and nothing is lost.
    client.run(&use_key);
    let alert =
        "SELECT message FROM zeroauth_audit_internal.alerts WHERE kind = 'checkpoint_key' AND state = 'open'";
    let says = |client: &mut Client, words: &str| {
        assert!(client.line(SEAL).starts_with("succeeded|"));
        let message = client.line(alert);
        assert!(message.contains(words), "{message}");
        client.run("SELECT zeroauth_audit_internal.resolve_alert('checkpoint_key', 'test')");
    };
    says(&mut client, "cannot open the checkpoint key file");
    let key = key_file(&path, ORIGIN, 1);
    use std::os::unix::fs::PermissionsExt;
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o640);
    says(&mut client, "mode 0640");
    mode(0o600);
    let inside = cluster.data_dir().join("checkpoint.key");
    key_file(&inside, ORIGIN, 1);
    client.run(&format!("SET zeroauth_audit.checkpoint_key_file = '{}'", inside.display()));
    says(&mut client, "in the data directory");
    std::fs::remove_file(&inside).unwrap();
    client.run(&use_key);
    client.run(SEAL);
    assert_eq!(client.line("SELECT count(*) FROM audit_checkpoints"), "1", "signed at once");
    assert_eq!(client.lines(alert), [] as [&str; 0]);
    assert_eq!(client.line("SELECT vkey FROM zeroauth_audit_internal.keys"), key.verifier_key().to_string());
    let signed = trust(&[&key]).registry(newest(&mut client).as_bytes()).unwrap().checkpoint.size;
    assert_eq!(
        client.line("SELECT max(entry) + 1 FROM zeroauth_audit_internal.registry_entries"),
        signed.to_string()
    );
}

#[test]
fn while_a_key_is_replaced_both_sign_and_old_checkpoints_go_on_verifying() {
    let (cluster, old) = cluster("log_rotation");
    let mut client = cluster.client();
    client.run(&format!("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', '1'); {SEAL}"));
    let first = newest(&mut client);
    let path = key_path(&cluster);
    let new = zeroauth_audit_core::note::SigningKey::from_seed(ORIGIN, &[8; 32]).unwrap();
    std::fs::write(&path, old.to_key_file() + &new.to_key_file()).unwrap();
    client.run(&format!("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', '2'); {SEAL}"));
    let both = newest(&mut client);
    std::fs::write(&path, new.to_key_file()).unwrap();
    client.run(&format!("INSERT INTO audit_events (tenant_id, action) VALUES ('acme', '3'); {SEAL}"));
    let last = newest(&mut client);
    let (with_old, with_new) = (trust(&[&old]), trust(&[&new]));
    for (note, by_old, by_new) in [(&first, true, false), (&both, true, true), (&last, false, true)] {
        assert_eq!(with_old.registry(note.as_bytes()).is_ok(), by_old);
        assert_eq!(with_new.registry(note.as_bytes()).is_ok(), by_new);
    }
    assert_eq!(client.line("SELECT count(*) FROM zeroauth_audit_internal.keys"), "2");
}

#[test]
fn while_a_key_is_away_logs_grow_unsigned_and_nothing_is_called_tampering() {
    let (cluster, key) = cluster("log_key_away");
    let mut client = cluster.client();
    let fill = "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'n' FROM generate_series(1, 10)";
    client.run(&format!("{fill}; {SEAL}"));
    let path = key_path(&cluster);
    let away = path.with_extension("away");
    let log = "SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'";
    for (sealed, setting) in [(30, path.display().to_string()), (50, String::new())] {
        std::fs::rename(&path, &away).unwrap();
        let signed = newest(&mut client);
        client.run(&format!(
            "SET zeroauth_audit.checkpoint_key_file = '{setting}'; {fill}; {SEAL}; {fill}; {SEAL}"
        ));
        assert_eq!(client.line(log), sealed.to_string());
        assert_eq!(newest(&mut client), signed);
        assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "t");
        assert_eq!(
            client.lines("SELECT kind FROM zeroauth_audit_internal.alerts WHERE severity = 1"),
            [] as [&str; 0]
        );
        std::fs::rename(&away, &path).unwrap();
        client.run(&format!("RESET zeroauth_audit.checkpoint_key_file; {SEAL}"));
        assert_ne!(newest(&mut client), signed, "all of it, once the key is back");
    }
    assert_eq!(client.line("SELECT ok FROM audit_verify('acme')"), "t");
    let signed = trust(&[&key]).registry(newest(&mut client).as_bytes()).unwrap().checkpoint.size;
    assert_eq!(
        client.line("SELECT max(entry) + 1 FROM zeroauth_audit_internal.registry_entries"),
        signed.to_string()
    );
}

#[test]
fn nothing_is_signed_over_a_doubt() {
    let (cluster, _) = cluster("log_doubt");
    let mut client = cluster.client();
    let fill = "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'n' FROM generate_series(1, 10)";
    client.run(fill);
    client.run(SEAL);
    let alert = "SELECT kind, message FROM zeroauth_audit_internal.alerts WHERE fingerprint = 'checkpoint_refused:acme' AND state = 'open'";
    let tamper = |client: &mut Client, sql: &str, kind: &str| {
        client.run(&format!("SET zeroauth_audit.maintenance = on; {sql}; RESET zeroauth_audit.maintenance"));
        client.run(&fill.replace("acme", "globex"));
        client.run(fill);
        let line = client
            .line("SELECT r -> 'summary' -> 'refused' FROM zeroauth_audit_internal.run_job('checkpoint') r");
        assert_eq!(line, "1", "{sql}");
        assert!(client.line(alert).starts_with(kind), "{}", client.line(alert));
        assert_eq!(
            client.line("SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'"),
            "10"
        );
        let sealed = client.line("SELECT e.tree_size = l.tree_size AND e.tree_size = (SELECT count(*) FROM audit_events WHERE tenant_id = 'globex') FROM zeroauth_audit_internal.logs l JOIN zeroauth_audit_internal.registry_entries e USING (tenant_id, epoch) WHERE tenant_id = 'globex' ORDER BY e.entry DESC LIMIT 1");
        assert_eq!(sealed, "t", "the others are");
    };
    // A hole among the new ones.
    client.run(fill);
    tamper(&mut client, "DELETE FROM audit_events WHERE tenant_id = 'acme' AND seq = 15", "gap|");
    let again = "SELECT r -> 'summary' -> 'refused' FROM zeroauth_audit_internal.run_job('checkpoint') r";
    assert_eq!(client.line(again), "1", "it stays so");
    assert_eq!(
        client.line("SELECT occurrences > 1 FROM zeroauth_audit_internal.alerts WHERE fingerprint = 'checkpoint_refused:acme'"),
        "t"
    );

    for (tenant, tampering, why) in [
        // The end of what is sealed is rewritten, and what follows it.
        (
            "one",
            "UPDATE audit_events SET event_hash = sha256('x') WHERE tenant_id = 'one' AND seq = 10; UPDATE audit_events SET prev_hash = sha256('x') WHERE tenant_id = 'one' AND seq = 11",
            "event 10: from this event on up to 10 the chain is not what was sealed",
        ),
        (
            "two",
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tiles SET hashes = sha256('x') || substr(hashes, 33) WHERE tenant_id = 'two'",
            "the log's tiles or intervals are not what was sealed",
        ),
        (
            "three",
            "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.tiles WHERE tenant_id = 'three'",
            "the log's tiles are not there",
        ),
        (
            "four",
            "SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.log_intervals WHERE tenant_id = 'four'",
            "the intervals of the log do not cover its events",
        ),
        (
            "five",
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.registry_entries SET root = sha256('x') WHERE tenant_id = 'five'",
            "of the registry is not what was sealed",
        ),
    ] {
        let more = fill.replace("acme", tenant);
        client.run(&format!("{more}; {SEAL}; {more}; SET zeroauth_audit.maintenance = on; {tampering}; RESET zeroauth_audit.maintenance; {SEAL}"));
        let alerts = client.lines(&format!("SELECT kind, message FROM zeroauth_audit_internal.alerts WHERE fingerprint = 'checkpoint_refused:{tenant}' AND state = 'open'"));
        assert_eq!(alerts.len(), 1, "{tampering}");
        let kind = match tenant {
            "six" => "tail_truncated|",
            "seven" => "tenant_missing|",
            _ => "checkpoint_mismatch|",
        };
        assert!(alerts[0].starts_with(kind) && alerts[0].contains(why), "{alerts:?}");
        assert_eq!(
            client.line(&format!(
                "SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = '{tenant}'"
            )),
            "10"
        );
    }
}

#[test]
fn logs_are_dumped_and_go_on_after_a_restore() {
    let (from, to) = (Database::audited("log_dump"), Database::empty("log_dump_to"));
    let mut client = from.client();
    client
        .run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'n' FROM generate_series(1, 600)");
    client.run(SEAL);
    let dump = crate::support::shared().command("pg_dump").arg(&from.name).output().unwrap();
    assert!(dump.status.success());
    let restored = crate::support::shared().psql(&to.name, &String::from_utf8(dump.stdout).unwrap()).unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let mut copy = to.client();
    for table in [
        "zeroauth_audit_internal.logs",
        "zeroauth_audit_internal.log_intervals",
        "zeroauth_audit_internal.tiles",
        "zeroauth_audit_internal.registry_entries",
        "zeroauth_audit_internal.registry_tiles",
    ] {
        let all =
            format!("SELECT md5(string_agg(t::text, '|' ORDER BY t::text)), count(*) > 0 FROM {table} t");
        assert_eq!(copy.line(&all), client.line(&all), "{table}");
        assert!(copy.line(&all).ends_with("|t"), "{table}");
    }
    copy.run("INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'n' FROM generate_series(1, 300)");
    copy.run(SEAL);
    assert_sealed(&mut copy, "acme");
    assert_eq!(copy.line("SELECT tree_size FROM zeroauth_audit_internal.logs"), "900");
}

#[test]
fn review_1_9_a_tenant_without_chain_0_is_sealed_too() {
    let database = Database::audited("log_no_chain_0");
    let (mut first, mut second) = (database.client(), database.client());
    // Both are of one bucket: the second meets a chain that is taken, and begins another.
    first.run("BEGIN; INSERT INTO audit_events (tenant_id, action) VALUES ('tenant-6', 'x')");
    second.run("INSERT INTO audit_events (tenant_id, action) VALUES ('tenant-20', 'x')");
    first.run("COMMIT");
    assert_eq!(
        second.line(
            "SELECT string_agg(DISTINCT chain::text, ' ') FROM audit_events WHERE tenant_id = 'tenant-20'"
        ),
        "1"
    );
    second.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    assert_eq!(
        second.lines("SELECT tenant_id, tree_size FROM zeroauth_audit_internal.logs ORDER BY tenant_id"),
        ["tenant-20|1", "tenant-6|1"]
    );
}
