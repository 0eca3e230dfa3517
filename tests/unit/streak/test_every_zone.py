"""In every zone, around every change of its offset from 2020 to 2030: who acts once a local day loses no streak."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from uuid import UUID

import pytest
from hypothesis import settings
from msgspec.structs import replace

from services.streak.domain import (
    Fact,
    Frequency,
    MetricThreshold,
    StreakDefinition,
    ZoneChange,
    advance,
    begin,
    close,
    dated,
    fact,
)
from services.streak.domain.zones import NO_ENTRY, zone_steps
from shared.calendar import EARLIEST, zone, zone_names

DAILY = StreakDefinition("focus", Frequency.DAILY, (MetricThreshold("commits", 1),))
DAY, MOMENT = timedelta(days=1), timedelta(microseconds=1)
SINCE, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)

# At which end of a local date the user acts, by the number of the date.
HABITS: dict[str, Callable[[int], bool]] = {
    "at the first moment of each day": lambda _: True,
    "at the last moment of each day": lambda _: False,
    "early and late in turn": lambda number: number % 2 == 0,
    "late and early in turn": lambda number: number % 2 == 1,
}


IS_THOROUGH = settings.get_current_profile_name() == "thorough"


def different_zones() -> list[str]:
    """One name for each zone: the others are links to it. Of all of them, or one in eight in `make check`."""
    names: dict[bytes, str] = {}
    for name in sorted(zone_names()):
        names.setdefault(resources.files("tzdata.zoneinfo").joinpath(name).read_bytes(), name)
    return list(names.values())[:: 1 if IS_THOROUGH else 8]


def changes_of_offset(name: str) -> Iterator[date]:
    """The dates, in UTC, on which the offset changes."""
    week, local = timedelta(days=7), zone(name)
    instant = SINCE
    while instant < UNTIL:
        offset = instant.astimezone(local).utcoffset()
        if (instant + week).astimezone(local).utcoffset() != offset:
            while (instant + DAY).astimezone(local).utcoffset() == offset:
                instant += DAY
            yield instant.date()
            instant += DAY
        else:
            instant += week


def acts(daily: StreakDefinition, name: str, around: date, habit: Callable[[int], bool]) -> list[Fact]:
    """One event on each day around a change."""
    found = []
    for number in range(-3, 5):
        day = around + number * DAY
        first, end = daily.day_begins(day, name), daily.day_begins(day + DAY, name)
        if first == end:
            continue  # a date that the zone skipped
        instant = first if habit(number) else end - MOMENT
        assert daily.day_of(instant, name) == day
        found.append(dated(daily, fact(UUID(int=number + 10), "commits", 1, instant, name)))
    return found


# Most clocks change between two and three; noon is the latest that a day may begin.
@pytest.mark.parametrize(
    ("habit", "day_start"),
    [
        *((habit, timedelta()) for habit in HABITS),
        ("late and early in turn", timedelta(hours=2, minutes=30)),
        ("at the last moment of each day", timedelta(hours=12)),
    ],
)
def test_who_acts_once_a_local_day_loses_no_streak_in_any_zone(habit: str, day_start: timedelta) -> None:
    daily, changes = replace(DAILY, day_start=day_start), 0
    for name in different_zones():
        steps = zone_steps(daily, (ZoneChange(EARLIEST, NO_ENTRY, name),))
        for around in changes_of_offset(name):
            first, *others = acts(daily, name, around, HABITS[habit])
            state = begin(daily, first, steps)
            for length, event in enumerate(others, 1):
                _, before = close(daily, state, event.occur_time - MOMENT)
                assert before.length == length, (name, event.local_date)
                state, _ = advance(daily, state, event)
                _, after = close(daily, state, event.occur_time)
                assert after.length == length + 1, (name, event.local_date)
            changes += 1
    assert changes > (2_000 if IS_THOROUGH else 200)
