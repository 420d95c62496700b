-- Alerts: what a person is told, whom it is sent to, and what has been sent.

CREATE TABLE zeroauth_audit_internal.alerts (
    id bigint GENERATED ALWAYS AS IDENTITY,
    raised_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    severity smallint NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    tenant text COLLATE pg_catalog."C",
    fingerprint text COLLATE pg_catalog."C" NOT NULL,
    message text NOT NULL,
    evidence jsonb NOT NULL DEFAULT '{}',
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'open',
    occurrences bigint NOT NULL DEFAULT 1,
    last_seen timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    condition_gone_at timestamptz,
    escalation_level smallint NOT NULL DEFAULT 1,
    acknowledged_at timestamptz,
    acknowledged_by text,
    acknowledged_note text,
    resolved_at timestamptz,
    resolved_by text,
    resolved_note text,
    trail_error text,
    CONSTRAINT alerts_pkey PRIMARY KEY (id),
    CONSTRAINT alerts_severity_check CHECK (severity BETWEEN 1 AND 4),
    CONSTRAINT alerts_kind_check CHECK (kind ~ '^[a-z][a-z0-9_]{0,62}$'),
    CONSTRAINT alerts_fingerprint_check CHECK (pg_catalog.octet_length(fingerprint) BETWEEN 1 AND 1024),
    CONSTRAINT alerts_state_check CHECK (state IN ('open', 'acknowledged', 'resolved')),
    CONSTRAINT alerts_escalation_level_check CHECK (escalation_level BETWEEN 1 AND 4),
    CONSTRAINT alerts_acknowledged_check CHECK (state <> 'acknowledged' OR pg_catalog.num_nonnulls(acknowledged_at, acknowledged_by) = 2),
    CONSTRAINT alerts_resolved_check CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
COMMENT ON SEQUENCE zeroauth_audit_internal.alerts_id_seq IS 'Numbers of alerts.';
REVOKE ALL ON SEQUENCE zeroauth_audit_internal.alerts_id_seq FROM PUBLIC;
CREATE UNIQUE INDEX alerts_unresolved ON zeroauth_audit_internal.alerts (fingerprint) WHERE state <> 'resolved';
CREATE INDEX alerts_unacknowledged ON zeroauth_audit_internal.alerts (raised_at) WHERE state = 'open' AND severity = 1;
REVOKE ALL ON TABLE zeroauth_audit_internal.alerts FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.alerts IS 'What people are told: one row for each time that a condition began, at most one of them unresolved for each fingerprint.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.id IS 'Number of the alert, for audit_alert_acknowledge().';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.raised_at IS 'When it was raised.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.severity IS '1 to 4; 1 is the highest, and must be acknowledged by a person.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.kind IS 'What it is about: a finding class, or the state of a job. docs/runbook.md has a heading for each.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.tenant IS 'Whose trail it is about, NULL if no tenant''s.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.fingerprint IS 'What makes two reports the same condition: kind, tenant and place.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.message IS 'The condition in words, when it was first seen.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.evidence IS 'What was found, when it was first seen; more than 32 KiB are cut.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.state IS 'open, acknowledged or resolved.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.occurrences IS 'How often it was reported.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.last_seen IS 'When it was last reported.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.condition_gone_at IS 'When a check found the condition gone while nobody had acknowledged the alert; NULL again when it is back.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.escalation_level IS 'How far it was escalated: 1 is not at all.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.acknowledged_at IS 'When a person acknowledged it.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.acknowledged_by IS 'The role that was logged in then.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.acknowledged_note IS 'What that person wrote.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.resolved_at IS 'When the condition was found gone, after an acknowledgement if the severity is 1.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.resolved_by IS 'The role that was logged in then: the worker''s, normally.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.resolved_note IS 'Why it was resolved.';
COMMENT ON COLUMN zeroauth_audit_internal.alerts.trail_error IS 'Why an event about this alert could not be written to the trail; NULL when all of them were.';
COMMENT ON CONSTRAINT alerts_pkey ON zeroauth_audit_internal.alerts IS 'Alerts are told apart by their number.';
COMMENT ON CONSTRAINT alerts_severity_check ON zeroauth_audit_internal.alerts IS 'The four severities.';
COMMENT ON CONSTRAINT alerts_kind_check ON zeroauth_audit_internal.alerts IS 'A kind is a word that every receiver can route by.';
COMMENT ON CONSTRAINT alerts_fingerprint_check ON zeroauth_audit_internal.alerts IS 'A fingerprint is 1 to 1024 bytes long.';
COMMENT ON CONSTRAINT alerts_state_check ON zeroauth_audit_internal.alerts IS 'The three states.';
COMMENT ON CONSTRAINT alerts_escalation_level_check ON zeroauth_audit_internal.alerts IS 'The four levels.';
COMMENT ON CONSTRAINT alerts_acknowledged_check ON zeroauth_audit_internal.alerts IS 'An acknowledgement has a time and a person.';
COMMENT ON CONSTRAINT alerts_resolved_check ON zeroauth_audit_internal.alerts IS 'What is resolved was so at some time.';
COMMENT ON INDEX zeroauth_audit_internal.alerts_unresolved IS 'One unresolved alert for each fingerprint: a condition that goes on is counted, not repeated.';
COMMENT ON INDEX zeroauth_audit_internal.alerts_unacknowledged IS 'Alerts that can still be escalated.';

CREATE TABLE zeroauth_audit_internal.alert_routes (
    name text COLLATE pg_catalog."C" NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    url_file text NOT NULL,
    secret_file text,
    ca_file text,
    min_severity smallint NOT NULL DEFAULT 4,
    from_level smallint NOT NULL DEFAULT 1,
    enabled boolean NOT NULL DEFAULT true,
    CONSTRAINT alert_routes_pkey PRIMARY KEY (name),
    CONSTRAINT alert_routes_name_check CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    CONSTRAINT alert_routes_kind_check CHECK (kind IN ('alertmanager', 'opsgenie', 'pagerduty', 'slack', 'webhook')),
    CONSTRAINT alert_routes_files_check CHECK (url_file ~ '^/' AND secret_file ~ '^/' AND ca_file ~ '^/'),
    CONSTRAINT alert_routes_secret_check CHECK (kind NOT IN ('opsgenie', 'pagerduty', 'webhook') OR secret_file IS NOT NULL),
    CONSTRAINT alert_routes_min_severity_check CHECK (min_severity BETWEEN 1 AND 4),
    CONSTRAINT alert_routes_from_level_check CHECK (from_level BETWEEN 1 AND 4)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.alert_routes FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.alert_routes IS 'Where alerts are sent: written by audit_alert_route_set(), shown by audit_alert_routes. URLs and keys lie in files that only the server can read, never in a table.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.name IS 'Name of the route, as log lines and audit_alert_deliveries show it.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.kind IS 'alertmanager (its v2 API), slack (an incoming webhook), pagerduty (Events API v2), opsgenie (Alert API v2), or webhook (a signed POST of JSON).';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.url_file IS 'Absolute path of the file that holds the URL; mode 0600 or 0400, owned by the server''s user or root.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.secret_file IS 'Absolute path of the file that holds the key of the signature, PagerDuty''s routing key or Opsgenie''s API key, at least 16 bytes; mode and owner as for url_file. Those three have one, slack has none.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.ca_file IS 'Absolute path of a PEM file with the only certificate authorities that are trusted on this route; NULL: those of the system.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.min_severity IS 'Alerts of this severity and higher ones (smaller numbers) are sent; 4 is all of them.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.from_level IS 'Escalation level from which the route is used; 1 is at once.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_routes.enabled IS 'While false nothing new is queued, and what is queued waits.';
COMMENT ON CONSTRAINT alert_routes_pkey ON zeroauth_audit_internal.alert_routes IS 'Routes are told apart by their name.';
COMMENT ON CONSTRAINT alert_routes_name_check ON zeroauth_audit_internal.alert_routes IS 'A name that needs no quoting anywhere.';
COMMENT ON CONSTRAINT alert_routes_kind_check ON zeroauth_audit_internal.alert_routes IS 'The kinds that the library knows.';
COMMENT ON CONSTRAINT alert_routes_files_check ON zeroauth_audit_internal.alert_routes IS 'A relative path would depend on where the server was started.';
COMMENT ON CONSTRAINT alert_routes_secret_check ON zeroauth_audit_internal.alert_routes IS 'A webhook is always signed, and the others have a key of their own.';
COMMENT ON CONSTRAINT alert_routes_min_severity_check ON zeroauth_audit_internal.alert_routes IS 'The four severities.';
COMMENT ON CONSTRAINT alert_routes_from_level_check ON zeroauth_audit_internal.alert_routes IS 'The four levels.';

-- Without foreign keys: a parallel restore loads these tables in any order.
CREATE TABLE zeroauth_audit_internal.alert_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY,
    delivery_key uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    alert_id bigint NOT NULL,
    fingerprint text COLLATE pg_catalog."C" NOT NULL,
    route text COLLATE pg_catalog."C" NOT NULL,
    what text COLLATE pg_catalog."C" NOT NULL,
    level smallint NOT NULL,
    payload jsonb NOT NULL,
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0,
    refused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    next_attempt_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_error text,
    delivered_at timestamptz,
    CONSTRAINT alert_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT alert_deliveries_what_check CHECK (what IN ('raised', 'escalated', 'acknowledged', 'resolved')),
    CONSTRAINT alert_deliveries_level_check CHECK (level BETWEEN 1 AND 4),
    CONSTRAINT alert_deliveries_state_check CHECK (state IN ('pending', 'sending', 'delivered')),
    CONSTRAINT alert_deliveries_delivered_check CHECK ((state = 'delivered') = (delivered_at IS NOT NULL))
);
COMMENT ON SEQUENCE zeroauth_audit_internal.alert_deliveries_id_seq IS 'Numbers of deliveries.';
REVOKE ALL ON SEQUENCE zeroauth_audit_internal.alert_deliveries_id_seq FROM PUBLIC;
CREATE INDEX alert_deliveries_undelivered ON zeroauth_audit_internal.alert_deliveries (route, fingerprint, id) WHERE state <> 'delivered';
CREATE INDEX alert_deliveries_oldest ON zeroauth_audit_internal.alert_deliveries (created_at) WHERE state <> 'delivered';
CREATE INDEX alert_deliveries_alert ON zeroauth_audit_internal.alert_deliveries (alert_id, route);
REVOKE ALL ON TABLE zeroauth_audit_internal.alert_deliveries FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.alert_deliveries IS 'What is to be sent and what was: one row for each alert, route and turn of events. Tried until it is accepted, in order for each fingerprint and route. The job prune removes what was delivered more than 30 days ago.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.id IS 'Number of the delivery; the order in which they go out.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.delivery_key IS 'What a receiver tells a repeated delivery by: the same in every attempt.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.alert_id IS 'The alert.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.fingerprint IS 'The alert''s fingerprint: what the order is kept for.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.route IS 'The route. One is not dropped while something is undelivered on it.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.what IS 'raised, escalated, acknowledged or resolved.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.level IS 'Escalation level: 1 for what was raised, 2 to 4 for what was escalated.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.payload IS 'The body of a webhook; those of the other kinds are made from it.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.state IS 'pending, sending (handed to a sender; sent again if the server goes down meanwhile) or delivered.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.attempts IS 'How often it was tried.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.refused IS 'Whether the last answer said that the request itself is wrong (4xx).';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.created_at IS 'When it was queued.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.next_attempt_at IS 'Not tried before then.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.last_error IS 'Why the last failed attempt failed; of a refusal (4xx) with the first 100 printable bytes of what the server said. Never contains a part of a URL or a key.';
COMMENT ON COLUMN zeroauth_audit_internal.alert_deliveries.delivered_at IS 'When it was accepted.';
COMMENT ON CONSTRAINT alert_deliveries_pkey ON zeroauth_audit_internal.alert_deliveries IS 'Deliveries are told apart by their number.';
COMMENT ON CONSTRAINT alert_deliveries_what_check ON zeroauth_audit_internal.alert_deliveries IS 'The four turns of events.';
COMMENT ON CONSTRAINT alert_deliveries_level_check ON zeroauth_audit_internal.alert_deliveries IS 'The four levels.';
COMMENT ON CONSTRAINT alert_deliveries_state_check ON zeroauth_audit_internal.alert_deliveries IS 'The three states.';
COMMENT ON CONSTRAINT alert_deliveries_delivered_check ON zeroauth_audit_internal.alert_deliveries IS 'What is delivered was so at some time.';
COMMENT ON INDEX zeroauth_audit_internal.alert_deliveries_undelivered IS 'The queue.';
COMMENT ON INDEX zeroauth_audit_internal.alert_deliveries_oldest IS 'How long the queue has waited.';
COMMENT ON INDEX zeroauth_audit_internal.alert_deliveries_alert IS 'Who was told of an alert.';

-- Alerts come back with their state, routes with the names of their files, and deliveries as far as nobody accepted them.
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.alerts', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.alerts_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.alert_routes', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.alert_deliveries', 'WHERE state <> ''delivered''');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.alert_deliveries_id_seq', '');

CREATE FUNCTION zeroauth_audit_internal.append_own(action text, severity text, resource text, details jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_append_own';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.append_own(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.append_own(text, text, text, jsonb) IS
    'Adds an event about the extension itself to the trail of the tenant zeroauth_audit, as the owner of audit_events: triggers that somebody put there run with no more rights than that.';

CREATE FUNCTION zeroauth_audit_internal.log_line(line jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_log';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.log_line(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.log_line(jsonb) IS
    'Writes one line to the server log, and to no client.';

CREATE FUNCTION zeroauth_audit_internal.announce_alert(alert_id bigint, what text, level smallint) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    alert zeroauth_audit_internal.alerts;
    facts jsonb;
    problem text;
BEGIN
    SELECT a.* INTO STRICT alert FROM zeroauth_audit_internal.alerts a WHERE a.id = announce_alert.alert_id;
    facts := pg_catalog.jsonb_build_object(
        'id', alert.id, 'kind', alert.kind, 'severity', alert.severity, 'tenant', alert.tenant, 'fingerprint', alert.fingerprint,
        'message', alert.message, 'evidence', alert.evidence, 'state', alert.state, 'occurrences', alert.occurrences,
        'escalation_level', alert.escalation_level,
        'raised_at', pg_catalog.to_char(pg_catalog.timezone('UTC', alert.raised_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'acknowledged_at', pg_catalog.to_char(pg_catalog.timezone('UTC', alert.acknowledged_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'acknowledged_by', alert.acknowledged_by, 'acknowledged_note', alert.acknowledged_note,
        'resolved_at', pg_catalog.to_char(pg_catalog.timezone('UTC', alert.resolved_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'resolved_by', alert.resolved_by, 'resolved_note', alert.resolved_note);
    BEGIN
        PERFORM zeroauth_audit_internal.append_own(
            'alert.' || announce_alert.what, (ARRAY['critical', 'high', 'medium', 'low'])[alert.severity], alert.fingerprint,
            facts || pg_catalog.jsonb_build_object('level', announce_alert.level));
    EXCEPTION WHEN OTHERS THEN
        -- Whoever can make the trail refuse events must not silence alerts with it: people are told, also of this.
        problem := SQLSTATE || ' ' || SQLERRM;
        UPDATE zeroauth_audit_internal.alerts a SET trail_error = problem WHERE a.id = alert.id;
    END;
    PERFORM zeroauth_audit_internal.log_line(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'event', 'alert_' || announce_alert.what, 'id', alert.id, 'severity', alert.severity, 'kind', alert.kind,
        'tenant', alert.tenant, 'fingerprint', alert.fingerprint, 'level', announce_alert.level, 'message', alert.message,
        'note', CASE announce_alert.what WHEN 'acknowledged' THEN alert.acknowledged_note WHEN 'resolved' THEN alert.resolved_note END,
        'role', SESSION_USER, 'database', pg_catalog.current_database(), 'trail_error', problem)));
    -- Any role can listen: what it is about is for those who may read the table.
    PERFORM pg_catalog.pg_notify('zeroauth_audit_alert', pg_catalog.jsonb_build_object(
        'event', 'alert_' || announce_alert.what, 'id', alert.id, 'severity', alert.severity, 'kind', alert.kind,
        'level', announce_alert.level)::text);
    INSERT INTO zeroauth_audit_internal.alert_deliveries (delivery_key, alert_id, fingerprint, route, what, level, payload)
    SELECT k.delivery_key, alert.id, alert.fingerprint, k.name, announce_alert.what, announce_alert.level,
        pg_catalog.jsonb_build_object(
            'version', 1, 'delivery_id', k.delivery_key, 'what', announce_alert.what, 'level', announce_alert.level,
            'cluster', COALESCE(NULLIF(pg_catalog.current_setting('cluster_name'), ''), (SELECT s.system_identifier::text FROM pg_catalog.pg_control_system() s)),
            'database', pg_catalog.current_database(), 'alert', facts || pg_catalog.jsonb_build_object(
                'severity', (ARRAY['critical', 'high', 'warning', 'info'])[alert.severity], 'priority', alert.severity,
                'runbook_url', zeroauth_audit_internal.runbook_url(alert.kind)))
    FROM (
        SELECT r.name, pg_catalog.gen_random_uuid() AS delivery_key
        FROM zeroauth_audit_internal.routes_for(alert.id, announce_alert.what, announce_alert.level) r
    ) k
    ORDER BY k.name;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.announce_alert(bigint, text, smallint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.announce_alert(bigint, text, smallint) IS
    'Tells of a turn of events in an alert: an event of the tenant zeroauth_audit, a line in the server log, NOTIFY zeroauth_audit_alert, and a delivery for each route that is to know.';

CREATE FUNCTION zeroauth_audit_internal.runbook_url(kind text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT CASE
        WHEN s.url = '' THEN 'docs/runbook.md#' || runbook_url.kind
        WHEN s.url LIKE '%!%s%' ESCAPE '!' THEN replace(s.url, '%s', runbook_url.kind)
        WHEN s.url ~ '[/#=]$' THEN s.url || runbook_url.kind
        ELSE s.url || '/' || runbook_url.kind END
    FROM (SELECT btrim(current_setting('zeroauth_audit.runbook_url'))) s (url)
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.runbook_url(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.runbook_url(text) IS
    'Where to read what to do about alerts of a kind: by the setting zeroauth_audit.runbook_url, or the heading of the manual.';

CREATE FUNCTION zeroauth_audit_internal.routes_for(alert_id bigint, what text, level smallint) RETURNS TABLE (name text)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH fitting AS (
        SELECT r.name, r.from_level
        FROM zeroauth_audit_internal.alert_routes r JOIN zeroauth_audit_internal.alerts a ON a.severity <= r.min_severity OR a.kind = 'test'
        WHERE a.id = routes_for.alert_id AND r.enabled AND (a.kind <> 'test' OR r.name = coalesce(a.evidence ->> 'route', r.name))
    ), reached AS (
        SELECT f.name FROM fitting f JOIN zeroauth_audit_internal.alerts a ON a.id = routes_for.alert_id WHERE f.from_level <= routes_for.level OR a.kind = 'test'
    )
    SELECT r.name FROM reached r WHERE routes_for.what IN ('raised', 'escalated')
    UNION ALL
    -- An alert that no route is meant for yet must not be told to nobody.
    SELECT f.name FROM fitting f WHERE routes_for.what IN ('raised', 'escalated') AND NOT EXISTS (SELECT FROM reached)
    UNION ALL
    -- Who was told that it began is told how it went on.
    SELECT DISTINCT d.route FROM zeroauth_audit_internal.alert_deliveries d
    WHERE d.alert_id = routes_for.alert_id AND routes_for.what NOT IN ('raised', 'escalated')
      AND EXISTS (SELECT FROM zeroauth_audit_internal.alert_routes r WHERE r.name = d.route)
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.routes_for(bigint, text, smallint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.routes_for(bigint, text, smallint) IS
    'The routes that are to know of a turn of events in an alert: those of its severity that are used from this level or an earlier one, or all of its severity if there is none; of a test, the one that it is of, or all; for an acknowledgement or resolution, those that were told of the alert.';

CREATE FUNCTION zeroauth_audit_internal.raise_alert(kind text, severity smallint, tenant text, fingerprint text, message text, evidence jsonb) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    alert_id bigint;
    times bigint;
    size integer := pg_catalog.octet_length(raise_alert.evidence::text);
BEGIN
    INSERT INTO zeroauth_audit_internal.alerts AS a (kind, severity, tenant, fingerprint, message, evidence)
    VALUES (
        raise_alert.kind, raise_alert.severity, raise_alert.tenant, raise_alert.fingerprint,
        pg_catalog.left(raise_alert.message, 2000),
        CASE WHEN size > 32768 THEN pg_catalog.jsonb_build_object('cut', true, 'bytes', size, 'start', pg_catalog.left(raise_alert.evidence::text, 4000))
             ELSE COALESCE(raise_alert.evidence, '{}') END)
    ON CONFLICT (fingerprint) WHERE state <> 'resolved' DO UPDATE
        SET occurrences = a.occurrences + 1, last_seen = pg_catalog.clock_timestamp(), condition_gone_at = NULL
    RETURNING a.id, a.occurrences INTO STRICT alert_id, times;
    IF times = 1 THEN
        PERFORM zeroauth_audit_internal.announce_alert(alert_id, 'raised', 1::smallint);
    END IF;
    RETURN alert_id;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.raise_alert(text, smallint, text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.raise_alert(text, smallint, text, text, text, jsonb) IS
    'Raises an alert, or counts up the unresolved one with this fingerprint, which tells nobody again. kind: a word of the runbook; severity: 1 (highest) to 4, always the same for a fingerprint; tenant: whose trail, or NULL; fingerprint: kind, tenant and place; evidence: for a person, at most 32 KiB. Returns the alert''s id. For the extension''s own checks.';

CREATE FUNCTION zeroauth_audit_internal.resolve_alert(fingerprint text, note text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    alert_id bigint;
BEGIN
    UPDATE zeroauth_audit_internal.alerts a
    SET state = 'resolved', resolved_at = pg_catalog.clock_timestamp(), resolved_by = SESSION_USER, resolved_note = resolve_alert.note
    WHERE a.fingerprint = resolve_alert.fingerprint
      AND (a.state = 'acknowledged' OR a.state = 'open' AND a.severity > 1)
    RETURNING a.id INTO alert_id;
    IF alert_id IS NOT NULL THEN
        PERFORM zeroauth_audit_internal.announce_alert(alert_id, 'resolved', 1::smallint);
        RETURN true;
    END IF;
    UPDATE zeroauth_audit_internal.alerts a SET condition_gone_at = pg_catalog.clock_timestamp()
    WHERE a.fingerprint = resolve_alert.fingerprint AND a.state = 'open' AND a.condition_gone_at IS NULL;
    RETURN false;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.resolve_alert(text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.resolve_alert(text, text) IS
    'Resolves the alert with this fingerprint because a check found its condition gone; note says which. One of severity 1 that nobody acknowledged stays open and only remembers when that was. True when one was resolved. For the extension''s own checks; a person calls audit_alert_resolve().';

CREATE FUNCTION zeroauth_audit_internal.level_due(raised_at timestamptz, at timestamptz) RETURNS smallint
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT COALESCE(max(l.level), 1)::smallint
    FROM (VALUES (2, 'zeroauth_audit.escalate_2_after'), (3, 'zeroauth_audit.escalate_3_after'), (4, 'zeroauth_audit.escalate_4_after')) l (level, setting)
    WHERE pg_catalog.current_setting(l.setting) !~ '^-'
      AND level_due.raised_at + pg_catalog.current_setting(l.setting)::interval <= level_due.at
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.level_due(timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.level_due(timestamptz, timestamptz) IS
    'The escalation level that an unacknowledged alert of severity 1, raised at the first time, has reached at the second.';

CREATE FUNCTION zeroauth_audit_internal.escalate() RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    due record;
    escalated integer := 0;
BEGIN
    FOR due IN
        SELECT a.id, l.level
        FROM zeroauth_audit_internal.alerts a
        CROSS JOIN LATERAL (SELECT zeroauth_audit_internal.level_due(a.raised_at, pg_catalog.clock_timestamp()) AS level) l
        WHERE a.state = 'open' AND a.severity = 1 AND l.level > a.escalation_level
        ORDER BY a.raised_at LIMIT 1000
    LOOP
        UPDATE zeroauth_audit_internal.alerts a SET escalation_level = due.level WHERE a.id = due.id AND a.state = 'open';
        IF FOUND THEN
            PERFORM zeroauth_audit_internal.announce_alert(due.id, 'escalated', due.level);
            escalated := escalated + 1;
        END IF;
    END LOOP;
    RETURN escalated;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.escalate() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.escalate() IS
    'Escalates every open alert of severity 1 to the level that its age has reached, at most 1000 at a time. Returns how many. Called by the worker.';

CREATE FUNCTION zeroauth_audit_internal.take_deliveries(not_on text[], most_routes integer, most_each integer) RETURNS TABLE (
    id bigint, delivery_key uuid, route text, kind text, url_file text, secret_file text, ca_file text, attempts integer, payload text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 100
    SET search_path = pg_catalog, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH front AS (
        -- The first undelivered one of each fingerprint and route: what came later waits for it.
        SELECT DISTINCT ON (d.route, d.fingerprint) d.id, d.route, d.state, d.next_attempt_at
        FROM zeroauth_audit_internal.alert_deliveries d
        WHERE d.state <> 'delivered'
        ORDER BY d.route, d.fingerprint, d.id
    ), due AS (
        SELECT f.id, pg_catalog.row_number() OVER (PARTITION BY f.route ORDER BY f.id) AS place, pg_catalog.dense_rank() OVER (ORDER BY f.route) AS route_place
        FROM front f JOIN zeroauth_audit_internal.alert_routes r ON r.name = f.route
        WHERE f.state = 'pending' AND f.next_attempt_at <= pg_catalog.clock_timestamp() AND r.enabled
          AND NOT EXISTS (SELECT FROM pg_catalog.unnest(take_deliveries.not_on) n (name) WHERE n.name = f.route)
    ), taken AS (
        UPDATE zeroauth_audit_internal.alert_deliveries d SET state = 'sending'
        FROM due WHERE d.id = due.id AND due.place <= take_deliveries.most_each AND due.route_place <= take_deliveries.most_routes
        RETURNING d.id, d.delivery_key, d.route, d.attempts, d.payload
    )
    SELECT t.id, t.delivery_key, t.route, r.kind, r.url_file, r.secret_file, r.ca_file, t.attempts, t.payload::text
    FROM taken t JOIN zeroauth_audit_internal.alert_routes r ON r.name = t.route
    ORDER BY t.route, t.id;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.take_deliveries(text[], integer, integer) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.take_deliveries(text[], integer, integer) IS
    'Marks deliveries that are due as being sent, and returns them in order: not those of the routes not_on, of at most most_routes others, and at most most_each of one. Called by the worker.';

CREATE FUNCTION zeroauth_audit_internal.settle_delivery(id bigint, outcome text, error text, pause interval) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    UPDATE zeroauth_audit_internal.alert_deliveries d
    SET state = CASE settle_delivery.outcome WHEN 'delivered' THEN 'delivered' ELSE 'pending' END,
        delivered_at = CASE settle_delivery.outcome WHEN 'delivered' THEN pg_catalog.clock_timestamp() END,
        attempts = d.attempts + CASE settle_delivery.outcome WHEN 'untried' THEN 0 ELSE 1 END,
        refused = CASE settle_delivery.outcome WHEN 'untried' THEN d.refused ELSE settle_delivery.outcome = 'refused' END,
        last_error = COALESCE(pg_catalog.left(settle_delivery.error, 500), d.last_error),
        next_attempt_at = CASE WHEN settle_delivery.outcome IN ('retry', 'refused') THEN pg_catalog.clock_timestamp() + settle_delivery.pause ELSE d.next_attempt_at END
    WHERE d.id = settle_delivery.id AND d.state = 'sending';
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.settle_delivery(bigint, text, text, interval) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.settle_delivery(bigint, text, text, interval) IS
    'Records what came of a delivery that was being sent: delivered, retry or refused (with an error, tried again after the pause), or untried. Called by the worker.';

CREATE FUNCTION zeroauth_audit_internal.check_route(route text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    stuck record;
    mark text := 'delivery_failing::' || check_route.route;
BEGIN
    SELECT pg_catalog.count(*) AS deliveries, pg_catalog.min(d.created_at) AS since, pg_catalog.max(d.attempts) AS attempts,
           (pg_catalog.array_agg(d.last_error ORDER BY d.next_attempt_at DESC))[1] AS error
    INTO stuck FROM zeroauth_audit_internal.alert_deliveries d
    WHERE d.route = check_route.route AND d.state <> 'delivered' AND d.attempts > 0
      AND (d.refused OR d.created_at < pg_catalog.clock_timestamp() - interval '15 minutes');
    IF stuck.deliveries > 0 THEN
        PERFORM zeroauth_audit_internal.raise_alert('delivery_failing', 2::smallint, NULL, mark,
            pg_catalog.format('alerts do not get through on route %s: %s', check_route.route, stuck.error),
            pg_catalog.to_jsonb(stuck));
        RETURN false;
    END IF;
    PERFORM zeroauth_audit_internal.resolve_alert(mark, 'deliveries get through again');
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.check_route(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.check_route(text) IS
    'Raises the alert delivery_failing for a route on which a delivery was refused, or has failed for 15 minutes, and resolves it otherwise. True when the route is fine. Called by the worker.';

CREATE FUNCTION zeroauth_audit_internal.requeue_deliveries() RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    requeued bigint;
BEGIN
    UPDATE zeroauth_audit_internal.alert_deliveries d SET state = 'pending' WHERE d.state = 'sending';
    GET DIAGNOSTICS requeued = ROW_COUNT;
    RETURN requeued;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.requeue_deliveries() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.requeue_deliveries() IS
    'Queues again what was being sent when the worker ended: whether it arrived is not known. Called by the worker when it starts.';

CREATE FUNCTION zeroauth_audit_internal.next_delivery(not_on text[]) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT LEAST(
        (SELECT pg_catalog.min(f.next_attempt_at)
         FROM (SELECT DISTINCT ON (d.route, d.fingerprint) d.route, d.state, d.next_attempt_at
               FROM zeroauth_audit_internal.alert_deliveries d WHERE d.state <> 'delivered' ORDER BY d.route, d.fingerprint, d.id) f
         JOIN zeroauth_audit_internal.alert_routes r ON r.name = f.route
         WHERE f.state = 'pending' AND r.enabled
           AND NOT EXISTS (SELECT FROM pg_catalog.unnest(next_delivery.not_on) n (name) WHERE n.name = f.route)),
        (SELECT pg_catalog.min(a.raised_at + pg_catalog.current_setting(l.setting)::interval)
         FROM zeroauth_audit_internal.alerts a
         JOIN (VALUES (2, 'zeroauth_audit.escalate_2_after'), (3, 'zeroauth_audit.escalate_3_after'), (4, 'zeroauth_audit.escalate_4_after')) l (level, setting)
           ON l.level > a.escalation_level
         WHERE a.state = 'open' AND a.severity = 1 AND pg_catalog.current_setting(l.setting) !~ '^-'))
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.next_delivery(text[]) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.next_delivery(text[]) IS
    'When the worker has to look again: the next attempt on a route other than not_on, or the next escalation. NULL when nothing is due.';
