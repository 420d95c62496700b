//! The tables on both sides of a comparison, and what they are filled from.

use anyhow::{Context, Result, ensure};
use postgres::Client;

use super::Effort;
use super::scenario::{Side, Size};

/// The columns a bulk load fills: those of `source`, in their order.
pub(crate) const COLUMNS: &str = "tenant_id, category, action, resource, service_name, env, request_id, trace_id, span_id, status_code, \
     latency_ms, payload_size, actor_type, actor_id, ip, user_agent, details";

/// Tenants of `source`: `tenant-0` and so on.
pub(crate) const TENANTS: u32 = 100;

/// Makes the compared tables and `rows` rows to load.
pub(crate) fn create(client: &mut Client, rows: u32) -> Result<()> {
    client.batch_execute(include_str!("tables.sql")).context("cannot make the compared tables")?;
    // No run of the hour falls into a measurement.
    client
        .batch_execute("UPDATE zeroauth_audit_internal.jobs SET schedule = '@yearly'")
        .context("cannot put off the jobs")?;
    let source = include_str!("source.sql")
        .replace("@rows@", &rows.to_string())
        .replace("@tenants@", &TENANTS.to_string());
    // Statement by statement: VACUUM cannot share a message with others.
    for statement in source.split_inclusive(";\n") {
        client.batch_execute(statement).context("cannot make the rows to load")?;
    }
    Ok(())
}

/// Empties a table, so that every round starts alike.
pub(crate) fn empty(client: &mut Client, side: Side) -> Result<()> {
    let table = side.table();
    let heads = if side == Side::PlPgSql { "TRUNCATE plpgsql_heads;" } else { "" };
    // What drift, logs and anchors remember of events that are gone would be an alarm.
    let marks = "TRUNCATE zeroauth_audit_internal.watermarks, zeroauth_audit_internal.tenants, zeroauth_audit_internal.drift_findings, zeroauth_audit_internal.logs, zeroauth_audit_internal.log_intervals, zeroauth_audit_internal.tiles, zeroauth_audit_internal.registry_names, zeroauth_audit_internal.registry_entries, zeroauth_audit_internal.registry_tiles, zeroauth_audit_internal.registry_runs, zeroauth_audit_internal.registry_cosignatures, zeroauth_audit_internal.anchor_batches";
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL zeroauth_audit.maintenance = on; TRUNCATE {table}, business_transfers; {heads} {marks}; COMMIT"
        ))
        .with_context(|| format!("cannot empty {table}"))?;
    client.batch_execute("CHECKPOINT").context("cannot write a checkpoint")
}

/// Fills a table with all rows of `source`.
pub(crate) fn fill(client: &mut Client, side: Side) -> Result<u64> {
    let table = side.table();
    client
        .execute(&format!("INSERT INTO {table} ({COLUMNS}) SELECT {COLUMNS} FROM source"), &[])
        .with_context(|| format!("cannot fill {table}"))
}

/// Makes `audit_events` hold so many events, if it does not yet; returns how many.
pub(crate) fn hold(client: &mut Client, effort: &Effort, size: Size) -> Result<u64> {
    let wanted = match size {
        Size::Large => effort.large,
        Size::Huge => effort.huge,
    };
    let holds = |client: &mut Client| -> Result<u64> {
        // The worker tells of what a benchmark does to its jobs in events of its own.
        let sql = "SELECT count(*) FROM audit_events WHERE tenant_id <> 'zeroauth_audit'";
        let count: i64 = client.query_one(sql, &[])?.get(0);
        Ok(count.unsigned_abs())
    };
    let mut events = holds(client)?;
    if events == wanted {
        return Ok(events);
    }
    // What is there by chance came from another scenario: other tenants, other chains.
    if events > wanted || !events.is_multiple_of(effort.rows.into()) {
        empty(client, Side::Ours)?;
        events = 0;
    }
    while events < wanted {
        let rest = wanted - events;
        events += client
            .execute(
                &format!("INSERT INTO audit_events ({COLUMNS}) SELECT {COLUMNS} FROM source LIMIT {rest}"),
                &[],
            )
            .context("cannot fill audit_events")?;
    }
    client.batch_execute("VACUUM ANALYZE audit_events")?;
    client.batch_execute("CHECKPOINT")?;
    let events = holds(client)?;
    ensure!(events == wanted, "{events} events instead of {wanted}");
    Ok(events)
}
