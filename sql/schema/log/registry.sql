-- The registry: one log of all logs (docs/format.md, section 20). Written by the job checkpoint alone, in the transaction that adds
-- events to a tenant's log.
--
-- An entry's text follows from its row, the hash of the text is in registry_tiles, and the text of a run file follows from registry_runs,
-- the entries of the run, and the tables of the logs: nothing is kept twice, but the files of runs that were taken over from a directory.

CREATE TABLE zeroauth_audit_internal.registry_names (
    id boolean NOT NULL DEFAULT true,
    key bytea NOT NULL,
    CONSTRAINT registry_names_pkey PRIMARY KEY (id),
    CONSTRAINT registry_names_id_check CHECK (id),
    CONSTRAINT registry_names_key_check CHECK (pg_catalog.octet_length(key) = 32)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.registry_names FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.registry_names IS 'The name key: what tenants are called outside is made with it.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_names.id IS 'Always true: there is one row.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_names.key IS '32 random bytes, made with the first entry. Who has them can try names on published files.';
COMMENT ON CONSTRAINT registry_names_pkey ON zeroauth_audit_internal.registry_names IS 'One row.';
COMMENT ON CONSTRAINT registry_names_id_check ON zeroauth_audit_internal.registry_names IS 'One row.';
COMMENT ON CONSTRAINT registry_names_key_check ON zeroauth_audit_internal.registry_names IS '32 bytes.';

CREATE TABLE zeroauth_audit_internal.registry_entries (
    entry bigint NOT NULL,
    tree_size bigint,
    previous bigint,
    restored bigint,
    epoch integer,
    root bytea,
    tenant_id text COLLATE pg_catalog."C",
    text text COLLATE pg_catalog."C",
    edge bytea,
    CONSTRAINT registry_entries_pkey PRIMARY KEY (entry),
    CONSTRAINT registry_entries_entry_check CHECK (entry >= 0),
    CONSTRAINT registry_entries_kind_check CHECK (text IS NOT NULL AND tenant_id IS NULL OR text IS NULL AND tenant_id IS NOT NULL AND epoch >= 0 AND tree_size > 0 AND pg_catalog.octet_length(root) = 32)
);
CREATE INDEX registry_entries_tenant ON zeroauth_audit_internal.registry_entries (tenant_id, entry) WHERE tenant_id IS NOT NULL;
-- Hashes do not compress.
ALTER TABLE zeroauth_audit_internal.registry_entries ALTER COLUMN root SET STORAGE PLAIN;
REVOKE ALL ON TABLE zeroauth_audit_internal.registry_entries FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.registry_entries IS 'The entries of the registry: what the log of each tenant was after a run that it grew in, and a few of other kinds.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.entry IS 'Index of the entry, counted from 0, without a hole.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.tree_size IS 'How many events the tenant''s log has.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.previous IS 'The entry of the same tenant before this one; NULL for none.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.restored IS 'In the first entry of an epoch above 0: the entry whose tree goes on, -1 when all was lost.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.root IS 'Root hash of its tree.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.text IS 'The text of an entry of another kind, or of a tenant that was not here when its entry was taken over; NULL for the state of a log.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.edge IS 'The hashes of the tree''s compact range, of a log that was taken over and whose events are not here: no tile has them. NULL of any other.';
COMMENT ON CONSTRAINT registry_entries_pkey ON zeroauth_audit_internal.registry_entries IS 'One entry at each index.';
COMMENT ON CONSTRAINT registry_entries_entry_check ON zeroauth_audit_internal.registry_entries IS 'Counted from 0.';
COMMENT ON CONSTRAINT registry_entries_kind_check ON zeroauth_audit_internal.registry_entries IS 'The state of a log, or a text.';
COMMENT ON INDEX zeroauth_audit_internal.registry_entries_tenant IS 'Finds the newest entry of a tenant.';
CREATE INDEX registry_entries_text ON zeroauth_audit_internal.registry_entries (text) WHERE tenant_id IS NULL;
COMMENT ON INDEX zeroauth_audit_internal.registry_entries_text IS 'Finds what a directory knows of a tenant that was not here when it was taken over.';

CREATE TABLE zeroauth_audit_internal.registry_tiles (
    level smallint NOT NULL,
    place bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT registry_tiles_pkey PRIMARY KEY (level, place),
    CONSTRAINT registry_tiles_place_check CHECK (level OPERATOR(pg_catalog.>=) 0 AND level OPERATOR(pg_catalog.<=) 7 AND place >= 0),
    CONSTRAINT registry_tiles_hashes_check CHECK (pg_catalog.octet_length(hashes) OPERATOR(pg_catalog.>=) 32 AND pg_catalog.octet_length(hashes) OPERATOR(pg_catalog.<=) 8192 AND pg_catalog.octet_length(hashes) % 32 = 0)
);
ALTER TABLE zeroauth_audit_internal.registry_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
REVOKE ALL ON TABLE zeroauth_audit_internal.registry_tiles FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.registry_tiles IS 'The hashes of the registry, 256 in a tile, as in tiles.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_tiles.level IS 'Level of the tile: 0 holds hashes of entries, each higher one those of 256 tiles below.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_tiles.place IS 'Number of the tile in its level, counted from 0.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_tiles.hashes IS '1 to 256 hashes of 32 bytes; only the last tile of a level has less than 256.';
COMMENT ON CONSTRAINT registry_tiles_pkey ON zeroauth_audit_internal.registry_tiles IS 'One tile at each place.';
COMMENT ON CONSTRAINT registry_tiles_place_check ON zeroauth_audit_internal.registry_tiles IS 'Eight levels of 256 hold more entries than a bigint counts.';
COMMENT ON CONSTRAINT registry_tiles_hashes_check ON zeroauth_audit_internal.registry_tiles IS '1 to 256 hashes.';

CREATE TABLE zeroauth_audit_internal.registry_runs (
    number bigint NOT NULL,
    size_before bigint NOT NULL,
    size bigint NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    system_identifier text COLLATE pg_catalog."C" NOT NULL,
    database oid NOT NULL,
    root bytea NOT NULL,
    digest bytea NOT NULL,
    note text NOT NULL,
    file text,
    CONSTRAINT registry_runs_pkey PRIMARY KEY (number),
    CONSTRAINT registry_runs_number_check CHECK (number > 0 AND size_before >= 0 AND size >= size_before),
    CONSTRAINT registry_runs_hashes_check CHECK (pg_catalog.octet_length(root) = 32 AND pg_catalog.octet_length(digest) = 32)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.registry_runs FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.registry_runs IS 'What was signed of the registry: one row for each run of the job checkpoint that added entries, and one every 10 minutes of silence.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.number IS 'Number of the run, from 1 on, without a hole.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.size_before IS 'How many entries the run before had left.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.size IS 'How many there are after it.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.sealed_at IS 'When it was signed.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.system_identifier IS 'Which server signed it.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.database IS 'Which database of the server.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.root IS 'Root hash of the registry of this size.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.digest IS 'SHA-256 of the run''s file.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.note IS 'The signed checkpoint of the registry (C2SP signed-note).';
COMMENT ON COLUMN zeroauth_audit_internal.registry_runs.file IS 'Its file, of a run that was taken over from a directory: what it says of events that are not here follows from no table. NULL of any other.';
COMMENT ON CONSTRAINT registry_runs_pkey ON zeroauth_audit_internal.registry_runs IS 'One run of each number.';
COMMENT ON CONSTRAINT registry_runs_number_check ON zeroauth_audit_internal.registry_runs IS 'A registry only grows.';
COMMENT ON CONSTRAINT registry_runs_hashes_check ON zeroauth_audit_internal.registry_runs IS 'SHA-256 hashes.';

CREATE TABLE zeroauth_audit_internal.registry_cosignatures (
    run bigint NOT NULL,
    size bigint NOT NULL,
    carried_by bigint,
    cosigned_at timestamptz NOT NULL,
    sink text COLLATE pg_catalog."C" NOT NULL,
    line text NOT NULL,
    CONSTRAINT registry_cosignatures_pkey PRIMARY KEY (run, sink),
    CONSTRAINT registry_cosignatures_run_check CHECK (run > 0 AND size > 0 AND carried_by > run)
);
CREATE INDEX registry_cosignatures_sink ON zeroauth_audit_internal.registry_cosignatures (sink, run);
CREATE INDEX registry_cosignatures_carried_by ON zeroauth_audit_internal.registry_cosignatures (carried_by);
REVOKE ALL ON TABLE zeroauth_audit_internal.registry_cosignatures FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.registry_cosignatures IS 'What witnesses signed: that they saw the registry as a run left it, and that it grew from what they had seen before.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_cosignatures.run IS 'Number of the run.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_cosignatures.size IS 'How many entries its checkpoint covers.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_cosignatures.carried_by IS 'The run whose file carries the signature; NULL: none yet.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_cosignatures.cosigned_at IS 'When the witness says that it signed.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_cosignatures.sink IS 'The witness, by its name in sinks.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_cosignatures.line IS 'The signature line (C2SP cosignature/v1).';
COMMENT ON CONSTRAINT registry_cosignatures_pkey ON zeroauth_audit_internal.registry_cosignatures IS 'One signature of a witness for each run.';
COMMENT ON CONSTRAINT registry_cosignatures_run_check ON zeroauth_audit_internal.registry_cosignatures IS 'A file carries what was signed before it.';
COMMENT ON INDEX zeroauth_audit_internal.registry_cosignatures_sink IS 'Finds what a witness signed last.';
COMMENT ON INDEX zeroauth_audit_internal.registry_cosignatures_carried_by IS 'Finds what a run''s file carries, and what none does yet.';

CREATE TABLE zeroauth_audit_internal.registry_found (
    number bigint NOT NULL,
    sink text COLLATE pg_catalog."C" NOT NULL,
    file text,
    CONSTRAINT registry_found_pkey PRIMARY KEY (number, sink),
    CONSTRAINT registry_found_number_check CHECK (number > 0)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.registry_found FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.registry_found IS 'Runs that a directory has and this database lacks: taken over by the job checkpoint, before it signs anything. Read from the directory each time that it is opened, so in no dump.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_found.number IS 'Number of the run.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_found.sink IS 'The directory that has it, by its name in sinks.';
COMMENT ON COLUMN zeroauth_audit_internal.registry_found.file IS 'Its file; NULL of a run that contradicts one of ours that has left the database: nothing is signed then.';
COMMENT ON CONSTRAINT registry_found_pkey ON zeroauth_audit_internal.registry_found IS 'One file of a number in a directory.';
COMMENT ON CONSTRAINT registry_found_number_check ON zeroauth_audit_internal.registry_found IS 'Runs are counted from 1.';

SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_names', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_entries', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_tiles', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_runs', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_cosignatures', '');

CREATE FUNCTION zeroauth_audit_internal.registry_run_file(number bigint) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'zeroauth_audit_registry_run_file';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.registry_run_file(bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.registry_run_file(bigint) IS
    'The file of the run with this number (docs/format.md, section 21), made from the tables. ZA005 when there is no such run, ZA051 when it is not what was signed.';

CREATE FUNCTION zeroauth_audit_internal.registry_is(problem text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF registry_is.problem IS NOT NULL THEN
        PERFORM zeroauth_audit_internal.raise_alert('checkpoint_mismatch', 1::smallint, NULL, 'registry_damaged',
            'the registry is not what was sealed, and nothing is sealed any more: ' || registry_is.problem, jsonb_build_object('why', registry_is.problem));
    ELSIF EXISTS (SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.fingerprint = 'registry_damaged' AND a.state <> 'resolved') THEN
        PERFORM zeroauth_audit_internal.resolve_alert('registry_damaged', 'the registry is what was sealed');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.registry_is(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.registry_is(text) IS
    'Part of the job checkpoint: raises the alert checkpoint_mismatch with what is wrong with the registry, or resolves it when nothing is.';

CREATE FUNCTION zeroauth_audit_internal.registry_forked(by_sink text, number bigint, why text, tenant text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO zeroauth_audit_internal.registry_found AS f (number, sink) VALUES (registry_forked.number, by_sink)
    ON CONFLICT ON CONSTRAINT registry_found_pkey DO UPDATE SET file = NULL;
    PERFORM zeroauth_audit_internal.raise_alert('registry_forked', 1::smallint, registry_forked.tenant, 'registry_forked:' || by_sink,
        format('run %s contradicts what sink %s has, and nothing is signed any more: %s', registry_forked.number, by_sink, why),
        jsonb_build_object('sink', by_sink, 'run', registry_forked.number, 'why', why));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.registry_forked(text, bigint, text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.registry_forked(text, bigint, text, text) IS
    'Keeps the job checkpoint from signing while a directory has a run that contradicts one of ours, and raises the alert.';

CREATE FUNCTION zeroauth_audit_internal.run_outside(for_sink text) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT LEAST((SELECT pg_catalog.max(s.published_to) FROM zeroauth_audit_internal.sinks s WHERE s.enabled AND s.kind OPERATOR(pg_catalog.=) 'directory'),
        (SELECT r.number FROM zeroauth_audit_internal.registry_runs r ORDER BY r.number DESC LIMIT 1))
    WHERE NOT EXISTS (
        SELECT 1 FROM zeroauth_audit_internal.registry_found f JOIN zeroauth_audit_internal.sinks s ON s.name OPERATOR(pg_catalog.=) f.sink
        WHERE s.enabled AND (f.file IS NOT NULL OR f.sink OPERATOR(pg_catalog.<>) COALESCE(for_sink, '')));
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.run_outside(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.run_outside(text) IS
    'The newest run that witnesses and targets of anchors may have: one that a directory has, if there is one that is enabled. NULL while a directory has something that is to be taken over, or somebody else than for_sink contradicts what was signed here.';

CREATE FUNCTION zeroauth_audit_internal.registry_cosigned(by_sink text, run bigint, size bigint, line text, at bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO zeroauth_audit_internal.registry_cosignatures AS c (sink, run, size, line, cosigned_at)
    VALUES (by_sink, registry_cosigned.run, registry_cosigned.size, registry_cosigned.line, to_timestamp(at))
    ON CONFLICT ON CONSTRAINT registry_cosignatures_pkey DO NOTHING;
    -- A witness that did not agree before does now.
    DELETE FROM zeroauth_audit_internal.registry_found f WHERE f.sink = by_sink;
    IF FOUND THEN
        PERFORM zeroauth_audit_internal.resolve_alert('registry_forked:' || by_sink, 'the witness signed what was sealed here');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.registry_cosigned(text, bigint, bigint, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.registry_cosigned(text, bigint, bigint, text, bigint) IS
    'Called by the worker with what a witness signed of a run, and when it says that it did, in seconds since 1970.';

CREATE FUNCTION zeroauth_audit_internal.sink_opened(sink text, numbers bigint[], digests bytea[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    newest bigint := coalesce((SELECT max(n) FROM unnest(numbers) n), 0);
    had bigint;
    outside bigint;
    differs bigint;
    is_here boolean;
BEGIN
    SELECT s.published_to INTO had FROM zeroauth_audit_internal.sinks s WHERE s.name = sink_opened.sink FOR NO KEY UPDATE;
    SELECT max(s.published_to) INTO outside FROM zeroauth_audit_internal.sinks s WHERE s.kind = 'directory';
    -- What the directory did not take stays refused until it takes it.
    DELETE FROM zeroauth_audit_internal.registry_found f WHERE f.sink = sink_opened.sink AND (f.file IS NOT NULL OR f.number <= newest);
    SELECT f.number, r.number IS NOT NULL INTO differs, is_here
    FROM unnest(numbers, digests) f (number, digest) LEFT JOIN zeroauth_audit_internal.registry_runs r ON r.number = f.number
    WHERE r.digest IS DISTINCT FROM f.digest ORDER BY f.number LIMIT 1;
    IF differs <= outside THEN
        PERFORM zeroauth_audit_internal.registry_forked(sink_opened.sink, differs,
            CASE WHEN is_here THEN 'it is another one here: one of the two was rewritten, or a restored server and the one before it both signed' ELSE 'it was published from here, and is gone' END, NULL);
        RETURN -1;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.registry_found f WHERE f.sink = sink_opened.sink AND f.file IS NULL) THEN
        PERFORM zeroauth_audit_internal.resolve_alert('registry_forked:' || sink_opened.sink, 'the sink has what was signed here');
    END IF;
    -- It may have got what was never recorded here.
    UPDATE zeroauth_audit_internal.sinks s SET published_to = CASE WHEN differs IS NULL THEN newest ELSE differs - 1 END
    WHERE s.name = sink_opened.sink AND s.published_to <> CASE WHEN differs IS NULL THEN newest ELSE differs - 1 END;
    IF differs IS NULL AND had > newest THEN
        PERFORM zeroauth_audit_internal.raise_alert('sink_emptied', 1::smallint, NULL, 'sink_emptied:' || sink_opened.sink,
            CASE newest WHEN 0 THEN format('sink %s had runs up to %s, and holds none any more', sink_opened.sink, had)
                        ELSE format('sink %s had runs up to %s, and holds none behind %s any more', sink_opened.sink, had, newest) END,
            jsonb_build_object('sink', sink_opened.sink, 'published_to', had, 'holds', newest));
    END IF;
    RETURN differs;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.sink_opened(text, bigint[], bytea[]) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.sink_opened(text, bigint[], bytea[]) IS
    'Called by the worker with number and SHA-256 of each run file that a directory holds: compares them with the runs of this database. Returns the first that is to be taken over, NULL for none, -1 when the two contradict each other. Raises the alerts registry_forked and sink_emptied.';

CREATE FUNCTION zeroauth_audit_internal.log_cut(tenant text, epoch integer, size bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM zeroauth_audit_internal.log_intervals i WHERE i.tenant_id = tenant AND i.epoch = log_cut.epoch AND i.tree_size > size;
    DELETE FROM zeroauth_audit_internal.tiles t WHERE t.tenant_id = tenant AND t.epoch = log_cut.epoch AND t.place * 256 >= size >> (8 * t.level);
    UPDATE zeroauth_audit_internal.tiles t SET hashes = substr(t.hashes, 1, 32 * ((size >> (8 * t.level)) - t.place * 256)::integer)
    WHERE t.tenant_id = tenant AND t.epoch = log_cut.epoch AND octet_length(t.hashes) > 32 * ((size >> (8 * t.level)) - t.place * 256);
    UPDATE zeroauth_audit_internal.logs l SET tree_size = size WHERE l.tenant_id = tenant AND l.epoch = log_cut.epoch;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.log_cut(text, integer, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.log_cut(text, integer, bigint) IS
    'Part of registry_rewind: takes from a log what was sealed behind this size. Its events are sealed again.';

CREATE FUNCTION zeroauth_audit_internal.registry_rewind(run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kept CONSTANT bigint := coalesce((SELECT r.size FROM zeroauth_audit_internal.registry_runs r WHERE r.number = registry_rewind.run), 0);
    of_log record;
BEGIN
    FOR of_log IN
        SELECT l.tenant_id, l.epoch, coalesce(k.tree_size, 0) AS size
        FROM (SELECT DISTINCT e.tenant_id, e.epoch FROM zeroauth_audit_internal.registry_entries e WHERE e.entry >= kept AND e.tenant_id IS NOT NULL) l
        LEFT JOIN LATERAL (
            SELECT e.tree_size FROM zeroauth_audit_internal.registry_entries e
            WHERE e.tenant_id = l.tenant_id AND e.epoch = l.epoch AND e.entry < kept ORDER BY e.entry DESC LIMIT 1) k ON true
    LOOP
        PERFORM zeroauth_audit_internal.log_cut(of_log.tenant_id, of_log.epoch, of_log.size);
    END LOOP;
    DELETE FROM zeroauth_audit_internal.registry_entries e WHERE e.entry >= kept;
    DELETE FROM zeroauth_audit_internal.registry_runs r WHERE r.number > registry_rewind.run;
    DELETE FROM zeroauth_audit_internal.registry_cosignatures c WHERE c.run > registry_rewind.run;
    UPDATE zeroauth_audit_internal.registry_cosignatures c SET carried_by = NULL WHERE c.carried_by > registry_rewind.run;
    DELETE FROM zeroauth_audit_internal.registry_tiles t WHERE t.place * 256 >= kept >> (8 * t.level);
    UPDATE zeroauth_audit_internal.registry_tiles t SET hashes = substr(t.hashes, 1, 32 * ((kept >> (8 * t.level)) - t.place * 256)::integer)
    WHERE octet_length(t.hashes) > 32 * ((kept >> (8 * t.level)) - t.place * 256);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.registry_rewind(bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.registry_rewind(bigint) IS
    'Part of the job checkpoint: takes back what was sealed behind a run, of which nothing has left the database, because a directory has another run in its place.';

CREATE FUNCTION zeroauth_audit_internal.second_signer(by_sink text, run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM zeroauth_audit_internal.raise_alert('second_signer', 2::smallint, NULL, 'second_signer:' || by_sink,
        format('another server signs with the key of this database: sink %s had its run %s before ours, which is taken back', by_sink, run),
        jsonb_build_object('sink', by_sink, 'run', run));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.second_signer(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.second_signer(text, bigint) IS
    'Part of the job checkpoint: raises the alert that two servers sign one registry, of which this one lost a number.';

CREATE FUNCTION zeroauth_audit_internal.registry_taken_over(by_sink text, run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown bigint;
    labels jsonb;
BEGIN
    DELETE FROM zeroauth_audit_internal.registry_found f WHERE f.number = run;
    UPDATE zeroauth_audit_internal.sinks s SET published_to = greatest(s.published_to, run) WHERE s.name = by_sink;
    SELECT count(*), jsonb_agg(f.label ORDER BY f.label) FILTER (WHERE f.place <= 20) INTO unknown, labels
    FROM (SELECT o.label, row_number() OVER (ORDER BY o.label) AS place
          FROM (SELECT DISTINCT split_part(split_part(e.text, chr(10), 2), ' ', 2) AS label FROM zeroauth_audit_internal.registry_entries e
                WHERE e.tenant_id IS NULL AND split_part(e.text, chr(10), 2) LIKE 'log %') o) f;
    IF unknown > 0 THEN
        PERFORM zeroauth_audit_internal.raise_alert('tenant_missing', 1::smallint, NULL, 'log_missing:' || by_sink,
            format('sink %s holds the logs of %s tenants that are not here: tenants are gone, or an earlier state was restored', by_sink, unknown),
            jsonb_build_object('sink', by_sink, 'labels', labels, 'missing', unknown));
    END IF;
    IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.registry_found f WHERE f.sink = by_sink) THEN
        PERFORM zeroauth_audit_internal.note_change('registry.taken_over', 'high', by_sink, jsonb_build_object('run', run, 'unknown_tenants', unknown,
            'held', (SELECT count(*) FROM zeroauth_audit_internal.logs l WHERE l.state = 'held')));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.registry_taken_over(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.registry_taken_over(text, bigint) IS
    'Part of the job checkpoint: a run of a directory is ours now. An alert when tenants of it are not here, and an event after the last one.';
