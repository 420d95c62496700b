-- The job anchor_check, and health of anchors.

CREATE FUNCTION zeroauth_audit_internal.anchor_find(kind text, source text, tenant text, target text, batch bigint, detail text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO zeroauth_audit_internal.anchor_findings AS f (kind, source, tenant_id, target, batch, detail)
    VALUES (anchor_find.kind, anchor_find.source, tenant, anchor_find.target, anchor_find.batch, left(anchor_find.detail, 500))
    ON CONFLICT ON CONSTRAINT anchor_findings_pkey DO UPDATE SET last_seen_at = clock_timestamp(), detail = excluded.detail;
    PERFORM zeroauth_audit_internal.raise_alert(anchor_find.kind, 1::smallint, nullif(tenant, ''),
        anchor_find.kind || ':' || tenant || CASE WHEN anchor_find.target <> '' THEN ':' || anchor_find.target ELSE '' END,
        CASE WHEN tenant <> '' THEN format('the trail of tenant %s is not what was anchored: %s', tenant, anchor_find.detail)
             ELSE format('batch %s at target %s is not what was anchored: %s', anchor_find.batch, anchor_find.target, anchor_find.detail) END,
        jsonb_strip_nulls(jsonb_build_object('source', anchor_find.source, 'target', nullif(anchor_find.target, ''), 'batch', nullif(anchor_find.batch, 0), 'detail', anchor_find.detail)));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_find(text, text, text, text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_find(text, text, text, text, bigint, text) IS
    'Part of the job anchor_check: remembers a finding, and raises its alert of severity 1, one for each tenant or target.';

CREATE FUNCTION zeroauth_audit_internal.anchor_gone(source text, tenant text, target text, batch bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone text;
BEGIN
    FOR gone IN
        DELETE FROM zeroauth_audit_internal.anchor_findings f
        WHERE f.source = anchor_gone.source AND f.tenant_id = tenant AND f.target = anchor_gone.target AND f.batch = anchor_gone.batch
        RETURNING f.kind
    LOOP
        IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.anchor_findings f WHERE f.kind = gone AND f.tenant_id = tenant AND f.target = anchor_gone.target) THEN
            PERFORM zeroauth_audit_internal.resolve_alert(gone || ':' || tenant || CASE WHEN anchor_gone.target <> '' THEN ':' || anchor_gone.target ELSE '' END,
                'what is there is what was anchored');
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_gone(text, text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_gone(text, text, text, bigint) IS
    'Part of the job anchor_check: forgets a finding that a check did not find again, and resolves its alert.';

CREATE FUNCTION zeroauth_audit_internal.anchor_answer(target text, epoch bigint, difference text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF difference IS NULL THEN
        PERFORM zeroauth_audit_internal.anchor_gone('target', '', target, epoch);
    ELSE
        PERFORM zeroauth_audit_internal.anchor_find('anchor_mismatch', 'target', '', target, epoch, difference);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_answer(text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_answer(text, bigint, text) IS
    'Called by the worker with how what a target has under an epoch differs from what was anchored; NULL: not at all.';

-- The order of the leaves without a sort, which would read a whole log for the first row.
CREATE FUNCTION zeroauth_audit_internal.anchor_recompute(tenant text, epoch integer, leaf bigint, frontier bytea, since timestamptz, milliseconds integer) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_recompute';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_recompute(text, integer, bigint, bytea, timestamptz, integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_recompute(text, integer, bigint, bytea, timestamptz, integer) IS
    'Part of the job anchor_check: goes on with the root of a log from its events, for so many milliseconds but at least one interval, and compares it with what the registry said of it each time that it was anchored since a time. Returns how far it came, and how the first that differs does. Changes nothing.';

CREATE FUNCTION zeroauth_audit_internal.anchor_batch_difference(target text, batch bigint) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_batch_difference';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_batch_difference(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_batch_difference(text, bigint) IS
    'Part of the job anchor_check: why the registry does not have the root that a batch anchored of it; NULL when it does.';

CREATE FUNCTION zeroauth_audit_internal.anchor_check_begin(this_run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz := clock_timestamp();
    unanswered text;
BEGIN
    -- A question that the worker never answered, or that only somebody else's scheduler asked.
    SELECT string_agg(format('target %s: %s', t.name, CASE WHEN t.checked_at IS DISTINCT FROM t.check_requested_at THEN 'the worker did not read it' ELSE t.check_error END), '; ' ORDER BY t.name)
    INTO unanswered
    FROM zeroauth_audit_internal.anchor_targets t
    WHERE t.enabled AND t.check_requested_at < at - interval '1 hour' AND t.check_requested_at >= t.enabled_since
      AND (t.checked_at IS DISTINCT FROM t.check_requested_at
           OR t.check_error IS NOT NULL AND (SELECT r.run_by FROM zeroauth_audit_internal.job_runs r WHERE r.id = this_run) <> 'worker');
    UPDATE zeroauth_audit_internal.anchor_targets t SET check_requested_at = at WHERE t.enabled;
    INSERT INTO zeroauth_audit_internal.anchor_check_state AS s (run, phase, started_at, requested_at, failure)
    VALUES (this_run, 'batches', at, at, unanswered)
    ON CONFLICT ON CONSTRAINT anchor_check_state_pkey DO UPDATE
    SET run = excluded.run, requested_at = excluded.requested_at, failure = excluded.failure;
    -- A run that was interrupted goes on where it was, unless that is long ago.
    UPDATE zeroauth_audit_internal.anchor_check_state s
    SET phase = 'batches', started_at = at, target = '', batch = 0, tenant_id = '', epoch = -1, leaf = 0, frontier = ''
    WHERE s.phase NOT IN ('batches', 'tenants') OR s.started_at < at - interval '2 days';
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_check_begin(bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_check_begin(bigint) IS
    'Part of the job anchor_check: begins a run, and asks the worker to read the targets.';

CREATE FUNCTION zeroauth_audit_internal.anchor_check_batches(until timestamptz) RETURNS bigint
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
    SELECT s.started_at - interval '90 days', s.target, s.batch INTO since, at_target, at_batch FROM zeroauth_audit_internal.anchor_check_state s;
    LOOP
        SELECT b.target, b.epoch INTO at_target, at_batch FROM zeroauth_audit_internal.anchor_batches b
        WHERE (b.target, b.epoch) > (at_target, at_batch) AND b.state IN ('included', 'finalized') AND b.batch_time > since
        ORDER BY b.target, b.epoch LIMIT 1;
        IF NOT FOUND THEN
            UPDATE zeroauth_audit_internal.anchor_check_state SET phase = 'tenants';
            RETURN done;
        END IF;
        difference := zeroauth_audit_internal.anchor_batch_difference(at_target, at_batch);
        IF difference IS NULL THEN
            PERFORM zeroauth_audit_internal.anchor_gone('rows', '', at_target, at_batch);
        ELSE
            PERFORM zeroauth_audit_internal.anchor_find('anchor_mismatch', 'rows', '', at_target, at_batch, difference);
        END IF;
        done := done + 1;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    UPDATE zeroauth_audit_internal.anchor_check_state SET target = at_target, batch = at_batch;
    RETURN done;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_check_batches(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_check_batches(timestamptz) IS
    'Part of the job anchor_check: one step of the first phase, through the batches of the last 90 days.';

CREATE FUNCTION zeroauth_audit_internal.anchor_check_tenants(until timestamptz) RETURNS jsonb
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
    is_gone boolean;
    finding record;
    anchored CONSTANT bigint := coalesce((
        SELECT max(b.size) FROM zeroauth_audit_internal.anchor_batches b
        WHERE b.state IN ('included', 'finalized')
          AND b.origin = (SELECT split_part(r.note, chr(10), 1) FROM zeroauth_audit_internal.registry_runs r ORDER BY r.number DESC LIMIT 1)), 0);
BEGIN
    SELECT s.started_at, s.tenant_id, s.epoch, s.leaf, s.frontier INTO pass, at_tenant, at_epoch, at_leaf, kept FROM zeroauth_audit_internal.anchor_check_state s;
    LOOP
        is_gone := false;
        IF at_leaf = 0 THEN
            SELECT l.epoch INTO at_epoch FROM zeroauth_audit_internal.logs l WHERE l.tenant_id = at_tenant AND l.epoch > at_epoch ORDER BY l.epoch LIMIT 1;
            IF NOT FOUND THEN
                SELECT e.tenant_id INTO at_tenant FROM zeroauth_audit_internal.registry_entries e WHERE e.tenant_id > at_tenant ORDER BY e.tenant_id LIMIT 1;
                IF NOT FOUND THEN
                    FOR finding IN SELECT f.source, f.tenant_id, f.target, f.batch FROM zeroauth_audit_internal.anchor_findings f
                        WHERE f.source IN ('events', 'rows') AND f.last_seen_at < pass
                           OR f.source = 'target' AND EXISTS (SELECT 1 FROM zeroauth_audit_internal.anchor_batches b WHERE b.target = f.target AND b.epoch = f.batch AND b.batch_time < pass - interval '90 days')
                    LOOP
                        PERFORM zeroauth_audit_internal.anchor_gone(finding.source, finding.tenant_id, finding.target, finding.batch);
                    END LOOP;
                    UPDATE zeroauth_audit_internal.anchor_check_state SET phase = 'answers';
                    RETURN jsonb_build_object('logs', logs, 'compared', compared);
                END IF;
                -- The log that was anchored last.
                SELECT NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.logs l WHERE l.tenant_id = at_tenant AND l.epoch = e.epoch) INTO is_gone
                FROM zeroauth_audit_internal.registry_entries e WHERE e.tenant_id = at_tenant AND e.entry < anchored ORDER BY e.entry DESC LIMIT 1;
                at_epoch := coalesce((SELECT min(l.epoch) FROM zeroauth_audit_internal.logs l WHERE l.tenant_id = at_tenant), -1);
            END IF;
        END IF;
        IF is_gone THEN
            PERFORM zeroauth_audit_internal.anchor_find('tenant_missing', 'events', at_tenant, '', 0, 'its log was anchored, and is gone');
        END IF;
        IF at_epoch < 0 THEN
            result := jsonb_build_object('done', true);
        ELSE
            result := zeroauth_audit_internal.anchor_recompute(at_tenant, at_epoch, at_leaf, kept, pass - interval '90 days',
                greatest(extract(milliseconds FROM until - clock_timestamp())::integer, 1));
            compared := compared + (result ->> 'compared')::bigint;
            IF result ->> 'difference' IS NOT NULL THEN
                PERFORM zeroauth_audit_internal.anchor_find('anchor_mismatch', 'events', at_tenant, '', 0, result ->> 'difference');
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
    UPDATE zeroauth_audit_internal.anchor_check_state SET tenant_id = at_tenant, epoch = at_epoch, leaf = at_leaf, frontier = kept;
    RETURN jsonb_build_object('logs', logs, 'compared', compared);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_check_tenants(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_check_tenants(timestamptz) IS
    'Part of the job anchor_check: one step of the second phase, through the events of every log that was anchored.';

CREATE FUNCTION zeroauth_audit_internal.anchor_check_answers(this_run bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s zeroauth_audit_internal.anchor_check_state := (SELECT t FROM zeroauth_audit_internal.anchor_check_state t);
    failed text := s.failure;
    more text;
BEGIN
    -- Only the worker can answer, and only what was committed: a run in a session leaves the answers to the next.
    IF (SELECT r.run_by FROM zeroauth_audit_internal.job_runs r WHERE r.id = this_run) = 'worker' THEN
        IF EXISTS (SELECT 1 FROM zeroauth_audit_internal.anchor_targets t WHERE t.enabled AND t.check_requested_at = s.requested_at AND t.checked_at IS DISTINCT FROM t.check_requested_at) THEN
            RETURN true;
        END IF;
        SELECT string_agg(format('target %s: %s', t.name, t.check_error), '; ' ORDER BY t.name) INTO more
        FROM zeroauth_audit_internal.anchor_targets t WHERE t.enabled AND t.check_requested_at = s.requested_at AND t.check_error IS NOT NULL;
        failed := concat_ws('; ', failed, more);
    END IF;
    failed := nullif(failed, '');
    UPDATE zeroauth_audit_internal.anchor_check_state
    SET phase = CASE WHEN failed IS NULL THEN 'idle' ELSE 'failing' END, failure = failed, finished_at = clock_timestamp();
    RETURN failed IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_check_answers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_check_answers(bigint) IS
    'Part of the job anchor_check: whether it has to go on, for answers that are not there or because of those that could not be had.';

CREATE FUNCTION zeroauth_audit_internal.job_anchor_check() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '100 milliseconds';
    cpu double precision := zeroauth_audit_internal.process_cpu();
    began timestamptz := clock_timestamp();
    s zeroauth_audit_internal.anchor_check_state;
    this_run bigint;
    done jsonb := '{}';
    more boolean := true;
    pause double precision := 0;
BEGIN
    SELECT t.* INTO s FROM zeroauth_audit_internal.anchor_check_state t FOR UPDATE;
    SELECT coalesce(max(r.id), 0) INTO this_run FROM zeroauth_audit_internal.job_runs r WHERE r.job = 'anchor_check' AND r.status = 'running';
    IF s.run IS DISTINCT FROM this_run OR s.phase = 'idle' THEN
        PERFORM zeroauth_audit_internal.anchor_check_begin(this_run);
    ELSIF s.phase = 'batches' THEN
        done := jsonb_build_object('batches', zeroauth_audit_internal.anchor_check_batches(until));
    ELSIF s.phase = 'tenants' THEN
        done := zeroauth_audit_internal.anchor_check_tenants(until);
    ELSIF s.phase = 'answers' THEN
        more := zeroauth_audit_internal.anchor_check_answers(this_run);
        pause := CASE WHEN more THEN 500 ELSE 0 END;
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'ZA062', MESSAGE = format('could not check every anchor: %s', s.failure),
            HINT = 'Everything else was checked. Look whether the target can be reached, and whether the worker runs.';
    END IF;
    pause := greatest(pause, (zeroauth_audit_internal.process_cpu() - cpu) * 100 / current_setting('zeroauth_audit.replay_load')::integer - extract(epoch FROM clock_timestamp() - began) * 1000);
    RETURN jsonb_build_object('more', more, 'pause_ms', greatest(ceil(pause), 0)::bigint, 'done', done);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_anchor_check() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_anchor_check() IS
    'The job anchor_check, one step of it: compares what was anchored in the last 90 days with the registry, the registry with the events themselves, and both with what the targets have, which the worker reads. A difference is an alert of severity 1. ZA062 when a target could not be read.';

CREATE FUNCTION zeroauth_audit_internal.health_anchors() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    targets record;
    tenants record;
    findings bigint := (SELECT count(*) FROM zeroauth_audit_internal.anchor_findings);
    planned boolean := coalesce((SELECT j.enabled FROM zeroauth_audit_internal.jobs j WHERE j.name = 'anchor'), false);
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
    FROM zeroauth_audit_internal.anchor_targets t
    LEFT JOIN LATERAL (
        SELECT b.epoch, b.state, b.included_at FROM zeroauth_audit_internal.anchor_batches b
        WHERE b.target = t.name AND b.state IN ('included', 'finalized') ORDER BY b.epoch DESC LIMIT 1) l ON true
    LEFT JOIN LATERAL (
        SELECT count(*) AS batches, min(b.next_at) AS next_at, min(b.first_failed_at) AS failing_since, max(b.last_error) FILTER (WHERE b.first_failed_at IS NOT NULL) AS last_error,
            bool_or(b.paged_at IS NOT NULL) AS paged
        FROM zeroauth_audit_internal.anchor_batches b WHERE b.target = t.name AND b.next_at IS NOT NULL) o ON true;
    SELECT count(*) FILTER (WHERE s.state = 'anchor-late') AS late, count(*) FILTER (WHERE s.state = 'anchor-degraded') AS degraded INTO tenants
    FROM zeroauth_audit_internal.tenant_status s WHERE s.state IN ('anchor-late', 'anchor-degraded');
    IF planned AND NOT pg_is_in_recovery() THEN
        -- Who may not see the setting sees what comes of it: the job checkpoint notes the key every few minutes.
        IF EXISTS (SELECT 1 FROM zeroauth_audit_internal.logs l WHERE l.tree_size > 0)
           AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.keys k WHERE k.last_used > clock_timestamp() - interval '2 hours') THEN
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
        'next_run', (SELECT j.next_run FROM zeroauth_audit_internal.jobs j WHERE j.name = 'anchor'));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_anchors() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_anchors() IS
    'Part of audit_health(): each target with its last anchor and what is on its way. Failing: anchor_degraded, anchor_mismatch, anchor_failing:TARGET when a person was called. Degraded: anchor_failing:TARGET before that, anchor_late, anchors_not_signed, anchors_off, anchor_target_disabled:TARGET (a dump brought it). Nothing while the job anchor is disabled.';

INSERT INTO zeroauth_audit_internal.jobs (name, schedule, time_zone, timeout) VALUES ('anchor_check', '45 1 * * *', 'Asia/Kolkata', '12 hours');
