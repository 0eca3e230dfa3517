"""What the ledger has of one user: what was said, and events. Read where something comes late or is taken back."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from asyncpg import Record

from services.orchestrator.config import MOST_AHEAD
from services.orchestrator.domain import Fact, in_time
from services.orchestrator.said import Reading, Statement, UserPatch, instant_of, micros_of

# OFFSET 0 keeps the planner from the index by metric, which holds the events of all users: while the table is empty it
# looks as good as that by user.
_FACTS: Final = """
    SELECT entry_id, value_micros, unique_value, position, occur_time
      FROM (SELECT * FROM entries WHERE user_id = $1 AND live OFFSET 0) AS own
     WHERE metric = $2
"""

_REQUESTS: Final = """
    SELECT kind, request, occur_time FROM entries
     WHERE user_id = $1 AND live AND kind = ANY($2::text[])
"""

# Nothing occurs later than a while after it was received.
_REQUESTS_SINCE: Final = """
    SELECT kind, request, occur_time FROM entries
     WHERE user_id = $1 AND live AND kind = ANY($2::text[]) AND receive_time >= $3 AND occur_time >= $4
"""


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

    async def facts(self, source: Fetching, user_id: str, metric: str) -> list[Fact]:
        """A user's events of a metric that count, in the order of their times."""
        return sorted(map(fact_from_row, await source.fetch(_FACTS, user_id, metric)), key=in_time)


def fact_from_row(row: Record) -> Fact:
    """The event of a row of `entries`."""
    return Fact(
        entry_id=row["entry_id"],
        value_micros=row["value_micros"],
        occur_time=row["occur_time"],
        position=row["position"],
        unique_value=row["unique_value"],
    )
