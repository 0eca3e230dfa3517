"""What runs beside the calls: the lease of this replica, the sagas that nobody drives, the change feeds."""

import asyncio
import logging
from datetime import datetime
from typing import Final

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from laurel.achievement.v1 import achievement_service_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from services.orchestrator import convert
from services.orchestrator.config import Settings
from services.orchestrator.door import Door
from services.orchestrator.participants import Participants, gather_all
from services.orchestrator.runner import Runner
from services.orchestrator.store.ledger import Feed, LedgerStore
from services.orchestrator.store.sagas import SagaStore
from services.orchestrator.tickets import resumed_ticket
from shared.errors import LaurelError
from shared.postgres.errors import is_conflict, translate
from shared.rpc.channel import call
from shared.rpc.convert import to_timestamp

_LOGGER: Final = logging.getLogger(__name__)
_STREAK_FEED: Final = "streak"
_FEED_PAGE_SIZE: Final = 500
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
        stored = [one for one in claimed if one.entry_id not in self._runner.in_hand]
        if stored:
            _LOGGER.info("going on with sagas", extra={"sagas": len(stored)})
            await self._runner.finish([resumed_ticket(one) for one in stored])
        return len(stored)


class Maintenance:
    """Time-driven work of all services at a given instant, and the changes that follow from it (RULES 1.2)."""

    def __init__(
        self,
        ledger: LedgerStore,
        door: Door,
        runner: Runner,
        participants: Participants,
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._door = door
        self._runner = runner
        self._participants = participants
        self._timeout_seconds = settings.participant_timeout_seconds

    async def run(self, now: datetime, hold_seconds: int | None = None) -> tuple[int, int, int]:
        """Runs every service's maintenance; what streaks find is followed before boards are archived.

        Returns (streaks closed, runs archived, changes followed). `hold_seconds` keeps the services' own
        wall-clock maintenance off.
        """
        at = to_timestamp(now)
        closed = await self._streak(at, hold_seconds)
        followed = await self.follow() if closed else 0
        finalized, *_ = await gather_all(
            self._leaderboard(at, hold_seconds),
            self._achievement(at, hold_seconds),
            self._points(at, hold_seconds),
        )
        return closed, finalized, followed

    async def follow(self) -> int:
        """Turns what streak maintenance found into ledger entries and drives them; returns how many."""
        followed = 0
        while True:
            cursor = await self._ledger.cursor(_STREAK_FEED)
            response = await call(
                self._participants.streak.ListChanges,
                streak_service_pb2.ListChangesRequest(after_sequence=cursor, page_size=_FEED_PAGE_SIZE),
                timeout_seconds=self._timeout_seconds,
            )
            if not response.changes:
                return followed
            feed = Feed(_STREAK_FEED, cursor, response.changes[-1].sequence)
            try:
                tickets = await self._door.record_changes(
                    [convert.incoming_closing(change) for change in response.changes], feed
                )
            except asyncpg.PostgresError as error:
                if not is_conflict(error):
                    raise
                continue  # another replica followed it meanwhile, or a user moved
            await self._runner.finish(tickets)
            followed += len(tickets)

    async def follow_forever(self) -> None:
        """One round of the follower; the leader's loop calls it again and again."""
        try:
            await self.follow()
        except LaurelError as error:
            _LOGGER.info("the change feed cannot be followed now", extra={"cause": str(error)})

    async def _streak(self, now: Timestamp, hold_seconds: int | None) -> int:
        request = streak_service_pb2.RunMaintenanceRequest(now=now, hold_seconds=hold_seconds)
        stub = self._participants.streak.RunMaintenance
        return (await call(stub, request, timeout_seconds=self._timeout_seconds)).closed_count

    async def _achievement(self, now: Timestamp, hold_seconds: int | None) -> None:
        request = achievement_service_pb2.RunMaintenanceRequest(now=now, hold_seconds=hold_seconds)
        await call(
            self._participants.achievement.RunMaintenance, request, timeout_seconds=self._timeout_seconds
        )

    async def _points(self, now: Timestamp, hold_seconds: int | None) -> None:
        request = points_service_pb2.RunMaintenanceRequest(now=now, hold_seconds=hold_seconds)
        await call(self._participants.points.RunMaintenance, request, timeout_seconds=self._timeout_seconds)

    async def _leaderboard(self, now: Timestamp, hold_seconds: int | None) -> int:
        request = leaderboard_service_pb2.RunMaintenanceRequest(now=now, hold_seconds=hold_seconds)
        stub = self._participants.leaderboard.RunMaintenance
        return (await call(stub, request, timeout_seconds=self._timeout_seconds)).finalized_count
