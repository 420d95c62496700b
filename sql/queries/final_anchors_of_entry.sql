-- Final anchors of the registry $1 that cover entry $2: at each target the first and the newest.
WITH final AS (
    SELECT b.target, b.epoch, t.driver, b.size, b.root, b.evidence
    FROM zeroauth_audit_internal.anchor_batches b
    JOIN zeroauth_audit_internal.anchor_targets t ON t.name OPERATOR(pg_catalog.=) b.target
    WHERE b.origin OPERATOR(pg_catalog.=) $1 AND b.size OPERATOR(pg_catalog.>) $2
      AND b.state OPERATOR(pg_catalog.=) 'finalized' AND b.evidence IS NOT NULL
), ends AS (
    SELECT f.target, pg_catalog.min(f.epoch) AS first, pg_catalog.max(f.epoch) AS newest FROM final f GROUP BY f.target
)
SELECT f.target, f.epoch, f.driver, f.size, f.root, f.evidence::pg_catalog.text
FROM final f JOIN ends e ON e.target OPERATOR(pg_catalog.=) f.target AND (f.epoch OPERATOR(pg_catalog.=) e.first OR f.epoch OPERATOR(pg_catalog.=) e.newest)
ORDER BY f.target, f.epoch
