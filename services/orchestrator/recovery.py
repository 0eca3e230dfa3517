"""What runs beside the calls: the lease of this replica, the sagas that nobody drives, the change feeds."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from laurel.participant.v1 import participant_service_pb2 as pb
from msgspec import Struct

from services.orchestrator.active_sagas import ActiveSaga, resumed
from services.orchestrator.config import Settings
from services.orchestrator.domain_events import told_of_finding
from services.orchestrator.intake import Intake
from services.orchestrator.operations import incoming_change
from services.orchestrator.participants import Participants
from services.orchestrator.recording import Incoming
from services.orchestrator.runner import Runner
from services.orchestrator.saga import Step
from services.orchestrator.store.ledger import Feed, LedgerStore
from services.orchestrator.store.sagas import SagaStore
from shared.errors import LaurelError
from shared.postgres.errors import is_conflict, translate
from shared.rpc.convert import to_timestamp

_LOGGER: Final = logging.getLogger(__name__)
_FEED_PAGE_SIZE: Final = 500
_ROUNDS_APART_SECONDS: Final = 120.0
"""Whoever has begun no round for so long is not the one who follows."""
_HEARTBEATS_PER_LEASE: Final = 4


class Lease:
    """Says that this replica is alive, and gives the lease up when it stops."""

    def __init__(self, sagas: SagaStore, settings: Settings) -> None:
        self._sagas = sagas
        self._settings = settings

    async def run(self) -> None:
        """Renews the lease, for ever."""
        while True:
            try:
                await self._sagas.heartbeat(self._settings.lease_seconds)
            except Exception as error:
                if translate(error) is None:
                    raise
                _LOGGER.warning("the lease could not be renewed", extra={"cause": str(error)})
            await asyncio.sleep(self._settings.lease_seconds / _HEARTBEATS_PER_LEASE)

    async def release(self) -> None:
        """Lets others take over at once."""
        await self._sagas.release()


class Recovery:
    """Goes on with sagas that were left: by a group that gave up, by a crash, by a replica that died (RULES 7.6)."""

    def __init__(self, sagas: SagaStore, runner: Runner, settings: Settings) -> None:
        self._sagas = sagas
        self._runner = runner
        self._settings = settings

    async def run(self) -> None:
        """Looks for such sagas, for ever."""
        while True:
            try:
                recovered = await self.recover()
            except Exception as error:
                if translate(error) is None:
                    raise
                recovered = 0
            if recovered < self._settings.max_group_size:
                await asyncio.sleep(self._settings.recovery_interval_seconds)

    async def recover(self) -> int:
        """Takes one batch of due sagas and drives it as far as it goes; returns how many there were."""
        claimed = await self._sagas.claim(self._runner.in_hand, self._settings.max_group_size)
        # What was recorded here while the claim was under way is in hand by now.
        stored = [saga for saga in claimed if saga.entry_id not in self._runner.in_hand]
        if stored:
            _LOGGER.info("going on with sagas", extra={"sagas": len(stored)})
            await self._runner.finish([resumed(saga) for saga in stored])
        return len(stored)


class Passed(Struct, frozen=True):
    """What a pass of maintenance did."""

    done: Mapping[Step, int]
    """Things that each service brought up to date."""
    followed: int
    """Entries that followed."""


class Maintenance:
    """Time-driven work of all services at a given instant, and the changes that follow from it (RULES 1.2)."""

    def __init__(
        self,
        ledger: LedgerStore,
        intake: Intake,
        runner: Runner,
        participants: Participants,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._intake = intake
        self._runner = runner
        self._participants = participants
        self._monotonic = monotonic
        self._failing_since: dict[Step, float] = {}
        self._last_round = 0.0

    def failing_seconds(self) -> Mapping[Step, float]:
        """For how long each feed could not be followed by this replica; 0 where it could, or where another follows."""
        now = self._monotonic()
        is_mine = now - self._last_round < _ROUNDS_APART_SECONDS
        return {step: now - self._failing_since.get(step, now) if is_mine else 0.0 for step in Step}

    async def run(self, now: datetime, hold_seconds: int | None = None, *, history: bool = False) -> Passed:
        """Runs every service's maintenance in the order of the steps; what one finds is followed before the next.

        `hold_seconds` keeps the services' own wall-clock maintenance off; `history`: nothing is told of what is found.
        """
        done = {}
        followed = 0
        for step in Step:
            done[step] = await self._pass(step, now, hold_seconds, history)
            # A pass before this one may have died over what it found. Of history there are too many to ask again.
            if done[step] or not history:
                followed += await self.follow(step)
        return Passed(done, followed)

    async def follow(self, step: Step) -> int:
        """Turns what a service changed by itself into ledger entries and drives them; returns how many."""
        followed = 0
        while True:
            cursor = await self._ledger.cursor(step)
            request = pb.ListChangesRequest(after_cursor=cursor, page_size=_FEED_PAGE_SIZE)
            response = await self._participants.list_changes(step, request)
            if not response.changes:
                if response.more:
                    continue  # the service has waited for it already
                return followed
            told = [(change, told_of_finding(change)) for change in response.changes]
            changes = [incoming_change(change) for change, found in told if found is None]
            findings = [(UUID(change.entry_id), found) for change, found in told if found is not None]
            try:
                feed = Feed(step, cursor, response.cursor, findings)
                sagas = await self._record(changes, feed)
            except asyncpg.PostgresError as error:
                if not is_conflict(error):
                    raise
                continue  # another replica followed it meanwhile, or a user moved
            await self._runner.finish(sagas)
            followed += len(sagas) + len(findings)
            if response.complete and not any(step in active.saga.steps for active in sagas):
                return followed  # nor has what was followed made the service find anything

    async def _record(self, changes: Sequence[Incoming], feed: Feed) -> list[ActiveSaga]:
        try:
            return await self._intake.record_changes(changes, feed)
        except asyncpg.UniqueViolationError:
            # A service that was put back to an earlier time finds again what it had found.
            known = await self._ledger.known(changes)
            fresh = [change for change in changes if change.entry_id not in known]
            return await self._intake.record_changes(fresh, feed)

    async def follow_all(self) -> None:
        """One round over all feeds; the leader's loop calls it again and again."""
        self._last_round = self._monotonic()
        for step in Step:
            try:
                await self.follow(step)
                self._failing_since.pop(step, None)
            except LaurelError as error:
                self._failing_since.setdefault(step, self._monotonic())
                _LOGGER.info(
                    "a change feed cannot be followed now", extra={"service": step.value, "cause": str(error)}
                )

    async def _pass(self, step: Step, now: datetime, hold_seconds: int | None, history: bool) -> int:
        """Everything that is due in one service, part by part: no call outlasts its deadline."""
        done = 0
        while True:
            request = pb.RunMaintenanceRequest(
                now=to_timestamp(now), hold_seconds=hold_seconds, history=history
            )
            part = await self._participants.run_maintenance(step, request)
            done += part.done_count
            if not part.more:
                return done
