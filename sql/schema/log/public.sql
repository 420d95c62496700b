-- The Merkle log as people see it, and where its checkpoints go: audit_checkpoints, audit_keys, audit_sinks, and the calls that
-- make, change and drop a sink.

CREATE VIEW @extschema@.audit_checkpoints AS
    SELECT r.sealed_at, pg_catalog.split_part(r.note, pg_catalog.chr(10), 1) AS origin, r.size AS tree_size, r.root,
        pg_catalog.concat(r.note, (
            SELECT pg_catalog.string_agg(pg_catalog.concat(c.line, pg_catalog.chr(10)), '' ORDER BY c.sink)
            FROM zeroauth_audit_internal.registry_cosignatures c WHERE c.run OPERATOR(pg_catalog.=) r.number)) AS note, r.number AS run
    FROM zeroauth_audit_internal.registry_runs r;
REVOKE ALL ON TABLE @extschema@.audit_checkpoints FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_checkpoints IS 'The signed statements of what the logs of all tenants were: checkpoints of the registry, the log of all logs. To keep one outside, or to compare one with. Read-only; the job checkpoint writes them.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.sealed_at IS 'When it was signed: every 10 minutes while nothing is added, so that silence is sealed, too.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.origin IS 'The first line of the checkpoint: the name of the key, which no other database has.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.tree_size IS 'How many entries of the registry it covers.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.root IS 'Root hash of the tree of these entries (RFC 6962).';
COMMENT ON COLUMN @extschema@.audit_checkpoints.note IS 'The signed checkpoint (C2SP signed-note) with the cosignatures of witnesses: what zeroauth-audit reads.';
COMMENT ON COLUMN @extschema@.audit_checkpoints.run IS 'Number of the run of the job checkpoint, which its file in the directories has, too.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_checkpoints
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('run', 'SELECT * FROM audit_job_run(''checkpoint'');',
        'SELECT * FROM audit_job_run(''checkpoint'');', 'What was signed stays. After a restore: SELECT audit_restore_acknowledge(''what was restored, and why'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_checkpoints IS 'Refuses edits, and says which call to make.';

CREATE VIEW @extschema@.audit_keys AS
    SELECT k.vkey, k.first_used AS first_used_at, k.last_used AS last_used_at FROM zeroauth_audit_internal.keys k;
REVOKE ALL ON TABLE @extschema@.audit_keys FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_keys IS 'The public keys that signed checkpoints: what to give to an auditor before anything is verified. Read-only; the private ones are in zeroauth_audit.checkpoint_key_file only.';
COMMENT ON COLUMN @extschema@.audit_keys.vkey IS 'The public key as C2SP writes it, with the base origin as its name: what zeroauth-audit wants as --key.';
COMMENT ON COLUMN @extschema@.audit_keys.first_used_at IS 'When it first signed.';
COMMENT ON COLUMN @extschema@.audit_keys.last_used_at IS 'When it last signed; older checkpoints still verify with it.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_keys
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('vkey', 'A key is here when it has signed: zeroauth_audit.checkpoint_key_file names the file of the key.',
        'A key is here when it has signed: zeroauth_audit.checkpoint_key_file names the file of the key.', 'A key that has signed stays: what it signed is verified with it.');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_keys IS 'Refuses edits, and says what to do.';

CREATE VIEW @extschema@.audit_sinks AS
    SELECT s.name, s.kind, s.enabled,
        CASE WHEN NOT s.enabled THEN 'off' WHEN s.failing_since IS NOT NULL THEN 'failing' WHEN s.last_success IS NOT NULL THEN 'ok' ELSE 'unused' END AS state,
        s.last_success AS last_success_at, s.failing_since, s.last_error,
        pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('directory', s.directory, 'url_file', s.url_file, 'ca_file', s.ca_file, 'vkey', s.vkey)) AS config
    FROM zeroauth_audit_internal.sinks s;
