-- The next $4 tenants that have events, watermarks or (if $5 is not 0) a log, in order: after $1 (from $1 on, if $2 is not 0), up to $3
-- (empty: to the last).
WITH RECURSIVE
    first_event AS (
        SELECT coalesce(
            (SELECT e.tenant_id FROM @extschema@.audit_events e WHERE $2 OPERATOR(pg_catalog.<>) 0 AND e.tenant_id OPERATOR(pg_catalog.=) $1 LIMIT 1),
            (SELECT e.tenant_id FROM @extschema@.audit_events e WHERE e.tenant_id OPERATOR(pg_catalog.>) $1 ORDER BY e.tenant_id LIMIT 1)) AS tenant_id),
    events AS (
        TABLE first_event
        UNION ALL
        SELECT (SELECT e.tenant_id FROM @extschema@.audit_events e WHERE e.tenant_id OPERATOR(pg_catalog.>) events.tenant_id ORDER BY e.tenant_id LIMIT 1)
        FROM events WHERE events.tenant_id IS NOT NULL),
    first_mark AS (
        SELECT coalesce(
            (SELECT w.tenant_id FROM zeroauth_audit_internal.watermarks w WHERE $2 OPERATOR(pg_catalog.<>) 0 AND w.tenant_id OPERATOR(pg_catalog.=) $1 LIMIT 1),
            (SELECT w.tenant_id FROM zeroauth_audit_internal.watermarks w WHERE w.tenant_id OPERATOR(pg_catalog.>) $1 ORDER BY w.tenant_id LIMIT 1)) AS tenant_id),
    marks AS (
        TABLE first_mark
        UNION ALL
        SELECT (SELECT w.tenant_id FROM zeroauth_audit_internal.watermarks w WHERE w.tenant_id OPERATOR(pg_catalog.>) marks.tenant_id ORDER BY w.tenant_id LIMIT 1)
        FROM marks WHERE marks.tenant_id IS NOT NULL),
    logs AS (
        (SELECT DISTINCT l.tenant_id FROM zeroauth_audit_internal.logs l
         WHERE $5 OPERATOR(pg_catalog.<>) 0 AND l.tenant_id OPERATOR(pg_catalog.>=) $1 AND (l.tenant_id OPERATOR(pg_catalog.>) $1 OR $2 OPERATOR(pg_catalog.<>) 0)
           AND l.tree_size OPERATOR(pg_catalog.>) 0
         ORDER BY l.tenant_id LIMIT $4)),
    next AS (
        (SELECT tenant_id FROM events LIMIT $4) UNION (SELECT tenant_id FROM marks LIMIT $4) UNION (TABLE logs))
SELECT next.tenant_id, t.drift_rows
FROM next LEFT JOIN zeroauth_audit_internal.tenants t ON t.tenant_id OPERATOR(pg_catalog.=) next.tenant_id
WHERE next.tenant_id IS NOT NULL AND ($3 OPERATOR(pg_catalog.=) '' OR next.tenant_id OPERATOR(pg_catalog.<=) $3)
ORDER BY next.tenant_id
LIMIT $4
