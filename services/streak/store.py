"""What is stored of streaks: the SQL of the event path (DESIGN 3).

An event costs two round trips for its whole batch: `load` and `save`, one statement each; users who came lately are
not loaded again (`shared.recent`). Only where events touch the past they need more (store_history.py).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.streak.domain import (
    Fact,
    LedgerKey,
    LedgerLine,
    Period,
    UserStreak,
    UserZone,
    ZoneChange,
)
from services.streak.encoding import encode, encode_by_hand
from services.streak.rows import (
    Key,
    columns_of,
    fact_of,
    key_of,
    ledger_row,
    period_row,
    user_streak_of,
)
from shared.postgres.errors import StateMoved
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State
from shared.recent import RecentStates

# One row for each streak of a user that the batch can touch, at least one for each user. OFFSET 0 keeps the planner
# from joining with all rows of those streaks, which looks cheap while the table is empty: that is when it is asked.
LOAD: Final = """
    SELECT batch.user_id, coalesce(users.version, 0) AS guard, users.time_zone, users.user_version, users.move_time,
           (SELECT version FROM configuration_version) AS configuration_version,
           s.streak, s.version, s.length, s.longest, s.reach_time, s.fingerprint, s.closed_time, s.state,
           s.by_hand
      FROM unnest($1::text[]) AS batch (user_id)
      LEFT JOIN users ON users.user_id = batch.user_id
      LEFT JOIN LATERAL (
           SELECT * FROM streak_states
            WHERE user_id = batch.user_id AND (streak = ANY($2::text[]) OR $3) OFFSET 0
      ) AS s ON true
"""

LOAD_WHOLE: Final = """
    SELECT $1::text AS user_id, coalesce(users.version, 0) AS guard,
           users.time_zone, users.user_version, users.move_time,
           configuration_version.version AS configuration_version,
           s.streak, s.version, s.length, s.longest, s.reach_time, s.fingerprint, s.closed_time, s.state,
           s.by_hand
      FROM configuration_version
      LEFT JOIN users ON users.user_id = $1
      LEFT JOIN streak_states s ON s.user_id = $1
     ORDER BY s.streak
"""

# One statement is one transaction: the entries, their effects and the check that nobody was faster stand or
# fall together. Rows go in by key, so that two writers never wait for each other in a circle. A user of whom an entry
# says nothing new stays as he is, but whoever decides meanwhile where he was has to know of it: one of both waits.
SAVE: Final = """
    WITH known AS (
        UPDATE users
           SET version = batch.version, time_zone = batch.time_zone, user_version = batch.user_version,
               move_time = batch.move_time
          FROM unnest($1::user_row_2[]) AS batch
         WHERE users.user_id = batch.user_id AND users.version = batch.version - 1
        RETURNING 1
    ), new AS (
        INSERT INTO users (user_id, version, time_zone, user_version, move_time)
        SELECT * FROM unnest($1::user_row_2[]) AS batch WHERE batch.version = 1
            ON CONFLICT (user_id) DO NOTHING
        RETURNING 1
    ), stayed AS (
        SELECT users.user_id FROM unnest($8::text[], $9::bigint[]) AS known (user_id, version)
          JOIN users ON users.user_id = known.user_id AND users.version = known.version
           FOR SHARE OF users
    ), log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time,
                                 metric, contribution_micros, contribution_version, occur_time, time_zone, streaks,
                                 names_zone)
        SELECT * FROM unnest($2::log_row_3[])
    ), states AS (
        INSERT INTO streak_states (user_id, streak, version, length, longest, reach_time, fingerprint,
                                   closed_time, next_close_time, state, by_hand)
        SELECT * FROM unnest($3::streak_state_row_2[])
            ON CONFLICT (user_id, streak) DO UPDATE
               SET version = EXCLUDED.version, length = EXCLUDED.length, longest = EXCLUDED.longest,
                   reach_time = EXCLUDED.reach_time, fingerprint = EXCLUDED.fingerprint,
                   closed_time = EXCLUDED.closed_time, next_close_time = EXCLUDED.next_close_time,
                   state = EXCLUDED.state, by_hand = EXCLUDED.by_hand
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
        INSERT INTO freeze_ledger (user_id, streak, effective_date, reason, amount, about_date)
        SELECT * FROM unnest($6::freeze_ledger_row_2[])
            ON CONFLICT (user_id, streak, effective_date, reason, about_date) DO UPDATE
               SET amount = EXCLUDED.amount
    ), struck AS (
        DELETE FROM freeze_ledger
         USING unnest($7::freeze_ledger_key_2[]) AS gone
         WHERE freeze_ledger.user_id = gone.user_id AND freeze_ledger.streak = gone.streak
           AND freeze_ledger.effective_date = gone.effective_date AND freeze_ledger.reason = gone.reason
           AND freeze_ledger.about_date = gone.about_date
    )
    SELECT require_rows((SELECT count(*) FROM known) + (SELECT count(*) FROM new) + (SELECT count(*) FROM stayed)
                            + (SELECT count(*) FROM configuration_version WHERE version = $10),
                        cardinality($1::user_row_2[]) + cardinality($8::text[]) + 1)
