"""Local dates and local midnights (RULES 1.1)."""

from datetime import UTC, date, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.calendar import (
    EARLIEST,
    EARLIEST_DATE,
    LATEST,
    LATEST_DATE,
    UnknownZone,
    day_begins,
    day_of,
    local_date,
    local_midnight,
    utc_hour,
    zone,
    zone_names,
)

ZONES = st.sampled_from(sorted(zone_names()))
DAYS = st.dates(EARLIEST_DATE, LATEST_DATE)


def test_a_date_is_the_one_on_the_wall_of_the_zone() -> None:
    instant = datetime(2026, 3, 1, 15, 30, tzinfo=UTC)
    assert local_date(instant, "Asia/Tokyo") == date(2026, 3, 2)
    assert local_date(instant, "America/New_York") == date(2026, 3, 1)


@pytest.mark.parametrize(
    ("name", "month", "hour"),
    [
        ("UTC", 1, 0),
        ("Europe/Berlin", 1, 1),
        ("Europe/Berlin", 7, 2),
        ("Asia/Kolkata", 1, 5),
        ("America/St_Johns", 1, -4),  # half past three behind
        ("Pacific/Kiritimati", 1, 14),
        ("Etc/GMT+12", 1, -12),
    ],
)
def test_a_zone_is_so_many_whole_hours_ahead_of_utc(name: str, month: int, hour: int) -> None:
    assert utc_hour(datetime(2026, month, 1, tzinfo=UTC), name) == hour


@pytest.mark.parametrize(
    ("day", "name", "begins"),
    [
        (date(2026, 7, 1), "UTC", datetime(2026, 7, 1, tzinfo=UTC)),
        (date(2026, 7, 1), "Asia/Kolkata", datetime(2026, 6, 30, 18, 30, tzinfo=UTC)),
        # The clock jumped from 00:00 to 01:00: the date began at 01:00.
        (date(2018, 11, 4), "America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),
        # The clock went back from 00:00 to 23:00 of the day before.
        (date(2019, 2, 17), "America/Sao_Paulo", datetime(2019, 2, 17, 3, tzinfo=UTC)),
        # 00:00 to 01:00 came twice: the first counts.
        (date(2025, 11, 2), "America/Havana", datetime(2025, 11, 2, 4, tzinfo=UTC)),
        # A date that was skipped whole begins where the next one does.
        (date(2011, 12, 30), "Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
        (date(2011, 12, 31), "Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
        # The jump went from 23:30 to 00:30.
        (date(1919, 3, 31), "America/Toronto", datetime(1919, 3, 31, 4, 30, tzinfo=UTC)),
    ],
)
def test_a_date_begins_at_its_first_instant(day: date, name: str, begins: datetime) -> None:
    assert local_midnight(day, name) == begins


@given(DAYS, ZONES)
def test_the_wall_shows_the_date_from_its_midnight_on_and_not_before(day: date, name: str) -> None:
    begins = local_midnight(day, name)
    assert begins.tzinfo is UTC
    assert local_date(begins, name) >= day
    assert local_date(begins - timedelta(microseconds=1), name) < day


@given(DAYS.filter(lambda day: day < LATEST_DATE), ZONES)
def test_midnights_never_go_backwards(day: date, name: str) -> None:
    assert local_midnight(day, name) <= local_midnight(day + timedelta(days=1), name)


@given(st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None)), ZONES)
def test_an_instant_is_never_before_the_midnight_of_its_date(naive: datetime, name: str) -> None:
    instant = naive.replace(tzinfo=UTC)
    assert local_midnight(local_date(instant, name), name) <= instant


BERLIN: Final = "Europe/Berlin"
EARLY: Final = timedelta(hours=2, minutes=30)


@pytest.mark.parametrize(
    ("day", "start", "begins"),
    [
        (date(2025, 6, 3), timedelta(hours=4), datetime(2025, 6, 3, 2, tzinfo=UTC)),
        # On 30 March the clock goes from two to three, on 26 October from three to two.
        (date(2025, 3, 30), EARLY, datetime(2025, 3, 30, 1, tzinfo=UTC)),
        (date(2025, 10, 26), EARLY, datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_day_begins_when_the_wall_first_shows_its_start(
    day: date, start: timedelta, begins: datetime
) -> None:
    assert day_begins(day, BERLIN, start) == begins
    assert day_of(begins, BERLIN, start) == day
    assert day_of(begins - timedelta(microseconds=1), BERLIN, start) == day - timedelta(days=1)


def test_a_day_that_has_begun_goes_on_where_the_clock_goes_back_over_its_start() -> None:
    again = datetime(2025, 10, 26, 1, 10, tzinfo=UTC)  # ten past two for the second time
    assert day_of(again, BERLIN, EARLY) == date(2025, 10, 26)


@given(ZONES, st.integers(0, 720), st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None)))
def test_an_instant_lies_between_the_beginning_of_its_day_and_that_of_the_next(
    name: str, minutes: int, naive: datetime
) -> None:
    start, instant = timedelta(minutes=minutes), naive.replace(tzinfo=UTC)
    day = day_of(instant, name, start)
    assert day_begins(day, name, start) <= instant
    # Where clocks go back over midnight the wall shows the day before once more.
    assert instant < day_begins(day + timedelta(days=1), name, start) + timedelta(hours=3)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "+09:00",
        "-05",
        "UTC+9",
        "GMT+9",
        "localtime",
        "posixrules",
        "Factory",
        "europe/berlin",
        "EUROPE/BERLIN",
        "Europe/Berlin ",
        "Europe",
        "Europe/",
        "../Europe/Berlin",
        "/etc/localtime",
        "Europe/../Europe/Berlin",
        "posix/Europe/Berlin",
        "zone.tab",
        "Europe/Atlantis",
        "Europe/Berlin\x00",
        "ÖÄÜ",
        "x" * 10_000,
    ],
)
def test_a_name_that_is_not_an_iana_zone_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone) as refusal:
        zone(name)
    assert len(str(refusal.value)) < 300


def test_an_instant_without_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="offset"):
        local_date(datetime(2026, 1, 1), "UTC")  # noqa: DTZ001


def test_every_name_of_the_pinned_package_loads() -> None:
    assert len(zone_names()) > 500
    for name in zone_names():
        assert zone(name).key == name
