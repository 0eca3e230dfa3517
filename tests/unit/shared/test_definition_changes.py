"""How two versions of a definition differ, field by field."""

from laurel.common.v1.configuration_pb2 import FieldChange
from laurel.common.v1.filter_pb2 import AttributeFilter
from laurel.points.v1.points_pb2 import Level, MetricPointsTrigger, PointsSystem, PointsTrigger
from laurel.streak.v1.streak_pb2 import (
    STREAK_STATUS_ACTIVE,
    STREAK_STATUS_ARCHIVED,
    WEEKDAY_SATURDAY,
    WEEKDAY_SUNDAY,
    FreezeSettings,
    MetricThreshold,
    Streak,
)

from shared.definition_changes import field_changes


def per_commit(amount: int, key: str = "commit") -> PointsTrigger:
    return PointsTrigger(key=key, amount=amount, metric=MetricPointsTrigger(metric="commits", every=1))


def test_what_says_the_same_has_no_changes() -> None:
    streak = Streak(key="a", metrics=[MetricThreshold(metric="m")])
    other = Streak(key="a", metrics=[MetricThreshold(metric="m")])
    other.update_time.seconds = 5
    assert field_changes(streak, other) == []


def test_a_value_is_shown_as_it_was_and_as_it_becomes() -> None:
    before = Streak(key="a", name="Old", status=STREAK_STATUS_ACTIVE)
    after = Streak(key="a", name="New \u2713", status=STREAK_STATUS_ARCHIVED)
    assert field_changes(before, after) == [
        FieldChange(path="name", old_value='"Old"', new_value='"New \u2713"'),
        FieldChange(path="status", old_value='"STREAK_STATUS_ACTIVE"', new_value='"STREAK_STATUS_ARCHIVED"'),
    ]


def test_a_field_that_goes_away_is_marked_and_one_that_comes_is_not() -> None:
    with_freezes = Streak(key="a", freezes=FreezeSettings(initial_count=2))
    without = Streak(key="a")
    assert field_changes(with_freezes, without) == [
        FieldChange(path="freezes", old_value='{"initial_count": 2}', removed=True)
    ]
    assert field_changes(without, with_freezes) == [
        FieldChange(path="freezes", new_value='{"initial_count": 2}')
    ]


def test_a_number_that_becomes_zero_is_changed_and_not_removed() -> None:
    before = PointsSystem(key="xp", min_balance=-5, levels=[Level(key="a", threshold=3)])
    after = PointsSystem(key="xp", levels=[Level(key="a")])
    assert field_changes(before, after) == [
        FieldChange(path="min_balance", old_value="-5", new_value="0"),
        FieldChange(path="levels[a].threshold", old_value="3", new_value="0"),
    ]


def test_an_optional_number_that_is_said_no_more_is_removed() -> None:
    assert field_changes(PointsSystem(key="xp", max_balance=0), PointsSystem(key="xp")) == [
        FieldChange(path="max_balance", old_value="0", removed=True)
    ]


def test_elements_of_one_key_are_compared_wherever_they_stand() -> None:
    before = PointsSystem(key="xp", levels=[Level(key="a", threshold=1), Level(key="b", threshold=5)])
    after = PointsSystem(key="xp", levels=[Level(key="b", threshold=6), Level(key="c", threshold=9)])
    assert field_changes(before, after) == [
        FieldChange(path="levels[a]", old_value='{"key": "a", "threshold": 1}', removed=True),
        FieldChange(path="levels[b].threshold", old_value="5", new_value="6"),
        FieldChange(path="levels[c]", new_value='{"key": "c", "threshold": 9}'),
    ]


def test_another_order_is_a_change_of_the_list() -> None:
    before = PointsSystem(key="xp", triggers=[per_commit(1, "a"), per_commit(1, "b"), per_commit(1, "c")])
    after = PointsSystem(key="xp", triggers=[per_commit(1, "b"), per_commit(1, "a"), per_commit(1, "c")])
    assert field_changes(before, after) == [
        FieldChange(path="triggers", old_value='["a", "b", "c"]', new_value='["b", "a", "c"]')
    ]


def test_a_change_deep_inside_is_named_by_its_whole_path() -> None:
    before, after = per_commit(10), per_commit(10)
    after.metric.every = 2.5
    assert field_changes(PointsSystem(triggers=[before]), PointsSystem(triggers=[after])) == [
        FieldChange(path="triggers[commit].metric.every", old_value="1.0", new_value="2.5")
    ]


def test_a_oneof_that_changes_its_kind_loses_one_field_and_gets_another() -> None:
    before, after = per_commit(10), PointsTrigger(key="commit", amount=10)
    after.achievement.SetInParent()
    changes = field_changes(PointsSystem(triggers=[before]), PointsSystem(triggers=[after]))
    assert [(change.path, change.removed) for change in changes] == [
        ("triggers[commit].metric", True),
        ("triggers[commit].achievement", False),
    ]


def test_a_list_of_plain_values_says_when_it_loses_one() -> None:
    both = Streak(days_off=[WEEKDAY_SATURDAY, WEEKDAY_SUNDAY])
    streak = Streak(days_off=[WEEKDAY_SUNDAY])
    (lost,) = field_changes(both, streak)
    assert (lost.old_value, lost.new_value) == (
        '["WEEKDAY_SATURDAY", "WEEKDAY_SUNDAY"]',
        '["WEEKDAY_SUNDAY"]',
    )
    assert lost.removed
    (won,) = field_changes(streak, both)
    assert not won.removed


def test_elements_without_a_name_of_their_own_are_compared_as_a_whole() -> None:
    old = AttributeFilter(attribute="age", equals="1")
    new = AttributeFilter(attribute="age", equals="2")
    (change,) = field_changes(Streak(user_filters=[old, old]), Streak(user_filters=[old, new]))
    assert (change.path, change.removed) == ("user_filters", False)
    (change,) = field_changes(Streak(user_filters=[old, new]), Streak(user_filters=[old, old]))
    assert (change.path, change.removed) == ("user_filters", True)
