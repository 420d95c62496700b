//! The daily check of anchors, against somebody who may do everything inside: what was anchored stays out of their reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_tests::wait_until;

use crate::log_tamper::RECOMPUTE;
use crate::support::anchors::proxy::Behaviour;
use crate::support::anchors::{Anchoring, Chain};
use crate::support::{DEADLINE, Sql};

const FINDINGS: &str = "SELECT kind, source, tenant_id, target, batch FROM zeroauth_audit_internal.anchor_findings ORDER BY 1, 2, 3, 4, 5";

fn digest(hex: &str) -> Digest {
    Digest::from_slice(&hex::decode(hex).unwrap()).unwrap()
}

/// Two batches that are final, and copies of what is about to be changed.
fn anchored(name: &str) -> Anchoring {
    let mut server = Anchoring::start(name);
    for batch in 1..=2 {
        server.client.run("INSERT INTO audit_events (tenant_id, action) SELECT t, 'more' FROM generate_series(1, 20), (VALUES ('acme'), ('globex')) v (t)");
        assert_eq!(server.run("anchor"), "succeeded|-|-");
        wait_until(DEADLINE, "the anchor", || {
            server
                .batches("file")
                .last()
                .is_some_and(|line| *line == format!("{batch}|finalized|{}|t", batch + 1))
        });
    }
    server.client.run(RECOMPUTE);
    server.client.run("CREATE TABLE kept_batches AS TABLE zeroauth_audit_internal.anchor_batches");
    server
}

fn anchor_file(server: &mut Anchoring) -> PathBuf {
    let oid = server.client.line("SELECT oid FROM pg_database WHERE datname = current_database()");
    server.cluster.data_dir().join("zeroauth_audit_anchors").join(oid)
}

/// What was kept is as it was.
fn put_back(server: &mut Anchoring) {
    server.client.run("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.anchor_batches; INSERT INTO zeroauth_audit_internal.anchor_batches TABLE kept_batches; UPDATE zeroauth_audit_internal.anchor_targets SET last_epoch = 2");
}

/// Rewrites an event of acme, and everything inside that tells of it, the registry with the key included.
fn rewrite(server: &mut Anchoring) {
    server.client.run("SET zeroauth_audit.maintenance = on; UPDATE audit_events SET outcome = 'failure' WHERE tenant_id = 'acme' AND seq = 2; SELECT recompute('acme', 0::smallint, 2); RESET zeroauth_audit.maintenance");
    server.client.run("SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.tiles SET hashes = (SELECT string_agg(sha256('\\x00' || event_hash), '' ORDER BY seq) FROM audit_events WHERE tenant_id = 'acme') WHERE tenant_id = 'acme'");
    let leaves: Vec<Digest> = server
        .client
        .lines("SELECT encode(event_hash, 'hex') FROM audit_events WHERE tenant_id = 'acme' ORDER BY seq")
        .iter()
        .map(|hash| leaf_hash(digest(hash).as_bytes()))
        .collect();
    crate::registry::rewrite(&mut server.client, &server.key, "acme", &leaves);
    server.client.run("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.watermarks WHERE tenant_id = 'acme'");
}

/// Has what is remembered of anchors tell the new story, too.
fn forge_anchors(server: &mut Anchoring) {
    let (leaves, _) = crate::registry::leaves(&mut server.client);
    for batch in server.client.lines("SELECT epoch FROM zeroauth_audit_internal.anchor_batches ORDER BY 1") {
        let size = server
            .client
            .line(&format!("SELECT size FROM zeroauth_audit_internal.anchor_batches WHERE epoch = {batch}"));
        let size: usize = size.parse().unwrap();
        let root = hex::encode(Tree::new(leaves[..size].to_vec()).root().as_bytes());
        server.client.run(&format!(
            "SET LOCAL zeroauth_audit.maintenance = on; UPDATE zeroauth_audit_internal.anchor_batches SET root = '\\x{root}', machine = jsonb_set(machine, '{{inclusion,seal,root}}', '\"0x{root}\"') WHERE epoch = {batch}"
        ));
    }
}

