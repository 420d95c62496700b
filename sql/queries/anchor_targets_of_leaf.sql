-- What each target holds of a log ($1, $2) that covers leaf $3, with proofs up to tree size $4: its first final anchor, the state of
-- the newest, and what the job anchor_check found.
SELECT t.name, f.batch, pg_catalog.to_char(f.anchored_at, 'YYYY-MM-DD HH24:MI'), f.tree_size, f.leaf_index, n.state, x.detail
FROM zeroauth_audit_internal.anchor_targets t
LEFT JOIN LATERAL (
    SELECT a.batch, a.anchored_at, a.tree_size, a.leaf_index FROM zeroauth_audit_internal.anchors a
    JOIN zeroauth_audit_internal.anchor_batches b ON b.target OPERATOR(pg_catalog.=) a.target AND b.epoch OPERATOR(pg_catalog.=) a.batch
    WHERE a.tenant_id OPERATOR(pg_catalog.=) $1 AND a.epoch OPERATOR(pg_catalog.=) $2::pg_catalog.int4 AND a.target OPERATOR(pg_catalog.=) t.name
      AND a.tree_size OPERATOR(pg_catalog.>) $3 AND a.tree_size OPERATOR(pg_catalog.<=) $4
      AND a.state OPERATOR(pg_catalog.=) 'finalized' AND b.evidence IS NOT NULL
    ORDER BY a.batch LIMIT 1) f ON true
LEFT JOIN LATERAL (
    SELECT a.state FROM zeroauth_audit_internal.anchors a
    WHERE a.tenant_id OPERATOR(pg_catalog.=) $1 AND a.epoch OPERATOR(pg_catalog.=) $2::pg_catalog.int4 AND a.target OPERATOR(pg_catalog.=) t.name
      AND a.tree_size OPERATOR(pg_catalog.>) $3
    ORDER BY a.batch DESC LIMIT 1) n ON true
LEFT JOIN LATERAL (
    SELECT y.detail FROM zeroauth_audit_internal.anchor_findings y
    WHERE y.tenant_id OPERATOR(pg_catalog.=) $1 AND (y.target OPERATOR(pg_catalog.=) t.name OR y.target OPERATOR(pg_catalog.=) '')
    LIMIT 1) x ON true
WHERE t.enabled OR f.batch IS NOT NULL OR x.detail IS NOT NULL
ORDER BY t.name
