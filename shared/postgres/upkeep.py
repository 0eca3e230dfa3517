"""What a service changes in its own schema while it runs, and nothing else of it: functions in the database.

Months come and go, and a feed begins a new life. That takes the owner of the tables, who else is needed for migrations
alone. So these functions belong to the owner, work with the owner's rights, and let whoever runs the service call them:
they take the name of a table that has months, or of a feed, and a month, and make every other name by themselves. Where
owner and service are one role, they are called all the same (docs/adr/0030).

`migrate` puts them into the database each time. One that is to do something else gets another name: replicas of the
last release go on calling this one.
"""

from datetime import date
from typing import Final

from shared.postgres.months import Month
from shared.postgres.pool import Connection, Pool

CREATE_FUNCTIONS: Final = """
-- The name of a month's table, for a table that has months and the first day of one.
CREATE OR REPLACE FUNCTION month_table(parent text, month date) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(quote_ident(parent))
                      AND relkind = 'p' AND relnamespace = current_schema()::regnamespace) THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%I is no table with months', parent);
    END IF;
    IF (month >= '1970-01-01' AND month < '9999-12-01' AND extract(day FROM month) = 1) IS NOT TRUE THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%L is not the first day of a month', month);
    END IF;
    RETURN parent || to_char(month, '_YYYY_MM');
END $$;

-- The lowest id of a day: ids begin with milliseconds, in 48 bits.
CREATE OR REPLACE FUNCTION lowest_id(day date) RETURNS uuid LANGUAGE sql AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM day::timestamp) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- The locks in the order in which others take them. The first keeps everybody out until they see the month: a writer
-- who had already chosen the default partition would fail, and a reader who had would find nothing of what was moved.
-- It also keeps two replicas from making the same month. What came before its month lies in the default partition.
CREATE OR REPLACE FUNCTION make_month(parent text, month date) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    made    text := month_table(parent, month);
    first   uuid := lowest_id(month);
    after   uuid := lowest_id((month + interval '1 month')::date);
    options text;
BEGIN
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    IF to_regclass(quote_ident(made)) IS NOT NULL THEN
        RETURN false;
    END IF;
    SELECT 'WITH (' || array_to_string(reloptions, ', ') || ')' INTO options
      FROM pg_class WHERE oid = to_regclass(quote_ident(parent || '_default'));
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) %s', made, parent, options);
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE entry_id >= %L AND entry_id < %L RETURNING *) '
        'INSERT INTO %I SELECT * FROM moved', parent || '_default', first, after, made);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, made, first, after);
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION drop_month(parent text, month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format('DROP TABLE IF EXISTS %I', month_table(parent, month));
END $$;

-- No row satisfies the constraint while a session holds the advisory lock alone. To add it means to wait for all who
-- have written to the table. Left behind by a crash it harms nobody.
CREATE OR REPLACE FUNCTION close_month(parent text, month date, lock_key bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE %I DROP CONSTRAINT IF EXISTS closed_while_condensed, '
        'ADD CONSTRAINT closed_while_condensed CHECK (pg_try_advisory_xact_lock_shared(%s)) NOT VALID',
        month_table(parent, month), lock_key);
END $$;

CREATE OR REPLACE FUNCTION open_month(parent text, month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE IF EXISTS %I DROP CONSTRAINT IF EXISTS closed_while_condensed', month_table(parent, month));
END $$;

-- The table that is to take a month's place, still empty. Nothing will grow in place there: its pages are filled. The
-- constraint spares ATTACH reading all rows again.
CREATE OR REPLACE FUNCTION begin_condensing(parent text, month date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format(
        'CREATE TABLE %I (LIKE %I INCLUDING ALL, CONSTRAINT bounds CHECK (entry_id >= %L AND entry_id < %L))',
        month_table(parent, month) || '_condensed', parent,
        lowest_id(month), lowest_id((month + interval '1 month')::date));
END $$;

-- It takes that place. Locks in the order in which others take them. DROP takes the closing with it.
CREATE OR REPLACE FUNCTION end_condensing(parent text, month date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    old       text := month_table(parent, month);
    condensed text := old || '_condensed';
BEGIN
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    EXECUTE format('LOCK TABLE %I, %I IN ACCESS EXCLUSIVE MODE', parent || '_default', old);
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, old);
    EXECUTE format('DROP TABLE %I', old);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, condensed,
        lowest_id(month), lowest_id((month + interval '1 month')::date));
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT bounds', condensed);
END $$;

-- The next life of a feed; its rows get the number by the column's default.
CREATE OR REPLACE FUNCTION begin_life(of_feed text) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    begun integer;
BEGIN
    UPDATE feed_lives SET life = life + 1 WHERE feed = of_feed RETURNING life INTO begun;
    IF begun IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%I is no feed', of_feed);
    END IF;
    EXECUTE format('ALTER TABLE %I ALTER COLUMN life SET DEFAULT %s', of_feed, begun);
    RETURN begun;
END $$
"""
"""A name that is not qualified means the schema of the migration: each function has it for its search_path."""

