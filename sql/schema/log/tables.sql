-- The Merkle log of each tenant: what its events were when they were sealed. Written by the job checkpoint alone.
--
-- A log's entries are the event hashes. A run adds, for every chain that grew, its new events: by chain, then by seq. So the place of any
-- event follows from log_intervals, and no row is written for a single event. What a log was after a run, the registry states.

CREATE TABLE zeroauth_audit_internal.logs (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    tree_size bigint NOT NULL DEFAULT 0,
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'open',
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    ended_at timestamptz,
    known_size bigint,
    known_root bytea,
    known_by text,
    CONSTRAINT logs_pkey PRIMARY KEY (tenant_id, epoch),
    CONSTRAINT logs_epoch_check CHECK (epoch >= 0),
    CONSTRAINT logs_tree_size_check CHECK (tree_size >= 0),
    CONSTRAINT logs_state_check CHECK (state IN ('open', 'held', 'ended')),
    CONSTRAINT logs_ended_check CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    CONSTRAINT logs_known_check CHECK (known_root IS NULL OR pg_catalog.octet_length(known_root) = 32)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.logs FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.logs IS 'The Merkle log of each tenant, and those that ended with an acknowledged restore.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.epoch IS 'Epoch of the tenant: 0, and one more after each acknowledged restore. The highest is the current one.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.tree_size IS 'How many events are sealed.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.state IS 'open; held: somebody outside holds a state that this log does not agree with, and nothing is added until a person decides; or ended.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.started_at IS 'When it began.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.ended_at IS 'When a restore was acknowledged that ended it.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.known_size IS 'How many events the state outside has that this log does not agree with.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.known_root IS 'Its root hash, NULL when only the size is known.';
COMMENT ON COLUMN zeroauth_audit_internal.logs.known_by IS 'The sink that holds it.';
COMMENT ON CONSTRAINT logs_pkey ON zeroauth_audit_internal.logs IS 'One log for each epoch of a tenant.';
COMMENT ON CONSTRAINT logs_epoch_check ON zeroauth_audit_internal.logs IS 'Epochs are counted from 0.';
COMMENT ON CONSTRAINT logs_tree_size_check ON zeroauth_audit_internal.logs IS 'A number of events.';
COMMENT ON CONSTRAINT logs_state_check ON zeroauth_audit_internal.logs IS 'The three states.';
COMMENT ON CONSTRAINT logs_ended_check ON zeroauth_audit_internal.logs IS 'What has ended did so at some time.';
COMMENT ON CONSTRAINT logs_known_check ON zeroauth_audit_internal.logs IS 'A SHA-256 hash.';
COMMENT ON INDEX zeroauth_audit_internal.logs_pkey IS 'Finds the current log of a tenant.';

CREATE TABLE zeroauth_audit_internal.log_intervals (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL,
    chain smallint NOT NULL,
    to_seq bigint NOT NULL,
    from_seq bigint NOT NULL,
    first_leaf bigint NOT NULL,
    tree_size bigint NOT NULL,
    CONSTRAINT log_intervals_pkey PRIMARY KEY (tenant_id, epoch, chain, to_seq),
    CONSTRAINT log_intervals_place_check CHECK (from_seq >= 0 AND to_seq > from_seq AND first_leaf >= 0 AND tree_size >= first_leaf + (to_seq - from_seq))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.log_intervals FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.log_intervals IS 'Which events a run added to a log: one row for each chain that grew.';
COMMENT ON COLUMN zeroauth_audit_internal.log_intervals.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN zeroauth_audit_internal.log_intervals.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.log_intervals.chain IS 'The chain.';
COMMENT ON COLUMN zeroauth_audit_internal.log_intervals.to_seq IS 'seq of the last event that was added.';
COMMENT ON COLUMN zeroauth_audit_internal.log_intervals.from_seq IS 'seq of the event before the first that was added, 0 for none.';
COMMENT ON COLUMN zeroauth_audit_internal.log_intervals.first_leaf IS 'Place of the first in the log, counted from 0; the others follow it.';
COMMENT ON COLUMN zeroauth_audit_internal.log_intervals.tree_size IS 'How many events the log had after the run that added them.';
CREATE INDEX log_intervals_tree_size ON zeroauth_audit_internal.log_intervals (tenant_id, epoch, tree_size);
COMMENT ON INDEX zeroauth_audit_internal.log_intervals_tree_size IS 'Finds what was added from one size of a log to another.';
COMMENT ON CONSTRAINT log_intervals_pkey ON zeroauth_audit_internal.log_intervals IS 'Finds the interval that an event is in.';
COMMENT ON CONSTRAINT log_intervals_place_check ON zeroauth_audit_internal.log_intervals IS 'The events are part of the tree that they are said to be in.';

CREATE TABLE zeroauth_audit_internal.tiles (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    epoch integer NOT NULL,
    level smallint NOT NULL,
    place bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT tiles_pkey PRIMARY KEY (tenant_id, epoch, level, place),
    CONSTRAINT tiles_place_check CHECK (level OPERATOR(pg_catalog.>=) 0 AND level OPERATOR(pg_catalog.<=) 7 AND place >= 0),
    CONSTRAINT tiles_hashes_check CHECK (pg_catalog.octet_length(hashes) OPERATOR(pg_catalog.>=) 32 AND pg_catalog.octet_length(hashes) OPERATOR(pg_catalog.<=) 8192 AND pg_catalog.octet_length(hashes) % 32 = 0)
);
-- Hashes do not compress.
ALTER TABLE zeroauth_audit_internal.tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
REVOKE ALL ON TABLE zeroauth_audit_internal.tiles FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.tiles IS 'The hashes of each log, 256 in a tile (C2SP tlog-tiles): a proof reads a few of them.';
COMMENT ON COLUMN zeroauth_audit_internal.tiles.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN zeroauth_audit_internal.tiles.epoch IS 'Which log of the tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.tiles.level IS 'Level of the tile: 0 holds hashes of events, each higher one those of 256 tiles below.';
COMMENT ON COLUMN zeroauth_audit_internal.tiles.place IS 'Number of the tile in its level, counted from 0.';
COMMENT ON COLUMN zeroauth_audit_internal.tiles.hashes IS '1 to 256 hashes of 32 bytes; only the last tile of a level has less than 256.';
COMMENT ON CONSTRAINT tiles_pkey ON zeroauth_audit_internal.tiles IS 'One tile at each place.';
COMMENT ON CONSTRAINT tiles_place_check ON zeroauth_audit_internal.tiles IS 'Eight levels of 256 hold more events than a bigint counts.';
COMMENT ON CONSTRAINT tiles_hashes_check ON zeroauth_audit_internal.tiles IS '1 to 256 hashes.';

CREATE TABLE zeroauth_audit_internal.keys (
    public_key bytea NOT NULL,
    vkey text NOT NULL,
    first_used timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_used timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT keys_pkey PRIMARY KEY (public_key),
    CONSTRAINT keys_public_key_check CHECK (pg_catalog.octet_length(public_key) IN (32, 1312))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.keys FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.keys IS 'The public keys of all checkpoints. The private ones are in zeroauth_audit.checkpoint_key_file only.';
COMMENT ON COLUMN zeroauth_audit_internal.keys.public_key IS 'The Ed25519 public key, or that of ML-DSA-44.';
COMMENT ON COLUMN zeroauth_audit_internal.keys.vkey IS 'The same as C2SP writes it, with the base origin as its name: what zeroauth-audit wants as --key.';
COMMENT ON COLUMN zeroauth_audit_internal.keys.first_used IS 'When it first signed.';
COMMENT ON COLUMN zeroauth_audit_internal.keys.last_used IS 'When it last signed; older checkpoints still verify with it.';
COMMENT ON CONSTRAINT keys_pkey ON zeroauth_audit_internal.keys IS 'Keys are told apart by themselves.';
COMMENT ON CONSTRAINT keys_public_key_check ON zeroauth_audit_internal.keys IS 'A public key of Ed25519 or of ML-DSA-44.';

CREATE TABLE zeroauth_audit_internal.sinks (
    name text COLLATE pg_catalog."C" NOT NULL,
    kind text COLLATE pg_catalog."C" NOT NULL,
    directory text,
    url_file text,
    ca_file text,
    vkey text,
    enabled boolean NOT NULL DEFAULT true,
    published_to bigint NOT NULL DEFAULT 0,
    last_success timestamptz,
    failing_since timestamptz,
    last_error text,
    CONSTRAINT sinks_pkey PRIMARY KEY (name),
    CONSTRAINT sinks_name_check CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    CONSTRAINT sinks_kind_check CHECK (kind IN ('directory', 'witness')),
    CONSTRAINT sinks_paths_check CHECK (directory ~ '^/' AND url_file ~ '^/' AND ca_file ~ '^/'),
    CONSTRAINT sinks_directory_check CHECK ((kind = 'directory') = (directory IS NOT NULL)),
    CONSTRAINT sinks_witness_check CHECK ((kind = 'witness') = (url_file IS NOT NULL AND vkey IS NOT NULL))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.sinks FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.sinks IS 'Where checkpoints go, so that nobody inside can take them back: written by audit_sink_set(), shown by audit_sinks.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.name IS 'Name of the sink, as alerts show it.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.kind IS 'directory (files that are never overwritten; best on storage that cannot be) or witness (C2SP tlog-witness).';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.directory IS 'Absolute path of the directory, which must exist and be the server''s user''s or root''s alone to write.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.url_file IS 'Absolute path of the file that holds the witness'' URL; mode 0600 or 0400, owned by the server''s user or root.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.ca_file IS 'Absolute path of a PEM file with the only certificate authorities that are trusted; NULL: those of the system.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.vkey IS 'The witness'' public key as C2SP writes it: name+hash+key. A cosignature of another is refused.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.enabled IS 'While false nothing is published here. A sink that a dump brings is disabled.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.published_to IS 'The last run that a directory has. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.last_success IS 'When it last took something. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.failing_since IS 'Since when it has taken nothing that it was given; NULL: it works. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.sinks.last_error IS 'Why it last failed. Never contains a part of a URL. Set by the server.';
COMMENT ON CONSTRAINT sinks_pkey ON zeroauth_audit_internal.sinks IS 'Sinks are told apart by their name.';
COMMENT ON CONSTRAINT sinks_name_check ON zeroauth_audit_internal.sinks IS 'A name that needs no quoting anywhere.';
COMMENT ON CONSTRAINT sinks_kind_check ON zeroauth_audit_internal.sinks IS 'The two kinds.';
COMMENT ON CONSTRAINT sinks_paths_check ON zeroauth_audit_internal.sinks IS 'A relative path would depend on where the server was started.';
COMMENT ON CONSTRAINT sinks_directory_check ON zeroauth_audit_internal.sinks IS 'A directory has a path.';
COMMENT ON CONSTRAINT sinks_witness_check ON zeroauth_audit_internal.sinks IS 'A witness has a URL and a key.';

SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.logs', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.log_intervals', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.tiles', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.keys', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.sinks', '');
