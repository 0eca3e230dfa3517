"""What is read of facts that are stored: only where one of them, or their order, matters to an entry."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from services.achievement.domain import Fact, Key, Revision, Span, Start
from services.achievement.rows import fact_of
from shared.postgres.pool import Connection, Pool

FIRST_CHUNK: Final = 256
"""Facts of a span that are read first."""
GROWTH: Final = 4
"""How many times as many as are there already are read when more are wanted."""

_BEFORE_ALL: Final = Key(datetime(1, 1, 1, tzinfo=UTC), UUID(int=0))
_AFTER_ALL: Final = Key(datetime(9999, 1, 1, tzinfo=UTC), UUID(int=0))

# The ids come in order: their bounds tell the partitions (docs/adr/0010).
FACTS: Final = """
    SELECT entry_id, position, coalesce(occur_time, apply_time) AS occur_time,
           coalesce(local_date, (apply_time AT TIME ZONE 'UTC')::date) AS local_date,
           coalesce(metric, '') AS metric, coalesce(value_micros, 0) AS value_micros,
           coalesce(version, 0) AS version, counted, grounds, late IS TRUE AS late, state = 1 AS live, undone_count
      FROM request_log
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
       AND position IS NOT NULL
"""
REVISIONS: Final = """
    SELECT entry_id, version, contribution_micros
      FROM revisions
     WHERE user_id = ANY($1::text[]) AND entry_id = ANY($2::uuid[])
"""
FIRST_LATE: Final = """
    SELECT occur_time, entry_id
      FROM request_log
     WHERE user_id = $1 AND metric = $2 AND position >= $3 AND late AND state = 1
     ORDER BY occur_time, entry_id
     LIMIT 1
"""
SPAN: Final = """
    SELECT entry_id, position, occur_time, local_date, metric, value_micros, coalesce(version, 0) AS version,
           counted, grounds, late IS TRUE AS late, true AS live
      FROM request_log
     WHERE user_id = $1 AND metric = $2 AND (occur_time, entry_id) >= ($3::timestamptz, $4::uuid) AND state = 1
       AND (value_micros <> 0 OR NOT $6::boolean)
     ORDER BY occur_time, entry_id
     LIMIT $5
"""
SUMS: Final = """
    SELECT counted, sum(value_micros)::bigint AS sum_micros
      FROM request_log
     WHERE user_id = $1 AND metric = $2 AND (occur_time, entry_id) > ($3::timestamptz, $4::uuid)
       AND (occur_time, entry_id) <= ($5::timestamptz, $6::uuid) AND state = 1
     GROUP BY counted
"""


class PastStore:
    """The facts in the database."""

    def __init__(self, pool: Pool | Connection) -> None:
        self._pool = pool

    async def facts(self, entry_ids: Collection[UUID]) -> dict[UUID, Fact]:
        """Those of these entries that have come, also the undone ones."""
        if not entry_ids:
            return {}
        return {row["entry_id"]: fact_of(row) for row in await self._pool.fetch(FACTS, sorted(entry_ids))}

    async def revisions(self, user_ids: Collection[str], entry_ids: Collection[UUID]) -> dict[UUID, Revision]:
        """What was said of these entries before they came."""
        if not entry_ids:
            return {}
        rows = await self._pool.fetch(REVISIONS, sorted(user_ids), sorted(entry_ids))
        return {row["entry_id"]: Revision(*row) for row in rows}

    async def span(self, user_id: str, start: Start, spans: Mapping[Start, Span]) -> Span:
        """The first facts of a span, or more of it than is known; of all spans that were read."""
        known = spans.get(start)
        if known is None:
            size = FIRST_CHUNK
            facts = await self._chunk(user_id, start, await self._first(user_id, start), size)
        else:
            # The last one comes again.
            size = len(known.facts) * (1 + GROWTH)
            more = await self._chunk(user_id, start, known.facts[-1].key, size - len(known.facts) + 1)
            facts = [*known.facts, *more[1:]]
        if len(facts) < size:
            return Span(tuple(facts), complete=True)
        others = [span for other, span in spans.items() if other.metric == start.metric and not span.complete]
        return Span(tuple(facts), False, await self._rest(user_id, start.metric, facts[-1].key, others))

    async def _rest(self, user_id: str, metric: str, last: Key, others: Iterable[Span]) -> Mapping[str, int]:
        """What those after this one contribute. Most of it may be known, of those after an earlier one."""
        earlier = [span for span in others if span.facts[-1].key <= last]
        if not earlier:
            return await self._sums(user_id, metric, last, _AFTER_ALL)
        nearest = max(earlier, key=lambda span: span.facts[-1].key)
        between = await self._sums(user_id, metric, nearest.facts[-1].key, last)
        return {key: value - between.get(key, 0) for key, value in nearest.rest.items()}

    async def _sums(self, user_id: str, metric: str, after: Key, until: Key) -> Mapping[str, int]:
        sums: dict[str, int] = {}
        for counted, value in await self._pool.fetch(SUMS, user_id, metric, *after, *until):
            for key in ("", *(counted or ())):
                sums[key] = sums.get(key, 0) + value
        return sums

    async def _first(self, user_id: str, start: Start) -> Key:
        """What is not late and came after the start lies after it in time, too."""
        if start.key is None:
            return _BEFORE_ALL
        row = await self._pool.fetchrow(FIRST_LATE, user_id, start.metric, start.position)
        return min(start.key, Key(*row)) if row is not None else start.key

    async def _chunk(self, user_id: str, start: Start, first: Key, size: int) -> list[Fact]:
        asked = (user_id, start.metric, *first, size, start.changing)
        return [fact_of(row) for row in await self._pool.fetch(SPAN, *asked)]
