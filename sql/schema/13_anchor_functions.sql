-- Functions of anchors: targets, planning, what the worker stores, missed days, the daily check, health.

CREATE FUNCTION @extschema@.audit_anchor_config_check(target text, driver text, config jsonb) RETURNS void
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_config_check';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_config_check(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_config_check(text, text, jsonb) IS
    'Part of the trigger of audit_anchor_targets: ZA060 for a configuration that the driver does not understand. Opens no file.';

CREATE FUNCTION @extschema@.audit_anchor_target_check() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM @extschema@.audit_anchor_batches b WHERE b.target = OLD.name) THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA061', MESSAGE = format('target %s has anchors', to_json(OLD.name)),
                HINT = 'Disable it instead: what was anchored there is checked by its row.';
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.registered_at IS NOT NULL THEN
        -- Restored, perhaps over the row that CREATE EXTENSION made.
        UPDATE @extschema@.audit_anchor_targets t
        SET driver = NEW.driver, config = NEW.config, registered_at = NEW.registered_at, last_epoch = greatest(t.last_epoch, NEW.last_epoch),
            check_asked_at = NEW.check_asked_at, checked_at = NEW.checked_at, check_error = NEW.check_error
        WHERE t.name = NEW.name;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    IF (CASE TG_OP WHEN 'INSERT' THEN NEW.registered_at IS NOT NULL ELSE NEW.registered_at IS DISTINCT FROM OLD.registered_at END) THEN
        NEW.enabled := false;
        NEW.enabled_since := NULL;
        NEW.disabled_because := 'restored';
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.registered_at := clock_timestamp();
        NEW.enabled_since := CASE WHEN NEW.enabled THEN NEW.registered_at END;
        NEW.disabled_because := NULL;
        NEW.last_epoch := 0;
    ELSE
        IF NEW.name <> OLD.name OR NEW.driver <> OLD.driver
           OR NEW.driver = 'evm' AND (NEW.config -> 'chain_id', lower(NEW.config ->> 'contract')) IS DISTINCT FROM (OLD.config -> 'chain_id', lower(OLD.config ->> 'contract')) THEN
            IF EXISTS (SELECT FROM @extschema@.audit_anchor_batches b WHERE b.target = OLD.name) THEN
                RAISE EXCEPTION USING ERRCODE = 'ZA061', MESSAGE = format('target %s has anchors', to_json(OLD.name)),
                    HINT = 'Add another target for another driver, chain or contract, and disable this one.';
            END IF;
        END IF;
        IF NEW.enabled AND NOT OLD.enabled THEN
            NEW.enabled_since := clock_timestamp();
            NEW.disabled_because := NULL;
            PERFORM @extschema@.audit_anchor_event('target_enabled', 'info', NEW.name, NEW.last_epoch, NULL);
        ELSIF NOT NEW.enabled AND OLD.enabled THEN
            NEW.enabled_since := NULL;
            PERFORM @extschema@.audit_anchor_event('target_disabled', 'high', NEW.name, NEW.last_epoch, NULL);
        END IF;
    END IF;
    IF NEW.enabled AND (TG_OP = 'INSERT' OR (NEW.driver, NEW.config, NEW.enabled) IS DISTINCT FROM (OLD.driver, OLD.config, OLD.enabled)) THEN
        PERFORM @extschema@.audit_anchor_config_check(NEW.name, NEW.driver, NEW.config);
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_target_check() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_target_check() IS
    'Trigger of audit_anchor_targets: refuses a configuration that the driver does not understand (ZA060), and to delete a target that has anchors or to point it elsewhere (ZA061); disables a row that was restored.';

CREATE TRIGGER zeroauth_audit_anchor_target_check
    BEFORE INSERT OR UPDATE OR DELETE ON @extschema@.audit_anchor_targets
    FOR EACH ROW EXECUTE FUNCTION @extschema@.audit_anchor_target_check();
COMMENT ON TRIGGER zeroauth_audit_anchor_target_check ON @extschema@.audit_anchor_targets IS 'Checks the configuration; a restored row comes back disabled.';
CREATE TRIGGER zeroauth_audit_anchor_targets_changed
    AFTER INSERT OR UPDATE OF driver, config, enabled, check_asked_at OR DELETE OR TRUNCATE ON @extschema@.audit_anchor_targets
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_anchor_targets_changed ON @extschema@.audit_anchor_targets IS 'A change counts at once: the worker is woken.';
CREATE TRIGGER zeroauth_audit_anchor_batches_planned
    AFTER INSERT ON @extschema@.audit_anchor_batches
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.audit_jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_anchor_batches_planned ON @extschema@.audit_anchor_batches IS 'What was planned begins at once: the worker is woken.';
ALTER TABLE @extschema@.audit_anchor_targets ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_target_check;
ALTER TABLE @extschema@.audit_anchor_targets ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_targets_changed;
ALTER TABLE @extschema@.audit_anchor_batches ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_batches_planned;

