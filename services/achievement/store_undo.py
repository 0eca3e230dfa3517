"""What is stored of achievements when an entry is undone, in the transaction of its reversal."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec.structs import replace

from services.achievement import rows
from services.achievement.domain import Catalogue, Change, Completion, Fact, UserState, called
from services.achievement.store import SET_WITHHELD
from shared.postgres.errors import StateMoved
from shared.postgres.pool import Connection

LOCK_USER: Final = """
    SELECT users.user_id, users.version, users.entry_count, users.withheld
      FROM users JOIN request_log USING (user_id)
     WHERE request_log.entry_id = $1
       FOR UPDATE OF users
"""
FACT: Final = """
    SELECT entry_id, position, coalesce(occur_time, apply_time) AS occur_time,
           coalesce(local_date, (apply_time AT TIME ZONE 'UTC')::date) AS local_date,
           coalesce(metric, '') AS metric, coalesce(value_micros, 0) AS value_micros,
           coalesce(version, 0) AS version, counted, grounds, late IS TRUE AS late, true AS live
      FROM request_log
     WHERE entry_id = $1
"""
TOTAL: Final = """
    SELECT key, kind, version, current, highest, sum_micros, negative_count, newest_time
      FROM sources
     WHERE user_id = $1 AND key = $2 AND kind = 1
"""
ACCUMULATORS: Final = """
    SELECT achievement, sum_micros, peak_micros, negative_count
      FROM accumulators
     WHERE user_id = $1 AND achievement = ANY($2::text[])
"""
COMPLETIONS: Final = """
    SELECT achievement, completion_id, entry_id, complete_time, local_date, target, cause_position, cause_time,
           cause_id, number, backdated
      FROM live_completions
     WHERE user_id = $1 AND achievement = ANY($2::text[])
"""
NEXT_CALL: Final = """
    SELECT entry_id, position, coalesce(occur_time, apply_time) AS occur_time,
           coalesce(local_date, (apply_time AT TIME ZONE 'UTC')::date) AS local_date, '' AS metric,
           0::bigint AS value_micros, 0::bigint AS version, counted, grounds, false AS late, true AS live
      FROM request_log
     WHERE user_id = $1 AND metric IS NULL AND grounds @> ARRAY[$2::text] AND state = 1 AND entry_id <> $3
       AND position > $4
     ORDER BY position
     LIMIT 1
"""
TOUCH_USER: Final = "UPDATE users SET version = version + 1 WHERE user_id = $1"
SET_UNDONE: Final = "UPDATE request_log SET undone_count = $2 WHERE entry_id = $1"
SET_TOTAL: Final = """
    UPDATE sources
       SET highest = $3, sum_micros = $4, negative_count = $5
     WHERE user_id = $1 AND key = $2 AND kind = 1
"""
SET_ACCUMULATORS: Final = """
    UPDATE accumulators
       SET sum_micros = derived.sum_micros, peak_micros = derived.peak_micros,
           negative_count = derived.negative_count
      FROM unnest($2::accumulator_row[]) AS derived
     WHERE accumulators.user_id = $1 AND accumulators.achievement = derived.achievement
"""
REVOKE: Final = """
    DELETE FROM live_completions
     USING unnest($1::live_completion_key_2[]) AS gone
     WHERE live_completions.user_id = gone.user_id AND live_completions.achievement = gone.achievement
       AND live_completions.number = gone.number
"""
PASS_ON: Final = """
    WITH facts AS (
        INSERT INTO completion_facts (user_id, achievement, completion_id, kind, cause_id, fact_time, entry_id,
                                      local_date, number, backdated)
        SELECT * FROM unnest($1::completion_fact_row_4[])
    )
    INSERT INTO live_completions (user_id, achievement, completion_id, entry_id, complete_time, target,
                                  local_date, cause_position, cause_time, cause_id, number, backdated)
    SELECT * FROM unnest($2::live_completion_row_4[])
"""

# What stays, though another arrival would have brought it.
BRING: Final = """
    UPDATE live_completions
       SET cause_position = moved.cause_position, cause_time = moved.cause_time, cause_id = moved.cause_id
      FROM unnest($1::live_completion_row_4[]) AS moved
     WHERE live_completions.user_id = moved.user_id AND live_completions.achievement = moved.achievement
       AND live_completions.number = moved.number
