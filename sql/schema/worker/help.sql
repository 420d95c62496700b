-- What there is to call, and for whom: from the catalogs, so that it is never out of date.

CREATE FUNCTION zeroauth_audit_internal.help_duty(object text) RETURNS text
    LANGUAGE sql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(d.duty, ', ' ORDER BY d.place)
    FROM (
        SELECT g.duty, min(array_position(ARRAY['writer', 'writer_returning', 'reader', 'private_reader', 'auditor', 'monitor', 'operator', 'owner'], g.duty)) AS place
        FROM zeroauth_audit_internal.duty_grants g WHERE g.object = help_duty.object GROUP BY g.duty
    ) d WHERE d.place IS NOT NULL
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.help_duty(text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.help_duty(text) IS
    'Part of audit_help(): the duties that give a function (name and types of its arguments) or a relation, the least of them first.';

CREATE FUNCTION zeroauth_audit_internal.help(topic text, role oid) RETURNS TABLE (call text, purpose text, duty text, yours boolean)
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER ROWS 50
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH ext AS (
        SELECT e.oid, e.extnamespace, e.extversion, has_schema_privilege(help.role, e.extnamespace, 'USAGE') AS open FROM pg_extension e WHERE e.extname = 'zeroauth_audit'
    ), thing AS (
        SELECT p.proname::text AS name, format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)) AS object,
            format('%s(%s)', p.proname, array_to_string(CASE WHEN p.pronargs <= 3 THEN p.proargnames[1:p.pronargs]
                ELSE p.proargnames[1:p.pronargs - p.pronargdefaults] || CASE WHEN p.pronargdefaults > 0 THEN ARRAY['..'] END END, ', ')) AS call,
            obj_description(p.oid, 'pg_proc') AS said, ext.open AND has_function_privilege(help.role, p.oid, 'EXECUTE') AS yours
        FROM ext JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext.oid AND d.deptype = 'e'
        JOIN pg_proc p ON p.oid = d.objid AND p.pronamespace = ext.extnamespace AND p.prorettype <> 'trigger'::regtype
        UNION ALL
        SELECT c.relname::text, c.relname::text, c.relname::text, obj_description(c.oid, 'pg_class'),
            ext.open AND (has_any_column_privilege(help.role, c.oid, 'SELECT') OR has_any_column_privilege(help.role, c.oid, 'INSERT'))
        FROM ext JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext.oid AND d.deptype = 'e'
        JOIN pg_class c ON c.oid = d.objid AND c.relnamespace = ext.extnamespace AND c.relkind IN ('r', 'v')
    ), sentences AS (
        SELECT t.*, substring(t.said FROM '^.*?[.?!](?= |$)') AS sentence, zeroauth_audit_internal.help_duty(t.object) AS duty FROM thing t
    ), fitting AS (
        SELECT t.*, CASE WHEN help.topic IS NULL OR strpos(t.name, lower(help.topic)) > 0 OR help.topic = ANY (string_to_array(t.duty, ', ')) THEN 1
                         WHEN strpos(lower(t.said), lower(help.topic)) > 0 THEN 2 END AS fits
        FROM sentences t
    )
    SELECT x.call, x.purpose, x.duty, x.yours FROM (
        SELECT 0 AS place, '' AS name, format('zeroauth_audit %s', ext.extversion) AS call,
            CASE WHEN ext.extversion = zeroauth_audit_internal.library_version() THEN 'Its version. How it is: SELECT * FROM audit_status().'
                 ELSE format('Its version; the library is %s.', zeroauth_audit_internal.library_version()) END AS purpose, NULL::text AS duty, NULL::boolean AS yours
        FROM ext WHERE help.topic IS NULL
        UNION ALL
        SELECT 1, a.name, a.call, CASE WHEN length(a.sentence) > 60 THEN left(a.sentence, 58) || '..' ELSE a.sentence END, a.duty, a.yours
        FROM fitting a WHERE a.fits = (SELECT min(b.fits) FROM fitting b)
    ) x ORDER BY x.place, x.name;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.help(text, oid) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.help(text, oid) IS
    'What audit_help() gives to a role.';

-- SECURITY INVOKER: it looks at the caller, and hands over to help.
CREATE FUNCTION @extschema@.audit_help(topic text DEFAULT NULL) RETURNS TABLE (call text, purpose text, duty text, yours boolean)
    LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 50
    AS 'MODULE_PATHNAME', 'zeroauth_audit_help';
REVOKE ALL ON FUNCTION @extschema@.audit_help(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_help(text) IS
    'What there is to call, and what you may call. topic: a part of a name (alert), a duty (auditor), or, where no name fits, a word of the descriptions; NULL for everything, and the version first. call: with the names of its arguments; of more than three, .. stands for those that may be left out. purpose: the first sentence of its COMMENT, which says the rest. duty: what audit_grant() must give for it. yours: whether the current role may call it. Raises nothing.';
