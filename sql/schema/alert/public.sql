-- Alerts as people see them and act on them: which there are, where they are sent, what was sent.

CREATE VIEW @extschema@.audit_alerts AS
    SELECT a.id, a.severity, a.state, a.kind, a.tenant AS tenant_id, a.raised_at, a.occurrences, a.message, a.last_seen AS last_seen_at, a.condition_gone_at,
        a.escalation_level, a.acknowledged_at, a.acknowledged_by, a.acknowledged_note, a.resolved_at, a.resolved_by, a.resolved_note, a.fingerprint, a.trail_error, a.evidence
    FROM zeroauth_audit_internal.alerts a;
REVOKE ALL ON TABLE @extschema@.audit_alerts FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_alerts IS 'What is wrong, and what became of it: every alert, one row for each time that a condition began. Those to act on have state open. Read-only; audit_alert_acknowledge() and audit_alert_resolve() act on one.';
COMMENT ON COLUMN @extschema@.audit_alerts.id IS 'Number of the alert: what audit_alert_acknowledge() and audit_alert_resolve() take.';
COMMENT ON COLUMN @extschema@.audit_alerts.severity IS '1 to 4; 1 is the highest, and must be acknowledged by a person.';
COMMENT ON COLUMN @extschema@.audit_alerts.state IS 'open, acknowledged or resolved.';
COMMENT ON COLUMN @extschema@.audit_alerts.kind IS 'What it is about: a finding class, or the state of something. docs/runbook.md has a heading for each.';
COMMENT ON COLUMN @extschema@.audit_alerts.tenant_id IS 'Whose trail it is about, NULL if no tenant''s.';
COMMENT ON COLUMN @extschema@.audit_alerts.raised_at IS 'When it was raised.';
COMMENT ON COLUMN @extschema@.audit_alerts.occurrences IS 'How often the condition was reported.';
COMMENT ON COLUMN @extschema@.audit_alerts.message IS 'The condition in words, when it was first seen.';
COMMENT ON COLUMN @extschema@.audit_alerts.last_seen_at IS 'When it was last reported.';
COMMENT ON COLUMN @extschema@.audit_alerts.condition_gone_at IS 'When a check found the condition gone while nobody had acknowledged the alert; NULL again when it is back.';
COMMENT ON COLUMN @extschema@.audit_alerts.escalation_level IS 'How far it was escalated, 1 to 4: 1 is not at all.';
COMMENT ON COLUMN @extschema@.audit_alerts.acknowledged_at IS 'When a person acknowledged it.';
COMMENT ON COLUMN @extschema@.audit_alerts.acknowledged_by IS 'The role that was logged in then.';
COMMENT ON COLUMN @extschema@.audit_alerts.acknowledged_note IS 'What that person wrote.';
COMMENT ON COLUMN @extschema@.audit_alerts.resolved_at IS 'When it was over: a check found the condition gone, or a person said so.';
COMMENT ON COLUMN @extschema@.audit_alerts.resolved_by IS 'The role that was logged in then: the worker''s, normally.';
COMMENT ON COLUMN @extschema@.audit_alerts.resolved_note IS 'Why it was resolved.';
COMMENT ON COLUMN @extschema@.audit_alerts.fingerprint IS 'What makes two reports the same condition: kind, tenant and place.';
COMMENT ON COLUMN @extschema@.audit_alerts.trail_error IS 'Why an event about this alert could not be written to the trail; NULL when all of them were.';
COMMENT ON COLUMN @extschema@.audit_alerts.evidence IS 'What was found, when it was first seen, for a person at work on it; more than 32 KiB are cut.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_alerts
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('id', 'SELECT audit_alert_test();',
        'SELECT audit_alert_acknowledge(%, ''what is being done'');', 'SELECT audit_alert_resolve(%, ''why it is over'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_alerts IS 'Refuses edits, and says which call to make.';

CREATE VIEW @extschema@.audit_alert_routes AS
    SELECT r.name, r.kind, r.enabled,
        CASE WHEN NOT r.enabled THEN 'off' WHEN stuck.since IS NOT NULL THEN 'failing' WHEN sent.newest IS NOT NULL THEN 'ok' ELSE 'unused' END AS state,
        sent.newest AS last_success_at, stuck.since AS failing_since, stuck.error AS last_error,
        pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('url_file', r.url_file, 'secret_file', r.secret_file, 'ca_file', r.ca_file,
            'min_severity', r.min_severity, 'from_level', r.from_level)) AS config
    FROM zeroauth_audit_internal.alert_routes r
    CROSS JOIN LATERAL (
        SELECT pg_catalog.max(d.delivered_at) AS newest FROM zeroauth_audit_internal.alert_deliveries d WHERE d.route OPERATOR(pg_catalog.=) r.name) sent
    CROSS JOIN LATERAL (
        SELECT pg_catalog.min(d.created_at) AS since, (pg_catalog.array_agg(d.last_error ORDER BY d.next_attempt_at DESC))[1] AS error
        FROM zeroauth_audit_internal.alert_deliveries d
        WHERE d.route OPERATOR(pg_catalog.=) r.name AND d.state OPERATOR(pg_catalog.<>) 'delivered' AND d.attempts OPERATOR(pg_catalog.>) 0) stuck;
