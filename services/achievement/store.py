"""What is stored of achievements: the SQL of the event path (DESIGN 3).

An event costs two round trips for its whole batch: `load` and `save`. Both are one statement; both go by key. Users who
came lately are not loaded again (`shared.recent`).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.achievement import rows
from services.achievement.domain import (
    Change,
    Decision,
    Fact,
    Revision,
    UserState,
)
from shared.postgres.feed import Feed
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State
from shared.recent import RecentStates

# The state of each user as arrays of records, so that it comes in one row and one round trip.
LOAD: Final = """
    SELECT batch.user_id,
           coalesce(users.version, 0) AS version,
           coalesce(users.entry_count, 0) AS entry_count,
           users.withheld, users.sign_up_date, users.sign_up_zone, users.sign_up_version, users.eligible,
           users.next_anniversary,
           ARRAY(SELECT ROW(key, kind, version, current, highest, sum_micros, negative_count, newest_time)
                   FROM sources
                  WHERE user_id = batch.user_id AND key = ANY($2::text[])) AS sources,
           ARRAY(SELECT ROW(achievement, sum_micros, peak_micros, negative_count)
                   FROM accumulators
                  WHERE user_id = batch.user_id AND achievement = ANY($3::text[])) AS accumulators,
           ARRAY(SELECT ROW(achievement, max(number))
                   FROM live_completions
                  WHERE user_id = batch.user_id AND achievement = ANY($3::text[])
                  GROUP BY achievement) AS held,
           ARRAY(SELECT ROW(achievement, completion_id, entry_id, complete_time, local_date, target,
                            cause_position, cause_time, cause_id, number, backdated)
                   FROM live_completions
                  WHERE user_id = batch.user_id AND achievement = ANY($5::text[])) AS completions,
           ARRAY(SELECT ROW(streak, length, version, entry_id, occur_time, local_date)
                   FROM streak_reaches
                  WHERE user_id = batch.user_id AND streak = ANY($4::text[])) AS reaches,
           ARRAY(SELECT ROW(achievement, cursor) FROM backfills WHERE state = 1) AS awaited,
           (SELECT version FROM configuration_version) AS configuration_version
      FROM unnest($1::text[]) AS batch (user_id)
      LEFT JOIN users ON users.user_id = batch.user_id
"""

LOAD_WHOLE: Final = """
    SELECT asked.user_id,
           coalesce(users.version, 0) AS version,
           coalesce(users.entry_count, 0) AS entry_count,
           users.withheld, users.sign_up_date, users.sign_up_zone, users.sign_up_version, users.eligible,
           users.next_anniversary,
           ARRAY(SELECT ROW(key, kind, version, current, highest, sum_micros, negative_count, newest_time)
                   FROM sources WHERE user_id = $1) AS sources,
           ARRAY(SELECT ROW(achievement, sum_micros, peak_micros, negative_count)
                   FROM accumulators WHERE user_id = $1) AS accumulators,
           ARRAY[]::record[] AS held,
           ARRAY(SELECT ROW(achievement, completion_id, entry_id, complete_time, local_date, target,
                            cause_position, cause_time, cause_id, number, backdated)
                   FROM live_completions WHERE user_id = $1) AS completions,
           ARRAY(SELECT ROW(streak, length, version, entry_id, occur_time, local_date)
                   FROM streak_reaches WHERE user_id = $1) AS reaches,
           ARRAY(SELECT ROW(achievement, number)
                   FROM live_completions WHERE user_id = $1 AND NOT seen) AS unseen,
           ARRAY[]::record[] AS awaited,
           (SELECT version FROM configuration_version) AS configuration_version
      FROM (VALUES ($1::text)) AS asked (user_id)
      LEFT JOIN users ON users.user_id = asked.user_id
