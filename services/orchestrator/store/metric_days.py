"""What events contribute by local date, as it is kept and read (docs/adr/0025)."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg import Record
from msgspec import Struct

from services.orchestrator.metric_days import Amount, Days, Key
from shared.postgres.errors import is_conflict
from shared.postgres.feed import Place, place_of
from shared.postgres.one_instant import one_instant
from shared.postgres.pool import Pool

_FEED: Final = "metric_days"
_ROWS_AT_ONCE: Final = 1_000
_LEAST: Final = -(2**200)
"""Below what any users together contribute, negated."""
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Before anything was received."""

_CURSOR: Final = "SELECT cursor FROM feed_cursors WHERE feed = $1"

_FOLLOWED: Final = """
    INSERT INTO feed_cursors (feed, cursor) VALUES ($1, $2)
        ON CONFLICT (feed) DO UPDATE SET cursor = excluded.cursor
"""

# OFFSET 0, here and below: to look at each user, and not at all users first for those who are being deleted.
_STANDS: Final = """
    SELECT wanted.user_id, wanted.metric, coalesce(t.version, 0) AS total_version,
           coalesce(t.total_micros, 0) AS total_micros, coalesce(r.version, 0) AS version, r.receive_time,
           EXISTS (SELECT FROM users u WHERE u.user_id = wanted.user_id AND u.standing = 2 OFFSET 0) AS closing
      FROM unnest($1::text[], $2::text[]) AS wanted (user_id, metric)
      LEFT JOIN totals t ON t.user_id = wanted.user_id AND t.metric = wanted.metric
      LEFT JOIN metric_rollups r ON r.user_id = wanted.user_id AND r.metric = wanted.metric
"""

_NEXT_TOTALS: Final = """
    SELECT t.user_id, t.metric, t.version AS total_version, t.total_micros, coalesce(r.version, 0) AS version,
           r.receive_time,
           EXISTS (SELECT FROM users u WHERE u.user_id = t.user_id AND u.standing = 2 OFFSET 0) AS closing
      FROM (SELECT * FROM totals WHERE (user_id, metric) > ($1, $2) ORDER BY user_id, metric LIMIT $3) AS t
      LEFT JOIN metric_rollups r ON r.user_id = t.user_id AND r.metric = t.metric
     ORDER BY t.user_id, t.metric
"""

_OF_USER: Final = """
    SELECT t.user_id, t.metric, t.version AS total_version, t.total_micros, coalesce(r.version, 0) AS version,
           r.receive_time, false AS closing
      FROM totals t
      LEFT JOIN metric_rollups r ON r.user_id = t.user_id AND r.metric = t.metric
     WHERE t.user_id = $1
"""

# OFFSET 0 keeps the index by user: that by metric would find all users' entries.
_RECEIVED_SINCE: Final = """
    SELECT entry
      FROM (SELECT * FROM entries WHERE user_id = $1 AND receive_time >= $3 OFFSET 0) AS own
     WHERE metric = $2 OR kind = 'correction'
"""

_LIVE: Final = """
    SELECT entry_id, value_micros, occur_time, receive_time, position, unique_value, entry
      FROM (SELECT * FROM entries WHERE user_id = $1 AND live OFFSET 0) AS own
     WHERE metric = $2
"""

# Rows are compared, which the index by user alone can do. That by date looks as good while tables are young, and has
# all users of a date.
_DAYS: Final = """
    SELECT d.user_id, d.metric, d.local_date, d.change_micros, d.event_count
      FROM unnest($1::text[], $2::text[], $3::date[]) AS wanted (user_id, metric, local_date)
      JOIN metric_days d
        ON (d.user_id, d.metric, d.local_date) >= (wanted.user_id, wanted.metric, wanted.local_date)
       AND (d.user_id, d.metric, d.local_date) <= (wanted.user_id, wanted.metric, wanted.local_date)
"""

_ALL_DAYS: Final = """
    SELECT local_date, change_micros, event_count FROM metric_days WHERE user_id = $1 AND metric = $2
"""

# Whoever looked at another version looks again. A user who is being deleted is left to the deletion, $4.
_ADD: Final = """
    WITH open AS (
        SELECT b.*
          FROM unnest($1::metric_rollup_row[]) AS b
          JOIN totals t ON t.user_id = b.user_id AND t.metric = b.metric AND t.version >= b.version
         WHERE b.user_id = $4
            OR NOT EXISTS (SELECT FROM users u WHERE u.user_id = b.user_id AND u.standing = 2 OFFSET 0)
    ), known AS (
        UPDATE metric_rollups
           SET version = open.version, receive_time = open.receive_time
          FROM open
         WHERE metric_rollups.user_id = open.user_id AND metric_rollups.metric = open.metric
           AND metric_rollups.version = open.version_before
        RETURNING 1
    ), new AS (
        INSERT INTO metric_rollups (user_id, metric, version, receive_time)
        SELECT user_id, metric, version, receive_time FROM open WHERE version_before = 0
            ON CONFLICT (user_id, metric) DO NOTHING
        RETURNING 1
    ), days AS (
        INSERT INTO metric_days AS known (user_id, metric, local_date, change_micros, event_count)
        SELECT * FROM unnest($2::metric_day_row[])
            ON CONFLICT (user_id, metric, local_date) DO UPDATE
           SET change_micros = known.change_micros + excluded.change_micros,
               event_count = known.event_count + excluded.event_count
    ), sums AS (
        INSERT INTO metric_day_totals AS known (metric, local_date, change_micros, event_count, user_count)
        SELECT * FROM unnest($3::metric_day_total_row[])
            ON CONFLICT (metric, local_date) DO UPDATE
           SET change_micros = known.change_micros + excluded.change_micros,
               event_count = known.event_count + excluded.event_count,
               user_count = known.user_count + excluded.user_count
    )
    SELECT require_rows((SELECT count(*) FROM known) + (SELECT count(*) FROM new), cardinality($1::metric_rollup_row[]))
"""

