-- The tables that are compared with audit_events. They carry the same bytes: what the trigger would compute is a constant.
CREATE SEQUENCE plain_seq;

-- What a user would write: the columns with their defaults, and both indexes.
CREATE TABLE plain_events (LIKE audit_events INCLUDING DEFAULTS INCLUDING INDEXES);
ALTER TABLE plain_events
    ALTER chain SET DEFAULT 0,
    ALTER seq SET DEFAULT nextval('plain_seq'),
    ALTER recorded_at SET DEFAULT clock_timestamp(),
    ALTER db_role SET DEFAULT session_user,
    ALTER salt SET DEFAULT '\x000102030405060708090a0b0c0d0e0f',
    ALTER prev_hash SET DEFAULT '\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
    ALTER event_hash SET DEFAULT '\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
    ALTER hash_version SET DEFAULT 1,
    ALTER event_id SET DEFAULT gen_random_uuid();

-- The same with a constraint for each rule that the trigger of audit_events checks.
CREATE TABLE checked_events (LIKE plain_events INCLUDING ALL);
ALTER TABLE checked_events
    ADD CHECK (octet_length(tenant_id) BETWEEN 1 AND 128),
    ADD CHECK (chain >= 0),
    ADD CHECK (seq >= 1),
    ADD CHECK (NOT isfinite(occurred_at) OR occurred_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'),
    ADD CHECK (action <> ''),
    ADD CHECK (outcome IN ('success', 'failure', 'denied', 'error')),
    ADD CHECK (severity IN ('info', 'low', 'medium', 'high', 'critical')),
    ADD CHECK (trace_id ~ '^[0-9a-f]{32}$'),
    ADD CHECK (span_id ~ '^[0-9a-f]{16}$'),
    ADD CHECK ((salt IS NULL) = (private_hash IS NOT NULL) AND octet_length(salt) = 16),
    ADD CHECK (private_hash IS NULL OR octet_length(private_hash) = 32 AND num_nonnulls(actor_type, actor_id, ip, user_agent, error_message, details) = 0),
    ADD CHECK (octet_length(prev_hash) = 32),
    ADD CHECK (octet_length(event_hash) = 32),
    ADD CHECK (hash_version = 1);

-- What one writes without the extension: a head row per tenant, locked until commit, and sha256() over the row as text.
CREATE TABLE plpgsql_events (LIKE plain_events INCLUDING ALL);
CREATE TABLE plpgsql_heads (tenant_id text PRIMARY KEY, seq bigint NOT NULL, event_hash bytea NOT NULL);

CREATE FUNCTION plpgsql_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head plpgsql_heads;
BEGIN
    SELECT * INTO head FROM plpgsql_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO plpgsql_heads VALUES (NEW.tenant_id, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM plpgsql_heads WHERE tenant_id = NEW.tenant_id FOR UPDATE;
    END IF;
    NEW.seq := head.seq + 1;
    NEW.prev_hash := head.event_hash;
    NEW.event_hash := sha256(head.event_hash || convert_to(NEW::text, 'UTF8'));
    UPDATE plpgsql_heads SET seq = NEW.seq, event_hash = NEW.event_hash WHERE tenant_id = NEW.tenant_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER chain BEFORE INSERT ON plpgsql_events FOR EACH ROW EXECUTE FUNCTION plpgsql_chain();

-- What the business transactions work on.
CREATE TABLE business_accounts (id integer PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO business_accounts SELECT n, 0 FROM generate_series(1, 100000) n;
CREATE TABLE business_transfers (id bigserial PRIMARY KEY, account integer NOT NULL, amount bigint NOT NULL);
CREATE INDEX ON business_transfers (account);