"""

# One statement is one transaction: the entries, their effects and the check that nobody was faster stand or
# fall together. Rows go in by key, so that two writers never wait for each other in a circle. What the last
# SELECT counts runs first, in its order: an entry that is known already is found by the log before all else.
SAVE: Final = """
    WITH log AS (
        INSERT INTO request_log (entry_id, user_id, digest, state, outcome, apply_time, position, value_micros,
                                 counted, grounds, metric, occur_time, local_date, version, late)
        SELECT * FROM unnest($1::log_row_2[])
        RETURNING 1
    ), known AS (
        UPDATE users
           SET version = batch.version, entry_count = batch.entry_count, sign_up_date = batch.sign_up_date,
               sign_up_zone = batch.sign_up_zone, sign_up_version = batch.sign_up_version,
               eligible = batch.eligible, next_anniversary = batch.next_anniversary
          FROM unnest($2::user_row_2[]) AS batch
         WHERE users.user_id = batch.user_id AND users.version = batch.version - 1
        RETURNING 1
    ), new AS (
        INSERT INTO users (user_id, version, entry_count, sign_up_date, sign_up_zone, sign_up_version, eligible,
                           next_anniversary)
        SELECT * FROM unnest($2::user_row_2[]) AS batch WHERE batch.version = 1
            ON CONFLICT (user_id) DO NOTHING
        RETURNING 1
    ), told AS (
        INSERT INTO sources (user_id, key, kind, version, current, highest, sum_micros, negative_count,
                             newest_time)
        SELECT * FROM unnest($3::source_row_2[])
            ON CONFLICT (user_id, key, kind) DO UPDATE
               SET version = EXCLUDED.version, current = EXCLUDED.current, highest = EXCLUDED.highest,
                   sum_micros = EXCLUDED.sum_micros, negative_count = EXCLUDED.negative_count,
                   newest_time = EXCLUDED.newest_time
    ), summed AS (
        INSERT INTO accumulators (user_id, achievement, sum_micros, peak_micros, negative_count)
        SELECT * FROM unnest($4::accumulator_row[])
            ON CONFLICT (user_id, achievement) DO UPDATE
               SET sum_micros = EXCLUDED.sum_micros, peak_micros = EXCLUDED.peak_micros,
                   negative_count = EXCLUDED.negative_count
    ), facts AS (
        INSERT INTO completion_facts (user_id, achievement, completion_id, kind, cause_id, fact_time, entry_id,
                                      local_date, number, backdated)
        SELECT * FROM unnest($5::completion_fact_row_4[])
    ), earned AS (
        INSERT INTO live_completions (user_id, achievement, completion_id, entry_id, complete_time, target,
                                      local_date, cause_position, cause_time, cause_id, number, backdated)
        SELECT * FROM unnest($6::live_completion_row_4[])
            ON CONFLICT (user_id, achievement, number) DO UPDATE
               SET completion_id = EXCLUDED.completion_id, entry_id = EXCLUDED.entry_id,
                   complete_time = EXCLUDED.complete_time, target = EXCLUDED.target,
                   local_date = EXCLUDED.local_date, cause_position = EXCLUDED.cause_position,
                   cause_time = EXCLUDED.cause_time, cause_id = EXCLUDED.cause_id,
                   backdated = EXCLUDED.backdated,
                   seen = live_completions.seen AND live_completions.completion_id = EXCLUDED.completion_id
    ), lost AS (
        DELETE FROM live_completions
         USING unnest($7::live_completion_key_2[]) AS gone
         WHERE live_completions.user_id = gone.user_id AND live_completions.achievement = gone.achievement
           AND live_completions.number = gone.number
    ), reached AS (
        INSERT INTO streak_reaches (user_id, streak, length, version, entry_id, occur_time, local_date)
        SELECT * FROM unnest($8::streak_reach_row[])
            ON CONFLICT (user_id, streak, length) DO UPDATE
               SET version = EXCLUDED.version, entry_id = EXCLUDED.entry_id,
                   occur_time = EXCLUDED.occur_time, local_date = EXCLUDED.local_date
    )
    SELECT require_rows((SELECT count(*) FROM log) + (SELECT count(*) FROM known) + (SELECT count(*) FROM new)
                            + (SELECT count(*) FROM configuration_version WHERE version = coalesce($9, version)),
                        cardinality($1::log_row_2[]) + cardinality($2::user_row_2[]) + 1)
