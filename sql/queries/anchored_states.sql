-- What the registry said of the log of tenant $1 in epoch $2, beyond leaf $3, each time that it was anchored since $4 (microseconds since
-- 2000): the entry, how many entries were anchored, and the state.
SELECT DISTINCT ON (e.tree_size, e.entry) e.entry, b.size, e.epoch, e.tree_size, e.root, e.previous, e.restored
FROM zeroauth_audit_internal.anchor_batches b
CROSS JOIN LATERAL (
    SELECT x.entry, x.epoch, x.tree_size, x.root, x.previous, x.restored FROM zeroauth_audit_internal.registry_entries x
    WHERE x.tenant_id OPERATOR(pg_catalog.=) $1 AND x.entry OPERATOR(pg_catalog.<) b.size ORDER BY x.entry DESC LIMIT 1) e
JOIN zeroauth_audit_internal.logs l ON l.tenant_id OPERATOR(pg_catalog.=) $1 AND l.epoch OPERATOR(pg_catalog.=) e.epoch
    AND (l.state OPERATOR(pg_catalog.<>) 'ended' OR e.tree_size OPERATOR(pg_catalog.<=) l.tree_size)
WHERE e.epoch OPERATOR(pg_catalog.=) $2::pg_catalog.int4 AND e.tree_size OPERATOR(pg_catalog.>) $3
  AND b.state OPERATOR(pg_catalog.=) ANY (ARRAY['included', 'finalized'])
  AND b.anchored_at OPERATOR(pg_catalog.>) ('2000-01-01 00:00:00+00'::pg_catalog.timestamptz OPERATOR(pg_catalog.+) ($4 OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval))
  AND b.origin OPERATOR(pg_catalog.=) (SELECT pg_catalog.split_part(r.note, E'\n', 1) FROM zeroauth_audit_internal.registry_runs r ORDER BY r.number DESC LIMIT 1)
ORDER BY e.tree_size, e.entry, b.size
