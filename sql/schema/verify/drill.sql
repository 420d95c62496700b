-- The drill: attacks that a running system can play on itself, on a scratch table that is never committed.

CREATE FUNCTION zeroauth_audit_internal.drill_findings(scratch regclass) RETURNS TABLE (
    tenant_id text, class text, chain smallint, seq bigint, event_id uuid, detail text, expected bytea, actual bytea)
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_drill_findings';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drill_findings(regclass) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drill_findings(regclass) IS
    'Part of audit_drill(): what audit_findings() says, by the same code, of a table of the trail''s shape that this transaction created. ZA009 for any other table.';

CREATE FUNCTION zeroauth_audit_internal.drill_seal(scratch regclass) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_drill_seal';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drill_seal(regclass) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drill_seal(regclass) IS
    'Part of audit_drill(): what the job checkpoint does, by the same code, to a scratch table and the logs beside it, signed with a key that is made up and forgotten. Returns how many events were sealed. ZA009 for a table that is not a drill''s, ZA051 when what was sealed before is not there.';

-- played: variants of one attack, each played by itself on an untouched trail; {table} is the scratch table, {schema} its schema,
-- {ours} the schema of the extension. All events were sealed before, in logs beside the table. guarded: the table has the guards that audit_events has; otherwise only the chaining.
-- then_true: what must hold of the stored rows, too. not_played: why nothing is played.
CREATE FUNCTION zeroauth_audit_internal.drill_attacks() RETURNS TABLE (
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
                  e.event_hash := {ours}.event_hash(prev, e.tenant_id, e.chain, e.seq, e.event_id, e.occurred_at, e.recorded_at, e.category,
                      e.action, e.outcome, e.severity, e.resource, e.service_name, e.env, e.provider, e.request_id, e.correlation_id, e.trace_id,
                      e.span_id, e.status_code, e.latency_ms, e.payload_size, e.error_code, e.db_role,
                      {ours}.private_hash(e.salt, e.actor_type, e.actor_id, e.ip, e.user_agent, e.error_message, e.details));
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
              UPDATE {schema}.tiles SET hashes = (SELECT string_agg(h, '' ORDER BY n) FROM unnest(nodes) WITH ORDINALITY u (h, n)) WHERE tenant_id = 'acme';
              WHILE cardinality(nodes) > 1 LOOP
                  nodes := ARRAY(SELECT sha256('\x01'::bytea || nodes[n] || nodes[n + 1]) FROM generate_series(1, cardinality(nodes), 2) n);
              END LOOP;
              UPDATE {schema}.registry_entries SET root = nodes[1] WHERE tenant_id = 'acme';
              UPDATE {schema}.registry_tiles t SET hashes = overlay(t.hashes PLACING sha256('\x00'::bytea || convert_to(concat_ws(E'\n', 'zeroauth.audit/entry/v1',
                  'log ' || encode(sha256(int4send(24) || 'zeroauth.audit/tenant/v1'::bytea || int4send(32) || k.key || int4send(4) || 'acme'::bytea), 'base64') || ' 0',
                  e.tree_size, encode(e.root, 'base64'), 'previous none', ''), 'UTF8')) FROM 1 + 32 * e.entry::integer)
              FROM {schema}.registry_entries e, {schema}.registry_names k WHERE e.tenant_id = 'acme' AND t.level = 0;
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
    (21, 'an upsert', 'ZA003', true, ARRAY[
        $$INSERT INTO {table} (tenant_id, event_id, action) SELECT tenant_id, event_id, 'forged' FROM {table} WHERE seq = 5
          ON CONFLICT (tenant_id, event_id) DO UPDATE SET action = excluded.action$$], NULL, NULL),
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
    (25, 'ten minutes pass without events, then what was before them is deleted', 'tail_truncated', false, ARRAY[
        $$UPDATE {schema}.registry_runs SET sealed_at = sealed_at - interval '11 minutes';
          SELECT {ours}.drill_seal('{table}');
          DELETE FROM {table} WHERE tenant_id = 'acme' AND seq > 6$$],
        $$SELECT count(*) = 2 AND max(sealed_at) > clock_timestamp() - interval '1 minute' FROM {schema}.registry_runs$$, NULL),
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
        $$UPDATE {table} SET event_hash = {ours}.event_hash(prev_hash, tenant_id, chain, seq, event_id, occurred_at, recorded_at, category, 'forged',
              outcome, severity, resource, service_name, env, provider, request_id, correlation_id, trace_id, span_id, status_code,
              latency_ms, payload_size, error_code, db_role, {ours}.private_hash(salt, actor_type, actor_id, ip, user_agent, error_message, details)),
            action = 'forged'
          WHERE tenant_id = 'acme' AND seq = 5$$], NULL, NULL),
    (27, 'an event is rewritten and all hashes from it on recomputed', 'checkpoint_mismatch', false, ARRAY[
        $$UPDATE {table} SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 5$$ || caller.recomputed], NULL, NULL),
    (28, 'the same, and what the log remembers is made anew, but for the signature', 'checkpoint_mismatch', false, ARRAY[
        $$UPDATE {table} SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 5$$ || caller.recomputed || caller.remembered], NULL, NULL),
    (28, 'whatever in the database remembers the head is changed, too', 'anchor_mismatch', NULL, NULL, NULL, 'not played: needs what left the database'),
    (29, 'an event is rewritten, and its log is forgotten', 'checkpoint_mismatch', false, ARRAY[
        $$UPDATE {table} SET action = 'forged' WHERE tenant_id = 'acme' AND seq = 5$$ || caller.recomputed || $$;
          DELETE FROM {schema}.logs WHERE tenant_id = 'acme'; DELETE FROM {schema}.log_intervals WHERE tenant_id = 'acme';
          DELETE FROM {schema}.tiles WHERE tenant_id = 'acme'$$], NULL, NULL),
    (30, 'a log is ended by hand, or begun anew', 'checkpoint_mismatch', false, ARRAY[
        $$UPDATE {schema}.logs SET state = 'ended' WHERE tenant_id = 'acme'$$,
        $$UPDATE {schema}.logs SET state = 'ended' WHERE tenant_id = 'acme';
          INSERT INTO {schema}.logs (tenant_id, epoch, started_at) VALUES ('acme', 1, clock_timestamp())$$], NULL, NULL),
    (32, 'a write to a catalog switches the triggers off', 'catalog_written', NULL, NULL, NULL, 'not played: needs the trail itself'),
    (34, 'a function, a trigger or a policy stands beside', 'ZA004', NULL, NULL, NULL, 'not played: needs the trail itself'),
    (35, 'an index that refuses events, or runs code', 'ZA004', true, ARRAY[
        $$CREATE UNIQUE INDEX ON {table} (action)$$,
        $$CREATE INDEX ON {table} (lower(action))$$,
        $$CREATE INDEX ON {table} (action) WHERE actor_id = 'zoe'$$], NULL, NULL),
    (35, 'a trigger that waits for the commit', 'ZA004', true, ARRAY[
        $$CREATE CONSTRAINT TRIGGER late AFTER INSERT ON {table} DEFERRABLE FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()$$], NULL, NULL)
) list (pitfall, attack, expected, guarded, played, then_true, not_played)
$attacks$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drill_attacks() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drill_attacks() IS
    'Part of audit_drill(): the attacks as they are played. {table} is the scratch table, guarded says whether it has the guards of audit_events; the variants in played are played each on an untouched trail; then_true must hold afterwards; not_played says why nothing is played.';

