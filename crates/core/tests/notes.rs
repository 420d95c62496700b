//! Signed notes that other software made: the Go checksum database's trees, and two signers of Go's own tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::note::{Error, Note, Verified, VerifierKey};

const SUM_GOLANG_ORG: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

/// Published at different times: size, root, signature.
const TREES: [(u64, &str, &str); 4] = [
    (
        3_935_567,
        "SapHtgdNCeF00Cx8kqztePV24kgzNg++Xovae42HAMw=",
        "Az3grsm7Wm4CVNR1RHq9BFnu9jzcRlU2uw7lr0gfUWgO6+rqPNjT+fUTl9gH0NRTgdwW9nItuQSMbhSaLCsk8YeYSAs=",
    ),
    (
        6_476_701,
        "mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=",
        "Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=",
    ),
    (
        15_067_302,
        "gJyioq6dwR9n+NjEWORfYmH+ubeYm3kH42BBQ0bTpYI=",
        "Az3grp1rvWOs5NKlr/xR4GLN/CDyzzakmt1o61uSxYKpK1SerqOP2ClbX/peKUZjYnyomH5Xz7GZG3TpB7OeKn4E2ww=",
    ),
    (
        65_209_736,
        "5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=",
        "Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz7l/R3cVtYspg3dxXABkGZZKdsQ8=",
    ),
];

fn tree(size: u64, root: &str, signature: &str) -> String {
    format!("go.sum database tree\n{size}\n{root}\n\n\u{2014} sum.golang.org {signature}\n")
}

#[test]
fn trees_of_the_go_checksum_database_verify_and_are_checkpoints() {
    let keys = [VerifierKey::parse(SUM_GOLANG_ORG).unwrap()];
    for (size, root, signature) in TREES {
        let note = tree(size, root, signature);
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.verify(&keys), Ok(vec![Verified { key: 0, time: None }]));
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        assert_eq!((checkpoint.size, checkpoint.body().as_str()), (size, note.text()));
    }
}

#[test]
fn a_tree_with_the_signature_of_another_does_not_verify() {
    let keys = [VerifierKey::parse(SUM_GOLANG_ORG).unwrap()];
    let (size, root, _) = TREES[0];
    let note = tree(size, root, TREES[1].2);
    assert_eq!(Note::parse(note.as_bytes()).unwrap().verify(&keys), Err(Error::WrongSignature(1)));
}

#[test]
fn a_note_of_two_signers_verifies_under_either_and_both() {
    let peter =
        VerifierKey::parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    let enoch =
        VerifierKey::parse("EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop").unwrap();
    let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n\u{2014} EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
    let note = Note::parse(note.as_bytes()).unwrap();
    let by = |keys: &[VerifierKey]| note.verify(keys).unwrap().iter().map(|v| v.key).collect::<Vec<_>>();
    assert_eq!(by(std::slice::from_ref(&peter)), [0]);
    assert_eq!(by(std::slice::from_ref(&enoch)), [0]);
    assert_eq!(by(&[enoch, peter]), [1, 0]);
}

/// A checkpoint of a certificate log with signatures of three kinds and those of four witnesses.
const COSIGNED: &str = "arche2025h1.staging.ct.transparency.dev\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n\u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n\u{2014} arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n\u{2014} transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n\u{2014} witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n\u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n\u{2014} witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n";

#[test]
fn a_cosignature_of_a_public_witness_verifies_with_its_time_beside_the_log_s_own_signature() {
    let log = VerifierKey::parse(
        "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f",
    );
    let witness = VerifierKey::parse("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2");
    let keys = [log.unwrap(), witness.unwrap()];
    let verified = Note::parse(COSIGNED.as_bytes()).unwrap().verify(&keys);
    let (by_log, by_witness) =
        (Verified { key: 0, time: None }, Verified { key: 1, time: Some(0x6a12_2120) });
    assert_eq!(verified, Ok(vec![by_log, by_witness]));

    // Another time, and it is another message.
    let later = COSIGNED.replace("2net5wAAAABqEiEg", "2net5wAAAABqEiEh");
    assert_eq!(Note::parse(later.as_bytes()).unwrap().verify(&keys), Err(Error::WrongSignature(5)));
}
