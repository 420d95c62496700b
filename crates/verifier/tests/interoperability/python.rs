//! PyPI `aics-tlog` and `aics-witness`: they check checkpoints, tiles and proofs, and a real witness cosigns over HTTP.
//!
//! Their Python is at the path in `ZEROAUTH_AUDIT_AICS_PYTHON`; `cargo xtask test` installs them and sets it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::{Algorithm, SigningKey, VerifierKey};
use zeroauth_audit_core::proof::{Bundle, Consistency};
use zeroauth_audit_core::tile::{consistency_proof, inclusion_proof};
use zeroauth_audit_core::trust::Trust;

use super::{Log, trail};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zeroauth-audit");

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// What the Python program reads.
fn write_log(log: &Log, folder: &Path) {
    let key = trail::key();
    let origin = &log.newest().origin;
    write(folder, "log.vkey", key.verifier_key().renamed(origin, Algorithm::Ed25519).to_string());
    write(folder, "cosigner.vkey", key.verifier_key().renamed(origin, Algorithm::CosignatureV1).to_string());
    write(folder, "key.pub", key.verifier_key().to_string());
    for tile in log.tiles.values() {
        write(
            folder,
            &tile.path(),
            tile.hashes.iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<u8>>(),
        );
    }
    let leaves: Vec<String> = log.leaves.iter().map(ToString::to_string).collect();
    write(folder, "leaves", leaves.join("\n"));
    let mut old = 0;
    for (number, checkpoint) in log.checkpoints.iter().enumerate() {
        let note = checkpoint.sign(&key, trail::BEGIN).unwrap();
        let path = consistency_proof(old, checkpoint.size, log).unwrap();
        write(
            folder,
            &format!("request-{number}"),
            Consistency { old_size: old, path, checkpoint: note.clone() }.format(),
        );
        write(folder, &format!("checkpoint-{number}"), note);
        old = checkpoint.size;
    }
    for index in [0, 204, 205, 256, 765] {
        let path = inclusion_proof(index, log.newest().size, log).unwrap();
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        write(folder, &format!("inclusion-{index}"), path.join("\n"));
    }
}

#[test]
#[ignore = "needs packages from PyPI, which cargo xtask test installs"]
fn a_public_implementation_and_a_real_witness_accept_what_we_make_and_we_what_they_sign() {
    let python = env::var_os("ZEROAUTH_AUDIT_AICS_PYTHON").expect("run by cargo xtask test");
    let folder = tempfile::tempdir().unwrap();
    let log = Log::made();
    write_log(&log, folder.path());
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interoperability/aics.py");
    let output = Command::new(python).arg(program).arg(folder.path()).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("all accepted"), "{said}");

    // What came back: the newest checkpoint with the witness's line.
    let cosigned = fs::read_to_string(folder.path().join("cosigned")).unwrap();
    // Leaf 200 of the tenant's log: behind 200 events of chain 0 the first of chain 1.
    let event = &log.trail.chains[1].0[0];
    let bundle = log.registry.bundle(log.newest(), log.entry, &log.trail, 200, event);
    let bundle = Bundle { checkpoint: cosigned, ..bundle };
    write(folder.path(), "bundle", bundle.format());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let verify = |more: &[&str]| {
        let (bundle, key) = (at("bundle"), at("key.pub"));
        let mut arguments = vec!["verify-bundle", &bundle, "--key", &key];
        arguments.extend(more);
        let output = Command::new(PROGRAM).args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, out) = verify(&["--witness", &at("witness.vkey")]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("witnessed by [\"witness.example/w1\"]"), "{out}");
    // Another witness has not signed.
    let (code, out) = verify(&["--witness", &at("cosigner.vkey").replace("cosigner", "other")]);
    assert_eq!(code, 2, "{out}");
}

#[test]
#[ignore = "needs packages from PyPI, which cargo xtask test installs"]
fn another_implementation_verifies_our_ml_dsa_cosignature_and_we_verify_its() {
    let python = env::var_os("ZEROAUTH_AUDIT_AICS_PYTHON").expect("run by cargo xtask test");
    let folder = tempfile::tempdir().unwrap();
    let second = SigningKey::ml_dsa_44(trail::BASE, &[8; 32]).unwrap();
    let checkpoint = Checkpoint { origin: trail::BASE.into(), ..Log::made().newest().clone() };
    let note = checkpoint.sign(&trail::key(), trail::BEGIN).unwrap();
    let note = note + &second.cosign(trail::BASE, trail::BEGIN, &checkpoint.body()).unwrap();
    write(folder.path(), "vkey", second.verifier_key().to_string());
    write(folder.path(), "note", &note);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interoperability/ml_dsa.py");
    let output = Command::new(python).arg(program).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let mut trust = Trust::new();
    trust.add_log(trail::key().verifier_key()).unwrap();
    trust.add_log(second.verifier_key()).unwrap();
    trust.add_witness(VerifierKey::parse(&read("their-vkey")).unwrap()).unwrap();
    trust.require(1);
    let registry = trust.registry(read("cosigned").as_bytes()).unwrap();
    assert_eq!(registry.witnesses, [("witness.example/ml".to_owned(), 1_796_000_123)]);
    assert!(trust.registry(note.as_bytes()).is_err());
}
