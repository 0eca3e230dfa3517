"""Definitions of messages, what is planned, and what was sent."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from services.notification.domain.contacts import MessageType
from services.notification.domain.messages import MessageState, Plan
from shared.postgres.pool import Connection, Pool

_DEFINITION_COLUMNS: Final = "type, body, since, create_time, update_time"
_DEFINITIONS: Final = (
    f"SELECT {_DEFINITION_COLUMNS} FROM message_definitions WHERE type > $1 ORDER BY type LIMIT $2"
)
_ENSURE_DEFINITION: Final = f"""
    INSERT INTO message_definitions (type, body, since, create_time, update_time) VALUES ($1, $2, $3, $3, $3)
        ON CONFLICT (type) DO UPDATE SET type = message_definitions.type
    RETURNING {_DEFINITION_COLUMNS}
"""
_UPDATE_DEFINITION: Final = """
    UPDATE message_definitions SET body = $2, since = $3, update_time = $4 WHERE type = $1
"""

_DEFINITION: Final = f"SELECT {_DEFINITION_COLUMNS} FROM message_definitions WHERE type = $1"
_FOUND_UNTIL: Final = "SELECT streak, found_until FROM reminded_streaks"
_FOUND: Final = """
    INSERT INTO reminded_streaks (streak, found_until) VALUES ($1, $2)
        ON CONFLICT (streak) DO UPDATE SET found_until = excluded.found_until
"""
_FORGET_FOUND: Final = "DELETE FROM reminded_streaks WHERE streak = ANY ($1::text[])"

_CURSOR: Final = "SELECT cursor FROM message_following"
_MOVE: Final = "UPDATE message_following SET cursor = $2 WHERE cursor IS NOT DISTINCT FROM $1 RETURNING true"

_LOAD: Final = """
    SELECT user_id, type, plan
      FROM planned_messages
     WHERE (user_id, type) IN (SELECT * FROM unnest($1::text[], $2::smallint[]))
     ORDER BY user_id, type
       FOR UPDATE
"""
# In columns: of tens of thousands at once, rows would cost the client as much again (docs/adr/0012).
_ADD: Final = """
    WITH added AS (
        INSERT INTO planned_messages (user_id, type, revision, plan, look_time)
        SELECT user_id, $1, nextval('plan_revisions'), plan, look_time
          FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS batch (user_id, plan, look_time)
         ORDER BY user_id
            ON CONFLICT (user_id, type) DO NOTHING
        RETURNING true
    )
    SELECT count(*) FROM added
"""
_SAVE: Final = """
    INSERT INTO planned_messages (user_id, type, revision, plan, look_time)
    SELECT user_id, type, nextval('plan_revisions'), plan, look_time
      FROM unnest($1::planned_message_row[])
     ORDER BY user_id, type
        ON CONFLICT (user_id, type) DO UPDATE
       SET revision = excluded.revision, plan = excluded.plan, look_time = excluded.look_time
"""
_FORGET: Final = """
    DELETE FROM planned_messages WHERE (user_id, type) IN (SELECT * FROM unnest($1::text[], $2::smallint[]))
"""
_CLAIM: Final = """
    UPDATE planned_messages
       SET look_time = $2
     WHERE (user_id, type) IN (
               SELECT user_id, type
                 FROM planned_messages
                WHERE look_time <= $1
                ORDER BY look_time
                LIMIT $3
                  FOR UPDATE SKIP LOCKED
           )
    RETURNING revision, plan
"""
_WAIT: Final = """
    UPDATE planned_messages SET look_time = $4 WHERE user_id = $1 AND type = $2 AND revision = $3
"""
_LAST: Final = f"""
    SELECT local_date, state
      FROM sent_messages
     WHERE user_id = $1 AND type = $2 AND state <> {MessageState.WAITING.value}
     ORDER BY local_date DESC
     LIMIT 1
"""
_BEGIN: Final = f"""
    INSERT INTO sent_messages (message_id, user_id, type, local_date, channel, state, detail, send_time)
    VALUES ($1, $2, $3, $4, 0, {MessageState.SENDING.value}, '', $5)
        ON CONFLICT (user_id, type, local_date) DO UPDATE
       SET state = {MessageState.SENDING.value}, send_time = $5
     WHERE sent_messages.state = {MessageState.WAITING.value}
    RETURNING (xmax = 0) AS is_new
"""
_END: Final = """
    UPDATE sent_messages SET channel = $4, state = $5, detail = $6
     WHERE user_id = $1 AND type = $2 AND local_date = $3
"""
_LIST: Final = """
    SELECT number, message_id, user_id, type, local_date, channel, state, detail, send_time
      FROM sent_messages
     WHERE user_id = $1 AND number < $2
     ORDER BY number DESC
     LIMIT $3
"""
_TRIM: Final = """
    DELETE FROM sent_messages
     WHERE number IN (SELECT number FROM sent_messages WHERE send_time < $1 ORDER BY send_time LIMIT 1000)
    RETURNING true
