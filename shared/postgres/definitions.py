"""The definitions in a service's database: read, checked, written, cached.

A definition is stored as its serialized message without its times. Every write bumps `configuration_version` in the
same transaction, and what decides about events reads that version along with the state (see `Catalogue`): so a change
takes effect on the next event, on every replica. Every service's migrations create

    CREATE TABLE definitions (
        key         text COLLATE "C" NOT NULL,
        body        bytea NOT NULL,
        create_time timestamptz NOT NULL,
        update_time timestamptz NOT NULL,
        kind        text COLLATE "C" NOT NULL,
        PRIMARY KEY (kind, key)
    )
    CREATE TABLE configuration_version (
        singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        version   bigint NOT NULL
    )

and the version's one row. A service that has to know what its definitions were before has, besides,

    CREATE TABLE definition_history (
        number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind        text COLLATE "C" NOT NULL,
        key         text COLLATE "C" NOT NULL,
        body        bytea,                  -- null: there was none any more
        change_time timestamptz NOT NULL
    )
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import asyncpg
from google.protobuf.message import Message
from laurel.orchestrator.v1 import definition_pb2
from laurel.participant.v1 import definition_service_pb2 as pb

from shared.definition_plan import Kinds, PastDefinition, Plan, StoredDefinitions, kind_in
from shared.definitions import (
    KEY,
    DefinitionKind,
    Name,
    definition_of,
    kind_of,
    message_of,
    name_of,
    stamped,
)
from shared.errors import Violations
from shared.pages import read_page
from shared.postgres.mutations import once
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import (
    check_key,
    digest_of,
    instant_field,
    to_timestamp,
    uuid_field,
)

BeforeWrite = Callable[[Connection, pb.WriteDefinitionsRequest, datetime], Awaitable[None]]
"""What a service does along with a write, in its transaction: what was stored before can still be read."""

M = TypeVar("M", bound=Message)
T = TypeVar("T")

TENANT_KIND: Final = "tenant"
"""Of the rows that say which tenants a service has heard of."""
MAX_LISTED: Final = 1_001
"""Of one list for the orchestrator: a page, and one more to know whether it is the last."""

_GET: Final = "SELECT kind, key, body, create_time, update_time FROM definitions WHERE kind = $1 AND key = $2"
_LIST: Final = """
    SELECT kind, key, body, create_time, update_time
      FROM definitions
     WHERE kind = $1 AND key > $2
     ORDER BY key
     LIMIT $3
"""
_LOCK_VERSION: Final = "SELECT version FROM configuration_version FOR UPDATE"
_BUMP_VERSION: Final = "UPDATE configuration_version SET version = version + 1 RETURNING version"
_PUT: Final = """
    INSERT INTO definitions (kind, key, body, create_time, update_time) VALUES ($1, $2, $3, $4, $4)
        ON CONFLICT (kind, key) DO UPDATE SET body = EXCLUDED.body, update_time = EXCLUDED.update_time
"""
_ADD_TENANT: Final = """
    INSERT INTO definitions (kind, key, body, create_time, update_time) VALUES ($1, $2, '', now(), now())
        ON CONFLICT (kind, key) DO NOTHING RETURNING true
"""
_DELETE: Final = "DELETE FROM definitions WHERE kind = $1 AND key = $2"
# One statement, and so one snapshot: the bodies are those of the version.
_ALL: Final = """
    SELECT version, kind, key, body, create_time, update_time
      FROM configuration_version LEFT JOIN definitions ON true
     ORDER BY kind, key
"""


# What differs from what is there, before that is overwritten.
_REMEMBER: Final = """
    INSERT INTO definition_history (kind, key, body, change_time)
    SELECT $1, $2, $3, $4
     WHERE NOT EXISTS (SELECT FROM definitions WHERE kind = $1 AND key = $2 AND body = $3)
"""
_REMEMBER_GONE: Final = "INSERT INTO definition_history (kind, key, change_time) VALUES ($1, $2, $3)"
_ALL_WITH_HISTORY: Final = """
    SELECT version, kind, key, body, create_time, update_time, NULL AS number
      FROM configuration_version LEFT JOIN definitions ON true
     UNION ALL
    SELECT version, kind, key, body, change_time, change_time, number
      FROM configuration_version CROSS JOIN definition_history
     ORDER BY number NULLS FIRST, kind, key
