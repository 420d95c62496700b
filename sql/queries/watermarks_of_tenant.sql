-- The watermarks of tenant $1 for chains after $2, whether they are of this trail, and what is at their places now.
SELECT w.chain, w.head_seq, w.head_hash, w.trail OPERATOR(pg_catalog.=) s.trail, w.trail::text,
    now.there, now.same, now.hash
FROM zeroauth_audit_internal.watermarks w
CROSS JOIN zeroauth_audit_internal.drift_state s
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 AS there,
        coalesce(pg_catalog.bool_or(e.event_hash OPERATOR(pg_catalog.=) w.head_hash), false) AS same,
        (pg_catalog.array_agg(e.event_hash))[1] AS hash
    FROM @extschema@.audit_events e
    WHERE e.tenant_id OPERATOR(pg_catalog.=) w.tenant_id AND e.chain OPERATOR(pg_catalog.=) w.chain AND e.seq OPERATOR(pg_catalog.=) w.head_seq) now
WHERE w.tenant_id OPERATOR(pg_catalog.=) $1 AND w.chain OPERATOR(pg_catalog.>) $2
ORDER BY w.chain
