\echo Use "CREATE EXTENSION zeroauth_audit" to load this file. \quit
-- Frozen: the first schema, before any release. Never changed; upgrades start here.

-- Functions that the table needs, and the conditions that the database must meet.

DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'ZA008',
            MESSAGE = pg_catalog.format('zeroauth_audit needs a UTF8 database, this one is %s', pg_catalog.getdatabaseencoding()),
            HINT = 'Create a database with ENCODING ''UTF8'': what is hashed is the stored text.';
    END IF;
END
$$;

CREATE FUNCTION @extschema@.audit_uuid_v7() RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_uuid_v7';
REVOKE ALL ON FUNCTION @extschema@.audit_uuid_v7() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_uuid_v7() IS
    'A new UUID of version 7 (RFC 9562): its first 48 bits are the time in milliseconds. The default of audit_events.event_id; grant EXECUTE to every role that inserts.';

CREATE FUNCTION @extschema@.audit_chain_event() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_chain_event';
REVOKE ALL ON FUNCTION @extschema@.audit_chain_event() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_chain_event() IS
    'Trigger of audit_events: gives an event its place in its tenant''s chain and its hash, or checks the hashes that a restored or replicated event brings.';

CREATE FUNCTION @extschema@.audit_refuse_row() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_refuse_row';
REVOKE ALL ON FUNCTION @extschema@.audit_refuse_row() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_refuse_row() IS
    'Trigger of audit_events: refuses UPDATE and DELETE of a row (SQLSTATE ZA003), in replica role and logical replication too.';

CREATE FUNCTION @extschema@.audit_refuse_statement() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_refuse_statement';
REVOKE ALL ON FUNCTION @extschema@.audit_refuse_statement() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_refuse_statement() IS
    'Trigger of audit_events: refuses and logs UPDATE, DELETE and TRUNCATE (SQLSTATE ZA003).';

CREATE FUNCTION @extschema@.audit_preloaded() RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_preloaded';
REVOKE ALL ON FUNCTION @extschema@.audit_preloaded() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_preloaded() IS
    'Whether the library is in shared_preload_libraries: without it the DDL guard is not active in every session.';

DO $$
BEGIN
    IF NOT @extschema@.audit_preloaded() THEN
        RAISE WARNING USING
            MESSAGE = 'zeroauth_audit is not in shared_preload_libraries',
            DETAIL = 'Events are chained and rows are guarded, but the DDL guard is not active in every session and progress is not shown.',
            HINT = 'Add zeroauth_audit to shared_preload_libraries and restart the server. audit_guard_status() shows what is active.';
    END IF;
END
$$;
-- The trail: one row an event.

CREATE TABLE @extschema@.audit_events (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    chain smallint NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL DEFAULT @extschema@.audit_uuid_v7(),
    occurred_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    recorded_at timestamptz NOT NULL,
    category text,
    action text NOT NULL,
    outcome text NOT NULL DEFAULT 'success',
    severity text NOT NULL DEFAULT 'info',
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
    db_role text NOT NULL,
    actor_type text,
    actor_id text,
    ip inet,
    user_agent text,
    error_message text,
    details jsonb,
    salt bytea,
    private_hash bytea,
    prev_hash bytea NOT NULL,
    event_hash bytea NOT NULL,
    hash_version smallint NOT NULL,
    CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, chain, seq),
    CONSTRAINT audit_events_event_id_key UNIQUE (tenant_id, event_id),
    CONSTRAINT audit_events_tenant_id_check CHECK (pg_catalog.octet_length(tenant_id) BETWEEN 1 AND 128),
    CONSTRAINT audit_events_chain_check CHECK (chain >= 0),
    CONSTRAINT audit_events_seq_check CHECK (seq >= 1),
    CONSTRAINT audit_events_occurred_at_check CHECK (NOT pg_catalog.isfinite(occurred_at) OR occurred_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'),
    CONSTRAINT audit_events_action_check CHECK (action <> ''),
    CONSTRAINT audit_events_outcome_check CHECK (outcome IN ('success', 'failure', 'denied', 'error')),
    CONSTRAINT audit_events_severity_check CHECK (severity IN ('info', 'low', 'medium', 'high', 'critical')),
    CONSTRAINT audit_events_trace_id_check CHECK (trace_id ~ '^[0-9a-f]{32}$'),
    CONSTRAINT audit_events_span_id_check CHECK (span_id ~ '^[0-9a-f]{16}$'),
    CONSTRAINT audit_events_salt_check CHECK ((salt IS NULL) = (private_hash IS NOT NULL) AND pg_catalog.octet_length(salt) = 16),
    CONSTRAINT audit_events_private_hash_check CHECK (private_hash IS NULL OR pg_catalog.octet_length(private_hash) = 32 AND pg_catalog.num_nonnulls(actor_type, actor_id, ip, user_agent, error_message, details) = 0),
    CONSTRAINT audit_events_prev_hash_check CHECK (pg_catalog.octet_length(prev_hash) = 32),
    CONSTRAINT audit_events_event_hash_check CHECK (pg_catalog.octet_length(event_hash) = 32),
    CONSTRAINT audit_events_hash_version_check CHECK (hash_version = 1)
);

