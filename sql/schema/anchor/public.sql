-- Anchors as people see them, and where they go: audit_anchors, audit_anchor_targets, and the calls that make, change, drop and
-- retry a target.

CREATE VIEW @extschema@.audit_anchors AS
    SELECT l.tenant_id, b.target, b.anchored_at, b.state, e.tree_size, b.tx_hash, b.block_number, b.block_hash, b.chain_id, b.contract, b.token,
        b.epoch AS batch, e.epoch, e.root, b.size AS registry_size, b.root AS registry_root, b.attempts, b.error
    FROM zeroauth_audit_internal.anchor_batches b
    CROSS JOIN (SELECT DISTINCT o.tenant_id FROM zeroauth_audit_internal.logs o) l
    CROSS JOIN LATERAL (
        SELECT r.epoch, r.tree_size, r.root FROM zeroauth_audit_internal.registry_entries r
        WHERE r.tenant_id OPERATOR(pg_catalog.=) l.tenant_id AND r.entry OPERATOR(pg_catalog.<) b.size ORDER BY r.entry DESC LIMIT 1) e
    WHERE b.origin OPERATOR(pg_catalog.=) (SELECT pg_catalog.split_part(n.note, pg_catalog.chr(10), 1) FROM zeroauth_audit_internal.registry_runs n ORDER BY n.number DESC LIMIT 1);
REVOKE ALL ON TABLE @extschema@.audit_anchors FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_anchors IS 'What of each tenant is fixed outside, where and since when: one row for each tenant, target and batch, once the tenant was part of what was anchored. SELECT count(*) .. WHERE anchored_at > now() - interval ''36 hours'' says whether the daily anchor came. Read-only; the job anchor and the worker write it.';
COMMENT ON COLUMN @extschema@.audit_anchors.tenant_id IS 'Whose log it is.';
COMMENT ON COLUMN @extschema@.audit_anchors.target IS 'Where it is anchored.';
COMMENT ON COLUMN @extschema@.audit_anchors.anchored_at IS 'When the target says that it was anchored; NULL while it is not.';
COMMENT ON COLUMN @extschema@.audit_anchors.state IS 'planned, submitted, included (it could still be undone), finalized, orphaned (it was included, and that was undone; it is sent again) or failed (it is planned again under another number).';
COMMENT ON COLUMN @extschema@.audit_anchors.tree_size IS 'How many events of the tenant it covers.';
COMMENT ON COLUMN @extschema@.audit_anchors.tx_hash IS 'evm: hash of the transaction that it is in. file: SHA-256 of the line.';
COMMENT ON COLUMN @extschema@.audit_anchors.block_number IS 'evm: number of the block.';
COMMENT ON COLUMN @extschema@.audit_anchors.block_hash IS 'evm: hash of the block.';
COMMENT ON COLUMN @extschema@.audit_anchors.chain_id IS 'evm: number of the chain (EIP-155).';
COMMENT ON COLUMN @extschema@.audit_anchors.contract IS 'evm: address of the contract.';
COMMENT ON COLUMN @extschema@.audit_anchors.token IS 'rfc3161: the authority''s serial number of the token.';
COMMENT ON COLUMN @extschema@.audit_anchors.batch IS 'Number of the batch at the target.';
COMMENT ON COLUMN @extschema@.audit_anchors.epoch IS 'Which log of the tenant: 0, and one more after each acknowledged restore. What was written since the current one began is anchored by a row of that epoch.';
COMMENT ON COLUMN @extschema@.audit_anchors.root IS 'Root hash of the tenant''s log of that size.';
COMMENT ON COLUMN @extschema@.audit_anchors.registry_size IS 'How many entries of the registry were anchored.';
COMMENT ON COLUMN @extschema@.audit_anchors.registry_root IS 'Their root hash: what the target has.';
COMMENT ON COLUMN @extschema@.audit_anchors.attempts IS 'How often something was sent for the batch.';
COMMENT ON COLUMN @extschema@.audit_anchors.error IS 'What keeps it from being anchored; NULL: nothing.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_anchors
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('target', 'SELECT * FROM audit_job_run(''anchor'');',
        'SELECT audit_anchor_retry(%);', 'What was anchored stays: the target has it, too. To anchor there no more: SELECT audit_anchor_target_set(%, enabled => false);');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_anchors IS 'Refuses edits, and says which call to make.';