"""

# What few entries change, in a transaction with the other: where a user was, and what earlier events contribute.
SAVE_MORE: Final = """
    WITH moved AS (
        INSERT INTO zone_changes (user_id, occur_time, entry_id, time_zone)
        SELECT * FROM unnest($1::zone_change_row[])
            ON CONFLICT (user_id, occur_time, entry_id) DO UPDATE SET time_zone = EXCLUDED.time_zone
    ), stayed AS (
        DELETE FROM zone_changes
         USING unnest($2::zone_change_key[]) AS gone
         WHERE zone_changes.user_id = gone.user_id AND zone_changes.occur_time = gone.occur_time
           AND zone_changes.entry_id = gone.entry_id
    ), revised AS (
        UPDATE request_log
           SET contribution_micros = revised.contribution_micros, contribution_version = revised.version
          FROM unnest($3::contribution_row[]) AS revised
         WHERE request_log.entry_id = revised.entry_id
    )
    INSERT INTO contributions (entry_id, user_id, contribution_micros, version)
    SELECT * FROM unnest($4::contribution_row[])
        ON CONFLICT (entry_id) DO UPDATE
           SET contribution_micros = EXCLUDED.contribution_micros, version = EXCLUDED.version
"""

CONFIGURATION_VERSION: Final = "SELECT version FROM configuration_version"
LOCK_USERS: Final = """
    SELECT user_id FROM users WHERE user_id = ANY($1::text[]) ORDER BY user_id FOR UPDATE
"""
FACT: Final = """
    SELECT user_id, streaks, entry_id, metric, contribution_micros, contribution_version, occur_time,
           time_zone, apply_time
      FROM request_log WHERE entry_id = $1
"""

NEVER_IN_USE: Final = "SELECT $1::text IS NULL"
IN_USE: Final = "SELECT EXISTS (SELECT FROM streak_states WHERE streak = $1 AND state IS NOT NULL)"


class Loaded(Struct, frozen=True):
    """The state of some users, as of one instant."""

    configuration_version: int
    guards: Mapping[str, int]
    """Version of each user; 0 where there is none yet."""
    zones: Mapping[str, UserZone]
    """The zone of each user of whom something is known."""
    streaks: Mapping[Key, UserStreak]
    asked: Mapping[str, frozenset[str]] = {}
    """Which streaks of each user are here, where not all are read anew with the next entry."""
    lives: Mapping[str, int] = {}
    """Of those users (`UserSnapshot.life`)."""
    is_guess: bool = False
    """Not all of it was read: some is what was stored last. Storing checks it, but not a refusal."""

    def with_whole(self, whole: "Loaded") -> "Loaded":
        """With users of whom more was loaded since. Raises `StateMoved` where the definitions are others by now."""
        if whole.configuration_version != self.configuration_version:
            raise StateMoved("the definitions changed")
        others = {key: streak for key, streak in self.streaks.items() if key[0] not in whole.guards}
        return Loaded(
            self.configuration_version,
            {**self.guards, **whole.guards},
            {**self.zones, **whole.zones},
            {**others, **whole.streaks},
            {user: keys for user, keys in self.asked.items() if user not in whole.guards},
            self.lives,
            self.is_guess,
        )


class Kept(Struct, frozen=True):
    """A user's state in some streaks as it was stored last."""

    guard: int
    zone: UserZone
    asked: frozenset[str]
    """Which streaks."""
    streaks: Mapping[str, UserStreak]


