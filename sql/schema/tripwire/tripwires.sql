-- Tripwires: what must not change is compared, every minute, with what it must be or with what was remembered. And pins: files
-- outside of the database, every five minutes.

-- One row. Not dumped: it is about this copy of the data, and begins anew in another.
CREATE TABLE zeroauth_audit_internal.tripwire_state (
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
    counted boolean NOT NULL DEFAULT false,
    boot text,
    booted_at bigint,
    CONSTRAINT tripwire_state_pkey PRIMARY KEY (only_row),
    CONSTRAINT tripwire_state_only_row_check CHECK (only_row)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.tripwire_state FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.tripwire_state IS 'What the tripwires remember from one look to the next: one row, which the job tripwire keeps.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.only_row IS 'True.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.looked_at IS 'When they last looked.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.differences IS 'How many definitions were not as installed then.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.cluster IS 'System identifier: in another cluster (pg_upgrade) files and row versions are others.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.version IS 'Version of the extension.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.trail IS 'audit_events.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.trail_file IS 'Its file: another after TRUNCATE or a rewrite.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.guards IS 'Row versions of its guard triggers: others after each was switched off and on again.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.rows_inserted IS 'The table''s counters: rows inserted,';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.rows_updated IS 'updated,';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.rows_deleted IS 'and deleted.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.counted IS 'Whether the counters ever told of a row that was inserted; stays true when they begin anew.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.boot IS 'The boot of the machine that booted_at is about.';
COMMENT ON COLUMN zeroauth_audit_internal.tripwire_state.booted_at IS 'When that was by the wall clock, in microseconds since 1970: the same until somebody sets the clock.';
COMMENT ON CONSTRAINT tripwire_state_pkey ON zeroauth_audit_internal.tripwire_state IS 'One row.';
COMMENT ON CONSTRAINT tripwire_state_only_row_check ON zeroauth_audit_internal.tripwire_state IS 'One row.';

CREATE FUNCTION zeroauth_audit_internal.library_version() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_library_version';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.library_version() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.library_version() IS
    'The version of the library that this session runs; pg_extension.extversion is that of the SQL objects.';

CREATE FUNCTION zeroauth_audit_internal.definitions() RETURNS TABLE (object text, part text, value text)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 500
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_definitions';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.definitions() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.definitions() IS
    'What the catalogs say of everything that belongs to the extension, as far as it must not change: functions, tables, columns, constraints, indexes, triggers, rules, owners, and grants that are too wide.';

CREATE FUNCTION @extschema@.audit_verify_installation() RETURNS TABLE (object text, part text, was text, now text)
    LANGUAGE c STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 10
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_definition_differences';
REVOKE ALL ON FUNCTION @extschema@.audit_verify_installation() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_verify_installation() IS
    'What is not as this version installs it; no rows: all is. was is how it must be (NULL: there must be no such thing), now is how it is (NULL: it is gone); long texts as their SHA-256. While the library and the SQL objects are of different versions only the triggers of audit_events are compared. Works on a hot standby.';

CREATE FUNCTION zeroauth_audit_internal.privileged_uses() RETURNS TABLE (
    board bigint, at bigint, kind text, use text, role bigint, times bigint, first timestamptz, last timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
    AS 'MODULE_PATHNAME', 'zeroauth_audit_privileged_uses';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.privileged_uses() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.privileged_uses() IS
    'Part of the job tripwire: who used maintenance or replica role in this database, wrote to a system catalog or to a table of the extension, as noted in shared memory. No rows when the library is not in shared_preload_libraries.';

CREATE FUNCTION zeroauth_audit_internal.privileged_uses_told(board bigint, number bigint) RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_privileged_uses_told';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.privileged_uses_told(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.privileged_uses_told(bigint, bigint) IS
    'Part of the job tripwire: the commit of this transaction takes the notes up to a number off the board. ZA003 when anybody else calls it.';

CREATE FUNCTION zeroauth_audit_internal.clock(boot text DEFAULT NULL, booted_at bigint DEFAULT NULL) RETURNS TABLE (
    this_boot text, this_booted_at bigint, step bigint, synchronised boolean, problem text, offset_us bigint, estimated_error_us bigint, max_error_us bigint)
    LANGUAGE c VOLATILE PARALLEL SAFE ROWS 1
    AS 'MODULE_PATHNAME', 'zeroauth_audit_clock';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.clock(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.clock(text, bigint) IS
    'The clock of the server: the boot of the machine and when it was by the wall clock; step is by how many microseconds that was set since an earlier call of the same boot, NULL if by no more than zeroauth_audit.max_clock_error; what the kernel says of its synchronisation (adjtimex), and why that is not enough, NULL if it is or is not to be looked at. Works on a hot standby.';

CREATE FUNCTION @extschema@.audit_verify_pins() RETURNS TABLE (path text, ok boolean, problem text, expected text, found text)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED SECURITY DEFINER ROWS 5
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_check_pins';
REVOKE ALL ON FUNCTION @extschema@.audit_verify_pins() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_verify_pins() IS
    'Reads every pinned file now and compares its digest. One row for each file of zeroauth_audit.pinned_files: whether it is as pinned, what is wrong (NULL for nothing), and its SHA-256 as pinned and as found. No rows when the library is not in shared_preload_libraries.';

CREATE FUNCTION zeroauth_audit_internal.pin_status() RETURNS TABLE (pinned integer, wrong integer, checked_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
    AS 'MODULE_PATHNAME', 'zeroauth_audit_pin_status';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.pin_status() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.pin_status() IS
    'How many files are pinned, how many of them were wrong when last looked at, and when that was; reads shared memory only.';

-- Something that happened, and that no later check can prove undone. As long as nobody has acknowledged the alert about it, a
-- repetition counts it up; afterwards it is a new alert, or whoever waits for the first to be acknowledged would go unnoticed.
CREATE FUNCTION zeroauth_audit_internal.raise_incident(kind text, severity smallint, place text, message text, evidence jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    mark text := raise_incident.kind || ':' || left(raise_incident.place, 200) || ':';
    fingerprint text;
BEGIN
    SELECT a.fingerprint INTO fingerprint FROM zeroauth_audit_internal.alerts a
    WHERE a.state = 'open' AND starts_with(a.fingerprint, mark) AND substr(a.fingerprint, length(mark) + 1) ~ '^[0-9]{8}T[0-9]{6}[.][0-9]{6}$'
    ORDER BY a.id DESC LIMIT 1;
    PERFORM zeroauth_audit_internal.log_line(jsonb_build_object(
        'event', 'tripwire', 'kind', raise_incident.kind, 'message', raise_incident.message,
        'evidence', raise_incident.evidence, 'database', current_database()));
    RETURN zeroauth_audit_internal.raise_alert(
        raise_incident.kind, raise_incident.severity, NULL,
        coalesce(fingerprint, mark || to_char(timezone('UTC', clock_timestamp()), 'YYYYMMDD"T"HH24MISS.US')),
        raise_incident.message, raise_incident.evidence);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.raise_incident(text, smallint, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.raise_incident(text, smallint, text, text, jsonb) IS
    'Raises an alert about something that happened at a place, or counts up the one that nobody has acknowledged yet, and writes a line to the server log each time. Returns the alert''s id. For the extension''s own checks.';

CREATE FUNCTION zeroauth_audit_internal.resolve_others(kind text, mark text, remaining text[], note text) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    gone text;
    resolved integer := 0;
BEGIN
    FOR gone IN
        SELECT a.fingerprint FROM zeroauth_audit_internal.alerts a
        WHERE a.state <> 'resolved' AND a.kind = resolve_others.kind AND starts_with(a.fingerprint, resolve_others.mark)
          AND NOT a.fingerprint = ANY (resolve_others.remaining)
    LOOP
        resolved := resolved + zeroauth_audit_internal.resolve_alert(gone, resolve_others.note)::integer;
    END LOOP;
    RETURN resolved;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.resolve_others(text, text, text[], text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.resolve_others(text, text, text[], text) IS
    'Resolves the alerts of a kind whose fingerprints begin with mark and are not among the remaining ones. Returns how many. For the extension''s own checks.';

CREATE FUNCTION zeroauth_audit_internal.tripwire_definitions() RETURNS integer
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
        FROM @extschema@.audit_verify_installation() x
        GROUP BY x.object
        -- The trail and its guards first.
        ORDER BY x.object NOT LIKE '%audit_events%', x.object
    LOOP
        found_now := found_now + d.parts;
        IF cardinality(marks) < many THEN
            mark := format('guard_disabled:installed:%s:%s', left(d.object, 300), d.is_now);
            marks := marks || mark;
            PERFORM zeroauth_audit_internal.raise_alert('guard_disabled', 1::smallint, NULL, mark,
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
        PERFORM zeroauth_audit_internal.raise_alert('guard_disabled', 1::smallint, NULL, mark,
            format('%s more objects are not as installed', rest_objects),
            jsonb_build_object('count', rest_objects, 'objects', rest));
    END IF;
    PERFORM zeroauth_audit_internal.resolve_others('guard_disabled', 'guard_disabled:installed:', marks, 'it is as installed again, or differs in another way');
    RETURN found_now;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.tripwire_definitions() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.tripwire_definitions() IS
    'Part of the job tripwire: an alert guard_disabled for each object that is not as installed. Returns how many differences there are.';

CREATE FUNCTION zeroauth_audit_internal.tripwire_table(before zeroauth_audit_internal.tripwire_state, found_differences integer) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    seen record;
    rewriter text;
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
        -- Who wrote it anew says so right after the commit that can be seen here.
        IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.privileged_uses() x WHERE x.kind = 'table_rewritten') THEN
            PERFORM pg_sleep(0.5);
        END IF;
        SELECT coalesce(r.rolname, 'role ' || x.role) INTO rewriter
        FROM zeroauth_audit_internal.privileged_uses() x LEFT JOIN pg_roles r ON r.oid = x.role::oid WHERE x.kind = 'table_rewritten' ORDER BY x.last DESC LIMIT 1;
        PERFORM zeroauth_audit_internal.raise_incident('table_rewritten', CASE WHEN rewriter IS NULL THEN 1 ELSE 3 END::smallint,
            CASE WHEN rewriter IS NULL THEN 'audit_events' ELSE 'by a statement' END,
            'audit_events has another file: ' || coalesce(rewriter || ' ran VACUUM FULL, CLUSTER or ALTER TABLE ALL IN TABLESPACE', 'it was rewritten or emptied'),
            jsonb_build_object('role', rewriter, 'was', jsonb_build_array(before.trail, before.trail_file), 'is', jsonb_build_array(seen.trail, seen.trail_file), 'looked_at', seen.looked_at, 'last_looked_at', before.looked_at));
    END IF;

    -- One that is off now is a difference, and was told of already.
    IF before.cluster = seen.cluster AND before.trail = seen.trail AND before.version = seen.version AND before.differences = 0 AND found_differences = 0
       AND before.guards <> seen.guards THEN
        PERFORM zeroauth_audit_internal.raise_incident('guard_disabled', 1::smallint, 'off and on', 'a guard of audit_events was switched off and on again, or made anew',
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
    -- What a guard let through is told with the role, by tripwire_privileged_uses().
    IF before.cluster IS NOT NULL AND (updated > 0 OR deleted > inserted)
       AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.privileged_uses() x WHERE x.kind = 'rows_modified') THEN
        PERFORM zeroauth_audit_internal.raise_incident('rows_modified', 1::smallint, 'audit_events', 'rows of audit_events were updated or deleted, or it was tried in a transaction that was rolled back',
            jsonb_build_object('updated', updated, 'deleted', deleted, 'inserted', inserted, 'looked_at', seen.looked_at, 'last_looked_at', before.looked_at));
    END IF;
    UPDATE zeroauth_audit_internal.tripwire_state s SET
        looked_at = seen.looked_at, differences = found_differences, cluster = seen.cluster, version = seen.version, trail = seen.trail, trail_file = seen.trail_file,
        guards = seen.guards, rows_inserted = seen.inserted, rows_updated = seen.updated, rows_deleted = seen.deleted,
        counted = s.counted OR seen.inserted > 0;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.tripwire_table(zeroauth_audit_internal.tripwire_state, integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.tripwire_table(zeroauth_audit_internal.tripwire_state, integer) IS
    'Part of the job tripwire: compares the file, the counters and the guards'' row versions of audit_events with what was remembered, and remembers them.';

CREATE FUNCTION zeroauth_audit_internal.tripwire_privileged_uses() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    u record;
    detail jsonb;
    board bigint;
    newest bigint;
BEGIN
    FOR u IN
        SELECT x.kind, max(x.board) AS board, max(x.at) AS at, coalesce(r.rolname, 'role ' || x.role) AS role, string_agg(x.use, ', ' ORDER BY x.use) AS uses,
            sum(x.times) AS times, jsonb_agg(jsonb_build_object('use', x.use, 'times', x.times, 'first', x.first, 'last', x.last) ORDER BY x.first) AS each
        FROM zeroauth_audit_internal.privileged_uses() x LEFT JOIN pg_roles r ON r.oid = x.role::oid
        GROUP BY x.kind, r.rolname, x.role
    LOOP
        detail := jsonb_build_object('role', u.role, 'uses', u.each);
        IF u.kind = 'rows_modified' THEN
            PERFORM zeroauth_audit_internal.raise_incident('rows_modified', 1::smallint, 'audit_events', format('rows of audit_events were updated or deleted by %s under maintenance, or it was rolled back', u.role), detail);
        ELSIF u.kind = 'catalog_written' THEN
            PERFORM zeroauth_audit_internal.raise_incident('catalog_written', 1::smallint, u.role, format('%s wrote to the system catalogs: %s', u.role, left(u.uses, 500)), detail);
        ELSIF u.kind = 'state_written' THEN
            PERFORM zeroauth_audit_internal.raise_incident('state_written', 1::smallint, u.role, format('%s wrote to tables that only the extension''s functions write: %s', u.role, left(u.uses, 500)), detail);
        ELSIF u.kind = 'table_rewritten' THEN
            NULL; -- told with the file that it is about
        ELSIF u.kind = 'settings_written' THEN
            PERFORM zeroauth_audit_internal.raise_incident('settings_written', 2::smallint, u.role, format('%s wrote by hand to tables that calls set: %s', u.role, left(u.uses, 500)), detail);
        ELSIF u.kind = 'notes_not_kept' THEN
            PERFORM zeroauth_audit_internal.raise_incident('maintenance_used', 1::smallint, 'not kept', format('%s more notes of privileged use were not kept: there were too many at once', u.times), jsonb_build_object('uses', u.each));
        ELSIF u.kind = 'maintenance_used' THEN
            PERFORM zeroauth_audit_internal.raise_incident('maintenance_used', 2::smallint, u.role, format('%s used zeroauth_audit.maintenance: %s', u.role, u.uses), detail);
        ELSIF u.kind = 'write_refused' THEN
            PERFORM zeroauth_audit_internal.raise_incident('write_refused', 3::smallint, u.role, format('row-level security refused events that %s wrote, in %s transactions', u.role, u.times), detail);
        ELSIF u.kind = 'events_supplied' THEN
            -- The first restore of a dump is what it is for; afterwards a trail grows by being written to.
            IF zeroauth_audit_internal.trail_sealed() OR zeroauth_audit_internal.was_chained() THEN
                PERFORM zeroauth_audit_internal.raise_incident('events_supplied', 2::smallint, u.role, format('%s stored events that brought their hashes in audit_events', u.role), detail);
            END IF;
        ELSE
            PERFORM zeroauth_audit_internal.raise_incident('replica_role_used', 2::smallint, u.role, format('%s wrote to audit_events with session_replication_role = replica: %s', u.role, u.uses), detail);
        END IF;
        board := u.board;
        newest := greatest(newest, u.at);
    END LOOP;
    -- After everything that could fail: the commit takes them off.
    IF newest IS NOT NULL THEN
        PERFORM zeroauth_audit_internal.privileged_uses_told(board, newest);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.tripwire_privileged_uses() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.tripwire_privileged_uses() IS
    'Part of the job tripwire: tells of every privileged use that is noted.';

CREATE FUNCTION zeroauth_audit_internal.tripwire_clock(before zeroauth_audit_internal.tripwire_state) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    c record;
    mark CONSTANT text := 'clock_step:unsynchronised';
BEGIN
    SELECT * INTO c FROM zeroauth_audit_internal.clock(before.boot, before.booted_at);
    IF c.step IS NOT NULL THEN
        PERFORM zeroauth_audit_internal.raise_incident('clock_step', 2::smallint, 'set', format('the server''s clock was set %s by %s s', CASE WHEN c.step < 0 THEN 'back' ELSE 'forward' END, round(abs(c.step) / 1000000.0, 3)),
            jsonb_build_object('step_us', c.step, 'looked_at', clock_timestamp(), 'last_looked_at_by_the_old_clock', before.looked_at));
    END IF;
    -- Without a step the old distance is kept: small ones do not add up unseen.
    IF c.step IS NOT NULL OR c.this_boot IS DISTINCT FROM before.boot OR before.booted_at IS NULL THEN
        UPDATE zeroauth_audit_internal.tripwire_state s SET boot = c.this_boot, booted_at = c.this_booted_at;
    END IF;
    IF c.problem IS NOT NULL THEN
        PERFORM zeroauth_audit_internal.raise_alert('clock_step', 3::smallint, NULL, mark, c.problem,
            jsonb_build_object('synchronised', c.synchronised, 'offset_us', c.offset_us, 'estimated_error_us', c.estimated_error_us, 'max_error_us', c.max_error_us, 'allowed_ms', (SELECT s.setting::integer FROM pg_settings s WHERE s.name = 'zeroauth_audit.max_clock_error')));
    ELSE
        PERFORM zeroauth_audit_internal.resolve_alert(mark, 'the clock is synchronised, or is not to be looked at');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.tripwire_clock(zeroauth_audit_internal.tripwire_state) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.tripwire_clock(zeroauth_audit_internal.tripwire_state) IS
    'Part of the job tripwire: an alert clock_step when the clock was set, or is not synchronised.';

CREATE FUNCTION zeroauth_audit_internal.tripwire_restore() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    since CONSTANT timestamptz := CASE WHEN zeroauth_audit_internal.jobs_held() = 'restore_running' THEN zeroauth_audit_internal.restore_since() END;
BEGIN
    IF since IS NULL THEN
        PERFORM zeroauth_audit_internal.resolve_alert('restore_running', 'the restore has ended');
    ELSIF since < clock_timestamp() - interval '5 minutes' THEN
        PERFORM zeroauth_audit_internal.raise_alert('restore_running', 3::smallint, NULL, 'restore_running',
            'events have been restored for 5 minutes: until that ends no job runs but tripwire and pins', jsonb_build_object('since', since));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.tripwire_restore() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.tripwire_restore() IS
    'Part of the job tripwire: an alert restore_running when a restore has held the other jobs for 5 minutes.';

CREATE FUNCTION zeroauth_audit_internal.job_tripwire() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    before zeroauth_audit_internal.tripwire_state;
    found_differences integer;
    problems jsonb := '{}';
BEGIN
    -- An empty row, as good as none, if somebody took it away.
    INSERT INTO zeroauth_audit_internal.tripwire_state DEFAULT VALUES ON CONFLICT DO NOTHING;
    SELECT * INTO STRICT before FROM zeroauth_audit_internal.tripwire_state FOR UPDATE;
    -- What goes wrong in one of them keeps none of the others from being told.
    BEGIN
        found_differences := zeroauth_audit_internal.tripwire_definitions();
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('definitions', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        PERFORM zeroauth_audit_internal.tripwire_table(before, coalesce(found_differences, before.differences));
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('table', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        PERFORM zeroauth_audit_internal.tripwire_privileged_uses();
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('uses', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        PERFORM zeroauth_audit_internal.tripwire_clock(before);
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('clock', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        IF zeroauth_audit_internal.copy_of() IS NULL AND zeroauth_audit_internal.trail_begun() THEN
            PERFORM zeroauth_audit_internal.trail_is_here();
        END IF;
        PERFORM zeroauth_audit_internal.jobs_watch();
        PERFORM zeroauth_audit_internal.sinks_watch();
        PERFORM zeroauth_audit_internal.replication_watch();
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('watch', SQLSTATE || ' ' || SQLERRM);
    END;
    BEGIN
        PERFORM zeroauth_audit_internal.tripwire_restore();
    EXCEPTION WHEN OTHERS THEN
        problems := problems || jsonb_build_object('restore', SQLSTATE || ' ' || SQLERRM);
    END;
    IF problems <> '{}' THEN
        PERFORM zeroauth_audit_internal.raise_alert('job_failed', 2::smallint, NULL, 'job_failed:tripwire', 'the job tripwire could not look at everything', problems);
    ELSE
        PERFORM zeroauth_audit_internal.resolve_alert('job_failed:tripwire', 'it could look at everything');
    END IF;
    RETURN jsonb_build_object('more', false, 'done', jsonb_strip_nulls(jsonb_build_object('differences', found_differences, 'problems', nullif(problems, '{}'))));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_tripwire() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_tripwire() IS
    'The job tripwire: looks at definitions, at the file and the counters of audit_events, at uses of maintenance and replica role, at writes to system catalogs, and at the clock; raises alerts of kind guard_disabled, table_rewritten, rows_modified, maintenance_used, replica_role_used, catalog_written, state_written, settings_written, events_supplied, write_refused, restore_running, job_off, sink_failing, subscription_failing, replication_behind and clock_step, and resolves those whose condition is gone.';

CREATE FUNCTION zeroauth_audit_internal.job_pins() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    p record;
    mark text;
    marks text[] := '{}';
    looked_at integer := 0;
BEGIN
    FOR p IN SELECT * FROM @extschema@.audit_verify_pins() LOOP
        looked_at := looked_at + 1;
        IF p.problem IS NOT NULL THEN
            mark := format('pin_mismatch:%s:%s',
                CASE WHEN octet_length(p.path) > 600 THEN encode(sha256(convert_to(p.path, 'UTF8')), 'hex') ELSE p.path END, coalesce(left(p.found, 12), 'unreadable'));
            marks := marks || mark;
            PERFORM zeroauth_audit_internal.raise_alert('pin_mismatch', 1::smallint, NULL, mark,
                format(CASE WHEN p.found IS NULL THEN 'pinned file "%s" cannot be read: %s' ELSE 'pinned file "%s" is not what it was' END, p.path, p.problem),
                jsonb_build_object('path', p.path, 'expected', p.expected, 'found', p.found, 'problem', p.problem));
        END IF;
    END LOOP;
    PERFORM zeroauth_audit_internal.resolve_others('pin_mismatch', 'pin_mismatch:', marks, 'the file is as pinned, or pinned otherwise, or differs in another way');
    RETURN jsonb_build_object('more', false, 'done', jsonb_build_object('pinned', looked_at, 'wrong', cardinality(marks)));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_pins() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_pins() IS
    'The job pins: an alert pin_mismatch for each pinned file that is not what it was, or cannot be read.';

-- What is remembered begins with the install: the first run of the job compares with that.
INSERT INTO zeroauth_audit_internal.tripwire_state DEFAULT VALUES;
SELECT zeroauth_audit_internal.tripwire_table(state, 0) FROM zeroauth_audit_internal.tripwire_state state;
INSERT INTO zeroauth_audit_internal.jobs (name, schedule, timeout) VALUES ('tripwire', '* * * * *', '1 minute'), ('pins', '*/5 * * * *', '4 minutes');
