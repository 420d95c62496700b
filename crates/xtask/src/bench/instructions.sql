DO $$ DECLARE n int; t int := 1; BEGIN
FOR i IN 1..@rows@ LOOP
n := (i::bigint * 7919 % 1000000007)::int;
INSERT INTO @table@ (tenant_id, category, action, resource, service_name, env, request_id, trace_id, span_id, status_code,
 latency_ms, payload_size, actor_type, actor_id, ip, user_agent, details)
VALUES ('tenant-' || t, 'auth', 'login', 'account/' || n % 5000, 'gateway', 'prod', 'req-' || n, lpad(to_hex(n), 32, '0'),
 lpad(to_hex(n), 16, '0'), 200, n % 900, 512, 'user', 'user-' || n % 5000, '10.1.2.3', 'Mozilla/5.0 (X11; Linux x86_64)',
 jsonb_build_object('method', 'password', 'attempt', n % 3, 'session', n));
COMMIT;
END LOOP;
END $$
