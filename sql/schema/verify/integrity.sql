-- What people ask: what is being verified, and whether a tenant's trail is what it was.

CREATE FUNCTION @extschema@.audit_progress() RETURNS TABLE (
    pid integer, what text, tenant_id text, done bigint, total bigint, percent numeric, started_at timestamptz)
    LANGUAGE sql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER ROWS 3
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.pid, r.what, r.tenant_id, r.done, r.total,
        CASE WHEN r.total > 0 THEN least(100, pg_catalog.round(100.0 * r.done / r.total, 1)) END, r.started_at
    FROM (
        SELECT 1 AS place, slot.pid, 'verification' AS what, slot.tenant_id, slot.events_done AS done, slot.events_total AS total, slot.started_at
        FROM zeroauth_audit_internal.progress_slots() slot
        UNION ALL
        SELECT 2, NULL, CASE s.phase WHEN 'recent' THEN 'drift: newest events of tenants' WHEN 'history' THEN 'drift: a part of the history'
                                     WHEN 'failing' THEN 'drift: something could not be checked' ELSE 'drift: earlier findings' END, NULL,
            CASE WHEN s.phase = 'recent' THEN s.tenants_done END, CASE WHEN s.phase = 'recent' THEN s.tenants_total END, s.started_at
        FROM zeroauth_audit_internal.drift_state s WHERE s.phase <> 'idle'
        UNION ALL
        SELECT 3, NULL, 'drift: all history', NULL, s.pass_done, s.pass_total, s.pass_started_at
        FROM zeroauth_audit_internal.drift_state s WHERE s.pass_started_at IS NOT NULL
    ) r ORDER BY r.place, r.started_at, r.pid;
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_progress() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_progress() IS
    'What is being verified now, and how far it is. One row for each audit_verify() and audit_findings() that runs in this database (pid as in pg_stat_activity; tenant_id NULL: every tenant; at most 64 of a server, and none unless the library is in shared_preload_libraries), one for a run of the job drift as of its last step, and one for its pass through all history, which takes several runs. done and total are events, of the newest events of tenants they are tenants; total is an estimate, NULL when unknown. No rows: nothing is being verified.';