"""
_NEWEST: Final = 2**63 - 1

Key = tuple[str, MessageType]


class Claimed(Struct, frozen=True):
    """A plan that this replica looks at."""

    revision: int
    plan: Plan


class MessageStore:
    """The tables `message_definitions`, `message_following`, `reminded_streaks`, `planned_messages` and
    `sent_messages`.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    # Definitions

    async def definitions(self, after: int = 0, limit: int = 100) -> Sequence[asyncpg.Record]:
        """Rows by type."""
        return await self._pool.fetch(_DEFINITIONS, after, limit)

    async def definition(self, type_: int) -> asyncpg.Record | None:
        """The row of a type; None: nothing was said of it."""
        return await self._pool.fetchrow(_DEFINITION, type_)

    async def ensure_definition(
        self, connection: Connection, type_: int, body: bytes, now: datetime
    ) -> asyncpg.Record:
        """The row of a definition, locked; this one where there was none."""
        row = await connection.fetchrow(_ENSURE_DEFINITION, type_, body, now)
        assert row is not None  # it returns the row that it met
        return row

    async def update_definition(
        self, connection: Connection, type_: int, body: bytes, since: datetime, now: datetime
    ) -> None:
        """The definition is changed."""
        await connection.execute(_UPDATE_DEFINITION, type_, body, since, now)

    # What happens

    async def cursor(self) -> str | None:
        """Up to where the feed has been read; None: it is not read."""
        found: str | None = await self._pool.fetchval(_CURSOR)
        return found

    async def move(self, connection: Connection | Pool, before: str | None, after: str | None) -> bool:
        """Whether nobody else has moved the cursor."""
        return bool(await connection.fetchval(_MOVE, before, after))

    async def found_until(self) -> dict[str, datetime]:
        """Up to which ends streaks have been looked for, by their keys."""
        return {row["streak"]: row["found_until"] for row in await self._pool.fetch(_FOUND_UNTIL)}

    async def found(self, streak: str, until: datetime) -> None:
        """All of a streak are planned that end up to then."""
        await self._pool.execute(_FOUND, streak, until)

    async def forget_found(self, streaks: Collection[str]) -> None:
        """These are not looked for any more."""
        if streaks:
            await self._pool.execute(_FORGET_FOUND, list(streaks))

    async def load(self, connection: Connection, keys: Collection[Key]) -> dict[Key, Plan]:
        """What is planned of these, locked."""
        rows = await connection.fetch(_LOAD, [key[0] for key in keys], [key[1] for key in keys])
        return {(row["user_id"], MessageType(row["type"])): _plan(row["plan"]) for row in rows}

    async def add(self, type_: MessageType, plans: Sequence[Plan], look_times: Sequence[datetime]) -> bool:
        """These are planned, each to be looked at then, where no plan of the type was: whether that holds of all."""
        users = [plan.user_id for plan in plans]
        added = await self._pool.fetchval(_ADD, type_, users, list(map(_stored, plans)), look_times)
        return bool(added == len(plans))

    async def save(self, connection: Connection, plans: Mapping[Key, tuple[Plan, datetime]]) -> None:
        """These are planned, each to be looked at then."""
        rows = [
            (user_id, type_, _stored(plan), look_time)
            for (user_id, type_), (plan, look_time) in plans.items()
        ]
        await connection.execute(_SAVE, rows)

    async def forget(self, connection: Connection, keys: Collection[Key]) -> None:
        """These are not planned any more."""
        await connection.execute(_FORGET, [key[0] for key in keys], [key[1] for key in keys])

    # What is due

    async def claim(self, now: datetime, lease_end: datetime, limit: int) -> list[Claimed]:
        """Take plans that may be due and that nobody looks at."""
        rows = await self._pool.fetch(_CLAIM, now, lease_end, limit)
        return [Claimed(row["revision"], _plan(row["plan"])) for row in rows]

    async def wait(self, claimed: Claimed, until: datetime) -> None:
        """It is looked at again then, unless more has happened."""
        plan = claimed.plan
        await self._pool.execute(_WAIT, plan.user_id, plan.type, claimed.revision, until)

    async def last_sent(self, plan: Plan) -> tuple[date, MessageState] | None:
        """The date of the user's last message of the type, and what became of it."""
        row = await self._pool.fetchrow(_LAST, plan.user_id, plan.type)
        return None if row is None else (row["local_date"], MessageState(row["state"]))

    async def begin(
        self, connection: Connection, message_id: UUID, plan: Plan, local_date: date, now: datetime
    ) -> bool | None:
        """It is being sent: for the first time, or again; None: there has been one on this date."""
        found: bool | None = await connection.fetchval(
            _BEGIN, message_id, plan.user_id, plan.type, local_date, now
        )
        return found

    async def end(
        self,
        connection: Connection,
        plan: Plan,
        local_date: date,
        channel: int,
        state: MessageState,
        detail: str,
    ) -> None:
        """What became of it."""
        await connection.execute(_END, plan.user_id, plan.type, local_date, channel, state, detail)

    # What was sent

    async def sent(self, user_id: str, before: int | None, limit: int) -> Sequence[asyncpg.Record]:
        """Rows of a user, newest first."""
        return await self._pool.fetch(_LIST, user_id, _NEWEST if before is None else before, limit)

    async def trim(self, before: datetime) -> int:
        """Delete some of what was sent before; how many."""
        return len(await self._pool.fetch(_TRIM, before))


def _stored(plan: Plan) -> str:
    return msgspec.json.encode(plan).decode()


def _plan(text: str) -> Plan:
    return msgspec.json.decode(text, type=Plan)
