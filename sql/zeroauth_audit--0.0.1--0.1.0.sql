\echo Use "ALTER EXTENSION zeroauth_audit UPDATE" to load this file. \quit
-- From the first frozen schema to 0.1.0: the drill, jobs and health are new, and audit_export changed. Until 0.1.0 is declared
-- released in CHANGELOG.md, every change of sql/schema goes here too; afterwards this script never changes.
-- pgrx-tests/tests/upgrade.rs compares the outcome.

-- audit_export checks in a statement of its own that the caller sees every row: PostgreSQL 18 left the check out of the plan
-- when it knew that a policy hides all of them, and the export was empty instead of refused.
-- Its columns are what a verifier outside the database reads; who asks must have the rights.
CREATE VIEW @extschema@.audit_exported WITH (security_invoker = true) AS
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
REVOKE ALL ON TABLE @extschema@.audit_exported FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_exported IS
    'Each event as JSON, every value a string or null: what a verifier outside the database reads (docs/format.md). audit_export() is the one to call.';
COMMENT ON COLUMN @extschema@.audit_exported.tenant_id IS 'Whose trail it is.';
COMMENT ON COLUMN @extschema@.audit_exported.chain IS 'Chain within the tenant.';
COMMENT ON COLUMN @extschema@.audit_exported.seq IS 'Position in the chain.';
COMMENT ON COLUMN @extschema@.audit_exported.event_id IS 'The producer''s idempotency key.';
COMMENT ON COLUMN @extschema@.audit_exported.event IS 'The event as one JSON object.';

