"""What is stored of achievements: the SQL of the event path and of reads (DESIGN 3).

An event costs two round trips for its whole batch: `load` and `save`. Both are one statement; both go by key.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.achievement.domain import (
    Accumulator,
    Change,
    Completion,
    Fact,
    Remaining,
    Source,
    SourceKey,
    SourceKind,
    Standing,
)
from shared.postgres.errors import StateMoved
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State

# The state of each user as arrays of records, so that it comes in one row and one round trip.
LOAD: Final = """
    SELECT batch.user_id,
           coalesce(users.version, 0) AS version,
           coalesce(users.entry_count, 0) AS entry_count,
           ARRAY(SELECT ROW(key, kind, version, current, highest)
                   FROM sources
                  WHERE user_id = batch.user_id AND key = ANY($2::text[])) AS sources,
           ARRAY(SELECT ROW(achievement, sum_micros, peak_micros, negative_count)
                   FROM accumulators
                  WHERE user_id = batch.user_id AND achievement = ANY($3::text[])) AS accumulators,
           ARRAY(SELECT ROW(achievement, completion_id, entry_id, complete_time, target)
                   FROM live_completions
                  WHERE user_id = batch.user_id AND achievement = ANY($3::text[])) AS completions,
           (SELECT version FROM configuration_version) AS configuration_version
      FROM unnest($1::text[]) AS batch (user_id)
      LEFT JOIN users ON users.user_id = batch.user_id
"""

LOAD_WHOLE: Final = """
    SELECT $1::text AS user_id,
           coalesce((SELECT version FROM users WHERE user_id = $1), 0) AS version,
           coalesce((SELECT entry_count FROM users WHERE user_id = $1), 0) AS entry_count,
           ARRAY(SELECT ROW(key, kind, version, current, highest)
                   FROM sources WHERE user_id = $1) AS sources,
           ARRAY(SELECT ROW(achievement, sum_micros, peak_micros, negative_count)
                   FROM accumulators WHERE user_id = $1) AS accumulators,
           ARRAY(SELECT ROW(achievement, completion_id, entry_id, complete_time, target)
                   FROM live_completions WHERE user_id = $1) AS completions,
           (SELECT version FROM configuration_version) AS configuration_version
"""

# One statement is one transaction: the entries, their effects and the check that nobody was faster stand or
# fall together. Rows go in by key, so that two writers never wait for each other in a circle. What the last
# SELECT counts runs first, in its order: an entry that is known already is found by the log before all else.
SAVE: Final = """
    WITH log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time,
                                 position, value_micros, counted, grounds)
        SELECT * FROM unnest($1::log_row[])
        RETURNING 1
    ), guard AS (
        INSERT INTO users (user_id, version, entry_count)
        SELECT * FROM unnest($2::user_row[])
            ON CONFLICT (user_id) DO UPDATE
               SET version = EXCLUDED.version, entry_count = EXCLUDED.entry_count
             WHERE users.version = EXCLUDED.version - 1
        RETURNING 1
    ), told AS (
        INSERT INTO sources (user_id, key, kind, version, current, highest)
        SELECT * FROM unnest($3::source_row[])
            ON CONFLICT (user_id, key, kind) DO UPDATE
               SET version = EXCLUDED.version, current = EXCLUDED.current, highest = EXCLUDED.highest
             WHERE sources.version < EXCLUDED.version
    ), summed AS (
        INSERT INTO accumulators (user_id, achievement, sum_micros, peak_micros, negative_count)
        SELECT * FROM unnest($4::accumulator_row[])
            ON CONFLICT (user_id, achievement) DO UPDATE
               SET sum_micros = EXCLUDED.sum_micros, peak_micros = EXCLUDED.peak_micros,
                   negative_count = EXCLUDED.negative_count
    ), facts AS (
        INSERT INTO completion_facts (user_id, achievement, completion_id, kind, entry_id, fact_time)
        SELECT * FROM unnest($5::completion_fact_row[])
    ), earned AS (
        INSERT INTO live_completions (user_id, achievement, completion_id, entry_id, complete_time, target)
        SELECT * FROM unnest($6::live_completion_row[])
            ON CONFLICT (user_id, achievement) DO UPDATE
               SET completion_id = EXCLUDED.completion_id, entry_id = EXCLUDED.entry_id,
                   complete_time = EXCLUDED.complete_time, target = EXCLUDED.target
    ), lost AS (
        DELETE FROM live_completions
         USING unnest($7::live_completion_key[]) AS gone
         WHERE live_completions.user_id = gone.user_id AND live_completions.achievement = gone.achievement
    )
    SELECT require_rows((SELECT count(*) FROM log) + (SELECT count(*) FROM guard),
                        cardinality($1::log_row[]) + cardinality($2::user_row[]))
"""

CONFIGURATION_VERSION: Final = "SELECT version FROM configuration_version"
LOCK_USER: Final = """
    SELECT user_id, version, entry_count FROM users WHERE user_id = $1 FOR UPDATE
