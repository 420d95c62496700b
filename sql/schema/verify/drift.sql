-- Drift: what the worker remembers of every tenant and chain, and what it found. The reading is done by functions in C, each from
-- one snapshot; remembering, deciding and raising alerts is done in SQL.

CREATE TABLE zeroauth_audit_internal.tenants (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    drift_rows integer,
    first_seen timestamptz,
    last_seen timestamptz,
    checked_at timestamptz,
    check_error text,
    CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenants_tenant_id_check CHECK (pg_catalog.octet_length(tenant_id) BETWEEN 1 AND 128),
    CONSTRAINT tenants_drift_rows_check CHECK (drift_rows BETWEEN 1 AND 100000)
) WITH (fillfactor = 80);
REVOKE ALL ON TABLE zeroauth_audit_internal.tenants FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.tenants IS
    'The tenants that the worker has seen; no insert of an event writes here. drift_rows is set by audit_tenant_set(), also of a tenant that has no events yet; the rest by the job drift. Inserting a tenant that is there changes its row, so that a restored dump brings its settings.';
COMMENT ON COLUMN zeroauth_audit_internal.tenants.tenant_id IS 'The tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.tenants.drift_rows IS 'How many of its newest events every run recomputes; NULL: zeroauth_audit.drift_rows.';
COMMENT ON COLUMN zeroauth_audit_internal.tenants.first_seen IS 'When the job drift first saw an event of it.';
COMMENT ON COLUMN zeroauth_audit_internal.tenants.last_seen IS 'When it last saw one.';
COMMENT ON COLUMN zeroauth_audit_internal.tenants.checked_at IS 'When its newest events were last recomputed.';
COMMENT ON COLUMN zeroauth_audit_internal.tenants.check_error IS 'Why that could not be done the last time; NULL when it could.';
COMMENT ON CONSTRAINT tenants_pkey ON zeroauth_audit_internal.tenants IS 'One row a tenant.';
COMMENT ON CONSTRAINT tenants_tenant_id_check ON zeroauth_audit_internal.tenants IS 'As in audit_events.';
COMMENT ON CONSTRAINT tenants_drift_rows_check ON zeroauth_audit_internal.tenants IS 'So many events are recomputed in one transaction.';

CREATE TABLE zeroauth_audit_internal.watermarks (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    chain smallint NOT NULL,
    trail uuid NOT NULL,
    head_seq bigint NOT NULL,
    head_hash bytea NOT NULL,
    verified_at timestamptz NOT NULL,
    verified_from bigint NOT NULL,
    replay_pass bigint NOT NULL DEFAULT 0,
    replay_started_at timestamptz,
    replayed_at timestamptz,
    replayed_seq bigint NOT NULL DEFAULT 0,
    replayed_hash bytea,
    whole_started_at timestamptz,
    whole_ended_at timestamptz,
    whole_seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT watermarks_pkey PRIMARY KEY (tenant_id, chain, trail)
) WITH (fillfactor = 70);
REVOKE ALL ON TABLE zeroauth_audit_internal.watermarks FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.watermarks IS
    'What the job drift remembers of each chain: its end, and how far its history has been recomputed. Kept in the database that it is about: whoever can change events can change it, too.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.tenant_id IS 'The tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.chain IS 'The chain.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.trail IS 'The trail that was seen (drift_state.trail); of another one after a restore from a dump, until the events that it tells of are found here.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.head_seq IS 'seq of the newest event that was seen.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.head_hash IS 'event_hash of that event.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.verified_at IS 'When the newest events of the chain were last recomputed.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.verified_from IS 'seq of the first of those.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.replay_pass IS 'The pass through all history that the next four columns are about.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.replay_started_at IS 'When that pass began with the first event of the chain.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.replayed_at IS 'When it came to replayed_seq.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.replayed_seq IS 'How far it is: up to this event the chain has been recomputed.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.replayed_hash IS 'event_hash of that event; NULL when the chain is done.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.whole_started_at IS 'When the last pass that came to the end of the chain began with its first event.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.whole_ended_at IS 'When that pass came to the end.';
COMMENT ON COLUMN zeroauth_audit_internal.watermarks.whole_seq IS 'seq of the last event then.';
COMMENT ON CONSTRAINT watermarks_pkey ON zeroauth_audit_internal.watermarks IS 'One row a chain; those of a dump stand beside those of this trail.';

