-- Final anchors of a log ($1, $2) that cover leaf $3 and are no larger than $4: at each target the first and the newest.
WITH final AS (
    SELECT t.driver, a.target, a.batch, a.tree_size, a.root, a.leaf_index, b.leaves, a.path, b.evidence, b.root AS batch_root, l.origin
    FROM zeroauth_audit_internal.anchors a
    JOIN zeroauth_audit_internal.anchor_batches b ON b.target OPERATOR(pg_catalog.=) a.target AND b.epoch OPERATOR(pg_catalog.=) a.batch
    JOIN zeroauth_audit_internal.anchor_targets t ON t.name OPERATOR(pg_catalog.=) a.target
    JOIN zeroauth_audit_internal.logs l ON l.tenant_id OPERATOR(pg_catalog.=) a.tenant_id AND l.epoch OPERATOR(pg_catalog.=) a.epoch
    WHERE a.tenant_id OPERATOR(pg_catalog.=) $1 AND a.epoch OPERATOR(pg_catalog.=) $2::pg_catalog.int4
      AND a.tree_size OPERATOR(pg_catalog.>) $3 AND a.tree_size OPERATOR(pg_catalog.<=) $4
      AND a.state OPERATOR(pg_catalog.=) 'finalized' AND b.evidence IS NOT NULL
), ends AS (
    SELECT f.target, pg_catalog.min(f.batch) AS first, pg_catalog.max(f.batch) AS newest FROM final f GROUP BY f.target
)
SELECT f.driver, f.tree_size, f.root, f.leaf_index, f.leaves, f.path, f.evidence::pg_catalog.text, f.batch_root, f.origin
FROM final f JOIN ends e ON e.target OPERATOR(pg_catalog.=) f.target AND (f.batch OPERATOR(pg_catalog.=) e.first OR f.batch OPERATOR(pg_catalog.=) e.newest)
ORDER BY f.target, f.batch