"""

# In the transaction of the entry that says so, but not in its statement: a metric that is a sum needs neither, and
# updating a partitioned table costs something also where nothing is to be updated.
REVISE: Final = """
    UPDATE request_log
       SET value_micros = revised.contribution_micros, version = revised.version
      FROM unnest($1::revision_row[]) AS revised
     WHERE request_log.entry_id = revised.entry_id
"""
KEEP_REVISIONS: Final = """
    INSERT INTO revisions (user_id, entry_id, version, contribution_micros)
    SELECT * FROM unnest($1::revision_row[])
        ON CONFLICT (user_id, entry_id) DO UPDATE
           SET version = EXCLUDED.version, contribution_micros = EXCLUDED.contribution_micros
"""

# The bounds tell the partitions (docs/adr/0010).
JUDGE: Final = """
    UPDATE request_log
       SET counted = judged.counted, grounds = judged.grounds
      FROM unnest($1::judged_row[]) AS judged
     WHERE request_log.entry_id = judged.entry_id
       AND request_log.entry_id BETWEEN ($1::judged_row[])[1].entry_id
                                    AND ($1::judged_row[])[cardinality($1::judged_row[])].entry_id
"""

# What was completed by entries that came before. In the transaction of the entry, but not in its statement.
MARK_SEEN: Final = """
    UPDATE live_completions
       SET seen = true
     WHERE user_id = $1 AND NOT seen AND ($2::text[] = '{}' OR achievement = ANY($2::text[])) AND cause_position <= $3
"""
# What an admin takes away; in the transaction of the entry, but not in its statement.
WITHHOLD: Final = """
    INSERT INTO withheld_completions (revocation_id, user_id, achievement, completion_id, entry_id, complete_time,
                                      target, local_date, cause_position, cause_time, cause_id, number, backdated)
    SELECT $1, * FROM unnest($2::live_completion_row_4[])
"""
SET_WITHHELD: Final = "UPDATE users SET withheld = nullif($2::text[], '{}') WHERE user_id = $1"
CONFIGURATION_VERSION: Final = "SELECT version FROM configuration_version"
IN_USE: Final = """
    SELECT EXISTS (SELECT FROM completion_facts WHERE achievement = $1)
        OR EXISTS (SELECT FROM accumulators WHERE achievement = $1)
"""


class Asked(Struct, frozen=True):
    """What of a user's state is loaded: what metrics and streaks say, and these achievements."""

    sources: frozenset[str] = frozenset()
    """Keys of metrics and streaks."""
    achievements: frozenset[str] = frozenset()
    streaks: frozenset[str] = frozenset()
    """Of which it matters who first reached what in them."""
    whose: frozenset[str] = frozenset()
    """Achievements of which it matters to whom completions belong, not only which are held."""

    def covers(self, other: "Asked") -> bool:
        """Whether it is all of the other."""
        return (
            self.sources >= other.sources
            and self.achievements >= other.achievements
            and self.streaks >= other.streaks
            and self.whose >= other.whose
        )

    def and_also(self, other: "Asked") -> "Asked":
        """Both."""
        return Asked(
            self.sources | other.sources,
            self.achievements | other.achievements,
            self.streaks | other.streaks,
            self.whose | other.whose,
        )


class Kept(Struct, frozen=True):
    """A user's state as it was stored last, and what of it was loaded."""

    asked: Asked
    state: UserState


class Loaded(Struct, frozen=True):
    """The state that a batch can touch, and the configuration's version at the same instant."""

    configuration_version: int
    states: Mapping[str, UserState]
    asked: Mapping[str, Asked] = {}
    """What is loaded of each."""
    lives: Mapping[str, int] = {}
    """Of each (`UserSnapshot.life`)."""
    is_guess: bool = False
    """Not all of it was read: some is what was stored last. Storing checks it."""