CREATE TABLE zeroauth_audit_internal.drift_findings (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    chain smallint NOT NULL,
    source text COLLATE pg_catalog."C" NOT NULL,
    trail uuid NOT NULL,
    found_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    alerted_at timestamptz,
    events bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    places jsonb NOT NULL DEFAULT '[]',
    expected jsonb NOT NULL DEFAULT '[]',
    suspected boolean NOT NULL DEFAULT false,
    absent_from bigint,
    absent_to bigint,
    seen_in_table boolean NOT NULL DEFAULT false,
    checked_run bigint,
    checked_seq bigint,
    CONSTRAINT drift_findings_pkey PRIMARY KEY (tenant_id, kind, chain, source, trail),
    CONSTRAINT drift_findings_source_check CHECK (source IN ('replay', 'memory', 'log'))
);
CREATE INDEX drift_findings_suspected ON zeroauth_audit_internal.drift_findings (tenant_id) WHERE suspected;
REVOKE ALL ON TABLE zeroauth_audit_internal.drift_findings FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.drift_findings IS
    'What the job drift found and has not found gone since: one row for each class, tenant and chain. Each has an alert with the fingerprint class:tenant:chain.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.tenant_id IS 'The tenant; empty: of rows without one.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.kind IS 'The class.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.chain IS 'The chain; -1: all chains of the tenant, or rows without one.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.source IS 'replay: the events contradict themselves or each other. memory: they contradict a watermark. log: they are not what was sealed, or the log is not.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.trail IS 'The trail that it was found in, as in watermarks.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.found_at IS 'When it was first found.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.last_seen_at IS 'When it was last found.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.alerted_at IS 'When its alert was raised; NULL while it is only suspected.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.events IS 'How many events it is about: the most that one step saw.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.first_seq IS 'seq of the first of them.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.last_seq IS 'seq of the last of them.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.places IS 'The first few of them.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.expected IS 'Of source memory: the events that were there, with chain, seq and event_hash.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.suspected IS 'The primary key does not show events that should be there, and the table itself has not been searched for them yet.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.absent_from IS 'First of the events to search for.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.absent_to IS 'Last of the events to search for.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.seen_in_table IS 'The search found one of them: nothing is missing, but the primary key may be damaged.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.checked_run IS 'The run that last looked whether it is gone.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_findings.checked_seq IS 'How far that is; NULL at the beginning.';
COMMENT ON CONSTRAINT drift_findings_pkey ON zeroauth_audit_internal.drift_findings IS 'One row for each class and place.';
COMMENT ON CONSTRAINT drift_findings_source_check ON zeroauth_audit_internal.drift_findings IS 'The three sources.';
COMMENT ON INDEX zeroauth_audit_internal.drift_findings_suspected IS 'What has to be searched for.';

