-- What the random queries find: a trail with events of every kind, a table beside it, and an ordinary role that may
-- read and add events and verify them.
CREATE EXTENSION zeroauth_audit;
INSERT INTO audit_events (tenant_id, action, outcome, resource, status_code, latency_ms, payload_size, trace_id, actor_type, actor_id, ip, user_agent, details)
SELECT 'soak ' || i % 7, 'action ' || i % 3, (ARRAY['success', 'failure', 'denied', 'error'])[i % 4 + 1], 'r/' || i, i % 600, i, i * 1000,
       md5(i::text), 'user', 'u' || i % 50, ('203.0.113.' || i % 250)::inet, 'soak', jsonb_build_object('i', i, 'deep', jsonb_build_array(i, NULL, 'x'))
FROM generate_series(1, 2000) i;
CREATE TABLE orders (id integer PRIMARY KEY, tenant text, event uuid, amount numeric, at timestamptz DEFAULT now(), data jsonb);
INSERT INTO orders SELECT i, 'soak ' || i % 7, NULL, i * 1.5, now(), '{}' FROM generate_series(1, 200) i;
ANALYZE;

CREATE ROLE smith LOGIN;
GRANT ALL ON orders TO smith;
SELECT audit_grant('smith', duty) FROM unnest(ARRAY['writer', 'private_reader', 'auditor', 'monitor']) AS d (duty);
