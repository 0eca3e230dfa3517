#!/bin/sh
# Run once by the PostgreSQL image on an empty data directory. Passwords stand in no argument.
set -eu
{
    for service in orchestrator streak achievement points leaderboard notification; do
        printf '\\getenv %s_password LAUREL_PASSWORD\n' "$service"
        printf '\\getenv %s_owner_password LAUREL_MIGRATION_PASSWORD\n' "$service"
    done
    cat /laurel/databases.sql
} | psql --username "$POSTGRES_USER"
