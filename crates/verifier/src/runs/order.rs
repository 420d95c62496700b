//! The place of a file among the others: numbers without holes, days that do not go back.

use zeroauth_audit_core::registry::run;

use super::{RunFile, Runs, ends, found};
use crate::sealed;
use crate::verdict::Verdict;

impl Runs<'_> {
    /// Whether a file may be read at all; says what is wrong with its place among the others.
    pub(super) fn is_in_order(&mut self, at: usize, verdict: &mut Verdict) -> bool {
        let file = &self.files[at].clone();
        let next = self.files.get(at + 1).filter(|next| next.number == file.number);
        let last = at.checked_sub(1).map(|last| &self.files[last]);
        if last.is_some_and(|last| last.number == file.number) {
            // Told with the first of them.
            return false;
        }
        let mut wrong = None;
        if let Some(next) = next {
            if self.are_both_signed(file, next) {
                let detail = format!(
                    "two different files have number {}: {:?} and {:?}",
                    file.number,
                    file.name(),
                    next.name()
                );
                found("registry_forked", None, detail, verdict);
                self.forget();
                return false;
            }
            wrong = Some(format!("is there again as {:?}", next.name()));
        } else if file.day.is_none() {
            wrong = Some("is in no folder of a day".into());
        } else if let Some(last) = last {
            if file.day < last.day {
                wrong = Some(format!("is in a folder before that of number {}", last.number));
            } else if file.number != last.number + 1 {
                // It may begin with a snapshot: then it is read.
                verdict.trouble_with(
                    file.name(),
                    format!("is preceded by number {}: files are missing", last.number),
                );
                self.forget();
            }
        }
        let Some(what) = wrong else { return true };
        verdict.trouble_with(file.name(), what);
        self.forget();
        false
    }

    /// Whether two files of one number are different, and each signed by a key that is trusted.
    fn are_both_signed(&self, one: &RunFile, other: &RunFile) -> bool {
        let signed = |file: &RunFile| {
            let bytes = sealed::read_file(&file.path, run::MAX_BYTES).ok()?;
            let (_, tail) = ends(&bytes).ok()?;
            self.trust.registry(tail.checkpoint.as_bytes()).ok()?;
            Some(run::digest(&bytes))
        };
        matches!((signed(one), signed(other)), (Some(one), Some(other)) if one != other)
    }
}
