-- The two roles of this service on PostgreSQL. Run once, by a superuser, in the service's database:
--   psql --dbname=chatglm --file=database/roles.sql
-- then give each a password (\password chatglm_owner, \password chatglm_service). The owner migrates
-- (CHATGLM_MIGRATION_DATABASE_URL); the service (CHATGLM_DATABASE_URL) owns nothing, so that row level security binds it.
CREATE ROLE chatglm_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
CREATE ROLE chatglm_service LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO chatglm_owner;
GRANT USAGE ON SCHEMA public TO chatglm_service;
ALTER DEFAULT PRIVILEGES FOR ROLE chatglm_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO chatglm_service;
-- The migrations take back what that is too much: alembic_version is theirs, and the service only reads it.
