//! Writes a large made-up trail: `trail FOLDER EVENTS CHAINS CHECKPOINTS` makes `export.jsonl`, `intervals.jsonl`, `checkpoint`
//! and `key.pub` there, for measuring the verifier.

#[path = "../tests/support/trail.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "the tests use all of it, and stop where they cannot go on")]
mod trail;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::merkle::leaf_hash;
use zeroauth_audit_core::range::Frontier;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, events, chains, checkpoints] = &arguments[..] else {
        eprintln!("trail FOLDER EVENTS CHAINS CHECKPOINTS");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<u64>().map_err(std::io::Error::other);
    let (events, chains, checkpoints) = (number(events)?, number(chains)?, number(checkpoints)?);
    let folder = Path::new(folder);
    let of_chain = events / chains;
    let mut export = BufWriter::with_capacity(1 << 20, File::create(folder.join("export.jsonl"))?);
    let mut hashes: Vec<Vec<Digest>> = Vec::new();
    for chain in 0..chains {
        let mut of_it = Vec::new();
        let mut prev = Digest::GENESIS;
        for seq in 1..=of_chain {
            let (line, hash) = trail::event("acme", chain as i16, seq as i64, &prev);
            export.write_all(line.as_bytes())?;
            export.write_all(b"\n")?;
            of_it.push(hash);
            prev = hash;
        }
        hashes.push(of_it);
    }
    export.flush()?;
    let mut intervals = BufWriter::new(File::create(folder.join("intervals.jsonl"))?);
    let mut log = Frontier::new();
    for checkpoint in 0..checkpoints {
        let (from, to) = (of_chain * checkpoint / checkpoints, of_chain * (checkpoint + 1) / checkpoints);
        let size = to * chains;
        for (chain, of_it) in hashes.iter().enumerate() {
            for hash in &of_it[from as usize..to as usize] {
                log.push(leaf_hash(hash.as_bytes()));
            }
            writeln!(
                intervals,
                "{{\"tenant_id\":\"acme\",\"epoch\":\"0\",\"tree_size\":\"{size}\",\"chain\":\"{chain}\",\"from\":\"{from}\",\"to\":\"{to}\"}}"
            )?;
        }
    }
    let origin = format!("{}/acme", trail::BASE);
    let checkpoint = Checkpoint { origin, size: log.size(), root: log.root() };
    let note = checkpoint.sign(&trail::key(), trail::BEGIN + 86_400).unwrap_or_default();
    std::fs::write(folder.join("checkpoint"), note)?;
    std::fs::write(folder.join("key.pub"), format!("{}\n", trail::key().verifier_key()))
}
