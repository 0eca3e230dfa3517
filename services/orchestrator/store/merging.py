"""What the merge of a user reads and writes in the ledger (RULES 2.7)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Record
from msgspec import Struct

from services.orchestrator.domain import Origin
from services.orchestrator.domain_events import Told
from services.orchestrator.saga import State
from services.orchestrator.store.sagas import COMPLETE, Completed, complete_arguments
from shared.postgres import admin
from shared.postgres.admin import Asking
from shared.postgres.pool import Pool

Place = tuple[datetime, UUID]
"""In the order in which entries were recorded."""

# Those of others that concern the user too, such as a transfer, are few.
_OF_USER: Final = """
    SELECT e.entry_id, e.kind, e.request, e.receive_time, e.origin, e.actor, e.entry, e.live, s.state, s.void_reason
      FROM (SELECT * FROM entries
             WHERE user_id = $1 AND (receive_time, entry_id) > ($2, $3) AND kind = ANY($4::text[])
             UNION ALL
            SELECT * FROM entries
             WHERE other_user_ids @> ARRAY[$1::text] AND other_user_ids IS NOT NULL
               AND (receive_time, entry_id) > ($2, $3) AND kind = ANY($4::text[])) AS e
      LEFT JOIN sagas s USING (entry_id)
     ORDER BY e.receive_time, e.entry_id
     LIMIT $5
"""

# The newest first: the fewer there are behind it, the less an undoing has to look at.
_TO_UNDO: Final = """
    SELECT e.entry_id, s.state
      FROM (SELECT * FROM entries WHERE user_id = $1 AND live AND kind = ANY($2::text[])
             UNION ALL
            SELECT * FROM entries
             WHERE other_user_ids @> ARRAY[$1::text] AND other_user_ids IS NOT NULL
               AND live AND kind = ANY($2::text[])) AS e
      JOIN sagas s USING (entry_id)
     WHERE s.state IN (3, 5)
     ORDER BY e.receive_time DESC, e.entry_id DESC
     LIMIT $3
"""

_OWN: Final = "SELECT actor, reason FROM entries WHERE entry_id = $1"

# What stays in the ledger, such as a hold, makes nobody.
_NOBODY: Final = "UPDATE users SET entry_count = 0, guard = guard + 1 WHERE user_id = $1"


class Movable(Struct, frozen=True):
    """An entry that may be to be moved."""

    entry_id: UUID
    kind: str
    request: bytes
    receive_time: datetime
    origin: Origin
    actor: str
    entry: bytes
    """As participants were told of it; empty once that is not kept."""
    live: bool
    state: State | None
    """None once its saga is not kept."""
    void_reason: str

    @property
    def place(self) -> Place:
        """Behind which the next ones are."""
        return self.receive_time, self.entry_id


class MergeStore:
    """Reads and writes of merges."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def entries(self, user_id: str, after: Place, kinds: Sequence[str], limit: int) -> list[Movable]:
        """Entries of a user or with a user, in the order in which they were recorded."""
        rows = await self._pool.fetch(_OF_USER, user_id, *after, kinds, limit)
        return [_movable(row) for row in rows]

    async def to_undo(self, user_id: str, kinds: Sequence[str], limit: int) -> list[tuple[UUID, State]]:
        """Those that still count for the user, the newest first."""
        rows = await self._pool.fetch(_TO_UNDO, user_id, kinds, limit)
        return [(row["entry_id"], State(row["state"])) for row in rows]

    async def complete(self, entry_id: UUID, user_id: str, reply: bytes, told: Told, now: datetime) -> bool:
        """Ends a merge: the reply, what is told of it, and the audit. False where another replica was first."""
        async with self._pool.acquire() as connection, connection.transaction():
            first = await connection.fetch(COMPLETE, *complete_arguments([Completed(entry_id, reply, told)]))
            if not first:
                return False
            own = await connection.fetchrow(_OWN, entry_id)
            assert own is not None
            asking = Asking(own["actor"] or "", "", own["reason"] or "")
            # By the entry: it loses the user when the user is deleted, the audit is kept as it is.
            await admin.record(connection, "merge_users", f"entry/{entry_id}", asking, now)
            await connection.execute(_NOBODY, user_id)
        return True


def _movable(row: Record) -> Movable:
    return Movable(
        entry_id=row["entry_id"],
        kind=row["kind"],
        request=row["request"],
        receive_time=row["receive_time"],
        origin=Origin(row["origin"] or Origin.LIVE),
        actor=row["actor"] or "",
        entry=row["entry"],
        live=row["live"],
        state=None if row["state"] is None else State(row["state"]),
        void_reason=row["void_reason"] or "",
    )
