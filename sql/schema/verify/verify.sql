-- Hashes by hand, verification, export, status.

CREATE FUNCTION zeroauth_audit_internal.event_hash(
    prev_hash bytea,
    tenant_id text,
    chain smallint,
    seq bigint,
    event_id uuid,
    occurred_at timestamptz,
    recorded_at timestamptz,
    category text,
    action text,
    outcome text,
    severity text,
    resource text,
    service_name text,
    env text,
    provider text,
    request_id text,
    correlation_id text,
    trace_id text,
    span_id text,
    status_code integer,
    latency_ms integer,
    payload_size bigint,
    error_code text,
    db_role text,
    private_hash bytea
) RETURNS bytea
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_event_hash';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.event_hash(bytea, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, bytea) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.event_hash(bytea, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, bytea) IS
    'The hash of an event, computed from its fields: compare it with the stored event_hash. private_hash is the stored one if there is one, otherwise that of private_hash(). ZA009 for a hash of the wrong length or a missing required field. Format: docs/format.md.';

CREATE FUNCTION zeroauth_audit_internal.private_hash(salt bytea, actor_type text, actor_id text, ip inet, user_agent text, error_message text, details jsonb) RETURNS bytea
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_private_hash';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.private_hash(bytea, text, text, inet, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.private_hash(bytea, text, text, inet, text, text, jsonb) IS
    'The hash of an event''s private fields under its salt. ZA009 when the salt is not 16 bytes. Format: docs/format.md.';

