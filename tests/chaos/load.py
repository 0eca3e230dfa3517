"""Callers in a storm: many at once, with duplicates of every kind, who remember every answer they got."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from shared.errors import LaurelError
from shared.ids import sha256
from shared.rpc.error_messages import error_from_message
from tests.fixtures.clients import CALL_TIMEOUT_SECONDS, ingest, persist, void
from tests.fixtures.system import System, event

EVENTS_PER_USER: Final = 100
"""On average, in the days that the storm covers: a very active user."""
HOT_USERS: Final = 8
"""They get a tenth of all events, so that events of one user are always under way side by side."""
ZONES: Final = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Europe/Berlin")
REGIONS: Final = ("north", "south", "east")
DAY: Final = 86_400.0
DAYS_BACK: Final = 4
BATCH: Final = 20

Answer = event_pb2.IngestEventResponse | LaurelError


@dataclass
class Load:
    """What was sent and what was answered."""

    system: System
    rng: random.Random
    now: float
    wanted: int
    voids: float = 0.1
    """The share of events that are voided after they were answered."""
    answers: dict[str, tuple[event_pb2.IngestEventRequest, Answer]] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds that the caller of an event waited at most for its answer, however often it asked."""
    users: int = field(init=False)
    _sent: int = 0
    _to_void: list[str] = field(default_factory=list)
    """Entries that are to be voided, and have not been."""

    def __post_init__(self) -> None:
        self.users = max(HOT_USERS, self.wanted // EVENTS_PER_USER)

    @property
    def done(self) -> bool:
        """Whether everything has been sent."""
        return self._sent >= self.wanted

    async def run(self, callers: int) -> None:
        """Sends until enough events have been answered."""
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._caller())

    async def _caller(self) -> None:
        while not self.done:
            kind = self.rng.choices(
                (
                    self._one,
                    self._batch,
                    self._again,
                    self._twins,
                    self._other_payload,
                    self._void_again,
                    self._late,
                ),
                (40, 6, 8, 6, 3, 1, 3),
            )[0]
            await kind()
            # Between an event and its void other events of the user come, or not.
            while self._to_void and (self.done or self.rng.random() < 0.5):
                await self._void(self._to_void.pop(self.rng.randrange(len(self._to_void))))

    def _new(self) -> event_pb2.IngestEventRequest:
        self._sent += 1
        hot = self.rng.random() < 0.1
        number = self.rng.randrange(HOT_USERS if hot else self.users)
        purchase = self.rng.random() < 0.25
        return event(
            f"user-{number}",
            f"key-{self._sent}",
            metric="purchases" if purchase else "steps",
            value=self.rng.choice((1, 1, 2, 3)),
            zone=ZONES[number % len(ZONES)],
            at=self.now - self.rng.random() * DAYS_BACK * DAY,
            region=REGIONS[number % len(REGIONS)],
        )

    async def _one(self) -> None:
        request = self._new()
        began = time.monotonic()
        answer = await ingest(self.system, request)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self._note("events", request, answer)

    async def _batch(self) -> None:
        requests = [self._new() for _ in range(BATCH)]

        async def call() -> orchestrator_service_pb2.IngestEventsResponse:
            return await self.system.orchestrator.IngestEvents(
                orchestrator_service_pb2.IngestEventsRequest(events=requests), timeout=CALL_TIMEOUT_SECONDS
            )

        response = await persist(call, self.system.retried)
        assert isinstance(response, orchestrator_service_pb2.IngestEventsResponse), response
        for request, result in zip(requests, response.results, strict=True):
            answer: Answer = result.event
            if result.WhichOneof("result") == "error":
                answer = error_from_message(result.error)
                if answer.code.name in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED"):
                    answer = await ingest(self.system, request)
            if isinstance(answer, event_pb2.IngestEventResponse):
                answer.idempotent_replayed = False
            self._note("events in batches", request, answer)

    async def _again(self) -> None:
        if self.answers:
            request, _ = self._any()
            self._note("duplicates", request, await ingest(self.system, request))

    async def _twins(self) -> None:
        request = self._new()
        answers = await asyncio.gather(*(ingest(self.system, request) for _ in range(3)))
        for answer in answers:
            self._note("concurrent duplicates", request, answer)

    async def _other_payload(self) -> None:
        if not self.answers:
            return
        request, _ = self._any()
        other = event_pb2.IngestEventRequest()
        other.CopyFrom(request)
        other.value += 1
        answer = await ingest(self.system, other)
        self.counts["mismatching duplicates"] += 1
        if not isinstance(answer, LaurelError) or answer.reason != "IDEMPOTENCY_KEY_REUSED":
            self.wrong.append(f"{request.idempotency_key} with another payload was answered {answer}")

    async def _void_again(self) -> None:
        if self.voided:
            await self._void(self.rng.choice(sorted(self.voided)))

    async def _void(self, entry_id: str) -> None:
        self.voided.add(entry_id)
        undone = await void(self.system, entry_id)
        self.counts["voids"] += 1
        if isinstance(undone, LaurelError):
            self.wrong.append(f"void of {entry_id} was answered {undone}")

    async def _late(self) -> None:
        """A delivery of an orchestrator that was thought dead arrives at a participant long after."""
        if not self.answers:
            return
        request, answer = self._any()
        if isinstance(answer, LaurelError):
            return
        try:
            row = await self.system.entry(answer.entry_id)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return  # PostgreSQL is being restarted: nothing to deliver
        self.counts["late deliveries"] += 1

        async def call() -> participant_pb.ApplyEntriesResponse:
            command = participant_pb.Command(entry=row, digest=sha256(row.SerializeToString()))
            return await self.system.participants["streak"].ApplyEntries(
                participant_pb.ApplyEntriesRequest(commands=[command]), timeout=CALL_TIMEOUT_SECONDS
            )

        response = await persist(call, self.system.retried)
        assert isinstance(response, participant_pb.ApplyEntriesResponse), response
        (outcome,) = response.outcomes
        replayed = [effect.state for effect in outcome.effects.streaks]
        told = [result.state for result in answer.effects.streaks]
        if replayed != told and outcome.error.reason != "ENTRY_REVERTED":
            self.wrong.append(f"a late {request.idempotency_key} was answered {outcome}")

    def _any(self) -> tuple[event_pb2.IngestEventRequest, Answer]:
        return self.answers[self.rng.choice(list(self.answers))]

    def _note(self, kind: str, request: event_pb2.IngestEventRequest, answer: Answer) -> None:
        self.counts[kind] += 1
        known = len(self.answers)
        _, first = self.answers.setdefault(request.idempotency_key, (request, answer))
        is_new = len(self.answers) > known
        if is_new and isinstance(answer, event_pb2.IngestEventResponse) and self.rng.random() < self.voids:
            self._to_void.append(answer.entry_id)
        if _shown(first) != _shown(answer):
            self.wrong.append(
                f"{request.idempotency_key} was answered {_shown(first)}, then {_shown(answer)}"
            )


def _shown(answer: Answer) -> object:
    if isinstance(answer, LaurelError):
        return (answer.reason, dict(answer.metadata))
    return answer.SerializeToString(deterministic=True)
