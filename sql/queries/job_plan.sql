-- What the worker plans with: times in microseconds since 2000, the timeout in milliseconds.
SELECT j.name::text,
    CASE WHEN j.scheduler OPERATOR(pg_catalog.=) 'worker' THEN
        (EXTRACT(epoch FROM j.next_run OPERATOR(pg_catalog.-) '2000-01-01 00:00:00+00'::pg_catalog.timestamptz) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8
    END,
    (EXTRACT(epoch FROM j.overdue_at OPERATOR(pg_catalog.-) '2000-01-01 00:00:00+00'::pg_catalog.timestamptz) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8,
    (EXTRACT(epoch FROM j.timeout) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8
FROM zeroauth_audit_internal.jobs j
WHERE j.enabled
