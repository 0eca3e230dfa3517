"""What is stored of points: the SQL of the event path and of reads (DESIGN 3).

An event costs two round trips for its whole batch: `load` and `save`, one statement each, both by key. Only a
batch that may take awards back asks a second time, for those awards.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points import rows
from services.points.domain import (
    Award,
    Change,
    CountedFact,
    Reversible,
    Standing,
    TriggerKey,
    Undoing,
    UserState,
)
from shared.postgres.errors import StateMoved
from shared.postgres.pool import Connection, Pool

# The state of each user as arrays of records, so that it comes in one row and one round trip.
LOAD: Final = """
    SELECT batch.user_id,
           coalesce(users.version, 0) AS version,
           coalesce(users.entry_count, 0) AS entry_count,
           coalesce(users.award_count, 0) AS award_count,
           users.first_entry_id,
           ARRAY(SELECT ROW(points_system, balance, lifetime, level, version, reach_time)
                   FROM balances
                  WHERE user_id = batch.user_id) AS balances,
           ARRAY(SELECT ROW(points_system, trigger, kind, granted_count, net_count,
                            accumulated_micros, high_micros, every_micros, negative_count)
                   FROM trigger_states
                  WHERE user_id = batch.user_id) AS triggers,
           ARRAY(SELECT ROW(completion_id, net_count)
                   FROM completions
                  WHERE user_id = batch.user_id AND completion_id = ANY($2::uuid[])) AS completions,
           (SELECT version FROM configuration_version) AS configuration_version
      FROM unnest($1::text[]) AS batch (user_id)
      LEFT JOIN users ON users.user_id = batch.user_id
"""

# Of each trigger its newest live awards for so many times (each is for at least one), of each completion and of
# each undone entry all. And of each system that these belong to the newest of the others: the reach time once
# these are taken back. OFFSET 0 keeps the planner from joining with the awards of all users, which looks cheap
# while the table is empty: that is when it is asked.
LIVE_AWARDS: Final = """
    WITH candidates AS (
        SELECT award.*
          FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
            AS wanted (user_id, points_system, trigger, times)
         CROSS JOIN LATERAL (
                   SELECT *
                     FROM live_awards
                    WHERE user_id = wanted.user_id AND points_system = wanted.points_system
                      AND trigger = wanted.trigger
                    ORDER BY sequence DESC
                    LIMIT wanted.times
               ) AS award
        UNION
        SELECT award.*
          FROM unnest($5::text[], $6::uuid[]) AS revoked (user_id, completion_id)
         CROSS JOIN LATERAL (
                   SELECT *
                     FROM live_awards
                    WHERE user_id = revoked.user_id AND completion_id = revoked.completion_id
                   OFFSET 0
               ) AS award
        UNION
        SELECT award.*
          FROM unnest($7::text[], $8::uuid[]) AS undone (user_id, entry_id)
         CROSS JOIN LATERAL (
                   SELECT *
                     FROM live_awards
                    WHERE user_id = undone.user_id AND entry_id = undone.entry_id
                   OFFSET 0
               ) AS award
    ), others AS (
        SELECT award.*
          FROM (SELECT DISTINCT user_id, points_system FROM candidates) AS affected
         CROSS JOIN LATERAL (
                   SELECT *
                     FROM live_awards
                    WHERE user_id = affected.user_id AND points_system = affected.points_system
                      AND amount <> 0
                      AND sequence NOT IN (SELECT sequence FROM candidates
                                            WHERE candidates.user_id = affected.user_id)
                    ORDER BY occur_time DESC
                    LIMIT 1
               ) AS award
    )
    SELECT * FROM candidates UNION ALL SELECT * FROM others ORDER BY user_id, sequence
