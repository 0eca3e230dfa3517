"""The composition root: everything that makes up the process."""

from laurel.points.v1 import points_service_pb2, points_service_pb2_grpc

from services.points import convert
from services.points.config import MIGRATIONS, NAME, Settings
from services.points.definitions import KINDS, POINTS_SYSTEM, catalogue_of
from services.points.handlers import Handlers
from services.points.level_days import LevelDays
from services.points.maintenance import USERS_PER_CALL, Maintenance
from services.points.reads import Reads
from services.points.servicer import PointsServicer
from services.points.store import IN_USE, Store
from services.points.terms import Terms
from services.points.traces import TRACES
from shared import telemetry
from shared.clock import SystemClock
from shared.pace import Pace, Traffic
from shared.passes import run_by_clock
from shared.postgres.definitions import Catalogue, Definitions
from shared.postgres.errors import translate
from shared.postgres.leader import run_as_leader
from shared.postgres.migrations import schema_is_current
from shared.postgres.partitions import Partitions
from shared.postgres.pool import create_pool
from shared.postgres.request_log import condensed_after
from shared.rpc import participants, server, traces
from shared.rpc.definitions import definition_service
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
    definitions = Definitions(pool, {POINTS_SYSTEM: IN_USE})
    partitions = Partitions(pool, clock, {"request_log": condensed_after(settings.replay_window)})
    configuration = Catalogue(pool, KINDS, catalogue_of)
    store, terms = Store(pool, settings.recent_users), Terms()
    handlers = Handlers(pool, store, configuration, terms)
    reads = Reads(pool, store, configuration, terms)
    level_days = LevelDays(pool, configuration)
    maintenance = Maintenance(pool, store, configuration, terms)
    traffic = Traffic()
    pace = Pace(traffic, most=USERS_PER_CALL, share=settings.maintenance_share)
    participant = Participant(
        domain=convert.DOMAIN,
        command=convert.command,
        apply=traffic.noticed(handlers.apply_entries),
        revert=handlers.revert_entries,
        maintain=maintenance.run,
        versioned="balances",
    )
    service = points_service_pb2.DESCRIPTOR.services_by_name["PointsService"]

    async def pass_once() -> None:
        await partitions.keep()
        await run_by_clock(pool, clock, pace, maintenance.part)

    async def maintain() -> None:
        await run_as_leader(pool, "points.maintenance", settings.maintenance_interval_seconds, pass_once)

    return Application(
        name=NAME,
        servicers=[
            Servicer(
                points_service_pb2_grpc.add_PointsServiceServicer_to_server,
                PointsServicer(reads, level_days, definitions, clock),
                service.full_name,
            ),
            participants.registered(participant, pool, settings),
            definition_service(definitions),
            traces.registered(TRACES, pool),
        ],
        checks={"schema": schema_is_current(pool, MIGRATIONS)},
        background={"maintenance": maintain},
        close=[pool.close],
        translators=[translate],
        telemetry=telemetry.setup(NAME, settings),
    )


async def serve(settings: Settings) -> None:
    """Serve until a signal ends the process."""
    await server.serve(await build(settings), settings)
