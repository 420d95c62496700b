//! Servers that sign checkpoints, and what they published.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use postgres::Client;
use zeroauth_audit_core::note::SigningKey;
use zeroauth_audit_core::registry::entry::Entry;
use zeroauth_audit_core::registry::label::NameKey;
use zeroauth_audit_core::registry::run::{self, Block, File, Tail};
use zeroauth_audit_core::trust::Trust;
use zeroauth_audit_tests::{Cluster, OsUser};

use super::Sql;

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

/// The run files in a directory, by number: where each is, and its text, whose checkpoint is signed by a trusted key.
pub fn published(directory: &Path, trust: &Trust) -> BTreeMap<u64, (String, String)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // What has no name yet is not published.
            let Some(number) = run::number(&path.file_name().unwrap().to_string_lossy()) else { continue };
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(directory).unwrap().to_string_lossy().into_owned();
            let (_, tail) = blocks(&text);
            trust.registry(tail.checkpoint.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(files.insert(number, (name, text)).is_none(), "number {number} twice");
        }
    }
    files
}

/// Epoch and size of each state of a tenant's log in a directory, in the order of the runs.
pub fn states(directory: &Path, key: &SigningKey, names: &NameKey, tenant: &str) -> Vec<(u32, u64)> {
    let label = names.label(tenant);
    let mut states = Vec::new();
    for (_, text) in published(directory, &trust(&[key])).into_values() {
        for block in blocks(&text).0 {
            if let Entry::Log(log) = block.entry
                && log.label == label
            {
                states.push((log.epoch, log.size));
            }
        }
    }
    states
}

/// What labels are made with, once there is an entry.
pub fn name_key(client: &mut Client) -> Option<NameKey> {
    let key = client.lines("SELECT encode(key, 'hex') FROM zeroauth_audit_internal.registry_names");
    Some(NameKey::new(hex::decode(key.first()?).unwrap().try_into().unwrap()))
}

/// The entries of a run file, and what stands behind them.
pub fn blocks(text: &str) -> (Vec<Block<'_>>, Tail<'_>) {
    let File { blocks, tail, .. } = File::read(text.as_bytes()).unwrap();
    (blocks, tail)
}
