"""What can be wrong with an achievement's definition, and what is made of one that is right."""

import pytest
from laurel.achievement.v1 import achievement_pb2 as types
from laurel.common.v1 import filter_pb2

from services.achievement.definitions import ACHIEVEMENT
from shared.errors import Violations

BY_CALL = types.Achievement(key="ten", name="Ten", api=types.ApiTrigger())


def by_metric(threshold: float) -> types.Achievement:
    trigger = types.MetricTrigger(metric="commits", threshold=threshold)
    return types.Achievement(key="ten", name="Ten", metric=trigger)


def by_streak(length: int) -> types.Achievement:
    return types.Achievement(key="ten", name="Ten", streak=types.StreakTrigger(streak="daily", length=length))


def wrong(message: types.Achievement) -> set[str]:
    violations = Violations()
    ACHIEVEMENT.check(message, "achievement", violations)
    return {violation.field for violation in violations}


def test_every_mistake_of_a_definition_is_named() -> None:
    message = types.Achievement(
        key="Ten",
        name="x" * 256,
        metric=types.MetricTrigger(metric="", threshold=-1, event_filters=[filter_pb2.AttributeFilter()]),
        tier_group="No Key",
        tier=-1,
        status=9,  # type: ignore[arg-type]
    )
    assert wrong(message) == {
        "achievement.key",
        "achievement.name",
        "achievement.status",
        "achievement.tier",
        "achievement.tier_group",
        "achievement.metric.metric",
        "achievement.metric.threshold",
        "achievement.metric.event_filters[0]",
        "achievement.metric.event_filters[0].attribute",
    }


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e13])
def test_a_threshold_that_cannot_be_reached_or_counted_is_refused(threshold: float) -> None:
    assert wrong(by_metric(threshold)) == {"achievement.metric.threshold"}


def test_a_definition_says_how_it_is_earned() -> None:
    assert wrong(types.Achievement(key="ten")) == {"achievement"}
    assert wrong(by_streak(0)) == {"achievement.streak.length"}
    assert wrong(BY_CALL) == set()


def test_the_default_status_is_made_explicit() -> None:
    assert ACHIEVEMENT.normalised(BY_CALL).status == types.ACHIEVEMENT_STATUS_ACTIVE


def test_an_achievement_mentions_what_has_to_be_reached() -> None:
    assert [(path, *name) for path, name in ACHIEVEMENT.references(by_metric(1))] == [
        ("metric.metric", "metric", "commits")
    ]
    assert [(path, *name) for path, name in ACHIEVEMENT.references(by_streak(7))] == [
        ("streak.streak", "streak", "daily")
    ]
    assert list(ACHIEVEMENT.references(BY_CALL)) == []


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        (by_metric(1), by_streak(1), "achievement.streak"),
        (by_streak(1), BY_CALL, "achievement.api"),
        (BY_CALL, by_metric(1), "achievement.metric"),
    ],
)
def test_the_kind_of_a_trigger_cannot_be_changed(
    before: types.Achievement, after: types.Achievement, field: str
) -> None:
    violations = Violations()
    ACHIEVEMENT.check_update(before, after, "achievement", violations)
    assert [violation.field for violation in violations] == [field]


def test_what_a_trigger_wants_can_be_changed() -> None:
    violations = Violations()
    ACHIEVEMENT.check_update(by_metric(1), by_metric(2), "achievement", violations)
    assert not len(violations)


def by_others(*keys: str, at_least: int = 0) -> types.Achievement:
    trigger = types.CompositeTrigger(achievements=keys, at_least=at_least)
    return types.Achievement(key="ten", name="Ten", composite=trigger)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (by_others(), {"achievements"}),
        (by_others("a", "a"), {"achievements[1]"}),
        (by_others("Not a key"), {"achievements[0]"}),
        (by_others("a", at_least=2), {"at_least"}),
        (by_others("a", at_least=-1), {"at_least"}),
        (by_others(*(f"a{n}" for n in range(101))), {"achievements"}),
    ],
)
def test_a_composite_hangs_on_so_many_others(message: types.Achievement, fields: set[str]) -> None:
    assert wrong(message) == {f"achievement.composite.{field}" for field in fields}
    assert wrong(by_others("a", "b", at_least=1)) == set()


def test_a_composite_mentions_its_prerequisites() -> None:
    assert [(path, *name) for path, name in ACHIEVEMENT.references(by_others("a", "b"))] == [
        ("composite.achievements[0]", "achievement", "a"),
        ("composite.achievements[1]", "achievement", "b"),
    ]


def together(*messages: types.Achievement) -> list[str]:
    violations = Violations()
    ACHIEVEMENT.check_all({m.key: (f"achievements[{n}]", m) for n, m in enumerate(messages)}, violations)
    return [violation.field for violation in violations]


def hanging(key: str, *keys: str) -> types.Achievement:
    return types.Achievement(key=key, composite=types.CompositeTrigger(achievements=keys))


def test_composites_in_a_circle_are_refused_wherever_they_are_written() -> None:
    assert together(hanging("a", "b"), hanging("b", "a"), hanging("c", "a")) == [
        "achievements[0].composite.achievements",
        "achievements[1].composite.achievements",
    ]
    assert together(hanging("a", "a")) == ["achievements[0].composite.achievements"]


def test_composites_stand_on_one_another_twenty_levels_high() -> None:
    tower = [hanging(f"a{level}", f"a{level - 1}") for level in range(1, 22)]
    assert together(*tower[:20]) == []
    assert together(*tower) == ["achievements[20].composite.achievements"]


def test_a_window_ends_after_it_begins_and_no_composite_is_repeated() -> None:
    message = by_others("a")
    message.repeatable = True
    message.earn_from.FromJsonString("2026-01-02T00:00:00Z")
    message.earn_until.FromJsonString("2026-01-02T00:00:00Z")
    assert wrong(message) == {"achievement.repeatable", "achievement.earn_until"}
