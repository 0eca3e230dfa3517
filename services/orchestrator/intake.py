"""The intake: arriving entries wait while groups are under way, then travel together (DESIGN 2).

No wait is ever added: a lone event travels alone and at once. A full queue refuses at once. Who travels with whom is
decided in `group_queue`.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
from laurel.ledger.v1 import entry_pb2
from msgspec.structs import replace
from opentelemetry import trace

from services.orchestrator import moving, operations, replies
from services.orchestrator.active_sagas import ActiveSaga, Answer, StillRunning, coming, refuse, started
from services.orchestrator.config import Settings
from services.orchestrator.domain import Metric
from services.orchestrator.group_queue import GroupLimits, GroupQueue
from services.orchestrator.instrumentation import Instrumentation
from services.orchestrator.participants import Participants
from services.orchestrator.recording import MERGED, Incoming, Outcome, Recorded, record, unique_value
from services.orchestrator.runner import Runner
from services.orchestrator.saga import State
from services.orchestrator.store.ledger import Feed, Known, LedgerStore, Snapshot
from shared import faults
from shared.errors import AlreadyExists, LaurelError, ResourceExhausted, Unavailable
from shared.postgres.definitions import Catalogue
from shared.postgres.errors import is_conflict, translate

_LOGGER: Final = logging.getLogger(__name__)
_RECORD_ATTEMPTS: Final = 50
"""Each failed attempt means that another replica recorded something for one of the users: work was done."""

_OF_WHO_GOES: Final = ("USER_ERASING", "USER_NOT_FOUND", MERGED)
"""Why that is refused which may have been recorded before."""

BEFORE_RECORD: Final = faults.declare(
    "orchestrator.record.before_commit", "a group is decided, nothing is stored"
)
AFTER_RECORD: Final = faults.declare(
    "orchestrator.record.after_commit", "a group is recorded, nobody has been called"
)

Metrics = Mapping[str, Metric]

_Stored = tuple[Recorded, entry_pb2.Entry, bytes]
"""A recorded entry, what participants are told of it, and that as it is stored."""


@dataclass(slots=True)
class _Waiting:
    incoming: Incoming
    answer: "asyncio.Future[Answer]"
    link: trace.Link | None


class Intake:
    """Takes entries in, groups them, records them and hands them to the runner."""

    def __init__(
        self,
        ledger: LedgerStore,
        runner: Runner,
        participants: Participants,
        catalogue: Catalogue[Metrics],
        settings: Settings,
        instruments: Instrumentation,
    ) -> None:
        self._instruments = instruments
        self._ledger = ledger
        self._runner = runner
        self._participants = participants
        self._catalogue = catalogue
        self._settings = settings
        limits = GroupLimits(
            largest=settings.max_group_size,
            in_flight=settings.max_groups_in_flight,
            least_beside_others=settings.min_overlapping_group_size,
            ample=settings.ample_group_size,
        )
        self._queue: GroupQueue[_Waiting] = GroupQueue(limits, _users_of)
        self._changed = asyncio.Event()
        """Somebody has arrived, or a group is through: another one may be able to leave."""

    def submit(self, incoming: Incoming) -> "asyncio.Future[Answer]":
        """The coming answer to an entry: `Answer`, a `LaurelError`, or `StillRunning`.

        Raises `ResourceExhausted` when too many wait and `Unavailable` when a participant is known to be away.
        """
        if len(self._queue) >= self._settings.max_queued_events:
            raise ResourceExhausted(
                f"{self._settings.max_queued_events} events are waiting already",
                reason="OVERLOADED",
                retry_after_seconds=0.2,
            )
        away = self._participants.away()
        if away is not None:
            raise Unavailable(
                f"the {away.value} service is away; ask again with the same key",
                reason="DEPENDENCY_UNAVAILABLE",
                metadata={"service": away.value},
                retry_after_seconds=self._settings.breaker_seconds,
            )
        answer = coming()
        self._queue.add(_Waiting(incoming, answer, self._instruments.arrived(len(self._queue) + 1)))
        self._changed.set()
        return answer

    async def run(self) -> None:
        """Lets group after group leave, for ever; as many side by side as may be in flight."""
        async with asyncio.TaskGroup() as groups:
            while True:
                await self._changed.wait()
                self._changed.clear()
                while group := self._queue.next_group():
                    groups.create_task(self._travel(group))

    async def record_changes(self, changes: Sequence[Incoming], feed: Feed) -> list[ActiveSaga]:
        """Records entries that follow from a change feed, together with the step of its cursor.

        Raises asyncpg.SerializationError when another replica followed the feed meanwhile.
        """
        with self._runner.expecting([change.entry_id for change in changes]):
            recorded = await self._decide_and_store(changes, feed)
            sagas = [_active(item, coming()) for item in recorded if not isinstance(item, LaurelError)]
            self._runner.take(sagas)
        return sagas

    async def _travel(self, group: Sequence[_Waiting]) -> None:
        try:
            with trace.use_span(
                self._instruments.group([waiting.link for waiting in group]), end_on_exit=True
            ):
                await self._admit(group)
        finally:
            self._queue.back(group)
            self._changed.set()

    async def _admit(self, group: Sequence[_Waiting]) -> None:
        """Takes one group through. Whatever happens, everybody who waits gets an answer."""
        try:
            distinct, others = _distinct(group)
            with self._runner.expecting([waiting.incoming.entry_id for waiting in group]):
                sagas = await self._record(distinct)
                self._runner.take(sagas)
            if others:
                self._ask_again(await self._answer_known(others))
            if sagas:
                await self._runner.forward(sagas)
        except Exception as failure:
            error = translate(failure) if not isinstance(failure, LaurelError) else failure
            if error is None:
                _LOGGER.exception("a group could not be recorded", extra={"events": len(group)})
                error = Unavailable("the events could not be recorded", reason="DEPENDENCY_UNAVAILABLE")
            for waiting in group:
                _fail(waiting, error)

    async def _record(self, group: Sequence[_Waiting]) -> list[ActiveSaga]:
        """Records a group; answers those that need no saga, and connects the others with their sagas."""
        for _ in range(_RECORD_ATTEMPTS):
            try:
                recorded = await self._decide_and_store([waiting.incoming for waiting in group])
            except asyncpg.UniqueViolationError:
                group = await self._answer_known(group)
                if not group:
                    return []
                continue
            except asyncpg.PostgresError as error:
                if not is_conflict(error):
                    raise
                continue
            return self._start(*await self._without_replayed(group, recorded))
        raise Unavailable("too many replicas record events of these users", reason="CONTENTION")

    async def _without_replayed(
        self, group: Sequence[_Waiting], recorded: Sequence[_Stored | LaurelError]
    ) -> tuple[Sequence[_Waiting], Sequence[_Stored | LaurelError]]:
        """Those that are not answered yet. Nothing is recorded for or with who is being deleted, gone or merged, but
        what was keeps its answer, the deletion or merge itself above all.
        """
        closed = [
            waiting
            for waiting, item in zip(group, recorded, strict=True)
            if isinstance(item, LaurelError) and item.reason in _OF_WHO_GOES
        ]
        if not closed:
            return group, recorded
        fresh = set(map(id, await self._answer_known(closed)))
        answered = {id(waiting) for waiting in closed} - fresh
        left = [
            (waiting, item)
            for waiting, item in zip(group, recorded, strict=True)
            if id(waiting) not in answered
        ]
        return [waiting for waiting, _ in left], [item for _, item in left]

    async def _decide_and_store(
        self, group: Sequence[Incoming], feed: Feed | None = None
    ) -> list[_Stored | LaurelError]:
        zone = self._settings.default_time_zone
        snapshot, outcome = await self._decide(group, zone)
        if snapshot.is_guess and any(isinstance(item, LaurelError) for item in outcome.entries):
            # Storing checks a guess, but nothing checks a refusal.
            self._ledger.forget(group)
            snapshot, outcome = await self._decide(group, zone)
        if feed is not None and (led := moving.found_of(group, outcome.entries)):
            return await self._decide_and_store(led, feed)
        entries = [item if isinstance(item, LaurelError) else _told(item, zone) for item in outcome.entries]
        recorded = [(item[0], item[2]) for item in entries if not isinstance(item, LaurelError)]
        if recorded or feed is not None:
            await BEFORE_RECORD.reach()
            await self._ledger.store(recorded, outcome, snapshot, self._settings.instance, feed)
            await AFTER_RECORD.reach()
        return entries

    async def _decide(self, group: Sequence[Incoming], zone: str) -> tuple[Snapshot, Outcome]:
        snapshot = await self._ledger.load(group)
        metrics = await self._catalogue.at(snapshot.configuration)
        values = [
            (item.patch.user_id, item.event.metric, value)
            for item in group
            if item.event is not None and (value := unique_value(item.event, metrics.get(item.event.metric)))
        ]
        loaded = replace(snapshot.loaded, firsts=await self._ledger.firsts(values))
        outcome = record(group, loaded, metrics, zone, self._settings.control_group_ratio)
        while outcome.wanted:
            loaded = await self._ledger.with_history(loaded, outcome.wanted)
            outcome = record(group, loaded, metrics, zone, self._settings.control_group_ratio)
        return snapshot, outcome

    def _start(
        self, group: Sequence[_Waiting], recorded: Sequence[_Stored | LaurelError]
    ) -> list[ActiveSaga]:
        sagas = []
        for waiting, item in zip(group, recorded, strict=True):
            if isinstance(item, LaurelError):
                _fail(waiting, item)
                continue
            sagas.append(_active(item, waiting.answer))
        return sagas

    async def _answer_known(self, group: Sequence[_Waiting]) -> list[_Waiting]:
        """Answers those whose entry has been recorded before (RULES 2.4); returns the others."""
        known = await self._ledger.known([waiting.incoming for waiting in group])
        fresh = []
        for waiting in group:
            identity = waiting.incoming.identity
            if identity not in known:
                fresh.append(waiting)
            elif (entry := known[identity]) is None:
                _fail(waiting, replies.reply_expired())
            elif entry.digest != waiting.incoming.digest:
                _fail(waiting, _reused(waiting.incoming, entry))
            else:
                self._replay(waiting, entry)
        return fresh

    def _ask_again(self, waiting: Sequence[_Waiting]) -> None:
        """Back to the front of the queue: the first one under their key was refused and is not in the ledger."""
        self._queue.put_back(waiting)

    def _replay(self, waiting: _Waiting, entry: Known) -> None:
        under_way = self._runner.answer_of(entry.entry_id)
        if entry.state is None:
            _fail(waiting, replies.reply_expired())
        elif entry.state is State.REJECTED and entry.rejection is not None:
            _fail(waiting, replies.rejection_from_bytes(entry.rejection))
        elif entry.reply is not None:
            if not waiting.answer.done():
                waiting.answer.set_result(Answer(entry.reply, replayed=True))
        elif under_way is not None:
            _follow(under_way, waiting)
        else:
            _fail(waiting, StillRunning(entry.entry_id))


def _users_of(waiting: _Waiting) -> Sequence[str]:
    return waiting.incoming.user_ids


def _distinct(group: Sequence[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """One of each entry, and those that say something else under its key: the ledger decides between them.

    Another with the same payload gets the same answer.
    """
    first: dict[UUID, _Waiting] = {}
    others = []
    for waiting in group:
        twin = first.setdefault(waiting.incoming.identity, waiting)
        if twin is waiting:
            continue
        if twin.incoming.digest == waiting.incoming.digest:
            _follow(twin.answer, waiting)
        else:
            others.append(waiting)
    return list(first.values()), others


def _follow(source: "asyncio.Future[Answer]", waiting: _Waiting) -> None:
    """Gives the answer of the same entry on when it comes."""

    def give(done: "asyncio.Future[Answer]") -> None:
        if waiting.answer.done():
            return
        if done.cancelled():
            waiting.answer.cancel()
        elif (error := done.exception()) is not None:
            refuse(waiting.answer, error)
        else:
            waiting.answer.set_result(Answer(done.result().reply, replayed=True))

    source.add_done_callback(give)


def _fail(waiting: _Waiting, error: LaurelError | StillRunning) -> None:
    if not waiting.answer.done():
        refuse(waiting.answer, error)


def _told(recorded: Recorded, default_zone: str) -> _Stored:
    entry = operations.recorded_entry(recorded, default_zone)
    return recorded, entry, entry.SerializeToString()


def _active(item: _Stored, answer: "asyncio.Future[Answer]") -> ActiveSaga:
    recorded, entry, stored = item
    incoming = recorded.incoming
    return started(incoming.entry_id, operations.OPERATIONS[incoming.operation], entry, stored, answer)


def _reused(incoming: Incoming, entry: Known) -> AlreadyExists:
    event = incoming.event is not None
    return AlreadyExists(
        "the idempotency key was used before with another payload"
        if event
        else "the request id was used before with other content",
        reason="IDEMPOTENCY_KEY_REUSED" if event else "REQUEST_ID_REUSED",
        metadata={"entry_id": str(entry.entry_id)},
    )