CREATE FUNCTION zeroauth_audit_internal.check_step(internal, bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_step';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.check_step(internal, bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.check_step(internal, bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) IS
    'Step of chain_check: recomputes one event.';

CREATE FUNCTION zeroauth_audit_internal.check_combine(internal, internal) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_combine';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.check_combine(internal, internal) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.check_combine(internal, internal) IS
    'Step of chain_check: puts together what two parallel workers saw of a chain.';

CREATE FUNCTION zeroauth_audit_internal.check_serialize(internal) RETURNS bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_to_bytes';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.check_serialize(internal) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.check_serialize(internal) IS
    'Step of chain_check: the state of a chain as bytes, for a parallel worker to pass on.';

CREATE FUNCTION zeroauth_audit_internal.check_deserialize(bytea, internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_from_bytes';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.check_deserialize(bytea, internal) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.check_deserialize(bytea, internal) IS
    'Step of chain_check: the state of a chain from bytes.';

CREATE FUNCTION zeroauth_audit_internal.check_final(internal) RETURNS bytea
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_to_bytes';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.check_final(internal) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.check_final(internal) IS
    'Step of chain_check: its result.';

CREATE AGGREGATE zeroauth_audit_internal.chain_check(bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) (
    SFUNC = zeroauth_audit_internal.check_step,
    STYPE = internal,
    SSPACE = 160,
    FINALFUNC = zeroauth_audit_internal.check_final,
    COMBINEFUNC = zeroauth_audit_internal.check_combine,
    SERIALFUNC = zeroauth_audit_internal.check_serialize,
    DESERIALFUNC = zeroauth_audit_internal.check_deserialize,
    PARALLEL = SAFE
);
REVOKE ALL ON FUNCTION zeroauth_audit_internal.chain_check(bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) FROM PUBLIC;
COMMENT ON AGGREGATE zeroauth_audit_internal.chain_check(bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) IS
    'The one pass of verification, grouped by tenant and chain: recomputes every event and sums up the links in any order, under the two random halves of a key. Used by audit_verify, verify_all and audit_findings, whose callers need EXECUTE on it.';

CREATE FUNCTION @extschema@.audit_verify(tenant text DEFAULT NULL, n integer DEFAULT NULL) RETURNS TABLE (
    tenant_id text, ok boolean, events bigint, findings bigint, classes text[], chains integer, first_finding text)
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_verify';
REVOKE ALL ON FUNCTION @extschema@.audit_verify(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_verify(text, integer) IS
    'Is the trail what was written? Recomputes a tenant''s events (all tenants when left out) and says what is wrong. n: only the newest n events of each tenant, NULL for all. One row a tenant, those with findings first; all is read from one snapshot. ZA005 for a tenant without events, ZA006 when it could not check, ZA009 for n below 1. Works on a hot standby.';

CREATE FUNCTION @extschema@.audit_findings(tenant text DEFAULT NULL, n integer DEFAULT NULL) RETURNS TABLE (
    tenant_id text, class text, chain smallint, seq bigint, event_id uuid, detail text, expected bytea, actual bytea)
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_findings';
REVOKE ALL ON FUNCTION @extschema@.audit_findings(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_findings(text, integer) IS
    'Every defect, one a row; no rows: nothing is wrong. Arguments and errors as for audit_verify. expected and actual are hashes: of content_mismatch the recorded one and the one of the stored fields, of link_broken the hash of the event before and the stored prev_hash.';

CREATE FUNCTION zeroauth_audit_internal.require_every_row() RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_require_every_row';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.require_every_row() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.require_every_row() IS
    'True when the current role sees every row of audit_events; otherwise an error (ZA006) that says why rows may be hidden.';

-- Its columns are what a verifier outside the database reads; who asks must have the rights.
CREATE VIEW zeroauth_audit_internal.exported WITH (security_invoker = true) AS
    SELECT e.tenant_id, e.chain, e.seq, e.event_id, pg_catalog.row_to_json(exported)::text AS event
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
    ) exported;
REVOKE ALL ON TABLE zeroauth_audit_internal.exported FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.exported IS
    'Each event as JSON, every value a string or null: what a verifier outside the database reads (docs/format.md). audit_export() is the one to call.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.tenant_id IS 'Whose trail it is.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.chain IS 'Chain within the tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.seq IS 'Position in the chain.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.event_id IS 'The producer''s idempotency key.';
COMMENT ON COLUMN zeroauth_audit_internal.exported.event IS 'The event as one JSON object.';

CREATE FUNCTION @extschema@.audit_export(tenant text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 100000
    -- In the order of the primary key, without a sort: a sort would write the whole trail to temporary files first.
    SET enable_sort = off
BEGIN ATOMIC
    -- A statement of its own: as a condition beside a policy's it is left out of a plan that knows that no row is visible.
    SELECT zeroauth_audit_internal.require_every_row();
    SELECT e.event
    FROM zeroauth_audit_internal.exported e
    WHERE audit_export.tenant IS NULL OR e.tenant_id = audit_export.tenant
    ORDER BY e.tenant_id, e.chain, e.seq;
END;
REVOKE ALL ON FUNCTION @extschema@.audit_export(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_export(text) IS
    'The events of a tenant (NULL: of every tenant) as JSON, one object a row, in the order of tenant, chain and seq, every value a string or null: what a verifier outside the database reads (docs/format.md). Streams when called in a select list (SELECT audit_export()). ZA006 when rows may be hidden.';

CREATE FUNCTION zeroauth_audit_internal.progress_slots() RETURNS TABLE (
    pid integer, tenant_id text, events_done bigint, events_total bigint, started_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_progress_slots';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.progress_slots() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.progress_slots() IS
    'What verify_progress shows.';

CREATE VIEW zeroauth_audit_internal.verify_progress AS
    SELECT slot.pid, pg_catalog.current_database() AS datname, slot.tenant_id, slot.events_done, slot.events_total, slot.started_at
    FROM zeroauth_audit_internal.progress_slots() slot;
REVOKE ALL ON TABLE zeroauth_audit_internal.verify_progress FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.verify_progress IS
    'The verifications that are running in this database. Empty when the library is not in shared_preload_libraries.';
COMMENT ON COLUMN zeroauth_audit_internal.verify_progress.pid IS 'Process that verifies, as in pg_stat_activity.';
COMMENT ON COLUMN zeroauth_audit_internal.verify_progress.datname IS 'This database.';
COMMENT ON COLUMN zeroauth_audit_internal.verify_progress.tenant_id IS 'Tenant that is verified, NULL for all.';
COMMENT ON COLUMN zeroauth_audit_internal.verify_progress.events_done IS 'Events recomputed so far, in steps of about a thousand.';
COMMENT ON COLUMN zeroauth_audit_internal.verify_progress.events_total IS 'Estimate of the events to recompute, NULL when unknown.';
COMMENT ON COLUMN zeroauth_audit_internal.verify_progress.started_at IS 'When the verification began.';

CREATE FUNCTION @extschema@.audit_guards() RETURNS TABLE (guard text, active boolean, detail text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT expected.guard, COALESCE(t.tgenabled = 'A'::"char", false),
        CASE WHEN t.tgenabled IS NULL THEN 'trigger ' || expected.name || ' is missing'
             WHEN t.tgenabled <> 'A'::"char" THEN 'trigger ' || expected.name || ' is not ENABLE ALWAYS'
             ELSE expected.does END
    FROM (VALUES
        (1, 'chaining', 'zzz_zeroauth_audit_chain', 'every event is hash-chained as it is inserted'),
        (2, 'row guard', 'zeroauth_audit_refuse_row', 'UPDATE and DELETE of a row are refused'),
        (3, 'statement guard', 'zeroauth_audit_refuse_statement', 'UPDATE, DELETE and TRUNCATE are refused and logged')
    ) expected (place, guard, name, does)
    LEFT JOIN pg_catalog.pg_trigger t
        ON t.tgrelid OPERATOR(pg_catalog.=) '@extschema@.audit_events'::pg_catalog.regclass::pg_catalog.oid AND t.tgname = expected.name
    UNION ALL
    SELECT 'fork guard', EXISTS (
            SELECT FROM pg_catalog.pg_index i
            WHERE i.indrelid OPERATOR(pg_catalog.=) '@extschema@.audit_events'::pg_catalog.regclass::pg_catalog.oid AND i.indisprimary AND i.indisvalid),
        'the primary key refuses two events at one place'
    UNION ALL
    SELECT 'DDL guard', zeroauth_audit_internal.preloaded(),
        CASE WHEN zeroauth_audit_internal.preloaded() THEN 'DDL that would weaken the trail is refused and logged'
             ELSE 'active only in sessions that called the library: add zeroauth_audit to shared_preload_libraries' END
    UNION ALL
    SELECT 'progress view', zeroauth_audit_internal.preloaded(),
        CASE WHEN zeroauth_audit_internal.preloaded() THEN 'verify_progress shows running verifications'
             ELSE 'needs shared memory: add zeroauth_audit to shared_preload_libraries' END
    UNION ALL
    SELECT 'maintenance closed', NOT pg_catalog.current_setting('zeroauth_audit.maintenance')::boolean,
        'zeroauth_audit.maintenance of this session is ' || pg_catalog.current_setting('zeroauth_audit.maintenance');
END;
REVOKE ALL ON FUNCTION @extschema@.audit_guards() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_guards() IS
    'What protects the trail, one row a guard, and whether it is active.';
