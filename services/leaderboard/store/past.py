"""What is stored of a user's past: looked up where an entry comes late, changes what others have said, or a score is
not there yet (`domain.past`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from msgspec.structs import replace

from services.leaderboard.domain.boards import SourceKind
from services.leaderboard.domain.facts import Command, Revision
from services.leaderboard.domain.lengths import Lengths, Period
from services.leaderboard.domain.past import History, Newest, Wanted
from services.leaderboard.domain.scores import Fact, FactKey, key_of
from services.leaderboard.domain.states import UserState
from services.leaderboard.store import rows
from services.leaderboard.store.rows import columns
from shared.postgres.pool import Connection, Pool
from shared.postgres.request_log import State

# A metric's events are in the request log. OFFSET 0 keeps the planner from turning the look-up by user into a join over
# whole indexes of its partitions, which costs the same while they are empty and is cached for when they are not.
EVENT_HISTORY: Final = """
    SELECT wanted.number, log.metric, log.entry_id, log.value_micros, log.occur_time, log.local_date,
           log.contribution_version, log.contribution_micros, log.local_minute
      FROM unnest($1::text[], $2::text[], $3::date[], $4::date[])
           WITH ORDINALITY AS wanted (user_id, key, first_date, last_date, number)
     CROSS JOIN LATERAL (
           SELECT * FROM request_log
            WHERE user_id = wanted.user_id AND metric = wanted.key AND state = 1
              AND local_date BETWEEN wanted.first_date AND wanted.last_date
           OFFSET 0) AS log
"""
EARNING_HISTORY: Final = """
    SELECT wanted.number, earned.points_system, earned.entry_id, earned.amount, earned.reach_time, earned.local_date
      FROM unnest($1::text[], $2::text[], $3::date[], $4::date[])
           WITH ORDINALITY AS wanted (user_id, key, first_date, last_date, number)
     CROSS JOIN LATERAL (
           SELECT * FROM earnings
            WHERE user_id = wanted.user_id AND points_system = wanted.key
              AND local_date BETWEEN wanted.first_date AND wanted.last_date
           OFFSET 0) AS earned
"""
EARNINGS: Final = """
    SELECT wanted.user_id, earned.points_system, earned.entry_id, earned.amount, earned.reach_time, earned.local_date
      FROM unnest($1::text[], $2::text[], $3::date[], $4::uuid[])
           AS wanted (user_id, key, local_date, entry_id)
     CROSS JOIN LATERAL (
           SELECT * FROM earnings
            WHERE user_id = wanted.user_id AND points_system = wanted.key
              AND local_date = wanted.local_date AND entry_id = wanted.entry_id
           OFFSET 0) AS earned
"""
# Ids come in order: their bounds tell the partitions (docs/adr/0010).
EVENTS: Final = """
    SELECT state, metric, entry_id, value_micros, occur_time, local_date, contribution_version, contribution_micros,
           local_minute
      FROM request_log
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""
EARLY_REVISIONS: Final = """
    SELECT entry_id, contribution_micros, version FROM early_revisions WHERE entry_id = ANY($1::uuid[])
"""
# From the last period on that is before what changes: it gives the length where what changes does not.
LENGTHS: Final = """
    SELECT wanted.user_id, wanted.streak, known.start_date, known.end_date, known.length, known.reach_time,
           known.version
      FROM unnest($1::text[], $2::text[], $3::date[]) AS wanted (user_id, streak, first_date)
     CROSS JOIN LATERAL (
           SELECT * FROM lengths
            WHERE user_id = wanted.user_id AND streak = wanted.streak
              AND start_date >= coalesce((
                  SELECT start_date FROM lengths
                   WHERE user_id = wanted.user_id AND streak = wanted.streak AND start_date < wanted.first_date
                     AND length IS NOT NULL
                   ORDER BY start_date DESC LIMIT 1), '-infinity')
           OFFSET 0) AS known
"""
# An instant has three local dates at most: the latest reach time is of one of the last dates.
_NEWEST: Final = """
    SELECT wanted.number, (
           SELECT max({time}) FROM {table} AS known
            WHERE known.user_id = wanted.user_id AND {conditions}
              AND (wanted.number, local_date, entry_id) NOT IN (
                  SELECT * FROM unnest($5::bigint[], $6::date[], $7::uuid[]))
              AND local_date BETWEEN wanted.first_date AND wanted.last_date
              AND local_date >= (
                  SELECT local_date FROM {table} AS known
                   WHERE known.user_id = wanted.user_id AND {conditions}
                     AND (wanted.number, local_date, entry_id) NOT IN (
                         SELECT * FROM unnest($5::bigint[], $6::date[], $7::uuid[]))
                     AND local_date BETWEEN wanted.first_date AND wanted.last_date
                   ORDER BY local_date DESC LIMIT 1) - 3) AS newest
      FROM unnest($1::text[], $2::text[], $3::date[], $4::date[], $8::bigint[], $9::bigint[])
           WITH ORDINALITY AS wanted (user_id, key, first_date, last_date, first_minute, minute_count, number)
"""
NEWEST_EARNING: Final = _NEWEST.format(
    time="reach_time", table="earnings", conditions="known.points_system = wanted.key AND amount <> 0"
)
NEWEST_EVENT: Final = _NEWEST.format(
    time="occur_time",
    table="request_log",
    conditions="metric = wanted.key AND state = 1 AND coalesce(contribution_micros, value_micros) <> 0 AND "
    + rows.within_window("wanted.first_minute", "wanted.minute_count"),
)


