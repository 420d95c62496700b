-- Alert routes: making, changing and dropping one.

CREATE TRIGGER zeroauth_audit_alert_routes_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON zeroauth_audit_internal.alert_routes
    FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_alert_routes_changed ON zeroauth_audit_internal.alert_routes IS 'A change counts at once: the worker is woken.';
ALTER TABLE zeroauth_audit_internal.alert_routes ENABLE ALWAYS TRIGGER zeroauth_audit_alert_routes_changed;

CREATE FUNCTION @extschema@.audit_alert_route_set(route text, kind text DEFAULT NULL, config jsonb DEFAULT NULL, enabled boolean DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was zeroauth_audit_internal.alert_routes;
    wanted zeroauth_audit_internal.alert_routes;
    is_new boolean;
    fields jsonb;
BEGIN
    PERFORM zeroauth_audit_internal.require_name(route, 'alert route');
    SELECT r.* INTO was FROM zeroauth_audit_internal.alert_routes r WHERE r.name = route FOR UPDATE;
    is_new := NOT FOUND;
    IF is_new AND (audit_alert_route_set.kind IS NULL OR audit_alert_route_set.config IS NULL) THEN
        PERFORM zeroauth_audit_internal.unknown_name(route, 'alert route', format(
            'A new one needs kind and config: SELECT audit_alert_route_set(%L, ''webhook'', ''{"url_file": "/etc/zeroauth/oncall.url", "secret_file": "/etc/zeroauth/oncall.key"}'');', route));
    END IF;
    fields := coalesce(audit_alert_route_set.config, jsonb_build_object('url_file', was.url_file, 'secret_file', was.secret_file, 'ca_file', was.ca_file,
        'min_severity', was.min_severity, 'from_level', was.from_level));
    -- Before a file is looked at. The caller is forgotten here; who logged in is not: in a function of the owner's it is still the operator.
    IF NOT pg_has_role(SESSION_USER, (SELECT e.extowner FROM pg_extension e WHERE e.extname = 'zeroauth_audit'), 'USAGE')
       AND (is_new OR audit_alert_route_set.kind <> was.kind
            OR jsonb_strip_nulls(fields) - '{min_severity,from_level}'::text[] <> jsonb_strip_nulls(jsonb_build_object('url_file', was.url_file, 'secret_file', was.secret_file, 'ca_file', was.ca_file))) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('permission denied for alert route "%s": where alerts are sent is for the owner to say', route),
            DETAIL = 'An operator may change enabled, min_severity and from_level of a route that is there.',
            HINT = format('Ask "%s".', (SELECT pg_get_userbyid(e.extowner) FROM pg_extension e WHERE e.extname = 'zeroauth_audit'));
    END IF;
    -- A route whose files are gone can still be switched off.
    IF coalesce(audit_alert_route_set.enabled, false) OR num_nonnulls(audit_alert_route_set.kind, audit_alert_route_set.config) > 0 THEN
        PERFORM zeroauth_audit_internal.route_config_check(route, coalesce(audit_alert_route_set.kind, was.kind), fields);
    END IF;
    SELECT route, coalesce(audit_alert_route_set.kind, was.kind), fields ->> 'url_file', fields ->> 'secret_file', fields ->> 'ca_file',
        coalesce((fields ->> 'min_severity')::smallint, 4::smallint), coalesce((fields ->> 'from_level')::smallint, 1::smallint),
        coalesce(audit_alert_route_set.enabled, was.enabled, true)
    INTO wanted;
    IF was IS NOT DISTINCT FROM wanted THEN
        RETURN 'unchanged';
    END IF;
    IF is_new THEN
        INSERT INTO zeroauth_audit_internal.alert_routes SELECT wanted.*;
    ELSE
        UPDATE zeroauth_audit_internal.alert_routes r
        SET kind = wanted.kind, url_file = wanted.url_file, secret_file = wanted.secret_file, ca_file = wanted.ca_file,
            min_severity = wanted.min_severity, from_level = wanted.from_level, enabled = wanted.enabled
        WHERE r.name = route;
    END IF;
    PERFORM zeroauth_audit_internal.note_change(CASE WHEN is_new THEN 'alert.route_created' ELSE 'alert.route_changed' END,
        CASE WHEN wanted.enabled THEN 'info' ELSE 'high' END, route,
        jsonb_build_object('is', to_jsonb(wanted), 'was', CASE WHEN NOT is_new THEN to_jsonb(was) END));
    PERFORM zeroauth_audit_internal.say_next(CASE
        WHEN wanted.enabled THEN format('alerts go through route "%s" from now on; SELECT audit_alert_test(%L) tries it', route, route)
        ELSE format('nothing goes through alert route "%s" any more, and what is queued waits', route) END, false);
    RETURN CASE WHEN is_new THEN 'created' ELSE 'changed' END;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_alert_route_set(text, text, jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_alert_route_set(text, text, jsonb, boolean) IS
    'Creates or changes a place where alerts are sent. What is NULL stays as it is; a new one needs kind and config, and is enabled. kind: alertmanager (its v2 API), slack (an incoming webhook), pagerduty (Events API v2), opsgenie (Alert API v2) or webhook (a signed POST of JSON). config replaces the whole of it: url_file (a file with the URL), secret_file (a file with the key of the signature, with PagerDuty''s routing key or with Opsgenie''s API key, at least 16 bytes; webhook, pagerduty and opsgenie have one, slack has none), ca_file (a PEM file with the only authorities that are trusted; without it those of the system), min_severity (alerts of this severity and higher ones, which have smaller numbers; 4 without it), from_level (escalation level from which it is used; 1 without it). URL and secret files have mode 0600 or 0400 and belong to the server''s user or to root. enabled: while false nothing new is queued, and what is queued waits. Returns created, changed or unchanged; a change is an event of the tenant zeroauth_audit. ZA060, with the field''s name, for a configuration that could not be used; ZA005 for a name that is not there and comes without kind and config; ZA009 for what cannot be a name; 42501 for an operator who would change more than enabled, min_severity and from_level.';

CREATE FUNCTION @extschema@.audit_alert_route_drop(route text, note text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := zeroauth_audit_internal.require_note(note, 'dropping an alert route', 'Say why nothing is sent there any more.');
    was zeroauth_audit_internal.alert_routes;
    queued bigint;
BEGIN
    PERFORM zeroauth_audit_internal.require_name(route, 'alert route');
    SELECT r.* INTO was FROM zeroauth_audit_internal.alert_routes r WHERE r.name = audit_alert_route_drop.route FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM zeroauth_audit_internal.unknown_name(route, 'alert route', 'SELECT name FROM audit_alert_routes shows those that there are.');
    END IF;
    SELECT count(*) INTO queued FROM zeroauth_audit_internal.alert_deliveries d WHERE d.route = was.name AND d.state <> 'delivered';
    IF queued > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA061', MESSAGE = format('alert route "%s" has %s that nobody has got yet', was.name, CASE queued WHEN 1 THEN '1 alert' ELSE queued || ' alerts' END),
            HINT = format('Wait until they are delivered: SELECT * FROM audit_alert_deliveries WHERE route = %L. When that place is gone for good, point the route elsewhere with audit_alert_route_set().', was.name);
    END IF;
    DELETE FROM zeroauth_audit_internal.alert_routes r WHERE r.name = was.name;
    PERFORM zeroauth_audit_internal.resolve_alert('delivery_failing::' || was.name, 'the route was dropped');
    PERFORM zeroauth_audit_internal.note_change('alert.route_dropped', 'high', was.name, jsonb_build_object('was', to_jsonb(was), 'note', written));
    RAISE NOTICE USING MESSAGE = format('nothing goes through alert route "%s" any more', was.name);
    RETURN 'dropped';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_alert_route_drop(text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_alert_route_drop(text, text) IS
    'Removes a place where alerts are sent; refused while deliveries are queued. note: why, not empty. Returns dropped; it is an event of the tenant zeroauth_audit. ZA005 for a route that is not there, ZA009 without a note, ZA061 while something is queued.';
