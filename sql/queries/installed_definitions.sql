-- What the catalogs say of everything that belongs to the extension: object, part, value. A part that is only there when something
-- deviates (owner, schema, granted, ..) has no line otherwise. What anybody may change is left out: comments, statistics targets,
-- storage, policies of audit_events, tablespaces, ordinary grants. Indexes are all here: those that are not the version's own are ignored
-- later, unless they refuse rows or run code ("enforces"). Strangers are what stands beside: a call could reach it instead.
-- What people call is named audit_.. and is in the schema of the extension; everything else is in zeroauth_audit_internal.
-- Run with search_path = pg_catalog, pg_temp, so that whatever is elsewhere is written with its schema.
WITH ext AS MATERIALIZED (
    SELECT e.* FROM pg_extension e WHERE e.extname = 'zeroauth_audit'
), member AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_depend d, ext
    WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext.oid AND d.deptype = 'e'
), rel AS MATERIALIZED (
    SELECT c.*, c.relname = 'audit_events' AND c.relkind = 'r' AS trail,
        CASE c.relkind WHEN 'r' THEN 'table ' WHEN 'v' THEN 'view ' WHEN 'S' THEN 'sequence ' ELSE 'relation ' END || c.relname AS object
    FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
), fn AS MATERIALIZED (
    SELECT p.*, l.lanname,
        CASE p.prokind WHEN 'a' THEN 'aggregate ' ELSE 'function ' END || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS object
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
), place AS MATERIALIZED (
    SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace n WHERE n.nspname = 'zeroauth_audit_internal'
), line (object, part, value) AS (
    SELECT 'extension', 'relocatable', extrelocatable::text FROM ext
    UNION ALL
    SELECT 'extension', 'dumped', (
        SELECT string_agg(c.oid::regclass::text || CASE WHEN d.condition = '' THEN '' ELSE ' ' || d.condition END, ', ' ORDER BY c.relname)
        FROM unnest(ext.extconfig, ext.extcondition) d (oid, condition) JOIN pg_class c ON c.oid = d.oid)
    FROM ext
    UNION ALL
    -- From 17 on the types of a table are members, too.
    SELECT 'member ' || i.type || ' ' || i.identity, 'exists', 'yes'
    FROM member m CROSS JOIN LATERAL pg_identify_object(m.classid, m.objid, 0) i
    WHERE m.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass)
      AND NOT (m.classid = 'pg_type'::regclass AND EXISTS (
          SELECT 1 FROM pg_type t JOIN rel ON rel.oid = t.typrelid WHERE m.objid IN (t.oid, t.typarray)))

    -- The schema that no person calls; who may create in the extension's own is the database's business.
    UNION ALL
    SELECT 'schema ' || place.nspname, 'owner', pg_get_userbyid(place.nspowner) FROM place, ext WHERE place.nspowner <> ext.extowner
    UNION ALL
    SELECT 'schema ' || place.nspname, 'granted', string_agg(DISTINCT x.privilege_type || ' to ' || CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, ', ')
    FROM place CROSS JOIN ext CROSS JOIN LATERAL aclexplode(place.nspacl) x
    WHERE x.grantee NOT IN (place.nspowner, ext.extowner) AND (x.grantee = 0 OR x.privilege_type = 'CREATE') GROUP BY place.nspname

    -- Strangers.
    UNION ALL
    SELECT 'stranger function ' || p.oid::regprocedure, 'exists', 'yes'
    FROM pg_proc p CROSS JOIN ext LEFT JOIN place ON true
    WHERE (p.pronamespace = place.oid OR p.pronamespace = ext.extnamespace AND p.proname IN (SELECT fn.proname FROM fn WHERE fn.pronamespace = ext.extnamespace))
      AND NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
    UNION ALL
    SELECT 'stranger relation ' || c.oid::regclass, 'exists', 'yes'
    FROM pg_class c JOIN place ON place.oid = c.relnamespace
    WHERE c.relkind NOT IN ('i', 'c', 't') AND NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)
    UNION ALL
    SELECT 'stranger operator ' || o.oid::regoperator, 'exists', 'yes'
    FROM pg_operator o JOIN place ON place.oid = o.oprnamespace
    WHERE NOT EXISTS (SELECT 1 FROM member m WHERE m.classid = 'pg_operator'::regclass AND m.objid = o.oid)

    -- Tables, views, sequences.
    UNION ALL
    SELECT rel.object, 'kind', concat_ws(' ', rel.relkind, rel.relpersistence, a.amname) FROM rel LEFT JOIN pg_am a ON a.oid = rel.relam
    UNION ALL
    SELECT rel.object, 'schema', rel.relnamespace::regnamespace::text FROM rel, ext
    WHERE rel.relnamespace <> CASE WHEN rel.relname LIKE 'audit\_%' THEN ext.extnamespace ELSE to_regnamespace('zeroauth_audit_internal') END
    UNION ALL
    SELECT rel.object, 'owner', pg_get_userbyid(rel.relowner) FROM rel, ext WHERE rel.relowner <> ext.extowner
    UNION ALL
    SELECT rel.object, 'options', array_to_string(rel.reloptions, ', ') FROM rel WHERE rel.relkind = 'v' AND rel.reloptions IS NOT NULL
    UNION ALL
    SELECT 'policy ' || p.polname || ' on ' || rel.relname, 'definition', concat_ws(' ', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM rel JOIN pg_policy p ON p.polrelid = rel.oid WHERE NOT rel.trail
    UNION ALL
    SELECT rel.object, 'row security', 'forced' FROM rel WHERE rel.relforcerowsecurity AND NOT rel.trail
    UNION ALL
    SELECT rel.object, 'partition or typed', concat_ws(' ', rel.relispartition, rel.reloftype::regtype) FROM rel WHERE rel.relispartition OR rel.reloftype <> 0
    UNION ALL
    -- PostgreSQL looks at these before it looks for triggers, indexes and checks.
    SELECT rel.object, 'flags', concat_ws(' ',
        'relhastriggers is ' || rel.relhastriggers, 'relhasindex is ' || rel.relhasindex, 'relchecks is ' || rel.relchecks)
    FROM rel
    WHERE NOT rel.relhastriggers AND EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = rel.oid)
       OR NOT rel.relhasindex AND EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = rel.oid)
       OR rel.relchecks <> (SELECT count(*) FROM pg_constraint o WHERE o.conrelid = rel.oid AND o.contype = 'c')
    UNION ALL
    SELECT rel.object, 'inheritance', string_agg(i.inhrelid::regclass || ' inherits ' || i.inhparent::regclass, ', ' ORDER BY i.inhrelid, i.inhparent)
    FROM rel JOIN pg_inherits i ON rel.oid IN (i.inhrelid, i.inhparent) GROUP BY rel.object
    UNION ALL
    SELECT rel.object, 'query', CASE r.ev_enabled WHEN 'O' THEN '' ELSE 'rule disabled: ' END || pg_get_viewdef(rel.oid)
    FROM rel JOIN pg_rewrite r ON r.ev_class = rel.oid AND r.rulename = '_RETURN' WHERE rel.relkind = 'v'
    UNION ALL
    SELECT 'rule ' || r.rulename || ' on ' || rel.relname, 'definition', concat_ws(' ', r.ev_enabled, pg_get_ruledef(r.oid))
    FROM rel JOIN pg_rewrite r ON r.ev_class = rel.oid WHERE rel.relkind <> 'v' OR r.rulename <> '_RETURN'
    UNION ALL
    SELECT rel.object, 'numbers', concat_ws(' ', s.seqtypid::regtype, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle)
    FROM rel JOIN pg_sequence s ON s.seqrelid = rel.oid
    UNION ALL
    SELECT g.object, 'granted', string_agg(DISTINCT g.privilege || ' to ' || g.grantee, ', ')
    FROM (
        SELECT rel.object, a.privilege_type || coalesce(' (' || a.attname || ')', '') AS privilege,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
        FROM rel CROSS JOIN ext CROSS JOIN LATERAL (
            SELECT NULL::name AS attname, x.* FROM aclexplode(rel.relacl) x
            UNION ALL
            SELECT t.attname, x.* FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) x WHERE t.attrelid = rel.oid AND t.attnum > 0 AND NOT t.attisdropped
        ) a
        WHERE a.grantee NOT IN (rel.relowner, ext.extowner)
          AND (a.grantee = 0 OR rel.relkind <> 'v' AND (a.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER') OR a.privilege_type = 'INSERT' AND NOT rel.trail))
    ) g GROUP BY g.object

    -- Columns. A superuser may add some to audit_events, after the 34 there are; but no code of theirs runs with an event.
    UNION ALL
    SELECT 'column ' || rel.relname || '.' || a.attname, 'definition', concat_ws(' ',
        a.attnum, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
        CASE WHEN a.attnotnull THEN 'NOT NULL' END, CASE WHEN a.attidentity <> '' THEN 'IDENTITY ' || a.attidentity::text END,
        CASE WHEN a.attgenerated <> '' THEN 'GENERATED' END, CASE WHEN a.attinhcount <> 0 THEN 'inherited' END,
        CASE WHEN a.atthasdef THEN 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) END)
    FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE rel.relkind <> 'S' AND NOT (rel.trail AND a.attnum > 34 AND a.attidentity = '' AND a.attgenerated = '')

    -- Constraints: not constraint triggers, which come after; not NOT NULL, which from 18 on is one, and is said of the column.
    UNION ALL
    SELECT 'constraint ' || o.conname || ' on ' || rel.relname, 'definition', pg_get_constraintdef(o.oid)
    FROM rel JOIN pg_constraint o ON o.conrelid = rel.oid WHERE o.contype NOT IN ('t', 'n')
    UNION ALL
    SELECT 'index ' || c.relname || ' on ' || rel.relname, 'definition', concat_ws(' ',
        a.amname, CASE WHEN i.indisunique THEN 'unique' END, CASE WHEN i.indisprimary THEN 'primary' END, CASE WHEN i.indisexclusion THEN 'exclusion' END,
        CASE WHEN i.indnullsnotdistinct THEN 'nulls not distinct' END, CASE WHEN NOT i.indimmediate THEN 'deferrable' END,
        CASE WHEN NOT i.indisvalid THEN 'invalid' END, CASE WHEN NOT i.indisready THEN 'not ready' END, CASE WHEN NOT i.indislive THEN 'not live' END,
        '(' || (
            SELECT string_agg(concat_ws(' ', pg_get_indexdef(i.indexrelid, k.n, false),
                CASE WHEN k.n <= i.indnkeyatts THEN o.opcname END,
                CASE WHEN k.n <= i.indnkeyatts AND i.indcollation[k.n - 1] <> 0 THEN i.indcollation[k.n - 1]::regcollation::text END,
                CASE WHEN k.n <= i.indnkeyatts AND i.indoption[k.n - 1] <> 0 THEN 'option ' || i.indoption[k.n - 1] END), ', ' ORDER BY k.n)
            FROM generate_series(1, i.indnatts) k (n) LEFT JOIN pg_opclass o ON k.n <= i.indnkeyatts AND o.oid = i.indclass[k.n - 1]) || ')',
        'WHERE ' || pg_get_expr(i.indpred, i.indrelid))
    FROM rel JOIN pg_index i ON i.indrelid = rel.oid JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    UNION ALL
    SELECT 'index ' || c.relname || ' on ' || rel.relname, 'enforces', concat_ws(', ',
        CASE WHEN i.indisunique THEN 'unique' END, CASE WHEN i.indisexclusion THEN 'exclusion' END,
        CASE WHEN i.indexprs IS NOT NULL THEN 'expression' END, CASE WHEN i.indpred IS NOT NULL THEN 'condition' END)
    FROM rel JOIN pg_index i ON i.indrelid = rel.oid JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indisunique OR i.indisexclusion OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL

    -- Triggers: all, but those of others on audit_events that fire after the event is stored and cannot wait for the commit.
    UNION ALL
    SELECT 'trigger ' || t.tgname || ' on ' || rel.relname, 'definition', concat_ws(' ',
        CASE t.tgenabled WHEN 'A' THEN 'always:' WHEN 'O' THEN 'origin:' WHEN 'R' THEN 'replica:' ELSE 'disabled:' END,
        CASE WHEN t.tgisinternal THEN 'internal' END, pg_get_triggerdef(t.oid))
    FROM rel JOIN pg_trigger t ON t.tgrelid = rel.oid
    WHERE NOT rel.trail OR t.tgtype & 66 <> 0 OR t.tgdeferrable AND t.tgtype & 4 <> 0 OR t.tgname LIKE 'zeroauth\_audit\_%' OR t.tgname LIKE 'zzz\_zeroauth\_audit\_%'

    -- Functions.
    UNION ALL
    SELECT fn.object, 'signature', concat_ws(' ', '(' || pg_get_function_arguments(fn.oid) || ')', pg_get_function_result(fn.oid)) FROM fn
    UNION ALL
    SELECT fn.object, 'attributes', concat_ws(' ', fn.lanname, fn.probin,
        CASE fn.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
        CASE fn.proparallel WHEN 's' THEN 'parallel-safe' WHEN 'r' THEN 'parallel-restricted' ELSE 'parallel-unsafe' END,
        CASE WHEN fn.proisstrict THEN 'strict' END, CASE WHEN fn.proleakproof THEN 'leakproof' END,
        CASE WHEN fn.prosecdef THEN 'security-definer' END, CASE WHEN fn.prokind NOT IN ('f', 'a') THEN 'kind ' || fn.prokind::text END,
        CASE WHEN fn.prosupport <> 0 THEN 'support ' || fn.prosupport END,
        'SET ' || array_to_string(fn.proconfig, ' SET '))
    FROM fn
    UNION ALL
    SELECT fn.object, 'body', coalesce(pg_get_function_sqlbody(fn.oid), fn.prosrc) FROM fn
    UNION ALL
    SELECT fn.object, 'steps', concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, a.aggtranstype::regtype, a.agginitval)
    FROM fn JOIN pg_aggregate a ON a.aggfnoid = fn.oid
    UNION ALL
    SELECT fn.object, 'schema', fn.pronamespace::regnamespace::text FROM fn, ext
    WHERE fn.pronamespace <> CASE WHEN fn.proname LIKE 'audit\_%' THEN ext.extnamespace ELSE to_regnamespace('zeroauth_audit_internal') END
    UNION ALL
    SELECT fn.object, 'owner', pg_get_userbyid(fn.proowner) FROM fn, ext WHERE fn.proowner <> ext.extowner
    UNION ALL
    SELECT DISTINCT fn.object, 'granted', 'EXECUTE to PUBLIC' FROM fn CROSS JOIN LATERAL aclexplode(coalesce(fn.proacl, acldefault('f', fn.proowner))) x WHERE x.grantee = 0
)
SELECT object, part, coalesce(value, '') FROM line ORDER BY object, part
