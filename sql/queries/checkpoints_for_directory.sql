-- Signed checkpoints that the directory $1 does not have yet, at most $2, in the order in which they were signed.
SELECT l.origin, c.tree_size, c.root, c.note, c.seal,
    pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'YYYY/MM/DD'),
    pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.clock_timestamp()), 'HH24MISS')
FROM zeroauth_audit_internal.checkpoints c
JOIN zeroauth_audit_internal.logs l ON l.tenant_id OPERATOR(pg_catalog.=) c.tenant_id AND l.epoch OPERATOR(pg_catalog.=) c.epoch
WHERE c.seal OPERATOR(pg_catalog.>) (SELECT s.published_to FROM zeroauth_audit_internal.sinks s WHERE s.name OPERATOR(pg_catalog.=) $1)
  AND c.note IS NOT NULL AND l.state OPERATOR(pg_catalog.=) 'open'
ORDER BY c.seal LIMIT $2
