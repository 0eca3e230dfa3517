"""Imports of history (RULES 1.4): for each event now is its occur_time, and maintenance runs for every day that
the watermark passes, so that ten years of history give what ten years of living would have given.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic
from typing import Final

from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2

from services.orchestrator import replies
from services.orchestrator.active_sagas import Answer
from services.orchestrator.config import Settings
from services.orchestrator.domain import Origin, TimeWindow
from services.orchestrator.operation import Asked
from services.orchestrator.operations import metric_event
from services.orchestrator.recording import Incoming
from services.orchestrator.recovery import Maintenance
from services.orchestrator.store.metric_days import MetricDayStore
from services.orchestrator.store.reads import ReadStore
from services.orchestrator.submissions import Submissions
from shared.clock import Clock
from shared.errors import (
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    LaurelError,
    ResourceExhausted,
    Unavailable,
)
from shared.ids import digest
from shared.postgres.pool import Pool
from shared.rpc.convert import digest_of, to_timestamp
from shared.rpc.error_messages import error_message

MAX_BATCH: Final = 1_000
_ONE_DAY: Final = timedelta(days=1)
_ATTEMPTS: Final = 60
_PAUSE_SECONDS: Final = 0.5
_RENEWALS_PER_HOLD: Final = 4
_LOCK_KEY: Final = int.from_bytes(digest("import")[:8], signed=True)

ImportRequest = orchestrator_service_pb2.ImportEventsRequest
ImportResponse = orchestrator_service_pb2.ImportEventsResponse


@dataclass(slots=True)
class _Progress:
    """How far the import of one stream has come."""

    newest: datetime | None = None
    """Events have to come in order: none may be older than this."""
    maintained: date | None = None
    """Maintenance has run at the beginning of this UTC date."""
    held_until: float = 0.0
    """When the hold on wall-clock maintenance has to be renewed, by the monotonic clock."""
    response: ImportResponse = field(default_factory=ImportResponse)
    equal: Counter[bytes] = field(default_factory=Counter)
    """How many lines without a key came so far with each content."""

    def keyed(self, event: event_pb2.IngestEventRequest) -> event_pb2.IngestEventRequest:
        """The event with a key. Where it has none, one from its content and from how many equal lines came before
        it: importing a file again changes nothing (RULES 2.4).
        """
        if event.idempotency_key:
            return event
        content = digest_of(event)
        self.equal[content] += 1
        keyed = event_pb2.IngestEventRequest()
        keyed.CopyFrom(event)
        keyed.idempotency_key = f"import-{content.hex()[:32]}-{self.equal[content]}"
        return keyed


class Importer:
    """Runs imports, one at a time."""

    def __init__(
        self,
        pool: Pool,
        reads: ReadStore,
        metric_days: MetricDayStore,
        submissions: Submissions,
        maintenance: Maintenance,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._pool = pool
        self._reads = reads
        self._metric_days = metric_days
        self._submissions = submissions
        self._maintenance = maintenance
        self._settings = settings
        self._clock = clock
        self._window = TimeWindow(max_age=None, max_ahead=timedelta(seconds=settings.max_event_ahead_seconds))

    async def run(self, requests: AsyncIterator[ImportRequest]) -> AsyncIterator[ImportResponse]:
        """Imports batch after batch; one response each. Raises `FailedPrecondition` while another one runs."""
        async with self._alone():
            # Nothing is told of what is imported. Also where the import ends early.
            await self._metric_days.ask_for_sweep()
            progress = _Progress()
            async for request in requests:
                progress.response = ImportResponse()
                await self._import_batch(request.events, progress)
                if progress.newest is not None:
                    progress.response.watermark_time.CopyFrom(to_timestamp(progress.newest))
                yield progress.response
            if progress.maintained is not None and progress.newest is not None:
                await self._maintain(progress.newest, hold_seconds=0)
            await self._metric_days.ask_for_sweep()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
                raise FailedPrecondition("another import is under way", reason="IMPORT_RUNNING")
            try:
                yield
                # Said by its holder, so that the next import need not wait for the session to end.
                await connection.fetchval("SELECT pg_advisory_unlock($1)", _LOCK_KEY)
            except BaseException:
                # Never back into the pool with the lock: the session ends, and the lock with it.
                connection.terminate()
                raise

    async def _import_batch(
        self, events: Sequence[event_pb2.IngestEventRequest], progress: _Progress
    ) -> None:
        if not 1 <= len(events) <= MAX_BATCH:
            description = f"must have 1 to {MAX_BATCH} events"
            raise InvalidArgument(
                f"events: {description}",
                reason="INVALID_FIELDS",
                violations=(FieldViolation("events", description),),
            )
        incoming = self._checked(events, progress)
        known = await self._reads.known_ids([item.entry_id for _, item in incoming])
        if all(item.entry_id in known for _, item in incoming):
            await self._import_together(incoming, progress)
            return
        for day, group in _by_day(incoming):
            await self._maintain_through(day, progress)
            await self._import_together(group, progress)

    def _checked(
        self, events: Sequence[event_pb2.IngestEventRequest], progress: _Progress
    ) -> list[tuple[int, Incoming]]:
        """The events that can be imported, with their index; errors of the others are noted."""
        checked = []
        for index, event in enumerate(events):
            try:
                asked = Asked(self._clock.now(), self._window, Origin.IMPORT)
                incoming = metric_event.incoming(progress.keyed(event), asked)
                if progress.newest is not None and incoming.occur_time < progress.newest:
                    raise InvalidArgument(
                        "occur_time: is older than that of an event before it",
                        reason="IMPORT_OUT_OF_ORDER",
                        violations=(
                            FieldViolation("occur_time", "is older than that of an event before it"),
                        ),
                    )
            except LaurelError as error:
                _note(progress, index, error)
            else:
                progress.newest = incoming.occur_time
                checked.append((index, incoming))
        return checked

    async def _maintain_through(self, day: date, progress: _Progress) -> None:
        """Runs maintenance at the beginning of every day up to this one."""
        at = day if progress.maintained is None else progress.maintained + _ONE_DAY
        while at <= day:
            await self._maintain(datetime.combine(at, time(), UTC), self._hold_seconds(progress))
            progress.maintained = at
            at += _ONE_DAY

    async def _maintain(self, now: datetime, hold_seconds: int | None) -> None:
        """An import has time: a service that is away is asked again."""
        for _ in range(_ATTEMPTS - 1):
            try:
                await self._maintenance.run(now, hold_seconds, history=True)
            except (Unavailable, ResourceExhausted):
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return
        await self._maintenance.run(now, hold_seconds, history=True)

    def _hold_seconds(self, progress: _Progress) -> int | None:
        """The hold to ask for; None while the last one has long to run, because each costs every service a commit."""
        now = monotonic()
        if now < progress.held_until:
            return None
        progress.held_until = now + self._settings.import_hold_seconds / _RENEWALS_PER_HOLD
        return self._settings.import_hold_seconds

    async def _import_together(self, group: Sequence[tuple[int, Incoming]], progress: _Progress) -> None:
        answers = await asyncio.gather(*(self._import_one(incoming) for _, incoming in group))
        for (index, _), answer in zip(group, answers, strict=True):
            if isinstance(answer, LaurelError):
                _note(progress, index, answer)
            elif answer.replayed:
                progress.response.replayed_count += 1
            else:
                progress.response.imported_count += 1

    async def _import_one(self, incoming: Incoming) -> Answer | LaurelError:
        """An import has time: what is away or busy is asked again."""
        tried_before = False
        for attempt in range(_ATTEMPTS):
            try:
                answer = await self._submissions.submit(incoming)
                return Answer(answer.reply, answer.replayed and not tried_before)
            except (Unavailable, ResourceExhausted) as error:
                tried_before = True
                if attempt + 1 == _ATTEMPTS:
                    return error
            except LaurelError as error:
                return error
            await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns")


def _note(progress: _Progress, index: int, error: LaurelError) -> None:
    progress.response.errors.add(index=index, error=error_message(error, replies.DOMAIN))


def _by_day(incoming: Sequence[tuple[int, Incoming]]) -> list[tuple[date, list[tuple[int, Incoming]]]]:
    days: dict[date, list[tuple[int, Incoming]]] = {}
    for item in incoming:
        days.setdefault(item[1].occur_time.astimezone(UTC).date(), []).append(item)
    return sorted(days.items())
