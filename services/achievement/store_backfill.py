"""What is stored of backfills, and which users one has to look at."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.achievement.domain import (
    MAX_COMPLETIONS,
    Achievement,
    AnniversaryTrigger,
    CompositeTrigger,
    Fact,
    MetricTrigger,
    Span,
    StreakTrigger,
)
from services.achievement.past import FIRST_CHUNK
from services.achievement.records import Backfill, BackfillState, Qualified
from services.achievement.rows import fact_of
from shared.postgres.locks import lock_key
from shared.postgres.pool import Connection, Pool
from shared.tenants import Range

MAX_ERROR_CHARS: Final = 1_000

LOOKED_AT_FOR_A_CANDIDATE: Final = 20
"""Users that a transaction looks at, at most, for each candidate that it takes."""

_LOCK: Final = lock_key("achievement", "backfill")
_COLUMNS: Final = """
    achievement, backfill_id, state, cursor, create_time, update_time, finish_time, user_count, looked_at_count,
    completed_user_count, completion_count, last_error
"""

# One replica works at a time, so that lower achievements come before those that ask for more; nor does a backfill begin
# or end in the middle of a batch.
TAKE_TURN: Final = "SELECT pg_advisory_xact_lock($1)"
NEXT: Final = f"SELECT {_COLUMNS} FROM backfills WHERE state = 1 ORDER BY place, achievement LIMIT 1"
ANY_RUNNING: Final = "SELECT EXISTS (SELECT FROM backfills WHERE state = 1)"
# Begins anew where there is one. Where nobody is there, there is nothing to look at.
BEGIN: Final = """
    INSERT INTO backfills (achievement, backfill_id, state, cursor, place, create_time, update_time, finish_time,
                           user_count)
    SELECT $1, $2, CASE WHEN there.users > 0 THEN 1 ELSE 2 END, '', $3, $4::timestamptz, $4::timestamptz,
           CASE WHEN there.users = 0 THEN $4::timestamptz END, there.users
      FROM (SELECT count(*) AS users FROM users) AS there
        ON CONFLICT (achievement) DO UPDATE
           SET backfill_id = EXCLUDED.backfill_id, state = EXCLUDED.state, cursor = '', place = EXCLUDED.place,
               create_time = EXCLUDED.create_time, update_time = EXCLUDED.update_time,
               finish_time = EXCLUDED.finish_time, user_count = EXCLUDED.user_count, looked_at_count = 0,
               completed_user_count = 0, completion_count = 0, last_error = ''
"""
END: Final = f"""
    UPDATE backfills SET state = $2, cursor = '', update_time = $3, finish_time = $3, last_error = ''
     WHERE achievement = $1 AND state = 1
    RETURNING {_COLUMNS}
"""
MOVE: Final = """
    UPDATE backfills
       SET cursor = $2, update_time = $3, looked_at_count = looked_at_count + $4,
           completed_user_count = completed_user_count + $5, completion_count = completion_count + $6,
           last_error = ''
     WHERE achievement = $1
"""
COUNT: Final = """
    UPDATE backfills
       SET completed_user_count = completed_user_count + $2, completion_count = completion_count + $3
     WHERE achievement = $1
"""
# Of the one whose turn it is.
NOTE_HELD_UP: Final = """
    UPDATE backfills SET last_error = $1, update_time = $2
     WHERE achievement = (SELECT achievement FROM backfills WHERE state = 1 ORDER BY place, achievement LIMIT 1)
"""
NOTE_ERROR: Final = (
    "UPDATE backfills SET last_error = $2, update_time = $3 WHERE achievement = $1 AND state = 1"
)
FORGET: Final = "DELETE FROM backfills WHERE achievement = $1"
GET: Final = f"SELECT {_COLUMNS} FROM backfills WHERE achievement = $1"
LIST: Final = f"""
    SELECT {_COLUMNS} FROM backfills
     WHERE achievement > $1 AND (state = 1 OR NOT $2)
     ORDER BY achievement
     LIMIT $3
"""

USERS: Final = "SELECT user_id FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2"
COUNT_USERS: Final = "SELECT count(*) FROM users"
# Blocks of the table at random: a share of the users that no order of ids has chosen.
SAMPLE_USERS: Final = "SELECT user_id FROM users TABLESAMPLE SYSTEM ($1::float8) LIMIT $2"
COUNT_OWN_USERS: Final = "SELECT count(*) FROM users WHERE user_id > $1 AND user_id < $2"
# Of a tenant's users those whose ids come first when they are mixed.
SAMPLE_OWN_USERS: Final = """
    SELECT user_id FROM users WHERE user_id > $1 AND user_id < $2 ORDER BY hashtextextended(user_id, 0) LIMIT $3