CREATE FUNCTION @extschema@.audit_anchor_event(what text, severity text, target text, epoch bigint, details jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM @extschema@.audit_append_own('anchor.' || what, severity, target || '/' || epoch,
        jsonb_strip_nulls(jsonb_build_object('target', target, 'epoch', epoch) || coalesce(details, '{}')));
EXCEPTION WHEN OTHERS THEN
    -- Whoever can make the trail refuse events must not stop anchors with it.
    PERFORM @extschema@.audit_log(jsonb_build_object('event', 'anchor_' || what, 'target', target, 'epoch', epoch, 'trail_error', SQLSTATE || ' ' || SQLERRM));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_event(text, text, text, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_event(text, text, text, bigint, jsonb) IS
    'Adds an event about a batch to the trail of the tenant zeroauth_audit; a line in the server log when the trail refuses it.';

CREATE FUNCTION @extschema@.audit_anchor_begin_batch(target text, origin text, log_id bytea, root bytea, leaves bigint, batch_time bigint, machine jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped bigint;
    given bigint;
BEGIN
    -- A batch that nothing was done for waits behind an earlier one: this one holds all of it.
    FOR dropped IN
        DELETE FROM @extschema@.audit_anchor_batches b
        WHERE b.target = audit_anchor_begin_batch.target AND b.started_at IS NULL AND b.next_at IS NOT NULL
        RETURNING b.epoch
    LOOP
        DELETE FROM @extschema@.audit_anchors a WHERE a.target = audit_anchor_begin_batch.target AND a.batch = dropped;
        PERFORM @extschema@.audit_anchor_event('superseded', 'info', audit_anchor_begin_batch.target, dropped, NULL);
    END LOOP;
    UPDATE @extschema@.audit_anchor_targets t SET last_epoch = t.last_epoch + 1
    WHERE t.name = audit_anchor_begin_batch.target RETURNING t.last_epoch INTO STRICT given;
    INSERT INTO @extschema@.audit_anchor_batches (target, epoch, origin, log_id, root, leaves, batch_time, scheduled_for, machine, next_at)
    VALUES (audit_anchor_begin_batch.target, given, origin, log_id, root, leaves, to_timestamp(batch_time),
        (SELECT r.scheduled_for FROM @extschema@.audit_job_runs r WHERE r.job = 'anchor' AND r.status = 'running' ORDER BY r.id DESC LIMIT 1),
        machine, to_timestamp(batch_time));
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_begin_batch(text, text, bytea, bytea, bigint, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_begin_batch(text, text, bytea, bytea, bigint, bigint, jsonb) IS
    'Part of the job anchor: makes the row of a batch, in place of one that nobody has begun with, and returns its epoch.';

CREATE FUNCTION @extschema@.audit_anchor_copy(from_target text, from_batch bigint, to_target text, to_batch bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.audit_anchors (tenant_id, epoch, target, batch, tree_size, root, batch_root, leaf_index, path, tied, chain_id, contract)
    SELECT a.tenant_id, a.epoch, to_target, to_batch, a.tree_size, a.root, a.batch_root, a.leaf_index, a.path,
        CASE WHEN before.tree_size IS NULL OR before.tree_size = a.tree_size AND before.root = a.root THEN true END,
        CASE WHEN t.driver = 'evm' THEN (t.config ->> 'chain_id')::bigint END, CASE WHEN t.driver = 'evm' THEN lower(t.config ->> 'contract') END
    FROM @extschema@.audit_anchors a
    JOIN @extschema@.audit_anchor_targets t ON t.name = to_target
    LEFT JOIN LATERAL @extschema@.audit_anchor_before(a.tenant_id, a.epoch, to_target, to_batch) before ON true
    WHERE a.target = from_target AND a.batch = from_batch;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_copy(text, bigint, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_copy(text, bigint, text, bigint) IS
    'Gives a batch the rows of audit_anchors of another one with the same root.';

CREATE FUNCTION @extschema@.audit_anchor_before(tenant text, epoch integer, target text, batch bigint) RETURNS TABLE (tree_size bigint, root bytea)
    LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
    SELECT a.tree_size, a.root FROM @extschema@.audit_anchors a
    WHERE a.tenant_id = audit_anchor_before.tenant AND a.epoch = audit_anchor_before.epoch AND a.target = audit_anchor_before.target
      AND a.batch < audit_anchor_before.batch AND a.state IN ('included', 'finalized')
    ORDER BY a.batch DESC LIMIT 1;
END;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_before(text, integer, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_before(text, integer, text, bigint) IS
    'The newest anchor of a log at a target before a batch, as far as it is included there.';

CREATE FUNCTION @extschema@.audit_anchor_store(target text, epoch bigint, machine jsonb, is_over boolean, failure text, evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
    b @extschema@.audit_anchor_batches;
    driver text;
    inclusion jsonb := machine -> 'inclusion';
    noted text := CASE WHEN machine ? 'trouble' THEN left(failure, 500) END;
BEGIN
    SELECT k.state, t.driver INTO STRICT before, driver
    FROM @extschema@.audit_anchor_batches k JOIN @extschema@.audit_anchor_targets t ON t.name = k.target
    WHERE k.target = audit_anchor_store.target AND k.epoch = audit_anchor_store.epoch;
    UPDATE @extschema@.audit_anchor_batches k
    SET machine = audit_anchor_store.machine, state = audit_anchor_store.machine ->> 'phase', started_at = coalesce(k.started_at, clock_timestamp()),
        attempts = (SELECT coalesce(sum((a.value ->> 'sends')::integer), 0)
                    FROM jsonb_array_elements(coalesce(audit_anchor_store.machine -> 'replaced', '[]') || coalesce(audit_anchor_store.machine -> 'attempt', '[]')) a),
        next_at = CASE WHEN NOT is_over THEN to_timestamp((audit_anchor_store.machine ->> 'next')::bigint) END,
        first_failed_at = to_timestamp((audit_anchor_store.machine #>> '{trouble,since}')::bigint),
        paged_at = CASE WHEN (audit_anchor_store.machine #>> '{trouble,paged}')::boolean THEN coalesce(k.paged_at, clock_timestamp()) END,
        last_error = coalesce(noted, k.last_error),
        included_at = to_timestamp((audit_anchor_store.machine ->> 'included_since')::bigint),
        finalized_at = CASE WHEN audit_anchor_store.machine ->> 'phase' = 'finalized' THEN coalesce(k.finalized_at, clock_timestamp()) END,
        evidence = coalesce(audit_anchor_store.evidence, k.evidence)
    WHERE k.target = audit_anchor_store.target AND k.epoch = audit_anchor_store.epoch
    RETURNING k.* INTO STRICT b;
    UPDATE @extschema@.audit_anchors a
    SET state = n.state, attempts = n.attempts, error = n.error, tx_hash = n.tx_hash, token = n.token, block_number = n.block_number, block_hash = n.block_hash, anchored_at = n.anchored_at
    FROM (SELECT b.state, b.attempts, noted AS error, CASE WHEN driver <> 'rfc3161' THEN inclusion ->> 'id' END AS tx_hash, CASE WHEN driver = 'rfc3161' THEN inclusion ->> 'id' END AS token,
            (inclusion ->> 'block_number')::bigint AS block_number, inclusion ->> 'block_hash' AS block_hash, to_timestamp((inclusion ->> 'anchored_at')::bigint) AS anchored_at) n
    WHERE a.target = b.target AND a.batch = b.epoch
      AND (a.state, a.attempts, a.error, a.tx_hash, a.token, a.block_number, a.block_hash, a.anchored_at)
          IS DISTINCT FROM (n.state, n.attempts, n.error, n.tx_hash, n.token, n.block_number, n.block_hash, n.anchored_at);
    IF b.state <> before AND b.state IN ('included', 'finalized', 'orphaned', 'failed') THEN
        PERFORM @extschema@.audit_anchor_event(b.state, CASE WHEN b.state = 'failed' THEN 'high' ELSE 'info' END, b.target, b.epoch,
            jsonb_build_object('root', encode(b.root, 'hex'), 'leaves', b.leaves, 'batch_time', b.batch_time, 'id', inclusion ->> 'id',
                'block_number', inclusion -> 'block_number', 'block_hash', inclusion -> 'block_hash', 'error', noted));
        IF b.state = 'finalized' THEN
            PERFORM @extschema@.audit_resolve_alert(f.fingerprint, 'the batch is final')
            FROM (VALUES ('anchor_failing:' || b.target), ('anchor_orphaned:' || b.target || ':' || b.epoch), ('anchor_replaced:' || b.target || ':' || b.epoch)) f (fingerprint);
        END IF;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_store(text, bigint, jsonb, boolean, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_store(text, bigint, jsonb, boolean, text, jsonb) IS
    'Called by the worker: stores what it knows of a batch, and sets the rows of audit_anchors by it. is_over: nothing is left to do; failure: the newest trouble in words; evidence: when it was just collected. Adds an event when the batch became included, finalized, orphaned or failed.';

CREATE FUNCTION @extschema@.audit_anchor_replan(target text, epoch bigint, above bigint, machine jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given bigint;
    queued bigint;
    last bigint;
BEGIN
    SELECT greatest(t.last_epoch, above) + 1 INTO STRICT given FROM @extschema@.audit_anchor_targets t WHERE t.name = audit_anchor_replan.target FOR UPDATE;
    last := given;
    -- What waits behind it stays behind it.
    SELECT b.epoch INTO queued FROM @extschema@.audit_anchor_batches b
    WHERE b.target = audit_anchor_replan.target AND b.started_at IS NULL AND b.next_at IS NOT NULL ORDER BY b.epoch LIMIT 1 FOR UPDATE;
    IF FOUND THEN
        last := given + 1;
        UPDATE @extschema@.audit_anchor_batches b SET epoch = last WHERE b.target = audit_anchor_replan.target AND b.epoch = queued;
        UPDATE @extschema@.audit_anchors a SET batch = last WHERE a.target = audit_anchor_replan.target AND a.batch = queued;
    END IF;
    UPDATE @extschema@.audit_anchor_targets t SET last_epoch = last WHERE t.name = audit_anchor_replan.target;
    INSERT INTO @extschema@.audit_anchor_batches (target, epoch, origin, log_id, root, leaves, batch_time, scheduled_for, machine, next_at)
    SELECT b.target, given, b.origin, b.log_id, b.root, b.leaves, b.batch_time, b.scheduled_for, audit_anchor_replan.machine, to_timestamp((audit_anchor_replan.machine ->> 'next')::bigint)
    FROM @extschema@.audit_anchor_batches b WHERE b.target = audit_anchor_replan.target AND b.epoch = audit_anchor_replan.epoch;
    PERFORM @extschema@.audit_anchor_copy(audit_anchor_replan.target, audit_anchor_replan.epoch, audit_anchor_replan.target, given);
    UPDATE @extschema@.audit_anchor_batches b SET replanned_as = given WHERE b.target = audit_anchor_replan.target AND b.epoch = audit_anchor_replan.epoch;
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_replan(text, bigint, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_replan(text, bigint, bigint, jsonb) IS
    'Called by the worker when the epoch of a batch is used up at its target: plans the same root under a new epoch above that and every other, and returns it.';

CREATE FUNCTION @extschema@.audit_anchor_notice(target text, epoch bigint, kind text, severity smallint, place text, message text, evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind = 'anchor_recovered' THEN
        PERFORM @extschema@.audit_resolve_alert('anchor_failing:' || target, message);
    ELSE
        PERFORM @extschema@.audit_raise_alert(kind, severity, NULL, kind || ':' || place, message,
            jsonb_build_object('target', target, 'epoch', epoch) || coalesce(evidence, '{}'));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_notice(text, bigint, text, smallint, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_notice(text, bigint, text, smallint, text, text, jsonb) IS
    'Called by the worker with what people are to be told of a batch: raises an alert, or resolves anchor_failing. place: what the fingerprint ends with.';

CREATE FUNCTION @extschema@.audit_anchor_retry(target text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment bigint := floor(extract(epoch FROM clock_timestamp()));
    retried integer;
BEGIN
    UPDATE @extschema@.audit_anchor_batches b
    SET machine = b.machine || jsonb_build_object('next', least((b.machine ->> 'next')::bigint, moment), 'retry_at', least((b.machine ->> 'retry_at')::bigint, moment)),
        next_at = least(b.next_at, to_timestamp(moment))
    WHERE b.target = audit_anchor_retry.target AND b.next_at IS NOT NULL;
    GET DIAGNOSTICS retried = ROW_COUNT;
    UPDATE @extschema@.audit_anchor_targets t SET enabled = t.enabled WHERE t.name = audit_anchor_retry.target;
    RETURN retried;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_retry(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_retry(text) IS
    'Has the worker try the batches of a target at once, instead of an hour after the last failure: for when the cause was mended. Returns how many are on their way.';

CREATE FUNCTION @extschema@.audit_anchor_resume() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_jobs j SET next_run = clock_timestamp()
    WHERE j.name = 'anchor' AND j.enabled AND j.scheduler = 'worker' AND j.next_run > clock_timestamp()
      AND (SELECT r.status = 'failed' AND r.error_code = '57P01' FROM @extschema@.audit_job_runs r WHERE r.job = 'anchor' ORDER BY r.id DESC LIMIT 1);
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_resume() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_resume() IS
    'Called by the worker when it starts: a run of the job anchor that the end of the worker before cut short is made up for at once, not the next day.';

CREATE FUNCTION @extschema@.audit_job_anchor() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_job_anchor';
REVOKE ALL ON FUNCTION @extschema@.audit_job_anchor() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_anchor() IS
    'The job anchor, one step of it: seals what is new, then plans one batch for each enabled target over the newest signed checkpoint of every open log, ties each anchor to the one before it, and says how the tenants are. The worker anchors afterwards. Plans nothing without a checkpoint key.';

CREATE FUNCTION @extschema@.audit_anchor_status() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_status';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_status() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_status() IS
    'Brings audit_tenant_status up to date, and raises or resolves the alert anchor_degraded. Called by the worker every hour, and when an anchor was planned, became included or final. Returns how many tenants are late and degraded.';

CREATE FUNCTION @extschema@.audit_anchor_degraded(tenants bigint, named jsonb, banner text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tenants > 0 THEN
        PERFORM @extschema@.audit_raise_alert('anchor_degraded', 1::smallint, NULL, 'anchor_degraded',
            format('the anchors of %s %s are degraded: %s', tenants, CASE WHEN tenants = 1 THEN 'tenant' ELSE 'tenants' END, banner),
            jsonb_build_object('tenants', tenants, 'some', named));
    ELSIF EXISTS (SELECT FROM @extschema@.audit_alerts a WHERE a.fingerprint = 'anchor_degraded' AND a.state <> 'resolved' AND a.condition_gone_at IS NULL) THEN
        PERFORM @extschema@.audit_resolve_alert('anchor_degraded', 'final anchors cover what was missed');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_degraded(bigint, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_degraded(bigint, jsonb, text) IS
    'Part of audit_anchor_status(): one alert for all tenants whose anchors are degraded, resolved when there are none.';

CREATE FUNCTION @extschema@.audit_anchor_find(kind text, source text, tenant text, target text, batch bigint, detail text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO @extschema@.audit_anchor_findings AS f (kind, source, tenant_id, target, batch, detail)
    VALUES (audit_anchor_find.kind, audit_anchor_find.source, tenant, audit_anchor_find.target, audit_anchor_find.batch, left(audit_anchor_find.detail, 500))
    ON CONFLICT ON CONSTRAINT audit_anchor_findings_pkey DO UPDATE SET last_seen_at = clock_timestamp(), detail = excluded.detail;
    PERFORM @extschema@.audit_raise_alert(audit_anchor_find.kind, 1::smallint, nullif(tenant, ''),
        audit_anchor_find.kind || ':' || tenant || CASE WHEN audit_anchor_find.target <> '' THEN ':' || audit_anchor_find.target ELSE '' END,
        CASE WHEN tenant <> '' THEN format('the trail of tenant %s is not what was anchored: %s', tenant, audit_anchor_find.detail)
             ELSE format('batch %s at target %s is not what was anchored: %s', audit_anchor_find.batch, audit_anchor_find.target, audit_anchor_find.detail) END,
        jsonb_strip_nulls(jsonb_build_object('source', audit_anchor_find.source, 'target', nullif(audit_anchor_find.target, ''), 'batch', nullif(audit_anchor_find.batch, 0), 'detail', audit_anchor_find.detail)));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_find(text, text, text, text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_find(text, text, text, text, bigint, text) IS
    'Part of the job anchor_check: remembers a finding, and raises its alert of severity 1, one for each tenant or target.';

CREATE FUNCTION @extschema@.audit_anchor_gone(source text, tenant text, target text, batch bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone text;
BEGIN
    FOR gone IN
        DELETE FROM @extschema@.audit_anchor_findings f
        WHERE f.source = audit_anchor_gone.source AND f.tenant_id = tenant AND f.target = audit_anchor_gone.target AND f.batch = audit_anchor_gone.batch
        RETURNING f.kind
    LOOP
        IF NOT EXISTS (SELECT FROM @extschema@.audit_anchor_findings f WHERE f.kind = gone AND f.tenant_id = tenant AND f.target = audit_anchor_gone.target) THEN
            PERFORM @extschema@.audit_resolve_alert(gone || ':' || tenant || CASE WHEN audit_anchor_gone.target <> '' THEN ':' || audit_anchor_gone.target ELSE '' END,
                'what is there is what was anchored');
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_gone(text, text, text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_gone(text, text, text, bigint) IS
    'Part of the job anchor_check: forgets a finding that a check did not find again, and resolves its alert.';

CREATE FUNCTION @extschema@.audit_anchor_answer(target text, epoch bigint, difference text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF difference IS NULL THEN
        PERFORM @extschema@.audit_anchor_gone('target', '', target, epoch);
    ELSE
        PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'target', '', target, epoch, difference);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_answer(text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_answer(text, bigint, text) IS
    'Called by the worker with how what a target has under an epoch differs from what was anchored; NULL: not at all.';

CREATE FUNCTION @extschema@.audit_anchor_tied(tenant text, epoch integer, target text, batch bigint, difference text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.audit_anchors a SET tied = difference IS NULL
    WHERE a.tenant_id = tenant AND a.epoch = audit_anchor_tied.epoch AND a.target = audit_anchor_tied.target AND a.batch = audit_anchor_tied.batch;
    IF difference IS NOT NULL THEN
        PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'events', tenant, '', 0, difference);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_tied(text, integer, text, bigint, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_tied(text, integer, text, bigint, text) IS
    'Part of the job anchor: says whether an anchor continues the one before it, or why not, which is a finding.';

-- The order of the leaves without a sort, which would read a whole log for the first row.
CREATE FUNCTION @extschema@.audit_anchor_recompute(tenant text, epoch integer, leaf bigint, frontier bytea, since timestamptz, milliseconds integer) RETURNS jsonb
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_recompute';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_recompute(text, integer, bigint, bytea, timestamptz, integer) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_recompute(text, integer, bigint, bytea, timestamptz, integer) IS
    'Part of the job anchor_check: goes on with the root of a log from its events, for so many milliseconds but at least one interval, and compares it with every checkpoint that was anchored since a time. Returns how far it came, and how the first that differs does. Changes nothing.';

CREATE FUNCTION @extschema@.audit_anchor_batch_difference(target text, batch bigint) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_batch_difference';
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_batch_difference(text, bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_batch_difference(text, bigint) IS
    'Part of the job anchor_check: why the rows of audit_anchors do not make up the root of their batch; NULL when they do.';

CREATE FUNCTION @extschema@.audit_anchor_check_begin(this_run bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at timestamptz := clock_timestamp();
    unanswered text;
BEGIN
    -- A question that the worker never answered, or that only somebody else's scheduler asked.
    SELECT string_agg(format('target %s: %s', t.name, CASE WHEN t.checked_at IS DISTINCT FROM t.check_asked_at THEN 'the worker did not read it' ELSE t.check_error END), '; ' ORDER BY t.name)
    INTO unanswered
    FROM @extschema@.audit_anchor_targets t
    WHERE t.enabled AND t.check_asked_at < at - interval '1 hour' AND t.check_asked_at >= t.enabled_since
      AND (t.checked_at IS DISTINCT FROM t.check_asked_at
           OR t.check_error IS NOT NULL AND (SELECT r.run_by FROM @extschema@.audit_job_runs r WHERE r.id = this_run) <> 'worker');
    UPDATE @extschema@.audit_anchor_targets t SET check_asked_at = at WHERE t.enabled;
    INSERT INTO @extschema@.audit_anchor_check_state AS s (run, phase, started_at, asked_at, failure)
    VALUES (this_run, 'batches', at, at, unanswered)
    ON CONFLICT ON CONSTRAINT audit_anchor_check_state_pkey DO UPDATE
    SET run = excluded.run, asked_at = excluded.asked_at, failure = excluded.failure;
    -- A run that was interrupted goes on where it was, unless that is long ago.
    UPDATE @extschema@.audit_anchor_check_state s
    SET phase = 'batches', started_at = at, target = '', batch = 0, tenant_id = '', epoch = -1, leaf = 0, frontier = ''
    WHERE s.phase NOT IN ('batches', 'tenants') OR s.started_at < at - interval '2 days';
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_begin(bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_begin(bigint) IS
    'Part of the job anchor_check: begins a run, and asks the worker to read the targets.';

CREATE FUNCTION @extschema@.audit_anchor_check_batches(until timestamptz) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s @extschema@.audit_anchor_check_state := (SELECT t FROM @extschema@.audit_anchor_check_state t);
    next record;
    difference text;
    done bigint := 0;
BEGIN
    LOOP
        SELECT b.target, b.epoch INTO next FROM @extschema@.audit_anchor_batches b
        WHERE (b.target, b.epoch) > (s.target, s.batch) AND b.state IN ('included', 'finalized') AND b.batch_time > s.started_at - interval '90 days'
        ORDER BY b.target, b.epoch LIMIT 1;
        IF NOT FOUND THEN
            UPDATE @extschema@.audit_anchor_check_state SET phase = 'tenants';
            EXIT;
        END IF;
        difference := @extschema@.audit_anchor_batch_difference(next.target, next.epoch);
        IF difference IS NULL THEN
            PERFORM @extschema@.audit_anchor_gone('rows', '', next.target, next.epoch);
        ELSE
            PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'rows', '', next.target, next.epoch, difference);
        END IF;
        s.target := next.target;
        s.batch := next.epoch;
        done := done + 1;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    UPDATE @extschema@.audit_anchor_check_state SET target = s.target, batch = s.batch;
    RETURN done;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_batches(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_batches(timestamptz) IS
    'Part of the job anchor_check: one step of the first phase, through the batches of the last 90 days.';

CREATE FUNCTION @extschema@.audit_anchor_check_tenants(until timestamptz) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s @extschema@.audit_anchor_check_state := (SELECT t FROM @extschema@.audit_anchor_check_state t);
    result jsonb;
    logs bigint := 0;
    compared bigint := 0;
    finding record;
BEGIN
    LOOP
        IF s.leaf = 0 THEN
            SELECT a.tenant_id, a.epoch INTO s.tenant_id, s.epoch FROM @extschema@.audit_anchors a
            WHERE (a.tenant_id, a.epoch) > (s.tenant_id, s.epoch) ORDER BY a.tenant_id, a.epoch LIMIT 1;
            IF NOT FOUND THEN
                FOR finding IN SELECT f.source, f.tenant_id, f.target, f.batch FROM @extschema@.audit_anchor_findings f
                    WHERE f.source IN ('events', 'rows') AND f.last_seen_at < s.started_at
                       OR f.source = 'target' AND EXISTS (SELECT FROM @extschema@.audit_anchor_batches b WHERE b.target = f.target AND b.epoch = f.batch AND b.batch_time < s.started_at - interval '90 days')
                LOOP
                    PERFORM @extschema@.audit_anchor_gone(finding.source, finding.tenant_id, finding.target, finding.batch);
                END LOOP;
                UPDATE @extschema@.audit_anchor_check_state SET phase = 'answers';
                RETURN jsonb_build_object('logs', logs, 'compared', compared);
            END IF;
        END IF;
        IF NOT EXISTS (SELECT FROM @extschema@.audit_logs l WHERE l.tenant_id = s.tenant_id AND l.epoch = s.epoch) THEN
            PERFORM @extschema@.audit_anchor_find('tenant_missing', 'events', s.tenant_id, '', 0, 'its log was anchored, and is gone');
            result := jsonb_build_object('done', true);
        ELSE
            result := @extschema@.audit_anchor_recompute(s.tenant_id, s.epoch, s.leaf, s.frontier, s.started_at - interval '90 days',
                greatest(extract(milliseconds FROM until - clock_timestamp())::integer, 1));
            compared := compared + (result ->> 'compared')::bigint;
            IF result ->> 'difference' IS NOT NULL THEN
                PERFORM @extschema@.audit_anchor_find('anchor_mismatch', 'events', s.tenant_id, '', 0, result ->> 'difference');
            END IF;
        END IF;
        IF (result ->> 'done')::boolean THEN
            s.leaf := 0;
            s.frontier := '';
            logs := logs + 1;
        ELSE
            s.leaf := (result ->> 'leaf')::bigint;
            s.frontier := decode(result ->> 'frontier', 'hex');
        END IF;
        EXIT WHEN clock_timestamp() >= until;
    END LOOP;
    UPDATE @extschema@.audit_anchor_check_state SET tenant_id = s.tenant_id, epoch = s.epoch, leaf = s.leaf, frontier = s.frontier;
    RETURN jsonb_build_object('logs', logs, 'compared', compared);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_tenants(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_tenants(timestamptz) IS
    'Part of the job anchor_check: one step of the second phase, through the events of every log that was anchored.';

CREATE FUNCTION @extschema@.audit_anchor_check_answers(this_run bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s @extschema@.audit_anchor_check_state := (SELECT t FROM @extschema@.audit_anchor_check_state t);
    failed text := s.failure;
    more text;
BEGIN
    -- Only the worker can answer, and only what was committed: a run in a session leaves the answers to the next.
    IF (SELECT r.run_by FROM @extschema@.audit_job_runs r WHERE r.id = this_run) = 'worker' THEN
        IF EXISTS (SELECT FROM @extschema@.audit_anchor_targets t WHERE t.enabled AND t.check_asked_at = s.asked_at AND t.checked_at IS DISTINCT FROM t.check_asked_at) THEN
            RETURN true;
        END IF;
        SELECT string_agg(format('target %s: %s', t.name, t.check_error), '; ' ORDER BY t.name) INTO more
        FROM @extschema@.audit_anchor_targets t WHERE t.enabled AND t.check_asked_at = s.asked_at AND t.check_error IS NOT NULL;
        failed := concat_ws('; ', failed, more);
    END IF;
    failed := nullif(failed, '');
    UPDATE @extschema@.audit_anchor_check_state
    SET phase = CASE WHEN failed IS NULL THEN 'idle' ELSE 'failing' END, failure = failed, finished_at = clock_timestamp();
    RETURN failed IS NOT NULL;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_anchor_check_answers(bigint) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_anchor_check_answers(bigint) IS
    'Part of the job anchor_check: whether it has to go on, for answers that are not there or because of those that could not be had.';

CREATE FUNCTION @extschema@.audit_job_anchor_check() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET jit = off
AS $$
DECLARE
    until timestamptz := clock_timestamp() + interval '100 milliseconds';
    cpu double precision := @extschema@.audit_process_cpu();
    began timestamptz := clock_timestamp();
    s @extschema@.audit_anchor_check_state;
    this_run bigint;
    done jsonb := '{}';
    more boolean := true;
    pause double precision := 0;
BEGIN
    SELECT t.* INTO s FROM @extschema@.audit_anchor_check_state t FOR UPDATE;
    SELECT coalesce(max(r.id), 0) INTO this_run FROM @extschema@.audit_job_runs r WHERE r.job = 'anchor_check' AND r.status = 'running';
    IF s.run IS DISTINCT FROM this_run OR s.phase = 'idle' THEN
        PERFORM @extschema@.audit_anchor_check_begin(this_run);
    ELSIF s.phase = 'batches' THEN
        done := jsonb_build_object('batches', @extschema@.audit_anchor_check_batches(until));
    ELSIF s.phase = 'tenants' THEN
        done := @extschema@.audit_anchor_check_tenants(until);
    ELSIF s.phase = 'answers' THEN
        more := @extschema@.audit_anchor_check_answers(this_run);
        pause := CASE WHEN more THEN 500 ELSE 0 END;
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'ZA062', MESSAGE = format('could not check every anchor: %s', s.failure),
            HINT = 'Everything else was checked. Look whether the target can be reached, and whether the worker runs.';
    END IF;
    pause := greatest(pause, (@extschema@.audit_process_cpu() - cpu) * 100 / current_setting('zeroauth_audit.replay_load')::integer - extract(epoch FROM clock_timestamp() - began) * 1000);
    RETURN jsonb_build_object('more', more, 'pause_ms', greatest(ceil(pause), 0)::bigint, 'done', done);
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_anchor_check() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_anchor_check() IS
    'The job anchor_check, one step of it: compares what was anchored in the last 90 days with the rows of audit_anchors, with the events themselves, and with what the targets have, which the worker reads. A difference is an alert of severity 1. ZA062 when a target could not be read.';

CREATE FUNCTION @extschema@.audit_health_anchors() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    targets record;
    tenants record;
    findings bigint := (SELECT count(*) FROM @extschema@.audit_anchor_findings);
    planned boolean := coalesce((SELECT j.enabled FROM @extschema@.audit_jobs j WHERE j.name = 'anchor'), false);
    worse text[] := '{}';
    reasons text[] := '{}';
BEGIN
    SELECT count(*) FILTER (WHERE t.enabled) AS enabled,
        coalesce(jsonb_object_agg(t.name, jsonb_build_object('driver', t.driver, 'enabled', t.enabled,
            'last_epoch', l.epoch, 'last_state', l.state, 'last_included_at', l.included_at, 'on_their_way', o.batches, 'next_at', o.next_at,
            'failing_since', o.failing_since, 'last_error', o.last_error, 'checked_at', t.checked_at, 'check_error', t.check_error)), '{}') AS each,
        coalesce(array_agg('anchor_target_disabled:' || t.name ORDER BY t.name) FILTER (WHERE NOT t.enabled AND t.disabled_because IS NOT NULL), '{}') AS disabled,
        coalesce(array_agg('anchor_failing:' || t.name ORDER BY t.name) FILTER (WHERE t.enabled AND o.failing_since IS NOT NULL), '{}') AS failing,
        coalesce(bool_or(t.enabled AND o.paged), false) AS paged
    INTO targets
    FROM @extschema@.audit_anchor_targets t
    LEFT JOIN LATERAL (
        SELECT b.epoch, b.state, b.included_at FROM @extschema@.audit_anchor_batches b
        WHERE b.target = t.name AND b.state IN ('included', 'finalized') ORDER BY b.epoch DESC LIMIT 1) l ON true
    LEFT JOIN LATERAL (
        SELECT count(*) AS batches, min(b.next_at) AS next_at, min(b.first_failed_at) AS failing_since, max(b.last_error) FILTER (WHERE b.first_failed_at IS NOT NULL) AS last_error,
            bool_or(b.paged_at IS NOT NULL) AS paged
        FROM @extschema@.audit_anchor_batches b WHERE b.target = t.name AND b.next_at IS NOT NULL) o ON true;
    SELECT count(*) FILTER (WHERE s.state = 'anchor-late') AS late, count(*) FILTER (WHERE s.state = 'anchor-degraded') AS degraded INTO tenants
    FROM @extschema@.audit_tenant_status s WHERE s.state IN ('anchor-late', 'anchor-degraded');
    IF planned AND NOT pg_is_in_recovery() THEN
        -- Who may not see the setting sees what comes of it: the job checkpoint notes the key every few minutes.
        IF EXISTS (SELECT FROM @extschema@.audit_logs l WHERE l.tree_size > 0)
           AND NOT EXISTS (SELECT FROM @extschema@.audit_keys k WHERE k.last_used > clock_timestamp() - interval '2 hours') THEN
            reasons := reasons || 'anchors_not_signed'::text;
        END IF;
        IF targets.enabled = 0 THEN
            reasons := reasons || 'anchors_off'::text;
        END IF;
        reasons := reasons || targets.disabled;
        IF targets.paged THEN
            worse := worse || targets.failing;
        ELSE
            reasons := reasons || targets.failing;
        END IF;
        IF tenants.late > 0 THEN
            reasons := reasons || 'anchor_late'::text;
        END IF;
        IF tenants.degraded > 0 THEN
            worse := worse || 'anchor_degraded'::text;
        END IF;
        IF findings > 0 THEN
            worse := worse || 'anchor_mismatch'::text;
        END IF;
    END IF;
    RETURN jsonb_build_object('state', CASE WHEN worse <> '{}' THEN 'failing' WHEN reasons <> '{}' THEN 'degraded' ELSE 'ok' END, 'reasons', worse || reasons,
        'targets', targets.each, 'tenants_late', tenants.late, 'tenants_degraded', tenants.degraded, 'findings', findings,
        'next_run', (SELECT j.next_run FROM @extschema@.audit_jobs j WHERE j.name = 'anchor'));
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_health_anchors() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_health_anchors() IS
    'Part of audit_health(): each target with its last anchor and what is on its way. Failing: anchor_degraded, anchor_mismatch, anchor_failing:TARGET when a person was called. Degraded: anchor_failing:TARGET before that, anchor_late, anchors_not_signed, anchors_off, anchor_target_disabled:TARGET (a dump brought it). Nothing while the job anchor is disabled.';

INSERT INTO @extschema@.audit_jobs (name, schedule, time_zone, timeout) VALUES
    ('anchor', '30 0 * * *', 'Asia/Kolkata', '1 hour'),
    ('anchor_check', '45 1 * * *', 'Asia/Kolkata', '12 hours');
INSERT INTO @extschema@.audit_anchor_targets (name, driver) VALUES ('file', 'file');