CREATE OR REPLACE FUNCTION @extschema@.audit_export(tenant text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 100000
    -- In the order of the primary key, without a sort: a sort would write the whole trail to temporary files first.
    SET enable_sort = off
BEGIN ATOMIC
    -- A statement of its own: as a condition beside a policy's it is left out of a plan that knows that no row is visible.
    SELECT @extschema@.audit_require_every_row();
    SELECT e.event
    FROM @extschema@.audit_exported e
    WHERE audit_export.tenant IS NULL OR e.tenant_id = audit_export.tenant
    ORDER BY e.tenant_id, e.chain, e.seq;
END;

-- The drill: attacks that a running system can play on itself, on a scratch table that is never committed.

CREATE FUNCTION @extschema@.audit_drill_findings(scratch regclass) RETURNS TABLE (
    class text, tenant_id text, chain smallint, seq bigint, event_id uuid, expected bytea, actual bytea, detail text)
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_drill_findings';
REVOKE ALL ON FUNCTION @extschema@.audit_drill_findings(regclass) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drill_findings(regclass) IS
    'Part of audit_drill(): what audit_findings() says, by the same code, of a table of the trail''s shape that this transaction created. ZA009 for any other table.';

CREATE FUNCTION @extschema@.audit_drill_seal(scratch regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_drill_seal';
REVOKE ALL ON FUNCTION @extschema@.audit_drill_seal(regclass) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drill_seal(regclass) IS
    'Part of audit_drill(): what the job checkpoint does, by the same code, to a scratch table and the logs beside it, signed with a key that is made up and forgotten. Returns how many events were sealed. ZA009 for a table that is not a drill''s, ZA051 when what was sealed before is not there.';

-- played: variants of one attack, each played by itself on an untouched trail; {table} is the scratch table, {schema} its schema,
-- {ours} the schema of the extension. All events were sealed before, in logs beside the table. guarded: the table has the guards that audit_events has; otherwise only the chaining.
-- then_true: what must hold of the stored rows, too. not_played: why nothing is played.
CREATE FUNCTION @extschema@.audit_drill_attacks() RETURNS TABLE (
    pitfall integer, attack text, expected text, guarded boolean, played text[], then_true text, not_played text)
    LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 50
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
AS $attacks$
SELECT list.*
FROM (
    SELECT
        r.rolsuper AS super,
        -- The hashes of chain 0 of acme, made anew from its first event on.
        $$;
          DO $do$
          DECLARE
              e {table};
              prev bytea := decode(repeat('00', 32), 'hex');
          BEGIN
              FOR e IN SELECT * FROM {table} WHERE tenant_id = 'acme' AND chain = 0 ORDER BY seq LOOP
                  e.event_hash := {ours}.audit_event_hash(prev, e.tenant_id, e.chain, e.seq, e.event_id, e.occurred_at, e.recorded_at, e.category,
                      e.action, e.outcome, e.severity, e.resource, e.service_name, e.env, e.provider, e.request_id, e.correlation_id, e.trace_id,
                      e.span_id, e.status_code, e.latency_ms, e.payload_size, e.error_code, e.db_role,
                      {ours}.audit_private_hash(e.salt, e.actor_type, e.actor_id, e.ip, e.user_agent, e.error_message, e.details));
                  UPDATE {table} SET prev_hash = prev, event_hash = e.event_hash WHERE tenant_id = 'acme' AND chain = 0 AND seq = e.seq;
                  prev := e.event_hash;
              END LOOP;
          END
          $do$;$$ AS recomputed,
        -- What the log of acme, of eight events, remembers of them, made anew.
        $$;
          DO $do$
          DECLARE
              nodes bytea[] := ARRAY(SELECT sha256('\x00'::bytea || event_hash) FROM {table} WHERE tenant_id = 'acme' ORDER BY seq);
          BEGIN
              UPDATE {schema}.audit_tiles SET hashes = (SELECT string_agg(h, '' ORDER BY n) FROM unnest(nodes) WITH ORDINALITY u (h, n)) WHERE tenant_id = 'acme';
              WHILE cardinality(nodes) > 1 LOOP
                  nodes := ARRAY(SELECT sha256('\x01'::bytea || nodes[n] || nodes[n + 1]) FROM generate_series(1, cardinality(nodes), 2) n);
              END LOOP;
              UPDATE {schema}.audit_checkpoints SET root = nodes[1] WHERE tenant_id = 'acme';
          END
          $do$;$$ AS remembered,
        CASE WHEN NOT has_parameter_privilege('session_replication_role', 'SET') THEN 'not played: needs SET on session_replication_role' END AS no_replica
    FROM pg_roles r WHERE r.rolname = CURRENT_USER
) caller
CROSS JOIN LATERAL (VALUES
    (1, 'a second event is put at a taken place', '23505', false, ARRAY[
        $$ALTER TABLE {table} DISABLE TRIGGER USER;
          INSERT INTO {table} SELECT * FROM {table} WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (1, 'the same, with the primary key dropped', 'fork', false, ARRAY[
        $$ALTER TABLE {table} DISABLE TRIGGER USER, DROP CONSTRAINT events_pkey, DROP CONSTRAINT events_tenant_id_event_id_key;
          INSERT INTO {table} SELECT * FROM {table} WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (2, 'one request audits on two connections', 'none', NULL, NULL, NULL, 'not played: needs two sessions'),
    (3, 'locks of events against locks of the application', 'none', NULL, NULL, NULL, 'not played: needs two sessions'),
    (4, 'two tenants wait for each other', 'none', NULL, NULL, NULL, 'not played: needs two sessions'),
    (5, 'events come with times that run backwards', 'none', true, ARRAY[
        $$INSERT INTO {table} (tenant_id, action, occurred_at)
          SELECT 'acme', 'late', now() - n * interval '1 hour' FROM generate_series(1, 5) n$$],
        $$SELECT array_agg(seq ORDER BY occurred_at DESC) = '{9,10,11,12,13}' FROM {table} WHERE action = 'late'$$, NULL),
    (6, 'an old snapshot appends to a newer head', 'none', NULL, NULL, NULL, 'not played: needs two sessions'),
    (7, 'ON CONFLICT DO NOTHING drops events among others', 'none', true, ARRAY[
        $$INSERT INTO {table} (tenant_id, event_id, action)
          SELECT tenant_id, event_id, 'again' FROM {table} WHERE seq = 3 UNION ALL VALUES ('acme', gen_random_uuid(), 'new')
          ON CONFLICT DO NOTHING;
          INSERT INTO {table} (tenant_id, action) VALUES ('acme', 'next')$$],
        $$SELECT count(*) = 18 FROM {table}$$, NULL),
    (8, '1000 events in one statement', 'none', true, ARRAY[
        $$INSERT INTO {table} (tenant_id, action) SELECT 'acme', 'load' FROM generate_series(1, 1000)$$],
        $$SELECT count(*) = 1016 FROM {table}$$, NULL),
    (9, 'a savepoint with events is rolled back', 'none', true, ARRAY[
        $$DO $do$
          BEGIN
              INSERT INTO {table} (tenant_id, action) VALUES ('acme', 'kept');
              BEGIN
                  INSERT INTO {table} (tenant_id, action) VALUES ('acme', 'undone'), ('acme', 'undone');
                  RAISE division_by_zero;
              EXCEPTION WHEN division_by_zero THEN
                  INSERT INTO {table} (tenant_id, action) VALUES ('acme', 'instead');
              END;
          END
          $do$;$$],
        $$SELECT count(*) = 18 FROM {table}$$, NULL),
    (10, 'a time has nanoseconds', 'none', true, ARRAY[
        $$INSERT INTO {table} (tenant_id, action, occurred_at) VALUES ('acme', 'nanoseconds', '2001-02-03 04:05:06.123456789+00')$$],
        $$SELECT count(*) = 17 FROM {table}$$, NULL),
    (11, 'details come with unordered and repeated keys', 'none', true, ARRAY[
        $$INSERT INTO {table} (tenant_id, action, details) VALUES ('acme', 'unordered', '{"bb": 1, "a": 2.50, "a": 3.0, "c": {"z": 1, "y": 2}}')$$],
        $$SELECT count(*) = 17 FROM {table}$$, NULL),
    (12, 'text has backslashes and escapes', 'none', true, ARRAY[
        $$INSERT INTO {table} (tenant_id, action, details) VALUES ('acme', '\x41 \\ \101 \u0041 %s ''', '{"path": "C:\\x00\\101"}')$$],
        $$SELECT count(*) = 1 FROM {table} WHERE action = '\x41 \\ \101 \u0041 %s ''' AND details ->> 'path' = 'C:\x00\101'$$, NULL),
    (13, 'text moves from one field to the next', 'content_mismatch', false, ARRAY[
        $$UPDATE {table} SET category = category || left(action, 1), action = substr(action, 2) WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (13, 'nothing becomes an empty text', 'content_mismatch', false, ARRAY[
        $$UPDATE {table} SET error_code = '' WHERE tenant_id = 'acme' AND seq = 5$$,
        $$UPDATE {table} SET error_message = '' WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (14, 'the table gets another column', 'none', false, ARRAY[
        $$ALTER TABLE {table} ADD COLUMN later text DEFAULT 'x'$$], NULL, NULL),
    (14, 'an event claims an unknown hash version', 'content_mismatch', false, ARRAY[
        $$UPDATE {table} SET hash_version = 2 WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (15, 'the newest events of a chain are deleted', 'tail_truncated', false, ARRAY[
        $$DELETE FROM {table} WHERE tenant_id = 'acme' AND seq > 6$$,
        $$DELETE FROM {table} WHERE tenant_id = 'acme' AND seq = 8$$], NULL, NULL),
    (16, 'all events of a tenant are deleted', 'tenant_missing', false, ARRAY[
        $$DELETE FROM {table} WHERE tenant_id = 'acme'$$], NULL, NULL),
    (17, 'the oldest events are deleted', 'gap', false, ARRAY[
        $$DELETE FROM {table} WHERE tenant_id = 'acme' AND seq < 4$$], NULL, NULL),
    (17, 'the oldest events are deleted, the rest is renumbered and all hashes recomputed', 'tail_truncated', false, ARRAY[
        $$DELETE FROM {table} WHERE tenant_id = 'acme' AND seq < 4;
          UPDATE {table} SET seq = -seq WHERE tenant_id = 'acme';
          UPDATE {table} SET seq = -seq - 3 WHERE tenant_id = 'acme'$$ || caller.recomputed], NULL, NULL),
    (17, 'the same, and as many events are added', 'checkpoint_mismatch', false, ARRAY[
        $$DELETE FROM {table} WHERE tenant_id = 'acme' AND seq < 4;
          UPDATE {table} SET seq = -seq WHERE tenant_id = 'acme';
          UPDATE {table} SET seq = -seq - 3 WHERE tenant_id = 'acme'$$ || caller.recomputed || $$;
          INSERT INTO {table} (tenant_id, action) SELECT 'acme', 'instead' FROM generate_series(1, 3)$$], NULL, NULL),
    (18, 'the triggers are switched off', 'ZA004', true, ARRAY[
        $$ALTER TABLE {table} DISABLE TRIGGER ALL$$,
        $$ALTER TABLE {table} DISABLE TRIGGER zzz_zeroauth_audit_chain$$,
        $$ALTER TABLE {table} ENABLE REPLICA TRIGGER zeroauth_audit_refuse_row$$,
        $$DROP TRIGGER zeroauth_audit_refuse_statement ON {table}$$], NULL, NULL),
    (18, 'with the triggers off, an event is rewritten', 'content_mismatch', false, ARRAY[
        $$ALTER TABLE {table} DISABLE TRIGGER USER;
          UPDATE {table} SET outcome = 'failure' WHERE tenant_id = 'acme' AND seq = 5;
          ALTER TABLE {table} ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain$$], NULL, NULL),
    (18, 'with the triggers off, an event is rewritten and the whole chain recomputed', 'checkpoint_mismatch', false, ARRAY[
        $$ALTER TABLE {table} DISABLE TRIGGER USER;
          UPDATE {table} SET outcome = 'failure' WHERE tenant_id = 'acme' AND seq = 5$$ || caller.recomputed || $$;
          ALTER TABLE {table} ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain$$], NULL, NULL),
    (19, 'events are added in replica role', 'none', true, ARRAY[
        $$SET LOCAL session_replication_role = replica;
          INSERT INTO {table} (tenant_id, action) VALUES ('acme', 'in replica role')$$],
        $$SELECT count(*) = 17 FROM {table}$$, caller.no_replica),
    (19, 'events are changed in replica role', 'ZA003', true, ARRAY[
        $$SET LOCAL session_replication_role = replica; UPDATE {table} SET outcome = 'failure'$$,
        $$SET LOCAL session_replication_role = replica; DELETE FROM {table}$$,
        $$SET LOCAL session_replication_role = replica; TRUNCATE {table}$$], NULL, caller.no_replica),
    (19, 'an event comes with a hash that is not its own', CASE WHEN caller.super THEN 'ZA002' ELSE 'ZA001' END, true, ARRAY[
        $$INSERT INTO {table} (tenant_id, chain, seq, event_id, occurred_at, recorded_at, action, db_role, salt, prev_hash, event_hash, hash_version)
          SELECT tenant_id, chain, seq + 1, gen_random_uuid(), occurred_at, recorded_at, action, db_role, salt, event_hash, event_hash, hash_version
          FROM {table} WHERE tenant_id = 'acme' AND seq = 8$$], NULL, NULL),
    (20, 'the events are copied out and restored', CASE WHEN caller.super THEN 'none' ELSE 'ZA001' END, false, ARRAY[
        $$CREATE TABLE {schema}.dump AS TABLE {table}; DELETE FROM {table}; INSERT INTO {table} TABLE {schema}.dump$$],
        $$SELECT (SELECT count(*) = 16 FROM {table}) AND NOT EXISTS (TABLE {schema}.dump EXCEPT TABLE {table})$$, NULL),
    (20, 'the same, with one event changed in between', CASE WHEN caller.super THEN 'ZA002' ELSE 'ZA001' END, false, ARRAY[
        $$CREATE TABLE {schema}.dump AS TABLE {table}; DELETE FROM {table};
          UPDATE {schema}.dump SET actor_id = 'somebody else' WHERE tenant_id = 'acme' AND seq = 5;
          INSERT INTO {table} TABLE {schema}.dump$$], NULL, NULL),
    (21, 'UPDATE', 'ZA003', true, ARRAY[$$UPDATE {table} SET outcome = 'failure'$$, $$UPDATE {table} SET seq = seq WHERE false$$], NULL, NULL),
    (21, 'DELETE', 'ZA003', true, ARRAY[$$DELETE FROM {table}$$], NULL, NULL),
    (21, 'TRUNCATE', 'ZA003', true, ARRAY[$$TRUNCATE {table}$$], NULL, NULL),
    (21, 'DROP, of the table and of its schema', 'ZA004', true, ARRAY[$$DROP TABLE {table}$$, $$DROP SCHEMA {schema} CASCADE$$], NULL, NULL),
    (21, 'ALTER TYPE, which writes every row anew', 'ZA004', true, ARRAY[
        $$ALTER TABLE {table} ALTER COLUMN action TYPE text USING 'nothing'$$], NULL, NULL),
    (21, 'rename, and move to another schema', 'ZA004', true, ARRAY[
        $$ALTER TABLE {table} RENAME TO harmless$$, $$ALTER TABLE {table} SET SCHEMA pg_catalog$$], NULL, NULL),
    (21, 'ATTACH as a partition', 'ZA004', true, ARRAY[
        $$CREATE TABLE {schema}.parent (LIKE {table}) PARTITION BY LIST (tenant_id);
          ALTER TABLE {schema}.parent ATTACH PARTITION {table} DEFAULT$$], NULL, NULL),
    (21, 'a rule', 'ZA004', true, ARRAY[$$CREATE RULE drop_it AS ON INSERT TO {table} DO INSTEAD NOTHING$$], NULL, NULL),
    (21, 'inheritance', 'ZA004', true, ARRAY[$$CREATE TABLE {schema}.child () INHERITS ({table})$$], NULL, NULL),
    (22, 'events arrive while a replay runs', 'none', NULL, NULL, NULL, 'not played: needs two sessions'),
    (23, 'three different defects at once', 'content_mismatch, gap, link_broken', false, ARRAY[
        $$UPDATE {table} SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 2;
          DELETE FROM {table} WHERE tenant_id = 'acme' AND seq = 5;
          UPDATE {table} SET prev_hash = event_hash WHERE tenant_id = 'globex' AND seq = 5$$], NULL, NULL),
    (24, 'the checks are switched off', 'guard_disabled', NULL, NULL, NULL, 'not played: needs the trail itself'),
    (25, 'an hour passes without events, then what was before it is deleted', 'tail_truncated', false, ARRAY[
        $$UPDATE {schema}.audit_checkpoints SET sealed_at = sealed_at - interval '61 minutes';
          SELECT {ours}.audit_drill_seal('{table}');
          DELETE FROM {table} WHERE tenant_id = 'acme' AND seq > 6$$],
        $$SELECT count(*) = 2 AND min(sealed_at) > clock_timestamp() - interval '1 hour' FROM {schema}.audit_checkpoints$$, NULL),
    (26, 'each column is changed by itself, the hashes left as they are', 'content_mismatch', false, (
        SELECT array_agg(format($$UPDATE {table} SET %1$I = %2$s WHERE tenant_id = 'acme' AND seq = 5$$, a.attname,
            format(CASE a.atttypid
                WHEN 'text'::regtype THEN $$coalesce(%1$I, '') || 'x'$$
                WHEN 'uuid'::regtype THEN 'gen_random_uuid()'
                WHEN 'timestamptz'::regtype THEN $$%1$I + interval '1 microsecond'$$
                WHEN 'inet'::regtype THEN '%1$I + 1'
                WHEN 'jsonb'::regtype THEN $$%1$I || '{"forged": true}'$$
                WHEN 'bytea'::regtype THEN 'coalesce(set_byte(%1$I, 0, 255 - get_byte(%1$I, 0)), event_hash)'
                ELSE 'coalesce(%1$I, 0) + 1' END, a.attname)) ORDER BY a.attnum)
        FROM pg_attribute a
        WHERE a.attrelid = '@extschema@.audit_events'::regclass AND a.attnum BETWEEN 1 AND 34
          AND a.attname NOT IN ('tenant_id', 'chain', 'seq', 'prev_hash', 'event_hash')), NULL, NULL),
    (26, 'a hash is changed', 'content_mismatch, link_broken', false, ARRAY[
        $$UPDATE {table} SET event_hash = prev_hash WHERE tenant_id = 'acme' AND seq = 5$$,
        $$UPDATE {table} SET prev_hash = event_hash WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (27, 'an event in the middle is deleted', 'gap', false, ARRAY[
        $$DELETE FROM {table} WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (27, 'the same, and the rest is renumbered', 'content_mismatch, link_broken, tail_truncated', false, ARRAY[
        $$DELETE FROM {table} WHERE tenant_id = 'acme' AND seq = 5;
          UPDATE {table} SET seq = -seq WHERE tenant_id = 'acme' AND seq > 5;
          UPDATE {table} SET seq = -seq - 1 WHERE tenant_id = 'acme' AND seq < 0$$], NULL, NULL),
    (27, 'two events swap their places', 'content_mismatch, link_broken', false, ARRAY[
        $$UPDATE {table} SET seq = -seq WHERE tenant_id = 'acme' AND seq IN (4, 5);
          UPDATE {table} SET seq = 9 + seq WHERE tenant_id = 'acme' AND seq < 0$$], NULL, NULL),
    (27, 'an event moves to another tenant', 'content_mismatch, gap, link_broken', false, ARRAY[
        $$UPDATE {table} SET tenant_id = 'globex', seq = 9 WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (27, 'an event moves to another chain', 'content_mismatch, gap', false, ARRAY[
        $$UPDATE {table} SET chain = 1 WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (27, 'an event is rewritten and its own hash recomputed', 'link_broken', false, ARRAY[
        $$UPDATE {table} SET event_hash = {ours}.audit_event_hash(prev_hash, tenant_id, chain, seq, event_id, occurred_at, recorded_at, category, 'forged',
              outcome, severity, resource, service_name, env, provider, request_id, correlation_id, trace_id, span_id, status_code,
              latency_ms, payload_size, error_code, db_role, {ours}.audit_private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)),
            action = 'forged'
          WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (27, 'an event is rewritten and all hashes from it on recomputed', 'checkpoint_mismatch', false, ARRAY[
        $$UPDATE {table} SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 5$$ || caller.recomputed], NULL, NULL),
    (28, 'the same, and what the log remembers is made anew, but for the signature', 'checkpoint_mismatch', false, ARRAY[
        $$UPDATE {table} SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 5$$ || caller.recomputed || caller.remembered], NULL, NULL),
    (28, 'whatever in the database remembers the head is changed, too', 'anchor_mismatch', NULL, NULL, NULL, 'not played: needs what left the database')
) list (pitfall, attack, expected, guarded, played, then_true, not_played)
$attacks$;
REVOKE ALL ON FUNCTION @extschema@.audit_drill_attacks() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drill_attacks() IS
    'Part of audit_drill(): the attacks as they are played. {table} is the scratch table, guarded says whether it has the guards of audit_events; the variants in played are played each on an untouched trail; then_true must hold afterwards; not_played says why nothing is played.';

CREATE FUNCTION @extschema@.audit_drill() RETURNS TABLE (
    pitfall integer, attack text, expected text, found text, detected_in interval, passed boolean)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 50
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
    SET standard_conforming_strings = on
    SET default_tablespace = ''
    SET default_table_access_method = heap
    -- For sixteen events these only cost time, if the session would use them.
    SET jit = off
    SET max_parallel_workers_per_gather = 0
AS $drill$
DECLARE
    -- Two schemas: each table has logs beside it.
    scratch CONSTANT text := format('zeroauth_audit_drill_%s_%s', pg_backend_pid(), left(gen_random_uuid()::text, 8));
    guarded CONSTANT text := scratch || '.audit_events';
    unguarded CONSTANT text := scratch || '_unguarded.events';
    ours CONSTANT regnamespace := '@extschema@';
    trail CONSTANT regclass := '@extschema@.audit_events';
    constraints text;
    a record;
    item record;
    variant text;
    target text;
    outcome text;
    outcomes text[];
    result text;
    began timestamptz;
    took interval;
    holds boolean;
    no_trail text;
    no_log text;
BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION USING
            ERRCODE = 'read_only_sql_transaction',
            MESSAGE = 'audit_drill() cannot run in a read-only transaction',
            DETAIL = 'It creates a scratch schema, and rolls it back.',
            HINT = 'Run it on the primary, in a transaction that may write.';
    END IF;

    -- Everything below is undone by the error at its end, which this block catches: nothing of it is ever committed.
    BEGIN
        EXECUTE format('CREATE SCHEMA %I', scratch);
        EXECUTE format('CREATE SCHEMA %I', scratch || '_unguarded');

        -- The columns, places and guards of audit_events as they are now, not as they should be: a guard that was taken off is
        -- missing here, too. Neither columns nor constraints, defaults, indexes or triggers of others are taken along: they
        -- could run code of theirs as the caller.
        SELECT string_agg(', ' || pg_get_constraintdef(c.oid), '') INTO constraints
        FROM pg_constraint c
        WHERE c.conrelid = trail AND c.conname IN ('audit_events_pkey', 'audit_events_event_id_key') AND c.contype IN ('p', 'u');
        FOREACH target IN ARRAY ARRAY[scratch || '.building', unguarded] LOOP
            EXECUTE format('CREATE TABLE %s (LIKE %s%s)', target, trail, constraints);
            FOR item IN
                SELECT c.attname FROM pg_attribute c WHERE c.attrelid = target::regclass AND c.attnum > 34 AND NOT c.attisdropped
            LOOP
                EXECUTE format('ALTER TABLE %s DROP COLUMN %I', target, item.attname);
            END LOOP;
            EXECUTE format($sql$ALTER TABLE %s ALTER outcome SET DEFAULT 'success', ALTER severity SET DEFAULT 'info'$sql$, target);
            FOR item IN
                SELECT t.tgname, t.tgenabled, ours_is.shape, t.tgfoid::regprocedure AS function
                FROM (VALUES
                    ('zzz_zeroauth_audit_chain'::name, 7, 'BEFORE INSERT ON %s FOR EACH ROW', 'audit_chain_event()', true),
                    ('zeroauth_audit_refuse_row', 27, 'BEFORE UPDATE OR DELETE ON %s FOR EACH ROW', 'audit_refuse_row()', false),
                    ('zeroauth_audit_refuse_statement', 58, 'BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT', 'audit_refuse_statement()', false)
                ) ours_is (tgname, tgtype, shape, function, chains)
                JOIN pg_trigger t ON t.tgrelid = trail AND t.tgname = ours_is.tgname AND t.tgtype = ours_is.tgtype
                    AND t.tgfoid = to_regprocedure(format('%s.%s', ours, ours_is.function)) AND t.tgqual IS NULL AND t.tgattr::text = ''
                WHERE ours_is.chains OR target <> unguarded
            LOOP
                EXECUTE format('CREATE TRIGGER %I ' || item.shape || ' EXECUTE FUNCTION %s', item.tgname, target, item.function);
                EXECUTE format('ALTER TABLE %s %s TRIGGER %I', target,
                    CASE item.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE' END,
                    item.tgname);
            END LOOP;
        END LOOP;
        -- From here on the DDL guard takes it for a trail.
        EXECUTE format('ALTER TABLE %s.building RENAME TO audit_events', scratch);

        BEGIN
            FOREACH target IN ARRAY ARRAY[guarded, unguarded] LOOP
                EXECUTE format($sql$
                    INSERT INTO %s (tenant_id, category, action, resource, actor_type, actor_id, ip, details)
                    SELECT tenant, 'drill', 'step ' || n, 'file/' || n, 'user', 'zoe', '192.0.2.7', jsonb_build_object('n', n)
                    FROM unnest(ARRAY['acme', 'globex']) tenant, generate_series(1, 8) n$sql$, target);
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            no_trail := format('no events to play on: %s', SQLSTATE);
        END;
        BEGIN
            -- Logs beside each: columns, places and no more, of the extension's own as they are now. They are read from the catalogs, so
            -- that who drills need not be able to read the logs.
            FOR item IN
                SELECT c.oid, c.relname, coalesce(', ' || pg_get_constraintdef(k.oid), '') AS place,
                    (SELECT string_agg(format('%I %s', col.attname, format_type(col.atttypid, col.atttypmod)), ', ' ORDER BY col.attnum)
                     FROM pg_attribute col WHERE col.attrelid = c.oid AND col.attnum > 0 AND NOT col.attisdropped) AS columns
                FROM pg_class c LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
                WHERE c.relnamespace = ours AND c.relname IN ('audit_logs', 'audit_log_intervals', 'audit_tiles', 'audit_checkpoints', 'audit_keys')
            LOOP
                FOREACH target IN ARRAY ARRAY[scratch, scratch || '_unguarded'] LOOP
                    EXECUTE format('CREATE TABLE %I.%I (%s%s)', target, item.relname, item.columns, item.place);
                END LOOP;
            END LOOP;
            FOREACH target IN ARRAY ARRAY[scratch, scratch || '_unguarded'] LOOP
                EXECUTE format($sql$
                    ALTER TABLE %1$I.audit_logs ALTER epoch SET DEFAULT 0, ALTER tree_size SET DEFAULT 0, ALTER state SET DEFAULT 'open';
                    ALTER TABLE %1$I.audit_checkpoints ALTER sealed_at SET DEFAULT clock_timestamp();
                    ALTER TABLE %1$I.audit_keys ALTER last_used SET DEFAULT clock_timestamp()$sql$, target);
            END LOOP;
            FOREACH target IN ARRAY ARRAY[guarded, unguarded] LOOP
                PERFORM @extschema@.audit_drill_seal(target::regclass);
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            no_log := format('; not sealed before: %s', SQLSTATE);
        END;

        FOR a IN SELECT list.* FROM @extschema@.audit_drill_attacks() WITH ORDINALITY list ORDER BY list.ordinality LOOP
            IF a.not_played IS NOT NULL THEN
                RETURN QUERY SELECT a.pitfall, a.attack, a.expected, a.not_played, NULL::interval, NULL::boolean;
                CONTINUE;
            END IF;
            took := NULL;
            outcomes := '{}';
            target := CASE WHEN a.guarded THEN guarded ELSE unguarded END;
            FOREACH variant IN ARRAY CASE WHEN no_trail IS NULL THEN a.played ELSE '{}' END LOOP
                began := clock_timestamp();
                BEGIN
                    EXECUTE replace(replace(replace(variant, '{table}', target), '{schema}', split_part(target, '.', 1)), '{ours}', ours::text);
                    began := clock_timestamp();
                    SELECT coalesce(string_agg(DISTINCT f.class, ', ' ORDER BY f.class), 'none') INTO outcome
                    FROM @extschema@.audit_drill_findings(target::regclass) f;
                    took := greatest(took, clock_timestamp() - began);
                    IF a.then_true IS NOT NULL THEN
                        EXECUTE replace(replace(a.then_true, '{table}', target), '{schema}', split_part(target, '.', 1)) INTO holds;
                        IF holds IS NOT TRUE THEN
                            outcome := outcome || ', but not stored as given';
                        END IF;
                    END IF;
                    RAISE EXCEPTION USING ERRCODE = 'ZAD00', MESSAGE = 'the attack is taken back';
                EXCEPTION
                    WHEN SQLSTATE 'ZAD00' THEN
                        NULL;
                    WHEN OTHERS THEN
                        outcome := SQLSTATE;
                        took := greatest(took, clock_timestamp() - began);
                END;
                IF outcome = 'ZA004' AND NOT @extschema@.audit_preloaded() THEN
                    outcome := 'ZA004 in this session only';
                END IF;
                outcomes := outcomes || outcome;
            END LOOP;
            SELECT coalesce(string_agg(DISTINCT o, '; '), no_trail, 'nothing was played') INTO result FROM unnest(outcomes) o;
            IF result <> a.expected AND no_trail IS NULL THEN
                result := concat(result, no_log);
            END IF;
            RETURN QUERY SELECT a.pitfall, a.attack, a.expected, result, took, result = a.expected;
        END LOOP;
        RAISE EXCEPTION USING ERRCODE = 'ZAD00', MESSAGE = 'the scratch schema is taken back';
    EXCEPTION WHEN SQLSTATE 'ZAD00' THEN
        NULL;
    END;
END
$drill$;
REVOKE ALL ON FUNCTION @extschema@.audit_drill() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drill() IS
    'Plays the known attacks on a scratch table that has the guards of audit_events, and gives one row for each: number of the pitfall, what was done, the class or SQLSTATE expected, what was found ("none": nothing), how long the verification or refusal took, passed (NULL: not played, found says why). Everything is rolled back before it returns. Needs CREATE on the database. 25006 in a read-only transaction.';

-- Alerts: what a person is told, whom it is sent to, and what has been sent.

CREATE TABLE @extschema@.audit_alerts (
    id bigint GENERATED ALWAYS AS IDENTITY,
    raised_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    severity smallint NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    tenant text COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C" NOT NULL,
    message text NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}',
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'open',
    occurrences bigint NOT NULL DEFAULT 1,
    last_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    condition_gone_at timestamptz,
    escalation_level smallint NOT NULL DEFAULT 1,
    acknowledged_at timestamptz,
    acknowledged_by text,
    acknowledged_note text,
    resolved_at timestamptz,
    resolved_by text,
    resolved_note text,
    trail_error text,
    CONSTRAINT audit_alerts_pkey PRIMARY KEY (id),
    CONSTRAINT audit_alerts_severity_check CHECK (severity BETWEEN 1 AND 4),
    CONSTRAINT audit_alerts_kind_check CHECK (kind ~ '^[a-z][a-z0-9_]{0,62}$'),
    CONSTRAINT audit_alerts_fingerprint_check CHECK (pg_catalog.octet_length(fingerprint) BETWEEN 1 AND 1024),
    CONSTRAINT audit_alerts_state_check CHECK (state IN ('open', 'acknowledged', 'resolved')),
    CONSTRAINT audit_alerts_escalation_level_check CHECK (escalation_level BETWEEN 1 AND 4),
    CONSTRAINT audit_alerts_acknowledged_check CHECK (state <> 'acknowledged' OR pg_catalog.num_nonnulls(acknowledged_at, acknowledged_by) = 2),
    CONSTRAINT audit_alerts_resolved_check CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
COMMENT ON SEQUENCE @extschema@.audit_alerts_id_seq IS 'Numbers of alerts.';
REVOKE ALL ON SEQUENCE @extschema@.audit_alerts_id_seq FROM PUBLIC;
CREATE UNIQUE INDEX audit_alerts_unresolved ON @extschema@.audit_alerts (fingerprint) WHERE state <> 'resolved';
CREATE INDEX audit_alerts_unacknowledged ON @extschema@.audit_alerts (raised_at) WHERE state = 'open' AND severity = 1;
REVOKE ALL ON TABLE @extschema@.audit_alerts FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_alerts IS 'What people are told: one row for each time that a condition began, at most one of them unresolved for each fingerprint.';
COMMENT ON COLUMN @extschema@.audit_alerts.id IS 'Number of the alert, for audit_acknowledge().';
COMMENT ON COLUMN @extschema@.audit_alerts.raised_at IS 'When it was raised.';
COMMENT ON COLUMN @extschema@.audit_alerts.severity IS '1 to 4; 1 is the highest, and must be acknowledged by a person.';
COMMENT ON COLUMN @extschema@.audit_alerts.kind IS 'What it is about: a finding class, or the state of a job. The README has a runbook for each.';
COMMENT ON COLUMN @extschema@.audit_alerts.tenant IS 'Whose trail it is about, NULL if no tenant''s.';
COMMENT ON COLUMN @extschema@.audit_alerts.fingerprint IS 'What makes two reports the same condition: kind, tenant and place.';
COMMENT ON COLUMN @extschema@.audit_alerts.message IS 'The condition in words, when it was first seen.';
COMMENT ON COLUMN @extschema@.audit_alerts.evidence IS 'What was found, when it was first seen; more than 32 KiB are cut.';
COMMENT ON COLUMN @extschema@.audit_alerts.state IS 'open, acknowledged or resolved.';
COMMENT ON COLUMN @extschema@.audit_alerts.occurrences IS 'How often it was reported.';
COMMENT ON COLUMN @extschema@.audit_alerts.last_seen IS 'When it was last reported.';
COMMENT ON COLUMN @extschema@.audit_alerts.condition_gone_at IS 'When a check found the condition gone while nobody had acknowledged the alert; NULL again when it is back.';
COMMENT ON COLUMN @extschema@.audit_alerts.escalation_level IS 'How far it was escalated: 1 is not at all.';
COMMENT ON COLUMN @extschema@.audit_alerts.acknowledged_at IS 'When a person acknowledged it.';
COMMENT ON COLUMN @extschema@.audit_alerts.acknowledged_by IS 'The role that was logged in then.';
COMMENT ON COLUMN @extschema@.audit_alerts.acknowledged_note IS 'What that person wrote.';
COMMENT ON COLUMN @extschema@.audit_alerts.resolved_at IS 'When the condition was found gone, after an acknowledgement if the severity is 1.';
COMMENT ON COLUMN @extschema@.audit_alerts.resolved_by IS 'The role that was logged in then: the worker''s, normally.';
COMMENT ON COLUMN @extschema@.audit_alerts.resolved_note IS 'Why it was resolved.';
COMMENT ON COLUMN @extschema@.audit_alerts.trail_error IS 'Why an event about this alert could not be written to the trail; NULL when all of them were.';
COMMENT ON CONSTRAINT audit_alerts_pkey ON @extschema@.audit_alerts IS 'Alerts are told apart by their number.';
COMMENT ON CONSTRAINT audit_alerts_severity_check ON @extschema@.audit_alerts IS 'The four severities.';
COMMENT ON CONSTRAINT audit_alerts_kind_check ON @extschema@.audit_alerts IS 'A kind is a word that every receiver can route by.';
COMMENT ON CONSTRAINT audit_alerts_fingerprint_check ON @extschema@.audit_alerts IS 'A fingerprint is 1 to 1024 bytes long.';
COMMENT ON CONSTRAINT audit_alerts_state_check ON @extschema@.audit_alerts IS 'The three states.';
COMMENT ON CONSTRAINT audit_alerts_escalation_level_check ON @extschema@.audit_alerts IS 'The four levels.';
COMMENT ON CONSTRAINT audit_alerts_acknowledged_check ON @extschema@.audit_alerts IS 'An acknowledgement has a time and a person.';
COMMENT ON CONSTRAINT audit_alerts_resolved_check ON @extschema@.audit_alerts IS 'What is resolved was so at some time.';
COMMENT ON INDEX @extschema@.audit_alerts_unresolved IS 'One unresolved alert for each fingerprint: a condition that goes on is counted, not repeated.';
COMMENT ON INDEX @extschema@.audit_alerts_unacknowledged IS 'Alerts that can still be escalated.';

CREATE TABLE @extschema@.audit_alert_routes (
    name text COLLATE pg_catalog."C" NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    url_file text NOT NULL,
    secret_file text,
    ca_file text,
    min_severity smallint NOT NULL DEFAULT 4,
    from_level smallint NOT NULL DEFAULT 1,
    enabled boolean NOT NULL DEFAULT true,
    CONSTRAINT audit_alert_routes_pkey PRIMARY KEY (name),
    CONSTRAINT audit_alert_routes_name_check CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    CONSTRAINT audit_alert_routes_kind_check CHECK (kind IN ('alertmanager', 'webhook')),
    CONSTRAINT audit_alert_routes_files_check CHECK (url_file ~ '^/' AND secret_file ~ '^/' AND ca_file ~ '^/'),
    CONSTRAINT audit_alert_routes_secret_check CHECK (kind <> 'webhook' OR secret_file IS NOT NULL),
    CONSTRAINT audit_alert_routes_min_severity_check CHECK (min_severity BETWEEN 1 AND 4),
    CONSTRAINT audit_alert_routes_from_level_check CHECK (from_level BETWEEN 1 AND 4)
);
REVOKE ALL ON TABLE @extschema@.audit_alert_routes FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_alert_routes IS 'Where alerts are sent. URLs and keys lie in files that only the server can read, never in a table. Whoever can write to this table has the server send to places of their choice.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.name IS 'Name of the route, as log lines and audit_deliveries show it.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.kind IS 'alertmanager (its v2 API) or webhook (a signed POST of JSON).';
COMMENT ON COLUMN @extschema@.audit_alert_routes.url_file IS 'Absolute path of the file that holds the URL; mode 0600 or 0400, owned by the server''s user or root.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.secret_file IS 'Absolute path of the file that holds the key of the signature, at least 16 bytes; mode and owner as for url_file. A webhook has one.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.ca_file IS 'Absolute path of a PEM file with the only certificate authorities that are trusted on this route; NULL: those of the system.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.min_severity IS 'Alerts of this severity and higher ones (smaller numbers) are sent; 4 is all of them.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.from_level IS 'Escalation level from which the route is used; 1 is at once.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.enabled IS 'While false nothing new is queued, and what is queued waits.';
COMMENT ON CONSTRAINT audit_alert_routes_pkey ON @extschema@.audit_alert_routes IS 'Routes are told apart by their name.';
COMMENT ON CONSTRAINT audit_alert_routes_name_check ON @extschema@.audit_alert_routes IS 'A name that needs no quoting anywhere.';
COMMENT ON CONSTRAINT audit_alert_routes_kind_check ON @extschema@.audit_alert_routes IS 'The two kinds.';
COMMENT ON CONSTRAINT audit_alert_routes_files_check ON @extschema@.audit_alert_routes IS 'A relative path would depend on where the server was started.';
COMMENT ON CONSTRAINT audit_alert_routes_secret_check ON @extschema@.audit_alert_routes IS 'A webhook is always signed.';
COMMENT ON CONSTRAINT audit_alert_routes_min_severity_check ON @extschema@.audit_alert_routes IS 'The four severities.';
COMMENT ON CONSTRAINT audit_alert_routes_from_level_check ON @extschema@.audit_alert_routes IS 'The four levels.';

-- Without foreign keys: a parallel restore loads these tables in any order.
CREATE TABLE @extschema@.audit_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY,
    delivery_key uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    alert_id bigint NOT NULL,
    fingerprint text COLLATE pg_catalog."C" NOT NULL,
    route text COLLATE pg_catalog."C" NOT NULL,
    what text COLLATE pg_catalog."C" NOT NULL,
    level smallint NOT NULL,
    payload jsonb NOT NULL,
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    refused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    next_attempt_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_error text,
    delivered_at timestamptz,
    CONSTRAINT audit_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT audit_deliveries_what_check CHECK (what IN ('raised', 'escalated', 'acknowledged', 'resolved')),
    CONSTRAINT audit_deliveries_level_check CHECK (level BETWEEN 1 AND 4),
    CONSTRAINT audit_deliveries_state_check CHECK (state IN ('pending', 'sending', 'delivered')),
    CONSTRAINT audit_deliveries_delivered_check CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
);
COMMENT ON SEQUENCE @extschema@.audit_deliveries_id_seq IS 'Numbers of deliveries.';
REVOKE ALL ON SEQUENCE @extschema@.audit_deliveries_id_seq FROM PUBLIC;
CREATE INDEX audit_deliveries_undelivered ON @extschema@.audit_deliveries (route, fingerprint, id) WHERE state <> 'delivered';
CREATE INDEX audit_deliveries_oldest ON @extschema@.audit_deliveries (created_at) WHERE state <> 'delivered';
CREATE INDEX audit_deliveries_alert ON @extschema@.audit_deliveries (alert_id, route);
REVOKE ALL ON TABLE @extschema@.audit_deliveries FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_deliveries IS 'What is to be sent and what was: one row for each alert, route and turn of events. Tried until it is accepted, in order for each fingerprint and route. Delivered rows may be deleted at any time.';
COMMENT ON COLUMN @extschema@.audit_deliveries.id IS 'Number of the delivery; the order in which they go out.';
COMMENT ON COLUMN @extschema@.audit_deliveries.delivery_key IS 'What a receiver tells a repeated delivery by: the same in every attempt.';
COMMENT ON COLUMN @extschema@.audit_deliveries.alert_id IS 'The alert.';
COMMENT ON COLUMN @extschema@.audit_deliveries.fingerprint IS 'The alert''s fingerprint: what the order is kept for.';
COMMENT ON COLUMN @extschema@.audit_deliveries.route IS 'The route. What is undelivered on one that is not there any more waits until there is one of that name again.';
COMMENT ON COLUMN @extschema@.audit_deliveries.what IS 'raised, escalated, acknowledged or resolved.';
COMMENT ON COLUMN @extschema@.audit_deliveries.level IS 'Escalation level: 1 for what was raised, 2 to 4 for what was escalated.';
COMMENT ON COLUMN @extschema@.audit_deliveries.payload IS 'The body of the request; Alertmanager''s is made from it.';
COMMENT ON COLUMN @extschema@.audit_deliveries.state IS 'pending, sending (handed to a sender; sent again if the server goes down meanwhile) or delivered.';
COMMENT ON COLUMN @extschema@.audit_deliveries.attempts IS 'How often it was tried.';
COMMENT ON COLUMN @extschema@.audit_deliveries.refused IS 'Whether the last answer said that the request itself is wrong (4xx).';
COMMENT ON COLUMN @extschema@.audit_deliveries.created_at IS 'When it was queued.';
COMMENT ON COLUMN @extschema@.audit_deliveries.next_attempt_at IS 'Not tried before then.';
COMMENT ON COLUMN @extschema@.audit_deliveries.last_error IS 'Why the last failed attempt failed. Never contains a part of a URL.';
COMMENT ON COLUMN @extschema@.audit_deliveries.delivered_at IS 'When it was accepted.';
COMMENT ON CONSTRAINT audit_deliveries_pkey ON @extschema@.audit_deliveries IS 'Deliveries are told apart by their number.';
COMMENT ON CONSTRAINT audit_deliveries_what_check ON @extschema@.audit_deliveries IS 'The four turns of events.';
COMMENT ON CONSTRAINT audit_deliveries_level_check ON @extschema@.audit_deliveries IS 'The four levels.';
COMMENT ON CONSTRAINT audit_deliveries_state_check ON @extschema@.audit_deliveries IS 'The three states.';
COMMENT ON CONSTRAINT audit_deliveries_delivered_check ON @extschema@.audit_deliveries IS 'What is delivered was so at some time.';
COMMENT ON INDEX @extschema@.audit_deliveries_undelivered IS 'The queue.';
COMMENT ON INDEX @extschema@.audit_deliveries_oldest IS 'How long the queue has waited.';
COMMENT ON INDEX @extschema@.audit_deliveries_alert IS 'Who was told of an alert.';

-- Alerts come back with their state, routes with the names of their files, and deliveries as far as nobody accepted them.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_alerts', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_alerts_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_alert_routes', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_deliveries', 'WHERE state <> ''delivered''');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_deliveries_id_seq', '');

CREATE FUNCTION @extschema@.audit_append_own(action text, severity text, resource text, details jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_append_own';
REVOKE ALL ON FUNCTION @extschema@.audit_append_own(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_append_own(text, text, text, jsonb) IS
    'Adds an event about the extension itself to the trail of the tenant zeroauth_audit, as the owner of audit_events: triggers that somebody put there run with no more rights than that.';

CREATE FUNCTION @extschema@.audit_log(line jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_log';
REVOKE ALL ON FUNCTION @extschema@.audit_log(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_log(jsonb) IS
    'Writes one line to the server log, and to no client.';

CREATE FUNCTION @extschema@.audit_announce_alert(alert_id bigint, what text, level smallint) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    alert @extschema@.audit_alerts;
    told jsonb;
    problem text;
BEGIN
    SELECT a.* INTO STRICT alert FROM @extschema@.audit_alerts a WHERE a.id = audit_announce_alert.alert_id;
    told := pg_catalog.jsonb_build_object(
        'id', alert.id, 'kind', alert.kind, 'severity', alert.severity, 'tenant', alert.tenant, 'fingerprint', alert.fingerprint,
        'message', alert.message, 'evidence', alert.evidence, 'state', alert.state, 'occurrences', alert.occurrences,
        'escalation_level', alert.escalation_level,
        'raised_at', pg_catalog.to_char(pg_catalog.timezone('UTC', alert.raised_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'acknowledged_at', pg_catalog.to_char(pg_catalog.timezone('UTC', alert.acknowledged_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'acknowledged_by', alert.acknowledged_by, 'acknowledged_note', alert.acknowledged_note,
        'resolved_at', pg_catalog.to_char(pg_catalog.timezone('UTC', alert.resolved_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'resolved_by', alert.resolved_by, 'resolved_note', alert.resolved_note);
    BEGIN
        PERFORM @extschema@.audit_append_own(
            'alert.' || audit_announce_alert.what, (ARRAY['critical', 'high', 'medium', 'low'])[alert.severity], alert.fingerprint,
            told || pg_catalog.jsonb_build_object('level', audit_announce_alert.level));
    EXCEPTION WHEN OTHERS THEN
        -- Whoever can make the trail refuse events must not silence alerts with it: people are told, also of this.
        problem := SQLSTATE || ' ' || SQLERRM;
        UPDATE @extschema@.audit_alerts a SET trail_error = problem WHERE a.id = alert.id;
    END;
    PERFORM @extschema@.audit_log(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'event', 'alert_' || audit_announce_alert.what, 'id', alert.id, 'severity', alert.severity, 'kind', alert.kind,
        'tenant', alert.tenant, 'fingerprint', alert.fingerprint, 'level', audit_announce_alert.level, 'message', alert.message,
        'note', CASE audit_announce_alert.what WHEN 'acknowledged' THEN alert.acknowledged_note WHEN 'resolved' THEN alert.resolved_note END,
        'role', SESSION_USER, 'database', pg_catalog.current_database(), 'trail_error', problem)));
    -- Any role can listen: what it is about is for those who may read the table.
    PERFORM pg_catalog.pg_notify('zeroauth_audit_alert', pg_catalog.jsonb_build_object(
        'event', 'alert_' || audit_announce_alert.what, 'id', alert.id, 'severity', alert.severity, 'kind', alert.kind,
        'level', audit_announce_alert.level)::text);
    INSERT INTO @extschema@.audit_deliveries (delivery_key, alert_id, fingerprint, route, what, level, payload)
    SELECT k.delivery_key, alert.id, alert.fingerprint, k.name, audit_announce_alert.what, audit_announce_alert.level,
        pg_catalog.jsonb_build_object(
            'version', 1, 'delivery_id', k.delivery_key, 'what', audit_announce_alert.what, 'level', audit_announce_alert.level,
            'cluster', COALESCE(NULLIF(pg_catalog.current_setting('cluster_name'), ''), (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() s)),
            'database', pg_catalog.current_database(), 'alert', told)
    FROM (
        SELECT r.name, pg_catalog.gen_random_uuid() AS delivery_key
        FROM @extschema@.audit_routes_for(alert.id, audit_announce_alert.what, audit_announce_alert.level) r
    ) k
    ORDER BY k.name;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_announce_alert(bigint, text, smallint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_announce_alert(bigint, text, smallint) IS
    'Tells of a turn of events in an alert: an event of the tenant zeroauth_audit, a line in the server log, NOTIFY zeroauth_audit_alert, and a delivery for each route that is to know.';

CREATE FUNCTION @extschema@.audit_routes_for(alert_id bigint, what text, level smallint) RETURNS TABLE (name text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH fitting AS (
        SELECT r.name, r.from_level
        FROM @extschema@.audit_alert_routes r JOIN @extschema@.audit_alerts a ON a.severity <= r.min_severity
        WHERE a.id = audit_routes_for.alert_id AND r.enabled
    ), reached AS (
        SELECT f.name FROM fitting f WHERE f.from_level <= audit_routes_for.level
    )
    SELECT r.name FROM reached r WHERE audit_routes_for.what IN ('raised', 'escalated')
    UNION ALL
    -- An alert that no route is meant for yet must not be told to nobody.
    SELECT f.name FROM fitting f WHERE audit_routes_for.what IN ('raised', 'escalated') AND NOT EXISTS (SELECT FROM reached)
    UNION ALL
    -- Who was told that it began is told how it went on.
    SELECT DISTINCT d.route FROM @extschema@.audit_deliveries d
    WHERE d.alert_id = audit_routes_for.alert_id AND audit_routes_for.what NOT IN ('raised', 'escalated')
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_routes_for(bigint, text, smallint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_routes_for(bigint, text, smallint) IS
    'The routes that are to know of a turn of events in an alert: those of its severity that are used from this level or an earlier one, or all of its severity if there is none; for an acknowledgement or resolution, those that were told of the alert.';

CREATE FUNCTION @extschema@.audit_raise_alert(kind text, severity smallint, tenant text, fingerprint text, message text, evidence jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    alert_id bigint;
    times bigint;
    size integer := pg_catalog.octet_length(audit_raise_alert.evidence::text);
BEGIN
    INSERT INTO @extschema@.audit_alerts AS a (kind, severity, tenant, fingerprint, message, evidence)
    VALUES (
        audit_raise_alert.kind, audit_raise_alert.severity, audit_raise_alert.tenant, audit_raise_alert.fingerprint,
        pg_catalog.left(audit_raise_alert.message, 2000),
        CASE WHEN size > 32768 THEN pg_catalog.jsonb_build_object('cut', true, 'bytes', size, 'start', pg_catalog.left(audit_raise_alert.evidence::text, 4000))
             ELSE COALESCE(audit_raise_alert.evidence, '{}') END)
    ON CONFLICT (fingerprint) WHERE state <> 'resolved' DO UPDATE
        SET occurrences = a.occurrences + 1, last_seen = pg_catalog.clock_timestamp(), condition_gone_at = NULL
    RETURNING a.id, a.occurrences INTO STRICT alert_id, times;
    IF times = 1 THEN
        PERFORM @extschema@.audit_announce_alert(alert_id, 'raised', 1::smallint);
    END IF;
    RETURN alert_id;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_raise_alert(text, smallint, text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_raise_alert(text, smallint, text, text, text, jsonb) IS
    'Raises an alert, or counts up the unresolved one with this fingerprint, which tells nobody again. kind: a word of the runbook; severity: 1 (highest) to 4, always the same for a fingerprint; tenant: whose trail, or NULL; fingerprint: kind, tenant and place; evidence: for a person, at most 32 KiB. Returns the alert''s id. For the extension''s own checks.';

CREATE FUNCTION @extschema@.audit_resolve_alert(fingerprint text, note text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    alert_id bigint;
BEGIN
    UPDATE @extschema@.audit_alerts a
    SET state = 'resolved', resolved_at = pg_catalog.clock_timestamp(), resolved_by = SESSION_USER, resolved_note = audit_resolve_alert.note
    WHERE a.fingerprint = audit_resolve_alert.fingerprint
      AND (a.state = 'acknowledged' OR a.state = 'open' AND a.severity > 1)
    RETURNING a.id INTO alert_id;
    IF alert_id IS NOT NULL THEN
        PERFORM @extschema@.audit_announce_alert(alert_id, 'resolved', 1::smallint);
        RETURN true;
    END IF;
    UPDATE @extschema@.audit_alerts a SET condition_gone_at = pg_catalog.clock_timestamp()
    WHERE a.fingerprint = audit_resolve_alert.fingerprint AND a.state = 'open' AND a.condition_gone_at IS NULL;
    RETURN false;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_resolve_alert(text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_resolve_alert(text, text) IS
    'Resolves the alert with this fingerprint because a check found its condition gone; note says which. One of severity 1 that nobody acknowledged stays open and only remembers when that was. True when one was resolved. For the extension''s own checks, and for the owner when no check can know.';

CREATE FUNCTION @extschema@.audit_acknowledge(id bigint, note text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    found_state text;
    gone timestamptz;
BEGIN
    IF COALESCE(audit_acknowledge.note, '') !~ '[^[:space:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = 'an acknowledgement needs a note',
            HINT = 'Say what is being done about the alert.';
    END IF;
    UPDATE @extschema@.audit_alerts a
    SET state = 'acknowledged', acknowledged_at = pg_catalog.clock_timestamp(), acknowledged_by = SESSION_USER,
        acknowledged_note = pg_catalog.left(audit_acknowledge.note, 2000)
    WHERE a.id = audit_acknowledge.id AND a.state = 'open'
    RETURNING a.state, a.condition_gone_at INTO found_state, gone;
    IF found_state IS NULL THEN
        SELECT a.state INTO found_state FROM @extschema@.audit_alerts a WHERE a.id = audit_acknowledge.id;
        RAISE EXCEPTION USING ERRCODE = 'ZA009',
            MESSAGE = CASE WHEN found_state IS NULL THEN pg_catalog.format('no alert %s', COALESCE(audit_acknowledge.id::text, 'NULL'))
                           ELSE pg_catalog.format('alert %s is %s already', audit_acknowledge.id, found_state) END,
            HINT = 'SELECT id, message FROM audit_alerts WHERE state = ''open'' shows what can be acknowledged.';
    END IF;
    PERFORM @extschema@.audit_announce_alert(audit_acknowledge.id, 'acknowledged', 1::smallint);
    IF gone IS NULL THEN
        RETURN 'acknowledged';
    END IF;
    UPDATE @extschema@.audit_alerts a
    SET state = 'resolved', resolved_at = pg_catalog.clock_timestamp(), resolved_by = SESSION_USER, resolved_note = 'the condition was gone before the acknowledgement'
    WHERE a.id = audit_acknowledge.id;
    PERFORM @extschema@.audit_announce_alert(audit_acknowledge.id, 'resolved', 1::smallint);
    RETURN 'resolved';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_acknowledge(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_acknowledge(bigint, text) IS
    'Says that a person has taken over: an open alert becomes acknowledged, and is not escalated any more; resolved, if its condition is gone already. Returns the new state. note: what is being done, not empty. ZA009 when there is no such open alert. Runs as its owner, so that whoever may call it needs no right to change audit_alerts.';

CREATE FUNCTION @extschema@.audit_level_due(raised_at timestamptz, at timestamptz) RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT COALESCE(max(l.level), 1)::smallint
    FROM (VALUES (2, 'zeroauth_audit.escalate_2_after'), (3, 'zeroauth_audit.escalate_3_after'), (4, 'zeroauth_audit.escalate_4_after')) l (level, setting)
    WHERE pg_catalog.current_setting(l.setting) !~ '^-'
      AND audit_level_due.raised_at + pg_catalog.current_setting(l.setting)::interval <= audit_level_due.at
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_level_due(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_level_due(timestamptz, timestamptz) IS
    'The escalation level that an unacknowledged alert of severity 1, raised at the first time, has reached at the second.';

CREATE FUNCTION @extschema@.audit_escalate() RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    due record;
    escalated integer := 0;
BEGIN
    FOR due IN
        SELECT a.id, l.level
        FROM @extschema@.audit_alerts a
        CROSS JOIN LATERAL (SELECT @extschema@.audit_level_due(a.raised_at, pg_catalog.clock_timestamp()) AS level) l
        WHERE a.state = 'open' AND a.severity = 1 AND l.level > a.escalation_level
        ORDER BY a.raised_at LIMIT 1000
    LOOP
        UPDATE @extschema@.audit_alerts a SET escalation_level = due.level WHERE a.id = due.id AND a.state = 'open';
        IF FOUND THEN
            PERFORM @extschema@.audit_announce_alert(due.id, 'escalated', due.level);
            escalated := escalated + 1;
        END IF;
    END LOOP;
    RETURN escalated;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_escalate() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_escalate() IS
    'Escalates every open alert of severity 1 to the level that its age has reached, at most 1000 at a time. Returns how many. Called by the worker.';

CREATE FUNCTION @extschema@.audit_take_deliveries(not_on text[], most_routes integer, most_each integer) RETURNS TABLE (
    id bigint, delivery_key uuid, route text, kind text, url_file text, secret_file text, ca_file text, attempts integer, payload text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH front AS (
        -- The first undelivered one of each fingerprint and route: what came later waits for it.
        SELECT DISTINCT ON (d.route, d.fingerprint) d.id, d.route, d.state, d.next_attempt_at
        FROM @extschema@.audit_deliveries d
        WHERE d.state <> 'delivered'
        ORDER BY d.route, d.fingerprint, d.id
    ), due AS (
        SELECT f.id, pg_catalog.row_number() OVER (PARTITION BY f.route ORDER BY f.id) AS place, pg_catalog.dense_rank() OVER (ORDER BY f.route) AS route_place
        FROM front f JOIN @extschema@.audit_alert_routes r ON r.name = f.route
        WHERE f.state = 'pending' AND f.next_attempt_at <= pg_catalog.clock_timestamp() AND r.enabled
          AND NOT EXISTS (SELECT FROM pg_catalog.unnest(audit_take_deliveries.not_on) n (name) WHERE n.name = f.route)
    ), taken AS (
        UPDATE @extschema@.audit_deliveries d SET state = 'sending'
        FROM due WHERE d.id = due.id AND due.place <= audit_take_deliveries.most_each AND due.route_place <= audit_take_deliveries.most_routes
        RETURNING d.id, d.delivery_key, d.route, d.attempts, d.payload
    )
    SELECT t.id, t.delivery_key, t.route, r.kind, r.url_file, r.secret_file, r.ca_file, t.attempts, t.payload::text
    FROM taken t JOIN @extschema@.audit_alert_routes r ON r.name = t.route
    ORDER BY t.route, t.id;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_take_deliveries(text[], integer, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_take_deliveries(text[], integer, integer) IS
    'Marks deliveries that are due as being sent, and returns them in order: not those of the routes not_on, of at most most_routes others, and at most most_each of one. Called by the worker.';

CREATE FUNCTION @extschema@.audit_settle_delivery(id bigint, outcome text, error text, pause interval) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE @extschema@.audit_deliveries d
    SET state = CASE audit_settle_delivery.outcome WHEN 'delivered' THEN 'delivered' ELSE 'pending' END,
        delivered_at = CASE audit_settle_delivery.outcome WHEN 'delivered' THEN pg_catalog.clock_timestamp() END,
        attempts = d.attempts + CASE audit_settle_delivery.outcome WHEN 'untried' THEN 0 ELSE 1 END,
        refused = CASE audit_settle_delivery.outcome WHEN 'untried' THEN d.refused ELSE audit_settle_delivery.outcome = 'refused' END,
        last_error = COALESCE(pg_catalog.left(audit_settle_delivery.error, 500), d.last_error),
        next_attempt_at = CASE WHEN audit_settle_delivery.outcome IN ('retry', 'refused') THEN pg_catalog.clock_timestamp() + audit_settle_delivery.pause ELSE d.next_attempt_at END
    WHERE d.id = audit_settle_delivery.id AND d.state = 'sending';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_settle_delivery(bigint, text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_settle_delivery(bigint, text, text, interval) IS
    'Records what came of a delivery that was being sent: delivered, retry or refused (with an error, tried again after the pause), or untried. Called by the worker.';

CREATE FUNCTION @extschema@.audit_check_route(route text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    stuck record;
    mark text := 'delivery_failing::' || audit_check_route.route;
BEGIN
    SELECT pg_catalog.count(*) AS deliveries, pg_catalog.min(d.created_at) AS since, pg_catalog.max(d.attempts) AS attempts,
           (pg_catalog.array_agg(d.last_error ORDER BY d.next_attempt_at DESC))[1] AS error
    INTO stuck FROM @extschema@.audit_deliveries d
    WHERE d.route = audit_check_route.route AND d.state <> 'delivered' AND d.attempts > 0
      AND (d.refused OR d.created_at < pg_catalog.clock_timestamp() - interval '15 minutes');
    IF stuck.deliveries > 0 THEN
        PERFORM @extschema@.audit_raise_alert('delivery_failing', 2::smallint, NULL, mark,
            pg_catalog.format('alerts do not get through on route %s: %s', audit_check_route.route, stuck.error),
            pg_catalog.to_jsonb(stuck));
        RETURN false;
    END IF;
    PERFORM @extschema@.audit_resolve_alert(mark, 'deliveries get through again');
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_check_route(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_check_route(text) IS
    'Raises the alert delivery_failing for a route on which a delivery was refused, or has failed for 15 minutes, and resolves it otherwise. True when the route is fine. Called by the worker.';

CREATE FUNCTION @extschema@.audit_requeue_deliveries() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    requeued bigint;
BEGIN
    UPDATE @extschema@.audit_deliveries d SET state = 'pending' WHERE d.state = 'sending';
    GET DIAGNOSTICS requeued = ROW_COUNT;
    RETURN requeued;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_requeue_deliveries() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_requeue_deliveries() IS
    'Queues again what was being sent when the worker ended: whether it arrived is not known. Called by the worker when it starts.';

CREATE FUNCTION @extschema@.audit_next_delivery(not_on text[]) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT LEAST(
        (SELECT pg_catalog.min(f.next_attempt_at)
         FROM (SELECT DISTINCT ON (d.route, d.fingerprint) d.route, d.state, d.next_attempt_at
               FROM @extschema@.audit_deliveries d WHERE d.state <> 'delivered' ORDER BY d.route, d.fingerprint, d.id) f
         JOIN @extschema@.audit_alert_routes r ON r.name = f.route
         WHERE f.state = 'pending' AND r.enabled
           AND NOT EXISTS (SELECT FROM pg_catalog.unnest(audit_next_delivery.not_on) n (name) WHERE n.name = f.route)),
        (SELECT pg_catalog.min(a.raised_at + pg_catalog.current_setting(l.setting)::interval)
         FROM @extschema@.audit_alerts a
         JOIN (VALUES (2, 'zeroauth_audit.escalate_2_after'), (3, 'zeroauth_audit.escalate_3_after'), (4, 'zeroauth_audit.escalate_4_after')) l (level, setting)
           ON l.level > a.escalation_level
         WHERE a.state = 'open' AND a.severity = 1 AND pg_catalog.current_setting(l.setting) !~ '^-'))
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_next_delivery(text[]) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_next_delivery(text[]) IS
    'When the worker has to look again: the next attempt on a route other than not_on, or the next escalation. NULL when nothing is due.';

-- Jobs: when they run, what became of them, and running one by hand. The worker of the database calls the functions named
-- audit_job_begin, _step and _end; a job NAME is the function audit_job_NAME().

CREATE FUNCTION @extschema@.audit_schedule_next(schedule text, time_zone text, after timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_next';
REVOKE ALL ON FUNCTION @extschema@.audit_schedule_next(text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_schedule_next(text, text, timestamptz) IS
    'The first run after a time of a crontab expression in a time zone; NULL when there is none. ZA021 for what is no schedule or no time zone.';

CREATE FUNCTION @extschema@.audit_schedule_following(schedule text, time_zone text, scheduled timestamptz, started timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_following';
REVOKE ALL ON FUNCTION @extschema@.audit_schedule_following(text, text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_schedule_following(text, text, timestamptz, timestamptz) IS
    'The run after the one that was scheduled for one time and started at another: missed runs are made up by that one, and none comes twice. ZA021 as audit_schedule_next.';

CREATE FUNCTION @extschema@.audit_schedule_corrected(schedule text, time_zone text, next_run timestamptz, at timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_corrected';
REVOKE ALL ON FUNCTION @extschema@.audit_schedule_corrected(text, text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_schedule_corrected(text, text, timestamptz, timestamptz) IS
    'The next run after the clock was set back by more than a day; NULL when the planned one stands. ZA021 as audit_schedule_next.';

CREATE FUNCTION @extschema@.audit_schedule_overdue(schedule text, time_zone text, since timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_overdue';
REVOKE ALL ON FUNCTION @extschema@.audit_schedule_overdue(text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_schedule_overdue(text, text, timestamptz) IS
    'When a job that last succeeded at a time is overdue: at the second run after it. ZA021 as audit_schedule_next.';

CREATE FUNCTION @extschema@.audit_job_lock(job text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_job_lock';
REVOKE ALL ON FUNCTION @extschema@.audit_job_lock(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_lock(text) IS
    'Makes this transaction the only one in the database to run the job, until it ends; false when another runs it. Does not wait.';

CREATE TABLE @extschema@.audit_jobs (
    name text COLLATE pg_catalog."C" NOT NULL,
    schedule text NOT NULL,
    time_zone text NOT NULL DEFAULT 'UTC',
    enabled boolean NOT NULL DEFAULT true,
    timeout interval NOT NULL DEFAULT '1 hour',
    scheduler text NOT NULL DEFAULT 'worker',
    next_run timestamptz,
    last_success timestamptz,
    overdue_at timestamptz,
    CONSTRAINT audit_jobs_pkey PRIMARY KEY (name),
    CONSTRAINT audit_jobs_name_check CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    CONSTRAINT audit_jobs_timeout_check CHECK (timeout BETWEEN '1 second' AND '7 days'),
    CONSTRAINT audit_jobs_scheduler_check CHECK (scheduler IN ('worker', 'pg_cron'))
);
REVOKE ALL ON TABLE @extschema@.audit_jobs FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_jobs IS
    'What runs by itself, and when. Change schedule, time_zone, enabled and timeout as you like: it counts from your commit on. Inserting a name that is there changes its row, so that a restored dump brings its settings.';
COMMENT ON COLUMN @extschema@.audit_jobs.name IS 'The job NAME is the function audit_job_NAME().';
COMMENT ON COLUMN @extschema@.audit_jobs.schedule IS 'Crontab expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly.';
COMMENT ON COLUMN @extschema@.audit_jobs.time_zone IS 'Name of the time zone that the schedule is meant in, for example Europe/Berlin.';
COMMENT ON COLUMN @extschema@.audit_jobs.enabled IS 'Whether it runs.';
COMMENT ON COLUMN @extschema@.audit_jobs.timeout IS 'How long one run may take, from 1 second to 7 days.';
COMMENT ON COLUMN @extschema@.audit_jobs.scheduler IS 'Who runs it: worker or pg_cron. Set by audit_use_pg_cron() and audit_use_worker().';
COMMENT ON COLUMN @extschema@.audit_jobs.next_run IS 'When it runs next; a time in the past is made up for at once. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_jobs.last_success IS 'When it last ended well. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_jobs.overdue_at IS 'When it counts as overdue unless it ends well before. Set by the server.';
COMMENT ON CONSTRAINT audit_jobs_pkey ON @extschema@.audit_jobs IS 'One schedule a job.';
COMMENT ON CONSTRAINT audit_jobs_name_check ON @extschema@.audit_jobs IS 'What can be part of a function''s name.';
COMMENT ON CONSTRAINT audit_jobs_timeout_check ON @extschema@.audit_jobs IS 'A run ends.';
COMMENT ON CONSTRAINT audit_jobs_scheduler_check ON @extschema@.audit_jobs IS 'One of the two runs it, never both.';

CREATE TABLE @extschema@.audit_job_runs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    job text COLLATE pg_catalog."C" NOT NULL,
    scheduled_for timestamptz,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished_at timestamptz,
    status text NOT NULL DEFAULT 'running',
    run_by text NOT NULL,
    steps integer NOT NULL DEFAULT 0,
    summary jsonb NOT NULL DEFAULT '{}',
    error_code text,
    error text,
    CONSTRAINT audit_job_runs_pkey PRIMARY KEY (id),
    CONSTRAINT audit_job_runs_status_check CHECK (status IN ('running', 'succeeded', 'failed', 'timed_out', 'skipped')),
    CONSTRAINT audit_job_runs_run_by_check CHECK (run_by IN ('worker', 'session', 'pg_cron'))
);
CREATE INDEX audit_job_runs_job_idx ON @extschema@.audit_job_runs (job, started_at);
REVOKE ALL ON TABLE @extschema@.audit_job_runs FROM PUBLIC;
REVOKE ALL ON SEQUENCE @extschema@.audit_job_runs_id_seq FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_job_runs IS
    'What became of each run of a job. Those of the last 7 days are kept, and the newest 100 of each job.';
COMMENT ON COLUMN @extschema@.audit_job_runs.id IS 'Number of the run, rising.';
COMMENT ON COLUMN @extschema@.audit_job_runs.job IS 'Name of the job.';
COMMENT ON COLUMN @extschema@.audit_job_runs.scheduled_for IS 'When it was due; NULL when somebody ran it by hand.';
COMMENT ON COLUMN @extschema@.audit_job_runs.started_at IS 'When it began.';
COMMENT ON COLUMN @extschema@.audit_job_runs.finished_at IS 'When it ended, NULL while it runs.';
COMMENT ON COLUMN @extschema@.audit_job_runs.status IS 'running, succeeded, failed, timed_out, or skipped because it was running already.';
COMMENT ON COLUMN @extschema@.audit_job_runs.run_by IS 'worker, session (audit_run_job) or pg_cron.';
COMMENT ON COLUMN @extschema@.audit_job_runs.steps IS 'How many steps it took.';
COMMENT ON COLUMN @extschema@.audit_job_runs.summary IS 'What was done: the sums of what the steps counted.';
COMMENT ON COLUMN @extschema@.audit_job_runs.error_code IS 'SQLSTATE of the error that ended it.';
COMMENT ON COLUMN @extschema@.audit_job_runs.error IS 'Message of that error.';
COMMENT ON CONSTRAINT audit_job_runs_pkey ON @extschema@.audit_job_runs IS 'One row a run.';
COMMENT ON CONSTRAINT audit_job_runs_status_check ON @extschema@.audit_job_runs IS 'The ways a run can be or end.';
COMMENT ON CONSTRAINT audit_job_runs_run_by_check ON @extschema@.audit_job_runs IS 'Who can run a job.';
COMMENT ON SEQUENCE @extschema@.audit_job_runs_id_seq IS 'Numbers of runs.';
COMMENT ON INDEX @extschema@.audit_job_runs_job_idx IS 'The newest runs of a job.';

CREATE FUNCTION @extschema@.audit_job_check() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed boolean := TG_OP = 'INSERT';
BEGIN
    IF to_regprocedure('@extschema@.' || quote_ident('audit_job_' || NEW.name) || '()') IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA022', MESSAGE = format('there is no job %L', NEW.name),
            HINT = format('A job NAME is the function audit_job_NAME(). The jobs there are: %s.', (SELECT string_agg(name, ', ' ORDER BY name) FROM @extschema@.audit_jobs));
    END IF;
    IF TG_OP = 'UPDATE' THEN
        changed := (NEW.schedule, NEW.time_zone, NEW.enabled) IS DISTINCT FROM (OLD.schedule, OLD.time_zone, OLD.enabled);
        IF changed AND OLD.scheduler = 'pg_cron' AND NEW.scheduler = 'pg_cron' THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA024', MESSAGE = format('job %s is scheduled by pg_cron', NEW.name),
                HINT = 'Take the jobs back with audit_use_worker(), change them, and hand them over again with audit_use_pg_cron().';
        END IF;
        changed := changed OR NEW.scheduler <> OLD.scheduler;
    END IF;
    IF changed THEN
        NEW.next_run := @extschema@.audit_schedule_next(NEW.schedule, NEW.time_zone, clock_timestamp());
        NEW.overdue_at := @extschema@.audit_schedule_overdue(NEW.schedule, NEW.time_zone, clock_timestamp());
        IF NEW.next_run IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA021', MESSAGE = format('schedule %L never comes', NEW.schedule),
                HINT = 'Look at the day and the month: is there such a day?';
        END IF;
        IF NOT NEW.enabled THEN
            NEW.next_run := NULL;
            NEW.overdue_at := NULL;
        END IF;
    END IF;
    IF TG_OP = 'INSERT' THEN
        UPDATE @extschema@.audit_jobs j
        SET schedule = NEW.schedule, time_zone = NEW.time_zone, enabled = NEW.enabled, timeout = NEW.timeout, scheduler = NEW.scheduler,
            last_success = coalesce(j.last_success, NEW.last_success)
        WHERE j.name = NEW.name;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_check() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_check() IS
    'Trigger of audit_jobs: refuses what is no schedule (ZA021) or no job (ZA022), plans the next run, and takes an insert of a job that is there as a change of it.';

CREATE FUNCTION @extschema@.audit_jobs_changed() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_jobs_changed';
REVOKE ALL ON FUNCTION @extschema@.audit_jobs_changed() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_jobs_changed() IS
    'Trigger of audit_jobs: wakes the worker of this database when the transaction commits.';

CREATE TRIGGER zeroauth_audit_job_check
    BEFORE INSERT OR UPDATE ON @extschema@.audit_jobs
    FOR EACH ROW EXECUTE FUNCTION @extschema@.audit_job_check();
COMMENT ON TRIGGER zeroauth_audit_job_check ON @extschema@.audit_jobs IS 'Checks the schedule and plans the next run.';
CREATE TRIGGER zeroauth_audit_jobs_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON @extschema@.audit_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_jobs_changed ON @extschema@.audit_jobs IS 'A change counts at once.';
ALTER TABLE @extschema@.audit_jobs ENABLE ALWAYS TRIGGER zeroauth_audit_job_check;
ALTER TABLE @extschema@.audit_jobs ENABLE ALWAYS TRIGGER zeroauth_audit_jobs_changed;

SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_jobs', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_job_runs', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_job_runs_id_seq', '');

CREATE FUNCTION @extschema@.audit_job_alert(job text, overdue boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regprocedure('@extschema@.audit_raise_alert(text, smallint, text, text, text, jsonb)') IS NULL THEN
        RETURN;
    END IF;
    IF overdue THEN
        PERFORM @extschema@.audit_raise_alert('job_overdue', 2::smallint, NULL, 'job_overdue:' || job,
            format('job %s has not ended well for two of its intervals', job),
            (SELECT jsonb_build_object('job', j.name, 'last_success', j.last_success, 'overdue_since', j.overdue_at, 'schedule', j.schedule, 'time_zone', j.time_zone) FROM @extschema@.audit_jobs j WHERE j.name = job));
    ELSE
        PERFORM @extschema@.audit_resolve_alert('job_overdue:' || job, 'the job ended well');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_alert(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_alert(text, boolean) IS
    'Raises the alert job_overdue of a job, or resolves it.';

CREATE FUNCTION @extschema@.audit_restore_runs() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_restore_runs';
REVOKE ALL ON FUNCTION @extschema@.audit_restore_runs() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_restore_runs() IS
    'Whether a session restores events into this database: one that brought events with their hashes less than a minute ago, or less than an hour ago and is still connected. Replication does not count. False when the library is not in shared_preload_libraries.';

CREATE FUNCTION @extschema@.audit_jobs_held() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED
BEGIN ATOMIC
    -- What a job writes would clash with rows that a restore brings: from CREATE EXTENSION until its session has ended.
    SELECT CASE WHEN NOT EXISTS (SELECT FROM @extschema@.audit_events) THEN 'no_events'
                WHEN @extschema@.audit_restore_runs() THEN 'restore_running' END;
END;
REVOKE ALL ON FUNCTION @extschema@.audit_jobs_held() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_jobs_held() IS
    'Why no job of this database runs by itself: no_events (there is nothing to look after yet, and a dump may be about to be restored) or restore_running; NULL when jobs run.';

CREATE FUNCTION @extschema@.audit_job_begin(job text, exclusive boolean) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    due @extschema@.audit_jobs;
    run bigint;
BEGIN
    SELECT * INTO due FROM @extschema@.audit_jobs j
    WHERE j.name = job AND j.enabled AND j.scheduler = 'worker' AND j.next_run <= clock_timestamp()
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF @extschema@.audit_jobs_held() IS NOT NULL THEN
        UPDATE @extschema@.audit_jobs j
        SET next_run = @extschema@.audit_schedule_next(due.schedule, due.time_zone, clock_timestamp()),
            overdue_at = @extschema@.audit_schedule_overdue(due.schedule, due.time_zone, clock_timestamp())
        WHERE j.name = job;
        RETURN NULL;
    END IF;
    UPDATE @extschema@.audit_jobs j SET next_run = @extschema@.audit_schedule_following(due.schedule, due.time_zone, due.next_run, clock_timestamp()) WHERE j.name = job;
    INSERT INTO @extschema@.audit_job_runs AS r (job, scheduled_for, run_by, status, finished_at)
    VALUES (job, due.next_run, 'worker', CASE WHEN exclusive THEN 'running' ELSE 'skipped' END, CASE WHEN NOT exclusive THEN clock_timestamp() END)
    RETURNING r.id INTO run;
    RETURN CASE WHEN exclusive THEN run END;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_begin(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_begin(text, boolean) IS
    'Called by the worker: begins the run of a job that is due, and plans the next one. NULL when it is not due any more, when its row is locked, when jobs are held (audit_jobs_held), or when another runs it already: then the run is recorded as skipped.';

CREATE FUNCTION @extschema@.audit_job_step(job text, summary jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result jsonb;
    code text;
    message text;
BEGIN
    BEGIN
        EXECUTE 'SELECT @extschema@.' || quote_ident('audit_job_' || job) || '()' INTO result;
    EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
        RETURN jsonb_build_object('more', false, 'summary', summary, 'code', code, 'error', message);
    END;
    RETURN jsonb_build_object(
        'more', coalesce((result ->> 'more')::boolean, false),
        'pause_ms', greatest(coalesce((result ->> 'pause_ms')::bigint, 0), 0),
        'summary', summary || coalesce((
            SELECT jsonb_object_agg(d.key, CASE WHEN jsonb_typeof(d.value) = 'number' AND jsonb_typeof(summary -> d.key) = 'number'
                                                THEN to_jsonb((summary ->> d.key)::numeric + (d.value #>> '{}')::numeric) ELSE d.value END)
            FROM jsonb_each(result -> 'done') d), '{}'));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_step(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_step(text, jsonb) IS
    'Calls audit_job_NAME() once, and adds what it did to the summary. An error of the job is part of the result.';

CREATE FUNCTION @extschema@.audit_job_end(run bigint, outcome text, steps integer, summary jsonb, code text, message text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended text;
BEGIN
    UPDATE @extschema@.audit_job_runs r
    SET status = outcome, finished_at = clock_timestamp(), steps = audit_job_end.steps, summary = audit_job_end.summary, error_code = code, error = message
    WHERE r.id = run
    RETURNING r.job INTO ended;
    IF outcome = 'succeeded' THEN
        UPDATE @extschema@.audit_jobs j
        SET last_success = clock_timestamp(), overdue_at = CASE WHEN j.enabled THEN @extschema@.audit_schedule_overdue(j.schedule, j.time_zone, clock_timestamp()) END
        WHERE j.name = ended;
        PERFORM @extschema@.audit_job_alert(ended, false);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_end(bigint, text, integer, jsonb, text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_end(bigint, text, integer, jsonb, text, text) IS
    'Records the end of a run.';

CREATE FUNCTION @extschema@.audit_jobs_settle() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_job_runs r SET status = 'failed', finished_at = clock_timestamp(), error_code = '57P01', error = 'the worker ended during this run'
    WHERE r.status = 'running' AND r.run_by = 'worker';
    -- Nobody could run jobs while there was no worker; but a job that failed before counts on.
    UPDATE @extschema@.audit_jobs j SET overdue_at = @extschema@.audit_schedule_overdue(j.schedule, j.time_zone, clock_timestamp())
    WHERE j.enabled AND j.overdue_at < @extschema@.audit_schedule_overdue(j.schedule, j.time_zone, clock_timestamp())
      AND NOT EXISTS (
          SELECT FROM @extschema@.audit_job_runs r
          WHERE r.job = j.name AND r.status IN ('failed', 'timed_out') AND r.started_at > coalesce(j.last_success, '-infinity'));
    PERFORM @extschema@.audit_jobs_correct();
    -- Nobody looked while there was no worker.
    UPDATE @extschema@.audit_jobs j SET next_run = clock_timestamp()
    WHERE j.name IN ('tripwire', 'pins') AND j.enabled AND j.scheduler = 'worker' AND j.next_run > clock_timestamp();
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_jobs_settle() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_jobs_settle() IS
    'Called by the worker when it starts: ends the runs that the one before left behind, and has tripwires and pins looked at at once.';

CREATE FUNCTION @extschema@.audit_jobs_correct() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_jobs j
    SET next_run = @extschema@.audit_schedule_corrected(j.schedule, j.time_zone, j.next_run, clock_timestamp()),
        overdue_at = @extschema@.audit_schedule_overdue(j.schedule, j.time_zone, clock_timestamp())
    WHERE j.enabled AND @extschema@.audit_schedule_corrected(j.schedule, j.time_zone, j.next_run, clock_timestamp()) IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_jobs_correct() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_jobs_correct() IS
    'Called by the worker when it starts and when the clock was set back: plans anew what a clock that was wrong by more than a day had planned.';

CREATE FUNCTION @extschema@.audit_jobs_check_overdue() RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    late text;
    count integer := 0;
BEGIN
    IF @extschema@.audit_jobs_held() IS NOT NULL THEN
        RETURN 0;
    END IF;
    FOR late IN SELECT j.name FROM @extschema@.audit_jobs j WHERE j.enabled AND j.overdue_at <= clock_timestamp() LOOP
        PERFORM @extschema@.audit_job_alert(late, true);
        count := count + 1;
    END LOOP;
    RETURN count;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_jobs_check_overdue() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_jobs_check_overdue() IS
    'Called by the worker: raises the alert job_overdue for every job that is. Returns how many are.';

CREATE FUNCTION @extschema@.audit_run_job(name text, run_by text DEFAULT 'session') RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job @extschema@.audit_jobs;
    run bigint;
    steps integer := 0;
    step jsonb := jsonb_build_object('more', true, 'summary', '{}'::jsonb);
    began timestamptz := clock_timestamp();
    outcome text;
BEGIN
    SELECT * INTO job FROM @extschema@.audit_jobs j WHERE j.name = audit_run_job.name;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA022', MESSAGE = format('there is no job %L', audit_run_job.name),
            HINT = format('The jobs there are: %s.', (SELECT string_agg(j.name, ', ' ORDER BY j.name) FROM @extschema@.audit_jobs j));
    END IF;
    IF audit_run_job.run_by = 'pg_cron' AND job.scheduler <> 'pg_cron' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA024', MESSAGE = format('job %s is not scheduled by pg_cron', job.name),
            HINT = 'The worker runs it since audit_use_worker(); a call without the second argument runs it now.';
    END IF;
    IF audit_run_job.run_by = 'pg_cron' AND @extschema@.audit_jobs_held() IS NOT NULL THEN
        UPDATE @extschema@.audit_jobs j SET overdue_at = @extschema@.audit_schedule_overdue(j.schedule, j.time_zone, clock_timestamp()) WHERE j.name = job.name;
        RETURN jsonb_build_object('job', job.name, 'status', 'held', 'reason', @extschema@.audit_jobs_held());
    END IF;
    IF NOT @extschema@.audit_job_lock(job.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA023', MESSAGE = format('job %s is running already', job.name),
            HINT = 'Look at audit_job_runs, and try again when it has ended.';
    END IF;
    INSERT INTO @extschema@.audit_job_runs AS r (job, run_by) VALUES (job.name, audit_run_job.run_by) RETURNING r.id INTO run;
    IF audit_run_job.run_by = 'pg_cron' THEN
        UPDATE @extschema@.audit_jobs j SET next_run = @extschema@.audit_schedule_next(j.schedule, j.time_zone, clock_timestamp()) WHERE j.name = job.name;
    END IF;
    WHILE outcome IS NULL LOOP
        IF clock_timestamp() > began + job.timeout THEN
            outcome := 'timed_out';
            EXIT;
        END IF;
        step := @extschema@.audit_job_step(job.name, step -> 'summary');
        steps := steps + 1;
        outcome := CASE WHEN step ? 'error' THEN 'failed' WHEN NOT (step ->> 'more')::boolean THEN 'succeeded' END;
    END LOOP;
    PERFORM @extschema@.audit_job_end(run, outcome, steps, step -> 'summary', step ->> 'code', step ->> 'error');
    RETURN jsonb_strip_nulls(jsonb_build_object('run', run, 'job', job.name, 'status', outcome, 'steps', steps, 'summary', step -> 'summary', 'code', step -> 'code', 'error', step -> 'error'));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_run_job(text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_run_job(text, text) IS
    'Runs a job now, in this transaction and without the pauses between its steps, and returns what became of it: status, summary, and the error if it failed. The timeout is looked at between steps. ZA022 for an unknown job, ZA023 when it is running already. run_by is pg_cron in pg_cron''s own calls, which are refused (ZA024) when the worker runs the jobs.';

CREATE FUNCTION @extschema@.audit_use_pg_cron() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_use_pg_cron';
REVOKE ALL ON FUNCTION @extschema@.audit_use_pg_cron() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_use_pg_cron() IS
    'Hands the schedules of all jobs to pg_cron, which runs them as the calling role, and returns how many it got; the worker runs none of them from then on. ZA024 when pg_cron is not installed in this database, or a schedule has no exact equal in its time zone (GMT before 1.5).';

CREATE FUNCTION @extschema@.audit_use_worker() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_use_worker';
REVOKE ALL ON FUNCTION @extschema@.audit_use_worker() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_use_worker() IS
    'Takes the schedules back from pg_cron, and returns how many jobs changed hands. Works when pg_cron is gone, too.';

CREATE FUNCTION @extschema@.audit_job_prune() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    removed bigint;
BEGIN
    WITH old AS (
        SELECT r.id FROM @extschema@.audit_job_runs r
        WHERE r.finished_at < clock_timestamp() - interval '7 days'
          AND (SELECT count(*) FROM (SELECT FROM @extschema@.audit_job_runs newer WHERE newer.job = r.job AND newer.started_at > r.started_at LIMIT 100) n) >= 100
        LIMIT 5000
    )
    DELETE FROM @extschema@.audit_job_runs r USING old WHERE r.id = old.id;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN jsonb_build_object('more', removed = 5000, 'pause_ms', 100, 'done', jsonb_build_object('runs_removed', removed));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_prune() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_prune() IS
    'The job prune: removes runs from audit_job_runs that ended more than 7 days ago, but keeps the newest 100 of each job. At most 5000 a step.';

INSERT INTO @extschema@.audit_jobs (name, schedule, timeout) VALUES ('prune', '17 3 * * *', '10 minutes');

-- Drift: what the worker remembers of every tenant and chain, and what it found. The reading is done by functions in C, each from
-- one snapshot; remembering, deciding and raising alerts is done in SQL.

CREATE TABLE @extschema@.audit_tenants (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    drift_rows integer,
    first_seen timestamptz,
    last_seen timestamptz,
    checked_at timestamptz,
    check_error text,
    CONSTRAINT audit_tenants_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT audit_tenants_tenant_id_check CHECK (pg_catalog.octet_length(tenant_id) BETWEEN 1 AND 128),
    CONSTRAINT audit_tenants_drift_rows_check CHECK (drift_rows BETWEEN 1 AND 100000)
) WITH (fillfactor = 80);
REVOKE ALL ON TABLE @extschema@.audit_tenants FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_tenants IS
    'The tenants that the worker has seen; no insert of an event writes here. drift_rows is yours, also of a tenant that has no events yet; the rest is set by the job drift. Inserting a tenant that is there changes its row, so that a restored dump brings its settings.';
COMMENT ON COLUMN @extschema@.audit_tenants.tenant_id IS 'The tenant.';
COMMENT ON COLUMN @extschema@.audit_tenants.drift_rows IS 'How many of its newest events every run recomputes; NULL: zeroauth_audit.drift_rows.';
COMMENT ON COLUMN @extschema@.audit_tenants.first_seen IS 'When the job drift first saw an event of it.';
COMMENT ON COLUMN @extschema@.audit_tenants.last_seen IS 'When it last saw one.';
COMMENT ON COLUMN @extschema@.audit_tenants.checked_at IS 'When its newest events were last recomputed.';
COMMENT ON COLUMN @extschema@.audit_tenants.check_error IS 'Why that could not be done the last time; NULL when it could.';
COMMENT ON CONSTRAINT audit_tenants_pkey ON @extschema@.audit_tenants IS 'One row a tenant.';
COMMENT ON CONSTRAINT audit_tenants_tenant_id_check ON @extschema@.audit_tenants IS 'As in audit_events.';
COMMENT ON CONSTRAINT audit_tenants_drift_rows_check ON @extschema@.audit_tenants IS 'So many events are recomputed in one transaction.';

CREATE TABLE @extschema@.audit_watermarks (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    chain smallint NOT NULL,
    trail uuid NOT NULL,
    head_seq bigint NOT NULL,
    head_hash bytea NOT NULL,
    verified_at timestamptz NOT NULL,
    verified_from bigint NOT NULL,
    replay_pass bigint NOT NULL DEFAULT 0,
    replay_started_at timestamptz,
    replayed_at timestamptz,
    replayed_seq bigint NOT NULL DEFAULT 0,
    replayed_hash bytea,
    whole_started_at timestamptz,
    whole_ended_at timestamptz,
    whole_seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT audit_watermarks_pkey PRIMARY KEY (tenant_id, chain, trail)
) WITH (fillfactor = 70);
REVOKE ALL ON TABLE @extschema@.audit_watermarks FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_watermarks IS
    'What the job drift remembers of each chain: its end, and how far its history has been recomputed. Kept in the database that it is about: whoever can change events can change it, too.';
COMMENT ON COLUMN @extschema@.audit_watermarks.tenant_id IS 'The tenant.';
COMMENT ON COLUMN @extschema@.audit_watermarks.chain IS 'The chain.';
COMMENT ON COLUMN @extschema@.audit_watermarks.trail IS 'The trail that was seen (audit_drift_state.trail); of another one after a restore from a dump, until the events that it tells of are found here.';
COMMENT ON COLUMN @extschema@.audit_watermarks.head_seq IS 'seq of the newest event that was seen.';
COMMENT ON COLUMN @extschema@.audit_watermarks.head_hash IS 'event_hash of that event.';
COMMENT ON COLUMN @extschema@.audit_watermarks.verified_at IS 'When the newest events of the chain were last recomputed.';
COMMENT ON COLUMN @extschema@.audit_watermarks.verified_from IS 'seq of the first of those.';
COMMENT ON COLUMN @extschema@.audit_watermarks.replay_pass IS 'The pass through all history that the next four columns are about.';
COMMENT ON COLUMN @extschema@.audit_watermarks.replay_started_at IS 'When that pass began with the first event of the chain.';
COMMENT ON COLUMN @extschema@.audit_watermarks.replayed_at IS 'When it came to replayed_seq.';
COMMENT ON COLUMN @extschema@.audit_watermarks.replayed_seq IS 'How far it is: up to this event the chain has been recomputed.';
COMMENT ON COLUMN @extschema@.audit_watermarks.replayed_hash IS 'event_hash of that event; NULL when the chain is done.';
COMMENT ON COLUMN @extschema@.audit_watermarks.whole_started_at IS 'When the last pass that came to the end of the chain began with its first event.';
COMMENT ON COLUMN @extschema@.audit_watermarks.whole_ended_at IS 'When that pass came to the end.';
COMMENT ON COLUMN @extschema@.audit_watermarks.whole_seq IS 'seq of the last event then.';
COMMENT ON CONSTRAINT audit_watermarks_pkey ON @extschema@.audit_watermarks IS 'One row a chain; those of a dump stand beside those of this trail.';

CREATE TABLE @extschema@.audit_drift_findings (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    chain smallint NOT NULL,
    source text COLLATE pg_catalog."C" NOT NULL,
    trail uuid NOT NULL,
    found_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    alerted_at timestamptz,
    events bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    places jsonb NOT NULL DEFAULT '[]',
    expected jsonb NOT NULL DEFAULT '[]',
    suspected boolean NOT NULL DEFAULT false,
    absent_from bigint,
    absent_to bigint,
    seen_in_table boolean NOT NULL DEFAULT false,
    checked_run bigint,
    checked_seq bigint,
    CONSTRAINT audit_drift_findings_pkey PRIMARY KEY (tenant_id, kind, chain, source, trail),
    CONSTRAINT audit_drift_findings_source_check CHECK (source IN ('replay', 'memory', 'log'))
);
CREATE INDEX audit_drift_findings_suspected ON @extschema@.audit_drift_findings (tenant_id) WHERE suspected;
REVOKE ALL ON TABLE @extschema@.audit_drift_findings FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_drift_findings IS
    'What the job drift found and has not found gone since: one row for each class, tenant and chain. Each has an alert with the fingerprint class:tenant:chain.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.tenant_id IS 'The tenant; empty: of rows without one.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.kind IS 'The class.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.chain IS 'The chain; -1: all chains of the tenant, or rows without one.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.source IS 'replay: the events contradict themselves or each other. memory: they contradict a watermark. log: they are not what was sealed, or the log is not.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.trail IS 'The trail that it was found in, as in audit_watermarks.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.found_at IS 'When it was first found.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.last_seen_at IS 'When it was last found.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.alerted_at IS 'When its alert was raised; NULL while it is only suspected.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.events IS 'How many events it is about: the most that one step saw.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.first_seq IS 'seq of the first of them.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.last_seq IS 'seq of the last of them.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.places IS 'The first few of them.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.expected IS 'Of source memory: the events that were there, with chain, seq and event_hash.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.suspected IS 'The primary key does not show events that should be there, and the table itself has not been searched for them yet.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.absent_from IS 'First of the events to search for.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.absent_to IS 'Last of the events to search for.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.seen_in_table IS 'The search found one of them: nothing is missing, but the primary key may be damaged.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.checked_run IS 'The run that last looked whether it is gone.';
COMMENT ON COLUMN @extschema@.audit_drift_findings.checked_seq IS 'How far that is; NULL at the beginning.';
COMMENT ON CONSTRAINT audit_drift_findings_pkey ON @extschema@.audit_drift_findings IS 'One row for each class and place.';
COMMENT ON CONSTRAINT audit_drift_findings_source_check ON @extschema@.audit_drift_findings IS 'The three sources.';
COMMENT ON INDEX @extschema@.audit_drift_findings_suspected IS 'What has to be searched for.';

CREATE TABLE @extschema@.audit_drift_state (
    id boolean NOT NULL DEFAULT true,
    trail uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    run bigint,
    phase text NOT NULL DEFAULT 'idle',
    started_at timestamptz,
    finished_at timestamptz,
    resumed boolean NOT NULL DEFAULT false,
    tenants_total bigint NOT NULL DEFAULT 0,
    tenants_done bigint NOT NULL DEFAULT 0,
    events_done bigint NOT NULL DEFAULT 0,
    recent_tenant text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    recent_chain smallint,
    recent_stop text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    recent_wrapped boolean NOT NULL DEFAULT false,
    careful boolean NOT NULL DEFAULT false,
    pass bigint NOT NULL DEFAULT 0,
    pass_started_at timestamptz,
    pass_ended_at timestamptz,
    pass_total bigint NOT NULL DEFAULT 0,
    pass_done bigint NOT NULL DEFAULT 0,
    pass_tenant text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    pass_chain smallint NOT NULL DEFAULT -1,
    history_left bigint,
    confirm_block bigint NOT NULL DEFAULT 0,
    errors bigint NOT NULL DEFAULT 0,
    first_error text,
    CONSTRAINT audit_drift_state_pkey PRIMARY KEY (id),
    CONSTRAINT audit_drift_state_id_check CHECK (id),
    CONSTRAINT audit_drift_state_phase_check CHECK (phase IN ('idle', 'recent', 'history', 'recheck', 'confirm', 'failing'))
) WITH (fillfactor = 50);
REVOKE ALL ON TABLE @extschema@.audit_drift_state FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_drift_state IS
    'Where the job drift is: one row, changed by every step, so that a run goes on where a crash or a timeout ended the one before. The only table that pg_dump leaves out: it is about this trail, not about its copy.';
COMMENT ON COLUMN @extschema@.audit_drift_state.id IS 'Always true.';
COMMENT ON COLUMN @extschema@.audit_drift_state.trail IS 'Names this trail since CREATE EXTENSION. A restored dump is another trail; a standby, a base backup and pg_upgrade keep the name.';
COMMENT ON COLUMN @extschema@.audit_drift_state.run IS 'The run in audit_job_runs.';
COMMENT ON COLUMN @extschema@.audit_drift_state.phase IS 'idle; recent: newest events and watermarks; history: the next part of all history; recheck: whether earlier findings are gone; confirm: the table is searched for events that the primary key does not show; failing: the run is about to fail.';
COMMENT ON COLUMN @extschema@.audit_drift_state.started_at IS 'When the run began.';
COMMENT ON COLUMN @extschema@.audit_drift_state.finished_at IS 'When the last run ended that came to its end.';
COMMENT ON COLUMN @extschema@.audit_drift_state.resumed IS 'Whether the run went on where the one before was interrupted.';
COMMENT ON COLUMN @extschema@.audit_drift_state.tenants_total IS 'How many tenants were known when it began.';
COMMENT ON COLUMN @extschema@.audit_drift_state.tenants_done IS 'How many are done.';
COMMENT ON COLUMN @extschema@.audit_drift_state.events_done IS 'How many events the run has recomputed.';
COMMENT ON COLUMN @extschema@.audit_drift_state.recent_tenant IS 'The last tenant that is done; empty: none.';
COMMENT ON COLUMN @extschema@.audit_drift_state.recent_chain IS 'Its last chain that is done; NULL: all.';
COMMENT ON COLUMN @extschema@.audit_drift_state.recent_stop IS 'The tenant that the run began behind: it ends there, after it came round. Empty: it began with the first.';
COMMENT ON COLUMN @extschema@.audit_drift_state.recent_wrapped IS 'Whether it came round.';
COMMENT ON COLUMN @extschema@.audit_drift_state.careful IS 'Whether the next step takes one tenant, because the last one failed.';
COMMENT ON COLUMN @extschema@.audit_drift_state.pass IS 'Number of the pass through all history.';
COMMENT ON COLUMN @extschema@.audit_drift_state.pass_started_at IS 'When it began; NULL: the next run begins one.';
COMMENT ON COLUMN @extschema@.audit_drift_state.pass_ended_at IS 'When the last pass ended.';
COMMENT ON COLUMN @extschema@.audit_drift_state.pass_total IS 'How many events there are in it, as of the last run.';
COMMENT ON COLUMN @extschema@.audit_drift_state.pass_done IS 'How many of them are done.';
COMMENT ON COLUMN @extschema@.audit_drift_state.pass_tenant IS 'Tenant of the last chain that is done.';
COMMENT ON COLUMN @extschema@.audit_drift_state.pass_chain IS 'That chain.';
COMMENT ON COLUMN @extschema@.audit_drift_state.history_left IS 'How many events this run still takes of it; NULL: not decided yet.';
COMMENT ON COLUMN @extschema@.audit_drift_state.confirm_block IS 'Up to which block the table has been searched.';
COMMENT ON COLUMN @extschema@.audit_drift_state.errors IS 'How many tenants or findings could not be checked in this run.';
COMMENT ON COLUMN @extschema@.audit_drift_state.first_error IS 'The first reason.';
COMMENT ON CONSTRAINT audit_drift_state_pkey ON @extschema@.audit_drift_state IS 'One row.';
COMMENT ON CONSTRAINT audit_drift_state_id_check ON @extschema@.audit_drift_state IS 'One row.';
COMMENT ON CONSTRAINT audit_drift_state_phase_check ON @extschema@.audit_drift_state IS 'The phases.';
INSERT INTO @extschema@.audit_drift_state DEFAULT VALUES;

SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_tenants', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_watermarks', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_drift_findings', 'WHERE alerted_at IS NOT NULL');

CREATE FUNCTION @extschema@.audit_tenants_serialize() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- What a restore inserts and what the job inserts would otherwise meet at the primary key.
    LOCK TABLE @extschema@.audit_drift_state IN SHARE ROW EXCLUSIVE MODE;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_tenants_serialize() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_tenants_serialize() IS
    'Trigger of audit_tenants: inserts wait for each other.';

CREATE FUNCTION @extschema@.audit_tenants_merge() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_tenants t
    SET drift_rows = coalesce(NEW.drift_rows, t.drift_rows), first_seen = least(NEW.first_seen, t.first_seen), last_seen = greatest(NEW.last_seen, t.last_seen)
    WHERE t.tenant_id = NEW.tenant_id;
    RETURN CASE WHEN FOUND THEN NULL ELSE NEW END;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_tenants_merge() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_tenants_merge() IS
    'Trigger of audit_tenants: takes an insert of a tenant that is there as a change of it.';

CREATE TRIGGER zeroauth_audit_tenants_serialize
    BEFORE INSERT ON @extschema@.audit_tenants
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_tenants_serialize();
COMMENT ON TRIGGER zeroauth_audit_tenants_serialize ON @extschema@.audit_tenants IS 'A restore and the job do not meet.';
CREATE TRIGGER zeroauth_audit_tenants_merge
    BEFORE INSERT ON @extschema@.audit_tenants
    FOR EACH ROW EXECUTE FUNCTION @extschema@.audit_tenants_merge();
COMMENT ON TRIGGER zeroauth_audit_tenants_merge ON @extschema@.audit_tenants IS 'A restored row joins the one that is there.';
ALTER TABLE @extschema@.audit_tenants ENABLE ALWAYS TRIGGER zeroauth_audit_tenants_serialize;
ALTER TABLE @extschema@.audit_tenants ENABLE ALWAYS TRIGGER zeroauth_audit_tenants_merge;

CREATE FUNCTION @extschema@.audit_drift_fingerprint(kind text, tenant text, chain smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(':', audit_drift_fingerprint.kind, audit_drift_fingerprint.tenant, CASE WHEN audit_drift_fingerprint.chain >= 0 THEN audit_drift_fingerprint.chain::text ELSE '' END)
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_fingerprint(text, text, smallint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_fingerprint(text, text, smallint) IS
    'Fingerprint of the alert of a finding: class:tenant:chain.';

CREATE FUNCTION @extschema@.audit_drift_alert(tenant text, kind text, chain smallint, source text, trail uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f @extschema@.audit_drift_findings;
BEGIN
    UPDATE @extschema@.audit_drift_findings d SET alerted_at = coalesce(d.alerted_at, clock_timestamp()), suspected = false
    WHERE d.tenant_id = audit_drift_alert.tenant AND d.kind = audit_drift_alert.kind AND d.chain = audit_drift_alert.chain
      AND d.source = audit_drift_alert.source AND d.trail = audit_drift_alert.trail
    RETURNING * INTO STRICT f;
    PERFORM @extschema@.audit_raise_alert(f.kind, 1::smallint, nullif(f.tenant_id, ''), @extschema@.audit_drift_fingerprint(f.kind, f.tenant_id, f.chain),
        CASE f.kind
            WHEN 'tenant_missing' THEN format('the whole trail of tenant %s is gone: %s events%s', to_json(f.tenant_id), f.events, CASE f.source WHEN 'memory' THEN format(' in %s chains', jsonb_array_length(f.expected)) END)
            WHEN 'chain_missing' THEN format('chain %s of tenant %s is gone: %s events', f.chain, to_json(f.tenant_id), f.events)
            WHEN 'tail_truncated' THEN format('the newest events of chain %s of tenant %s are gone: %s, from seq %s on', f.chain, to_json(f.tenant_id), f.events, f.first_seq)
            WHEN 'gap' THEN format('events of chain %s of tenant %s are missing, from seq %s on', f.chain, to_json(f.tenant_id), f.first_seq)
            WHEN 'link_broken' THEN format('events of chain %s of tenant %s do not follow each other, at seq %s first', f.chain, to_json(f.tenant_id), f.first_seq)
            WHEN 'fork' THEN format('a place of chain %s of tenant %s is taken more than once, seq %s first', f.chain, to_json(f.tenant_id), f.first_seq)
            WHEN 'checkpoint_mismatch' THEN CASE WHEN f.chain < 0 THEN format('the log of tenant %s is not what was sealed', to_json(f.tenant_id))
                ELSE format('events of chain %s of tenant %s, or its log, are not what was sealed, at seq %s first', f.chain, to_json(f.tenant_id), f.first_seq) END
            ELSE format('events of chain %s of tenant %s are not what was written, seq %s first', f.chain, to_json(f.tenant_id), f.first_seq)
        END,
        jsonb_strip_nulls(jsonb_build_object(
            'source', f.source, 'chain', CASE WHEN f.chain >= 0 THEN f.chain END, 'events', f.events, 'first_seq', f.first_seq, 'last_seq', f.last_seq,
            'places', f.places, 'was_there', jsonb_path_query_array(f.expected, '$[0 to 9]'))));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_alert(text, text, smallint, text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_alert(text, text, smallint, text, uuid) IS
    'Part of the job drift: raises the alert of a finding, or counts it up.';

CREATE FUNCTION @extschema@.audit_drift_note(finding jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f @extschema@.audit_drift_findings;
BEGIN
    -- That an event is not there is only said after the table itself was searched: a damaged index must not look like a deletion.
    INSERT INTO @extschema@.audit_drift_findings AS d (tenant_id, kind, chain, source, trail, events, first_seq, last_seq, places, expected, suspected, absent_from, absent_to)
    SELECT n.tenant, n.kind, n.chain, n.source, s.trail, n.count, n.first_seq, n.last_seq, n.places, n.expected,
        coalesce(jsonb_typeof(n.absent) = 'array', false), (n.absent ->> 0)::bigint, (n.absent ->> 1)::bigint
    FROM jsonb_to_record(audit_drift_note.finding) n (tenant text, kind text, chain smallint, source text, count bigint, first_seq bigint, last_seq bigint, places jsonb, expected jsonb, absent jsonb)
    CROSS JOIN @extschema@.audit_drift_state s
    ON CONFLICT (tenant_id, kind, chain, source, trail) DO UPDATE
        SET last_seen_at = clock_timestamp(), events = greatest(d.events, excluded.events),
            first_seq = least(d.first_seq, excluded.first_seq), last_seq = greatest(d.last_seq, excluded.last_seq),
            expected = CASE WHEN d.expected @> excluded.expected OR jsonb_array_length(d.expected) >= 1000 THEN d.expected ELSE d.expected || excluded.expected END,
            absent_from = coalesce(excluded.absent_from, d.absent_from), absent_to = coalesce(excluded.absent_to, d.absent_to),
            seen_in_table = false,
            -- One that a replay names again has been searched for. One that a watermark names is a new one: the watermark has moved on since.
            suspected = d.suspected OR excluded.suspected AND (d.alerted_at IS NULL OR d.source = 'memory')
    RETURNING * INTO STRICT f;
    IF NOT f.suspected THEN
        PERFORM @extschema@.audit_drift_alert(f.tenant_id, f.kind, f.chain, f.source, f.trail);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_note(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_note(jsonb) IS
    'Part of the job drift: remembers a finding, and raises its alert unless it has to be confirmed first.';

CREATE FUNCTION @extschema@.audit_drift_gone(tenant text, kind text, chain smallint, source text, trail uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM @extschema@.audit_drift_findings d
    WHERE d.tenant_id = audit_drift_gone.tenant AND d.kind = audit_drift_gone.kind AND d.chain = audit_drift_gone.chain
      AND d.source = audit_drift_gone.source AND d.trail = audit_drift_gone.trail;
    -- Replay, watermarks and the log share the alert.
    IF NOT EXISTS (SELECT FROM @extschema@.audit_drift_findings d WHERE d.tenant_id = audit_drift_gone.tenant AND d.kind = audit_drift_gone.kind AND d.chain = audit_drift_gone.chain) THEN
        PERFORM @extschema@.audit_resolve_alert(@extschema@.audit_drift_fingerprint(audit_drift_gone.kind, audit_drift_gone.tenant, audit_drift_gone.chain),
            'drift replay found the events as they should be');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_gone(text, text, smallint, text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_gone(text, text, smallint, text, uuid) IS
    'Part of the job drift: forgets a finding that was found gone, and resolves its alert when no other shares it.';

CREATE FUNCTION @extschema@.audit_drift_could_not(tenant text, reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_drift_state SET errors = errors + 1, first_error = coalesce(first_error, format('tenant %s: %s', to_json(audit_drift_could_not.tenant), reason));
    UPDATE @extschema@.audit_tenants t SET check_error = reason WHERE t.tenant_id = audit_drift_could_not.tenant;
    IF NOT FOUND AND audit_drift_could_not.tenant <> '' THEN
        INSERT INTO @extschema@.audit_tenants (tenant_id, check_error) VALUES (audit_drift_could_not.tenant, reason);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_could_not(text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_could_not(text, text) IS
    'Part of the job drift: notes that a tenant could not be checked; the run goes on with the others, and fails at its end.';

-- The job drift: what it reads, and its steps.

-- The order of the primary key without a sort, which would read a whole chain for the first row.
CREATE FUNCTION @extschema@.audit_replay_tenants(after text, after_chain smallint, upto text, n bigint, logs boolean, milliseconds integer) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_replay_tenants';
REVOKE ALL ON FUNCTION @extschema@.audit_replay_tenants(text, smallint, text, bigint, boolean, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_replay_tenants(text, smallint, text, bigint, boolean, integer) IS
    'Part of the job drift: recomputes the newest n events of the tenants behind a place, up to a tenant (NULL: to the last), for so many milliseconds but at least of one tenant, and compares watermarks and, unless told not to, what was sealed. Returns how far it came, the ends of the chains, and what is wrong. Changes nothing.';

CREATE FUNCTION @extschema@.audit_replay_chain(tenant text, chain smallint, after bigint, upto bigint, stop_at text, most bigint, milliseconds integer) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_replay_chain';
REVOKE ALL ON FUNCTION @extschema@.audit_replay_chain(text, smallint, bigint, bigint, text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_replay_chain(text, smallint, bigint, bigint, text, bigint, integer) IS
    'Part of the job drift: recomputes the events of one chain behind a seq, up to another, at most so many, for so many milliseconds, or until a finding of one class (NULL: of none). Returns how far it came, and what is wrong. Changes nothing.';

CREATE FUNCTION @extschema@.audit_process_cpu() RETURNS double precision
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_process_cpu';
REVOKE ALL ON FUNCTION @extschema@.audit_process_cpu() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_process_cpu() IS
    'Milliseconds of processor time that this process has used: what the job drift paces itself by.';

CREATE FUNCTION @extschema@.audit_drift_begin(this_run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nameless bigint;
BEGIN
    -- A run that was interrupted goes on behind the last tenant that was done, and comes round to it.
    UPDATE @extschema@.audit_drift_state s
    SET run = this_run, phase = 'recent', started_at = clock_timestamp(), resumed = s.phase = 'recent' AND s.recent_tenant <> '',
        recent_tenant = CASE WHEN s.phase = 'recent' THEN s.recent_tenant ELSE '' END,
        recent_chain = CASE WHEN s.phase = 'recent' THEN s.recent_chain END,
        recent_stop = CASE WHEN s.phase = 'recent' THEN s.recent_tenant ELSE '' END,
        recent_wrapped = false, careful = false, tenants_done = 0, events_done = 0, history_left = NULL, confirm_block = 0, errors = 0, first_error = NULL,
        tenants_total = (SELECT count(*) FROM @extschema@.audit_tenants t WHERE t.last_seen IS NOT NULL);
    -- What the owner resolved by hand, because no check can ever find it gone, is settled.
    DELETE FROM @extschema@.audit_drift_findings d
    WHERE d.source = 'memory' AND d.alerted_at IS NOT NULL AND NOT EXISTS (
        SELECT FROM @extschema@.audit_alerts a WHERE a.fingerprint = @extschema@.audit_drift_fingerprint(d.kind, d.tenant_id, d.chain) AND a.state <> 'resolved');
    -- Only in a table that was changed; no tenant's replay comes past such rows.
    SELECT count(*) INTO nameless FROM (SELECT FROM @extschema@.audit_events e WHERE e.tenant_id IS NULL LIMIT 1000) n;
    IF nameless > 0 THEN
        PERFORM @extschema@.audit_drift_note(jsonb_build_object('tenant', '', 'kind', 'content_mismatch', 'chain', -1, 'source', 'replay', 'count', nameless,
            'first_seq', 0, 'last_seq', 0, 'expected', '[]'::jsonb, 'places', jsonb_build_array(jsonb_build_object('detail', 'tenant_id is null'))));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_begin(bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_begin(bigint) IS
    'Part of the job drift: begins a run.';

CREATE FUNCTION @extschema@.audit_drift_keep(replayed jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now timestamptz := clock_timestamp();
    own uuid := (SELECT s.trail FROM @extschema@.audit_drift_state s);
    seen text[] := ARRAY(SELECT DISTINCT c.tenant FROM jsonb_to_recordset(replayed -> 'chains') c (tenant text));
    -- Until a suspicion is confirmed, what contradicts it must not be forgotten.
    kept text[] := ARRAY(SELECT c.chain || ':' || c.tenant FROM jsonb_to_recordset(replayed -> 'chains') c (tenant text, chain smallint, keep boolean) WHERE c.keep);
    finding jsonb;
BEGIN
    INSERT INTO @extschema@.audit_watermarks AS w (tenant_id, chain, trail, head_seq, head_hash, verified_at, verified_from)
    SELECT c.tenant, c.chain, own, c.seq, decode(c.hash, 'hex'), now, c."from"
    FROM jsonb_to_recordset(replayed -> 'chains') c (tenant text, chain smallint, seq bigint, hash text, "from" bigint)
    ON CONFLICT (tenant_id, chain, trail) DO UPDATE
        SET head_seq = excluded.head_seq, head_hash = excluded.head_hash, verified_at = excluded.verified_at, verified_from = excluded.verified_from
        WHERE NOT excluded.chain || ':' || excluded.tenant_id = ANY (kept);
    UPDATE @extschema@.audit_tenants t SET first_seen = coalesce(t.first_seen, now), last_seen = now, checked_at = now, check_error = NULL
    WHERE t.tenant_id = ANY (seen);
    IF EXISTS (SELECT FROM unnest(seen) n (tenant) WHERE NOT EXISTS (SELECT FROM @extschema@.audit_tenants t WHERE t.tenant_id = n.tenant)) THEN
        INSERT INTO @extschema@.audit_tenants (tenant_id, first_seen, last_seen, checked_at)
        SELECT n.tenant, now, now, now FROM unnest(seen) n (tenant) WHERE NOT EXISTS (SELECT FROM @extschema@.audit_tenants t WHERE t.tenant_id = n.tenant);
    END IF;
    DELETE FROM @extschema@.audit_watermarks w
    USING jsonb_to_recordset(replayed -> 'confirmed') c (tenant text, chain smallint, trail uuid)
    WHERE w.tenant_id = c.tenant AND w.chain = c.chain AND w.trail = c.trail;
    FOR finding IN SELECT f.value FROM jsonb_array_elements(replayed -> 'findings') f LOOP
        PERFORM @extschema@.audit_drift_note(finding);
    END LOOP;
    PERFORM @extschema@.audit_drift_gone(d.tenant_id, d.kind, d.chain, d.source, d.trail) FROM @extschema@.audit_drift_findings d
    WHERE d.source = 'log' AND d.last_seen_at < now AND d.tenant_id IN (SELECT jsonb_array_elements_text(replayed -> 'compared'));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_keep(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_keep(jsonb) IS
    'Part of the job drift: moves watermarks to what audit_replay_tenants() saw, notes its findings, and forgets what the log no longer says.';

CREATE FUNCTION @extschema@.audit_drift_recent(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s @extschema@.audit_drift_state := (SELECT t FROM @extschema@.audit_drift_state t);
    upto text := CASE WHEN s.recent_wrapped THEN s.recent_stop END;
    n bigint := current_setting('zeroauth_audit.drift_rows')::bigint;
    replayed jsonb;
    reason text;
    next text := s.recent_tenant;
BEGIN
    BEGIN
        replayed := @extschema@.audit_replay_tenants(s.recent_tenant, s.recent_chain, upto, n, true, CASE WHEN s.careful THEN 0 ELSE milliseconds END);
    EXCEPTION WHEN data_corrupted OR index_corrupted OR internal_error OR io_error OR program_limit_exceeded OR out_of_memory THEN
        -- One tenant that cannot be read must not keep the others from being checked.
        IF NOT s.careful THEN
            UPDATE @extschema@.audit_drift_state SET careful = true;
            RETURN '{}';
        END IF;
        reason := SQLSTATE || ' ' || SQLERRM;
        BEGIN
            -- Nor must its log keep its events from being checked.
            replayed := @extschema@.audit_replay_tenants(s.recent_tenant, s.recent_chain, upto, n, false, 0);
        EXCEPTION WHEN data_corrupted OR index_corrupted OR internal_error OR io_error OR program_limit_exceeded OR out_of_memory THEN
            IF s.recent_chain IS NULL THEN
                SELECT least((SELECT e.tenant_id FROM @extschema@.audit_events e WHERE e.tenant_id > s.recent_tenant ORDER BY e.tenant_id LIMIT 1),
                             (SELECT w.tenant_id FROM @extschema@.audit_watermarks w WHERE w.tenant_id > s.recent_tenant ORDER BY w.tenant_id LIMIT 1),
                             (SELECT l.tenant_id FROM @extschema@.audit_logs l WHERE l.tenant_id > s.recent_tenant AND l.tree_size > 0 ORDER BY l.tenant_id LIMIT 1)) INTO next;
            END IF;
            IF next IS NULL THEN
                RAISE;
            END IF;
            PERFORM @extschema@.audit_drift_could_not(next, reason);
            UPDATE @extschema@.audit_drift_state SET careful = false, recent_tenant = next, recent_chain = NULL;
            RETURN '{}';
        END;
    END;
    PERFORM @extschema@.audit_drift_keep(replayed);
    IF reason IS NOT NULL THEN
        PERFORM @extschema@.audit_drift_could_not(replayed #>> '{place,tenant}', 'what was sealed: ' || reason);
    END IF;
    UPDATE @extschema@.audit_drift_state t
    SET recent_tenant = replayed #>> '{place,tenant}', recent_chain = (replayed #>> '{place,chain}')::smallint, careful = false,
        tenants_done = t.tenants_done + (replayed ->> 'tenants')::bigint, events_done = t.events_done + (replayed ->> 'events')::bigint,
        tenants_total = greatest(t.tenants_total, t.tenants_done + (replayed ->> 'tenants')::bigint);
    IF (replayed ->> 'end')::boolean THEN
        IF s.recent_stop <> '' AND NOT s.recent_wrapped THEN
            UPDATE @extschema@.audit_drift_state SET recent_wrapped = true, recent_tenant = '', recent_chain = NULL;
        ELSE
            -- What may be missing is looked into before the long part of the run.
            UPDATE @extschema@.audit_drift_state
            SET phase = CASE WHEN EXISTS (SELECT FROM @extschema@.audit_drift_findings d WHERE d.suspected) THEN 'confirm' ELSE 'history' END;
        END IF;
    END IF;
    RETURN jsonb_build_object('tenants', replayed -> 'tenants', 'events', replayed -> 'events');
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_recent(integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_recent(integer) IS
    'Part of the job drift: one step of the first phase, over the newest events of the next tenants.';

CREATE FUNCTION @extschema@.audit_drift_budget(total bigint, done bigint, pass_started_at timestamptz, at timestamptz) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH given AS (
        -- A pass takes nine tenths of the period, so that no event is older than that when it is recomputed again.
        SELECT 0.9 * extract(epoch FROM current_setting('zeroauth_audit.full_replay_period')::interval) AS period,
            greatest(coalesce((SELECT extract(epoch FROM @extschema@.audit_schedule_next(j.schedule, j.time_zone, audit_drift_budget.at) - audit_drift_budget.at) FROM @extschema@.audit_jobs j WHERE j.name = 'drift'), 3600), 1) AS gap
    ), times AS (
        SELECT g.period, g.gap, g.period - extract(epoch FROM audit_drift_budget.at - audit_drift_budget.pass_started_at) AS time_left FROM given g
    ), most AS (
        -- What is behind is caught up with at four times the normal pace, not at once.
        SELECT t.*, greatest(100000, ceil(4 * audit_drift_budget.total * t.gap / t.period)) AS most FROM times t
    )
    SELECT CASE WHEN m.time_left <= m.gap THEN m.most
                ELSE least(m.most, ceil(greatest(audit_drift_budget.total - audit_drift_budget.done, 1) * m.gap / m.time_left)) END::bigint
    FROM most m
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_budget(bigint, bigint, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_budget(bigint, bigint, timestamptz, timestamptz) IS
    'Part of the job drift: how many events of the history a run takes, given how many there are, how many of this pass are done, when the pass began, and the time.';

CREATE FUNCTION @extschema@.audit_drift_history_chain(w @extschema@.audit_watermarks, this_pass bigint, upto bigint, most bigint, milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now timestamptz := clock_timestamp();
    begun boolean := w.replay_pass = this_pass;
    after bigint := CASE WHEN begun THEN w.replayed_seq ELSE 0 END;
    replayed jsonb := jsonb_build_object('complete', true, 'events', 0);
    ended boolean;
    finding jsonb;
BEGIN
    IF upto > 1 THEN
        replayed := @extschema@.audit_replay_chain(w.tenant_id, w.chain, after, upto, NULL, most, milliseconds);
        FOR finding IN SELECT f.value FROM jsonb_array_elements(replayed -> 'findings') f LOOP
            PERFORM @extschema@.audit_drift_note(finding);
        END LOOP;
        -- The event that the last step ended with is the same, or the chain was written anew meanwhile.
        IF begun AND w.replayed_hash IS NOT NULL AND (replayed #>> '{before,seq}')::bigint = w.replayed_seq
           AND replayed #>> '{before,hash}' <> encode(w.replayed_hash, 'hex') THEN
            PERFORM @extschema@.audit_drift_note(jsonb_build_object('tenant', w.tenant_id, 'kind', 'content_mismatch', 'chain', w.chain, 'source', 'memory', 'count', 1,
                'first_seq', w.replayed_seq, 'last_seq', w.replayed_seq,
                'expected', jsonb_build_array(jsonb_build_object('chain', w.chain, 'seq', w.replayed_seq, 'hash', encode(w.replayed_hash, 'hex'))),
                'places', jsonb_build_array(jsonb_build_object('seq', w.replayed_seq, 'expected', encode(w.replayed_hash, 'hex'), 'actual', replayed #>> '{before,hash}',
                    'detail', 'the event here was another one when it was last verified: the chain was written anew'))));
        END IF;
    END IF;
    ended := (replayed ->> 'complete')::boolean;
    UPDATE @extschema@.audit_watermarks t
    SET replay_pass = this_pass, replay_started_at = CASE WHEN begun THEN t.replay_started_at ELSE now END, replayed_at = now,
        replayed_seq = CASE WHEN ended THEN t.head_seq ELSE coalesce((replayed #>> '{last,seq}')::bigint, after) END,
        replayed_hash = CASE WHEN NOT ended THEN coalesce(decode(replayed #>> '{last,hash}', 'hex'), CASE WHEN begun THEN t.replayed_hash END) END,
        whole_started_at = CASE WHEN NOT ended THEN t.whole_started_at WHEN begun THEN t.replay_started_at ELSE now END,
        whole_ended_at = CASE WHEN ended THEN now ELSE t.whole_ended_at END,
        whole_seq = CASE WHEN ended THEN t.head_seq ELSE t.whole_seq END
    WHERE t.tenant_id = w.tenant_id AND t.chain = w.chain AND t.trail = w.trail;
    -- covered: with what the first phase of this run has recomputed already.
    RETURN jsonb_build_object('ended', ended, 'events', replayed -> 'events',
        -- A forged event can have the largest seq there is.
        'covered', CASE WHEN ended THEN least(greatest(w.head_seq - after, 0), 1000000000000) ELSE (replayed ->> 'events')::bigint END);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_history_chain(@extschema@.audit_watermarks, bigint, bigint, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_history_chain(@extschema@.audit_watermarks, bigint, bigint, bigint, integer) IS
    'Part of the job drift: goes on with the history of one chain in a pass, up to a seq, with at most so many events.';

CREATE FUNCTION @extschema@.audit_drift_history(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz := clock_timestamp() + milliseconds * interval '1 millisecond';
    s @extschema@.audit_drift_state := (SELECT t FROM @extschema@.audit_drift_state t);
    w @extschema@.audit_watermarks;
    next_phase text := 'history';
    this_pass bigint := s.pass;
    pass_started timestamptz := s.pass_started_at;
    total bigint := s.pass_total;
    done bigint := s.pass_done;
    left_over bigint := s.history_left;
    at_tenant text := s.pass_tenant;
    at_chain smallint := s.pass_chain;
    part jsonb;
    events bigint := 0;
BEGIN
    IF left_over IS NULL THEN
        IF pass_started IS NULL THEN
            this_pass := this_pass + 1;
            pass_started := clock_timestamp();
        END IF;
        SELECT coalesce(sum(least(m.head_seq, 1000000000000)), 0) INTO total FROM @extschema@.audit_watermarks m WHERE m.trail = s.trail;
        left_over := @extschema@.audit_drift_budget(total, done, pass_started, clock_timestamp());
    END IF;
    LOOP
        IF left_over <= 0 THEN
            next_phase := 'recheck';
            EXIT;
        END IF;
        SELECT m.* INTO w FROM @extschema@.audit_watermarks m
        WHERE (m.tenant_id, m.chain) > (at_tenant, at_chain) AND m.trail = s.trail
        ORDER BY m.tenant_id, m.chain LIMIT 1;
        IF NOT FOUND THEN
            next_phase := 'recheck';
            pass_started := NULL;
            done := 0;
            at_tenant := '';
            at_chain := -1;
            EXIT;
        END IF;
        -- What this run has recomputed already need not be recomputed again.
        part := @extschema@.audit_drift_history_chain(w, this_pass, CASE WHEN w.verified_at >= s.started_at THEN least(w.verified_from, w.head_seq) ELSE w.head_seq END,
            left_over, greatest(extract(milliseconds FROM until - clock_timestamp())::integer, 1));
        events := events + (part ->> 'events')::bigint;
        done := done + (part ->> 'covered')::bigint;
        left_over := left_over - greatest((part ->> 'covered')::bigint, 1);
        IF (part ->> 'ended')::boolean THEN
            at_tenant := w.tenant_id;
            at_chain := w.chain;
        END IF;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    UPDATE @extschema@.audit_drift_state t
    SET phase = next_phase, pass = this_pass, pass_started_at = pass_started, pass_ended_at = CASE WHEN pass_started IS NULL THEN clock_timestamp() ELSE t.pass_ended_at END,
        pass_total = total, pass_done = done, pass_tenant = at_tenant, pass_chain = at_chain, history_left = left_over, events_done = t.events_done + events;
    RETURN jsonb_build_object('history_events', events);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_history(integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_history(integer) IS
    'Part of the job drift: one step of the second phase, through all history, as much of it as is due.';

CREATE FUNCTION @extschema@.audit_drift_recheck(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz := clock_timestamp() + milliseconds * interval '1 millisecond';
    s @extschema@.audit_drift_state := (SELECT t FROM @extschema@.audit_drift_state t);
    f @extschema@.audit_drift_findings;
    replayed jsonb;
    gone boolean;
    resolved bigint := 0;
BEGIN
    LOOP
        SELECT d.* INTO f FROM @extschema@.audit_drift_findings d
        WHERE d.checked_run IS DISTINCT FROM s.run AND d.alerted_at IS NOT NULL AND d.last_seen_at < s.started_at
          AND (d.source = 'replay' OR d.source = 'memory' AND d.trail = s.trail)
        ORDER BY d.tenant_id, d.kind, d.chain, d.source, d.trail LIMIT 1;
        IF NOT FOUND THEN
            UPDATE @extschema@.audit_drift_state SET phase = 'confirm';
            EXIT;
        END IF;
        replayed := NULL;
        IF f.source = 'memory' THEN
            SELECT coalesce(bool_and(EXISTS (
                SELECT FROM @extschema@.audit_events e
                WHERE e.tenant_id = f.tenant_id AND e.chain = x.chain AND e.seq = x.seq AND e.event_hash = decode(x.hash, 'hex'))), false)
            INTO gone FROM jsonb_to_recordset(f.expected) x (chain smallint, seq bigint, hash text);
        ELSIF f.tenant_id = '' THEN
            gone := NOT EXISTS (SELECT FROM @extschema@.audit_events e WHERE e.tenant_id IS NULL);
        ELSE
            replayed := @extschema@.audit_replay_chain(f.tenant_id, f.chain, coalesce(f.checked_seq, greatest(f.first_seq, 1) - 1), least(f.last_seq, 9223372036854775806) + 1, f.kind, 9223372036854775807,
                greatest(extract(milliseconds FROM until - clock_timestamp())::integer, 1));
            IF EXISTS (SELECT FROM jsonb_array_elements(replayed -> 'findings') r WHERE r.value ->> 'kind' = f.kind) THEN
                gone := false;
            ELSIF (replayed ->> 'complete')::boolean THEN
                -- Where the events are not there any more, nothing is proven.
                gone := f.chain < 0 OR coalesce((replayed #>> '{last,seq}')::bigint, f.checked_seq, 0) >= f.last_seq;
            ELSE
                UPDATE @extschema@.audit_drift_findings d SET checked_seq = coalesce((replayed #>> '{last,seq}')::bigint, f.checked_seq)
                WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail);
                EXIT;
            END IF;
        END IF;
        IF gone THEN
            PERFORM @extschema@.audit_drift_gone(f.tenant_id, f.kind, f.chain, f.source, f.trail);
            resolved := resolved + 1;
        ELSE
            UPDATE @extschema@.audit_drift_findings d SET checked_run = s.run, checked_seq = NULL, last_seen_at = clock_timestamp()
            WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail);
            PERFORM @extschema@.audit_drift_alert(f.tenant_id, f.kind, f.chain, f.source, f.trail);
        END IF;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    RETURN jsonb_build_object('findings_gone', resolved);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_recheck(integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_recheck(integer) IS
    'Part of the job drift: one step of the third phase: earlier findings that this run has not come past are looked at again, and forgotten when they are gone.';

CREATE FUNCTION @extschema@.audit_drift_in_index(tenant text, chain smallint, first_seq bigint, last_seq bigint) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET jit = off
AS $$
    SELECT EXISTS (
        SELECT FROM @extschema@.audit_events e
        WHERE e.tenant_id = audit_drift_in_index.tenant AND (audit_drift_in_index.chain < 0 OR e.chain = audit_drift_in_index.chain)
          AND e.seq BETWEEN audit_drift_in_index.first_seq AND audit_drift_in_index.last_seq)
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_in_index(text, smallint, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_in_index(text, smallint, bigint, bigint) IS
    'Part of the job drift: whether the primary key shows an event at one of these places.';

CREATE FUNCTION @extschema@.audit_drift_search(first_block bigint, last_block bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET enable_indexscan = off SET enable_indexonlyscan = off SET enable_bitmapscan = off SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    -- Two statements, each of which reads the blocks once, however many suspicions there are.
    UPDATE @extschema@.audit_drift_findings d SET seen_in_table = true
    WHERE d.suspected AND NOT d.seen_in_table AND d.chain >= 0 AND EXISTS (
        SELECT FROM @extschema@.audit_events e
        WHERE e.ctid >= format('(%s,0)', first_block)::tid AND e.ctid < format('(%s,0)', last_block)::tid
          AND e.tenant_id = d.tenant_id AND e.chain = d.chain AND e.seq BETWEEN d.absent_from AND d.absent_to);
    UPDATE @extschema@.audit_drift_findings d SET seen_in_table = true
    WHERE d.suspected AND NOT d.seen_in_table AND d.chain < 0 AND EXISTS (
        SELECT FROM @extschema@.audit_events e
        WHERE e.ctid >= format('(%s,0)', first_block)::tid AND e.ctid < format('(%s,0)', last_block)::tid
          AND e.tenant_id = d.tenant_id AND e.seq BETWEEN d.absent_from AND d.absent_to);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_search(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_search(bigint, bigint) IS
    'Part of the job drift: searches these blocks of the table, whatever its indexes say, for events that are suspected to be missing.';

CREATE FUNCTION @extschema@.audit_drift_settle(f @extschema@.audit_drift_findings) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF f.seen_in_table THEN
        -- It is there. Whoever put it back meanwhile did so in the index, too; otherwise the index is damaged.
        IF NOT @extschema@.audit_drift_in_index(f.tenant_id, f.chain, f.absent_from, f.absent_to) THEN
            PERFORM @extschema@.audit_drift_could_not(f.tenant_id, 'audit_events and its primary key do not show the same rows');
        END IF;
        DELETE FROM @extschema@.audit_drift_findings d
        WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail) AND d.alerted_at IS NULL;
        UPDATE @extschema@.audit_drift_findings d SET suspected = false
        WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail);
        RETURN;
    END IF;
    PERFORM @extschema@.audit_drift_alert(f.tenant_id, f.kind, f.chain, f.source, f.trail);
    IF f.source = 'memory' THEN
        -- The finding remembers what was there; the watermark goes on from what is there now.
        UPDATE @extschema@.audit_watermarks w
        SET head_seq = e.seq, head_hash = e.event_hash, verified_from = least(w.verified_from, e.seq), whole_seq = least(w.whole_seq, e.seq),
            replayed_seq = least(w.replayed_seq, e.seq), replayed_hash = CASE WHEN w.replayed_seq <= e.seq THEN w.replayed_hash END
        FROM (SELECT n.seq, n.event_hash FROM @extschema@.audit_events n WHERE n.tenant_id = f.tenant_id AND n.chain = f.chain ORDER BY n.seq DESC LIMIT 1) e
        WHERE w.tenant_id = f.tenant_id AND w.chain = f.chain AND w.trail = f.trail;
        IF NOT FOUND THEN
            DELETE FROM @extschema@.audit_watermarks w WHERE w.tenant_id = f.tenant_id AND (f.chain < 0 OR w.chain = f.chain) AND w.trail = f.trail;
        END IF;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_settle(@extschema@.audit_drift_findings) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_settle(@extschema@.audit_drift_findings) IS
    'Part of the job drift: raises the alert of a suspicion after the search, or drops it.';

CREATE FUNCTION @extschema@.audit_drift_confirm(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz := clock_timestamp() + milliseconds * interval '1 millisecond';
    block bigint := (SELECT s.confirm_block FROM @extschema@.audit_drift_state s);
    blocks bigint;
    f @extschema@.audit_drift_findings;
    settled bigint := 0;
BEGIN
    IF EXISTS (SELECT FROM @extschema@.audit_drift_findings d WHERE d.suspected) THEN
        LOOP
            blocks := pg_relation_size('@extschema@.audit_events'::regclass) / current_setting('block_size')::bigint;
            EXIT WHEN block >= blocks;
            PERFORM @extschema@.audit_drift_search(block, block + 1024);
            block := block + 1024;
            UPDATE @extschema@.audit_drift_state SET confirm_block = block;
            IF clock_timestamp() >= until THEN
                RETURN '{}';
            END IF;
        END LOOP;
        FOR f IN SELECT d.* FROM @extschema@.audit_drift_findings d WHERE d.suspected ORDER BY d.tenant_id, d.chain, d.kind LIMIT 100 LOOP
            PERFORM @extschema@.audit_drift_settle(f);
            settled := settled + 1;
        END LOOP;
    END IF;
    IF NOT EXISTS (SELECT FROM @extschema@.audit_drift_findings d WHERE d.suspected) THEN
        UPDATE @extschema@.audit_drift_state s
        SET confirm_block = 0,
            phase = CASE WHEN s.history_left IS NULL THEN 'history' WHEN s.errors > 0 THEN 'failing' ELSE 'idle' END,
            finished_at = CASE WHEN s.history_left IS NULL OR s.errors > 0 THEN s.finished_at ELSE clock_timestamp() END;
    END IF;
    RETURN jsonb_build_object('confirmed', settled);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_drift_confirm(integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drift_confirm(integer) IS
    'Part of the job drift: one step of the phase after the first and of the last: before an alert says that events are missing, the table itself is searched for them.';

CREATE FUNCTION @extschema@.audit_job_drift() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    step_ms CONSTANT integer := 100;
    cpu double precision := @extschema@.audit_process_cpu();
    began timestamptz := clock_timestamp();
    s @extschema@.audit_drift_state;
    this_run bigint;
    done jsonb := '{}';
    pause double precision;
BEGIN
    SELECT t.* INTO STRICT s FROM @extschema@.audit_drift_state t FOR UPDATE;
    SELECT coalesce(max(r.id), 0) INTO this_run FROM @extschema@.audit_job_runs r WHERE r.job = 'drift' AND r.status = 'running';
    IF s.phase = 'idle' OR s.run IS DISTINCT FROM this_run THEN
        PERFORM @extschema@.audit_drift_begin(this_run);
    ELSIF s.phase = 'recent' THEN
        done := @extschema@.audit_drift_recent(step_ms);
    ELSIF s.phase = 'history' THEN
        done := @extschema@.audit_drift_history(step_ms);
    ELSIF s.phase = 'recheck' THEN
        done := @extschema@.audit_drift_recheck(step_ms);
    ELSIF s.phase = 'confirm' THEN
        done := @extschema@.audit_drift_confirm(step_ms);
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'ZA006', MESSAGE = format('could not check %s: %s', CASE WHEN s.errors = 1 THEN 'one place' ELSE s.errors || ' places' END, s.first_error),
            HINT = 'Everything else was checked. Check table and indexes with amcheck, and look into the server log.';
    END IF;
    -- A suspicion is looked into at once, at full speed.
    pause := CASE WHEN s.phase = 'confirm' THEN 0
                  ELSE (@extschema@.audit_process_cpu() - cpu) * 100 / current_setting('zeroauth_audit.replay_load')::integer - extract(epoch FROM clock_timestamp() - began) * 1000 END;
    RETURN jsonb_build_object('more', (SELECT t.phase <> 'idle' FROM @extschema@.audit_drift_state t), 'pause_ms', greatest(ceil(pause), 0)::bigint, 'done', done);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_drift() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_drift() IS
    'The job drift, one step of it: recomputes the newest events of every tenant and the next part of all history, compares watermarks and what was sealed, raises alerts and resolves them. ZA006 when something could not be checked.';

INSERT INTO @extschema@.audit_jobs (name, schedule, timeout) VALUES ('drift', '7 * * * *', '6 hours');

-- What people ask: how far the job drift is, and whether a tenant's trail is what it was.

CREATE VIEW @extschema@.audit_drift_progress AS
    SELECT s.phase, s.tenants_done, s.tenants_total, s.events_done, s.history_left, s.started_at, s.finished_at, s.resumed,
        s.pass_started_at, s.pass_done, s.pass_total,
        CASE WHEN s.pass_started_at IS NULL THEN 1 WHEN s.pass_total OPERATOR(pg_catalog.>) 0 THEN least(1, pg_catalog.round(s.pass_done::numeric OPERATOR(pg_catalog./) s.pass_total, 4)) ELSE 0 END AS pass_share
    FROM @extschema@.audit_drift_state s;
REVOKE ALL ON TABLE @extschema@.audit_drift_progress FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_drift_progress IS
    'How far the job drift is, as of its last step: one row.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.phase IS 'idle, recent, history, recheck, confirm or failing.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.tenants_done IS 'Tenants whose newest events were recomputed in this run.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.tenants_total IS 'Tenants there are.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.events_done IS 'Events recomputed in this run, history included.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.history_left IS 'Events of the history that this run still takes; NULL when it has not come to that.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.started_at IS 'When the run began.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.finished_at IS 'When a run last came to its end.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.resumed IS 'Whether the run went on where another was interrupted.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.pass_started_at IS 'When the pass through all history began; NULL: done, the next run begins another.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.pass_done IS 'Events of the history that are done in this pass.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.pass_total IS 'Events there are.';
COMMENT ON COLUMN @extschema@.audit_drift_progress.pass_share IS 'The part of the pass that is done, from 0 to 1.';

CREATE FUNCTION @extschema@.audit_replayed_part(upto bigint, started timestamptz, ended timestamptz, since timestamptz) RETURNS int8range
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN coalesce(audit_replayed_part.upto, 0) < 1 OR audit_replayed_part.ended IS NULL OR audit_replayed_part.ended < audit_replayed_part.since THEN 'empty'::int8range
        ELSE int8range(1 + CASE WHEN audit_replayed_part.started >= audit_replayed_part.since OR audit_replayed_part.ended <= audit_replayed_part.started THEN 0
                                ELSE floor(audit_replayed_part.upto * extract(epoch FROM audit_replayed_part.since - audit_replayed_part.started) / extract(epoch FROM audit_replayed_part.ended - audit_replayed_part.started)) END::bigint,
                       least(audit_replayed_part.upto, 9223372036854775806) + 1) END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_replayed_part(bigint, timestamptz, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_replayed_part(bigint, timestamptz, timestamptz, timestamptz) IS
    'Part of audit_integrity(): which events of a chain were recomputed since a time, when a replay from the first to this one began and ended then and went on evenly.';

CREATE FUNCTION @extschema@.audit_integrity(tenant text DEFAULT NULL) RETURNS TABLE (
    tenant_id text, state text, reasons text[], events bigint, chains integer, last_event_at timestamptz, last_drift_at timestamptz,
    verified_up_to timestamptz, open_findings bigint, open_alerts bigint, history_share numeric)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    found boolean := false;
    since timestamptz;
BEGIN
    PERFORM @extschema@.audit_require_every_row();
    since := clock_timestamp() - current_setting('zeroauth_audit.full_replay_period')::interval;
    FOR tenant_id, state, reasons, events, chains, last_event_at, last_drift_at, verified_up_to, open_findings, open_alerts, history_share IN
        WITH RECURSIVE present AS (
            (SELECT e.tenant_id FROM @extschema@.audit_events e WHERE audit_integrity.tenant IS NULL ORDER BY e.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT e.tenant_id FROM @extschema@.audit_events e WHERE e.tenant_id > p.tenant_id ORDER BY e.tenant_id LIMIT 1)
            FROM present p WHERE p.tenant_id IS NOT NULL
        ), wanted AS (
            SELECT p.tenant_id FROM present p WHERE p.tenant_id IS NOT NULL
            UNION SELECT t.tenant_id FROM @extschema@.audit_tenants t WHERE t.first_seen IS NOT NULL AND (audit_integrity.tenant IS NULL OR t.tenant_id = audit_integrity.tenant)
            UNION SELECT w.tenant_id FROM @extschema@.audit_watermarks w WHERE audit_integrity.tenant IS NULL OR w.tenant_id = audit_integrity.tenant
            UNION SELECT l.tenant_id FROM @extschema@.audit_logs l WHERE l.tree_size > 0 AND l.state <> 'ended' AND (audit_integrity.tenant IS NULL OR l.tenant_id = audit_integrity.tenant)
            UNION SELECT audit_integrity.tenant WHERE EXISTS (SELECT FROM @extschema@.audit_events e WHERE e.tenant_id = audit_integrity.tenant)
        ), facts AS (
            SELECT w.tenant_id, h.*, m.*, t.checked_at, t.check_error, f.open_findings + o.contradicted AS open_findings, f.suspicions,
                ARRAY(SELECT DISTINCT k FROM unnest(f.kinds || o.kinds) k ORDER BY k) AS kinds, a.open_alerts
            FROM wanted w
            LEFT JOIN @extschema@.audit_tenants t ON t.tenant_id = w.tenant_id
            CROSS JOIN LATERAL (
                WITH RECURSIVE heads AS (
                    (SELECT e.chain, e.seq, e.recorded_at FROM @extschema@.audit_events e WHERE e.tenant_id = w.tenant_id AND e.chain IS NOT NULL ORDER BY e.chain DESC, e.seq DESC LIMIT 1)
                    UNION ALL
                    SELECT below.* FROM heads CROSS JOIN LATERAL (
                        SELECT e.chain, e.seq, e.recorded_at FROM @extschema@.audit_events e WHERE e.tenant_id = w.tenant_id AND e.chain < heads.chain ORDER BY e.chain DESC, e.seq DESC LIMIT 1) below)
                SELECT least(coalesce(sum(x.seq), 0), 9223372036854775807)::bigint AS events, count(*)::integer AS chains, max(x.recorded_at) AS last_event_at FROM heads x) h
            CROSS JOIN LATERAL (
                SELECT max(e.recorded_at) FILTER (WHERE own) AS verified_up_to,
                    count(*) FILTER (WHERE NOT own) AS unconfirmed,
                    sum((SELECT sum(upper(r) - lower(r)) FROM unnest(int8multirange(
                        @extschema@.audit_replayed_part(k.replayed_seq, k.replay_started_at, k.replayed_at, since),
                        @extschema@.audit_replayed_part(least(k.whole_seq, k.head_seq), k.whole_started_at, k.whole_ended_at, since),
                        CASE WHEN k.verified_at >= since THEN int8range(k.verified_from, greatest(k.verified_from, least(k.head_seq, 9223372036854775806) + 1)) ELSE 'empty' END)) r)) FILTER (WHERE own) AS recomputed
                FROM (SELECT k.*, k.trail = s.trail AS own FROM @extschema@.audit_watermarks k CROSS JOIN @extschema@.audit_drift_state s WHERE k.tenant_id = w.tenant_id) k
                LEFT JOIN LATERAL (SELECT e.recorded_at FROM @extschema@.audit_events e WHERE e.tenant_id = k.tenant_id AND e.chain = k.chain AND e.seq = k.head_seq LIMIT 1) e ON true) m
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE d.alerted_at IS NOT NULL) AS open_findings, count(*) FILTER (WHERE d.alerted_at IS NULL) AS suspicions,
                    coalesce(array_agg(DISTINCT d.kind) FILTER (WHERE d.alerted_at IS NOT NULL), '{}') AS kinds
                FROM @extschema@.audit_drift_findings d WHERE d.tenant_id = w.tenant_id) f
            -- What a sink or an anchor disagrees with: found by the jobs that ask them.
            CROSS JOIN LATERAL (
                SELECT count(*) AS contradicted, coalesce(array_agg(x.kind), '{}') AS kinds FROM (
                    SELECT CASE WHEN l.known_size > l.tree_size THEN 'tail_truncated' ELSE 'checkpoint_mismatch' END AS kind
                    FROM (SELECT n.* FROM @extschema@.audit_logs n WHERE n.tenant_id = w.tenant_id ORDER BY n.epoch DESC LIMIT 1) l WHERE l.state = 'held'
                    UNION ALL
                    SELECT CASE y.kind WHEN 'tenant_missing' THEN y.kind ELSE 'anchor_mismatch' END FROM @extschema@.audit_anchor_findings y WHERE y.tenant_id = w.tenant_id) x) o
            CROSS JOIN LATERAL (SELECT count(*) AS open_alerts FROM @extschema@.audit_alerts a WHERE a.tenant = w.tenant_id AND a.state <> 'resolved') a
        ), reasoned AS (
            SELECT facts.*,
                facts.kinds
                || CASE WHEN facts.suspicions > 0 THEN ARRAY['suspicion'] ELSE '{}' END
                || CASE WHEN facts.unconfirmed > 0 THEN ARRAY['restored_incomplete'] ELSE '{}' END
                || CASE WHEN facts.check_error IS NOT NULL THEN ARRAY['could_not_check'] ELSE '{}' END
                || CASE WHEN facts.checked_at IS NULL AND (facts.chains > 0 OR facts.kinds = '{}') THEN ARRAY['never_checked']
                        WHEN coalesce((SELECT @extschema@.audit_schedule_overdue(j.schedule, j.time_zone, facts.checked_at) < clock_timestamp() FROM @extschema@.audit_jobs j WHERE j.name = 'drift'), true) AND facts.chains > 0 THEN ARRAY['checked_long_ago']
                        ELSE '{}' END AS reasons
            FROM facts
        )
        SELECT r.tenant_id, CASE WHEN r.open_findings > 0 THEN 'tampered' WHEN r.unconfirmed > 0 THEN 'incomplete' WHEN r.reasons <> '{}' THEN 'unchecked' ELSE 'ok' END,
            r.reasons, r.events, r.chains, r.last_event_at, r.checked_at, r.verified_up_to, r.open_findings, r.open_alerts,
            CASE WHEN r.events > 0 THEN trunc(least(coalesce(r.recomputed, 0) / r.events, 1), 4) END
        FROM reasoned r ORDER BY r.tenant_id
    LOOP
        found := true;
        RETURN NEXT;
    END LOOP;
    IF audit_integrity.tenant IS NOT NULL AND NOT found THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA005', MESSAGE = format('no events of tenant %s', to_json(left(audit_integrity.tenant, 128))),
            HINT = 'Tenant names are compared byte for byte.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_integrity(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_integrity(text) IS
    'The state of each tenant''s trail (NULL: of every tenant''s) as the worker''s jobs know it: tampered (there are open findings of drift, or a sink or an anchor disagrees), incomplete (a dump was restored whose end is not there), unchecked (see reasons) or ok; events and chains there are; when the newest event was recorded, when drift last checked the tenant, the newest event that it knew, and the part of the events that were recomputed within zeroauth_audit.full_replay_period. ZA005 for a tenant that was never there, ZA006 when rows may be hidden.';

CREATE FUNCTION @extschema@.audit_health_drift() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    preloaded boolean := @extschema@.audit_preloaded();
    s @extschema@.audit_drift_state := (SELECT t FROM @extschema@.audit_drift_state t);
    behind boolean := s.pass_started_at < clock_timestamp() - current_setting('zeroauth_audit.full_replay_period')::interval AND NOT pg_is_in_recovery();
BEGIN
    RETURN jsonb_build_object(
        'state', CASE WHEN behind THEN 'degraded' ELSE 'ok' END, 'reasons', CASE WHEN behind THEN ARRAY['history_behind'] ELSE '{}' END,
        'phase', s.phase, 'tenants_done', s.tenants_done, 'tenants_total', s.tenants_total, 'finished_at', s.finished_at,
        'pass_started_at', s.pass_started_at, 'pass_done', s.pass_done, 'pass_total', s.pass_total);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_drift() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_drift() IS
    'Part of audit_health(): how far the job drift is. Degraded: history_behind, when a pass through all history has taken longer than zeroauth_audit.full_replay_period.';

-- Tripwires: what must not change is compared, every minute, with what it must be or with what was remembered. And pins: files
-- outside of the database, every five minutes.

-- One row. Not dumped: it is about this copy of the data, and begins anew in another.
CREATE TABLE @extschema@.audit_tripwire_state (
    only_row boolean NOT NULL DEFAULT true,
    looked_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    differences integer NOT NULL DEFAULT 0,
    cluster bigint,
    version text,
    trail oid,
    trail_file oid,
    guards text,
    rows_inserted bigint,
    rows_updated bigint,
    rows_deleted bigint,
    uses_epoch bigint,
    uses_number bigint,
    boot text,
    booted_at bigint,
    CONSTRAINT audit_tripwire_state_pkey PRIMARY KEY (only_row),
    CONSTRAINT audit_tripwire_state_only_row_check CHECK (only_row)
);
REVOKE ALL ON TABLE @extschema@.audit_tripwire_state FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_tripwire_state IS 'What the tripwires remember from one look to the next: one row, which the job tripwire keeps.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.only_row IS 'True.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.looked_at IS 'When they last looked.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.differences IS 'How many definitions were not as installed then.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.cluster IS 'System identifier: in another cluster (pg_upgrade) files and row versions are others.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.version IS 'Version of the extension.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.trail IS 'audit_events.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.trail_file IS 'Its file: another after TRUNCATE or a rewrite.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.guards IS 'Row versions of its guard triggers: others after each was switched off and on again.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.rows_inserted IS 'The table''s counters: rows inserted,';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.rows_updated IS 'updated,';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.rows_deleted IS 'and deleted.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.uses_epoch IS 'Which board in shared memory uses_number is of.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.uses_number IS 'The newest use of maintenance or replica role that people were told of.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.boot IS 'The boot of the machine that booted_at is about.';
COMMENT ON COLUMN @extschema@.audit_tripwire_state.booted_at IS 'When that was by the wall clock, in microseconds since 1970: the same until somebody sets the clock.';
COMMENT ON CONSTRAINT audit_tripwire_state_pkey ON @extschema@.audit_tripwire_state IS 'One row.';
COMMENT ON CONSTRAINT audit_tripwire_state_only_row_check ON @extschema@.audit_tripwire_state IS 'One row.';

CREATE FUNCTION @extschema@.audit_library_version() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_library_version';
REVOKE ALL ON FUNCTION @extschema@.audit_library_version() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_library_version() IS
    'The version of the library that this session runs; pg_extension.extversion is that of the SQL objects.';

CREATE FUNCTION @extschema@.audit_definitions() RETURNS TABLE (object text, part text, value text)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 500
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_definitions';
REVOKE ALL ON FUNCTION @extschema@.audit_definitions() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_definitions() IS
    'What the catalogs say of everything that belongs to the extension, as far as it must not change: functions, tables, columns, constraints, indexes, triggers, rules, owners, and grants that are too wide.';

CREATE FUNCTION @extschema@.audit_definition_differences() RETURNS TABLE (object text, part text, was text, now text)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_definition_differences';
REVOKE ALL ON FUNCTION @extschema@.audit_definition_differences() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_definition_differences() IS
    'What is not as this version installs it: was is how it must be (NULL: there must be no such thing), now is how it is (NULL: it is gone); long texts as their SHA-256. No rows: nothing is wrong. While the library and the SQL objects are of different versions only the triggers of audit_events are compared. Works on a hot standby.';

CREATE FUNCTION @extschema@.audit_uses(epoch bigint, number bigint) RETURNS TABLE (
    board bigint, at bigint, kind text, use text, role bigint, times bigint, first timestamptz, last timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
    AS 'MODULE_PATHNAME', 'zeroauth_audit_uses';
REVOKE ALL ON FUNCTION @extschema@.audit_uses(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_uses(bigint, bigint) IS
    'Part of the job tripwire: who used maintenance or replica role in this database, as noted in shared memory after a number of a board. No rows when the library is not in shared_preload_libraries.';

CREATE FUNCTION @extschema@.audit_forget_uses(epoch bigint, number bigint) RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_forget_uses';
REVOKE ALL ON FUNCTION @extschema@.audit_forget_uses(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_forget_uses(bigint, bigint) IS
    'Part of the job tripwire: takes the notes up to a number off the board, once a committed transaction has told of them.';

CREATE FUNCTION @extschema@.audit_clock(boot text DEFAULT NULL, booted_at bigint DEFAULT NULL) RETURNS TABLE (
    this_boot text, this_booted_at bigint, step bigint, synchronised boolean, problem text, offset_us bigint, estimated_error_us bigint, max_error_us bigint)
    LANGUAGE c VOLATILE PARALLEL SAFE ROWS 1
    AS 'MODULE_PATHNAME', 'zeroauth_audit_clock';
REVOKE ALL ON FUNCTION @extschema@.audit_clock(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_clock(text, bigint) IS
    'The clock of the server: the boot of the machine and when it was by the wall clock; step is by how many microseconds that was set since an earlier call of the same boot, NULL if by no more than zeroauth_audit.max_clock_error; what the kernel says of its synchronisation (adjtimex), and why that is not enough, NULL if it is or is not to be looked at. Works on a hot standby.';

CREATE FUNCTION @extschema@.audit_check_pins() RETURNS TABLE (path text, expected text, found text, problem text)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 5
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_pins';
REVOKE ALL ON FUNCTION @extschema@.audit_check_pins() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_check_pins() IS
    'Reads every file of zeroauth_audit.pinned_files: its digest as pinned and as found, and what is wrong, NULL for nothing. No rows when the library is not in shared_preload_libraries.';

CREATE FUNCTION @extschema@.audit_pin_status() RETURNS TABLE (pinned integer, wrong integer, checked_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
    AS 'MODULE_PATHNAME', 'zeroauth_audit_pin_status';
REVOKE ALL ON FUNCTION @extschema@.audit_pin_status() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_pin_status() IS
    'How many files are pinned, how many of them were wrong when last looked at, and when that was; reads shared memory only.';

-- Something that happened, and that no later check can prove undone. As long as nobody has acknowledged the alert about it, a
-- repetition counts it up; afterwards it is a new alert, or whoever waits for the first to be acknowledged would go unnoticed.
CREATE FUNCTION @extschema@.audit_raise_incident(kind text, severity smallint, place text, message text, evidence jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    mark text := audit_raise_incident.kind || ':' || left(audit_raise_incident.place, 200) || ':';
    fingerprint text;
BEGIN
    SELECT a.fingerprint INTO fingerprint FROM @extschema@.audit_alerts a
    WHERE a.state = 'open' AND starts_with(a.fingerprint, mark) AND substr(a.fingerprint, length(mark) + 1) ~ '^[0-9]{8}T[0-9]{6}[.][0-9]{6}$'
    ORDER BY a.id DESC LIMIT 1;
    PERFORM @extschema@.audit_log(jsonb_build_object(
        'event', 'tripwire', 'kind', audit_raise_incident.kind, 'message', audit_raise_incident.message,
        'evidence', audit_raise_incident.evidence, 'database', current_database()));
    RETURN @extschema@.audit_raise_alert(
        audit_raise_incident.kind, audit_raise_incident.severity, NULL,
        coalesce(fingerprint, mark || to_char(timezone('UTC', clock_timestamp()), 'YYYYMMDD"T"HH24MISS.US')),
        audit_raise_incident.message, audit_raise_incident.evidence);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_raise_incident(text, smallint, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_raise_incident(text, smallint, text, text, jsonb) IS
    'Raises an alert about something that happened at a place, or counts up the one that nobody has acknowledged yet, and writes a line to the server log each time. Returns the alert''s id. For the extension''s own checks.';

CREATE FUNCTION @extschema@.audit_resolve_others(kind text, mark text, remaining text[], note text) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    gone text;
    resolved integer := 0;
BEGIN
    FOR gone IN
        SELECT a.fingerprint FROM @extschema@.audit_alerts a
        WHERE a.state <> 'resolved' AND a.kind = audit_resolve_others.kind AND starts_with(a.fingerprint, audit_resolve_others.mark)
          AND NOT a.fingerprint = ANY (audit_resolve_others.remaining)
    LOOP
        resolved := resolved + @extschema@.audit_resolve_alert(gone, audit_resolve_others.note)::integer;
    END LOOP;
    RETURN resolved;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_resolve_others(text, text, text[], text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_resolve_others(text, text, text[], text) IS
    'Resolves the alerts of a kind whose fingerprints begin with mark and are not among the remaining ones. Returns how many. For the extension''s own checks.';

CREATE FUNCTION @extschema@.audit_tripwire_definitions() RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    d record;
    many CONSTANT integer := 30;
    mark text;
    marks text[] := '{}';
    found_now integer := 0;
    rest jsonb := '[]';
    rest_objects integer := 0;
BEGIN
    FOR d IN
        SELECT x.object, count(*) AS parts, string_agg(x.part, ', ' ORDER BY x.part) AS names,
            jsonb_agg(jsonb_build_object('part', x.part, 'was', left(x.was, 400), 'is', left(x.now, 400)) ORDER BY x.part) AS differs,
            left(encode(sha256(convert_to(string_agg(concat(x.part, chr(1), x.now), chr(2) ORDER BY x.part), 'UTF8')), 'hex'), 12) AS is_now
        FROM @extschema@.audit_definition_differences() x
        GROUP BY x.object
        -- The trail and its guards first.
        ORDER BY x.object NOT LIKE '%audit_events%', x.object
    LOOP
        found_now := found_now + d.parts;
        IF cardinality(marks) < many THEN
            mark := format('guard_disabled:installed:%s:%s', left(d.object, 300), d.is_now);
            marks := marks || mark;
            PERFORM @extschema@.audit_raise_alert('guard_disabled', 1::smallint, NULL, mark,
                format('%s is not as installed: %s', d.object, d.names),
                jsonb_build_object('object', d.object, 'differs', d.differs));
        ELSE
            rest_objects := rest_objects + 1;
            IF octet_length(rest::text) < 24000 THEN
                rest := rest || to_jsonb(d.object);
            END IF;
        END IF;
    END LOOP;
    IF rest_objects > 0 THEN
        mark := 'guard_disabled:installed:and others';
        marks := marks || mark;
        PERFORM @extschema@.audit_raise_alert('guard_disabled', 1::smallint, NULL, mark,
            format('%s more objects are not as installed', rest_objects),
            jsonb_build_object('count', rest_objects, 'objects', rest));
    END IF;
    PERFORM @extschema@.audit_resolve_others('guard_disabled', 'guard_disabled:installed:', marks, 'it is as installed again, or differs in another way');
    RETURN found_now;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_tripwire_definitions() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_tripwire_definitions() IS
    'Part of the job tripwire: an alert guard_disabled for each object that is not as installed. Returns how many differences there are.';

CREATE FUNCTION @extschema@.audit_tripwire_table(before @extschema@.audit_tripwire_state, found_differences integer) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    seen record;
    inserted bigint;
    updated bigint;
    deleted bigint;
BEGIN
    SELECT clock_timestamp() AS looked_at, t.oid AS trail, pg_relation_filenode(t.oid) AS trail_file,
        (SELECT c.system_identifier FROM pg_control_system() c) AS cluster,
        (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'zeroauth_audit') AS version,
        (SELECT string_agg(g.tgname || ' ' || g.xmin, ', ' ORDER BY g.tgname) FROM pg_trigger g
         WHERE g.tgrelid = t.oid AND g.tgname IN ('zzz_zeroauth_audit_chain', 'zeroauth_audit_refuse_row', 'zeroauth_audit_refuse_statement')) AS guards,
        pg_stat_get_tuples_inserted(t.oid) AS inserted, pg_stat_get_tuples_updated(t.oid) AS updated, pg_stat_get_tuples_deleted(t.oid) AS deleted
    INTO seen FROM (SELECT to_regclass('@extschema@.audit_events')::oid) t (oid);

    IF before.cluster = seen.cluster AND (before.trail, before.trail_file) <> (seen.trail, seen.trail_file) THEN
        PERFORM @extschema@.audit_raise_incident('table_rewritten', 1::smallint, 'audit_events', 'audit_events has another file: it was rewritten or emptied',
            jsonb_build_object('was', jsonb_build_array(before.trail, before.trail_file), 'is', jsonb_build_array(seen.trail, seen.trail_file), 'looked_at', seen.looked_at, 'last_looked_at', before.looked_at));
    END IF;

    -- One that is off now is a difference, and was told of already.
    IF before.cluster = seen.cluster AND before.trail = seen.trail AND before.version = seen.version AND before.differences = 0 AND found_differences = 0
       AND before.guards <> seen.guards THEN
        PERFORM @extschema@.audit_raise_incident('guard_disabled', 1::smallint, 'off and on', 'a guard of audit_events was switched off and on again, or made anew',
            jsonb_build_object('was', before.guards, 'is', seen.guards, 'looked_at', seen.looked_at, 'last_looked_at', before.looked_at));
    END IF;

    -- Counters that are less than they were began anew: after a crash, in a copy of the database, after pg_stat_reset().
    IF before.cluster = seen.cluster AND before.trail = seen.trail
       AND seen.inserted >= before.rows_inserted AND seen.updated >= before.rows_updated AND seen.deleted >= before.rows_deleted THEN
        inserted := seen.inserted - before.rows_inserted;
        updated := seen.updated - before.rows_updated;
        deleted := seen.deleted - before.rows_deleted;
    ELSE
        inserted := seen.inserted;
        updated := seen.updated;
        deleted := seen.deleted;
    END IF;
    -- Two sessions that insert one event_id at once with ON CONFLICT: the row of one is taken back, which counts as inserted and
    -- deleted. So as many deletions as insertions say nothing; but whoever deletes in earnest passes a guard, or switches it off.
    IF before.cluster IS NOT NULL AND (updated > 0 OR deleted > inserted) THEN
        PERFORM @extschema@.audit_raise_incident('rows_modified', 1::smallint, 'audit_events', 'rows of audit_events were updated or deleted, or it was tried in a transaction that was rolled back',
            jsonb_build_object('updated', updated, 'deleted', deleted, 'inserted', inserted, 'looked_at', seen.looked_at, 'last_looked_at', before.looked_at));
    END IF;
    UPDATE @extschema@.audit_tripwire_state s SET
        looked_at = seen.looked_at, differences = found_differences, cluster = seen.cluster, version = seen.version, trail = seen.trail, trail_file = seen.trail_file,
        guards = seen.guards, rows_inserted = seen.inserted, rows_updated = seen.updated, rows_deleted = seen.deleted;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_tripwire_table(@extschema@.audit_tripwire_state, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_tripwire_table(@extschema@.audit_tripwire_state, integer) IS
    'Part of the job tripwire: compares the file, the counters and the guards'' row versions of audit_events with what was remembered, and remembers them.';

CREATE FUNCTION @extschema@.audit_tripwire_uses(before @extschema@.audit_tripwire_state) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    u record;
    told jsonb;
BEGIN
    -- What the last run told of is safe in this row since its commit.
    PERFORM @extschema@.audit_forget_uses(before.uses_epoch, before.uses_number);
    FOR u IN
        SELECT x.kind, max(x.board) AS board, max(x.at) AS at, coalesce(r.rolname, 'role ' || x.role) AS role, string_agg(x.use, ', ' ORDER BY x.use) AS uses,
            jsonb_agg(jsonb_build_object('use', x.use, 'times', x.times, 'first', x.first, 'last', x.last) ORDER BY x.first) AS each
        FROM @extschema@.audit_uses(before.uses_epoch, before.uses_number) x LEFT JOIN pg_roles r ON r.oid = x.role::oid
        GROUP BY x.kind, r.rolname, x.role
    LOOP
        told := jsonb_build_object('role', u.role, 'uses', u.each);
        IF u.kind = 'rows_modified' THEN
            PERFORM @extschema@.audit_raise_incident('rows_modified', 1::smallint, 'audit_events', format('rows of audit_events were updated or deleted by %s under maintenance, or it was rolled back', u.role), told);
        ELSIF u.kind = 'maintenance_used' THEN
            PERFORM @extschema@.audit_raise_incident('maintenance_used', 2::smallint, u.role, format('%s used zeroauth_audit.maintenance: %s', u.role, u.uses), told);
        ELSE
            PERFORM @extschema@.audit_raise_incident('replica_role_used', 2::smallint, u.role, format('%s wrote to audit_events with session_replication_role = replica: %s', u.role, u.uses), told);
        END IF;
        UPDATE @extschema@.audit_tripwire_state s SET
            uses_epoch = u.board, uses_number = CASE WHEN s.uses_epoch = u.board THEN greatest(s.uses_number, u.at) ELSE u.at END;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_tripwire_uses(@extschema@.audit_tripwire_state) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_tripwire_uses(@extschema@.audit_tripwire_state) IS
    'Part of the job tripwire: tells of the uses of maintenance and replica role since the last time, and remembers which.';

CREATE FUNCTION @extschema@.audit_tripwire_clock(before @extschema@.audit_tripwire_state) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    c record;
    mark CONSTANT text := 'clock_step:unsynchronised';
BEGIN
    SELECT * INTO c FROM @extschema@.audit_clock(before.boot, before.booted_at);
    IF c.step IS NOT NULL THEN
        PERFORM @extschema@.audit_raise_incident('clock_step', 2::smallint, 'set', format('the server''s clock was set %s by %s s', CASE WHEN c.step < 0 THEN 'back' ELSE 'forward' END, round(abs(c.step) / 1000000.0, 3)),
            jsonb_build_object('step_us', c.step, 'looked_at', clock_timestamp(), 'last_looked_at_by_the_old_clock', before.looked_at));
    END IF;
    -- Without a step the old distance is kept: small ones do not add up unseen.
    IF c.step IS NOT NULL OR c.this_boot IS DISTINCT FROM before.boot OR before.booted_at IS NULL THEN
        UPDATE @extschema@.audit_tripwire_state s SET boot = c.this_boot, booted_at = c.this_booted_at;
    END IF;
    IF c.problem IS NOT NULL THEN
        PERFORM @extschema@.audit_raise_alert('clock_step', 3::smallint, NULL, mark, c.problem,
            jsonb_build_object('synchronised', c.synchronised, 'offset_us', c.offset_us, 'estimated_error_us', c.estimated_error_us, 'max_error_us', c.max_error_us, 'allowed_ms', (SELECT s.setting::integer FROM pg_settings s WHERE s.name = 'zeroauth_audit.max_clock_error')));
    ELSE
        PERFORM @extschema@.audit_resolve_alert(mark, 'the clock is synchronised, or is not to be looked at');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_tripwire_clock(@extschema@.audit_tripwire_state) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_tripwire_clock(@extschema@.audit_tripwire_state) IS
    'Part of the job tripwire: an alert clock_step when the clock was set, or is not synchronised.';

CREATE FUNCTION @extschema@.audit_job_tripwire() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    before @extschema@.audit_tripwire_state;
    found_differences integer;
    problems jsonb := '{}';
BEGIN
    -- An empty row, as good as none, if somebody took it away.
    INSERT INTO @extschema@.audit_tripwire_state DEFAULT VALUES ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT before FROM @extschema@.audit_tripwire_state FOR UPDATE;
    -- What goes wrong in one of them keeps none of the others from being told.
    BEGIN
        found_differences := @extschema@.audit_tripwire_definitions();
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('definitions', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        PERFORM @extschema@.audit_tripwire_table(before, coalesce(found_differences, before.differences));
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('table', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        PERFORM @extschema@.audit_tripwire_uses(before);
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('uses', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        PERFORM @extschema@.audit_tripwire_clock(before);
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('clock', SQLSTATE || ' ' || SQLERRM);
    END;
    IF problems <> '{}' THEN
        PERFORM @extschema@.audit_raise_alert('job_failed', 2::smallint, NULL, 'job_failed:tripwire', 'the job tripwire could not look at everything', problems);
    ELSE
        PERFORM @extschema@.audit_resolve_alert('job_failed:tripwire', 'it could look at everything');
    END IF;
    RETURN jsonb_build_object('more', false, 'done', jsonb_strip_nulls(jsonb_build_object('differences', found_differences, 'problems', nullif(problems, '{}'))));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_tripwire() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_tripwire() IS
    'The job tripwire: looks at definitions, at the file and the counters of audit_events, at uses of maintenance and replica role, and at the clock; raises alerts of kind guard_disabled, table_rewritten, rows_modified, maintenance_used, replica_role_used and clock_step, and resolves those whose condition is gone.';

CREATE FUNCTION @extschema@.audit_job_pins() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    p record;
    mark text;
    marks text[] := '{}';
    looked_at integer := 0;
BEGIN
    FOR p IN SELECT * FROM @extschema@.audit_check_pins() LOOP
        looked_at := looked_at + 1;
        IF p.problem IS NOT NULL THEN
            mark := format('pin_mismatch:%s:%s',
                CASE WHEN octet_length(p.path) > 600 THEN encode(sha256(convert_to(p.path, 'UTF8')), 'hex') ELSE p.path END, coalesce(left(p.found, 12), 'unreadable'));
            marks := marks || mark;
            PERFORM @extschema@.audit_raise_alert('pin_mismatch', 1::smallint, NULL, mark,
                format(CASE WHEN p.found IS NULL THEN 'pinned file "%s" cannot be read: %s' ELSE 'pinned file "%s" is not what it was' END, p.path, p.problem),
                jsonb_build_object('path', p.path, 'expected', p.expected, 'found', p.found, 'problem', p.problem));
        END IF;
    END LOOP;
    PERFORM @extschema@.audit_resolve_others('pin_mismatch', 'pin_mismatch:', marks, 'the file is as pinned, or pinned otherwise, or differs in another way');
    RETURN jsonb_build_object('more', false, 'done', jsonb_build_object('pinned', looked_at, 'wrong', cardinality(marks)));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_pins() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_pins() IS
    'The job pins: an alert pin_mismatch for each pinned file that is not what it was, or cannot be read.';

-- What is remembered begins with the install: the first run of the job compares with that.
INSERT INTO @extschema@.audit_tripwire_state DEFAULT VALUES;
SELECT @extschema@.audit_tripwire_table(state, 0) FROM @extschema@.audit_tripwire_state state;
INSERT INTO @extschema@.audit_jobs (name, schedule, timeout) VALUES ('tripwire', '* * * * *', '1 minute'), ('pins', '*/5 * * * *', '4 minutes');

-- Health: one small function a part, each {"state": "ok" | "degraded" | "failing", "reasons": [..], ..}, and one that puts them
-- together. A part is added by a function of its own, and one line in audit_health().

CREATE FUNCTION @extschema@.audit_worker_status() RETURNS TABLE (
    enabled boolean, launcher integer, state text, pid integer, since timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
    AS 'MODULE_PATHNAME', 'zeroauth_audit_worker_status';
REVOKE ALL ON FUNCTION @extschema@.audit_worker_status() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_worker_status() IS
    'What shared memory says about the worker of this database: whether there shall be workers, the launcher''s process, none, starting, running or waiting (to be started again), its process, and since when. No row when the library is not in shared_preload_libraries.';

CREATE FUNCTION @extschema@.audit_health_database() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    preloaded boolean := @extschema@.audit_preloaded();
    maintenance boolean := current_setting('zeroauth_audit.maintenance')::boolean;
    reasons text[] := '{}';
BEGIN
    IF NOT preloaded THEN
        reasons := reasons || 'not_preloaded'::text;
    END IF;
    IF maintenance THEN
        reasons := reasons || 'maintenance_open'::text;
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN reasons = '{}' THEN 'ok' ELSE 'degraded' END, 'reasons', reasons,
        'name', current_database(), 'standby', pg_is_in_recovery(), 'preloaded', preloaded,
        'version', (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'zeroauth_audit'),
        'server_started', pg_postmaster_start_time());
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_database() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_database() IS
    'Part of audit_health(): this database, the version of the extension, and whether its library was loaded by the server. Degraded: not_preloaded, maintenance_open (in the session that asks).';

CREATE FUNCTION @extschema@.audit_health_worker() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
    state text;
    reason text;
BEGIN
    SELECT * INTO w FROM @extschema@.audit_worker_status();
    IF w.enabled IS NULL OR NOT w.enabled THEN
        state := 'degraded';
        reason := 'worker_off';
    ELSIF pg_is_in_recovery() AND w.state = 'none' THEN
        state := 'ok';
    ELSIF w.state = 'running' THEN
        state := 'ok';
    ELSIF w.state = 'starting' OR w.state = 'none' AND clock_timestamp() < pg_postmaster_start_time() + interval '10 seconds' THEN
        state := 'degraded';
        reason := 'worker_starting';
    ELSE
        state := 'failing';
        reason := 'worker_not_alive';
    END IF;
    RETURN jsonb_build_object(
        'state', state, 'reasons', CASE WHEN reason IS NULL THEN '{}' ELSE ARRAY[reason] END,
        'alive', coalesce(w.state = 'running', false), 'process', coalesce(w.state, 'none'), 'pid', w.pid, 'since', w.since, 'launcher', w.launcher);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_worker() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_worker() IS
    'Part of audit_health(): whether the worker is alive, and since when. Failing: worker_not_alive. Degraded: worker_starting, worker_off. On a standby without a worker: ok.';

CREATE FUNCTION @extschema@.audit_health_jobs() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    jobs jsonb;
    late text[];
BEGIN
    SELECT coalesce(jsonb_object_agg(j.name, jsonb_build_object(
               'enabled', j.enabled, 'scheduler', j.scheduler, 'next_run', j.next_run, 'last_success', j.last_success,
               'overdue', coalesce(j.overdue_at <= clock_timestamp(), false))), '{}'),
           coalesce(array_agg('job_overdue:' || j.name ORDER BY j.name) FILTER (WHERE j.enabled AND j.overdue_at <= clock_timestamp()), '{}')
    INTO jobs, late
    FROM @extschema@.audit_jobs j;
    IF EXISTS (SELECT FROM @extschema@.audit_jobs j WHERE j.scheduler = 'pg_cron' AND j.enabled) AND NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        late := late || 'pg_cron_missing'::text;
    END IF;
    -- A standby runs no jobs; what its tables say is about the primary.
    IF pg_is_in_recovery() THEN
        late := '{}';
    END IF;
    -- Nobody waits for a job while none may run.
    IF @extschema@.audit_restore_runs() THEN
        RETURN jsonb_build_object('state', 'degraded', 'reasons', ARRAY['restore_running'], 'jobs', jobs);
    END IF;
    RETURN jsonb_build_object('state', CASE WHEN late = '{}' THEN 'ok' ELSE 'failing' END, 'reasons', late, 'jobs', jobs);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_jobs() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_jobs() IS
    'Part of audit_health(): each job, its last success and next run. Failing: job_overdue:NAME, pg_cron_missing. Degraded: restore_running.';

CREATE FUNCTION @extschema@.audit_health_tripwires() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    failing text[] := '{}';
    degraded text[] := '{}';
    installed text := (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'zeroauth_audit');
BEGIN
    SELECT t.looked_at, t.differences INTO s FROM @extschema@.audit_tripwire_state t;
    IF s.differences > 0 THEN
        failing := failing || 'not_as_installed'::text;
    END IF;
    IF NOT coalesce((SELECT j.enabled FROM @extschema@.audit_jobs j WHERE j.name = 'tripwire'), false) THEN
        degraded := degraded || 'tripwire_off'::text;
    END IF;
    IF installed <> @extschema@.audit_library_version() THEN
        degraded := degraded || 'upgrade_pending'::text;
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN failing <> '{}' THEN 'failing' WHEN degraded <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', failing || degraded,
        'looked_at', s.looked_at, 'differences', s.differences, 'library_version', @extschema@.audit_library_version());
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_tripwires() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_tripwires() IS
    'Part of audit_health(): what the tripwires found when they last looked. Failing: not_as_installed (something of the extension is not as its version installs it). Degraded: tripwire_off (the job is not enabled), upgrade_pending (library and SQL objects are of different versions).';

CREATE FUNCTION @extschema@.audit_health_pins() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p record;
    failing text[] := '{}';
    degraded text[] := '{}';
BEGIN
    SELECT * INTO p FROM @extschema@.audit_pin_status();
    IF p.wrong > 0 THEN
        failing := failing || 'pin_mismatch'::text;
    END IF;
    IF p.pinned > 0 AND NOT pg_is_in_recovery() AND NOT coalesce((SELECT j.enabled FROM @extschema@.audit_jobs j WHERE j.name = 'pins'), false) THEN
        degraded := degraded || 'pins_off'::text;
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN failing <> '{}' THEN 'failing' WHEN degraded <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', failing || degraded,
        'pinned', coalesce(p.pinned, 0), 'wrong', coalesce(p.wrong, 0), 'checked_at', p.checked_at);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_pins() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_pins() IS
    'Part of audit_health(): how many files are pinned, and how many were wrong when this server last looked (on a standby: when it started). Failing: pin_mismatch. Degraded: pins_off (files are pinned, and the job is not enabled).';

CREATE FUNCTION @extschema@.audit_health_time() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
BEGIN
    SELECT * INTO c FROM @extschema@.audit_clock();
    RETURN jsonb_build_object(
        'state', CASE WHEN c.problem IS NULL THEN 'ok' ELSE 'degraded' END,
        'reasons', CASE WHEN c.problem IS NULL THEN '{}' ELSE ARRAY['clock_unsynchronised'] END,
        'synchronised', c.synchronised, 'problem', c.problem, 'offset_us', c.offset_us, 'estimated_error_us', c.estimated_error_us, 'max_error_us', c.max_error_us);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_time() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_time() IS
    'Part of audit_health(): what the kernel says of the synchronisation of this server''s clock. Degraded: clock_unsynchronised, unless zeroauth_audit.max_clock_error is -1.';

CREATE FUNCTION @extschema@.audit_health_delivery() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT integer := 1000;
    queue integer;
    oldest timestamptz;
    last_error text;
    failing text[];
    reasons text[] := '{}';
BEGIN
    -- A long queue is not counted to its end, since this is asked every second.
    SELECT count(*) INTO queue FROM (SELECT FROM @extschema@.audit_deliveries d WHERE d.state <> 'delivered' LIMIT most) q;
    IF queue > 0 THEN
        SELECT d.created_at INTO oldest FROM @extschema@.audit_deliveries d WHERE d.state <> 'delivered' ORDER BY d.created_at LIMIT 1;
        SELECT q.last_error INTO last_error
        FROM (SELECT d.last_error, d.next_attempt_at FROM @extschema@.audit_deliveries d WHERE d.state <> 'delivered' LIMIT most) q
        WHERE q.last_error IS NOT NULL ORDER BY q.next_attempt_at DESC LIMIT 1;
    END IF;
    SELECT coalesce(array_agg(substr(a.fingerprint, length('delivery_failing::') + 1) ORDER BY a.fingerprint), '{}') INTO failing
    FROM @extschema@.audit_alerts a
    WHERE a.state <> 'resolved' AND a.fingerprint >= 'delivery_failing::' AND a.fingerprint < 'delivery_failing:;';
    IF failing <> '{}' AND NOT pg_is_in_recovery() THEN
        reasons := ARRAY['delivery_failing'];
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN reasons = '{}' THEN 'ok' ELSE 'degraded' END, 'reasons', reasons,
        'queue', queue, 'oldest', oldest, 'last_error', last_error, 'failing_routes', failing);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_delivery() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_delivery() IS
    'Part of audit_health(): undelivered alerts (counted up to 1000), the oldest of them, the last error, and the routes that do not get through. Degraded: delivery_failing.';

CREATE FUNCTION @extschema@.audit_health_alerts() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT integer := 1000;
    highest integer;
    others record;
    reasons text[] := '{}';
BEGIN
    SELECT count(*) INTO highest FROM (SELECT FROM @extschema@.audit_alerts a WHERE a.state = 'open' AND a.severity = 1 LIMIT most) q;
    SELECT count(*) FILTER (WHERE q.state = 'open' AND q.severity = 2) AS second, count(*) FILTER (WHERE q.state = 'open' AND q.severity = 3) AS third,
        count(*) FILTER (WHERE q.state = 'open' AND q.severity = 4) AS fourth,
        count(*) FILTER (WHERE q.state = 'acknowledged') AS acknowledged, count(*) FILTER (WHERE q.state = 'acknowledged' AND q.severity = 1) AS highest
    INTO others FROM (SELECT a.state, a.severity FROM @extschema@.audit_alerts a WHERE a.state <> 'resolved' LIMIT most) q;
    -- A standby has the primary's alerts, and people are told of them there.
    IF NOT pg_is_in_recovery() THEN
        reasons := CASE WHEN highest > 0 THEN ARRAY['alerts_open:1'] ELSE '{}' END
            || CASE WHEN others.second > 0 THEN ARRAY['alerts_open:2'] ELSE '{}' END
            || CASE WHEN others.highest > 0 THEN ARRAY['alerts_acknowledged:1'] ELSE '{}' END;
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN 'alerts_open:1' = ANY (reasons) THEN 'failing' WHEN reasons <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', reasons,
        'open', jsonb_build_object('1', highest, '2', others.second, '3', others.third, '4', others.fourth), 'acknowledged', others.acknowledged);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_alerts() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_alerts() IS
    'Part of audit_health(): open alerts by severity, and acknowledged ones (counted among the first 1000). Failing: alerts_open:1. Degraded: alerts_open:2, alerts_acknowledged:1 (somebody is at work on one of severity 1).';

CREATE FUNCTION @extschema@.audit_health() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts jsonb := jsonb_build_object(
        'database', @extschema@.audit_health_database(),
        'worker', @extschema@.audit_health_worker(),
        'jobs', @extschema@.audit_health_jobs(),
        'drift', @extschema@.audit_health_drift(),
        'tripwires', @extschema@.audit_health_tripwires(),
        'pins', @extschema@.audit_health_pins(),
        'time', @extschema@.audit_health_time(),
        'delivery', @extschema@.audit_health_delivery(),
        'alerts', @extschema@.audit_health_alerts(),
        'log', @extschema@.audit_health_log(),
        'anchors', @extschema@.audit_health_anchors());
    states text[];
    reasons jsonb;
BEGIN
    SELECT array_agg(p.value ->> 'state'), coalesce(jsonb_agg(r.reason ORDER BY r.reason #>> '{}') FILTER (WHERE r.reason IS NOT NULL), '[]')
    INTO states, reasons
    FROM jsonb_each(parts) p LEFT JOIN LATERAL jsonb_array_elements(p.value -> 'reasons') r (reason) ON true;
    RETURN jsonb_build_object(
        'state', CASE WHEN 'failing' = ANY (states) THEN 'failing' WHEN 'degraded' = ANY (states) THEN 'degraded' ELSE 'ok' END,
        'reasons', reasons, 'checked_at', clock_timestamp()) || parts;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health() IS
    'Whether the audit trail is looked after: state is ok, degraded or failing, with reasons, and the same for each part. Reads shared memory and small tables; meant to be asked every second.';

-- The Merkle log of each tenant: what its events were when they were sealed. Written by the job checkpoint alone.
--
-- A log's entries are the event hashes. A checkpoint adds, for every chain that grew, its new events: by chain, then by seq.
-- So the place of any event follows from audit_log_intervals, and no row is written for a single event.

CREATE TABLE @extschema@.audit_logs (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    origin text COLLATE pg_catalog."C",
    tree_size bigint NOT NULL DEFAULT 0,
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'open',
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ended_at timestamptz,
    known_size bigint,
    known_root bytea,
    known_by text,
    CONSTRAINT audit_logs_pkey PRIMARY KEY (tenant_id, epoch),
    CONSTRAINT audit_logs_origin_key UNIQUE (origin),
    CONSTRAINT audit_logs_epoch_check CHECK (epoch >= 0),
    CONSTRAINT audit_logs_tree_size_check CHECK (tree_size >= 0),
    CONSTRAINT audit_logs_state_check CHECK (state IN ('open', 'held', 'ended')),
    CONSTRAINT audit_logs_ended_check CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    CONSTRAINT audit_logs_known_check CHECK (known_root IS NULL OR pg_catalog.octet_length(known_root) = 32)
);
REVOKE ALL ON TABLE @extschema@.audit_logs FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_logs IS 'The Merkle log of each tenant, and those that ended with an acknowledged restore.';
COMMENT ON COLUMN @extschema@.audit_logs.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN @extschema@.audit_logs.epoch IS 'Epoch of the tenant: 0, and one more after each acknowledged restore. The highest is the current one.';
COMMENT ON COLUMN @extschema@.audit_logs.origin IS 'The first line of its checkpoints, which no other log has; NULL until the first is signed.';
COMMENT ON COLUMN @extschema@.audit_logs.tree_size IS 'How many events are sealed.';
COMMENT ON COLUMN @extschema@.audit_logs.state IS 'open; held: somebody outside holds a checkpoint that this log does not agree with, and no more is signed until a person decides; or ended.';
COMMENT ON COLUMN @extschema@.audit_logs.started_at IS 'When it began.';
COMMENT ON COLUMN @extschema@.audit_logs.ended_at IS 'When a restore was acknowledged that ended it.';
COMMENT ON COLUMN @extschema@.audit_logs.known_size IS 'Tree size of the checkpoint outside that this log does not agree with.';
COMMENT ON COLUMN @extschema@.audit_logs.known_root IS 'Its root hash, NULL when only the size is known.';
COMMENT ON COLUMN @extschema@.audit_logs.known_by IS 'The sink that holds it.';
COMMENT ON CONSTRAINT audit_logs_pkey ON @extschema@.audit_logs IS 'One log for each epoch of a tenant.';
COMMENT ON CONSTRAINT audit_logs_origin_key ON @extschema@.audit_logs IS 'Two logs of one origin could not be told apart outside.';
COMMENT ON CONSTRAINT audit_logs_epoch_check ON @extschema@.audit_logs IS 'Epochs are counted from 0.';
COMMENT ON CONSTRAINT audit_logs_tree_size_check ON @extschema@.audit_logs IS 'A number of events.';
COMMENT ON CONSTRAINT audit_logs_state_check ON @extschema@.audit_logs IS 'The three states.';
COMMENT ON CONSTRAINT audit_logs_ended_check ON @extschema@.audit_logs IS 'What has ended did so at some time.';
COMMENT ON CONSTRAINT audit_logs_known_check ON @extschema@.audit_logs IS 'A SHA-256 hash.';
COMMENT ON INDEX @extschema@.audit_logs_pkey IS 'Finds the current log of a tenant.';

CREATE TABLE @extschema@.audit_log_intervals (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL,
    chain smallint NOT NULL,
    to_seq bigint NOT NULL,
    from_seq bigint NOT NULL,
    first_leaf bigint NOT NULL,
    tree_size bigint NOT NULL,
    CONSTRAINT audit_log_intervals_pkey PRIMARY KEY (tenant_id, epoch, chain, to_seq),
    CONSTRAINT audit_log_intervals_place_check CHECK (from_seq >= 0 AND to_seq > from_seq AND first_leaf >= 0 AND tree_size >= first_leaf + (to_seq - from_seq))
);
REVOKE ALL ON TABLE @extschema@.audit_log_intervals FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_log_intervals IS 'Which events a checkpoint added to a log: one row for each chain that grew.';
COMMENT ON COLUMN @extschema@.audit_log_intervals.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN @extschema@.audit_log_intervals.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN @extschema@.audit_log_intervals.chain IS 'The chain.';
COMMENT ON COLUMN @extschema@.audit_log_intervals.to_seq IS 'seq of the last event that was added.';
COMMENT ON COLUMN @extschema@.audit_log_intervals.from_seq IS 'seq of the event before the first that was added, 0 for none.';
COMMENT ON COLUMN @extschema@.audit_log_intervals.first_leaf IS 'Place of the first in the log, counted from 0; the others follow it.';
COMMENT ON COLUMN @extschema@.audit_log_intervals.tree_size IS 'Tree size of the checkpoint that added them.';
COMMENT ON CONSTRAINT audit_log_intervals_pkey ON @extschema@.audit_log_intervals IS 'Finds the interval that an event is in.';
COMMENT ON CONSTRAINT audit_log_intervals_place_check ON @extschema@.audit_log_intervals IS 'The events are part of the tree that they are said to be in.';

CREATE TABLE @extschema@.audit_tiles (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL,
    level smallint NOT NULL,
    place bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT audit_tiles_pkey PRIMARY KEY (tenant_id, epoch, level, place),
    CONSTRAINT audit_tiles_place_check CHECK (level OPERATOR(pg_catalog.>=) 0 AND level OPERATOR(pg_catalog.<=) 7 AND place >= 0),
    CONSTRAINT audit_tiles_hashes_check CHECK (pg_catalog.octet_length(hashes) OPERATOR(pg_catalog.>=) 32 AND pg_catalog.octet_length(hashes) OPERATOR(pg_catalog.<=) 8192 AND pg_catalog.octet_length(hashes) % 32 = 0)
);
-- Hashes do not compress.
ALTER TABLE @extschema@.audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
REVOKE ALL ON TABLE @extschema@.audit_tiles FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_tiles IS 'The hashes of each log, 256 in a tile (C2SP tlog-tiles): a proof reads a few of them.';
COMMENT ON COLUMN @extschema@.audit_tiles.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN @extschema@.audit_tiles.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN @extschema@.audit_tiles.level IS 'Level of the tile: 0 holds hashes of events, each higher one those of 256 tiles below.';
COMMENT ON COLUMN @extschema@.audit_tiles.place IS 'Number of the tile in its level, counted from 0.';
COMMENT ON COLUMN @extschema@.audit_tiles.hashes IS '1 to 256 hashes of 32 bytes; only the last tile of a level has less than 256.';
COMMENT ON CONSTRAINT audit_tiles_pkey ON @extschema@.audit_tiles IS 'One tile at each place.';
COMMENT ON CONSTRAINT audit_tiles_place_check ON @extschema@.audit_tiles IS 'Eight levels of 256 hold more events than a bigint counts.';
COMMENT ON CONSTRAINT audit_tiles_hashes_check ON @extschema@.audit_tiles IS '1 to 256 hashes.';

CREATE SEQUENCE @extschema@.audit_checkpoints_seal_seq AS bigint;
REVOKE ALL ON SEQUENCE @extschema@.audit_checkpoints_seal_seq FROM PUBLIC;
COMMENT ON SEQUENCE @extschema@.audit_checkpoints_seal_seq IS 'Numbers of seals.';

CREATE TABLE @extschema@.audit_checkpoints (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL,
    tree_size bigint NOT NULL,
    root bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    sealed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    seal bigint NOT NULL DEFAULT pg_catalog.nextval('@extschema@.audit_checkpoints_seal_seq'),
    note text,
    CONSTRAINT audit_checkpoints_pkey PRIMARY KEY (tenant_id, epoch, tree_size),
    CONSTRAINT audit_checkpoints_seal_key UNIQUE (seal),
    CONSTRAINT audit_checkpoints_tree_size_check CHECK (tree_size >= 0),
    CONSTRAINT audit_checkpoints_root_check CHECK (pg_catalog.octet_length(root) = 32)
);
ALTER SEQUENCE @extschema@.audit_checkpoints_seal_seq OWNED BY @extschema@.audit_checkpoints.seal;
REVOKE ALL ON TABLE @extschema@.audit_checkpoints FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_checkpoints IS 'Signed statements of how large each log was, and what its root hash was then.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.tree_size IS 'How many events it covers.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.root IS 'Root hash of the tree of these events (RFC 6962).';
COMMENT ON COLUMN @extschema@.audit_checkpoints.created_at IS 'When the log had reached this size.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.sealed_at IS 'When it was last signed: again every hour while nothing is added, so that silence is sealed, too.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.seal IS 'Number of the last signing, rising: what a sink has not seen is above a number.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.note IS 'The signed checkpoint (C2SP signed-note); NULL while there is no key.';
COMMENT ON CONSTRAINT audit_checkpoints_pkey ON @extschema@.audit_checkpoints IS 'One checkpoint for each size of a log.';
COMMENT ON CONSTRAINT audit_checkpoints_seal_key ON @extschema@.audit_checkpoints IS 'Finds what a sink has not seen.';
COMMENT ON CONSTRAINT audit_checkpoints_tree_size_check ON @extschema@.audit_checkpoints IS 'A number of events.';
COMMENT ON CONSTRAINT audit_checkpoints_root_check ON @extschema@.audit_checkpoints IS 'A SHA-256 hash.';

CREATE TABLE @extschema@.audit_keys (
    public_key bytea NOT NULL,
    vkey text NOT NULL,
    first_used timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_used timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT audit_keys_pkey PRIMARY KEY (public_key),
    CONSTRAINT audit_keys_public_key_check CHECK (pg_catalog.octet_length(public_key) = 32)
);
REVOKE ALL ON TABLE @extschema@.audit_keys FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_keys IS 'The public keys of all checkpoints. The private ones are in zeroauth_audit.checkpoint_key_file only.';
COMMENT ON COLUMN @extschema@.audit_keys.public_key IS 'The Ed25519 public key.';
COMMENT ON COLUMN @extschema@.audit_keys.vkey IS 'The same as C2SP writes it, with the base origin as its name: what zeroauth-audit wants as --key.';
COMMENT ON COLUMN @extschema@.audit_keys.first_used IS 'When it first signed.';
COMMENT ON COLUMN @extschema@.audit_keys.last_used IS 'When it last signed; older checkpoints still verify with it.';
COMMENT ON CONSTRAINT audit_keys_pkey ON @extschema@.audit_keys IS 'Keys are told apart by themselves.';
COMMENT ON CONSTRAINT audit_keys_public_key_check ON @extschema@.audit_keys IS 'An Ed25519 public key.';

CREATE TABLE @extschema@.audit_sinks (
    name text COLLATE pg_catalog."C" NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    directory text,
    url_file text,
    ca_file text,
    vkey text,
    enabled boolean NOT NULL DEFAULT true,
    published_to bigint NOT NULL DEFAULT 0,
    last_success timestamptz,
    failing_since timestamptz,
    last_error text,
    CONSTRAINT audit_sinks_pkey PRIMARY KEY (name),
    CONSTRAINT audit_sinks_name_check CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    CONSTRAINT audit_sinks_kind_check CHECK (kind IN ('directory', 'witness')),
    CONSTRAINT audit_sinks_paths_check CHECK (directory ~ '^/' AND url_file ~ '^/' AND ca_file ~ '^/'),
    CONSTRAINT audit_sinks_directory_check CHECK ((kind = 'directory') = (directory IS NOT NULL)),
    CONSTRAINT audit_sinks_witness_check CHECK ((kind = 'witness') = (url_file IS NOT NULL AND vkey IS NOT NULL))
);
REVOKE ALL ON TABLE @extschema@.audit_sinks FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_sinks IS 'Where checkpoints go, so that nobody inside can take them back. Whoever can write to this table has the server write to places of their choice.';
COMMENT ON COLUMN @extschema@.audit_sinks.name IS 'Name of the sink, as alerts show it.';
COMMENT ON COLUMN @extschema@.audit_sinks.kind IS 'directory (files that are never overwritten; best on storage that cannot be) or witness (C2SP tlog-witness).';
COMMENT ON COLUMN @extschema@.audit_sinks.directory IS 'Absolute path of the directory, which must exist and be the server''s user''s or root''s alone to write.';
COMMENT ON COLUMN @extschema@.audit_sinks.url_file IS 'Absolute path of the file that holds the witness'' URL; mode 0600 or 0400, owned by the server''s user or root.';
COMMENT ON COLUMN @extschema@.audit_sinks.ca_file IS 'Absolute path of a PEM file with the only certificate authorities that are trusted; NULL: those of the system.';
COMMENT ON COLUMN @extschema@.audit_sinks.vkey IS 'The witness'' public key as C2SP writes it: name+hash+key. A cosignature of another is refused.';
COMMENT ON COLUMN @extschema@.audit_sinks.enabled IS 'While false nothing is published here. A sink that a dump brings is disabled.';
COMMENT ON COLUMN @extschema@.audit_sinks.published_to IS 'The last seal that a directory has. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_sinks.last_success IS 'When it last took something. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_sinks.failing_since IS 'Since when it has taken nothing that it was given; NULL: it works. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_sinks.last_error IS 'Why it last failed. Never contains a part of a URL. Set by the server.';
COMMENT ON CONSTRAINT audit_sinks_pkey ON @extschema@.audit_sinks IS 'Sinks are told apart by their name.';
COMMENT ON CONSTRAINT audit_sinks_name_check ON @extschema@.audit_sinks IS 'A name that needs no quoting anywhere.';
COMMENT ON CONSTRAINT audit_sinks_kind_check ON @extschema@.audit_sinks IS 'The two kinds.';
COMMENT ON CONSTRAINT audit_sinks_paths_check ON @extschema@.audit_sinks IS 'A relative path would depend on where the server was started.';
COMMENT ON CONSTRAINT audit_sinks_directory_check ON @extschema@.audit_sinks IS 'A directory has a path.';
COMMENT ON CONSTRAINT audit_sinks_witness_check ON @extschema@.audit_sinks IS 'A witness has a URL and a key.';

CREATE TABLE @extschema@.audit_cosignatures (
    sink text COLLATE pg_catalog."C" NOT NULL,
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL,
    tree_size bigint NOT NULL,
    line text NOT NULL,
    cosigned_at timestamptz NOT NULL,
    CONSTRAINT audit_cosignatures_pkey PRIMARY KEY (sink, tenant_id, epoch, tree_size)
);
REVOKE ALL ON TABLE @extschema@.audit_cosignatures FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_cosignatures IS 'What witnesses signed: that they saw a checkpoint, and that it grew from what they had seen before.';
COMMENT ON COLUMN @extschema@.audit_cosignatures.sink IS 'The witness, by its name in audit_sinks.';
COMMENT ON COLUMN @extschema@.audit_cosignatures.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN @extschema@.audit_cosignatures.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN @extschema@.audit_cosignatures.tree_size IS 'Which checkpoint.';
COMMENT ON COLUMN @extschema@.audit_cosignatures.line IS 'The signature line (C2SP cosignature/v1).';
COMMENT ON COLUMN @extschema@.audit_cosignatures.cosigned_at IS 'When the witness says that it signed.';
COMMENT ON CONSTRAINT audit_cosignatures_pkey ON @extschema@.audit_cosignatures IS 'One signature of a witness for each checkpoint.';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_logs', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_log_intervals', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_tiles', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_checkpoints', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_checkpoints_seal_seq', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_keys', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_sinks', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_cosignatures', '');

-- Functions of the Merkle log: the job checkpoint, proofs, restores, and what the worker calls to publish.

CREATE FUNCTION @extschema@.audit_job_checkpoint() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_job_checkpoint';
REVOKE ALL ON FUNCTION @extschema@.audit_job_checkpoint() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_checkpoint() IS
    'The job checkpoint, one step of it: adds the new events of some tenants to their logs and signs what they are then; signs again what was last signed an hour ago. The worker publishes it afterwards.';

CREATE FUNCTION @extschema@.audit_prove(tenant text, event_id uuid) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_prove';
REVOKE ALL ON FUNCTION @extschema@.audit_prove(text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_prove(text, uuid) IS
    'The proof bundle of one event (docs/format.md): the event as audit_export() writes it, its inclusion proof, the newest signed checkpoint with its cosignatures, and the anchors that cover it. What zeroauth-audit verify-bundle reads. ZA005 for an event that is not there, ZA050 for one that no checkpoint covers yet, ZA051 when the log does not agree with itself.';

CREATE FUNCTION @extschema@.audit_prove_consistency(tenant text, from_size bigint, to_size bigint) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_prove_consistency';
REVOKE ALL ON FUNCTION @extschema@.audit_prove_consistency(text, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_prove_consistency(text, bigint, bigint) IS
    'The consistency proof (RFC 9162) from one tree size of a tenant''s current log to another, one base64 hash a line: that the larger tree begins with the smaller. ZA005 for a tenant without a log, ZA009 for sizes that the log does not have, ZA051 when the log does not agree with itself.';

CREATE FUNCTION @extschema@.audit_export_intervals(tenant text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 1000
BEGIN ATOMIC
    SELECT pg_catalog.row_to_json(exported)::text
    FROM (
        SELECT i.tenant_id AS tenant_id, i.epoch::text AS epoch, i.tree_size::text AS tree_size, i.chain::text AS chain, i.from_seq::text AS "from", i.to_seq::text AS "to"
        FROM @extschema@.audit_log_intervals i
        WHERE audit_export_intervals.tenant IS NULL OR i.tenant_id = audit_export_intervals.tenant
        ORDER BY i.tenant_id, i.epoch, i.tree_size, i.chain
    ) exported;
END;
REVOKE ALL ON FUNCTION @extschema@.audit_export_intervals(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_export_intervals(text) IS
    'Which events each checkpoint of a tenant''s logs added (NULL: of every tenant''s), as JSON, one object a row: with it a verifier outside the database can lay an export out as the log has it, and recompute its root.';

CREATE FUNCTION @extschema@.audit_checkpoint(tenant text) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED
BEGIN ATOMIC
    SELECT pg_catalog.concat(c.note, (
        SELECT pg_catalog.string_agg(pg_catalog.concat(s.line, pg_catalog.chr(10)), '' ORDER BY s.sink)
        FROM @extschema@.audit_cosignatures s WHERE s.tenant_id = c.tenant_id AND s.epoch = c.epoch AND s.tree_size = c.tree_size))
    FROM @extschema@.audit_checkpoints c
    WHERE c.tenant_id = audit_checkpoint.tenant AND c.note IS NOT NULL
    ORDER BY c.epoch DESC, c.tree_size DESC LIMIT 1;
END;
REVOKE ALL ON FUNCTION @extschema@.audit_checkpoint(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_checkpoint(text) IS
    'The newest signed checkpoint of a tenant with its cosignatures (C2SP tlog-checkpoint); NULL when there is none.';

CREATE FUNCTION @extschema@.audit_sink_check() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- One that has published before comes from a dump. A copy of the database must not publish beside the original.
    IF NEW.published_to > 0 OR NEW.last_success IS NOT NULL THEN
        NEW.enabled := false;
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_sink_check() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_sink_check() IS
    'Trigger of audit_sinks: a sink that a dump brings is not used before somebody enables it.';
CREATE TRIGGER zeroauth_audit_sink_check
    BEFORE INSERT ON @extschema@.audit_sinks
    FOR EACH ROW EXECUTE FUNCTION @extschema@.audit_sink_check();
COMMENT ON TRIGGER zeroauth_audit_sink_check ON @extschema@.audit_sinks IS 'A sink that a dump brings is not used before somebody enables it.';
CREATE TRIGGER zeroauth_audit_sinks_changed
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF kind, directory, url_file, ca_file, vkey, enabled ON @extschema@.audit_sinks
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_sinks_changed ON @extschema@.audit_sinks IS 'A change counts at once.';
ALTER TABLE @extschema@.audit_sinks ENABLE ALWAYS TRIGGER zeroauth_audit_sink_check;
ALTER TABLE @extschema@.audit_sinks ENABLE ALWAYS TRIGGER zeroauth_audit_sinks_changed;

CREATE FUNCTION @extschema@.audit_key_usable(error text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF audit_key_usable.error IS NOT NULL THEN
        PERFORM @extschema@.audit_raise_alert('checkpoint_key', 2::smallint, NULL, 'checkpoint_key',
            'checkpoints cannot be signed: ' || audit_key_usable.error, jsonb_build_object('error', audit_key_usable.error));
    ELSIF EXISTS (SELECT FROM @extschema@.audit_alerts a WHERE a.fingerprint = 'checkpoint_key' AND a.state <> 'resolved') THEN
        PERFORM @extschema@.audit_resolve_alert('checkpoint_key', 'the key can be used');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_key_usable(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_key_usable(text) IS
    'Part of the job checkpoint: raises the alert checkpoint_key with the reason why the key cannot be used, or resolves it when there is none.';

CREATE FUNCTION @extschema@.audit_hold_log(held_origin text, size bigint, root bytea, by_sink text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    log @extschema@.audit_logs;
    held bigint;
    sample jsonb;
BEGIN
    UPDATE @extschema@.audit_logs l SET state = 'held', known_size = size, known_root = root, known_by = by_sink
    WHERE l.origin = held_origin AND l.state = 'open'
    RETURNING l.* INTO log;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT count(*), jsonb_agg(jsonb_build_object('tenant', f.tenant_id, 'epoch', f.epoch, 'here', f.tree_size, 'there', f.known_size) ORDER BY f.tenant_id) FILTER (WHERE f.place <= 20)
    INTO held, sample
    FROM (SELECT l.*, row_number() OVER (ORDER BY l.tenant_id) AS place FROM @extschema@.audit_logs l WHERE l.state = 'held' AND l.known_by = by_sink) f;
    PERFORM @extschema@.audit_raise_alert(
        CASE WHEN log.known_size > log.tree_size THEN 'tail_truncated' ELSE 'checkpoint_mismatch' END, 1::smallint, CASE WHEN held = 1 THEN log.tenant_id END,
        CASE WHEN log.known_size > log.tree_size THEN 'log_behind:' ELSE 'checkpoint_conflict:' END || by_sink,
        CASE WHEN log.known_size > log.tree_size
             THEN format('sink %s holds a checkpoint of %s events of tenant %s, and the log has %s: events are gone, or an earlier state was restored', by_sink, log.known_size, log.tenant_id, log.tree_size)
             ELSE format('sink %s holds another root of %s events of tenant %s: history was rewritten', by_sink, log.known_size, log.tenant_id) END,
        jsonb_build_object('sink', by_sink, 'logs', sample, 'held', held));
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_hold_log(text, bigint, bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_hold_log(text, bigint, bytea, text) IS
    'Called by the worker when a sink holds a checkpoint that a log does not agree with: no more is signed for it, and an alert of severity 1 is raised, one for all logs of a sink. False when it is held already.';

CREATE FUNCTION @extschema@.audit_log_missing(origins text[], by_sink text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cardinality(origins) > 0 THEN
        PERFORM @extschema@.audit_raise_alert('tenant_missing', 1::smallint, NULL, 'log_missing:' || by_sink,
            format('sink %s holds checkpoints of %s logs that are not here: tenants are gone, or an earlier state was restored', by_sink, cardinality(origins)),
            jsonb_build_object('sink', by_sink, 'origins', to_jsonb(origins[1:20]), 'missing', cardinality(origins)));
    ELSE
        PERFORM @extschema@.audit_resolve_alert('log_missing:' || by_sink, 'every log that the sink knows is here');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_log_missing(text[], text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_log_missing(text[], text) IS
    'Called by the worker with the origins that a sink knows and the database does not: raises the alert tenant_missing, or resolves it when there are none.';

CREATE FUNCTION @extschema@.audit_sink_told(sink text, error text, published bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    told @extschema@.audit_sinks;
BEGIN
    UPDATE @extschema@.audit_sinks s
    SET last_success = CASE WHEN audit_sink_told.error IS NULL THEN clock_timestamp() ELSE s.last_success END,
        failing_since = CASE WHEN audit_sink_told.error IS NOT NULL THEN coalesce(s.failing_since, clock_timestamp()) END,
        last_error = coalesce(left(audit_sink_told.error, 500), s.last_error),
        published_to = greatest(s.published_to, coalesce(audit_sink_told.published, 0))
    WHERE s.name = sink
    RETURNING s.* INTO told;
    IF told.failing_since < clock_timestamp() - interval '15 minutes' THEN
        PERFORM @extschema@.audit_raise_alert('sink_failing', 2::smallint, NULL, 'sink_failing:' || sink,
            format('checkpoints do not reach sink %s: %s', sink, told.last_error), jsonb_build_object('sink', sink, 'since', told.failing_since, 'error', told.last_error));
    ELSIF told.failing_since IS NULL THEN
        PERFORM @extschema@.audit_resolve_alert('sink_failing:' || sink, 'checkpoints reach the sink again');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_sink_told(text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_sink_told(text, text, bigint) IS
    'Called by the worker with what came of publishing to a sink: an error or none, and the last seal that it has. Raises the alert sink_failing after 15 minutes of failures.';

CREATE FUNCTION @extschema@.audit_append_own_to(action text, severity text, resource text, details jsonb, tenant text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_append_own';
REVOKE ALL ON FUNCTION @extschema@.audit_append_own_to(text, text, text, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_append_own_to(text, text, text, jsonb, text) IS
    'As audit_append_own, to the trail of the tenant whom the event is about.';

CREATE FUNCTION @extschema@.audit_acknowledge_restore(note text) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    log @extschema@.audit_logs;
    ended integer := 0;
    missed bigint;
BEGIN
    IF coalesce(audit_acknowledge_restore.note, '') !~ '[^[:space:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = 'an acknowledgement needs a note', HINT = 'Say what was restored, and why.';
    END IF;
    FOR log IN
        SELECT l.* FROM @extschema@.audit_logs l
        WHERE l.state = 'held' OR l.state = 'open' AND EXISTS (
            SELECT FROM @extschema@.audit_drift_findings d WHERE d.tenant_id = l.tenant_id AND d.source = 'log' AND d.alerted_at >= l.started_at)
        ORDER BY l.tenant_id, l.epoch FOR UPDATE
    LOOP
        SELECT sum(d.events) INTO missed FROM @extschema@.audit_drift_findings d
        WHERE d.tenant_id = log.tenant_id AND d.source = 'log' AND d.alerted_at >= log.started_at AND d.kind <> 'checkpoint_mismatch';
        UPDATE @extschema@.audit_logs l SET state = 'ended', ended_at = clock_timestamp() WHERE l.tenant_id = log.tenant_id AND l.epoch = log.epoch;
        INSERT INTO @extschema@.audit_logs (tenant_id, epoch) VALUES (log.tenant_id, log.epoch + 1);
        PERFORM @extschema@.audit_append_own_to('log.restored', 'critical', log.origin,
            jsonb_build_object('note', left(audit_acknowledge_restore.note, 2000), 'by', SESSION_USER, 'epoch', log.epoch + 1,
                'ended', jsonb_build_object('origin', log.origin, 'epoch', log.epoch, 'tree_size', log.tree_size),
                'known', jsonb_build_object('sink', log.known_by, 'tree_size', log.known_size, 'root', encode(log.known_root, 'base64')),
                'lost', greatest(log.known_size - log.tree_size, missed, 0)),
            log.tenant_id);
        ended := ended + 1;
    END LOOP;
    IF ended = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA052', MESSAGE = 'no log waits for an acknowledgement of a restore',
            HINT = 'Logs that a sink disagrees with are in audit_logs with state held, others in audit_drift_findings with source log.';
    END IF;
    RETURN ended;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_acknowledge_restore(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_acknowledge_restore(text) IS
    'Says that an earlier state was restored on purpose, and why: every log that is held, or of which the job drift misses something, ends, a new epoch of its tenant begins, and an event log.restored in the tenant''s own trail names what was lost. Returns how many logs. The alerts stay until they are acknowledged. ZA009 without a note, ZA052 when there is no such log.';

CREATE FUNCTION @extschema@.audit_health_log() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    logs record;
    sinks record;
    reasons text[] := '{}';
BEGIN
    SELECT count(*) AS logs, count(*) FILTER (WHERE l.state = 'held') AS held, sum(l.tree_size) FILTER (WHERE l.state = 'open') AS events INTO logs FROM @extschema@.audit_logs l;
    SELECT coalesce(jsonb_object_agg(s.name, jsonb_build_object('kind', s.kind, 'enabled', s.enabled, 'last_success', s.last_success, 'failing_since', s.failing_since, 'last_error', s.last_error)), '{}') AS each,
        count(*) FILTER (WHERE s.enabled) AS enabled, coalesce(array_agg('sink_failing:' || s.name ORDER BY s.name) FILTER (WHERE s.enabled AND s.failing_since < clock_timestamp() - interval '15 minutes'), '{}') AS failing
    INTO sinks FROM @extschema@.audit_sinks s;
    IF logs.logs = 0 THEN
        NULL; -- nothing was to be signed yet
    ELSIF current_setting('zeroauth_audit.checkpoint_key_file') = '' THEN
        reasons := reasons || 'checkpoints_not_signed'::text;
    ELSIF sinks.enabled = 0 THEN
        reasons := reasons || 'checkpoints_not_published'::text;
    END IF;
    IF NOT coalesce((SELECT j.enabled FROM @extschema@.audit_jobs j WHERE j.name = 'checkpoint'), false) THEN
        reasons := reasons || 'checkpoints_off'::text;
    END IF;
    reasons := reasons || sinks.failing;
    IF logs.held > 0 THEN
        reasons := reasons || 'logs_held'::text;
    END IF;
    IF pg_is_in_recovery() THEN
        reasons := '{}';
    END IF;
    RETURN jsonb_build_object('state', CASE WHEN 'logs_held' = ANY (reasons) THEN 'failing' WHEN reasons <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', reasons,
        'logs', logs.logs, 'held', logs.held, 'events', coalesce(logs.events, 0), 'sinks', sinks.each);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_log() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_log() IS
    'Part of audit_health(): whether checkpoints are signed and leave the machine. Failing: logs_held. Degraded: checkpoints_not_signed, checkpoints_not_published, checkpoints_off (the job is not enabled), sink_failing:NAME.';

INSERT INTO @extschema@.audit_jobs (name, schedule, timeout) VALUES ('checkpoint', '* * * * *', '1 hour');

-- Anchors: checkpoints fixed outside the database. What is to go where, what is on its way, and what each tenant has of it.
--
-- One batch a day and target: the root of a Merkle tree over the newest signed checkpoints of all logs. The job anchor plans it, the
-- worker takes it outside, and every row here follows in the transaction that stores what happened.

CREATE TABLE @extschema@.audit_anchor_targets (
    name text COLLATE pg_catalog."C" NOT NULL,
    driver text COLLATE pg_catalog."C" NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    registered_at timestamptz,
    enabled_since timestamptz,
    disabled_because text,
    last_epoch bigint NOT NULL DEFAULT 0,
    check_asked_at timestamptz,
    checked_at timestamptz,
    check_error text,
    CONSTRAINT audit_anchor_targets_pkey PRIMARY KEY (name),
    CONSTRAINT audit_anchor_targets_name_check CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    CONSTRAINT audit_anchor_targets_driver_check CHECK (driver IN ('file', 'evm', 'rfc3161')),
    CONSTRAINT audit_anchor_targets_config_check CHECK (pg_catalog.jsonb_typeof(config) = 'object'),
    CONSTRAINT audit_anchor_targets_last_epoch_check CHECK (last_epoch >= 0)
);
REVOKE ALL ON TABLE @extschema@.audit_anchor_targets FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_anchor_targets IS 'Where anchors go. Keys, passwords and URLs lie in files that only the server can read, never in a table. A row that a dump brings comes back disabled, so that a copy of a database never anchors. Whoever can write to this table has the server write and send to places of their choice.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.name IS 'Name of the target, as alerts show it.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.driver IS 'file (an append-only signed file), evm (the contract AuditAnchor) or rfc3161 (a time-stamp authority).';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.config IS 'What the driver needs: names of files and public facts. The README lists the fields.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.enabled IS 'While false nothing is anchored here, and what is on its way waits.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.registered_at IS 'When the row was made. Set by the server: a row that brings it was restored.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.enabled_since IS 'Since when it is enabled: days before are not missed. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.disabled_because IS 'restored, when the server disabled it; NULL otherwise.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.last_epoch IS 'The highest epoch that a batch was given; epochs only rise. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.check_asked_at IS 'When the job anchor_check last asked the worker to read every anchor again. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.checked_at IS 'Which of these questions the worker last answered: its check_asked_at. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.check_error IS 'Why it could not read them; NULL when it could. Set by the server.';
COMMENT ON CONSTRAINT audit_anchor_targets_pkey ON @extschema@.audit_anchor_targets IS 'Targets are told apart by their name.';
COMMENT ON CONSTRAINT audit_anchor_targets_name_check ON @extschema@.audit_anchor_targets IS 'A name that needs no quoting anywhere.';
COMMENT ON CONSTRAINT audit_anchor_targets_driver_check ON @extschema@.audit_anchor_targets IS 'The three drivers.';
COMMENT ON CONSTRAINT audit_anchor_targets_config_check ON @extschema@.audit_anchor_targets IS 'Fields with names.';
COMMENT ON CONSTRAINT audit_anchor_targets_last_epoch_check ON @extschema@.audit_anchor_targets IS 'Epochs are counted from 1; 0 is none yet.';

CREATE TABLE @extschema@.audit_anchor_batches (
    target text COLLATE pg_catalog."C" NOT NULL,
    epoch bigint NOT NULL,
    origin text COLLATE pg_catalog."C" NOT NULL,
    log_id bytea NOT NULL,
    root bytea NOT NULL,
    leaves bigint NOT NULL,
    batch_time timestamptz NOT NULL,
    scheduled_for timestamptz,
    planned_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    machine jsonb NOT NULL,
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'planned',
    started_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz,
    first_failed_at timestamptz,
    paged_at timestamptz,
    last_error text,
    included_at timestamptz,
    finalized_at timestamptz,
    evidence jsonb,
    replanned_as bigint,
    CONSTRAINT audit_anchor_batches_pkey PRIMARY KEY (target, epoch),
    CONSTRAINT audit_anchor_batches_epoch_check CHECK (epoch >= 1),
    CONSTRAINT audit_anchor_batches_hashes_check CHECK (pg_catalog.octet_length(log_id) = 32 AND pg_catalog.octet_length(root) = 32),
    CONSTRAINT audit_anchor_batches_leaves_check CHECK (leaves >= 1),
    CONSTRAINT audit_anchor_batches_state_check CHECK (state IN ('planned', 'submitted', 'included', 'finalized', 'orphaned', 'failed'))
);
CREATE INDEX audit_anchor_batches_open ON @extschema@.audit_anchor_batches (target, epoch) WHERE next_at IS NOT NULL;
REVOKE ALL ON TABLE @extschema@.audit_anchor_batches FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_anchor_batches IS 'What went out in one piece: one row for each target and epoch. Written by the job anchor and by the worker.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.target IS 'Where it goes.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.epoch IS 'Its number there.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.origin IS 'The base origin: the name of the checkpoint key.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.log_id IS 'SHA-256 of the origin: by this the target knows the log.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.root IS 'Root hash of the Merkle tree (RFC 6962) over the bodies of the checkpoints, sorted by their origins byte by byte.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.leaves IS 'How many checkpoints.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.batch_time IS 'When it was made, in whole seconds.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.scheduled_for IS 'The time of the schedule that it was made for; NULL when somebody ran the job by hand.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.planned_at IS 'When the row was made: later than batch_time when the same root was given a new epoch.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.machine IS 'What the worker knows of it, bytes that were signed and are to be sent included. The other columns are taken from it.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.state IS 'planned, submitted, included (it could still be undone), finalized, orphaned (it was included, and that was undone; it is sent again) or failed (its epoch is used up).';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.started_at IS 'When the worker began with it; NULL while an earlier one is under way. Until then a newer batch takes its place.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.attempts IS 'How often something was sent for it.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.next_at IS 'When the worker looks after it next; NULL when it is over.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.first_failed_at IS 'Since when nothing works; NULL: no trouble.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.paged_at IS 'When a person was called about that.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.last_error IS 'The newest failure. Never contains a part of a URL or of a key.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.included_at IS 'Since when it has been seen included.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.finalized_at IS 'When it was seen to be final.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.evidence IS 'What an outsider needs to check it without asking the database: transaction, receipt, proof and block header, or token, or signed note.';
COMMENT ON COLUMN @extschema@.audit_anchor_batches.replanned_as IS 'Of a failed one: the epoch under which the same root was planned again.';
COMMENT ON CONSTRAINT audit_anchor_batches_pkey ON @extschema@.audit_anchor_batches IS 'An epoch is used once.';
COMMENT ON CONSTRAINT audit_anchor_batches_epoch_check ON @extschema@.audit_anchor_batches IS 'Epochs are counted from 1.';
COMMENT ON CONSTRAINT audit_anchor_batches_hashes_check ON @extschema@.audit_anchor_batches IS 'SHA-256 hashes.';
COMMENT ON CONSTRAINT audit_anchor_batches_leaves_check ON @extschema@.audit_anchor_batches IS 'Nothing is no batch.';
COMMENT ON CONSTRAINT audit_anchor_batches_state_check ON @extschema@.audit_anchor_batches IS 'The six states.';
COMMENT ON INDEX @extschema@.audit_anchor_batches_open IS 'What is on its way.';

CREATE TABLE @extschema@.audit_anchors (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL,
    target text COLLATE pg_catalog."C" NOT NULL,
    batch bigint NOT NULL,
    tree_size bigint NOT NULL,
    root bytea NOT NULL,
    batch_root bytea NOT NULL,
    leaf_index bigint NOT NULL,
    path bytea NOT NULL,
    tied boolean,
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'planned',
    tx_hash text,
    chain_id bigint,
    contract text,
    block_number bigint,
    block_hash text,
    token text,
    anchored_at timestamptz,
    error text,
    attempts integer NOT NULL DEFAULT 0,
    CONSTRAINT audit_anchors_pkey PRIMARY KEY (tenant_id, epoch, target, batch),
    CONSTRAINT audit_anchors_leaf_key UNIQUE (target, batch, leaf_index),
    CONSTRAINT audit_anchors_place_check CHECK (epoch >= 0 AND tree_size >= 0 AND leaf_index >= 0),
    CONSTRAINT audit_anchors_hashes_check CHECK (pg_catalog.octet_length(root) = 32 AND pg_catalog.octet_length(batch_root) = 32 AND pg_catalog.octet_length(path) % 32 = 0),
    CONSTRAINT audit_anchors_state_check CHECK (state IN ('planned', 'submitted', 'included', 'finalized', 'orphaned', 'failed'))
) WITH (fillfactor = 70);
-- Hashes do not compress.
ALTER TABLE @extschema@.audit_anchors ALTER COLUMN path SET STORAGE EXTERNAL;
CREATE INDEX audit_anchors_anchored ON @extschema@.audit_anchors (anchored_at);
CREATE INDEX audit_anchors_untied ON @extschema@.audit_anchors (tenant_id, epoch) WHERE tied IS NULL;
REVOKE ALL ON TABLE @extschema@.audit_anchors FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_anchors IS 'Every anchor of every tenant: one row for each log and batch, changed together with the batch.';
COMMENT ON COLUMN @extschema@.audit_anchors.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN @extschema@.audit_anchors.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN @extschema@.audit_anchors.target IS 'Where it is anchored.';
COMMENT ON COLUMN @extschema@.audit_anchors.batch IS 'The batch''s epoch there.';
COMMENT ON COLUMN @extschema@.audit_anchors.tree_size IS 'How many events the anchored checkpoint covers.';
COMMENT ON COLUMN @extschema@.audit_anchors.root IS 'Root hash of that checkpoint.';
COMMENT ON COLUMN @extschema@.audit_anchors.batch_root IS 'Root hash of the batch: what was anchored.';
COMMENT ON COLUMN @extschema@.audit_anchors.leaf_index IS 'Place of the checkpoint''s body in the batch, counted from 0.';
COMMENT ON COLUMN @extschema@.audit_anchors.path IS 'Inclusion path (RFC 9162) from there to batch_root, 32 bytes a hash.';
COMMENT ON COLUMN @extschema@.audit_anchors.tied IS 'Whether a consistency proof ties it to the anchor before it at this target; NULL: not looked at yet.';
COMMENT ON COLUMN @extschema@.audit_anchors.state IS 'The state of the batch.';
COMMENT ON COLUMN @extschema@.audit_anchors.tx_hash IS 'evm: hash of the transaction that it is in. file: SHA-256 of the line.';
COMMENT ON COLUMN @extschema@.audit_anchors.chain_id IS 'evm: number of the chain (EIP-155).';
COMMENT ON COLUMN @extschema@.audit_anchors.contract IS 'evm: address of the contract.';
COMMENT ON COLUMN @extschema@.audit_anchors.block_number IS 'evm: number of the block.';
COMMENT ON COLUMN @extschema@.audit_anchors.block_hash IS 'evm: its hash.';
COMMENT ON COLUMN @extschema@.audit_anchors.token IS 'rfc3161: the authority''s serial number of the token, whose bytes are in the batch''s evidence.';
COMMENT ON COLUMN @extschema@.audit_anchors.anchored_at IS 'When the target says that it was anchored; NULL while it is not.';
COMMENT ON COLUMN @extschema@.audit_anchors.error IS 'What keeps it from being anchored; NULL: nothing.';
COMMENT ON COLUMN @extschema@.audit_anchors.attempts IS 'How often something was sent for the batch.';
COMMENT ON CONSTRAINT audit_anchors_pkey ON @extschema@.audit_anchors IS 'One row for each log and batch; finds the anchors of a log.';
COMMENT ON CONSTRAINT audit_anchors_leaf_key ON @extschema@.audit_anchors IS 'One checkpoint at each place of a batch.';
COMMENT ON CONSTRAINT audit_anchors_place_check ON @extschema@.audit_anchors IS 'Numbers are counted from 0.';
COMMENT ON CONSTRAINT audit_anchors_hashes_check ON @extschema@.audit_anchors IS 'SHA-256 hashes.';
COMMENT ON CONSTRAINT audit_anchors_state_check ON @extschema@.audit_anchors IS 'The six states.';
COMMENT ON INDEX @extschema@.audit_anchors_anchored IS 'Who was anchored lately.';
COMMENT ON INDEX @extschema@.audit_anchors_untied IS 'What is still to be tied to the anchor before it.';

CREATE INDEX audit_log_intervals_leaves ON @extschema@.audit_log_intervals (tenant_id, epoch, first_leaf);
COMMENT ON INDEX @extschema@.audit_log_intervals_leaves IS 'The intervals of a log in the order of its leaves: what the job anchor_check goes by.';

CREATE TABLE @extschema@.audit_tenant_status (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    state text COLLATE pg_catalog."C" NOT NULL,
    since timestamptz NOT NULL,
    banner text,
    CONSTRAINT audit_tenant_status_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT audit_tenant_status_state_check CHECK (state IN ('ok', 'anchor-late', 'anchor-degraded', 'not-anchored'))
);
REVOKE ALL ON TABLE @extschema@.audit_tenant_status FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_tenant_status IS 'How each tenant''s trail is protected outside, for a page that a tenant sees. Kept by the worker.';
COMMENT ON COLUMN @extschema@.audit_tenant_status.tenant_id IS 'The tenant.';
COMMENT ON COLUMN @extschema@.audit_tenant_status.state IS 'ok; anchor-late: the newest day that is over has no anchor at one of the targets; anchor-degraded: two days in a row have none, and no final anchor has covered them since; not-anchored: the job anchor is disabled.';
COMMENT ON COLUMN @extschema@.audit_tenant_status.since IS 'Since when: for anchor-late and anchor-degraded the first time of the schedule that was missed.';
COMMENT ON COLUMN @extschema@.audit_tenant_status.banner IS 'One line to show; NULL when there is nothing to say.';
COMMENT ON CONSTRAINT audit_tenant_status_pkey ON @extschema@.audit_tenant_status IS 'One state a tenant.';
COMMENT ON CONSTRAINT audit_tenant_status_state_check ON @extschema@.audit_tenant_status IS 'The four states.';

CREATE TABLE @extschema@.audit_anchor_findings (
    kind text COLLATE pg_catalog."C" NOT NULL,
    source text COLLATE pg_catalog."C" NOT NULL,
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    target text COLLATE pg_catalog."C" NOT NULL,
    batch bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    detail text NOT NULL,
    CONSTRAINT audit_anchor_findings_pkey PRIMARY KEY (tenant_id, target, kind, batch, source),
    CONSTRAINT audit_anchor_findings_kind_check CHECK (kind IN ('anchor_mismatch', 'tenant_missing')),
    CONSTRAINT audit_anchor_findings_source_check CHECK (source IN ('events', 'rows', 'target'))
);
REVOKE ALL ON TABLE @extschema@.audit_anchor_findings FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_anchor_findings IS 'What the job anchor_check found and has not found gone since. audit_verify() and audit_findings() name those of a tenant, too.';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.kind IS 'anchor_mismatch: what is there is not what was anchored. tenant_missing: a log that was anchored is gone.';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.source IS 'What tells it: events (they give another root), rows (those of audit_anchors do not make up the batch) or target (it has something else).';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.tenant_id IS 'The tenant; empty when it is about a whole batch.';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.target IS 'The target; empty when it is about the events, whatever the target.';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.batch IS 'The batch''s epoch at the target; 0 when it is about the events.';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.found_at IS 'When it was first found.';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.last_seen_at IS 'When it was last found.';
COMMENT ON COLUMN @extschema@.audit_anchor_findings.detail IS 'What was found, in words.';
COMMENT ON CONSTRAINT audit_anchor_findings_pkey ON @extschema@.audit_anchor_findings IS 'One row for each class and place.';
COMMENT ON CONSTRAINT audit_anchor_findings_kind_check ON @extschema@.audit_anchor_findings IS 'The two classes.';
COMMENT ON CONSTRAINT audit_anchor_findings_source_check ON @extschema@.audit_anchor_findings IS 'The three sources.';

CREATE TABLE @extschema@.audit_anchor_check_state (
    id boolean NOT NULL DEFAULT true,
    run bigint,
    phase text NOT NULL DEFAULT 'idle',
    started_at timestamptz NOT NULL,
    asked_at timestamptz NOT NULL,
    target text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    batch bigint NOT NULL DEFAULT 0,
    tenant_id text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    epoch integer NOT NULL DEFAULT -1,
    leaf bigint NOT NULL DEFAULT 0,
    frontier bytea NOT NULL DEFAULT '',
    failure text,
    finished_at timestamptz,
    CONSTRAINT audit_anchor_check_state_pkey PRIMARY KEY (id),
    CONSTRAINT audit_anchor_check_state_id_check CHECK (id),
    CONSTRAINT audit_anchor_check_state_phase_check CHECK (phase IN ('idle', 'batches', 'tenants', 'answers', 'failing'))
);
REVOKE ALL ON TABLE @extschema@.audit_anchor_check_state FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_anchor_check_state IS 'Where the job anchor_check is: one row once it has run, so that a run goes on where a crash or a timeout ended the one before.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.id IS 'Always true.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.run IS 'The run in audit_job_runs.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.phase IS 'idle; batches: the roots of batches from the rows of their tenants; tenants: the roots of anchored checkpoints from the events; answers: what the targets have; failing: the run is about to fail.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.started_at IS 'When the pass began.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.asked_at IS 'When the worker was asked to read the targets.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.target IS 'Target of the last batch that is done.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.batch IS 'That batch.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.tenant_id IS 'The tenant that it is at.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.epoch IS 'Which log of the tenant; -1: none yet.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.leaf IS 'How many leaves of that log are done.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.frontier IS 'What is kept of them to go on: the roots of the largest whole subtrees, 32 bytes each.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.failure IS 'Why the run is about to fail.';
COMMENT ON COLUMN @extschema@.audit_anchor_check_state.finished_at IS 'When the last pass came to its end.';
COMMENT ON CONSTRAINT audit_anchor_check_state_pkey ON @extschema@.audit_anchor_check_state IS 'One row.';
COMMENT ON CONSTRAINT audit_anchor_check_state_id_check ON @extschema@.audit_anchor_check_state IS 'One row.';
COMMENT ON CONSTRAINT audit_anchor_check_state_phase_check ON @extschema@.audit_anchor_check_state IS 'The phases of a run.';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_anchor_targets', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_anchor_batches', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_anchors', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_tenant_status', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_anchor_findings', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_anchor_check_state', '');

-- Functions of anchors: targets, planning, what the worker stores, missed days.

CREATE FUNCTION @extschema@.audit_anchor_config_check(target text, driver text, config jsonb) RETURNS void
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_config_check';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_config_check(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_config_check(text, text, jsonb) IS
    'Part of the trigger of audit_anchor_targets: ZA060 for a configuration that the driver does not understand. Opens no file.';

CREATE FUNCTION @extschema@.audit_anchor_target_check() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM @extschema@.audit_anchor_batches b WHERE b.target = OLD.name) THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA061', MESSAGE = format('target %s has anchors', to_json(OLD.name)),
                HINT = 'Disable it instead: what was anchored there is checked by its row.';
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.registered_at IS NOT NULL THEN
        -- Restored, perhaps over the row that CREATE EXTENSION made.
        UPDATE @extschema@.audit_anchor_targets t
        SET driver = NEW.driver, config = NEW.config, registered_at = NEW.registered_at, last_epoch = greatest(t.last_epoch, NEW.last_epoch),
            check_asked_at = NEW.check_asked_at, checked_at = NEW.checked_at, check_error = NEW.check_error
        WHERE t.name = NEW.name;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    IF (CASE TG_OP WHEN 'INSERT' THEN NEW.registered_at IS NOT NULL ELSE NEW.registered_at IS DISTINCT FROM OLD.registered_at END) THEN
        NEW.enabled := false;
        NEW.enabled_since := NULL;
        NEW.disabled_because := 'restored';
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.registered_at := clock_timestamp();
        NEW.enabled_since := CASE WHEN NEW.enabled THEN NEW.registered_at END;
        NEW.disabled_because := NULL;
        NEW.last_epoch := 0;
    ELSE
        IF NEW.name <> OLD.name OR NEW.driver <> OLD.driver
           OR NEW.driver = 'evm' AND (NEW.config -> 'chain_id', lower(NEW.config ->> 'contract')) IS DISTINCT FROM (OLD.config -> 'chain_id', lower(OLD.config ->> 'contract')) THEN
            IF EXISTS (SELECT FROM @extschema@.audit_anchor_batches b WHERE b.target = OLD.name) THEN
                RAISE EXCEPTION USING ERRCODE = 'ZA061', MESSAGE = format('target %s has anchors', to_json(OLD.name)),
                    HINT = 'Add another target for another driver, chain or contract, and disable this one.';
            END IF;
        END IF;
        IF NEW.enabled AND NOT OLD.enabled THEN
            NEW.enabled_since := clock_timestamp();
            NEW.disabled_because := NULL;
            PERFORM @extschema@.audit_anchor_event('target_enabled', 'info', NEW.name, NEW.last_epoch, NULL);
        ELSIF NOT NEW.enabled AND OLD.enabled THEN
            NEW.enabled_since := NULL;
            PERFORM @extschema@.audit_anchor_event('target_disabled', 'high', NEW.name, NEW.last_epoch, NULL);
        END IF;
    END IF;
    IF NEW.enabled AND (TG_OP = 'INSERT' OR (NEW.driver, NEW.config, NEW.enabled) IS DISTINCT FROM (OLD.driver, OLD.config, OLD.enabled)) THEN
        PERFORM @extschema@.audit_anchor_config_check(NEW.name, NEW.driver, NEW.config);
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_target_check() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_target_check() IS
    'Trigger of audit_anchor_targets: refuses a configuration that the driver does not understand (ZA060), and to delete a target that has anchors or to point it elsewhere (ZA061); disables a row that was restored.';

CREATE TRIGGER zeroauth_audit_anchor_target_check
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.audit_anchor_targets
    FOR EACH ROW EXECUTE FUNCTION @extschema@.audit_anchor_target_check();
COMMENT ON TRIGGER zeroauth_audit_anchor_target_check ON @extschema@.audit_anchor_targets IS 'Checks the configuration; a restored row comes back disabled.';
CREATE TRIGGER zeroauth_audit_anchor_targets_changed
    AFTER INSERT OR UPDATE OF driver, config, enabled, check_asked_at OR DELETE OR TRUNCATE ON @extschema@.audit_anchor_targets
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_anchor_targets_changed ON @extschema@.audit_anchor_targets IS 'A change counts at once: the worker is woken.';
CREATE TRIGGER zeroauth_audit_anchor_batches_planned
    AFTER INSERT ON @extschema@.audit_anchor_batches
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_anchor_batches_planned ON @extschema@.audit_anchor_batches IS 'What was planned begins at once: the worker is woken.';
ALTER TABLE @extschema@.audit_anchor_targets ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_target_check;
ALTER TABLE @extschema@.audit_anchor_targets ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_targets_changed;
ALTER TABLE @extschema@.audit_anchor_batches ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_batches_planned;

CREATE FUNCTION @extschema@.audit_anchor_event(what text, severity text, target text, epoch bigint, details jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM @extschema@.audit_append_own('anchor.' || what, severity, target || '/' || epoch,
        jsonb_strip_nulls(jsonb_build_object('target', target, 'epoch', epoch) || coalesce(details, '{}')));
EXCEPTION WHEN OTHERS THEN
    -- Whoever can make the trail refuse events must not stop anchors with it.
    PERFORM @extschema@.audit_log(jsonb_build_object('event', 'anchor_' || what, 'target', target, 'epoch', epoch, 'trail_error', SQLSTATE || ' ' || SQLERRM));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_event(text, text, text, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_event(text, text, text, bigint, jsonb) IS
    'Adds an event about a batch to the trail of the tenant zeroauth_audit; a line in the server log when the trail refuses it.';

CREATE FUNCTION @extschema@.audit_anchor_begin_batch(target text, origin text, log_id bytea, root bytea, leaves bigint, batch_time bigint, machine jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped bigint;
    given bigint;
BEGIN
    -- A batch that nothing was done for waits behind an earlier one: this one holds all of it.
    FOR dropped IN
        DELETE FROM @extschema@.audit_anchor_batches b
        WHERE b.target = audit_anchor_begin_batch.target AND b.started_at IS NULL AND b.next_at IS NOT NULL
        RETURNING b.epoch
    LOOP
        DELETE FROM @extschema@.audit_anchors a WHERE a.target = audit_anchor_begin_batch.target AND a.batch = dropped;
        PERFORM @extschema@.audit_anchor_event('superseded', 'info', audit_anchor_begin_batch.target, dropped, NULL);
    END LOOP;
    UPDATE @extschema@.audit_anchor_targets t SET last_epoch = t.last_epoch + 1
    WHERE t.name = audit_anchor_begin_batch.target RETURNING t.last_epoch INTO STRICT given;
    INSERT INTO @extschema@.audit_anchor_batches (target, epoch, origin, log_id, root, leaves, batch_time, scheduled_for, machine, next_at)
    VALUES (audit_anchor_begin_batch.target, given, origin, log_id, root, leaves, to_timestamp(batch_time),
        (SELECT r.scheduled_for FROM @extschema@.audit_job_runs r WHERE r.job = 'anchor' AND r.status = 'running' ORDER BY r.id DESC LIMIT 1),
        machine, to_timestamp(batch_time));
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_begin_batch(text, text, bytea, bytea, bigint, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_begin_batch(text, text, bytea, bytea, bigint, bigint, jsonb) IS
    'Part of the job anchor: makes the row of a batch, in place of one that nobody has begun with, and returns its epoch.';

CREATE FUNCTION @extschema@.audit_anchor_copy(from_target text, from_batch bigint, to_target text, to_batch bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.audit_anchors (tenant_id, epoch, target, batch, tree_size, root, batch_root, leaf_index, path, tied, chain_id, contract)
    SELECT a.tenant_id, a.epoch, to_target, to_batch, a.tree_size, a.root, a.batch_root, a.leaf_index, a.path,
        CASE WHEN before.tree_size IS NULL OR before.tree_size = a.tree_size AND before.root = a.root THEN true END,
        CASE WHEN t.driver = 'evm' THEN (t.config ->> 'chain_id')::bigint END, CASE WHEN t.driver = 'evm' THEN lower(t.config ->> 'contract') END
    FROM @extschema@.audit_anchors a
    JOIN @extschema@.audit_anchor_targets t ON t.name = to_target
    LEFT JOIN LATERAL @extschema@.audit_anchor_before(a.tenant_id, a.epoch, to_target, to_batch) before ON true
    WHERE a.target = from_target AND a.batch = from_batch;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_copy(text, bigint, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_copy(text, bigint, text, bigint) IS
    'Gives a batch the rows of audit_anchors of another one with the same root.';

CREATE FUNCTION @extschema@.audit_anchor_before(tenant text, epoch integer, target text, batch bigint) RETURNS TABLE (tree_size bigint, root bytea)
    LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
    SELECT a.tree_size, a.root FROM @extschema@.audit_anchors a
    WHERE a.tenant_id OPERATOR(pg_catalog.=) audit_anchor_before.tenant AND a.epoch OPERATOR(pg_catalog.=) audit_anchor_before.epoch AND a.target OPERATOR(pg_catalog.=) audit_anchor_before.target
      AND a.batch OPERATOR(pg_catalog.<) audit_anchor_before.batch AND (a.state OPERATOR(pg_catalog.=) 'included' OR a.state OPERATOR(pg_catalog.=) 'finalized')
    ORDER BY a.batch DESC LIMIT 1;
END;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_before(text, integer, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_before(text, integer, text, bigint) IS
    'The newest anchor of a log at a target before a batch, as far as it is included there.';

CREATE FUNCTION @extschema@.audit_anchor_store(target text, epoch bigint, machine jsonb, is_over boolean, failure text, evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
    b @extschema@.audit_anchor_batches;
    driver text;
    inclusion jsonb := machine -> 'inclusion';
    noted text := CASE WHEN machine ? 'trouble' THEN left(failure, 500) END;
BEGIN
    SELECT k.state, t.driver INTO STRICT before, driver
    FROM @extschema@.audit_anchor_batches k JOIN @extschema@.audit_anchor_targets t ON t.name = k.target
    WHERE k.target = audit_anchor_store.target AND k.epoch = audit_anchor_store.epoch;
    UPDATE @extschema@.audit_anchor_batches k
    SET machine = audit_anchor_store.machine, state = audit_anchor_store.machine ->> 'phase', started_at = coalesce(k.started_at, clock_timestamp()),
        attempts = (SELECT coalesce(sum((a.value ->> 'sends')::integer), 0)
                    FROM jsonb_array_elements(coalesce(audit_anchor_store.machine -> 'replaced', '[]') || coalesce(audit_anchor_store.machine -> 'attempt', '[]')) a),
        next_at = CASE WHEN NOT is_over THEN to_timestamp((audit_anchor_store.machine ->> 'next')::bigint) END,
        first_failed_at = to_timestamp((audit_anchor_store.machine #>> '{trouble,since}')::bigint),
        paged_at = CASE WHEN (audit_anchor_store.machine #>> '{trouble,paged}')::boolean THEN coalesce(k.paged_at, clock_timestamp()) END,
        last_error = coalesce(noted, k.last_error),
        included_at = to_timestamp((audit_anchor_store.machine ->> 'included_since')::bigint),
        finalized_at = CASE WHEN audit_anchor_store.machine ->> 'phase' = 'finalized' THEN coalesce(k.finalized_at, clock_timestamp()) END,
        evidence = coalesce(audit_anchor_store.evidence, k.evidence)
    WHERE k.target = audit_anchor_store.target AND k.epoch = audit_anchor_store.epoch
    RETURNING k.* INTO STRICT b;
    UPDATE @extschema@.audit_anchors a
    SET state = n.state, attempts = n.attempts, error = n.error, tx_hash = n.tx_hash, token = n.token, block_number = n.block_number, block_hash = n.block_hash, anchored_at = n.anchored_at
    FROM (SELECT b.state, b.attempts, noted AS error, CASE WHEN driver <> 'rfc3161' THEN inclusion ->> 'id' END AS tx_hash, CASE WHEN driver = 'rfc3161' THEN inclusion ->> 'id' END AS token,
            (inclusion ->> 'block_number')::bigint AS block_number, inclusion ->> 'block_hash' AS block_hash, to_timestamp((inclusion ->> 'anchored_at')::bigint) AS anchored_at) n
    WHERE a.target = b.target AND a.batch = b.epoch
      AND (a.state, a.attempts, a.error, a.tx_hash, a.token, a.block_number, a.block_hash, a.anchored_at)
          IS DISTINCT FROM (n.state, n.attempts, n.error, n.tx_hash, n.token, n.block_number, n.block_hash, n.anchored_at);
    IF b.state <> before AND b.state IN ('included', 'finalized', 'orphaned', 'failed') THEN
        PERFORM @extschema@.audit_anchor_event(b.state, CASE WHEN b.state = 'failed' THEN 'high' ELSE 'info' END, b.target, b.epoch,
            jsonb_build_object('root', encode(b.root, 'hex'), 'leaves', b.leaves, 'batch_time', b.batch_time, 'id', inclusion ->> 'id',
                'block_number', inclusion -> 'block_number', 'block_hash', inclusion -> 'block_hash', 'error', noted));
        IF b.state = 'finalized' THEN
            PERFORM @extschema@.audit_resolve_alert(f.fingerprint, 'the batch is final')
            FROM (VALUES ('anchor_failing:' || b.target), ('anchor_orphaned:' || b.target || ':' || b.epoch), ('anchor_replaced:' || b.target || ':' || b.epoch)) f (fingerprint);
        END IF;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_store(text, bigint, jsonb, boolean, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_store(text, bigint, jsonb, boolean, text, jsonb) IS
    'Called by the worker: stores what it knows of a batch, and sets the rows of audit_anchors by it. is_over: nothing is left to do; failure: the newest trouble in words; evidence: when it was just collected. Adds an event when the batch became included, finalized, orphaned or failed.';

CREATE FUNCTION @extschema@.audit_anchor_replan(target text, epoch bigint, above bigint, machine jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given bigint;
    queued bigint;
    last bigint;
BEGIN
    SELECT greatest(t.last_epoch, above) + 1 INTO STRICT given FROM @extschema@.audit_anchor_targets t WHERE t.name = audit_anchor_replan.target FOR UPDATE;
    last := given;
    -- What waits behind it stays behind it.
    SELECT b.epoch INTO queued FROM @extschema@.audit_anchor_batches b
    WHERE b.target = audit_anchor_replan.target AND b.started_at IS NULL AND b.next_at IS NOT NULL ORDER BY b.epoch LIMIT 1 FOR UPDATE;
    IF FOUND THEN
        last := given + 1;
        UPDATE @extschema@.audit_anchor_batches b SET epoch = last WHERE b.target = audit_anchor_replan.target AND b.epoch = queued;
        UPDATE @extschema@.audit_anchors a SET batch = last WHERE a.target = audit_anchor_replan.target AND a.batch = queued;
    END IF;
    UPDATE @extschema@.audit_anchor_targets t SET last_epoch = last WHERE t.name = audit_anchor_replan.target;
    INSERT INTO @extschema@.audit_anchor_batches (target, epoch, origin, log_id, root, leaves, batch_time, scheduled_for, machine, next_at)
    SELECT b.target, given, b.origin, b.log_id, b.root, b.leaves, b.batch_time, b.scheduled_for, audit_anchor_replan.machine, to_timestamp((audit_anchor_replan.machine ->> 'next')::bigint)
    FROM @extschema@.audit_anchor_batches b WHERE b.target = audit_anchor_replan.target AND b.epoch = audit_anchor_replan.epoch;
    PERFORM @extschema@.audit_anchor_copy(audit_anchor_replan.target, audit_anchor_replan.epoch, audit_anchor_replan.target, given);
    UPDATE @extschema@.audit_anchor_batches b SET replanned_as = given WHERE b.target = audit_anchor_replan.target AND b.epoch = audit_anchor_replan.epoch;
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_replan(text, bigint, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_replan(text, bigint, bigint, jsonb) IS
    'Called by the worker when the epoch of a batch is used up at its target: plans the same root under a new epoch above that and every other, and returns it.';

CREATE FUNCTION @extschema@.audit_anchor_notice(target text, epoch bigint, kind text, severity smallint, place text, message text, evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind = 'anchor_recovered' THEN
        PERFORM @extschema@.audit_resolve_alert('anchor_failing:' || target, message);
    ELSE
        PERFORM @extschema@.audit_raise_alert(kind, severity, NULL, kind || ':' || place, message,
            jsonb_build_object('target', target, 'epoch', epoch) || coalesce(evidence, '{}'));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_notice(text, bigint, text, smallint, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_notice(text, bigint, text, smallint, text, text, jsonb) IS
    'Called by the worker with what people are to be told of a batch: raises an alert, or resolves anchor_failing. place: what the fingerprint ends with.';

CREATE FUNCTION @extschema@.audit_anchor_retry(target text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment bigint := floor(extract(epoch FROM clock_timestamp()));
    retried integer;
BEGIN
    UPDATE @extschema@.audit_anchor_batches b
    SET machine = b.machine || jsonb_build_object('next', least((b.machine ->> 'next')::bigint, moment), 'retry_at', least((b.machine ->> 'retry_at')::bigint, moment)),
        next_at = least(b.next_at, to_timestamp(moment))
    WHERE b.target = audit_anchor_retry.target AND b.next_at IS NOT NULL;
    GET DIAGNOSTICS retried = ROW_COUNT;
    UPDATE @extschema@.audit_anchor_targets t SET enabled = t.enabled WHERE t.name = audit_anchor_retry.target;
    RETURN retried;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_retry(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_retry(text) IS
    'Has the worker try the batches of a target at once, instead of an hour after the last failure: for when the cause was mended. Returns how many are on their way.';

CREATE FUNCTION @extschema@.audit_anchor_resume() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_jobs j SET next_run = clock_timestamp()
    WHERE j.name = 'anchor' AND j.enabled AND j.scheduler = 'worker' AND j.next_run > clock_timestamp()
      AND (SELECT r.status = 'failed' AND r.error_code = '57P01' FROM @extschema@.audit_job_runs r WHERE r.job = 'anchor' ORDER BY r.id DESC LIMIT 1);
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_resume() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_resume() IS
    'Called by the worker when it starts: a run of the job anchor that the end of the worker before cut short is made up for at once, not the next day.';

CREATE FUNCTION @extschema@.audit_job_anchor() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_job_anchor';
REVOKE ALL ON FUNCTION @extschema@.audit_job_anchor() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_anchor() IS
    'The job anchor, one step of it: seals what is new, then plans one batch for each enabled target over the newest signed checkpoint of every open log, ties each anchor to the one before it, and says how the tenants are. The worker anchors afterwards. Plans nothing without a checkpoint key.';

CREATE FUNCTION @extschema@.audit_anchor_status() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_status';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_status() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_status() IS
    'Brings audit_tenant_status up to date, and raises or resolves the alert anchor_degraded. Called by the worker every hour, and when an anchor was planned, became included or final. Returns how many tenants are late and degraded.';

CREATE FUNCTION @extschema@.audit_anchor_degraded(tenants bigint, named jsonb, banner text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tenants > 0 THEN
        PERFORM @extschema@.audit_raise_alert('anchor_degraded', 1::smallint, NULL, 'anchor_degraded',
            format('the anchors of %s %s are degraded: %s', tenants, CASE WHEN tenants = 1 THEN 'tenant' ELSE 'tenants' END, banner),
            jsonb_build_object('tenants', tenants, 'some', named));
    ELSIF EXISTS (SELECT FROM @extschema@.audit_alerts a WHERE a.fingerprint = 'anchor_degraded' AND a.state <> 'resolved' AND a.condition_gone_at IS NULL) THEN
        PERFORM @extschema@.audit_resolve_alert('anchor_degraded', 'final anchors cover what was missed');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_degraded(bigint, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_degraded(bigint, jsonb, text) IS
    'Part of audit_anchor_status(): one alert for all tenants whose anchors are degraded, resolved when there are none.';

INSERT INTO @extschema@.audit_jobs (name, schedule, time_zone, timeout) VALUES ('anchor', '30 0 * * *', 'Asia/Kolkata', '1 hour');
INSERT INTO @extschema@.audit_anchor_targets (name, driver) VALUES ('file', 'file');

-- The job anchor_check, and health of anchors.

CREATE FUNCTION @extschema@.audit_anchor_find(kind text, source text, tenant text, target text, batch bigint, detail text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.audit_anchor_findings AS f (kind, source, tenant_id, target, batch, detail)
    VALUES (audit_anchor_find.kind, audit_anchor_find.source, tenant, audit_anchor_find.target, audit_anchor_find.batch, left(audit_anchor_find.detail, 500))
    ON CONFLICT ON CONSTRAINT audit_anchor_findings_pkey DO UPDATE SET last_seen_at = clock_timestamp(), detail = excluded.detail;
    PERFORM @extschema@.audit_raise_alert(audit_anchor_find.kind, 1::smallint, nullif(tenant, ''),
        audit_anchor_find.kind || ':' || tenant || CASE WHEN audit_anchor_find.target <> '' THEN ':' || audit_anchor_find.target ELSE '' END,
        CASE WHEN tenant <> '' THEN format('the trail of tenant %s is not what was anchored: %s', tenant, audit_anchor_find.detail)
             ELSE format('batch %s at target %s is not what was anchored: %s', audit_anchor_find.batch, audit_anchor_find.target, audit_anchor_find.detail) END,
        jsonb_strip_nulls(jsonb_build_object('source', audit_anchor_find.source, 'target', nullif(audit_anchor_find.target, ''), 'batch', nullif(audit_anchor_find.batch, 0), 'detail', audit_anchor_find.detail)));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_find(text, text, text, text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_find(text, text, text, text, bigint, text) IS
    'Part of the job anchor_check: remembers a finding, and raises its alert of severity 1, one for each tenant or target.';

CREATE FUNCTION @extschema@.audit_anchor_gone(source text, tenant text, target text, batch bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone text;
BEGIN
    FOR gone IN
        DELETE FROM @extschema@.audit_anchor_findings f
        WHERE f.source = audit_anchor_gone.source AND f.tenant_id = tenant AND f.target = audit_anchor_gone.target AND f.batch = audit_anchor_gone.batch
        RETURNING f.kind
    LOOP
        IF NOT EXISTS (SELECT FROM @extschema@.audit_anchor_findings f WHERE f.kind = gone AND f.tenant_id = tenant AND f.target = audit_anchor_gone.target) THEN
            PERFORM @extschema@.audit_resolve_alert(gone || ':' || tenant || CASE WHEN audit_anchor_gone.target <> '' THEN ':' || audit_anchor_gone.target ELSE '' END,
                'what is there is what was anchored');
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_gone(text, text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_gone(text, text, text, bigint) IS
    'Part of the job anchor_check: forgets a finding that a check did not find again, and resolves its alert.';

CREATE FUNCTION @extschema@.audit_anchor_answer(target text, epoch bigint, difference text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF difference IS NULL THEN
        PERFORM @extschema@.audit_anchor_gone('target', '', target, epoch);
    ELSE
        PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'target', '', target, epoch, difference);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_answer(text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_answer(text, bigint, text) IS
    'Called by the worker with how what a target has under an epoch differs from what was anchored; NULL: not at all.';

CREATE FUNCTION @extschema@.audit_anchor_tied(tenant text, epoch integer, target text, batch bigint, difference text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_anchors a SET tied = difference IS NULL
    WHERE a.tenant_id = tenant AND a.epoch = audit_anchor_tied.epoch AND a.target = audit_anchor_tied.target AND a.batch = audit_anchor_tied.batch;
    IF difference IS NOT NULL THEN
        PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'events', tenant, '', 0, difference);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_tied(text, integer, text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_tied(text, integer, text, bigint, text) IS
    'Part of the job anchor: says whether an anchor continues the one before it, or why not, which is a finding.';

-- The order of the leaves without a sort, which would read a whole log for the first row.
CREATE FUNCTION @extschema@.audit_anchor_recompute(tenant text, epoch integer, leaf bigint, frontier bytea, since timestamptz, milliseconds integer) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_recompute';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_recompute(text, integer, bigint, bytea, timestamptz, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_recompute(text, integer, bigint, bytea, timestamptz, integer) IS
    'Part of the job anchor_check: goes on with the root of a log from its events, for so many milliseconds but at least one interval, and compares it with every checkpoint that was anchored since a time. Returns how far it came, and how the first that differs does. Changes nothing.';

CREATE FUNCTION @extschema@.audit_anchor_batch_difference(target text, batch bigint) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_batch_difference';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_batch_difference(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_batch_difference(text, bigint) IS
    'Part of the job anchor_check: why the rows of audit_anchors do not make up the root of their batch; NULL when they do.';

CREATE FUNCTION @extschema@.audit_anchor_check_begin(this_run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz := clock_timestamp();
    unanswered text;
BEGIN
    -- A question that the worker never answered, or that only somebody else's scheduler asked.
    SELECT string_agg(format('target %s: %s', t.name, CASE WHEN t.checked_at IS DISTINCT FROM t.check_asked_at THEN 'the worker did not read it' ELSE t.check_error END), '; ' ORDER BY t.name)
    INTO unanswered
    FROM @extschema@.audit_anchor_targets t
    WHERE t.enabled AND t.check_asked_at < at - interval '1 hour' AND t.check_asked_at >= t.enabled_since
      AND (t.checked_at IS DISTINCT FROM t.check_asked_at
           OR t.check_error IS NOT NULL AND (SELECT r.run_by FROM @extschema@.audit_job_runs r WHERE r.id = this_run) <> 'worker');
    UPDATE @extschema@.audit_anchor_targets t SET check_asked_at = at WHERE t.enabled;
    INSERT INTO @extschema@.audit_anchor_check_state AS s (run, phase, started_at, asked_at, failure)
    VALUES (this_run, 'batches', at, at, unanswered)
    ON CONFLICT ON CONSTRAINT audit_anchor_check_state_pkey DO UPDATE
    SET run = excluded.run, asked_at = excluded.asked_at, failure = excluded.failure;
    -- A run that was interrupted goes on where it was, unless that is long ago.
    UPDATE @extschema@.audit_anchor_check_state s
    SET phase = 'batches', started_at = at, target = '', batch = 0, tenant_id = '', epoch = -1, leaf = 0, frontier = ''
    WHERE s.phase NOT IN ('batches', 'tenants') OR s.started_at < at - interval '2 days';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_begin(bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_begin(bigint) IS
    'Part of the job anchor_check: begins a run, and asks the worker to read the targets.';

CREATE FUNCTION @extschema@.audit_anchor_check_batches(until timestamptz) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since timestamptz;
    at_target text;
    at_batch bigint;
    difference text;
    done bigint := 0;
BEGIN
    SELECT s.started_at - interval '90 days', s.target, s.batch INTO since, at_target, at_batch FROM @extschema@.audit_anchor_check_state s;
    LOOP
        SELECT b.target, b.epoch INTO at_target, at_batch FROM @extschema@.audit_anchor_batches b
        WHERE (b.target, b.epoch) > (at_target, at_batch) AND b.state IN ('included', 'finalized') AND b.batch_time > since
        ORDER BY b.target, b.epoch LIMIT 1;
        IF NOT FOUND THEN
            UPDATE @extschema@.audit_anchor_check_state SET phase = 'tenants';
            RETURN done;
        END IF;
        difference := @extschema@.audit_anchor_batch_difference(at_target, at_batch);
        IF difference IS NULL THEN
            PERFORM @extschema@.audit_anchor_gone('rows', '', at_target, at_batch);
        ELSE
            PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'rows', '', at_target, at_batch, difference);
        END IF;
        done := done + 1;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    UPDATE @extschema@.audit_anchor_check_state SET target = at_target, batch = at_batch;
    RETURN done;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_batches(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_batches(timestamptz) IS
    'Part of the job anchor_check: one step of the first phase, through the batches of the last 90 days.';

CREATE FUNCTION @extschema@.audit_anchor_check_tenants(until timestamptz) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pass timestamptz;
    at_tenant text;
    at_epoch integer;
    at_leaf bigint;
    kept bytea;
    result jsonb;
    logs bigint := 0;
    compared bigint := 0;
    finding record;
BEGIN
    SELECT s.started_at, s.tenant_id, s.epoch, s.leaf, s.frontier INTO pass, at_tenant, at_epoch, at_leaf, kept FROM @extschema@.audit_anchor_check_state s;
    LOOP
        IF at_leaf = 0 THEN
            SELECT a.tenant_id, a.epoch INTO at_tenant, at_epoch FROM @extschema@.audit_anchors a
            WHERE (a.tenant_id, a.epoch) > (at_tenant, at_epoch) ORDER BY a.tenant_id, a.epoch LIMIT 1;
            IF NOT FOUND THEN
                FOR finding IN SELECT f.source, f.tenant_id, f.target, f.batch FROM @extschema@.audit_anchor_findings f
                    WHERE f.source IN ('events', 'rows') AND f.last_seen_at < pass
                       OR f.source = 'target' AND EXISTS (SELECT FROM @extschema@.audit_anchor_batches b WHERE b.target = f.target AND b.epoch = f.batch AND b.batch_time < pass - interval '90 days')
                LOOP
                    PERFORM @extschema@.audit_anchor_gone(finding.source, finding.tenant_id, finding.target, finding.batch);
                END LOOP;
                UPDATE @extschema@.audit_anchor_check_state SET phase = 'answers';
                RETURN jsonb_build_object('logs', logs, 'compared', compared);
            END IF;
        END IF;
        IF NOT EXISTS (SELECT FROM @extschema@.audit_logs l WHERE l.tenant_id = at_tenant AND l.epoch = at_epoch) THEN
            PERFORM @extschema@.audit_anchor_find('tenant_missing', 'events', at_tenant, '', 0, 'its log was anchored, and is gone');
            result := jsonb_build_object('done', true);
        ELSE
            result := @extschema@.audit_anchor_recompute(at_tenant, at_epoch, at_leaf, kept, pass - interval '90 days',
                greatest(extract(milliseconds FROM until - clock_timestamp())::integer, 1));
            compared := compared + (result ->> 'compared')::bigint;
            IF result ->> 'difference' IS NOT NULL THEN
                PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'events', at_tenant, '', 0, result ->> 'difference');
            END IF;
        END IF;
        IF (result ->> 'done')::boolean THEN
            at_leaf := 0;
            kept := '';
            logs := logs + 1;
        ELSE
            at_leaf := (result ->> 'leaf')::bigint;
            kept := decode(result ->> 'frontier', 'hex');
        END IF;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    UPDATE @extschema@.audit_anchor_check_state SET tenant_id = at_tenant, epoch = at_epoch, leaf = at_leaf, frontier = kept;
    RETURN jsonb_build_object('logs', logs, 'compared', compared);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_tenants(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_tenants(timestamptz) IS
    'Part of the job anchor_check: one step of the second phase, through the events of every log that was anchored.';

CREATE FUNCTION @extschema@.audit_anchor_check_answers(this_run bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s @extschema@.audit_anchor_check_state := (SELECT t FROM @extschema@.audit_anchor_check_state t);
    failed text := s.failure;
    more text;
BEGIN
    -- Only the worker can answer, and only what was committed: a run in a session leaves the answers to the next.
    IF (SELECT r.run_by FROM @extschema@.audit_job_runs r WHERE r.id = this_run) = 'worker' THEN
        IF EXISTS (SELECT FROM @extschema@.audit_anchor_targets t WHERE t.enabled AND t.check_asked_at = s.asked_at AND t.checked_at IS DISTINCT FROM t.check_asked_at) THEN
            RETURN true;
        END IF;
        SELECT string_agg(format('target %s: %s', t.name, t.check_error), '; ' ORDER BY t.name) INTO more
        FROM @extschema@.audit_anchor_targets t WHERE t.enabled AND t.check_asked_at = s.asked_at AND t.check_error IS NOT NULL;
        failed := concat_ws('; ', failed, more);
    END IF;
    failed := nullif(failed, '');
    UPDATE @extschema@.audit_anchor_check_state
    SET phase = CASE WHEN failed IS NULL THEN 'idle' ELSE 'failing' END, failure = failed, finished_at = clock_timestamp();
    RETURN failed IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_answers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_answers(bigint) IS
    'Part of the job anchor_check: whether it has to go on, for answers that are not there or because of those that could not be had.';

CREATE FUNCTION @extschema@.audit_job_anchor_check() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '100 milliseconds';
    cpu double precision := @extschema@.audit_process_cpu();
    began timestamptz := clock_timestamp();
    s @extschema@.audit_anchor_check_state;
    this_run bigint;
    done jsonb := '{}';
    more boolean := true;
    pause double precision := 0;
BEGIN
    SELECT t.* INTO s FROM @extschema@.audit_anchor_check_state t FOR UPDATE;
    SELECT coalesce(max(r.id), 0) INTO this_run FROM @extschema@.audit_job_runs r WHERE r.job = 'anchor_check' AND r.status = 'running';
    IF s.run IS DISTINCT FROM this_run OR s.phase = 'idle' THEN
        PERFORM @extschema@.audit_anchor_check_begin(this_run);
    ELSIF s.phase = 'batches' THEN
        done := jsonb_build_object('batches', @extschema@.audit_anchor_check_batches(until));
    ELSIF s.phase = 'tenants' THEN
        done := @extschema@.audit_anchor_check_tenants(until);
    ELSIF s.phase = 'answers' THEN
        more := @extschema@.audit_anchor_check_answers(this_run);
        pause := CASE WHEN more THEN 500 ELSE 0 END;
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'ZA062', MESSAGE = format('could not check every anchor: %s', s.failure),
            HINT = 'Everything else was checked. Look whether the target can be reached, and whether the worker runs.';
    END IF;
    pause := greatest(pause, (@extschema@.audit_process_cpu() - cpu) * 100 / current_setting('zeroauth_audit.replay_load')::integer - extract(epoch FROM clock_timestamp() - began) * 1000);
    RETURN jsonb_build_object('more', more, 'pause_ms', greatest(ceil(pause), 0)::bigint, 'done', done);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_anchor_check() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_anchor_check() IS
    'The job anchor_check, one step of it: compares what was anchored in the last 90 days with the rows of audit_anchors, with the events themselves, and with what the targets have, which the worker reads. A difference is an alert of severity 1. ZA062 when a target could not be read.';

CREATE FUNCTION @extschema@.audit_health_anchors() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    targets record;
    tenants record;
    findings bigint := (SELECT count(*) FROM @extschema@.audit_anchor_findings);
    planned boolean := coalesce((SELECT j.enabled FROM @extschema@.audit_jobs j WHERE j.name = 'anchor'), false);
    worse text[] := '{}';
    reasons text[] := '{}';
BEGIN
    SELECT count(*) FILTER (WHERE t.enabled) AS enabled,
        coalesce(jsonb_object_agg(t.name, jsonb_build_object('driver', t.driver, 'enabled', t.enabled,
            'last_epoch', l.epoch, 'last_state', l.state, 'last_included_at', l.included_at, 'on_their_way', o.batches, 'next_at', o.next_at,
            'failing_since', o.failing_since, 'last_error', o.last_error, 'checked_at', t.checked_at, 'check_error', t.check_error)), '{}') AS each,
        coalesce(array_agg('anchor_target_disabled:' || t.name ORDER BY t.name) FILTER (WHERE NOT t.enabled AND t.disabled_because IS NOT NULL), '{}') AS disabled,
        coalesce(array_agg('anchor_failing:' || t.name ORDER BY t.name) FILTER (WHERE t.enabled AND o.failing_since IS NOT NULL), '{}') AS failing,
        coalesce(bool_or(t.enabled AND o.paged), false) AS paged
    INTO targets
    FROM @extschema@.audit_anchor_targets t
    LEFT JOIN LATERAL (
        SELECT b.epoch, b.state, b.included_at FROM @extschema@.audit_anchor_batches b
        WHERE b.target = t.name AND b.state IN ('included', 'finalized') ORDER BY b.epoch DESC LIMIT 1) l ON true
    LEFT JOIN LATERAL (
        SELECT count(*) AS batches, min(b.next_at) AS next_at, min(b.first_failed_at) AS failing_since, max(b.last_error) FILTER (WHERE b.first_failed_at IS NOT NULL) AS last_error,
            bool_or(b.paged_at IS NOT NULL) AS paged
        FROM @extschema@.audit_anchor_batches b WHERE b.target = t.name AND b.next_at IS NOT NULL) o ON true;
    SELECT count(*) FILTER (WHERE s.state = 'anchor-late') AS late, count(*) FILTER (WHERE s.state = 'anchor-degraded') AS degraded INTO tenants
    FROM @extschema@.audit_tenant_status s WHERE s.state IN ('anchor-late', 'anchor-degraded');
    IF planned AND NOT pg_is_in_recovery() THEN
        -- Who may not see the setting sees what comes of it: the job checkpoint notes the key every few minutes.
        IF EXISTS (SELECT FROM @extschema@.audit_logs l WHERE l.tree_size > 0)
           AND NOT EXISTS (SELECT FROM @extschema@.audit_keys k WHERE k.last_used > clock_timestamp() - interval '2 hours') THEN
            reasons := reasons || 'anchors_not_signed'::text;
        END IF;
        IF targets.enabled = 0 THEN
            reasons := reasons || 'anchors_off'::text;
        END IF;
        reasons := reasons || targets.disabled;
        IF targets.paged THEN
            worse := worse || targets.failing;
        ELSE
            reasons := reasons || targets.failing;
        END IF;
        IF tenants.late > 0 THEN
            reasons := reasons || 'anchor_late'::text;
        END IF;
        IF tenants.degraded > 0 THEN
            worse := worse || 'anchor_degraded'::text;
        END IF;
        IF findings > 0 THEN
            worse := worse || 'anchor_mismatch'::text;
        END IF;
    END IF;
    RETURN jsonb_build_object('state', CASE WHEN worse <> '{}' THEN 'failing' WHEN reasons <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', worse || reasons,
        'targets', targets.each, 'tenants_late', tenants.late, 'tenants_degraded', tenants.degraded, 'findings', findings,
        'next_run', (SELECT j.next_run FROM @extschema@.audit_jobs j WHERE j.name = 'anchor'));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_anchors() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_anchors() IS
    'Part of audit_health(): each target with its last anchor and what is on its way. Failing: anchor_degraded, anchor_mismatch, anchor_failing:TARGET when a person was called. Degraded: anchor_failing:TARGET before that, anchor_late, anchors_not_signed, anchors_off, anchor_target_disabled:TARGET (a dump brought it). Nothing while the job anchor is disabled.';

INSERT INTO @extschema@.audit_jobs (name, schedule, time_zone, timeout) VALUES ('anchor_check', '45 1 * * *', 'Asia/Kolkata', '12 hours');