"""
LOCK_USERS: Final = "SELECT 1 FROM users WHERE user_id = ANY($1::text[]) ORDER BY user_id FOR UPDATE"
HOLDERS: Final = """
    SELECT count(*) FILTER (WHERE kind = 1) - count(*) FILTER (WHERE kind = 2)
      FROM completion_facts
     WHERE achievement = $1 AND number = 1
"""

# Of a metric or a streak. Who holds it already is no candidate, unless it can be held again. OFFSET 0: to look at each
# candidate, and not at all holders first.
_BY_SOURCE: Final = """
    SELECT source.user_id
      FROM sources AS source
     WHERE source.user_id = {users} AND source.key = $2 AND source.kind = $3 AND source.highest >= $4
       AND ($6 OR NOT EXISTS (SELECT FROM live_completions AS live
                               WHERE live.user_id = source.user_id AND live.achievement = $5
                              OFFSET 0))
"""
_BY_PREREQUISITES: Final = """
    SELECT live.user_id
      FROM live_completions AS live
     WHERE live.user_id = {users} AND live.achievement = ANY($2::text[]) AND live.number = 1
       AND NOT EXISTS (SELECT FROM live_completions AS held
                        WHERE held.user_id = live.user_id AND held.achievement = $3)
     GROUP BY live.user_id
    HAVING count(*) >= $4
"""
BY_SOURCE: Final = f"{_BY_SOURCE.format(users='ANY($1::text[])')} ORDER BY user_id"
BY_PREREQUISITES: Final = f"{_BY_PREREQUISITES.format(users='ANY($1::text[])')} ORDER BY user_id"
# The next users, up to so many of them or to so many candidates: who is none costs a look at the users and one by key.
_PAGE: Final = """
    (SELECT user_id, row_number() OVER (ORDER BY user_id) AS place
       FROM users WHERE user_id > $1 ORDER BY user_id LIMIT {most}) AS page
"""
_LOOK: Final = """
    WITH found AS MATERIALIZED (
        SELECT page.user_id, page.place
          FROM {page} CROSS JOIN LATERAL ({candidate}) AS candidate
         ORDER BY page.user_id
         LIMIT {enough}
    ), last AS (
        SELECT max(user_id) AS user_id, max(place) AS place FROM found HAVING count(*) = {enough}
         UNION ALL
        SELECT max(user_id), count(*) FROM {page} WHERE (SELECT count(*) FROM found) < {enough}
        HAVING (SELECT count(*) FROM found) < {enough}
    )
    SELECT place AS looked_at_count, user_id AS last_user_id,
           ARRAY(SELECT user_id FROM found ORDER BY user_id) AS candidates
      FROM last
"""
LOOK_BY_SOURCE: Final = _LOOK.format(
    page=_PAGE.format(most="$7"), candidate=_BY_SOURCE.format(users="page.user_id"), enough="$8"
)
LOOK_BY_PREREQUISITES: Final = _LOOK.format(
    page=_PAGE.format(most="$5"), candidate=_BY_PREREQUISITES.format(users="page.user_id"), enough="$6"
)
# Of a metric whose events, up to the one with which the sum is there, came in the order of their times, and none of
# which took anything: that event is the one that the fold finds (`domain.backfill`), each time that it is earned, so
# nothing of it has to be read. Who has another past is folded, or one too long to be read for more than the first time.
# Of those with few entries the events are read together.
_PLAIN: Final = """
    WITH plain AS MATERIALIZED (
        SELECT source.user_id, users.entry_count < $6::integer AS is_short
          FROM unnest($1::text[]) AS candidate (user_id)
          JOIN users ON users.user_id = candidate.user_id
          JOIN sources AS source ON source.user_id = candidate.user_id
         WHERE source.key = $2 AND source.kind = 1 AND source.negative_count = 0 AND source.highest >= $3::bigint
           AND users.withheld IS NULL
           AND NOT EXISTS (SELECT FROM live_completions AS live
                            WHERE live.user_id = source.user_id AND live.achievement = $4)
    ), fact AS (
        SELECT user_id, entry_id, position, occur_time, local_date, value_micros, version, late
          FROM request_log
         WHERE user_id = ANY(ARRAY(SELECT user_id FROM plain WHERE is_short)) AND metric = $2 AND state = 1
         UNION ALL
        SELECT few.*
          FROM plain
         CROSS JOIN LATERAL (
               SELECT user_id, entry_id, position, occur_time, local_date, value_micros, version, late
                 FROM request_log
                WHERE user_id = plain.user_id AND metric = $2 AND state = 1
                ORDER BY occur_time, entry_id
                LIMIT $6::integer
         ) AS few
         WHERE NOT is_short AND $7::bigint = 1
    ), summed AS (
        SELECT *, (sum(value_micros) OVER until_then)::bigint AS sum_micros,
               count(version) OVER until_then + count(*) FILTER (WHERE late) OVER until_then AS tangled
          FROM fact
        WINDOW until_then AS (PARTITION BY user_id ORDER BY occur_time, entry_id ROWS UNBOUNDED PRECEDING)
    ), met AS (
        SELECT user_id, entry_id, position, occur_time, local_date, number,
               max(tangled) OVER whole AS tangled, max(occur_time) OVER whole AS last_time
          FROM summed
         CROSS JOIN LATERAL generate_series((sum_micros - value_micros) / $3::bigint + 1,
                                            least(sum_micros / $3::bigint, $7::bigint)) AS number
         WHERE (sum_micros - value_micros) / $3::bigint < least(sum_micros / $3::bigint, $7::bigint)
        WINDOW whole AS (PARTITION BY user_id)
    ), earning AS (
        SELECT user_id, entry_id, position, occur_time, local_date, number::integer AS number
          FROM met
         WHERE tangled = 0 AND last_time < $5::timestamptz
    )
