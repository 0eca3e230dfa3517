"""The SQL of lists."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final

from msgspec import Struct

from services.streak.domain import NOTHING_BY_HAND, LedgerLine, Period, PeriodStatus, Reach, StreakState
from services.streak.encoding import decode, decode_by_hand
from services.streak.rows import Key, ledger_line_of, period_of
from shared.postgres.pool import Pool
from shared.tenants import own_range

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
# The first bound lets the index begin at the right place, the second cuts ties. Of all users, and of a tenant's own: so
# are the other statements about many users.
_LONGEST: Final = """
    SELECT user_id, longest, length FROM streak_states
     WHERE streak = $1 AND longest > 0 AND longest <= $2 AND (longest < $2 OR user_id > $3) {own}
     ORDER BY longest DESC, user_id
     LIMIT $4
"""
LONGEST: Final = _LONGEST.format(own="")
LONGEST_OWN: Final = _LONGEST.format(own="AND user_id > $5 AND user_id < $6")


BETWEEN: Final = """
    SELECT start_date, end_date, status, length, settle_time, entry_id, local_date FROM periods
     WHERE user_id = $1 AND streak = $2 AND end_date >= $3 AND start_date <= $4
     ORDER BY start_date
"""
# OFFSET 0: by the index of what is due, however many streaks there are of this definition.
_AT_RISK: Final = """
    SELECT due.user_id, due.next_close_time
      FROM (SELECT user_id, streak, next_close_time FROM streak_states
             WHERE next_close_time > $2 AND next_close_time <= $3 AND (next_close_time, user_id) > ($4, $5) {own}
             ORDER BY next_close_time, user_id, streak
            OFFSET 0) AS due
      JOIN users ON users.user_id = due.user_id
     WHERE due.streak = $1 AND ($6 = '' OR users.time_zone = $6)
     ORDER BY due.next_close_time, due.user_id
     LIMIT $7
"""
AT_RISK: Final = _AT_RISK.format(own="")
AT_RISK_OWN: Final = _AT_RISK.format(own="AND user_id > $8 AND user_id < $9")
# As above, of all users and with what is needed to say whether anything is at stake. One lower bound alone: with a
# second one the index may begin at that, and each page pass over all before it, which may end at one instant.
ENDING: Final = """
    SELECT due.user_id, due.next_close_time, due.fingerprint, due.closed_time, due.state, due.by_hand
      FROM (SELECT user_id, streak, next_close_time, fingerprint, closed_time, state, by_hand FROM streak_states
             WHERE (next_close_time, user_id) > ($2, $3) AND next_close_time <= $4
             ORDER BY next_close_time, user_id, streak
            OFFSET 0) AS due
     WHERE due.streak = $1 AND due.state IS NOT NULL
     ORDER BY due.next_close_time, due.user_id
     LIMIT $5
"""
_LENGTHS: Final = """
    SELECT width_bucket(length, $2::integer[]) AS bucket, count(*) FROM streak_states
     WHERE streak = $1 AND length > 0 {own}
     GROUP BY bucket
     ORDER BY bucket
"""
LENGTHS: Final = _LENGTHS.format(own="")
LENGTHS_OWN: Final = _LENGTHS.format(own="AND user_id > $3 AND user_id < $4")
# What was lost is the length of the period before the one that broke.
_LOSSES: Final = """
    SELECT extract(isodow FROM start_date)::integer AS weekday,
           width_bucket(before.length, $4::integer[]) AS bucket, count(*)
      FROM periods
     CROSS JOIN LATERAL (
           SELECT length FROM periods AS earlier
            WHERE earlier.user_id = periods.user_id AND earlier.streak = periods.streak
              AND earlier.start_date < periods.start_date
            ORDER BY earlier.start_date DESC
            LIMIT 1
     ) AS before
     WHERE streak = $1 AND start_date BETWEEN $2 AND $3 AND status = 7 AND status >= 6 {own}
     GROUP BY weekday, bucket
"""
LOSSES: Final = _LOSSES.format(own="")
LOSSES_OWN: Final = _LOSSES.format(own="AND periods.user_id > $5 AND periods.user_id < $6")
# Each by the index that has it.
_SAVED: Final = """
    SELECT status, count(*) FROM periods
     WHERE streak = $1 AND start_date BETWEEN $2 AND $3 AND status IN (6, 8, 10) AND status >= 6 {own}
     GROUP BY status
     UNION ALL
    SELECT 3, count(*) FROM periods WHERE streak = $1 AND start_date BETWEEN $2 AND $3 AND status = 3 {own}