_FUNCTIONS: Final = {
    "month_table": "text, date",
    "lowest_id": "date",
    "make_month": "text, date",
    "drop_month": "text, date",
    "close_month": "text, date, bigint",
    "open_month": "text, date",
    "begin_condensing": "text, date",
    "end_condensing": "text, date",
    "begin_life": "text",
}
_MISSING: Final = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regproc(name) IS NULL"
# pg_temp last: nobody's temporary table is taken for one of ours. Who is not told may not call them.
_WRITE_BOUNDS: Final = """
    SELECT string_agg(format('ALTER FUNCTION %1$I(%2$s) SET search_path = %3$I, pg_temp;'
                             'REVOKE ALL ON FUNCTION %1$I(%2$s) FROM PUBLIC',
                             name, arguments, current_schema()), '; ')
      FROM unnest($1::text[], $2::text[]) AS wanted (name, arguments)
"""
# Migrations are nobody's to write down but the owner's.
_WRITE_GRANTS: Final = """
    SELECT format(
        'ALTER DEFAULT PRIVILEGES IN SCHEMA %1$I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %2$I;'
        'ALTER DEFAULT PRIVILEGES IN SCHEMA %1$I GRANT USAGE ON SEQUENCES TO %2$I;'
        'GRANT USAGE ON SCHEMA %1$I TO %2$I;'
        'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %1$I TO %2$I;'
        'GRANT USAGE ON ALL SEQUENCES IN SCHEMA %1$I TO %2$I;'
        'REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM %2$I;',
        current_schema(), $1::text)
        || (SELECT string_agg(format('GRANT EXECUTE ON FUNCTION %I(%s) TO %I', name, arguments, $1::text), '; ')
              FROM unnest($2::text[], $3::text[]) AS wanted (name, arguments))
"""

_MAKE: Final = "SELECT make_month($1, $2)"
_DROP: Final = "SELECT drop_month($1, $2)"
_CLOSE: Final = "SELECT close_month($1, $2, $3)"
_OPEN: Final = "SELECT open_month($1, $2)"
_BEGIN_CONDENSING: Final = "SELECT begin_condensing($1, $2)"
_END_CONDENSING: Final = "SELECT end_condensing($1, $2)"
_BEGIN_LIFE: Final = "SELECT begin_life($1)"


async def create_functions(connection: Connection) -> None:
    """Put them into the database as this program has them, with the owner's connection."""
    async with connection.transaction():
        await connection.execute(CREATE_FUNCTIONS)
        bounds = await connection.fetchval(_WRITE_BOUNDS, list(_FUNCTIONS), list(_FUNCTIONS.values()))
        await connection.execute(bounds)


async def missing_functions(connection: Connection | Pool) -> list[str]:
    """The names of those that are not there."""
    return [row["name"] for row in await connection.fetch(_MISSING, list(_FUNCTIONS))]


async def let_serve(connection: Connection, role: str) -> None:
    """Let a role do what a service does, with the owner's connection: with rows everything, with tables nothing but to
    call these functions. It holds for what migrations create later, too.
    """
    async with connection.transaction():
        grants = await connection.fetchval(_WRITE_GRANTS, role, list(_FUNCTIONS), list(_FUNCTIONS.values()))
        await connection.execute(grants)


async def make_month(connection: Connection, table: str, month: Month) -> bool:
    """Make the partition of a month; False where it is there."""
    made: bool = await connection.fetchval(_MAKE, table, _first_day(month))
    return made


async def drop_month(connection: Connection, table: str, month: Month) -> None:
    """Drop the partition of a month, with all that is in it."""
    await connection.execute(_DROP, table, _first_day(month))


async def close_month(connection: Connection, table: str, month: Month, lock_key: int) -> None:
    """Refuse whatever is written to a month while a session holds the advisory lock of this key."""
    await connection.execute(_CLOSE, table, _first_day(month), lock_key)


async def open_month(connection: Connection, table: str, month: Month) -> None:
    """Refuse nothing any more."""
    await connection.execute(_OPEN, table, _first_day(month))


async def begin_condensing(connection: Connection, table: str, month: Month) -> None:
    """Make the table that is to take a month's place."""
    await connection.execute(_BEGIN_CONDENSING, table, _first_day(month))


async def end_condensing(connection: Connection, table: str, month: Month) -> None:
    """Let it take that place."""
    await connection.execute(_END_CONDENSING, table, _first_day(month))


async def begin_life(connection: Connection, feed: str) -> int:
    """Begin the next life of a feed; its number. The caller has locked the feed."""
    life: int = await connection.fetchval(_BEGIN_LIFE, feed)
    return life


def _first_day(month: Month) -> date:
    return month.begin.date()
