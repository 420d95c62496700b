-- Anchors that are not compared with the one before them yet, at most $1, with that one.
SELECT a.tenant_id, a.epoch, a.target, a.batch, a.tree_size, a.root, before.tree_size, before.root
FROM zeroauth_audit_internal.anchors a
LEFT JOIN LATERAL zeroauth_audit_internal.anchor_before(a.tenant_id, a.epoch, a.target, a.batch) before ON true
WHERE a.consistent IS NULL
ORDER BY a.tenant_id, a.epoch LIMIT $1
