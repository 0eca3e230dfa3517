"""Endpoints and their secrets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from msgspec import Struct

from services.notification import convert
from services.notification.domain.endpoints import Endpoint, Secret, SwitchOff
from shared.postgres.pool import Connection, Pool

_COLUMNS: Final = """key, endpoint_id, body, switch_off, switch_off_time, cursor, failing_since, last_success_time,
    create_time, update_time"""

_VERSION: Final = "SELECT version FROM webhook_version"
_BUMP: Final = "UPDATE webhook_version SET version = version + 1"
# One statement, and so one snapshot: the endpoints are those of the version.
_ALL: Final = """
    SELECT version, key, endpoint_id, body, switch_off, cursor, failing_since
      FROM webhook_version LEFT JOIN webhook_endpoints ON true
     ORDER BY key
"""
_SECRETS: Final = """
    SELECT endpoint_id, secret_id, secret, create_time, expire_time
      FROM webhook_secrets
     WHERE endpoint_id = ANY($1::uuid[])
     ORDER BY create_time DESC, secret_id
"""
_SECRET: Final = "SELECT secret FROM webhook_secrets WHERE secret_id = $1"
_GET: Final = f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE key = $1"
_GET_FOR_UPDATE: Final = f"{_GET} FOR UPDATE"
_LIST: Final = f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE key > $1 ORDER BY key LIMIT $2"
_COUNT: Final = "SELECT count(*) FROM webhook_endpoints"
_INSERT: Final = """
    INSERT INTO webhook_endpoints
           (key, endpoint_id, body, switch_off, switch_off_time, cursor, create_time, update_time)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
        ON CONFLICT (key) DO NOTHING
    RETURNING true
"""
_UPDATE: Final = """
    UPDATE webhook_endpoints
       SET body = $2, switch_off = $3, switch_off_time = $4, cursor = $5, failing_since = $6, update_time = $7
     WHERE key = $1
"""
_SWITCH_OFF: Final = """
    UPDATE webhook_endpoints
       SET switch_off = $2, switch_off_time = $3, cursor = coalesce(cursor, (SELECT cursor FROM followed))
     WHERE endpoint_id = $1 AND switch_off = 0
    RETURNING true
"""
_SET_CURSOR: Final = "UPDATE webhook_endpoints SET cursor = $2 WHERE endpoint_id = $1"
_MOVE_CURSOR: Final = """
    UPDATE webhook_endpoints SET cursor = $3 WHERE endpoint_id = $1 AND cursor = $2 AND switch_off = 0 RETURNING true
"""
_FALL_BEHIND: Final = "UPDATE webhook_endpoints SET cursor = $2 WHERE endpoint_id = $1 AND cursor IS NULL"
_DELETE: Final = "DELETE FROM webhook_endpoints WHERE key = $1"
_SUCCEEDED: Final = """
    UPDATE webhook_endpoints SET failing_since = NULL, last_success_time = $2 WHERE endpoint_id = $1
"""
_FAILED: Final = """
    UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, $2) WHERE endpoint_id = $1
"""
_ADD_SECRET: Final = """
    INSERT INTO webhook_secrets (secret_id, endpoint_id, secret, create_time) VALUES ($1, $2, $3, $4)
"""
_END_SECRET: Final = """
    UPDATE webhook_secrets SET expire_time = least(expire_time, $2) WHERE secret_id = $1
