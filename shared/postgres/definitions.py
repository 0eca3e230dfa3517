"""Definitions of streaks, achievements, points systems, leaderboards, metrics: stored, changed, cached.

A definition is a message with the fields `key`, `create_time` and `update_time`; the last two are output
only. It is stored as its serialized message without them. Every write bumps `configuration_version` in the
same transaction, and what decides about events reads that version along with the state (see `Catalogue`): so
a change takes effect on the next event, on every replica. Every service's migrations create

    CREATE TABLE definitions (
        key         text COLLATE "C" PRIMARY KEY,
        body        bytea NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL
    )
    CREATE TABLE configuration_version (
        singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        version   bigint NOT NULL
    )

and the version's one row.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Generic, TypeVar, cast

import asyncpg
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from laurel.common.v1 import configuration_pb2
from msgspec import Struct

from shared.clock import Clock
from shared.errors import AlreadyExists, FailedPrecondition, NotFound, Violations
from shared.ids import digest
from shared.masks import updated
from shared.pages import read_page
from shared.postgres.definition_rows import (
    KEY,
    OUTPUT_ONLY,
    body_of,
    changed_fields,
    key_of,
    named,
    read_row,
    stamped,
)
from shared.postgres.mutations import once
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import check_key, check_request_id, digest_of

M = TypeVar("M", bound=Message)
T = TypeVar("T")

MAX_DEFINITIONS_PER_REQUEST: Final = 1_000

_GET: Final = "SELECT key, body, create_time, update_time FROM definitions WHERE key = $1"
_GET_MANY: Final = "SELECT key, body, create_time, update_time FROM definitions WHERE key = ANY($1::text[])"
_LIST: Final = """
    SELECT key, body, create_time, update_time FROM definitions WHERE key > $1 ORDER BY key LIMIT $2
"""
_LOCK_VERSION: Final = "SELECT version FROM configuration_version FOR UPDATE"
_BUMP_VERSION: Final = "UPDATE configuration_version SET version = version + 1"
_PUT: Final = """
    INSERT INTO definitions (key, body, create_time, update_time) VALUES ($1, $2, $3, $4)
        ON CONFLICT (key) DO UPDATE SET body = EXCLUDED.body, update_time = EXCLUDED.update_time
"""
_DELETE: Final = "DELETE FROM definitions WHERE key = $1"
# One statement, and so one snapshot: the bodies are those of the version.
_CATALOGUE: Final = """
    SELECT version, key, body, create_time, update_time
      FROM configuration_version LEFT JOIN definitions ON true
     ORDER BY key
