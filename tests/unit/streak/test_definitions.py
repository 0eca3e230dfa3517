"""What can be wrong with a streak's definition, and what is made of one that is right."""

from typing import Any

import pytest
from laurel.common.v1 import filter_pb2
from laurel.streak.v1 import streak_pb2

from services.streak.definitions import STREAK
from shared.errors import Violations


def streak(key: str = "daily", **fields: Any) -> streak_pb2.Streak:
    fields.setdefault("frequency", streak_pb2.FREQUENCY_DAILY)
    fields.setdefault("metrics", [streak_pb2.MetricThreshold(metric="commits", threshold=1)])
    return streak_pb2.Streak(key=key, **fields)


def wrong(message: streak_pb2.Streak) -> set[str]:
    violations = Violations()
    STREAK.check(message, "streaks[0]", violations)
    return {violation.field.removeprefix("streaks[0].") for violation in violations}


FREEZES = streak_pb2.FreezeSettings
BAD = {
    "key": streak("Not A Key"),
    "frequency": streak(frequency=streak_pb2.FREQUENCY_UNSPECIFIED),
    "metrics": streak(metrics=[]),
    "metrics[0].metric": streak(metrics=[streak_pb2.MetricThreshold(metric="")]),
    "metrics[1].metric": streak(metrics=[streak_pb2.MetricThreshold(metric="commits")] * 2),
    "metrics[0].threshold": streak(metrics=[streak_pb2.MetricThreshold(metric="commits", threshold=-1)]),
    "mode": streak(mode=7),
    "status": streak(status=7),
    "days_off[0]": streak(days_off=[9]),
    "days_off": streak(days_off=range(1, 8)),
    "week_start": streak(week_start=streak_pb2.WEEKDAY_SUNDAY),
    "freezes.initial_count": streak(freezes=FREEZES(initial_count=-1)),
    "freezes.earn_every_days": streak(freezes=FREEZES(earn_count=1)),
    "freezes.earn_count": streak(freezes=FREEZES(earn_every_days=1)),
    "freezes.max_count": streak(freezes=FREEZES(initial_count=3, max_count=2)),
    "user_filters[0]": streak(user_filters=[filter_pb2.AttributeFilter(attribute="plan")]),
}


@pytest.mark.parametrize("field", BAD)
def test_a_wrong_definition_is_refused_with_the_field_at_fault(field: str) -> None:
    assert wrong(BAD[field]) == {field}


def test_a_right_definition_has_nothing_wrong() -> None:
    assert wrong(streak(days_off=[6, 7], freezes=FREEZES(initial_count=1))) == set()


def test_defaults_are_made_explicit() -> None:
    sent = streak(
        frequency=streak_pb2.FREQUENCY_WEEKLY, metrics=[streak_pb2.MetricThreshold(metric="commits")]
    )
    made = STREAK.normalised(sent)
    assert made.name == "daily"
    assert made.metrics[0].threshold == 1
    assert made.mode == streak_pb2.METRIC_MODE_ANY
    assert made.week_start == streak_pb2.WEEKDAY_MONDAY
    assert made.status == streak_pb2.STREAK_STATUS_ACTIVE


def test_days_off_in_another_order_are_the_same_and_empty_freezes_are_none() -> None:
    assert STREAK.normalised(streak(days_off=[7, 6], freezes=FREEZES())) == STREAK.normalised(
        streak(days_off=[6, 7])
    )


def test_a_streak_mentions_its_metrics() -> None:
    both = [streak_pb2.MetricThreshold(metric="commits"), streak_pb2.MetricThreshold(metric="reviews")]
    assert [(path, str(name)) for path, name in STREAK.references(streak(metrics=both))] == [
        ("metrics[0].metric", "metric 'commits'"),
        ("metrics[1].metric", "metric 'reviews'"),
    ]


def test_the_frequency_never_changes_and_the_rest_does() -> None:
    before = STREAK.normalised(streak())
    after = STREAK.normalised(streak(name="New", frequency=streak_pb2.FREQUENCY_MONTHLY, mode=2))
    violations = Violations()
    STREAK.check_update(before, after, "streak", violations)
    assert [violation.field for violation in violations] == ["streak.frequency"]
