"""Three statements a batch; and whatever reads besides reads no table whole (on the event path: test_young_plans)."""

from datetime import date, timedelta
from typing import Any

import pytest
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from redis.asyncio import Redis

from services.leaderboard.convert import entries
from services.leaderboard.definitions import KINDS, catalogue_of
from services.leaderboard.domain.facts import Command
from services.leaderboard.handlers.cleaning import Cleaner
from services.leaderboard.handlers.entries import EntryHandlers
from services.leaderboard.handlers.leagues import Leagues
from services.leaderboard.handlers.lists import Lists
from services.leaderboard.handlers.maintenance import MaintenanceHandlers
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.handlers.tracking import Tracker
from services.leaderboard.projection import Projection
from services.leaderboard.store import (
    archive,
    carrying,
    cleaning,
    daily,
    due,
    endings,
    events,
    groups,
    leagues,
    past,
    reads,
    rebuild,
    segments,
    standings,
    statistics,
    undo,
    verify,
)
from services.leaderboard.store.segments import SegmentStore
from shared.clock import SystemClock
from shared.participant import Work
from shared.postgres.definitions import Catalogue
from shared.postgres.pool import create_pool
from tests.fixtures import participants
from tests.fixtures.plans import plan_of, scanned
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import NOON, WEEKLY, entry_id, event
from tests.service.leaderboard.steps import applied, define, ranking
from tests.service.leaderboard.test_carrying import BEGUN, PRO, WEEK, alive