"""


class DefinitionKind(Struct, Generic[M], frozen=True):
    """What a service says about its definitions."""

    name: str
    """As in requests and in `ConfigurationChange.kind`: `points_system`."""
    message_type: type[M]
    validate: Callable[[M, str, Violations], None]
    """Adds what is wrong with the message at a path (`streaks[3]`), except for its key, checked here."""
    normalise: Callable[[M], M]
    """The message with its defaults made explicit; it gets a valid copy, which it may change."""
    immutable_fields: tuple[str, ...]
    """Top-level fields that never change, besides `key`."""
    domain: str
    """In whose name errors are: `streak.laurel`."""
    not_found: str
    """Reason of the error for an unknown key."""
    exists: str
    """Reason of the error for a key that is taken."""
    in_use: str
    """Reason of the error for deleting what is in use."""
    in_use_query: str
    """SQL that gives one value for the key `$1`: whether it is in use."""


class Definitions(Generic[M]):
    """The definitions of one kind in a service's database. Writers are serialized by the version's row."""

    def __init__(self, kind: DefinitionKind[M], pool: Pool, clock: Clock) -> None:
        self._kind = kind
        self._pool = pool
        self._clock = clock

    async def create(self, definition: M, request_id: str) -> M:
        """Store a new definition and return it as stored.

        Raises `InvalidArgument`, or `AlreadyExists` when the key is taken or the request id was used
        otherwise.
        """
        violations = Violations()
        check_request_id(request_id, "request_id", violations)
        self._validate(definition, self._kind.name, violations)
        violations.raise_if_any()
        wanted = self._normalised(definition)
        key = key_of(wanted)

        async def work(connection: Connection) -> bytes:
            if await connection.fetchrow(_GET, key) is not None:
                raise AlreadyExists(
                    f"the {self._words} {key!r} exists",
                    reason=self._kind.exists,
                    metadata={KEY: key},
                    domain=self._kind.domain,
                )
            now = self._clock.now()
            return (await _put(connection, wanted, now, now)).SerializeToString(deterministic=True)

        return self._parsed(await self._write("create", request_id, digest_of(definition), work))

    async def get(self, key: str) -> M:
        """The definition with this key. Raises `InvalidArgument`, or `NotFound`."""
        _require_key(key)
        row = await self._pool.fetchrow(_GET, key)
        if row is None:
            raise self._unknown(key)
        return self._read(row)

    async def list(self, page_size: int, page_token: str) -> tuple[Sequence[M], str]:
        """A page of the definitions in order of key, and the token of the next one ("" after the last).

        Raises `InvalidArgument`.
        """
        page = read_page(page_size, page_token, keyset=[str], query=[f"list_{self._kind.name}"])
        rows = await self._pool.fetch(_LIST, page.after[0] if page.after else "", page.size + 1)
        shown = rows[: page.size]
        token = page.next_token(shown[-1][KEY]) if len(rows) > page.size else ""
        return [self._read(row) for row in shown], token

    async def update(self, definition: M, mask: FieldMask, request_id: str) -> M:
        """Change the masked fields of the definition with the same key and return it as stored.

        `shared.masks.updated` says how a mask is read. Without a difference nothing is written. Raises
        `InvalidArgument`, also for a change of an immutable field, `NotFound`, or `AlreadyExists` for a
        reused request id.
        """
        key = key_of(definition)
        violations = Violations()
        check_request_id(request_id, "request_id", violations)
        check_key(key, f"{self._kind.name}.{KEY}", violations)
        violations.raise_if_any()

        async def work(connection: Connection) -> bytes:
            row = await connection.fetchrow(_GET, key)
            if row is None:
                raise self._unknown(key)
            stored = self._read(row)
            wanted = self._merged(stored, definition, mask)
            if changed_fields(self._normalised(stored), wanted):
                stored = await _put(connection, wanted, row["create_time"], self._clock.now())
            return stored.SerializeToString(deterministic=True)

        sent = digest(digest_of(definition), *mask.paths)
        return self._parsed(await self._write("update", request_id, sent, work))

    async def delete(self, key: str, request_id: str) -> None:
        """Remove a definition.

        Raises `InvalidArgument`, `NotFound`, `FailedPrecondition` when it is in use, or `AlreadyExists` for a
        reused request id.
        """
        violations = Violations()
        check_request_id(request_id, "request_id", violations)
        check_key(key, KEY, violations)
        violations.raise_if_any()

        async def work(connection: Connection) -> bytes:
            if await connection.fetchrow(_GET, key) is None:
                raise self._unknown(key)
            if await connection.fetchval(self._kind.in_use_query, key):
                raise FailedPrecondition(
                    f"the {self._words} {key!r} is in use",
                    reason=self._kind.in_use,
                    metadata={KEY: key},
                    domain=self._kind.domain,
                )
            await connection.execute(_DELETE, key)
            await connection.execute(_BUMP_VERSION)
            return b""

        await self._write("delete", request_id, digest(key), work)

    async def apply(
        self, definitions: Sequence[M], *, validate_only: bool, path: str
    ) -> Sequence[configuration_pb2.ConfigurationChange]:
        """Make these definitions so, all or none, and say for each in order what that changes.

        Others stay as they are. With `validate_only` nothing is written. `path` is the request's field:
        violations are at `streaks[3].metrics[0].threshold`. Idempotent by content: applied again, all are
        kept. Raises `InvalidArgument` with every violation, also for a key given twice or an immutable field
        changed.
        """
        violations = Violations()
        self._validate_all(definitions, path, violations)
        violations.raise_if_any()
        wanted = [self._normalised(definition) for definition in definitions]
        async with self._pool.acquire() as connection, connection.transaction():
            if not validate_only:
                await connection.execute(_LOCK_VERSION)
            stored = await self._stored(connection, [key_of(one) for one in wanted])
            for index, one in enumerate(wanted):
                self._check_immutable(one, stored, f"{path}[{index}]", violations)
            violations.raise_if_any()
            changes = [self._change(one, stored.get(key_of(one))) for one in wanted]
            if not validate_only:
                await self._put_changed(connection, wanted, changes)
        return changes

    async def _write(
        self,
        verb: str,
        request_id: str,
        sent: bytes,
        work: Callable[[Connection], Awaitable[bytes]],
    ) -> bytes:
        """One transaction: the request id first, then the version's lock, then the work."""
        async with self._pool.acquire() as connection, connection.transaction():

            async def locked() -> bytes:
                await connection.execute(_LOCK_VERSION)
                return await work(connection)

            method = f"{verb}_{self._kind.name}"
            return await once(connection, method, request_id, sent, self._clock.now(), locked)

    def _validate(self, definition: M, path: str, violations: Violations) -> None:
        check_key(key_of(definition), f"{path}.{KEY}", violations)
        self._kind.validate(definition, path, violations)

    def _validate_all(self, definitions: Sequence[M], path: str, violations: Violations) -> None:
        if len(definitions) > MAX_DEFINITIONS_PER_REQUEST:
            violations.add(path, f"must have at most {MAX_DEFINITIONS_PER_REQUEST} definitions")
            return
        first: dict[str, int] = {}
        for index, definition in enumerate(definitions):
            self._validate(definition, f"{path}[{index}]", violations)
            earlier = first.setdefault(key_of(definition), index)
            if earlier != index:
                violations.add(f"{path}[{index}].{KEY}", f"is also the key of {path}[{earlier}]")

    def _check_immutable(self, wanted: M, stored: Mapping[str, M], path: str, violations: Violations) -> None:
        before = stored.get(key_of(wanted))
        if before is None:
            return
        for field in changed_fields(self._normalised(before), wanted):
            if field in self._kind.immutable_fields:
                violations.add(f"{path}.{field}", "cannot be changed")

    def _change(self, wanted: M, before: M | None) -> configuration_pb2.ConfigurationChange:
        change = configuration_pb2.ConfigurationChange(kind=self._kind.name, key=key_of(wanted))
        if before is None:
            change.action = configuration_pb2.CONFIGURATION_ACTION_CREATE
            return change
        change.changed_fields.extend(changed_fields(self._normalised(before), wanted))
        change.action = (
            configuration_pb2.CONFIGURATION_ACTION_UPDATE
            if change.changed_fields
            else configuration_pb2.CONFIGURATION_ACTION_KEEP
        )
        return change

    async def _put_changed(
        self,
        connection: Connection,
        wanted: Sequence[M],
        changes: Sequence[configuration_pb2.ConfigurationChange],
    ) -> None:
        now = self._clock.now()
        rows = [
            (key_of(one), body_of(one), now, now)
            for one, change in zip(wanted, changes, strict=True)
            if change.action != configuration_pb2.CONFIGURATION_ACTION_KEEP
        ]
        if rows:
            await connection.executemany(_PUT, rows)
            await connection.execute(_BUMP_VERSION)

    def _merged(self, stored: M, definition: M, mask: FieldMask) -> M:
        wanted = updated(
            stored,
            definition,
            mask,
            immutable=(KEY, *self._kind.immutable_fields),
            output_only=OUTPUT_ONLY,
        )
        violations = Violations()
        self._validate(wanted, self._kind.name, violations)
        violations.raise_if_any()
        return self._normalised(wanted)

    def _normalised(self, definition: M) -> M:
        """A copy with explicit defaults and without the output-only fields: what is stored and compared."""
        copy = self._kind.message_type()
        copy.CopyFrom(definition)
        for field in OUTPUT_ONLY:
            copy.ClearField(field)
        return self._kind.normalise(named(copy))

    async def _stored(self, connection: Connection, keys: Sequence[str]) -> dict[str, M]:
        return {row[KEY]: self._read(row) for row in await connection.fetch(_GET_MANY, keys)}

    def _read(self, row: asyncpg.Record) -> M:
        return read_row(self._kind.message_type, row)

    def _parsed(self, body: bytes) -> M:
        return self._kind.message_type.FromString(body)

    def _unknown(self, key: str) -> NotFound:
        return NotFound(
            f"there is no {self._words} {key!r}",
            reason=self._kind.not_found,
            metadata={KEY: key},
            domain=self._kind.domain,
        )

    @property
    def _words(self) -> str:
        return self._kind.name.replace("_", " ")


