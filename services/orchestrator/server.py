"""Composition root of the orchestrator."""

import asyncio
import random
from collections.abc import Sequence

from laurel.orchestrator.v1 import (
    access_service_pb2,
    access_service_pb2_grpc,
    orchestrator_service_pb2,
    orchestrator_service_pb2_grpc,
)

from services.orchestrator.access_servicer import AccessServicer
from services.orchestrator.active_sagas import ActiveSaga, Answer
from services.orchestrator.backfills import Backfills
from services.orchestrator.config import MIGRATIONS, NAME, Settings
from services.orchestrator.configuration.amnesties import AmnestyHandlers
from services.orchestrator.configuration.configurator import Configurator
from services.orchestrator.configuration.handlers import DefinitionHandlers
from services.orchestrator.configuration.owners import Owner, RemoteOwner
from services.orchestrator.configuration.store import METRIC_IN_USE
from services.orchestrator.definitions import KINDS, METRIC, catalogue_of
from services.orchestrator.erasing import Erasing
from services.orchestrator.exporting import Exporter
from services.orchestrator.followers import Followers
from services.orchestrator.handlers import EntryHandlers, ReadHandlers, UndoHandlers
from services.orchestrator.healing import Doctor
from services.orchestrator.importing import Importer
from services.orchestrator.instrumentation import Instrumentation
from services.orchestrator.intake import Intake
from services.orchestrator.keys import KeyHandlers
from services.orchestrator.merging import Merging
from services.orchestrator.metric_reads import MetricHandlers
from services.orchestrator.operations import COUNTED, OPERATIONS
from services.orchestrator.participants import Breaker, Participants
from services.orchestrator.points_reads import PointsHandlers
from services.orchestrator.recording import Incoming
from services.orchestrator.recovery import Lease, Maintenance, Recovery
from services.orchestrator.rollups import Rollups
from services.orchestrator.runner import Runner
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from services.orchestrator.servicer import OrchestratorServicer
from services.orchestrator.store.domain_events import DomainEventStore
from services.orchestrator.store.erasure import ErasureStore
from services.orchestrator.store.findings import FindingStore
from services.orchestrator.store.history import History
from services.orchestrator.store.keys import KeyStore
from services.orchestrator.store.ledger import LedgerStore
from services.orchestrator.store.merging import MergeStore
from services.orchestrator.store.metric_days import MetricDayStore
from services.orchestrator.store.reads import ReadStore
from services.orchestrator.store.retention import retention
from services.orchestrator.store.sagas import SagaStore
from services.orchestrator.store.undo import UndoStore
from services.orchestrator.submissions import Submissions
from services.orchestrator.traces import TRACES
from services.orchestrator.watching import UserWatchers
from shared.clock import SystemClock
from shared.errors import LaurelError
from shared.postgres import errors, leader
from shared.postgres.definitions import Catalogue, Definitions
from shared.postgres.migrations import schema_is_current
from shared.postgres.partitions import Partitions
from shared.postgres.pool import answers, create_pool
from shared.postgres.traces import TraceStore
from shared.rpc import server
from shared.rpc.channel import open_channel
from shared.rpc.keys import CachedKeys
from shared.rpc.outgoing import credentials
from shared.rpc.server import Application, Servicer
from shared.telemetry import setup