CREATE VIEW @extschema@.audit_anchor_targets AS
    SELECT t.name, t.driver AS kind, t.enabled,
        CASE WHEN NOT t.enabled THEN 'off' WHEN stuck.since IS NOT NULL THEN 'failing' WHEN done.newest IS NOT NULL THEN 'ok' ELSE 'unused' END AS state,
        done.newest AS last_success_at, stuck.since AS failing_since, stuck.error AS last_error, t.config,
        last.epoch AS batch, last.state AS batch_state, last.batch_time AS batch_at, t.disabled_because, t.checked_at, t.check_error
    FROM zeroauth_audit_internal.anchor_targets t
    LEFT JOIN LATERAL (
        SELECT b.epoch, b.state, b.batch_time FROM zeroauth_audit_internal.anchor_batches b WHERE b.target OPERATOR(pg_catalog.=) t.name ORDER BY b.epoch DESC LIMIT 1) last ON true
    CROSS JOIN LATERAL (
        SELECT pg_catalog.max(b.finalized_at) AS newest FROM zeroauth_audit_internal.anchor_batches b WHERE b.target OPERATOR(pg_catalog.=) t.name) done
    CROSS JOIN LATERAL (
        SELECT pg_catalog.min(b.first_failed_at) AS since, (pg_catalog.array_agg(b.last_error ORDER BY b.epoch) FILTER (WHERE b.first_failed_at IS NOT NULL))[1] AS error
        FROM zeroauth_audit_internal.anchor_batches b WHERE b.target OPERATOR(pg_catalog.=) t.name AND b.next_at IS NOT NULL) stuck;
