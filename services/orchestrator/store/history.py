"""What the ledger has of one user: what was said, and events. Read where something comes late or is taken back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
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
from services.orchestrator.domain import Aggregation, Fact, InTime, in_time
from services.orchestrator.said import Reading, Statement, UserPatch, instant_of, micros_of

# A user's events of a metric that count and occurred from $3 to $4. Nothing occurs later than a while after it was
# received. What came late has an index of its own; all else was received within a day.
# OFFSET 0, here and below, keeps the planner from the index by metric, which holds the events of all users: while the
# table is empty it looks as good as that by user.
_OCCURRED: Final = f"""
    SELECT entry_id, value_micros, unique_value, position, occur_time
      FROM (SELECT * FROM entries
             WHERE user_id = $1 AND live AND receive_time - occur_time <= interval '24 hours'
               AND receive_time BETWEEN $3::timestamptz - interval '{MOST_AHEAD.total_seconds():.0f} seconds'
                                    AND $4::timestamptz + interval '24 hours'
            OFFSET 0) AS prompt
     WHERE metric = $2 AND occur_time BETWEEN $3 AND $4
     UNION ALL
    SELECT entry_id, value_micros, unique_value, position, occur_time
      FROM (SELECT * FROM entries
             WHERE user_id = $1 AND live AND receive_time - occur_time > interval '24 hours'
               AND occur_time BETWEEN $3 AND $4
            OFFSET 0) AS late
     WHERE metric = $2