_SWEEP: Final = "SELECT round, after_user_id, after_metric FROM metric_sweep WHERE after_user_id IS NOT NULL"

# One that was asked for meanwhile begins at the beginning.
_SWEPT: Final = """
    UPDATE metric_sweep SET after_user_id = $4, after_metric = $5
     WHERE round = $1 AND after_user_id = $2 AND after_metric = $3
"""

_ASK: Final = "UPDATE metric_sweep SET round = round + 1, after_user_id = '', after_metric = ''"

_USER_RANGE: Final = """
    SELECT wanted.user_id, wanted.metric, coalesce(r.version, 0) AS version, r.receive_time,
           coalesce(t.version, 0) AS total_version, coalesce(t.total_micros, 0) AS total_micros, false AS closing,
           d.local_date, d.change_micros, d.event_count
      FROM (SELECT $1::text AS user_id, $2::text AS metric) AS wanted
      LEFT JOIN totals t ON t.user_id = wanted.user_id AND t.metric = wanted.metric
      LEFT JOIN metric_rollups r ON r.user_id = wanted.user_id AND r.metric = wanted.metric
      LEFT JOIN metric_days d
        ON (d.user_id, d.metric, d.local_date) >= (wanted.user_id, wanted.metric, '-infinity'::date)
       AND (d.user_id, d.metric, d.local_date) <= (wanted.user_id, wanted.metric, $3)
"""

_RANGE: Final = """
    SELECT local_date, change_micros, event_count, user_count
      FROM metric_day_totals
     WHERE metric = $1 AND local_date BETWEEN $2 AND $3
     ORDER BY local_date
"""

_BEFORE: Final = """
    SELECT coalesce(sum(change_micros), 0) FROM metric_day_totals WHERE metric = $1 AND local_date < $2
"""

_TOP: Final = """
    SELECT user_id, change_micros, event_count
      FROM (SELECT user_id, sum(change_micros) AS change_micros, sum(event_count)::bigint AS event_count
              FROM metric_days
             WHERE metric = $1 AND local_date BETWEEN $2 AND $3
             GROUP BY user_id) AS summed
     WHERE event_count > 0 AND (-change_micros, user_id) > ($4::numeric, $5::text)
       AND EXISTS (SELECT FROM users u WHERE u.user_id = summed.user_id)
     ORDER BY -change_micros, user_id
     LIMIT $6
"""


class SummedTotal(Struct, frozen=True):
    """A user's total of a metric, and how much of it is summed by date."""

    key: Key
    total_version: int
    """0: there is none."""
    total_micros: int
    version: int
    receive_time: datetime
    """Of the newest that is summed."""
    closing: bool
    """The user is being deleted: the deletion sums what is left."""

    @property
    def behind(self) -> bool:
        """Not all of it is summed."""
        return self.version != self.total_version


class Rollup(Struct, frozen=True):
    """More of a user's total is summed now."""

    key: Key
    version_before: int
    version: int
    receive_time: datetime
    days: Days
    """What is added."""


class Sweep(Struct, frozen=True):
    """How far the totals are looked through."""

    round: int
    after: Key


class LedgerEvent(Struct, frozen=True):
    """An event that counts, as the ledger has it."""

    entry_id: UUID
    value_micros: int
    occur_time: datetime
    receive_time: datetime
    position: int
    unique_value: str | None
    entry: bytes
    """Empty: of a user who was deleted."""


class DayTotal(Struct, frozen=True):
    """A metric on one date, over all users."""

    day: date
    amount: Amount
    user_count: int


class Contributor(Struct, frozen=True):
    """What a user's events of some dates came to."""

    user_id: str
    amount: Amount