"""
FIND_AT_ONCE: Final = f"""
    {_PLAIN}
    SELECT user_id, min(occur_time) AS complete_time, count(*) AS completion_count
      FROM earning
     GROUP BY user_id
     ORDER BY user_id
"""
# Users are locked. A completion has the id that `domain.completions` gives it: a test compares.
GIVE_AT_ONCE: Final = f"""
    {_PLAIN}, hashed AS (
        SELECT user_id, entry_id, position, occur_time, local_date, number,
               substring(sha256(around[1] || int8send(octet_length(user_id)) || convert_to(user_id, 'UTF8')
                                || int8send(octet_length(place)) || convert_to(place, 'UTF8')
                                || around[2] || convert_to(entry_id::text, 'UTF8') || around[3]) FROM 1 FOR 16) AS hash
          FROM earning, (SELECT $9::bytea[] AS around) AS the_same,
               LATERAL (SELECT CASE number WHEN 1 THEN $4 ELSE $4 || ' ' || number END AS place) AS named
    ), named AS MATERIALIZED (
        SELECT hashed.*, encode(set_byte(set_byte(hash, 6, get_byte(hash, 6) & 15 | 128),
                                         8, get_byte(hash, 8) & 63 | 128), 'hex')::uuid AS completion_id
          FROM hashed
         ORDER BY user_id, number
    ), facts AS (
        INSERT INTO completion_facts (user_id, achievement, completion_id, kind, cause_id, fact_time, entry_id,
                                      local_date, number, backdated)
        SELECT user_id, $4, completion_id, 1, $8::uuid, occur_time, entry_id, local_date, number, true FROM named
    ), earned AS (
        INSERT INTO live_completions (user_id, achievement, completion_id, entry_id, complete_time, target,
                                      local_date, cause_position, cause_time, cause_id, number, backdated)
        SELECT user_id, $4, completion_id, entry_id, occur_time, $3::bigint * number, local_date, position, occur_time,
               entry_id, number, true
          FROM named
    ), given AS MATERIALIZED (
        SELECT user_id, count(*) AS completion_count FROM named GROUP BY user_id ORDER BY user_id
    ), moved AS (
        UPDATE users SET version = users.version + 1 FROM given WHERE users.user_id = given.user_id
    )
    SELECT user_id, completion_count FROM given
"""
# One more than a span has at first shows that it is longer.
FACTS_OF_USERS: Final = """
    SELECT fact.*
      FROM unnest($1::text[]) AS wanted (user_id)
     CROSS JOIN LATERAL (
           SELECT user_id, entry_id, position, occur_time, local_date, metric, value_micros,
                  coalesce(version, 0) AS version, counted, grounds, late IS TRUE AS late, true AS live
             FROM request_log
            WHERE user_id = wanted.user_id AND metric = $2 AND state = 1
            ORDER BY occur_time, entry_id
            LIMIT $3
     ) AS fact
