//! How patient the machine is. Every value is in seconds.

use serde::{Deserialize, Serialize};

/// How patient the machine is, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// After a failed attempt the next one is so much later.
    pub retry_every: u64,
    /// Trouble that lasts so long calls a person.
    pub page_after: u64,
    /// What was sent is looked for this often until it is included.
    pub look_every: u64,
    /// What is included is looked at this often until it is final.
    pub look_final_every: u64,
    /// A failed look is repeated so much later.
    pub look_again: u64,
    /// What was sent and is not included by then is sent again with higher fees.
    pub replace_after: u64,
    /// What is included and not final by then is trouble.
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