CREATE FUNCTION @extschema@.audit_drill() RETURNS TABLE (
    passed boolean, attack text, expected text, found text, ms numeric, pitfall integer)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 50
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
    ours CONSTANT regnamespace := 'zeroauth_audit_internal';
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
                    ('zzz_zeroauth_audit_chain'::name, 7, 'BEFORE INSERT ON %s FOR EACH ROW', 'chain()', true),
                    ('zeroauth_audit_refuse_row', 27, 'BEFORE UPDATE OR DELETE ON %s FOR EACH ROW', 'refuse_row()', false),
                    ('zeroauth_audit_refuse_statement', 58, 'BEFORE UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT', 'refuse_statement()', false)
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
            -- that no row of them is read.
            FOR item IN
                SELECT c.oid, c.relname, coalesce(', ' || pg_get_constraintdef(k.oid), '') AS place,
                    (SELECT string_agg(format('%I %s', col.attname, format_type(col.atttypid, col.atttypmod)), ', ' ORDER BY col.attnum)
                     FROM pg_attribute col WHERE col.attrelid = c.oid AND col.attnum > 0 AND NOT col.attisdropped) AS columns
                FROM pg_class c LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
                WHERE c.relnamespace = ours AND c.relname IN ('logs', 'log_intervals', 'tiles', 'keys', 'registry_names', 'registry_entries', 'registry_tiles', 'registry_runs', 'registry_cosignatures')
            LOOP
                FOREACH target IN ARRAY ARRAY[scratch, scratch || '_unguarded'] LOOP
                    EXECUTE format('CREATE TABLE %I.%I (%s%s)', target, item.relname, item.columns, item.place);
                END LOOP;
            END LOOP;
            FOREACH target IN ARRAY ARRAY[scratch, scratch || '_unguarded'] LOOP
                EXECUTE format($sql$
                    ALTER TABLE %1$I.logs ALTER epoch SET DEFAULT 0, ALTER tree_size SET DEFAULT 0, ALTER state SET DEFAULT 'open';
                    ALTER TABLE %1$I.keys ALTER last_used SET DEFAULT clock_timestamp()$sql$, target);
            END LOOP;
            FOREACH target IN ARRAY ARRAY[guarded, unguarded] LOOP
                -- What is signed was stored before.
                PERFORM zeroauth_audit_internal.drill_seal(target::regclass);
                PERFORM zeroauth_audit_internal.drill_seal(target::regclass);
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            no_log := format('; not sealed before: %s', SQLSTATE);
        END;

        FOR a IN SELECT list.* FROM zeroauth_audit_internal.drill_attacks() WITH ORDINALITY list ORDER BY list.ordinality LOOP
            IF a.not_played IS NOT NULL THEN
                RETURN QUERY SELECT NULL::boolean, a.attack, a.expected, a.not_played, NULL::numeric, a.pitfall;
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
                    FROM zeroauth_audit_internal.drill_findings(target::regclass) f;
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
                IF outcome = 'ZA004' AND NOT zeroauth_audit_internal.preloaded() THEN
                    outcome := 'ZA004 in this session only';
                END IF;
                outcomes := outcomes || outcome;
            END LOOP;
            SELECT coalesce(string_agg(DISTINCT o, '; '), no_trail, 'nothing was played') INTO result FROM unnest(outcomes) o;
            IF result <> a.expected AND no_trail IS NULL THEN
                result := concat(result, no_log);
            END IF;
            RETURN QUERY SELECT result = a.expected, a.attack, a.expected, result, round(1000 * extract(epoch FROM took), 1), a.pitfall;
        END LOOP;
        RAISE EXCEPTION USING ERRCODE = 'ZAD00', MESSAGE = 'the scratch schema is taken back';
    EXCEPTION WHEN SQLSTATE 'ZAD00' THEN
        NULL;
    END;
END
$drill$;
REVOKE ALL ON FUNCTION @extschema@.audit_drill() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_drill() IS
    'Plays known attacks on a scratch table and says which are caught; nothing stays. The table has the guards that audit_events has now. One row an attack: passed (NULL: not played, found says why), the class or SQLSTATE that was expected, what was found ("none": nothing), how many milliseconds verification or refusal took, and the number of the pitfall in docs/threat-model.md. Runs as the owner, and rolls everything back before it returns. 25006 in a read-only transaction.';
