-- After everything else that the extension makes: what default privileges of the database gave others of it is taken back.

DO $$
BEGIN
    PERFORM zeroauth_audit_internal.take_default_grants(NULL);
END
$$;
