"""The SQL of lists."""

from datetime import date
from typing import Final

from msgspec import Struct

from services.streak.domain import LedgerLine, Period
from services.streak.store import Key, ledger_line_of, period_of
from shared.postgres.pool import Pool

PERIODS: Final = """
    SELECT start_date, end_date, status, length, settle_time, entry_id, local_date FROM periods
     WHERE user_id = $1 AND streak = $2 AND start_date < $3
     ORDER BY start_date DESC
     LIMIT $4
"""
LEDGER: Final = """
    SELECT effective_date, reason, amount, about_date FROM freeze_ledger
     WHERE user_id = $1 AND streak = $2 AND (effective_date, reason, about_date) > ($3, $4::smallint, $5)
       AND about_date <= $6
     ORDER BY effective_date, reason, about_date
     LIMIT $7
"""
# The first bound lets the index begin at the right place, the second cuts ties.
LONGEST: Final = """
    SELECT user_id, longest, length FROM streak_states
     WHERE streak = $1 AND longest > 0 AND longest <= $2 AND (longest < $2 OR user_id > $3)
     ORDER BY longest DESC, user_id
     LIMIT $4
"""


class Longest(Struct, frozen=True):
    """A user's longest run of a streak, and the present length as last recorded."""

    user_id: str
    longest: int
    length: int


class ReadStore:
    """Pages of what is recorded."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def periods(self, key: Key, before: date, limit: int) -> list[Period]:
        """Recorded periods that start before a date, newest first."""
        return [period_of(row) for row in await self._pool.fetch(PERIODS, *key, before, limit)]

    async def ledger(
        self, key: Key, after: tuple[date, int, date], until: date, limit: int
    ) -> list[LedgerLine]:
        """Recorded ledger lines after one and about dates up to one, oldest first."""
        return [ledger_line_of(row) for row in await self._pool.fetch(LEDGER, *key, *after, until, limit)]

    async def longest(self, streak: str, after: tuple[int, str], limit: int) -> list[Longest]:
        """The users with the longest runs after a length and user, longest first."""
        return [Longest(*row) for row in await self._pool.fetch(LONGEST, streak, *after, limit)]
