-- Health: one small function a part, each {"state": "ok" | "degraded" | "failing", "reasons": [..], ..}, and one that puts them
-- together. A part is added by a function of its own, and one line in audit_health().

CREATE FUNCTION zeroauth_audit_internal.worker_status() RETURNS TABLE (
    enabled boolean, launcher integer, state text, pid integer, since timestamptz)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1
    AS 'MODULE_PATHNAME', 'zeroauth_audit_worker_status';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.worker_status() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.worker_status() IS
    'What shared memory says about the worker of this database: whether there shall be workers, the launcher''s process, none, starting, running or waiting (to be started again), its process, and since when. No row when the library is not in shared_preload_libraries.';

CREATE FUNCTION zeroauth_audit_internal.health_database() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    preloaded boolean := zeroauth_audit_internal.preloaded();
    maintenance boolean := current_setting('zeroauth_audit.maintenance')::boolean;
    original CONSTANT text := zeroauth_audit_internal.copy_of();
    reasons text[] := '{}';
BEGIN
    IF NOT preloaded THEN
        reasons := reasons || 'not_preloaded'::text;
    END IF;
    IF maintenance THEN
        reasons := reasons || 'maintenance_open'::text;
    END IF;
    IF original IS NOT NULL THEN
        reasons := 'database_copy'::text || reasons;
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN reasons = '{}' THEN 'ok' ELSE 'degraded' END, 'reasons', reasons,
        'name', current_database(), 'copy_of', original, 'standby', pg_is_in_recovery(), 'preloaded', preloaded,
        'version', (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'zeroauth_audit'),
        'server_started', pg_postmaster_start_time());
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_database() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_database() IS
    'Part of audit_health(): this database, the version of the extension, and whether its library was loaded by the server. Degraded: database_copy (copy_of says of what: nothing is signed, published or sent), not_preloaded, maintenance_open (in the session that asks).';

CREATE FUNCTION zeroauth_audit_internal.health_worker() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    w record;
    state text;
    reason text;
BEGIN
    SELECT * INTO w FROM zeroauth_audit_internal.worker_status();
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
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_worker() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_worker() IS
    'Part of audit_health(): whether the worker is alive, and since when. Failing: worker_not_alive. Degraded: worker_starting, worker_off. On a standby without a worker: ok.';

CREATE FUNCTION zeroauth_audit_internal.health_jobs() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    jobs jsonb;
    late text[];
    failing text[];
    degraded text[] := '{}';
    held CONSTANT text := zeroauth_audit_internal.jobs_held();
BEGIN
    late := ARRAY(SELECT zeroauth_audit_internal.jobs_late());
    SELECT coalesce(jsonb_object_agg(j.name, jsonb_build_object(
               'enabled', j.enabled, 'scheduler', j.scheduler, 'next_run', j.next_run, 'last_success', j.last_success, 'overdue', j.name = ANY (late))), '{}')
    INTO jobs FROM zeroauth_audit_internal.jobs j;
    failing := ARRAY(SELECT 'job_overdue:' || n FROM unnest(late) n);
    IF EXISTS (SELECT 1 FROM zeroauth_audit_internal.jobs j WHERE j.scheduler = 'pg_cron' AND j.enabled) AND NOT EXISTS (SELECT 1 FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        failing := failing || 'pg_cron_missing'::text;
    END IF;
    IF coalesce(held NOT IN ('no_events', 'copy', 'citus_worker'), true) THEN
        -- Not what a person knows of: its alert is acknowledged.
        degraded := ARRAY(
            SELECT 'job_off:' || o.name FROM zeroauth_audit_internal.jobs_off() o
            WHERE NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.fingerprint IN ('job_off:' || o.name, 'job_disabled:' || o.name) AND a.state = 'acknowledged')
            ORDER BY o.name);
    END IF;
    IF held = 'restore_running' THEN
        degraded := degraded || held;
    END IF;
    -- A standby runs no jobs; what its tables say is about the primary.
    IF pg_is_in_recovery() THEN
        failing := '{}';
        degraded := '{}';
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN failing <> '{}' THEN 'failing' WHEN degraded <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', failing || degraded, 'jobs', jobs);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_jobs() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_jobs() IS
    'Part of audit_health(): each job, its last success and next run. Failing: job_overdue:NAME, pg_cron_missing. Degraded: job_off:NAME (missing, not enabled, too rare or put off, unless a person has acknowledged the alert about it), restore_running.';