"""


class Definitions:
    """The definitions in a service's database.

    `kinds` has, for each kind that the service owns, SQL that gives one value for the key `$1`: whether users
    hold something of it.
    """

    def __init__(
        self,
        pool: Pool,
        kinds: Mapping[DefinitionKind[Any], str],
        before_write: BeforeWrite | None = None,
        *,
        with_history: bool = False,
    ) -> None:
        self._pool = pool
        self._before_write = before_write
        self._with_history = with_history
        self._kinds = {kind.name: kind for kind in kinds}
        self._in_use = {kind.name: query for kind, query in kinds.items()}

    async def get(self, kind: DefinitionKind[M], key: str) -> M:
        """The definition with this key. Raises `InvalidArgument`, or `NotFound`."""
        violations = Violations()
        check_key(key, KEY, violations)
        violations.raise_if_any()
        row = await self._pool.fetchrow(_GET, kind.name, key)
        if row is None:
            raise kind.unknown(key)
        return _read(kind, row)

    async def list(self, kind: DefinitionKind[M], page_size: int, page_token: str) -> tuple[Sequence[M], str]:
        """A page of the definitions in order of key, and the token of the next one ("" after the last).

        Raises `InvalidArgument`.
        """
        page = read_page(page_size, page_token, keyset=[str], query=[f"list_{kind.name}"])
        rows = await self._pool.fetch(_LIST, kind.name, page.after[0] if page.after else "", page.size + 1)
        shown = rows[: page.size]
        token = page.next_token(shown[-1][KEY]) if len(rows) > page.size else ""
        return [_read(kind, row) for row in shown], token

    # What the orchestrator asks

    async def get_one(self, request: pb.GetDefinitionRequest) -> pb.GetDefinitionResponse:
        """One definition. Raises `InvalidArgument`, or `NotFound`."""
        kind = kind_in(self._kinds, request.name.kind)
        message = await self.get(kind, request.name.key)
        return pb.GetDefinitionResponse(definition=definition_of(kind.name, message))

    async def list_some(self, request: pb.ListDefinitionsRequest) -> pb.ListDefinitionsResponse:
        """Some definitions of one kind, in order of key. Raises `InvalidArgument`."""
        kind = kind_in(self._kinds, request.kind)
        limit = min(max(request.limit, 1), MAX_LISTED)
        rows = await self._pool.fetch(_LIST, kind.name, request.after_key, limit)
        found = [definition_of(kind.name, _read(kind, row)) for row in rows]
        return pb.ListDefinitionsResponse(definitions=found)

    async def check(self, request: pb.CheckDefinitionsRequest) -> pb.CheckDefinitionsResponse:
        """What these writes would do, and what is wrong with them. Nothing is changed.

        Raises `AlreadyExists`, `NotFound` or `FailedPrecondition` for a single create, update or delete.
        """
        plan = Plan(self._kinds, await _load_all(self._pool, self._kinds))
        for write in request.writes:
            plan.add(write)
        if request.prune:
            plan.prune()
        await self._refuse_in_use(plan)
        return plan.response()

    async def write(self, request: pb.WriteDefinitionsRequest) -> pb.WriteDefinitionsResponse:
        """Write what has been checked, all or none, once for each write id.

        Raises `InvalidArgument` for what no orchestrator would send, and `AlreadyExists` for a reused id.
        """
        violations = Violations()
        uuid_field(request.write_id, "write_id", violations)
        now = instant_field(request, "write_time", "", violations)
        violations.raise_if_any()
        assert now is not None
        for kind in (*map(kind_of, request.puts), *(name.kind for name in request.deletes)):
            kind_in(self._kinds, kind)
        puts = [_row(put, now) for put in request.puts]
        deletes = [(name.kind, name.key) for name in request.deletes]
        async with self._pool.acquire() as connection, connection.transaction():

            async def work() -> bytes:
                await connection.execute(_LOCK_VERSION)
                if self._with_history:
                    await connection.executemany(_REMEMBER, puts)
                    await connection.executemany(_REMEMBER_GONE, [(*name, now) for name in deletes])
                if self._before_write is not None:
                    await self._before_write(connection, request, now)
                await connection.executemany(_PUT, puts)
                await connection.executemany(_DELETE, deletes)
                version = await connection.fetchval(_BUMP_VERSION)
                return pb.WriteDefinitionsResponse(version=version).SerializeToString()

            body = await once(
                connection, "write_definitions", request.write_id, digest_of(request), now, work
            )
        return pb.WriteDefinitionsResponse.FromString(body)

    async def _refuse_in_use(self, plan: "Plan") -> None:
        for name, path in plan.deletes.items():
            if not await self._pool.fetchval(self._in_use[name.kind], name.key):
                continue
            kind = self._kinds[name.kind]
            if path:
                raise kind.used(name.key)
            plan.violations.add("prune", kind.used_text(name.key), kind.in_use)


class WithVersion(Protocol):
    """A state that was loaded together with the version of the definitions."""

    @property
    def configuration_version(self) -> int: ...


S = TypeVar("S", bound=WithVersion)


class Catalogue(Generic[T]):
    """The domain form of all definitions of a service, built once for each configuration version."""

    def __init__(
        self,
        pool: Pool,
        kinds: Iterable[DefinitionKind[Any]],
        build: Callable[[StoredDefinitions], T],
        *,
        with_history: bool = False,
    ) -> None:
        self._pool = pool
        self._all = _ALL_WITH_HISTORY if with_history else _ALL
        self._kinds = {kind.name: kind for kind in kinds}
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

    async def with_state(
        self, load: Callable[[T, int], Awaitable[S]], connection: Connection | None = None
    ) -> tuple[T, S]:
        """The definitions, and the state that can be touched by those definitions, which `load` is told with their
        version.

        The version of the definitions comes with the state; when it turns out another one than expected, the new
        definitions may touch something else, and the state is loaded again.
        """
        version = self._version or 0
        while True:
            definitions = await self.at(version, connection)
            expected = self._version or 0
            state = await load(definitions, expected)
            version = state.configuration_version
            if version == expected:
                return definitions, state

    async def latest(self, connection: Connection | None = None) -> T:
        """The definitions as of now, for reads that carry no version of their own."""
        version = await (connection or self._pool).fetchval("SELECT version FROM configuration_version")
        return await self.at(version, connection)

    async def add_tenants(self, tenants: Iterable[str]) -> None:
        """Tenants that were never heard of: from now on what there is for each is there for them (RULES 9.3).

        They stand among the definitions, as a kind that nobody can write, and change the version as definitions do.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            for tenant in sorted(tenants):
                if await connection.fetchval(_ADD_TENANT, TENANT_KIND, tenant):
                    await connection.execute(_BUMP_VERSION)

    async def _load(self, source: Pool | Connection) -> None:
        stored = await _load_all(source, self._kinds, self._all)
        self._built = self._build(stored)
        self._version = stored.version