class Catalogue(Generic[M, T]):
    """The domain form of all definitions of a service, built once for each configuration version.

    `message_type` is the kind's; `build` gets every definition in order of key, output-only fields set.
    """

    def __init__(self, pool: Pool, message_type: type[M], build: Callable[[Sequence[M]], T]) -> None:
        self._pool = pool
        self._message_type = message_type
        self._build = build
        self._version: int | None = None
        self._built: T | None = None
        self._loading = asyncio.Lock()

    async def at(self, version: int, connection: Connection | None = None) -> T:
        """The definitions at the version that was read with the state, or at a newer one.

        No round trip unless the version differs from the one held; then one load, for all who wait for it.
        Whoever holds a connection of the pool gives it, and waits for nobody: enough holders that wait for one
        more connection would wait for ever.
        """
        if version != self._version:
            if connection is not None:
                await self._load(connection)
                return cast(T, self._built)
            async with self._loading:
                if version != self._version:
                    await self._load(self._pool)
        return cast(T, self._built)

    async def latest(self) -> T:
        """The definitions as of now, for reads that carry no version of their own."""
        return await self.at(await self._pool.fetchval("SELECT version FROM configuration_version"))

    async def _load(self, source: Pool | Connection) -> None:
        rows = await source.fetch(_CATALOGUE)
        definitions = [read_row(self._message_type, row) for row in rows if row[KEY] is not None]
        self._built = self._build(definitions)
        self._version = rows[0]["version"]


async def _put(connection: Connection, definition: M, create_time: datetime, update_time: datetime) -> M:
    """Store a normalised definition and bump the version; the definition as it now reads."""
    await connection.execute(_PUT, key_of(definition), body_of(definition), create_time, update_time)
    await connection.execute(_BUMP_VERSION)
    return stamped(definition, create_time, update_time)


def _require_key(key: str) -> None:
    violations = Violations()
    check_key(key, KEY, violations)
    violations.raise_if_any()
