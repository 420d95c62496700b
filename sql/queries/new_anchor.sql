-- What one log ($1, $2) has of a batch ($3, $4): consistent at once when nothing was added since the anchor before, or there is none.
INSERT INTO zeroauth_audit_internal.anchors (tenant_id, epoch, target, batch, tree_size, root, batch_root, leaf_index, path, consistent, chain_id, contract)
SELECT $1, $2::pg_catalog.int4, $3, $4, $5, $6, $7, $8, $9,
    CASE WHEN before.tree_size IS NULL OR before.tree_size OPERATOR(pg_catalog.=) $5 AND before.root OPERATOR(pg_catalog.=) $6 THEN true END,
    CASE WHEN t.driver OPERATOR(pg_catalog.=) 'evm' THEN (t.config OPERATOR(pg_catalog.->>) 'chain_id')::pg_catalog.int8 END,
    CASE WHEN t.driver OPERATOR(pg_catalog.=) 'evm' THEN pg_catalog.lower(t.config OPERATOR(pg_catalog.->>) 'contract') END
FROM zeroauth_audit_internal.anchor_targets t
LEFT JOIN LATERAL zeroauth_audit_internal.anchor_before($1, $2::pg_catalog.int4, $3, $4) before ON true
WHERE t.name OPERATOR(pg_catalog.=) $3
