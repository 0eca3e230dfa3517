"""What readers ask for: audits, users, totals."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import Struct

from services.orchestrator.domain import User, WantedEntries
from services.orchestrator.saga import UNFINISHED, State
from services.orchestrator.store.rows import user_from_row
from shared.postgres.pool import Pool

_AUDIT_COLUMNS: Final = """
    e.entry_id, e.kind, e.user_id, e.other_user_ids, e.origin, e.actor, e.reason, e.request, e.receive_time,
    e.occur_time, e.origin_id, e.live, s.state, s.instance, coalesce(s.attempt_count, 0) AS attempt_count,
    s.settle_time, s.reply, s.rejection, s.void_reason, s.void_actor, s.void_reply, s.last_error,
    (s.correction IS NOT NULL) AS corrected
"""

_ENTRY: Final = f"""
    SELECT {_AUDIT_COLUMNS}
      FROM entries e
      LEFT JOIN sagas s ON s.entry_id = coalesce(e.origin_id, e.entry_id)
     WHERE e.entry_id = $1
"""

# What was voided so long ago that its saga is not kept is known by counting no more.
_USER_ENTRIES: Final = f"""
    SELECT {_AUDIT_COLUMNS}
      FROM entries e
      LEFT JOIN sagas s ON s.entry_id = coalesce(e.origin_id, e.entry_id)
     WHERE e.user_id = $1 AND (e.receive_time, e.entry_id) < ($2, $3)
       AND ($5 = '' OR e.metric = $5)
       AND ($6::timestamptz IS NULL OR e.occur_time >= $6) AND ($7::timestamptz IS NULL OR e.occur_time < $7)
       AND ($8::smallint[] IS NULL OR e.origin = ANY($8))
       AND ($9::boolean IS NULL
            OR $9 = (e.origin_id IS NULL AND coalesce(s.state = {int(State.VOIDED)}, NOT e.live)))
     ORDER BY e.receive_time DESC, e.entry_id DESC
     LIMIT $4
"""

_SAGAS: Final = f"""
    SELECT {_AUDIT_COLUMNS}
      FROM sagas s
      JOIN entries e ON e.entry_id = s.entry_id
     WHERE s.state = ANY($1::smallint[]) AND ($2 = '' OR s.user_id = $2)
       AND (e.receive_time, e.entry_id) > ($3, $4)
     ORDER BY e.receive_time, e.entry_id
     LIMIT $5
"""

_USER: Final = "SELECT * FROM users WHERE user_id = $1 AND entry_count > 0"

# No id leads to itself, however far.
_LEADS_TO: Final = """
    WITH RECURSIVE way (user_id, place) AS (
        SELECT $1::text COLLATE "C", 0
         UNION ALL
        SELECT u.merged_into, place + 1
          FROM way JOIN users u ON u.user_id = way.user_id
         WHERE u.merged_into IS NOT NULL
    )
    SELECT user_id FROM way ORDER BY place DESC LIMIT 1
"""

_USERS: Final = """
    SELECT * FROM users
     WHERE user_id > $1 AND ($2::text IS NULL OR user_id < $2) AND entry_count > 0
     ORDER BY user_id LIMIT $3
"""

_ANYBODY_BEHIND: Final = """
    SELECT user_id FROM users
     WHERE user_id > $1 AND ($2::text IS NULL OR user_id < $2) AND entry_count > 0
     ORDER BY user_id OFFSET $3 LIMIT 1
"""

_USERS_OF: Final = "SELECT * FROM users WHERE user_id = ANY($1::text[]) AND entry_count > 0 ORDER BY user_id"

_TOTALS: Final = """
    SELECT metric, total_micros, event_count FROM totals
     WHERE user_id = $1 AND event_count > 0 ORDER BY metric
"""

_KNOWN_IDS: Final = """
    SELECT entry_id
      FROM entries
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""

_BODIES: Final = """
    SELECT entry
      FROM entries
     WHERE entry_id = ANY($1::uuid[])
       AND entry_id BETWEEN ($1::uuid[])[1] AND ($1::uuid[])[cardinality($1::uuid[])]
"""

LOWEST_ID: Final = UUID(int=0)
HIGHEST_ID: Final = UUID(int=2**128 - 1)


