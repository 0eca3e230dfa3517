"""What is created, read, changed and deleted by its key: endpoints and streams have these use cases in common.

Each mutation is one transaction, idempotent by its request id, and noted among what is done by hand (RULES 9.4). What a
configuration file says goes the same way as what is said one by one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, TypeVar

from google.protobuf.message import Message
from laurel.common.v1 import configuration_pb2
from msgspec import Struct

from services.notification.feed import FeedReader
from services.notification.mutations import mutate, newest, note
from shared.clock import Clock
from shared.definition_changes import field_changes
from shared.errors import AlreadyExists, FailedPrecondition, NotFound, Violations
from shared.masks import updated
from shared.pages import read_page
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import check_key, check_request_id

CREATE: Final = configuration_pb2.CONFIGURATION_ACTION_CREATE
UPDATE: Final = configuration_pb2.CONFIGURATION_ACTION_UPDATE
DELETE: Final = configuration_pb2.CONFIGURATION_ACTION_DELETE
KEEP: Final = configuration_pb2.CONFIGURATION_ACTION_KEEP

Change = configuration_pb2.ConfigurationChange
APPLY: Final = "apply_configuration"

M = TypeVar("M", bound=Message)


class Kind(Struct, frozen=True):
    """How something is called, and how many of it there may be."""

    name: str
    """In the names of methods, the audit, and what a file changes: `webhook_endpoint`. Its plural is a section."""
    field: str
    """In requests and replies: `endpoint`."""
    output_only: Sequence[str]
    most: int

    @property
    def section(self) -> str:
        """Of a configuration file."""
        return f"{self.name}s"


class KeyedHandlers(ABC, Generic[M]):
    """The use cases of operators."""

    kind: ClassVar[Kind]

    def __init__(self, pool: Pool, feed: FeedReader, clock: Clock) -> None:
        self._pool = pool
        self._feed = feed
        self._clock = clock

    # One by one

    async def create(self, request: Any, response: Message) -> None:
        """A new one. Raises `AlreadyExists`, or `FailedPrecondition` for one too many."""
        message: M = getattr(request, self.kind.field)
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        self.check(message, self.kind.field, violations)
        violations.raise_if_any()
        cursor = await newest(self._feed, self.types(message), self.kind.field)
        now = self._clock.now()
        method = f"create_{self.kind.name}"

        async def work(connection: Connection) -> Message:
            await self._create(connection, method, message, cursor, now)
            return await self._reply(connection, response, _key(message), now)

        await mutate(self._pool, method, request, now, work, response)

    async def get(self, key: str) -> M:
        """One of them. Raises `NotFound`."""
        violations = Violations()
        check_key(key, "key", violations)
        violations.raise_if_any()
        return await self._shown(self._pool, await self._known(key), self._clock.now())

    async def list(self, page_size: int, page_token: str) -> tuple[Sequence[M], str]:
        """A page of them by key, and the token of the next one."""
        page = read_page(page_size, page_token, keyset=[str], query=[self.kind.section])
        rows = await self._rows(self._pool, page.after[0] if page.after else "", page.size + 1)
        shown = rows[: page.size]
        now = self._clock.now()
        token = page.next_token(shown[-1]["key"]) if len(rows) > page.size else ""
        return [await self._shown(self._pool, row, now) for row in shown], token

    async def update(self, request: Any, response: Message) -> None:
        """Change one, switch it on or off. Raises `NotFound`."""
        field = self.kind.field
        key = _key(getattr(request, field))
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        check_key(key, f"{field}.key", violations)
        violations.raise_if_any()
        wanted = self._updated(await self.get(key), request)
        await newest(self._feed, self.types(wanted), field)  # its types are known to the orchestrator
        now = self._clock.now()
        method = f"update_{self.kind.name}"

        async def work(connection: Connection) -> Message:
            row = await self._known(key, connection)
            wanted = self._updated(await self._shown(connection, row, now), request)
            await self._change(connection, method, row, wanted, now)
            return await self._reply(connection, response, key, now)

        await mutate(self._pool, method, request, now, work, response)

    async def delete(self, request: Any, response: Message) -> None:
        """Delete one, and what waits for it. Raises `NotFound`."""
        self._check_named(request)
        now = self._clock.now()
        method = f"delete_{self.kind.name}"

        async def work(connection: Connection) -> Message:
            await self._delete(connection, method, await self._known(request.key, connection), now)
            return response

        await mutate(self._pool, method, request, now, work, response)

    # All at once

    async def apply(
        self,
        connection: Connection,
        messages: Sequence[M],
        cursors: Sequence[str],
        now: datetime,
        *,
        prune: bool,
    ) -> Sequence[Change]:
        """Make them what a file says; with `prune` no others stay."""
        listed = await self._rows(connection, "", self.kind.most)
        rows = {row["key"]: await self._row(row["key"], connection) for row in listed}
        changes, deleted = [], []
        violations = Violations()
        for key in sorted(rows.keys() - {_key(message) for message in messages}) if prune else ():
            await self._delete(connection, APPLY, rows[key], now)
            deleted.append(Change(kind=self.kind.name, key=key, action=DELETE))
        for index, (message, cursor) in enumerate(zip(messages, cursors, strict=True)):
            wanted, row = said(message, self.kind.output_only), rows.get(_key(message))
            if row is None:
                await self._create(connection, APPLY, wanted, cursor, now)
                changes.append(Change(kind=self.kind.name, key=_key(wanted), action=CREATE))
                continue
            before = self._stored(row)
            self.check_change(before, wanted, f"{self.kind.section}[{index}]", violations)
            changes.append(compared(self.kind.name, _key(wanted), before, wanted))
            if changes[-1].action == UPDATE:
                await self._change(connection, APPLY, row, self._kept(row, wanted), now)
        violations.raise_if_any()
        return [*changes, *deleted]

    # What each kind says for itself

    @abstractmethod
    def check(self, message: M, path: str, violations: Violations) -> None:
        """Everything that is wrong with one here."""

    def check_change(self, before: M, wanted: M, path: str, violations: Violations) -> None:
        """What cannot change."""

    @abstractmethod
    def types(self, message: M) -> Sequence[str]:
        """The types of events that it names."""

    @abstractmethod
    def unknown(self, key: str) -> NotFound:
        """There is none."""

    @abstractmethod
    def taken(self, key: str) -> AlreadyExists:
        """There is one already."""

    @abstractmethod
    def too_many(self) -> FailedPrecondition:
        """There are as many as there may be."""

    @abstractmethod
    async def _row(self, key: str, connection: Connection | None = None) -> Any | None:
        """Its row; with a connection it is locked."""

    @abstractmethod
    async def _rows(self, source: Pool | Connection, after: str, limit: int) -> Sequence[Any]:
        """Rows by key."""

    @abstractmethod
    async def _shown(self, source: Pool | Connection, row: Any, now: datetime) -> M:
        """As it is read. Never by a second connection beside one that is held: callers who all hold one would wait for
        ever.
        """

    @abstractmethod
    def _stored(self, row: Any) -> M:
        """As a file has it."""

    def _kept(self, _row: Any, wanted: M) -> M:
        """What a file wants, with what it does not change."""
        return wanted

    @abstractmethod
    async def _insert(self, connection: Connection, message: M, cursor: str, now: datetime) -> bool:
        """Whether the key was free."""

    @abstractmethod
    async def _count(self, connection: Connection) -> int:
        """How many there are; nobody else creates one before this transaction ends."""

    @abstractmethod
    async def _write(self, connection: Connection, row: Any, wanted: M, now: datetime) -> None:
        """That of a locked row is as it is wanted."""

    @abstractmethod
    async def _remove(self, connection: Connection, row: Any) -> None:
        """That of a locked row is gone, with what waits for it."""

    # Parts

    async def _known(self, key: str, connection: Connection | None = None) -> Any:
        row = await self._row(key, connection)
        if row is None:
            raise self.unknown(key)
        return row

    async def _create(
        self, connection: Connection, method: str, message: M, cursor: str, now: datetime
    ) -> None:
        if not await self._insert(connection, message, cursor, now):
            raise self.taken(_key(message))
        if await self._count(connection) > self.kind.most:
            raise self.too_many()
        await self._note(connection, method, type(message)(), message, now)

    async def _change(self, connection: Connection, method: str, row: Any, wanted: M, now: datetime) -> None:
        await self._write(connection, row, wanted, now)
        await self._note(connection, method, self._stored(row), wanted, now)

    async def _delete(self, connection: Connection, method: str, row: Any, now: datetime) -> None:
        await self._remove(connection, row)
        before = self._stored(row)
        await self._note(connection, method, before, type(before)(), now)

    async def _note(self, connection: Connection, method: str, before: M, after: M, now: datetime) -> None:
        fields = field_changes(before, said(after, self.kind.output_only))
        key = _key(after) or _key(before)
        await note(connection, method, f"{self.kind.name}/{key}", now, fields)

    async def _reply(self, connection: Connection, response: Message, key: str, now: datetime) -> Message:
        shown = await self._shown(connection, await self._known(key, connection), now)
        return type(response)(**{self.kind.field: shown})

    def _updated(self, before: M, request: Any) -> M:
        """What an update makes of it. Raises `InvalidArgument`."""
        field = self.kind.field
        wanted: M = updated(
            before,
            getattr(request, field),
            request.update_mask,
            immutable=["key"],
            output_only=self.kind.output_only,
        )
        violations = Violations()
        self.check(wanted, field, violations)
        self.check_change(before, wanted, field, violations)
        violations.raise_if_any()
        return wanted

    def _check_named(self, request: Any, violations: Violations | None = None) -> None:
        found = violations or Violations()
        check_request_id(request.request_id, "request_id", found)
        check_key(request.key, "key", found)
        found.raise_if_any()


def compared(kind: str, key: str, before: Message, wanted: Message) -> Change:
    """What a file changes about one that is there."""
    fields = field_changes(before, wanted)
    return Change(kind=kind, key=key, action=UPDATE if fields else KEEP, fields=fields)


def said(message: M, output_only: Sequence[str]) -> M:
    """A copy without what is output."""
    copy = type(message)()
    copy.CopyFrom(message)
    for name in output_only:
        copy.ClearField(name)
    return copy


def _key(message: Any) -> str:
    key: str = message.key
    return key
