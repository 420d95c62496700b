-- The health as a person reads it: one row a part, in words, with what to do.

-- No line is wider than a terminal: the longest detail and hint together with the other two columns are 120 characters.
CREATE FUNCTION zeroauth_audit_internal.status_text(part text, reason text, h jsonb) RETURNS TABLE (detail text, hint text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH known AS (
        SELECT split_part(status_text.reason, ':', 1) AS kind, left(nullif(substr(status_text.reason, length(split_part(status_text.reason, ':', 1)) + 2), ''), 20) AS name
    ), said AS (
        SELECT CASE k.kind
            WHEN 'not_preloaded' THEN ARRAY['not in shared_preload_libraries', 'add zeroauth_audit there, restart the server']
            WHEN 'database_copy' THEN ARRAY[format('a copy of %s', left(h ->> 'copy_of', 30)), 'SELECT audit_copy_acknowledge(''why it is here'')']
            WHEN 'maintenance_open' THEN ARRAY['maintenance is open in this session', 'RESET zeroauth_audit.maintenance']
            WHEN 'worker_off' THEN ARRAY['switched off: no job runs by itself', 'zeroauth_audit.worker = on, restart the server']
            WHEN 'worker_starting' THEN ARRAY['starting', 'ask again in some seconds']
            WHEN 'worker_not_alive' THEN ARRAY['not running', 'the server log says why']
            WHEN 'job_overdue' THEN ARRAY[format('job %s is overdue', k.name), format('SELECT * FROM audit_job_run(''%s'')', k.name)]
            WHEN 'job_off' THEN ARRAY[format('job %s is off, rare or put off', k.name), 'SELECT * FROM audit_jobs; audit_job_set(..)']
            WHEN 'pg_cron_missing' THEN ARRAY['jobs are for pg_cron, which is not here', 'SELECT audit_job_scheduler(''worker'')']
            WHEN 'restore_running' THEN ARRAY['a dump is restored: most jobs wait', 'wait until the restore ends']
            WHEN 'history_behind' THEN ARRAY['all history takes longer than its period', 'raise zeroauth_audit.replay_load']
            WHEN 'not_as_installed' THEN ARRAY[format('differences from the install: %s', h ->> 'differences'), 'SELECT * FROM audit_verify_installation()']
            WHEN 'tripwire_off' THEN ARRAY['the job tripwire is not enabled', 'SELECT audit_job_set(''tripwire'', enabled => true)']
            WHEN 'upgrade_pending' THEN ARRAY['library and SQL objects differ', 'ALTER EXTENSION zeroauth_audit UPDATE']
            WHEN 'pin_mismatch' THEN ARRAY[format('not as pinned: %s of %s files', h ->> 'wrong', h ->> 'pinned'), 'SELECT * FROM audit_verify_pins()']
            WHEN 'pins_off' THEN ARRAY['files are pinned, the job is not enabled', 'SELECT audit_job_set(''pins'', enabled => true)']
            WHEN 'clock_unsynchronised' THEN ARRAY[coalesce(h ->> 'problem', 'not synchronised'), 'start chrony; in a container acknowledge the alert']
            WHEN 'delivery_failing' THEN ARRAY[format('route %s fails, waiting: %s', left(h #>> '{failing_routes,0}', 14), h ->> 'queue'), 'SELECT * FROM audit_alert_deliveries']
            WHEN 'no_route' THEN ARRAY['no route: an alert reaches nobody', 'SELECT audit_alert_route_set(''ops'', ..)']
            WHEN 'alerts_open' THEN ARRAY[
                format('%s of severity %s, since %s', h #>> ARRAY['open', k.name], k.name, (
                    SELECT to_char(min(a.raised_at), 'YYYY-MM-DD HH24:MI') FROM zeroauth_audit_internal.alerts a WHERE a.state = 'open' AND a.severity = k.name::smallint)),
                'SELECT * FROM audit_alerts WHERE state = ''open''']
            WHEN 'alerts_acknowledged' THEN ARRAY['somebody is at work on one of severity 1', 'SELECT * FROM audit_alerts']
            WHEN 'checkpoints_not_signed' THEN ARRAY['not signed: no key', 'set zeroauth_audit.checkpoint_key_file']
            WHEN 'checkpoints_not_published' THEN ARRAY['signed, not published: no sink', 'SELECT audit_sink_set(''worm'', ''directory'', ..)']
            WHEN 'checkpoints_off' THEN ARRAY['the job checkpoint is not enabled', 'audit_job_set(''checkpoint'', enabled => true)']
            WHEN 'sink_failing' THEN ARRAY[format('sink %s is not reached', k.name), 'SELECT * FROM audit_sinks']
            WHEN 'subscription_failing' THEN ARRAY[format('by %s nothing arrives', k.name), 'SELECT * FROM pg_stat_subscription_stats']
            WHEN 'replication_behind' THEN ARRAY[format('slot %s is behind', k.name), 'SELECT * FROM pg_replication_slots']
            WHEN 'logs_held' THEN ARRAY[format('logs held, a sink knows more: %s', h ->> 'held'), 'docs/runbook.md, before anything is repaired']
            WHEN 'anchors_not_signed' THEN ARRAY['nothing is signed that could be anchored', 'set zeroauth_audit.checkpoint_key_file']
            WHEN 'anchors_off' THEN ARRAY['no target is enabled', 'SELECT audit_anchor_target_set(''file'', ..)']
            WHEN 'anchor_target_disabled' THEN ARRAY[format('%s came with a dump: disabled', k.name), 'SELECT * FROM audit_anchor_targets']
            WHEN 'anchor_failing' THEN ARRAY[format('target %s fails', k.name), 'SELECT * FROM audit_anchor_targets']
            WHEN 'anchor_late' THEN ARRAY[format('tenants without the last anchor: %s', h ->> 'tenants_late'), 'SELECT * FROM audit_tenants']
            WHEN 'anchor_degraded' THEN ARRAY[format('tenants that missed anchors: %s', h ->> 'tenants_degraded'), 'SELECT * FROM audit_tenants']
            WHEN 'anchor_mismatch' THEN ARRAY['what was anchored is not what is here', 'docs/runbook.md, before anything is repaired']
            ELSE ARRAY[k.kind, 'SELECT audit_health()'] END AS texts
        FROM known k
    )
    SELECT CASE WHEN length(s.texts[1]) > 41 THEN left(s.texts[1], 39) || '..' ELSE s.texts[1] END, left(s.texts[2], 50) FROM said s
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.status_text(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.status_text(text, text, jsonb) IS
    'Part of audit_status(): a reason of a part of audit_health() in words, and what to do about it.';

CREATE FUNCTION zeroauth_audit_internal.status_well(part text, h jsonb) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT left(CASE status_well.part
        WHEN 'database' THEN format('version %s, up since %s', h ->> 'version', to_char((h ->> 'server_started')::timestamptz, 'YYYY-MM-DD HH24:MI'))
        WHEN 'worker' THEN CASE WHEN h ->> 'pid' IS NULL THEN 'none: a standby runs no jobs' ELSE format('pid %s since %s', h ->> 'pid', to_char((h ->> 'since')::timestamptz, 'YYYY-MM-DD HH24:MI')) END
        WHEN 'jobs' THEN format('none of %s is overdue', (SELECT count(*) FROM jsonb_object_keys(h -> 'jobs')))
        WHEN 'drift' THEN coalesce('recomputed ' || to_char((h ->> 'finished_at')::timestamptz, 'YYYY-MM-DD HH24:MI'), 'has not run yet')
        WHEN 'tripwires' THEN 'as installed, seen ' || to_char((h ->> 'looked_at')::timestamptz, 'YYYY-MM-DD HH24:MI')
        WHEN 'pins' THEN CASE WHEN (h ->> 'pinned')::integer = 0 THEN 'no file is pinned' ELSE format('files as pinned: %s', h ->> 'pinned') END
        WHEN 'time' THEN CASE WHEN (h ->> 'synchronised')::boolean THEN 'the clock is synchronised' ELSE 'the clock is not looked at' END
        WHEN 'delivery' THEN CASE WHEN (h ->> 'queue')::integer = 0 THEN 'every alert is delivered' ELSE format('on their way: %s', h ->> 'queue') END
        WHEN 'alerts' THEN 'none open of severity 1 or 2'
        WHEN 'log' THEN format('events sealed: %s, logs: %s', h ->> 'events', h ->> 'logs')
        WHEN 'replication' THEN format('subscriptions: %s, slots: %s', h ->> 'subscriptions', h ->> 'slots')
        WHEN 'anchors' THEN format('enabled targets: %s', (SELECT count(*) FROM jsonb_each(h -> 'targets') t WHERE (t.value ->> 'enabled')::boolean))
        ELSE '' END, 41)
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.status_well(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.status_well(text, jsonb) IS
    'Part of audit_status(): what is said of a part that is well.';

CREATE FUNCTION @extschema@.audit_status() RETURNS TABLE (state text, part text, detail text, hint text)
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED SECURITY DEFINER ROWS 11
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    health jsonb := @extschema@.audit_health();
    standby boolean := pg_is_in_recovery();
    unsigned CONSTANT boolean := NOT zeroauth_audit_internal.names_key();
BEGIN
    RETURN QUERY
    WITH parts AS (
        SELECT p.key AS name, p.value AS h, (p.value ->> 'state') AS state,
            -- What is not set up yet: a program that asks whether all goes on as it did is not told; whoever looks is.
            CASE WHEN p.value -> 'reasons' <> '[]' THEN p.value #>> '{reasons,0}'
                 WHEN standby THEN NULL
                 WHEN p.key = 'log' AND unsigned THEN 'checkpoints_not_signed'
                 WHEN p.key = 'log' AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.sinks s WHERE s.enabled) THEN 'checkpoints_not_published'
                 WHEN p.key = 'delivery' AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.alert_routes r WHERE r.enabled) THEN 'no_route' END AS reason
        FROM jsonb_each(health) p WHERE jsonb_typeof(p.value) = 'object'
    ), judged AS (
        SELECT CASE WHEN p.reason IS NOT NULL AND p.state = 'ok' THEN 'degraded' ELSE p.state END AS state,
            CASE p.name WHEN 'log' THEN 'checkpoints' ELSE p.name END AS part,
            CASE WHEN p.reason IS NULL THEN zeroauth_audit_internal.status_well(p.name, p.h) ELSE t.detail END AS detail,
            CASE WHEN p.reason IS NOT NULL THEN t.hint END AS hint
        FROM parts p LEFT JOIN LATERAL zeroauth_audit_internal.status_text(p.name, p.reason, p.h) t ON p.reason IS NOT NULL
    )
    SELECT j.state, j.part, j.detail, j.hint FROM judged j
    ORDER BY array_position(ARRAY['failing', 'degraded', 'ok'], j.state), j.part;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_status() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_status() IS
    'Is all well? One row a part, the worst first, with what to do. For people. state: failing, degraded or ok. hint: what to do or where to look; NULL when nothing is to be done. Of several reasons of a part the worst is said; audit_health() has them all. Says, too, what is not set up yet (a key, a sink, a route), which is no state of audit_health(). Times are of the session''s time zone. Raises nothing of its own. Works on a hot standby.';