CREATE FUNCTION zeroauth_audit_internal.replayed_part(upto bigint, started timestamptz, ended timestamptz, since timestamptz) RETURNS int8range
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN coalesce(replayed_part.upto, 0) < 1 OR replayed_part.ended IS NULL OR replayed_part.ended < replayed_part.since THEN 'empty'::int8range
        ELSE int8range(1 + CASE WHEN replayed_part.started >= replayed_part.since OR replayed_part.ended <= replayed_part.started THEN 0
                                ELSE floor(replayed_part.upto * extract(epoch FROM replayed_part.since - replayed_part.started) / extract(epoch FROM replayed_part.ended - replayed_part.started)) END::bigint,
                       least(replayed_part.upto, 9223372036854775806) + 1) END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.replayed_part(bigint, timestamptz, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.replayed_part(bigint, timestamptz, timestamptz, timestamptz) IS
    'Part of audit_integrity(): which events of a chain were recomputed since a time, when a replay from the first to this one began and ended then and went on evenly.';

CREATE FUNCTION @extschema@.audit_integrity(tenant text DEFAULT NULL) RETURNS TABLE (
    tenant_id text, state text, reasons text[], checked_at timestamptz, open_alerts bigint, events bigint, last_event_at timestamptz, history numeric)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    found boolean := false;
    since timestamptz;
BEGIN
    PERFORM zeroauth_audit_internal.require_every_row();
    since := clock_timestamp() - current_setting('zeroauth_audit.full_replay_period')::interval;
    FOR tenant_id, state, reasons, checked_at, open_alerts, events, last_event_at, history IN
        WITH RECURSIVE present AS (
            (SELECT e.tenant_id FROM @extschema@.audit_events e WHERE audit_integrity.tenant IS NULL ORDER BY e.tenant_id LIMIT 1)
            UNION ALL
            SELECT (SELECT e.tenant_id FROM @extschema@.audit_events e WHERE e.tenant_id > p.tenant_id ORDER BY e.tenant_id LIMIT 1)
            FROM present p WHERE p.tenant_id IS NOT NULL
        ), wanted AS (
            SELECT p.tenant_id FROM present p WHERE p.tenant_id IS NOT NULL
            UNION SELECT t.tenant_id FROM zeroauth_audit_internal.tenants t WHERE t.first_seen IS NOT NULL AND (audit_integrity.tenant IS NULL OR t.tenant_id = audit_integrity.tenant)
            UNION SELECT w.tenant_id FROM zeroauth_audit_internal.watermarks w WHERE audit_integrity.tenant IS NULL OR w.tenant_id = audit_integrity.tenant
            UNION SELECT l.tenant_id FROM zeroauth_audit_internal.logs l WHERE l.tree_size > 0 AND l.state <> 'ended' AND (audit_integrity.tenant IS NULL OR l.tenant_id = audit_integrity.tenant)
            UNION SELECT audit_integrity.tenant WHERE EXISTS (SELECT 1 FROM @extschema@.audit_events e WHERE e.tenant_id = audit_integrity.tenant)
        ), facts AS (
            SELECT w.tenant_id, h.*, m.*, t.checked_at, t.check_error, f.open_findings + o.contradicted AS open_findings, f.suspicions,
                ARRAY(SELECT DISTINCT k FROM unnest(f.kinds || o.kinds) k ORDER BY k) AS kinds, a.open_alerts
            FROM wanted w
            LEFT JOIN zeroauth_audit_internal.tenants t ON t.tenant_id = w.tenant_id
            CROSS JOIN LATERAL (
                WITH RECURSIVE heads AS (
                    (SELECT e.chain, e.seq, e.recorded_at FROM @extschema@.audit_events e WHERE e.tenant_id = w.tenant_id AND e.chain IS NOT NULL ORDER BY e.chain DESC, e.seq DESC LIMIT 1)
                    UNION ALL
                    SELECT below.* FROM heads CROSS JOIN LATERAL (
                        SELECT e.chain, e.seq, e.recorded_at FROM @extschema@.audit_events e WHERE e.tenant_id = w.tenant_id AND e.chain < heads.chain ORDER BY e.chain DESC, e.seq DESC LIMIT 1) below)
                SELECT least(coalesce(sum(x.seq), 0), 9223372036854775807)::bigint AS events, count(*)::integer AS chains, max(x.recorded_at) AS last_event_at FROM heads x) h
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE NOT own) AS unconfirmed,
                    sum((SELECT sum(upper(r) - lower(r)) FROM unnest(int8multirange(
                        zeroauth_audit_internal.replayed_part(k.replayed_seq, k.replay_started_at, k.replayed_at, since),
                        zeroauth_audit_internal.replayed_part(least(k.whole_seq, k.head_seq), k.whole_started_at, k.whole_ended_at, since),
                        CASE WHEN k.verified_at >= since THEN int8range(k.verified_from, greatest(k.verified_from, least(k.head_seq, 9223372036854775806) + 1)) ELSE 'empty' END)) r)) FILTER (WHERE own) AS recomputed
                FROM (SELECT k.*, k.trail = s.trail AS own FROM zeroauth_audit_internal.watermarks k CROSS JOIN zeroauth_audit_internal.drift_state s WHERE k.tenant_id = w.tenant_id) k) m
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE d.alerted_at IS NOT NULL) AS open_findings, count(*) FILTER (WHERE d.alerted_at IS NULL) AS suspicions,
                    coalesce(array_agg(DISTINCT d.kind) FILTER (WHERE d.alerted_at IS NOT NULL), '{}') AS kinds
                FROM zeroauth_audit_internal.drift_findings d WHERE d.tenant_id = w.tenant_id) f
            -- What a sink or an anchor disagrees with: found by the jobs that ask them.
            CROSS JOIN LATERAL (
                SELECT count(*) AS contradicted, coalesce(array_agg(x.kind), '{}') AS kinds FROM (
                    SELECT CASE WHEN l.known_size > l.tree_size THEN 'tail_truncated' ELSE 'checkpoint_mismatch' END AS kind
                    FROM (SELECT n.* FROM zeroauth_audit_internal.logs n WHERE n.tenant_id = w.tenant_id ORDER BY n.epoch DESC LIMIT 1) l WHERE l.state = 'held'
                    UNION ALL
                    SELECT CASE y.kind WHEN 'tenant_missing' THEN y.kind ELSE 'anchor_mismatch' END FROM zeroauth_audit_internal.anchor_findings y WHERE y.tenant_id = w.tenant_id) x) o
            CROSS JOIN LATERAL (SELECT count(*) AS open_alerts FROM zeroauth_audit_internal.alerts a WHERE a.tenant = w.tenant_id AND a.state <> 'resolved') a
        ), reasoned AS (
            SELECT facts.*,
                facts.kinds
                || CASE WHEN facts.suspicions > 0 THEN ARRAY['suspicion'] ELSE '{}' END
                || CASE WHEN facts.unconfirmed > 0 THEN ARRAY['restored_incomplete'] ELSE '{}' END
                || CASE WHEN facts.check_error IS NOT NULL THEN ARRAY['could_not_check'] ELSE '{}' END
                || CASE WHEN facts.checked_at IS NULL AND (facts.chains > 0 OR facts.kinds = '{}') THEN ARRAY['never_checked']
                        WHEN coalesce((SELECT zeroauth_audit_internal.schedule_overdue(j.schedule, j.time_zone, facts.checked_at) < clock_timestamp() FROM zeroauth_audit_internal.jobs j WHERE j.name = 'drift'), true) AND facts.chains > 0 THEN ARRAY['checked_long_ago']
                        ELSE '{}' END AS reasons
            FROM facts
        )
        SELECT r.tenant_id, judged.state, r.reasons, r.checked_at, r.open_alerts, r.events, r.last_event_at,
            CASE WHEN r.events > 0 THEN trunc(least(coalesce(r.recomputed, 0) / r.events, 1), 4) END
        FROM reasoned r
        CROSS JOIN LATERAL (SELECT CASE WHEN r.open_findings > 0 THEN 'tampered' WHEN r.unconfirmed > 0 THEN 'incomplete' WHEN r.reasons <> '{}' THEN 'unchecked' ELSE 'ok' END AS state) judged
        ORDER BY array_position(ARRAY['tampered', 'incomplete', 'unchecked', 'ok'], judged.state), r.tenant_id = 'zeroauth_audit', r.tenant_id
    LOOP
        found := true;
        RETURN NEXT;
    END LOOP;
    IF audit_integrity.tenant IS NOT NULL AND NOT found THEN
        -- It has neither events nor a log: this is the error that says so.
        PERFORM zeroauth_audit_internal.require_tenant(audit_integrity.tenant, true);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_integrity(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_integrity(text) IS
    'How each tenant''s trail stands, as the hourly checks know it; nothing is recomputed. Worst first. tenant: whose, NULL for every tenant. state: tampered (findings of drift, a sink or an anchor are open), incomplete (a dump was restored whose end is not there), unchecked (see reasons) or ok. checked_at: when drift last recomputed its newest events. history: the part of its events, from 0 to 1, that was recomputed within zeroauth_audit.full_replay_period. ZA005 for a tenant that was never there, ZA006 when it could not look.';

CREATE FUNCTION zeroauth_audit_internal.health_drift() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    preloaded boolean := zeroauth_audit_internal.preloaded();
    s zeroauth_audit_internal.drift_state := (SELECT t FROM zeroauth_audit_internal.drift_state t);
    behind boolean := s.pass_started_at < clock_timestamp() - current_setting('zeroauth_audit.full_replay_period')::interval AND NOT pg_is_in_recovery();
BEGIN
    RETURN jsonb_build_object(
        'state', CASE WHEN behind THEN 'degraded' ELSE 'ok' END, 'reasons', CASE WHEN behind THEN ARRAY['history_behind'] ELSE '{}' END,
        'phase', s.phase, 'tenants_done', s.tenants_done, 'tenants_total', s.tenants_total, 'finished_at', s.finished_at,
        'pass_started_at', s.pass_started_at, 'pass_done', s.pass_done, 'pass_total', s.pass_total);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_drift() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_drift() IS
    'Part of audit_health(): how far the job drift is. Degraded: history_behind, when a pass through all history has taken longer than zeroauth_audit.full_replay_period.';
