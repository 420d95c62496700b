-- Jobs as people see them and change them: when they run, what became of them, running one now.

CREATE VIEW @extschema@.audit_jobs AS
    SELECT j.name, j.enabled, j.schedule, j.time_zone, j.next_run AS next_run_at, j.last_success AS last_success_at,
        j.enabled AND COALESCE(j.overdue_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp(), false) AS overdue, j.timeout, j.scheduler
    FROM zeroauth_audit_internal.jobs j;
REVOKE ALL ON TABLE @extschema@.audit_jobs FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_jobs IS 'What runs by itself, when it runs next, and whether it is overdue. Read-only; audit_job_set() changes a schedule, audit_job_run() runs a job now.';
COMMENT ON COLUMN @extschema@.audit_jobs.name IS 'Name of the job.';
COMMENT ON COLUMN @extschema@.audit_jobs.enabled IS 'Whether it runs by itself.';
COMMENT ON COLUMN @extschema@.audit_jobs.schedule IS 'Crontab expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly.';
COMMENT ON COLUMN @extschema@.audit_jobs.time_zone IS 'Name of the time zone that the schedule is meant in.';
COMMENT ON COLUMN @extschema@.audit_jobs.next_run_at IS 'When it runs next; a time in the past is made up for at once. NULL: it is not enabled.';
COMMENT ON COLUMN @extschema@.audit_jobs.last_success_at IS 'When it last ended well.';
COMMENT ON COLUMN @extschema@.audit_jobs.overdue IS 'Whether it has not ended well for two of its intervals: then there is an alert.';
COMMENT ON COLUMN @extschema@.audit_jobs.timeout IS 'How long one run may take.';
COMMENT ON COLUMN @extschema@.audit_jobs.scheduler IS 'Who runs it: worker or pg_cron.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_jobs
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('name', 'SELECT audit_job_set(%, enabled => true);',
        'SELECT audit_job_set(%, schedule => ''0 * * * *'');', 'SELECT audit_job_set(%, enabled => false, note => ''why'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_jobs IS 'Refuses edits, and says which call to make.';

CREATE VIEW @extschema@.audit_job_runs AS
    SELECT r.job, r.status, r.started_at, r.finished_at, r.run_by, r.steps, r.error, r.error_code, r.scheduled_for, r.id, r.summary
    FROM zeroauth_audit_internal.job_runs r;
REVOKE ALL ON TABLE @extschema@.audit_job_runs FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_job_runs IS 'What became of each run of a job, for when one is overdue or failed. Runs of the last 7 days are kept, and the newest 100 of each job. Read-only.';
COMMENT ON COLUMN @extschema@.audit_job_runs.job IS 'Name of the job.';
COMMENT ON COLUMN @extschema@.audit_job_runs.status IS 'running, succeeded, failed, timed_out, or skipped because it was running already.';
COMMENT ON COLUMN @extschema@.audit_job_runs.started_at IS 'When it began.';
COMMENT ON COLUMN @extschema@.audit_job_runs.finished_at IS 'When it ended, NULL while it runs.';
COMMENT ON COLUMN @extschema@.audit_job_runs.run_by IS 'worker, session (audit_job_run) or pg_cron.';
COMMENT ON COLUMN @extschema@.audit_job_runs.steps IS 'How many steps it took.';
COMMENT ON COLUMN @extschema@.audit_job_runs.error IS 'Message of the error that ended it; NULL: none did.';
COMMENT ON COLUMN @extschema@.audit_job_runs.error_code IS 'SQLSTATE of that error.';
COMMENT ON COLUMN @extschema@.audit_job_runs.scheduled_for IS 'When it was due; NULL when somebody ran it by hand.';
COMMENT ON COLUMN @extschema@.audit_job_runs.id IS 'Number of the run, rising.';
COMMENT ON COLUMN @extschema@.audit_job_runs.summary IS 'What was done: the sums of what the steps counted.';
CREATE TRIGGER zeroauth_audit_refuse_edit INSTEAD OF INSERT OR UPDATE OR DELETE ON @extschema@.audit_job_runs
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_edit('job', 'SELECT * FROM audit_job_run(%);',
        'SELECT * FROM audit_job_run(%);', 'SELECT * FROM audit_job_run(''prune'');');
COMMENT ON TRIGGER zeroauth_audit_refuse_edit ON @extschema@.audit_job_runs IS 'Refuses edits, and says which call to make.';

CREATE FUNCTION @extschema@.audit_job_run(job text) RETURNS TABLE (job text, status text, steps integer, summary jsonb, error text)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.outcome ->> 'job', r.outcome ->> 'status', (r.outcome ->> 'steps')::integer, r.outcome -> 'summary', r.outcome ->> 'error'
    FROM zeroauth_audit_internal.run_job(audit_job_run.job, 'session') r (outcome)
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_run(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_run(text) IS
    'Runs a job now and waits for it. In this transaction, as the owner of the extension, and without the pauses between its steps; its schedule stays as it is. job: its name in audit_jobs; one that is not enabled runs, too. Returns what became of it: succeeded, failed (with the error) or timed_out, how many steps it took, and what it did. ZA022 for a job that is not there, ZA023 when it is running already, ZA009 for NULL.';

CREATE FUNCTION @extschema@.audit_job_set(job text, schedule text DEFAULT NULL, time_zone text DEFAULT NULL, enabled boolean DEFAULT NULL, timeout interval DEFAULT NULL, note text DEFAULT NULL) RETURNS timestamptz
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was zeroauth_audit_internal.jobs;
    now_is zeroauth_audit_internal.jobs;
    written text := left(note, 2000);
BEGIN
    SELECT j.* INTO was FROM zeroauth_audit_internal.jobs j WHERE j.name = job FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM zeroauth_audit_internal.unknown_job(job);
    END IF;
    IF audit_job_set.timeout NOT BETWEEN interval '1 second' AND interval '7 days' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('timeout %s is not 1 second to 7 days', audit_job_set.timeout), HINT = 'Leave it out, and it stays as it is.';
    END IF;
    IF was.enabled AND NOT audit_job_set.enabled THEN
        written := zeroauth_audit_internal.require_note(note, format('disabling job "%s"', job), 'Say why it does not run any more.');
    END IF;
    IF (coalesce(audit_job_set.schedule, was.schedule), coalesce(audit_job_set.time_zone, was.time_zone), coalesce(audit_job_set.enabled, was.enabled), coalesce(audit_job_set.timeout, was.timeout))
       = (was.schedule, was.time_zone, was.enabled, was.timeout) THEN
        RETURN was.next_run;
    END IF;
    UPDATE zeroauth_audit_internal.jobs j
    SET schedule = coalesce(audit_job_set.schedule, j.schedule), time_zone = coalesce(audit_job_set.time_zone, j.time_zone),
        enabled = coalesce(audit_job_set.enabled, j.enabled), timeout = coalesce(audit_job_set.timeout, j.timeout)
    WHERE j.name = job
    RETURNING j.* INTO now_is;
    PERFORM zeroauth_audit_internal.note_change('job.changed', CASE WHEN was.enabled AND NOT now_is.enabled THEN 'high' ELSE 'info' END, job, jsonb_build_object(
        'is', jsonb_build_object('schedule', now_is.schedule, 'time_zone', now_is.time_zone, 'enabled', now_is.enabled, 'timeout', now_is.timeout),
        'was', jsonb_build_object('schedule', was.schedule, 'time_zone', was.time_zone, 'enabled', was.enabled, 'timeout', was.timeout), 'note', written));
    IF was.enabled AND NOT now_is.enabled THEN
        PERFORM zeroauth_audit_internal.raise_alert('job_disabled', 2::smallint, NULL, 'job_disabled:' || job, format('job "%s" was disabled by %s: %s', job, SESSION_USER, written),
            jsonb_build_object('job', job, 'by', SESSION_USER, 'note', written));
        PERFORM zeroauth_audit_internal.say_next(format('job "%s" does not run by itself any more, and an alert says so until it is enabled', job), false);
    ELSIF now_is.enabled THEN
        PERFORM zeroauth_audit_internal.raise_alert('job_off', 2::smallint, NULL, 'job_off:' || o.name, format('job %s does not run as it has to, set by %s: %s', o.name, SESSION_USER, o.why),
            jsonb_build_object('job', o.name, 'why', o.why, 'by', SESSION_USER, 'note', written))
        FROM zeroauth_audit_internal.jobs_off() o WHERE o.name = job;
        PERFORM zeroauth_audit_internal.resolve_alert('job_disabled:' || job, coalesce(nullif(written, ''), 'the job is enabled'));
        PERFORM zeroauth_audit_internal.say_next(format('job "%s" runs next at %s', job, date_trunc('second', now_is.next_run)), false);
    END IF;
    RETURN now_is.next_run;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_set(text, text, text, boolean, interval, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_set(text, text, text, boolean, interval, text) IS
    'Changes when a job runs; enabled => false wants a note and is an alert. What is NULL stays as it is; a change counts from your commit on, and is an event of the tenant zeroauth_audit. job: its name in audit_jobs. schedule: a crontab expression of five fields, or @hourly, @daily, @weekly, @monthly, @yearly. time_zone: the name of the one that it is meant in. enabled: whether it runs by itself; the alert job_disabled (severity 2) stays until it does again. A schedule that is too rare for the job is an alert, too: job_off (severity 2). timeout: how long one run may take, 1 second to 7 days. note: why. Returns when it runs next, NULL when it does not. ZA022 for a job that is not there, ZA021 for what is no schedule or no time zone or never comes, ZA009 without a note or for a timeout out of range, ZA024 while pg_cron runs the jobs.';

CREATE FUNCTION @extschema@.audit_job_scheduler(scheduler text) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was text[] := ARRAY(SELECT DISTINCT j.scheduler FROM zeroauth_audit_internal.jobs j ORDER BY j.scheduler);
    jobs integer;
BEGIN
    -- In one order: two who change the scheduler would wait for each other.
    PERFORM 1 FROM zeroauth_audit_internal.jobs j ORDER BY j.name FOR NO KEY UPDATE;
    IF audit_job_scheduler.scheduler = 'pg_cron' THEN
        jobs := zeroauth_audit_internal.use_pg_cron();
    ELSIF audit_job_scheduler.scheduler = 'worker' THEN
        jobs := zeroauth_audit_internal.use_worker();
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('there is no scheduler %s', coalesce('"' || left(audit_job_scheduler.scheduler, 100) || '"', 'NULL')),
            HINT = 'SELECT audit_job_scheduler(''pg_cron'') or SELECT audit_job_scheduler(''worker'').';
    END IF;
    IF was <> ARRAY[audit_job_scheduler.scheduler] THEN
        PERFORM zeroauth_audit_internal.note_change('job.scheduler_changed', 'info', audit_job_scheduler.scheduler, jsonb_build_object('is', audit_job_scheduler.scheduler, 'jobs', jobs));
        IF audit_job_scheduler.scheduler = 'pg_cron' THEN
            RAISE NOTICE USING MESSAGE = format('pg_cron runs %s jobs from now on, as "%s"', jobs, CURRENT_USER);
        ELSE
            PERFORM zeroauth_audit_internal.say_next(format('the worker runs %s jobs from now on', jobs), false);
        END IF;
    END IF;
    RETURN jobs;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_job_scheduler(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_job_scheduler(text) IS
    'Hands all jobs to pg_cron, or back to worker. scheduler: pg_cron, which runs them as the owner of the extension from then on, and the worker none of them; or worker, which works when pg_cron is gone, too. Returns how many jobs it got; a change is an event of the tenant zeroauth_audit. ZA024 when pg_cron is not installed in this database, or a schedule has no exact equal in its time zone (GMT before 1.5): then nothing changes hands. ZA009 for any other word.';
