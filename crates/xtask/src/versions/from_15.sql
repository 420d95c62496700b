-- A trail as applications leave it, for the dump that other versions restore: several tenants, every column, odd text,
-- large documents. A session that holds chain 0 of some tenants while this runs makes them several chains.
INSERT INTO audit_events (tenant_id, occurred_at, category, action, outcome, severity, resource, service_name, env, provider,
    request_id, correlation_id, trace_id, span_id, status_code, latency_ms, payload_size, error_code,
    actor_type, actor_id, ip, user_agent, error_message, details)
SELECT (ARRAY['acme', 'bäckerei', 'tenant with spaces', E'tab\tand \\', 'x'])[1 + i % 5],
    CASE i % 11 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' WHEN 2 THEN '0001-01-01 00:00:00+00'
        ELSE timestamptz '2024-02-29 23:59:59.999999+00' + i * interval '1.000001 s' END,
    CASE WHEN i % 2 = 0 THEN 'api' END, E'invoice.\n' || i,
    (ARRAY['success', 'failure', 'denied', 'error'])[1 + i % 4],
    (ARRAY['info', 'low', 'medium', 'high', 'critical'])[1 + i % 5],
    'invoice/' || i, CASE i % 3 WHEN 0 THEN '' WHEN 1 THEN E'\r\n' END, 'prod', 'é🔒',
    'r' || i, CASE WHEN i % 3 = 0 THEN 'c' || i END, lpad(to_hex(i), 32, '0'), lpad(to_hex(i), 16, '0'),
    i % 600, i, i * 1000000000::bigint, CASE WHEN i % 4 = 3 THEN 'E' || i END,
    'user', E'actor\t' || i,
    CASE i % 4 WHEN 0 THEN inet '10.0.0.7/8' WHEN 1 THEN inet '2001:db8::7' WHEN 2 THEN inet '203.0.113.7' END,
    'curl/8', CASE WHEN i % 4 = 3 THEN E'line one\nline "two"' END,
    CASE WHEN i % 100 = 0 THEN jsonb_build_object('large', (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 500) j))
        WHEN i % 4 <> 0 THEN jsonb_build_object('zebra', i * 1.50, 'a', E'\n"\\', 'deep', jsonb_build_array(1e-7, null, i)) END
FROM generate_series(1, 2000) i;
