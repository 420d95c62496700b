//! Cloudflare's `signed_note` and `tlog_tiles`, ported from Go's packages.

use signed_note::{Note, Signer, StandardSigner, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Error, Hash, Tile, TileHashReader, TileReader, check_record, check_tree};
use tlog_tiles::{prove_record, prove_tree, tree_hash};
use zeroauth_audit_core::Digest;
use zeroauth_audit_core::merkle::{verify_consistency, verify_inclusion};
use zeroauth_audit_core::note::{self, Algorithm, VerifierKey};
use zeroauth_audit_core::tile::{consistency_proof, inclusion_proof};

use super::{Log, trail};

#[test]
fn a_key_file_is_read_and_signs_the_same() {
    let key = trail::key();
    let theirs = StandardSigner::new(key.to_key_file().trim()).unwrap();
    assert_eq!((theirs.name(), theirs.key_id()), (trail::BASE, key.verifier_key().id()));
    let mut note = Note::new(b"text\n", &[]).unwrap();
    note.add_sigs(&[&theirs]).unwrap();
    let ours = format!("text\n\n{}", key.sign(trail::BASE, "text\n"));
    assert_eq!(String::from_utf8(note.to_bytes()).unwrap(), ours);
}

#[test]
fn a_checkpoint_is_verified_and_read_and_theirs_is_by_us() {
    let log = Log::made();
    let key = trail::key();
    let checkpoint = log.newest();
    let text = checkpoint.sign(&key, trail::BEGIN).unwrap();
    let public = key.verifier_key().renamed(&checkpoint.origin, Algorithm::Ed25519);
    let known = VerifierList::new(vec![Box::new(StandardVerifier::new(&public.to_string()).unwrap())]);
    let note = Note::from_bytes(text.as_bytes()).unwrap();
    let (verified, others) = note.verify(&known).unwrap();
    // The second line is a cosignature, of a kind that they do not know.
    assert_eq!((verified.len(), others.len()), (1, 1));
    let read = Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((read.origin(), read.size()), (checkpoint.origin.as_str(), checkpoint.size));
    assert_eq!(&read.hash().0, checkpoint.root.as_bytes());
    assert_eq!(read.to_bytes(), checkpoint.body().into_bytes());

    let (secret, public) = signed_note::generate_key(&mut rand_core::OsRng, "them.example");
    let theirs = StandardSigner::new(&secret).unwrap();
    let mut note = Note::new(checkpoint.body().as_bytes(), &[]).unwrap();
    note.add_sigs(&[&theirs]).unwrap();
    let bytes = note.to_bytes();
    let ours = note::Note::parse(&bytes).unwrap();
    assert_eq!(ours.verify(&[VerifierKey::parse(&public).unwrap()]).unwrap().len(), 1);
    assert_eq!(note::SigningKey::parse(&secret).unwrap().verifier_key().to_string(), public);
}

/// Gives them our tiles.
impl TileReader for Log {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let data = |tile: &Tile| {
            let ours = self.tiles.get(&(tile.level(), tile.level_index())).ok_or(Error::InvalidTile)?;
            let hashes = ours.hashes.get(..tile.width() as usize).ok_or(Error::InvalidTile)?;
            Ok(hashes.iter().flat_map(|hash| *hash.as_bytes()).collect())
        };
        tiles.iter().map(data).collect()
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

fn digests(hashes: &[Hash]) -> Vec<Digest> {
    hashes.iter().map(|hash| Digest::new(hash.0)).collect()
}

#[test]
fn they_read_our_tiles_and_both_make_the_same_proofs() {
    let log = Log::made();
    let newest = log.newest();
    let root = Hash(*newest.root.as_bytes());
    let reader = TileHashReader::new(newest.size, root, &log);
    assert_eq!(tree_hash(newest.size, &reader).unwrap().0, *newest.root.as_bytes());
    for index in [0, 1, 204, 205, 255, 256, 511, 765] {
        let theirs = prove_record(newest.size, index, &reader).unwrap();
        let ours = inclusion_proof(index, newest.size, &log).unwrap();
        assert_eq!(digests(&theirs), ours);
        let leaf = &log.leaves[index as usize];
        check_record(&theirs, newest.size, root, index, Hash(*leaf.as_bytes())).unwrap();
        assert_eq!(verify_inclusion(index, newest.size, leaf, &digests(&theirs), &newest.root), Ok(()));
    }
    for old in &log.checkpoints[..2] {
        let theirs = prove_tree(newest.size, old.size, &reader).unwrap();
        assert_eq!(digests(&theirs), consistency_proof(old.size, newest.size, &log).unwrap());
        check_tree(&theirs, newest.size, root, old.size, Hash(*old.root.as_bytes())).unwrap();
        let path = digests(&theirs);
        assert_eq!(verify_consistency(old.size, newest.size, &old.root, &newest.root, &path), Ok(()));
    }
}

#[test]
fn tiles_have_the_names_that_they_give_them() {
    let log = Log::made();
    for tile in Tile::new_tiles(8, 0, log.newest().size) {
        let ours = &log.tiles[&(tile.level(), tile.level_index())];
        // Theirs has the height in it, as Go's has; C2SP left it out.
        assert_eq!(ours.path(), tile.path().replacen("tile/8/", "tile/", 1));
        assert_eq!(ours.hashes.len(), tile.width() as usize);
    }
}
