-- End dates of duties: the only thing about duties that is stored.

CREATE TABLE zeroauth_audit_internal.duty_ends (
    role text COLLATE pg_catalog."C" NOT NULL,
    duty text COLLATE pg_catalog."C" NOT NULL,
    until timestamptz NOT NULL,
    role_oid oid,
    CONSTRAINT duty_ends_pkey PRIMARY KEY (role, duty)
);
REVOKE ALL ON TABLE zeroauth_audit_internal.duty_ends FROM PUBLIC;
COMMENT ON TABLE zeroauth_audit_internal.duty_ends IS
    'When the job duties takes a duty back. A duty without a row has no end.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_ends.role IS 'Name of the role when this row was last looked at.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_ends.duty IS 'The duty.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_ends.until IS 'When it ends.';
COMMENT ON COLUMN zeroauth_audit_internal.duty_ends.role_oid IS 'The role itself, which may be renamed; NULL when there was none of that name, in a restored copy.';
COMMENT ON CONSTRAINT duty_ends_pkey ON zeroauth_audit_internal.duty_ends IS 'A duty of a role ends once.';
SELECT pg_catalog.pg_extension_config_dump('zeroauth_audit_internal.duty_ends', '');

CREATE FUNCTION zeroauth_audit_internal.duty_end_role() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Also of a row from a dump: the number there is of another cluster.
    NEW.role_oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = NEW.role);
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.duty_end_role() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.duty_end_role() IS
    'Trigger of duty_ends: finds the role by its name.';
CREATE TRIGGER zeroauth_audit_duty_end_role
    BEFORE INSERT ON zeroauth_audit_internal.duty_ends
    FOR EACH ROW EXECUTE FUNCTION zeroauth_audit_internal.duty_end_role();
COMMENT ON TRIGGER zeroauth_audit_duty_end_role ON zeroauth_audit_internal.duty_ends IS 'Finds the role by its name.';
ALTER TABLE zeroauth_audit_internal.duty_ends ENABLE ALWAYS TRIGGER zeroauth_audit_duty_end_role;

CREATE FUNCTION zeroauth_audit_internal.duties_lock() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Two GRANTs on one object at once are an error of PostgreSQL's, "tuple concurrently updated".
    LOCK TABLE zeroauth_audit_internal.duty_ends IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM zeroauth_audit_internal.duty_ends e WHERE e.role_oid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM pg_roles r WHERE r.oid = e.role_oid);
    -- In two steps: two roles may have changed their names with each other.
    UPDATE zeroauth_audit_internal.duty_ends e SET role = ' ' || e.role_oid FROM pg_roles r WHERE r.oid = e.role_oid AND r.rolname <> e.role;
    UPDATE zeroauth_audit_internal.duty_ends e SET role = r.rolname FROM pg_roles r WHERE r.oid = e.role_oid AND r.rolname <> e.role;
    UPDATE zeroauth_audit_internal.duty_ends e SET role_oid = r.oid FROM pg_roles r WHERE e.role_oid IS NULL AND r.rolname = e.role;
END
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.duties_lock() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.duties_lock() IS
    'Keeps others from changing duties until this transaction ends, and has duty_ends follow roles that were dropped, renamed, or made after a restore.';

CREATE FUNCTION zeroauth_audit_internal.duty_ends_plan() RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    -- One that could not be ended waits for the schedule.
    UPDATE zeroauth_audit_internal.jobs j SET next_run = e.until
    FROM (SELECT min(d.until) AS until FROM zeroauth_audit_internal.duty_ends d WHERE d.until > clock_timestamp()) e
    WHERE j.name = 'duties' AND j.scheduler = 'worker' AND j.next_run > e.until;
$$;
REVOKE ALL ON FUNCTION zeroauth_audit_internal.duty_ends_plan() FROM PUBLIC;
COMMENT ON FUNCTION zeroauth_audit_internal.duty_ends_plan() IS
    'Has the worker run the job duties when the next duty ends, if its schedule would be later.';
