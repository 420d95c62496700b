-- @trail@ is the table, @logs@ the schema of its logs. Chains behind tenant $1, in order, that do not end where their tenant's log says.
-- The order is that of the chains, with no sort that would have to read all of them first: each LIMIT 1 leaves nothing but a nested loop
-- to join by. Of a hash join the rest of the tenants, behind the last one of a step, would be skipped.
WITH RECURSIVE chains AS (
    (SELECT e.tenant_id, e.chain FROM @trail@ e
     WHERE e.tenant_id OPERATOR(pg_catalog.>) $1 AND e.chain IS NOT NULL ORDER BY e.tenant_id, e.chain LIMIT 1)
    UNION ALL
    SELECT next.tenant_id, next.chain FROM chains c CROSS JOIN LATERAL (
        SELECT e.tenant_id, e.chain FROM @trail@ e
        WHERE (e.tenant_id, e.chain) OPERATOR(pg_catalog.>) (c.tenant_id, c.chain) ORDER BY e.tenant_id, e.chain LIMIT 1) next
)
SELECT c.tenant_id, c.chain, head.seq, COALESCE(covered.to_seq, 0::pg_catalog.int8)
FROM chains c
CROSS JOIN LATERAL (
    SELECT e.seq FROM @trail@ e
    WHERE e.tenant_id OPERATOR(pg_catalog.=) c.tenant_id AND e.chain OPERATOR(pg_catalog.=) c.chain ORDER BY e.seq DESC LIMIT 1) head
LEFT JOIN LATERAL (
    SELECT l.epoch, l.state FROM @logs@.logs l
    WHERE l.tenant_id OPERATOR(pg_catalog.=) c.tenant_id ORDER BY l.epoch DESC LIMIT 1) log ON true
LEFT JOIN LATERAL (
    SELECT i.to_seq FROM @logs@.log_intervals i
    WHERE i.tenant_id OPERATOR(pg_catalog.=) c.tenant_id AND i.epoch OPERATOR(pg_catalog.=) log.epoch AND i.chain OPERATOR(pg_catalog.=) c.chain
    ORDER BY i.to_seq DESC LIMIT 1) covered ON true
WHERE log.state IS NULL
   OR log.state OPERATOR(pg_catalog.=) 'open' AND head.seq OPERATOR(pg_catalog.<>) COALESCE(covered.to_seq, 0::pg_catalog.int8)
