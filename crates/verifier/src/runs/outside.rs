//! What others said of the registry: witnesses, monitors and anchors, and whoever kept a checkpoint.

use zeroauth_audit_core::Digest;
use zeroauth_audit_core::checkpoint::Checkpoint;
use zeroauth_audit_core::registry::run::{Head, Tail};
use zeroauth_audit_core::trust::Registry;

use super::{RunFile, Runs, found};
use crate::verdict::{Finding, Verdict};

impl Runs<'_> {
    /// A finding unless the registry has had the state of a checkpoint that was kept.
    pub fn remember(&self, kept: &Registry, verdict: &mut Verdict) {
        let Checkpoint { origin, size, root } = &kept.checkpoint;
        let Some(state) = &self.state else { return };
        if self.newest.as_ref().is_none_or(|newest| newest.origin != *origin) {
            return verdict.trouble_with(origin.clone(), "a checkpoint was kept that is of another registry");
        }
        let at = self.checkpoints.partition_point(|(known, _)| known < size);
        let detail = match self.checkpoints.get(at) {
            Some((known, is)) if known == size && is == root => return,
            Some((known, _)) if known == size => {
                format!("the kept checkpoint of {size} entries has another root")
            }
            Some(_) if *size < self.begun => {
                let what = format!("the kept checkpoint of {size} entries is older than the first file");
                return verdict.trouble_with(origin.clone(), what);
            }
            None => {
                let detail =
                    format!("a checkpoint of {size} entries was kept, and there are {}", state.replay.size());
                return found("tail_truncated", None, detail, verdict);
            }
            Some(_) => format!("no run ended with the {size} entries of the kept checkpoint"),
        };
        found("checkpoint_mismatch", None, detail, verdict);
    }

    /// Cosignatures and anchors, which are about states that were read.
    pub(super) fn outside(&mut self, file: &RunFile, head: &Head, tail: &Tail<'_>, verdict: &mut Verdict) {
        for note in &tail.cosigned {
            let believed = match self.trust.registry(note.as_bytes()) {
                Ok(believed) => believed,
                Err(error) => {
                    let detail = format!("{:?}, cosigned: {error}", file.name());
                    found("checkpoint_mismatch", None, detail, verdict);
                    continue;
                }
            };
            let (size, root) = (believed.checkpoint.size, believed.checkpoint.root);
            self.is_state(size, &root, "checkpoint_mismatch", file, head, verdict);
            let monitors: Vec<String> = believed.monitors.into_iter().map(|(name, _)| name).collect();
            if !monitors.is_empty() {
                self.monitored = Some((size, monitors));
            }
            let witnesses: Vec<String> = believed.witnesses.into_iter().map(|(name, _)| name).collect();
            if !witnesses.is_empty() && witnesses.len() >= self.quorum {
                self.witnessed = Some((size, witnesses));
            }
        }
        for anchor in &tail.anchored {
            self.anchors += 1;
            self.is_state(anchor.size, &anchor.root, "anchor_mismatch", file, head, verdict);
        }
    }

    /// A finding unless the registry had this root at this size; nothing is known of sizes before the first file.
    fn is_state(
        &self,
        size: u64,
        root: &Digest,
        class: &'static str,
        file: &RunFile,
        head: &Head,
        verdict: &mut Verdict,
    ) {
        let name = file.name();
        if size > head.size.0 {
            let detail = format!("{name:?} is about {size} entries, before there were so many");
            return found(class, None, detail, verdict);
        }
        let at = self.checkpoints.partition_point(|(known, _)| *known < size);
        match self.checkpoints.get(at) {
            Some((known, is)) if *known == size && is != root => {
                let detail = format!("{name:?} has another root for {size} entries");
                verdict.found(Finding { class, detail, ..Finding::default() }.hashes(is, root));
            }
            Some((known, _)) if *known > size && self.begun == 0 && self.skipped == 0 => {
                let detail = format!("{name:?} is about {size} entries, which no run ended with");
                found(class, None, detail, verdict);
            }
            _ => {}
        }
    }
}
