-- Anchors: the registry fixed outside the database. What is to go where, what is on its way, and what is there.
--
-- One batch a day and target: size and root of the registry, whatever the number of tenants. The job anchor plans it, the worker takes it
-- outside, and its row follows in the transaction that stores what happened.

CREATE TABLE zeroauth_audit_internal.anchor_targets (
    name text COLLATE pg_catalog."C" NOT NULL,
    driver text COLLATE pg_catalog."C" NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    registered_at timestamptz,
    enabled_since timestamptz,
    disabled_because text,
    last_epoch bigint NOT NULL DEFAULT 0,
    check_requested_at timestamptz,
    checked_at timestamptz,
    check_error text,
    CONSTRAINT anchor_targets_pkey PRIMARY KEY (name),
    CONSTRAINT anchor_targets_name_check CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    CONSTRAINT anchor_targets_driver_check CHECK (driver IN ('file', 'evm', 'rfc3161')),
    CONSTRAINT anchor_targets_config_check CHECK (pg_catalog.jsonb_typeof(config) = 'object'),
    CONSTRAINT anchor_targets_last_epoch_check CHECK (last_epoch >= 0)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.anchor_targets FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.anchor_targets IS 'Where anchors go. Keys, passwords and URLs lie in files that only the server can read, never in a table. A row that a dump brings comes back disabled, so that a copy of a database never anchors. Written by audit_anchor_target_set(), shown by audit_anchor_targets.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.name IS 'Name of the target, as alerts show it.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.driver IS 'file (an append-only signed file), evm (the contract AuditAnchor) or rfc3161 (a time-stamp authority).';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.config IS 'What the driver needs: names of files and public facts. docs/anchors.md lists the fields.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.enabled IS 'While false nothing is anchored here, and what is on its way waits.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.registered_at IS 'When the row was made. Set by the server: a row that brings it was restored.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.enabled_since IS 'Since when it is enabled: days before are not missed. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.disabled_because IS 'restored, when the server disabled it; NULL otherwise.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.last_epoch IS 'The highest epoch that a batch was given; epochs only rise. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.check_requested_at IS 'When the job anchor_check last asked the worker to read every anchor again. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.checked_at IS 'Which of these questions the worker last answered: its check_requested_at. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_targets.check_error IS 'Why it could not read them; NULL when it could. Set by the server.';
COMMENT ON CONSTRAINT anchor_targets_pkey ON zeroauth_audit_internal.anchor_targets IS 'Targets are told apart by their name.';
COMMENT ON CONSTRAINT anchor_targets_name_check ON zeroauth_audit_internal.anchor_targets IS 'A name that needs no quoting anywhere.';
COMMENT ON CONSTRAINT anchor_targets_driver_check ON zeroauth_audit_internal.anchor_targets IS 'The three drivers.';
COMMENT ON CONSTRAINT anchor_targets_config_check ON zeroauth_audit_internal.anchor_targets IS 'Fields with names.';
COMMENT ON CONSTRAINT anchor_targets_last_epoch_check ON zeroauth_audit_internal.anchor_targets IS 'Epochs are counted from 1; 0 is none yet.';

CREATE TABLE zeroauth_audit_internal.anchor_batches (
    target text COLLATE pg_catalog."C" NOT NULL,
    epoch bigint NOT NULL,
    origin text COLLATE pg_catalog."C" NOT NULL,
    log_id bytea NOT NULL,
    root bytea NOT NULL,
    size bigint NOT NULL,
    batch_time timestamptz NOT NULL,
    scheduled_for timestamptz,
    planned_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    machine jsonb NOT NULL,
    state text COLLATE pg_catalog."C" NOT NULL DEFAULT 'planned',
    started_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz,
    first_failed_at timestamptz,
    paged_at timestamptz,
    last_error text,
    included_at timestamptz,
    finalized_at timestamptz,
    tx_hash text,
    chain_id bigint,
    contract text,
    block_number bigint,
    block_hash text,
    token text,
    anchored_at timestamptz,
    error text,
    evidence jsonb,
    replanned_as bigint,
    CONSTRAINT anchor_batches_pkey PRIMARY KEY (target, epoch),
    CONSTRAINT anchor_batches_epoch_check CHECK (epoch >= 1),
    CONSTRAINT anchor_batches_hashes_check CHECK (pg_catalog.octet_length(log_id) = 32 AND pg_catalog.octet_length(root) = 32),
    CONSTRAINT anchor_batches_size_check CHECK (size >= 1),
    CONSTRAINT anchor_batches_state_check CHECK (state IN ('planned', 'submitted', 'included', 'finalized', 'orphaned', 'failed'))
);
CREATE INDEX anchor_batches_open ON zeroauth_audit_internal.anchor_batches (target, epoch) WHERE next_at IS NOT NULL;
CREATE INDEX anchor_batches_anchored ON zeroauth_audit_internal.anchor_batches (anchored_at);
REVOKE ALL ON TABLE zeroauth_audit_internal.anchor_batches FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.anchor_batches IS 'What went out in one piece: one row for each target and epoch. Written by the job anchor and by the worker.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.target IS 'Where it goes.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.epoch IS 'Its number there.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.origin IS 'The origin of the registry: the name of the checkpoint key.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.log_id IS 'SHA-256 of the origin: by this the target knows the registry.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.root IS 'Root hash of the registry of this size (RFC 6962).';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.size IS 'How many entries of the registry are anchored.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.batch_time IS 'When it was made, in whole seconds.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.scheduled_for IS 'The time of the schedule that it was made for; NULL when somebody ran the job by hand.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.planned_at IS 'When the row was made: later than batch_time when the same root was given a new epoch.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.machine IS 'What the worker knows of it, bytes that were signed and are to be sent included. The other columns are taken from it.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.state IS 'planned, submitted, included (it could still be undone), finalized, orphaned (it was included, and that was undone; it is sent again) or failed (its epoch is used up).';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.started_at IS 'When the worker began with it; NULL while an earlier one is under way. Until then a newer batch takes its place.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.attempts IS 'How often something was sent for it.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.next_at IS 'When the worker looks after it next; NULL when it is over.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.first_failed_at IS 'Since when nothing works; NULL: no trouble.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.paged_at IS 'When a person was called about that.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.last_error IS 'The newest failure. Never contains a part of a URL or of a key.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.included_at IS 'Since when it has been seen included.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.finalized_at IS 'When it was seen to be final.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.tx_hash IS 'evm: hash of the transaction that it is in. file: SHA-256 of the line.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.chain_id IS 'evm: number of the chain (EIP-155).';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.contract IS 'evm: address of the contract.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.block_number IS 'evm: number of the block.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.block_hash IS 'evm: its hash.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.token IS 'rfc3161: the authority''s serial number of the token, whose bytes are in the evidence.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.anchored_at IS 'When the target says that it was anchored; NULL while it is not.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.error IS 'What keeps it from being anchored; NULL: nothing.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.evidence IS 'What an auditor needs to check it without asking the database: transaction, receipt, proof and block header, or token, or signed note.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_batches.replanned_as IS 'Of a failed one: the epoch under which the same root was planned again.';
COMMENT ON CONSTRAINT anchor_batches_pkey ON zeroauth_audit_internal.anchor_batches IS 'An epoch is used once.';
COMMENT ON CONSTRAINT anchor_batches_epoch_check ON zeroauth_audit_internal.anchor_batches IS 'Epochs are counted from 1.';
COMMENT ON CONSTRAINT anchor_batches_hashes_check ON zeroauth_audit_internal.anchor_batches IS 'SHA-256 hashes.';
COMMENT ON CONSTRAINT anchor_batches_size_check ON zeroauth_audit_internal.anchor_batches IS 'Nothing is no batch.';
COMMENT ON CONSTRAINT anchor_batches_state_check ON zeroauth_audit_internal.anchor_batches IS 'The six states.';
COMMENT ON INDEX zeroauth_audit_internal.anchor_batches_open IS 'What is on its way.';
COMMENT ON INDEX zeroauth_audit_internal.anchor_batches_anchored IS 'What was anchored lately.';

CREATE INDEX log_intervals_leaves ON zeroauth_audit_internal.log_intervals (tenant_id, epoch, first_leaf);
COMMENT ON INDEX zeroauth_audit_internal.log_intervals_leaves IS 'The intervals of a log in the order of its leaves: what the job anchor_check goes by.';

CREATE TABLE zeroauth_audit_internal.tenant_status (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    state text COLLATE pg_catalog."C" NOT NULL,
    since timestamptz NOT NULL,
    banner text,
    CONSTRAINT tenant_status_pkey PRIMARY KEY (tenant_id),
    CONSTRAINT tenant_status_state_check CHECK (state IN ('ok', 'anchor-late', 'anchor-degraded', 'not-anchored'))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.tenant_status FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.tenant_status IS 'How each tenant''s trail is protected outside, for a page that a tenant sees. Kept by the worker.';
COMMENT ON COLUMN zeroauth_audit_internal.tenant_status.tenant_id IS 'The tenant.';
COMMENT ON COLUMN zeroauth_audit_internal.tenant_status.state IS 'ok; anchor-late: the newest day that is over has no anchor at one of the targets; anchor-degraded: two days in a row have none, and no final anchor has covered them since; not-anchored: the job anchor is disabled.';
COMMENT ON COLUMN zeroauth_audit_internal.tenant_status.since IS 'Since when: for anchor-late and anchor-degraded the first time of the schedule that was missed.';
COMMENT ON COLUMN zeroauth_audit_internal.tenant_status.banner IS 'One line to show; NULL when there is nothing to say.';
COMMENT ON CONSTRAINT tenant_status_pkey ON zeroauth_audit_internal.tenant_status IS 'One state a tenant.';
COMMENT ON CONSTRAINT tenant_status_state_check ON zeroauth_audit_internal.tenant_status IS 'The four states.';

CREATE TABLE zeroauth_audit_internal.anchor_findings (
    kind text COLLATE pg_catalog."C" NOT NULL,
    source text COLLATE pg_catalog."C" NOT NULL,
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    target text COLLATE pg_catalog."C" NOT NULL,
    batch bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    detail text NOT NULL,
    CONSTRAINT anchor_findings_pkey PRIMARY KEY (tenant_id, target, kind, batch, source),
    CONSTRAINT anchor_findings_kind_check CHECK (kind IN ('anchor_mismatch', 'tenant_missing')),
    CONSTRAINT anchor_findings_source_check CHECK (source IN ('events', 'rows', 'target'))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.anchor_findings FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.anchor_findings IS 'What the job anchor_check found and has not found gone since. audit_verify() and audit_findings() name those of a tenant, too.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.kind IS 'anchor_mismatch: what is there is not what was anchored. tenant_missing: a log that was anchored is gone.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.source IS 'What tells it: events (they give another root), rows (the registry has another root) or target (it has something else).';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.tenant_id IS 'The tenant; empty when it is about a whole batch.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.target IS 'The target; empty when it is about the events, whatever the target.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.batch IS 'The batch''s epoch at the target; 0 when it is about the events.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.found_at IS 'When it was first found.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.last_seen_at IS 'When it was last found.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_findings.detail IS 'What was found, in words.';
COMMENT ON CONSTRAINT anchor_findings_pkey ON zeroauth_audit_internal.anchor_findings IS 'One row for each class and place.';
COMMENT ON CONSTRAINT anchor_findings_kind_check ON zeroauth_audit_internal.anchor_findings IS 'The two classes.';
COMMENT ON CONSTRAINT anchor_findings_source_check ON zeroauth_audit_internal.anchor_findings IS 'The three sources.';

CREATE TABLE zeroauth_audit_internal.anchor_check_state (
    id boolean NOT NULL DEFAULT true,
    run bigint,
    phase text NOT NULL DEFAULT 'idle',
    started_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL,
    target text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    batch bigint NOT NULL DEFAULT 0,
    tenant_id text COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    epoch integer NOT NULL DEFAULT -1,
    leaf bigint NOT NULL DEFAULT 0,
    frontier bytea NOT NULL DEFAULT '',
    failure text,
    finished_at timestamptz,
    CONSTRAINT anchor_check_state_pkey PRIMARY KEY (id),
    CONSTRAINT anchor_check_state_id_check CHECK (id),
    CONSTRAINT anchor_check_state_phase_check CHECK (phase IN ('idle', 'batches', 'tenants', 'answers', 'failing'))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.anchor_check_state FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.anchor_check_state IS 'Where the job anchor_check is: one row once it has run, so that a run goes on where a crash or a timeout ended the one before.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.id IS 'Always true.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.run IS 'The run in job_runs.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.phase IS 'idle; batches: the roots of the registry; tenants: the roots of logs from their events; answers: what the targets have; failing: the run is about to fail.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.started_at IS 'When the pass began.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.requested_at IS 'When the worker was asked to read the targets.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.target IS 'Target of the last batch that is done.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.batch IS 'That batch.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.tenant_id IS 'The tenant that it is at.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.epoch IS 'Which log of the tenant; -1: none yet.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.leaf IS 'How many leaves of that log are done.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.frontier IS 'What is kept of them to go on: the roots of the largest whole subtrees, 32 bytes each.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.failure IS 'Why the run is about to fail.';
COMMENT ON COLUMN zeroauth_audit_internal.anchor_check_state.finished_at IS 'When the last pass came to its end.';
COMMENT ON CONSTRAINT anchor_check_state_pkey ON zeroauth_audit_internal.anchor_check_state IS 'One row.';
COMMENT ON CONSTRAINT anchor_check_state_id_check ON zeroauth_audit_internal.anchor_check_state IS 'One row.';
COMMENT ON CONSTRAINT anchor_check_state_phase_check ON zeroauth_audit_internal.anchor_check_state IS 'The phases of a run.';

SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.anchor_targets', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.anchor_batches', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.tenant_status', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.anchor_findings', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.anchor_check_state', '');