REVOKE ALL ON TABLE @extschema@.audit_alert_routes FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_alert_routes IS 'Where alerts are sent, and whether they get through. Read-only; audit_alert_route_set() and audit_alert_route_drop() change it, audit_alert_test() tries it.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.name IS 'Name of the route, as log lines and audit_alert_deliveries show it.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.kind IS 'alertmanager (its v2 API), slack (an incoming webhook), pagerduty (Events API v2), opsgenie (Alert API v2), or webhook (a signed POST of JSON).';
COMMENT ON COLUMN @extschema@.audit_alert_routes.enabled IS 'While false nothing new is queued, and what is queued waits.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.state IS 'off (not enabled), failing (something was tried and did not get through), ok, or unused (nothing was sent in the last 30 days).';
COMMENT ON COLUMN @extschema@.audit_alert_routes.last_success_at IS 'When something last got through, of what was sent in the last 30 days.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.failing_since IS 'Since when the oldest alert that was tried and did not get through has waited; NULL: none does.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.last_error IS 'Why the newest of these attempts failed; of a refusal (4xx) with the first 100 printable bytes of what the server said. Never contains a part of a URL or a key.';
COMMENT ON COLUMN @extschema@.audit_alert_routes.config IS 'What audit_alert_route_set() was given: names of files, never what is in them.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_alert_routes
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('name',
        'SELECT audit_alert_route_set(%, ''webhook'', ''{"url_file": "/etc/zeroauth/oncall.url", "secret_file": "/etc/zeroauth/oncall.key"}'');',
        'SELECT audit_alert_route_set(%, enabled => false);', 'SELECT audit_alert_route_drop(%, ''why'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_alert_routes IS 'Refuses edits, and says which call to make.';

CREATE VIEW @extschema@.audit_alert_deliveries AS
    SELECT d.route, d.state, d.attempts, d.created_at, d.last_error, d.delivered_at, d.next_attempt_at, d.refused, d.what, d.level, d.id, d.alert_id, d.delivery_key
    FROM zeroauth_audit_internal.alert_deliveries d;
REVOKE ALL ON TABLE @extschema@.audit_alert_deliveries FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_alert_deliveries IS 'Whether an alert reached a route: what is to be sent and what was, one row for each alert, route and turn of events. Tried until it is accepted, in order for each condition and route. Read-only; the job prune removes what was delivered more than 30 days ago.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.route IS 'The route.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.state IS 'pending, sending (handed to a sender; sent again if the server goes down meanwhile) or delivered.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.attempts IS 'How often it was tried.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.created_at IS 'When it was queued.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.last_error IS 'Why the last failed attempt failed; of a refusal (4xx) with the first 100 printable bytes of what the server said. Never contains a part of a URL or a key.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.delivered_at IS 'When it was accepted.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.next_attempt_at IS 'Not tried before then.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.refused IS 'Whether the last answer said that the request itself is wrong (4xx).';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.what IS 'raised, escalated, acknowledged or resolved.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.level IS 'Escalation level: 1 for what was raised, 2 to 4 for what was escalated.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.id IS 'Number of the delivery; the order in which they go out.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.alert_id IS 'The alert: audit_alerts.id.';
COMMENT ON COLUMN @extschema@.audit_alert_deliveries.delivery_key IS 'What a receiver tells a repeated delivery by: the same in every attempt.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_alert_deliveries
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('route', 'SELECT audit_alert_test(%);',
        'What is queued is tried until it is accepted. When the route is at fault: SELECT audit_alert_route_set(%, config => ''{..}'');',
        'What is queued is tried until it is accepted, what was delivered goes by itself: SELECT * FROM audit_job_run(''prune'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_alert_deliveries IS 'Refuses edits, and says which call to make.';

CREATE FUNCTION @extschema@.audit_alert_acknowledge(alert bigint, note text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := zeroauth_audit_internal.require_note(note, 'an acknowledgement', 'Say what is being done about the alert.');
    known zeroauth_audit_internal.alerts := zeroauth_audit_internal.alert_to_act_on(alert);
BEGIN
    IF known.state <> 'open' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('alert %s is %s already', known.id, known.state),
            HINT = 'SELECT id, message FROM audit_alerts WHERE state = ''open'' shows what can be acknowledged.';
    END IF;
    UPDATE zeroauth_audit_internal.alerts a
    SET state = 'acknowledged', acknowledged_at = clock_timestamp(), acknowledged_by = SESSION_USER, acknowledged_note = written
    WHERE a.id = known.id;
    PERFORM zeroauth_audit_internal.announce_alert(known.id, 'acknowledged', 1::smallint);
    IF known.condition_gone_at IS NULL THEN
        RETURN 'acknowledged';
    END IF;
    UPDATE zeroauth_audit_internal.alerts a
    SET state = 'resolved', resolved_at = clock_timestamp(), resolved_by = SESSION_USER, resolved_note = 'the condition was gone before the acknowledgement'
    WHERE a.id = known.id;
    PERFORM zeroauth_audit_internal.announce_alert(known.id, 'resolved', 1::smallint);
    RETURN 'resolved';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_alert_acknowledge(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_alert_acknowledge(bigint, text) IS
    'A person takes over: stops the escalation. An open alert becomes acknowledged; resolved, if its condition is gone already. alert: its number in audit_alerts. note: what is being done, not empty. Returns the new state. ZA005 when there is no such alert, ZA009 without a note or when it is not open.';

CREATE FUNCTION zeroauth_audit_internal.alert_to_act_on(alert bigint) RETURNS zeroauth_audit_internal.alerts
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known zeroauth_audit_internal.alerts;
BEGIN
    IF alert IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = 'the number of the alert is NULL', HINT = 'SELECT id, message FROM audit_alerts WHERE state <> ''resolved'' shows the numbers.';
    END IF;
    SELECT a.* INTO known FROM zeroauth_audit_internal.alerts a WHERE a.id = alert FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA005', MESSAGE = format('there is no alert %s', alert), HINT = 'SELECT id, message FROM audit_alerts WHERE state <> ''resolved'' shows those that there are.';
    END IF;
    RETURN known;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.alert_to_act_on(bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.alert_to_act_on(bigint) IS
    'Part of audit_alert_acknowledge() and audit_alert_resolve(): the alert, locked; ZA005 when there is none of this number.';

CREATE FUNCTION @extschema@.audit_alert_resolve(alert bigint, note text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := zeroauth_audit_internal.require_note(note, 'a resolution', 'Say why the alert is over.');
    known zeroauth_audit_internal.alerts := zeroauth_audit_internal.alert_to_act_on(alert);
BEGIN
    IF known.state = 'resolved' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('alert %s is resolved already', known.id),
            HINT = 'SELECT id, message FROM audit_alerts WHERE state <> ''resolved'' shows those that are not.';
    ELSIF known.state = 'open' AND known.severity = 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('alert %s has severity 1 and is not acknowledged', known.id),
            HINT = format('SELECT audit_alert_acknowledge(%s, ''what is being done'');', known.id);
    END IF;
    UPDATE zeroauth_audit_internal.alerts a
    SET state = 'resolved', resolved_at = clock_timestamp(), resolved_by = SESSION_USER, resolved_note = written
    WHERE a.id = known.id;
    PERFORM zeroauth_audit_internal.announce_alert(known.id, 'resolved', 1::smallint);
    RAISE NOTICE USING MESSAGE = format('alert %s is resolved; a check that still finds its condition raises a new one', known.id);
    RETURN 'resolved';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_alert_resolve(bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_alert_resolve(bigint, text) IS
    'Ends an acknowledged alert that no check can end. One of severity 2 to 4 may be ended without an acknowledgement. alert: its number in audit_alerts. note: why it is over, not empty. Returns resolved. A check that still finds the condition raises a new alert. ZA005 when there is no such alert, ZA009 without a note, when it is resolved already, or for one of severity 1 that nobody acknowledged.';

CREATE FUNCTION @extschema@.audit_alert_test(route text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    routes text[] := ARRAY(SELECT r.name FROM zeroauth_audit_internal.alert_routes r WHERE r.enabled AND r.name = coalesce(audit_alert_test.route, r.name) ORDER BY r.name);
    alert bigint;
BEGIN
    IF routes = '{}' AND audit_alert_test.route IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = 'there is no alert route that is enabled', HINT = 'SELECT audit_alert_route_set(..) makes one; SELECT * FROM audit_alert_routes shows those that there are.';
    ELSIF routes = '{}' AND EXISTS (SELECT 1 FROM zeroauth_audit_internal.alert_routes r WHERE r.name = audit_alert_test.route) THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('alert route "%s" is not enabled', audit_alert_test.route),
            HINT = format('SELECT audit_alert_route_set(%L, enabled => true);', audit_alert_test.route);
    ELSIF routes = '{}' THEN
        PERFORM zeroauth_audit_internal.unknown_name(audit_alert_test.route, 'alert route', 'SELECT name FROM audit_alert_routes shows those that there are.');
    END IF;
    alert := zeroauth_audit_internal.raise_alert('test', 4::smallint, NULL, 'test:' || gen_random_uuid(), format('a test of %s, asked for by %s',
            CASE WHEN audit_alert_test.route IS NULL THEN 'every alert route' ELSE format('alert route "%s"', audit_alert_test.route) END, SESSION_USER),
        jsonb_strip_nulls(jsonb_build_object('route', audit_alert_test.route, 'by', SESSION_USER)));
    PERFORM zeroauth_audit_internal.say_next(format('test alert %s is queued for %s; SELECT route, state, last_error FROM audit_alert_deliveries WHERE alert_id = %s shows whether it arrives', alert, array_to_string(routes, ', '), alert), false);
    RETURN alert;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_alert_test(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_alert_test(text) IS
    'Sends a test alert of severity 4 through one route or all. It goes through a route whatever severities and levels that is for; the worker sends it as every other. route: its name, NULL for every one that is enabled. Returns the alert''s number: audit_alert_deliveries shows whether it arrives. It stays open until somebody resolves it, or the job prune does, an hour later at the earliest. ZA005 for a route that is not there, ZA009 when none is enabled.';
