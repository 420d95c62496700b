-- Functions that the table needs, and the conditions that the database must meet.

-- For the whole script: every name outside of pg_catalog is written with its schema, and no operator or function that somebody put into
-- the extension's schema can be a better match than PostgreSQL's own. Undone at the script's end.
SET LOCAL search_path = pg_catalog, pg_temp;

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

DO $$
BEGIN
    IF pg_catalog.to_regnamespace('zeroauth_audit_internal') IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'ZA013',
            MESSAGE = 'schema "zeroauth_audit_internal" exists already',
            DETAIL = pg_catalog.format('Its owner is "%s".', (SELECT pg_catalog.pg_get_userbyid(n.nspowner) FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'zeroauth_audit_internal')),
            HINT = 'The extension makes it itself: rename or drop that schema.';
    END IF;
END
$$;

-- Whatever schema the extension is created in: what no person calls is here, and nobody but the owner may look inside.
CREATE SCHEMA zeroauth_audit_internal;
REVOKE ALL ON SCHEMA zeroauth_audit_internal FROM PUBLIC;
COMMENT ON SCHEMA zeroauth_audit_internal IS
    'Belongs to the extension zeroauth_audit: its state, and functions that only it calls. For people: SELECT * FROM audit_help().';

CREATE FUNCTION zeroauth_audit_internal.uuid_v7() RETURNS uuid
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_uuid_v7';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.uuid_v7() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.uuid_v7() IS
    'A new UUID of version 7 (RFC 9562): its first 48 bits are the time in milliseconds. As the chaining trigger makes one where event_id is missing.';

CREATE FUNCTION zeroauth_audit_internal.chain() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_chain_event';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.chain() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.chain() IS
    'Trigger of audit_events: gives an event its place in its tenant''s chain and its hash, or checks the hashes that a restored or replicated event brings.';

CREATE FUNCTION zeroauth_audit_internal.refuse_row() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_refuse_row';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.refuse_row() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.refuse_row() IS
    'Trigger of audit_events: refuses UPDATE and DELETE of a row (SQLSTATE ZA003), in replica role and logical replication too.';

CREATE FUNCTION zeroauth_audit_internal.refuse_statement() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_refuse_statement';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.refuse_statement() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.refuse_statement() IS
    'Trigger of audit_events: refuses and logs UPDATE, DELETE and TRUNCATE (SQLSTATE ZA003).';

CREATE FUNCTION zeroauth_audit_internal.preloaded() RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'zeroauth_audit_preloaded';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.preloaded() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.preloaded() IS
    'Whether the library is in shared_preload_libraries: without it the DDL guard is not active in every session.';

DO $$
BEGIN
    IF NOT zeroauth_audit_internal.preloaded() THEN
        RAISE WARNING USING
            MESSAGE = 'zeroauth_audit is not in shared_preload_libraries',
            DETAIL = 'Events are chained and rows are guarded, but the DDL guard is not active in every session and progress is not shown.',
            HINT = 'Add zeroauth_audit to shared_preload_libraries and restart the server. audit_guards() shows what is active.';
    END IF;
END
$$;