class LogEntry(Struct, frozen=True):
    """An applied entry, its fact and its outcome."""

    entry_id: UUID
    user_id: str
    digest: bytes
    outcome: bytes
    apply_time: datetime
    seen: ZoneChange | None
    """Where it happened; None for a correction, which is nothing that a user did."""
    names_zone: bool
    """Whether the entry says so itself."""
    fact: Fact | None
    """None for what is no event of a metric."""
    contribution_version: int | None
    """Of the total, where the contribution may change."""
    streaks: Sequence[str] = ()
    """The keys of those for which it counts."""
    state: State = State.APPLIED


class Applied(Struct, frozen=True):
    """An entry that was applied, and the streaks that it counts for."""

    user_id: str
    occur_time: datetime | None
    fact: Fact | None
    streaks: Sequence[str]
    is_revisable: bool
    """Its contribution may change when others come or go."""


class StreakRow(Struct, frozen=True):
    """A user's streak as it is to be stored."""

    key: Key
    streak: UserStreak
    next_close_time: datetime | None


class Writes(Struct, frozen=True):
    """All that is to be stored of users' streaks, in order of key; `None` where a row is to be removed."""

    users: Sequence[tuple[str, int, UserZone]]
    """The users that change, the versions that they get, and their zones."""
    stayed: Sequence[tuple[str, int]]
    """The users that an entry was about and that do not change, and their versions."""
    streaks: Sequence[StreakRow]
    periods: Sequence[tuple[Key, date, Period | None]]
    ledger: Sequence[tuple[Key, LedgerKey, LedgerLine | None]]
    zones: Sequence[tuple[str, datetime, UUID, str | None]] = ()
    """When users came into which zone."""
    revised: Sequence[tuple[UUID, str, int, int]] = ()
    """What stored events contribute: entry, user, micro-units and the version of the total."""
    told: Sequence[tuple[UUID, str, int, int]] = ()
    """The same of events that have not come."""


