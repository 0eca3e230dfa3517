"""How users, streaks, achievements and points are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2, user_pb2
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from services.cli import render
from services.cli.connect import MAX_PAGE_SIZE, Connections
from services.cli.show_event import show_standings
from services.cli.show_points import show_points
from services.cli.show_streak import show_streak_states


@dataclass(frozen=True, slots=True)
class UserPage:
    """Everything about one user: one response of each service."""

    user: orchestrator_service_pb2.GetUserResponse
    streaks: streak_service_pb2.ListUserStreaksResponse
    achievements: achievement_service_pb2.ListUserAchievementsResponse
    points: points_service_pb2.ListUserPointsResponse
    leaderboards: leaderboard_service_pb2.ListUserStandingsResponse

    def responses(self) -> Mapping[str, Message]:
        """The responses under their names, for JSON."""
        return {
            "user": self.user,
            "streaks": self.streaks,
            "achievements": self.achievements,
            "points": self.points,
            "leaderboards": self.leaderboards,
        }


def read_user_page(connections: Connections, user_id: str) -> UserPage:
    """Ask each service about the user, side by side. Raises `grpc.RpcError` where one refuses."""
    timeout = connections.timeout_seconds
    user = connections.orchestrator.GetUser(
        orchestrator_service_pb2.GetUserRequest(user_id=user_id), timeout=timeout
    )
    # Of who was merged, whom the id leads to.
    user_id = user.user.user_id
    streaks = connections.streak.ListUserStreaks.future(
        streak_service_pb2.ListUserStreaksRequest(user_id=user_id, page_size=MAX_PAGE_SIZE), timeout=timeout
    )
    achievements = connections.achievement.ListUserAchievements.future(
        achievement_service_pb2.ListUserAchievementsRequest(user_id=user_id, page_size=MAX_PAGE_SIZE),
        timeout=timeout,
    )
    points = connections.points.ListUserPoints.future(
        points_service_pb2.ListUserPointsRequest(user_id=user_id, page_size=MAX_PAGE_SIZE), timeout=timeout
    )
    standings = connections.leaderboard.ListUserStandings.future(
        leaderboard_service_pb2.ListUserStandingsRequest(user_id=user_id, page_size=MAX_PAGE_SIZE),
        timeout=timeout,
    )
    return UserPage(user, streaks.result(), achievements.result(), points.result(), standings.result())


def show_user_page(page: UserPage, *, completed_only: bool = False) -> None:
    """Everything about one user."""
    user = page.user.user
    render.heading(f"User {user.user_id}")
    render.facts(
        [
            ("name", user.name),
            ("zone", user.time_zone),
            ("attributes", ", ".join(f"{key}={user.attributes[key]}" for key in sorted(user.attributes))),
            ("first seen", render.instant(user.create_time)),
        ]
    )
    render.heading("Metrics")
    rows: render.Rows = [[each.metric, each.total, each.event_count] for each in page.user.metrics]
    render.table(["metric", ">total", ">events"], rows, empty="none")
    render.heading("Streaks")
    show_streak_states(page.streaks.streaks)
    render.heading("Achievements")
    show_achievements(
        [each for each in page.achievements.achievements if each.completed or not completed_only]
    )
    render.heading("Points")
    show_points(page.points.points)
    render.heading("Leaderboards")
    show_standings(page.leaderboards.standings, as_change=False)


def show_users(users: Sequence[user_pb2.StoredUser]) -> None:
    rows: render.Rows = [
        [
            each.user_id,
            each.name,
            each.time_zone,
            render.segment(each.attributes) if each.attributes else None,
            render.instant(each.create_time),
        ]
        for each in users
    ]
    render.table(["user", "name", "?zone", "?attributes", "?first seen"], rows, empty="no users")


def show_achievements(achievements: Sequence[achievement_pb2.UserAchievement]) -> None:
    render.table(
        ["achievement", "?name", "completed", "?>times", ">progress", ">%"],
        [
            [
                each.achievement,
                each.name,
                render.instant(each.complete_time) if each.completed else None,
                each.completion_count if each.completion_count > 1 else None,
                f"{render.number(each.current)} of {render.number(each.target)}" if each.target else None,
                render.number(int(each.percent)),
            ]
            for each in achievements
        ],
        empty="none",
    )


def show_completions(completions: Sequence[achievement_pb2.CompletionRecord]) -> None:
    prefix = "ACHIEVEMENT_CHANGE_KIND_"
    render.table(
        ["user", "achievement", ">number", "what", "time", "entry"],
        [
            [
                each.user_id,
                each.achievement,
                each.number,
                render.enum_name(achievement_pb2.AchievementChangeKind.Name(each.kind), prefix)
                + (", backdated" if each.backdated else ""),
                render.instant(each.time),
                each.entry_id,
            ]
            for each in completions
        ],
        empty="none",
    )
