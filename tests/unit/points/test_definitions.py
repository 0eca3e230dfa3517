"""What can be wrong with a points system's definition, and what is made of one that is right."""

from laurel.points.v1 import points_pb2 as types

from services.points.definitions import POINTS_SYSTEM
from shared.errors import Violations

NOT_A_KEY = types.AchievementPointsTrigger(achievement="Not A Key")
BAD = types.PointsSystem(
    key="Bad Key",
    max_balance=5,
    min_balance=6,
    levels=[
        types.Level(key="a", threshold=1),
        types.Level(key="a", threshold=1),
        types.Level(key="", threshold=2**60),
    ],
    triggers=[
        types.PointsTrigger(key="no_cause", amount=0),
        types.PointsTrigger(key="m", amount=1, metric=types.MetricPointsTrigger(metric="x", every=0)),
        types.PointsTrigger(
            key="n", amount=1, metric=types.MetricPointsTrigger(metric="", every=float("nan"))
        ),
        types.PointsTrigger(
            key="s", amount=2, block=True, streak=types.StreakPointsTrigger(streak="d", length=0)
        ),
        types.PointsTrigger(key="s", amount=2_000_000_000, achievement=NOT_A_KEY),
    ],
)
BAD_FIELDS = {
    "points_system.key",
    "points_system.min_balance",
    "points_system.levels[1].key",
    "points_system.levels[1].threshold",
    "points_system.levels[2].key",
    "points_system.levels[2].threshold",
    "points_system.triggers[0]",
    "points_system.triggers[0].amount",
    "points_system.triggers[1].metric.every",
    "points_system.triggers[2].metric.metric",
    "points_system.triggers[2].metric.every",
    "points_system.triggers[3].block",
    "points_system.triggers[3].streak.length",
    "points_system.triggers[4].key",
    "points_system.triggers[4].amount",
    "points_system.triggers[4].achievement.achievement",
}


BRONZE = types.Level(key="bronze", name="Bronze", threshold=10)
SILVER = types.Level(key="silver", name="Silver", threshold=20)


def trigger(key: str, **cause: object) -> types.PointsTrigger:
    return types.PointsTrigger(key=key, amount=10, **cause)  # type: ignore[arg-type]


BY_METRIC = trigger("commits", metric=types.MetricPointsTrigger(metric="commits", every=3))
BY_STREAK = trigger("week", streak=types.StreakPointsTrigger(streak="daily", length=7))
BY_ACHIEVEMENT = trigger("badge", achievement=types.AchievementPointsTrigger(achievement="badge"))
BY_ANY = trigger("any", achievement=types.AchievementPointsTrigger())


def changed(before: types.PointsSystem, after: types.PointsSystem) -> list[str]:
    violations = Violations()
    POINTS_SYSTEM.check_update(before, after, "points_system", violations)
    return [violation.field for violation in violations]


def test_every_mistake_is_listed_at_once() -> None:
    violations = Violations()
    POINTS_SYSTEM.check(BAD, "points_system", violations)
    assert {violation.field for violation in violations} == BAD_FIELDS


def test_defaults_are_made_explicit_and_levels_put_in_order() -> None:
    system = POINTS_SYSTEM.normalised(types.PointsSystem(key="xp", levels=[SILVER, BRONZE]))
    assert system.max_balance == 9_007_199_254_740_991
    assert system.level_basis == types.LEVEL_BASIS_BALANCE
    assert system.status == types.POINTS_SYSTEM_STATUS_ACTIVE
    assert [level.key for level in system.levels] == ["bronze", "silver"]


def test_a_system_mentions_what_causes_its_triggers_and_nothing_for_any_achievement() -> None:
    system = types.PointsSystem(key="xp", triggers=[BY_METRIC, BY_ANY, BY_STREAK, BY_ACHIEVEMENT])
    assert [(path, *name) for path, name in POINTS_SYSTEM.references(system)] == [
        ("triggers[0].metric.metric", "metric", "commits"),
        ("triggers[2].streak.streak", "streak", "daily"),
        ("triggers[3].achievement.achievement", "achievement", "badge"),
    ]


def test_the_kind_of_a_triggers_cause_cannot_be_changed() -> None:
    other = trigger("commits", achievement=types.AchievementPointsTrigger())
    before = types.PointsSystem(key="xp", triggers=[BY_METRIC])
    assert changed(before, types.PointsSystem(key="xp", triggers=[BY_STREAK, other])) == [
        "points_system.triggers[1].achievement"
    ]


def test_a_trigger_may_come_go_and_want_something_else() -> None:
    other = trigger("commits", metric=types.MetricPointsTrigger(metric="lines", every=1))
    before = types.PointsSystem(key="xp", triggers=[BY_METRIC, BY_STREAK])
    assert changed(before, types.PointsSystem(key="xp", triggers=[other, BY_ANY])) == []
