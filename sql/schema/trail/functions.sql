-- Functions that the table needs, and the conditions that the database must meet.

DO $$
BEGIN
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'ZA008',
            MESSAGE = pg_catalog.format('zeroauth_audit needs a UTF8 database, this one is %s', pg_catalog.getdatabaseencoding()),
            HINT = 'Create a database with ENCODING ''UTF8'': what is hashed is the stored text.';
    END IF;
END
$$;

CREATE FUNCTION @extschema@.audit_uuid_v7() RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_uuid_v7';
REVOKE ALL ON FUNCTION @extschema@.audit_uuid_v7() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_uuid_v7() IS
    'A new UUID of version 7 (RFC 9562): its first 48 bits are the time in milliseconds. The default of audit_events.event_id; grant EXECUTE to every role that inserts.';

CREATE FUNCTION @extschema@.audit_chain_event() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_chain_event';
REVOKE ALL ON FUNCTION @extschema@.audit_chain_event() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_chain_event() IS
    'Trigger of audit_events: gives an event its place in its tenant''s chain and its hash, or checks the hashes that a restored or replicated event brings.';

CREATE FUNCTION @extschema@.audit_refuse_row() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_refuse_row';
REVOKE ALL ON FUNCTION @extschema@.audit_refuse_row() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_refuse_row() IS
    'Trigger of audit_events: refuses UPDATE and DELETE of a row (SQLSTATE ZA003), in replica role and logical replication too.';

CREATE FUNCTION @extschema@.audit_refuse_statement() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_refuse_statement';
REVOKE ALL ON FUNCTION @extschema@.audit_refuse_statement() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_refuse_statement() IS
    'Trigger of audit_events: refuses and logs UPDATE, DELETE and TRUNCATE (SQLSTATE ZA003).';

CREATE FUNCTION @extschema@.audit_preloaded() RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_preloaded';
REVOKE ALL ON FUNCTION @extschema@.audit_preloaded() FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_preloaded() IS
    'Whether the library is in shared_preload_libraries: without it the DDL guard is not active in every session.';

DO $$
BEGIN
    IF NOT @extschema@.audit_preloaded() THEN
        RAISE WARNING USING
            MESSAGE = 'zeroauth_audit is not in shared_preload_libraries',
            DETAIL = 'Events are chained and rows are guarded, but the DDL guard is not active in every session and progress is not shown.',
            HINT = 'Add zeroauth_audit to shared_preload_libraries and restart the server. audit_guard_status() shows what is active.';
    END IF;
END
$$;