CREATE FUNCTION zeroauth_audit_internal.health_tripwires() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    failing text[] := '{}';
    degraded text[] := '{}';
    installed text := (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'zeroauth_audit');
BEGIN
    SELECT t.looked_at, t.differences INTO s FROM zeroauth_audit_internal.tripwire_state t;
    IF s.differences > 0 THEN
        failing := failing || 'not_as_installed'::text;
    END IF;
    IF NOT coalesce((SELECT j.enabled FROM zeroauth_audit_internal.jobs j WHERE j.name = 'tripwire'), false) THEN
        degraded := degraded || 'tripwire_off'::text;
    END IF;
    IF installed <> zeroauth_audit_internal.library_version() THEN
        degraded := degraded || 'upgrade_pending'::text;
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN failing <> '{}' THEN 'failing' WHEN degraded <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', failing || degraded,
        'looked_at', s.looked_at, 'differences', s.differences, 'library_version', zeroauth_audit_internal.library_version());
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_tripwires() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_tripwires() IS
    'Part of audit_health(): what the tripwires found when they last looked. Failing: not_as_installed (something of the extension is not as its version installs it). Degraded: tripwire_off (the job is not enabled), upgrade_pending (library and SQL objects are of different versions).';

CREATE FUNCTION zeroauth_audit_internal.health_pins() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p record;
    failing text[] := '{}';
    degraded text[] := '{}';
BEGIN
    SELECT * INTO p FROM zeroauth_audit_internal.pin_status();
    IF p.wrong > 0 THEN
        failing := failing || 'pin_mismatch'::text;
    END IF;
    IF p.pinned > 0 AND NOT pg_is_in_recovery() AND NOT coalesce((SELECT j.enabled FROM zeroauth_audit_internal.jobs j WHERE j.name = 'pins'), false) THEN
        degraded := degraded || 'pins_off'::text;
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN failing <> '{}' THEN 'failing' WHEN degraded <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', failing || degraded,
        'pinned', coalesce(p.pinned, 0), 'wrong', coalesce(p.wrong, 0), 'checked_at', p.checked_at);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_pins() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_pins() IS
    'Part of audit_health(): how many files are pinned, and how many were wrong when this server last looked (on a standby: when it started). Failing: pin_mismatch. Degraded: pins_off (files are pinned, and the job is not enabled).';

CREATE FUNCTION zeroauth_audit_internal.health_time() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    reasons text[] := '{}';
BEGIN
    SELECT * INTO c FROM zeroauth_audit_internal.clock();
    -- Not what a person knows of: in a container nobody can set the clock, and its host may keep it without telling the kernel.
    IF c.problem IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.fingerprint = 'clock_step:unsynchronised' AND a.state = 'acknowledged') THEN
        reasons := ARRAY['clock_unsynchronised'];
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN reasons = '{}' THEN 'ok' ELSE 'degraded' END, 'reasons', reasons,
        'synchronised', c.synchronised, 'problem', c.problem, 'offset_us', c.offset_us, 'estimated_error_us', c.estimated_error_us, 'max_error_us', c.max_error_us);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_time() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_time() IS
    'Part of audit_health(): what the kernel says of the synchronisation of this server''s clock. Degraded: clock_unsynchronised, unless zeroauth_audit.max_clock_error is -1 or a person has acknowledged the alert about it.';

