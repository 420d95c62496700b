-- Jobs: when they run, what became of them, and running one by hand. The worker of the database calls the functions named
-- job_begin, _step and _end; a job NAME is the function job_NAME().

CREATE FUNCTION zeroauth_audit_internal.schedule_next(schedule text, time_zone text, after timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_next';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.schedule_next(text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.schedule_next(text, text, timestamptz) IS
    'The first run after a time of a crontab expression in a time zone; NULL when there is none. ZA021 for what is no schedule or no time zone.';

CREATE FUNCTION zeroauth_audit_internal.schedule_following(schedule text, time_zone text, scheduled timestamptz, started timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_following';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.schedule_following(text, text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.schedule_following(text, text, timestamptz, timestamptz) IS
    'The run after the one that was scheduled for one time and started at another: missed runs are made up by that one, and none comes twice. ZA021 as schedule_next.';

CREATE FUNCTION zeroauth_audit_internal.schedule_corrected(schedule text, time_zone text, next_run timestamptz, at timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_corrected';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.schedule_corrected(text, text, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.schedule_corrected(text, text, timestamptz, timestamptz) IS
    'The next run after the clock was set back by more than a day; NULL when the planned one stands. ZA021 as schedule_next.';

CREATE FUNCTION zeroauth_audit_internal.schedule_overdue(schedule text, time_zone text, since timestamptz) RETURNS timestamptz
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_schedule_overdue';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.schedule_overdue(text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.schedule_overdue(text, text, timestamptz) IS
    'When a job that last succeeded at a time is overdue: at the second run after it. ZA021 as schedule_next.';

CREATE FUNCTION zeroauth_audit_internal.job_lock(job text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_job_lock';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_lock(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_lock(text) IS
    'Makes this transaction the only one in the database to run the job, until it ends; false when another runs it. Does not wait.';

CREATE TABLE zeroauth_audit_internal.jobs (
    name text COLLATE pg_catalog."C" NOT NULL,
    schedule text NOT NULL,
    time_zone text NOT NULL DEFAULT 'UTC',
    enabled boolean NOT NULL DEFAULT true,
    timeout interval NOT NULL DEFAULT '1 hour',
    scheduler text NOT NULL DEFAULT 'worker',
    next_run timestamptz,
    last_success timestamptz,
    overdue_at timestamptz,
    counts_from timestamptz,
    CONSTRAINT jobs_pkey PRIMARY KEY (name),
    CONSTRAINT jobs_name_check CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$'),
    CONSTRAINT jobs_timeout_check CHECK (timeout BETWEEN '1 second' AND '7 days'),
    CONSTRAINT jobs_scheduler_check CHECK (scheduler IN ('worker', 'pg_cron'))
);
REVOKE ALL ON TABLE zeroauth_audit_internal.jobs FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.jobs IS
    'What runs by itself, and when: written by audit_job_set(), shown by audit_jobs. Inserting a name that is there changes its row, so that a restored dump brings its settings.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.name IS 'The job NAME is the function job_NAME().';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.schedule IS 'Crontab expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.time_zone IS 'Name of the time zone that the schedule is meant in, for example Europe/Berlin.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.enabled IS 'Whether it runs.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.timeout IS 'How long one run may take, from 1 second to 7 days.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.scheduler IS 'Who runs it: worker or pg_cron. Set by audit_job_scheduler().';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.next_run IS 'When it runs next; a time in the past is made up for at once. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.last_success IS 'When it last ended well. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.overdue_at IS 'When it counts as overdue unless it ends well before. Set by the server.';
COMMENT ON COLUMN zeroauth_audit_internal.jobs.counts_from IS 'When it was last changed, or was due and did not run because it was held: its age counts from then at the earliest. Set by the server.';
COMMENT ON CONSTRAINT jobs_pkey ON zeroauth_audit_internal.jobs IS 'One schedule a job.';
COMMENT ON CONSTRAINT jobs_name_check ON zeroauth_audit_internal.jobs IS 'What can be part of a function''s name.';
COMMENT ON CONSTRAINT jobs_timeout_check ON zeroauth_audit_internal.jobs IS 'A run ends.';
COMMENT ON CONSTRAINT jobs_scheduler_check ON zeroauth_audit_internal.jobs IS 'One of the two runs it, never both.';

CREATE TABLE zeroauth_audit_internal.job_runs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    job text COLLATE pg_catalog."C" NOT NULL,
    scheduled_for timestamptz,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished_at timestamptz,
    status text NOT NULL DEFAULT 'running',
    run_by text NOT NULL,
    steps integer NOT NULL DEFAULT 0,
    summary jsonb NOT NULL DEFAULT '{}',
    error_code text,
    error text,
    CONSTRAINT job_runs_pkey PRIMARY KEY (id),
    CONSTRAINT job_runs_status_check CHECK (status IN ('running', 'succeeded', 'failed', 'timed_out', 'skipped')),
    CONSTRAINT job_runs_run_by_check CHECK (run_by IN ('worker', 'session', 'pg_cron'))
);
CREATE INDEX job_runs_job_idx ON zeroauth_audit_internal.job_runs (job, started_at);
REVOKE ALL ON TABLE zeroauth_audit_internal.job_runs FROM PUBLIC;
REVOKE ALL ON SEQUENCE zeroauth_audit_internal.job_runs_id_seq FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.job_runs IS
    'What became of each run of a job. Those of the last 7 days are kept, and the newest 100 of each job.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.id IS 'Number of the run, rising; negative for one of a trail that a dump may have been restored into.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.job IS 'Name of the job.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.scheduled_for IS 'When it was due; NULL when somebody ran it by hand.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.started_at IS 'When it began.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.finished_at IS 'When it ended, NULL while it runs.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.status IS 'running, succeeded, failed, timed_out, or skipped because it was running already.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.run_by IS 'worker, session (audit_job_run) or pg_cron.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.steps IS 'How many steps it took.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.summary IS 'What was done: the sums of what the steps counted.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.error_code IS 'SQLSTATE of the error that ended it.';
COMMENT ON COLUMN zeroauth_audit_internal.job_runs.error IS 'Message of that error.';
COMMENT ON CONSTRAINT job_runs_pkey ON zeroauth_audit_internal.job_runs IS 'One row a run.';
COMMENT ON CONSTRAINT job_runs_status_check ON zeroauth_audit_internal.job_runs IS 'The ways a run can be or end.';
COMMENT ON CONSTRAINT job_runs_run_by_check ON zeroauth_audit_internal.job_runs IS 'Who can run a job.';
COMMENT ON SEQUENCE zeroauth_audit_internal.job_runs_id_seq IS 'Numbers of runs.';
COMMENT ON INDEX zeroauth_audit_internal.job_runs_job_idx IS 'The newest runs of a job.';

CREATE FUNCTION zeroauth_audit_internal.job_check() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed boolean := TG_OP = 'INSERT';
BEGIN
    IF to_regprocedure('zeroauth_audit_internal.' || quote_ident('job_' || NEW.name) || '()') IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA022', MESSAGE = format('there is no job "%s"', NEW.name),
            HINT = format('The jobs there are: %s.', (SELECT string_agg(name, ', ' ORDER BY name) FROM zeroauth_audit_internal.jobs));
    END IF;
    IF TG_OP = 'UPDATE' THEN
        changed := (NEW.schedule, NEW.time_zone, NEW.enabled) IS DISTINCT FROM (OLD.schedule, OLD.time_zone, OLD.enabled);
        IF changed AND OLD.scheduler = 'pg_cron' AND NEW.scheduler = 'pg_cron' THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA024', MESSAGE = format('job "%s" is scheduled by pg_cron', NEW.name),
                HINT = 'Take the jobs back with SELECT audit_job_scheduler(''worker''), change them, and hand them over again with SELECT audit_job_scheduler(''pg_cron'').';
        END IF;
        changed := changed OR NEW.scheduler <> OLD.scheduler;
    END IF;
    IF changed THEN
        NEW.next_run := zeroauth_audit_internal.schedule_next(NEW.schedule, NEW.time_zone, clock_timestamp());
        NEW.overdue_at := zeroauth_audit_internal.schedule_overdue(NEW.schedule, NEW.time_zone, clock_timestamp());
        NEW.counts_from := clock_timestamp();
        IF NEW.next_run IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA021', MESSAGE = format('schedule "%s" never comes', NEW.schedule),
                HINT = 'Look at the day and the month: is there such a day?';
        END IF;
        IF NOT NEW.enabled THEN
            NEW.next_run := NULL;
            NEW.overdue_at := NULL;
        END IF;
    END IF;
    IF TG_OP = 'INSERT' THEN
        UPDATE zeroauth_audit_internal.jobs j
        SET schedule = NEW.schedule, time_zone = NEW.time_zone, enabled = NEW.enabled, timeout = NEW.timeout, scheduler = NEW.scheduler,
            last_success = coalesce(j.last_success, NEW.last_success)
        WHERE j.name = NEW.name;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_check() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_check() IS
    'Trigger of the table jobs: refuses what is no schedule (ZA021) or no job (ZA022), plans the next run, and takes an insert of a job that is there as a change of it.';

CREATE FUNCTION zeroauth_audit_internal.jobs_changed() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_jobs_changed';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.jobs_changed() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.jobs_changed() IS
    'Trigger of jobs and of every table of destinations: wakes the worker of this database when the transaction commits.';

CREATE TRIGGER zeroauth_audit_job_check
    BEFORE INSERT OR UPDATE ON zeroauth_audit_internal.jobs
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.job_check();
COMMENT ON TRIGGER zeroauth_audit_job_check ON zeroauth_audit_internal.jobs IS 'Checks the schedule and plans the next run.';
CREATE TRIGGER zeroauth_audit_jobs_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON zeroauth_audit_internal.jobs
    FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.jobs_changed();
COMMENT ON TRIGGER zeroauth_audit_jobs_changed ON zeroauth_audit_internal.jobs IS 'A change counts at once.';
ALTER TABLE zeroauth_audit_internal.jobs ENABLE ALWAYS TRIGGER zeroauth_audit_job_check;
ALTER TABLE zeroauth_audit_internal.jobs ENABLE ALWAYS TRIGGER zeroauth_audit_jobs_changed;

SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.jobs', '');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.job_runs', 'WHERE id > 0');
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.job_runs_id_seq', '');

CREATE FUNCTION zeroauth_audit_internal.job_alert(job text, overdue boolean) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regprocedure('zeroauth_audit_internal.raise_alert(text, smallint, text, text, text, jsonb)') IS NULL THEN
        RETURN;
    END IF;
    IF overdue THEN
        PERFORM zeroauth_audit_internal.raise_alert('job_overdue', 2::smallint, NULL, 'job_overdue:' || job,
            format('job %s has not ended well for two of its intervals', job),
            (SELECT jsonb_build_object('job', j.name, 'last_success', j.last_success, 'overdue_since', j.overdue_at, 'schedule', j.schedule, 'time_zone', j.time_zone) FROM zeroauth_audit_internal.jobs j WHERE j.name = job));
    ELSE
        PERFORM zeroauth_audit_internal.resolve_alert('job_overdue:' || job, 'the job ended well');
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_alert(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_alert(text, boolean) IS
    'Raises the alert job_overdue of a job, or resolves it.';

CREATE FUNCTION zeroauth_audit_internal.restore_since() RETURNS timestamptz
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_restore_since';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.restore_since() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.restore_since() IS
    'Since when sessions restore events into this database: those that committed events with their hashes less than a minute ago, or less than 10 minutes ago and are still connected. Replication does not count. NULL when none does, or when the library is not in shared_preload_libraries.';

CREATE FUNCTION zeroauth_audit_internal.was_chained() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_was_chained';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.was_chained() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.was_chained() IS
    'Whether a tenant''s event was chained in this database since the server started. False when the library is not in shared_preload_libraries.';

CREATE FUNCTION zeroauth_audit_internal.trail_sealed() RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Checkpoints that a dump brought are older than this trail.
    RETURN coalesce(greatest((SELECT r.sealed_at FROM zeroauth_audit_internal.registry_runs r ORDER BY r.number DESC LIMIT 1),
            (SELECT max(l.started_at) FROM zeroauth_audit_internal.logs l))
        >= coalesce((SELECT s.began_at FROM zeroauth_audit_internal.drift_state s), '-infinity'), false);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.trail_sealed() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.trail_sealed() IS
    'Whether the job checkpoint has sealed events since CREATE EXTENSION: then nothing is restored any more.';

CREATE FUNCTION zeroauth_audit_internal.trail_begun() RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM @extschema@.audit_events)
        OR coalesce((SELECT t.counted FROM zeroauth_audit_internal.tripwire_state t), false)
        OR EXISTS (SELECT 1 FROM zeroauth_audit_internal.watermarks w WHERE w.trail = (SELECT s.trail FROM zeroauth_audit_internal.drift_state s))
        OR zeroauth_audit_internal.trail_sealed();
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.trail_begun() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.trail_begun() IS
    'Whether there is anything to look after: an event, or something that remembers one since CREATE EXTENSION (a watermark, a checkpoint, the counters of the table). What a dump brings remembers another trail.';

CREATE FUNCTION zeroauth_audit_internal.copy_of() RETURNS text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- A standby and a restored base backup have the same identifier and oids. pg_upgrade makes a new identifier and a new extension.
    RETURN (
        SELECT CASE WHEN s.cluster = c.system_identifier THEN 'database ' || s.database_name ELSE 'server ' || s.cluster END
        FROM zeroauth_audit_internal.drift_state s
        CROSS JOIN pg_control_system() c
        CROSS JOIN (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) d
        CROSS JOIN (SELECT e.oid FROM pg_extension e WHERE e.extname = 'zeroauth_audit') e
        WHERE s.cluster = c.system_identifier AND s.database <> d.oid OR s.cluster <> c.system_identifier AND s.extension = e.oid);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.copy_of() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.copy_of() IS
    'Of which database or server this one is a copy (CREATE DATABASE .. TEMPLATE, or copied files with a new system identifier); NULL when it is none, as far as can be known.';

CREATE FUNCTION zeroauth_audit_internal.trail_is_here() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE zeroauth_audit_internal.drift_state s SET cluster = c.system_identifier, database = d.oid, database_name = current_database(), extension = e.oid
    FROM pg_control_system() c, pg_database d, pg_extension e
    WHERE d.datname = current_database() AND e.extname = 'zeroauth_audit'
      AND (s.cluster, s.database, s.database_name, s.extension) IS DISTINCT FROM (c.system_identifier, d.oid, current_database(), e.oid);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.trail_is_here() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.trail_is_here() IS
    'Remembers in which server and database the trail is.';

CREATE FUNCTION zeroauth_audit_internal.is_citus_worker() RETURNS boolean
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_worker boolean;
BEGIN
    IF to_regclass('pg_catalog.pg_dist_local_group') IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE 'SELECT groupid <> 0 FROM pg_catalog.pg_dist_local_group' INTO is_worker;
    RETURN coalesce(is_worker, false);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.is_citus_worker() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.is_citus_worker() IS
    'Whether this is a node of Citus other than the coordinator: there, several would run the jobs of one trail.';

CREATE FUNCTION zeroauth_audit_internal.jobs_held() RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF zeroauth_audit_internal.copy_of() IS NOT NULL THEN
        RETURN 'copy';
    END IF;
    IF zeroauth_audit_internal.is_citus_worker() THEN
        RETURN 'citus_worker';
    END IF;
    -- What a job writes would clash with rows that a restore brings: from CREATE EXTENSION until its session has ended.
    IF NOT zeroauth_audit_internal.trail_begun() THEN
        RETURN 'no_events';
    ELSIF zeroauth_audit_internal.restore_since() IS NOT NULL AND NOT zeroauth_audit_internal.trail_sealed() THEN
        RETURN 'restore_running';
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.jobs_held() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.jobs_held() IS
    'Why no job of this database runs by itself, but tripwire and pins, which always do: copy (this database is a copy, and nobody has said what is to become of it), citus_worker (a node of Citus that is not its coordinator, which runs the jobs), no_events (there is nothing to look after yet, and a dump may be about to be restored) or restore_running (events are restored into a trail that was never sealed); NULL when jobs run.';

CREATE FUNCTION zeroauth_audit_internal.never_held(job text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT job IN ('tripwire', 'pins')
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.never_held(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.never_held(text) IS
    'Whether a job runs whatever the state of the trail is: those that see what is done to it.';

CREATE FUNCTION zeroauth_audit_internal.run_number(held boolean) RETURNS bigint
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN coalesce(run_number.held, false) THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - 4611686018427387904
        ELSE nextval('zeroauth_audit_internal.job_runs_id_seq') END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.run_number(boolean) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.run_number(boolean) IS
    'The number of a run that begins: negative, and in no dump, while a dump may bring runs with numbers of their own.';

CREATE FUNCTION zeroauth_audit_internal.job_limits() RETURNS TABLE (name text, longest interval)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 8
    SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('tripwire', interval '3 minutes'), ('checkpoint', interval '3 minutes'), ('pins', interval '15 minutes'), ('duties', interval '3 hours'),
        ('drift', interval '3 hours'), ('anchor', interval '2 days'), ('anchor_check', interval '2 days'), ('prune', interval '32 days')
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_limits() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_limits() IS
    'The jobs that an installation has, and the longest time from one run to the next before a job counts as switched off.';

CREATE FUNCTION zeroauth_audit_internal.jobs_off() RETURNS TABLE (name text, why text)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT l.name, CASE
        WHEN j.name IS NULL THEN 'it is not among the jobs'
        WHEN NOT j.enabled THEN 'it is not enabled'
        WHEN n.second - n.first > l.longest THEN format('its schedule %s leaves more than %s between two runs', j.schedule, l.longest)
        WHEN n.first IS NULL OR n.second IS NULL THEN format('its schedule %s never comes', j.schedule)
        WHEN j.scheduler = 'worker' AND (j.next_run IS NULL OR j.next_run > n.second) THEN format('its next run is put off until %s', coalesce(j.next_run::text, 'never')) END
    FROM zeroauth_audit_internal.job_limits() l LEFT JOIN zeroauth_audit_internal.jobs j ON j.name = l.name
    CROSS JOIN LATERAL (SELECT zeroauth_audit_internal.schedule_next(j.schedule, j.time_zone, clock_timestamp()) AS first) f
    CROSS JOIN LATERAL (SELECT f.first, zeroauth_audit_internal.schedule_next(j.schedule, j.time_zone, f.first) AS second) n
    WHERE j.name IS NULL OR NOT j.enabled OR n.first IS NULL OR n.second IS NULL OR n.second - n.first > l.longest
       OR j.scheduler = 'worker' AND (j.next_run IS NULL OR j.next_run > n.second);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.jobs_off() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.jobs_off() IS
    'The jobs of an installation that are missing, not enabled, too rare, or put off beyond their second next run, and why.';

CREATE FUNCTION zeroauth_audit_internal.jobs_late() RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held CONSTANT boolean := zeroauth_audit_internal.jobs_held() IS NOT NULL;
    began CONSTANT timestamptz := greatest(pg_postmaster_start_time(), (SELECT s.began_at FROM zeroauth_audit_internal.drift_state s WHERE s.began_at <= clock_timestamp()));
BEGIN
    -- By the age of the last success: what the row itself says of when it is overdue can be put off, and a time in the future is none.
    RETURN QUERY
    SELECT j.name FROM zeroauth_audit_internal.jobs j
    WHERE j.enabled AND (NOT held OR zeroauth_audit_internal.never_held(j.name))
      AND (j.overdue_at <= clock_timestamp() OR clock_timestamp() >= zeroauth_audit_internal.schedule_overdue(j.schedule, j.time_zone, greatest(
          began,
          CASE WHEN j.last_success <= clock_timestamp() THEN j.last_success END,
          CASE WHEN j.counts_from <= clock_timestamp() THEN j.counts_from END)))
    ORDER BY j.name;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.jobs_late() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.jobs_late() IS
    'The jobs that have not ended well for two of their intervals, since the server started, the trail began, or they were last changed or held.';

CREATE FUNCTION zeroauth_audit_internal.jobs_watch() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    off record;
    marks text[] := '{}';
BEGIN
    IF to_regprocedure('zeroauth_audit_internal.resolve_others(text, text, text[], text)') IS NULL OR NOT zeroauth_audit_internal.trail_begun() THEN
        RETURN;
    END IF;
    FOR off IN SELECT o.name, o.why FROM zeroauth_audit_internal.jobs_off() o LOOP
        marks := marks || ('job_off:' || off.name);
        -- Somebody said so and why: there is an alert with both.
        IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.fingerprint = 'job_disabled:' || off.name AND a.state <> 'resolved') THEN
            PERFORM zeroauth_audit_internal.raise_alert('job_off', 2::smallint, NULL, 'job_off:' || off.name, format('job %s does not run as it has to: %s', off.name, off.why),
                (SELECT jsonb_build_object('why', off.why, 'job', to_jsonb(j)) FROM (SELECT) n LEFT JOIN zeroauth_audit_internal.jobs j ON j.name = off.name));
        END IF;
    END LOOP;
    PERFORM zeroauth_audit_internal.resolve_others('job_off', 'job_off:', marks, 'the job runs as it has to');
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.jobs_watch() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.jobs_watch() IS
    'Raises the alert job_off for every job of an installation that is missing, not enabled, too rare or put off, and resolves it. Called by the job tripwire, and by the worker every two minutes.';

CREATE FUNCTION zeroauth_audit_internal.job_begin(job text, exclusive boolean) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    due zeroauth_audit_internal.jobs;
    run bigint;
    held CONSTANT text := zeroauth_audit_internal.jobs_held();
BEGIN
    SELECT * INTO due FROM zeroauth_audit_internal.jobs j
    WHERE j.name = job AND j.enabled AND j.scheduler = 'worker' AND j.next_run <= clock_timestamp()
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF held IS NOT NULL AND NOT zeroauth_audit_internal.never_held(job) THEN
        UPDATE zeroauth_audit_internal.jobs j
        SET counts_from = clock_timestamp(), next_run = zeroauth_audit_internal.schedule_next(due.schedule, due.time_zone, clock_timestamp()),
            overdue_at = zeroauth_audit_internal.schedule_overdue(due.schedule, due.time_zone, clock_timestamp())
        WHERE j.name = job;
        RETURN NULL;
    END IF;
    UPDATE zeroauth_audit_internal.jobs j SET next_run = zeroauth_audit_internal.schedule_following(due.schedule, due.time_zone, due.next_run, clock_timestamp()) WHERE j.name = job;
    INSERT INTO zeroauth_audit_internal.job_runs AS r (id, job, scheduled_for, run_by, status, finished_at) OVERRIDING SYSTEM VALUE
    VALUES (zeroauth_audit_internal.run_number(held IN ('no_events', 'restore_running')), job, due.next_run, 'worker', CASE WHEN exclusive THEN 'running' ELSE 'skipped' END, CASE WHEN NOT exclusive THEN clock_timestamp() END)
    RETURNING r.id INTO run;
    RETURN CASE WHEN exclusive THEN run END;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_begin(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_begin(text, boolean) IS
    'Called by the worker: begins the run of a job that is due, and plans the next one. NULL when it is not due any more, when its row is locked, when the job is held (jobs_held), or when another runs it already: then the run is recorded as skipped.';

CREATE FUNCTION zeroauth_audit_internal.job_step(job text, summary jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result jsonb;
    code text;
    message text;
BEGIN
    BEGIN
        EXECUTE 'SELECT zeroauth_audit_internal.' || quote_ident('job_' || job) || '()' INTO result;
    EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
        RETURN jsonb_build_object('more', false, 'summary', summary, 'code', code, 'error', message);
    END;
    RETURN jsonb_build_object(
        'more', coalesce((result ->> 'more')::boolean, false),
        'pause_ms', greatest(coalesce((result ->> 'pause_ms')::bigint, 0), 0),
        'summary', summary || coalesce((
            SELECT jsonb_object_agg(d.key, CASE WHEN jsonb_typeof(d.value) = 'number' AND jsonb_typeof(summary -> d.key) = 'number'
                                                THEN to_jsonb((summary ->> d.key)::numeric + (d.value #>> '{}')::numeric) ELSE d.value END)
            FROM jsonb_each(result -> 'done') d), '{}'));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_step(text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_step(text, jsonb) IS
    'Calls job_NAME() once, and adds what it did to the summary. An error of the job is part of the result.';

CREATE FUNCTION zeroauth_audit_internal.job_end(run bigint, outcome text, steps integer, summary jsonb, code text, message text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ended text;
BEGIN
    UPDATE zeroauth_audit_internal.job_runs r
    SET status = outcome, finished_at = clock_timestamp(), steps = job_end.steps, summary = job_end.summary, error_code = code, error = message
    WHERE r.id = run
    RETURNING r.job INTO ended;
    IF outcome = 'succeeded' THEN
        UPDATE zeroauth_audit_internal.jobs j
        SET last_success = clock_timestamp(), overdue_at = CASE WHEN j.enabled THEN zeroauth_audit_internal.schedule_overdue(j.schedule, j.time_zone, clock_timestamp()) END
        WHERE j.name = ended;
        PERFORM zeroauth_audit_internal.job_alert(ended, false);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_end(bigint, text, integer, jsonb, text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_end(bigint, text, integer, jsonb, text, text) IS
    'Records the end of a run.';

CREATE FUNCTION zeroauth_audit_internal.job_settle(job text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE zeroauth_audit_internal.job_runs r SET status = 'failed', finished_at = clock_timestamp(), error_code = '57P01', error = 'the worker ended during this run'
    WHERE r.job = job_settle.job AND r.status = 'running' AND r.run_by = 'worker';
    -- Nobody could run jobs while there was no worker; but a job that failed before counts on.
    UPDATE zeroauth_audit_internal.jobs j SET overdue_at = zeroauth_audit_internal.schedule_overdue(j.schedule, j.time_zone, clock_timestamp())
    WHERE j.name = job_settle.job AND j.enabled AND j.overdue_at < zeroauth_audit_internal.schedule_overdue(j.schedule, j.time_zone, clock_timestamp())
      AND NOT EXISTS (
          SELECT 1 FROM zeroauth_audit_internal.job_runs r
          WHERE r.job = j.name AND r.status IN ('failed', 'timed_out') AND r.started_at > coalesce(j.last_success, '-infinity'));
    PERFORM zeroauth_audit_internal.job_correct(job_settle.job);
    -- Nobody looked while there was no worker.
    UPDATE zeroauth_audit_internal.jobs j SET next_run = clock_timestamp()
    WHERE j.name = job_settle.job AND j.name IN ('tripwire', 'pins') AND j.enabled AND j.scheduler = 'worker' AND j.next_run > clock_timestamp();
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_settle(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_settle(text) IS
    'Called by the worker when it starts, for each job in a transaction of its own: ends the runs that the one before left behind, and has tripwires and pins looked at at once. A worker that held the rows of several jobs and a restore that writes them in another order would wait for each other.';

CREATE FUNCTION zeroauth_audit_internal.job_correct(job text) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE zeroauth_audit_internal.jobs j
    SET next_run = zeroauth_audit_internal.schedule_corrected(j.schedule, j.time_zone, j.next_run, clock_timestamp()),
        overdue_at = zeroauth_audit_internal.schedule_overdue(j.schedule, j.time_zone, clock_timestamp())
    WHERE j.name = job_correct.job AND j.enabled AND zeroauth_audit_internal.schedule_corrected(j.schedule, j.time_zone, j.next_run, clock_timestamp()) IS NOT NULL;
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_correct(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_correct(text) IS
    'Called by the worker when it starts and when the clock was set back, for each job in a transaction of its own: plans anew what a clock that was wrong by more than a day had planned.';

CREATE FUNCTION zeroauth_audit_internal.jobs_check_overdue() RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    late text;
    count integer := 0;
BEGIN
    PERFORM zeroauth_audit_internal.jobs_watch();
    FOR late IN SELECT zeroauth_audit_internal.jobs_late() LOOP
        PERFORM zeroauth_audit_internal.job_alert(late, true);
        count := count + 1;
    END LOOP;
    RETURN count;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.jobs_check_overdue() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.jobs_check_overdue() IS
    'Called by the worker when a job becomes overdue, and every two minutes: raises the alert job_overdue for every job that is, and what jobs_watch does. Returns how many are overdue.';

CREATE FUNCTION zeroauth_audit_internal.unknown_job(name text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known text := format('The jobs there are: %s.', (SELECT string_agg(j.name, ', ' ORDER BY j.name) FROM zeroauth_audit_internal.jobs j));
BEGIN
    IF unknown_job.name IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = 'the name of the job is NULL', HINT = known;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'ZA022', MESSAGE = format('there is no job "%s"', left(unknown_job.name, 100)), HINT = known;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.unknown_job(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.unknown_job(text) IS
    'Part of the calls about jobs: raises ZA022 for a name that is not there, ZA009 for NULL.';

CREATE FUNCTION zeroauth_audit_internal.run_job(name text, run_by text DEFAULT 'session') RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job zeroauth_audit_internal.jobs;
    run bigint;
    steps integer := 0;
    step jsonb := jsonb_build_object('more', true, 'summary', '{}'::jsonb);
    began timestamptz := clock_timestamp();
    outcome text;
BEGIN
    SELECT * INTO job FROM zeroauth_audit_internal.jobs j WHERE j.name = run_job.name;
    IF NOT FOUND THEN
        PERFORM zeroauth_audit_internal.unknown_job(run_job.name);
    END IF;
    IF run_job.run_by = 'pg_cron' AND job.scheduler <> 'pg_cron' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA024', MESSAGE = format('job "%s" is not scheduled by pg_cron', job.name),
            HINT = format('The worker runs it: the entry of pg_cron is not ours any more. SELECT * FROM audit_job_run(%L) runs it now.', job.name);
    END IF;
    IF run_job.run_by = 'pg_cron' AND zeroauth_audit_internal.jobs_held() IS NOT NULL AND NOT zeroauth_audit_internal.never_held(job.name) THEN
        UPDATE zeroauth_audit_internal.jobs j SET counts_from = clock_timestamp(), overdue_at = zeroauth_audit_internal.schedule_overdue(j.schedule, j.time_zone, clock_timestamp()) WHERE j.name = job.name;
        RETURN jsonb_build_object('job', job.name, 'status', 'held', 'reason', zeroauth_audit_internal.jobs_held());
    END IF;
    IF NOT zeroauth_audit_internal.job_lock(job.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA023', MESSAGE = format('job "%s" is running already', job.name),
            HINT = format('Try again when it has ended: SELECT * FROM audit_job_runs WHERE job = %L AND status = ''running''.', job.name);
    END IF;
    INSERT INTO zeroauth_audit_internal.job_runs AS r (id, job, run_by) OVERRIDING SYSTEM VALUE
    VALUES (zeroauth_audit_internal.run_number(run_job.run_by = 'pg_cron' AND coalesce(zeroauth_audit_internal.jobs_held() IN ('no_events', 'restore_running'), false)), job.name, run_job.run_by)
    RETURNING r.id INTO run;
    IF run_job.run_by = 'pg_cron' THEN
        UPDATE zeroauth_audit_internal.jobs j SET next_run = zeroauth_audit_internal.schedule_next(j.schedule, j.time_zone, clock_timestamp()) WHERE j.name = job.name;
    END IF;
    WHILE outcome IS NULL LOOP
        IF clock_timestamp() > began + job.timeout THEN
            outcome := 'timed_out';
            EXIT;
        END IF;
        step := zeroauth_audit_internal.job_step(job.name, step -> 'summary');
        steps := steps + 1;
        outcome := CASE WHEN step ? 'error' THEN 'failed' WHEN NOT (step ->> 'more')::boolean THEN 'succeeded' END;
    END LOOP;
    PERFORM zeroauth_audit_internal.job_end(run, outcome, steps, step -> 'summary', step ->> 'code', step ->> 'error');
    RETURN jsonb_strip_nulls(jsonb_build_object('run', run, 'job', job.name, 'status', outcome, 'steps', steps, 'summary', step -> 'summary', 'code', step -> 'code', 'error', step -> 'error'));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.run_job(text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.run_job(text, text) IS
    'Runs a job now, in this transaction and without the pauses between its steps, and returns what became of it: status, summary, and the error if it failed. The timeout is looked at between steps. ZA022 for an unknown job, ZA023 when it is running already. run_by is session in audit_job_run(), and pg_cron in pg_cron''s own calls, which are refused (ZA024) when the worker runs the jobs.';

CREATE FUNCTION zeroauth_audit_internal.use_pg_cron() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_use_pg_cron';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.use_pg_cron() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.use_pg_cron() IS
    'Hands the schedules of all jobs to pg_cron, which runs them as the role that calls this, and returns how many it got; the worker runs none of them from then on. ZA024 when pg_cron is not installed in this database, or a schedule has no exact equal in its time zone (GMT before 1.5).';

CREATE FUNCTION zeroauth_audit_internal.use_worker() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_use_worker';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.use_worker() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.use_worker() IS
    'Takes the schedules back from pg_cron, and returns how many jobs changed hands. Works when pg_cron is gone, too.';

CREATE FUNCTION zeroauth_audit_internal.job_prune() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    runs bigint;
    deliveries bigint;
BEGIN
    WITH old AS (
        SELECT r.id FROM zeroauth_audit_internal.job_runs r
        WHERE r.finished_at < clock_timestamp() - interval '7 days'
          AND (SELECT count(*) FROM (SELECT 1 FROM zeroauth_audit_internal.job_runs newer WHERE newer.job = r.job AND newer.started_at > r.started_at LIMIT 100) n) >= 100
        LIMIT 5000
    )
    DELETE FROM zeroauth_audit_internal.job_runs r USING old WHERE r.id = old.id;
    GET DIAGNOSTICS runs = ROW_COUNT;
    -- Who was told of an alert is told how it ended: until then it is not forgotten who that was.
    WITH old AS (
        SELECT d.id FROM zeroauth_audit_internal.alert_deliveries d
        WHERE d.delivered_at < clock_timestamp() - interval '30 days'
          AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.alerts a WHERE a.id = d.alert_id AND a.state <> 'resolved')
        LIMIT 5000
    )
    DELETE FROM zeroauth_audit_internal.alert_deliveries d USING old WHERE d.id = old.id;
    GET DIAGNOSTICS deliveries = ROW_COUNT;
    PERFORM zeroauth_audit_internal.resolve_alert(a.fingerprint, 'it was a test')
    FROM zeroauth_audit_internal.alerts a
    WHERE a.kind = 'test' AND a.state <> 'resolved' AND a.raised_at < clock_timestamp() - interval '1 hour';
    RETURN jsonb_build_object('more', greatest(runs, deliveries) = 5000, 'pause_ms', 100, 'done', jsonb_build_object('runs_removed', runs, 'deliveries_removed', deliveries));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_prune() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_prune() IS
    'The job prune: removes runs that ended more than 7 days ago, but keeps the newest 100 of each job; removes deliveries of alerts that are over, 30 days after they arrived; ends test alerts. At most 5000 of each a step.';

INSERT INTO zeroauth_audit_internal.jobs (name, schedule, timeout) VALUES ('prune', '17 3 * * *', '10 minutes');
