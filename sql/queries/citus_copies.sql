-- What Citus makes of the table with oid $1, or of the table that it is a shard of, if it has more than one copy of a row; no row otherwise.
SELECT CASE WHEN p.partmethod OPERATOR(pg_catalog.=) 'n' THEN 'a reference table of Citus'
    ELSE pg_catalog.concat('a table of Citus with ', c.copies::pg_catalog.text, ' copies of each shard') END
FROM pg_catalog.pg_dist_partition p
CROSS JOIN LATERAL (
    SELECT pg_catalog.max(s.copies) AS copies FROM (
        SELECT pg_catalog.count(*) AS copies FROM pg_catalog.pg_dist_shard d
        JOIN pg_catalog.pg_dist_placement l ON l.shardid OPERATOR(pg_catalog.=) d.shardid
        WHERE d.logicalrelid OPERATOR(pg_catalog.=) p.logicalrelid GROUP BY d.shardid) s) c
WHERE (p.logicalrelid::pg_catalog.oid::pg_catalog.int8 OPERATOR(pg_catalog.=) $1
       OR p.logicalrelid::pg_catalog.oid OPERATOR(pg_catalog.=) (
           SELECT d.logicalrelid::pg_catalog.oid FROM pg_catalog.pg_dist_shard d
           WHERE d.shardid::pg_catalog.text OPERATOR(pg_catalog.=) (
               SELECT pg_catalog.substring(r.relname::pg_catalog.text, '_([0-9]+)$') FROM pg_catalog.pg_class r
               WHERE r.oid::pg_catalog.int8 OPERATOR(pg_catalog.=) $1)))
  AND (p.partmethod OPERATOR(pg_catalog.=) 'n' AND p.repmodel OPERATOR(pg_catalog.=) 't' OR c.copies OPERATOR(pg_catalog.>) 1)
