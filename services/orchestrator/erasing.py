"""The deletion of a user (RULES 2.7): first nothing more is recorded for the user, then what is under way ends, then
every service erases what it has, part by part, and at last the orchestrator forgets whom it has deleted.

Every part can be done again, so whoever goes on after a crash begins at the beginning. That it is done is decided by a
round that finds nothing: what was written meanwhile by maintenance or from a page that had been read before goes in the
next one.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import grpc.aio
from google.protobuf.message import Message
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2
from laurel.participant.v1 import trace_service_pb2 as pb
from laurel.participant.v1 import trace_service_pb2_grpc

from services.orchestrator.active_sagas import ActiveSaga
from services.orchestrator.domain import TimeWindow
from services.orchestrator.domain_events import told_of
from services.orchestrator.operation import Asked
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.rollups import Rollups
from services.orchestrator.store.erasure import Anonymous, ErasureStore, Mention, StoredEntry
from services.orchestrator.store.reads import LOWEST_ID
from shared import faults
from shared.entries import half_id
from shared.errors import LaurelError, Unavailable
from shared.postgres.traces import TraceStore
from shared.rpc.channel import call
from shared.traces import parsed, renamed

_ENTRIES_AT_ONCE: Final = 500
_MOST_ROUNDS: Final = 10
_LOOKS: Final = 40
_PAUSE_SECONDS: Final = 0.05
_TIMEOUT_SECONDS: Final = 60.0
"""How long one service may take over one part, in seconds."""
_RECEIVED: Final = TimeWindow(timedelta(days=366), timedelta(days=366))
"""Around its receive_time lies whatever was accepted."""

BEFORE_PART: Final = faults.declare(
    "orchestrator.erasure.part.before", "nothing is recorded for a user who is being deleted; a part is due"
)
AFTER_PART: Final = faults.declare(
    "orchestrator.erasure.part.after", "the services have erased some entries, the ledger has not"
)
BEFORE_END: Final = faults.declare(
    "orchestrator.erasure.end.before_commit", "everything is erased, the deletion still names the user"
)
AFTER_END: Final = faults.declare(
    "orchestrator.erasure.end.after_commit", "the user is deleted, the caller has no answer"
)


class Erasing:
    """Deletes users in every service."""

    def __init__(
        self,
        store: ErasureStore,
        rollups: Rollups,
        traces: TraceStore,
        channels: Mapping[str, grpc.aio.Channel],
    ) -> None:
        """`channels` lead to the other services, by their names."""
        self._store = store
        self._rollups = rollups
        self._traces = traces
        self._stubs = {
            name: trace_service_pb2_grpc.TraceServiceStub(channel) for name, channel in channels.items()
        }

    async def erase(self, active: ActiveSaga) -> None:
        """Erases all but that it was asked for. Raises `LaurelError` where it has to go on later."""
        pseudonym = active.entry.user_erasure.pseudonym
        user_ids = await self._store.with_merged(active.entry.user.user_id)
        for user_id in user_ids:
            await self._store.close(user_id)
        for user_id in user_ids:
            await self.quiet(user_id, active.entry_id)
            await self._rollups.catch_up_with(user_id)
        # What two had of one kind has to stay apart.
        pseudonyms = [pseudonym, *(f"{pseudonym}-{number}" for number in range(1, len(user_ids)))]
        for _ in range(_MOST_ROUNDS):
            erased = 0
            for user_id, name in zip(user_ids, pseudonyms, strict=True):
                erased += await self._round(user_id, name)
            if not erased:
                return
        raise Unavailable("rows of the user keep appearing", reason="USER_BUSY")

    async def complete(self, active: ActiveSaga, reply: bytes, now: datetime) -> bool:
        """Ends the deletion and tells of it. False where another replica was first."""
        user_id, pseudonym = active.entry.user.user_id, active.entry.user_erasure.pseudonym
        told = told_of(active.entry, active.body, b"")
        assert told is not None
        entry = type(active.entry)()
        entry.CopyFrom(active.entry)
        renamed(entry, user_id, pseudonym)
        request = active.operation.request_type(user_id=pseudonym)
        anonymous = Anonymous(
            active.entry_id, pseudonym, request.SerializeToString(), entry.SerializeToString()
        )
        await BEFORE_END.reach()
        user_ids = await self._store.with_merged(user_id)
        first = await self._store.complete(user_ids, anonymous, reply, told, now)
        await AFTER_END.reach()
        return first

    async def quiet(self, user_id: str, besides: UUID) -> None:
        """Waits until nothing else of the user is under way, nor a merge into the user: it would write what has been
        erased. Raises `Unavailable` where that takes long.
        """
        for _ in range(_LOOKS):
            unfinished, parked = await self._store.open_sagas(user_id, besides)
            if parked:
                raise Unavailable(f"{parked} entries of the user are parked", reason="USER_BUSY")
            if not unfinished:
                return
            await asyncio.sleep(_PAUSE_SECONDS)
        raise Unavailable(f"{unfinished} entries of the user are under way", reason="USER_BUSY")

    async def _round(self, user_id: str, pseudonym: str) -> int:
        """Erases everything that is there; how many rows."""
        erased = 0
        await BEFORE_PART.reach()
        while entries := await self._store.entries(user_id, _ENTRIES_AT_ONCE):
            entry_ids = [entry.entry_id for entry in entries]
            halves = [half_id(each.entry_id, other) for each in entries for other in each.other_user_ids]
            erased += await self.everywhere(user_id, pseudonym, [*entry_ids, *halves])
            await AFTER_PART.reach()
            await self._store.forget_keys(_keys_of(entries), entry_ids)
            # At last, for by it they are found.
            erased += await self._own(user_id, pseudonym, entry_ids)
        while mentions := await self._store.mentions(user_id, LOWEST_ID, _ENTRIES_AT_ONCE):
            erased += await self.everywhere(user_id, pseudonym, ids_of_mentions(mentions, user_id))
            await self._store.rename(
                user_id, pseudonym, [_with_pseudonym(each, user_id, pseudonym) for each in mentions]
            )
            erased += len(mentions)
        erased += await self.everywhere(user_id, pseudonym, [])
        return erased + await self._own(user_id, pseudonym, [])

    async def everywhere(
        self,
        user_id: str,
        pseudonym: str,
        entry_ids: Sequence[UUID],
        services: Collection[str] | None = None,
    ) -> int:
        """Erases in the other services, or in some of them, what is found by these entries; with none, what is found by
        the user. How many rows.
        """
        erased = 0
        request = pb.EraseTracesRequest(
            user_id=user_id, pseudonym=pseudonym, entry_ids=[str(entry_id) for entry_id in entry_ids]
        )
        for name, stub in self._stubs.items():
            more = services is None or name in services
            while more:
                response = await call(stub.EraseTraces, request, timeout_seconds=_TIMEOUT_SECONDS)
                erased += response.row_count
                more = response.more
        return erased

    async def _own(self, user_id: str, pseudonym: str, entry_ids: Sequence[UUID]) -> int:
        erased, more = 0, True
        while more:
            rows, more = await self._traces.erase(user_id, pseudonym, entry_ids)
            erased += rows
        return erased


def _keys_of(entries: Sequence[StoredEntry]) -> list[UUID]:
    """By what entries would be known again: it follows from what was asked."""
    found = []
    for entry in entries:
        operation = OPERATIONS.get(entry.kind)
        if operation is None or operation.incoming is None:
            continue
        try:
            asked = operation.incoming(
                operation.request_of(entry.request), Asked(entry.receive_time, _RECEIVED)
            )
        except (LaurelError, OverflowError):
            continue  # of a form that is not asked any more, and so not asked again
        if asked.key_id is not None:
            found.append(asked.key_id)
    return found


def ids_of_mentions(mentions: Sequence[Mention], user_id: str) -> list[UUID]:
    """Those of entries of others, and by which services know them as they concern the user."""
    return [entry_id for each in mentions for entry_id in (each.entry_id, half_id(each.entry_id, user_id))]


def _with_pseudonym(mention: Mention, user_id: str, pseudonym: str) -> Mention:
    operation = OPERATIONS[mention.kind]

    def told(body: bytes | None, kind: type[Message] | None) -> bytes | None:
        message = parsed(body, kind) if body else None
        if message is None:
            return body
        renamed(message, user_id, pseudonym)
        return message.SerializeToString(deterministic=True)

    applied = mention.applied
    return Mention(
        mention.entry_id,
        mention.kind,
        told(mention.request, operation.request_type) or b"",
        told(mention.entry, entry_pb2.Entry) or b"",
        told(mention.reply, operation.reply_type),
        applied and [told(body, effects_pb2.Effects) or b"" for body in applied],
        told(mention.correction, entry_pb2.Entry),
        told(mention.void_reply, orchestrator_service_pb2.VoidEntryResponse),
    )
