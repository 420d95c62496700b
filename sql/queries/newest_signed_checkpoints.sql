-- The newest signed checkpoint of every open log, in the order of a batch.
SELECT l.tenant_id, l.epoch, c.tree_size, c.root, c.note
FROM zeroauth_audit_internal.logs l
CROSS JOIN LATERAL (
    SELECT k.tree_size, k.root, k.note FROM zeroauth_audit_internal.checkpoints k
    WHERE k.tenant_id OPERATOR(pg_catalog.=) l.tenant_id AND k.epoch OPERATOR(pg_catalog.=) l.epoch AND k.note IS NOT NULL
    ORDER BY k.tree_size DESC LIMIT 1) c
WHERE l.state OPERATOR(pg_catalog.=) 'open' AND l.origin IS NOT NULL
ORDER BY l.origin COLLATE pg_catalog."C"
