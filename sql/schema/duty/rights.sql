-- Who holds what, read from the catalogs each time: nothing of it is stored, so a plain GRANT or REVOKE is seen.

CREATE VIEW zeroauth_audit_internal.granted_rights AS
    WITH ours AS MATERIALIZED (
        SELECT d.classid, d.objid, e.extnamespace, e.extowner FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        WHERE e.extname = 'zeroauth_audit'
    ), relation AS MATERIALIZED (
        SELECT c.oid, c.relowner, c.relacl, o.extowner, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
            CASE WHEN c.relnamespace = o.extnamespace THEN '' ELSE c.relnamespace::regnamespace || '.' END || c.relname AS object
        FROM ours o JOIN pg_catalog.pg_class c ON c.oid = o.objid WHERE o.classid = 'pg_catalog.pg_class'::regclass
    )
    SELECT g.classid, g.objid, g.attnum, g.kind, g.object, g."column", g.owner, x.grantee, x.grantor, x.privilege_type AS privilege, x.is_grantable AS grantable
    FROM (
        SELECT 'pg_catalog.pg_class'::regclass::oid AS classid, r.oid AS objid, 0::smallint AS attnum, r.kind, r.object, NULL::name AS "column", r.relowner AS owner, r.extowner, r.relacl AS acl
        FROM relation r
        UNION ALL
        SELECT 'pg_catalog.pg_class'::regclass::oid, r.oid, a.attnum, r.kind, r.object, a.attname, r.relowner, r.extowner, a.attacl
        FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 'pg_catalog.pg_proc'::regclass::oid, p.oid, 0::smallint, 'FUNCTION',
            CASE WHEN p.pronamespace = o.extnamespace THEN '' ELSE p.pronamespace::regnamespace || '.' END || p.proname || '(' || pg_catalog.oidvectortypes(p.proargtypes) || ')',
            NULL, p.proowner, o.extowner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
        FROM ours o JOIN pg_catalog.pg_proc p ON p.oid = o.objid WHERE o.classid = 'pg_catalog.pg_proc'::regclass
        UNION ALL
        SELECT 'pg_catalog.pg_namespace'::regclass::oid, n.oid, 0::smallint, 'SCHEMA', 'schema ' || n.nspname, NULL, n.nspowner, o.extowner, n.nspacl
        FROM ours o JOIN pg_catalog.pg_namespace n ON n.oid = o.objid WHERE o.classid = 'pg_catalog.pg_namespace'::regclass
    -- The || makes it plain once: aclexplode() would decompress a long list again for each of its rows.
    ) g CROSS JOIN LATERAL pg_catalog.aclexplode(CASE WHEN g.acl IS NOT NULL THEN g.acl || '{}'::aclitem[] END) x
    WHERE x.grantee NOT IN (g.owner, g.extowner);
REVOKE ALL ON TABLE zeroauth_audit_internal.granted_rights FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.granted_rights IS
    'Every right on an object of the extension that somebody else than its owner was granted.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.classid IS 'Catalog of the object.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.objid IS 'The object.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.attnum IS 'Number of the column; 0 for the whole object.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.kind IS 'TABLE (a view, too), SEQUENCE, FUNCTION or SCHEMA, as GRANT calls it.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.object IS 'Its name, as in duty_grants; with the schema, unless it is for people.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.column IS 'Name of the column; NULL for the whole object.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.owner IS 'Its owner.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.grantee IS 'Who was granted it; 0 for PUBLIC.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.grantor IS 'Who granted it.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.privilege IS 'The privilege.';
COMMENT ON COLUMN zeroauth_audit_internal.granted_rights.grantable IS 'Whether it may be passed on.';

CREATE VIEW zeroauth_audit_internal.memberships AS
    WITH RECURSIVE m (member, role) AS (
        SELECT a.member, a.roleid FROM pg_catalog.pg_auth_members a
        UNION
        SELECT m.member, a.roleid FROM m JOIN pg_catalog.pg_auth_members a ON a.member = m.role
    )
    SELECT m.member, m.role FROM m JOIN pg_catalog.pg_roles r ON r.oid = m.member WHERE NOT r.rolsuper;
REVOKE ALL ON TABLE zeroauth_audit_internal.memberships FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.memberships IS
    'Which role is a member of which, directly or not, whether it inherits or has to SET ROLE. Without superusers: they need none.';
COMMENT ON COLUMN zeroauth_audit_internal.memberships.member IS 'The member.';
COMMENT ON COLUMN zeroauth_audit_internal.memberships.role IS 'The role that it is a member of.';

