-- Functions of anchors: targets, planning, what the worker stores, missed days.

CREATE FUNCTION zeroauth_audit_internal.anchor_config_check(target text, driver text, config jsonb) RETURNS void
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_config_check';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_config_check(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_config_check(text, text, jsonb) IS
    'Part of the trigger of the table anchor_targets: ZA060 for a configuration that the driver does not understand. Opens no file.';

CREATE FUNCTION zeroauth_audit_internal.anchor_target_check() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT 1 FROM zeroauth_audit_internal.anchor_batches b WHERE b.target = OLD.name) THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA061', MESSAGE = format('anchor target "%s" has anchors', OLD.name),
                HINT = format('What was anchored there is checked by its row. Disable it instead: SELECT audit_anchor_target_set(%L, enabled => false);', OLD.name);
        END IF;
        RETURN OLD;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.registered_at IS NOT NULL THEN
        -- Restored, perhaps over the row that CREATE EXTENSION made.
        UPDATE zeroauth_audit_internal.anchor_targets t
        SET driver = NEW.driver, config = NEW.config, registered_at = NEW.registered_at, last_epoch = greatest(t.last_epoch, NEW.last_epoch),
            check_requested_at = NEW.check_requested_at, checked_at = NEW.checked_at, check_error = NEW.check_error
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
            IF EXISTS (SELECT 1 FROM zeroauth_audit_internal.anchor_batches b WHERE b.target = OLD.name) THEN
                RAISE EXCEPTION USING ERRCODE = 'ZA061', MESSAGE = format('anchor target "%s" has anchors', OLD.name),
                    HINT = 'Make another target for another kind, chain or contract, and disable this one.';
            END IF;
        END IF;
        IF NEW.enabled AND NOT OLD.enabled THEN
            NEW.enabled_since := clock_timestamp();
            NEW.disabled_because := NULL;
            PERFORM zeroauth_audit_internal.anchor_event('target_enabled', 'info', NEW.name, NEW.last_epoch, NULL);
        ELSIF NOT NEW.enabled AND OLD.enabled THEN
            NEW.enabled_since := NULL;
            PERFORM zeroauth_audit_internal.anchor_event('target_disabled', 'high', NEW.name, NEW.last_epoch, NULL);
        END IF;
    END IF;
    IF NEW.enabled AND (TG_OP = 'INSERT' OR (NEW.driver, NEW.config, NEW.enabled) IS DISTINCT FROM (OLD.driver, OLD.config, OLD.enabled)) THEN
        PERFORM zeroauth_audit_internal.anchor_config_check(NEW.name, NEW.driver, NEW.config);
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_target_check() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_target_check() IS
    'Trigger of the table anchor_targets: refuses a configuration that the driver does not understand (ZA060), and to delete a target that has anchors or to point it elsewhere (ZA061); disables a row that was restored.';

CREATE TRIGGER zeroauth_audit_anchor_target_check
    BEFORE INSERT OR UPDATE OR DELETE ON zeroauth_audit_internal.anchor_targets
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.anchor_target_check();
COMMENT ON TRIGGER zeroauth_audit_anchor_target_check ON zeroauth_audit_internal.anchor_targets IS 'Checks the configuration; a restored row comes back disabled.';
CREATE TRIGGER zeroauth_audit_anchor_targets_changed
    AFTER INSERT OR UPDATE OF driver, config, enabled, check_requested_at OR DELETE OR TRUNCATE ON zeroauth_audit_internal.anchor_targets
    FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_anchor_targets_changed ON zeroauth_audit_internal.anchor_targets IS 'A change counts at once: the worker is woken.';
CREATE TRIGGER zeroauth_audit_anchor_batches_planned
    AFTER INSERT ON zeroauth_audit_internal.anchor_batches
    FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_anchor_batches_planned ON zeroauth_audit_internal.anchor_batches IS 'What was planned begins at once: the worker is woken.';
ALTER TABLE zeroauth_audit_internal.anchor_targets ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_target_check;
ALTER TABLE zeroauth_audit_internal.anchor_targets ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_targets_changed;
ALTER TABLE zeroauth_audit_internal.anchor_batches ENABLE ALWAYS TRIGGER zeroauth_audit_anchor_batches_planned;

