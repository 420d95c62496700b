-- The trail: one row an event. What an event must be is checked by the triggers, not by CHECK constraints (src/trail/rules.rs).

CREATE TABLE @extschema@.audit_events (
    tenant_id text COLLATE pg_catalog."C" NOT NULL,
    chain smallint NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    recorded_at timestamptz NOT NULL,
    category text,
    action text NOT NULL,
    outcome text NOT NULL DEFAULT 'success',
    severity text NOT NULL DEFAULT 'info',
    resource text,
    service_name text,
    env text,
    provider text,
    request_id text,
    correlation_id text,
    trace_id text,
    span_id text,
    status_code integer,
    latency_ms integer,
    payload_size bigint,
    error_code text,
    db_role text NOT NULL,
    actor_type text,
    actor_id text,
    ip inet,
    user_agent text,
    error_message text,
    details jsonb,
    salt bytea,
    private_hash bytea,
    prev_hash bytea NOT NULL,
    event_hash bytea NOT NULL,
    hash_version smallint NOT NULL,
    CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, chain, seq),
    CONSTRAINT audit_events_event_id_key UNIQUE (tenant_id, event_id)
);

REVOKE ALL ON TABLE @extschema@.audit_events FROM PUBLIC;
COMMENT ON TABLE @extschema@.audit_events IS
    'The audit trail: one row an event, hash-chained for each tenant as it is inserted. Rows can be added, never changed.';
COMMENT ON COLUMN @extschema@.audit_events.tenant_id IS 'Whose trail it is: 1 to 128 bytes, compared byte for byte.';
COMMENT ON COLUMN @extschema@.audit_events.chain IS 'Chain within the tenant, from 0. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.seq IS 'Position in the chain, from 1, without gaps. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.event_id IS 'The producer''s idempotency key, unique within the tenant: INSERT .. ON CONFLICT DO NOTHING makes a retry safe. The server makes a UUIDv7 where it is missing.';
COMMENT ON COLUMN @extschema@.audit_events.occurred_at IS 'When it happened, as the producer says. Years 1 to 9999, or infinite.';
COMMENT ON COLUMN @extschema@.audit_events.recorded_at IS 'When the server stored it. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.category IS 'Kind of event, for example authentication.';
COMMENT ON COLUMN @extschema@.audit_events.action IS 'What was done, for example login. Not empty.';
COMMENT ON COLUMN @extschema@.audit_events.outcome IS 'success, failure, denied or error.';
COMMENT ON COLUMN @extschema@.audit_events.severity IS 'info, low, medium, high or critical.';
COMMENT ON COLUMN @extschema@.audit_events.resource IS 'What it was done to.';
COMMENT ON COLUMN @extschema@.audit_events.service_name IS 'The service that reported it.';
COMMENT ON COLUMN @extschema@.audit_events.env IS 'The environment of that service, for example production.';
COMMENT ON COLUMN @extschema@.audit_events.provider IS 'The provider behind the service.';
COMMENT ON COLUMN @extschema@.audit_events.request_id IS 'The request that it belongs to.';
COMMENT ON COLUMN @extschema@.audit_events.correlation_id IS 'The business operation that it belongs to.';
COMMENT ON COLUMN @extschema@.audit_events.trace_id IS 'W3C trace id: 32 lower-case hex digits.';
COMMENT ON COLUMN @extschema@.audit_events.span_id IS 'W3C span id: 16 lower-case hex digits.';
COMMENT ON COLUMN @extschema@.audit_events.status_code IS 'Status of the protocol, for example 403.';
COMMENT ON COLUMN @extschema@.audit_events.latency_ms IS 'Duration in milliseconds.';
COMMENT ON COLUMN @extschema@.audit_events.payload_size IS 'Size of the payload in bytes.';
COMMENT ON COLUMN @extschema@.audit_events.error_code IS 'Code of the error.';
COMMENT ON COLUMN @extschema@.audit_events.db_role IS 'The role that was logged in (session_user). Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.actor_type IS 'Kind of actor, for example user. Private.';
COMMENT ON COLUMN @extschema@.audit_events.actor_id IS 'Who did it. Private.';
COMMENT ON COLUMN @extschema@.audit_events.ip IS 'From where. Private.';
COMMENT ON COLUMN @extschema@.audit_events.user_agent IS 'With what. Private.';
COMMENT ON COLUMN @extschema@.audit_events.error_message IS 'The error in words. Private.';
COMMENT ON COLUMN @extschema@.audit_events.details IS 'Anything else; at most zeroauth_audit.max_details_bytes of text. Private.';
COMMENT ON COLUMN @extschema@.audit_events.salt IS '16 random bytes that keep the private fields from being guessed from their hash. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.private_hash IS 'NULL, unless the private fields were erased: then what their hash was.';
COMMENT ON COLUMN @extschema@.audit_events.prev_hash IS 'event_hash of the chain''s previous event, 32 zero bytes for the first. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.event_hash IS 'SHA-256 of this event and, through prev_hash, of all before it in its chain. Set by the server.';
COMMENT ON COLUMN @extschema@.audit_events.hash_version IS 'Version of the hash format: 1. Set by the server.';
COMMENT ON CONSTRAINT audit_events_pkey ON @extschema@.audit_events IS 'No two events can have the same place: a chain cannot fork. Also where the head of a chain is found.';
COMMENT ON CONSTRAINT audit_events_event_id_key ON @extschema@.audit_events IS 'A retried INSERT .. ON CONFLICT DO NOTHING stores its event once.';

-- Triggers fire in the order of their names: this one last, on what will be stored.
CREATE TRIGGER zzz_zeroauth_audit_chain
    BEFORE INSERT ON @extschema@.audit_events
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.chain();
COMMENT ON TRIGGER zzz_zeroauth_audit_chain ON @extschema@.audit_events IS
    'Chains every event; fires in replica role too, and after every other BEFORE trigger.';
CREATE TRIGGER zeroauth_audit_refuse_row
    BEFORE UPDATE OR DELETE ON @extschema@.audit_events
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.refuse_row();
COMMENT ON TRIGGER zeroauth_audit_refuse_row ON @extschema@.audit_events IS
    'Refuses UPDATE and DELETE where no statement trigger fires.';
CREATE TRIGGER zeroauth_audit_refuse_statement
    BEFORE UPDATE OR DELETE OR TRUNCATE ON @extschema@.audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION zeroauth_audit_internal.refuse_statement();
COMMENT ON TRIGGER zeroauth_audit_refuse_statement ON @extschema@.audit_events IS
    'Refuses UPDATE, DELETE and TRUNCATE before a row is looked for.';
ALTER TABLE @extschema@.audit_events ENABLE ALWAYS TRIGGER zzz_zeroauth_audit_chain;
ALTER TABLE @extschema@.audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_row;
ALTER TABLE @extschema@.audit_events ENABLE ALWAYS TRIGGER zeroauth_audit_refuse_statement;

-- pg_dump takes the events along; pg_restore brings them back through the trigger, which checks them.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.audit_events', '');
