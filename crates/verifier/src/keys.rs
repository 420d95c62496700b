//! Keys: which are trusted, and making the key of an installation.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroauth_audit_anchor::rfc3161::token::Authorities;
use zeroauth_audit_core::note::{Algorithm, SigningKey, VerifierKey};
use zeroauth_audit_core::origin::Base;
use zeroauth_audit_core::registry::Label;
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::trust::Trust;

use crate::placed;
use crate::sealed::read_file;

/// Bytes of a key at most.
pub const MAX_KEY: u64 = 4096;

/// Bytes of a file of certificates at most.
const MAX_CERTIFICATES: u64 = 1 << 20;

/// The keys that `logs`, `witnesses` and `monitors` name (each a verifier key, or a file with one); `quorum` of the witnesses must have
/// signed.
///
/// # Errors
/// Which key cannot be used, and why.
pub fn trust(
    logs: &[String],
    witnesses: &[String],
    monitors: &[String],
    quorum: Option<usize>,
) -> Result<Trust, String> {
    let mut trust = Trust::new();
    for given in logs {
        let key = verifier_key(given)?;
        trust.add_log(key).map_err(|error| format!("{given:?} cannot be used as --key: {error}"))?;
    }
    for given in witnesses {
        let key = verifier_key(given)?;
        trust.add_witness(key).map_err(|error| format!("{given:?} cannot be used as --witness: {error}"))?;
    }
    for given in monitors {
        let key = verifier_key(given)?;
        // As `keygen` prints it, or as a cosigner's.
        let key = key.renamed(key.name(), Algorithm::CosignatureV1);
        trust.add_monitor(key).map_err(|error| format!("{given:?} cannot be used as --monitor: {error}"))?;
    }
    let known = trust.witnesses();
    // Somebody who names witnesses wants them to have signed.
    let quorum = quorum.unwrap_or(known);
    if quorum > known {
        return Err(format!("--quorum is {quorum}, and {known} different witnesses are given"));
    }
    trust.require(quorum);
    Ok(trust)
}

/// The keys that `given` names, each a verifier key, or a file with one.
///
/// # Errors
/// Which key cannot be used, and why.
pub fn list(given: &[String]) -> Result<Vec<VerifierKey>, String> {
    given.iter().map(|one| verifier_key(one)).collect()
}

/// The certificates of the PEM files `files`, which may vouch for time-stamp authorities.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn authorities(files: &[PathBuf]) -> Result<Authorities, String> {
    let mut all = Vec::new();
    for file in files {
        let pem = read_file(file, MAX_CERTIFICATES).map_err(|what| format!("{} {what}", file.display()))?;
        // Each by itself: a file without any is a mistake that others would hide.
        Authorities::from_pem(&pem).map_err(|_| format!("{} holds no certificates", file.display()))?;
        all.extend_from_slice(&pem);
        all.push(b'\n');
    }
    match files.is_empty() {
        true => Ok(Authorities::default()),
        false => Authorities::from_pem(&all).map_err(|error| error.to_string()),
    }
}

/// A verifier key as it stands, or from a file. One has plus signs and no slash at its start; a file that is there wins.
fn verifier_key(given: &str) -> Result<VerifierKey, String> {
    let path = Path::new(given);
    let text = if path.exists() {
        let bytes = read_file(path, MAX_KEY).map_err(|what| format!("{given:?} {what}"))?;
        String::from_utf8(bytes).map_err(|_| format!("{given:?} is not UTF-8"))?
    } else {
        given.to_owned()
    };
    if text.starts_with("PRIVATE+KEY+") {
        return Err(format!(
            "{given:?} is a private key: give the public one, which `zeroauth-audit public-key` prints"
        ));
    }
    VerifierKey::parse(&text).map_err(|error| match path.exists() || text.contains('+') {
        true => format!("{given:?} is no public key: {error}"),
        false => format!("{given:?} is neither a file nor a public key"),
    })
}

/// Makes a key of the base origin `origin` in the file `out`, which must not be there, readable by its owner alone; `ml_dsa`: one for
/// the second signature of a registry. Returns the public key.
///
/// # Errors
/// What is wrong, in words.
pub fn generate(out: &Path, origin: &str, ml_dsa: bool) -> Result<VerifierKey, String> {
    let base = Base::parse(origin).map_err(|error| format!("{origin:?} cannot be a base origin: {error}"))?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("the system has no random numbers: {error}"))?;
    let make = if ml_dsa { SigningKey::ml_dsa_44 } else { SigningKey::from_seed };
    let key = make(base.as_str(), &seed).map_err(|error| error.to_string())?;
    placed::new_file(out, key.to_key_file().as_bytes())?;
    Ok(key.verifier_key())
}

