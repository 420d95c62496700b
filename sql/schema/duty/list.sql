-- What each duty gives: the one list. Everything that people call or read is in it, what only the owner may do as well.

CREATE VIEW zeroauth_audit_internal.duty_grants AS
    SELECT d.duty, CASE WHEN l.object LIKE '%(%' THEN 'function' ELSE 'relation' END AS kind, l.object, l.privilege, l.columns, l.all_but
    FROM (VALUES
        -- Events.
        ('{writer,writer_returning}'::text[], 'INSERT', 'audit_events', NULL::text[], NULL::text[]),
        ('{writer_returning}', 'SELECT', 'audit_events', '{tenant_id,event_id,chain,seq,event_hash,recorded_at}', NULL),
        ('{reader,private_reader}', 'SELECT', 'audit_events', '{tenant_id,chain,seq,event_id,occurred_at,recorded_at,category,action,outcome,severity,resource,service_name,env,provider,request_id,correlation_id,trace_id,span_id,status_code,latency_ms,payload_size,error_code,db_role,prev_hash,event_hash,hash_version}', NULL),
        -- Not the salt: with it, guesses of erased values can be tested.
        ('{private_reader}', 'SELECT', 'audit_events', '{actor_type,actor_id,ip,user_agent,error_message,details,private_hash}', NULL),
        ('{reader,private_reader}', 'SELECT', 'audit_public_events', NULL, NULL),
        -- Is the trail what was written?
        ('{auditor}', 'EXECUTE', 'audit_verify(text, integer)', NULL, NULL),
        ('{auditor}', 'EXECUTE', 'audit_findings(text, integer)', NULL, NULL),
        ('{auditor,monitor,operator}', 'EXECUTE', 'audit_integrity(text)', NULL, NULL),
        ('{auditor}', 'EXECUTE', 'audit_event_state(text, uuid)', NULL, NULL),
        ('{auditor}', 'EXECUTE', 'audit_export(text, boolean)', NULL, NULL),
        ('{auditor}', 'EXECUTE', 'audit_export_intervals(text)', NULL, NULL),
        ('{auditor}', 'EXECUTE', 'audit_export_names()', NULL, NULL),
        ('{auditor}', 'EXECUTE', 'audit_prove(text, uuid, boolean)', NULL, NULL),
        ('{auditor}', 'EXECUTE', 'audit_prove_consistency(text, bigint, bigint)', NULL, NULL),
        ('{auditor,operator}', 'EXECUTE', 'audit_drill()', NULL, NULL),
        ('{auditor,monitor,operator}', 'EXECUTE', 'audit_guards()', NULL, NULL),
        ('{auditor,monitor,operator}', 'EXECUTE', 'audit_verify_installation()', NULL, NULL),
        ('{auditor,operator}', 'EXECUTE', 'audit_verify_pins()', NULL, NULL),
        -- Is all well?
        ('{auditor,monitor,operator}', 'EXECUTE', 'audit_status()', NULL, NULL),
        ('{monitor}', 'EXECUTE', 'audit_health()', NULL, NULL),
        ('{auditor,monitor,operator}', 'EXECUTE', 'audit_progress()', NULL, NULL),
        ('{writer,writer_returning,reader,private_reader,auditor,monitor,operator}', 'EXECUTE', 'audit_help(text)', NULL, NULL),
        ('{auditor,monitor,operator}', 'SELECT', 'audit_tenants', NULL, NULL),
        ('{auditor}', 'SELECT', 'audit_checkpoints', NULL, NULL),
        ('{auditor,monitor}', 'SELECT', 'audit_keys', NULL, NULL),
        ('{auditor}', 'SELECT', 'audit_anchors', NULL, NULL),
        ('{auditor,monitor,operator}', 'SELECT', 'audit_sinks', NULL, NULL),
        ('{auditor,monitor,operator}', 'SELECT', 'audit_anchor_targets', NULL, NULL),
        ('{auditor,operator}', 'SELECT', 'audit_alerts', NULL, NULL),
        ('{monitor}', 'SELECT', 'audit_alerts', NULL, '{evidence,acknowledged_note,resolved_note}'),
        ('{operator}', 'SELECT', 'audit_alert_routes', NULL, NULL),
        ('{operator}', 'SELECT', 'audit_alert_deliveries', NULL, NULL),
        ('{auditor,monitor,operator}', 'SELECT', 'audit_jobs', NULL, NULL),
        ('{auditor,monitor,operator}', 'SELECT', 'audit_job_runs', NULL, NULL),
        ('{auditor,operator}', 'SELECT', 'audit_duties', NULL, NULL),
        -- Something is to be done.
        ('{operator}', 'EXECUTE', 'audit_alert_acknowledge(bigint, text)', NULL, NULL),
        ('{operator}', 'EXECUTE', 'audit_alert_resolve(bigint, text)', NULL, NULL),
        ('{operator}', 'EXECUTE', 'audit_alert_test(text)', NULL, NULL),
        -- Decides by the caller what of a route an operator may change.
        ('{operator}', 'EXECUTE', 'audit_alert_route_set(text, text, jsonb, boolean)', NULL, NULL),
        ('{operator}', 'EXECUTE', 'audit_job_run(text)', NULL, NULL),
        ('{operator}', 'EXECUTE', 'audit_job_set(text, text, text, boolean, interval, text)', NULL, NULL),
        ('{operator}', 'EXECUTE', 'audit_anchor_retry(text)', NULL, NULL),
        ('{operator}', 'EXECUTE', 'audit_tenant_set(text, integer)', NULL, NULL),
        -- Where the server writes and sends, epochs, duties: the owner's alone.
        ('{owner}', 'EXECUTE', 'audit_alert_route_drop(text, text)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_job_scheduler(text)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_sink_set(text, text, jsonb, boolean)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_sink_drop(text, text)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_anchor_target_set(text, text, jsonb, boolean)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_anchor_target_drop(text, text)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_restore_acknowledge(text)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_copy_acknowledge(text)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_grant(text, text, timestamp with time zone)', NULL, NULL),
        ('{owner}', 'EXECUTE', 'audit_revoke(text, text)', NULL, NULL)
    ) l (duties, privilege, object, columns, all_but)
    CROSS JOIN LATERAL pg_catalog.unnest(l.duties) d (duty);
