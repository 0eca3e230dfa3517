"""What is stored of streaks: the SQL of the event path (DESIGN 3).

An event costs two round trips for its whole batch: `load` and `save`, one statement each. Only where events
touch the past they need more (store_history.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.streak.domain import (
    Fact,
    Followed,
    FreezeReason,
    LedgerLine,
    Period,
    PeriodStatus,
    Reach,
    UserStreak,
    fact,
)
from services.streak.encoding import decode, encode
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State

Key = tuple[str, str]
"""A user's streak: user id and streak key."""

# One row for each streak of a user that the batch can touch, at least one for each user. OFFSET 0 keeps the planner
# from joining with all rows of those streaks, which looks cheap while the table is empty: that is when it is asked.
LOAD: Final = """
    SELECT batch.user_id, coalesce(users.version, 0) AS guard,
           (SELECT version FROM configuration_version) AS configuration_version,
           s.streak, s.version, s.length, s.longest, s.reach_time, s.fingerprint, s.closed_time, s.state
      FROM unnest($1::text[]) AS batch (user_id)
      LEFT JOIN users ON users.user_id = batch.user_id
      LEFT JOIN LATERAL (
           SELECT * FROM streak_states WHERE user_id = batch.user_id AND streak = ANY($2::text[]) OFFSET 0
      ) AS s ON true
"""

LOAD_WHOLE: Final = """
    SELECT $1::text AS user_id, 0::bigint AS guard, configuration_version.version AS configuration_version,
           s.streak, s.version, s.length, s.longest, s.reach_time, s.fingerprint, s.closed_time, s.state
      FROM configuration_version LEFT JOIN streak_states s ON s.user_id = $1
     ORDER BY s.streak
"""

# One statement is one transaction: the entries, their effects and the check that nobody was faster stand or
# fall together. Rows go in by key, so that two writers never wait for each other in a circle.
SAVE: Final = """
    WITH guard AS (
        INSERT INTO users (user_id, version)
        SELECT * FROM unnest($1::user_row[])
            ON CONFLICT (user_id) DO UPDATE SET version = EXCLUDED.version
             WHERE users.version = EXCLUDED.version - 1
        RETURNING 1
    ), log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time,
                                 metric, value_micros, occur_time, time_zone, streaks)
        SELECT * FROM unnest($2::log_row[])
    ), states AS (
        INSERT INTO streak_states (user_id, streak, version, length, longest, reach_time, fingerprint,
                                   closed_time, next_close_time, state)
        SELECT * FROM unnest($3::streak_state_row[])
            ON CONFLICT (user_id, streak) DO UPDATE
               SET version = EXCLUDED.version, length = EXCLUDED.length, longest = EXCLUDED.longest,
                   reach_time = EXCLUDED.reach_time, fingerprint = EXCLUDED.fingerprint,
                   closed_time = EXCLUDED.closed_time, next_close_time = EXCLUDED.next_close_time,
                   state = EXCLUDED.state
    ), recorded AS (
        INSERT INTO periods (user_id, streak, start_date, end_date, status, length, settle_time, entry_id, local_date)
        SELECT * FROM unnest($4::period_row_2[])
            ON CONFLICT (user_id, streak, start_date) DO UPDATE
               SET end_date = EXCLUDED.end_date, status = EXCLUDED.status, length = EXCLUDED.length,
                   settle_time = EXCLUDED.settle_time, entry_id = EXCLUDED.entry_id,
                   local_date = EXCLUDED.local_date
    ), removed AS (
        DELETE FROM periods
         USING unnest($5::period_key[]) AS gone
         WHERE periods.user_id = gone.user_id AND periods.streak = gone.streak
           AND periods.start_date = gone.start_date
    ), entered AS (
        INSERT INTO freeze_ledger (user_id, streak, effective_date, reason, amount)
        SELECT * FROM unnest($6::freeze_ledger_row[])
            ON CONFLICT (user_id, streak, effective_date, reason) DO UPDATE SET amount = EXCLUDED.amount
    ), struck AS (
        DELETE FROM freeze_ledger
         USING unnest($7::freeze_ledger_key[]) AS gone
         WHERE freeze_ledger.user_id = gone.user_id AND freeze_ledger.streak = gone.streak
           AND freeze_ledger.effective_date = gone.effective_date AND freeze_ledger.reason = gone.reason
    )
    SELECT require_rows((SELECT count(*) FROM guard), cardinality($1::user_row[]))
"""

CONFIGURATION_VERSION: Final = "SELECT version FROM configuration_version"
LOCK_USERS: Final = """
    SELECT user_id FROM users WHERE user_id = ANY($1::text[]) ORDER BY user_id FOR UPDATE
"""
FACT: Final = """
    SELECT user_id, streaks, entry_id, metric, value_micros, occur_time, time_zone
      FROM request_log WHERE entry_id = $1
"""

IN_USE: Final = "SELECT EXISTS (SELECT FROM streak_states WHERE streak = $1 AND state IS NOT NULL)"


class Loaded(Struct, frozen=True):
    """The state of some users, as of one instant."""

    configuration_version: int
    guards: Mapping[str, int]
    """Version of each user; 0 where there is none yet."""
    streaks: Mapping[Key, UserStreak]


class LogEntry(Struct, frozen=True):
    """An applied entry, its fact and its outcome. `streaks` are the keys for which it counts."""

    entry_id: UUID
    user_id: str
    digest: bytes
    outcome: bytes
    apply_time: datetime
    fact: Fact | None = None
    """None where it is no event."""
    streaks: Sequence[str] | None = None


