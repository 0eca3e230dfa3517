"""Months as ranges of entry ids."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.postgres.months import (
    Month,
    Months,
    condensed_name,
    lowest_id,
    month_of,
    month_of_partition,
    months_of,
    months_past,
    months_to_make,
    partition_name,
)
from shared.random_ids import new_id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOVEMBER = Month(2026, 11)
instants = st.integers(0, 2**45).map(lambda milliseconds: EPOCH + timedelta(milliseconds=milliseconds))


def id_at(instant: datetime, random_bits: int) -> UUID:
    """An id as it could be drawn at this instant."""
    return UUID(int=lowest_id(instant).int | random_bits)


@given(instants, st.integers(0, 2**80 - 1))
def test_an_id_lies_in_the_range_of_the_month_in_which_it_was_drawn(instant: datetime, bits: int) -> None:
    month = month_of(instant)
    assert lowest_id(month.begin) <= id_at(instant, bits) < lowest_id(month.end)


def test_a_drawn_id_lies_in_the_present_month() -> None:
    before = datetime.now(UTC)
    drawn = new_id()
    assert lowest_id(month_of(before).begin) <= drawn < lowest_id(month_of(datetime.now(UTC)).end)


@given(instants)
def test_months_follow_each_other_without_a_gap(instant: datetime) -> None:
    month = month_of(instant)
    assert month.begin <= instant < month.end
    assert month_of(month.end) == month.next() > month


def test_a_month_is_one_of_utc() -> None:
    assert month_of(datetime(2026, 11, 1, 8, tzinfo=timezone(timedelta(hours=9)))) == Month(2026, 10)


@given(instants)
def test_a_partition_s_name_tells_its_month(instant: datetime) -> None:
    month = month_of(instant)
    assert month_of_partition("request_log", partition_name("request_log", month)) == month


@pytest.mark.parametrize(
    "name",
    [
        "request_log_default",
        "request_log_2026_13",
        "request_log_2026_1",
        "request_log_2026",
        "rank_events_2026_11",
        "request_log_2026_11_old",
    ],
)
def test_other_tables_are_not_taken_for_months(name: str) -> None:
    assert month_of_partition("request_log", name) is None


def test_names_tell_the_months_and_which_of_them_are_condensed() -> None:
    october = Month(2026, 10)
    names = ["request_log_default", "request_log_2026_11", condensed_name("request_log", october)]
    months = months_of("request_log", names)
    assert months == Months(whole=frozenset({NOVEMBER}), condensed=frozenset({october}))
    assert months.all == {october, NOVEMBER}


def test_the_present_month_and_two_more_are_made() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert months_to_make([], now) == [NOVEMBER, Month(2026, 12), Month(2027, 1)]
    assert months_to_make([NOVEMBER, Month(2026, 12)], now) == [Month(2027, 1)]
    assert months_to_make([NOVEMBER, Month(2026, 12), Month(2027, 1)], now) == []


def test_a_month_is_past_when_its_last_instant_is_old_enough() -> None:
    months = [Month(2026, 12), NOVEMBER, Month(2026, 10)]
    end = datetime(2026, 12, 1, tzinfo=UTC)
    age = timedelta(days=35)
    just_before = end + age - timedelta(microseconds=1)
    assert months_past(months, just_before, age) == [Month(2026, 10)]
    assert months_past(months, end + age, age) == [Month(2026, 10), NOVEMBER]
