"""Keeps a service's own wall-clock maintenance off while an import drives it by `RunMaintenance` (RULES 1.4).

The instant is the database's, so that replicas with different clocks agree. Every service's migrations create

    CREATE TABLE maintenance (
        singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        hold_until timestamptz
    )

with its one row.
"""

from typing import Final

from shared.postgres.pool import Connection

_HOLD: Final = """
    UPDATE maintenance
       SET hold_until = CASE WHEN $1::integer > 0 THEN clock_timestamp() + make_interval(secs => $1) END
"""
_IS_HELD: Final = "SELECT EXISTS (SELECT FROM maintenance WHERE hold_until > clock_timestamp())"


async def hold(connection: Connection, seconds: int) -> None:
    """Keep wall-clock maintenance off for this long from now, replacing an earlier hold; 0 releases it."""
    await connection.execute(_HOLD, seconds)


async def is_held(connection: Connection) -> bool:
    """Whether an import has maintenance in its hands."""
    held: bool = await connection.fetchval(_IS_HELD)
    return held
