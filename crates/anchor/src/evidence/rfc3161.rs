//! Evidence of a time stamp: the token, with the certificates that came with it, and the statement that it is of.

use serde::{Deserialize, Serialize};

use super::{Error, RestsOn, Verdict};
use crate::batch::{Batch, Hash, Moment, Seal};
use crate::rfc3161::token::{self, Authorities};

/// Evidence of a time stamp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Of this format.
    pub version: u32,
    /// The log.
    pub log_id: Hash,
    /// Its epoch.
    pub epoch: u64,
    /// What was stamped.
    pub seal: Seal,
    /// The token: a ContentInfo as DER, in hexadecimal digits.
    pub token: String,
}

impl Evidence {
    /// Of a batch and its token.
    #[must_use]
    pub fn new(batch: &Batch, token: impl AsRef<[u8]>) -> Self {
        let token = hex::encode(token);
        Self { version: 1, log_id: batch.log_id, epoch: batch.epoch, seal: batch.seal(), token }
    }

    /// Checks all of it; `root` is the root that must be stamped, and `trusted` vouch for the authority.
    pub fn verify(&self, root: &Hash, trusted: &Authorities) -> Result<Verdict, Error> {
        if self.version != 1 {
            return Err(Error::Unknown);
        }
        let token = hex::decode(&self.token).map_err(|_| Error::Malformed("the token"))?;
        if hex::encode(&token) != self.token {
            return Err(Error::Malformed("the token is not written as it would be"));
        }
        let Seal { root: found, size, batch_time } = self.seal;
        let batch = Batch { log_id: self.log_id, epoch: self.epoch, root: found, size, batch_time };
        let hash = Hash::sha256(batch.statement().as_bytes());
        let verified = token::verify(&token, &hash.0, None, trusted)?;
        if found != *root {
            return Err(Error::OtherRoot { found });
        }
        let anchored_at =
            i64::try_from(verified.seconds).map_err(|_| Error::Malformed("the time of the token"))?;
        Ok(Verdict {
            log_id: Some(self.log_id),
            epoch: Some(self.epoch),
            seal: self.seal,
            anchored_at: Moment(anchored_at),
            rests_on: RestsOn::Authority {
                name: verified.authority,
                serial: verified.serial,
                policy: verified.policy,
            },
        })
    }
}
