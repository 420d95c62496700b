//! Batches as they are stored: reading one, and storing the machine's new state, with the alerts it raises and what tenants see.

use zeroauth_audit_anchor::machine::{self, Action, Event, Notice, Phase, Policy, State};
use zeroauth_audit_anchor::{Batch, Hash, Moment};

use crate::pg::error::Failure;
use crate::pg::spi::{Parameter, Row, Session};

/// At most so many batches of one target are under way, unless finality takes weeks.
const MOST_OPEN: i64 = 20;

/// A batch that is under way.
pub struct Open {
    /// The batch itself.
    pub batch: Batch,
    /// The machine's state; `None` when the stored one cannot be read.
    pub state: Option<State>,
}

fn open_of(row: &Row<'_>) -> Result<Open, Failure> {
    Ok(Open { batch: batch_of(row)?, state: serde_json::from_str(&row.text(5)?.unwrap_or_default()).ok() })
}

/// The columns that [`batch_of`] reads, and the machine's state after them.
pub const COLUMNS: &str = "b.epoch, b.log_id, b.root, b.size, pg_catalog.date_part('epoch', b.batch_time)::pg_catalog.int8, b.machine::pg_catalog.text";

/// A batch from the first columns of a row.
pub fn batch_of(row: &Row<'_>) -> Result<Batch, Failure> {
    let hash = |n: usize| Hash(row.bytes(n).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default());
    let number = |n: usize| row.count(n).unwrap_or(0);
    Ok(Batch {
        epoch: number(0),
        log_id: hash(1),
        root: hash(2),
        size: number(3),
        batch_time: Moment(row.int8(4).unwrap_or(0)),
    })
}