/// The key of names in the file `path`: 32 bytes in base64, in one line.
///
/// # Errors
/// What is wrong, in words; none of them shows the key.
pub fn name_key(path: &Path) -> Result<NameKey, String> {
    let bytes = read_file(path, MAX_KEY).map_err(|what| format!("{} {what}", path.display()))?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    // A label is written alike.
    let key = Label::parse(text.strip_suffix('\n').unwrap_or(text));
    let key = key.ok_or_else(|| format!("{} is no key of names: 32 bytes in base64", path.display()))?;
    Ok(NameKey::new(*key.digest().as_bytes()))
}

/// The public keys of the key file `path`, one for each line.
///
/// # Errors
/// What is wrong, in words; none of them shows a key.
pub fn public_keys(path: &Path) -> Result<Vec<VerifierKey>, String> {
    let lines = read_key_file(path)?;
    let keys: Result<Vec<_>, String> = lines.lines().map(|line| key_of(path, line)).collect();
    let keys = keys?;
    for key in &keys {
        Base::parse(key.name()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    match keys.is_empty() {
        true => Err(format!("{} is no key file: it is empty", path.display())),
        false => Ok(keys.iter().map(SigningKey::verifier_key).collect()),
    }
}

/// The key in the key file `path`, which nobody else can read.
///
/// # Errors
/// What is wrong, in words; none of them shows the key.
pub fn signing_key(path: &Path) -> Result<SigningKey, String> {
    let mode =
        fs::metadata(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?.mode();
    if mode & 0o177 != 0 {
        return Err(format!("{} can be read by others: its mode must be 0600", path.display()));
    }
    key_of(path, &read_key_file(path)?)
}

fn read_key_file(path: &Path) -> Result<String, String> {
    let bytes = read_file(path, MAX_KEY).map_err(|what| format!("{} {what}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is no key file", path.display()))
}

fn key_of(path: &Path, line: &str) -> Result<SigningKey, String> {
    SigningKey::parse(line).map_err(|error| format!("{} is no key file: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_its_owner_s_alone_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.key");
        let public = generate(&out, "log.example/audit", false).unwrap();
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(public_keys(&out).unwrap(), std::slice::from_ref(&public));
        let before = fs::read(&out).unwrap();
        assert!(generate(&out, "log.example/audit", false).unwrap_err().contains("was not touched"));
        assert_eq!(fs::read(&out).unwrap(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
        assert_ne!(generate(&folder.path().join("other"), "log.example/audit", false).unwrap(), public);
    }

    #[test]
    fn a_key_file_may_have_a_second_line_of_another_kind() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let plain = generate(&one, "log.example/audit", false).unwrap();
        let second = generate(&two, "log.example/audit", true).unwrap();
        assert_eq!(second.algorithm(), Algorithm::MlDsa44);
        let both = fs::read_to_string(&one).unwrap() + &fs::read_to_string(&two).unwrap();
        fs::write(&one, both).unwrap();
        assert_eq!(public_keys(&one).unwrap(), [plain.clone(), second.clone()]);
        assert!(trust(&[plain.to_string(), second.to_string()], &[], &[], None).is_ok());
        fs::write(&one, "").unwrap();
        assert!(public_keys(&one).unwrap_err().contains("is empty"));
    }

    #[test]
    fn a_private_key_is_not_taken_for_a_public_one() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("log.key");
        let public = generate(&out, "log.example/audit", false).unwrap();
        let given = |text: String| trust(&[text], &[], &[], None);
        assert!(given(out.display().to_string()).unwrap_err().contains("is a private key"));
        assert!(given(fs::read_to_string(&out).unwrap()).unwrap_err().contains("is a private key"));
        assert!(given("nothing".into()).unwrap_err().contains("neither a file nor a public key"));
        assert!(given("a+b+c".into()).unwrap_err().contains("is no public key"));
        let file = folder.path().join("log.pub");
        fs::write(&file, format!("{public}\n")).unwrap();
        assert!(given(file.display().to_string()).unwrap().has_keys());
        assert!(given(public.to_string()).unwrap().has_keys());
    }

    #[test]
    fn witnesses_that_are_named_must_have_signed_unless_fewer_are_enough() {
        let key = |seed| SigningKey::from_seed("w.example", &[seed; 32]).unwrap().verifier_key();
        let witness = |seed| key(seed).renamed("w.example", Algorithm::CosignatureV1).to_string();
        let witnesses = [witness(1), witness(2)];
        assert!(trust(&[], &witnesses, &[], None).is_ok());
        assert!(trust(&[], &witnesses, &[], Some(2)).is_ok());
        assert!(trust(&[], &witnesses, &[], Some(3)).unwrap_err().contains("2 different witnesses"));
        let twice = [witnesses[0].clone(), witnesses[0].clone()];
        assert!(trust(&[], &twice, &[], Some(2)).unwrap_err().contains("1 different"));
        assert!(trust(&[], &[key(1).to_string()], &[], None).unwrap_err().contains("signature type 4 or 6"));
    }
}
