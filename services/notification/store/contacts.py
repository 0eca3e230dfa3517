"""Contacts, their devices, and with what links are signed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg

from services.notification.domain.contacts import Device
from shared.postgres.pool import Connection, Pool

_GET: Final = "SELECT user_id, body, create_time, update_time FROM contacts WHERE user_id = $1"
_GET_FOR_UPDATE: Final = f"{_GET} FOR UPDATE"
_DEVICES: Final = """
    SELECT provider, token, create_time FROM devices WHERE user_id = $1 ORDER BY create_time, provider, token
"""
# Without a change where there is one already, but with a lock on it.
_ENSURE: Final = """
    INSERT INTO contacts (user_id, body, create_time, update_time) VALUES ($1, '', $2, $2)
        ON CONFLICT (user_id) DO UPDATE SET user_id = contacts.user_id
    RETURNING user_id, body, create_time, update_time
"""
_UPDATE: Final = "UPDATE contacts SET body = $2, update_time = $3 WHERE user_id = $1"
_DELETE: Final = "DELETE FROM contacts WHERE user_id = $1"
_ADD_DEVICE: Final = """
    INSERT INTO devices (provider, token, user_id, create_time) VALUES ($1, $2, $3, $4)
        ON CONFLICT (provider, token) DO UPDATE SET user_id = $3, create_time = $4
"""
_REMOVE_DEVICE: Final = """
    DELETE FROM devices
     WHERE user_id = $1 AND provider = $2 AND token = $3 AND ($4::timestamptz IS NULL OR create_time <= $4)
"""
_FORGET_DEVICE: Final = "DELETE FROM devices WHERE provider = $1 AND token = $2 AND create_time <= $3"
_SECRET: Final = "SELECT secret FROM link_secret"


class ContactStore:
    """The tables `contacts`, `devices` and `link_secret`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, user_id: str, connection: Connection | None = None) -> asyncpg.Record | None:
        """The row of a contact; with a connection it is locked."""
        if connection is not None:
            return await connection.fetchrow(_GET_FOR_UPDATE, user_id)
        return await self._pool.fetchrow(_GET, user_id)

    async def devices(self, user_id: str, connection: Connection | None = None) -> Sequence[asyncpg.Record]:
        """The user's devices, the oldest first."""
        return await (connection or self._pool).fetch(_DEVICES, user_id)

    async def ensure(self, connection: Connection, user_id: str, now: datetime) -> asyncpg.Record:
        """The row of a contact, locked; an empty one where there was none."""
        row = await connection.fetchrow(_ENSURE, user_id, now)
        assert row is not None  # it returns the row that it met
        return row

    async def update(self, connection: Connection, user_id: str, body: bytes, now: datetime) -> None:
        """The contact is changed."""
        await connection.execute(_UPDATE, user_id, body, now)

    async def delete(self, connection: Connection, user_id: str) -> None:
        """The contact is gone, with its devices."""
        await connection.execute(_DELETE, user_id)

    async def add_device(self, connection: Connection, user_id: str, device: Device, now: datetime) -> None:
        """The device is this user's, whose ever it was."""
        await connection.execute(_ADD_DEVICE, device.provider, device.token, user_id, now)

    async def remove_device(
        self, connection: Connection | Pool, user_id: str, device: Device, as_of: datetime | None = None
    ) -> None:
        """The device is not this user's any more; with an instant: unless it was added again since."""
        await connection.execute(_REMOVE_DEVICE, user_id, device.provider, device.token, as_of)

    async def forget_device(self, connection: Connection, device: Device, as_of: datetime) -> None:
        """The device is nobody's any more, unless it was added since."""
        await connection.execute(_FORGET_DEVICE, device.provider, device.token, as_of)

    async def link_secret(self) -> bytes:
        """With what links are signed; it never changes."""
        secret: str = await self._pool.fetchval(_SECRET)
        return secret.encode()
