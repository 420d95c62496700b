//! The anchors of a bundle: that a checkpoint of the log was fixed outside the database, in a batch with those of others.
//!
//! ```text
//! --- anchor evm
//! tree 109482 sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=
//! consistency
//! <hashes, one a line>
//! batch 17 10000
//! <hashes, one a line>
//! payload
//! <one line of JSON>
//! ```
//!
//! `tree` is size and root of the checkpoint that was anchored, whose origin is the bundle's. `consistency` is the path between
//! it and the bundle's checkpoint, from the smaller tree to the larger; empty when both are the same. `batch` is the leaf index
//! of the anchored checkpoint's body in the batch, the number of leaves there, and its inclusion path. The payload is the
//! driver's evidence for the batch's root, and nothing of it is known here.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Error, Lines, What, push_hashes};
use crate::checkpoint::{decimal, hash};
use crate::digest::Digest;

/// Bytes of a kind at most.
const MAX_KIND: usize = 32;

/// Bytes of a payload at most.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// Evidence that a checkpoint was fixed outside the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Which driver made it: lower-case letters, digits and `-`, as `file`, `evm` or `rfc3161`.
    pub kind: String,
    /// Size of the anchored checkpoint.
    pub tree_size: u64,
    /// Its root.
    pub root: Digest,
    /// From the smaller of the anchored and the bundle's tree to the larger.
    pub consistency: Vec<Digest>,
    /// Leaf index of the anchored checkpoint's body in the batch.
    pub batch_index: u64,
    /// Checkpoints in the batch.
    pub batch_size: u64,
    /// Its inclusion path in the batch.
    pub batch_path: Vec<Digest>,
    /// The driver's evidence: one line of JSON, without a newline.
    pub payload: String,
}

impl Anchor {
    pub(super) fn write(&self, out: &mut String) {
        let root = STANDARD.encode(self.root.as_bytes());
        out.push_str(&format!("--- anchor {}\ntree {} {root}\nconsistency\n", self.kind, self.tree_size));
        push_hashes(out, &self.consistency);
        out.push_str(&format!("batch {} {}\n", self.batch_index, self.batch_size));
        push_hashes(out, &self.batch_path);
        out.push_str(&format!("payload\n{}\n", self.payload));
    }

    /// Reads what follows the line with the kind.
    pub(super) fn parse(kind: &str, lines: &mut Lines<'_>) -> Result<Self, Error> {
        let tree = lines.next()?.strip_prefix("tree ").and_then(|rest| rest.split_once(' '));
        let tree = tree.and_then(|(size, root)| Some((decimal(size)?, hash(root)?)));
        let (tree_size, root) = tree.ok_or(lines.wrong(What::Anchor))?;
        if lines.next()? != "consistency" {
            return Err(lines.wrong(What::Anchor));
        }
        let batch = |line: &str| {
            let (index, size) = line.strip_prefix("batch ")?.split_once(' ')?;
            Some((decimal(index)?, decimal(size)?))
        };
        let (consistency, (batch_index, batch_size)) = lines.path_to(batch)?;
        let batch_path = lines.path("payload")?;
        let payload = lines.next()?;
        if payload.is_empty() || payload.len() > MAX_PAYLOAD || payload.starts_with("--- ") {
            return Err(lines.wrong(What::Anchor));
        }
        let (kind, payload) = (kind.to_string(), payload.to_string());
        Ok(Self { kind, tree_size, root, consistency, batch_index, batch_size, batch_path, payload })
    }
}

pub(super) fn is_kind(kind: &str) -> bool {
    (1..=MAX_KIND).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
