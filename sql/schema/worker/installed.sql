-- The last of the install script: the one thing that it says.

DO $$
BEGIN
    -- CREATE EXTENSION silences notices of scripts; what the role, the database or the server has set decides.
    PERFORM pg_catalog.set_config('client_min_messages', s.reset_val, true) FROM pg_catalog.pg_settings s WHERE s.name OPERATOR(pg_catalog.=) 'client_min_messages';
    RAISE NOTICE USING
        MESSAGE = pg_catalog.format('zeroauth_audit %s: events are chained and guarded; nothing leaves this server yet',
            (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'zeroauth_audit')),
        HINT = 'SELECT * FROM audit_status() shows what is missing.';
END
$$;