CREATE FUNCTION zeroauth_audit_internal.health_delivery() RETURNS jsonb
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
    SELECT count(*) INTO queue FROM (SELECT 1 FROM zeroauth_audit_internal.alert_deliveries d WHERE d.state <> 'delivered' LIMIT most) q;
    IF queue > 0 THEN
        SELECT d.created_at INTO oldest FROM zeroauth_audit_internal.alert_deliveries d WHERE d.state <> 'delivered' ORDER BY d.created_at LIMIT 1;
        SELECT q.last_error INTO last_error
        FROM (SELECT d.last_error, d.next_attempt_at FROM zeroauth_audit_internal.alert_deliveries d WHERE d.state <> 'delivered' LIMIT most) q
        WHERE q.last_error IS NOT NULL ORDER BY q.next_attempt_at DESC LIMIT 1;
    END IF;
    SELECT coalesce(array_agg(substr(a.fingerprint, length('delivery_failing::') + 1) ORDER BY a.fingerprint), '{}') INTO failing
    FROM zeroauth_audit_internal.alerts a
    WHERE a.state <> 'resolved' AND a.fingerprint >= 'delivery_failing::' AND a.fingerprint < 'delivery_failing:;';
    IF failing <> '{}' AND NOT pg_is_in_recovery() THEN
        reasons := ARRAY['delivery_failing'];
    END IF;
    RETURN jsonb_build_object(
        'state', CASE WHEN reasons = '{}' THEN 'ok' ELSE 'degraded' END, 'reasons', reasons,
        'queue', queue, 'oldest', oldest, 'last_error', last_error, 'failing_routes', failing);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_delivery() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_delivery() IS
    'Part of audit_health(): undelivered alerts (counted up to 1000), the oldest of them, the last error, and the routes that do not get through. Degraded: delivery_failing.';

CREATE FUNCTION zeroauth_audit_internal.health_alerts() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT integer := 1000;
    highest integer;
    others record;
    reasons text[] := '{}';
BEGIN
    SELECT count(*) INTO highest FROM (SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.state = 'open' AND a.severity = 1 LIMIT most) q;
    SELECT count(*) FILTER (WHERE q.state = 'open' AND q.severity = 2) AS second, count(*) FILTER (WHERE q.state = 'open' AND q.severity = 3) AS third,
        count(*) FILTER (WHERE q.state = 'open' AND q.severity = 4) AS fourth,
        count(*) FILTER (WHERE q.state = 'acknowledged') AS acknowledged, count(*) FILTER (WHERE q.state = 'acknowledged' AND q.severity = 1) AS highest
    INTO others FROM (SELECT a.state, a.severity FROM zeroauth_audit_internal.alerts a WHERE a.state <> 'resolved' LIMIT most) q;
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
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_alerts() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_alerts() IS
    'Part of audit_health(): open alerts by severity, and acknowledged ones (counted among the first 1000). Failing: alerts_open:1. Degraded: alerts_open:2, alerts_acknowledged:1 (somebody is at work on one of severity 1).';

CREATE FUNCTION @extschema@.audit_health() RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts jsonb := jsonb_build_object(
        'database', zeroauth_audit_internal.health_database(),
        'worker', zeroauth_audit_internal.health_worker(),
        'jobs', zeroauth_audit_internal.health_jobs(),
        'drift', zeroauth_audit_internal.health_drift(),
        'tripwires', zeroauth_audit_internal.health_tripwires(),
        'pins', zeroauth_audit_internal.health_pins(),
        'time', zeroauth_audit_internal.health_time(),
        'delivery', zeroauth_audit_internal.health_delivery(),
        'alerts', zeroauth_audit_internal.health_alerts(),
        'log', zeroauth_audit_internal.health_log(),
        'anchors', zeroauth_audit_internal.health_anchors());
    replication jsonb := zeroauth_audit_internal.health_replication();
    states text[];
    reasons jsonb;
BEGIN
    IF replication IS NOT NULL THEN
        parts := parts || jsonb_build_object('replication', replication);
    END IF;
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
    'The same for programs; may be asked every second. What audit_status() says to people, as one object: state is ok, degraded or failing, reasons is a list of words that are documented and stay as they are, and each part has the same with what it knows. Reads shared memory and small tables, of no tenant''s events. Raises nothing of its own. Works on a hot standby.';
