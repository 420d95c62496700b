-- Bytes that are hashed of one event, public and private, by docs/format.md: 5 before each value, 1 instead of a NULL.
WITH sizes AS (
    SELECT (SELECT sum(CASE WHEN v IS NULL THEN 1 ELSE 5 + octet_length(v) END)
            FROM unnest(ARRAY[tenant_id, category, action, outcome, severity, resource, service_name, env, provider, request_id,
                              correlation_id, trace_id, span_id, error_code, db_role]) v) AS public_texts,
           (SELECT sum(CASE WHEN v IS NULL THEN 1 ELSE 13 END)
            FROM unnest(ARRAY[status_code, latency_ms, payload_size]::bigint[]) v) AS public_numbers,
           (SELECT sum(CASE WHEN v IS NULL THEN 1 ELSE 5 + octet_length(v) END)
            FROM unnest(ARRAY[actor_type, actor_id, ip::text, user_agent, error_message, details::text]) v) AS private_texts
    FROM audit_events)
SELECT round(avg(4 + 24 + 32 + 4 * 13 + 21 + public_texts + public_numbers + 32))::bigint,
       round(avg(4 + 25 + 16 + private_texts))::bigint
FROM sizes
