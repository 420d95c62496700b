-- The newest signed checkpoint of each log that the witness $1 has not signed, or not for an hour, at most $2.
SELECT l.tenant_id, l.epoch, l.origin, c.tree_size, c.note, s.tree_size
FROM zeroauth_audit_internal.logs l
CROSS JOIN LATERAL (
    SELECT k.tree_size, k.note FROM zeroauth_audit_internal.checkpoints k
    WHERE k.tenant_id OPERATOR(pg_catalog.=) l.tenant_id AND k.epoch OPERATOR(pg_catalog.=) l.epoch AND k.note IS NOT NULL
    ORDER BY k.tree_size DESC LIMIT 1) c
LEFT JOIN LATERAL (
    SELECT k.tree_size, k.cosigned_at FROM zeroauth_audit_internal.cosignatures k
    WHERE k.sink OPERATOR(pg_catalog.=) $1 AND k.tenant_id OPERATOR(pg_catalog.=) l.tenant_id AND k.epoch OPERATOR(pg_catalog.=) l.epoch
    ORDER BY k.tree_size DESC LIMIT 1) s ON true
WHERE l.state OPERATOR(pg_catalog.=) 'open'
  AND (s.tree_size IS NULL OR s.tree_size OPERATOR(pg_catalog.<) c.tree_size OR s.cosigned_at OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval))
ORDER BY s.cosigned_at NULLS FIRST LIMIT $2