async def _load_all(source: Pool | Connection, kinds: Kinds, query: str = _ALL) -> StoredDefinitions:
    """All definitions. Of a kind that only a newer replica knows, none."""
    rows = await source.fetch(query)
    known = [row for row in rows if row["kind"] in kinds]
    return StoredDefinitions(
        rows[0]["version"],
        {_name(row): _read(kinds[row["kind"]], row) for row in known if row.get("number") is None},
        [_past(kinds[row["kind"]], row) for row in known if row.get("number") is not None],
        [row[KEY] for row in rows if row["kind"] == TENANT_KIND],
    )


def _name(row: asyncpg.Record) -> Name:
    return Name(row["kind"], row[KEY])


def _past(kind: DefinitionKind[Any], row: asyncpg.Record) -> PastDefinition:
    body: bytes | None = row["body"]
    message = kind.message_type.FromString(body) if body is not None else None
    return PastDefinition(row["number"], _name(row), message, row["update_time"])


def _read(kind: DefinitionKind[M], row: asyncpg.Record) -> M:
    """The message in a row, with its times."""
    message = kind.message_type.FromString(row["body"])
    return stamped(message, to_timestamp(row["create_time"]), to_timestamp(row["update_time"]))


def _row(definition: definition_pb2.Definition, now: datetime) -> tuple[str, str, bytes, datetime]:
    """The row of a definition, whose message has no times."""
    body = message_of(definition).SerializeToString(deterministic=True)
    return (*name_of(definition), body, now)
