"""What each call does: one decision each, on domain values and messages of the contract."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

from google.protobuf.message import Message
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import audit_pb2, event_pb2, orchestrator_service_pb2, user_pb2

from services.orchestrator import convert, replies
from services.orchestrator.active_sagas import Answer, StillRunning, pending, resumed
from services.orchestrator.config import Settings
from services.orchestrator.domain import TimeWindow
from services.orchestrator.moving import moved_id
from services.orchestrator.operation import AnyOperation, Asked
from services.orchestrator.operations import OPERATIONS, metric_event
from services.orchestrator.recording import Incoming
from services.orchestrator.runner import Runner
from services.orchestrator.saga import State
from services.orchestrator.store.reads import HIGHEST_ID, LOWEST_ID, Audit, ReadStore
from services.orchestrator.store.sagas import SagaStore
from services.orchestrator.submissions import Submissions
from shared.clock import Clock
from shared.decimals import from_micros
from shared.errors import (
    FailedPrecondition,
    LaurelError,
    NotFound,
    Unavailable,
    Violations,
)
from shared.ids import digest
from shared.pages import read_page
from shared.postgres import admin
from shared.postgres.admin import Asking
from shared.postgres.mutations import once
from shared.postgres.pool import Pool
from shared.rpc.access import current_caller
from shared.rpc.error_messages import error_message
from shared.rpc.wire import Part
from shared.tenants import CURRENT_TENANT, id_range, is_own

_FAR_FUTURE: Final = datetime(9999, 1, 1, tzinfo=UTC)
_LONG_AGO: Final = datetime(1, 1, 2, tzinfo=UTC)
_FIRST_POLL_SECONDS: Final = 0.02
_LONGEST_POLL_SECONDS: Final = 0.5

IngestRequest = event_pb2.IngestEventRequest
OperationRequest = orchestrator_service_pb2.OperationRequest
OperationResult = orchestrator_service_pb2.OperationResult

_EVENT: Final = Part(orchestrator_service_pb2.IngestEventResult, "event")
_ERROR: Final = Part(orchestrator_service_pb2.IngestEventResult, "error")
_RESULT: Final = Part(orchestrator_service_pb2.StreamEventsResponse, "result")
_OPERATION_ERROR: Final = Part(OperationResult, "error")
_OPERATION_RESULTS: Final = {
    field.name: Part(OperationResult, field.name)
    for field in OperationRequest.DESCRIPTOR.oneofs_by_name["operation"].fields
}


class EntryHandlers:
    """Ways in for metric events and for what else changes something."""

    def __init__(self, submissions: Submissions, settings: Settings, clock: Clock) -> None:
        self._submissions = submissions
        self._clock = clock
        self._max_stream_in_flight = settings.max_stream_in_flight
        self._window = TimeWindow(
            timedelta(seconds=settings.max_event_age_seconds),
            timedelta(seconds=settings.max_event_ahead_seconds),
        )

    async def perform(self, operation: AnyOperation, request: Message, actor: str = "") -> bytes:
        """One entry of any kind, and the serialized reply to it. Raises `LaurelError`."""
        assert operation.incoming is not None
        by_user = bool(current_caller().user_id)
        asked = Asked(self._clock.now(), self._window, actor=actor, by_user=by_user)
        return reply_to(operation, await self._submissions.submit(operation.incoming(request, asked)))

    async def ingest_many(self, requests: Sequence[IngestRequest]) -> list[bytes]:
        """Many events; each has its own reply or error. Serialized results."""
        asked = Asked(self._clock.now(), self._window)
        answers = await self._answers(
            [
                _incoming(metric_event.OPERATION, request, asked.nth(index))
                for index, request in enumerate(requests)
            ]
        )
        return [_result(answer) for answer in answers]

    async def perform_many(self, requests: Sequence[OperationRequest], actor: str) -> list[bytes]:
        """Many operations, as though each were called for alone. Serialized results."""
        asked = Asked(self._clock.now(), self._window, actor=actor)
        names = [request.WhichOneof("operation") or "" for request in requests]
        wanted = [
            _incoming(OPERATIONS[name], getattr(request, name), asked.nth(index)) if name else _unnamed()
            for index, (name, request) in enumerate(zip(names, requests, strict=True))
        ]
        answers = await self._answers(wanted)
        return [_operation_result(name, answer) for name, answer in zip(names, answers, strict=True)]

    async def _answers(self, wanted: Sequence[Incoming | LaurelError]) -> list[Answer | LaurelError]:
        """An answer to each, in order; what was refused at the door is its own answer."""
        accepted = [item for item in wanted if isinstance(item, Incoming)]
        answers = iter(await self._submissions.submit_all(accepted))
        return [next(answers) if isinstance(item, Incoming) else item for item in wanted]

    async def stream(
        self, requests: AsyncIterator[orchestrator_service_pb2.StreamEventsRequest]
    ) -> AsyncIterator[bytes]:
        """Events as they come, serialized answers as they are ready. With too many under way nothing more is read."""
        ready: asyncio.Queue[bytes | LaurelError | None] = asyncio.Queue()
        free = asyncio.Semaphore(self._max_stream_in_flight)

        async def answer(request: orchestrator_service_pb2.StreamEventsRequest) -> None:
            [result] = await self.ingest_many([request.event])
            numbered = orchestrator_service_pb2.StreamEventsResponse(sequence=request.sequence)
            ready.put_nowait(numbered.SerializeToString() + _RESULT.holding(result))

        async def read() -> None:
            refusal = None
            async with asyncio.TaskGroup() as tasks:
                try:
                    async for request in requests:
                        await free.acquire()
                        tasks.create_task(answer(request))
                except LaurelError as error:  # a message that cannot be read ends the stream
                    refusal = error
            ready.put_nowait(refusal)

        # No task group around a `yield`: it would cancel whoever is taking the response.
        reader = asyncio.create_task(read())
        try:
            while (response := await _next(ready, reader)) is not None:
                yield response
                # Only an answer that was taken makes room: a caller that does not read holds itself up.
                free.release()
        finally:
            reader.cancel()
            await asyncio.wait((reader,))


def reply_to(operation: AnyOperation, answer: Answer) -> bytes:
    """The reply as it was stored, and whether it had been given before."""
    if not answer.replayed:
        return answer.reply
    assert operation.reply_type is not None
    # Every reply has this field.
    return answer.reply + operation.reply_type(idempotent_replayed=True).SerializeToString()


def _incoming(operation: AnyOperation, request: Message, asked: Asked) -> Incoming | LaurelError:
    assert operation.incoming is not None
    try:
        return operation.incoming(request, asked)
    except LaurelError as error:
        return error


def _unnamed() -> LaurelError:
    violations = Violations()
    violations.add("operation", "must be set")
    return violations.error()


def _result(answer: Answer | LaurelError) -> bytes:
    """The serialized result of one of many events."""
    if isinstance(answer, Answer):
        return _EVENT.holding(reply_to(metric_event.OPERATION, answer))
    return _ERROR.holding(error_message(answer, replies.DOMAIN).SerializeToString())


def _operation_result(name: str, answer: Answer | LaurelError) -> bytes:
    """The serialized result of one of many operations."""
    if isinstance(answer, Answer):
        return _OPERATION_RESULTS[name].holding(reply_to(OPERATIONS[name], answer))
    return _OPERATION_ERROR.holding(error_message(answer, replies.DOMAIN).SerializeToString())


async def _next(
    ready: "asyncio.Queue[bytes | LaurelError | None]", reader: "asyncio.Task[None]"
) -> bytes | None:
    """The next answer; None at the end. A reader that failed ends the stream with its failure."""
    getting = asyncio.ensure_future(ready.get())
    try:
        await asyncio.wait((getting, reader), return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            reader.result()
        response = await getting
    finally:
        getting.cancel()
    if isinstance(response, LaurelError):
        raise response
    return response


class UndoHandlers:
    """Undoing finished events, and what an operator does with sagas that are stuck."""

    def __init__(self, pool: Pool, sagas: SagaStore, reads: ReadStore, runner: Runner, clock: Clock) -> None:
        self._pool = pool
        self._sagas = sagas
        self._reads = reads
        self._runner = runner
        self._clock = clock
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of users of whom something is being voided, one void at a time (`SagaStore.decide_void`): those of this
        replica need not ask again and again whether it is their turn.
        """

    async def void(self, entry_id: UUID, request_id: str, asking: Asking) -> bytes:
        """Undoes a finished entry in every service; returns the serialized VoidEntryResponse.

        Waits for an entry that is still running. Raises `NotFound`, or `FailedPrecondition` for one that was
        refused, is of a kind that cannot be undone, or lies so far back that its saga is not kept any more.
        """
        user_id = await self._claim("void_entry", entry_id, request_id, asking)
        async with self._turns.setdefault(user_id, asyncio.Lock()):
            return await self._voided(entry_id, asking)

    async def _voided(self, entry_id: UUID, asking: Asking) -> bytes:
        pause = _FIRST_POLL_SECONDS
        while True:
            entry_id = await self._followed(entry_id)
            kept = await self._sagas.void_reply(entry_id)
            if kept is None:
                raise FailedPrecondition(
                    "the entry is older than the replay window and stays as it is",
                    reason="ENTRY_EXPIRED",
                    metadata={"entry_id": str(entry_id)},
                )
            state, reply = kept
            if reply is not None and state is State.VOIDED:
                return reply
            if state is State.REJECTED:
                raise FailedPrecondition(
                    "the entry was refused; there is nothing to undo",
                    reason="ENTRY_REJECTED",
                    metadata={"entry_id": str(entry_id)},
                )
            if state is State.PARKED:
                raise pending(Unavailable("it waits for an operator", reason="SAGA_PARKED"))
            coming = self._runner.answer_of(entry_id)
            if state is State.DONE:
                coming = await self._begin_voiding(entry_id, asking) or coming
            if coming is not None:
                await _ended(coming, voiding=state in (State.DONE, State.VOIDING))
                continue
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)

    async def _followed(self, entry_id: UUID) -> UUID:
        """What an entry is by now: that of a user who was merged counts for the other, under another id."""
        while await self._reads.known_ids([moved_id(entry_id)]):
            entry_id = moved_id(entry_id)
        return entry_id

    async def _begin_voiding(self, entry_id: UUID, asking: Asking) -> "asyncio.Future[Answer] | None":
        """The coming answer, where this call is the one that decides; None where another one was first, or another
        entry of the user is being voided.
        """
        with self._runner.expecting([entry_id]):
            if not await self._sagas.decide_void(entry_id, asking.reason, asking.actor, self._clock.now()):
                return None
            stored = await self._sagas.stored(entry_id)
            assert stored is not None
            return self._runner.start(resumed(stored))

    async def retry(self, entry_id: UUID, request_id: str, asking: Asking) -> Audit:
        """Puts a parked saga to work again. Raises `NotFound` or `FailedPrecondition`."""
        return await self._unpark("retry_saga", entry_id, "", request_id, asking)

    async def abandon(self, entry_id: UUID, request_id: str, asking: Asking) -> Audit:
        """Gives a parked saga up: it ends undone where it fails next. Raises `NotFound`, `FailedPrecondition`."""
        return await self._unpark("abandon_saga", entry_id, asking.reason, request_id, asking)

    async def _unpark(
        self, method: str, entry_id: UUID, reason: str, request_id: str, asking: Asking
    ) -> Audit:
        if await self._reads.entry(entry_id) is None:
            raise unknown_entry(entry_id)
        async with self._pool.acquire() as connection, connection.transaction():

            async def work() -> bytes:
                if not await self._sagas.unpark(connection, entry_id, reason or None):
                    raise FailedPrecondition(
                        "the saga is not parked",
                        reason="SAGA_NOT_PARKED",
                        metadata={"entry_id": str(entry_id)},
                    )
                await admin.record(connection, method, f"entry/{entry_id}", asking, self._clock.now())
                return b""

            sent = digest(str(entry_id), reason)
            await once(connection, method, request_id, sent, self._clock.now(), work)
        audit = await self._reads.entry(entry_id)
        assert audit is not None
        return audit

    async def _claim(self, method: str, entry_id: UUID, request_id: str, asking: Asking) -> str:
        """Remembers the request id and who asks; the reply itself is the same for all who void the same entry. Gives
        whose entry it is.
        """
        audit = await self._reads.entry(entry_id)
        if audit is None or not is_own(audit.user_id):
            raise unknown_entry(entry_id)
        if not OPERATIONS[audit.operation].voidable:
            raise FailedPrecondition(
                f"entries of the kind '{audit.operation}' cannot be voided",
                reason="ENTRY_NOT_VOIDABLE",
                metadata={"entry_id": str(entry_id), "operation": audit.operation},
            )

        async with self._pool.acquire() as connection, connection.transaction():

            async def work() -> bytes:
                await admin.record(connection, method, f"entry/{entry_id}", asking, self._clock.now())
                return b""

            sent = digest(str(entry_id), asking.reason)
            await once(connection, method, request_id, sent, self._clock.now(), work)
        return audit.user_id