class LogEntry(Struct, frozen=True):
    """A decided entry, as it goes into the log."""

    user_id: str
    digest: bytes
    state: State
    outcome: bytes
    apply_time: datetime
    decision: Decision


class Store:
    """The service's database."""

    def __init__(self, pool: Pool, recent_users: int = 0) -> None:
        self._pool = pool
        self._feed = Feed(pool)
        self.recent: RecentStates[Kept] = RecentStates(recent_users)

    async def recall(self, lives: Mapping[str, int], asked: Asked, version: int) -> Loaded:
        """What is asked of these users (at least one), each in a life, by definitions of this version; of those who
        came lately without a round trip.
        """
        kept = self.recent.known(lives, version)
        known = {user_id: each for user_id, each in kept.items() if each.asked.covers(asked)}
        states = {user_id: each.state for user_id, each in known.items()}
        whole = {user_id: each.asked for user_id, each in known.items()}
        missing = sorted(user_id for user_id in lives if user_id not in known)
        if missing:
            # Who comes with one thing and then another is read with both.
            for user_id in missing:
                if user_id in kept:
                    asked = asked.and_also(kept[user_id].asked)
            loaded = await self.load(missing, asked)
            self.recent.configuration_version = loaded.configuration_version
            states |= loaded.states
            whole |= dict.fromkeys(missing, asked)
        assert self.recent.configuration_version is not None  # who is kept was loaded
        return Loaded(self.recent.configuration_version, states, whole, lives, bool(known))

    async def load(
        self, user_ids: Collection[str], asked: Asked, connection: Connection | None = None
    ) -> Loaded:
        """What is asked of these users. At least one user."""
        found = await (connection or self._pool).fetch(
            LOAD,
            sorted(user_ids),
            sorted(asked.sources),
            sorted(asked.achievements),
            sorted(asked.streaks),
            sorted(asked.whose),
        )
        return Loaded(
            found[0]["configuration_version"], {row["user_id"]: rows.state_of(row) for row in found}
        )

    async def load_whole(self, user_id: str) -> Loaded:
        """Everything about one user."""
        row = await self._pool.fetchrow(LOAD_WHOLE, user_id)
        assert row is not None  # a SELECT without FROM has a row
        return Loaded(row["configuration_version"], {user_id: rows.state_of(row)})

    async def save(
        self,
        entries: Sequence[LogEntry],
        loaded: Loaded,
        after: Mapping[str, UserState],
        told: Sequence[bytes] = (),
    ) -> None:
        """Store decided entries, what they changed, and what the feed tells of it. Raises a conflict when a user's
        state or the definitions moved.
        """
        pairs = [(loaded.states[user], after[user]) for user in sorted(after)]
        facts = [row for entry in entries for row in _completion_fact_rows(entry)]
        written = (
            sorted(map(_log_row, entries), key=lambda row: row[0]),
            *_state_rows(pairs, facts),
            loaded.configuration_version,
        )
        # The last word on an entry is the newest: each was newer than what it found.
        revised = {row[1]: row for entry in entries for row in _revised_rows(entry)}
        kept = {row[1]: row for entry in entries for row in _kept_rows(entry)}
        taken = [entry for entry in entries if entry.decision.taken]
        seen = [entry for entry in entries if entry.decision.seen is not None]
        if not (revised or kept or taken or seen or told):
            await self._pool.execute(SAVE, *written)
        else:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(SAVE, *written)
                await connection.execute(REVISE, [revised[key] for key in sorted(revised)])
                await connection.execute(KEEP_REVISIONS, sorted(kept.values()))
                for entry in seen:
                    position = entry.decision.fact.position
                    await connection.execute(
                        MARK_SEEN, entry.user_id, list(entry.decision.seen or ()), position
                    )
                for entry in taken:
                    lost = [rows.live_row(entry.user_id, live) for live in entry.decision.taken]
                    await connection.execute(WITHHOLD, entry.decision.fact.entry_id, lost)
                    await self._set_withheld(connection, after[entry.user_id])
                await self._feed.append(connection, told)
        self.recent.keep(
            {
                new.user_id: Kept(loaded.asked[new.user_id], replace(new, version=old.version + 1))
                for old, new in pairs
            },
            loaded.lives,
        )

    async def save_given(
        self,
        connection: Connection,
        entries: Sequence[LogEntry],
        loaded: Loaded,
        after: Mapping[str, UserState],
    ) -> None:
        """Store what time has brought to users who are locked. Raises a conflict when a user's state moved."""
        pairs = [(loaded.states[user], after[user]) for user in sorted(after)]
        self.recent.forget(after)
        facts = [row for entry in entries for row in _completion_fact_rows(entry)]
        log = sorted(map(_log_row, entries), key=lambda row: row[0])
        await connection.execute(SAVE, log, *_state_rows(pairs, facts), loaded.configuration_version)

    async def _set_withheld(self, connection: Connection, state: UserState) -> None:
        await connection.execute(SET_WITHHELD, state.user_id, sorted(state.withheld))

    async def save_backfilled(
        self,
        connection: Connection,
        pairs: Sequence[tuple[UserState, UserState]],
        found: Mapping[str, Sequence[Change]],
        judged: Sequence[Fact],
        came: Sequence[LogEntry],
        cause_id: UUID,
        now: datetime,
    ) -> None:
        """Store what a backfill found: states before and after, by user what was completed, and facts that have
        other terms. Raises a conflict when a user's state moved.
        """
        facts = [
            rows.completion_fact_row(user_id, cause_id, change, now)
            for user_id, changes in found.items()
            for change in changes
        ]
        log = sorted(map(_log_row, came), key=lambda row: row[0])
        await connection.execute(SAVE, log, *_state_rows(pairs, facts), None)
        if judged:
            terms = sorted((fact.entry_id, fact.counted or None, fact.grounds or None) for fact in judged)
            await connection.execute(JUDGE, terms)

    async def configuration_version(self, connection: Connection) -> int:
        """The version of the definitions."""
        version: int = await connection.fetchval(CONFIGURATION_VERSION)
        return version