"""


class Looked(Struct, frozen=True):
    """What a look at the next users has come to."""

    candidates: Sequence[str]
    """Those who may be given something, or of whom sums have to be put together; by id."""
    count: int
    """Users that were looked at."""
    cursor: str
    """Up to whom."""
    is_last: bool
    """There are no others."""


class BackfillStore:
    """The tables of backfills, read and written within a connection's transaction or by the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(
        self, connection: Connection, achievement: Achievement, level: int, backfill_id: UUID, now: datetime
    ) -> None:
        """A search for this achievement, from its beginning."""
        await connection.execute(TAKE_TURN, _LOCK)
        place = [level, achievement.trigger.target]
        await connection.execute(BEGIN, achievement.key, backfill_id, place, now)

    async def forget(self, connection: Connection, achievement: str) -> None:
        """There is no such achievement any more."""
        await connection.execute(TAKE_TURN, _LOCK)
        await connection.execute(FORGET, achievement)

    async def next(self, connection: Connection) -> Backfill | None:
        """The one to go on with, which is this transaction's until its end. Waits for another replica that is at it."""
        await connection.execute(TAKE_TURN, _LOCK)
        row = await connection.fetchrow(NEXT)
        return Backfill(*row) if row else None

    async def any_running(self) -> bool:
        """Whether there is anything to do."""
        running: bool = await self._pool.fetchval(ANY_RUNNING)
        return running

    async def end(
        self, connection: Connection, achievement: str, state: BackfillState, now: datetime
    ) -> Backfill | None:
        """Ends one that runs, at the end of the transaction; of a batch that is under way nothing comes later."""
        await connection.execute(TAKE_TURN, _LOCK)
        row = await connection.fetchrow(END, achievement, state, now)
        return Backfill(*row) if row else None

    async def move(
        self,
        connection: Connection,
        backfill: Backfill,
        cursor: str,
        looked_at: int,
        found: Sequence[int],
        now: datetime,
    ) -> None:
        """Users up to the cursor have been looked at. `found`: how many completions each of those had who had any."""
        await connection.execute(MOVE, backfill.achievement, cursor, now, looked_at, len(found), sum(found))

    async def count(self, connection: Connection, achievement: str, found: Sequence[int]) -> None:
        """So many completions each of those had who had any, of whom `move` does not tell."""
        await connection.execute(COUNT, achievement, len(found), sum(found))

    async def note_error(self, achievement: str, error: str, now: datetime) -> None:
        """What holds it up."""
        await self._pool.execute(NOTE_ERROR, achievement, error[:MAX_ERROR_CHARS], now)

    async def note_held_up(self, error: str, now: datetime) -> None:
        """What holds up the one whose turn it is."""
        await self._pool.execute(NOTE_HELD_UP, error[:MAX_ERROR_CHARS], now)

    async def get(self, achievement: str) -> Backfill | None:
        """The last one of an achievement."""
        row = await self._pool.fetchrow(GET, achievement)
        return Backfill(*row) if row else None

    async def page(self, after: str, *, running_only: bool, limit: int) -> list[Backfill]:
        """By achievement."""
        return [Backfill(*row) for row in await self._pool.fetch(LIST, after, running_only, limit)]

    # Users

    async def users(self, source: Pool | Connection, after: str, limit: int) -> list[str]:
        """Users by id."""
        return [row["user_id"] for row in await source.fetch(USERS, after, limit)]

    async def count_users(self, own: Range = ()) -> int:
        """How many there are, of these ids."""
        count: int = await self._pool.fetchval(COUNT_OWN_USERS if own else COUNT_USERS, *own)
        return count

    async def some(self, user_count: int, most: int, own: Range = ()) -> list[str]:
        """All users of these ids; of many about so many, spread over all."""
        if own:
            return [row["user_id"] for row in await self._pool.fetch(SAMPLE_OWN_USERS, *own, most)]
        if user_count <= most:
            return await self.users(self._pool, "", most)
        rows = await self._pool.fetch(SAMPLE_USERS, 100 * most / user_count, most)
        return [row["user_id"] for row in rows]

    async def holder_count(self, achievement: str) -> int:
        """How many users hold it."""
        count: int = await self._pool.fetchval(HOLDERS, achievement)
        return count

    async def lock(self, connection: Connection, user_ids: Sequence[str]) -> None:
        """Nobody else decides about these users until the end of the transaction."""
        await connection.execute(LOCK_USERS, user_ids)

    async def candidates(
        self, source: Pool | Connection, achievement: Achievement, user_ids: Sequence[str]
    ) -> list[str]:
        """Those of these users who may be given something, or of whom sums have to be put together; by id."""
        asked = _asked(achievement)
        if asked is None:
            return list(user_ids) if isinstance(achievement.trigger, AnniversaryTrigger) else []
        found = await source.fetch(asked.these, user_ids, *asked.arguments)
        return [row["user_id"] for row in found]

    async def look(self, connection: Connection, achievement: Achievement, after: str, enough: int) -> Looked:
        """At the next users: until so many may be given something, or a multiple of it has been looked at."""
        asked = _asked(achievement)
        if asked is None:
            users = await self.users(connection, after, enough)
            candidates = await self.candidates(connection, achievement, users)
            return Looked(candidates, len(users), users[-1] if users else after, len(users) < enough)
        statement, arguments = asked.look, asked.arguments
        most = enough * LOOKED_AT_FOR_A_CANDIDATE
        row = await connection.fetchrow(statement, after, *arguments, most, enough)
        assert row is not None  # one of the two is true
        count, candidates = row["looked_at_count"], row["candidates"]
        is_last = count < most and len(candidates) < enough
        return Looked(candidates, count, row["last_user_id"] or after, is_last)

    async def give_at_once(
        self,
        connection: Connection,
        achievement: Achievement,
        user_ids: Sequence[str],
        running: Backfill,
        cause: str,
    ) -> dict[str, int]:
        """Gives it to those of these users, who are locked, whose past says so plainly; how many times, by user."""
        found = _plain(achievement, user_ids, running.create_time)
        rows = await connection.fetch(GIVE_AT_ONCE, *found, running.backfill_id, _around(cause))
        return {row["user_id"]: row["completion_count"] for row in rows}

    async def find_at_once(
        self, achievement: Achievement, user_ids: Sequence[str], now: datetime
    ) -> dict[str, Qualified]:
        """To whom of these users it would be given so, if it were activated now."""
        rows = await self._pool.fetch(FIND_AT_ONCE, *_plain(achievement, user_ids, now))
        return {row["user_id"]: Qualified(row["complete_time"], row["completion_count"]) for row in rows}

    async def spans(
        self, source: Pool | Connection, metric: str, user_ids: Sequence[str]
    ) -> Mapping[str, Span]:
        """All facts of a metric of those of these users who have few."""
        facts: dict[str, list[Fact]] = {user_id: [] for user_id in user_ids}
        row: asyncpg.Record
        for row in await source.fetch(FACTS_OF_USERS, user_ids, metric, FIRST_CHUNK + 1):
            facts[row["user_id"]].append(fact_of(row))
        return {
            user_id: Span(tuple(found), complete=True)
            for user_id, found in facts.items()
            if len(found) <= FIRST_CHUNK
        }


