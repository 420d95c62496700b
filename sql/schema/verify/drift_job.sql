-- The job drift: what it reads, and its steps.

-- The order of the primary key without a sort, which would read a whole chain for the first row.
CREATE FUNCTION zeroauth_audit_internal.replay_tenants(after text, after_chain smallint, upto text, n bigint, logs boolean, milliseconds integer) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_replay_tenants';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.replay_tenants(text, smallint, text, bigint, boolean, integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.replay_tenants(text, smallint, text, bigint, boolean, integer) IS
    'Part of the job drift: recomputes the newest n events of the tenants behind a place, up to a tenant (NULL: to the last), for so many milliseconds but at least of one tenant, and compares watermarks and, unless told not to, what was sealed. Returns how far it came, the ends of the chains, and what is wrong. Changes nothing.';

CREATE FUNCTION zeroauth_audit_internal.replay_chain(tenant text, chain smallint, after bigint, upto bigint, stop_at text, most bigint, milliseconds integer) RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_replay_chain';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.replay_chain(text, smallint, bigint, bigint, text, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.replay_chain(text, smallint, bigint, bigint, text, bigint, integer) IS
    'Part of the job drift: recomputes the events of one chain behind a seq, up to another, at most so many, for so many milliseconds, or until a finding of one class (NULL: of none). Returns how far it came, and what is wrong. Changes nothing.';

CREATE FUNCTION zeroauth_audit_internal.process_cpu() RETURNS double precision
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_process_cpu';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.process_cpu() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.process_cpu() IS
    'Milliseconds of processor time that this process has used: what the job drift paces itself by.';

