-- Functions of the Merkle log: the job checkpoint, proofs, restores, and what the worker calls to publish.

CREATE FUNCTION zeroauth_audit_internal.job_checkpoint() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_job_checkpoint';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_checkpoint() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_checkpoint() IS
    'The job checkpoint, one step of it: adds the new events of some tenants to their logs, states in the registry what they are then, and signs the registry; also every 10 minutes while nothing is added. The worker publishes it afterwards.';

-- SECURITY INVOKER: it looks at the caller, and becomes the owner itself.
CREATE FUNCTION @extschema@.audit_prove(tenant text, event uuid, private_fields boolean DEFAULT NULL) RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, @extschema@, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_prove';
REVOKE ALL ON FUNCTION @extschema@.audit_prove(text, uuid, boolean) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_prove(text, uuid, boolean) IS
    'The proof of one event: a file for zeroauth-audit verify-bundle. It holds the event as audit_export() writes it, its place in its tenant''s log, the entry of the registry that states the log, the newest checkpoint of the registry with its cosignatures, and the anchors that cover it (docs/format.md). private_fields as for audit_export(). ZA005 for a tenant or an event that is not there, ZA006 when a policy hides rows from the caller, ZA009 for NULL, ZA050 for an event that no signed checkpoint covers yet, ZA051 when the log does not agree with itself, 42501 when private fields are asked for without the right to read them.';

