"""What the ledger has of one user: what was said, and events. Read where something comes late or is taken back."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

from asyncpg import Record

from services.orchestrator.config import MOST_AHEAD
from services.orchestrator.contributions import (
    AROUND,
    MOST_READ,
    NOT_ASKED,
    Arrivals,
    as_they_came,
    asked_when,
)
from services.orchestrator.domain import Aggregation, Extremes, Fact, InTime, in_time
from services.orchestrator.said import Reading, Statement, UserPatch, instant_of, micros_of

# OFFSET 0, here and below, keeps the planner from the index by metric, which holds the events of all users: while the
# table is empty it looks as good as that by user.
_EXTREMES: Final = """
    WITH own AS MATERIALIZED (
        SELECT entry_id, value_micros, unique_value, position, occur_time
          FROM (SELECT * FROM entries WHERE user_id = $1 AND live OFFSET 0) AS own
         WHERE metric = $2 AND (occur_time, entry_id) < ($3, $4)
    )
    (SELECT * FROM own ORDER BY value_micros DESC, occur_time, entry_id LIMIT 1)
     UNION ALL
    (SELECT * FROM own ORDER BY occur_time DESC, entry_id DESC LIMIT 1)
"""

# Nothing occurs later than a while after it was received.
_FACTS_FROM: Final = """
    SELECT entry_id, value_micros, unique_value, position, occur_time
      FROM (SELECT * FROM entries WHERE user_id = $1 AND live AND receive_time >= $4 OFFSET 0) AS own
     WHERE metric = $2 AND (occur_time, entry_id) > ($3, $5)
"""

_NEXT: Final = f"{_FACTS_FROM} ORDER BY occur_time, entry_id LIMIT 1"

# Those that are greater than all before, up to the first that is at least as great as the one that they follow.
_GREATER: Final = f"""
    WITH later AS MATERIALIZED ({_FACTS_FROM} AND ($6::bigint IS NULL OR value_micros > $6))
    SELECT * FROM later
     WHERE (occur_time, entry_id) <= ALL
           (SELECT occur_time, entry_id FROM later WHERE value_micros >= $7 ORDER BY occur_time, entry_id LIMIT 1)
     ORDER BY occur_time, entry_id
"""

_FIRST_WITH: Final = """
    SELECT entry_id, value_micros, unique_value, position, occur_time
      FROM (SELECT * FROM entries WHERE user_id = $1 AND live OFFSET 0) AS own
     WHERE metric = $2 AND unique_value = $3
     ORDER BY occur_time, entry_id
     LIMIT 1
"""

# As of one that is undone. Nothing occurs later than a while after it was received.
_AROUND: Final = """
    SELECT entry_id, value_micros, unique_value, position, occur_time
      FROM (SELECT * FROM entries WHERE user_id = $1 AND live AND receive_time >= $3 OFFSET 0) AS own
     WHERE metric = $2 AND occur_time BETWEEN $4 AND $5
     LIMIT $6
"""

_FIRST_BEFORE: Final = """
    SELECT value AS unique_value, first_id AS entry_id, first_time AS occur_time
      FROM unique_values
     WHERE user_id = $1 AND metric = $2 AND value = ANY($3::text[]) AND first_time < $4
"""

_REQUESTS: Final = """
    SELECT kind, request, occur_time FROM entries
     WHERE user_id = $1 AND live AND kind = ANY($2::text[])
"""

_REQUESTS_SINCE: Final = """
    SELECT kind, request, occur_time FROM entries
     WHERE user_id = $1 AND live AND kind = ANY($2::text[]) AND receive_time >= $3 AND occur_time >= $4