REVOKE ALL ON TABLE @extschema@.audit_events FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_events IS
    'The audit trail: one row an event, hash-chained for each tenant as it is inserted. Rows can be added, never changed.';
COMMENT ON COLUMN @extschema@.audit_events.tenant_id IS 'Whose trail it is: 1 to 128 bytes, compared byte for byte.';
COMMENT ON COLUMN @extschema@.audit_events.chain IS 'Chain within the tenant, from 0. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.seq IS 'Position in the chain, from 1, without gaps. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.event_id IS 'The producer''s idempotency key, unique within the tenant: INSERT .. ON CONFLICT DO NOTHING makes a retry safe. Defaults to a UUIDv7.';
COMMENT ON COLUMN @extschema@.audit_events.occurred_at IS 'When it happened, as the producer says. Years 1 to 9999, or infinite.';
COMMENT ON COLUMN @extschema@.audit_events.recorded_at IS 'When the server stored it. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.category IS 'Kind of event, for example authentication.';
COMMENT ON COLUMN @extschema@.audit_events.action IS 'What was done, for example login. Not empty.';
COMMENT ON COLUMN @extschema@.audit_events.outcome IS 'success, failure, denied or error.';
COMMENT ON COLUMN @extschema@.audit_events.severity IS 'info, low, medium, high or critical.';
COMMENT ON COLUMN @extschema@.audit_events.resource IS 'What it was done to.';
COMMENT ON COLUMN @extschema@.audit_events.service_name IS 'The service that reported it.';
COMMENT ON COLUMN @extschema@.audit_events.env IS 'The environment of that service, for example production.';
COMMENT ON COLUMN @extschema@.audit_events.provider IS 'The provider behind the service.';
COMMENT ON COLUMN @extschema@.audit_events.request_id IS 'The request that it belongs to.';
COMMENT ON COLUMN @extschema@.audit_events.correlation_id IS 'The business operation that it belongs to.';
COMMENT ON COLUMN @extschema@.audit_events.trace_id IS 'W3C trace id: 32 lower-case hex digits.';
COMMENT ON COLUMN @extschema@.audit_events.span_id IS 'W3C span id: 16 lower-case hex digits.';
COMMENT ON COLUMN @extschema@.audit_events.status_code IS 'Status of the protocol, for example 403.';
COMMENT ON COLUMN @extschema@.audit_events.latency_ms IS 'Duration in milliseconds.';
COMMENT ON COLUMN @extschema@.audit_events.payload_size IS 'Size of the payload in bytes.';
COMMENT ON COLUMN @extschema@.audit_events.error_code IS 'Code of the error.';
COMMENT ON COLUMN @extschema@.audit_events.db_role IS 'The role that was logged in (session_user). Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.actor_type IS 'Kind of actor, for example user. Private.';
COMMENT ON COLUMN @extschema@.audit_events.actor_id IS 'Who did it. Private.';
COMMENT ON COLUMN @extschema@.audit_events.ip IS 'From where. Private.';
COMMENT ON COLUMN @extschema@.audit_events.user_agent IS 'With what. Private.';
COMMENT ON COLUMN @extschema@.audit_events.error_message IS 'The error in words. Private.';
COMMENT ON COLUMN @extschema@.audit_events.details IS 'Anything else; at most zeroauth_audit.max_details_bytes of text. Private.';
COMMENT ON COLUMN @extschema@.audit_events.salt IS '16 random bytes that keep the private fields from being guessed from their hash. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.private_hash IS 'NULL, unless the private fields were erased: then what their hash was.';
COMMENT ON COLUMN @extschema@.audit_events.prev_hash IS 'event_hash of the chain''s previous event, 32 zero bytes for the first. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.event_hash IS 'SHA-256 of this event and, through prev_hash, of all before it in its chain. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.hash_version IS 'Version of the hash format: 1. Set by the server.';
COMMENT ON CONSTRAINT audit_events_pkey ON @extschema@.audit_events IS 'No two events can have the same place: a chain cannot fork. Also where the head of a chain is found.';
COMMENT ON CONSTRAINT audit_events_event_id_key ON @extschema@.audit_events IS 'A retried INSERT .. ON CONFLICT DO NOTHING stores its event once.';
COMMENT ON CONSTRAINT audit_events_tenant_id_check ON @extschema@.audit_events IS 'The name of a tenant is 1 to 128 bytes long.';
COMMENT ON CONSTRAINT audit_events_chain_check ON @extschema@.audit_events IS 'Chains are numbered from 0.';
COMMENT ON CONSTRAINT audit_events_seq_check ON @extschema@.audit_events IS 'Events of a chain are numbered from 1.';
COMMENT ON CONSTRAINT audit_events_occurred_at_check ON @extschema@.audit_events IS 'A time that every language can read.';
COMMENT ON CONSTRAINT audit_events_action_check ON @extschema@.audit_events IS 'An event without an action says nothing.';
COMMENT ON CONSTRAINT audit_events_outcome_check ON @extschema@.audit_events IS 'The four outcomes.';
COMMENT ON CONSTRAINT audit_events_severity_check ON @extschema@.audit_events IS 'The five severities.';
COMMENT ON CONSTRAINT audit_events_trace_id_check ON @extschema@.audit_events IS 'W3C Trace Context.';
COMMENT ON CONSTRAINT audit_events_span_id_check ON @extschema@.audit_events IS 'W3C Trace Context.';
COMMENT ON CONSTRAINT audit_events_salt_check ON @extschema@.audit_events IS 'The salt is 16 bytes, and is destroyed with the private fields.';
COMMENT ON CONSTRAINT audit_events_private_hash_check ON @extschema@.audit_events IS 'An erased event keeps the hash of its private fields and none of them.';
COMMENT ON CONSTRAINT audit_events_prev_hash_check ON @extschema@.audit_events IS 'A SHA-256 hash.';
COMMENT ON CONSTRAINT audit_events_event_hash_check ON @extschema@.audit_events IS 'A SHA-256 hash.';
COMMENT ON CONSTRAINT audit_events_hash_version_check ON @extschema@.audit_events IS 'The versions that this release can check.';

