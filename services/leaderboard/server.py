"""The composition root: everything that makes up the process."""

from datetime import timedelta
from functools import partial

from laurel.leaderboard.v1 import leaderboard_service_pb2, leaderboard_service_pb2_grpc
from redis.asyncio import Redis, RedisCluster

from services.leaderboard.config import MIGRATIONS, NAME, RUNS_PER_PASS, Settings
from services.leaderboard.convert.common import DOMAIN
from services.leaderboard.convert.entries import command
from services.leaderboard.definitions import KINDS, LEADERBOARD, catalogue_of
from services.leaderboard.handlers.cleaning import Cleaner
from services.leaderboard.handlers.entries import EntryHandlers
from services.leaderboard.handlers.erasing import Erasing
from services.leaderboard.handlers.leagues import Leagues
from services.leaderboard.handlers.lists import Lists
from services.leaderboard.handlers.maintenance import MaintenanceHandlers
from services.leaderboard.handlers.reads import ReadHandlers
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.handlers.tracking import Tracker
from services.leaderboard.handlers.verify import Verifier
from services.leaderboard.handlers.watching import Watchers
from services.leaderboard.instrumentation import instrument
from services.leaderboard.projection import Projection
from services.leaderboard.servicer import LeaderboardServicer
from services.leaderboard.store.reads import IN_USE
from services.leaderboard.store.segments import SegmentStore
from services.leaderboard.traces import TRACES
from shared import telemetry
from shared.clock import SystemClock
from shared.pace import Pace, Traffic
from shared.passes import run_by_clock
from shared.postgres import errors as postgres_errors
from shared.postgres.definitions import Catalogue, Definitions
from shared.postgres.leader import run_as_leader
from shared.postgres.migrations import schema_is_current
from shared.postgres.partitions import Drop, Partitions
from shared.postgres.pool import create_pool
from shared.postgres.request_log import condensed_after
from shared.redis import client as redis_client
from shared.rpc import admin, participants, server, traces
from shared.rpc.definitions import definition_service
from shared.rpc.participants import Participant
from shared.rpc.server import Application, Servicer


async def build(settings: Settings) -> Application:
    """The process, put together; nothing is connected yet."""
    recorded = telemetry.setup(NAME, settings)
    clock, grace = SystemClock(), timedelta(seconds=settings.finalize_grace_seconds)
    pool = await create_pool(
        settings.postgres_dsn.get_secret_value(),
        application_name=settings.instance,
        size=settings.postgres_pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
    )
    create = redis_client.create_cluster_client if settings.redis_cluster else redis_client.create_client
    redis: Redis | RedisCluster = create(
        settings.redis_url.get_secret_value(),
        client_name=settings.instance,
        timeout_seconds=settings.redis_timeout_seconds,
    )
    projection = Projection(redis)
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    definitions = Definitions(pool, {LEADERBOARD: IN_USE})
    rebuilder = Rebuilder(pool, catalogue, projection)
    history_days = settings.rank_history_retention_days
    history = None if history_days is None else timedelta(days=history_days)
    partitions = Partitions(
        pool,
        clock,
        {
            "request_log": condensed_after(settings.replay_window),
            "rank_events": None if history is None else Drop(history),
        },
    )
    kept_days = settings.archive_retention_days
    kept = None if kept_days is None else timedelta(days=kept_days)
    lists = Lists(pool, catalogue, projection, rebuilder, clock, grace)
    segments = SegmentStore(pool)
    pause = timedelta(seconds=settings.rank_look_seconds)
    tracker = Tracker(pool, catalogue, projection, clock, pause)
    leagues = Leagues(pool, projection, lists)
    maintenance = MaintenanceHandlers(
        pool, catalogue, projection, clock, leagues, Cleaner(pool, projection), segments, grace, history, kept
    )
    watchers = Watchers(lists, settings.max_leaderboard_watchers)
    servicer = LeaderboardServicer(
        ReadHandlers(pool, catalogue, projection, rebuilder, lists, segments, clock),
        leagues,
        watchers,
        Verifier(pool, catalogue, projection),
        definitions,
    )
    entries = EntryHandlers(
        pool, catalogue, projection, rebuilder, segments, tracker, grace, settings.recent_users
    )
    erasing = Erasing(pool, projection)
    instrument(recorded, entries, rebuilder)
    traffic = Traffic()
    participant = Participant(
        domain=DOMAIN,
        command=command,
        apply=traffic.noticed(entries.apply_entries),
        revert=entries.revert_entries,
        maintain=maintenance.run,
        begin_healing=rebuilder.distrust,
    )

    # Each with a pace of its own: to archive a run takes longer than to delete what is kept no longer.
    paced = [
        (part, Pace(traffic, most=RUNS_PER_PASS, share=settings.maintenance_share))
        for part in (maintenance.part, maintenance.expire)
    ]

    async def pass_once() -> None:
        await partitions.keep()
        for part, pace in paced:
            await run_by_clock(pool, clock, pace, part)

    service = leaderboard_service_pb2.DESCRIPTOR.services_by_name["LeaderboardService"]
    return Application(
        name=NAME,
        servicers=[
            Servicer(
                leaderboard_service_pb2_grpc.add_LeaderboardServiceServicer_to_server,
                servicer,
                service.full_name,
            ),
            participants.registered(participant, pool, settings),
            definition_service(definitions),
            traces.registered(TRACES, pool, traces.Beside(erasing.erase, erasing.search)),
            admin.registered(pool, NAME),
        ],
        checks={
            "schema": schema_is_current(pool, MIGRATIONS),
            "sorted sets": partial(redis_client.answers_and_keeps, redis),
        },
        background={
            "tracking": tracker.run,
            "projection": partial(rebuilder.run, settings.projection_check_seconds),
            "maintenance": partial(
                run_as_leader,
                pool,
                "leaderboard maintenance",
                settings.maintenance_interval_seconds,
                pass_once,
            ),
        },
        drain=[watchers.end],
        close=[redis.aclose, pool.close],
        translators=[postgres_errors.translate, redis_client.translate],
        telemetry=recorded,
    )


async def serve(settings: Settings) -> None:
    """Serve until a signal ends the process."""
    await server.serve(await build(settings), settings)
