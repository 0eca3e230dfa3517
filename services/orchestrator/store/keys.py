"""Keys of callers, as they are stored (RULES 9.2)."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from shared.postgres.pool import Connection, Pool

_COLUMNS: Final = """
    key_id, name, scopes, user_id, create_time, expire_time, revoke_time, last_use_time, previous_until,
    rate_per_second, rate_burst, tenant
"""
_INSERT: Final = f"""
    INSERT INTO keys (key_id, name, scopes, user_id, secret_hash, create_time, expire_time,
                      rate_per_second, rate_burst, tenant)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING {_COLUMNS}
"""
_GET: Final = f"SELECT {_COLUMNS} FROM keys WHERE key_id = $1"
_LIST: Final = f"SELECT {_COLUMNS} FROM keys WHERE key_id > $1 ORDER BY key_id LIMIT $2"
_LIST_OF_USER: Final = f"""
    SELECT {_COLUMNS} FROM keys WHERE user_id = $3 AND key_id > $1 ORDER BY key_id LIMIT $2
"""
_LIST_OF_TENANT: Final = f"""
    SELECT {_COLUMNS} FROM keys WHERE tenant = $3 AND key_id > $1 ORDER BY key_id LIMIT $2
"""
_ROTATE: Final = f"""
    UPDATE keys
       SET previous_hash = secret_hash, previous_until = $3, secret_hash = $2
     WHERE key_id = $1
    RETURNING {_COLUMNS}
"""
_REVOKE: Final = f"""
    UPDATE keys SET revoke_time = coalesce(revoke_time, $2) WHERE key_id = $1 RETURNING {_COLUMNS}
"""
_LIMIT: Final = f"""
    UPDATE keys SET rate_per_second = $2, rate_burst = $3 WHERE key_id = $1 RETURNING {_COLUMNS}
"""
# The database's clock decides, so that all replicas agree.
_RESOLVE: Final = """
    SELECT name, scopes, user_id, rate_per_second, rate_burst, tenant,
           least(expire_time, CASE WHEN secret_hash <> $2 THEN previous_until END) - now() AS remaining,
           last_use_time IS NULL OR last_use_time < now() - interval '1 minute' AS is_use_due
      FROM keys
     WHERE key_id = $1
       AND revoke_time IS NULL
       AND (expire_time IS NULL OR expire_time > now())
       AND (secret_hash = $2 OR previous_hash = $2 AND previous_until > now())
"""
_USE: Final = """
    UPDATE keys SET last_use_time = now()
     WHERE key_id = $1 AND (last_use_time IS NULL OR last_use_time < now() - interval '1 minute')
"""


class Limit(Struct, frozen=True):
    """How often a key may be used."""

    per_second: float
    burst: int


class Key(Struct, frozen=True):
    """A key without its secret."""

    key_id: str
    name: str
    scopes: tuple[int, ...]
    user_id: str | None
    """As stored."""
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    last_use_time: datetime | None
    previous_until: datetime | None
    limit: Limit | None
    tenant: str | None


class Allowed(Struct, frozen=True):
    """What a key that was shown allows."""

    name: str
    scopes: tuple[int, ...]
    user_id: str | None
    remaining_seconds: float | None
    """For how long the secret counts at most; None: no end is known."""
    limit: Limit | None = None
    tenant: str | None = None


class KeyStore:
    """The table of keys."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def insert(self, connection: Connection, key: Key, secret_hash: bytes) -> Key:
        """A new key."""
        row = await connection.fetchrow(
            _INSERT,
            key.key_id,
            key.name,
            key.scopes,
            key.user_id,
            secret_hash,
            key.create_time,
            key.expire_time,
            None if key.limit is None else key.limit.per_second,
            None if key.limit is None else key.limit.burst,
            key.tenant,
        )
        return _key(row)

    async def get(self, connection: Connection | Pool, key_id: str) -> Key | None:
        """A key."""
        row = await connection.fetchrow(_GET, key_id)
        return None if row is None else _key(row)

    async def find(self, key_id: str) -> Key | None:
        """A key, read by itself."""
        return await self.get(self._pool, key_id)

    async def list(self, after: str, limit: int, user_id: str, tenant: str) -> list[Key]:
        """Keys behind an id, of one user, else of one tenant, else of all."""
        if user_id:
            return [_key(row) for row in await self._pool.fetch(_LIST_OF_USER, after, limit, user_id)]
        if tenant:
            return [_key(row) for row in await self._pool.fetch(_LIST_OF_TENANT, after, limit, tenant)]
        return [_key(row) for row in await self._pool.fetch(_LIST, after, limit)]

    async def rotate(self, connection: Connection, key_id: str, secret_hash: bytes, until: datetime) -> Key:
        """Another secret; the one before counts until then, and the one before that no longer."""
        return _key(await connection.fetchrow(_ROTATE, key_id, secret_hash, until))

    async def revoke(self, connection: Connection, key_id: str, now: datetime) -> Key:
        """Takes a key back; one that was taken back before stays so since then."""
        return _key(await connection.fetchrow(_REVOKE, key_id, now))

    async def limit(self, connection: Connection, key_id: str, limit: Limit | None) -> Key:
        """Another rate limit, or none."""
        values = (None, None) if limit is None else (limit.per_second, limit.burst)
        return _key(await connection.fetchrow(_LIMIT, key_id, *values))

    async def resolve(self, key_id: str, secret_hash: bytes) -> Allowed | None:
        """What a credential allows now, noting its use; None: nothing."""
        row = await self._pool.fetchrow(_RESOLVE, key_id, secret_hash)
        if row is None:
            return None
        if row["is_use_due"]:
            await self._pool.execute(_USE, key_id)
        remaining = row["remaining"]
        return Allowed(
            row["name"],
            tuple(row["scopes"]),
            row["user_id"],
            None if remaining is None else remaining.total_seconds(),
            _limit(row["rate_per_second"], row["rate_burst"]),
            row["tenant"],
        )


def _key(row: Any) -> Key:
    values = dict(row)
    limit = _limit(values.pop("rate_per_second"), values.pop("rate_burst"))
    return Key(**{**values, "scopes": tuple(values["scopes"]), "limit": limit})


def _limit(per_second: float | None, burst: int | None) -> Limit | None:
    return None if per_second is None or burst is None else Limit(per_second, burst)
