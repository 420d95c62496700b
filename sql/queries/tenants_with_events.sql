-- @trail@ is the table of events. Every tenant that has one, found by skipping from one to the next.
WITH RECURSIVE t AS (
    (SELECT e.tenant_id FROM @trail@ e ORDER BY e.tenant_id LIMIT 1)
    UNION ALL
    SELECT next.tenant_id FROM t CROSS JOIN LATERAL (
        SELECT e.tenant_id FROM @trail@ e WHERE e.tenant_id OPERATOR(pg_catalog.>) t.tenant_id ORDER BY e.tenant_id LIMIT 1) next
)
SELECT t.tenant_id FROM t