class PastStore:
    """The SQL of what is looked up beside the state. In the common case nothing is asked."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def recalled(
        self, wanted: Wanted, users: Mapping[str, UserState], commands: Iterable[Command]
    ) -> dict[str, UserState]:
        """The users with what is known of what their entries touch. A round trip for each kind of it."""
        result = dict(users)
        if wanted.awards:
            for user_id, awards in (await self._awards(wanted.awards)).items():
                result[user_id] = _recalling(result[user_id], awards=awards)
        if wanted.events or wanted.early:
            events, undone = await self._events(wanted.events)
            early = await self._early(wanted.early | wanted.events)
            of = _owners(commands)
            for user_id in dict.fromkeys(of.values()):
                result[user_id] = _recalling(
                    result[user_id],
                    events={entry_id: event for entry_id, event in events.items() if of[entry_id] == user_id},
                    undone=frozenset(entry_id for entry_id in undone if of[entry_id] == user_id),
                    early={
                        entry_id: revision for entry_id, revision in early.items() if of[entry_id] == user_id
                    },
                )
        if wanted.streaks:
            for user_id, lengths in (await read_lengths(self._pool, wanted.streaks)).items():
                result[user_id] = _recalling(result[user_id], lengths=lengths)
        return result

    async def histories(self, wanted: Sequence[History]) -> dict[tuple[str, str, date], list[Fact]]:
        """The facts asked for. At most one round trip for metrics, and one for points."""
        events = [history for history in wanted if history.source.kind is SourceKind.METRIC]
        earnings = [history for history in wanted if history.source.kind is SourceKind.POINTS]
        found = {(history.user_id, history.board, history.run.start): list[Fact]() for history in wanted}
        for query, asked, fact_of in (
            (EVENT_HISTORY, events, rows.event),
            (EARNING_HISTORY, earnings, rows.earning),
        ):
            if asked:
                for row in await self._pool.fetch(query, *_columns(asked)):
                    one = asked[row["number"] - 1]
                    found[one.user_id, one.board, one.run.start].append(fact_of(tuple(row)[1:]))
        return found

    async def newest(self, wanted: Sequence[Newest]) -> dict[tuple[str, str, date], datetime | None]:
        """The reach times asked for."""
        found: dict[tuple[str, str, date], datetime | None] = {}
        for query, kind in ((NEWEST_EVENT, SourceKind.METRIC), (NEWEST_EARNING, SourceKind.POINTS)):
            asked = [newest for newest in wanted if newest.source.kind is kind]
            if asked:
                besides = columns(
                    [
                        (number, *pair)
                        for number, newest in enumerate(asked, 1)
                        for pair in sorted(newest.besides)
                    ],
                    3,
                )
                for row in await self._pool.fetch(query, *_columns(asked), *besides, *_windows(asked)):
                    one = asked[row["number"] - 1]
                    found[one.user_id, one.board, one.run.start] = row["newest"]
        return found

    async def _awards(self, wanted: Iterable[tuple[str, FactKey]]) -> dict[str, dict[FactKey, Fact]]:
        asked = sorted((user_id, source.key, day, entry_id) for user_id, (source, entry_id, day) in wanted)
        found: defaultdict[str, dict[FactKey, Fact]] = defaultdict(dict)
        for row in await self._pool.fetch(EARNINGS, *columns(asked, 4)):
            fact = rows.earning(tuple(row)[1:])
            found[row["user_id"]][key_of(fact)] = fact
        return found

    async def _events(self, wanted: Iterable[UUID]) -> tuple[dict[UUID, Fact], set[UUID]]:
        """Events that count, and those that were undone."""
        events: dict[UUID, Fact] = {}
        undone: set[UUID] = set()
        for row in await self._pool.fetch(EVENTS, sorted(wanted)):
            if row["state"] != State.APPLIED:
                undone.add(row["entry_id"])
            elif row["metric"] is not None:
                events[row["entry_id"]] = rows.event(tuple(row)[1:])
        return events, undone

    async def _early(self, wanted: Iterable[UUID]) -> dict[UUID, Revision]:
        found = await self._pool.fetch(EARLY_REVISIONS, sorted(wanted))
        return {row["entry_id"]: Revision(*row) for row in found}


async def read_lengths(
    connection: Pool | Connection, wanted: Mapping[tuple[str, str], date]
) -> dict[str, dict[str, Lengths]]:
    """By user and streak, the lengths from a date on, and those before it on which they build."""
    asked = columns(((*of, first) for of, first in sorted(wanted.items())), 3)
    periods: defaultdict[tuple[str, str], list[Period]] = defaultdict(list)
    for row in await connection.fetch(LENGTHS, *asked):
        periods[row["user_id"], row["streak"]].append(rows.period(tuple(row)[2:]))
    found: defaultdict[str, dict[str, Lengths]] = defaultdict(dict)
    for (user_id, streak), known in periods.items():
        found[user_id][streak] = {period.start: period for period in known}
    return found


def _columns(wanted: Sequence[History] | Sequence[Newest]) -> list[list[Any]]:
    return columns(
        [(history.user_id, history.source.key, history.run.start, history.run.end) for history in wanted], 4
    )


def _windows(wanted: Sequence[Newest]) -> list[list[int]]:
    return columns([(newest.window.first_minute, newest.window.minute_count) for newest in wanted], 2)


def _owners(commands: Iterable[Command]) -> dict[UUID, str]:
    """Whose the events are that entries tell or revise: a user's revise the same user's."""
    return {
        entry_id: command.entry.user.user_id
        for command in commands
        for entry_id in (command.entry.entry_id, *(revision.entry_id for revision in command.revisions))
    }


def _recalling(user: UserState, **recalled: Any) -> UserState:
    return replace(user, recalled=replace(user.recalled, **recalled))