"""

_ALL: Final = f"{_OCCURRED} LIMIT $5"

_FROM: Final = f"SELECT * FROM ({_OCCURRED}) AS own WHERE (occur_time, entry_id) > ($3, $5)"

_BEFORE: Final = f"SELECT * FROM ({_OCCURRED}) AS own WHERE (occur_time, entry_id) < ($4, $5)"

_GREATEST: Final = f"{_BEFORE} ORDER BY value_micros DESC, occur_time, entry_id LIMIT 1"

_NEWEST: Final = f"{_BEFORE} ORDER BY occur_time DESC, entry_id DESC LIMIT 1"

_NEXT: Final = f"{_FROM} ORDER BY occur_time, entry_id LIMIT 1"

_NEXT_WITH: Final = f"{_FROM} AND unique_value = $6 ORDER BY occur_time, entry_id LIMIT 1"

# Those that are greater than all before them, and than $6.
_RECORDS: Final = f"""
    SELECT *
      FROM (SELECT *, max(value_micros) OVER (ORDER BY occur_time, entry_id
                                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS record
              FROM ({_FROM}) AS later) AS compared
     WHERE value_micros > greatest(record, $6::bigint) OR greatest(record, $6::bigint) IS NULL
     ORDER BY occur_time, entry_id
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
_LONG_AGO: Final = datetime(1, 1, 1, tzinfo=UTC)
_FAR: Final = datetime(9999, 1, 1, tzinfo=UTC)
_AFTER_ALL: Final = (_FAR, _HIGHEST)
_NEAR: Final = (timedelta(days=14), timedelta(days=224))
"""What is looked for is mostly near: so far it is looked first, then everywhere."""

Span = tuple[datetime, datetime]
"""Of times, with both ends."""


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

    async def greatest(
        self,
        source: Fetching,
        user_id: str,
        metric: str,
        before: InTime = _AFTER_ALL,
        enough: int | None = None,
    ) -> Fact | None:
        """Of a user's events of a metric that count, up to a place in the order of times, one with the greatest value;
        or one that is as great as is `enough`, in micro-units. None: there are none.
        """
        best = None
        for since, until in _backward(before[0]):
            for row in await source.fetch(_GREATEST, user_id, metric, since, until, before[1]):
                if best is None or row["value_micros"] > best.value_micros:
                    best = fact_from_row(row)
            if best is not None and enough is not None and best.value_micros >= enough:
                break
        return best

    async def newest(self, source: Fetching, user_id: str, metric: str, before: InTime) -> Fact | None:
        """The last of a user's events of a metric that count, before a place in the order of times."""
        return await _first(source, _NEWEST, _backward(before[0]), user_id, metric, before[1])

    async def next_with(
        self, source: Fetching, user_id: str, metric: str, value: str, after: InTime
    ) -> Fact | None:
        """The first event behind a place in the order of times with a value of a UNIQUE metric."""
        return await _first(source, _NEXT_WITH, _forward(after[0]), user_id, metric, after[1], value)

    async def facts(self, source: Fetching, user_id: str, metric: str, since: datetime) -> list[Fact]:
        """A user's events of a metric from an instant on, in the order of times; and of those before the greatest and
        the newest, which stand for all of them.
        """
        before = (since, _LOWEST)
        greatest = await self.greatest(source, user_id, metric, before)
        newest = await self.newest(source, user_id, metric, before) if greatest else None
        rows = await source.fetch(_FROM, user_id, metric, since, _FAR, _LOWEST)
        facts = {fact.entry_id: fact for fact in map(fact_from_row, rows)}
        facts |= {fact.entry_id: fact for fact in (greatest, newest) if fact is not None}
        return sorted(facts.values(), key=in_time)

    async def around(
        self, source: Fetching, user_id: str, metric: str, aggregation: Aggregation, fact: Fact
    ) -> list[Fact]:
        """Those of a MAX or LAST metric's events that decide what is different without one of them, in the order of
        times.
        """
        if aggregation is Aggregation.LAST:
            before = await self.newest(source, user_id, metric, in_time(fact))
            after = await _first(source, _NEXT, _forward(fact.occur_time), user_id, metric, fact.entry_id)
            return [event for event in (before, after) if event is not None]
        before = await self.greatest(source, user_id, metric, in_time(fact), fact.value_micros)
        if before is not None and before.value_micros >= fact.value_micros:
            return [before]
        return [*([before] if before else ()), *await self._records(source, user_id, metric, fact, before)]

    async def _records(
        self, source: Fetching, user_id: str, metric: str, fact: Fact, before: Fact | None
    ) -> list[Fact]:
        """Later events that are greater than all that count before them, up to the first that is at least as great as
        the one that they follow.
        """
        records: list[Fact] = []
        highest = None if before is None else before.value_micros
        for since, until in _forward(fact.occur_time):
            for row in await source.fetch(_RECORDS, user_id, metric, since, until, fact.entry_id, highest):
                records.append(fact_from_row(row))
                highest = records[-1].value_micros
                if highest >= fact.value_micros:
                    return records
        return records

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
        rows = await source.fetch(_ALL, user_id, metric, first, last, MOST_READ + 1)
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
        known = next((event for event in deciding if event.occur_time < since), None)
        if known is not None and aggregation is Aggregation.MAX and known.value_micros >= undone.value_micros:
            known = None  # great enough, but not the greatest
        if known is None:
            look = self.newest if aggregation is Aggregation.LAST else self.greatest
            known = await look(source, user_id, metric, (since, _LOWEST))
        return as_they_came(aggregation, [known] if known else [], came, undone)


async def _first(
    source: Fetching, query: str, spans: Iterable[Span], user_id: str, metric: str, *place: object
) -> Fact | None:
    """The event that a query finds in the nearest of these spans in which there is one."""
    for since, until in spans:
        if rows := await source.fetch(query, user_id, metric, since, until, *place):
            return fact_from_row(rows[0])
    return None


def _backward(at: datetime) -> Iterator[Span]:
    """Spans of time that go before one another, from the nearest to the longest."""
    for reach in _NEAR:
        yield at - reach, at
        at -= reach
    yield _LONG_AGO, at


def _forward(at: datetime) -> Iterator[Span]:
    """Spans of time that follow one another, from the nearest to the longest."""
    for reach in _NEAR:
        yield at, at + reach
        at += reach
    yield at, _FAR


def fact_from_row(row: Record) -> Fact:
    """The event of a row of `entries`."""
    return Fact(
        entry_id=row["entry_id"],
        value_micros=row["value_micros"],
        occur_time=row["occur_time"],
        position=row["position"],
        unique_value=row["unique_value"],
    )
