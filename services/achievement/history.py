"""What was ever completed and revoked, page by page."""

from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from msgspec import Struct

from services.achievement.domain import ChangeKind
from shared.pages import Page
from shared.postgres.pool import Pool

_SINCE_EVER: Final = datetime(1, 1, 1, tzinfo=UTC)
_FOR_EVER: Final = datetime(9999, 12, 31, tzinfo=UTC)

# Before the row of a keyset, in the order of (fact_time, completion_id, kind); newest first.
OF_USER: Final = """
    SELECT user_id, achievement, kind, completion_id, number, fact_time, entry_id, cause_id, local_date, backdated
      FROM completion_facts
     WHERE user_id = $1 AND ($2::text = '' OR achievement = $2::text) AND ($3::integer = 0 OR kind = $3::integer)
       AND fact_time >= $4 AND fact_time < $5 AND (fact_time, completion_id, kind) < ($6, $7::uuid, $8::integer)
     ORDER BY fact_time DESC, completion_id DESC, kind DESC
     LIMIT $9
"""
OF_ACHIEVEMENT: Final = """
    SELECT user_id, achievement, kind, completion_id, number, fact_time, entry_id, cause_id, local_date, backdated
      FROM completion_facts
     WHERE achievement = $1 AND ($2::integer = 0 OR kind = $2::integer)
       AND fact_time >= $3 AND fact_time < $4 AND (fact_time, completion_id, kind) < ($5, $6::uuid, $7::integer)
     ORDER BY fact_time DESC, completion_id DESC, kind DESC
     LIMIT $8
"""


class HistoryQuery(Struct, frozen=True):
    """Which part of the history. A user, an achievement, or both are named."""

    user_id: str = ""
    achievement: str = ""
    kind: ChangeKind | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def texts(self) -> list[str]:
        """What a page token is bound to."""
        return [
            "completions",
            self.user_id,
            self.achievement,
            str(self.kind),
            str(self.since),
            str(self.until),
        ]


class HistoryRow(Struct, frozen=True):
    """A completion, or its revocation."""

    user_id: str
    achievement: str
    kind: ChangeKind
    completion_id: UUID
    number: int
    time: datetime
    entry_id: UUID
    cause_id: UUID
    local_date: date
    backdated: bool


class History:
    """The append-only facts, read."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, query: HistoryQuery, page: Page) -> tuple[list[HistoryRow], str]:
        """A page, newest first, and the token of the next one."""
        after = page.after or (_FOR_EVER, UUID(int=2**128 - 1), len(ChangeKind) + 1)
        times = (query.since or _SINCE_EVER, query.until or _FOR_EVER)
        kind = query.kind or 0
        of: tuple[Any, ...] = (query.achievement, kind, *times, *after, page.size + 1)
        if query.user_id:
            found = await self._pool.fetch(OF_USER, query.user_id, *of)
        else:
            found = await self._pool.fetch(OF_ACHIEVEMENT, *of)
        rows = [HistoryRow(row[0], row[1], ChangeKind(row[2]), *row[3:]) for row in found]
        if len(rows) <= page.size:
            return rows, ""
        last = rows[page.size - 1]
        return rows[: page.size], page.next_token(last.time, last.completion_id, int(last.kind))
