//! That nobody is called unless somebody asks for it.

use std::process::Command;

use serde_json::Value;
use zeroauth_audit_tests::workspace;

use super::anvil::Anvil;
use super::made::Made;
use super::{PROGRAM, outcome};

#[test]
fn a_trusted_block_hash_is_enough_where_there_is_no_network_at_all() {
    let made = Made::new();
    let anchor = {
        let anvil = Anvil::start();
        let deployed = made.deploy(&anvil);
        made.evm(&anvil, &deployed["config"])
    };
    // The chain is gone.
    let evidence: Value = serde_json::from_str(&anchor.payload).unwrap();
    let block = evidence["block_hash"].as_str().unwrap().to_owned();
    let bundle = made.with("bundle", vec![anchor, made.file(), made.stamp()]);
    let run = |more: &[&str]| {
        // A network of its own, without an interface that is up: not even this machine can be reached.
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", PROGRAM, "--json", "verify-bundle", &bundle]);
        command.args(["--key", &made.at("log.pub"), "--tsa-ca", &made.at("tsa.pem")]).args(more);
        let (code, out, error) = outcome(command.output().unwrap());
        let verdict: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {out}{error}"));
        (code, verdict)
    };
    let (code, verdict) = run(&["--block-hash", &block, "--require-anchors", "3"]);
    assert_eq!(code, 0, "{verdict}");
    // There is none: somebody who is asked cannot be.
    let (code, verdict) = run(&["--rpc", "http://127.0.0.1:8545"]);
    assert_eq!(code, 2, "{verdict}");
    assert!(verdict["troubles"][0]["what"].as_str().unwrap().contains("endpoint 1"), "{verdict}");
}

#[test]
fn without_the_feature_network_there_is_nothing_in_the_program_that_could_call_anybody() {
    let crates = |more: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .current_dir(workspace())
            .args(["tree", "--offline", "--locked", "--package", "zeroauth-audit-verifier"])
            .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (whole, core) = (crates(&[]), crates(&["--no-default-features"]));
    assert!(core.iter().any(|name| name == "zeroauth-audit-anchor"), "{core:?}");
    for name in ["ureq", "rustls", "http", "ethers-core", "eth-keystore", "zeroauth-audit-transport"] {
        assert!(whole.iter().any(|found| found == name), "{name} is looked for in vain");
        assert!(!core.iter().any(|found| found == name), "{name} is there");
    }
}
