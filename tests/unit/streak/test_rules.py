"""RULES 3, sentence by sentence, on histories small enough to read. March 2025 begins on a Saturday."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from services.streak.domain import (
    Current,
    Fact,
    FreezeReason,
    FreezeSettings,
    Frequency,
    MetricMode,
    MetricThreshold,
    StreakDefinition,
    fact,
    facts,
    fold,
)
from services.streak.domain.state import Folded
from services.streak.encoding import decode, encode

COMMITS = (MetricThreshold("commits", 1),)
BOTH = (MetricThreshold("commits", 2), MetricThreshold("lines", 10))


def streak(**fields: object) -> StreakDefinition:
    values: dict[str, object] = {"key": "s", "frequency": Frequency.DAILY, "metrics": COMMITS}
    return StreakDefinition(**(values | fields))  # type: ignore[arg-type]


def at(day: int, hour: int = 12, month: int = 3) -> datetime:
    return datetime(2025, month, day, hour, tzinfo=UTC)


def did(
    time: datetime,
    value: int = 1,
    metric: str = "commits",
    zone: str = "UTC",
    arrival: datetime | None = None,
) -> Fact:
    return fact(UUID(int=int(time.timestamp()) * 100 + value + 50), metric, value, time, zone, arrival)


def folded(definition: StreakDefinition, events: list[Fact], now: datetime) -> Folded:
    result = fold(definition, facts(events), now)
    assert result
    return result


def current(definition: StreakDefinition, events: list[Fact], now: datetime) -> Current:
    return folded(definition, events, now).current


def statuses(definition: StreakDefinition, events: list[Fact], now: datetime) -> list[tuple[int, str]]:
    return [(row.start_date.day, row.status.name) for row in folded(definition, events, now).rows.periods]


def test_a_period_qualifies_when_the_sum_of_its_values_reaches_the_threshold() -> None:
    definition = streak(metrics=(MetricThreshold("commits", 3),))
    assert current(definition, [did(at(3), 2)], at(3, 20)).length == 0
    reached = current(definition, [did(at(3), 2), did(at(3, 15)), did(at(3, 18), 5)], at(3, 20))
    assert (reached.length, reached.reach_time, reached.sums_micros) == (1, at(3, 15), (8,))


def test_any_needs_one_metric_and_all_needs_every_one() -> None:
    one, both = [did(at(3), 2)], [did(at(3), 2), did(at(3, 13), 10, "lines")]
    anyone, everyone = streak(metrics=BOTH), streak(metrics=BOTH, mode=MetricMode.ALL)
    assert [current(anyone, events, at(3, 20)).length for events in (one, both)] == [1, 1]
    assert [current(everyone, events, at(3, 20)).length for events in (one, both)] == [0, 1]


def test_a_negative_value_can_take_a_qualification_back_and_a_later_one_give_it_again() -> None:
    events = [did(at(3)), did(at(4, 9)), did(at(4, 10), -1)]
    assert (current(streak(), events, at(4, 20)).length, current(streak(), events, at(4, 20)).longest) == (
        1,
        1,
    )
    again = current(streak(), [*events, did(at(4, 11), 2)], at(4, 20))
    assert (again.length, again.reach_time) == (2, at(4, 11))


def test_only_the_first_qualifying_of_a_period_adds_to_the_length() -> None:
    assert current(streak(), [did(at(3, hour)) for hour in range(24)], at(3, 23)).length == 1


def test_the_open_period_never_breaks_a_streak() -> None:
    assert current(streak(), [did(at(3))], at(4, 23)).length == 1
    assert current(streak(), [did(at(3))], at(5, 0)).length == 0


def test_after_a_break_nothing_is_recorded_and_freezes_are_still_earned() -> None:
    definition = streak(freezes=FreezeSettings(0, 1, 7, 2))
    result = folded(definition, [did(at(3))], at(30))
    assert [(row.start_date.day, row.status.name) for row in result.rows.periods] == [
        (3, "QUALIFIED"),
        (4, "BROKEN"),
    ]
    assert [(line.effective_date.day, line.amount) for line in result.rows.ledger] == [(10, 1), (17, 1)]
    assert (result.current.length, result.current.freeze_count) == (0, 2)


def test_a_missed_day_consumes_a_freeze_when_one_is_available() -> None:
    definition = streak(freezes=FreezeSettings(initial_count=1, max_count=1))
    assert statuses(definition, [did(at(3)), did(at(6))], at(6)) == [
        (3, "QUALIFIED"),
        (4, "FROZEN"),
        (5, "BROKEN"),
        (6, "QUALIFIED"),
    ]


def test_a_grant_saves_only_periods_whose_last_day_is_not_before_it() -> None:
    definition = streak(freezes=FreezeSettings(0, 1, 2, 1))
    assert statuses(definition, [did(at(3))], at(9)) == [(3, "QUALIFIED"), (4, "BROKEN")]
    assert statuses(definition, [did(at(3)), did(at(4))], at(6)) == [
        (3, "QUALIFIED"),
        (4, "QUALIFIED"),
        (5, "FROZEN"),
    ]


def test_freezes_are_never_held_beyond_the_maximum() -> None:
    definition = streak(freezes=FreezeSettings(1, 3, 1, 2))
    ledger = folded(definition, [did(at(3))], at(4, 23)).rows.ledger
    assert [(line.reason, line.amount) for line in ledger] == [
        (FreezeReason.INITIAL, 1),
        (FreezeReason.ACCUMULATION, 1),
    ]


def test_a_day_off_comes_before_a_freeze_and_still_counts_when_used() -> None:
    definition = streak(days_off=frozenset({5, 6}), freezes=FreezeSettings(initial_count=1, max_count=1))
    assert statuses(definition, [did(at(7)), did(at(9)), did(at(11))], at(11)) == [
        (7, "QUALIFIED"),
        (8, "DAY_OFF"),
        (9, "QUALIFIED"),
        (10, "FROZEN"),
        (11, "QUALIFIED"),
    ]


def test_travel_east_over_the_date_line_skips_the_lost_day_only() -> None:
    left = did(at(3, 20), zone="Pacific/Honolulu")  # the third
    arrived = did(at(5, 13), zone="Pacific/Kiritimati")  # the sixth
    assert statuses(streak(), [left, arrived], at(5, 14)) == [
        (3, "QUALIFIED"),
        (4, "BROKEN"),
        (6, "QUALIFIED"),
    ]
    frozen = streak(freezes=FreezeSettings(initial_count=1, max_count=1))
    assert statuses(frozen, [left, arrived], at(5, 14)) == [
        (3, "QUALIFIED"),
        (4, "FROZEN"),
        (5, "SKIPPED"),
        (6, "QUALIFIED"),
    ]


def test_travel_west_never_extends_twice_on_one_local_date() -> None:
    events = [
        did(at(5, 20), zone="Pacific/Kiritimati"),  # the sixth
        did(at(6, 20), zone="Pacific/Honolulu"),  # the sixth once more
    ]
    assert current(streak(), events, at(6, 21)).length == 1


def test_a_period_closes_at_the_midnight_of_the_zone_that_was_the_newest_then() -> None:
    home = [did(at(3), zone="Asia/Tokyo")]
    (_, broken) = folded(streak(), home, at(6)).rows.periods
    assert broken.settle_time == at(4, 15)
    moved = [*home, did(at(8), zone="America/Los_Angeles")]
    assert folded(streak(), moved, at(8)).rows.periods[1] == broken


def test_days_of_23_and_25_hours_are_days() -> None:
    spring = [did(datetime(2025, 3, day, 23, 30, tzinfo=UTC), zone="Europe/Berlin") for day in (28, 29, 30)]
    alive = current(streak(), spring, datetime(2025, 3, 30, 23, 40, tzinfo=UTC))
    assert (alive.length, alive.expire_time) == (3, datetime(2025, 4, 1, 22, tzinfo=UTC))
    autumn = current(streak(), [did(at(25, month=10), zone="Europe/Berlin")], at(25, 20, month=10))
    assert autumn.expire_time == datetime(2025, 10, 26, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("week_start", "starts"), [(0, [date(2025, 3, 3), date(2025, 3, 10)]), (6, [date(2025, 3, 9)])]
)
def test_a_week_begins_where_the_streak_says(week_start: int, starts: list[date]) -> None:
    definition = streak(frequency=Frequency.WEEKLY, week_start=week_start)
    rows = folded(definition, [did(at(9)), did(at(10))], at(11)).rows.periods
    assert [row.start_date for row in rows] == starts


def test_a_month_is_a_calendar_month() -> None:
    definition = streak(frequency=Frequency.MONTHLY)
    events = [did(at(31, month=1)), did(at(1, month=2)), did(at(31, month=3))]
    rows = folded(definition, events, at(1, month=4)).rows.periods
    assert [(row.start_date, row.end_date) for row in rows] == [
        (date(2025, 1, 1), date(2025, 1, 31)),
        (date(2025, 2, 1), date(2025, 2, 28)),
        (date(2025, 3, 1), date(2025, 3, 31)),
    ]


def test_a_late_event_joins_two_runs() -> None:
    apart = [did(at(3)), did(at(5))]
    assert current(streak(), apart, at(5)).length == 1
    assert current(streak(), [*apart, did(at(4))], at(5)).length == 3


def test_an_event_dated_a_little_ahead_makes_its_period_the_current_one() -> None:
    ahead = current(streak(), [did(at(3)), did(at(4, 0))], at(3, 23))
    assert (ahead.length, ahead.period_start_date, ahead.period_qualified) == (2, date(2025, 3, 4), True)


def test_after_years_away_there_is_one_break_and_a_full_store_of_freezes() -> None:
    definition = streak(freezes=FreezeSettings(2, 1, 7, 5))
    back = at(3) + timedelta(days=36_500)
    result = folded(definition, [did(at(3)), did(back)], back)
    assert [row.status.name for row in result.rows.periods] == [
        "QUALIFIED",
        "FROZEN",
        "FROZEN",
        "BROKEN",
        "QUALIFIED",
    ]
    assert (result.current.freeze_count, len(result.rows.ledger)) == (5, 8)


def test_the_stored_state_reads_back_as_it_was() -> None:
    definition = streak(metrics=BOTH, freezes=FreezeSettings(1, 1, 2, 3))
    events = [did(at(3), 2), did(at(4), 2, zone="Asia/Tokyo"), did(at(9), 1, zone="Europe/Berlin")]
    for count in range(1, 4):
        state = folded(definition, events[:count], at(10)).state
        assert decode(encode(state)) == state
