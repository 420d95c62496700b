-- Logical replication of the trail: whether what others send arrives here (a hub), and whether what is sent from here is fetched.
--
-- A subscription that stands still is tried again every five seconds for ever, and PostgreSQL says so in the server log alone.

CREATE TABLE zeroauth_audit_internal.replication_state (
    kind text COLLATE pg_catalog."C" NOT NULL,
    name text COLLATE pg_catalog."C" NOT NULL,
    errors bigint NOT NULL DEFAULT 0,
    looks integer NOT NULL DEFAULT 0,
    why text,
    CONSTRAINT replication_state_pkey PRIMARY KEY (kind, name),
    CONSTRAINT replication_state_kind_check CHECK (kind IN ('subscription_failing', 'replication_behind'))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.replication_state FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.replication_state IS 'What the job tripwire last saw of the subscriptions and slots that carry the trail.';
COMMENT ON COLUMN zeroauth_audit_internal.replication_state.kind IS 'subscription_failing (of a subscription) or replication_behind (of a slot): the kind of its alert.';
COMMENT ON COLUMN zeroauth_audit_internal.replication_state.name IS 'Name of the subscription, or of the slot.';
COMMENT ON COLUMN zeroauth_audit_internal.replication_state.errors IS 'Errors of a subscription so far.';
COMMENT ON COLUMN zeroauth_audit_internal.replication_state.looks IS 'How many looks in a row found something wrong.';
COMMENT ON COLUMN zeroauth_audit_internal.replication_state.why IS 'What is wrong; NULL: nothing.';
COMMENT ON CONSTRAINT replication_state_pkey ON zeroauth_audit_internal.replication_state IS 'One row for each.';
COMMENT ON CONSTRAINT replication_state_kind_check ON zeroauth_audit_internal.replication_state IS 'The two kinds.';

CREATE FUNCTION zeroauth_audit_internal.replication_seen() RETURNS TABLE (kind text, name text, errors bigint, why text, evidence jsonb)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT 'subscription_failing', s.subname::text, coalesce(x.apply_error_count + x.sync_error_count, 0),
        CASE WHEN NOT s.subenabled THEN 'it is disabled' WHEN w.pid IS NULL THEN 'no process receives it' END,
        jsonb_build_object('enabled', s.subenabled, 'pid', w.pid, 'apply_errors', x.apply_error_count, 'sync_errors', x.sync_error_count)
    FROM pg_subscription s
    LEFT JOIN pg_stat_subscription_stats x ON x.subid = s.oid
    LEFT JOIN LATERAL (SELECT min(a.pid) AS pid FROM pg_stat_subscription a WHERE a.subid = s.oid AND a.relid IS NULL) w ON true
    WHERE s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND EXISTS (SELECT 1 FROM pg_subscription_rel r WHERE r.srsubid = s.oid AND r.srrelid = '@extschema@.audit_events'::regclass);
    IF pg_is_in_recovery() OR NOT EXISTS (
        SELECT 1 FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
        WHERE format('%I.%I', t.schemaname, t.tablename)::regclass = '@extschema@.audit_events'::regclass) THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT 'replication_behind', s.slot_name::text, 0::bigint,
        CASE WHEN s.wal_status = 'lost' THEN 'the server has removed WAL that it waited for'
             WHEN s.wal_status = 'unreserved' THEN 'the server is about to remove WAL that it waits for'
             WHEN NOT s.active AND pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn) > 1073741824
             THEN format('nobody reads it, and it keeps %s of WAL', pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn))) END,
        jsonb_build_object('active', s.active, 'wal_status', s.wal_status, 'behind_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 'safe_wal_size', s.safe_wal_size)
    FROM pg_replication_slots s
    WHERE s.slot_type = 'logical' AND s.plugin = 'pgoutput' AND NOT s.temporary AND s.database = current_database();
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.replication_seen() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.replication_seen() IS
    'The subscriptions that bring events into audit_events, and, where a publication sends them, the slots of pgoutput: how many errors there were, and what is wrong with each now. A restart after an error takes seconds, so one look says little.';

CREATE FUNCTION zeroauth_audit_internal.replication_watch() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    before zeroauth_audit_internal.replication_state;
    wrong text;
    known text[] := '{}';
    failing text[] := '{}';
BEGIN
    FOR s IN SELECT * FROM zeroauth_audit_internal.replication_seen() LOOP
        SELECT r.* INTO before FROM zeroauth_audit_internal.replication_state r WHERE r.kind = s.kind AND r.name = s.name;
        wrong := coalesce(CASE WHEN s.errors > before.errors THEN format('%s errors since the last look, which the server log has', s.errors - before.errors) END, s.why);
        INSERT INTO zeroauth_audit_internal.replication_state AS r (kind, name, errors, looks, why)
        VALUES (s.kind, s.name, s.errors, CASE WHEN wrong IS NULL THEN 0 ELSE 1 END, wrong)
        ON CONFLICT (kind, name) DO UPDATE SET errors = excluded.errors, looks = CASE WHEN wrong IS NULL THEN 0 ELSE least(r.looks, 1000000) + 1 END, why = wrong;
        known := known || (s.kind || ':' || s.name);
        IF wrong IS NOT NULL AND before.looks > 0 THEN
            failing := failing || (s.kind || ':' || s.name);
            IF s.kind = 'subscription_failing' THEN
                PERFORM zeroauth_audit_internal.raise_alert('subscription_failing', 2::smallint, NULL, 'subscription_failing:' || s.name,
                    format('events do not arrive by subscription %s: %s', s.name, wrong), s.evidence);
            ELSE
                PERFORM zeroauth_audit_internal.raise_alert('replication_behind', 2::smallint, NULL, 'replication_behind:' || s.name,
                    format('slot %s is behind: %s', s.name, wrong), s.evidence);
            END IF;
        ELSIF wrong IS NOT NULL THEN
            -- Once may be a restart. What is open stays so until a look finds nothing.
            failing := failing || (s.kind || ':' || s.name);
        END IF;
    END LOOP;
    DELETE FROM zeroauth_audit_internal.replication_state r WHERE r.kind || ':' || r.name <> ALL (known);
    PERFORM zeroauth_audit_internal.resolve_others('subscription_failing', 'subscription_failing:', failing, 'events arrive again, or the subscription is gone');
    PERFORM zeroauth_audit_internal.resolve_others('replication_behind', 'replication_behind:', failing, 'the slot is read again, or gone');
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.replication_watch() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.replication_watch() IS
    'Part of the job tripwire: alerts subscription_failing and replication_behind when two looks in a row find the same subscription or slot in trouble, resolved by the first that does not.';

CREATE FUNCTION zeroauth_audit_internal.health_replication() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reasons text[] := '{}';
    seen record;
BEGIN
    SELECT count(*) FILTER (WHERE s.kind = 'subscription_failing') AS subscriptions, count(*) FILTER (WHERE s.kind = 'replication_behind') AS slots
    INTO seen FROM zeroauth_audit_internal.replication_seen() s;
    IF seen.subscriptions + seen.slots = 0 THEN
        RETURN NULL;
    END IF;
    IF NOT pg_is_in_recovery() THEN
        reasons := ARRAY(SELECT r.kind || ':' || r.name FROM zeroauth_audit_internal.replication_state r WHERE r.looks > 1 ORDER BY 1);
    END IF;
    RETURN jsonb_build_object('state', CASE WHEN reasons <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', reasons, 'subscriptions', seen.subscriptions, 'slots', seen.slots);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.health_replication() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.health_replication() IS
    'Part of audit_health(), where the trail is replicated; NULL where it is not. Degraded: subscription_failing:NAME, replication_behind:SLOT (as the alerts of these kinds).';
