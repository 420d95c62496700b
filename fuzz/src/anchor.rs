//! What every input must satisfy where the outside is read: answers of nodes, tokens of authorities, the anchor file, evidence. One
//! check for each fuzz target, as in `lib.rs`; `crates/anchor/tests/fuzzed.rs` runs them on any machine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a check that fails panics")]

use alloy_primitives::B256;
use serde_json::Value;
use zeroauth_audit_anchor::batch::{Batch, Hash, Moment};
use zeroauth_audit_anchor::evidence::{Error, Trust, Verdict, evm, verify_evidence};
use zeroauth_audit_anchor::evm::answer::{Block, Log, Receipt, Transaction, read};
use zeroauth_audit_anchor::evm::contract;
use zeroauth_audit_anchor::evm::signed::SignedTransaction;
use zeroauth_audit_anchor::evm::trie;
use zeroauth_audit_anchor::file::entry;
use zeroauth_audit_anchor::rfc3161::token::{Authorities, verify};
use zeroauth_audit_core::note::SigningKey;

/// A check, by the name of its target and of its corpus.
pub type Check = fn(&[u8]);

/// Every check there is.
pub const CHECKS: [(&str, Check); 4] = [
    ("anchor_answer", answer),
    ("anchor_evidence", evidence),
    ("anchor_file", file),
    ("anchor_token", token),
];

/// What the tokens of the corpus are of.
pub const STAMPED: [u8; 32] = [7; 32];
/// Who vouches for them.
const ROOT: &[u8] = include_bytes!("anchor_root.pem");

/// The key of the corpus's anchor files.
#[must_use]
pub fn key() -> SigningKey {
    SigningKey::from_seed("example.org/audit", &[1; 32]).unwrap()
}

/// The batch of the corpus.
#[must_use]
pub fn batch(epoch: u64) -> Batch {
    Batch {
        log_id: Batch::log_id("example.org/audit"),
        epoch,
        root: Hash::sha256(format!("root {epoch}").as_bytes()),
        size: 10_000,
        batch_time: Moment(1_790_000_000),
    }
}

fn trust() -> Trust {
    Trust { authorities: Authorities::from_pem(ROOT).unwrap(), keys: vec![key().verifier_key()] }
}

/// Bytes that claim to be an answer of a node: whatever can be read of it can be written, and is then read as the same.
pub fn answer(data: &[u8]) {
    let Ok(answer) = read(data, 1) else { return };
    let result: Value = match answer {
        Ok(result) => result,
        Err(error) => {
            let _ = error.meaning();
            let _ = contract::refusal(&error.data.clone().unwrap_or_default());
            return;
        }
    };
    if let Ok(block) = serde_json::from_value::<Block>(result.clone())
        && let Some(header) = trie::header(&block)
    {
        let fields = trie::read_header(&header).expect("a header that was written is read");
        assert_eq!(fields.receipts_root, block.receipts_root);
        assert_eq!((fields.number, fields.timestamp), (block.number.to(), block.timestamp.to()));
    }
    if let Ok(receipt) = serde_json::from_value::<Receipt>(result.clone()) {
        let bytes = trie::receipt(&receipt);
        let plain = receipt.kind.to::<u64>() < 0x7e && receipt.logs_bloom.len() == 256;
        if let Some(events) = trie::read_receipt(&bytes) {
            assert!(receipt.status.to::<u64>() == 1, "a failure is read as a success");
            assert_eq!(events.len(), receipt.logs.len());
        } else {
            assert!(!plain || receipt.status.to::<u64>() != 1, "a success cannot be read");
        }
        let (root, proof) = trie::prove(&[bytes.clone(), bytes.clone()], 1);
        assert!(trie::is_proven(root, 1, &bytes, &proof), "what was proven is not");
        assert!(!trie::is_proven(B256::ZERO, 1, &bytes, &proof), "another root proves it, too");
    }
    if let Ok(logs) = serde_json::from_value::<Vec<Log>>(result.clone()) {
        for log in logs {
            let topics: Vec<Hash> = log.topics.iter().map(|topic| Hash(topic.0)).collect();
            let _ = contract::read_anchored(&topics, &log.data);
        }
    }
    let _ = serde_json::from_value::<Transaction>(result.clone());
    if let Some(bytes) = result.as_str().and_then(|text| hex::decode(text.trim_start_matches("0x")).ok()) {
        let _ = contract::read_anchor_of(&bytes);
        let _ = contract::read_latest(&bytes);
        let _ = trie::read_header(&bytes);
        let _ = trie::read_receipt(&bytes);
        if let Some(transaction) = SignedTransaction::from_bytes(&bytes) {
            assert_eq!(transaction.to_bytes(), bytes, "a transaction is written as it was read");
            let _ = transaction.sender();
            let _ = contract::read_anchor_call(&transaction.input);
        }
    }
}

