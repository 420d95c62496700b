//! Servers that sign checkpoints, and what they published.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::trust::{Believed, Trust};
use zeroauth_audit_tests::{Cluster, OsUser};

/// The base origin of the tests' keys.
pub const ORIGIN: &str = "log.example/audit";

/// Writes a key file as `keygen` does, owned by the server's user; the key.
pub fn key_file(path: &Path, name: &str, seed: u8) -> SigningKey {
    let key = SigningKey::from_seed(name, &[seed; 32]).unwrap();
    fs::write(path, key.to_key_file()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    OsUser::current().unwrap().own(path).unwrap();
    key
}

/// A folder beside the cluster's data, owned by the server's user.
pub fn folder(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.data_dir().with_file_name(name);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    OsUser::current().unwrap().own(&path).unwrap();
    path
}

/// A place for a key file, beside the cluster's data.
pub fn key_path(cluster: &Cluster) -> PathBuf {
    cluster.data_dir().with_file_name("checkpoint.key")
}

/// Whom an auditor trusts who has the public key.
pub fn trust(keys: &[&SigningKey]) -> Trust {
    let mut trust = Trust::new();
    for key in keys {
        trust.add_log(key.verifier_key()).unwrap();
    }
    trust
}

/// Every checkpoint in a directory, file by file in the order of their names.
pub fn published(directory: &Path, trust: &Trust) -> Vec<(String, Vec<Believed>)> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.starts_with(".unfinished-") {
                // What has no name yet is not published.
                files.push(path);
            }
        }
    }
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
            let content = fs::read(&path).unwrap();
            let notes = zeroauth_audit_core::batch::read_all(&content)
                .unwrap_or_else(|error| panic!("{name}: {error}"))
                .into_iter()
                .map(|note| trust.open(note).unwrap_or_else(|error| panic!("{name}: {error}")))
                .collect();
            (name, notes)
        })
        .collect()
}
