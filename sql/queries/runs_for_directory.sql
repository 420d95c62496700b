-- Numbers of the runs that the directory $1 does not have yet, at most $2, ascending, and when they were signed. One that has none begins with
-- the newest run that begins with a snapshot ($3 is the text of such an entry), or with the first. One directory gets each run before all
-- others, so that of two servers which sign one registry only one run of a number leaves: the first by name among those that work. None while
-- there is something of this directory to take over.
WITH sink AS (
    SELECT s.published_to, s.name OPERATOR(pg_catalog.=) (
            SELECT f.name FROM zeroauth_audit_internal.sinks f
            WHERE f.enabled AND f.kind OPERATOR(pg_catalog.=) 'directory' ORDER BY f.failing_since IS NOT NULL, f.name LIMIT 1) AS is_first,
        (SELECT pg_catalog.max(o.published_to) FROM zeroauth_audit_internal.sinks o WHERE o.kind OPERATOR(pg_catalog.=) 'directory') AS outside
    FROM zeroauth_audit_internal.sinks s WHERE s.name OPERATOR(pg_catalog.=) $1
), begins AS (
    SELECT CASE WHEN s.published_to OPERATOR(pg_catalog.>) 0 THEN s.published_to ELSE COALESCE((
        SELECT r.number OPERATOR(pg_catalog.-) 1 FROM zeroauth_audit_internal.registry_entries e
        JOIN zeroauth_audit_internal.registry_runs r ON r.size_before OPERATOR(pg_catalog.=) e.entry AND r.size OPERATOR(pg_catalog.>) e.entry
        WHERE e.tenant_id IS NULL AND e.text OPERATOR(pg_catalog.=) $3 ORDER BY e.entry DESC LIMIT 1), 0) END AS after
    FROM sink s
)
SELECT r.number, pg_catalog.to_char(pg_catalog.timezone('UTC', r.sealed_at), 'YYYY/MM/DD')
FROM zeroauth_audit_internal.registry_runs r CROSS JOIN sink s CROSS JOIN begins b
WHERE r.number OPERATOR(pg_catalog.>) b.after AND (s.is_first OR r.number OPERATOR(pg_catalog.<=) s.outside)
  AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.registry_found f WHERE f.sink OPERATOR(pg_catalog.=) $1 AND f.file IS NOT NULL)
ORDER BY r.number LIMIT $2
