//! `deploy-contract`: one contract whatever happens, and no secret anywhere but in files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::anvil::{Anvil, number};
use super::made::{KEY, Made};
use super::{run, trail};

/// The deployment of a test, as arguments.
fn arguments(made: &Made, anvil: &Anvil) -> Vec<String> {
    let key = made.secret("evm.key", KEY).display().to_string();
    let url =
        made.secret("rpc.url", &format!("http://u53r:pa55@127.0.0.1:{}", anvil.port)).display().to_string();
    let (owner, anchorer, keep) = (anvil.account(2), anvil.account(3), made.at("deployment"));
    let given = [
        ("--rpc-file", url.as_str()),
        ("--chain-id", "31337"),
        ("--origin", trail::BASE),
        ("--owner", &owner),
        ("--anchorer", &anchorer),
        ("--key-file", &key),
        ("--keep", &keep),
    ];
    given.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
}

fn deploy(arguments: &[String], more: &[&str]) -> (i32, String, String) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (code, out, error) = run(&[&["deploy-contract"], arguments.as_slice(), more].concat());
    for secret in [KEY, "u53r", "pa55", "127.0.0.1"] {
        assert!(!out.contains(secret) && !error.contains(secret), "{secret}: {out}{error}");
    }
    (code, out, error)
}

fn replaced(arguments: &[String], name: &str, value: &str) -> Vec<String> {
    let at = arguments.iter().position(|argument| argument == name).unwrap();
    let mut changed = arguments.to_vec();
    changed[at + 1] = value.into();
    changed
}

#[test]
fn an_interrupted_deployment_is_gone_on_with_and_there_is_one_contract() {
    let (made, anvil) = (Made::new(), Anvil::start());
    let arguments = arguments(&made, &anvil);
    // Sent, and nobody includes it.
    anvil.call("evm_setAutomine", json!([false]));
    let (code, out, error) = deploy(&arguments, &["--wait", "0"]);
    assert_eq!((code, out.as_str()), (2, ""), "{error}");
    assert!(error.contains("not included yet; run the same command again"), "{error}");
    let kept = fs::read(made.at("deployment")).unwrap();
    assert_eq!(fs::metadata(made.at("deployment")).unwrap().permissions().mode() & 0o777, 0o600);
    // Lost from the pool, as if it had never been sent: the same bytes are sent again.
    let pending = anvil.call("eth_getBlockByNumber", json!(["pending", false]))["transactions"][0].clone();
    anvil.call("anvil_dropTransaction", json!([pending]));
    anvil.call("evm_setAutomine", json!([true]));
    let (code, text, error) = deploy(&arguments, &[]);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("goes on with the transaction"), "{error}");
    // Once more changes nothing.
    let (code, again, _) = deploy(&arguments, &["--json"]);
    assert_eq!(code, 0);
    assert_eq!(fs::read(made.at("deployment")).unwrap(), kept);
    let count = anvil.call("eth_getTransactionCount", json!([anvil.account(1), "latest"]));
    assert_eq!(number(&count), 1, "more than one transaction");
    let deployed: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(deployed["transaction"], pending);
    let receipt = anvil.receipt(pending.as_str().unwrap());
    let contract = receipt["contractAddress"].as_str().unwrap();
    assert_eq!(deployed["contract"].as_str().unwrap().to_lowercase(), contract);
    assert!(text.to_lowercase().contains(&format!("contract: {contract} on chain 31337")), "{text}");
    assert!(text.contains("SELECT audit_anchor_target_set('evm', 'evm', '"), "{text}");
    // The anchorer is another account: its key is not known here.
    assert_eq!(deployed["config"].get("signer"), None);
    assert!(deployed["notes"].to_string().contains("add \\\"signer\\\""), "{deployed}");
    // The kept transaction is no other deployment's.
    for (name, value) in [("--owner", anvil.account(4)), ("--origin", "other.example/a".into())] {
        let (code, _, error) = deploy(&replaced(&arguments, name, &value), &[]);
        assert_eq!(code, 2);
        assert!(error.contains("is of another deployment than the kept transaction"), "{error}");
    }
    fs::write(made.at("deployment"), "no transaction").unwrap();
    assert!(deploy(&arguments, &[]).2.contains("holds no transaction"));
}

