-- Giving duties and taking them back.

CREATE FUNCTION zeroauth_audit_internal.duty_role(role text, duty text) RETURNS oid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_role oid;
BEGIN
    IF duty_role.role IS NULL OR duty_role.duty IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('%s is NULL', CASE WHEN duty_role.role IS NULL THEN 'role' ELSE 'duty' END),
            HINT = 'Name a role and a duty.';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA012', MESSAGE = 'this server is a standby',
            DETAIL = 'It has the duties of the primary.', HINT = 'Call this on the primary.';
    END IF;
    IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.duty_grants g WHERE g.duty = duty_role.duty AND g.duty <> 'owner') THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA012', MESSAGE = format('there is no duty "%s"', duty_role.duty),
            DETAIL = CASE duty_role.duty WHEN 'owner' THEN 'What the owner of the extension may do cannot be granted.' ELSE 'Names are compared letter for letter.' END,
            HINT = 'The duties: writer, writer_returning, reader, private_reader, auditor, monitor, operator.';
    END IF;
    SELECT r.oid INTO found_role FROM pg_roles r WHERE r.rolname = duty_role.role;
    IF NOT FOUND THEN
        IF lower(duty_role.role) = 'public' THEN
            RAISE EXCEPTION USING ERRCODE = 'ZA012', MESSAGE = 'PUBLIC is no role',
                DETAIL = 'Every role would have the duty, and every one that is made later.', HINT = 'Grant the duty to a role, and that role to others.';
        END IF;
        RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('role "%s" does not exist', duty_role.role),
            HINT = 'Names are compared letter for letter. CREATE ROLE makes one.';
    END IF;
    IF starts_with(duty_role.role, 'pg_') THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA012', MESSAGE = format('"%s" is a role of PostgreSQL itself', duty_role.role),
            DETAIL = 'Who is a member of it was not decided for this extension.', HINT = 'Grant the duty to a role of your own.';
    END IF;
    RETURN found_role;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.duty_role(text, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.duty_role(text, text) IS
    'The role of that name, if it can have that duty. ZA009 for NULL; ZA012 for an unknown duty, PUBLIC, a role of PostgreSQL itself, and on a standby; 42704 for an unknown role.';

CREATE FUNCTION zeroauth_audit_internal.grant_statements(verb text, role oid, duty text) RETURNS TABLE (statement text, rights integer)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('%s %s%s ON %s %s %s %I%s', grant_statements.verb, r.privilege, ' (' || string_agg(quote_ident(r."column"), ', ' ORDER BY r.attnum) || ')',
            CASE WHEN r.classid = 'pg_proc'::regclass THEN 'FUNCTION' ELSE 'TABLE' END,
            CASE WHEN r.classid = 'pg_proc'::regclass THEN r.objid::regprocedure::text ELSE r.objid::regclass::text END,
            CASE grant_statements.verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, pg_get_userbyid(grant_statements.role),
            CASE grant_statements.verb WHEN 'GRANT' THEN '' ELSE ' CASCADE' END),
        count(*)::integer
    FROM zeroauth_audit_internal.duty_rights r
    LEFT JOIN zeroauth_audit_internal.granted_rights g
        ON (g.classid, g.objid, g.attnum, g.privilege, g.grantee) = (r.classid, r.objid, r.attnum, r.privilege, grant_statements.role) AND g.grantor = g.owner
    WHERE r.duty = grant_statements.duty
      AND (g.objid IS NULL) = (grant_statements.verb = 'GRANT')
      -- What another duty of the role gives stays, unless that is but a part of this one.
      AND (grant_statements.verb = 'GRANT' OR NOT EXISTS (
          SELECT 1 FROM zeroauth_audit_internal.held_duties h JOIN zeroauth_audit_internal.duty_rights o USING (duty)
          WHERE h.role = grant_statements.role AND h.named AND h.duty <> grant_statements.duty
            AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.included_duties i WHERE i.duty = h.duty AND i.within = grant_statements.duty)
            AND (o.classid, o.objid, o.attnum, o.privilege) = (r.classid, r.objid, r.attnum, r.privilege)))
    GROUP BY r.classid, r.objid, r.privilege, r.attnum = 0
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.grant_statements(text, oid, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.grant_statements(text, oid, text) IS
    'Statements that give a role what it lacks of a duty (verb GRANT), or take what it was granted of it by the owner and no other duty gives (REVOKE); and how many rights each is about.';

CREATE FUNCTION zeroauth_audit_internal.give_duty(role oid, duty text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    given integer := 0;
    schema oid := (SELECT e.extnamespace FROM pg_extension e WHERE e.extname = 'zeroauth_audit');
BEGIN
    FOR s IN SELECT * FROM zeroauth_audit_internal.grant_statements('GRANT', give_duty.role, give_duty.duty) LOOP
        EXECUTE s.statement;
        given := given + s.rights;
    END LOOP;
    IF NOT has_schema_privilege(give_duty.role, schema, 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO %I', schema::regnamespace, pg_get_userbyid(give_duty.role));
        given := given + 1;
    END IF;
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.give_duty(oid, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.give_duty(oid, text) IS
    'Grants what a role lacks of a duty, USAGE on the schema of the extension included. Returns how many rights.';

CREATE FUNCTION zeroauth_audit_internal.take_duty(role oid, duty text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
    taken integer := 0;
    kept text[];
    again text;
BEGIN
    -- REVOKE of a table takes the columns along, which another duty may have given.
    SELECT coalesce(array_agg(format('GRANT %s (%I) ON TABLE %s TO %I', g.privilege, g."column", g.objid::regclass, pg_get_userbyid(g.grantee))), '{}') INTO kept
    FROM zeroauth_audit_internal.held_duties h
    JOIN zeroauth_audit_internal.duty_rights r USING (duty)
    JOIN zeroauth_audit_internal.granted_rights g USING (classid, objid, attnum, privilege)
    WHERE h.role = take_duty.role AND h.named AND g.grantee = take_duty.role AND r.attnum <> 0 AND h.duty <> take_duty.duty
      AND NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.included_duties i WHERE i.duty = h.duty AND i.within = take_duty.duty);
    FOR s IN SELECT * FROM zeroauth_audit_internal.grant_statements('REVOKE', take_duty.role, take_duty.duty) LOOP
        EXECUTE s.statement;
        taken := taken + s.rights;
    END LOOP;
    FOREACH again IN ARRAY kept LOOP
        EXECUTE again;
    END LOOP;
    DELETE FROM zeroauth_audit_internal.duty_ends e
    WHERE e.role_oid = take_duty.role
      AND (e.duty = take_duty.duty OR e.duty IN (SELECT i.duty FROM zeroauth_audit_internal.included_duties i WHERE i.within = take_duty.duty));
    RETURN taken;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.take_duty(oid, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.take_duty(oid, text) IS
    'Revokes what a role was granted of a duty, as far as no other duty of it gives that, and forgets its end. What the role passed on goes with it. Returns how many rights.';

CREATE FUNCTION zeroauth_audit_internal.duty_notices(role oid, duty text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    what text;
BEGIN
    FOR what IN
        SELECT format('has the duty %s, granted', h.duty) FROM zeroauth_audit_internal.held_duties h WHERE h.role = duty_notices.role AND h.named AND h.duty <> duty_notices.duty
        UNION ALL
        SELECT format('has the duty %s as a member of "%s"', h.duty, pg_get_userbyid(m.role))
        FROM zeroauth_audit_internal.memberships m JOIN zeroauth_audit_internal.held_duties h ON h.role = m.role AND h.named WHERE m.member = duty_notices.role
        UNION ALL
        SELECT 'can do: ' || b.what FROM zeroauth_audit_internal.rights_beyond b WHERE b.role = duty_notices.role
        ORDER BY 1
    LOOP
        RAISE NOTICE '"%" also %', pg_get_userbyid(duty_notices.role), what;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.duty_notices(oid, text) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.duty_notices(oid, text) IS
    'A NOTICE for each thing that a role has or can do besides a duty.';

CREATE FUNCTION @extschema@.audit_grant(role text, duty text, until timestamptz DEFAULT NULL) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner oid := (SELECT e.extowner FROM pg_extension e WHERE e.extname = 'zeroauth_audit');
    who oid;
    super boolean;
    given integer;
    before timestamptz;
    result text;
BEGIN
    -- First of all: who is not the owner cannot look into the schema zeroauth_audit_internal.
    IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA012', MESSAGE = format('"%s" is not the owner of zeroauth_audit', current_user),
            HINT = format('Ask "%s" or a superuser.', pg_get_userbyid(owner));
    END IF;
    who := zeroauth_audit_internal.duty_role(audit_grant.role, audit_grant.duty);
    SELECT r.rolsuper INTO super FROM pg_roles r WHERE r.oid = who;
    IF super THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA012', MESSAGE = 'a superuser needs no duty',
            DETAIL = format('"%s" can do everything, so a duty would say less than the truth.', audit_grant.role),
            HINT = 'Grant the duty to a role that is no superuser.';
    ELSIF pg_has_role(who, owner, 'MEMBER') THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA012',
            MESSAGE = CASE WHEN who = owner THEN format('"%s" is the owner', audit_grant.role)
                           ELSE format('"%s" is a member of the owner "%s"', audit_grant.role, pg_get_userbyid(owner)) END,
            DETAIL = 'The owner of the extension can do everything with it, so a duty would say less than the truth.',
            HINT = 'Grant the duty to a role that is neither.';
    END IF;
    IF audit_grant.until <= clock_timestamp() OR NOT isfinite(audit_grant.until) THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA009', MESSAGE = format('until is not a time in the future: %s', audit_grant.until),
            HINT = 'Leave it out for a duty without an end; audit_revoke() ends one now.';
    END IF;

    PERFORM zeroauth_audit_internal.duties_lock();
    SELECT e.until INTO before FROM zeroauth_audit_internal.duty_ends e WHERE e.role_oid = who AND e.duty = audit_grant.duty;
    given := zeroauth_audit_internal.give_duty(who, audit_grant.duty);
    result := CASE WHEN given > 0 THEN 'granted' WHEN before IS DISTINCT FROM audit_grant.until THEN 'changed' ELSE 'unchanged' END;
    IF before IS DISTINCT FROM audit_grant.until THEN
        DELETE FROM zeroauth_audit_internal.duty_ends e WHERE e.role_oid = who AND e.duty = audit_grant.duty;
        INSERT INTO zeroauth_audit_internal.duty_ends (role, duty, until) SELECT audit_grant.role, audit_grant.duty, audit_grant.until WHERE audit_grant.until IS NOT NULL;
        PERFORM zeroauth_audit_internal.duty_ends_plan();
    END IF;
    IF result <> 'unchanged' THEN
        PERFORM zeroauth_audit_internal.append_own('duty.granted', 'medium', 'role/' || audit_grant.role,
            jsonb_build_object('role', audit_grant.role, 'duty', audit_grant.duty, 'by', session_user, 'until', audit_grant.until));
    END IF;
    IF audit_grant.until IS NOT NULL THEN
        RAISE NOTICE '"%" has the duty % until %', audit_grant.role, audit_grant.duty, audit_grant.until;
        IF NOT zeroauth_audit_internal.preloaded() THEN
            RAISE WARNING USING MESSAGE = 'nothing runs here that would end the duty',
                HINT = 'Add zeroauth_audit to shared_preload_libraries and restart the server, or call audit_revoke() in time.';
        END IF;
    ELSIF before IS NOT NULL THEN
        RAISE NOTICE '"%" has the duty % without an end; it was to end %', audit_grant.role, audit_grant.duty, before;
    END IF;
    PERFORM zeroauth_audit_internal.duty_notices(who, audit_grant.duty);
    RETURN result;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_grant(text, text, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_grant(text, text, timestamptz) IS
    'Gives a role a duty: writer, writer_returning, reader, private_reader, auditor, monitor or operator. until: when the job duties takes it back, NULL for never. Returns granted, changed (another end) or unchanged; a NOTICE for each thing that the role can do besides. For the owner of the extension and superusers. ZA012 for PUBLIC, roles of PostgreSQL itself, superusers, members of the owner, an unknown duty, other callers, and on a standby; ZA009 for NULL or an end that is not in the future; 42704 for an unknown role.';

CREATE FUNCTION @extschema@.audit_revoke(role text, duty text) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner oid := (SELECT e.extowner FROM pg_extension e WHERE e.extname = 'zeroauth_audit');
    who oid;
    whole text[];
    lost text;
    taken integer;
BEGIN
    -- As in audit_grant().
    IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'ZA012', MESSAGE = format('"%s" is not the owner of zeroauth_audit', current_user),
            HINT = format('Ask "%s" or a superuser.', pg_get_userbyid(owner));
    END IF;
    who := zeroauth_audit_internal.duty_role(audit_revoke.role, audit_revoke.duty);
    PERFORM zeroauth_audit_internal.duties_lock();
    whole := ARRAY(SELECT h.duty FROM zeroauth_audit_internal.held_duties h WHERE h.role = who AND h.whole AND h.duty <> audit_revoke.duty ORDER BY 1);
    taken := zeroauth_audit_internal.take_duty(who, audit_revoke.duty);
    FOREACH lost IN ARRAY whole LOOP
        IF NOT EXISTS (SELECT 1 FROM zeroauth_audit_internal.held_duties h WHERE h.role = who AND h.whole AND h.duty = lost) THEN
            RAISE NOTICE USING MESSAGE = format('with that "%s" has no longer all of the duty %s', audit_revoke.role, lost),
                HINT = format('If it is to have that duty: SELECT audit_grant(%L, %L);', audit_revoke.role, lost);
        END IF;
    END LOOP;
    IF taken > 0 THEN
        PERFORM zeroauth_audit_internal.append_own('duty.revoked', 'medium', 'role/' || audit_revoke.role,
            jsonb_build_object('role', audit_revoke.role, 'duty', audit_revoke.duty, 'by', session_user));
    END IF;
    PERFORM zeroauth_audit_internal.duty_notices(who, audit_revoke.duty);
    RETURN CASE WHEN taken > 0 THEN 'revoked' ELSE 'unchanged' END;
END
$$;
REVOKE ALL ON FUNCTION @extschema@.audit_revoke(text, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.audit_revoke(text, text) IS
    'Takes a duty back, as far as no other duty of the role gives the same. One that the duty includes goes with it (reader with private_reader, writer with writer_returning), and so does one that it made whole, each with a NOTICE. Returns revoked or unchanged; a NOTICE for each thing that the role still has, as a member of another role or by hand. USAGE on the schema of the extension stays. For the owner of the extension and superusers; errors as audit_grant().';
