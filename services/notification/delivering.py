"""Delivering what waits: every replica takes lanes, sends what is in them, and records what came of it.

A lane that is taken has a lease; who dies leaves it to others when that ends. So an event may come twice, and none gets
lost. Each endpoint has workers of its own: one that is slow holds up nobody else.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from random import Random
from time import monotonic
from typing import Final
from uuid import UUID

from services.notification import convert
from services.notification.config import Settings
from services.notification.domain import schedule
from services.notification.domain.endpoints import Endpoint, Outcome, SwitchOff
from services.notification.instrumentation import ATTEMPTS, SWITCHED_OFF
from services.notification.sender import Answer, Sender
from services.notification.store.deliveries import Attempt, DeliveryStore, Done, Lane, Waiting
from services.notification.store.endpoints import EndpointStore
from shared import faults
from shared.clock import Clock
from shared.postgres.errors import log_failure
from shared.postgres.pool import Connection, Pool
from shared.random_ids import new_id
from shared.telemetry import Telemetry

AFTER_ANSWER: Final = faults.declare(
    "notification.deliver.after_answer", "an endpoint has answered, nothing of it is recorded"
)
BEFORE_COMMIT: Final = faults.declare(
    "notification.deliver.before_commit", "answers are recorded, not yet committed"
)
AFTER_COMMIT: Final = faults.declare("notification.deliver.after_commit", "answers are recorded")

_LOGGER: Final = logging.getLogger(__name__)
_SPARE_SHARE: Final = 0.25
"""Of a lease, kept for recording what came of it."""
_RECORDED_AT_ONCE: Final = 256
_MOST_UNRECORDED: Final = 4_096
_RETRY_SECONDS: Final = 0.5
_SUCCESS_NOTED_EVERY: Final = timedelta(seconds=10)
_RECOVERED_AFTER: Final = timedelta(minutes=1)
"""An endpoint that had not answered for so long is down; then everything that waits for it waits for that."""
_RECOVERY_SPREAD_SECONDS: Final = 10.0
_END_SECONDS: Final = 2.0
"""How long what is under way may go on when the process ends."""
_AFTER_DEFECT: Final = timedelta(seconds=1)


class Recorder:
    """Writes down what came of lanes, all that have ended meanwhile in one transaction."""

    def __init__(
        self,
        pool: Pool,
        endpoints: EndpointStore,
        deliveries: DeliveryStore,
        clock: Clock,
        telemetry: Telemetry,
        wake: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._clock = clock
        self._wake = wake
        self._ended: asyncio.Queue[Done] = asyncio.Queue(_MOST_UNRECORDED)
        self._batch: list[Done] = []
        """What is being recorded."""
        self._noted: dict[UUID, datetime] = {}
        self._switched_off = SWITCHED_OFF.counter(telemetry.meter)
        self._attempts = ATTEMPTS.counter(telemetry.meter)

    async def put(self, done: Done) -> None:
        """A lane has ended; waits where far too many have."""
        await self._ended.put(done)

    async def run(self) -> None:
        """Record for ever. What cannot be recorded is tried again."""
        while True:
            if not self._batch:
                self._batch = [await self._ended.get()]
            await self._record_some()
            if self._batch:
                await asyncio.sleep(_RETRY_SECONDS)

    async def flush(self) -> None:
        """Record what is left, for the end of the process."""
        while self._batch or not self._ended.empty():
            await self._record_some()
            if self._batch:
                return  # the database is away: others go on when the leases end

    async def _record_some(self) -> None:
        while len(self._batch) < _RECORDED_AT_ONCE and not self._ended.empty():
            self._batch.append(self._ended.get_nowait())
        if self._batch and await self._recorded(self._batch):
            self._batch = []

    async def _recorded(self, batch: Sequence[Done]) -> bool:
        now = self._clock.now()
        try:
            known = {endpoint.endpoint_id: endpoint for endpoint in (await self._endpoints.current()).all}
            async with self._pool.acquire() as connection, connection.transaction():
                await self._deliveries.record(connection, batch)
                for endpoint_id, attempts in sorted(_by_endpoint(batch).items()):
                    if endpoint_id in known:
                        await self._judge(connection, known[endpoint_id], attempts, now)
                await BEFORE_COMMIT.reach()
        except Exception as error:
            log_failure(_LOGGER, "deliveries cannot be recorded", error, lanes=len(batch))
            return False
        await AFTER_COMMIT.reach()
        for done in batch:
            for attempt in done.attempts:
                outcome = Outcome(attempt.outcome).name.lower()
                self._attempts.add(1, {"endpoint": done.lane.endpoint.key, "outcome": outcome})
        if any(done.due_time <= now for done in batch):
            self._wake()
        return True

    async def _judge(
        self, connection: Connection, endpoint: Endpoint, attempts: Sequence[Attempt], now: datetime
    ) -> None:
        """How an endpoint is doing, by what came of its newest attempts."""
        endpoint_id = endpoint.endpoint_id
        if any(attempt.status_code == 410 for attempt in attempts):
            await self._switch_off(connection, endpoint, SwitchOff.GONE, now)
        elif any(attempt.outcome == Outcome.DELIVERED for attempt in attempts):
            noted = self._noted.get(endpoint_id)
            since = endpoint.failing_since
            if since is not None or noted is None or now - noted >= _SUCCESS_NOTED_EVERY:
                await self._endpoints.succeeded(connection, endpoint_id, now, since is not None)
                self._noted[endpoint_id] = now
            if since is not None and now - since >= _RECOVERED_AFTER:
                await self._deliveries.hurry(connection, endpoint_id, now, _RECOVERY_SPREAD_SECONDS)
        elif endpoint.failing_since is None:
            await self._endpoints.failed(
                connection, endpoint_id, min(attempt.attempt_time for attempt in attempts)
            )
        elif schedule.is_to_be_switched_off(endpoint.failing_since, now):
            await self._switch_off(connection, endpoint, SwitchOff.FAILING, now)

    async def _switch_off(
        self, connection: Connection, endpoint: Endpoint, reason: SwitchOff, now: datetime
    ) -> None:
        """It gets nothing more. The others hear of it, where they want to."""
        if not await self._endpoints.switch_off(connection, endpoint.endpoint_id, reason, now):
            return
        event = convert.switched_off_event(endpoint, reason, now)
        others = [
            listed
            for listed in (await self._endpoints.load(connection)).on
            if listed.endpoint_id != endpoint.endpoint_id and listed.wish.met_by(event)
        ]
        await self._deliveries.add(connection, [(event, others)], now)
        self._switched_off.add(1, {"endpoint": endpoint.key, "reason": reason.name.lower()})
        _LOGGER.error(
            "a webhook endpoint is switched off", extra={"endpoint": endpoint.key, "reason": reason.name}
        )


class _Slots:
    """How many lanes of an endpoint are under way here."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._enough = max(1, most // 2)
        self._taken = 0
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        return self._most - self._taken

    def take(self, count: int) -> None:
        self._taken += count

    def give_back(self) -> None:
        self._taken -= 1
        if self.free >= self._enough:
            self._freed.set()

    async def enough(self) -> None:
        """Waits until it is worth while to take more: half of them."""
        while self.free < self._enough:
            self._freed.clear()
            await self._freed.wait()


