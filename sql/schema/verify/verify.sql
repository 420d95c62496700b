-- Hashes by hand, verification, guards.

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
    'The one pass of verification, grouped by tenant and chain: recomputes every event and sums up the links in any order, under the two random halves of a key. Used by audit_verify and audit_findings.';

CREATE FUNCTION @extschema@.audit_verify(tenant text DEFAULT NULL, n integer DEFAULT NULL) RETURNS TABLE (
    tenant_id text, ok boolean, events bigint, findings bigint, classes text[], chains integer, first_finding text)
    LANGUAGE c STABLE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_verify';
REVOKE ALL ON FUNCTION @extschema@.audit_verify(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_verify(text, integer) IS
    'Is the trail what was written? Recomputes a tenant''s events (all tenants when left out) and says what is wrong. n: only so many newest events of each tenant, NULL for all. One row a tenant, those with findings first, the extension''s own last; all is read from one snapshot, as the owner, whatever policies the caller has. A NOTICE says when something is wrong, or when there is no event at all. ZA005 for a tenant without events, ZA006 when it could not check, ZA009 for n below 1. Works on a hot standby.';

CREATE FUNCTION @extschema@.audit_findings(tenant text DEFAULT NULL, n integer DEFAULT NULL) RETURNS TABLE (
    tenant_id text, class text, chain smallint, seq bigint, event_id uuid, detail text, expected bytea, actual bytea)
    LANGUAGE c STABLE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_findings';
REVOKE ALL ON FUNCTION @extschema@.audit_findings(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_findings(text, integer) IS
    'Every defect, one a row; no rows: nothing is wrong. Arguments, rights and errors as for audit_verify. expected and actual are hashes: of content_mismatch the recorded one and the one of the stored fields, of link_broken the hash of the event before and the stored prev_hash.';

CREATE FUNCTION @extschema@.audit_event_state(tenant text, event uuid) RETURNS TABLE (step text, ok boolean, detail text)
    LANGUAGE c STABLE PARALLEL UNSAFE SECURITY DEFINER ROWS 8
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_event_state';
REVOKE ALL ON FUNCTION @extschema@.audit_event_state(text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_event_state(text, uuid) IS
    'What protects one event: content, private part, link, log, checkpoint, witnesses, each anchor. One row a step, in this order; ok is NULL for what is not there yet or not configured. Hashes, links, inclusion and the log''s signature are recomputed; that a witness signed and a target holds an anchor is what the server was told, and what zeroauth-audit verify-bundle checks from audit_prove(). Times are of the session''s time zone. ZA005 for a tenant or an event that is not there, ZA006 when it could not check, ZA009 for NULL.';

CREATE FUNCTION zeroauth_audit_internal.require_every_row() RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_require_every_row';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.require_every_row() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.require_every_row() IS
    'True when the current role sees every row of audit_events; otherwise an error (ZA006) that says why rows may be hidden.';

CREATE FUNCTION zeroauth_audit_internal.require_tenant(tenant text, logs boolean) RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_require_tenant';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.require_tenant(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.require_tenant(text, boolean) IS
    'True for NULL and for a tenant that has events, or with logs one that had some when its log was sealed; otherwise ZA005, with the tenant that may have been meant. ZA006 as for require_every_row.';

CREATE FUNCTION zeroauth_audit_internal.progress_slots() RETURNS TABLE (
    pid integer, tenant_id text, events_done bigint, events_total bigint, started_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_progress_slots';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.progress_slots() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.progress_slots() IS
    'Part of audit_progress(): the verifications that are running in this database, from shared memory. No rows when the library is not in shared_preload_libraries.';

CREATE FUNCTION @extschema@.audit_guards() RETURNS TABLE (guard text, active boolean, detail text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT expected.guard, found.problem IS NULL, COALESCE('trigger "' || expected.name || '" ' || found.problem, expected.does)
    FROM (VALUES
        (1, 'chaining', 'zzz_zeroauth_audit_chain', 'zeroauth_audit_internal.chain()', 7, 'every event is hash-chained as it is inserted'),
        (2, 'row guard', 'zeroauth_audit_refuse_row', 'zeroauth_audit_internal.refuse_row()', 27, 'UPDATE and DELETE of a row are refused'),
        (3, 'statement guard', 'zeroauth_audit_refuse_statement', 'zeroauth_audit_internal.refuse_statement()', 58, 'UPDATE, DELETE and TRUNCATE are refused and logged')
    ) expected (place, guard, name, runs, fires, does)
    LEFT JOIN pg_catalog.pg_trigger t
        ON t.tgrelid OPERATOR(pg_catalog.=) '@extschema@.audit_events'::pg_catalog.regclass::pg_catalog.oid AND t.tgname = expected.name
    CROSS JOIN LATERAL (SELECT CASE
        WHEN t.oid IS NULL THEN 'is missing'
        WHEN t.tgenabled <> 'A'::"char" THEN 'is not ENABLE ALWAYS'
        WHEN t.tgfoid IS DISTINCT FROM pg_catalog.to_regprocedure(expected.runs)::pg_catalog.oid THEN 'runs ' || t.tgfoid::pg_catalog.regprocedure::text
        WHEN t.tgtype <> expected.fires OR t.tgqual IS NOT NULL OR t.tgattr::text <> '' THEN 'does not fire when it has to'
        WHEN NOT (SELECT c.relhastriggers FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) t.tgrelid) THEN 'is hidden: pg_class.relhastriggers is false'
        END) found (problem)
    UNION ALL
    SELECT 'fork guard', EXISTS (
            SELECT 1 FROM pg_catalog.pg_index i
            WHERE i.indrelid OPERATOR(pg_catalog.=) '@extschema@.audit_events'::pg_catalog.regclass::pg_catalog.oid AND i.indisprimary AND i.indisvalid
              AND i.indkey::text = '1 2 3'),
        'the primary key refuses two events at one place'
    UNION ALL
    SELECT 'DDL guard', zeroauth_audit_internal.preloaded(),
        CASE WHEN zeroauth_audit_internal.preloaded() THEN 'DDL that would weaken the trail is refused and logged'
             ELSE 'active only in sessions that called the library: add zeroauth_audit to shared_preload_libraries' END
    UNION ALL
    SELECT 'progress', zeroauth_audit_internal.preloaded(),
        CASE WHEN zeroauth_audit_internal.preloaded() THEN 'audit_progress() shows running verifications'
             ELSE 'needs shared memory: add zeroauth_audit to shared_preload_libraries' END
    UNION ALL
    SELECT 'maintenance closed', NOT pg_catalog.current_setting('zeroauth_audit.maintenance')::boolean,
        'zeroauth_audit.maintenance of this session is ' || pg_catalog.current_setting('zeroauth_audit.maintenance');
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_guards() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_guards() IS
    'Which guards are active, in this session. One row a guard: what it does, or why it is not active and what to do. Asks the catalogs and this session, and raises nothing; what else is not as installed is in audit_verify_installation().';
