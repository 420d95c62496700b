-- Tenants as people see them: how each one's trail is protected, as the jobs last saw it. Nothing is counted and nothing recomputed.

CREATE VIEW @extschema@.audit_tenants AS
    WITH known AS (
        SELECT t.tenant_id FROM zeroauth_audit_internal.tenants t
        UNION SELECT l.tenant_id FROM zeroauth_audit_internal.logs l
        UNION SELECT s.tenant_id FROM zeroauth_audit_internal.tenant_status s
    ), anchor AS (
        SELECT b.size, b.anchored_at FROM zeroauth_audit_internal.anchor_batches b
        WHERE (b.state OPERATOR(pg_catalog.=) 'included' OR b.state OPERATOR(pg_catalog.=) 'finalized')
          AND b.origin OPERATOR(pg_catalog.=) (SELECT pg_catalog.split_part(r.note, pg_catalog.chr(10), 1) FROM zeroauth_audit_internal.registry_runs r ORDER BY r.number DESC LIMIT 1)
        ORDER BY b.size DESC, b.anchored_at DESC LIMIT 1
    )
    SELECT k.tenant_id, seen.events, l.tree_size, seen.last_event_at, t.checked_at, anchor.anchored_at,
        CASE WHEN s.state OPERATOR(pg_catalog.=) 'not-anchored' THEN 'off' ELSE pg_catalog.replace(s.state, 'anchor-', '') END AS anchor_state,
        s.banner, s.since AS anchor_state_since, seen.chains, findings.open AS open_findings, l.state AS log_state, l.known_by AS log_held_by,
        t.drift_rows, t.first_seen AS first_seen_at, t.check_error
    FROM known k
    LEFT JOIN zeroauth_audit_internal.tenants t ON t.tenant_id OPERATOR(pg_catalog.=) k.tenant_id
    LEFT JOIN zeroauth_audit_internal.tenant_status s ON s.tenant_id OPERATOR(pg_catalog.=) k.tenant_id
    LEFT JOIN LATERAL (
        SELECT g.epoch, g.tree_size, g.state, g.known_by FROM zeroauth_audit_internal.logs g WHERE g.tenant_id OPERATOR(pg_catalog.=) k.tenant_id ORDER BY g.epoch DESC LIMIT 1) l ON true
    CROSS JOIN LATERAL (
        SELECT COALESCE(pg_catalog.sum(w.head_seq), 0)::bigint AS events, pg_catalog.count(*)::integer AS chains, pg_catalog.max(e.recorded_at) AS last_event_at
        FROM zeroauth_audit_internal.watermarks w
        JOIN zeroauth_audit_internal.drift_state d ON d.trail OPERATOR(pg_catalog.=) w.trail
        LEFT JOIN @extschema@.audit_events e ON e.tenant_id OPERATOR(pg_catalog.=) w.tenant_id AND e.chain OPERATOR(pg_catalog.=) w.chain AND e.seq OPERATOR(pg_catalog.=) w.head_seq
        WHERE w.tenant_id OPERATOR(pg_catalog.=) k.tenant_id) seen
    LEFT JOIN anchor ON anchor.size OPERATOR(pg_catalog.>) (
        SELECT e.entry FROM zeroauth_audit_internal.registry_entries e
        WHERE e.tenant_id OPERATOR(pg_catalog.=) k.tenant_id AND e.epoch OPERATOR(pg_catalog.=) l.epoch ORDER BY e.entry LIMIT 1)
    CROSS JOIN LATERAL (
        SELECT (SELECT pg_catalog.count(*) FROM zeroauth_audit_internal.drift_findings f WHERE f.tenant_id OPERATOR(pg_catalog.=) k.tenant_id AND f.alerted_at IS NOT NULL)
            OPERATOR(pg_catalog.+) (SELECT pg_catalog.count(*) FROM zeroauth_audit_internal.anchor_findings f WHERE f.tenant_id OPERATOR(pg_catalog.=) k.tenant_id)
            OPERATOR(pg_catalog.+) CASE WHEN l.state OPERATOR(pg_catalog.=) 'held' THEN 1::bigint ELSE 0 END AS open) findings;