CREATE VIEW zeroauth_audit_internal.included_duties AS
    SELECT a.duty, b.duty AS within
    FROM (SELECT DISTINCT g.duty FROM zeroauth_audit_internal.duty_grants g WHERE g.duty <> 'owner') a
    JOIN (SELECT DISTINCT g.duty FROM zeroauth_audit_internal.duty_grants g WHERE g.duty <> 'owner') b ON a.duty <> b.duty
    WHERE NOT EXISTS (
        SELECT g.object, g.privilege, c.c FROM zeroauth_audit_internal.duty_grants g LEFT JOIN LATERAL pg_catalog.unnest(g.columns) c (c) ON true WHERE g.duty = a.duty
        EXCEPT
        SELECT g.object, g.privilege, c.c FROM zeroauth_audit_internal.duty_grants g LEFT JOIN LATERAL pg_catalog.unnest(g.columns) c (c) ON true WHERE g.duty = b.duty);
REVOKE ALL ON TABLE zeroauth_audit_internal.included_duties FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.included_duties IS
    'Which duty gives nothing that another does not give, too: writer within writer_returning, reader within private_reader.';
COMMENT ON COLUMN zeroauth_audit_internal.included_duties.duty IS 'The smaller duty.';
COMMENT ON COLUMN zeroauth_audit_internal.included_duties.within IS 'The larger one.';

-- A duty is held whole, or in part: at least three quarters of it, of which no whole duty of the role gives some. Less is no duty
-- but grants by hand. What every duty gives says nothing of which it is.
CREATE VIEW zeroauth_audit_internal.held_duties AS
    WITH listed AS MATERIALIZED (
        SELECT r.*, r.object <> 'audit_help(text)' AS telling FROM zeroauth_audit_internal.duty_rights r WHERE r.duty <> 'owner'
    ), needed AS MATERIALIZED (
        SELECT l.duty, count(*) AS rights, count(*) FILTER (WHERE l.telling) AS telling FROM listed l GROUP BY l.duty
    ), held AS MATERIALIZED (
        SELECT DISTINCT g.grantee AS role, g.classid, g.objid, g.attnum, g.privilege FROM zeroauth_audit_internal.granted_rights g WHERE g.grantee <> 0
    ), share AS MATERIALIZED (
        SELECT h.role, l.duty, count(*) AS rights, count(*) FILTER (WHERE l.telling) AS telling
        FROM held h JOIN listed l USING (classid, objid, attnum, privilege) GROUP BY h.role, l.duty
    ), whole AS MATERIALIZED (
        -- Never more; but = would have the planner expect a single row, and nested loops with thousands.
        SELECT s.role, s.duty FROM share s JOIN needed n USING (duty) WHERE s.rights >= n.rights
    ), unexplained AS MATERIALIZED (
        SELECT h.role, h.classid, h.objid, h.attnum, h.privilege FROM held h
        EXCEPT
        SELECT w.role, l.classid, l.objid, l.attnum, l.privilege FROM whole w JOIN listed l USING (duty)
    ), part AS MATERIALIZED (
        SELECT s.role, s.duty, s.telling::numeric / n.telling AS share
        FROM share s JOIN needed n USING (duty)
        WHERE s.rights < n.rights AND s.telling >= 0.75 * n.telling AND n.telling > 0
          AND (s.role, s.duty) IN (SELECT u.role, l.duty FROM unexplained u JOIN listed l USING (classid, objid, attnum, privilege))
    ), included AS MATERIALIZED (
        SELECT i.duty, i.within FROM zeroauth_audit_internal.included_duties i
    ), several AS MATERIALIZED (
        SELECT w.role, pg_catalog.array_agg(w.duty ORDER BY w.duty) AS duties FROM whole w GROUP BY w.role
    ), own AS MATERIALIZED (
        -- Of all that a role has, what others of them do not give together: writer and reader make no writer_returning.
        SELECT s.duties, d.duty FROM (SELECT DISTINCT m.duties FROM several m) s CROSS JOIN LATERAL pg_catalog.unnest(s.duties) d (duty)
        WHERE EXISTS (
            SELECT l.classid, l.objid, l.attnum, l.privilege FROM listed l WHERE l.duty = d.duty
            EXCEPT
            SELECT l.classid, l.objid, l.attnum, l.privilege FROM listed l
            WHERE l.duty = ANY (s.duties) AND l.duty <> d.duty AND l.duty NOT IN (SELECT i.within FROM included i WHERE i.duty = d.duty))
    ), named AS MATERIALIZED (
        SELECT o.duties, pg_catalog.array_agg(o.duty) AS fewest FROM own o
        WHERE NOT EXISTS (SELECT 1 FROM own p JOIN included i ON i.within = p.duty WHERE p.duties = o.duties AND i.duty = o.duty)
        GROUP BY o.duties
    )
    SELECT s.role, d.duty, true AS whole, d.duty = ANY (n.fewest) AS named
    FROM several s JOIN named n USING (duties) CROSS JOIN LATERAL pg_catalog.unnest(s.duties) d (duty)
    UNION ALL
    -- Of two of which one includes the other: the one that is nearer.
    SELECT p.role, p.duty, false, NOT EXISTS (
        SELECT 1 FROM part o JOIN included i ON (i.duty, i.within) IN ((p.duty, o.duty), (o.duty, p.duty))
        WHERE o.role = p.role AND (o.share > p.share OR o.share = p.share AND o.duty = i.duty))
    FROM part p;
