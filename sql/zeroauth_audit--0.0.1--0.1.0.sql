\echo Use "ALTER EXTENSION zeroauth_audit UPDATE" to load this file. \quit
-- From the first frozen schema to 0.1.0: nothing has changed yet. Until 0.1.0 is declared released in CHANGELOG.md, every change
-- of sql/schema goes here too; afterwards this script never changes. pgrx-tests/tests/upgrade.rs compares the outcome.

-- audit_export checks in a statement of its own that the caller sees every row: PostgreSQL 18 left the check out of the plan
-- when it knew that a policy hides all of them, and the export was empty instead of refused.
CREATE OR REPLACE FUNCTION @extschema@.audit_export(tenant text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 100000
    -- In the order of the primary key, without a sort: a sort would write the whole trail to temporary files first.
    SET enable_sort = off
BEGIN ATOMIC
    -- A statement of its own: as a condition beside a policy's it is left out of a plan that knows that no row is visible.
    SELECT @extschema@.audit_require_every_row();
    SELECT pg_catalog.row_to_json(exported)::text
    FROM (
        SELECT
            e.tenant_id AS tenant_id,
            e.chain::text AS chain,
            e.seq::text AS seq,
            e.event_id::text AS event_id,
            CASE WHEN pg_catalog.isfinite(e.occurred_at) THEN pg_catalog.to_char(pg_catalog.timezone('UTC', e.occurred_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"') ELSE e.occurred_at::text END AS occurred_at,
            CASE WHEN pg_catalog.isfinite(e.recorded_at) THEN pg_catalog.to_char(pg_catalog.timezone('UTC', e.recorded_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"') ELSE e.recorded_at::text END AS recorded_at,
            e.category AS category,
            e.action AS action,
            e.outcome AS outcome,
            e.severity AS severity,
            e.resource AS resource,
            e.service_name AS service_name,
            e.env AS env,
            e.provider AS provider,
            e.request_id AS request_id,
            e.correlation_id AS correlation_id,
            e.trace_id AS trace_id,
            e.span_id AS span_id,
            e.status_code::text AS status_code,
            e.latency_ms::text AS latency_ms,
            e.payload_size::text AS payload_size,
            e.error_code AS error_code,
            e.db_role AS db_role,
            e.actor_type AS actor_type,
            e.actor_id AS actor_id,
            e.ip::text AS ip,
            e.user_agent AS user_agent,
            e.error_message AS error_message,
            e.details::text AS details,
            pg_catalog.encode(e.salt, 'hex') AS salt,
            pg_catalog.encode(e.private_hash, 'hex') AS private_hash,
            pg_catalog.encode(e.prev_hash, 'hex') AS prev_hash,
            pg_catalog.encode(e.event_hash, 'hex') AS event_hash,
            e.hash_version::text AS hash_version
        FROM @extschema@.audit_events e
        WHERE audit_export.tenant IS NULL OR e.tenant_id = audit_export.tenant
        ORDER BY e.tenant_id, e.chain, e.seq
    ) exported;
END;
