COPY (SELECT * FROM audit_events ORDER BY tenant_id COLLATE "C", chain, seq) TO STDOUT WITH (FORMAT csv)