async def build(settings: Settings) -> Application:
    """The process, put together; nothing is connected yet."""
    telemetry = setup(NAME, settings)
    clock = SystemClock()
    rng = random.Random()
    pool = await create_pool(
        settings.postgres_dsn.get_secret_value(),
        application_name=f"laurel-{NAME}",
        size=settings.postgres_pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
    )
    targets = {
        Step.STREAK: settings.streak_target,
        Step.ACHIEVEMENT: settings.achievement_target,
        Step.POINTS: settings.points_target,
        Step.LEADERBOARD: settings.leaderboard_target,
    }
    shown = credentials(settings)
    channels = {
        step: open_channel(
            target, max_message_bytes=settings.max_message_bytes, telemetry=telemetry, credentials=shown
        )
        for step, target in targets.items()
    }
    others = {step.value: channel for step, channel in channels.items()}
    if settings.notification_target:
        others["notification"] = open_channel(
            settings.notification_target,
            max_message_bytes=settings.max_message_bytes,
            telemetry=telemetry,
            credentials=shown,
        )
    participants = Participants(
        channels,
        settings.participant_timeout_seconds,
        {step: Breaker(settings.breaker_failures, settings.breaker_seconds) for step in Step},
    )
    metrics = Definitions(pool, {METRIC: METRIC_IN_USE})
    owners: dict[str, Owner] = {NAME: metrics}
    owners |= {step.name.lower(): RemoteOwner(channel) for step, channel in channels.items()}
    configurator = Configurator(pool, owners, clock, settings.recovery_interval_seconds)
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    history = History(COUNTED, _patch_of)
    ledger = LedgerStore(pool, history, settings.recent_users)
    sagas = SagaStore(pool, settings.instance)
    reads = ReadStore(pool)
    traces = TraceStore(pool, TRACES)
    domain_events = DomainEventStore(pool)
    metric_days = MetricDayStore(pool)
    rollups = Rollups(metric_days, domain_events, catalogue.latest, settings.default_time_zone)
    erasing = Erasing(ErasureStore(pool), rollups, traces, others)

    async def submit(entries: Sequence[Incoming]) -> list[Answer | LaurelError]:
        return await submissions.submit_all(entries)

    def start(active: ActiveSaga) -> asyncio.Future[Answer]:
        return runner.start(active)

    runner = Runner(
        sagas,
        UndoStore(pool, history, COUNTED),
        participants,
        erasing,
        # What it moves goes through the door, which needs the runner.
        Merging(MergeStore(pool), sagas, erasing, submit, start, clock),
        catalogue.latest,
        settings,
        clock,
        rng,
    )
    followers = Followers(domain_events, settings)
    watchers = UserWatchers(domain_events, settings)
    instruments = Instrumentation(telemetry, sagas, domain_events)
    intake = Intake(ledger, runner, participants, catalogue, settings, instruments)
    submissions = Submissions(intake, ledger, participants, settings, instruments)
    maintenance = Maintenance(ledger, intake, runner, participants)
    instruments.watch_feeds(maintenance.failing_seconds)
    lease = Lease(sagas, settings)
    recovery = Recovery(sagas, runner, settings)
    keys = KeyHandlers(pool, KeyStore(pool), clock)
    partitions = Partitions(pool, clock, retention(settings.replay_window))
    # The methods of operations are given to it when it is made.
    servicer = OrchestratorServicer(  # type: ignore[abstract]
        EntryHandlers(submissions, settings, clock),
        UndoHandlers(pool, sagas, reads, runner, clock),
        ReadHandlers(reads, settings),
        MetricHandlers(metric_days, rollups, catalogue.latest),
        PointsHandlers(
            reads,
            channels[Step.POINTS],
            settings.max_filtered_users,
            settings.participant_timeout_seconds,
        ),
        metrics,
        DefinitionHandlers(configurator, owners),
        AmnestyHandlers(configurator),
        Importer(pool, reads, metric_days, submissions, maintenance, settings, clock),
        maintenance,
        rollups,
        followers,
        watchers,
        Exporter(reads, ErasureStore(pool), traces, others),
        Doctor(pool, FindingStore(pool), participants, owners, clock),
        Backfills(
            pool,
            channels[Step.ACHIEVEMENT],
            channels[Step.STREAK],
            clock,
            settings.participant_timeout_seconds,
        ),
        clock,
    )

    async def available() -> None:
        await answers(pool)

    async def follow() -> None:
        await leader.run_as_leader(
            pool, "follow", settings.maintenance_interval_seconds, maintenance.follow_all
        )

    async def sum_up() -> None:
        await leader.run_as_leader(pool, "rollups", settings.maintenance_interval_seconds, rollups.round)

    async def clean_up() -> None:
        await partitions.keep()
        await sagas.forget_dead()
        await domain_events.trim(settings.domain_event_retention)

    async def maintain() -> None:
        await leader.run_as_leader(pool, "maintenance", settings.lease_seconds, clean_up)

    async def drain() -> None:
        await runner.drain(settings.drain_grace_seconds)

    return Application(
        name=NAME,
        servicers=[
            Servicer(
                orchestrator_service_pb2_grpc.add_OrchestratorServiceServicer_to_server,
                servicer,
                orchestrator_service_pb2.DESCRIPTOR.services_by_name["OrchestratorService"].full_name,
            ),
            Servicer(
                access_service_pb2_grpc.add_AccessServiceServicer_to_server,
                AccessServicer(keys),
                access_service_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name,
            ),
        ],
        checks={"schema": schema_is_current(pool, MIGRATIONS), "database": available},
        background={
            "user_watchers": watchers.run,
            "lease": lease.run,
            "intake": intake.run,
            "recovery": recovery.run,
            "definitions": configurator.run,
            "instruments": instruments.run,
            "follower": follow,
            "rollups": sum_up,
            "maintenance": maintain,
        },
        drain=[followers.end, watchers.end],
        close=[
            drain,
            lease.release,
            pool.close,
            participants.close,
            *(channel.close for channel in others.values()),
        ],
        translators=[errors.translate],
        keys=CachedKeys(keys.resolve, grace_seconds=settings.key_grace_seconds),
        telemetry=telemetry,
    )


async def serve(settings: Settings) -> None:
    """Serve until a signal ends the process."""
    await server.serve(await build(settings), settings)


def _patch_of(operation: str, request: bytes) -> UserPatch:
    return OPERATIONS[operation].patch_of(request)