-- Triggers fire in the order of their names: this one last, on what will be stored.
CREATE TRIGGER zzz_zeroauth_audit_chain
    BEFORE INSERT ON @extschema@.audit_events
    FOR EACH ROW EXECUTE FUNCTION @extschema@.audit_chain_event();
COMMENT ON TRIGGER zzz_zeroauth_audit_chain ON @extschema@.audit_events IS
    'Chains every event; fires in replica role too, and after every other BEFORE trigger.';
CREATE TRIGGER zeroauth_audit_refuse_row
    BEFORE UPDATE OR DELETE ON @extschema@.audit_events
    FOR EACH ROW EXECUTE FUNCTION @extschema@.audit_refuse_row();
COMMENT ON TRIGGER zeroauth_audit_refuse_row ON @extschema@.audit_events IS
    'Refuses UPDATE and DELETE where no statement trigger fires.';
CREATE TRIGGER zeroauth_audit_refuse_statement
    BEFORE UPDATE OR DELETE OR TRUNCATE ON @extschema@.audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_refuse_statement();
COMMENT ON TRIGGER zeroauth_audit_refuse_statement ON @extschema@.audit_events IS
    'Refuses UPDATE, DELETE and TRUNCATE before a row is looked for.';
ALTER TABLE @extschema@.audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain;
ALTER TABLE @extschema@.audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row;
ALTER TABLE @extschema@.audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement;

-- pg_dump takes the events along; pg_restore brings them back through the trigger, which checks them.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_events', '');
-- Hashes by hand, verification, export, status.