"""

# One statement is one transaction: the entries, their effects and the check that nobody was faster stand or fall
# together. Rows go in by key, so that two writers never wait for each other in a circle.
SAVE: Final = """
    WITH guard AS (
        INSERT INTO users (user_id, version, entry_count, award_count, first_entry_id)
        SELECT * FROM unnest($1::user_row[])
            ON CONFLICT (user_id) DO UPDATE
               SET version = EXCLUDED.version, entry_count = EXCLUDED.entry_count,
                   award_count = EXCLUDED.award_count, first_entry_id = EXCLUDED.first_entry_id
             WHERE users.version = EXCLUDED.version - 1
        RETURNING 1
    ), log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time,
                                 occur_time, local_date, position, metric, value_micros, triggers)
        SELECT * FROM unnest($2::log_row[])
    ), ledger AS (
        INSERT INTO awards (user_id, sequence, award_id, points_system, trigger, times, base_amount, amount,
                            entry_id, occur_time, local_date, completion_id, reversed_award_id)
        SELECT * FROM unnest($3::award_row[])
    ), standings AS (
        INSERT INTO balances (user_id, points_system, balance, lifetime, level, version, reach_time)
        SELECT * FROM unnest($4::balance_row[])
            ON CONFLICT (user_id, points_system) DO UPDATE
               SET balance = EXCLUDED.balance, lifetime = EXCLUDED.lifetime, level = EXCLUDED.level,
                   version = EXCLUDED.version, reach_time = EXCLUDED.reach_time
    ), counts AS (
        INSERT INTO trigger_states (user_id, points_system, trigger, kind, granted_count, net_count,
                                    accumulated_micros, high_micros, every_micros, negative_count)
        SELECT * FROM unnest($5::trigger_state_row[])
            ON CONFLICT (user_id, points_system, trigger) DO UPDATE
               SET kind = EXCLUDED.kind, granted_count = EXCLUDED.granted_count, net_count = EXCLUDED.net_count,
                   accumulated_micros = EXCLUDED.accumulated_micros, high_micros = EXCLUDED.high_micros,
                   every_micros = EXCLUDED.every_micros, negative_count = EXCLUDED.negative_count
    ), rewarded AS (
        INSERT INTO completions (user_id, completion_id, net_count)
        SELECT * FROM unnest($6::completion_row[])
            ON CONFLICT (user_id, completion_id) DO UPDATE SET net_count = EXCLUDED.net_count
    )
    SELECT require_rows((SELECT count(*) FROM guard), cardinality($1::user_row[]))
"""

LOCK_USER: Final = """
    SELECT user_id
      FROM users
     WHERE user_id = (SELECT user_id FROM request_log WHERE entry_id = $1)
       FOR UPDATE
"""
FACT: Final = """
    SELECT occur_time, local_date, position, value_micros, triggers,
           NOT EXISTS (SELECT
                         FROM request_log AS other
                        WHERE other.user_id = request_log.user_id AND other.state = 1
                          AND other.position IS NOT NULL AND other.entry_id <> request_log.entry_id) AS is_alone
      FROM request_log
     WHERE entry_id = $1
"""
OTHER_VALUES: Final = """
    SELECT value_micros, triggers
      FROM request_log
     WHERE user_id = $1 AND state = 1 AND position IS NOT NULL AND triggers && $2::text[] AND entry_id <> $3
     ORDER BY position
"""

IN_USE: Final = """
    SELECT EXISTS (SELECT FROM balances WHERE points_system = $1)
        OR EXISTS (SELECT FROM trigger_states WHERE points_system = $1)
"""
BALANCES: Final = """
    SELECT points_system, balance, lifetime, level, version, reach_time
      FROM balances
     WHERE user_id = $1
"""
AWARDS: Final = """
    SELECT *
      FROM awards
     WHERE user_id = $1 AND ($2::text = '' OR points_system = $2) AND sequence < $3
     ORDER BY sequence DESC
     LIMIT $4
"""
USERS_BY_LEVEL: Final = """
    SELECT width_bucket(CASE WHEN $2::boolean THEN lifetime ELSE balance END, $3::bigint[]) AS level,
           count(*) AS user_count
      FROM balances
     WHERE points_system = $1
     GROUP BY 1
