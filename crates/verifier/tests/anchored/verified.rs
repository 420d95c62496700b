//! What is said of anchors that are right, and of those that are somewhere else than they should be.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use zeroauth_audit_core::note::SigningKey;

use super::anvil::Anvil;
use super::made::{Made, other_url};
use super::{judge, run};

/// A chain with a contract, and a bundle with an anchor of each kind.
struct All {
    made: Made,
    anvil: Anvil,
    deployed: Value,
    bundle: String,
    key: String,
    block: String,
}

impl All {
    fn start() -> Self {
        let (made, anvil) = (Made::new(), Anvil::start());
        let deployed = made.deploy(&anvil);
        let evm = made.evm(&anvil, &deployed["config"]);
        let evidence: Value = serde_json::from_str(&evm.payload).unwrap();
        let bundle = made.with("bundle", vec![made.file(), evm, made.stamp()]);
        let (key, block) = (made.at("log.pub"), evidence["block_hash"].as_str().unwrap().to_owned());
        Self { made, anvil, deployed, bundle, key, block }
    }

    #[track_caller]
    fn judge(&self, arguments: &[&str]) -> (i32, Value) {
        judge(&[&[self.bundle.as_str(), "--key", &self.key], arguments].concat())
    }
}

/// Of each anchor.
fn outcomes(verdict: &Value) -> Vec<&str> {
    let anchors = verdict["anchors"].as_array().unwrap();
    anchors.iter().map(|anchor| anchor["outcome"].as_str().unwrap()).collect()
}

#[test]
fn anchors_of_every_kind_are_verified_and_the_verdict_says_by_what() {
    let all = All::start();
    let contract = all.deployed["contract"].as_str().unwrap();
    let tsa = all.made.at("tsa.pem");
    let url_file = all.made.at("rpc.url");
    let (one, two) = (all.anvil.url(), other_url(&all.anvil));
    let always = ["--tsa-ca", &tsa, "--contract", contract, "--chain-id", "31337", "--require-anchors", "3"];
    let by: [&[&str]; 4] = [
        &["--block-hash", &all.block],
        &["--block-hash", all.block.trim_start_matches("0x")],
        &["--rpc", &one, "--rpc", &two],
        &["--rpc", &url_file],
    ];
    let said =
        ["a block that is trusted", "a block that is trusted", "2 endpoints say", "as one endpoint says"];
    for (by, said) in by.into_iter().zip(said) {
        let (code, verdict) = all.judge(&[&always[..], by].concat());
        assert_eq!((code, outcomes(&verdict)), (0, vec!["verified"; 3]), "{verdict}");
        // All that is left to say: what the registry says of the log was claimed.
        assert_eq!(verdict["notes"].as_array().unwrap().len(), 1, "{verdict}");
        let result = |n: usize| verdict["anchors"][n]["result"].as_str().unwrap();
        assert!(result(0).contains("signed by \"log.example/audit\""), "{}", result(0));
        assert!(result(1).contains(said), "{}", result(1));
        assert!(result(2).contains("by \"CN=test authority\""), "{}", result(2));
        let rests_on = &verdict["anchors"][1]["evidence"]["rests_on"];
        assert_eq!(rests_on["block_hash"], all.block);
        assert_eq!(rests_on["contract"].as_str().unwrap().to_lowercase(), contract.to_lowercase());
    }
    let (code, text, _) = run(&["verify-bundle", &all.bundle, "--key", &all.key, "--rpc", &one]);
    assert_eq!(code, 0);
    assert!(text.contains("\nanchor: evm, 2 entries: verified: "), "{text}");
    // Nobody said which contract to expect: what was found is told.
    let note = format!("note: evm anchor: compare the contract {contract}");
    assert!(text.to_lowercase().contains(&note), "{text}");
    assert!(text.contains("note: not checked: rfc3161 anchor: "), "{text}");
}