/// Bytes that claim to be evidence: an error, or a verdict on the one root that it is of, which nothing but that root gets.
pub fn evidence(data: &[u8]) {
    let trust = trust();
    for kind in ["evm", "rfc3161", "file"] {
        let other = Hash([0xee; 32]);
        let check = |root: &Hash| -> Result<Verdict, Error> { verify_evidence(kind, data, root, &trust) };
        let root = match check(&other) {
            Err(Error::OtherRoot { found }) => found,
            Err(_) => continue,
            Ok(_) => other,
        };
        let verdict = check(&root).expect("evidence is of the root that it names");
        assert_eq!(verdict.seal.root, root);
        assert_ne!(check(&Hash([0xdd; 32])).err(), None, "{kind}: any root will do");
    }
    // Half of the way without its hash: the parts are read, whatever they are.
    if let Ok(evidence) = serde_json::from_slice::<evm::Evidence>(data) {
        let _ = trie::read_header(&evidence.header);
        let _ = trie::read_receipt(&evidence.receipt);
        let (index, proof) = (evidence.receipt_index, &evidence.receipt_proof);
        if let Some(first) = proof.first() {
            let root = alloy_primitives::keccak256(first);
            let _ = trie::is_proven(root, index, &evidence.receipt, proof);
        }
        let _ = SignedTransaction::from_bytes(&evidence.transaction).and_then(|signed| signed.sender());
    }
}

/// Bytes that claim to be an anchor file: an error, or a chain to which a line can be added without changing any other.
pub fn file(data: &[u8]) {
    let keys = [key().verifier_key()];
    let Ok(contents) = entry::read(data, &keys) else { return };
    let next = contents.entries.iter().map(|entry| entry.batch.epoch).max().unwrap_or(0);
    let Some(epoch) = next.checked_add(1) else { return };
    let line = entry::line(&batch(epoch), Moment(5), contents.link(), &key());
    let start = if contents.is_ended { "" } else { "\n" };
    let longer = [data, start.as_bytes(), line.as_bytes(), b"\n"].concat();
    let again = entry::read(&longer, &keys).expect("a line was added to a whole file");
    assert_eq!(again.entries[..contents.entries.len()], contents.entries[..]);
    assert_eq!(again.entries.len(), contents.entries.len() + 1);
    assert!(again.is_ended);
}

/// Bytes that claim to be a token: an error, or a token of the one hash that it is of.
pub fn token(data: &[u8]) {
    let trusted = Authorities::from_pem(ROOT).unwrap();
    let told = verify(data, &STAMPED, None, &trusted);
    assert!(verify(data, &[8; 32], None, &trusted).is_err(), "a token of any data");
    if let Ok(told) = told {
        assert_eq!(verify(data, &STAMPED, None, &trusted), Ok(told));
    }
    assert!(verify(data, &STAMPED, None, &Authorities::default()).is_err(), "nobody vouches for it");
}
