#!/bin/sh
# Run once by the PostgreSQL image on an empty data directory.
set -eu
exec psql --username "$POSTGRES_USER" \
    -v orchestrator_password="$LAUREL_PASSWORD" -v streak_password="$LAUREL_PASSWORD" \
    -v achievement_password="$LAUREL_PASSWORD" -v points_password="$LAUREL_PASSWORD" \
    -v leaderboard_password="$LAUREL_PASSWORD" -v notification_password="$LAUREL_PASSWORD" \
    -f /laurel/databases.sql
