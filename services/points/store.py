"""What is stored of points: the SQL of the event path and of reads (DESIGN 3).

An event costs two round trips for its whole batch: `load` and `save`, one statement each, both by key; users who
came lately are not loaded again (`shared.recent`). Only a batch with events that came late asks a second time, for the
events that are newer than those.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.points import rows
from services.points.domain.days import Days
from services.points.domain.decisions import CountedFact
from services.points.domain.definitions import TriggerKey
from services.points.domain.ledger import Award
from services.points.domain.lots import Lots
from services.points.domain.state import UserState
from shared.postgres.errors import StateMoved
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State
from shared.recent import RecentStates
from shared.tenants import own_range

# The state of each user as arrays of records, so that it comes in one row and one round trip.
LOAD: Final = """
    SELECT batch.user_id,
           coalesce(users.version, 0) AS version,
           coalesce(users.entry_count, 0) AS entry_count,
           coalesce(users.award_count, 0) AS award_count,
           users.first_position,
           ARRAY(SELECT ROW(points_system, balance, lifetime, level, version, reach_time, cut_position)
                   FROM balances
                  WHERE user_id = batch.user_id) AS balances,
           ARRAY(SELECT ROW(points_system, trigger, kind, granted_count, due_count, accumulated_micros,
                            high_micros, every_micros, irregular, fractional, newest_time, late_position, next_time,
                            zone, day, periods)
                   FROM trigger_states
                  WHERE user_id = batch.user_id) AS triggers,
           ARRAY(SELECT ROW(completion_id, net_count)
                   FROM completions
                  WHERE user_id = batch.user_id AND completion_id = ANY($2::uuid[])) AS completions,
           (SELECT version FROM configuration_version) AS configuration_version
      FROM unnest($1::text[]) AS batch (user_id)
      LEFT JOIN users ON users.user_id = batch.user_id
"""

# The facts of users since an instant each, and how often each of them was awarded by arrivals before a position: the
# rows of the ledger that say so are younger than the oldest of the facts.
WINDOWS: Final = """
    SELECT late.user_id,
           ARRAY(SELECT ROW(position, entry_id, occur_time, local_date, state, follows, contribution_micros,
                            triggers, terms, boosts)
                   FROM request_log
                  WHERE user_id = late.user_id AND occur_time >= late.since AND position < late.before
                    AND position IS NOT NULL AND state = 1 AND triggers IS NOT NULL) AS facts,
           ARRAY(SELECT ROW(entry_id, points_system, trigger, sum(times)::bigint)
                   FROM awards
                  WHERE user_id = late.user_id AND position < late.before AND completion_id IS NULL
                    AND period IS NULL
                    AND sequence > (SELECT min(award_count)
                                      FROM request_log
                                     WHERE user_id = late.user_id AND occur_time >= late.since
                                       AND position < late.before AND position IS NOT NULL AND state = 1)
                  GROUP BY entry_id, points_system, trigger) AS grants
      FROM unnest($1::text[], $2::timestamptz[], $3::bigint[]) AS late (user_id, since, before)
"""

# What triggers of these systems gave to users on local dates from one on, by arrivals before a position. What was given
# for entries of those dates is younger than the oldest of the entries.
DAYS: Final = """
    SELECT asked.user_id,
           ARRAY(SELECT ROW(points_system, trigger, local_date, sum(amount)::bigint, array_agg(occur_time))
                   FROM (SELECT points_system, trigger, local_date, occur_time, sum(amount) AS amount
                           FROM awards
                          WHERE user_id = asked.user_id AND points_system = ANY($4::text[]) AND trigger <> ''
                            AND local_date >= asked.since AND position < asked.before
                            AND sequence > (SELECT min(award_count)
                                              FROM request_log
                                             WHERE user_id = asked.user_id AND position IS NOT NULL
                                               AND occur_time >= asked.since::timestamp AT TIME ZONE 'Etc/GMT-14')
                          GROUP BY position, points_system, trigger, entry_id, completion_id, period, local_date,
                                   occur_time) AS award
                  WHERE amount > 0
                  GROUP BY points_system, trigger, local_date) AS days
      FROM unnest($1::text[], $2::date[], $3::bigint[]) AS asked (user_id, since, before)
"""

# What each award came to, of systems of which something expires; what gives stands before what takes, and what expires
# soonest first.
LOTS: Final = """
    SELECT user_id, points_system, position, max(expire_date) AS expire_date, sum(amount)::bigint AS amount
      FROM awards
     WHERE user_id = ANY($1::text[]) AND position < $2
     GROUP BY user_id, points_system, trigger, position, entry_id, completion_id, period
    HAVING sum(amount) <> 0
     ORDER BY position, sum(amount) < 0, max(expire_date)
