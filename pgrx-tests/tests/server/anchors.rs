//! Anchors from the job to the outside: every driver, what is stored of it, and what an auditor makes of it.

use std::fs;

use postgres::Client;
use zeroauth_audit_anchor::Hash;
use zeroauth_audit_anchor::evidence::{RestsOn, Trust, verify_evidence};
use zeroauth_audit_anchor::file::entry;
use zeroauth_audit_anchor::rfc3161::token::Authorities;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::verify_consistency;
use zeroauth_audit_core::proof::Bundle;
use zeroauth_audit_core::tree::Tree;
use zeroauth_audit_tests::wait_until;

use crate::support::anchors::tsa::{Authority, Options, Server};
use crate::support::anchors::{Anchoring, Chain};
use crate::support::sealed::{ORIGIN, trust};
use crate::support::{DEADLINE, Sql};

fn digest(hex: &str) -> Digest {
    Digest::from_slice(&hex::decode(hex).unwrap()).unwrap()
}

/// Every anchor in the bundle of an event, checked without the database: (kind, tree size, what it rests on).
#[track_caller]
fn bundled(server: &mut Anchoring, tenant: &str, authorities: Authorities) -> Vec<(String, u64, RestsOn)> {
    // It is fetched by a call of its own once a batch is final.
    let fetched = "SELECT bool_and(evidence IS NOT NULL) FROM zeroauth_audit_internal.anchor_batches WHERE state = 'finalized'";
    wait_until(DEADLINE, "the evidence", || server.client.line(fetched) == "t");
    let id = server.client.line(&format!(
        "SELECT event_id FROM audit_events WHERE tenant_id = '{tenant}' AND seq = 2 AND chain = 0"
    ));
    let text = server.client.rows(&format!("SELECT audit_prove('{tenant}', '{id}')"))[0][0].clone().unwrap();
    let bundle = Bundle::parse(text.as_bytes()).unwrap();
    let checkpoint = trust(&[&server.key]).registry(bundle.checkpoint.as_bytes()).unwrap().checkpoint;
    let trust = Trust { authorities, keys: vec![server.key.verifier_key()] };
    let check = |anchor: &zeroauth_audit_core::proof::Anchor| {
        assert!(anchor.tree_size > bundle.index && anchor.tree_size <= checkpoint.size);
        verify_consistency(
            anchor.tree_size,
            checkpoint.size,
            &anchor.root,
            &checkpoint.root,
            &anchor.consistency,
        )
        .unwrap();
        let root = Hash(*anchor.root.as_bytes());
        let verdict = verify_evidence(&anchor.kind, anchor.payload.as_bytes(), &root, &trust).unwrap();
        assert_eq!((verdict.seal.root, verdict.seal.size), (root, anchor.tree_size));
        (anchor.kind.clone(), anchor.tree_size, verdict.rests_on)
    };
    bundle.anchors.iter().map(check).collect()
}

/// Every batch has the root that the registry's own entries make, and each tenant what its newest entry in it states; how many rows of
/// audit_anchors there are.
#[track_caller]
fn assert_registry(client: &mut Client) -> usize {
    let (leaves, entries) = crate::registry::leaves(client);
    for row in client.rows("SELECT size, encode(root, 'hex') FROM zeroauth_audit_internal.anchor_batches") {
        let (size, root) = (row[0].clone().unwrap(), row[1].clone().unwrap());
        let size: usize = size.parse().unwrap();
        assert_eq!(Tree::new(leaves[..size].to_vec()).root(), digest(&root));
    }
    let rows = client
        .rows("SELECT tenant_id, registry_size, tree_size, encode(root, 'hex'), epoch FROM audit_anchors");
    for row in &rows {
        let text = |n: usize| row[n].clone().unwrap();
        let size: usize = text(1).parse().unwrap();
        let newest = entries[..size].iter().rev().find(|entry| entry.0 == text(0)).unwrap();
        assert_eq!(*newest, (text(0), text(2), text(3), text(4)));
    }
    rows.len()
}

