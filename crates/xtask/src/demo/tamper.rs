//! What somebody with the superuser's password does to one row, and who notices.

use std::time::Instant;

use anyhow::{Context, Result};
use postgres::Client;

/// The row that was changed, and how.
pub(crate) struct Tampered {
    pub(crate) tenant: String,
    pub(crate) event_id: String,
    pub(crate) chain: i16,
    pub(crate) seq: i64,
    pub(crate) action: String,
    pub(crate) before: String,
    pub(crate) after: String,
    /// What the server said to the same UPDATE before the guard was lifted.
    pub(crate) refusal: String,
    /// When it was done.
    pub(crate) done: Instant,
}

/// Changes one of the newest events of `tenant`, which the hourly replay recomputes each time, as a superuser who wants a package
/// change to look like another's. Tries the plain way first, which is refused even to him.
pub(crate) fn change_one_event(client: &mut Client, tenant: &str) -> Result<Tampered> {
    let row = client
        .query_one(
            "SELECT tenant_id, chain, seq, action, resource, event_id::text FROM \
             (SELECT * FROM audit_events WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 500) newest \
             WHERE resource IS NOT NULL \
             ORDER BY action IN ('package.purge', 'package.remove') DESC, seq DESC LIMIT 1",
            &[&tenant],
        )
        .context("there is no event to tamper with")?;
    let (tenant, chain, seq): (String, i16, i64) = (row.get(0), row.get(1), row.get(2));
    let before: String = row.get(4);
    let after = "coreutils:amd64".to_owned();
    let update = "UPDATE audit_events SET resource = $4 WHERE tenant_id = $1 AND chain = $2 AND seq = $3";
    let refusal = match client.execute(update, &[&tenant, &chain, &seq, &after]) {
        Ok(_) => anyhow::bail!("the server let an UPDATE of audit_events pass"),
        Err(error) => refusal(&error)?,
    };

    let mut transaction = client.transaction()?;
    transaction.batch_execute(
        "SET LOCAL zeroauth_audit.maintenance = on; SET LOCAL session_replication_role = replica",
    )?;
    let changed = transaction
        .execute(update, &[&tenant, &chain, &seq, &after])
        .context("even under maintenance the row could not be changed")?;
    anyhow::ensure!(changed == 1, "{changed} rows were changed instead of one");
    transaction.commit()?;
    Ok(Tampered {
        tenant,
        event_id: row.get(5),
        chain,
        seq,
        action: row.get(3),
        before,
        after,
        refusal,
        done: Instant::now(),
    })
}

/// The server's words, if it was the guard that spoke.
fn refusal(error: &postgres::Error) -> Result<String> {
    let server = error.as_db_error().context("the connection failed while tampering")?;
    anyhow::ensure!(server.code().code() == "ZA003", "the UPDATE failed for another reason: {server}");
    Ok(format!("ERROR {}: {}", server.code().code(), server.message()))
}