"""
SAVED: Final = _SAVED.format(own="")
SAVED_OWN: Final = _SAVED.format(own="AND user_id > $4 AND user_id < $5")

# As `domain.rows.first_reaches` has it: lengths that no period before had, with the event of the period that qualified.
FIRST_REACHES: Final = """
    SELECT state.user_id, state.version, reached.length, reached.entry_id, reached.settle_time, reached.local_date
      FROM streak_states AS state
     CROSS JOIN LATERAL (
           SELECT length, entry_id, settle_time, local_date
             FROM (SELECT length, entry_id, settle_time, local_date,
                          max(length) OVER (ORDER BY start_date
                                            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS longest
                     FROM periods
                    WHERE user_id = state.user_id AND streak = state.streak AND status = 2) AS period
            WHERE length > coalesce(longest, 0) AND length >= $3 AND entry_id IS NOT NULL
            ORDER BY length
            LIMIT $4
     ) AS reached
     WHERE state.streak = $1 AND state.user_id = ANY($2::text[])
     ORDER BY state.user_id, reached.length
"""


class Longest(Struct, frozen=True):
    """A user's longest run of a streak, and the present length as last recorded."""

    user_id: str
    longest: int
    length: int


class Statistics(Struct, frozen=True):
    """How the streaks of all users are, and what became of those that were at stake. Lengths are bounds of ranges."""

    lengths: Mapping[int, int]
    losses: Mapping[tuple[int, int], int]
    """By weekday, 1 for Monday, and by the length that was lost."""
    saved: Mapping[PeriodStatus, int]
    """Periods that would have broken, by what kept them from it: `FROZEN`, `PAUSED`, `RESTORED`, `EXCUSED`."""


class Ending(Struct, frozen=True):
    """A streak whose present period closes soon."""

    user_id: str
    close_time: datetime
    fingerprint: int
    """Of the definition that it was folded under."""
    closed_time: datetime
    """Up to when periods are closed."""
    state: StreakState


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
        own = own_range()
        query = LONGEST_OWN if own else LONGEST
        return [Longest(*row) for row in await self._pool.fetch(query, streak, *after, limit, *own)]

    async def between(self, key: Key, first: date, last: date) -> list[Period]:
        """Recorded periods of which any date is in a range, oldest first."""
        return [period_of(row) for row in await self._pool.fetch(BETWEEN, *key, first, last)]

    async def at_risk(
        self, streak: str, now: datetime, until: datetime, after: tuple[datetime, str], zone: str, limit: int
    ) -> list[tuple[str, datetime]]:
        """Users whose present period closes with a result after `now` and up to `until`, and when; soonest first."""
        own = own_range()
        query = AT_RISK_OWN if own else AT_RISK
        found = await self._pool.fetch(query, streak, now, until, *after, zone, limit, *own)
        return [(row["user_id"], row["next_close_time"]) for row in found]

    async def ending(
        self, streak: str, after: tuple[datetime, str], end: datetime, limit: int
    ) -> list[Ending]:
        """Those whose present period closes with a result up to `end`, soonest first, behind an instant and a user."""
        found = await self._pool.fetch(ENDING, streak, *after, end, limit)
        return [_ending(*row) for row in found]

    async def first_reaches(
        self, streak: str, user_ids: Sequence[str], least: int, most_count: int
    ) -> list[tuple[str, int, int, Reach]]:
        """User, version of the streak, length, and with which event it was first reached; by user and length."""
        found = await self._pool.fetch(FIRST_REACHES, streak, sorted(user_ids), least, most_count)
        return [(row[0], row[1], row[2], Reach(*row[3:])) for row in found]

    async def lengths(self, streak: str, bounds: Sequence[int]) -> Counter[int]:
        """How many users have a present length in the range that begins at each bound."""
        own = own_range()
        found = await self._pool.fetch(LENGTHS_OWN if own else LENGTHS, streak, bounds, *own)
        return Counter({bounds[row["bucket"] - 1]: row["count"] for row in found})

    async def losses(
        self, streak: str, first: date, last: date, bounds: Sequence[int]
    ) -> Counter[tuple[int, int]]:
        """How many streaks broke in a range of dates, by weekday (1: Monday) and the bound of the length lost."""
        own = own_range()
        found = await self._pool.fetch(LOSSES_OWN if own else LOSSES, streak, first, last, bounds, *own)
        return Counter({(row["weekday"], bounds[row["bucket"] - 1]): row["count"] for row in found})

    async def saved(self, streak: str, first: date, last: date) -> Counter[PeriodStatus]:
        """How many periods were kept from breaking in a range of dates, by what did it."""
        own = own_range()
        found = await self._pool.fetch(SAVED_OWN if own else SAVED, streak, first, last, *own)
        return Counter({PeriodStatus(row["status"]): row["count"] for row in found})


def _ending(
    user_id: str,
    close_time: datetime,
    fingerprint: int,
    closed_time: datetime,
    state: str,
    by_hand: str | None,
) -> Ending:
    known = NOTHING_BY_HAND if by_hand is None else decode_by_hand(by_hand)
    return Ending(user_id, close_time, fingerprint, closed_time, decode(state, known))