class MetricDayStore:
    """Reads and writes of what events contribute by local date."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def cursor(self) -> Place | None:
        """How far the domain events are followed; None: not at all yet."""
        cursor = await self._pool.fetchval(_CURSOR, _FEED)
        return None if cursor is None else place_of(cursor, "cursor")

    async def followed(self, cursor: str) -> None:
        """Keeps how far they are followed."""
        await self._pool.execute(_FOLLOWED, _FEED, cursor)

    async def summed_totals(self, keys: Collection[Key]) -> list[SummedTotal]:
        """How these stand."""
        ordered = sorted(keys)
        rows = await self._pool.fetch(_STANDS, [key[0] for key in ordered], [key[1] for key in ordered])
        return [_summed_total(row) for row in rows]

    async def summed_totals_after(self, key: Key, limit: int) -> list[SummedTotal]:
        """How those stand that come next."""
        return [_summed_total(row) for row in await self._pool.fetch(_NEXT_TOTALS, *key, limit)]

    async def summed_totals_of(self, user_id: str) -> list[SummedTotal]:
        """How a user's stand."""
        return [_summed_total(row) for row in await self._pool.fetch(_OF_USER, user_id)]

    async def received_since(self, key: Key, since: datetime) -> list[bytes]:
        """The entries of a user that may have changed the total and were received from an instant on."""
        return [row["entry"] for row in await self._pool.fetch(_RECEIVED_SINCE, *key, since)]

    async def read(self, key: Key, take: Callable[[LedgerEvent], None]) -> tuple[SummedTotal, Days]:
        """Every event of a user and metric that counts, in no order, as of the total that is the result; and what is
        summed of them.
        """
        async with one_instant(self._pool, "entries") as connection:
            row = await connection.fetchrow(_STANDS, [key[0]], [key[1]])
            assert row is not None
            days = {day["local_date"]: _amount(day) for day in await connection.fetch(_ALL_DAYS, *key)}
            async for event in connection.cursor(_LIVE, *key, prefetch=_ROWS_AT_ONCE):
                take(LedgerEvent(**dict(event)))
        return _summed_total(row), days

    async def days(self, keys: Collection[tuple[str, str, date]]) -> dict[tuple[str, str, date], Amount]:
        """What these dates have."""
        ordered = sorted(keys)
        columns = [[key[place] for key in ordered] for place in range(3)]
        rows = await self._pool.fetch(_DAYS, *columns)
        return {(row["user_id"], row["metric"], row["local_date"]): _amount(row) for row in rows}

    async def add(
        self, rollups: Sequence[Rollup], totals: Sequence[tuple[str, DayTotal]], erasing: str = ""
    ) -> bool:
        """Adds what is new. False, and nothing is added, where another replica was first, or a user is being deleted.

        `totals` is the same over all users, by metric; `erasing` is whom the caller deletes.
        """
        ordered = sorted(rollups, key=lambda each: each.key)
        rows = [(*each.key, each.version_before, each.version, each.receive_time) for each in ordered]
        days = [
            (*each.key, day, amount.micros, amount.event_count)
            for each in ordered
            for day, amount in sorted(each.days.items())
        ]
        sums = sorted(
            (metric, total.day, total.amount.micros, total.amount.event_count, total.user_count)
            for metric, total in totals
        )
        try:
            await self._pool.execute(_ADD, rows, days, sums, erasing)
        except asyncpg.PostgresError as error:
            if not is_conflict(error):
                raise
            return False
        return True

    async def sweep(self) -> Sweep | None:
        """How far the totals are looked through; None: to the end."""
        row = await self._pool.fetchrow(_SWEEP)
        return None if row is None else Sweep(row["round"], (row["after_user_id"], row["after_metric"]))

    async def swept(self, before: Sweep, through: Key | None) -> None:
        """Keeps how much further that has come; None: to the end."""
        await self._pool.execute(_SWEPT, before.round, *before.after, *(through or (None, None)))

    async def ask_for_sweep(self) -> None:
        """All totals are to be looked through, from the beginning."""
        await self._pool.execute(_ASK)

    async def user_days(self, key: Key, last: date) -> tuple[SummedTotal, dict[date, Amount]]:
        """How a user's total stands, and what is summed up to a date, in one look."""
        rows = await self._pool.fetch(_USER_RANGE, *key, last)
        days = {row["local_date"]: _amount(row) for row in rows if row["local_date"] is not None}
        return _summed_total(rows[0]), days

    async def totals(self, metric: str, first: date, last: date) -> tuple[int, list[DayTotal]]:
        """What a metric's total over all users was before a date, and what came on that and later ones."""
        async with one_instant(self._pool) as connection:
            before = await connection.fetchval(_BEFORE, metric, first)
            rows = await connection.fetch(_RANGE, metric, first, last)
        return int(before), [DayTotal(row["local_date"], _amount(row), row["user_count"]) for row in rows]

    async def top(
        self, metric: str, first: date, last: date, after: tuple[int, str] | None, limit: int
    ) -> list[Contributor]:
        """Who contributed most on these dates, behind one of them."""
        place = (-after[0], after[1]) if after else (_LEAST, "")
        rows = await self._pool.fetch(_TOP, metric, first, last, *place, limit)
        return [Contributor(row["user_id"], _amount(row)) for row in rows]


def _summed_total(row: Record) -> SummedTotal:
    return SummedTotal(
        (row["user_id"], row["metric"]),
        row["total_version"],
        row["total_micros"],
        row["version"],
        row["receive_time"] or BEGINNING,
        row["closing"],
    )


def _amount(row: Record) -> Amount:
    return Amount(int(row["change_micros"]), row["event_count"])