"""

# Who may earn something again had anniversaries meanwhile, perhaps: the next pass looks.
LOOK_AT_ANNIVERSARIES: Final = """
    UPDATE users SET next_anniversary = least(next_anniversary, $2) WHERE user_id = $1 AND sign_up_date IS NOT NULL
"""
WITHHELD_BY: Final = """
    SELECT achievement, completion_id, entry_id, complete_time, local_date, target, cause_position, cause_time,
           cause_id, number, backdated
      FROM withheld_completions
     WHERE revocation_id = $1
     ORDER BY number
"""
GIVE_BACK: Final = "DELETE FROM withheld_completions WHERE revocation_id = $1"


class UndoStore:
    """The SQL of undoing, within a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def lock_fact(self, entry_id: UUID, catalogue: Catalogue) -> tuple[UserState, Fact]:
        """An applied entry's fact, and of its user's state what undoing it can touch; the user is locked."""
        user = await self._connection.fetchrow(LOCK_USER, entry_id)
        if user is None:
            raise StateMoved("the entry or its user is gone")
        row = await self._connection.fetchrow(FACT, entry_id)
        assert row is not None  # it was there a moment ago, and facts stay
        fact = rows.fact_of(row)
        withheld = frozenset(user["withheld"] or ())
        state = UserState(user["user_id"], user["version"], user["entry_count"], withheld=withheld)
        if not fact.metric:
            touched = catalogue.with_composites([*called(catalogue, fact), *withheld])
            live = await self._connection.fetch(COMPLETIONS, state.user_id, sorted(touched))
            return replace(state, completions=rows.completions_of(live)), fact
        totals = rows.totals_of(await self._connection.fetch(TOTAL, state.user_id, fact.metric))
        sums = await self._connection.fetch(ACCUMULATORS, state.user_id, fact.counted) if fact.counted else ()
        return replace(state, totals=totals, accumulators=rows.accumulators_of(sums)), fact

    async def withheld_by(self, entry_id: UUID) -> list[Completion]:
        """What an admin took away with this entry, in the order of numbers; nothing where it is no revocation."""
        return list(rows.completions_of(await self._connection.fetch(WITHHELD_BY, entry_id)).values())

    async def next_calls(self, state: UserState, fact: Fact, catalogue: Catalogue) -> dict[str, Fact]:
        """By achievement that this call completes: the first other live call of it after those that gave it."""
        calls = {}
        for key in called(catalogue, fact):
            given = [live.cause.position for live in state.completions.values() if live.achievement == key]
            row = await self._connection.fetchrow(
                NEXT_CALL, state.user_id, key, fact.entry_id, max(given, default=0)
            )
            if row is not None:
                calls[key] = rows.fact_of(row)
        return calls

    async def save(
        self,
        state: UserState,
        fact: Fact,
        changes: Sequence[Change],
        moved: Sequence[Completion],
        revoke_time: datetime,
    ) -> None:
        """Store the state without a fact; concurrent writers of this user find that it moved."""
        user_id = state.user_id
        await self._connection.execute(TOUCH_USER, user_id)
        if not fact.metric:
            await self._connection.execute(GIVE_BACK, fact.entry_id)
            await self._connection.execute(SET_WITHHELD, user_id, sorted(state.withheld))
            await self._connection.execute(LOOK_AT_ANNIVERSARIES, user_id, revoke_time)
        if fact.metric:
            sums = state.totals[fact.metric].sums
            row = (sums.peak_micros, sums.sum_micros, sums.negative_count)
            await self._connection.execute(SET_TOTAL, user_id, fact.metric, *row)
            await self._connection.execute(SET_UNDONE, fact.entry_id, state.entry_count)
        if fact.metric and fact.counted:
            derived = state.accumulators
            sums_rows = [rows.accumulator_row(user_id, key, derived[key]) for key in sorted(fact.counted)]
            await self._connection.execute(SET_ACCUMULATORS, user_id, sums_rows)
        if changes:
            touched = {change.completion.place: change.completion for change in changes}
            earned = [state.completions[place] for place in sorted(touched) if place in state.completions]
            gone = sorted((user_id, live.achievement, live.number) for live in touched.values())
            await self._connection.execute(REVOKE, gone)
            await self._connection.execute(
                PASS_ON,
                [rows.completion_fact_row(user_id, fact.entry_id, change, revoke_time) for change in changes],
                [rows.live_row(user_id, completion) for completion in earned],
            )
        if moved:
            await self._connection.execute(BRING, [rows.live_row(user_id, live) for live in moved])
