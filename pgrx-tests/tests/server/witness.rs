//! Witnesses of the registry: one request a run, what they signed in the next file, and what happens when they saw something else.

use postgres::Client;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::registry::run::File;
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_tests::{Cluster, wait_until};

use crate::publish::{Publishing, append, judgement, publishing, seal, watch};
use crate::support::sealed::{ORIGIN, published, trust};
use crate::support::witness::Witness;
use crate::support::{DEADLINE, Sql, base_backup};

const MAINTAIN: &str = "SET LOCAL zeroauth_audit.maintenance = on";
const ENTRIES: &str = "SELECT size FROM zeroauth_audit_internal.registry_runs ORDER BY number DESC LIMIT 1";
const FORKED: &str = "SELECT count(*) FROM zeroauth_audit_internal.alerts WHERE fingerprint = 'registry_forked:witness' AND state <> 'resolved' AND condition_gone_at IS NULL";

/// A server that publishes to a directory and a witness.
fn watched(name: &str) -> (Publishing, Client, Witness) {
    let publishing = publishing(name, &[]);
    let mut client = publishing.cluster.client();
    let witness = Witness::start(&publishing.key, 9);
    watch(&publishing, &mut client, &witness);
    append(&mut client, "acme", 9);
    publishing.wait_for(&["acme 10"]);
    (publishing, client, witness)
}

/// Waits until the witness has signed the newest run.
#[track_caller]
fn wait_for_witness(client: &mut Client, witness: &Witness) {
    wait_until(3 * DEADLINE, "the witness", || {
        client.line("SELECT max(c.run) = (SELECT max(r.number) FROM zeroauth_audit_internal.registry_runs r) FROM zeroauth_audit_internal.registry_cosignatures c") == "t"
            && client.line(ENTRIES) == witness.entries().to_string()
    });
}

/// Ten minutes of silence are over.
fn silence(client: &mut Client) {
    client.run(&format!(
        "{MAINTAIN}; UPDATE zeroauth_audit_internal.registry_runs SET sealed_at = sealed_at - interval '11 minutes'"
    ));
    seal(client);
}

#[test]
fn a_run_is_shown_to_a_witness_once_a_directory_has_it_and_the_next_file_carries_what_it_signed() {
    let (publishing, mut client, witness) = watched("witness_carried");
    wait_for_witness(&mut client, &witness);
    let signed = client.line("SELECT max(run) FROM zeroauth_audit_internal.registry_cosignatures");
    silence(&mut client);
    let carries = |number: u64, text: &str| {
        let file = File::read(text.as_bytes()).unwrap();
        file.tail.cosigned.iter().any(|note| note.contains("witness.example")) && number.to_string() > signed
    };
    let files = || published(&publishing.directory, &trust(&[&publishing.key]));
    wait_until(DEADLINE, "a file that carries the signature", || {
        files().iter().any(|(number, (_, text))| carries(*number, text))
    });
    let vkey = witness.vkey();
    let judged = judgement(&publishing.directory, &publishing.key, &["--witness", &vkey]);
    assert_eq!(judged["verdict"], "verified", "{judged}");
    assert_eq!(judged["checkpoints"][0]["witnesses"][0], "witness.example", "{judged}");
    // Every file is what the tables give, before and after.
    assert_eq!(client.line("SELECT bool_and(zeroauth_audit_internal.registry_run_file(number) IS NOT NULL) FROM zeroauth_audit_internal.registry_runs"), "t");
    // Silence is witnessed, too, and each run once.
    wait_for_witness(&mut client, &witness);
    assert_eq!(
        client.line("SELECT count(*) = count(DISTINCT run) AND count(*) <= (SELECT count(*) FROM zeroauth_audit_internal.registry_runs) FROM zeroauth_audit_internal.registry_cosignatures"),
        "t"
    );
    // While no directory takes it, nobody else gets it.
    let before = witness.entries();
    let away = publishing.directory.with_file_name("elsewhere");
    std::fs::rename(&publishing.directory, &away).unwrap();
    append(&mut client, "globex", 5);
    wait_until(DEADLINE, "a run that the directory did not take", || {
        client.line("SELECT last_error IS NOT NULL AND published_to < (SELECT max(number) FROM zeroauth_audit_internal.registry_runs) FROM zeroauth_audit_internal.sinks WHERE name = 'worm'") == "t"
    });
    let shown = "SELECT count(*) FROM zeroauth_audit_internal.registry_cosignatures";
    let signed = client.line(shown);
    append(&mut client, "globex", 5);
    wait_until(DEADLINE, "another run", || {
        client.line("SELECT next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'checkpoint'")
            == "t"
    });
    assert_eq!((witness.entries(), client.line(shown)), (before, signed));
    std::fs::rename(&away, &publishing.directory).unwrap();
    wait_for_witness(&mut client, &witness);
    assert!(witness.entries() > before);
    assert_eq!(client.line(FORKED), "0");
}

