-- What bulk loads read: @rows@ events of @tenants@ tenants.
CREATE UNLOGGED TABLE source AS
SELECT 'tenant-' || n % @tenants@ AS tenant_id, 'auth'::text AS category, 'login'::text AS action,
       'account/' || n % 5000 AS resource, 'gateway'::text AS service_name, 'prod'::text AS env,
       'req-' || n AS request_id, lpad(to_hex(n), 32, '0') AS trace_id, lpad(to_hex(n), 16, '0') AS span_id,
       200 AS status_code, n % 900 AS latency_ms, 512::bigint AS payload_size,
       'user'::text AS actor_type, 'user-' || n % 5000 AS actor_id, '10.1.2.3'::inet AS ip,
       'Mozilla/5.0 (X11; Linux x86_64)'::text AS user_agent,
       jsonb_build_object('method', 'password', 'attempt', n % 3, 'session', md5(n::text)) AS details
FROM generate_series(1, @rows@) AS n;
VACUUM ANALYZE source;
