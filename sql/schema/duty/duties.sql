-- Who has which duty: for people.

CREATE VIEW @extschema@.audit_duties AS
    WITH extension AS MATERIALIZED (
        SELECT e.extowner, e.extnamespace FROM pg_catalog.pg_extension e WHERE e.extname = 'zeroauth_audit'
    ), held AS MATERIALIZED (
        SELECT h.role, h.duty, h.whole FROM zeroauth_audit_internal.held_duties h WHERE h.named
    ), lacking AS MATERIALIZED (
        SELECT l.role, l.duty, pg_catalog.string_agg(l.what, ', ' ORDER BY l.what) AS missing
        FROM (
            SELECT h.role, h.duty,
                CASE WHEN r.privilege = 'EXECUTE' THEN r.object
                     ELSE r.privilege || coalesce(' (' || pg_catalog.string_agg(r."column", ', ' ORDER BY r.attnum) || ')', '') || ' on ' || r.object END AS what
            FROM held h JOIN zeroauth_audit_internal.duty_rights r USING (duty)
            LEFT JOIN zeroauth_audit_internal.granted_rights g ON (g.grantee, g.classid, g.objid, g.attnum, g.privilege) = (h.role, r.classid, r.objid, r.attnum, r.privilege)
            WHERE NOT h.whole AND g.grantee IS NULL
            GROUP BY h.role, h.duty, r.object, r.privilege, r.attnum = 0
            UNION ALL
            SELECT h.role, h.duty, 'USAGE on schema ' || e.extnamespace::regnamespace
            FROM held h CROSS JOIN extension e WHERE NOT pg_catalog.has_schema_privilege(h.role, e.extnamespace, 'USAGE')
        ) l GROUP BY l.role, l.duty
    ), named (role, duty, how, until, missing) AS MATERIALIZED (
        SELECT r.oid, 'owner', CASE WHEN r.rolsuper THEN 'superuser' ELSE 'owner' END, NULL::timestamptz, NULL
        FROM pg_catalog.pg_roles r CROSS JOIN extension e WHERE r.rolsuper OR r.oid = e.extowner
        UNION ALL
        SELECT m.member, 'owner', 'member of ' || r.rolname, NULL, NULL
        FROM zeroauth_audit_internal.memberships m JOIN pg_catalog.pg_roles r ON r.oid = m.role CROSS JOIN extension e WHERE r.rolsuper OR r.oid = e.extowner
        UNION ALL
        SELECT h.role, h.duty, CASE WHEN l.missing IS NULL THEN 'granted' ELSE 'part' END, d.until, l.missing
        FROM held h LEFT JOIN lacking l USING (role, duty) LEFT JOIN zeroauth_audit_internal.duty_ends d ON d.role_oid = h.role AND d.duty = h.duty
        UNION ALL
        SELECT m.member, h.duty, 'member of ' || r.rolname, d.until, l.missing
        FROM zeroauth_audit_internal.memberships m JOIN held h ON h.role = m.role JOIN pg_catalog.pg_roles r ON r.oid = m.role
        LEFT JOIN lacking l ON l.role = h.role AND l.duty = h.duty LEFT JOIN zeroauth_audit_internal.duty_ends d ON d.role_oid = h.role AND d.duty = h.duty
    ), more AS MATERIALIZED (
        SELECT b.role, pg_catalog.string_agg(b.what, '; ' ORDER BY b.what) AS beyond FROM zeroauth_audit_internal.rights_beyond b GROUP BY b.role
    )
    SELECT CASE WHEN coalesce(n.role, m.role) = 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(coalesce(n.role, m.role))::text END AS role,
        n.duty, n.how, n.until, m.beyond, n.missing
    FROM named n FULL JOIN more m ON m.role = n.role
    ORDER BY 1, 2, 3;
REVOKE ALL ON TABLE @extschema@.audit_duties FROM PUBLIC;
COMMENT ON VIEW @extschema@.audit_duties IS
    'Who has which duty, and who can do more than that. Read from the catalogs at this moment: grants and memberships made by hand are seen.';
COMMENT ON COLUMN @extschema@.audit_duties.role IS 'The role, or PUBLIC.';
COMMENT ON COLUMN @extschema@.audit_duties.duty IS 'Its duty; owner for who may do everything; NULL for a role that has none and can do something all the same.';
COMMENT ON COLUMN @extschema@.audit_duties.how IS 'granted; part, when something of the duty is missing; member of another role; superuser; owner.';
COMMENT ON COLUMN @extschema@.audit_duties.until IS 'When the job duties takes it back; NULL for never.';
COMMENT ON COLUMN @extschema@.audit_duties.beyond IS 'What the role can do beyond all its duties, and through which grant, membership or attribute; the same in each row of the role. NULL: nothing.';
COMMENT ON COLUMN @extschema@.audit_duties.missing IS 'What of the duty it lacks; NULL: nothing.';
