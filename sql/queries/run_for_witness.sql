-- The newest run that the witness $1 may be shown and has not signed: number, entries, checkpoint, and entries of the last that it signed.
SELECT r.number, r.size, r.note, COALESCE(c.size, 0)
FROM zeroauth_audit_internal.registry_runs r
LEFT JOIN LATERAL (
    SELECT k.run, k.size FROM zeroauth_audit_internal.registry_cosignatures k
    WHERE k.sink OPERATOR(pg_catalog.=) $1 ORDER BY k.run DESC LIMIT 1) c ON true
WHERE r.number OPERATOR(pg_catalog.=) zeroauth_audit_internal.run_outside($1) AND r.number OPERATOR(pg_catalog.>) COALESCE(c.run, 0)
