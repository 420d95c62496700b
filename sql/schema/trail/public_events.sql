-- The trail as a reader sees it: what a person looks at first, no hash, nothing private.

CREATE VIEW @extschema@.audit_public_events WITH (security_invoker = true) AS
    SELECT e.recorded_at, e.tenant_id, e.action, e.outcome, e.severity, e.resource, e.category, e.service_name, e.env, e.provider,
        e.request_id, e.correlation_id, e.trace_id, e.span_id, e.status_code, e.latency_ms, e.payload_size, e.error_code, e.db_role,
        e.occurred_at, e.chain, e.seq, e.event_id
    FROM @extschema@.audit_events e;
REVOKE ALL ON TABLE @extschema@.audit_public_events FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_public_events IS
    'Events without their private fields and hashes. Reads with the rights of the role that asks: row-level policies of audit_events apply.';
COMMENT ON COLUMN @extschema@.audit_public_events.recorded_at IS 'When the server stored it.';
COMMENT ON COLUMN @extschema@.audit_public_events.tenant_id IS 'Whose trail it is.';
COMMENT ON COLUMN @extschema@.audit_public_events.action IS 'What was done, for example login.';
COMMENT ON COLUMN @extschema@.audit_public_events.outcome IS 'success, failure, denied or error.';
COMMENT ON COLUMN @extschema@.audit_public_events.severity IS 'info, low, medium, high or critical.';
COMMENT ON COLUMN @extschema@.audit_public_events.resource IS 'What it was done to.';
COMMENT ON COLUMN @extschema@.audit_public_events.category IS 'Kind of event, for example authentication.';
COMMENT ON COLUMN @extschema@.audit_public_events.service_name IS 'The service that reported it.';
COMMENT ON COLUMN @extschema@.audit_public_events.env IS 'The environment of that service, for example production.';
COMMENT ON COLUMN @extschema@.audit_public_events.provider IS 'The provider behind the service.';
COMMENT ON COLUMN @extschema@.audit_public_events.request_id IS 'The request that it belongs to.';
COMMENT ON COLUMN @extschema@.audit_public_events.correlation_id IS 'The business operation that it belongs to.';
COMMENT ON COLUMN @extschema@.audit_public_events.trace_id IS 'W3C trace id.';
COMMENT ON COLUMN @extschema@.audit_public_events.span_id IS 'W3C span id.';
COMMENT ON COLUMN @extschema@.audit_public_events.status_code IS 'Status of the protocol, for example 403.';
COMMENT ON COLUMN @extschema@.audit_public_events.latency_ms IS 'Duration in milliseconds.';
COMMENT ON COLUMN @extschema@.audit_public_events.payload_size IS 'Size of the payload in bytes.';
COMMENT ON COLUMN @extschema@.audit_public_events.error_code IS 'Code of the error.';
COMMENT ON COLUMN @extschema@.audit_public_events.db_role IS 'The role that was logged in.';
COMMENT ON COLUMN @extschema@.audit_public_events.occurred_at IS 'When it happened, as the producer says.';
COMMENT ON COLUMN @extschema@.audit_public_events.chain IS 'Chain within the tenant, from 0.';
COMMENT ON COLUMN @extschema@.audit_public_events.seq IS 'Position in the chain, from 1.';
COMMENT ON COLUMN @extschema@.audit_public_events.event_id IS 'The producer''s idempotency key, unique within the tenant.';