"""
FACT: Final = """
    SELECT user_id, position, value_micros, counted, grounds FROM request_log WHERE entry_id = $1
"""
ACCUMULATORS: Final = """
    SELECT achievement, sum_micros, peak_micros, negative_count
      FROM accumulators
     WHERE user_id = $1 AND achievement = ANY($2::text[])
"""
COMPLETIONS: Final = """
    SELECT achievement, completion_id, entry_id, complete_time, target
      FROM live_completions
     WHERE user_id = $1 AND achievement = ANY($2::text[])
"""
OTHER_VALUES: Final = """
    SELECT value_micros, counted
      FROM request_log
     WHERE user_id = $1 AND (counted IS NOT NULL OR grounds IS NOT NULL)
       AND counted && $2::text[] AND state = 1 AND entry_id <> $3
     ORDER BY position
"""
OTHER_GROUNDS: Final = """
    SELECT wanted.achievement
      FROM unnest($2::text[]) AS wanted (achievement)
     WHERE EXISTS (SELECT FROM request_log
                    WHERE user_id = $1 AND (counted IS NOT NULL OR grounds IS NOT NULL)
                      AND grounds @> ARRAY[wanted.achievement] AND state = 1 AND entry_id <> $3)
"""
TOUCH_USER: Final = "UPDATE users SET version = version + 1 WHERE user_id = $1"
SET_ACCUMULATORS: Final = """
    UPDATE accumulators
       SET sum_micros = derived.sum_micros, peak_micros = derived.peak_micros,
           negative_count = derived.negative_count
      FROM unnest($2::accumulator_row[]) AS derived
     WHERE accumulators.user_id = $1 AND accumulators.achievement = derived.achievement
"""
REVOKE: Final = """
    WITH gone AS (
        DELETE FROM live_completions WHERE user_id = $1 AND achievement = ANY($2::text[])
        RETURNING user_id, achievement, completion_id
    )
    INSERT INTO completion_facts (user_id, achievement, completion_id, kind, entry_id, fact_time)
    SELECT user_id, achievement, completion_id, 2, $3, $4 FROM gone
"""

IN_USE: Final = """
    SELECT EXISTS (SELECT FROM completion_facts WHERE achievement = $1)
        OR EXISTS (SELECT FROM accumulators WHERE achievement = $1)
"""


class Loaded(Struct, frozen=True):
    """The state that a batch can touch, and the configuration's version at the same instant."""

    configuration_version: int
    standings: Mapping[str, Standing]


class LogEntry(Struct, frozen=True):
    """A decided entry, as it goes into the log."""

    user_id: str
    digest: bytes
    state: State
    outcome: bytes
    apply_time: datetime
    fact: Fact
    changes: Sequence[Change]
    change_times: Sequence[datetime]
    """Of each change: when it was completed, or when it was revoked."""