class StreakRow(Struct, frozen=True):
    """A user's streak as it is to be stored."""

    key: Key
    streak: UserStreak
    next_close_time: datetime | None


class Writes(Struct, frozen=True):
    """All that is to be stored of users' streaks, in order of key; `None` where a row is to be removed."""

    guards: Sequence[tuple[str, int]]
    """The users that change, and the versions that they get."""
    streaks: Sequence[StreakRow]
    periods: Sequence[tuple[Key, date, Period | None]]
    ledger: Sequence[tuple[Key, date, FreezeReason, LedgerLine | None]]


class Store:
    """The state of users' streaks. Every method is one statement, except where it says otherwise."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(
        self, users: Iterable[str], streaks: Iterable[str], connection: Connection | None = None
    ) -> Loaded:
        """The state of these users in these streaks. There is at least one user."""
        rows = await (connection or self._pool).fetch(LOAD, sorted(users), sorted(streaks))
        return _loaded(rows)

    async def load_whole(self, user_id: str) -> Loaded:
        """The state of a user in all streaks, in order of key."""
        return _loaded(await self._pool.fetch(LOAD_WHOLE, user_id))

    async def save(
        self, entries: Sequence[LogEntry], writes: Writes, connection: Connection | None = None
    ) -> None:
        """Store entries and their effects, all or nothing.

        Raises a serialization failure when a user's version moved meanwhile, and a unique violation when an
        entry is known.
        """
        await (connection or self._pool).fetchval(
            SAVE,
            list(writes.guards),
            sorted(map(_log_row, entries), key=lambda row: row[0]),
            [_state_row(row) for row in writes.streaks],
            [_period_row(key, row) for key, _, row in writes.periods if row],
            [(*key, start) for key, start, row in writes.periods if row is None],
            [_ledger_row(key, row) for key, _, _, row in writes.ledger if row],
            [(*key, day, reason) for key, day, reason, row in writes.ledger if row is None],
        )

    async def configuration_version(self, connection: Connection) -> int:
        """The version of the definitions."""
        version: int = await connection.fetchval(CONFIGURATION_VERSION)
        return version

    async def lock_users(self, connection: Connection, users: Iterable[str]) -> None:
        """Keep everybody else from changing these users until the end of the transaction."""
        await connection.fetch(LOCK_USERS, sorted(users))

    async def counted_for(
        self, connection: Connection, entry_id: UUID
    ) -> tuple[str, Fact | None, Sequence[str]]:
        """The user of an applied entry, its fact if it has one, and the streaks that it counts for."""
        row = await connection.fetchrow(FACT, entry_id)
        if row is None:
            raise LookupError("an applied entry has a row")
        return row["user_id"], None if row["metric"] is None else fact_of(row), row["streaks"] or ()


def _loaded(rows: Sequence[asyncpg.Record]) -> Loaded:
    return Loaded(
        configuration_version=rows[0]["configuration_version"],
        guards={row["user_id"]: row["guard"] for row in rows},
        streaks={key_of(row): _user_streak(row) for row in rows if row["streak"] is not None},
    )


def _user_streak(row: asyncpg.Record) -> UserStreak:
    return UserStreak(
        version=row["version"],
        followed=Followed(row["length"], row["longest"], row["reach_time"]),
        fingerprint=row["fingerprint"],
        closed_time=row["closed_time"],
        state=decode(row["state"]) if row["state"] is not None else None,
    )


def key_of(row: asyncpg.Record) -> Key:
    """Whose streak a row is about."""
    return row["user_id"], row["streak"]


def fact_of(row: asyncpg.Record) -> Fact:
    """The fact of a row of `request_log`."""
    return fact(row["entry_id"], row["metric"], row["value_micros"], row["occur_time"], row["time_zone"])


def period_of(row: asyncpg.Record) -> Period:
    """A row of `periods`."""
    reach = None
    if row["entry_id"] is not None:
        reach = Reach(row["entry_id"], row["settle_time"], row["local_date"])
    status = PeriodStatus(row["status"])
    return Period(row["start_date"], row["end_date"], status, row["length"], row["settle_time"], reach)


def ledger_line_of(row: asyncpg.Record) -> LedgerLine:
    """A row of `freeze_ledger`."""
    return LedgerLine(row["effective_date"], FreezeReason(row["reason"]), row["amount"])


def _log_row(entry: LogEntry) -> tuple[Any, ...]:
    one = entry.fact
    return (
        entry.entry_id,
        entry.user_id,
        entry.digest,
        State.APPLIED,
        entry.outcome,
        entry.apply_time,
        one and one.metric,
        one and one.value_micros,
        one and one.occur_time,
        one and one.time_zone,
        entry.streaks,
    )


def _state_row(row: StreakRow) -> tuple[Any, ...]:
    streak, followed = row.streak, row.streak.followed
    return (
        *row.key,
        streak.version,
        followed.length,
        followed.longest,
        followed.reach_time,
        streak.fingerprint,
        streak.closed_time,
        row.next_close_time,
        encode(streak.state) if streak.state else None,
    )


def _period_row(key: Key, row: Period) -> tuple[Any, ...]:
    reach = (row.reach.entry_id, row.reach.local_date) if row.reach else (None, None)
    return (*key, row.start_date, row.end_date, row.status, row.length, row.settle_time, *reach)


def _ledger_row(key: Key, line: LedgerLine) -> tuple[Any, ...]:
    return (*key, line.effective_date, line.reason, line.amount)


def columns_of(keys: Iterable[Sequence[Any]], width: int) -> list[Sequence[Any]]:
    """Keys that are asked for, as one array for each of their parts."""
    return list(zip(*keys, strict=True)) or [()] * width