def _state_rows(
    pairs: Sequence[tuple[UserState, UserState]], facts: Sequence[tuple[Any, ...]]
) -> tuple[Sequence[tuple[Any, ...]], ...]:
    """What `SAVE` takes besides the log, of states before and after by user."""
    return (
        [rows.user_row(old, new) for old, new in pairs],
        [row for old, new in pairs for row in rows.source_rows(old, new)],
        [row for old, new in pairs for row in rows.accumulator_rows(old, new)],
        sorted(facts),
        [row for old, new in pairs for row in rows.earned_rows(old, new)],
        [row for old, new in pairs for row in rows.lost_rows(old, new)],
        [row for old, new in pairs for row in rows.reach_rows(old, new)],
    )


def _log_row(entry: LogEntry) -> tuple[Any, ...]:
    fact = entry.decision.fact
    return (
        fact.entry_id,
        entry.user_id,
        entry.digest,
        entry.state,
        entry.outcome,
        entry.apply_time,
        *rows.fact_columns(fact),
    )


def _completion_fact_rows(entry: LogEntry) -> list[tuple[Any, ...]]:
    cause_id = entry.decision.fact.entry_id
    return [
        rows.completion_fact_row(entry.user_id, cause_id, change, entry.apply_time)
        for change in entry.decision.changes
    ]


def _revised_rows(entry: LogEntry) -> list[tuple[Any, ...]]:
    return [
        rows.revision_row(entry.user_id, Revision(fact.entry_id, fact.version, fact.value_micros))
        for fact in entry.decision.revised
    ]


def _kept_rows(entry: LogEntry) -> list[tuple[Any, ...]]:
    return [rows.revision_row(entry.user_id, revision) for revision in entry.decision.kept]