CREATE FUNCTION zeroauth_audit_internal.drift_begin(this_run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nameless bigint;
BEGIN
    -- A run that was interrupted goes on behind the last tenant that was done, and comes round to it.
    UPDATE zeroauth_audit_internal.drift_state s
    SET run = this_run, phase = 'recent', started_at = clock_timestamp(), resumed = s.phase = 'recent' AND s.recent_tenant <> '',
        recent_tenant = CASE WHEN s.phase = 'recent' THEN s.recent_tenant ELSE '' END,
        recent_chain = CASE WHEN s.phase = 'recent' THEN s.recent_chain END,
        recent_stop = CASE WHEN s.phase = 'recent' THEN s.recent_tenant ELSE '' END,
        recent_wrapped = false, one_by_one = false, tenants_done = 0, events_done = 0, history_left = NULL, confirm_block = 0, errors = 0, first_error = NULL,
        tenants_total = (SELECT count(*) FROM zeroauth_audit_internal.tenants t WHERE t.last_seen IS NOT NULL);
    -- What the owner resolved by hand, because no check can ever find it gone, is settled.
    DELETE FROM zeroauth_audit_internal.drift_findings d
    WHERE d.source = 'memory' AND d.alerted_at IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.fingerprint = zeroauth_audit_internal.drift_fingerprint(d.kind, d.tenant_id, d.chain) AND a.state <> 'resolved');
    -- Only in a table that was changed; no tenant's replay comes past such rows.
    SELECT count(*) INTO nameless FROM (SELECT 1 FROM @extschema@.audit_events e WHERE e.tenant_id IS NULL LIMIT 1000) n;
    IF nameless > 0 THEN
        PERFORM zeroauth_audit_internal.drift_note(jsonb_build_object('tenant', '', 'kind', 'content_mismatch', 'chain', -1, 'source', 'replay', 'count', nameless,
            'first_seq', 0, 'last_seq', 0, 'expected', '[]'::jsonb, 'places', jsonb_build_array(jsonb_build_object('detail', 'tenant_id is null'))));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_begin(bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_begin(bigint) IS
    'Part of the job drift: begins a run.';

CREATE FUNCTION zeroauth_audit_internal.drift_keep(replayed jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now timestamptz := clock_timestamp();
    own uuid := (SELECT s.trail FROM zeroauth_audit_internal.drift_state s);
    seen text[] := ARRAY(SELECT DISTINCT c.tenant FROM jsonb_to_recordset(replayed -> 'chains') c (tenant text));
    -- Until a suspicion is confirmed, what contradicts it must not be forgotten.
    kept text[] := ARRAY(SELECT c.chain || ':' || c.tenant FROM jsonb_to_recordset(replayed -> 'chains') c (tenant text, chain smallint, keep boolean) WHERE c.keep);
    finding jsonb;
BEGIN
    INSERT INTO zeroauth_audit_internal.watermarks AS w (tenant_id, chain, trail, head_seq, head_hash, verified_at, verified_from)
    SELECT c.tenant, c.chain, own, c.seq, decode(c.hash, 'hex'), now, c."from"
    FROM jsonb_to_recordset(replayed -> 'chains') c (tenant text, chain smallint, seq bigint, hash text, "from" bigint)
    ON CONFLICT (tenant_id, chain, trail) DO UPDATE
        SET head_seq = excluded.head_seq, head_hash = excluded.head_hash, verified_at = excluded.verified_at, verified_from = excluded.verified_from
        WHERE NOT excluded.chain || ':' || excluded.tenant_id = ANY (kept);
    UPDATE zeroauth_audit_internal.tenants t SET first_seen = coalesce(t.first_seen, now), last_seen = now, checked_at = now, check_error = NULL
    WHERE t.tenant_id = ANY (seen);
    IF EXISTS (SELECT 1 FROM unnest(seen) n (tenant) WHERE NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.tenants t WHERE t.tenant_id = n.tenant)) THEN
        INSERT INTO zeroauth_audit_internal.tenants (tenant_id, first_seen, last_seen, checked_at)
        SELECT n.tenant, now, now, now FROM unnest(seen) n (tenant) WHERE NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.tenants t WHERE t.tenant_id = n.tenant);
    END IF;
    DELETE FROM zeroauth_audit_internal.watermarks w
    USING jsonb_to_recordset(replayed -> 'confirmed') c (tenant text, chain smallint, trail uuid)
    WHERE w.tenant_id = c.tenant AND w.chain = c.chain AND w.trail = c.trail;
    FOR finding IN SELECT f.value FROM jsonb_array_elements(replayed -> 'findings') f LOOP
        PERFORM zeroauth_audit_internal.drift_note(finding);
    END LOOP;
    PERFORM zeroauth_audit_internal.drift_gone(d.tenant_id, d.kind, d.chain, d.source, d.trail) FROM zeroauth_audit_internal.drift_findings d
    WHERE d.source = 'log' AND d.last_seen_at < now AND d.tenant_id IN (SELECT jsonb_array_elements_text(replayed -> 'compared'));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_keep(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_keep(jsonb) IS
    'Part of the job drift: moves watermarks to what replay_tenants() saw, notes its findings, and forgets what the log no longer says.';

CREATE FUNCTION zeroauth_audit_internal.drift_recent(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s zeroauth_audit_internal.drift_state := (SELECT t FROM zeroauth_audit_internal.drift_state t);
    upto text := CASE WHEN s.recent_wrapped THEN s.recent_stop END;
    n bigint := current_setting('zeroauth_audit.drift_rows')::bigint;
    replayed jsonb;
    reason text;
    next text := s.recent_tenant;
BEGIN
    BEGIN
        replayed := zeroauth_audit_internal.replay_tenants(s.recent_tenant, s.recent_chain, upto, n, true, CASE WHEN s.one_by_one THEN 0 ELSE milliseconds END);
    EXCEPTION WHEN data_corrupted OR index_corrupted OR internal_error OR io_error OR program_limit_exceeded OR out_of_memory THEN
        -- One tenant that cannot be read must not keep the others from being checked.
        IF NOT s.one_by_one THEN
            UPDATE zeroauth_audit_internal.drift_state SET one_by_one = true;
            RETURN '{}';
        END IF;
        reason := SQLSTATE || ' ' || SQLERRM;
        BEGIN
            -- Nor must its log keep its events from being checked.
            replayed := zeroauth_audit_internal.replay_tenants(s.recent_tenant, s.recent_chain, upto, n, false, 0);
        EXCEPTION WHEN data_corrupted OR index_corrupted OR internal_error OR io_error OR program_limit_exceeded OR out_of_memory THEN
            IF s.recent_chain IS NULL THEN
                SELECT least((SELECT e.tenant_id FROM @extschema@.audit_events e WHERE e.tenant_id > s.recent_tenant ORDER BY e.tenant_id LIMIT 1),
                             (SELECT w.tenant_id FROM zeroauth_audit_internal.watermarks w WHERE w.tenant_id > s.recent_tenant ORDER BY w.tenant_id LIMIT 1),
                             (SELECT l.tenant_id FROM zeroauth_audit_internal.logs l WHERE l.tenant_id > s.recent_tenant AND l.tree_size > 0 ORDER BY l.tenant_id LIMIT 1)) INTO next;
            END IF;
            IF next IS NULL THEN
                RAISE;
            END IF;
            PERFORM zeroauth_audit_internal.drift_could_not(next, reason);
            UPDATE zeroauth_audit_internal.drift_state SET one_by_one = false, recent_tenant = next, recent_chain = NULL;
            RETURN '{}';
        END;
    END;
    PERFORM zeroauth_audit_internal.drift_keep(replayed);
    IF reason IS NOT NULL THEN
        PERFORM zeroauth_audit_internal.drift_could_not(replayed #>> '{place,tenant}', 'what was sealed: ' || reason);
    END IF;
    UPDATE zeroauth_audit_internal.drift_state t
    SET recent_tenant = replayed #>> '{place,tenant}', recent_chain = (replayed #>> '{place,chain}')::smallint, one_by_one = false,
        tenants_done = t.tenants_done + (replayed ->> 'tenants')::bigint, events_done = t.events_done + (replayed ->> 'events')::bigint,
        tenants_total = greatest(t.tenants_total, t.tenants_done + (replayed ->> 'tenants')::bigint);
    IF (replayed ->> 'end')::boolean THEN
        IF s.recent_stop <> '' AND NOT s.recent_wrapped THEN
            UPDATE zeroauth_audit_internal.drift_state SET recent_wrapped = true, recent_tenant = '', recent_chain = NULL;
        ELSE
            -- What may be missing is looked into before the long part of the run.
            UPDATE zeroauth_audit_internal.drift_state
            SET phase = CASE WHEN EXISTS (SELECT 1 FROM zeroauth_audit_internal.drift_findings d WHERE d.suspected) THEN 'confirm' ELSE 'history' END;
        END IF;
    END IF;
    RETURN jsonb_build_object('tenants', replayed -> 'tenants', 'events', replayed -> 'events');
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_recent(integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_recent(integer) IS
    'Part of the job drift: one step of the first phase, over the newest events of the next tenants.';

CREATE FUNCTION zeroauth_audit_internal.drift_budget(total bigint, done bigint, pass_started_at timestamptz, at timestamptz) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH given AS (
        -- A pass takes nine tenths of the period, so that no event is older than that when it is recomputed again.
        SELECT 0.9 * extract(epoch FROM current_setting('zeroauth_audit.full_replay_period')::interval) AS period,
            greatest(coalesce((SELECT extract(epoch FROM zeroauth_audit_internal.schedule_next(j.schedule, j.time_zone, drift_budget.at) - drift_budget.at) FROM zeroauth_audit_internal.jobs j WHERE j.name = 'drift'), 3600), 1) AS gap
    ), times AS (
        SELECT g.period, g.gap, g.period - extract(epoch FROM drift_budget.at - drift_budget.pass_started_at) AS time_left FROM given g
    ), most AS (
        -- What is behind is caught up with at four times the normal pace, not at once.
        SELECT t.*, greatest(100000, ceil(4 * drift_budget.total * t.gap / t.period)) AS most FROM times t
    )
    SELECT CASE WHEN m.time_left <= m.gap THEN m.most
                ELSE least(m.most, ceil(greatest(drift_budget.total - drift_budget.done, 1) * m.gap / m.time_left)) END::bigint
    FROM most m
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_budget(bigint, bigint, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_budget(bigint, bigint, timestamptz, timestamptz) IS
    'Part of the job drift: how many events of the history a run takes, given how many there are, how many of this pass are done, when the pass began, and the time.';

CREATE FUNCTION zeroauth_audit_internal.drift_history_chain(w zeroauth_audit_internal.watermarks, this_pass bigint, upto bigint, most bigint, milliseconds integer) RETURNS jsonb
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
        replayed := zeroauth_audit_internal.replay_chain(w.tenant_id, w.chain, after, upto, NULL, most, milliseconds);
        FOR finding IN SELECT f.value FROM jsonb_array_elements(replayed -> 'findings') f LOOP
            PERFORM zeroauth_audit_internal.drift_note(finding);
        END LOOP;
        -- The event that the last step ended with is the same, or the chain was written anew meanwhile.
        IF begun AND w.replayed_hash IS NOT NULL AND (replayed #>> '{before,seq}')::bigint = w.replayed_seq
           AND replayed #>> '{before,hash}' <> encode(w.replayed_hash, 'hex') THEN
            PERFORM zeroauth_audit_internal.drift_note(jsonb_build_object('tenant', w.tenant_id, 'kind', 'content_mismatch', 'chain', w.chain, 'source', 'memory', 'count', 1,
                'first_seq', w.replayed_seq, 'last_seq', w.replayed_seq,
                'expected', jsonb_build_array(jsonb_build_object('chain', w.chain, 'seq', w.replayed_seq, 'hash', encode(w.replayed_hash, 'hex'))),
                'places', jsonb_build_array(jsonb_build_object('seq', w.replayed_seq, 'expected', encode(w.replayed_hash, 'hex'), 'actual', replayed #>> '{before,hash}',
                    'detail', 'the event here was another one when it was last verified: the chain was written anew'))));
        END IF;
    END IF;
    ended := (replayed ->> 'complete')::boolean;
    UPDATE zeroauth_audit_internal.watermarks t
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
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_history_chain(zeroauth_audit_internal.watermarks, bigint, bigint, bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_history_chain(zeroauth_audit_internal.watermarks, bigint, bigint, bigint, integer) IS
    'Part of the job drift: goes on with the history of one chain in a pass, up to a seq, with at most so many events.';

CREATE FUNCTION zeroauth_audit_internal.drift_history(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz := clock_timestamp() + milliseconds * interval '1 millisecond';
    s zeroauth_audit_internal.drift_state := (SELECT t FROM zeroauth_audit_internal.drift_state t);
    w zeroauth_audit_internal.watermarks;
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
        SELECT coalesce(sum(least(m.head_seq, 1000000000000)), 0) INTO total FROM zeroauth_audit_internal.watermarks m WHERE m.trail = s.trail;
        left_over := zeroauth_audit_internal.drift_budget(total, done, pass_started, clock_timestamp());
    END IF;
    LOOP
        IF left_over <= 0 THEN
            next_phase := 'recheck';
            EXIT;
        END IF;
        SELECT m.* INTO w FROM zeroauth_audit_internal.watermarks m
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
        part := zeroauth_audit_internal.drift_history_chain(w, this_pass, CASE WHEN w.verified_at >= s.started_at THEN least(w.verified_from, w.head_seq) ELSE w.head_seq END,
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
    UPDATE zeroauth_audit_internal.drift_state t
    SET phase = next_phase, pass = this_pass, pass_started_at = pass_started, pass_ended_at = CASE WHEN pass_started IS NULL THEN clock_timestamp() ELSE t.pass_ended_at END,
        pass_total = total, pass_done = done, pass_tenant = at_tenant, pass_chain = at_chain, history_left = left_over, events_done = t.events_done + events;
    RETURN jsonb_build_object('history_events', events);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_history(integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_history(integer) IS
    'Part of the job drift: one step of the second phase, through all history, as much of it as is due.';

CREATE FUNCTION zeroauth_audit_internal.drift_recheck(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz := clock_timestamp() + milliseconds * interval '1 millisecond';
    s zeroauth_audit_internal.drift_state := (SELECT t FROM zeroauth_audit_internal.drift_state t);
    f zeroauth_audit_internal.drift_findings;
    replayed jsonb;
    gone boolean;
    resolved bigint := 0;
BEGIN
    LOOP
        SELECT d.* INTO f FROM zeroauth_audit_internal.drift_findings d
        WHERE d.checked_run IS DISTINCT FROM s.run AND d.alerted_at IS NOT NULL AND d.last_seen_at < s.started_at
          AND (d.source = 'replay' OR d.source = 'memory' AND d.trail = s.trail)
        ORDER BY d.tenant_id, d.kind, d.chain, d.source, d.trail LIMIT 1;
        IF NOT FOUND THEN
            UPDATE zeroauth_audit_internal.drift_state SET phase = 'confirm';
            EXIT;
        END IF;
        replayed := NULL;
        IF f.source = 'memory' THEN
            SELECT coalesce(bool_and(EXISTS (
                SELECT 1 FROM @extschema@.audit_events e
                WHERE e.tenant_id = f.tenant_id AND e.chain = x.chain AND e.seq = x.seq AND e.event_hash = decode(x.hash, 'hex'))), false)
            INTO gone FROM jsonb_to_recordset(f.expected) x (chain smallint, seq bigint, hash text);
        ELSIF f.tenant_id = '' THEN
            gone := NOT EXISTS (SELECT 1 FROM @extschema@.audit_events e WHERE e.tenant_id IS NULL);
        ELSE
            replayed := zeroauth_audit_internal.replay_chain(f.tenant_id, f.chain, coalesce(f.checked_seq, greatest(f.first_seq, 1) - 1), least(f.last_seq, 9223372036854775806) + 1, f.kind, 9223372036854775807,
                greatest(extract(milliseconds FROM until - clock_timestamp())::integer, 1));
            IF EXISTS (SELECT 1 FROM jsonb_array_elements(replayed -> 'findings') r WHERE r.value ->> 'kind' = f.kind) THEN
                gone := false;
            ELSIF (replayed ->> 'complete')::boolean THEN
                -- Where the events are not there any more, nothing is proven.
                gone := f.chain < 0 OR coalesce((replayed #>> '{last,seq}')::bigint, f.checked_seq, 0) >= f.last_seq;
            ELSE
                UPDATE zeroauth_audit_internal.drift_findings d SET checked_seq = coalesce((replayed #>> '{last,seq}')::bigint, f.checked_seq)
                WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail);
                EXIT;
            END IF;
        END IF;
        IF gone THEN
            PERFORM zeroauth_audit_internal.drift_gone(f.tenant_id, f.kind, f.chain, f.source, f.trail);
            resolved := resolved + 1;
        ELSE
            UPDATE zeroauth_audit_internal.drift_findings d SET checked_run = s.run, checked_seq = NULL, last_seen_at = clock_timestamp()
            WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail);
            PERFORM zeroauth_audit_internal.drift_alert(f.tenant_id, f.kind, f.chain, f.source, f.trail);
        END IF;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    RETURN jsonb_build_object('findings_gone', resolved);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_recheck(integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_recheck(integer) IS
    'Part of the job drift: one step of the third phase: earlier findings that this run has not come past are looked at again, and forgotten when they are gone.';

CREATE FUNCTION zeroauth_audit_internal.drift_in_index(tenant text, chain smallint, first_seq bigint, last_seq bigint) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off SET jit = off
AS $$
    SELECT EXISTS (
        SELECT 1 FROM @extschema@.audit_events e
        WHERE e.tenant_id = drift_in_index.tenant AND (drift_in_index.chain < 0 OR e.chain = drift_in_index.chain)
          AND e.seq BETWEEN drift_in_index.first_seq AND drift_in_index.last_seq)
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_in_index(text, smallint, bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_in_index(text, smallint, bigint, bigint) IS
    'Part of the job drift: whether the primary key shows an event at one of these places.';

CREATE FUNCTION zeroauth_audit_internal.drift_search(first_block bigint, last_block bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET enable_indexscan = off SET enable_indexonlyscan = off SET enable_bitmapscan = off SET enable_nestloop = off SET jit = off
AS $$
BEGIN
    -- Two statements, each of which reads the blocks once, however many suspicions there are.
    UPDATE zeroauth_audit_internal.drift_findings d SET seen_in_table = true
    WHERE d.suspected AND NOT d.seen_in_table AND d.chain >= 0 AND EXISTS (
        SELECT 1 FROM @extschema@.audit_events e
        WHERE e.ctid >= format('(%s,0)', first_block)::tid AND e.ctid < format('(%s,0)', last_block)::tid
          AND e.tenant_id = d.tenant_id AND e.chain = d.chain AND e.seq BETWEEN d.absent_from AND d.absent_to);
    UPDATE zeroauth_audit_internal.drift_findings d SET seen_in_table = true
    WHERE d.suspected AND NOT d.seen_in_table AND d.chain < 0 AND EXISTS (
        SELECT 1 FROM @extschema@.audit_events e
        WHERE e.ctid >= format('(%s,0)', first_block)::tid AND e.ctid < format('(%s,0)', last_block)::tid
          AND e.tenant_id = d.tenant_id AND e.seq BETWEEN d.absent_from AND d.absent_to);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_search(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_search(bigint, bigint) IS
    'Part of the job drift: searches these blocks of the table, whatever its indexes say, for events that are suspected to be missing.';

CREATE FUNCTION zeroauth_audit_internal.drift_settle(f zeroauth_audit_internal.drift_findings) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF f.seen_in_table THEN
        -- It is there. Whoever put it back meanwhile did so in the index, too; otherwise the index is damaged.
        IF NOT zeroauth_audit_internal.drift_in_index(f.tenant_id, f.chain, f.absent_from, f.absent_to) THEN
            PERFORM zeroauth_audit_internal.drift_could_not(f.tenant_id, 'audit_events and its primary key do not show the same rows');
        END IF;
        DELETE FROM zeroauth_audit_internal.drift_findings d
        WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail) AND d.alerted_at IS NULL;
        UPDATE zeroauth_audit_internal.drift_findings d SET suspected = false
        WHERE (d.tenant_id, d.kind, d.chain, d.source, d.trail) = (f.tenant_id, f.kind, f.chain, f.source, f.trail);
        RETURN;
    END IF;
    PERFORM zeroauth_audit_internal.drift_alert(f.tenant_id, f.kind, f.chain, f.source, f.trail);
    IF f.source = 'memory' THEN
        -- The finding remembers what was there; the watermark goes on from what is there now.
        UPDATE zeroauth_audit_internal.watermarks w
        SET head_seq = e.seq, head_hash = e.event_hash, verified_from = least(w.verified_from, e.seq), whole_seq = least(w.whole_seq, e.seq),
            replayed_seq = least(w.replayed_seq, e.seq), replayed_hash = CASE WHEN w.replayed_seq <= e.seq THEN w.replayed_hash END
        FROM (SELECT n.seq, n.event_hash FROM @extschema@.audit_events n WHERE n.tenant_id = f.tenant_id AND n.chain = f.chain ORDER BY n.seq DESC LIMIT 1) e
        WHERE w.tenant_id = f.tenant_id AND w.chain = f.chain AND w.trail = f.trail;
        IF NOT FOUND THEN
            DELETE FROM zeroauth_audit_internal.watermarks w WHERE w.tenant_id = f.tenant_id AND (f.chain < 0 OR w.chain = f.chain) AND w.trail = f.trail;
        END IF;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_settle(zeroauth_audit_internal.drift_findings) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_settle(zeroauth_audit_internal.drift_findings) IS
    'Part of the job drift: raises the alert of a suspicion after the search, or drops it.';

CREATE FUNCTION zeroauth_audit_internal.drift_confirm(milliseconds integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    until timestamptz := clock_timestamp() + milliseconds * interval '1 millisecond';
    block bigint := (SELECT s.confirm_block FROM zeroauth_audit_internal.drift_state s);
    blocks bigint;
    f zeroauth_audit_internal.drift_findings;
    settled bigint := 0;
BEGIN
    IF EXISTS (SELECT 1 FROM zeroauth_audit_internal.drift_findings d WHERE d.suspected) THEN
        LOOP
            blocks := pg_relation_size('@extschema@.audit_events'::regclass) / current_setting('block_size')::bigint;
            EXIT WHEN block >= blocks;
            PERFORM zeroauth_audit_internal.drift_search(block, block + 1024);
            block := block + 1024;
            UPDATE zeroauth_audit_internal.drift_state SET confirm_block = block;
            IF clock_timestamp() >= until THEN
                RETURN '{}';
            END IF;
        END LOOP;
        FOR f IN SELECT d.* FROM zeroauth_audit_internal.drift_findings d WHERE d.suspected ORDER BY d.tenant_id, d.chain, d.kind LIMIT 100 LOOP
            PERFORM zeroauth_audit_internal.drift_settle(f);
            settled := settled + 1;
        END LOOP;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.drift_findings d WHERE d.suspected) THEN
        UPDATE zeroauth_audit_internal.drift_state s
        SET confirm_block = 0,
            phase = CASE WHEN s.history_left IS NULL THEN 'history' WHEN s.errors > 0 THEN 'failing' ELSE 'idle' END,
            finished_at = CASE WHEN s.history_left IS NULL OR s.errors > 0 THEN s.finished_at ELSE clock_timestamp() END;
    END IF;
    RETURN jsonb_build_object('confirmed', settled);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_confirm(integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_confirm(integer) IS
    'Part of the job drift: one step of the phase after the first and of the last: before an alert says that events are missing, the table itself is searched for them.';

CREATE FUNCTION zeroauth_audit_internal.job_drift() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    step_ms CONSTANT integer := 100;
    cpu double precision := zeroauth_audit_internal.process_cpu();
    began timestamptz := clock_timestamp();
    s zeroauth_audit_internal.drift_state;
    this_run bigint;
    done jsonb := '{}';
    pause double precision;
BEGIN
    SELECT t.* INTO STRICT s FROM zeroauth_audit_internal.drift_state t FOR UPDATE;
    SELECT coalesce(max(r.id), 0) INTO this_run FROM zeroauth_audit_internal.job_runs r WHERE r.job = 'drift' AND r.status = 'running';
    IF s.phase = 'idle' OR s.run IS DISTINCT FROM this_run THEN
        PERFORM zeroauth_audit_internal.drift_begin(this_run);
    ELSIF s.phase = 'recent' THEN
        done := zeroauth_audit_internal.drift_recent(step_ms);
    ELSIF s.phase = 'history' THEN
        done := zeroauth_audit_internal.drift_history(step_ms);
    ELSIF s.phase = 'recheck' THEN
        done := zeroauth_audit_internal.drift_recheck(step_ms);
    ELSIF s.phase = 'confirm' THEN
        done := zeroauth_audit_internal.drift_confirm(step_ms);
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'ZA006', MESSAGE = format('could not check %s: %s', CASE WHEN s.errors = 1 THEN 'one place' ELSE s.errors || ' places' END, s.first_error),
            HINT = 'Everything else was checked. Check table and indexes with amcheck, and look into the server log.';
    END IF;
    -- A suspicion is looked into at once, at full speed.
    pause := CASE WHEN s.phase = 'confirm' THEN 0
                  ELSE (zeroauth_audit_internal.process_cpu() - cpu) * 100 / current_setting('zeroauth_audit.replay_load')::integer - extract(epoch FROM clock_timestamp() - began) * 1000 END;
    RETURN jsonb_build_object('more', (SELECT t.phase <> 'idle' FROM zeroauth_audit_internal.drift_state t), 'pause_ms', greatest(ceil(pause), 0)::bigint, 'done', done);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_drift() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_drift() IS
    'The job drift, one step of it: recomputes the newest events of every tenant and the next part of all history, compares watermarks and what was sealed, raises alerts and resolves them. ZA006 when something could not be checked.';

INSERT INTO zeroauth_audit_internal.jobs (name, schedule, timeout) VALUES ('drift', '7 * * * *', '6 hours');