class Dispatcher:
    """Takes what is due, for each endpoint as much as it may have under way."""

    def __init__(
        self,
        endpoints: EndpointStore,
        deliveries: DeliveryStore,
        sender: Sender,
        recorder: Recorder,
        settings: Settings,
        clock: Clock,
        rng: Random,
        woken: asyncio.Event,
    ) -> None:
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._sender = sender
        self._recorder = recorder
        self._concurrency = settings.webhook_concurrency
        self._poll_seconds = settings.webhook_poll_seconds
        self._lease = timedelta(seconds=settings.webhook_lease_seconds)
        self._may_begin_seconds = (
            1 - _SPARE_SHARE
        ) * settings.webhook_lease_seconds - settings.webhook_timeout_seconds
        self._clock = clock
        self._rng = rng
        self._woken = woken
        self._on: dict[UUID, Endpoint] = {}
        self._slots: dict[UUID, _Slots] = {}
        self._pumps: dict[UUID, asyncio.Task[None]] = {}
        self._lanes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take what is due until cancelled. What is under way then goes on: see `close`."""
        try:
            while True:
                self._woken.clear()
                try:
                    await self._start_pumps()
                except Exception as error:
                    _tell(error)
                try:
                    async with asyncio.timeout(self._poll_seconds):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            for pump in self._pumps.values():
                pump.cancel()

    async def close(self) -> None:
        """Let what is under way come to its end, for a while; leave the rest to others at once. Record all of it."""
        await asyncio.gather(*self._pumps.values(), return_exceptions=True)
        if self._lanes:
            _, late = await asyncio.wait(self._lanes, timeout=_END_SECONDS)
            for lane in late:
                lane.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._recorder.flush()

    async def _start_pumps(self) -> None:
        self._on = {endpoint.endpoint_id: endpoint for endpoint in (await self._endpoints.current()).on}
        for endpoint_id in [
            entry_id for entry_id in self._slots if entry_id not in self._on and entry_id not in self._pumps
        ]:
            if self._slots[endpoint_id].free == self._concurrency:
                del self._slots[endpoint_id]
        resting = [endpoint_id for endpoint_id in self._on if endpoint_id not in self._pumps]
        for endpoint_id in await self._deliveries.due(resting, self._clock.now()) if resting else ():
            pump = asyncio.create_task(self._pump(endpoint_id))
            self._pumps[endpoint_id] = pump
            pump.add_done_callback(partial(self._pump_ended, endpoint_id))

    def _pump_ended(self, endpoint_id: UUID, task: asyncio.Task[None]) -> None:
        del self._pumps[endpoint_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _tell(error)

    async def _pump(self, endpoint_id: UUID) -> None:
        """Take lanes as long as any is due and the endpoint is on."""
        slots = self._slots.setdefault(endpoint_id, _Slots(self._concurrency))
        while True:
            await slots.enough()
            endpoint = self._on.get(endpoint_id)
            if endpoint is None:
                return
            free = slots.free
            now = self._clock.now()
            lanes = await self._deliveries.claim(endpoint, free, now, now + self._lease, new_id())
            slots.take(len(lanes))
            for lane in lanes:
                task = asyncio.create_task(self._work(lane, slots))
                self._lanes.add(task)
                task.add_done_callback(self._lanes.discard)
            if len(lanes) < free:
                return

    async def _work(self, lane: Lane, slots: _Slots) -> None:
        try:
            done = await self._deliver(lane)
        except BaseException:
            # Cut, or a defect: nothing is known of it, and another may take it.
            done = Done(lane, [], [], [], self._clock.now() + _AFTER_DEFECT)
            raise
        finally:
            slots.give_back()
            await self._recorder.put(done)

    async def _deliver(self, lane: Lane) -> Done:
        """Send what waits in a lane, one after the other, until one fails or the lease might end."""
        endpoint = lane.endpoint
        attempts: list[Attempt] = []
        removed = list(lane.lost)
        last_begin = monotonic() + self._may_begin_seconds
        for waiting in lane.waiting:
            if attempts and monotonic() >= last_begin:
                break
            began = self._clock.now()
            secrets = endpoint.live_secrets(began)
            answer = await self._sender.send(
                endpoint.url, str(waiting.event_id), waiting.body, secrets, began
            )
            await AFTER_ANSWER.reach()
            first, retry = self._verdict(waiting, answer, began)
            attempts.append(_attempt(endpoint, waiting, answer, began, retry))
            if answer.is_accepted or (retry is None and not answer.is_gone):
                removed.append(waiting.message_id)
                continue
            failed = (waiting.message_id, waiting.attempt_count + 1, first)
            return Done(lane, attempts, removed, [failed], retry or self._clock.now())
        return Done(lane, attempts, removed, [], self._clock.now())

    def _verdict(self, waiting: Waiting, answer: Answer, began: datetime) -> tuple[datetime, datetime | None]:
        """When the first attempt was, and when the next one is, if this one failed and there is to be one."""
        first = waiting.first_attempt_time or began
        now = self._clock.now()
        chance = self._rng.random()
        return first, schedule.next_attempt(
            waiting.attempt_count + 1, first, now, chance=chance, asked=answer.asked
        )


def _tell(error: BaseException) -> None:
    if isinstance(error, Exception):
        log_failure(_LOGGER, "deliveries cannot be taken", error)


def _attempt(
    endpoint: Endpoint, waiting: Waiting, answer: Answer, began: datetime, retry: datetime | None
) -> Attempt:
    outcome = Outcome.DELIVERED if answer.is_accepted else Outcome.FAILED if retry else Outcome.GIVEN_UP
    return Attempt(
        endpoint_id=endpoint.endpoint_id,
        event_id=waiting.event_id,
        type=waiting.type,
        number=waiting.attempt_count + 1,
        attempt_time=began,
        latency_micros=answer.latency_micros,
        outcome=outcome.value,
        status_code=answer.status_code,
        detail="" if answer.is_accepted else answer.detail,
    )


def _by_endpoint(batch: Iterable[Done]) -> dict[UUID, list[Attempt]]:
    found: dict[UUID, list[Attempt]] = {}
    for done in batch:
        if done.attempts:
            found.setdefault(done.lane.endpoint.endpoint_id, []).extend(done.attempts)
    return found
