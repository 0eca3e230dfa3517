"""Whether the system holds exactly what the file says, read through the contracts that every client has."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2
from laurel.points.v1 import points_pb2, points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from deploy.demo.expected import COMMITS, LINES, Expected
from services.cli.connect import Connections

EVERYTHING = 1_000_000
CALLS_AT_ONCE = 4
MISMATCHES_SHOWN = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """A statement about the system, and where it does not hold."""

    statement: str
    mismatches: Sequence[str]

    @property
    def holds(self) -> bool:
        return not self.mismatches

    @property
    def shown_mismatches(self) -> str:
        """The first of them, in one line."""
        more = len(self.mismatches) - MISMATCHES_SHOWN
        return "; ".join(self.mismatches[:MISMATCHES_SHOWN]) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class UserFacts:
    """What the services say about one user."""

    user_id: str
    user: orchestrator_service_pb2.GetUserResponse
    achievements: Sequence[achievement_pb2.UserAchievement]
    points: Sequence[points_pb2.UserPoints]
    awards: Sequence[points_pb2.Award]


def equal(statement: str, actual: object, expected: object) -> Check:
    """A check of two values."""
    return Check(statement, [] if actual == expected else [f"{actual} instead of {expected}"])


def run_checks(
    connections: Connections, expected: Expected, achievements: Sequence[achievement_pb2.Achievement]
) -> Iterator[Check]:
    """All checks on the imported history."""
    users = read_users(connections)
    yield equal("The system knows the users of the file, and no others", users, expected.users)
    everyone = _side_by_side(lambda user: read_user_facts(connections, user), users)
    yield Check("Totals and numbers of events equal those of the file", _total_mismatches(everyone, expected))
    yield Check(
        "Achievements are held by exactly those who earned them", _unearned(everyone, expected, achievements)
    )
    yield Check("Every balance is the sum of its ledger", _balance_mismatches(everyone))
    yield Check("Commits and lines were paid to the point", _award_mismatches(everyone, expected))
    yield _board("The board of all time", connections, "commits", expected.scores(COMMITS))
    for region in sorted(set(expected.regions.values())):
        scores = expected.scores(COMMITS, region)
        yield _board(f"The board of {region}", connections, "commits", scores, segment={"region": region})
    week = expected.busiest_week()
    run_date = date_pb2.LocalDate(year=week.year, month=week.month, day=week.day)
    yield _board(
        f"The archive of the week of {week}", connections, "weekly-commits", expected.weekly[week], run_date
    )
    balances = {each.user_id: Decimal(each.points[0].balance) for each in everyone if each.points}
    yield _board("The board of points", connections, "xp", balances)
    sagas = connections.all_pages(
        connections.orchestrator.ListSagas, orchestrator_service_pb2.ListSagasRequest(), "sagas", EVERYTHING
    )
    yield Check("No saga is left unfinished", [each.entry_id for each in sagas.sagas])


def check_streak_board(connections: Connections) -> Check:
    """The board by streaks follows what closes at midnight, too."""
    request = streak_service_pb2.ListLongestStreaksRequest(streak="daily-commits")
    streaks = connections.all_pages(connections.streak.ListLongestStreaks, request, "streaks", EVERYTHING)
    lengths = {each.user_id: Decimal(each.length) for each in streaks.streaks}
    return _board("The board of daily streaks", connections, "daily-streak", lengths, by="present length")


def read_users(connections: Connections) -> list[str]:
    """The ids of all users, sorted."""
    request = orchestrator_service_pb2.ListUsersRequest()
    found = connections.all_pages(connections.orchestrator.ListUsers, request, "users", EVERYTHING)
    return sorted(each.user_id for each in found.users)


def read_user_facts(connections: Connections, user_id: str) -> UserFacts:
    """What the orchestrator, the achievement service and the points service say about a user."""
    timeout = connections.timeout_seconds
    user = orchestrator_service_pb2.GetUserRequest(user_id=user_id)
    completed = achievement_service_pb2.ListUserAchievementsRequest(user_id=user_id, completed_only=True)
    points = points_service_pb2.ListUserPointsRequest(user_id=user_id)
    awards = points_service_pb2.ListAwardsRequest(user_id=user_id)
    return UserFacts(
        user_id,
        connections.orchestrator.GetUser(user, timeout=timeout),
        connections.achievement.ListUserAchievements(completed, timeout=timeout).achievements,
        connections.points.ListUserPoints(points, timeout=timeout).points,
        connections.all_pages(connections.points.ListAwards, awards, "awards", EVERYTHING).awards,
    )


def _side_by_side(read: Callable[[str], T], users: Iterable[str]) -> list[T]:
    with ThreadPoolExecutor(max_workers=CALLS_AT_ONCE) as threads:
        return list(threads.map(read, users))


def _total_mismatches(everyone: Sequence[UserFacts], expected: Expected) -> list[str]:
    actual = {
        (each.user_id, metric.metric): (Decimal(metric.total), metric.event_count)
        for each in everyone
        for metric in each.user.metrics
        if metric.event_count
    }
    wanted = {key: (total, expected.counts[key]) for key, total in expected.totals.items()}
    return _differences(actual, wanted)


def _unearned(
    everyone: Sequence[UserFacts], expected: Expected, achievements: Sequence[achievement_pb2.Achievement]
) -> list[str]:
    """Achievements by metric that are held without being earned, or earned without being held."""
    by_metric = {each.key: each.metric for each in achievements if each.HasField("metric")}
    actual = {
        (each.user_id, held.achievement): True
        for each in everyone
        for held in each.achievements
        if held.achievement in by_metric
    }
    wanted = {
        (user, key): True
        for user in expected.users
        for key, trigger in by_metric.items()
        if _reached(expected, user, trigger) >= Decimal(trigger.threshold)
    }
    return _differences(actual, wanted)


def _reached(expected: Expected, user: str, trigger: achievement_pb2.MetricTrigger) -> Decimal:
    if not trigger.event_filters:
        return expected.totals.get((user, trigger.metric), Decimal(0))
    (only,) = trigger.event_filters
    return expected.areas.get((user, only.equals), Decimal(0))


def _balance_mismatches(everyone: Sequence[UserFacts]) -> list[str]:
    actual = {each.user_id: sum(system.balance for system in each.points) for each in everyone}
    wanted = {each.user_id: sum(award.amount for award in each.awards) for each in everyone}
    return _differences(actual, wanted)


def _award_mismatches(everyone: Sequence[UserFacts], expected: Expected) -> list[str]:
    """10 points for every commit and 1 for every 100 lines: laurel.yaml."""

    def paid(each: UserFacts, trigger: str) -> int:
        return sum(award.amount for award in each.awards if award.trigger == trigger)

    actual = {each.user_id: (paid(each, "commit"), paid(each, "lines")) for each in everyone}
    wanted = {
        user: (
            int(10 * expected.totals.get((user, COMMITS), Decimal(0))),
            int(expected.totals.get((user, LINES), Decimal(0)) // 100),
        )
        for user in expected.users
    }
    return _differences(actual, wanted)


def _board(
    name: str,
    connections: Connections,
    key: str,
    scores: Mapping[str, Decimal],
    run_date: date_pb2.LocalDate | None = None,
    *,
    segment: Mapping[str, str] | None = None,
    by: str = "the sums of the file",
) -> Check:
    """Everyone is ranked with the right score, by falling scores, with ranks from 1 without gaps."""
    selector = leaderboard_service_pb2.SegmentSelector(leaderboard=key, segment=segment, run_date=run_date)
    request = leaderboard_service_pb2.ListRankedMembersRequest(selector=selector)
    found = connections.all_pages(connections.leaderboard.ListRankedMembers, request, "members", EVERYTHING)
    mismatches = _differences({each.user_id: Decimal(each.score) for each in found.members}, scores)
    if [each.rank for each in found.members] != list(range(1, len(scores) + 1)):
        mismatches.append("ranks have gaps")
    ordered = [each.score for each in found.members]
    if ordered != sorted(ordered, reverse=True):
        mismatches.append("a lower score stands above a higher one")
    if run_date is not None and not found.run.finalized:
        mismatches.append("the run is not archived")
    return Check(f"{name} ranks everyone by {by}", mismatches)


def _differences(actual: Mapping[T, object], wanted: Mapping[T, object]) -> list[str]:
    keys = sorted({*actual, *wanted}, key=str)
    return [
        f"{key}: {actual.get(key)} instead of {wanted.get(key)}"
        for key in keys
        if actual.get(key) != wanted.get(key)
    ]