"""

# One statement is one transaction: the entries, their effects and the check that nobody was faster stand or fall
# together. Rows go in by key, so that two writers never wait for each other in a circle.
SAVE: Final = """
    WITH known AS (
        UPDATE users
           SET version = batch.version, entry_count = batch.entry_count, award_count = batch.award_count,
               first_position = batch.first_position
          FROM unnest($1::user_row_2[]) AS batch
         WHERE users.user_id = batch.user_id AND users.version = batch.version - 1
        RETURNING 1
    ), new AS (
        INSERT INTO users (user_id, version, entry_count, award_count, first_position)
        SELECT * FROM unnest($1::user_row_2[]) AS batch WHERE batch.version = 1
            ON CONFLICT (user_id) DO NOTHING
        RETURNING 1
    ), log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time, occur_time, local_date,
                                 position, contribution_micros, triggers, contribution_version, follows, terms,
                                 award_count, boosts)
        SELECT * FROM unnest($2::log_row_3[])
    ), ledger AS (
        INSERT INTO awards (user_id, sequence, award_id, points_system, trigger, times, base_amount, amount,
                            entry_id, occur_time, local_date, completion_id, reversed_award_id, position,
                            refolded, cause_entry_id, period, multiplied_amount, multiplier, boosts, level, expire_date)
        SELECT * FROM unnest($3::award_row_4[])
    ), accounts AS (
        INSERT INTO balances (user_id, points_system, balance, lifetime, level, version, reach_time, cut_position)
        SELECT * FROM unnest($4::balance_row_2[])
            ON CONFLICT (user_id, points_system) DO UPDATE
               SET balance = EXCLUDED.balance, lifetime = EXCLUDED.lifetime, level = EXCLUDED.level,
                   version = EXCLUDED.version, reach_time = EXCLUDED.reach_time,
                   cut_position = EXCLUDED.cut_position
    ), counts AS (
        INSERT INTO trigger_states (user_id, points_system, trigger, kind, granted_count, due_count,
                                    accumulated_micros, high_micros, every_micros, irregular, fractional,
                                    newest_time, late_position, next_time, zone, day, periods)
        SELECT * FROM unnest($5::trigger_state_row_5[])
            ON CONFLICT (user_id, points_system, trigger) DO UPDATE
               SET kind = EXCLUDED.kind, granted_count = EXCLUDED.granted_count, due_count = EXCLUDED.due_count,
                   accumulated_micros = EXCLUDED.accumulated_micros, high_micros = EXCLUDED.high_micros,
                   every_micros = EXCLUDED.every_micros, irregular = EXCLUDED.irregular,
                   fractional = EXCLUDED.fractional, newest_time = EXCLUDED.newest_time,
                   late_position = EXCLUDED.late_position, next_time = EXCLUDED.next_time, zone = EXCLUDED.zone,
                   day = EXCLUDED.day, periods = EXCLUDED.periods
    ), rewarded AS (
        INSERT INTO completions (user_id, completion_id, net_count)
        SELECT * FROM unnest($6::completion_row[])
            ON CONFLICT (user_id, completion_id) DO UPDATE SET net_count = EXCLUDED.net_count
    )
    SELECT require_rows((SELECT count(*) FROM known) + (SELECT count(*) FROM new)
                            + (SELECT count(*) FROM configuration_version WHERE version = $7),
                        cardinality($1::user_row_2[]) + 1)
"""

LOCK_USER: Final = """
    SELECT user_id
      FROM users
     WHERE user_id = (SELECT user_id FROM request_log WHERE entry_id = $1)
       FOR UPDATE
"""
# A row for who is new too, so that there is something to lock.
LOCK_ANY_USER: Final = """
    INSERT INTO users (user_id, version, entry_count, award_count) VALUES ($1, 0, 0, 0)
        ON CONFLICT (user_id) DO UPDATE SET version = users.version
"""
POSITION: Final = "SELECT position FROM request_log WHERE entry_id = $1"
MARK_REVERTED: Final = "UPDATE request_log SET state = $2 WHERE entry_id = ANY($1::uuid[])"
REVISIONS: Final = """
    SELECT entry_id, version, contribution_micros FROM revisions WHERE entry_id = ANY($1::uuid[])
"""
FORGET_REVISIONS: Final = "DELETE FROM revisions WHERE entry_id = ANY($1::uuid[])"

IN_USE: Final = """
    SELECT EXISTS (SELECT FROM balances WHERE points_system = $1)
        OR EXISTS (SELECT FROM trigger_states WHERE points_system = $1)
