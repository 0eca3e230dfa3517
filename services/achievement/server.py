"""The composition root: everything that makes up the process."""

from datetime import datetime

from laurel.achievement.v1 import achievement_service_pb2, achievement_service_pb2_grpc

from services.achievement import convert
from services.achievement.anniversaries import USERS_PER_CALL, Anniversaries
from services.achievement.backfilling import Backfills
from services.achievement.calibrating import Calibration
from services.achievement.config import MIGRATIONS, NAME, Settings
from services.achievement.definitions import ACHIEVEMENT, KINDS, catalogue_of
from services.achievement.handlers import Handlers
from services.achievement.servicer import AchievementServicer
from services.achievement.store import IN_USE, Store
from services.achievement.traces import TRACES
from services.achievement.witness import Witness
from shared import telemetry
from shared.clock import SystemClock
from shared.pace import Pace, Traffic
from shared.passes import Pass, run_by_clock
from shared.postgres.definitions import Catalogue, Definitions
from shared.postgres.errors import translate
from shared.postgres.leader import run_as_leader
from shared.postgres.migrations import schema_is_current
from shared.postgres.partitions import Partitions
from shared.postgres.pool import create_pool
from shared.postgres.request_log import condensed_after
from shared.rpc import participants, server, traces
from shared.rpc.channel import open_channel
from shared.rpc.definitions import definition_service
from shared.rpc.outgoing import credentials
from shared.rpc.participants import Participant
from shared.rpc.server import Application, Servicer


async def build(settings: Settings) -> Application:
    """The process, put together; nothing is connected yet."""
    pool = await create_pool(
        settings.postgres_dsn.get_secret_value(),
        application_name=settings.instance,
        size=settings.postgres_pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
    )
    clock = SystemClock()
    recorded = telemetry.setup(NAME, settings)
    channel = open_channel(
        settings.orchestrator_target,
        max_message_bytes=settings.max_message_bytes,
        telemetry=recorded,
        credentials=credentials(settings),
    )
    partitions = Partitions(pool, clock, {"request_log": condensed_after(settings.replay_window)})
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    store = Store(pool, settings.recent_users)
    handlers = Handlers(pool, store, catalogue, clock)
    anniversaries = Anniversaries(pool, store, catalogue)
    calibration = Calibration(pool, catalogue, clock, settings.preview_users)
    witness = Witness(channel, settings.backfill_timeout_seconds)
    traffic = Traffic()
    pace = Pace(traffic, most=USERS_PER_CALL, share=settings.maintenance_share)
    backfills = Backfills(pool, catalogue, witness, settings, clock, traffic)
    definitions = Definitions(pool, {ACHIEVEMENT: IN_USE}, backfills.before_write)

    async def maintain_part(now: datetime, history: bool) -> Pass:
        part = await anniversaries.run(now, history)
        return part if part.done else await backfills.run(now, history)

    participant = Participant(
        domain=convert.DOMAIN,
        command=convert.command,
        apply=traffic.noticed(handlers.apply_entries),
        revert=handlers.revert_entries,
        maintain=maintain_part,
    )
    service = achievement_service_pb2.DESCRIPTOR.services_by_name["AchievementService"]

    async def pass_once() -> None:
        await partitions.keep()
        await run_by_clock(pool, clock, pace, anniversaries.part)

    async def maintain() -> None:
        await run_as_leader(pool, "achievement.maintenance", settings.maintenance_interval_seconds, pass_once)

    return Application(
        name=NAME,
        servicers=[
            Servicer(
                achievement_service_pb2_grpc.add_AchievementServiceServicer_to_server,
                AchievementServicer(handlers, backfills, calibration, definitions),
                service.full_name,
            ),
            participants.registered(participant, pool, settings),
            definition_service(definitions),
            traces.registered(TRACES, pool),
        ],
        checks={"schema": schema_is_current(pool, MIGRATIONS)},
        background={"maintenance": maintain, "backfills": backfills.work},
        close=[pool.close, channel.close],
        translators=[translate],
        telemetry=recorded,
    )


async def serve(settings: Settings) -> None:
    """Serve until a signal ends the process."""
    await server.serve(await build(settings), settings)