REVOKE ALL ON TABLE @extschema@.audit_tenants FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_tenants IS 'How each tenant''s trail is protected, as the jobs last saw it: how much of it is sealed, anchored and recomputed, and what a page for the tenant can say. Nothing is counted or recomputed; audit_verify() does that. Read-only; audit_tenant_set() changes drift_rows.';
COMMENT ON COLUMN @extschema@.audit_tenants.tenant_id IS 'The tenant.';
COMMENT ON COLUMN @extschema@.audit_tenants.events IS 'How many events the job drift saw.';
COMMENT ON COLUMN @extschema@.audit_tenants.tree_size IS 'How many events are sealed in the current log; NULL: there is no log yet.';
COMMENT ON COLUMN @extschema@.audit_tenants.last_event_at IS 'When the newest event that the job drift saw was recorded.';
COMMENT ON COLUMN @extschema@.audit_tenants.checked_at IS 'When the newest events were last recomputed.';
COMMENT ON COLUMN @extschema@.audit_tenants.anchored_at IS 'When its current log was last anchored, at any target; NULL: it began behind what is anchored.';
COMMENT ON COLUMN @extschema@.audit_tenants.anchor_state IS 'ok; late (the newest day that is over has no anchor at one of the targets); degraded (two days in a row have none, and no final anchor has covered them since); off (nothing is anchored: no target or the job anchor is enabled); NULL: the worker has not said.';
COMMENT ON COLUMN @extschema@.audit_tenants.banner IS 'One line to show to the tenant; NULL when there is nothing to say.';
COMMENT ON COLUMN @extschema@.audit_tenants.anchor_state_since IS 'Since when anchor_state is what it is: for late and degraded the first time of the schedule that was missed.';
COMMENT ON COLUMN @extschema@.audit_tenants.chains IS 'How many chains the job drift saw.';
COMMENT ON COLUMN @extschema@.audit_tenants.open_findings IS 'What the jobs found wrong and have not found gone since: audit_integrity() and audit_findings() say what.';
COMMENT ON COLUMN @extschema@.audit_tenants.log_state IS 'State of the current log: open, or held (somebody outside holds a checkpoint that it does not agree with, and no more is signed until a person decides).';
COMMENT ON COLUMN @extschema@.audit_tenants.log_held_by IS 'The sink that the log does not agree with; NULL: none.';
COMMENT ON COLUMN @extschema@.audit_tenants.drift_rows IS 'How many of its newest events each hourly check recomputes; NULL: zeroauth_audit.drift_rows.';
COMMENT ON COLUMN @extschema@.audit_tenants.first_seen_at IS 'When the job drift first saw an event of it.';
COMMENT ON COLUMN @extschema@.audit_tenants.check_error IS 'Why its newest events could not be recomputed the last time; NULL when they could.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_tenants
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('tenant_id', 'SELECT audit_tenant_set(%, drift_rows => 1000);',
        'SELECT audit_tenant_set(%, drift_rows => 1000);', 'A tenant is here while it has events, a log or settings. To have it checked as every other: SELECT audit_tenant_set(%, drift_rows => NULL);');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_tenants IS 'Refuses edits, and says which call to make.';

CREATE FUNCTION @extschema@.audit_tenant_set(tenant text, drift_rows integer) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was integer;
    is_new boolean;
BEGIN
    IF tenant IS NULL OR octet_length(tenant) NOT BETWEEN 1 AND 128 THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = CASE WHEN tenant IS NULL THEN 'the name of the tenant is NULL' ELSE format('a tenant''s name has 1 to 128 bytes, not %s', octet_length(tenant)) END,
            HINT = 'SELECT tenant_id FROM audit_tenants shows those that there are.';
    ELSIF audit_tenant_set.drift_rows NOT BETWEEN 1 AND 100000 THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('drift_rows %s is not 1 to 100000', audit_tenant_set.drift_rows), HINT = 'NULL is the setting zeroauth_audit.drift_rows.';
    END IF;
    SELECT t.drift_rows INTO was FROM zeroauth_audit_internal.tenants t WHERE t.tenant_id = tenant FOR UPDATE;
    is_new := NOT FOUND;
    IF was IS NOT DISTINCT FROM audit_tenant_set.drift_rows THEN
        RETURN 'unchanged';
    END IF;
    IF is_new THEN
        INSERT INTO zeroauth_audit_internal.tenants (tenant_id, drift_rows) VALUES (tenant, audit_tenant_set.drift_rows);
    ELSE
        UPDATE zeroauth_audit_internal.tenants t SET drift_rows = audit_tenant_set.drift_rows WHERE t.tenant_id = tenant;
    END IF;
    PERFORM zeroauth_audit_internal.note_change('tenant.changed', 'info', tenant, jsonb_build_object('drift_rows', audit_tenant_set.drift_rows, 'was', was));
    PERFORM zeroauth_audit_internal.say_next(format('the next run of the job drift recomputes the newest %s events of this tenant',
        coalesce(audit_tenant_set.drift_rows::text, current_setting('zeroauth_audit.drift_rows'))), false);
    RETURN CASE WHEN is_new THEN 'created' ELSE 'changed' END;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_tenant_set(text, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_tenant_set(text, integer) IS
    'How many newest events of one tenant each hourly check recomputes. tenant: its name, also of one that has no events yet. drift_rows: 1 to 100000; NULL: as many as the setting zeroauth_audit.drift_rows says. Returns created, changed or unchanged; a change is an event of the tenant zeroauth_audit. ZA009 for what cannot be a tenant or a number of events.';