REVOKE ALL ON TABLE zeroauth_audit_internal.duty_grants FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.duty_grants IS
    'What each duty gives, and what only the owner may do (duty owner): the list behind audit_grant() and audit_duties.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_grants.duty IS 'The duty, or owner: granted to nobody.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_grants.kind IS 'function or relation.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_grants.object IS 'Name without schema; of a function with the types of its arguments.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_grants.privilege IS 'SELECT, INSERT or EXECUTE.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_grants.columns IS 'The columns; NULL for the whole relation.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_grants.all_but IS 'Every column but these; NULL for the whole relation.';

CREATE VIEW zeroauth_audit_internal.duty_rights AS
    WITH ours AS MATERIALIZED (
        SELECT d.classid, d.objid, e.extnamespace FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        WHERE e.extname = 'zeroauth_audit'
    )
    SELECT g.duty, 'pg_catalog.pg_proc'::regclass::oid AS classid, p.oid AS objid, 0::smallint AS attnum, g.privilege, g.object, NULL::name AS "column"
    FROM zeroauth_audit_internal.duty_grants g
    JOIN pg_catalog.pg_proc p ON p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')' = g.object
    JOIN ours o ON o.classid = 'pg_catalog.pg_proc'::regclass AND o.objid = p.oid AND o.extnamespace = p.pronamespace
    WHERE g.kind = 'function'
    UNION ALL
    SELECT g.duty, 'pg_catalog.pg_class'::regclass::oid, c.oid, coalesce(a.attnum, 0::smallint), g.privilege, g.object, a.attname
    FROM zeroauth_audit_internal.duty_grants g
    JOIN pg_catalog.pg_class c ON c.relname = g.object
    JOIN ours o ON o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = c.oid AND o.extnamespace = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND (a.attname = ANY (g.columns) OR a.attname <> ALL (g.all_but))
    WHERE g.kind = 'relation' AND (a.attnum IS NOT NULL OR g.columns IS NULL AND g.all_but IS NULL);
REVOKE ALL ON TABLE zeroauth_audit_internal.duty_rights FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.duty_rights IS
    'duty_grants as the catalogs have them: one right a row, on objects that are there.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_rights.duty IS 'The duty, or owner.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_rights.classid IS 'Catalog of the object: pg_class or pg_proc.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_rights.objid IS 'The object.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_rights.attnum IS 'Number of the column; 0 for the whole object.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_rights.privilege IS 'SELECT, INSERT or EXECUTE.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_rights.object IS 'Its name, as in duty_grants.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_rights.column IS 'Name of the column; NULL for the whole object.';
