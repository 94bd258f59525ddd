-- The store's two roles on PostgreSQL, made once by its administrator. deploy/README.md says how to run this.
--
-- groupmq_owner has the tables, and `groupmq store migrate` logs in as it. groupmq_worker is what everything
-- else logs in as: it reads and writes rows, and can make, change and remove no table.

CREATE ROLE groupmq_owner LOGIN;
CREATE ROLE groupmq_worker LOGIN;

-- Without them, everybody may make tables before PostgreSQL 15, and nobody from then on.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO groupmq_owner;
GRANT USAGE ON SCHEMA public TO groupmq_worker;

-- What the owner will make.
ALTER DEFAULT PRIVILEGES FOR ROLE groupmq_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO groupmq_worker;

-- Tables that somebody else has made before, such as a worker that logged in with all rights.
DO $$
DECLARE
    made text;
BEGIN
    FOR made IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER TABLE public.%I OWNER TO groupmq_owner', made);
    END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO groupmq_worker;
