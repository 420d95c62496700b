//! How patient the machine is. Every value is in seconds.

use serde::{Deserialize, Serialize};

/// How patient the machine is, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// The pause after a failed attempt.
    pub retry_every: u64,
    /// A person is called for trouble that lasts this long.
    pub page_after: u64,
    /// How often a sent attempt is looked for until it is included.
    pub look_every: u64,
    /// How often an inclusion is looked at until it is final.
    pub look_final_every: u64,
    /// The pause after a failed look.
    pub look_again: u64,
    /// A sent attempt that is not included by then is replaced with higher fees.
    pub replace_after: u64,
    /// An inclusion that is not final by then is trouble.
    pub final_within: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retry_every: 60 * 60,
            page_after: 6 * 60 * 60,
            look_every: 30,
            look_final_every: 60,
            look_again: 5 * 60,
            replace_after: 10 * 60,
            final_within: 6 * 60 * 60,
        }
    }
}

impl Policy {
    /// The longest the machine ever waits on purpose.
    pub(super) fn longest_wait(&self) -> u64 {
        [self.retry_every, self.page_after, self.look_every, self.look_final_every, self.look_again]
            .into_iter()
            .max()
            .unwrap_or(0)
    }
}