CREATE FUNCTION @extschema@.audit_prove_consistency(tenant text, from_size bigint, to_size bigint) RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_prove_consistency';
REVOKE ALL ON FUNCTION @extschema@.audit_prove_consistency(text, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_prove_consistency(text, bigint, bigint) IS
    'Proof that a log only grew (RFC 9162). tenant: whose log; NULL: the registry. from_size, to_size: two sizes of it, in events of the tenant''s current log, or in entries of the registry, as two checkpoints have them. Returns one base64 hash a line. ZA005 for a tenant without a log, ZA009 for sizes that are NULL or that it does not have, ZA051 when the log does not agree with itself.';

CREATE FUNCTION @extschema@.audit_export_intervals(tenant text DEFAULT NULL) RETURNS SETOF text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 1000
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT zeroauth_audit_internal.require_tenant(audit_export_intervals.tenant, true);
    SELECT pg_catalog.row_to_json(exported)::text
    FROM (
        SELECT i.tenant_id AS tenant_id, i.epoch::text AS epoch, i.tree_size::text AS tree_size, i.chain::text AS chain, i.from_seq::text AS "from", i.to_seq::text AS "to"
        FROM zeroauth_audit_internal.log_intervals i
        WHERE audit_export_intervals.tenant IS NULL OR i.tenant_id = audit_export_intervals.tenant
        ORDER BY i.tenant_id, i.epoch, i.tree_size, i.chain
    ) exported;
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_export_intervals(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_export_intervals(text) IS
    'In which order events were sealed: a file beside an export. With it the offline verifier lays the export of a tenant with several chains out as its log has it, and recomputes the root. tenant: whose, NULL for every tenant. One JSON object a line: which events of a chain each checkpoint added. ZA005 for a tenant that is not there.';

CREATE FUNCTION @extschema@.audit_export_names() RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(n.key, 'base64') FROM zeroauth_audit_internal.registry_names n;
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_export_names() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_export_names() IS
    'The key of names, for zeroauth-audit verify-export --names: run files name tenants by labels that are made with it. Whoever has it can try names on published files: give it to auditors only. Returns 32 bytes in base64, NULL before anything was sealed.';

CREATE FUNCTION zeroauth_audit_internal.sink_check() RETURNS trigger
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
REVOKE ALL ON FUNCTION zeroauth_audit_internal.sink_check() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.sink_check() IS
    'Trigger of the table sinks: a sink that a dump brings is not used before somebody enables it.';
CREATE TRIGGER zeroauth_audit_sink_check
    BEFORE INSERT ON zeroauth_audit_internal.sinks
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.sink_check();
COMMENT ON TRIGGER zeroauth_audit_sink_check ON zeroauth_audit_internal.sinks IS 'A sink that a dump brings is not used before somebody enables it.';
CREATE TRIGGER zeroauth_audit_sinks_changed
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF kind, directory, url_file, ca_file, vkey, enabled ON zeroauth_audit_internal.sinks
    FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_sinks_changed ON zeroauth_audit_internal.sinks IS 'A change counts at once.';
ALTER TABLE zeroauth_audit_internal.sinks ENABLE ALWAYS TRIGGER zeroauth_audit_sink_check;
ALTER TABLE zeroauth_audit_internal.sinks ENABLE ALWAYS TRIGGER zeroauth_audit_sinks_changed;

CREATE FUNCTION zeroauth_audit_internal.names_key() RETURNS boolean
    LANGUAGE c STABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_names_key';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.names_key() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.names_key() IS
    'Whether zeroauth_audit.checkpoint_key_file names a file; its name is shown to superusers only.';

CREATE FUNCTION zeroauth_audit_internal.key_usable(error text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF key_usable.error IS NOT NULL THEN
        PERFORM zeroauth_audit_internal.raise_alert('checkpoint_key', 2::smallint, NULL, 'checkpoint_key',
            'checkpoints cannot be signed: ' || key_usable.error, jsonb_build_object('error', key_usable.error));
    ELSIF EXISTS (SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.fingerprint = 'checkpoint_key' AND a.state <> 'resolved') THEN
        PERFORM zeroauth_audit_internal.resolve_alert('checkpoint_key', 'the key can be used');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.key_usable(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.key_usable(text) IS
    'Part of the job checkpoint: raises the alert checkpoint_key with the reason why the key cannot be used, or resolves it when there is none.';

CREATE FUNCTION zeroauth_audit_internal.hold_tenant(tenant text, size bigint, root bytea, by_sink text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    log zeroauth_audit_internal.logs;
    held bigint;
    sample jsonb;
BEGIN
    INSERT INTO zeroauth_audit_internal.logs (tenant_id) SELECT tenant WHERE NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.logs l WHERE l.tenant_id = tenant);
    UPDATE zeroauth_audit_internal.logs l SET state = 'held', known_size = size, known_root = root, known_by = by_sink
    WHERE l.tenant_id = tenant AND l.state <> 'ended'
    RETURNING l.* INTO log;
    SELECT count(*), jsonb_agg(jsonb_build_object('tenant', f.tenant_id, 'epoch', f.epoch, 'here', f.tree_size, 'there', f.known_size) ORDER BY f.tenant_id) FILTER (WHERE f.place <= 20)
    INTO held, sample
    FROM (SELECT l.*, row_number() OVER (ORDER BY l.tenant_id) AS place FROM zeroauth_audit_internal.logs l WHERE l.state = 'held' AND l.known_by = by_sink) f;
    PERFORM zeroauth_audit_internal.raise_alert(
        CASE WHEN log.known_size > log.tree_size THEN 'tail_truncated' ELSE 'checkpoint_mismatch' END, 1::smallint, CASE WHEN held = 1 THEN log.tenant_id END,
        CASE WHEN log.known_size > log.tree_size THEN 'log_behind:' ELSE 'checkpoint_conflict:' END || by_sink,
        CASE WHEN log.known_size > log.tree_size
             THEN format('sink %s holds a checkpoint of %s events of tenant %s, and the log has %s: events are gone, or an earlier state was restored', by_sink, log.known_size, log.tenant_id, log.tree_size)
             ELSE format('sink %s holds another root of %s events of tenant %s: history was rewritten', by_sink, log.known_size, log.tenant_id) END,
        jsonb_build_object('sink', by_sink, 'logs', sample, 'held', held));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.hold_tenant(text, bigint, bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.hold_tenant(text, bigint, bytea, text) IS
    'A sink holds a state of the tenant''s log that is not the one here: no more is signed for it, and an alert of severity 1 is raised, one for all logs of a sink.';

CREATE FUNCTION zeroauth_audit_internal.sink_reported(sink text, error text, published bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    updated zeroauth_audit_internal.sinks;
BEGIN
    UPDATE zeroauth_audit_internal.sinks s
    SET last_success = CASE WHEN sink_reported.error IS NULL THEN clock_timestamp() ELSE s.last_success END,
        failing_since = CASE WHEN sink_reported.error IS NOT NULL THEN coalesce(s.failing_since, clock_timestamp()) END,
        last_error = coalesce(left(sink_reported.error, 500), s.last_error),
        published_to = greatest(s.published_to, coalesce(sink_reported.published, 0))
    WHERE s.name = sink
    RETURNING s.* INTO updated;
    IF sink_reported.published > 0 THEN
        DELETE FROM zeroauth_audit_internal.registry_found f WHERE f.sink = sink_reported.sink AND f.file IS NULL AND f.number <= sink_reported.published;
        IF FOUND THEN
            PERFORM zeroauth_audit_internal.resolve_alert('registry_forked:' || sink_reported.sink, 'the sink has taken the run');
        END IF;
    END IF;
    IF updated.failing_since < clock_timestamp() - interval '15 minutes' THEN
        PERFORM zeroauth_audit_internal.raise_alert('sink_failing', 2::smallint, NULL, 'sink_failing:' || sink,
            format('checkpoints do not reach sink %s: %s', sink, updated.last_error), jsonb_build_object('sink', sink, 'since', updated.failing_since, 'error', updated.last_error));
    ELSIF updated.failing_since IS NULL THEN
        PERFORM zeroauth_audit_internal.resolve_alert('sink_failing:' || sink, 'checkpoints reach the sink again');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.sink_reported(text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.sink_reported(text, text, bigint) IS
    'Called by the worker with what came of publishing to a sink: an error or none, and the last run that it has. Raises the alert sink_failing after 15 minutes of failures.';

CREATE FUNCTION zeroauth_audit_internal.sinks_starved() RETURNS TABLE (name text, why text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    newest record;
BEGIN
    SELECT r.number, r.sealed_at INTO newest FROM zeroauth_audit_internal.registry_runs r ORDER BY r.number DESC LIMIT 1;
    RETURN QUERY
    SELECT s.name, CASE
        WHEN s.published_to > coalesce(newest.number, 0) THEN format('it is said to have run %s, and the newest is %s', s.published_to, coalesce(newest.number, 0))
        WHEN u.sealed_at < clock_timestamp() - interval '15 minutes' THEN format('it lacks a checkpoint that was signed at %s', u.sealed_at)
        -- Silence is sealed every 10 minutes.
        ELSE format('nothing has reached it since %s', s.last_success) END
    FROM zeroauth_audit_internal.sinks s
    LEFT JOIN LATERAL (
        SELECT r.sealed_at FROM zeroauth_audit_internal.registry_runs r WHERE s.kind = 'directory' AND r.number > s.published_to ORDER BY r.number LIMIT 1) u ON true
    WHERE s.enabled AND (
        s.published_to > coalesce(newest.number, 0) OR u.sealed_at < clock_timestamp() - interval '15 minutes'
        OR s.last_success < clock_timestamp() - interval '75 minutes' AND newest.sealed_at > s.last_success);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.sinks_starved() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.sinks_starved() IS
    'The enabled sinks that do not get what is signed, whatever their rows say of failures, and why.';

CREATE FUNCTION zeroauth_audit_internal.sinks_watch() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    starved record;
BEGIN
    FOR starved IN SELECT w.name, w.why FROM zeroauth_audit_internal.sinks_starved() w LOOP
        PERFORM zeroauth_audit_internal.raise_alert('sink_failing', 2::smallint, NULL, 'sink_failing:' || starved.name,
            format('checkpoints do not reach sink %s: %s', starved.name, starved.why), (SELECT to_jsonb(s) FROM zeroauth_audit_internal.sinks s WHERE s.name = starved.name));
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.sinks_watch() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.sinks_watch() IS
    'Part of the job tripwire: the alert sink_failing for every sink that does not get what is signed. The next success of the sink resolves it.';

CREATE FUNCTION zeroauth_audit_internal.key_signs(public_key bytea, vkey text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    is_new boolean;
    used timestamptz := clock_timestamp();
BEGIN
    -- One time for both: each default reads the clock by itself.
    INSERT INTO zeroauth_audit_internal.keys AS k (public_key, vkey, first_used, last_used) VALUES (key_signs.public_key, key_signs.vkey, used, used)
    ON CONFLICT (public_key) DO UPDATE SET last_used = excluded.last_used
    WHERE k.last_used < excluded.last_used - interval '10 minutes'
    RETURNING k.first_used = k.last_used INTO is_new;
    -- Two that begin together are no change.
    IF is_new AND EXISTS (SELECT 1 FROM zeroauth_audit_internal.keys k WHERE k.public_key <> key_signs.public_key AND k.first_used < now()) THEN
        PERFORM zeroauth_audit_internal.raise_alert('key_changed', 3::smallint, NULL, 'key_changed:' || encode(CASE WHEN octet_length(key_signs.public_key) > 32 THEN sha256(key_signs.public_key) ELSE key_signs.public_key END, 'hex'),
            format('checkpoints are signed with a new key: %s', key_signs.vkey),
            jsonb_build_object('vkey', key_signs.vkey, 'others', (
                SELECT jsonb_agg(k.vkey ORDER BY k.last_used DESC) FROM (SELECT * FROM zeroauth_audit_internal.keys k WHERE k.public_key <> key_signs.public_key ORDER BY k.last_used DESC LIMIT 10) k)));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.key_signs(bytea, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.key_signs(bytea, text) IS
    'Keeps a public key that signs; another key than those before is an alert of severity 3.';

CREATE FUNCTION zeroauth_audit_internal.append_own_to(action text, severity text, resource text, details jsonb, tenant text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_append_own';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.append_own_to(text, text, text, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.append_own_to(text, text, text, jsonb, text) IS
    'As append_own, to the trail of the tenant whom the event is about.';

CREATE FUNCTION @extschema@.audit_restore_acknowledge(note text) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    log zeroauth_audit_internal.logs;
    ended integer := 0;
    missed bigint;
    next_epoch integer;
BEGIN
    IF coalesce(audit_restore_acknowledge.note, '') !~ '[^[:space:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = 'an acknowledgement needs a note', HINT = 'Say what was restored, and why.';
    END IF;
    FOR log IN
        SELECT l.* FROM zeroauth_audit_internal.logs l
        WHERE l.state = 'held' OR l.state = 'open' AND EXISTS (
            SELECT 1 FROM zeroauth_audit_internal.drift_findings d WHERE d.tenant_id = l.tenant_id AND d.source = 'log' AND d.alerted_at IS NOT NULL AND d.last_seen_at >= l.started_at)
        ORDER BY l.tenant_id, l.epoch FOR UPDATE
    LOOP
        SELECT sum(d.events) INTO missed FROM zeroauth_audit_internal.drift_findings d
        WHERE d.tenant_id = log.tenant_id AND d.source = 'log' AND d.alerted_at IS NOT NULL AND d.last_seen_at >= log.started_at AND d.kind <> 'checkpoint_mismatch';
        UPDATE zeroauth_audit_internal.logs l SET state = 'ended', ended_at = clock_timestamp() WHERE l.tenant_id = log.tenant_id AND l.epoch = log.epoch;
        -- What was lost may have begun epochs of its own.
        next_epoch := greatest(log.epoch, (SELECT max(e.epoch) FROM zeroauth_audit_internal.registry_entries e WHERE e.tenant_id = log.tenant_id)) + 1;
        INSERT INTO zeroauth_audit_internal.logs (tenant_id, epoch) VALUES (log.tenant_id, next_epoch);
        PERFORM zeroauth_audit_internal.append_own_to('log.restored', 'critical', log.tenant_id || '/' || next_epoch,
            jsonb_build_object('note', left(audit_restore_acknowledge.note, 2000), 'by', SESSION_USER, 'epoch', next_epoch,
                'ended', jsonb_build_object('epoch', log.epoch, 'tree_size', log.tree_size),
                'known', jsonb_build_object('sink', log.known_by, 'tree_size', log.known_size, 'root', encode(log.known_root, 'base64')),
                'lost', greatest(log.known_size - log.tree_size, missed, 0)),
            log.tenant_id);
        ended := ended + 1;
    END LOOP;
    IF ended = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA052', MESSAGE = 'no log waits for an acknowledgement of a restore',
            HINT = 'SELECT tenant_id, log_state, log_held_by FROM audit_tenants WHERE log_state = ''held'' shows those that a sink disagrees with; SELECT * FROM audit_integrity() shows what else is missing.';
    END IF;
    RETURN ended;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_restore_acknowledge(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_restore_acknowledge(text) IS
    'An earlier state was restored on purpose: begins a new epoch of each log that lost something. note: what was restored, and why; not empty. Every log that is held, or of which the job drift misses something, ends, and an event log.restored in the tenant''s own trail names what was lost. Returns how many logs. The alerts stay until they are acknowledged. ZA009 without a note, ZA052 when no log waits for it. Cannot be taken back.';

CREATE FUNCTION zeroauth_audit_internal.health_log() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    logs record;
    sinks record;
    reasons text[] := '{}';
    forked boolean;
BEGIN
    SELECT count(*) AS logs, count(*) FILTER (WHERE l.state = 'held') AS held, sum(l.tree_size) FILTER (WHERE l.state = 'open') AS events INTO logs FROM zeroauth_audit_internal.logs l;
    SELECT coalesce(jsonb_object_agg(s.name, jsonb_build_object('kind', s.kind, 'enabled', s.enabled, 'last_success', s.last_success, 'failing_since', s.failing_since, 'last_error', s.last_error)), '{}') AS each,
        count(*) FILTER (WHERE s.enabled) AS enabled, coalesce(array_agg('sink_failing:' || s.name ORDER BY s.name) FILTER (
            WHERE s.enabled AND (s.failing_since < clock_timestamp() - interval '15 minutes' OR s.name IN (SELECT w.name FROM zeroauth_audit_internal.sinks_starved() w))), '{}') AS failing
    INTO sinks FROM zeroauth_audit_internal.sinks s;
    IF logs.logs = 0 THEN
        NULL; -- nothing was to be signed yet
    ELSIF NOT zeroauth_audit_internal.names_key() THEN
        reasons := reasons || 'checkpoints_not_signed'::text;
    ELSIF sinks.enabled = 0 THEN
        reasons := reasons || 'checkpoints_not_published'::text;
    END IF;
    IF NOT coalesce((SELECT j.enabled FROM zeroauth_audit_internal.jobs j WHERE j.name = 'checkpoint'), false) THEN
        reasons := reasons || 'checkpoints_off'::text;
    END IF;
    reasons := reasons || sinks.failing;
    forked := EXISTS (SELECT 1 FROM zeroauth_audit_internal.registry_found f JOIN zeroauth_audit_internal.sinks s ON s.name = f.sink WHERE s.enabled AND f.file IS NULL);
    IF forked THEN
        reasons := reasons || 'registry_forked'::text;
    END IF;
    IF logs.held > 0 THEN
        reasons := reasons || 'logs_held'::text;
    END IF;
    IF pg_is_in_recovery() THEN
        reasons := '{}';
    END IF;
    RETURN jsonb_build_object('state', CASE WHEN reasons && '{logs_held,registry_forked}' THEN 'failing' WHEN reasons <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', reasons,
        'logs', logs.logs, 'held', logs.held, 'events', coalesce(logs.events, 0), 'sinks', sinks.each);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_log() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_log() IS
    'Part of audit_health(): whether checkpoints are signed and leave the machine. Failing: logs_held, registry_forked (a directory contradicts what was signed here). Degraded: checkpoints_not_signed, checkpoints_not_published, checkpoints_off (the job is not enabled), sink_failing:NAME (it fails, or does not have what was signed, for 15 minutes).';

INSERT INTO zeroauth_audit_internal.jobs (name, schedule, timeout) VALUES ('checkpoint', '* * * * *', '1 hour');
