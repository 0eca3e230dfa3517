"""What becomes of some users in each service, one step after the other, against its own use cases and database."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from laurel.achievement.v1 import achievement_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.participant.v1 import participant_service_pb2 as participant_pb
from laurel.participant.v1.definition_service_pb2 import WriteDefinitionsRequest
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2
from msgspec.structs import replace
from redis.asyncio import Redis

from services.achievement import convert as achievement_convert
from services.achievement import definitions as achievement_definitions
from services.achievement import handlers as achievement
from services.achievement.store import Store as AchievementStore
from services.leaderboard import definitions as leaderboard_definitions
from services.leaderboard.convert import entries as leaderboard_convert
from services.leaderboard.handlers.entries import EntryHandlers
from services.leaderboard.handlers.rebuild import Rebuilder
from services.leaderboard.handlers.tracking import Tracker
from services.leaderboard.projection import Projection
from services.leaderboard.store.segments import SegmentStore
from services.orchestrator.domain_events import Told
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import State, Step
from services.orchestrator.store.ledger import Feed
from services.orchestrator.store.sagas import Completed, SagaStore
from services.points import convert as points_convert
from services.points import definitions as points_definitions
from services.points import handlers as points
from services.points.store import Store as PointsStore
from services.points.terms import Terms
from services.streak import convert as streak_convert
from services.streak import definitions as streak_definitions
from services.streak import handlers as streak
from services.streak.store import Store as StreakStore
from shared.clock import SystemClock
from shared.definitions import DefinitionKind, definition_of
from shared.entries import Reversal
from shared.ids import derived_id_beside
from shared.postgres.definitions import Catalogue, Definitions
from shared.postgres.months import lowest_id
from shared.postgres.pool import Pool
from shared.random_ids import new_id
from shared.rpc.convert import to_datetime, to_timestamp
from tests.fixtures import participants
from tests.service.achievement import messages as a
from tests.service.leaderboard import messages as b
from tests.service.orchestrator.steps import event as incoming
from tests.service.orchestrator.steps import ledger_store, store, take_out
from tests.service.points import messages as p
from tests.service.streak import messages as s

NOW: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)

Life = Callable[[str], AsyncIterator[str]]
"""What becomes of users with this prefix, step by step, each named once it is done."""

THREE_DAYS = streak_pb2.FreezeSettings(initial_count=1, earn_count=1, earn_every_days=3, max_count=2)
MERGED = {"state": "merged"}
RUN_UP = a.streak(1, 7)
NEXT_WEEK = b.NOON + timedelta(days=7)

LIVES: Final[Mapping[str, Mapping[str, Any]]] = {
    "streak": {
        "the first events": s.apply(*(s.event((user, 3), s.at(3), user=user) for user in ("alice", "bob"))),
        "later days": s.apply(
            *(s.event((day, hour), s.at(day, hour)) for day in (4, 5, 6, 9) for hour in (9, 18))
        ),
        "a known one": s.apply(s.event((4, 9), s.at(4, 9))),
        "a late one today": s.apply(s.event("today", s.at(9, 7), now=s.at(9, 19))),
        "one that is days late": s.apply(s.event("late", s.at(7), now=s.at(9, 20))),
        "one before all": s.apply(s.event("first", s.at(2), now=s.at(9, 21))),
        "an undone one": s.revert((5, 9), now=s.at(9, 22)),
        "one undone before it came": s.revert("never", now=s.at(9, 22)),
    },
    "achievement": {
        "the first events": a.apply(
            a.event("e1", 4, version=1, total=4, attributes=MERGED),
            a.event("bob", 4, version=1, total=4, user="bob"),
        ),
        "completions": a.apply(
            a.event("e2", 8, version=2, total=12, attributes=MERGED, streaks=[RUN_UP]),
            a.call("c1", "founder"),
        ),
        "a value below zero": a.apply(
            a.event("e3", -1, version=3, total=11, peak=12, attributes=MERGED), a.call("c2", "founder")
        ),
        "a known one": a.apply(a.event("e1", 4, version=1, total=4, attributes=MERGED)),
        "an undone one": a.revert("e2"),
        "an undone call": a.revert("c1"),
        "a correction": a.apply(a.correction("k1", version=4, total=3, of="e2")),
        "a late one that reaches something": a.apply(a.event("late", 7, version=5, total=10, minutes=-60)),
        "one undone before it came": a.revert("never"),
    },
    "points": {
        "the first events": p.apply(p.event("e1", 2), p.event("bob", 2, user="bob")),
        "awards": p.apply(
            p.event("e2", 5, periods=[(0, 7)], completed=["first"]), p.event("e3", 4, minutes=1)
        ),
        "a value below zero": p.apply(p.event("e4", -1, minutes=2), p.event("e5", 6, minutes=3)),
        "a known one": p.apply(p.event("e1", 2)),
        "an undone one": p.revert("e3"),
        "what is taken back": p.apply(p.correction("k1", periods=[(7, 0)], revoked=["first"], corrects="e2")),
        "another undone one": p.revert("e5"),
        "one undone before it came": p.revert("never"),
    },
    "leaderboard": {
        "the first events": b.apply(b.event("e1", 4), b.event("bob", 4, user="bob")),
        "points and a length": b.apply(
            b.points_change("p1", 1, 10, 10),
            b.streak_change("s1", 1, 3, 3, periods=[b.Recorded(b.NOON.date(), 3, b.NOON, "s1")]),
            b.event("e2", 2, minutes=1),
            b.event("m1", 5, minutes=2, metric="most", contribution=5),
        ),
        "a new run": b.apply(b.event("e3", 2, at=NEXT_WEEK)),
        "another segment": b.apply(b.user_update("u1", {"plan": "pro"})),
        "a known one": b.apply(b.event("e1", 4)),
        "an undone one": b.revert("e2"),
        "an undone length": b.revert("s1"),
        "what is taken back of a length": b.apply(
            b.streak_change("k2", 2, 0, 0, corrects="s1", periods=[b.Recorded(b.NOON.date(), None)])
        ),
        "a revised event": b.apply(
            b.event("m2", 4, minutes=1, metric="most", contribution=4, version=2, revisions={"m1": 1})
        ),
        "another undone one": b.revert("m1"),
        "a correction": b.apply(b.points_change("k1", 2, -10, 0, corrects="p1")),
        "one undone before it came": b.revert("never"),
    },
}


def _streak_replica(pool: Pool, _sets: Redis, recent_users: int) -> streak.Handlers:
    catalogue = Catalogue(pool, streak_definitions.KINDS, streak_definitions.catalogue_of)
    return streak.Handlers(pool, StreakStore(pool, recent_users), catalogue)


async def _streak(pool: Pool, sets: Redis, recent_users: int = 0) -> Life:
    await define(pool, streak_definitions.STREAK, s.streak(freezes=THREE_DAYS), s.streak("strict"))
    return _life("streak", _streak_replica(pool, sets, recent_users), streak_convert)


def _achievement_replica(pool: Pool, _sets: Redis, recent_users: int) -> achievement.Handlers:
    catalogue = Catalogue(pool, achievement_definitions.KINDS, achievement_definitions.catalogue_of)
    return achievement.Handlers(pool, AchievementStore(pool, recent_users), catalogue, SystemClock())


async def _achievement(pool: Pool, sets: Redis, recent_users: int = 0) -> Life:
    await define(
        pool,
        achievement_definitions.ACHIEVEMENT,
        achievement_pb2.Achievement(key="ten", name="Ten", metric=a.by_metric(10)),
        achievement_pb2.Achievement(key="merger", name="Merger", metric=a.by_metric(10, [a.MERGED])),
        achievement_pb2.Achievement(key="week", name="Week", streak=a.by_streak(7)),
        achievement_pb2.Achievement(key="founder", name="Founder", api=a.API),
    )
    return _life("achievement", _achievement_replica(pool, sets, recent_users), achievement_convert)


def _points_replica(pool: Pool, _sets: Redis, recent_users: int) -> points.Handlers:
    catalogue = Catalogue(pool, points_definitions.KINDS, points_definitions.catalogue_of)
    return points.Handlers(pool, PointsStore(pool, recent_users), catalogue, Terms())


async def _points(pool: Pool, sets: Redis, recent_users: int = 0) -> Life:
    triggers = [p.TEN_PER_THREE, p.WEEK, p.BADGE, p.WELCOME]
    system = points_pb2.PointsSystem(key="xp", name="XP", triggers=triggers, levels=[p.BRONZE, p.SILVER])
    await define(pool, points_definitions.POINTS_SYSTEM, system)
    return _life("points", _points_replica(pool, sets, recent_users), points_convert)


def _leaderboard_replica(pool: Pool, sets: Redis, recent_users: int) -> EntryHandlers:
    catalogue = Catalogue(pool, leaderboard_definitions.KINDS, leaderboard_definitions.catalogue_of)
    projection = Projection(sets)
    rebuilder = Rebuilder(pool, catalogue, projection)
    tracker = Tracker(pool, catalogue, projection, SystemClock(), timedelta(hours=1))
    return EntryHandlers(
        pool, catalogue, projection, rebuilder, SegmentStore(pool), tracker, timedelta(hours=1), recent_users
    )


async def _leaderboard(pool: Pool, sets: Redis, recent_users: int = 0) -> Life:
    await define(
        pool,
        leaderboard_definitions.LEADERBOARD,
        leaderboard_pb2.Leaderboard(key="all-time", name="All", metric="commits"),
        leaderboard_pb2.Leaderboard(
            key="weekly", name="Weekly", metric="commits", schedule=b.WEEKLY, breakdown_attributes=["plan"]
        ),
        leaderboard_pb2.Leaderboard(key="most", name="Most", metric="most"),
        leaderboard_pb2.Leaderboard(
            key="best", name="Best", metric="most", aggregation=leaderboard_pb2.SCORE_AGGREGATION_BEST
        ),
        leaderboard_pb2.Leaderboard(
            key="last", name="Last", metric="most", aggregation=leaderboard_pb2.SCORE_AGGREGATION_LAST
        ),
        leaderboard_pb2.Leaderboard(key="rich", name="Rich", points_system="xp", schedule=b.WEEKLY),
        leaderboard_pb2.Leaderboard(key="long", name="Long", streak="daily", schedule=b.WEEKLY),
    )
    catalogue = Catalogue(pool, leaderboard_definitions.KINDS, leaderboard_definitions.catalogue_of)
    await Rebuilder(pool, catalogue, Projection(sets)).ensure()
    return _life("leaderboard", _leaderboard_replica(pool, sets, recent_users), leaderboard_convert)


async def _orchestrator(pool: Pool, _sets: Redis, recent_users: int = 0) -> Life:
    ledger, sagas = ledger_store(pool, recent_users), SagaStore(pool, "one")
    told = Told(b"entry", b"effects")

    async def life(prefix: str) -> AsyncIterator[str]:
        ada, bob = f"{prefix}ada", f"{prefix}bob"

        def event(name: str, *said: Any, **attributes: Any) -> Incoming:
            item = incoming(name, *said, **attributes)
            return replace(item, entry_id=derived_id_beside(lowest_id(NOW), prefix, name))

        italy = event("a", ada, "countries", country="IT")
        first = await store(pool, italy, event("b", ada, value=-1), event("c", ada, value=3), event("d", bob))
        ids = [recorded.incoming.entry_id for recorded in first]
        yield "a group recorded"
        await sagas.leave([(ids[0], "away", 0.0), (ids[1], "away", 0.0)], 9)
        yield "a group left to recovery"
        await sagas.complete([Completed(entry_id, b"reply", told) for entry_id in ids[:3]])
        yield "a group completed"
        await store(pool, event("e", ada, "countries", country="IT"), event("f", bob))
        yield "more recorded"
        await ledger.known([italy])
        await ledger.known_entry(ids[0])
        yield "known ones"
        await sagas.decide(ids[3], b"no", [Step.STREAK], {Step.STREAK: b"yes"})
        await sagas.settle(ids[3], State.REJECTED, None, told)
        yield "an undone one"
        await sagas.decide_void(ids[0], "test", "", NOW)
        await take_out(pool, first[0])
        await sagas.settle(ids[0], State.VOIDED, b"", told)
        yield "a void event of a unique metric"
        await sagas.decide_void(ids[1], "test", "", NOW)
        await take_out(pool, first[1])
        await sagas.stored(ids[1])
        await sagas.void_reply(ids[1])
        yield "a void event of a sum"
        cursor = await ledger.cursor(Step.STREAK)
        await store(pool, event("g", ada), feed=Feed(Step.STREAK, cursor, f"{cursor}1"))
        yield "a closing"

    return life


REPLICAS: Final[Mapping[str, Callable[[Pool, Redis, int], Any]]] = {
    "streak": _streak_replica,
    "achievement": _achievement_replica,
    "points": _points_replica,
    "leaderboard": _leaderboard_replica,
}
"""A participant's use cases as one of its processes has them, with so many users kept in memory."""