"""


class Loaded(Struct, frozen=True):
    """The state of a batch's users, and the configuration's version at the same instant."""

    configuration_version: int
    states: Mapping[str, UserState]


class Store:
    """The service's database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(
        self,
        user_ids: Collection[str],
        completion_ids: Collection[UUID] = (),
        connection: Connection | None = None,
    ) -> Loaded:
        """The state of these users (at least one), of completions only these; without any live awards."""
        found = await (connection or self._pool).fetch(LOAD, sorted(user_ids), list(completion_ids))
        return Loaded(found[0]["configuration_version"], {row["user_id"]: rows.state(row) for row in found})

    async def with_live_awards(
        self,
        states: Mapping[str, UserState],
        wanted: Mapping[str, Reversible],
        connection: Connection | None = None,
    ) -> dict[str, UserState]:
        """The states with the awards that may be taken back; no round trip where there are none."""
        triggers = [
            (user_id, *key, times)
            for user_id, one in sorted(wanted.items())
            for key, times in sorted(one.times.items())
        ]
        revoked = [
            (user_id, completion_id)
            for user_id, one in sorted(wanted.items())
            for completion_id in sorted(one.completion_ids)
        ]
        undone = [
            (user_id, entry_id)
            for user_id, one in sorted(wanted.items())
            if one.times
            for entry_id in sorted(one.entry_ids)
        ]
        result = dict(states)
        if triggers or revoked:
            found = await (connection or self._pool).fetch(
                LIVE_AWARDS,
                *rows.columns(4, triggers),
                *rows.columns(2, revoked),
                *rows.columns(2, undone),
            )
            for row in found:
                state = result[row["user_id"]]
                live_awards = (*state.live_awards, rows.live_award(row))
                result[state.user_id] = replace(state, live_awards=live_awards)
        return result

    async def save(
        self,
        entries: Sequence[rows.LogEntry],
        changes: Mapping[str, Sequence[Change]],
        before: Mapping[str, UserState],
        after: Mapping[str, UserState],
        connection: Connection | None = None,
    ) -> None:
        """Store decided entries and what they changed. Raises a conflict when a state moved meanwhile."""
        pairs = [(before[user], after[user]) for user in sorted(after) if after[user] is not before[user]]
        await (connection or self._pool).execute(
            SAVE,
            [rows.user_row(old, new) for old, new in pairs],
            sorted(map(rows.log_row, entries), key=lambda row: row[0]),
            [row for user in sorted(changes) for row in rows.award_rows(user, changes[user])],
            [row for old, new in pairs for row in rows.balance_rows(old, new)],
            [row for old, new in pairs for row in rows.trigger_rows(old, new)],
            [row for old, new in pairs for row in rows.completion_rows(old, new)],
        )

    async def lock_user(self, connection: Connection, entry_id: UUID) -> str:
        """The user of an applied entry, kept from all other writers until the transaction ends."""
        user_id: str | None = await connection.fetchval(LOCK_USER, entry_id)
        if user_id is None:
            raise StateMoved("the entry is gone")
        return user_id

    async def undoing(self, connection: Connection, entry_id: UUID) -> Undoing:
        """An applied entry of a locked user, as what is to be undone."""
        row = await connection.fetchrow(FACT, entry_id)
        assert row is not None  # the user was found by it
        fact = None
        if row["value_micros"] is not None:
            fact = CountedFact(row["value_micros"], tuple(map(rows.trigger_key, row["triggers"] or ())))
        is_last = row["position"] is not None and row["is_alone"]
        return Undoing(entry_id, row["occur_time"], row["local_date"], fact, is_last)

    async def other_values(
        self, connection: Connection, user_id: str, undoing: Undoing, keys: Sequence[TriggerKey]
    ) -> dict[TriggerKey, list[int]]:
        """The other values that count for these triggers, in the order of application."""
        values: dict[TriggerKey, list[int]] = {key: [] for key in keys}
        if keys:
            names = ["/".join(key) for key in keys]
            for row in await connection.fetch(OTHER_VALUES, user_id, names, undoing.entry_id):
                for key in map(rows.trigger_key, row["triggers"]):
                    if key in values:
                        values[key].append(row["value_micros"])
        return values

    async def balances(self, user_id: str) -> dict[str, Standing]:
        """A user's standing in every system in which there is one."""
        return rows.standings(await self._pool.fetch(BALANCES, user_id))

    async def awards(self, user_id: str, points_system: str, before_sequence: int, limit: int) -> list[Award]:
        """A user's awards, newest first; of all systems where `points_system` is empty."""
        found = await self._pool.fetch(AWARDS, user_id, points_system, before_sequence, limit)
        return [rows.award(row) for row in found]

    async def users_by_level(
        self, points_system: str, *, by_lifetime: bool, thresholds: Sequence[int]
    ) -> list[int]:
        """How many users are below the first of the ascending thresholds, and at each of them."""
        counts = [0] * (len(thresholds) + 1)
        for row in await self._pool.fetch(USERS_BY_LEVEL, points_system, by_lifetime, list(thresholds)):
            counts[row["level"]] = row["user_count"]
        return counts