REVOKE ALL ON TABLE @extschema@.audit_anchor_targets FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_anchor_targets IS 'Where anchors go, and whether they get there: the newest batch of each target included. Read-only; audit_anchor_target_set() and audit_anchor_target_drop() change it, audit_anchor_retry() tries again at once.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.name IS 'Name of the target, as alerts show it.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.kind IS 'file (an append-only signed file), evm (the contract AuditAnchor) or rfc3161 (a time-stamp authority).';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.enabled IS 'While false nothing is anchored here, and what is on its way waits.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.state IS 'off (not enabled), failing (the worker tries again and again), ok, or unused (no batch was ever final here).';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.last_success_at IS 'When a batch was last seen to be final.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.failing_since IS 'Since when nothing works; NULL: no trouble.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.last_error IS 'The newest failure of the batch that is stuck. Never contains a part of a URL or of a key.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.config IS 'What audit_anchor_target_set() was given: names of files and public facts, never what is in a file.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.batch IS 'Number of the newest batch here; NULL: there is none.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.batch_state IS 'Its state, as in audit_anchors.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.batch_at IS 'When it was made.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.disabled_because IS 'restored, when a dump brought the target and the server disabled it; NULL otherwise.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.checked_at IS 'Of which time the last request of the job anchor_check is that was answered.';
COMMENT ON COLUMN @extschema@.audit_anchor_targets.check_error IS 'Why the anchors here could not be read again then; NULL when they could.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_anchor_targets
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('name', 'SELECT audit_anchor_target_set(%, ''file'', ''{"path": "/mnt/worm/anchors"}'');',
        'SELECT audit_anchor_target_set(%, enabled => false);', 'SELECT audit_anchor_target_drop(%, ''why'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_anchor_targets IS 'Refuses edits, and says which call to make.';

CREATE FUNCTION @extschema@.audit_anchor_target_set(target text, kind text DEFAULT NULL, config jsonb DEFAULT NULL, enabled boolean DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was zeroauth_audit_internal.anchor_targets;
    is_new boolean;
    new_kind text;
    new_config jsonb;
    is_enabled boolean;
BEGIN
    PERFORM zeroauth_audit_internal.require_name(target, 'anchor target');
    SELECT t.* INTO was FROM zeroauth_audit_internal.anchor_targets t WHERE t.name = target FOR UPDATE;
    is_new := NOT FOUND;
    IF is_new AND (audit_anchor_target_set.kind IS NULL OR audit_anchor_target_set.config IS NULL) THEN
        PERFORM zeroauth_audit_internal.unknown_name(target, 'anchor target', format('A new one needs kind and config: SELECT audit_anchor_target_set(%L, ''file'', ''{"path": "/mnt/worm/anchors"}'');', target));
    END IF;
    new_kind := coalesce(audit_anchor_target_set.kind, was.driver);
    new_config := coalesce(audit_anchor_target_set.config, was.config);
    is_enabled := coalesce(audit_anchor_target_set.enabled, was.enabled, true);
    -- A target whose files are gone can still be switched off.
    IF coalesce(audit_anchor_target_set.enabled, false) OR num_nonnulls(audit_anchor_target_set.kind, audit_anchor_target_set.config) > 0 THEN
        PERFORM zeroauth_audit_internal.target_config_check(target, new_kind, new_config);
    END IF;
    IF NOT is_new AND (new_kind, new_config, is_enabled) = (was.driver::text, was.config, was.enabled) THEN
        RETURN 'unchanged';
    END IF;
    IF is_new THEN
        INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver, config, enabled) VALUES (target, new_kind, new_config, is_enabled);
    ELSE
        UPDATE zeroauth_audit_internal.anchor_targets t SET driver = new_kind, config = new_config, enabled = is_enabled WHERE t.name = target;
    END IF;
    PERFORM zeroauth_audit_internal.note_change(CASE WHEN is_new THEN 'anchor.target_created' ELSE 'anchor.target_changed' END, CASE WHEN is_enabled THEN 'info' ELSE 'high' END, target,
        jsonb_build_object('is', jsonb_build_object('kind', new_kind, 'config', new_config, 'enabled', is_enabled),
            'was', CASE WHEN NOT is_new THEN jsonb_build_object('kind', was.driver, 'config', was.config, 'enabled', was.enabled) END));
    PERFORM zeroauth_audit_internal.say_next(CASE
        WHEN is_enabled THEN coalesce(format('anchor target "%s" is part of the next anchor, at %s', target,
            (SELECT date_trunc('second', j.next_run) FROM zeroauth_audit_internal.jobs j WHERE j.name = 'anchor' AND j.enabled)),
            format('nothing is anchored at target "%s" before the job anchor is enabled', target))
        ELSE format('nothing is anchored at target "%s" any more; what was anchored stays', target) END, is_enabled);
    RETURN CASE WHEN is_new THEN 'created' ELSE 'changed' END;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_target_set(text, text, jsonb, boolean) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_target_set(text, text, jsonb, boolean) IS
    'Creates or changes a target of the daily anchor. What is NULL stays as it is; a new one needs kind and config, and is enabled. kind: file (an append-only signed file), evm (the contract AuditAnchor) or rfc3161 (a time-stamp authority). config replaces the whole of it; docs/anchors.md lists the fields of each kind. Every path in it is absolute; what is secret lies in files of mode 0600 or 0400 that belong to the server''s user or to root. enabled: while false nothing is anchored there, and what is on its way waits. Returns created, changed or unchanged; a change is an event of the tenant zeroauth_audit. ZA060, with the field''s name, for a configuration that could not be used; ZA061 for another kind, chain or contract of a target that has anchors; ZA005 for a name that is not there and comes without kind and config; ZA009 for what cannot be a name.';

CREATE FUNCTION @extschema@.audit_anchor_target_drop(target text, note text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    written text := zeroauth_audit_internal.require_note(note, 'dropping an anchor target', 'Say why nothing is anchored there any more.');
    was zeroauth_audit_internal.anchor_targets;
BEGIN
    PERFORM zeroauth_audit_internal.require_name(target, 'anchor target');
    DELETE FROM zeroauth_audit_internal.anchor_targets t WHERE t.name = audit_anchor_target_drop.target RETURNING t.* INTO was;
    IF NOT FOUND THEN
        PERFORM zeroauth_audit_internal.unknown_name(target, 'anchor target', 'SELECT name FROM audit_anchor_targets shows those that there are.');
    END IF;
    PERFORM zeroauth_audit_internal.note_change('anchor.target_dropped', 'high', target, jsonb_build_object('note', written,
        'was', jsonb_build_object('kind', was.driver, 'config', was.config, 'enabled', was.enabled)));
    RAISE NOTICE USING MESSAGE = format('nothing is anchored at target "%s" any more', target);
    RETURN 'dropped';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_target_drop(text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_target_drop(text, text) IS
    'Removes one that has no anchors (else ZA061). A target that has anchors is disabled instead: what was anchored there is checked by its row. note: why, not empty. Returns dropped; it is an event of the tenant zeroauth_audit. ZA005 for a target that is not there, ZA009 without a note.';

CREATE FUNCTION @extschema@.audit_anchor_retry(target text) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment bigint := floor(extract(epoch FROM clock_timestamp()));
    retried integer;
BEGIN
    PERFORM zeroauth_audit_internal.require_name(target, 'anchor target');
    -- Changes nothing, and wakes the worker.
    UPDATE zeroauth_audit_internal.anchor_targets t SET enabled = t.enabled WHERE t.name = audit_anchor_retry.target;
    IF NOT FOUND THEN
        PERFORM zeroauth_audit_internal.unknown_name(target, 'anchor target', 'SELECT name FROM audit_anchor_targets shows those that there are.');
    END IF;
    UPDATE zeroauth_audit_internal.anchor_batches b
    SET machine = b.machine || jsonb_build_object('next', least((b.machine ->> 'next')::bigint, moment), 'retry_at', least((b.machine ->> 'retry_at')::bigint, moment)),
        next_at = least(b.next_at, to_timestamp(moment))
    WHERE b.target = audit_anchor_retry.target AND b.next_at IS NOT NULL;
    GET DIAGNOSTICS retried = ROW_COUNT;
    RETURN retried;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_retry(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_retry(text) IS
    'Tries failed anchors now instead of in an hour. For when the cause was mended. target: its name in audit_anchor_targets. Returns how many batches are on their way there. ZA005 for a target that is not there, ZA009 for NULL.';