CREATE TABLE zeroauth_audit_internal.drift_state (
    id boolean NOT NULL DEFAULT true,
    trail uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    began_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    cluster bigint,
    database oid,
    database_name text,
    extension oid,
    run bigint,
    phase text NOT NULL DEFAULT 'idle',
    started_at timestamptz,
    finished_at timestamptz,
    resumed boolean NOT NULL DEFAULT false,
    tenants_total bigint NOT NULL DEFAULT 0,
    tenants_done bigint NOT NULL DEFAULT 0,
    events_done bigint NOT NULL DEFAULT 0,
    recent_tenant text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    recent_chain smallint,
    recent_stop text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    recent_wrapped boolean NOT NULL DEFAULT false,
    one_by_one boolean NOT NULL DEFAULT false,
    pass bigint NOT NULL DEFAULT 0,
    pass_started_at timestamptz,
    pass_ended_at timestamptz,
    pass_total bigint NOT NULL DEFAULT 0,
    pass_done bigint NOT NULL DEFAULT 0,
    pass_tenant text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    pass_chain smallint NOT NULL DEFAULT -1,
    history_left bigint,
    confirm_block bigint NOT NULL DEFAULT 0,
    errors bigint NOT NULL DEFAULT 0,
    first_error text,
    CONSTRAINT drift_state_pkey PRIMARY KEY (id),
    CONSTRAINT drift_state_id_check CHECK (id),
    CONSTRAINT drift_state_phase_check CHECK (phase IN ('idle', 'recent', 'history', 'recheck', 'confirm', 'failing'))
) WITH (fillfactor = 50);
REVOKE ALL ON TABLE zeroauth_audit_internal.drift_state FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.drift_state IS
    'Where the job drift is: one row, changed by every step, so that a run goes on where a crash or a timeout ended the one before. The only table that pg_dump leaves out: it is about this trail, not about its copy.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.id IS 'Always true.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.trail IS 'Names this trail since CREATE EXTENSION. A restored dump is another trail; a standby, a base backup and pg_upgrade keep the name.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.began_at IS 'When that was: what is older came with a dump.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.cluster IS 'System identifier of the server that the trail is in; NULL until the job tripwire has seen an event.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.database IS 'Oid of its database there: another in a copy by CREATE DATABASE .. TEMPLATE.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.database_name IS 'Name of that database, as of then.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.extension IS 'Oid of the extension there: pg_upgrade makes another, a copy of the files does not.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.run IS 'The run in job_runs.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.phase IS 'idle; recent: newest events and watermarks; history: the next part of all history; recheck: whether earlier findings are gone; confirm: the table is searched for events that the primary key does not show; failing: the run is about to fail.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.started_at IS 'When the run began.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.finished_at IS 'When the last run ended that came to its end.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.resumed IS 'Whether the run went on where the one before was interrupted.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.tenants_total IS 'How many tenants were known when it began.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.tenants_done IS 'How many are done.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.events_done IS 'How many events the run has recomputed.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.recent_tenant IS 'The last tenant that is done; empty: none.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.recent_chain IS 'Its last chain that is done; NULL: all.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.recent_stop IS 'The tenant that the run began behind: it ends there, after it came round. Empty: it began with the first.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.recent_wrapped IS 'Whether it came round.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.one_by_one IS 'Whether the next step takes one tenant, because the last one failed.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.pass IS 'Number of the pass through all history.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.pass_started_at IS 'When it began; NULL: the next run begins one.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.pass_ended_at IS 'When the last pass ended.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.pass_total IS 'How many events there are in it, as of the last run.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.pass_done IS 'How many of them are done.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.pass_tenant IS 'Tenant of the last chain that is done.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.pass_chain IS 'That chain.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.history_left IS 'How many events this run still takes of it; NULL: not decided yet.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.confirm_block IS 'Up to which block the table has been searched.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.errors IS 'How many tenants or findings could not be checked in this run.';
COMMENT ON COLUMN zeroauth_audit_internal.drift_state.first_error IS 'The first reason.';
COMMENT ON CONSTRAINT drift_state_pkey ON zeroauth_audit_internal.drift_state IS 'One row.';
COMMENT ON CONSTRAINT drift_state_id_check ON zeroauth_audit_internal.drift_state IS 'One row.';
COMMENT ON CONSTRAINT drift_state_phase_check ON zeroauth_audit_internal.drift_state IS 'The phases.';
INSERT INTO zeroauth_audit_internal.drift_state DEFAULT VALUES;

SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.tenants', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.watermarks', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.drift_findings', 'WHERE alerted_at IS NOT NULL');

CREATE FUNCTION zeroauth_audit_internal.tenants_serialize() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- What a restore inserts and what the job inserts would otherwise meet at the primary key. The row that the job has
    -- locked already: a lock of another kind would be an upgrade, and a deadlock with whoever waits for the row.
    PERFORM 1 FROM zeroauth_audit_internal.drift_state FOR UPDATE;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.tenants_serialize() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.tenants_serialize() IS
    'Trigger of the table tenants: inserts wait for each other.';

CREATE FUNCTION zeroauth_audit_internal.tenants_merge() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE zeroauth_audit_internal.tenants t
    SET drift_rows = coalesce(NEW.drift_rows, t.drift_rows), first_seen = least(NEW.first_seen, t.first_seen), last_seen = greatest(NEW.last_seen, t.last_seen)
    WHERE t.tenant_id = NEW.tenant_id;
    RETURN CASE WHEN FOUND THEN NULL ELSE NEW END;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.tenants_merge() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.tenants_merge() IS
    'Trigger of the table tenants: takes an insert of a tenant that is there as a change of it.';

