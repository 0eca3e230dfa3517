"""PostgreSQL: pools, migrations, the request log, conflicts, leadership."""
