-- The export: each event as a line of JSON, whole or without its private part.

CREATE VIEW zeroauth_audit_internal.exported AS
    SELECT e.tenant_id, e.chain, e.seq, e.event_id, pg_catalog.row_to_json(whole)::text AS event,
        -- An erased event has nothing to withhold, and says that it is erased in either form.
        CASE WHEN e.private_hash IS NOT NULL AND e.salt IS NULL
                  AND pg_catalog.num_nonnulls(e.actor_type, e.actor_id, e.ip, e.user_agent, e.error_message, e.details) = 0
             THEN pg_catalog.row_to_json(whole)::text ELSE pg_catalog.row_to_json(shown)::text END AS public_event
    FROM @extschema@.audit_events e
    CROSS JOIN LATERAL (
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
    ) whole
    CROSS JOIN LATERAL (
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
            -- Of an event that contradicts itself there is none: it must not look whole.
            CASE WHEN e.private_hash IS NULL AND pg_catalog.octet_length(e.salt) = 16
                 THEN pg_catalog.encode(zeroauth_audit_internal.private_hash(e.salt, e.actor_type, e.actor_id, e.ip, e.user_agent, e.error_message, e.details), 'hex') END AS private_hash,
            pg_catalog.encode(e.prev_hash, 'hex') AS prev_hash,
            pg_catalog.encode(e.event_hash, 'hex') AS event_hash,
            e.hash_version::text AS hash_version
    ) shown;
REVOKE ALL ON TABLE zeroauth_audit_internal.exported FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.exported IS
    'Each event as JSON, every value a string or null: what a verifier outside the database reads (docs/format.md). For audit_export() and audit_prove(), which know what their caller may read.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.tenant_id IS 'Whose trail it is.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.chain IS 'Chain within the tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.seq IS 'Position in the chain.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.event_id IS 'The producer''s idempotency key.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.event IS 'The event as one JSON object.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.public_event IS 'The same without private fields and salt, with private_hash instead.';

CREATE FUNCTION zeroauth_audit_internal.export_lines(tenant text, private_fields boolean) RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 100000
    -- In the order of the primary key, without a sort: a sort would write the whole trail to temporary files first.
    SET enable_sort = off
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN export_lines.private_fields THEN e.event ELSE e.public_event END
    FROM zeroauth_audit_internal.exported e
    WHERE export_lines.tenant IS NULL OR e.tenant_id = export_lines.tenant
    ORDER BY e.tenant_id, e.chain, e.seq;
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.export_lines(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.export_lines(text, boolean) IS
    'What audit_export() gives, as the owner, once it has looked at its caller and at the tenant.';

-- SECURITY INVOKER: it looks at the caller, and hands over to export_lines.
CREATE FUNCTION @extschema@.audit_export(tenant text DEFAULT NULL, private_fields boolean DEFAULT NULL) RETURNS SETOF text
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100000
    AS 'MODULE_PATHNAME', 'zeroauth_audit_export';
REVOKE ALL ON FUNCTION @extschema@.audit_export(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_export(text, boolean) IS
    'The events as JSON lines for the offline verifier. Call it in a select list and it streams. tenant: whose, NULL for every tenant. private_fields: whether lines carry the private fields; NULL: when the caller may SELECT all six of them. A line without them carries private_hash instead, and still verifies (docs/format.md). In the order of tenant, chain and seq; every value is a string or null. ZA005 for a tenant without events, ZA006 when a policy hides rows from the caller, 42501 when private fields are asked for without that right.';