ENTRY = entry_id(1)
RUN = ("weekly", date(2026, 3, 2))
WINDOW = ([540], [480])
ARGUMENTS: dict[tuple[Any, str], tuple[Any, ...]] = {
    (events, "PENDING"): ([ENTRY],),
    (events, "OUTCOMES"): ([ENTRY], False),
    (past, "EVENT_HISTORY"): (["ada"], ["commits"], [RUN[1]], [RUN[1]]),
    (past, "EARNING_HISTORY"): (["ada"], ["xp"], [RUN[1]], [RUN[1]]),
    (past, "EARNINGS"): (["ada"], ["xp"], [RUN[1]], [ENTRY]),
    (past, "EVENTS"): ([ENTRY],),
    (past, "EARLY_REVISIONS"): ([ENTRY],),
    (past, "LENGTHS"): (["ada"], ["daily"], [RUN[1]]),
    (past, "NEWEST_EVENT"): (["ada"], ["commits"], [RUN[1]], [RUN[1]], [1], [RUN[1]], [ENTRY], *WINDOW),
    (past, "NEWEST_EARNING"): (["ada"], ["xp"], [RUN[1]], [RUN[1]], [1], [RUN[1]], [ENTRY], *WINDOW),
    (undo, "NEWEST_REACH"): ("ada", "commits", RUN[1], RUN[1], ENTRY, 540, 480),
    (undo, "LATEST_EVENT"): ("ada", "commits", RUN[1], RUN[1], ENTRY, 540, 480),
    (undo, "GREATEST_EVENT"): ("ada", "commits", RUN[1], RUN[1], ENTRY, 540, 480),
    (undo, "LEAST_EVENT"): ("ada", "commits", RUN[1], RUN[1], ENTRY, 540, 480),
    (standings, "PLACES_IN_WHOLE"): ([0], ["dense"], *([value] for value in RUN), [""], ["ada"], [1], [NOON]),
    (standings, "PLACES_IN_SEGMENT"): (
        [0],
        ["dense"],
        *([value] for value in RUN),
        ["{}"],
        ["ada"],
        [1],
        [NOON],
    ),
    (standings, "PAGE_OF_WHOLE"): (*RUN, "", 0, 10),
    (standings, "PAGE_OF_SEGMENT"): (*RUN, "{}", 0, 10),
    (standings, "OWN"): ("ada", *RUN, ""),
    (standings, "CURRENT"): ([0], ["ada"], ["weekly"], [RUN[1]]),
    (archive, "DUE"): (NOON, 100),
    (due, "ANYTHING"): (NOON, [RUN[0]], [RUN[1]]),
    (carrying, "ALIVE"): RUN,
    (carrying, "CANDIDATES"): (*RUN, RUN[1]),
    (carrying, "SEGMENTS_OF"): (["ada"], *RUN),
    (archive, "CLOSE"): RUN,
    (archive, "ARCHIVE"): (*RUN, "dense", 10),
    (archive, "REMOVE_SCORES"): RUN,
    (archive, "PAGE"): (*RUN, "", 0, 10),
    (archive, "ORDINAL"): (*RUN, "", "ada"),
    (reads, "SEEN"): (*RUN, ["ada"], True),
    (reads, "PROFILES"): (["ada"],),
    (reads, "RUNS"): (*RUN, 10),
    (reads, "LATEST_RUNS"): ("weekly", 10),
    (reads, "SEGMENTS"): (*RUN, "", True, 10),
    (reads, "USER_SCORES"): ("ada", ["weekly"], [RUN[1]]),
    (reads, "USER_ARCHIVE"): ("ada", ["weekly"], [RUN[1]]),
    (reads, "RANK_EVENTS"): ("ada", "", 10),
    (reads, "EARLIER_RANK_EVENTS"): ("ada", "", 10, NOON, ENTRY, "weekly", RUN[1], ""),
    (archive, "MEMBERS"): (*RUN, "", ["ada"]),
    (standings, "MEMBERS"): (["ada"], *RUN, ""),
    (endings, "IS_UNDER_WAY"): (),
    (endings, "NEXT"): (),
    (endings, "SEGMENT"): (*RUN, ""),
    (endings, "FINISHED"): (*RUN, "", 0, 10),
    (endings, "GIVEN"): (*RUN, "", 0, "", 10),
    (endings, "GIVEN_TO"): (*RUN, "", 0, "", 10, "ada"),
    (endings, "DROP_INACTIVE"): RUN,
    (leagues, "KNOWN"): (*RUN, ["ada"]),
    (leagues, "IS_UNDECIDED"): RUN,
    (leagues, "DIVISIONS"): (RUN[0], ["ada"]),
    (leagues, "LATEST"): (*RUN, [0, 1]),
    (leagues, "BEGUN"): (*RUN, [0, 1]),
    (leagues, "RUNS_WAITING"): (),
    (leagues, "WAITING"): (*RUN, 10),
    (leagues, "UNPROJECTED"): (*RUN, 10),
    (leagues, "OF_USER"): (*RUN, "ada"),
    (groups, "LIVE"): (*RUN, "best", 3, 2, -1, "dense", 0, 10),
    (groups, "ARCHIVED"): (*RUN, "average", 0, 2, 1, "ordinal", 0, 10),
    (verify, "POSITIONS_OF_WHOLE"): (*RUN, ""),
    (verify, "POSITIONS_OF_SEGMENT"): (*RUN, "{}"),
    (daily, "IS_KEPT"): (["weekly"], RUN[1]),
    (daily, "KEEP_WHOLE"): ("weekly", RUN[1], 10, "dense"),
    (daily, "KEEP_SEGMENTS"): ("weekly", RUN[1], 10, "dense"),
    (daily, "FORGET"): ("weekly", RUN[1]),
    (daily, "OF_USER"): ("ada", "weekly", "", RUN[1], RUN[1], 10),
    (daily, "OF_DAY"): (*RUN, "", RUN[1], 0, "", 10),
    (daily, "CLIMBERS"): (*RUN, "", 10),
    (statistics, "LIVE_WHOLE"): (*RUN, "", 10, 5),
    (statistics, "LIVE_SEGMENT"): (*RUN, "{}", 10, 5),
    (statistics, "ARCHIVED"): (*RUN, "", 10, 5),
    (segments, "KNOWN"): (*RUN, ["{}"]),
    (segments, "EVERY"): RUN,
    (segments, "BEYOND"): RUN,
    (cleaning, "LEFT"): RUN,
    (cleaning, "RUNS_TO_LOOK_AT"): (["weekly"],),
    (cleaning, "REMOVE"): (*RUN, ["{}"]),
    (archive, "COUNT_BEYOND"): RUN,
    (archive, "TO_EXPIRE"): (NOON, 10),
    (archive, "EXPIRE"): RUN,
    (rebuild, "ENTRIES"): RUN,
    (rebuild, "SEGMENTS_OF_RUN"): RUN,
}
ONE_ROW_TABLES = {"configuration_version", "projection"}
PARTIAL_INDEXES = {"runs_due", "runs_to_drop", "runs_to_expire", "endings_under_way", "seats_waiting"}
"""They hold nothing but what is wanted: open runs, those whose sets are still there, those with something
to come, and users of leagues who wait."""


