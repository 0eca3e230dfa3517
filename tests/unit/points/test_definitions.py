"""What can be wrong with a points system's definition, and what is made of one that is right."""

from datetime import UTC, datetime

from laurel.common.v1.date_pb2 import LocalDate
from laurel.points.v1 import points_pb2 as types

from services.points.definitions import POINTS_SYSTEM
from shared.errors import Violations
from shared.rpc.convert import to_timestamp

CREATED = types.UserCreatedPointsTrigger()
MARCH, FEBRUARY = LocalDate(year=2025, month=3, day=1), LocalDate(year=2025, month=2, day=1)
NOON = to_timestamp(datetime(2025, 3, 1, 12, tzinfo=UTC))
NOT_A_KEY = types.AchievementPointsTrigger(achievement="Not A Key")
BAD = types.PointsSystem(
    key="Bad Key",
    max_balance=5,
    min_balance=6,
    daily_cap=-1,
    levels=[
        types.Level(key="a", threshold=1),
        types.Level(key="a", threshold=1),
        types.Level(key="", threshold=2**60, multiplier=100),
    ],
    boosts=[
        types.PointsBoost(key="no_window", multiplier=0),
        types.PointsBoost(key="n", multiplier=float("nan"), start_date=MARCH, start_time=NOON),
        types.PointsBoost(key="n", multiplier=2, start_time=NOON, end_time=NOON, triggers=["none"]),
        types.PointsBoost(key="e", multiplier=2, start_date=MARCH, end_time=NOON, user_id="x" * 300),
        types.PointsBoost(key="f", multiplier=2, start_time=NOON, end_date=MARCH),
        types.PointsBoost(key="g", multiplier=0.0000001, start_date=MARCH, end_date=FEBRUARY),
        types.PointsBoost(key="h", multiplier=2, start_date=LocalDate(year=2025, month=2, day=29)),
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
        types.PointsTrigger(key="t", amount=-1, daily_limit=1, cooldown_seconds=1, user_created=CREATED),
        types.PointsTrigger(key="u", amount=1, daily_limit=-1, cooldown_seconds=-1, user_created=CREATED),
    ],
)
BAD_FIELDS = {
    "points_system.key",
    "points_system.min_balance",
    "points_system.daily_cap",
    "points_system.triggers[5].daily_limit",
    "points_system.triggers[5].cooldown_seconds",
    "points_system.triggers[6].daily_limit",
    "points_system.triggers[6].cooldown_seconds",
    "points_system.levels[1].key",
    "points_system.levels[1].threshold",
    "points_system.levels[2].key",
    "points_system.levels[2].threshold",
    "points_system.levels[2].multiplier",
    "points_system.boosts[0]",
    "points_system.boosts[0].multiplier",
    "points_system.boosts[1]",
    "points_system.boosts[1].multiplier",
    "points_system.boosts[2].key",
    "points_system.boosts[2].end_time",
    "points_system.boosts[2].triggers[0]",
    "points_system.boosts[3].end_time",
    "points_system.boosts[3].user_id",
    "points_system.boosts[4].end_date",
    "points_system.boosts[5].multiplier",
    "points_system.boosts[5].end_date",
    "points_system.boosts[6].start_date",
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
