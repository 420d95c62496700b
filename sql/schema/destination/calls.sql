-- What the calls about destinations and schedules have in common: how views refuse edits, how names, notes and configurations are
-- refused, and what is said about what happens next.

CREATE FUNCTION zeroauth_audit_internal.refuse_edit() RETURNS trigger
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'zeroauth_audit_refuse_edit';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.refuse_edit() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.refuse_edit() IS
    'Trigger of the views that show what the server does: refuses an edit (ZA011) and says which call does what was meant. Arguments: a column that tells rows apart, and what to do instead of INSERT, UPDATE and DELETE, with % for that column.';

CREATE FUNCTION zeroauth_audit_internal.route_config_check(route text, kind text, config jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_route_config_check';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.route_config_check(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.route_config_check(text, text, jsonb) IS
    'Part of audit_alert_route_set(): ZA060, with the name of the field, for a configuration that alerts could not be sent by. Reads the files that it names as the server''s user, and calls nobody.';

CREATE FUNCTION zeroauth_audit_internal.sink_config_check(sink text, kind text, config jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_sink_config_check';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.sink_config_check(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.sink_config_check(text, text, jsonb) IS
    'Part of audit_sink_set(): ZA060, with the name of the field, for a configuration that nothing could be published by. Looks at the files and directories that it names as the server''s user, and calls nobody.';

CREATE FUNCTION zeroauth_audit_internal.target_config_check(target text, kind text, config jsonb) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'zeroauth_audit_target_config_check';
REVOKE ALL ON FUNCTION zeroauth_audit_internal.target_config_check(text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.target_config_check(text, text, jsonb) IS
    'Part of audit_anchor_target_set(): ZA060, with the name of the field, for a configuration that nothing could be anchored by. Reads the files that it names as the server''s user, and calls nobody.';

CREATE FUNCTION zeroauth_audit_internal.require_name(name text, what text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('the name of the %s is NULL', what), HINT = 'Every call is about one, by its name.';
    ELSIF name !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('"%s" cannot be the name of %s %s', left(name, 100), CASE WHEN what ~ '^[aeiou]' THEN 'an' ELSE 'a' END, what),
            HINT = 'A name has 1 to 63 letters, digits, dots, dashes and underscores, and begins with a letter or a digit.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.require_name(text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.require_name(text, text) IS
    'Part of the calls about destinations: ZA009 for what cannot be a name. what: what it would be the name of.';

CREATE FUNCTION zeroauth_audit_internal.require_note(note text, what text, hint text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF coalesce(note, '') !~ '[^[:space:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('%s needs a note', what), HINT = hint;
    END IF;
    RETURN left(note, 2000);
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.require_note(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.require_note(text, text, text) IS
    'Part of the calls that cannot be taken back: the note, at most 2000 characters of it; ZA009 when it is NULL or empty. what: what needs it; hint: what it has to say.';

CREATE FUNCTION zeroauth_audit_internal.unknown_name(name text, what text, hint text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'ZA005', MESSAGE = format('there is no %s "%s"', what, left(name, 100)), HINT = hint;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.unknown_name(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.unknown_name(text, text, text) IS
    'Part of the calls about destinations: raises ZA005 for a name that is not there.';

CREATE FUNCTION zeroauth_audit_internal.say_next(message text, signs boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    obstacle text := CASE
        WHEN NOT zeroauth_audit_internal.preloaded() OR NOT coalesce((SELECT w.enabled FROM zeroauth_audit_internal.worker_status() w), false)
            THEN 'No worker runs in this database: nothing happens before there is one. Look at shared_preload_libraries and zeroauth_audit.worker.'
        WHEN signs AND NOT zeroauth_audit_internal.names_key()
            THEN 'Nothing is signed, and nothing goes there, before zeroauth_audit.checkpoint_key_file names a key.'
        WHEN signs AND zeroauth_audit_internal.jobs_held() = 'no_events'
            THEN 'There is no event yet: it begins with the first.' END;
BEGIN
    IF obstacle IS NULL THEN
        RAISE NOTICE USING MESSAGE = message;
    ELSE
        RAISE NOTICE USING MESSAGE = message, HINT = obstacle;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.say_next(text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.say_next(text, boolean) IS
    'Part of the calls about destinations: a NOTICE of what happens next, and a hint when something stands in its way. signs: whether only what is signed goes there.';

CREATE FUNCTION zeroauth_audit_internal.note_change(action text, severity text, resource text, details jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM zeroauth_audit_internal.append_own(action, severity, resource, jsonb_strip_nulls(details || jsonb_build_object('by', SESSION_USER)));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.note_change(text, text, text, jsonb) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.note_change(text, text, text, jsonb) IS
    'Part of the calls about destinations and schedules: adds an event of who changed what to the trail of the tenant zeroauth_audit. When the trail refuses it, nothing is changed.';
