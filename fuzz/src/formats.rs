//! Checks of the readers of signed notes, checkpoints, bundles, files of checkpoints, entries, run files, keys and origins: whatever is read is written
//! as it was, so no text is read that nobody would have written, and what was read does not contradict itself.

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::{inclusion_root, verify_consistency, verify_inclusion};
use zeroauth_audit_core::note::{self, Note, SigningKey, VerifierKey};
use zeroauth_audit_core::origin::Base;
use zeroauth_audit_core::proof::{Bundle, Consistency};
use zeroauth_audit_core::registry::Entry;
use zeroauth_audit_core::registry::entry::Log;
use zeroauth_audit_core::registry::replay::Replay;
use zeroauth_audit_core::registry::run::{self, Block, Reader, Writer};
use zeroauth_audit_core::trust::Trust;

/// The key of the corpus.
const KEY: &str = "log.example/audit+5f469888+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

/// Bytes that claim to be a signed note: what is believed of it is what is written in it.
pub fn signed_note(data: &[u8]) {
    let Ok(note) = Note::parse(data) else { return };
    assert!(note.text().ends_with('\n') && data.starts_with(note.text().as_bytes()));
    assert!((1..=note::MAX_SIGNATURES).contains(&note.signatures().len()));
    assert!(note.signatures().iter().all(|signature| !signature.bytes.is_empty()));
    let key = VerifierKey::parse(KEY).unwrap();
    let mut trust = Trust::new();
    trust.add_log(key).unwrap();
    if let Ok(believed) = trust.open(data) {
        assert_eq!(believed.checkpoint.body(), note.text());
        let base = Base::parse("log.example/audit").unwrap();
        assert_eq!(base.origin(&believed.tenant, believed.epoch).unwrap(), believed.checkpoint.origin);
    }
}

/// Bytes that claim to be the body of a checkpoint.
pub fn checkpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(read) = Checkpoint::parse(text) {
        assert_eq!(read.body(), text, "two ways to write one checkpoint");
    }
}

/// Bytes that claim to be a proof bundle.
pub fn bundle(data: &[u8]) {
    match Bundle::parse(data) {
        Ok(bundle) => {
            let text = bundle.format();
            assert_eq!(Bundle::parse(text.as_bytes()).as_ref(), Ok(&bundle));
            assert_eq!(text.as_bytes(), data, "two ways to write one bundle");
            let leaf = Digest::GENESIS;
            if let Ok(root) = inclusion_root(bundle.index, u64::MAX, &leaf, &bundle.path) {
                assert_eq!(verify_inclusion(bundle.index, u64::MAX, &leaf, &bundle.path, &root), Ok(()));
            }
            for anchor in &bundle.anchors {
                let root = &anchor.root;
                let _ = verify_consistency(bundle.index, anchor.tree_size, &leaf, root, &anchor.consistency);
            }
        }
        Err(error) => {
            assert!(error.offset <= data.len());
            let before = data[..error.offset].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(error.line, before + 1, "the line is not that of the byte");
        }
    }
    if let Ok(proof) = Consistency::parse(data) {
        assert_eq!(proof.format().as_bytes(), data, "two ways to write one proof");
    }
}

/// Bytes that claim to be an entry of the registry.
pub fn registry_entry(data: &[u8]) {
    if let Ok(entry) = Entry::parse(data) {
        assert_eq!(entry.text().as_bytes(), data, "two ways to write one entry");
    }
}

/// Bytes that claim to be a run file. A reader takes whatever is in it, from the beginning of a registry and from a snapshot.
pub fn run_file(data: &[u8]) {
    let Ok(mut reader) = Reader::new(data) else { return };
    let head = reader.head().clone();
    let mut blocks: Vec<Block<'_>> = Vec::new();
    while let Ok(Some(block)) = reader.block() {
        blocks.push(block);
    }
    let mut replays = vec![Replay::new("log.example/audit")];
    let edge = head.edge.clone().unwrap_or_default();
    replays.push(Replay::at_snapshot("log.example/audit", head.size.0, edge).0);
    for mut replay in replays {
        for block in &blocks {
            let older = Replay::needs(&block.entry).map(|_| &blocks[0].entry);
            let older: Option<&Log> =
                older.and_then(|entry| if let Entry::Log(log) = entry { Some(log) } else { None });
            let _ = replay.add(block, older);
        }
        assert!(replay.logs().all(|(_, log)| log.size > 0));
        let (size, root) = (replay.size(), replay.root());
        let _ = replay.checkpoint(size, &root);
    }
    let Ok(tail) = reader.tail() else { return };
    if blocks.len() as u64 != head.size.1 - head.size.0 {
        return;
    }
    assert_eq!(run::number(&run::name(head.number).unwrap()), Some(head.number));
    let mut writer = Writer::new(&head);
    for block in &blocks {
        writer.entry(block.text, block.edge.as_deref(), &block.intervals, block.growth.as_deref());
    }
    assert_eq!(
        writer.finish(tail.checkpoint, &tail.cosigned, &tail.anchored).as_bytes(),
        data,
        "two ways to write one file"
    );
}

/// Bytes that claim to be a key, or an origin.
pub fn key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text.trim_ascii(), "two ways to write one key");
    }
    if let Ok(key) = SigningKey::parse(text) {
        assert_eq!(key.to_key_file().trim_ascii(), text.trim_ascii(), "two ways to write one key file");
        let public = key.verifier_key().to_string();
        assert!(VerifierKey::parse(&public).is_ok());
    }
    if let Ok(base) = Base::parse(text) {
        assert_eq!(base.as_str(), text);
    }
    let base = Base::parse("b").unwrap();
    if let Ok((tenant, epoch)) = base.read(text) {
        assert_eq!(base.origin(&tenant, epoch).as_deref(), Ok(text), "two ways to write one origin");
    }
}