@pytest.mark.parametrize(("module", "name"), ARGUMENTS, ids=lambda value: getattr(value, "__name__", value))
async def test_no_statement_besides_the_event_path_reads_a_table_whole(
    service: Service, module: Any, name: str
) -> None:
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    async with pool.acquire() as connection:
        plan = await plan_of(connection, getattr(module, name), ARGUMENTS[module, name])
    await pool.close()
    assert scanned(plan, PARTIAL_INDEXES) <= ONE_ROW_TABLES


async def test_a_batch_costs_three_statements_and_one_round_trip_to_the_sets(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "weekly", schedule=WEEKLY, breakdown_attributes=["team"])
    users = [f"user-{number}" for number in range(40)]
    team = {"team": "red"}
    await applied(service, *(event(("first", user), 1, user=user, attributes=team) for user in users))
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    async with Redis.from_url(service.sets_url) as sets:
        handlers = _handlers(pool, sets)
        await handlers.apply_entries(_work(event("warm", 1, user="new", attributes=team)))
        statements: list[str] = []
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda record: statements.append(record.query))
        await handlers.apply_entries(
            _work(*(event(("second", user), 1, user=user, attributes=team) for user in users))
        )
    await pool.close()
    assert statements == [events.LOAD, events.SAVE, events.COMPLETE]


async def test_a_pass_that_finds_nothing_costs_three_look_ups(service: Service) -> None:
    await define(service, "all-time")
    await define(service, "weekly", schedule=WEEKLY, breakdown_attributes=["team"])
    await applied(service, event("one", 1, attributes={"team": "red"}))
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    async with Redis.from_url(service.sets_url) as sets:
        maintenance = _maintenance(pool, sets)
        await maintenance.run(NOON, history=True)
        statements: list[str] = []
        async with pool.acquire() as connection:
            connection.add_query_logger(lambda record: statements.append(record.query))
        await maintenance.run(NOON + timedelta(days=1), history=True)
    await pool.close()
    assert statements[1:] == [due.ANYTHING, cleaning.RUNS_TO_LOOK_AT]


async def test_a_pass_needs_one_connection_at_a_time(service: Service) -> None:
    """Beside the one by which the replica holds its turn; a pool may have two."""
    await define(service, "weekly-streaks", streak="daily", schedule=WEEKLY, breakdown_attributes=["plan"])
    await applied(service, alive("ada", 20, 4, attributes=PRO))
    pool = await create_pool(service.dsn, application_name="plans", size=1, statement_timeout_ms=5_000)
    async with Redis.from_url(service.sets_url) as sets:
        for now in (BEGUN, BEGUN + timedelta(weeks=2)):
            await _maintenance(pool, sets).run(now)
    await pool.close()
    assert await ranking(service, "weekly-streaks", PRO, day=WEEK) == [(1, "ada", 4)]


def _maintenance(pool: Any, sets: Redis) -> MaintenanceHandlers:
    catalogue, projection, clock = Catalogue(pool, KINDS, catalogue_of), Projection(sets), SystemClock()
    rebuilder, grace = Rebuilder(pool, catalogue, projection), timedelta(hours=1)
    leagues = Leagues(pool, projection, Lists(pool, catalogue, projection, rebuilder, clock, grace))
    cleaner, segment_store = Cleaner(pool, projection), SegmentStore(pool)
    return MaintenanceHandlers(
        pool, catalogue, projection, clock, leagues, cleaner, segment_store, grace, None, None
    )


def _handlers(pool: Any, sets: Redis) -> EntryHandlers:
    catalogue = Catalogue(pool, KINDS, catalogue_of)
    projection = Projection(sets)
    rebuilder = Rebuilder(pool, catalogue, projection)
    tracker = Tracker(pool, catalogue, projection, SystemClock(), timedelta(hours=1))
    return EntryHandlers(
        pool, catalogue, projection, rebuilder, SegmentStore(pool), tracker, timedelta(hours=1)
    )


def _work(*commands: participant_pb.Command) -> list[Work[Command]]:
    return participants.work(entries.command, *commands)