#[test]
fn the_file_works_with_nothing_else_and_grows_by_one_signed_line_a_batch() {
    let mut server = Anchoring::start("anchors_file");
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_until(DEADLINE, "the batch to be over", || server.batches("file") == ["1|finalized|2|t"]);
    let oid = server.client.line("SELECT oid FROM pg_database WHERE datname = current_database()");
    let path = server.cluster.data_dir().join("zeroauth_audit_anchors").join(oid);
    let contents = |server: &Anchoring| {
        entry::read(&fs::read(&path).unwrap(), &[server.key.verifier_key()]).unwrap().entries
    };
    let entries = contents(&server);
    assert_eq!(entries.len(), 1);
    assert_eq!(
        server.client.line("SELECT encode(root, 'hex'), size, extract(epoch FROM batch_time)::bigint, encode(log_id, 'hex') FROM zeroauth_audit_internal.anchor_batches"),
        format!("{}|3|{}|{}", hex::encode(entries[0].batch.root.0), entries[0].batch.batch_time.0, hex::encode(Hash::sha256(ORIGIN.as_bytes()).0))
    );
    // The tenants that had events: our own comes with its first.
    assert_eq!(
        server.client.lines("SELECT tenant_id, epoch, target, batch, tree_size, state, tx_hash IS NOT NULL, anchored_at > now() - interval '36 hours', attempts, coalesce(error, '-') FROM audit_anchors ORDER BY 1"),
        ["acme|0|file|1|5|finalized|t|t|1|-", "globex|0|file|1|5|finalized|t|t|1|-"]
    );
    assert_eq!(assert_registry(&mut server.client), 2);
    assert_eq!(
        server.client.lines("SELECT action, resource FROM audit_events WHERE tenant_id = 'zeroauth_audit' AND action LIKE 'anchor.%' ORDER BY seq"),
        ["anchor.finalized|file/1"]
    );
    // More events, and another batch; the log of our own tenant is in it now.
    server.client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'more' FROM generate_series(1, 300)",
    );
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    wait_until(DEADLINE, "the second batch", || {
        server.batches("file") == ["1|finalized|2|t", "2|finalized|3|t"]
    });
    assert_eq!(contents(&server).len(), 2);
    assert_eq!(assert_registry(&mut server.client), 5);
    server.client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'later' FROM generate_series(1, 9)",
    );
    server.client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    let anchors = bundled(&mut server, "acme", Authorities::default());
    let name = RestsOn::Key { name: ORIGIN.to_owned() };
    // The names, acme and globex; then acme and our own.
    assert_eq!(anchors, [("file".to_owned(), 3, name.clone()), ("file".to_owned(), 5, name)]);
    wait_until(DEADLINE, "the tenants' state", || {
        server
            .client
            .lines("SELECT tenant_id, state, coalesce(banner, '-') FROM zeroauth_audit_internal.tenant_status ORDER BY 1")
            == ["acme|ok|-", "globex|ok|-", "zeroauth_audit|ok|-"]
    });
    assert_eq!(server.alerts(), [] as [&str; 0]);
}

#[test]
fn a_time_stamp_authority_stamps_each_batch_and_its_token_travels_with_the_proof() {
    let mut server = Anchoring::start("anchors_rfc3161");
    let authority = Authority::new(&Options::default());
    let root = authority.root.clone();
    let url = Server::of(authority);
    let authorities = server.secret("authorities.pem", &root);
    let config = serde_json::json!({ "url_file": server.secret("tsa.url", &url.url), "authorities_file": authorities });
    server.client.run(&format!("SELECT audit_anchor_target_set('stamp', 'rfc3161', '{config}')"));
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    server.wait("stamp", "finalized");
    assert_eq!(url.queries().len(), 1);
    assert_eq!(
        server.client.lines("SELECT a.tenant_id, a.state, a.token = b.machine #>> '{inclusion,id}', a.tx_hash IS NULL, a.anchored_at IS NOT NULL FROM audit_anchors a JOIN zeroauth_audit_internal.anchor_batches b ON b.target = a.target AND b.epoch = a.batch WHERE a.target = 'stamp' ORDER BY 1"),
        ["acme|finalized|t|t|t", "globex|finalized|t|t|t", "zeroauth_audit|finalized|t|t|t"]
    );
    server.wait("file", "finalized");
    let anchors = bundled(&mut server, "globex", Authorities::from_pem(root.as_bytes()).unwrap());
    let kinds: Vec<&str> = anchors.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, ["file", "rfc3161"]);
    assert!(!server.everything_stored().contains("s3cret"), "the URL is a secret");
}

#[test]
fn a_chain_has_one_transaction_for_all_tenants_and_the_proof_needs_only_a_blocks_hash() {
    let mut server = Anchoring::start("anchors_evm");
    let chain = Chain::start();
    chain.target(&mut server);
    assert_eq!(server.run("anchor"), "succeeded|-|-");
    // Of several blocks at once it would see only the end: final, without having been included.
    server.pass_until("chain", "included", || ());
    chain.settle(&mut server, "finalized");
    wait_until(DEADLINE, "the evidence", || server.batches("chain") == ["1|finalized|3|t"]);
    let events = chain.events();
    assert_eq!(events.len(), 1);
    let root = server.client.line(
        "SELECT encode(root, 'hex') FROM zeroauth_audit_internal.anchor_batches WHERE target = 'chain'",
    );
    assert_eq!((events[0].0, events[0].2.clone()), (1, format!("0x{root}")));
    let receipt = chain.anvil.receipt(&events[0].1);
    assert_eq!(
        server.client.lines("SELECT DISTINCT tx_hash, chain_id, contract, block_number, block_hash, state FROM audit_anchors WHERE target = 'chain'"),
        [format!(
            "{}|31337|{}|{}|{}|finalized",
            events[0].1,
            chain.contract.to_lowercase(),
            crate::support::anchors::anvil::number(&receipt["blockNumber"]),
            receipt["blockHash"].as_str().unwrap()
        )]
    );
    let anchors = bundled(&mut server, "acme", Authorities::default());
    let [(kind, 4, RestsOn::Block { chain_id: 31337, transaction, .. })] = &anchors[..] else {
        panic!("{anchors:?}")
    };
    assert_eq!((kind.as_str(), transaction.to_string()), ("evm", events[0].1.clone()));
    assert_eq!(
        server.client.lines("SELECT action, resource FROM audit_events WHERE tenant_id = 'zeroauth_audit' AND action ~ '^anchor.(included|finalized)' ORDER BY seq"),
        ["anchor.included|chain/1", "anchor.finalized|chain/1"]
    );
    let all = server.everything_stored();
    for secret in ["u53r", "pa55", "s3cret", "59c6995e998f97a5a004"] {
        assert!(!all.contains(secret), "{secret}");
    }
}
