-- What happens to duties by itself: they end, they grow with the extension, and nothing else is given.

CREATE FUNCTION zeroauth_audit_internal.job_duties() RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    e record;
    ended integer := 0;
    problems jsonb := '{}';
BEGIN
    PERFORM zeroauth_audit_internal.duties_lock();
    FOR e IN SELECT d.* FROM zeroauth_audit_internal.duty_ends d WHERE d.until <= clock_timestamp() ORDER BY d.until, d.role, d.duty LOOP
        -- One that cannot be ended keeps no other from ending.
        BEGIN
            PERFORM zeroauth_audit_internal.take_duty(e.role_oid, e.duty);
            DELETE FROM zeroauth_audit_internal.duty_ends d WHERE d.role = e.role AND d.duty = e.duty;
            PERFORM zeroauth_audit_internal.append_own('duty.ended', 'info', 'role/' || e.role,
                jsonb_build_object('role', e.role, 'duty', e.duty, 'until', e.until));
            ended := ended + 1;
        EXCEPTION WHEN OTHERS THEN
            problems := problems || jsonb_build_object(e.duty || ' of ' || e.role, SQLSTATE || ' ' || SQLERRM);
        END;
    END LOOP;
    IF problems <> '{}' THEN
        PERFORM zeroauth_audit_internal.raise_alert('job_failed', 2::smallint, NULL, 'job_failed:duties', 'the job duties could not take back every duty that ended', problems);
    ELSE
        PERFORM zeroauth_audit_internal.resolve_alert('job_failed:duties', 'every duty that ended was taken back');
    END IF;
    PERFORM zeroauth_audit_internal.duty_ends_plan();
    RETURN jsonb_build_object('more', false, 'done', jsonb_build_object('duties_ended', ended));
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.job_duties() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.job_duties() IS
    'The job duties: takes back duties that have ended, each an event duty.ended; an alert job_failed when one cannot be taken back.';
INSERT INTO zeroauth_audit_internal.jobs (name, schedule, timeout) VALUES ('duties', '29 * * * *', '10 minutes');

CREATE FUNCTION zeroauth_audit_internal.take_default_grants(objects text[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
    taken integer := 0;
BEGIN
    FOR g IN
        SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS grantee, count(*) AS objects,
            string_agg(format('REVOKE ALL ON %s %s FROM %s CASCADE', x.kind, x.name, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END), '; ') AS statements
        FROM (
            SELECT DISTINCT r.grantee, r.kind, CASE r.kind WHEN 'FUNCTION' THEN r.objid::regprocedure::text WHEN 'SCHEMA' THEN r.objid::regnamespace::text ELSE r.objid::regclass::text END AS name
            FROM zeroauth_audit_internal.granted_rights r
            WHERE take_default_grants.objects IS NULL OR r.object = ANY (take_default_grants.objects)
        ) x GROUP BY x.grantee
    LOOP
        EXECUTE g.statements;
        taken := taken + g.objects;
        -- Not a NOTICE: CREATE EXTENSION shows none.
        RAISE WARNING USING MESSAGE = format('default privileges gave %s rights on %s objects of zeroauth_audit; they are taken back', g.grantee, g.objects),
            HINT = 'Rights on the trail are given by audit_grant().';
    END LOOP;
    RETURN taken;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.take_default_grants(text[]) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.take_default_grants(text[]) IS
    'Called by the scripts of the extension: takes back what default privileges of the database gave others on new objects, named as in granted_rights; NULL for all there are. Returns on how many, counted for each role.';

CREATE FUNCTION zeroauth_audit_internal.duties_complete(added text[]) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    h record;
    given integer := 0;
BEGIN
    PERFORM zeroauth_audit_internal.duties_lock();
    -- Before the loop: what default privileges gave is no part of a duty.
    PERFORM zeroauth_audit_internal.take_default_grants(duties_complete.added);
    FOR h IN
        SELECT g.grantee, r.duty
        FROM (SELECT DISTINCT x.grantee, x.classid, x.objid, x.attnum, x.privilege FROM zeroauth_audit_internal.granted_rights x WHERE x.grantee <> 0) g
        JOIN zeroauth_audit_internal.duty_rights r USING (classid, objid, attnum, privilege)
        WHERE r.object <> ALL (duties_complete.added) AND r.duty <> 'owner'
        GROUP BY g.grantee, r.duty
        HAVING count(*) = (
            SELECT count(*) FROM zeroauth_audit_internal.duty_rights n WHERE n.duty = r.duty AND n.object <> ALL (duties_complete.added))
           AND bool_or(r.object <> 'audit_help(text)')
    LOOP
        given := given + zeroauth_audit_internal.give_duty(h.grantee, h.duty);
    END LOOP;
    RETURN given;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.duties_complete(text[]) FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.duties_complete(text[]) IS
    'Called by update scripts with the names of the objects that they added, as in granted_rights: takes back what default privileges gave on them, and grants what duties give, to roles that have the rest of the duty whole. Returns how many rights.';
