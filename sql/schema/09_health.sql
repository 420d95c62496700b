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
