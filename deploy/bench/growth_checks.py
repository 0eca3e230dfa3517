"""Whether users who were copied are users like any others. Each check returns sentences about what is wrong."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import asyncpg
import grpc
from laurel.achievement.v1 import achievement_service_pb2, achievement_service_pb2_grpc
from laurel.leaderboard.v1 import leaderboard_service_pb2, leaderboard_service_pb2_grpc
from laurel.orchestrator.v1 import event_pb2, orchestrator_service_pb2, orchestrator_service_pb2_grpc
from laurel.points.v1 import points_service_pb2, points_service_pb2_grpc
from laurel.streak.v1 import streak_service_pb2, streak_service_pb2_grpc

from deploy.local.databases import CORE
from deploy.local.stack import Stack

PARTICIPANTS: Final = tuple(name for name in CORE if name != "orchestrator")

_COUNTS: Final = "SELECT (SELECT count(*) FROM users) AS users, (SELECT count(*) FROM {events}) AS events"
_ENTRY_IDS: Final = "SELECT entry_id FROM {events} WHERE user_id = $1"
# By the scores themselves, not by what orders them in the index. All boards of the demo begin with the highest.
_RANKS: Final = """
    SELECT board, segment.name AS segment, 1 + (
               SELECT count(*) FROM scores AS other
                WHERE other.board = own.board AND other.run_start = own.run_start
                  AND segment.name IN ('', other.segment)
                  AND (-other.score, other.reach_time, other.user_id) < (-own.score, own.reach_time, own.user_id)
           ) AS rank
      FROM scores AS own JOIN runs USING (board)
     CROSS JOIN LATERAL (SELECT DISTINCT unnest(ARRAY['', own.segment]) AS name) AS segment
     WHERE own.user_id = $1 AND own.score IS NOT NULL AND runs.start_date = own.run_start
       AND (now() AT TIME ZONE 'UTC')::date BETWEEN runs.start_date AND runs.end_date
"""

Ranks = Mapping[tuple[str, str], int]
"""By board and segment."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the services tell of a user."""

    totals: Mapping[str, tuple[float, int]]
    """By metric, with the number of events."""
    streaks: Mapping[str, tuple[int, int]]
    achievements: frozenset[str]
    points: Mapping[str, tuple[int, int]]


