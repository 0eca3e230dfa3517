"""The composition root: everything that makes up the process."""

from laurel.streak.v1 import streak_service_pb2, streak_service_pb2_grpc

from services.streak import convert
from services.streak.amnesties import Amnesties
from services.streak.backfills import Backfills
from services.streak.config import MIGRATIONS, NAME, Settings
from services.streak.definitions import AMNESTY, KINDS, STREAK, catalogue_of
from services.streak.handlers import Handlers
from services.streak.maintenance import Maintenance
from services.streak.queries import Queries
from services.streak.servicer import StreakServicer
from services.streak.store import IN_USE, NEVER_IN_USE, Store
from services.streak.traces import TRACES
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
    clock = SystemClock()
    pool = await create_pool(
        settings.postgres_dsn.get_secret_value(),
        application_name=settings.instance,
        size=settings.postgres_pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
    )
    definitions = Definitions(pool, {STREAK: IN_USE, AMNESTY: NEVER_IN_USE}, with_history=True)
    catalogue = Catalogue(pool, KINDS, catalogue_of, with_history=True)
    traffic = Traffic()
    pace = Pace(traffic, most=settings.maintenance_batch_size, share=settings.maintenance_share)
    maintenance = Maintenance(pool, catalogue, settings.maintenance_batch_size)
    partitions = Partitions(pool, clock, {"request_log": condensed_after(settings.replay_window)})
    queries = Queries(pool, catalogue, clock)
    amnesties = Amnesties(pool, catalogue)
    handlers = Handlers(pool, Store(pool, settings.recent_users), catalogue)
    backfills = Backfills(pool, catalogue)
    participant = Participant(
        domain=convert.DOMAIN,
        command=convert.command,
        apply=traffic.noticed(handlers.apply_entries),
        revert=handlers.revert_entries,
        maintain=maintenance.run,
        versioned="streak_states",
    )

    async def pass_once() -> None:
        await partitions.keep()
        await run_by_clock(pool, clock, pace, maintenance.part)

    async def maintain() -> None:
        await run_as_leader(pool, "streak.maintenance", settings.maintenance_interval_seconds, pass_once)

    return Application(
        name=NAME,
        servicers=[
            Servicer(
                streak_service_pb2_grpc.add_StreakServiceServicer_to_server,
                StreakServicer(queries, definitions, amnesties, backfills, catalogue, clock),
                streak_service_pb2.DESCRIPTOR.services_by_name["StreakService"].full_name,
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
