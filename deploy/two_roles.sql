-- The tables of a database from before there were two roles get an owner of their own; once for each service, by an
-- administrator, while the service is stopped. Then `migrate`, with LAUREL_MIGRATION_DSN (docs/operations/upgrade.md).
-- psql -d laurel_streak -v service=laurel_streak -v owner=laurel_streak_owner -v owner_password=… -f two_roles.sql
\set ON_ERROR_STOP on
CREATE ROLE :"owner" LOGIN PASSWORD :'owner_password';
BEGIN;
REASSIGN OWNED BY :"service" TO :"owner";
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"service" TO :"service";
COMMIT;
