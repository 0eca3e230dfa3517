"""What messages are written with: read from the services at the moment in which one is decided."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import grpc.aio
from google.protobuf.message import Message
from laurel.achievement.v1 import achievement_service_pb2, achievement_service_pb2_grpc
from laurel.leaderboard.v1 import leaderboard_service_pb2, leaderboard_service_pb2_grpc
from laurel.orchestrator.v1 import orchestrator_service_pb2, orchestrator_service_pb2_grpc
from laurel.points.v1 import points_service_pb2, points_service_pb2_grpc
from laurel.streak.v1 import streak_pb2, streak_service_pb2, streak_service_pb2_grpc
from msgspec import Struct

from services.notification import message_convert as convert
from services.notification.domain import messages, recaps
from services.notification.domain.messages import Definition, Plan, User
from services.notification.domain.recaps import Amount, Earned, Rank, Recap, RecapPeriod
from services.notification.domain.reminders import Streak
from shared.calendar import local_date
from shared.errors import NotFound
from shared.rpc.channel import call
from shared.rpc.convert import date_to_proto, to_datetime, to_timestamp
from shared.tenants import shown

_MOST: Final = 1_000
_MOST_ENDS: Final = 5_000
_MOST_PAGES: Final = 10
_DAY: Final = timedelta(days=1)
_UNITS: Final = {
    RecapPeriod.WEEKLY: points_service_pb2.SUMMARY_UNIT_WEEK,
    RecapPeriod.MONTHLY: points_service_pb2.SUMMARY_UNIT_MONTH,
}


class Names(Struct, frozen=True):
    """How things are called, by their keys."""

    streaks: Mapping[str, str]
    """Those that are evaluated alone."""
    metrics: Mapping[str, str]
    points: Mapping[str, str]
    boards: Mapping[str, str]


class Channels(Struct, frozen=True):
    """To the services that are read."""

    orchestrator: grpc.aio.Channel
    streak: grpc.aio.Channel
    achievement: grpc.aio.Channel
    points: grpc.aio.Channel
    leaderboard: grpc.aio.Channel

    async def close(self) -> None:
        """Close them all."""
        for channel in (self.orchestrator, self.streak, self.achievement, self.points, self.leaderboard):
            await channel.close()


class Reader:
    """Reads of users. Raises what the services answer, as `shared.rpc.channel.call` does."""

    def __init__(self, channels: Channels, timeout_seconds: float) -> None:
        self._orchestrator = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channels.orchestrator)
        self._streak = streak_service_pb2_grpc.StreakServiceStub(channels.streak)
        self._achievement = achievement_service_pb2_grpc.AchievementServiceStub(channels.achievement)
        self._points = points_service_pb2_grpc.PointsServiceStub(channels.points)
        self._leaderboard = leaderboard_service_pb2_grpc.LeaderboardServiceStub(channels.leaderboard)
        self._timeout_seconds = timeout_seconds

    async def user(self, user_id: str) -> User | None:
        """The user as of now; None: there is none any more."""
        request = orchestrator_service_pb2.GetUserRequest(user_id=user_id)
        try:
            answer = await self._call(self._orchestrator.GetUser, request)
        except NotFound:
            return None
        return convert.user_of(answer.user)

    # Streaks

    async def streak_names(self) -> dict[str, str]:
        """The names of the streaks that are evaluated."""
        listed = await self._all(self._streak.ListStreaks, streak_service_pb2.ListStreaksRequest(), "streaks")
        return {
            streak.key: streak.name for streak in listed if streak.status == streak_pb2.STREAK_STATUS_ACTIVE
        }

    async def streaks(self, user_id: str, names: Mapping[str, str]) -> list[Streak]:
        """The streaks of a user as of now, of those that have a name here."""
        request = streak_service_pb2.ListUserStreaksRequest(user_id=user_id)
        states = await self._all(self._streak.ListUserStreaks, request, "streaks")
        return [convert.streak_of(state, names[state.streak]) for state in states if state.streak in names]

    async def streak_ends(
        self, streak: str, begin: datetime, end: datetime, page_token: str
    ) -> streak_service_pb2.ListStreakEndsResponse:
        """A page of the users whose streak ends in a window, unless they do something."""
        request = streak_service_pb2.ListStreakEndsRequest(
            streak=streak,
            begin_time=to_timestamp(begin),
            end_time=to_timestamp(end),
            page_size=_MOST_ENDS,
            page_token=page_token,
        )
        return await call(self._streak.ListStreakEnds, request, timeout_seconds=self._timeout_seconds)

    # Recaps

    async def names(self) -> Names:
        """The names of everything that a recap can have."""
        metrics = await self._all(
            self._orchestrator.ListMetrics, orchestrator_service_pb2.ListMetricsRequest(), "metrics"
        )
        systems = await self._all(
            self._points.ListPointsSystems, points_service_pb2.ListPointsSystemsRequest(), "points_systems"
        )
        boards = await self._all(
            self._leaderboard.ListLeaderboards,
            leaderboard_service_pb2.ListLeaderboardsRequest(),
            "leaderboards",
        )
        return Names(
            streaks=await self.streak_names(),
            metrics={each.key: each.name for each in metrics},
            points={each.key: each.name for each in systems},
            boards={each.key: each.name for each in boards},
        )

    async def recap(self, plan: Plan, definition: Definition, user: User, names: Names) -> Recap:
        """What the period of a plan has brought, as the services say it now."""
        first, last = messages.recap_dates(plan, definition, user)
        before = recaps.period_of(first - _DAY, definition.every)[0]
        request = orchestrator_service_pb2.GetUserRequest(user_id=user.user_id)
        known = await self._call(self._orchestrator.GetUser, request)
        totals = {each.metric: each.total for each in known.metrics}
        earned, earned_before = await self._achievements(user, first, last, before)
        streaks = await self.streaks(user.user_id, names.streaks)
        return Recap(
            first,
            last,
            metrics=recaps.metric_amounts(plan.totals, totals, plan.before, names.metrics),
            points=await self._points_of(user.user_id, first, last, before, definition, names),
            achievements=earned[: messages.MOST_ITEMS],
            achievement_count_before=earned_before,
            streaks=_longest(streaks),
            ranks=await self._ranks(user, first, last, before, names),
            totals=totals,
        )

    async def _achievements(
        self, user: User, first: date, last: date, before: date
    ) -> tuple[tuple[Earned, ...], int]:
        """Those of the period, and how many there were in the one before."""
        request = achievement_service_pb2.ListUserAchievementsRequest(
            user_id=user.user_id, completed_only=True
        )
        held = await self._all(self._achievement.ListUserAchievements, request, "achievements")
        dated = [(local_date(to_datetime(each.complete_time), user.time_zone), each) for each in held]
        earned = tuple(
            Earned(each.achievement, each.name, each.badge_url)
            for day, each in sorted(dated, key=lambda pair: (pair[0], pair[1].achievement))
            if first <= day <= last
        )
        return earned, sum(before <= day < first for day, _ in dated)

    async def _points_of(
        self, user_id: str, first: date, last: date, before: date, definition: Definition, names: Names
    ) -> tuple[Amount, ...]:
        held = await self._all(
            self._points.ListUserPoints, points_service_pb2.ListUserPointsRequest(user_id=user_id), "points"
        )
        found = []
        for system in [each.points_system for each in held][: recaps.MOST_OF_A_KIND]:
            request = points_service_pb2.SummarizePointsRequest(
                user_id=user_id,
                points_system=system,
                unit=_UNITS[definition.every],
                first_date=date_to_proto(before),
                last_date=date_to_proto(last),
            )
            answer = await self._call(self._points.SummarizePoints, request)
            earned = {_date(each.start_date): each.earned for each in answer.periods}
            if amount := earned.get(first, 0):
                found.append(Amount(system, names.points.get(system, system), amount, earned.get(before, 0)))
        return tuple(found)

    async def _ranks(
        self, user: User, first: date, last: date, before: date, names: Names
    ) -> tuple[Rank, ...]:
        """The best places on whole boards, of those on which the user moved."""
        best: dict[str, int] = {}
        best_before: dict[str, int] = {}
        request = leaderboard_service_pb2.ListRankEventsRequest(user_id=user.user_id, page_size=_MOST)
        for _ in range(_MOST_PAGES):
            page = await self._call(self._leaderboard.ListRankEvents, request)
            for event in page.rank_events:
                day = local_date(to_datetime(event.occur_time), user.time_zone)
                places = best if first <= day <= last else best_before if before <= day < first else None
                found = [rank for rank in (event.rank, event.previous_rank) if rank]
                if places is not None and found and not event.segment:
                    board = shown(event.leaderboard)
                    places[board] = min([*found, *([places[board]] if board in places else [])])
            is_older = bool(page.rank_events) and (
                local_date(to_datetime(page.rank_events[-1].occur_time), user.time_zone) < before
            )
            if is_older or not page.next_page_token:
                break
            request.page_token = page.next_page_token
        ranks = [
            Rank(board, names.boards.get(board, board), place, best_before.get(board))
            for board, place in best.items()
        ]
        return tuple(sorted(ranks, key=lambda each: (each.best, each.key))[: recaps.MOST_OF_A_KIND])

    async def _call(self, method: Any, request: Message) -> Any:
        return await call(method, request, timeout_seconds=self._timeout_seconds)

    async def _all(self, method: Any, request: Any, field: str) -> list[Any]:
        """What all pages have in this field, up to a bound."""
        found: list[Any] = []
        request.page_size = _MOST
        for _ in range(_MOST_PAGES):
            page = await self._call(method, request)
            found += getattr(page, field)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found


def _longest(streaks: list[Streak]) -> tuple[Streak, ...]:
    alive = sorted((each for each in streaks if each.length), key=lambda each: (-each.length, each.key))
    return tuple(alive[: recaps.MOST_OF_A_KIND])


def _date(message: Any) -> date:
    return date(message.year, message.month, message.day)