"""
_DROP_SECRETS: Final = (
    "DELETE FROM webhook_secrets WHERE endpoint_id = $1 AND NOT secret_id = ANY($2::uuid[])"
)
_DROP_EXPIRED: Final = "DELETE FROM webhook_secrets WHERE expire_time < $1"


class Endpoints(Struct, frozen=True):
    """All endpoints at a version."""

    version: int
    all: Sequence[Endpoint]

    @property
    def on(self) -> list[Endpoint]:
        """Those that get something."""
        return [endpoint for endpoint in self.all if endpoint.switch_off is SwitchOff.ON]


class EndpointStore:
    """The tables `webhook_endpoints`, `webhook_secrets` and `webhook_version`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._held: Endpoints | None = None

    async def current(self) -> Endpoints:
        """All endpoints as they are now; read again only where the version has moved."""
        version = await self._pool.fetchval(_VERSION)
        if self._held is None or self._held.version != version:
            self._held = await self.load(self._pool)
        return self._held

    async def version(self, connection: Connection) -> int:
        """The version, as a transaction sees it."""
        version: int = await connection.fetchval(_VERSION)
        return version

    async def load(self, source: Pool | Connection) -> Endpoints:
        """All endpoints, as `source` sees them."""
        rows = await source.fetch(_ALL)
        found = [row for row in rows if row["key"] is not None]
        secrets = await self.secrets(source, [row["endpoint_id"] for row in found])
        return Endpoints(
            rows[0]["version"],
            [
                convert.endpoint_from_stored(
                    row["endpoint_id"],
                    row["body"],
                    row["switch_off"],
                    row["cursor"],
                    row["failing_since"],
                    secrets.get(row["endpoint_id"], []),
                )
                for row in found
            ],
        )

    async def secrets(
        self, source: Pool | Connection, endpoint_ids: Sequence[UUID]
    ) -> Mapping[UUID, list[Secret]]:
        """The secrets by endpoint, newest first."""
        found: dict[UUID, list[Secret]] = {}
        for row in await source.fetch(_SECRETS, endpoint_ids):
            secret = Secret(row["secret_id"], row["secret"], row["create_time"], row["expire_time"])
            found.setdefault(row["endpoint_id"], []).append(secret)
        return found

    async def get(self, key: str, connection: Connection | None = None) -> asyncpg.Record | None:
        """The row of an endpoint; with a connection it is locked."""
        if connection is None:
            return await self._pool.fetchrow(_GET, key)
        return await connection.fetchrow(_GET_FOR_UPDATE, key)

    async def list(self, source: Pool | Connection, after: str, limit: int) -> list[asyncpg.Record]:
        """Rows by key."""
        return await source.fetch(_LIST, after, limit)

    async def count(self, connection: Connection) -> int:
        """How many there are."""
        count: int = await connection.fetchval(_COUNT)
        return count

    async def insert(
        self,
        connection: Connection,
        endpoint_id: UUID,
        key: str,
        body: bytes,
        switch_off: SwitchOff,
        cursor: str,
        now: datetime,
    ) -> bool:
        """Whether the key was free. Moves the version first: writers go one after the other."""
        await connection.execute(_BUMP)
        off_time = None if switch_off is SwitchOff.ON else now
        row = (key, endpoint_id, body, switch_off.value, off_time, cursor, now)
        return bool(await connection.fetchval(_INSERT, *row))

    async def update(self, connection: Connection, row: Mapping[str, Any], now: datetime) -> None:
        """What an operator changes."""
        await connection.execute(
            _UPDATE,
            row["key"],
            row["body"],
            row["switch_off"],
            row["switch_off_time"],
            row["cursor"],
            row["failing_since"],
            now,
        )
        await connection.execute(_BUMP)

    async def switch_off(
        self, connection: Connection, endpoint_id: UUID, reason: SwitchOff, now: datetime
    ) -> bool:
        """Whether it was on. It stays in the feed where it was."""
        was_on = bool(await connection.fetchval(_SWITCH_OFF, endpoint_id, reason.value, now))
        if was_on:
            await connection.execute(_BUMP)
        return was_on

    async def set_cursor(self, connection: Connection, endpoint_id: UUID, cursor: str | None) -> None:
        """Where it reads the feed; None: with all."""
        await connection.execute(_SET_CURSOR, endpoint_id, cursor)
        await connection.execute(_BUMP)

    async def fall_behind(self, connection: Connection, endpoint_id: UUID, cursor: str) -> None:
        """It reads for itself from here on."""
        await connection.execute(_FALL_BEHIND, endpoint_id, cursor)
        await connection.execute(_BUMP)

    async def move_cursor(self, connection: Connection, endpoint_id: UUID, before: str, after: str) -> bool:
        """Move on one that reads for itself, unless something has come in between."""
        return bool(await connection.fetchval(_MOVE_CURSOR, endpoint_id, before, after))

    async def touch(self, connection: Connection) -> None:
        """All who hold endpoints read them again."""
        await connection.execute(_BUMP)

    async def delete(self, connection: Connection, key: str) -> None:
        """The endpoint and its secrets."""
        await connection.execute(_DELETE, key)
        await connection.execute(_BUMP)

    async def succeeded(
        self, connection: Connection, endpoint_id: UUID, now: datetime, was_failing: bool
    ) -> None:
        """It has answered 2xx."""
        await connection.execute(_SUCCEEDED, endpoint_id, now)
        if was_failing:
            await connection.execute(_BUMP)

    async def failed(self, connection: Connection, endpoint_id: UUID, now: datetime) -> None:
        """It has begun to fail."""
        await connection.execute(_FAILED, endpoint_id, now)
        await connection.execute(_BUMP)

    async def secret(self, secret_id: UUID) -> str | None:
        """A secret, for the one reply that shows it."""
        found: str | None = await self._pool.fetchval(_SECRET, secret_id)
        return found

    async def add_secret(self, connection: Connection, endpoint_id: UUID, secret: Secret) -> None:
        """A new secret."""
        await connection.execute(
            _ADD_SECRET, secret.secret_id, endpoint_id, secret.secret, secret.create_time
        )
        await connection.execute(_BUMP)

    async def end_secrets(
        self, connection: Connection, endpoint_id: UUID, kept: UUID | None, expire_time: datetime
    ) -> None:
        """One goes on until then; all others end now."""
        await connection.execute(_DROP_SECRETS, endpoint_id, [] if kept is None else [kept])
        if kept is not None:
            await connection.execute(_END_SECRET, kept, expire_time)

    async def forget_expired(self, now: datetime) -> None:
        """Delete secrets that sign no more."""
        await self._pool.execute(_DROP_EXPIRED, now)