def check(stack: Stack, template_users: int, copies: int, events: int) -> list[str]:
    """Everything that does not hold of a stack that was just filled: numbers of rows, copies beside their template, and
    that an event counts on from where a copy is. Every copy has a look; the whole of them one in each of these ways.
    """
    users = template_users * copies
    found = asyncio.run(_counted(stack, users, events))
    with _connected(stack) as reader:
        for number in sorted({0, template_users // 2, template_users - 1}):
            original = reader.seen(_user(number))
            for copy in sorted({1, copies // 2, copies - 1} & set(range(1, copies))):
                user = _user(number + copy * template_users)
                found += asyncio.run(_known_alike(stack, user))
                if reader.seen(user) != original:
                    found.append(f"{user} is not what {_user(number)} is")
                found += reader.goes_on(user)
                found += _ranked(user, reader.ranks(user), asyncio.run(_ranks(stack, user)))
    return found


class _Reader:
    """Asks all services."""

    def __init__(self, channels: Mapping[str, grpc.Channel]) -> None:
        self._orchestrator = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channels["orchestrator"])
        self._streak = streak_service_pb2_grpc.StreakServiceStub(channels["streak"])
        self._achievement = achievement_service_pb2_grpc.AchievementServiceStub(channels["achievement"])
        self._points = points_service_pb2_grpc.PointsServiceStub(channels["points"])
        self._leaderboard = leaderboard_service_pb2_grpc.LeaderboardServiceStub(channels["leaderboard"])

    def seen(self, user: str) -> Seen:
        stored = self._orchestrator.GetUser(orchestrator_service_pb2.GetUserRequest(user_id=user))
        streaks = self._streak.ListUserStreaks(streak_service_pb2.ListUserStreaksRequest(user_id=user))
        earned = self._achievement.ListUserAchievements(
            achievement_service_pb2.ListUserAchievementsRequest(user_id=user, completed_only=True)
        )
        points = self._points.ListUserPoints(points_service_pb2.ListUserPointsRequest(user_id=user))
        return Seen(
            {each.metric: (each.total, each.event_count) for each in stored.metrics},
            {each.streak: (each.length, each.longest) for each in streaks.streaks},
            frozenset(each.achievement for each in earned.achievements),
            {each.points_system: (each.balance, each.lifetime) for each in points.points},
        )

    def ranks(self, user: str) -> Ranks:
        answer = self._leaderboard.ListUserStandings(
            leaderboard_service_pb2.ListUserStandingsRequest(user_id=user)
        )
        return {(each.leaderboard, _segment(each.segment)): each.rank for each in answer.standings}

    def goes_on(self, user: str) -> Iterator[str]:
        """An event more, and whether it was counted on top of everything before."""
        before = self.seen(user)
        request = event_pb2.IngestEventRequest(metric="commits", value=1, idempotency_key=str(uuid4()))
        request.user.user_id = user
        reply = self._orchestrator.IngestEvent(request)
        added = sum(each.added for each in reply.effects.points)
        after = self.seen(user)
        total, count = before.totals["commits"]
        if after.totals["commits"] != (total + 1, count + 1):
            yield f"an event of {user} made {after.totals['commits']} of {before.totals['commits']}"
        if added <= 0 or after.points["xp"][0] != before.points["xp"][0] + added:
            yield f"{added} points made {after.points['xp']} of {before.points['xp']} for {user}"
        if before.achievements - after.achievements:
            yield f"an event took achievements from {user}"


@contextmanager
def _connected(stack: Stack) -> Iterator[_Reader]:
    channels = {name: grpc.insecure_channel(stack.addresses(name)[0]) for name in CORE}
    try:
        yield _Reader(channels)
    finally:
        for channel in channels.values():
            channel.close()


async def _counted(stack: Stack, users: int, events: int) -> list[str]:
    found = []
    for service in CORE:
        (row,) = await _fetch(stack, service, _COUNTS.format(events=_events_of(service)))
        if tuple(row) != (users, events):
            found.append(f"{service} has {row['users']:,} users and {row['events']:,} events")
    return found


async def _known_alike(stack: Stack, user: str) -> list[str]:
    """Whether all services call the events of a user by the same ids."""
    ids = {
        service: {
            row["entry_id"]
            for row in await _fetch(stack, service, _ENTRY_IDS.format(events=_events_of(service)), user)
        }
        for service in CORE
    }
    return [
        f"{service} knows other events of {user} than the orchestrator"
        for service in PARTICIPANTS
        if ids[service] != ids["orchestrator"]
    ]


async def _ranks(stack: Stack, user: str) -> Ranks:
    rows = await _fetch(stack, "leaderboard", _RANKS, user)
    return {(row["board"], row["segment"]): row["rank"] for row in rows}


def _ranked(user: str, told: Ranks, counted: Ranks) -> Iterator[str]:
    for board, segment in sorted(told.keys() | counted.keys()):
        have, want = told.get((board, segment)), counted.get((board, segment))
        if have != want:
            yield f"{user} is told rank {have} on {board} {segment}, and has rank {want}"


def _events_of(service: str) -> str:
    return "entries" if service == "orchestrator" else "request_log"


def _segment(values: Mapping[str, str]) -> str:
    return json.dumps(dict(values), separators=(",", ":")) if values else ""


def _user(number: int) -> str:
    return f"user-{number:07}"


async def _fetch(stack: Stack, service: str, query: str, *arguments: object) -> Sequence[Any]:
    connection = await asyncpg.connect(stack.service_dsn(service))
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()
