-- The registry: one log of all logs (docs/format.md, section 20). Written by the job checkpoint alone, in the transaction that adds
-- events to a tenant's log.
--
-- An entry's text follows from its row, the hash of the text is in registry_tiles, and the text of a run file follows from registry_runs,
-- the entries of the run, and the tables of the logs: nothing is kept twice.

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
COMMENT ON COLUMN zeroauth_audit_internal.registry_entries.text IS 'The text of an entry of another kind; NULL for the state of a log.';
COMMENT ON CONSTRAINT registry_entries_pkey ON zeroauth_audit_internal.registry_entries IS 'One entry at each index.';
COMMENT ON CONSTRAINT registry_entries_entry_check ON zeroauth_audit_internal.registry_entries IS 'Counted from 0.';
COMMENT ON CONSTRAINT registry_entries_kind_check ON zeroauth_audit_internal.registry_entries IS 'The state of a log, or a text.';
COMMENT ON INDEX zeroauth_audit_internal.registry_entries_tenant IS 'Finds the newest entry of a tenant.';

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
COMMENT ON CONSTRAINT registry_runs_pkey ON zeroauth_audit_internal.registry_runs IS 'One run of each number.';
COMMENT ON CONSTRAINT registry_runs_number_check ON zeroauth_audit_internal.registry_runs IS 'A registry only grows.';
COMMENT ON CONSTRAINT registry_runs_hashes_check ON zeroauth_audit_internal.registry_runs IS 'SHA-256 hashes.';

SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_names', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_entries', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_tiles', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.registry_runs', '');

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