"""
AWARDS: Final = """
    SELECT *
      FROM awards
     WHERE user_id = $1 AND ($2::text = '' OR points_system = $2) AND sequence < $3
       AND NOT (trigger = '(expired)' AND amount = 0)
       AND ($5::text = '' OR trigger = $5)
       AND ($6::uuid IS NULL OR entry_id = $6 OR cause_entry_id = $6)
       AND ($7::timestamptz IS NULL OR occur_time >= $7)
       AND ($8::timestamptz IS NULL OR occur_time < $8)
     ORDER BY sequence DESC
     LIMIT $4
"""
_USERS_BY_LEVEL: Final = """
    SELECT width_bucket(CASE WHEN $2::boolean THEN lifetime ELSE balance END, $3::bigint[]) AS level,
           count(*) AS user_count
      FROM balances
     WHERE points_system = $1 {own}
     GROUP BY 1
"""
USERS_BY_LEVEL: Final = _USERS_BY_LEVEL.format(own="")
USERS_BY_LEVEL_OWN: Final = _USERS_BY_LEVEL.format(own="AND user_id > $4 AND user_id < $5")
USERS_BY_LEVEL_ONLY: Final = _USERS_BY_LEVEL.format(own="AND user_id = ANY($4::text[])")


_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_NEVER: Final = 2**63 - 1
_FACT: Final = (
    "position",
    "entry_id",
    "occur_time",
    "local_date",
    "state",
    "follows",
    "contribution_micros",
    "triggers",
    "terms",
    "boosts",
)


class AwardFilter(Struct, frozen=True):
    """Which awards are asked for."""

    points_system: str = ""
    """Empty: of all."""
    trigger: str = ""
    """Empty: of all, and those without one."""
    entry_id: UUID | None = None
    """To which they belong, or because of which they were written."""
    start_time: datetime | None = None
    """Of entries that occurred from then on."""
    end_time: datetime | None = None
    """Of entries that occurred before."""


class Loaded(Struct, frozen=True):
    """The state of a batch's users, and the configuration's version at the same instant."""

    configuration_version: int
    states: Mapping[str, UserState]
    lives: Mapping[str, int] = {}
    """Of each (`UserSnapshot.life`)."""
    is_guess: bool = False
    """Not all of it was read: some is what was stored last. Storing checks it, but not a refusal."""


def counted_facts(row: asyncpg.Record) -> list[CountedFact]:
    """The facts of a row of the statement for windows, with how often each of their triggers has awarded."""
    granted: dict[Any, dict[TriggerKey, int]] = {}
    for entry_id, points_system, trigger, times in row["grants"]:
        granted.setdefault(entry_id, {})[TriggerKey(points_system, trigger)] = times
    facts = (rows.fact(dict(zip(_FACT, record, strict=True))) for record in row["facts"])
    return [CountedFact(fact, granted.get(fact.instant.entry_id, {})) for fact in facts]


class Store:
    """The service's database."""

    def __init__(self, pool: Pool, recent_users: int = 0) -> None:
        self._pool = pool
        self.recent: RecentStates[UserState] = RecentStates(recent_users)

    async def recall(self, lives: Mapping[str, int], completions: Mapping[str, Collection[UUID]]) -> Loaded:
        """The state of these users (at least one), each in a life, with these completions of theirs; of those who came
        lately, and of whom none is asked for, without a round trip.
        """
        known = self.recent.known({user: life for user, life in lives.items() if not completions[user]})
        missing = [user for user in lives if user not in known]
        states = dict(known)
        if missing:
            loaded = await self.load(missing, {each for user in missing for each in completions[user]})
            self.recent.configuration_version = loaded.configuration_version
            states |= loaded.states
        assert self.recent.configuration_version is not None  # who is kept was loaded
        return Loaded(self.recent.configuration_version, states, lives, bool(known))

    async def load(
        self,
        user_ids: Collection[str],
        completion_ids: Collection[UUID] = (),
        connection: Connection | None = None,
    ) -> Loaded:
        """The state of these users (at least one), of completions only these."""
        found = await (connection or self._pool).fetch(LOAD, sorted(user_ids), list(completion_ids))
        return Loaded(found[0]["configuration_version"], {row["user_id"]: rows.state(row) for row in found})

    async def windows(self, since: Mapping[str, datetime | None]) -> dict[str, list[CountedFact]]:
        """The facts of these users since an instant each (None: all)."""
        keys = [(user_id, time or _BEGINNING, _NEVER) for user_id, time in sorted(since.items())]
        found = await self._pool.fetch(WINDOWS, *rows.columns(3, keys))
        return {row["user_id"]: counted_facts(row) for row in found}

    async def days(self, since: Mapping[str, date], systems: Collection[str]) -> dict[str, Days]:
        """What triggers of these systems gave to users on local dates, from one on each."""
        keys = [(user_id, first, _NEVER) for user_id, first in sorted(since.items())]
        found = await self._pool.fetch(DAYS, *rows.columns(3, keys), list(systems))
        return {row["user_id"]: rows.days(row["days"], since[row["user_id"]]) for row in found}

    async def lots(self, user_ids: Collection[str], connection: Connection | None = None) -> dict[str, Lots]:
        """What is left of these users' awards."""
        return rows.lots(await (connection or self._pool).fetch(LOTS, sorted(user_ids), _NEVER))

    async def revisions(
        self, entry_ids: Sequence[UUID], connection: Connection | None = None
    ) -> dict[UUID, tuple[int, int]]:
        """What was said of entries before they came: version and contribution."""
        found = await (connection or self._pool).fetch(REVISIONS, entry_ids)
        return {row["entry_id"]: (row["version"], row["contribution_micros"]) for row in found}

    async def forget_revisions(self, entry_ids: Sequence[UUID], connection: Connection) -> None:
        """They have come."""
        await connection.execute(FORGET_REVISIONS, entry_ids)

    async def save(
        self,
        entries: Sequence[rows.LogEntry],
        awards: Mapping[str, Sequence[Award]],
        before: Mapping[str, UserState],
        after: Mapping[str, UserState],
        configuration_version: int,
        connection: Connection | None = None,
        *,
        keep: Mapping[str, int] | None = None,
    ) -> None:
        """Store decided entries and what they changed. Raises a conflict when a state or the definitions moved
        meanwhile. `keep`: users whose state after it is what would be loaded, each in a life.
        """
        lives = keep or {}
        pairs = [(before[user], after[user]) for user in sorted(after) if after[user] is not before[user]]
        self.recent.forget(after)
        await (connection or self._pool).execute(
            SAVE,
            [rows.user_row(old, new) for old, new in pairs],
            sorted(map(rows.log_row, entries), key=lambda row: row[0]),
            [row for user in sorted(awards) for row in rows.award_rows(user, awards[user])],
            [row for old, new in pairs for row in rows.balance_rows(old, new)],
            [row for old, new in pairs for row in rows.trigger_rows(old, new)],
            [row for old, new in pairs for row in rows.completion_rows(old, new)],
            configuration_version,
        )
        self.recent.keep(
            {new.user_id: rows.as_loaded(old, new) for old, new in pairs if new.user_id in lives}, lives
        )

    async def lock_user_of(self, connection: Connection, entry_id: UUID) -> str:
        """The user of an applied entry, kept from all other writers until the transaction ends."""
        user_id: str | None = await connection.fetchval(LOCK_USER, entry_id)
        if user_id is None:
            raise StateMoved("the entry is gone")
        return user_id

    async def lock_user(self, connection: Connection, user_id: str) -> None:
        """Keep a user from all other writers until the transaction ends."""
        await connection.execute(LOCK_ANY_USER, user_id)

    async def position(self, connection: Connection, entry_id: UUID) -> int | None:
        """The place of an entry in the order of arrival. What followed from others had none once."""
        position: int | None = await connection.fetchval(POSITION, entry_id)
        return position

    async def mark_reverted(self, connection: Connection, entry_ids: Sequence[UUID]) -> None:
        """Entries that are undone with another one."""
        await connection.execute(MARK_REVERTED, entry_ids, State.REVERTED)

    async def awards(
        self, user_id: str, wanted: AwardFilter, before_sequence: int, limit: int
    ) -> list[Award]:
        """A user's awards, newest first."""
        found = await self._pool.fetch(
            AWARDS,
            user_id,
            wanted.points_system,
            before_sequence,
            limit,
            wanted.trigger,
            wanted.entry_id,
            wanted.start_time,
            wanted.end_time,
        )
        return [rows.award(row) for row in found]

    async def users_by_level(
        self,
        points_system: str,
        *,
        by_lifetime: bool,
        thresholds: Sequence[int],
        only: Sequence[str] | None = None,
    ) -> list[int]:
        """How many users, of these or of all, are below the first of the ascending thresholds, and at each of them."""
        counts = [0] * (len(thresholds) + 1)
        whose: tuple[object, ...] = own_range()
        query = USERS_BY_LEVEL_OWN if whose else USERS_BY_LEVEL
        if only is not None:
            query, whose = USERS_BY_LEVEL_ONLY, (list(only),)
        for row in await self._pool.fetch(query, points_system, by_lifetime, list(thresholds), *whose):
            counts[row["level"]] = row["user_count"]
        return counts
