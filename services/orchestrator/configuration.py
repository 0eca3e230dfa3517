"""One declarative configuration for all services: every mistake is found, or everything is applied (DESIGN 1).

Definitions live in the services that own them. References between them are checked here, because only here all
of them are known.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from laurel.achievement.v1 import achievement_service_pb2
from laurel.common.v1 import configuration_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2
from laurel.orchestrator.v1 import metric_pb2, orchestrator_service_pb2
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from services.orchestrator.participants import Participants
from shared.errors import FailedPrecondition, InvalidArgument, Violations
from shared.postgres.definitions import Definitions
from shared.rpc.channel import call

_PAGE_SIZE: Final = 1_000
_TIMEOUT_SECONDS: Final = 20.0

KINDS: Final = ("metrics", "streaks", "achievements", "points_systems", "leaderboards")
"""The lists of a configuration, in the order in which they are applied."""

Configuration = orchestrator_service_pb2.ApplyConfigurationRequest
Changes = list[configuration_pb2.ConfigurationChange]


class Reference(NamedTuple):
    """One definition's mention of another."""

    path: str
    kind: str
    key: str


def references(configuration: Configuration) -> Iterator[Reference]:
    """Every mention of one definition by another, with its place."""
    for index, streak in enumerate(configuration.streaks):
        for number, metric in enumerate(streak.metrics):
            yield Reference(f"streaks[{index}].metrics[{number}].metric", "metrics", metric.metric)
    for index, achievement in enumerate(configuration.achievements):
        yield from _of_trigger(achievement, achievement.WhichOneof("trigger"), f"achievements[{index}]")
    for index, system in enumerate(configuration.points_systems):
        for number, trigger in enumerate(system.triggers):
            path = f"points_systems[{index}].triggers[{number}]"
            yield from _of_trigger(trigger, trigger.WhichOneof("cause"), path)
    for index, board in enumerate(configuration.leaderboards):
        source = board.WhichOneof("source")
        if source is not None:
            yield Reference(f"leaderboards[{index}].{source}", _LISTS[source], getattr(board, source))


_LISTS: Final = {
    "metric": "metrics",
    "streak": "streaks",
    "achievement": "achievements",
    "points_system": "points_systems",
}


def _of_trigger(owner: Any, kind: str | None, path: str) -> Iterator[Reference]:
    """The mention in a trigger; one of any achievement mentions none."""
    if kind in ("metric", "streak", "achievement"):
        key = getattr(getattr(owner, kind), kind)
        if key:
            yield Reference(f"{path}.{kind}.{kind}", _LISTS[kind], key)


class Configurator:
    """Checks and applies configurations."""

    def __init__(self, metrics: Definitions[metric_pb2.Metric], participants: Participants) -> None:
        self._metrics = metrics
        self._participants = participants

    async def apply(self, configuration: Configuration) -> Changes:
        """Checks everything, then applies it unless only validation is wanted.

        Raises `InvalidArgument` with every mistake of every service; then nothing has been applied.
        """
        violations = Violations()
        changes: Changes = []
        for kind in KINDS:
            try:
                changes += await self._apply(kind, getattr(configuration, kind), validate_only=True)
            except InvalidArgument as error:
                for violation in error.violations:
                    violations.add(violation.field, violation.description)
        await self._check_references(configuration, violations)
        violations.raise_if_any()
        if configuration.validate_only:
            return changes
        applied: Changes = []
        for kind in KINDS:
            applied += await self._apply(kind, getattr(configuration, kind), validate_only=False)
        return applied

    async def check_unused(self, key: str) -> None:
        """Raises `FailedPrecondition` when a definition mentions this metric."""
        stored = await self._stored()
        for reference in references(stored):
            if reference.kind == "metrics" and reference.key == key:
                raise FailedPrecondition(
                    f"the metric {key!r} is mentioned by {_owner(stored, reference.path)}",
                    reason="METRIC_IN_USE",
                    metadata={"key": key, "path": reference.path},
                )

    async def _check_references(self, configuration: Configuration, violations: Violations) -> None:
        stored = await self._stored()
        known = {
            kind: {item.key for part in (configuration, stored) for item in getattr(part, kind)}
            for kind in KINDS
        }
        for reference in references(configuration):
            if reference.key not in known[reference.kind]:
                description = f"there is no {_one(reference.kind)} {reference.key!r}"
                violations.add(reference.path, description, "REFERENCE_NOT_FOUND")

    async def _apply(self, kind: str, definitions: Sequence[Any], *, validate_only: bool) -> Changes:
        if not definitions:
            return []
        if kind == "metrics":
            return list(await self._metrics.apply(definitions, validate_only=validate_only, path="metrics"))
        make, method = self._owners()[kind]
        request = make(**{kind: definitions, "validate_only": validate_only})
        response = await call(method, request, timeout_seconds=_TIMEOUT_SECONDS)
        return list(response.changes)

    def _owners(self) -> dict[str, tuple[Callable[..., Any], Any]]:
        participants = self._participants
        return {
            "streaks": (
                streak_service_pb2.ApplyConfigurationRequest,
                participants.streak.ApplyConfiguration,
            ),
            "achievements": (
                achievement_service_pb2.ApplyConfigurationRequest,
                participants.achievement.ApplyConfiguration,
            ),
            "points_systems": (
                points_service_pb2.ApplyConfigurationRequest,
                participants.points.ApplyConfiguration,
            ),
            "leaderboards": (
                leaderboard_service_pb2.ApplyConfigurationRequest,
                participants.leaderboard.ApplyConfiguration,
            ),
        }

    async def _stored(self) -> Configuration:
        """Everything that is configured now."""
        participants = self._participants
        stored = Configuration()
        token = ""
        while True:
            metrics, token = await self._metrics.list(_PAGE_SIZE, token)
            stored.metrics.extend(metrics)
            if not token:
                break
        for kind, make, method in (
            ("streaks", streak_service_pb2.ListStreaksRequest, participants.streak.ListStreaks),
            (
                "achievements",
                achievement_service_pb2.ListAchievementsRequest,
                participants.achievement.ListAchievements,
            ),
            (
                "points_systems",
                points_service_pb2.ListPointsSystemsRequest,
                participants.points.ListPointsSystems,
            ),
            (
                "leaderboards",
                leaderboard_service_pb2.ListLeaderboardsRequest,
                participants.leaderboard.ListLeaderboards,
            ),
        ):
            await _collect(getattr(stored, kind), kind, make, method)
        return stored


async def _collect(into: Any, kind: str, make: Callable[..., Any], method: Any) -> None:
    """Every page of one list."""
    token = ""
    while True:
        request = make(page_size=_PAGE_SIZE, page_token=token)
        page = await call(method, request, timeout_seconds=_TIMEOUT_SECONDS)
        into.extend(getattr(page, kind))
        token = page.next_page_token
        if not token:
            return


def _one(kind: str) -> str:
    return kind.removesuffix("s").replace("_", " ")


def _owner(stored: Configuration, path: str) -> str:
    """The definition at a path, in words."""
    kind, _, rest = path.partition("[")
    return f"the {_one(kind)} {getattr(stored, kind)[int(rest.partition(']')[0])].key!r}"