CREATE TRIGGER zeroauth_audit_tenants_serialize
    BEFORE INSERT ON zeroauth_audit_internal.tenants
    FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.tenants_serialize();
COMMENT ON TRIGGER zeroauth_audit_tenants_serialize ON zeroauth_audit_internal.tenants IS 'A restore and the job do not meet.';
CREATE TRIGGER zeroauth_audit_tenants_merge
    BEFORE INSERT ON zeroauth_audit_internal.tenants
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.tenants_merge();
COMMENT ON TRIGGER zeroauth_audit_tenants_merge ON zeroauth_audit_internal.tenants IS 'A restored row joins the one that is there.';
ALTER TABLE zeroauth_audit_internal.tenants ENABLE ALWAYS TRIGGER zeroauth_audit_tenants_serialize;
ALTER TABLE zeroauth_audit_internal.tenants ENABLE ALWAYS TRIGGER zeroauth_audit_tenants_merge;

CREATE FUNCTION zeroauth_audit_internal.drift_fingerprint(kind text, tenant text, chain smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(':', drift_fingerprint.kind, drift_fingerprint.tenant, CASE WHEN drift_fingerprint.chain >= 0 THEN drift_fingerprint.chain::text ELSE '' END)
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_fingerprint(text, text, smallint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_fingerprint(text, text, smallint) IS
    'Fingerprint of the alert of a finding: class:tenant:chain.';

CREATE FUNCTION zeroauth_audit_internal.drift_alert(tenant text, kind text, chain smallint, source text, trail uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f zeroauth_audit_internal.drift_findings;
BEGIN
    UPDATE zeroauth_audit_internal.drift_findings d SET alerted_at = coalesce(d.alerted_at, clock_timestamp()), suspected = false
    WHERE d.tenant_id = drift_alert.tenant AND d.kind = drift_alert.kind AND d.chain = drift_alert.chain
      AND d.source = drift_alert.source AND d.trail = drift_alert.trail
    RETURNING * INTO STRICT f;
    PERFORM zeroauth_audit_internal.raise_alert(f.kind, 1::smallint, nullif(f.tenant_id, ''), zeroauth_audit_internal.drift_fingerprint(f.kind, f.tenant_id, f.chain),
        CASE f.kind
            WHEN 'tenant_missing' THEN format('the whole trail of tenant %s is gone: %s events%s', to_json(f.tenant_id), f.events, CASE f.source WHEN 'memory' THEN format(' in %s chains', jsonb_array_length(f.expected)) END)
            WHEN 'chain_missing' THEN format('chain %s of tenant %s is gone: %s events', f.chain, to_json(f.tenant_id), f.events)
            WHEN 'tail_truncated' THEN format('the newest events of chain %s of tenant %s are gone: %s, from seq %s on', f.chain, to_json(f.tenant_id), f.events, f.first_seq)
            WHEN 'gap' THEN format('events of chain %s of tenant %s are missing, from seq %s on', f.chain, to_json(f.tenant_id), f.first_seq)
            WHEN 'link_broken' THEN format('events of chain %s of tenant %s do not follow each other, at seq %s first', f.chain, to_json(f.tenant_id), f.first_seq)
            WHEN 'fork' THEN format('a place of chain %s of tenant %s is taken more than once, seq %s first', f.chain, to_json(f.tenant_id), f.first_seq)
            WHEN 'checkpoint_mismatch' THEN CASE WHEN f.chain < 0 THEN format('the log of tenant %s is not what was sealed', to_json(f.tenant_id))
                ELSE format('events of chain %s of tenant %s, or its log, are not what was sealed, at seq %s first', f.chain, to_json(f.tenant_id), f.first_seq) END
            ELSE format('events of chain %s of tenant %s are not what was written, seq %s first', f.chain, to_json(f.tenant_id), f.first_seq)
        END,
        jsonb_strip_nulls(jsonb_build_object(
            'source', f.source, 'chain', CASE WHEN f.chain >= 0 THEN f.chain END, 'events', f.events, 'first_seq', f.first_seq, 'last_seq', f.last_seq,
            'places', f.places, 'was_there', jsonb_path_query_array(f.expected, '$[0 to 9]'))));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_alert(text, text, smallint, text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_alert(text, text, smallint, text, uuid) IS
    'Part of the job drift: raises the alert of a finding, or counts it up.';

CREATE FUNCTION zeroauth_audit_internal.drift_note(finding jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f zeroauth_audit_internal.drift_findings;
BEGIN
    -- That an event is not there is only said after the table itself was searched: a damaged index must not look like a deletion.
    INSERT INTO zeroauth_audit_internal.drift_findings AS d (tenant_id, kind, chain, source, trail, events, first_seq, last_seq, places, expected, suspected, absent_from, absent_to)
    SELECT n.tenant, n.kind, n.chain, n.source, s.trail, n.count, n.first_seq, n.last_seq, n.places, n.expected,
        coalesce(jsonb_typeof(n.absent) = 'array', false), (n.absent ->> 0)::bigint, (n.absent ->> 1)::bigint
    FROM jsonb_to_record(drift_note.finding) n (tenant text, kind text, chain smallint, source text, count bigint, first_seq bigint, last_seq bigint, places jsonb, expected jsonb, absent jsonb)
    CROSS JOIN zeroauth_audit_internal.drift_state s
    ON CONFLICT (tenant_id, kind, chain, source, trail) DO UPDATE
        SET last_seen_at = clock_timestamp(), events = greatest(d.events, excluded.events),
            first_seq = least(d.first_seq, excluded.first_seq), last_seq = greatest(d.last_seq, excluded.last_seq),
            expected = CASE WHEN d.expected @> excluded.expected OR jsonb_array_length(d.expected) >= 1000 THEN d.expected ELSE d.expected || excluded.expected END,
            absent_from = coalesce(excluded.absent_from, d.absent_from), absent_to = coalesce(excluded.absent_to, d.absent_to),
            seen_in_table = false,
            -- One that a replay names again has been searched for. One that a watermark names is a new one: the watermark has moved on since.
            suspected = d.suspected OR excluded.suspected AND (d.alerted_at IS NULL OR d.source = 'memory')
    RETURNING * INTO STRICT f;
    IF NOT f.suspected THEN
        PERFORM zeroauth_audit_internal.drift_alert(f.tenant_id, f.kind, f.chain, f.source, f.trail);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_note(jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_note(jsonb) IS
    'Part of the job drift: remembers a finding, and raises its alert unless it has to be confirmed first.';

CREATE FUNCTION zeroauth_audit_internal.drift_gone(tenant text, kind text, chain smallint, source text, trail uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM zeroauth_audit_internal.drift_findings d
    WHERE d.tenant_id = drift_gone.tenant AND d.kind = drift_gone.kind AND d.chain = drift_gone.chain
      AND d.source = drift_gone.source AND d.trail = drift_gone.trail;
    -- Replay, watermarks and the log share the alert.
    IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.drift_findings d WHERE d.tenant_id = drift_gone.tenant AND d.kind = drift_gone.kind AND d.chain = drift_gone.chain) THEN
        PERFORM zeroauth_audit_internal.resolve_alert(zeroauth_audit_internal.drift_fingerprint(drift_gone.kind, drift_gone.tenant, drift_gone.chain),
            'drift replay found the events as they should be');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_gone(text, text, smallint, text, uuid) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_gone(text, text, smallint, text, uuid) IS
    'Part of the job drift: forgets a finding that was found gone, and resolves its alert when no other shares it.';

CREATE FUNCTION zeroauth_audit_internal.drift_could_not(tenant text, reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE zeroauth_audit_internal.drift_state SET errors = errors + 1, first_error = coalesce(first_error, format('tenant %s: %s', to_json(drift_could_not.tenant), reason));
    UPDATE zeroauth_audit_internal.tenants t SET check_error = reason WHERE t.tenant_id = drift_could_not.tenant;
    IF NOT FOUND AND drift_could_not.tenant <> '' THEN
        INSERT INTO zeroauth_audit_internal.tenants (tenant_id, check_error) VALUES (drift_could_not.tenant, reason);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.drift_could_not(text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.drift_could_not(text, text) IS
    'Part of the job drift: notes that a tenant could not be checked; the run goes on with the others, and fails at its end.';
