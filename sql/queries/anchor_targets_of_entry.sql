-- What each target has of the registry $1 that covers entry $2: when its first final anchor was made, the state of the newest, and what
-- the job anchor_check found, of it or of the tenant $3.
SELECT t.name, f.epoch, pg_catalog.to_char(f.anchored_at, 'YYYY-MM-DD HH24:MI'), n.state, x.detail
FROM zeroauth_audit_internal.anchor_targets t
LEFT JOIN LATERAL (
    SELECT b.epoch, b.anchored_at FROM zeroauth_audit_internal.anchor_batches b
    WHERE b.target OPERATOR(pg_catalog.=) t.name AND b.origin OPERATOR(pg_catalog.=) $1 AND b.size OPERATOR(pg_catalog.>) $2
      AND b.state OPERATOR(pg_catalog.=) 'finalized' AND b.evidence IS NOT NULL
    ORDER BY b.epoch LIMIT 1) f ON true
LEFT JOIN LATERAL (
    SELECT b.state FROM zeroauth_audit_internal.anchor_batches b
    WHERE b.target OPERATOR(pg_catalog.=) t.name AND b.origin OPERATOR(pg_catalog.=) $1 AND b.size OPERATOR(pg_catalog.>) $2
    ORDER BY b.epoch DESC LIMIT 1) n ON true
LEFT JOIN LATERAL (
    SELECT y.detail FROM zeroauth_audit_internal.anchor_findings y
    WHERE (y.target OPERATOR(pg_catalog.=) t.name OR y.target OPERATOR(pg_catalog.=) '') AND (y.tenant_id OPERATOR(pg_catalog.=) $3 OR y.tenant_id OPERATOR(pg_catalog.=) '')
    LIMIT 1) x ON true
WHERE t.enabled OR f.epoch IS NOT NULL OR x.detail IS NOT NULL
ORDER BY t.name
