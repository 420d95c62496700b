//! The registry as tiles, as the program writes them: read by Cloudflare's `tlog_tiles` and `signed_note`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, Tile, TileHashReader, TileReader, check_record, prove_record, record_hash,
};

struct Mirror(PathBuf);

impl TileReader for Mirror {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        // Theirs has the height in its path, as Go's has; C2SP left it out.
        let path = |tile: &Tile| self.0.join(tile.path().replacen("tile/8/", "tile/", 1));
        tiles.iter().map(|tile| fs::read(path(tile)).map_err(|_| Error::InvalidTile)).collect()
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../core/tests/vectors/registry_v1.json")).unwrap()
}

/// Writes a history, and runs the program over it: its exit code.
fn mirrored(history: &Value, folder: &Path, out: &Path) -> i32 {
    for file in history["files"].as_array().unwrap() {
        let day = folder.join(file["day"].as_str().unwrap());
        fs::create_dir_all(&day).unwrap();
        fs::write(
            day.join(format!("{:012}.run", file["number"].as_u64().unwrap())),
            file["text"].as_str().unwrap(),
        )
        .unwrap();
    }
    let mut program = Command::new(env!("CARGO_BIN_EXE_zeroauth-audit"));
    program.arg("tiles").arg(folder).arg("--out").arg(out);
    for key in history["vkeys"].as_array().unwrap() {
        program.arg("--key").arg(key.as_str().unwrap());
    }
    program.output().unwrap().status.code().unwrap()
}

#[test]
fn the_registry_as_tiles_is_read_by_others() {
    let vectors = vectors();
    let mut read = 0;
    // The others are about what a reader sees that begins later.
    for history in vectors["histories"].as_array().unwrap().iter().filter(|history| history["first"] == 1) {
        let good = history["problems"].as_array().unwrap().is_empty()
            && history["restores"].as_array().is_none_or(Vec::is_empty);
        let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let code = mirrored(history, folder.path(), out.path());
        assert_eq!(code == 0, good, "{}", history["name"]);
        if !good {
            assert!(!out.path().join("checkpoint").exists(), "{}", history["name"]);
            continue;
        }
        // Again: nothing is written that is there.
        assert_eq!(mirrored(history, folder.path(), out.path()), 0);
        let keys = history["vkeys"].as_array().unwrap().iter().map(|key| {
            Box::new(StandardVerifier::new(key.as_str().unwrap()).unwrap()) as Box<dyn signed_note::Verifier>
        });
        let known = VerifierList::new(keys.collect());
        let note = fs::read(out.path().join("checkpoint")).unwrap();
        let note = Note::from_bytes(&note).unwrap();
        let verified = note.verify(&known);
        // After a rotation the new key signs, which those that only have the old one do not know.
        if history["name"] != "rotation_of_the_key" {
            verified.unwrap();
        }
        let checkpoint = Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!(checkpoint.size(), history["size"].as_u64().unwrap());
        let root = Hash(checkpoint.hash().0);
        let mirror = Mirror(out.path().to_owned());
        let reader = TileHashReader::new(checkpoint.size(), root, &mirror);
        let mut entries = entries(out.path(), checkpoint.size());
        for (index, entry) in (0..).zip(&mut entries) {
            let proof = prove_record(checkpoint.size(), index, &reader).unwrap();
            check_record(&proof, checkpoint.size(), root, index, record_hash(entry)).unwrap();
        }
        assert_eq!(entries.len() as u64, checkpoint.size());
        read += 1;
    }
    assert!(read >= 5, "{read} histories");
}

/// The entries of the bundles.
fn entries(out: &Path, size: u64) -> Vec<Vec<u8>> {
    assert!(size < 256, "one bundle is all that the histories need");
    let bundle = fs::read(out.join(format!("tile/entries/000.p/{size}"))).unwrap();
    let (mut rest, mut entries) = (&bundle[..], Vec::new());
    while let [high, low, after @ ..] = rest {
        let (entry, more) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        entries.push(entry.to_vec());
        rest = more;
    }
    entries
}
