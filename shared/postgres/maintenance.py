"""Keeps a service's own wall-clock maintenance off while an import drives it by `RunMaintenance` (RULES 1.4).

The instant is the database's, so that replicas with different clocks agree. Every service's migrations create

    CREATE TABLE maintenance (
        singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        hold_until timestamptz
    )

with its one row.
"""

import logging
from datetime import datetime, timedelta
from typing import Final

from shared.postgres.pool import Connection, Pool

_LOGGER: Final = logging.getLogger(__name__)
_CLOCKS_APART: Final = timedelta(minutes=5)
"""How far a host's clock may be ahead of the database's (RULES 1.2)."""

_HOLD: Final = """
    UPDATE maintenance
       SET hold_until = CASE WHEN $1::integer > 0 THEN clock_timestamp() + make_interval(secs => $1) END
"""
_CLOCK: Final = """
    SELECT clock_timestamp() AS now, EXISTS (SELECT FROM maintenance WHERE hold_until > clock_timestamp()) AS is_held
"""
_IS_HELD: Final = "SELECT EXISTS (SELECT FROM maintenance WHERE hold_until > clock_timestamp())"


async def hold(connection: Connection, seconds: int) -> None:
    """Keep wall-clock maintenance off for this long from now, replacing an earlier hold; 0 releases it."""
    await connection.execute(_HOLD, seconds)


async def is_held(connection: Connection) -> bool:
    """Whether an import has maintenance in its hands."""
    held: bool = await connection.fetchval(_IS_HELD)
    return held


class DatabaseClock:
    """The database's clock, as far as it has been seen to go."""

    def __init__(self) -> None:
        self._seen: datetime | None = None

    async def is_ahead(self, source: Pool | Connection, now: datetime, tolerance: timedelta) -> bool:
        """Whether an instant lies further ahead of the clock than this, while no import drives it (RULES 1.2).

        What it has been seen to pass is not asked about: an import makes a pass for every day of years.
        """
        if self._seen is not None and now <= self._seen:
            return False
        row = await source.fetchrow(_CLOCK)
        assert row is not None  # a SELECT without FROM has a row
        self._seen = row["now"]
        is_ahead: bool = not row["is_held"] and now > row["now"] + tolerance
        return is_ahead


async def may_go_by_clock(connection: Connection, now: datetime) -> bool:
    """Whether a pass at the present of this host may go: no import holds maintenance, and the clock is not ahead."""
    if await is_held(connection):
        return False
    if await DatabaseClock().is_ahead(connection, now, _CLOCKS_APART):
        _LOGGER.error(
            "no maintenance: the clock of this host is ahead of the database's", extra={"now": str(now)}
        )
        return False
    return True
