//! That a log grew by appending: consistency proofs, from files or made from its tiles.
//!
//! Whoever gives proofs or tiles need not be trusted: a proof leads from the one signed root to the other or to nothing.

use std::fs;
use std::path::{Path, PathBuf};

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::verify_consistency;
use zeroauth_audit_core::proof::Consistency;
use zeroauth_audit_core::tile::{Tile, TileSource, WIDTH, consistency_proof};
use zeroauth_audit_core::trust::Trust;

use super::{History, Log};
use crate::input;
use crate::sealed::{self, Unbelieved};
use crate::verdict::{Finding, Trouble, Verdict};

/// Bytes of a file with a proof at most.
const MAX_FILE: u64 = 1 << 20;

/// Uses the proof in the file `path`.
pub fn file(path: &Path, trust: &Trust, history: &mut History, verdict: &mut Verdict) {
    let name = path.display().to_string();
    let bytes = match sealed::read_file(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(what) => return verdict.trouble_with(name, what),
    };
    let bytes = match input::text(&bytes) {
        Ok(bytes) => bytes,
        Err(what) => return verdict.trouble_with(name, format!("no consistency proof: {what}")),
    };
    let proof = match Consistency::parse(bytes) {
        Ok(proof) => proof,
        Err(error) => {
            let (line, byte) = (Some(error.line as u64), Some(error.offset as u64));
            return verdict.trouble(Trouble {
                file: name,
                line,
                byte,
                what: format!("no consistency proof: {error}"),
            });
        }
    };
    let believed = match sealed::believed(proof.checkpoint.as_bytes(), trust) {
        Ok(believed) => believed,
        Err(Unbelieved::Trust(error)) if error.is_forgery() => {
            let detail = format!("{name:?}: {error}");
            return verdict.found(Finding { class: "checkpoint_mismatch", detail, ..Finding::default() });
        }
        Err(error) => return verdict.trouble_with(name, error.to_string()),
    };
    let (origin, size) = (believed.checkpoint.origin.clone(), believed.checkpoint.size);
    history.add(believed, verdict);
    let Some(log) = history.log_mut(&origin) else { return };
    let (Some(old), Some(new)) = (log.points.get(&proof.old_size), log.points.get(&size)) else {
        let what = format!("there is no checkpoint of {} events of {origin:?} to begin with", proof.old_size);
        return verdict.trouble_with(name, what);
    };
    match verify_consistency(proof.old_size, size, &old.root, &new.root, &proof.path) {
        // Every tree in between has its place in both only if it is proven, too.
        Ok(()) => prove(log, proof.old_size, size),
        // Anyone can write a proof that does not hold: it says nothing.
        Err(error) => verdict.trouble_with(name, error.to_string()),
    }
}

fn prove(log: &mut Log, old: u64, new: u64) {
    let before = log.points.range(..new).next_back().map(|(size, _)| *size);
    if before == Some(old)
        && let Some(point) = log.points.get_mut(&new)
    {
        point.proven = true;
    }
}

/// Makes a proof for each two checkpoints of each log that follow on each other, from tiles below `folder`: those of a log are in
/// `<tenant as in its origin>[/<epoch>]/tile/..` as C2SP tlog-tiles names them.
pub fn tiles(folder: &Path, bases: &[String], history: &mut History, verdict: &mut Verdict) {
    for (origin, log) in history.logs_mut() {
        let rest = bases.iter().find_map(|base| origin.strip_prefix(base.as_str())?.strip_prefix('/'));
        let Some(rest) = rest else { continue };
        let source = Folder(folder.join(rest));
        let sizes: Vec<u64> = log.points.keys().copied().collect();
        for pair in sizes.windows(2) {
            let [old, new] = [pair[0], pair[1]];
            let path = match consistency_proof(old, new, &source) {
                Ok(path) => path,
                Err(error) => {
                    verdict.trouble_with(source.0.display().to_string(), error.to_string());
                    break;
                }
            };
            let roots = (log.points[&old].root, log.points[&new].root);
            match verify_consistency(old, new, &roots.0, &roots.1, &path) {
                Ok(()) => prove(log, old, new),
                Err(error) => {
                    let what = format!("the tiles do not lead from {old} to {new} events: {error}");
                    verdict.trouble_with(source.0.display().to_string(), what);
                    break;
                }
            }
        }
    }
}

/// Tiles as files.
struct Folder(PathBuf);

impl TileSource for Folder {
    type Error = String;

    fn tile(&self, level: u8, index: u64, width: u16) -> Result<Vec<Digest>, String> {
        let full = Tile { level, index, hashes: vec![Digest::GENESIS; usize::from(WIDTH)] }.path();
        let path = self.0.join(&full);
        let path = if path.is_file() { path } else { self.partial(&full, width)? };
        let bytes = sealed::read_file(&path, 32 * u64::from(WIDTH))
            .map_err(|what| format!("{} {what}", path.display()))?;
        let (hashes, []) = bytes.as_chunks::<32>() else {
            return Err(format!("{} is no tile", path.display()));
        };
        Ok(hashes.iter().map(|hash| Digest::new(*hash)).collect())
    }
}

impl Folder {
    /// The narrowest partial tile that is wide enough.
    fn partial(&self, full: &str, width: u16) -> Result<PathBuf, String> {
        let folder = self.0.join(format!("{full}.p"));
        let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let widths = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u16>().ok());
        let wide = widths.filter(|found| (width..WIDTH).contains(found)).min();
        wide.map(|found| folder.join(found.to_string()))
            .ok_or_else(|| format!("{} has no tile of {width} hashes", folder.display()))
    }
}
