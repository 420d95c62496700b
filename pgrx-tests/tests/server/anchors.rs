//! Anchors from the job to the outside: every driver, what is stored of it, and what an auditor makes of it.

use std::fs;

use postgres::Client;
use zeroauth_audit_anchor::Hash;
use zeroauth_audit_anchor::evidence::{RestsOn, Trust, verify_evidence};
use zeroauth_audit_anchor::file::entry;
use zeroauth_audit_anchor::rfc3161::token::Authorities;
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::{inclusion_root, leaf_hash, verify_consistency};
use zeroauth_audit_core::proof::Bundle;
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
    let believed = trust(&[&server.key]).open(bundle.checkpoint.as_bytes()).unwrap();
    let trust = Trust { authorities, keys: vec![server.key.verifier_key()] };
    let check = |anchor: &zeroauth_audit_core::proof::Anchor| {
        let checkpoint = &believed.checkpoint;
        assert!(anchor.tree_size > bundle.index && anchor.tree_size <= checkpoint.size);
        verify_consistency(
            anchor.tree_size,
            checkpoint.size,
            &anchor.root,
            &checkpoint.root,
            &anchor.consistency,
        )
        .unwrap();
        let body =
            Checkpoint { origin: checkpoint.origin.clone(), size: anchor.tree_size, root: anchor.root }
                .body();
        let root = inclusion_root(
            anchor.batch_index,
            anchor.batch_size,
            &leaf_hash(body.as_bytes()),
            &anchor.batch_path,
        )
        .unwrap();
        let verdict =
            verify_evidence(&anchor.kind, anchor.payload.as_bytes(), &Hash(*root.as_bytes()), &trust)
                .unwrap();
        assert_eq!((verdict.seal.root, verdict.seal.size), (Hash(*root.as_bytes()), anchor.batch_size));
        (anchor.kind.clone(), anchor.tree_size, verdict.rests_on)
    };
    bundle.anchors.iter().map(check).collect()
}

/// Rows of audit_anchors have the root of their batch, by their own paths.
#[track_caller]
fn assert_paths(client: &mut Client) -> usize {
    let rows = client.rows(
        "SELECT l.origin, a.tree_size, encode(a.root, 'hex'), a.leaf_index, b.leaves, encode(a.path, 'hex'), encode(a.batch_root, 'hex'), a.batch_root = b.root
         FROM zeroauth_audit_internal.anchors a JOIN zeroauth_audit_internal.logs l USING (tenant_id, epoch) JOIN zeroauth_audit_internal.anchor_batches b ON b.target = a.target AND b.epoch = a.batch",
    );
    for row in &rows {
        let text = |n: usize| row[n].clone().unwrap();
        let body =
            Checkpoint { origin: text(0), size: text(1).parse().unwrap(), root: digest(&text(2)) }.body();
        let path = hex::decode(text(5))
            .unwrap()
            .chunks(32)
            .map(|hash| Digest::from_slice(hash).unwrap())
            .collect::<Vec<_>>();
        let root = inclusion_root(
            text(3).parse().unwrap(),
            text(4).parse().unwrap(),
            &leaf_hash(body.as_bytes()),
            &path,
        );
        assert_eq!((root.unwrap(), text(7)), (digest(&text(6)), "t".to_owned()));
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
        server.client.line("SELECT encode(root, 'hex'), leaves, extract(epoch FROM batch_time)::bigint, encode(log_id, 'hex') FROM zeroauth_audit_internal.anchor_batches"),
        format!("{}|2|{}|{}", hex::encode(entries[0].batch.root.0), entries[0].batch.batch_time.0, hex::encode(Hash::sha256(ORIGIN.as_bytes()).0))
    );
    // The tenants that had events: our own comes with its first.
    assert_eq!(
        server.client.lines("SELECT tenant_id, epoch, target, batch, tree_size, state, tx_hash IS NOT NULL, anchored_at > now() - interval '36 hours', attempts, coalesce(error, '-'), consistent FROM zeroauth_audit_internal.anchors ORDER BY 1"),
        ["acme|0|file|1|5|finalized|t|t|1|-|t", "globex|0|file|1|5|finalized|t|t|1|-|t"]
    );
    assert_eq!(assert_paths(&mut server.client), 2);
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
    assert_eq!(assert_paths(&mut server.client), 5);
    assert_eq!(server.client.lines("SELECT DISTINCT consistent FROM zeroauth_audit_internal.anchors"), ["t"]);
    server.client.run(
        "INSERT INTO audit_events (tenant_id, action) SELECT 'acme', 'later' FROM generate_series(1, 9)",
    );
    server.client.run("SELECT zeroauth_audit_internal.run_job('checkpoint')");
    let anchors = bundled(&mut server, "acme", Authorities::default());
    let name = RestsOn::Key { name: ORIGIN.to_owned() };
    assert_eq!(anchors, [("file".to_owned(), 5, name.clone()), ("file".to_owned(), 305, name)]);
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
        server.client.lines("SELECT a.tenant_id, a.state, a.token = b.machine #>> '{inclusion,id}', a.tx_hash IS NULL, a.anchored_at IS NOT NULL FROM zeroauth_audit_internal.anchors a JOIN zeroauth_audit_internal.anchor_batches b ON b.target = a.target AND b.epoch = a.batch WHERE a.target = 'stamp' ORDER BY 1"),
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
        server.client.lines("SELECT DISTINCT tx_hash, chain_id, contract, block_number, block_hash, state FROM zeroauth_audit_internal.anchors WHERE target = 'chain'"),
        [format!(
            "{}|31337|{}|{}|{}|finalized",
            events[0].1,
            chain.contract.to_lowercase(),
            crate::support::anchors::anvil::number(&receipt["blockNumber"]),
            receipt["blockHash"].as_str().unwrap()
        )]
    );
    let anchors = bundled(&mut server, "acme", Authorities::default());
    let [(kind, 5, RestsOn::Block { chain_id: 31337, transaction, .. })] = &anchors[..] else {
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