async def _ended(coming: "asyncio.Future[Answer]", *, voiding: bool) -> None:
    """Waits until a saga in hand has ended, one way or another; what it came to is read from the database."""
    try:
        await asyncio.shield(coming)
    except StillRunning:
        return
    except LaurelError:
        if voiding:
            raise


class ReadHandlers:
    """Reads of entries, users and sagas."""

    def __init__(self, reads: ReadStore, settings: Settings) -> None:
        self._reads = reads
        self._zone = settings.default_time_zone

    async def entry(self, entry_id: UUID) -> audit_pb2.EntryAudit:
        """The audit of one entry. Raises `NotFound`."""
        audit = await self._reads.entry(entry_id)
        if audit is None or not is_own(audit.user_id):
            raise unknown_entry(entry_id)
        return replies.audit_message(audit)

    async def attributes(self, entry_ids: Sequence[UUID]) -> list[orchestrator_service_pb2.EntryAttributes]:
        """What filters look at of these entries."""
        entries = [entry_pb2.Entry.FromString(body) for body in await self._reads.bodies(entry_ids)]
        return [
            orchestrator_service_pb2.EntryAttributes(
                entry_id=entry.entry_id,
                event_attributes=entry.metric_event.attributes,
                user_attributes=entry.user.attributes,
            )
            for entry in entries
        ]

    async def snapshots(self, user_ids: Sequence[str]) -> list[entry_pb2.UserSnapshot]:
        """What holds of these users now."""
        return [convert.snapshot(user, self._zone) for user in await self._reads.users_of(user_ids)]

    async def user_entries(self, asked: convert.AskedEntries) -> tuple[list[audit_pb2.EntryAudit], str]:
        """A page of a user's entries, newest first."""
        query = ["user_entries", asked.wanted.user_id, *asked.wanted.filters]
        page = read_page(asked.page_size, asked.page_token, keyset=[datetime, UUID], query=query)
        before = page.after or (_FAR_FUTURE, HIGHEST_ID)
        audits = await self._reads.user_entries(asked.wanted, (before[0], before[1]), page.size + 1)
        shown = audits[: page.size]
        token = page.next_token(shown[-1].receive_time, shown[-1].entry_id) if len(audits) > page.size else ""
        return [replies.audit_message(audit) for audit in shown], token

    async def sagas(
        self, states: Sequence[State], user_id: str, page_size: int, page_token: str
    ) -> tuple[list[audit_pb2.EntryAudit], str]:
        """A page of sagas, oldest first."""
        names = [state.name for state in states]
        page = read_page(page_size, page_token, keyset=[datetime, UUID], query=["sagas", user_id, *names])
        after = page.after or (_LONG_AGO, LOWEST_ID)
        audits = await self._reads.sagas(states, user_id, (after[0], after[1]), page.size + 1)
        shown = audits[: page.size]
        token = page.next_token(shown[-1].receive_time, shown[-1].entry_id) if len(audits) > page.size else ""
        return [replies.audit_message(audit) for audit in shown], token

    async def user(self, user_id: str) -> orchestrator_service_pb2.GetUserResponse:
        """A user with totals, or whom the id leads to. Raises `NotFound`."""
        user_id = await self._reads.leads_to(user_id)
        user = await self._reads.user(user_id)
        if user is None:
            raise NotFound("there is no such user", reason="USER_NOT_FOUND")
        return orchestrator_service_pb2.GetUserResponse(
            user=replies.stored_user(user, self._zone),
            metrics=[
                user_pb2.UserMetric(
                    metric=total.metric, total=from_micros(total.total_micros), event_count=total.event_count
                )
                for total in await self._reads.totals(user_id)
            ],
        )

    async def users(self, page_size: int, page_token: str) -> tuple[list[user_pb2.StoredUser], str]:
        """A page of users by id."""
        page = read_page(page_size, page_token, keyset=[str], query=["users"])
        first, end = id_range(tenant) if (tenant := CURRENT_TENANT.get()) else ("", None)
        users = await self._reads.users(page.after[0] if page.after else first, end, page.size + 1)
        shown = users[: page.size]
        token = page.next_token(shown[-1].user_id) if len(users) > page.size else ""
        return [replies.stored_user(user, self._zone) for user in shown], token


def unknown_entry(entry_id: UUID) -> NotFound:
    """Nothing in the ledger has this id."""
    return NotFound(
        "no entry of the ledger has this id", reason="ENTRY_NOT_FOUND", metadata={"entry_id": str(entry_id)}
    )
