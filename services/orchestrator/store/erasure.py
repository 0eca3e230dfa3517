"""What the deletion of a user reads and writes in the ledger (RULES 2.7)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.orchestrator.domain_events import Told
from services.orchestrator.store.sagas import COMPLETE, Completed, complete_arguments
from shared.postgres import admin
from shared.postgres.admin import Asking
from shared.postgres.pool import Pool

# Whoever has loaded the user before finds another guard, and whoever loads the user after it finds the standing.
_CLOSE: Final = "UPDATE users SET standing = 2, guard = guard + 1 WHERE user_id = $1 AND standing <> 2"

_OPEN: Final = """
    SELECT count(*) FILTER (WHERE state <> 7) AS unfinished, count(*) FILTER (WHERE state = 7) AS parked
      FROM (SELECT state, user_id, entry_id FROM sagas WHERE state IN (1, 2, 5)
             UNION ALL
            SELECT state, user_id, entry_id FROM sagas WHERE state = 7) AS open
     WHERE (user_id = $1 OR entry_id IN (
               SELECT e.entry_id FROM entries e
                WHERE e.other_user_ids @> ARRAY[$1::text] AND e.other_user_ids IS NOT NULL
                  AND e.kind = 'user_merge'))
       AND entry_id <> $2
       AND NOT EXISTS (SELECT FROM entries e WHERE e.entry_id = open.entry_id AND e.kind = 'user_erasure')
"""

_ENTRIES: Final = """
    SELECT entry_id, kind, request, receive_time, other_user_ids
      FROM entries
     WHERE user_id = $1 AND kind <> 'user_erasure'
     ORDER BY receive_time, entry_id
     LIMIT $2
"""

_FORGET_KEYS: Final = "DELETE FROM entry_keys WHERE key_id = ANY($1::uuid[]) AND entry_id = ANY($2::uuid[])"

_OWN: Final = "SELECT actor, reason FROM entries WHERE entry_id = $1"

_ANONYMOUS_ENTRY: Final = "UPDATE entries SET user_id = $2, request = $3, entry = $4 WHERE entry_id = $1"

_ANONYMOUS_SAGA: Final = "UPDATE sagas SET user_id = $2 WHERE entry_id = $1"

# A replica that still keeps what it knew of the user is refused when it stores (`store.ledger`).
_FORGET_USERS: Final = "DELETE FROM users WHERE user_id = ANY($1::text[])"

# Whoever was merged into the user, or into one of those.
_WITH_MERGED: Final = """
    WITH RECURSIVE one (user_id) AS (
        SELECT $1::text COLLATE "C"
         UNION
        SELECT u.user_id FROM one JOIN users u ON u.merged_into = one.user_id
    )
    SELECT user_id FROM one ORDER BY user_id <> $1, user_id
"""


_MENTIONS: Final = """
    SELECT e.entry_id, e.kind, e.request, e.entry, s.reply, s.applied, s.correction, s.void_reply
      FROM entries e
      LEFT JOIN sagas s USING (entry_id)
     WHERE e.other_user_ids @> ARRAY[$1::text] AND e.other_user_ids IS NOT NULL AND e.entry_id > $2
     ORDER BY e.entry_id
     LIMIT $3
"""

_RENAME_ENTRY: Final = """
    UPDATE entries SET other_user_ids = array_replace(other_user_ids, $2, $3), request = $4, entry = $5
     WHERE entry_id = $1
"""

_RENAME_SAGA: Final = """
    UPDATE sagas SET reply = $2, applied = $3, correction = $4, void_reply = $5 WHERE entry_id = $1
"""


class Mention(Struct, frozen=True):
    """An entry of another user that concerns the user too, with what is kept of its saga."""

    entry_id: UUID
    kind: str
    request: bytes
    entry: bytes
    reply: bytes | None
    applied: Sequence[bytes] | None
    correction: bytes | None
    void_reply: bytes | None


class StoredEntry(Struct, frozen=True):
    """An entry that is to lose its user."""

    entry_id: UUID
    kind: str
    request: bytes
    receive_time: datetime
    other_user_ids: Sequence[str]


class Anonymous(Struct, frozen=True):
    """The entry of a deletion as it stays: without whom it deleted."""

    entry_id: UUID
    pseudonym: str
    request: bytes
    entry: bytes


class ErasureStore:
    """Reads and writes of deletions."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def close(self, user_id: str) -> None:
        """From now on nothing is recorded for the user."""
        await self._pool.execute(_CLOSE, user_id)

    async def with_merged(self, user_id: str) -> list[str]:
        """The user, and behind it, in order, all whose ids lead to this one."""
        return [row["user_id"] for row in await self._pool.fetch(_WITH_MERGED, user_id)]

    async def open_sagas(self, user_id: str, besides: UUID) -> tuple[int, int]:
        """How many other sagas of the user are under way, and how many are parked."""
        row = await self._pool.fetchrow(_OPEN, user_id, besides)
        assert row is not None
        return row["unfinished"], row["parked"]

    async def entries(self, user_id: str, limit: int) -> list[StoredEntry]:
        """The oldest entries that still name the user, but for deletions."""
        rows = await self._pool.fetch(_ENTRIES, user_id, limit)
        return [
            StoredEntry(
                row["entry_id"],
                row["kind"],
                row["request"],
                row["receive_time"],
                row["other_user_ids"] or (),
            )
            for row in rows
        ]

    async def forget_keys(self, key_ids: Sequence[UUID], entry_ids: Sequence[UUID]) -> None:
        """These entries are known by their keys no more."""
        await self._pool.execute(_FORGET_KEYS, key_ids, entry_ids)

    async def mentions(self, user_id: str, after: UUID, limit: int) -> list[Mention]:
        """Entries of others that concern the user, in the order of their ids, behind one."""
        return [Mention(**dict(row)) for row in await self._pool.fetch(_MENTIONS, user_id, after, limit)]

    async def rename(self, user_id: str, pseudonym: str, renamed: Sequence[Mention]) -> None:
        """These entries concern a pseudonym now."""
        async with self._pool.acquire() as connection, connection.transaction():
            for each in renamed:
                await connection.execute(
                    _RENAME_ENTRY, each.entry_id, user_id, pseudonym, each.request, each.entry
                )
                await connection.execute(
                    _RENAME_SAGA, each.entry_id, each.reply, each.applied, each.correction, each.void_reply
                )

    async def complete(
        self, user_ids: Sequence[str], anonymous: Anonymous, reply: bytes, told: Told, now: datetime
    ) -> bool:
        """Ends a deletion: the reply, what is told of it, the audit, and the rows of all whose ids led there.
        False where another replica was first.
        """
        entry_id = anonymous.entry_id
        async with self._pool.acquire() as connection, connection.transaction():
            first = await connection.fetch(COMPLETE, *complete_arguments([Completed(entry_id, reply, told)]))
            if not first:
                return False
            own = await connection.fetchrow(_OWN, entry_id)
            assert own is not None
            asking = Asking(own["actor"] or "", "", own["reason"] or "")
            await admin.record(connection, "delete_user", f"user/{anonymous.pseudonym}", asking, now)
            await connection.execute(
                _ANONYMOUS_ENTRY, entry_id, anonymous.pseudonym, anonymous.request, anonymous.entry
            )
            await connection.execute(_ANONYMOUS_SAGA, entry_id, anonymous.pseudonym)
            await connection.execute(_FORGET_USERS, user_ids)
        return True