class _Asked(Struct, frozen=True):
    """How candidates are found."""

    these: str
    """The statement for given users."""
    look: str
    """The one for the next users."""
    arguments: tuple[object, ...]


def _asked(achievement: Achievement) -> _Asked | None:
    """None where nothing that is stored tells."""
    trigger, key = achievement.trigger, achievement.key
    match trigger:
        case MetricTrigger() | StreakTrigger():
            # With event filters every user with events gets a sum, and who holds it, too.
            least = -(2**63) if trigger.event_filters else trigger.target
            again = achievement.repeatable or bool(trigger.event_filters)
            told = trigger.source
            return _Asked(BY_SOURCE, LOOK_BY_SOURCE, (told.key, int(told.kind), least, key, again))
        case CompositeTrigger():
            prerequisites = list(trigger.achievements)
            return _Asked(BY_PREREQUISITES, LOOK_BY_PREREQUISITES, (prerequisites, key, trigger.enough))
        case _:
            return None


def _plain(achievement: Achievement, user_ids: Sequence[str], active_since: datetime) -> tuple[object, ...]:
    """What finding plain pasts takes, of users and a metric's achievement."""
    trigger = achievement.trigger
    assert isinstance(trigger, MetricTrigger)
    most = MAX_COMPLETIONS if achievement.repeatable else 1
    return user_ids, trigger.metric, trigger.target, achievement.key, active_since, FIRST_CHUNK + 1, most


def _around(cause: str) -> list[bytes]:
    """What is the same in the names of all completions: before user and place, and around the entry."""
    named = cause.encode()
    first = len(b"completion").to_bytes(8) + b"completion"
    return [first, (36).to_bytes(8), len(named).to_bytes(8) + named]