/// The batches of a target that are under way, by epoch. Skips batches that a dump brought without their target: their epochs are too high.
pub fn open(session: &Session, schema: &str, target: &str) -> Result<Vec<Open>, Failure> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {schema}.anchor_batches b JOIN {schema}.anchor_targets t ON t.name = b.target
         WHERE b.target = $1 AND b.next_at IS NOT NULL AND b.epoch <= t.last_epoch ORDER BY b.epoch LIMIT $2"
    );
    let mut found = Vec::new();
    // Sees what this very transaction stored.
    session.change(&sql, &[Parameter::Text(target), Parameter::Int8(MOST_OPEN)], |row| {
        found.push(open_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// Locks one batch; `Ok(None)` when it is no longer under way, or another session has it locked.
pub fn lock(session: &Session, schema: &str, target: &str, epoch: u64) -> Result<Option<Open>, Failure> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {schema}.anchor_batches b WHERE b.target = $1 AND b.epoch = $2 AND b.next_at IS NOT NULL FOR UPDATE SKIP LOCKED"
    );
    let mut found = None;
    session.change(&sql, &[Parameter::Text(target), Parameter::count(epoch)], |row| {
        found = Some(open_of(row)?);
        Ok(())
    })?;
    Ok(found)
}

/// Whether a batch is under way, locked or not.
pub fn is_open(session: &Session, schema: &str, target: &str, epoch: u64) -> Result<bool, Failure> {
    let sql = format!(
        "SELECT true FROM {schema}.anchor_batches b WHERE b.target = $1 AND b.epoch = $2 AND b.next_at IS NOT NULL"
    );
    let mut there = false;
    session.change(&sql, &[Parameter::Text(target), Parameter::count(epoch)], |_| {
        there = true;
        Ok(())
    })?;
    Ok(there)
}

/// The outcome of one step of the machine.
pub struct Stepped {
    /// The state, which is stored.
    pub state: State,
    /// What to do once the state is durable.
    pub action: Action,
    /// Whether tenants see a difference.
    pub turned: bool,
}

/// Takes one step of the machine, and stores its state and its notices.
pub fn step(
    session: &Session,
    schema: &str,
    target: &str,
    (batch, before): (&Batch, State),
    (event, evidence): (Event, Option<&str>),
    now: Moment,
) -> Result<Stepped, Failure> {
    let step = machine::step(&Policy::default(), batch, before.clone(), event, now);
    let is_over = step.state.is_over();
    if step.state != before || !step.notices.is_empty() || evidence.is_some() || is_over {
        let sql = format!(
            "SELECT {schema}.anchor_store($1, $2, $3::pg_catalog.jsonb, $4::pg_catalog.bool, NULLIF($5, ''), NULLIF($6, '')::pg_catalog.jsonb)"
        );
        let machine = serde_json::to_string(&step.state).unwrap_or_default();
        let trouble = step.state.trouble.as_ref().map(|trouble| trouble.last.to_string()).unwrap_or_default();
        let parameters = [
            Parameter::Text(target),
            Parameter::count(batch.epoch),
            Parameter::Text(&machine),
            Parameter::Text(if is_over { "on" } else { "off" }),
            Parameter::Text(&trouble),
            Parameter::Text(evidence.unwrap_or_default()),
        ];
        session.change_again(&sql, &parameters, |_| Ok(()))?;
    }
    for notice in &step.notices {
        notify(session, schema, target, batch, notice)?;
    }
    if let Action::Replan { above } = step.action {
        let sql = format!("SELECT {schema}.anchor_replan($1, $2, $3, $4::pg_catalog.jsonb)");
        let fresh = serde_json::to_string(&State::planned(now)).unwrap_or_default();
        // No honest epoch is as high as a bigint allows: refuse one that would overflow.
        let above = above.min(i64::MAX as u64 - 1_000_000);
        let parameters = [
            Parameter::Text(target),
            Parameter::count(batch.epoch),
            Parameter::count(above),
            Parameter::Text(&fresh),
        ];
        session.change_again(&sql, &parameters, |_| Ok(()))?;
    }
    let phase = step.state.phase;
    let turned = phase != before.phase
        && matches!(phase, Phase::Included | Phase::Finalized | Phase::Orphaned | Phase::Failed);
    Ok(Stepped { state: step.state, action: step.action, turned })
}

/// Raises the alert that a notice of the machine calls for.
fn notify(
    session: &Session,
    schema: &str,
    target: &str,
    batch: &Batch,
    notice: &Notice,
) -> Result<(), Failure> {
    let epoch = batch.epoch;
    let (place, message) = match notice {
        Notice::Page { failures, last, .. } => (
            target.to_owned(),
            format!(
                "batch {epoch} has not reached target {target} for hours, after {failures} failures: {last}"
            ),
        ),
        Notice::Recovered { .. } => (target.to_owned(), format!("batch {epoch} reached target {target}")),
        Notice::Orphaned { id, .. } => (
            format!("{target}:{epoch}"),
            format!(
                "batch {epoch} at target {target} was included as {id}, and that was undone; it is sent again"
            ),
        ),
        Notice::NonceTaken { nonce } => (
            format!("{target}:{nonce}"),
            format!(
                "another transaction used nonce {nonce} of the account of target {target}: somebody else has its key"
            ),
        ),
        Notice::Replaced { nonce, .. } => (
            format!("{target}:{epoch}"),
            format!("batch {epoch} for target {target} was sent again with higher fees at nonce {nonce}"),
        ),
        Notice::EpochTaken { id, .. } => (
            format!("{target}:{epoch}"),
            format!(
                "epoch {epoch} at target {target} holds something else, as {id}: somebody else anchors for this log"
            ),
        ),
        Notice::EpochPassed { latest, .. } => (
            format!("{target}:{epoch}"),
            format!(
                "target {target} has epoch {latest} before epoch {epoch}: somebody else anchors for this log"
            ),
        ),
        _ => (format!("{target}:{epoch}"), format!("batch {epoch} at target {target}")),
    };
    let sql = format!(
        "SELECT {schema}.anchor_notice($1, $2, $3, $4::pg_catalog.int2, $5, $6, $7::pg_catalog.jsonb)"
    );
    let evidence = serde_json::to_string(notice).unwrap_or_default();
    let parameters = [
        Parameter::Text(target),
        Parameter::count(epoch),
        Parameter::Text(notice.name()),
        Parameter::Int2(i16::from(notice.severity())),
        Parameter::Text(&place),
        Parameter::Text(&message),
        Parameter::Text(&evidence),
    ];
    session.change_again(&sql, &parameters, |_| Ok(()))
}