#[test]
fn pitfall_28_who_rewrites_everything_inside_with_the_key_is_found_by_what_was_anchored() {
    let mut server = anchored("check_rewrite");
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(server.client.lines(FINDINGS), [] as [&str; 0]);
    assert_eq!(
        server.client.line("SELECT summary FROM zeroauth_audit_internal.job_runs WHERE job = 'anchor_check'"),
        r#"{"logs": 3, "batches": 2, "compared": 5}"#
    );
    rewrite(&mut server);
    // Nothing inside tells.
    assert_eq!(server.client.line("SELECT ok, findings FROM audit_verify('acme')"), "t|0");
    assert_eq!(server.run("checkpoint"), "succeeded|-|-");
    assert_eq!(server.alerts(), [] as [&str; 0]);
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    let rows = ["anchor_mismatch|rows||file|1", "anchor_mismatch|rows||file|2"];
    assert_eq!(server.client.lines(FINDINGS), rows);
    assert_eq!(server.alerts(), ["1|anchor_mismatch::file"]);
    // Whose log it was, the registry does not say any more: no tenant can rely on it.
    assert_eq!(server.client.line("SELECT ok, classes FROM audit_verify('acme')"), "f|{anchor_mismatch}");
    assert_eq!(
        server.client.lines("SELECT DISTINCT class, tenant_id FROM audit_findings() ORDER BY 2"),
        ["acme", "globex", "zeroauth_audit"].map(|tenant| format!("anchor_mismatch|{tenant}"))
    );
    assert_eq!(
        server.client.line(
            "SELECT state, reasons FROM jsonb_to_record(zeroauth_audit_internal.health_anchors()) h (state text, reasons jsonb)"
        ),
        r#"failing|["anchor_mismatch"]"#
    );
    // What does not continue the last anchor is not anchored.
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    let summary = server.client.line(
        "SELECT summary FROM zeroauth_audit_internal.job_runs WHERE job = 'anchor' ORDER BY id DESC LIMIT 1",
    );
    assert!(summary.contains(r#""unlinked": 1"#), "{summary}");
    assert_eq!(server.batches("file").len(), 2);
    // They change what is remembered of anchors, too: then it is not what the target has.
    forge_anchors(&mut server);
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(
        server.client.lines(FINDINGS),
        ["anchor_mismatch|target||file|1", "anchor_mismatch|target||file|2"]
    );
    assert_eq!(server.alerts(), ["1|anchor_mismatch::file"]);
    let detail =
        server.client.line("SELECT detail FROM zeroauth_audit_internal.anchor_findings WHERE batch = 1");
    assert!(detail.starts_with("the target has root 0x"), "{detail}");
}

#[test]
fn what_is_taken_away_from_the_memory_of_anchors_is_missed() {
    let mut server = anchored("check_memory");
    let path = anchor_file(&mut server);
    let whole = fs::read(&path).unwrap();
    // An entry of one tenant, where its row says something else.
    server.client.run("SET LOCAL zeroauth_audit.maintenance = on; CREATE TABLE kept_entries AS TABLE zeroauth_audit_internal.registry_entries; UPDATE zeroauth_audit_internal.registry_entries SET root = sha256('x') WHERE entry = (SELECT min(entry) FROM zeroauth_audit_internal.registry_entries WHERE tenant_id = 'acme')");
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(server.client.lines(FINDINGS), ["anchor_mismatch|events|acme||0"]);
    assert_eq!(
        server.client.line("SELECT detail FROM zeroauth_audit_internal.anchor_findings"),
        "entry 1 of the registry is not what was sealed"
    );
    server.client.run("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.registry_entries; INSERT INTO zeroauth_audit_internal.registry_entries TABLE kept_entries");
    // A whole batch, as if it had never been.
    server.client.run("SET LOCAL zeroauth_audit.maintenance = on; DELETE FROM zeroauth_audit_internal.anchor_batches WHERE epoch = 2; UPDATE zeroauth_audit_internal.anchor_targets SET last_epoch = 1");
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(server.client.lines(FINDINGS), ["anchor_mismatch|target||file|2"]);
    let detail = server.client.line("SELECT detail FROM zeroauth_audit_internal.anchor_findings");
    assert!(detail.ends_with("and nothing here knows of it"), "{detail}");
    put_back(&mut server);
    // A log.
    server
        .client
        .run("SET LOCAL zeroauth_audit.maintenance = on; CREATE TABLE kept_logs AS TABLE zeroauth_audit_internal.logs; DELETE FROM zeroauth_audit_internal.logs WHERE tenant_id = 'globex'");
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(server.client.lines(FINDINGS), ["tenant_missing|events|globex||0"]);
    assert!(server.alerts().contains(&"1|tenant_missing:globex".to_owned()));
    server
        .client
        .run("SET LOCAL zeroauth_audit.maintenance = on; INSERT INTO zeroauth_audit_internal.logs SELECT * FROM kept_logs WHERE tenant_id = 'globex'");
    // The file itself.
    let mut changed = whole.clone();
    let at = changed.windows(6).position(|window| window == b"size 3").unwrap();
    changed[at + 5] = b'9';
    fs::write(&path, &changed).unwrap();
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(
        server.client.lines("SELECT batch, detail FROM zeroauth_audit_internal.anchor_findings ORDER BY 1"),
        [1, 2, 3].map(|batch| format!("{batch}|line 1 of the anchor file is not signed by a known key"))
    );
    fs::write(&path, []).unwrap();
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(
        server.client.lines("SELECT batch, detail FROM zeroauth_audit_internal.anchor_findings ORDER BY 1"),
        [1, 2].map(|batch| format!("{batch}|the target does not have it any more"))
    );
    // What cannot be read is no finding: the job fails.
    fs::write(&path, &whole).unwrap();
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(server.client.lines(FINDINGS), [] as [&str; 0]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(
        server.run("anchor_check"),
        "failed|ZA062|could not check every anchor: target file: the anchor file has mode 0666, not writable by its owner only"
    );
    assert_eq!(server.client.lines(FINDINGS), [] as [&str; 0]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    // Events at the end.
    server.client.run("SET zeroauth_audit.maintenance = on; DELETE FROM audit_events WHERE tenant_id = 'acme' AND seq > 40; RESET zeroauth_audit.maintenance");
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(
        server.client.lines("SELECT tenant_id, detail FROM zeroauth_audit_internal.anchor_findings"),
        ["acme|event 41 of chain 0 was anchored, and is not there"]
    );
}

#[test]
fn a_chain_is_read_again_and_one_that_is_away_is_no_finding() {
    let mut server = Anchoring::start("check_chain");
    let chain = Chain::start();
    chain.target(&mut server);
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    chain.settle(&mut server, "finalized");
    wait_until(DEADLINE, "the evidence", || server.batches("chain") == ["1|finalized|3|t"]);
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(server.client.lines(FINDINGS), [] as [&str; 0]);
    chain.behave(&Behaviour::Down);
    let outcome = server.run("anchor_check");
    assert!(
        outcome.starts_with("failed|ZA062|could not check every anchor: target chain: endpoint 1"),
        "{outcome}"
    );
    assert_eq!(server.client.lines(FINDINGS), [] as [&str; 0]);
    chain.behave(&Behaviour::Honest);
    // Somebody else with the key anchors for this log.
    let other = zeroauth_audit_anchor::Batch {
        log_id: zeroauth_audit_anchor::Batch::log_id(crate::support::sealed::ORIGIN),
        epoch: 5,
        root: zeroauth_audit_anchor::Hash::sha256(b"garbage"),
        size: 1,
        batch_time: zeroauth_audit_anchor::Moment(1_700_000_000),
    };
    let data = zeroauth_audit_anchor::evm::contract::anchor_call(&other);
    let anchorer = chain.anvil.account(1);
    assert_eq!(chain.anvil.send(&anchorer, Some(&chain.contract), &data)["status"], "0x1");
    assert_eq!(server.run("anchor_check"), "succeeded|-|-");
    assert_eq!(
        server
            .client
            .lines("SELECT source, target, batch, detail FROM zeroauth_audit_internal.anchor_findings"),
        ["target|chain|2|the target has epoch 5, and nothing here knows of it"]
    );
    // The chain loses it, final or not.
    chain.anvil.call("anvil_setCode", json!([chain.contract, "0x"]));
    let outcome = server.run("anchor_check");
    assert_eq!(
        outcome,
        "failed|ZA062|could not check every anchor: target chain: there is no anchor contract at the configured address"
    );
}