REVOKE ALL ON TABLE @extschema@.audit_sinks FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_sinks IS 'Where checkpoints are published, and whether they arrive. Read-only; audit_sink_set() and audit_sink_drop() change it.';
COMMENT ON COLUMN @extschema@.audit_sinks.name IS 'Name of the sink, as alerts show it.';
COMMENT ON COLUMN @extschema@.audit_sinks.kind IS 'directory (files that are never overwritten; best on storage that cannot be) or witness (C2SP tlog-witness).';
COMMENT ON COLUMN @extschema@.audit_sinks.enabled IS 'While false nothing is published here. A sink that a dump brings is disabled.';
COMMENT ON COLUMN @extschema@.audit_sinks.state IS 'off (not enabled), failing, ok, or unused (nothing was published here yet).';
COMMENT ON COLUMN @extschema@.audit_sinks.last_success_at IS 'When it last took something.';
COMMENT ON COLUMN @extschema@.audit_sinks.failing_since IS 'Since when it has taken nothing that it was given; NULL: it works.';
COMMENT ON COLUMN @extschema@.audit_sinks.last_error IS 'Why it last failed. Never contains a part of a URL.';
COMMENT ON COLUMN @extschema@.audit_sinks.config IS 'What audit_sink_set() was given: names of files and directories and the witness'' public key, never what is in a file.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_sinks
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('name', 'SELECT audit_sink_set(%, ''directory'', ''{"directory": "/mnt/worm"}'');',
        'SELECT audit_sink_set(%, enabled => false);', 'SELECT audit_sink_drop(%, ''why'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_sinks IS 'Refuses edits, and says which call to make.';

CREATE FUNCTION @extschema@.audit_sink_set(sink text, kind text DEFAULT NULL, config jsonb DEFAULT NULL, enabled boolean DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was zeroauth_audit_internal.sinks;
    wanted zeroauth_audit_internal.sinks;
    is_new boolean;
    moved boolean;
    fields jsonb;
BEGIN
    PERFORM zeroauth_audit_internal.require_name(sink, 'sink');
    SELECT s.* INTO was FROM zeroauth_audit_internal.sinks s WHERE s.name = sink FOR UPDATE;
    is_new := NOT FOUND;
    IF is_new AND (audit_sink_set.kind IS NULL OR audit_sink_set.config IS NULL) THEN
        PERFORM zeroauth_audit_internal.unknown_name(sink, 'sink', format('A new one needs kind and config: SELECT audit_sink_set(%L, ''directory'', ''{"directory": "/mnt/worm"}'');', sink));
    END IF;
    fields := coalesce(audit_sink_set.config, jsonb_build_object('directory', was.directory, 'url_file', was.url_file, 'ca_file', was.ca_file, 'vkey', was.vkey));
    -- A sink whose place is gone can still be switched off.
    IF coalesce(audit_sink_set.enabled, false) OR num_nonnulls(audit_sink_set.kind, audit_sink_set.config) > 0 THEN
        PERFORM zeroauth_audit_internal.sink_config_check(sink, coalesce(audit_sink_set.kind, was.kind), fields);
    END IF;
    SELECT sink, coalesce(audit_sink_set.kind, was.kind), fields ->> 'directory', fields ->> 'url_file', fields ->> 'ca_file', fields ->> 'vkey',
        coalesce(audit_sink_set.enabled, was.enabled, true), was.published_to, was.last_success, was.failing_since, was.last_error
    INTO wanted;
    IF was IS NOT DISTINCT FROM wanted THEN
        RETURN 'unchanged';
    END IF;
    IF is_new THEN
        INSERT INTO zeroauth_audit_internal.sinks (name, kind, directory, url_file, ca_file, vkey, enabled)
        VALUES (sink, wanted.kind, wanted.directory, wanted.url_file, wanted.ca_file, wanted.vkey, wanted.enabled);
    ELSE
        -- Another place has nothing yet, whatever the one before had.
        moved := (wanted.kind, wanted.directory, wanted.url_file, wanted.vkey) IS DISTINCT FROM (was.kind, was.directory, was.url_file, was.vkey);
        IF moved THEN
            PERFORM zeroauth_audit_internal.resolve_alert('sink_failing:' || sink, 'the sink leads elsewhere now');
            DELETE FROM zeroauth_audit_internal.registry_found f WHERE f.sink = audit_sink_set.sink;
        END IF;
        UPDATE zeroauth_audit_internal.sinks s
        SET kind = wanted.kind, directory = wanted.directory, url_file = wanted.url_file, ca_file = wanted.ca_file, vkey = wanted.vkey, enabled = wanted.enabled,
            published_to = CASE WHEN moved THEN 0 ELSE s.published_to END, last_success = CASE WHEN NOT moved THEN s.last_success END,
            failing_since = CASE WHEN NOT moved THEN s.failing_since END, last_error = CASE WHEN NOT moved THEN s.last_error END
        WHERE s.name = sink;
    END IF;
    PERFORM zeroauth_audit_internal.note_change(CASE WHEN is_new THEN 'log.sink_created' ELSE 'log.sink_changed' END, CASE WHEN wanted.enabled THEN 'info' ELSE 'high' END, sink,
        jsonb_build_object(
            'is', jsonb_build_object('kind', wanted.kind, 'directory', wanted.directory, 'url_file', wanted.url_file, 'ca_file', wanted.ca_file, 'vkey', wanted.vkey, 'enabled', wanted.enabled),
            'was', CASE WHEN NOT is_new THEN jsonb_build_object('kind', was.kind, 'directory', was.directory, 'url_file', was.url_file, 'ca_file', was.ca_file, 'vkey', was.vkey, 'enabled', was.enabled) END));
    PERFORM zeroauth_audit_internal.say_next(CASE
        WHEN wanted.enabled THEN format('checkpoints go to sink "%s" from now on; audit_sinks shows whether they arrive', sink)
        ELSE format('nothing is published to sink "%s" any more; what it holds stays', sink) END, wanted.enabled);
    RETURN CASE WHEN is_new THEN 'created' ELSE 'changed' END;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_sink_set(text, text, jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_sink_set(text, text, jsonb, boolean) IS
    'Creates or changes a place that checkpoints are published to. What is NULL stays as it is; a new one needs kind and config, and is enabled. kind: directory or witness. config replaces the whole of it. Of a directory: directory (an absolute path; it exists, belongs to the server''s user or to root, and nobody else can write to it). Of a witness: url_file (a file with its URL, mode 0600 or 0400, of the server''s user or root), vkey (its public key as C2SP writes it), ca_file (a PEM file with the only authorities that are trusted; without it those of the system). enabled: while false nothing is published there. Pointed elsewhere, it gets all checkpoints there are. Returns created, changed or unchanged; a change is an event of the tenant zeroauth_audit. ZA060, with the field''s name, for a configuration that could not be used; ZA005 for a name that is not there and comes without kind and config; ZA009 for what cannot be a name.';

CREATE FUNCTION @extschema@.audit_sink_drop(sink text, note text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := zeroauth_audit_internal.require_note(note, 'dropping a sink', 'Say why nothing is published there any more.');
    was zeroauth_audit_internal.sinks;
BEGIN
    PERFORM zeroauth_audit_internal.require_name(sink, 'sink');
    DELETE FROM zeroauth_audit_internal.sinks s WHERE s.name = audit_sink_drop.sink RETURNING s.* INTO was;
    IF NOT FOUND THEN
        PERFORM zeroauth_audit_internal.unknown_name(sink, 'sink', 'SELECT name FROM audit_sinks shows those that there are.');
    END IF;
    PERFORM zeroauth_audit_internal.resolve_alert('sink_failing:' || sink, 'the sink was dropped');
    DELETE FROM zeroauth_audit_internal.registry_found f WHERE f.sink = audit_sink_drop.sink;
    PERFORM zeroauth_audit_internal.note_change('log.sink_dropped', 'high', sink, jsonb_build_object('note', written,
        'was', jsonb_build_object('kind', was.kind, 'directory', was.directory, 'url_file', was.url_file, 'ca_file', was.ca_file, 'vkey', was.vkey, 'enabled', was.enabled)));
    RAISE NOTICE USING MESSAGE = format('nothing is published to sink "%s" any more; what it holds stays', sink);
    RETURN 'dropped';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_sink_drop(text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_sink_drop(text, text) IS
    'Stops publishing there for good; what it holds stays. Cosignatures that a witness gave stay in audit_checkpoints. note: why, not empty. Returns dropped; it is an event of the tenant zeroauth_audit. ZA005 for a sink that is not there, ZA009 without a note.';

CREATE FUNCTION @extschema@.audit_copy_acknowledge(note text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := zeroauth_audit_internal.require_note(note, 'an acknowledgement', 'Say what this copy is for.');
    original CONSTANT text := zeroauth_audit_internal.copy_of();
BEGIN
    IF original IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = 'this database is no copy', HINT = 'SELECT * FROM audit_status() says what is to be done here.';
    END IF;
    UPDATE zeroauth_audit_internal.drift_state s SET trail = gen_random_uuid(), began_at = clock_timestamp();
    PERFORM zeroauth_audit_internal.trail_is_here();
    UPDATE zeroauth_audit_internal.sinks s SET enabled = false WHERE s.enabled;
    UPDATE zeroauth_audit_internal.alert_routes r SET enabled = false WHERE r.enabled;
    UPDATE zeroauth_audit_internal.anchor_targets t SET enabled = false WHERE t.enabled;
    -- What the original still had to say of its alerts, it says there.
    DELETE FROM zeroauth_audit_internal.alert_events;
    PERFORM zeroauth_audit_internal.note_change('trail.copied', 'high', current_database(), jsonb_build_object('copy_of', original, 'note', written));
    RAISE NOTICE USING MESSAGE = format('this copy of %s is a trail of its own now; its sinks, alert routes and anchor targets are off', original),
        HINT = 'Give it a key of its own, and enable what is to be used here: audit_sink_set, audit_alert_route_set, audit_anchor_target_set.';
    RETURN 'acknowledged';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_copy_acknowledge(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_copy_acknowledge(text) IS
    'Makes a copy of a database a trail of its own: until then nothing is signed, published, anchored or sent from it. Its sinks, alert routes and anchor targets are off until somebody enables them, and what was remembered of the original counts as that of a dump. note: what the copy is for, not empty. Returns acknowledged; it is an event of the tenant zeroauth_audit. ZA009 without a note, or when this database is no copy.';