#[test]
fn what_nobody_asked_for_is_left_open_and_counts_for_nothing() {
    let all = All::start();
    let (code, verdict) = all.judge(&[]);
    assert_eq!((code, outcomes(&verdict)), (0, vec!["verified", "not_checked", "not_checked"]));
    let (code, verdict) = all.judge(&["--require-anchors", "2"]);
    assert_eq!((code, &verdict["verdict"]), (2, &json!("could_not_check")));
    assert_eq!(verdict["troubles"][0]["what"], "verified anchors: 1, and 2 are required");
    // Some other block that is trusted.
    let other = format!("0x{}", "ab".repeat(32));
    let (code, verdict) = all.judge(&["--block-hash", &other]);
    assert_eq!((code, outcomes(&verdict)[1]), (0, "not_checked"));
    assert!(verdict["notes"].to_string().contains("none of the blocks that are trusted"), "{verdict}");
}

#[test]
fn an_anchor_in_another_contract_or_on_another_chain_than_expected_is_a_mismatch() {
    let all = All::start();
    let wrong: [&[&str]; 2] =
        [&["--contract", "0x000000000000000000000000000000000000dead"], &["--chain-id", "1"]];
    for wrong in wrong {
        let (code, verdict) = all.judge(&[wrong, &["--block-hash", &all.block]].concat());
        assert_eq!((code, outcomes(&verdict)[1]), (1, "mismatch"), "{verdict}");
        assert_eq!(verdict["classes"], json!({ "anchor_mismatch": 1 }));
    }
    let contract = all.deployed["contract"].as_str().unwrap();
    let both = ["--contract", contract, "--contract", wrong[0][1], "--chain-id", "1", "--chain-id", "31337"];
    assert_eq!(all.judge(&both).0, 0, "one of several will do");
    // A checksum in capital letters that does not hold is a mistake of the command line.
    let flipped = contract.to_uppercase().replacen("0X", "0x", 1);
    assert_eq!(run(&["verify-bundle", &all.bundle, "--key", &all.key, "--contract", &flipped]).0, 2);
}

