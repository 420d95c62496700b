//! The query of the job `anchor_check`: whether targets still have every anchor, and none that is unknown here.
//!
//! The job cannot query a target itself: no transaction may be open during a call. It writes its query to the target's row. The worker
//! answers it a few anchors at a time, when the target's thread is idle, and records what it found. An unreachable endpoint is
//! not a difference: it is recorded as an answer that could not be had.

use zeroauth_audit_anchor::Hash;
use zeroauth_audit_anchor::machine::State;

use super::batches::{COLUMNS, batch_of};
use super::driver_thread::{Anchored, Work};
use super::target::Target;
use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Session};

/// Anchors that are read in one go: an anchor that is due waits for no more.
const MOST_READ: i64 = 10;
/// Epochs that were never used here, and are looked for.
const MOST_PROBED: i64 = 100;

/// A query of the job `anchor_check`, and how far its answer is.
#[derive(Clone)]
pub struct Question {
    /// When the job made it, as the target's row says.
    queried_at: String,
    /// The last epoch that is answered.
    after: u64,
    /// Whether the search for unknown anchors has begun.
    probed: bool,
}

impl Question {
    /// Nothing is answered yet.
    pub fn new(queried_at: &str) -> Self {
        Self { queried_at: queried_at.to_owned(), after: 0, probed: false }
    }

    /// Whether this is the query made at `queried_at`.
    pub fn is_about(&self, queried_at: &str) -> bool {
        self.queried_at == queried_at
    }

    /// The next work for the target's thread; `None`: the query is answered.
    pub fn next(
        mut self,
        session: &Session,
        schema: &str,
        name: &str,
        target: &Target,
    ) -> Result<(Option<Self>, Option<Work>), Failure> {
        let sql = format!(
            "SELECT {COLUMNS} FROM {schema}.anchor_batches b
             WHERE b.target = $1 AND b.state = 'finalized' AND b.epoch > $2 AND b.batch_time > pg_catalog.clock_timestamp() - interval '90 days' ORDER BY b.epoch LIMIT $3"
        );
        let parameters = [Parameter::Text(name), Parameter::count(self.after), Parameter::Int8(MOST_READ)];
        let mut anchored = Vec::new();
        session.change(&sql, &parameters, |row| {
            let batch = batch_of(row)?;
            let state: Option<State> = serde_json::from_str(&row.text(5)?.unwrap_or_default()).ok();
            if let Some(inclusion) = state.and_then(|state| state.inclusion) {
                anchored.push(Anchored { batch, inclusion });
            }
            Ok(())
        })?;
        if !anchored.is_empty() {
            return Ok((Some(self), Some(Work::Check(anchored))));
        }
        if !self.probed && target.config.keeps() {
            self.probed = true;
            if let Some(work) = unknown(session, schema, name, target)? {
                return Ok((Some(self), Some(work)));
            }
        }
        self.end(session, schema, name, None)?;
        Ok((None, None))
    }

    /// Records the target's answers. `None`: the query is answered, or failed.
    pub fn answered(
        &self,
        session: &Session,
        schema: &str,
        name: &str,
        answers: &[(u64, Option<String>)],
        error: Option<&str>,
    ) -> Result<Option<Self>, Failure> {
        let mut next = self.clone();
        for (epoch, difference) in answers {
            let sql = format!("SELECT {schema}.anchor_answer($1, $2, NULLIF($3, ''))");
            let parameters = [
                Parameter::Text(name),
                Parameter::count(*epoch),
                Parameter::Text(difference.as_deref().unwrap_or_default()),
            ];
            session.change_again(&sql, &parameters, |_| Ok(()))?;
            next.after = next.after.max(*epoch);
        }
        if let Some(error) = error {
            self.end(session, schema, name, Some(error))?;
            return Ok(None);
        }
        Ok(Some(next))
    }

    fn end(&self, session: &Session, schema: &str, name: &str, error: Option<&str>) -> Result<(), Failure> {
        let sql = format!(
            "UPDATE {schema}.anchor_targets SET checked_at = $2::pg_catalog.timestamptz, check_error = NULLIF($3, '') WHERE name = $1"
        );
        let error = Parameter::Text(error.unwrap_or_default());
        session.change(&sql, &[Parameter::Text(name), Parameter::Text(&self.queried_at), error], |_| Ok(()))
    }
}

/// Epochs that no batch here has, since the oldest that is looked at, and the one above all.
fn unknown(session: &Session, schema: &str, name: &str, target: &Target) -> Result<Option<Work>, Failure> {
    let above = target.last_epoch + 1;
    let sql = format!(
        "SELECT n.log_id, g.epoch FROM (SELECT b.log_id FROM {schema}.anchor_batches b WHERE b.target = $1 ORDER BY b.epoch DESC LIMIT 1) n
         CROSS JOIN LATERAL (
            SELECT g AS epoch FROM pg_catalog.generate_series((SELECT COALESCE(pg_catalog.min(b.epoch), $2) FROM {schema}.anchor_batches b
                WHERE b.target = $1 AND b.batch_time > pg_catalog.clock_timestamp() - interval '90 days'), $2) g
            WHERE NOT EXISTS (SELECT 1 FROM {schema}.anchor_batches b WHERE b.target = $1 AND b.epoch = g)
            ORDER BY g DESC LIMIT $3) g ORDER BY g.epoch"
    );
    let (mut log_id, mut epochs) = (None, Vec::new());
    let parameters = [Parameter::Text(name), Parameter::count(above), Parameter::Int8(MOST_PROBED)];
    session.change(&sql, &parameters, |row| {
        log_id = row.bytes(0).and_then(|bytes| bytes.try_into().ok()).map(Hash);
        epochs.extend(row.count(1));
        Ok(())
    })?;
    Ok(log_id.map(|log_id| Work::Probe { log_id, epochs, above }))
}