#[test]
fn red_team_a_witness_that_saw_another_registry_ends_all_signing_until_it_agrees() {
    let (publishing, mut client, witness) = watched("witness_forked");
    wait_for_witness(&mut client, &witness);
    let newest: u64 = client.line(ENTRIES).parse().unwrap();
    // More entries than there are; and as many, which are others.
    for saw in [newest + 1000, newest] {
        witness.remember(ORIGIN, Some((saw, Digest::new([1; 32]))));
        append(&mut client, "globex", 1);
        wait_until(3 * DEADLINE, "the alert", || client.line(FORKED) == "1");
        assert!(
            client
                .line("SELECT zeroauth_audit_internal.health_log() -> 'reasons'")
                .contains("registry_forked")
        );
        let before = client.line(ENTRIES);
        append(&mut client, "globex", 1);
        wait_until(DEADLINE, "a run of the job", || {
            client.line("SELECT next_run > now() FROM zeroauth_audit_internal.jobs WHERE name = 'checkpoint'")
                == "t"
        });
        assert_eq!(client.line(ENTRIES), before, "nothing is signed");
        // It was somebody's mistake: it has forgotten, signs, and all goes on.
        witness.remember(ORIGIN, None);
        wait_until(3 * DEADLINE, "the alert's end", || client.line(FORKED) == "0");
        seal(&mut client);
        wait_until(3 * DEADLINE, "signing to go on", || client.line(ENTRIES) != before);
        wait_for_witness(&mut client, &witness);
        assert!(witness.entries() > before.parse().unwrap());
    }
    assert_eq!(publishing.judged(), "verified: every log only grew");
}

#[test]
fn after_a_failover_a_witness_goes_on_where_a_directory_explains_it_and_ends_all_signing_where_none_does() {
    for (explained, name) in [(true, "witness_failover"), (false, "witness_alone")] {
        let (publishing, mut client, witness) = watched(name);
        wait_for_witness(&mut client, &witness);
        if !explained {
            client.run("SELECT audit_sink_drop('worm', 'there is only a witness')");
        }
        client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = false WHERE name = 'checkpoint'");
        // What the directory explains is what the same events come to; what is lost, nothing explains.
        let mut backup = None;
        if !explained {
            backup = Some(base_backup(&publishing.cluster, &["-X", "stream"]));
        }
        append(&mut client, "acme", 300);
        let backup = backup.unwrap_or_else(|| base_backup(&publishing.cluster, &["-X", "stream"]));
        client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = true WHERE name = 'checkpoint'");
        seal(&mut client);
        wait_until(DEADLINE, "a run", || {
            client.line("SELECT tree_size FROM zeroauth_audit_internal.logs WHERE tenant_id = 'acme'")
                == "310"
        });
        wait_for_witness(&mut client, &witness);
        drop(client);
        publishing.cluster.shut_down().unwrap();
        let cluster = Cluster::builder(&format!("{name}_restored")).data(&backup).start().unwrap();
        let mut client = cluster.client();
        client.run("UPDATE zeroauth_audit_internal.jobs SET enabled = true WHERE name = 'checkpoint'");
        append(&mut client, "globex", 5);
        if explained {
            wait_for_witness(&mut client, &witness);
            assert_eq!(client.line(FORKED), "0");
            assert_eq!(publishing.judged(), "verified: every log only grew");
        } else {
            wait_until(3 * DEADLINE, "the alert", || client.line(FORKED) == "1");
        }
    }
}

#[test]
fn a_witness_goes_on_from_whatever_it_remembers_and_one_that_is_away_is_made_up_for() {
    let (publishing, mut client, witness) = watched("witness_memory");
    wait_for_witness(&mut client, &witness);
    let first = client.line(ENTRIES);
    append(&mut client, "globex", 300);
    wait_until(DEADLINE, "a run", || client.line(ENTRIES) != first);
    wait_for_witness(&mut client, &witness);
    // It lost its memory, or was told of a run by somebody else: it says so, and is shown another proof.
    witness.remember(ORIGIN, None);
    append(&mut client, "globex", 100);
    publishing.wait_for(&["acme 10", "globex 400"]);
    wait_for_witness(&mut client, &witness);
    let (leaves, _) = crate::registry::leaves(&mut client);
    let root = Tree::new(leaves[..2].to_vec()).root();
    witness.remember(ORIGIN, Some((2, root)));
    append(&mut client, "globex", 1);
    publishing.wait_for(&["acme 10", "globex 401"]);
    wait_for_witness(&mut client, &witness);
    let alerts = "SELECT severity, fingerprint FROM zeroauth_audit_internal.alerts WHERE state <> 'resolved' AND kind NOT IN ('clock_step', 'settings_written', 'maintenance_used', 'state_written')";
    assert_eq!(client.lines(alerts), [] as [&str; 0]);
    // Away: said after a while, made up for by itself.
    witness.break_with(Some(503));
    append(&mut client, "globex", 1);
    wait_until(DEADLINE, "the error", || {
        client.line("SELECT last_error FROM zeroauth_audit_internal.sinks WHERE name = 'witness'")
            == "the witness answered 503"
    });
    client.run("UPDATE zeroauth_audit_internal.sinks SET failing_since = now() - interval '16 minutes' WHERE name = 'witness'");
    wait_until(3 * DEADLINE, "the alert", || client.lines(alerts) == ["2|sink_failing:witness"]);
    assert_eq!(
        client.line("SELECT zeroauth_audit_internal.health_log() -> 'reasons'"),
        r#"["sink_failing:witness"]"#
    );
    witness.break_with(None);
    wait_for_witness(&mut client, &witness);
    wait_until(DEADLINE, "the alert to resolve", || client.lines(alerts).is_empty());
}