BUILDERS: Final[Mapping[str, Callable[[Pool, Redis, int], Awaitable[Life]]]] = {
    "streak": _streak,
    "achievement": _achievement,
    "points": _points,
    "leaderboard": _leaderboard,
    "orchestrator": _orchestrator,
}


async def define(pool: Pool, kind: DefinitionKind[Any], *messages: Any) -> None:
    puts = [definition_of(kind.name, kind.normalised(message)) for message in messages]
    request = WriteDefinitionsRequest(write_id=str(new_id()), write_time=to_timestamp(NOW), puts=puts)
    await Definitions(pool, {kind: "SELECT false"}).write(request)


def _life(name: str, handlers: Any, convert: Any) -> Life:
    async def life(prefix: str) -> AsyncIterator[str]:
        for step, request in LIVES[name].items():
            own = _of(prefix, request)
            if isinstance(own, participant_pb.RevertEntriesRequest):
                undone = [
                    Reversal(UUID(reversal.entry_id), reversal.user_id, to_datetime(reversal.now))
                    for reversal in own.reversals
                ]
                await handlers.revert_entries(undone)
            else:
                await handlers.apply_entries(participants.work(convert.command, *own.commands))
            yield step

    return life


def _of(prefix: str, request: Any) -> Any:
    """The same of other users and entries, with ids of this month."""
    own = type(request)()
    own.CopyFrom(request)
    for reversal in getattr(own, "reversals", ()):
        reversal.user_id = prefix + reversal.user_id
        reversal.entry_id = _own_id(prefix, reversal.entry_id)
    for command in getattr(own, "commands", ()):
        command.entry.user.user_id = prefix + command.entry.user.user_id
        command.entry.entry_id = _own_id(prefix, command.entry.entry_id)
        if command.entry.HasField("correction"):
            undone = command.entry.correction
            undone.corrected_entry_id = _own_id(prefix, undone.corrected_entry_id)
    return own


def _own_id(prefix: str, entry_id: str) -> str:
    return str(derived_id_beside(lowest_id(NOW), prefix, entry_id))