class Store:
    """The service's database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def load(
        self, user_ids: Collection[str], sources: Collection[SourceKey], achievements: Collection[str]
    ) -> Loaded:
        """What these metrics and streaks, and these achievements, say of these users. At least one user."""
        keys = sorted({source.key for source in sources})
        rows = await self._pool.fetch(LOAD, sorted(user_ids), keys, sorted(achievements))
        return Loaded(rows[0]["configuration_version"], {row["user_id"]: _standing(row) for row in rows})

    async def load_whole(self, user_id: str) -> Loaded:
        """Everything about one user."""
        row = await self._pool.fetchrow(LOAD_WHOLE, user_id)
        assert row is not None  # a SELECT without FROM has a row
        return Loaded(row["configuration_version"], {user_id: _standing(row)})

    async def save(
        self, entries: Sequence[LogEntry], before: Mapping[str, Standing], after: Mapping[str, Standing]
    ) -> None:
        """Store decided entries and what they changed. Raises a conflict when a user's state moved."""
        users = sorted(after)
        pairs = [(before[user], after[user]) for user in users]
        await self._pool.execute(
            SAVE,
            sorted(map(_log_row, entries), key=lambda row: row[0]),
            [(old.user_id, old.version + 1, new.entry_count) for old, new in pairs],
            [row for old, new in pairs for row in _source_rows(old, new)],
            [row for old, new in pairs for row in _accumulator_rows(old, new)],
            sorted(row for entry in entries for row in _completion_fact_rows(entry)),
            [row for old, new in pairs for row in _earned_rows(old, new)],
            [row for old, new in pairs for row in _lost_rows(old, new)],
        )

    async def configuration_version(self, connection: Connection) -> int:
        """The version of the definitions."""
        version: int = await connection.fetchval(CONFIGURATION_VERSION)
        return version

    async def lock_fact(self, connection: Connection, entry_id: UUID) -> tuple[Standing, Fact]:
        """An applied entry's fact, and of its user's state what undoing it can touch; the user is locked."""
        row = await connection.fetchrow(FACT, entry_id)
        if row is None:
            raise StateMoved("the entry is gone from the log")
        user = await connection.fetchrow(LOCK_USER, row["user_id"])
        if user is None:
            raise StateMoved("the user is gone")
        fact = Fact(
            entry_id,
            row["position"],
            row["value_micros"],
            tuple(row["counted"] or ()),
            tuple(row["grounds"] or ()),
        )
        touched = sorted({*fact.counted, *fact.grounds})
        accumulators = await connection.fetch(ACCUMULATORS, user["user_id"], list(fact.counted))
        completions = await connection.fetch(COMPLETIONS, user["user_id"], touched)
        standing = Standing(
            user["user_id"],
            user["version"],
            user["entry_count"],
            accumulators=_accumulators(accumulators),
            completions=_completions(completions),
        )
        return standing, fact

    async def remaining(self, connection: Connection, standing: Standing, fact: Fact) -> Remaining:
        """What the user's other live facts say about the achievements of this one."""
        signed = [key for key in fact.counted if standing.accumulators[key].negative_count]
        values: dict[str, list[int]] = {key: [] for key in signed}
        if signed:
            for row in await connection.fetch(OTHER_VALUES, standing.user_id, signed, fact.entry_id):
                for key in set(row["counted"]).intersection(signed):
                    values[key].append(row["value_micros"])
        grounds = []
        if fact.grounds:
            grounds = await connection.fetch(
                OTHER_GROUNDS, standing.user_id, list(fact.grounds), fact.entry_id
            )
        return Remaining(values, frozenset(row["achievement"] for row in grounds))

    async def save_reverted(
        self,
        connection: Connection,
        standing: Standing,
        fact: Fact,
        changes: Sequence[Change],
        revoke_time: datetime,
    ) -> None:
        """Store the state without a fact; concurrent writers of this user find that it moved."""
        user_id = standing.user_id
        await connection.execute(TOUCH_USER, user_id)
        if fact.counted:
            sums = [
                _accumulator_row(user_id, key, standing.accumulators[key]) for key in sorted(fact.counted)
            ]
            await connection.execute(SET_ACCUMULATORS, user_id, sums)
        if changes:
            gone = [change.completion.achievement for change in changes]
            await connection.execute(REVOKE, user_id, gone, fact.entry_id, revoke_time)


def _standing(row: asyncpg.Record) -> Standing:
    return Standing(
        user_id=row["user_id"],
        version=row["version"],
        entry_count=row["entry_count"],
        sources={
            SourceKey(SourceKind(kind), key): Source(version, current, highest)
            for key, kind, version, current, highest in row["sources"]
        },
        accumulators=_accumulators(row["accumulators"]),
        completions=_completions(row["completions"]),
    )


def _accumulators(records: Iterable[Any]) -> dict[str, Accumulator]:
    return {key: Accumulator(total, peak, negatives) for key, total, peak, negatives in records}


def _completions(records: Iterable[Any]) -> dict[str, Completion]:
    return {
        key: Completion(completion_id, key, entry_id, complete_time, target)
        for key, completion_id, entry_id, complete_time, target in records
    }


def _log_row(entry: LogEntry) -> tuple[Any, ...]:
    fact = entry.fact
    return (
        fact.entry_id,
        entry.user_id,
        entry.digest,
        entry.state,
        entry.outcome,
        entry.apply_time,
        fact.position,
        fact.value_micros,
        fact.counted or None,
        fact.grounds or None,
    )


def _source_rows(old: Standing, new: Standing) -> list[tuple[Any, ...]]:
    return [
        (new.user_id, key.key, key.kind, source.version, source.current, source.highest)
        for key, source in sorted(new.sources.items(), key=lambda item: (item[0].key, item[0].kind))
        if old.sources.get(key) != source
    ]


def _accumulator_rows(old: Standing, new: Standing) -> list[tuple[Any, ...]]:
    return [
        _accumulator_row(new.user_id, key, accumulator)
        for key, accumulator in sorted(new.accumulators.items())
        if old.accumulators.get(key) != accumulator
    ]


def _accumulator_row(user_id: str, achievement: str, one: Accumulator) -> tuple[Any, ...]:
    return (user_id, achievement, one.sum_micros, one.peak_micros, one.negative_count)


def _completion_fact_rows(entry: LogEntry) -> list[tuple[Any, ...]]:
    return [
        (
            entry.user_id,
            change.completion.achievement,
            change.completion.completion_id,
            change.kind,
            entry.fact.entry_id,
            time,
        )
        for change, time in zip(entry.changes, entry.change_times, strict=True)
    ]


def _earned_rows(old: Standing, new: Standing) -> list[tuple[Any, ...]]:
    return [
        (new.user_id, key, live.completion_id, live.entry_id, live.complete_time, live.target)
        for key, live in sorted(new.completions.items())
        if old.completions.get(key) != live
    ]


def _lost_rows(old: Standing, new: Standing) -> list[tuple[str, str]]:
    return [(new.user_id, key) for key in sorted(old.completions) if key not in new.completions]