"""

_FIRST_REQUESTS: Final = f"{_REQUESTS_SINCE} ORDER BY occur_time LIMIT $5"
_PAGE: Final = 500

_LOWEST: Final = UUID(int=0)
_HIGHEST: Final = UUID(int=2**128 - 1)
_FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Fetching(Protocol):
    """A pool, or a connection in a transaction."""

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        """The rows of a query."""
        ...


class History:
    """Reads what counts."""

    def __init__(self, counted: Sequence[str], patch_of: Callable[[str, bytes], UserPatch]) -> None:
        self._counted = counted
        """Operations that make a user exist."""
        self._patch_of = patch_of
        """What the stored request of such an operation said about the user."""

    async def statements(self, source: Fetching, user_id: str, read: Reading) -> list[Statement]:
        """What was said about a user and counts."""
        if read.since is None:
            rows = await source.fetch(_REQUESTS, user_id, self._counted)
        else:
            since = instant_of(read.since)
            rows = await source.fetch(_REQUESTS_SINCE, user_id, self._counted, since - MOST_AHEAD, since)
        return [(self.said_in(row["kind"], row["request"]), micros_of(row["occur_time"])) for row in rows]

    def said_in(self, operation: str, request: bytes) -> UserPatch:
        """What a stored request said about the user; nothing, where its operation says nothing."""
        return self._patch_of(operation, request) if operation in self._counted else UserPatch("")

    async def first_statements(
        self, source: Fetching, user_id: str, at: datetime
    ) -> tuple[list[Statement], int | None]:
        """The first statements from an instant on, and up to when they are all; None: there are no more."""
        rows = await source.fetch(_FIRST_REQUESTS, user_id, self._counted, at - MOST_AHEAD, at, _PAGE)
        until = None if len(rows) < _PAGE else micros_of(rows[-1]["occur_time"]) - 1
        found = [(self.said_in(row["kind"], row["request"]), micros_of(row["occur_time"])) for row in rows]
        return [(patch, when) for patch, when in found if until is None or when <= until], until

    async def extremes(
        self, source: Fetching, user_id: str, metric: str, before: InTime = (_FAR, _HIGHEST)
    ) -> Extremes | None:
        """Of a user's events of a metric that count, up to a place in the order of times; None: there are none."""
        found = [fact_from_row(row) for row in await source.fetch(_EXTREMES, user_id, metric, *before)]
        return Extremes(*found) if found else None

    async def facts(self, source: Fetching, user_id: str, metric: str, since: datetime) -> list[Fact]:
        """A user's events of a metric from an instant on, in the order of times; and of those before the greatest and
        the newest, which stand for all of them.
        """
        before = await self.extremes(source, user_id, metric, (since, _LOWEST))
        rows = await source.fetch(_FACTS_FROM, user_id, metric, since, since - MOST_AHEAD, _LOWEST)
        facts = {fact.entry_id: fact for fact in map(fact_from_row, rows)}
        if before is not None:
            facts |= {fact.entry_id: fact for fact in (before.greatest, before.newest)}
        return sorted(facts.values(), key=in_time)

    async def around(
        self, source: Fetching, user_id: str, metric: str, aggregation: Aggregation, fact: Fact
    ) -> list[Fact]:
        """Those of a MAX or LAST metric's events that decide what is different without one of them."""
        before = await self.extremes(source, user_id, metric, in_time(fact))
        after = (user_id, metric, fact.occur_time, fact.occur_time - MOST_AHEAD, fact.entry_id)
        if aggregation is Aggregation.LAST:
            rows = await source.fetch(_NEXT, *after)
            return [*([before.newest] if before else ()), *map(fact_from_row, rows)]
        if before is not None and before.greatest.value_micros >= fact.value_micros:
            return [before.greatest]
        highest = None if before is None else before.greatest.value_micros
        rows = await source.fetch(_GREATER, *after, highest, fact.value_micros)
        return [*([before.greatest] if before else ()), *map(fact_from_row, rows)]

    async def as_they_came(
        self,
        source: Fetching,
        user_id: str,
        metric: str,
        aggregation: Aggregation,
        undone: Fact,
        deciding: Sequence[Fact],
    ) -> Arrivals:
        """What the events around one that is undone contributed as they came, where today's contributions do not say
        it. Of a metric that is no sum; `deciding`: of a MAX or LAST metric what `around` gives.
        """
        first, last = undone.occur_time - AROUND, undone.occur_time + AROUND
        rows = await source.fetch(_AROUND, user_id, metric, first - MOST_AHEAD, first, last, MOST_READ + 1)
        if len(rows) > MOST_READ:
            return NOT_ASKED
        around = [fact_from_row(row) for row in rows]
        came = asked_when(around, undone)
        if not came:
            return NOT_ASKED
        since = min(event.occur_time for event in (*came, undone))
        if aggregation is Aggregation.UNIQUE:
            named = {event.unique_value for event in (*came, undone)}
            values = sorted(value for value in named if value is not None)
            firsts = await source.fetch(_FIRST_BEFORE, user_id, metric, values, since)
            before = [Fact(row["entry_id"], 0, row["occur_time"], 0, row["unique_value"]) for row in firsts]
            return as_they_came(aggregation, before, came, undone)
        before = [event for event in deciding if in_time(event) < in_time(undone)]
        earlier = [event for event in around if event.occur_time < since]
        if aggregation is Aggregation.LAST and earlier:
            before = [max(earlier, key=in_time)]
        elif any(event.occur_time >= since for event in before):
            extremes = await self.extremes(source, user_id, metric, (since, _LOWEST))
            before = [extremes.greatest, extremes.newest] if extremes else []
        return as_they_came(aggregation, before, came, undone)

    async def first_with(self, source: Fetching, user_id: str, metric: str, value: str) -> Fact | None:
        """The first event in the order of times with a value of a UNIQUE metric."""
        rows = await source.fetch(_FIRST_WITH, user_id, metric, value)
        return fact_from_row(rows[0]) if rows else None


def fact_from_row(row: Record) -> Fact:
    """The event of a row of `entries`."""
    return Fact(
        entry_id=row["entry_id"],
        value_micros=row["value_micros"],
        occur_time=row["occur_time"],
        position=row["position"],
        unique_value=row["unique_value"],
    )
