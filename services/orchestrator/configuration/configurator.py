"""Writes of definitions: checked against all services, decided durably, then written everywhere (docs/adr/0013).

One lock in the orchestrator's database makes writers follow one another. Under it every owner says what the writes
would do to its part; the whole is checked; what is to be written is stored, with the reply; and then each owner
writes its part, which it cannot refuse. Whoever comes next, or the loop here, goes on with what a crash has left.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.message import Message
from laurel.participant.v1 import definition_service_pb2 as pb
from msgspec import Struct

from services.orchestrator.configuration import store
from services.orchestrator.configuration.owners import Owner
from services.orchestrator.configuration.plan import Change, changes_of, check_requests, write_requests
from shared import faults
from shared.clock import Clock
from shared.errors import LaurelError, Unavailable
from shared.postgres import admin
from shared.postgres.admin import Asking
from shared.postgres.errors import translate
from shared.postgres.locks import locked, locked_if_free
from shared.postgres.mutations import once, recall
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id

_LOGGER: Final = logging.getLogger(__name__)

BEFORE_DECISION: Final = faults.declare(
    "orchestrator.definitions.before_decision", "a write of definitions is checked, nothing is stored"
)
AFTER_DECISION: Final = faults.declare(
    "orchestrator.definitions.after_decision", "a write of definitions is decided, no service has been told"
)
BETWEEN_SERVICES: Final = faults.declare(
    "orchestrator.definitions.between_services",
    "one service has written its definitions, and nobody noted it",
)


class Mutation(Struct, frozen=True):
    """By what a request is known again."""

    method: str
    request_id: str
    digest: bytes


class Configurator:
    """Writes definitions, and finishes what is left of writes."""

    def __init__(
        self, pool: Pool, owners: Mapping[str, Owner], clock: Clock, interval_seconds: float
    ) -> None:
        """`owners` has every service that `OWNERS` names. Unfinished writes are looked for every interval."""
        self._pool = pool
        self._owners = owners
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._turn = asyncio.Lock()
        """Whoever waits for the lock in the database holds a connection: one of this replica at a time."""

    async def check(
        self, writes: Sequence[pb.DefinitionWrite], *, prune: bool = False
    ) -> tuple[list[Change], datetime]:
        """What these writes would change, and when. Raises as `write` does."""
        async with self._turn, locked(self._pool, store.LOCK) as connection:
            await self._finish(connection)
            return await self._changes(writes, prune=prune), self._clock.now()

    async def write(
        self,
        writes: Sequence[pb.DefinitionWrite],
        answer: Callable[[Sequence[Change], datetime], Message],
        asking: Asking,
        *,
        prune: bool = False,
        mutation: Mutation | None = None,
    ) -> bytes:
        """Make these writes, all or none, and return the answer, which is stored with them.

        Raises `InvalidArgument` with everything that is wrong, `AlreadyExists`, `NotFound` or
        `FailedPrecondition` for what a single write wants, `AlreadyExists` for a reused request id, and
        `Unavailable`: with the reason DEFINITIONS_PENDING the writes are decided, and go on by themselves.
        """
        async with self._turn, locked(self._pool, store.LOCK) as connection:
            await self._finish(connection)
            if mutation is not None:
                known = await recall(connection, mutation.method, mutation.request_id, mutation.digest)
                if known is not None:
                    return known
            changes, now = await self._changes(writes, prune=prune), self._clock.now()
            reply = answer(changes, now).SerializeToString(deterministic=True)
            await BEFORE_DECISION.reach()
            await self._decide(connection, changes, now, reply, mutation, asking)
            await AFTER_DECISION.reach()
            await self._finish(connection)
            return reply

    async def run(self) -> None:
        """Goes on with writes that were left, for ever."""
        while True:
            try:
                await self.recover()
            except Exception as error:
                if not isinstance(error, LaurelError) and translate(error) is None:
                    raise
                _LOGGER.warning("a write of definitions cannot go on now", extra={"cause": str(error)})
            await asyncio.sleep(self._interval_seconds)

    async def recover(self) -> None:
        """Finishes what is left, unless somebody is at it. Raises `Unavailable`."""
        if await store.any_unfinished(self._pool):
            async with locked_if_free(self._pool, store.LOCK) as connection:
                if connection is not None:
                    await self._finish(connection)

    async def _changes(self, writes: Sequence[pb.DefinitionWrite], *, prune: bool) -> list[Change]:
        answers = {
            owner: await self._owners[owner].check(request)
            for owner, request in check_requests(writes, prune=prune).items()
        }
        return changes_of(writes, answers)

    async def _decide(
        self,
        connection: Connection,
        changes: Sequence[Change],
        now: datetime,
        reply: bytes,
        mutation: Mutation | None,
        asking: Asking,
    ) -> None:
        """Stores what is to be written, the reply and who asked, on the connection that holds the lock."""
        write_id = new_id()

        async def work() -> bytes:
            await store.decide(connection, write_id, write_requests(changes, write_id, now), now)
            method = "apply_configuration" if mutation is None else mutation.method
            for change in changes:
                if fields := change.fields():
                    subject = f"{change.name.kind}/{change.name.key}"
                    await admin.record(connection, method, subject, asking, now, fields)
            return reply

        async with connection.transaction():
            if mutation is None:
                await work()
            else:
                await once(connection, mutation.method, mutation.request_id, mutation.digest, now, work)

    async def _finish(self, connection: Connection) -> None:
        """Has every owner write what is decided. Writing it twice is writing it once."""
        for part in await store.unfinished(connection):
            try:
                await self._owners[part.owner].write(part.request)
            except LaurelError as error:
                raise Unavailable(
                    f"the {part.owner} service has not taken definitions that are decided; they go on by themselves",
                    reason="DEFINITIONS_PENDING",
                    metadata={"service": part.owner, "cause": str(error)},
                    retry_after_seconds=self._interval_seconds,
                ) from error
            await BETWEEN_SERVICES.reach()
            await store.finish(connection, part)