CREATE FUNCTION @extschema@.audit_event_hash(
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
REVOKE ALL ON FUNCTION @extschema@.audit_event_hash(bytea, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, bytea) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_event_hash(bytea, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, bytea) IS
    'The hash of an event, computed from its fields: compare it with the stored event_hash. private_hash is the stored one if there is one, otherwise that of audit_private_hash(). ZA009 for a hash of the wrong length or a missing required field. Format: docs/format.md.';

CREATE FUNCTION @extschema@.audit_private_hash(salt bytea, actor_type text, actor_id text, ip inet, user_agent text, error_message text, details jsonb) RETURNS bytea
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_private_hash';
REVOKE ALL ON FUNCTION @extschema@.audit_private_hash(bytea, text, text, inet, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_private_hash(bytea, text, text, inet, text, text, jsonb) IS
    'The hash of an event''s private fields under its salt. ZA009 when the salt is not 16 bytes. Format: docs/format.md.';

CREATE FUNCTION @extschema@.audit_check_step(internal, bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_step';
REVOKE ALL ON FUNCTION @extschema@.audit_check_step(internal, bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_check_step(internal, bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) IS
    'Step of audit_chain_check: recomputes one event.';

CREATE FUNCTION @extschema@.audit_check_combine(internal, internal) RETURNS internal
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_combine';
REVOKE ALL ON FUNCTION @extschema@.audit_check_combine(internal, internal) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_check_combine(internal, internal) IS
    'Step of audit_chain_check: puts together what two parallel workers saw of a chain.';

CREATE FUNCTION @extschema@.audit_check_serialize(internal) RETURNS bytea
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_to_bytes';
REVOKE ALL ON FUNCTION @extschema@.audit_check_serialize(internal) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_check_serialize(internal) IS
    'Step of audit_chain_check: the state of a chain as bytes, for a parallel worker to pass on.';

CREATE FUNCTION @extschema@.audit_check_deserialize(bytea, internal) RETURNS internal
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_from_bytes';
REVOKE ALL ON FUNCTION @extschema@.audit_check_deserialize(bytea, internal) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_check_deserialize(bytea, internal) IS
    'Step of audit_chain_check: the state of a chain from bytes.';

CREATE FUNCTION @extschema@.audit_check_final(internal) RETURNS bytea
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_to_bytes';
REVOKE ALL ON FUNCTION @extschema@.audit_check_final(internal) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_check_final(internal) IS
    'Step of audit_chain_check: its result.';

CREATE AGGREGATE @extschema@.audit_chain_check(bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) (
    SFUNC = @extschema@.audit_check_step,
    STYPE = internal,
    SSPACE = 160,
    FINALFUNC = @extschema@.audit_check_final,
    COMBINEFUNC = @extschema@.audit_check_combine,
    SERIALFUNC = @extschema@.audit_check_serialize,
    DESERIALFUNC = @extschema@.audit_check_deserialize,
    PARALLEL = SAFE
);
REVOKE ALL ON FUNCTION @extschema@.audit_chain_check(bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) FROM PUBLIC;
COMMENT ON AGGREGATE @extschema@.audit_chain_check(bigint, bigint, text, smallint, bigint, uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, text, text, text, text, integer, integer, bigint, text, text, text, text, inet, text, text, jsonb, bytea, bytea, bytea, bytea, smallint) IS
    'The one pass of verification, grouped by tenant and chain: recomputes every event and sums up the links in any order, under the two random halves of a key. Used by audit_verify, audit_verify_all and audit_findings, whose callers need EXECUTE on it.';

CREATE FUNCTION @extschema@.audit_verify(tenant text, n bigint DEFAULT NULL) RETURNS TABLE (
    tenant_id text, ok boolean, events_checked bigint, chains integer, findings bigint,
    classes text[], first_finding jsonb)
    LANGUAGE c STABLE PARALLEL UNSAFE ROWS 1
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_verify';
REVOKE ALL ON FUNCTION @extschema@.audit_verify(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_verify(text, bigint) IS
    'Replays the last n events of a tenant (NULL: all) from one snapshot and gives the verdict. ok is true when nothing is wrong. ZA005 for a tenant without events, ZA006 when it could not check, ZA009 for n below 1. Works on a hot standby.';

CREATE FUNCTION @extschema@.audit_verify_all() RETURNS TABLE (
    tenant_id text, ok boolean, events_checked bigint, chains integer, findings bigint,
    classes text[], first_finding jsonb)
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_verify_all';
REVOKE ALL ON FUNCTION @extschema@.audit_verify_all() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_verify_all() IS
    'The verdict of audit_verify for every tenant, in one pass over the table. ZA006 when it could not check. Works on a hot standby.';

CREATE FUNCTION @extschema@.audit_findings(tenant text DEFAULT NULL, n bigint DEFAULT NULL) RETURNS TABLE (
    class text, tenant_id text, chain smallint, seq bigint, event_id uuid, expected bytea, actual bytea, detail text)
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_findings';
REVOKE ALL ON FUNCTION @extschema@.audit_findings(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_findings(text, bigint) IS
    'Every defect of a tenant (NULL: of every tenant), one a row: content_mismatch (expected is the recorded hash, actual what the fields hash to), link_broken (expected is the hash of the event before, actual the stored prev_hash), gap, fork. No rows: nothing is wrong. Errors as for audit_verify.';

CREATE FUNCTION @extschema@.audit_require_every_row() RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_require_every_row';
REVOKE ALL ON FUNCTION @extschema@.audit_require_every_row() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_require_every_row() IS
    'True when the current role sees every row of audit_events; otherwise an error (ZA006) that says why rows may be hidden.';

CREATE FUNCTION @extschema@.audit_export(tenant text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 100000
    -- In the order of the primary key, without a sort: a sort would write the whole trail to temporary files first.
    SET enable_sort = off
BEGIN ATOMIC
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
        WHERE (audit_export.tenant IS NULL OR e.tenant_id = audit_export.tenant)
          AND @extschema@.audit_require_every_row()
        ORDER BY e.tenant_id, e.chain, e.seq
    ) exported;
END;
REVOKE ALL ON FUNCTION @extschema@.audit_export(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_export(text) IS
    'The events of a tenant (NULL: of every tenant) as JSON, one object a row, in the order of tenant, chain and seq, every value a string or null: what a verifier outside the database reads (docs/format.md). Streams when called in a select list (SELECT audit_export()). ZA006 when rows may be hidden.';

CREATE FUNCTION @extschema@.audit_progress_slots() RETURNS TABLE (
    pid integer, tenant_id text, events_done bigint, events_total bigint, started_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_progress_slots';
REVOKE ALL ON FUNCTION @extschema@.audit_progress_slots() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_progress_slots() IS
    'What audit_verify_progress shows.';

CREATE VIEW @extschema@.audit_verify_progress AS
    SELECT slot.pid, pg_catalog.current_database() AS datname, slot.tenant_id, slot.events_done, slot.events_total, slot.started_at
    FROM @extschema@.audit_progress_slots() slot;
REVOKE ALL ON TABLE @extschema@.audit_verify_progress FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_verify_progress IS
    'The verifications that are running in this database. Empty when the library is not in shared_preload_libraries.';
COMMENT ON COLUMN @extschema@.audit_verify_progress.pid IS 'Process that verifies, as in pg_stat_activity.';
COMMENT ON COLUMN @extschema@.audit_verify_progress.datname IS 'This database.';
COMMENT ON COLUMN @extschema@.audit_verify_progress.tenant_id IS 'Tenant that is verified, NULL for all.';
COMMENT ON COLUMN @extschema@.audit_verify_progress.events_done IS 'Events recomputed so far, in steps of about a thousand.';
COMMENT ON COLUMN @extschema@.audit_verify_progress.events_total IS 'Estimate of the events to recompute, NULL when unknown.';
COMMENT ON COLUMN @extschema@.audit_verify_progress.started_at IS 'When the verification began.';

CREATE FUNCTION @extschema@.audit_guard_status() RETURNS TABLE (guard text, active boolean, detail text)
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
    SELECT 'DDL guard', @extschema@.audit_preloaded(),
        CASE WHEN @extschema@.audit_preloaded() THEN 'DDL that would weaken the trail is refused and logged'
             ELSE 'active only in sessions that called the library: add zeroauth_audit to shared_preload_libraries' END
    UNION ALL
    SELECT 'progress view', @extschema@.audit_preloaded(),
        CASE WHEN @extschema@.audit_preloaded() THEN 'audit_verify_progress shows running verifications'
             ELSE 'needs shared memory: add zeroauth_audit to shared_preload_libraries' END
    UNION ALL
    SELECT 'maintenance closed', NOT pg_catalog.current_setting('zeroauth_audit.maintenance')::boolean,
        'zeroauth_audit.maintenance of this session is ' || pg_catalog.current_setting('zeroauth_audit.maintenance');
END;
REVOKE ALL ON FUNCTION @extschema@.audit_guard_status() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_guard_status() IS
    'What protects the trail, one row a guard, and whether it is active.';
