-- What a worker on a standby reports.
SELECT pg_catalog.count(*), pg_catalog.sum(v.events)::pg_catalog.int8, pg_catalog.count(*) FILTER (WHERE NOT v.ok),
    (pg_catalog.array_agg(v.first_finding) FILTER (WHERE NOT v.ok))[1]::pg_catalog.text
FROM @extschema@.audit_verify() v
