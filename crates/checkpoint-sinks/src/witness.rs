//! A witness as a sink (C2SP tlog-witness): shown a checkpoint and the proof that it grew from the last one that it saw, it
//! signs that it saw it.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::Agent;
use zeroauth_audit_transport::{Endpoint, agent, failure, file};

/// One request takes no longer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Room for a few signature lines, or for a size.
const MOST_ANSWER_BYTES: u64 = 16 * 1024;
const PATH: &str = "/add-checkpoint";
/// Content type of an answer that is a tree size.
const SIZE: &str = "text/x.tlog.size";

/// A checkpoint to show to a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Tree size of the last checkpoint that it is thought to have seen, 0 for none.
    pub old_size: u64,
    /// Consistency proof from there.
    pub proof: Vec<[u8; 32]>,
    /// The signed checkpoint.
    pub note: String,
}

/// What a witness answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It signed: signature lines, not checked yet.
    Cosigned(String),
    /// The last checkpoint that it saw has another tree size.
    SawSize(u64),
    /// The proof does not lead from what it saw to this checkpoint.
    Inconsistent,
    /// It does not take checkpoints of this origin or key.
    Refused(String),
}

/// A witness.
pub struct Witness {
    endpoint: Endpoint,
    agent: Agent,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Witness(..)")
    }
}

impl Witness {
    /// Reads its files. The error says which of them is at fault, and nothing of its content.
    pub fn open(url_file: &Path, ca_file: Option<&Path>) -> Result<Self, String> {
        Self::open_within(url_file, ca_file, DEADLINE)
    }

    /// As [`Witness::open`], with another deadline than [`DEADLINE`].
    pub fn open_within(url_file: &Path, ca_file: Option<&Path>, deadline: Duration) -> Result<Self, String> {
        let url = file::secret(url_file, "URL")?;
        let text = url.text().ok_or("the URL file does not hold one URL")?;
        let endpoint = Endpoint::parse(text, PATH)?;
        let agent = agent::agent(&endpoint, ca_file, deadline)?;
        Ok(Self { endpoint, agent })
    }

    /// One request. `Err` when there was no valid answer: the witness may have signed all the same, and says so when it
    /// is shown the checkpoint again.
    pub fn add_checkpoint(&self, shown: &Shown) -> Result<Answer, String> {
        let mut body = format!("old {}\n", shown.old_size);
        for hash in &shown.proof {
            body.push_str(&STANDARD.encode(hash));
            body.push('\n');
        }
        body.push('\n');
        body.push_str(&shown.note);
        let mut request =
            self.agent.post(&self.endpoint.uri).header("Content-Type", "text/plain; charset=utf-8");
        if let Some(authorization) = &self.endpoint.authorization {
            request = request.header("Authorization", authorization);
        }
        let mut response = request.send(body).map_err(|error| failure::describe(&error))?;
        let status = response.status().as_u16();
        let size_follows = response
            .headers()
            .get("content-type")
            .and_then(|kind| kind.to_str().ok())
            .and_then(|kind| kind.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(SIZE));
        let mut text = || {
            let body = response.body_mut().with_config().limit(MOST_ANSWER_BYTES);
            body.read_to_string().map_err(|error| failure::describe(&error))
        };
        match status {
            200 => Ok(Answer::Cosigned(text()?)),
            409 if size_follows => tree_size(&text()?)
                .map(Answer::SawSize)
                .ok_or_else(|| "the witness answered 409 without a size".to_owned()),
            409 => Err("the witness answered 409 without a size".to_owned()),
            422 => Ok(Answer::Inconsistent),
            400..=499 if ![408, 425, 429].contains(&status) => {
                Ok(Answer::Refused(format!("the witness answered {status}")))
            }
            _ => Err(format!("the witness answered {status}")),
        }
    }
}

/// A tree size as the specification writes it: decimal without leading zeros, and a newline.
fn tree_size(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('\n')?;
    let size: u64 = digits.parse().ok()?;
    // Larger ones than a database could count are none.
    (size.to_string() == digits && i64::try_from(size).is_ok()).then_some(size)
}