#[test]
fn an_encrypted_key_pays_too() {
    let (made, anvil) = (Made::new(), Anvil::start());
    let mut random = rand_for_keystore::rngs::OsRng;
    let key = hex::decode(KEY).unwrap();
    let folder = made.folder.path();
    eth_keystore::encrypt_key(folder, &mut random, key, "open sesame", Some("keystore")).unwrap();
    fs::set_permissions(folder.join("keystore"), Permissions::from_mode(0o600)).unwrap();
    let password = made.secret("password", "open sesame\n").display().to_string();
    let mut arguments = arguments(&made, &anvil);
    let at = arguments.iter().position(|argument| argument == "--key-file").unwrap();
    arguments[at] = "--keystore".into();
    arguments[at + 1] = made.at("keystore");
    assert_eq!(deploy(&arguments, &[]).0, 2, "an encrypted key without its password");
    arguments = replaced(&arguments, "--anchorer", &anvil.account(1));
    let (code, out, error) = deploy(&arguments, &["--password-file", &password, "--json"]);
    assert_eq!(code, 0, "{error}");
    assert!(!out.contains("sesame"));
    let deployed: Value = serde_json::from_str(&out).unwrap();
    // Who deployed anchors, too: the row is complete.
    let signer = json!({ "kind": "keystore", "key_file": made.at("keystore"), "password_file": password });
    assert_eq!(deployed["config"]["signer"], signer);
    let made_again = made.secret("password", "wrong").display().to_string();
    fs::remove_file(made.at("deployment")).unwrap();
    let (code, _, error) = deploy(&arguments, &["--password-file", &made_again]);
    assert_eq!(code, 2, "{error}");
}

#[test]
fn what_cannot_work_is_told_before_anything_is_kept_or_sent() {
    let (made, anvil) = (Made::new(), Anvil::start());
    let arguments = arguments(&made, &anvil);
    let refused = |arguments: &[String], more: &[&str], why: &str| {
        let (code, out, error) = deploy(arguments, more);
        assert_eq!((code, out.as_str()), (2, ""), "{error}");
        assert!(error.contains(why), "{error}");
        assert!(!fs::exists(made.at("deployment")).unwrap(), "{why}: something was kept");
    };
    refused(&replaced(&arguments, "--chain-id", "1"), &[], "is on chain 31337, not 1");
    refused(&arguments, &["--max-gas", "100000"], "gas, the cap is 100000");
    refused(&arguments, &["--max-fee-per-gas", "1"], "wei per gas, the cap is 1");
    refused(&replaced(&arguments, "--origin", "UPPER CASE"), &[], "cannot be a base origin");
    let zero = format!("0x{}", "00".repeat(20));
    refused(&replaced(&arguments, "--owner", &zero), &[], "the deployment names the zero address");
    refused(&arguments, &["--rpc-file", &made.at("rpc.url")], "names one endpoint twice");
    refused(&replaced(&arguments, "--anchorer", "0x1"), &[], "40 hexadecimal digits");
    // What others can read is no secret.
    for name in ["evm.key", "rpc.url"] {
        fs::set_permissions(made.at(name), Permissions::from_mode(0o644)).unwrap();
        refused(&arguments, &[], "has mode 0644, not 0600 or 0400");
        fs::set_permissions(made.at(name), Permissions::from_mode(0o600)).unwrap();
    }
    let count = anvil.call("eth_getTransactionCount", json!([anvil.account(1), "pending"]));
    assert_eq!(number(&count), 0);
}