class Store:
    """The state of users' streaks. Every method is one statement, except where it says otherwise."""

    def __init__(self, pool: Pool, recent_users: int = 0) -> None:
        self._pool = pool
        self.recent: RecentStates[Kept] = RecentStates(recent_users)

    async def recall(self, users: Mapping[str, int], streaks: Collection[str], version: int) -> Loaded:
        """What `load` gives of these users, each in a life, by definitions of this version; of those who came lately
        without a round trip. There is at least one user.
        """
        asked = frozenset(streaks)
        kept = self.recent.known(users, version)
        known = {user: each for user, each in kept.items() if each.asked >= asked}
        missing = [user for user in users if user not in known]
        read = None
        if missing:
            # Who comes with one thing and then another is read with both.
            asked = asked.union(*(kept[user].asked for user in missing if user in kept))
            read = await self.load(missing, asked)
            self.recent.configuration_version = read.configuration_version
        assert self.recent.configuration_version is not None  # who is kept was loaded
        return Loaded(
            self.recent.configuration_version,
            {**(read.guards if read else {}), **{user: each.guard for user, each in known.items()}},
            {**(read.zones if read else {}), **{user: each.zone for user, each in known.items()}},
            {
                **(read.streaks if read else {}),
                **{
                    (user, key): streak
                    for user, each in known.items()
                    for key, streak in each.streaks.items()
                },
            },
            {**dict.fromkeys(missing, asked), **{user: each.asked for user, each in known.items()}},
            users,
            bool(known),
        )

    async def load(
        self,
        users: Iterable[str],
        streaks: Iterable[str],
        connection: Connection | None = None,
        *,
        whole: bool = False,
    ) -> Loaded:
        """The state of these users in these streaks, or in all. There is at least one user."""
        rows = await (connection or self._pool).fetch(LOAD, sorted(users), sorted(streaks), whole)
        return _loaded(rows)

    async def load_whole(self, user_id: str) -> Loaded:
        """The state of a user in all streaks, in order of key."""
        return _loaded(await self._pool.fetch(LOAD_WHOLE, user_id))

    async def save(
        self,
        entries: Sequence[LogEntry],
        writes: Writes,
        loaded: Loaded,
        connection: Connection | None = None,
    ) -> None:
        """Store entries and their effects on what was loaded, all or nothing.

        Raises a serialization failure when a user's version or the definitions moved meanwhile, and a unique violation
        when an entry is known.
        """
        if connection is None and (writes.zones or writes.revised or writes.told):
            async with self._pool.acquire() as own, own.transaction():
                await self.save(entries, writes, loaded, own)
            return
        self.recent.forget(user for user, _, _ in writes.users)
        source = connection or self._pool
        await source.fetchval(
            SAVE,
            [
                (user, version, zone.time_zone, zone.version, zone.move_time)
                for user, version, zone in writes.users
            ],
            sorted(map(_log_row, entries), key=lambda row: row[0]),
            [_state_row(row) for row in writes.streaks],
            [period_row(key, row) for key, _, row in writes.periods if row],
            [(*key, start) for key, start, row in writes.periods if row is None],
            [ledger_row(key, row) for key, _, row in writes.ledger if row],
            [(*key, *line) for key, line, row in writes.ledger if row is None],
            *columns_of(writes.stayed, 2),
            loaded.configuration_version,
        )
        if connection is None:
            self.recent.keep(_as_stored(writes, loaded), loaded.lives)
        if writes.zones or writes.revised or writes.told:
            await source.execute(
                SAVE_MORE,
                [row for row in writes.zones if row[3] is not None],
                [row[:3] for row in writes.zones if row[3] is None],
                list(writes.revised),
                list(writes.told),
            )

    async def configuration_version(self, connection: Connection) -> int:
        """The version of the definitions."""
        version: int = await connection.fetchval(CONFIGURATION_VERSION)
        return version

    async def lock_users(self, connection: Connection, users: Iterable[str]) -> None:
        """Keep everybody else from changing these users until the end of the transaction."""
        await connection.fetch(LOCK_USERS, sorted(users))

    async def applied(self, connection: Connection, entry_id: UUID) -> Applied:
        """An applied entry."""
        row = await connection.fetchrow(FACT, entry_id)
        if row is None:
            raise LookupError("an applied entry has a row")
        return Applied(
            user_id=row["user_id"],
            occur_time=row["occur_time"],
            fact=fact_of(row) if row["metric"] is not None else None,
            streaks=row["streaks"] or (),
            is_revisable=row["contribution_version"] is not None,
        )


def _as_stored(writes: Writes, loaded: Loaded) -> dict[str, Kept]:
    """The users of whom it is known what was loaded, after what was written."""
    written = {row.key: row.streak for row in writes.streaks}
    kept = {}
    for user, version, zone in writes.users:
        asked = loaded.asked.get(user)
        if asked is None:
            continue
        streaks = {}
        for streak in asked:
            state = written.get((user, streak)) or loaded.streaks.get((user, streak))
            if state is not None:
                streaks[streak] = state
        kept[user] = Kept(version, zone, asked, streaks)
    return kept


def _loaded(rows: Sequence[asyncpg.Record]) -> Loaded:
    return Loaded(
        configuration_version=rows[0]["configuration_version"],
        guards={row["user_id"]: row["guard"] for row in rows},
        zones={
            row["user_id"]: UserZone(row["time_zone"], row["user_version"], row["move_time"])
            for row in rows
            if row["time_zone"] is not None
        },
        streaks={key_of(row): user_streak_of(row) for row in rows if row["streak"] is not None},
    )


def _log_row(entry: LogEntry) -> tuple[Any, ...]:
    event, seen = entry.fact, entry.seen
    return (
        entry.entry_id,
        entry.user_id,
        entry.digest,
        entry.state,
        entry.outcome,
        entry.apply_time,
        event.metric if event else None,
        event.contribution_micros if event else None,
        entry.contribution_version,
        seen.occur_time if seen else None,
        seen.time_zone if seen else None,
        entry.streaks if seen else None,
        entry.names_zone if seen else None,
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
        encode_by_hand(streak.by_hand) if streak.by_hand else None,
    )
