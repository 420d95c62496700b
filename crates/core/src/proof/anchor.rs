//! The anchors of a bundle: that the registry, as it was at some size, was fixed outside the database.
//!
//! ```text
//! --- anchor evm
//! tree 109482 sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=
//! consistency
//! <hashes, one a line>
//! payload
//! <one line of JSON>
//! ```
//!
//! `tree` is size and root of the registry that was anchored, whose origin is the bundle's. `consistency` is the path between it and
//! the bundle's checkpoint, from the smaller tree to the larger; empty when both are the same. The payload is the driver's evidence for
//! that size and root, and nothing of it is known here.

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

/// Evidence that the registry was fixed outside the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Which driver made it: lower-case letters, digits and `-`, as `file`, `evm` or `rfc3161`.
    pub kind: String,
    /// Entries that were anchored.
    pub tree_size: u64,
    /// Their root.
    pub root: Digest,
    /// From the smaller of the anchored and the bundle's tree to the larger.
    pub consistency: Vec<Digest>,
    /// The driver's evidence: one line of JSON, without a newline.
    pub payload: String,
}

impl Anchor {
    pub(super) fn write(&self, out: &mut String) {
        let root = STANDARD.encode(self.root.as_bytes());
        out.push_str(&format!("--- anchor {}\ntree {} {root}\nconsistency\n", self.kind, self.tree_size));
        push_hashes(out, &self.consistency);
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
        let consistency = lines.path("payload")?;
        let payload = lines.next()?;
        if payload.is_empty() || payload.len() > MAX_PAYLOAD || payload.starts_with("--- ") {
            return Err(lines.wrong(What::Anchor));
        }
        let (kind, payload) = (kind.to_string(), payload.to_string());
        Ok(Self { kind, tree_size, root, consistency, payload })
    }
}

pub(super) fn is_kind(kind: &str) -> bool {
    (1..=MAX_KIND).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