class Audit(Struct, frozen=True):
    """One entry of the ledger with its saga, as long as that is kept."""

    entry_id: UUID
    operation: str
    user_id: str
    other_user_ids: Sequence[str]
    origin: int | None
    """None for one from before origins were recorded."""
    actor: str | None
    reason: str | None
    request: bytes
    receive_time: datetime
    occur_time: datetime
    origin_id: UUID | None
    live: bool
    """It counts in totals and in the user."""
    state: State | None
    """None once the saga is not kept any more."""
    instance: str | None
    attempt_count: int
    settle_time: datetime | None
    reply: bytes | None
    rejection: bytes | None
    void_reason: str | None
    void_actor: str | None
    void_reply: bytes | None
    last_error: str | None
    corrected: bool


class UserTotal(Struct, frozen=True):
    """A user's total of one metric."""

    metric: str
    total_micros: int
    event_count: int


class ReadStore:
    """Reads that no event waits for."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def entry(self, entry_id: UUID) -> Audit | None:
        """One entry."""
        row = await self._pool.fetchrow(_ENTRY, entry_id)
        return None if row is None else _audit(row)

    async def user_entries(
        self, wanted: WantedEntries, before: tuple[datetime, UUID], limit: int
    ) -> list[Audit]:
        """A user's entries, newest first."""
        rows = await self._pool.fetch(
            _USER_ENTRIES,
            wanted.user_id,
            *before,
            limit,
            wanted.metric,
            wanted.start,
            wanted.end,
            wanted.origins or None,
            wanted.voided,
        )
        return [_audit(row) for row in rows]

    async def sagas(
        self, states: Sequence[State], user_id: str, after: tuple[datetime, UUID], limit: int
    ) -> list[Audit]:
        """Sagas in these states (none given: all that are not finished), oldest first."""
        wanted = [int(state) for state in states or (*UNFINISHED, State.PARKED)]
        return [_audit(row) for row in await self._pool.fetch(_SAGAS, wanted, user_id, *after, limit)]

    async def user(self, user_id: str) -> User | None:
        """A user."""
        row = await self._pool.fetchrow(_USER, user_id)
        return None if row is None else user_from_row(row)

    async def leads_to(self, user_id: str) -> str:
        """Into whom a user was merged at last; the same id where nobody was."""
        found: str = await self._pool.fetchval(_LEADS_TO, user_id)
        return found

    async def users(self, after: str, end: str | None, limit: int) -> list[User]:
        """Users by id, behind one and before another (None: to the last)."""
        return [user_from_row(row) for row in await self._pool.fetch(_USERS, after, end, limit)]

    async def has_more_users(self, after: str, end: str | None, count: int) -> bool:
        """Whether more than so many are behind one and before another (None: to the last)."""
        return await self._pool.fetchval(_ANYBODY_BEHIND, after, end, count) is not None

    async def users_of(self, user_ids: Sequence[str]) -> list[User]:
        """Those of these users that there are, by id."""
        return [user_from_row(row) for row in await self._pool.fetch(_USERS_OF, list(user_ids))]

    async def totals(self, user_id: str) -> list[UserTotal]:
        """A user's totals by metric."""
        rows = await self._pool.fetch(_TOTALS, user_id)
        return [UserTotal(row["metric"], row["total_micros"], row["event_count"]) for row in rows]

    async def bodies(self, entry_ids: Sequence[UUID]) -> list[bytes]:
        """Those of these entries that are in the ledger, as participants are told of them."""
        return [row["entry"] for row in await self._pool.fetch(_BODIES, sorted(entry_ids))]

    async def known_ids(self, entry_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these entries that are in the ledger."""
        return {row["entry_id"] for row in await self._pool.fetch(_KNOWN_IDS, sorted(entry_ids))}


def _audit(row: Record) -> Audit:
    return Audit(
        entry_id=row["entry_id"],
        operation=row["kind"],
        user_id=row["user_id"],
        other_user_ids=row["other_user_ids"] or (),
        origin=row["origin"],
        actor=row["actor"],
        reason=row["reason"],
        request=row["request"],
        receive_time=row["receive_time"],
        occur_time=row["occur_time"],
        origin_id=row["origin_id"],
        live=row["live"],
        state=None if row["state"] is None else State(row["state"]),
        instance=row["instance"],
        attempt_count=row["attempt_count"],
        settle_time=row["settle_time"],
        reply=row["reply"],
        rejection=row["rejection"],
        void_reason=row["void_reason"],
        void_actor=row["void_actor"],
        void_reply=row["void_reply"],
        last_error=row["last_error"],
        corrected=row["corrected"],
    )