REVOKE ALL ON TABLE zeroauth_audit_internal.held_duties FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.held_duties IS
    'Which duties a role was granted itself, whole or in part.';
COMMENT ON COLUMN zeroauth_audit_internal.held_duties.role IS 'The role.';
COMMENT ON COLUMN zeroauth_audit_internal.held_duties.duty IS 'The duty.';
COMMENT ON COLUMN zeroauth_audit_internal.held_duties.whole IS 'Whether it has all of it.';
COMMENT ON COLUMN zeroauth_audit_internal.held_duties.named IS 'Whether it is one of the fewest duties that say what the role has: others of them do not give all of it.';

CREATE VIEW zeroauth_audit_internal.rights_beyond AS
    WITH held AS MATERIALIZED (
        SELECT h.role, h.duty FROM zeroauth_audit_internal.held_duties h WHERE h.named
    ), explained AS MATERIALIZED (
        SELECT h.role, r.classid, r.objid, r.attnum, r.privilege FROM held h JOIN zeroauth_audit_internal.duty_rights r USING (duty)
    ), by_grant AS MATERIALIZED (
        SELECT p.grantee AS role,
            pg_catalog.format('%s on %s%s, granted by %s', pg_catalog.string_agg(p.privilege, ', ' ORDER BY p.privilege), p.object,
                CASE WHEN p.grantable THEN ' with grant option' END, pg_catalog.pg_get_userbyid(p.grantor)) AS what
        FROM (
            SELECT g.grantee, g.grantor, g.grantable, g.object,
                g.privilege || coalesce(' (' || pg_catalog.string_agg(g."column", ', ' ORDER BY g.attnum) || ')', '') AS privilege
            FROM zeroauth_audit_internal.granted_rights g
            LEFT JOIN explained e ON e.role = g.grantee AND (e.classid, e.objid, e.attnum, e.privilege) = (g.classid, g.objid, g.attnum, g.privilege)
            WHERE e.role IS NULL OR g.grantable
            GROUP BY g.grantee, g.grantor, g.grantable, g.object, g.privilege, g.attnum = 0
        ) p GROUP BY p.grantee, p.grantor, p.grantable, p.object
    ), by_role AS MATERIALIZED (
        SELECT b.role, b.what FROM by_grant b
        UNION ALL
        SELECT r.oid, a.what FROM pg_catalog.pg_roles r CROSS JOIN LATERAL (VALUES
            (CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END), (CASE WHEN r.rolreplication THEN 'REPLICATION' END),
            -- Before 16 it makes itself a member of every role but superusers.
            (CASE WHEN r.rolcreaterole AND pg_catalog.current_setting('server_version_num')::integer < 160000 THEN 'CREATEROLE' END)) a (what)
        WHERE a.what IS NOT NULL AND NOT r.rolsuper
        UNION ALL
        SELECT c.relowner, 'owner of ' || c.relname
        FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
        JOIN pg_catalog.pg_roles r ON r.oid = c.relowner AND NOT r.rolsuper
        WHERE e.extname = 'zeroauth_audit' AND c.relowner <> e.extowner
    )
    SELECT b.role, b.what FROM by_role b
    UNION ALL
    SELECT m.member, b.what || ', as a member of ' || pg_catalog.pg_get_userbyid(m.role) FROM zeroauth_audit_internal.memberships m JOIN by_role b ON b.role = m.role
    UNION ALL
    SELECT m.member, 'member of ' || r.rolname
    FROM zeroauth_audit_internal.memberships m JOIN pg_catalog.pg_roles r ON r.oid = m.role
    WHERE r.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_maintain', 'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program');
REVOKE ALL ON TABLE zeroauth_audit_internal.rights_beyond FROM PUBLIC;
COMMENT ON VIEW zeroauth_audit_internal.rights_beyond IS
    'What a role can do to the trail and what belongs to it that none of its duties gives.';
COMMENT ON COLUMN zeroauth_audit_internal.rights_beyond.role IS 'The role; 0 for PUBLIC.';
COMMENT ON COLUMN zeroauth_audit_internal.rights_beyond.what IS 'What it is, and where it comes from.';
