-- Every job, and those that are not there any more but were being run.
SELECT j.name::text FROM zeroauth_audit_internal.jobs j
UNION
SELECT r.job::text FROM zeroauth_audit_internal.job_runs r WHERE r.status OPERATOR(pg_catalog.=) 'running'
ORDER BY 1