#[test]
fn endpoints_decide_about_a_block_only_when_they_can_be_reached_and_agree() {
    let all = All::start();
    let rpc = |url: &str, more: &[&str]| all.judge(&[&["--rpc", url], more].concat());
    // Not final: far too few blocks are on top.
    let (code, verdict) = rpc(&all.anvil.url(), &["--confirmations", "100000"]);
    assert_eq!((code, outcomes(&verdict)[1]), (2, "not_checked"), "{verdict}");
    // Nobody listens there.
    let (code, verdict) = rpc("http://127.0.0.1:1", &[]);
    assert_eq!((code, outcomes(&verdict)[1]), (2, "not_checked"), "{verdict}");
    // Another chain with the same number: it has another block there.
    let other = Anvil::start();
    other.mine(30);
    let (code, verdict) = rpc(&other.url(), &[]);
    assert_eq!((code, outcomes(&verdict)[1]), (1, "mismatch"), "{verdict}");
    assert!(verdict["findings"][0]["detail"].as_str().unwrap().contains("is not on the chain"), "{verdict}");
    // Both: they disagree, so nothing is known.
    let (code, verdict) = rpc(&other.url(), &["--rpc", &all.anvil.url()]);
    assert_eq!((code, outcomes(&verdict)[1]), (2, "not_checked"), "{verdict}");
    // A chain with another number has no say.
    let elsewhere = Anvil::start_with(&["--chain-id", "5"]);
    let (code, verdict) = rpc(&elsewhere.url(), &[]);
    assert_eq!((code, outcomes(&verdict)[1]), (0, "not_checked"), "{verdict}");
    let (code, verdict) = rpc(&elsewhere.url(), &["--rpc", &all.anvil.url()]);
    assert_eq!((code, outcomes(&verdict)[1]), (0, "verified"), "{verdict}");
    // A block that is trusted needs nobody's word.
    let (code, verdict) = rpc("http://127.0.0.1:1", &["--block-hash", &all.block]);
    assert_eq!((code, outcomes(&verdict)[1]), (0, "verified"), "{verdict}");
    // One endpoint twice is a mistake of the command line.
    let url = all.anvil.url();
    let twice = ["verify-bundle", &all.bundle, "--key", &all.key, "--rpc", &url, "--rpc", &url];
    assert!(run(&twice).2.contains("names one endpoint twice"));
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_asked_once_however_many_anchors_there_are() {
    let (made, anvil) = (Made::new(), Anvil::start());
    let deployed = made.deploy(&anvil);
    let evm = made.evm(&anvil, &deployed["config"]);
    let bundle = made.with("bundle", vec![evm; 5]);
    // It takes the call, and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    thread::spawn(move || {
        for _ in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (code, verdict) = judge(&[&bundle, "--key", &made.at("log.pub"), "--rpc", &url]);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!((code, outcomes(&verdict)), (2, vec!["not_checked"; 5]), "{verdict}");
}

#[test]
fn who_vouches_for_an_anchor_is_for_the_auditor_to_say() {
    let made = Made::new();
    let own = SigningKey::from_seed("anchors.example/a", &[9; 32]).unwrap();
    let anchor = made.anchor("file", &made.file_evidence(&own, &made.batch()));
    let bundle = made.with("bundle", vec![anchor, made.stamp()]);
    let (key, own) = (made.at("log.pub"), own.verifier_key().to_string());
    // A key of its own: with the log's alone it is a stranger's.
    let (code, verdict) = judge(&[&bundle, "--key", &key]);
    assert_eq!((code, outcomes(&verdict)), (2, vec!["not_checked", "not_checked"]), "{verdict}");
    assert!(verdict["troubles"][0]["what"].as_str().unwrap().contains("--anchor-key"));
    let (code, verdict) = judge(&[&bundle, "--key", &key, "--anchor-key", &own]);
    assert_eq!((code, outcomes(&verdict)), (0, vec!["verified", "not_checked"]), "{verdict}");
    // Certificates of somebody else.
    let tsa = made.at("tsa.pem");
    let stranger = Made::new();
    stranger.stamp();
    let stranger = stranger.at("tsa.pem");
    let with = |ca: &[&str]| judge(&[&[&bundle, "--key", &key, "--anchor-key", &own], ca].concat());
    let (code, verdict) = with(&["--tsa-ca", &stranger]);
    assert_eq!((code, outcomes(&verdict)[1]), (2, "not_checked"), "{verdict}");
    let (code, verdict) = with(&["--tsa-ca", &stranger, "--tsa-ca", &tsa]);
    assert_eq!((code, outcomes(&verdict)[1]), (0, "verified"), "{verdict}");
    let (code, _, error) = run(&["verify-bundle", &bundle, "--key", &key, "--tsa-ca", &key]);
    assert_eq!(code, 2);
    assert!(error.contains("holds no certificates"), "{error}");
}

#[test]
fn several_bundles_have_a_verdict_each_and_the_worst_counts() {
    let made = Made::new();
    let good = made.with("good", vec![made.file()]);
    let unreadable = made.write("unreadable", "x");
    let text = std::fs::read_to_string(&good).unwrap();
    let tampered = made.write("tampered", &text.replacen("success", "failure", 1));
    let key = made.at("log.pub");
    let verdicts = |files: &[&str]| {
        let (code, out, _) = run(&[&["verify-bundle", "--json", "--key", &key], files].concat());
        let verdict = |line: &str| serde_json::from_str::<Value>(line).unwrap()["verdict"].clone();
        (code, out.lines().map(verdict).collect::<Vec<_>>())
    };
    assert_eq!(verdicts(&[&good, &good]), (0, vec![json!("verified"); 2]));
    assert_eq!(verdicts(&[&good, &unreadable]), (2, vec![json!("verified"), json!("could_not_check")]));
    let all = [json!("tampered"), json!("could_not_check"), json!("verified")];
    assert_eq!(verdicts(&[&tampered, &unreadable, &good]), (1, all.to_vec()));
    assert_eq!(verdicts(&[]).0, 2);
}