CREATE FUNCTION zeroauth_audit_internal.anchor_event(what text, severity text, target text, epoch bigint, details jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM zeroauth_audit_internal.append_own('anchor.' || what, severity, target || '/' || epoch,
        jsonb_strip_nulls(jsonb_build_object('target', target, 'epoch', epoch) || coalesce(details, '{}')));
EXCEPTION WHEN OTHERS THEN
    -- Whoever can make the trail refuse events must not stop anchors with it.
    PERFORM zeroauth_audit_internal.log_line(jsonb_build_object('event', 'anchor_' || what, 'target', target, 'epoch', epoch, 'trail_error', SQLSTATE || ' ' || SQLERRM));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_event(text, text, text, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_event(text, text, text, bigint, jsonb) IS
    'Adds an event about a batch to the trail of the tenant zeroauth_audit; a line in the server log when the trail refuses it.';

CREATE FUNCTION zeroauth_audit_internal.anchor_begin_batch(target text, origin text, log_id bytea, root bytea, size bigint, batch_time bigint, machine jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    dropped bigint;
    given bigint;
BEGIN
    -- A batch that nothing was done for waits behind an earlier one: this one holds all of it.
    FOR dropped IN
        DELETE FROM zeroauth_audit_internal.anchor_batches b
        WHERE b.target = anchor_begin_batch.target AND b.started_at IS NULL AND b.next_at IS NOT NULL
        RETURNING b.epoch
    LOOP
        PERFORM zeroauth_audit_internal.anchor_event('superseded', 'info', anchor_begin_batch.target, dropped, NULL);
    END LOOP;
    UPDATE zeroauth_audit_internal.anchor_targets t SET last_epoch = t.last_epoch + 1
    WHERE t.name = anchor_begin_batch.target RETURNING t.last_epoch INTO STRICT given;
    INSERT INTO zeroauth_audit_internal.anchor_batches (target, epoch, origin, log_id, root, size, batch_time, scheduled_for, machine, next_at, chain_id, contract)
    SELECT t.name, given, anchor_begin_batch.origin, anchor_begin_batch.log_id, anchor_begin_batch.root, anchor_begin_batch.size, to_timestamp(anchor_begin_batch.batch_time),
        (SELECT r.scheduled_for FROM zeroauth_audit_internal.job_runs r WHERE r.job = 'anchor' AND r.status = 'running' ORDER BY r.id DESC LIMIT 1),
        anchor_begin_batch.machine, to_timestamp(anchor_begin_batch.batch_time),
        CASE WHEN t.driver = 'evm' THEN (t.config ->> 'chain_id')::bigint END, CASE WHEN t.driver = 'evm' THEN lower(t.config ->> 'contract') END
    FROM zeroauth_audit_internal.anchor_targets t WHERE t.name = anchor_begin_batch.target;
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_begin_batch(text, text, bytea, bytea, bigint, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_begin_batch(text, text, bytea, bytea, bigint, bigint, jsonb) IS
    'Part of the job anchor: makes the row of a batch, in place of one that nobody has begun with, and returns its epoch.';

CREATE FUNCTION zeroauth_audit_internal.anchor_store(target text, epoch bigint, machine jsonb, is_over boolean, failure text, evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
    b zeroauth_audit_internal.anchor_batches;
    driver text;
    inclusion jsonb := machine -> 'inclusion';
    noted text := CASE WHEN machine ? 'trouble' THEN left(failure, 500) END;
BEGIN
    SELECT k.state, t.driver INTO STRICT before, driver
    FROM zeroauth_audit_internal.anchor_batches k JOIN zeroauth_audit_internal.anchor_targets t ON t.name = k.target
    WHERE k.target = anchor_store.target AND k.epoch = anchor_store.epoch;
    UPDATE zeroauth_audit_internal.anchor_batches k
    SET machine = anchor_store.machine, state = anchor_store.machine ->> 'phase', started_at = coalesce(k.started_at, clock_timestamp()),
        attempts = (SELECT coalesce(sum((a.value ->> 'sends')::integer), 0)
                    FROM jsonb_array_elements(coalesce(anchor_store.machine -> 'replaced', '[]') || coalesce(anchor_store.machine -> 'attempt', '[]')) a),
        next_at = CASE WHEN NOT is_over THEN to_timestamp((anchor_store.machine ->> 'next')::bigint) END,
        first_failed_at = to_timestamp((anchor_store.machine #>> '{trouble,since}')::bigint),
        paged_at = CASE WHEN (anchor_store.machine #>> '{trouble,paged}')::boolean THEN coalesce(k.paged_at, clock_timestamp()) END,
        last_error = coalesce(noted, k.last_error), error = noted,
        tx_hash = CASE WHEN driver <> 'rfc3161' THEN inclusion ->> 'id' END, token = CASE WHEN driver = 'rfc3161' THEN inclusion ->> 'id' END,
        block_number = (inclusion ->> 'block_number')::bigint, block_hash = inclusion ->> 'block_hash', anchored_at = to_timestamp((inclusion ->> 'anchored_at')::bigint),
        included_at = to_timestamp((anchor_store.machine ->> 'included_since')::bigint),
        finalized_at = CASE WHEN anchor_store.machine ->> 'phase' = 'finalized' THEN coalesce(k.finalized_at, clock_timestamp()) END,
        evidence = coalesce(anchor_store.evidence, k.evidence)
    WHERE k.target = anchor_store.target AND k.epoch = anchor_store.epoch
    RETURNING k.* INTO STRICT b;
    IF b.state <> before AND b.state IN ('included', 'finalized', 'orphaned', 'failed') THEN
        PERFORM zeroauth_audit_internal.anchor_event(b.state, CASE WHEN b.state = 'failed' THEN 'high' ELSE 'info' END, b.target, b.epoch,
            jsonb_build_object('root', encode(b.root, 'hex'), 'entries', b.size, 'batch_time', b.batch_time, 'id', inclusion ->> 'id',
                'block_number', inclusion -> 'block_number', 'block_hash', inclusion -> 'block_hash', 'error', noted));
        IF b.state = 'finalized' THEN
            PERFORM zeroauth_audit_internal.resolve_alert(f.fingerprint, 'the batch is final')
            FROM (VALUES ('anchor_failing:' || b.target), ('anchor_orphaned:' || b.target || ':' || b.epoch), ('anchor_replaced:' || b.target || ':' || b.epoch)) f (fingerprint);
        END IF;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_store(text, bigint, jsonb, boolean, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_store(text, bigint, jsonb, boolean, text, jsonb) IS
    'Called by the worker: stores what it knows of a batch, and what audit_anchors shows of it. is_over: nothing is left to do; failure: the newest trouble in words; evidence: when it was just collected. Adds an event when the batch became included, finalized, orphaned or failed.';

CREATE FUNCTION zeroauth_audit_internal.anchor_replan(target text, epoch bigint, above bigint, machine jsonb) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    given bigint;
    queued bigint;
    last bigint;
BEGIN
    SELECT greatest(t.last_epoch, above) + 1 INTO STRICT given FROM zeroauth_audit_internal.anchor_targets t WHERE t.name = anchor_replan.target FOR UPDATE;
    last := given;
    -- What waits behind it stays behind it.
    SELECT b.epoch INTO queued FROM zeroauth_audit_internal.anchor_batches b
    WHERE b.target = anchor_replan.target AND b.started_at IS NULL AND b.next_at IS NOT NULL ORDER BY b.epoch LIMIT 1 FOR UPDATE;
    IF FOUND THEN
        last := given + 1;
        UPDATE zeroauth_audit_internal.anchor_batches b SET epoch = last WHERE b.target = anchor_replan.target AND b.epoch = queued;
    END IF;
    UPDATE zeroauth_audit_internal.anchor_targets t SET last_epoch = last WHERE t.name = anchor_replan.target;
    INSERT INTO zeroauth_audit_internal.anchor_batches (target, epoch, origin, log_id, root, size, batch_time, scheduled_for, machine, next_at, chain_id, contract)
    SELECT b.target, given, b.origin, b.log_id, b.root, b.size, b.batch_time, b.scheduled_for, anchor_replan.machine, to_timestamp((anchor_replan.machine ->> 'next')::bigint), b.chain_id, b.contract
    FROM zeroauth_audit_internal.anchor_batches b WHERE b.target = anchor_replan.target AND b.epoch = anchor_replan.epoch;
    UPDATE zeroauth_audit_internal.anchor_batches b SET replanned_as = given WHERE b.target = anchor_replan.target AND b.epoch = anchor_replan.epoch;
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_replan(text, bigint, bigint, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_replan(text, bigint, bigint, jsonb) IS
    'Called by the worker when the epoch of a batch is used up at its target: plans the same root under a new epoch above that and every other, and returns it.';

CREATE FUNCTION zeroauth_audit_internal.anchor_notice(target text, epoch bigint, kind text, severity smallint, place text, message text, evidence jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF kind = 'anchor_recovered' THEN
        PERFORM zeroauth_audit_internal.resolve_alert('anchor_failing:' || target, message);
    ELSE
        PERFORM zeroauth_audit_internal.raise_alert(kind, severity, NULL, kind || ':' || place, message,
            jsonb_build_object('target', target, 'epoch', epoch) || coalesce(evidence, '{}'));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_notice(text, bigint, text, smallint, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_notice(text, bigint, text, smallint, text, text, jsonb) IS
    'Called by the worker with what people are to be told of a batch: raises an alert, or resolves anchor_failing. place: what the fingerprint ends with.';

CREATE FUNCTION zeroauth_audit_internal.anchor_resume() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE zeroauth_audit_internal.jobs j SET next_run = clock_timestamp()
    WHERE j.name = 'anchor' AND j.enabled AND j.scheduler = 'worker' AND j.next_run > clock_timestamp()
      AND (SELECT r.status = 'failed' AND r.error_code = '57P01' FROM zeroauth_audit_internal.job_runs r WHERE r.job = 'anchor' ORDER BY r.id DESC LIMIT 1);
    RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_resume() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_resume() IS
    'Called by the worker when it starts: a run of the job anchor that the end of the worker before cut short is made up for at once, not the next day.';

CREATE FUNCTION zeroauth_audit_internal.job_anchor() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_job_anchor';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_anchor() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_anchor() IS
    'The job anchor, one step of it: seals what is new, then plans one batch for each enabled target, of the registry as the newest run that may leave has it. The worker anchors afterwards. Plans nothing without a checkpoint key, and nothing at a target whose newest anchor the registry does not continue: that is an alert.';

CREATE FUNCTION zeroauth_audit_internal.anchor_status() RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, @extschema@, pg_temp
    SET jit = off
    AS 'MODULE_PATHNAME', 'zeroauth_audit_anchor_status';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_status() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_status() IS
    'Brings tenant_status up to date, and raises or resolves the alert anchor_degraded. Called by the worker every hour, and when an anchor was planned, became included or final. Returns how many tenants are late and degraded.';

CREATE FUNCTION zeroauth_audit_internal.anchor_degraded(tenants bigint, named jsonb, banner text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF tenants > 0 THEN
        PERFORM zeroauth_audit_internal.raise_alert('anchor_degraded', 1::smallint, NULL, 'anchor_degraded',
            format('the anchors of %s %s are degraded: %s', tenants, CASE WHEN tenants = 1 THEN 'tenant' ELSE 'tenants' END, banner),
            jsonb_build_object('tenants', tenants, 'some', named));
    ELSIF EXISTS (SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.fingerprint = 'anchor_degraded' AND a.state <> 'resolved' AND a.condition_gone_at IS NULL) THEN
        PERFORM zeroauth_audit_internal.resolve_alert('anchor_degraded', 'final anchors cover what was missed');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.anchor_degraded(bigint, jsonb, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.anchor_degraded(bigint, jsonb, text) IS
    'Part of anchor_status(): one alert for all tenants whose anchors are degraded, resolved when there are none.';

INSERT INTO zeroauth_audit_internal.jobs (name, schedule, time_zone, timeout) VALUES ('anchor', '30 0 * * *', 'Asia/Kolkata', '1 hour');
INSERT INTO zeroauth_audit_internal.anchor_targets (name, driver) VALUES ('file', 'file');
