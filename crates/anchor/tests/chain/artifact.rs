//! The committed artifact is what the committed source compiles to, and the crate reads it as its ABI says.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use ethers_core::abi::Abi;
use serde_json::Value;
use zeroauth_audit_anchor::batch::Hash;
use zeroauth_audit_anchor::evm::contract;
use zeroauth_audit_tests::workspace;

use super::anvil::node_module;

pub fn artifact() -> Value {
    let path = workspace().join("contracts/AuditAnchor.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_committed_artifact_is_what_the_source_compiles_to() {
    let contracts = workspace().join("contracts");
    let modules = node_module("solc").parent().unwrap().to_path_buf();
    let output = Command::new("node")
        .arg(contracts.join("compile.cjs"))
        .arg(modules)
        .output()
        .expect("node is missing");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let committed = fs::read(contracts.join("AuditAnchor.json")).unwrap();
    assert!(
        output.stdout == committed,
        "contracts/AuditAnchor.json is not what contracts/AuditAnchor.sol compiles to: node contracts/compile.cjs target/node/node_modules >contracts/AuditAnchor.json"
    );
}

#[test]
fn the_code_has_no_way_to_run_other_code_or_to_end_itself() {
    // Scans the instructions, past the data of PUSH, and finds neither CALLCODE, DELEGATECALL, SELFDESTRUCT nor CREATE, CREATE2.
    let artifact = artifact();
    let code = hex::decode(artifact["deployedBytecode"].as_str().unwrap().trim_start_matches("0x")).unwrap();
    let mut instructions = BTreeSet::new();
    let mut at = 0;
    while let Some(instruction) = code.get(at) {
        instructions.insert(*instruction);
        at += 1 + if (0x60..=0x7f).contains(instruction) { usize::from(instruction - 0x5f) } else { 0 };
    }
    for forbidden in [0xf0, 0xf1, 0xf2, 0xf4, 0xf5, 0xff] {
        assert!(!instructions.contains(&forbidden), "{forbidden:#x}");
    }
    // It does store and emit.
    assert!(instructions.is_superset(&BTreeSet::from([0x54, 0x55, 0xa4])));
}

#[test]
fn calls_events_and_errors_are_those_of_the_abi() {
    let abi: Abi = serde_json::from_value(artifact()["abi"].clone()).unwrap();
    for signature in [contract::ANCHOR, contract::ANCHOR_OF, contract::LATEST, contract::IS_ANCHORER] {
        let name = signature.split('(').next().unwrap();
        assert_eq!(abi.function(name).unwrap().short_signature(), contract::selector(signature), "{name}");
    }
    let event = abi.event("Anchored").unwrap();
    assert_eq!(Hash(event.signature().0), contract::topic(contract::ANCHORED));
    let indexed: Vec<_> = event.inputs.iter().map(|input| input.indexed).collect();
    assert_eq!(indexed, [true, true, true, false, false, false]);
    for error in ["IsPaused", "NotAnchorer", "EpochNotRising", "EpochTooFar"] {
        let error = &abi.errors[error][0];
        let mut data = error.signature().0[..4].to_vec();
        for _ in &error.inputs {
            data.extend(contract::word(7));
        }
        assert_ne!(contract::refusal(&data), zeroauth_audit_anchor::Refusal::Unknown, "{error:?}");
    }
}

#[test]
fn the_lockfile_pins_digests_and_names_no_registry() {
    let lock = fs::read_to_string(workspace().join("contracts/package-lock.json")).unwrap();
    assert!(!lock.contains("\"resolved\""), "where packages come from is not ours to say");
    let lock: Value = serde_json::from_str(&lock).unwrap();
    let packages = lock["packages"].as_object().unwrap();
    assert!(packages.len() > 2);
    for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
        assert!(package["integrity"].as_str().is_some_and(|digest| digest.starts_with("sha512-")), "{name}");
    }
}
