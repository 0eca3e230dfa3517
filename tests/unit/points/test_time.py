"""Triggers that go by time, and energy (RULES 5.2, 5.6)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.points.domain.clocks import Clock, date_of, following, refreshed, started
from services.points.domain.definitions import Catalogue, PointsSystem, TimeCause, Trigger
from services.points.domain.state import UserState
from services.points.domain.timing import Came, advanced, full_time, next_time
from shared.entries import UserSnapshot
from shared.filters import AttributeFilter, Equals

CREATED = datetime(2024, 2, 27, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
REGROW = Trigger("regrow", 1, TimeCause(every_hours=4))
ENERGY = PointsSystem("energy", (REGROW,), max_balance=3)
BIRTHDAY = TimeCause(yearly_attribute="birthday")


def user(zone: str = "UTC", **attributes: str) -> UserSnapshot:
    return UserSnapshot("alice", zone, attributes, CREATED, 1, "")


def catalogue(*systems: PointsSystem) -> Catalogue:
    return Catalogue.of(systems)


def met(found: Catalogue, known: UserSnapshot | None = None) -> UserState:
    """A user whom the triggers have met at creation."""
    return advanced(found, UserState("alice"), CREATED, known or user())[0]


def given_at(came: Sequence[Came]) -> list[tuple[datetime, int]]:
    return [
        (award.occur_time, award.amount)
        for each in came
        for change in each.changes
        for award in change.awards
    ]


def instants(cause: TimeCause, known: UserSnapshot, count: int) -> list[datetime]:
    clock = started(cause, known, CREATED)
    assert clock is not None
    found = []
    for _ in range(count):
        found.append(clock.next_time)
        clock = following(cause, clock)
    return found


def test_hours_are_counted_from_the_users_creation() -> None:
    assert instants(TimeCause(every_hours=4), user(), 2) == [CREATED + 4 * HOUR, CREATED + 8 * HOUR]
    later = started(TimeCause(every_hours=4), user(), CREATED + 9 * HOUR)
    assert later is not None
    assert later.next_time == CREATED + 12 * HOUR


def test_days_begin_at_local_midnight_also_where_the_clock_is_changed() -> None:
    found = instants(TimeCause(every_days=15), user("Europe/Berlin"), 4)
    assert [str(time) for time in found] == [
        "2024-03-12 23:00:00+00:00",
        "2024-03-27 23:00:00+00:00",
        "2024-04-11 22:00:00+00:00",
        "2024-04-26 22:00:00+00:00",
    ]


def test_a_birthday_on_29_february_is_on_the_28th_in_other_years() -> None:
    found = instants(BIRTHDAY, user(birthday="1988-02-29"), 3)
    assert [str(time.date()) for time in found] == ["2024-02-29", "2025-02-28", "2026-02-28"]


@pytest.mark.parametrize("text", ["02-29", "1999-12-31"])
def test_a_date_may_have_a_year(text: str) -> None:
    assert date_of(text) is not None


@pytest.mark.parametrize("text", ["", "29 February", "1999-02-29", "13-01"])
def test_who_has_no_such_date_has_no_birthday(text: str) -> None:
    assert started(BIRTHDAY, user(birthday=text), CREATED) is None


def test_a_date_that_was_corrected_comes_round_as_it_is_now() -> None:
    clock = started(BIRTHDAY, user(birthday="05-01"), CREATED)
    assert clock is not None
    moved = refreshed(BIRTHDAY, clock, user(birthday="07-01"), CREATED)
    assert moved is not None
    assert str(moved.next_time.date()) == "2024-07-01"
    assert refreshed(BIRTHDAY, clock, user(), CREATED) is None


def test_who_moves_has_days_that_begin_where_they_are() -> None:
    cause = TimeCause(every_days=1)
    clock = started(cause, user("UTC"), CREATED)
    assert clock is not None
    moved = refreshed(cause, clock, user("Asia/Tokyo"), CREATED)
    assert moved == Clock(datetime(2024, 2, 27, 15, tzinfo=UTC), "Asia/Tokyo", clock.day)


def test_energy_grows_to_its_cap_and_no_further() -> None:
    found = catalogue(ENERGY)
    state, came = advanced(found, met(found), CREATED + 30 * HOUR)
    assert given_at(came) == [(CREATED + hours * HOUR, 1) for hours in (4, 8, 12)]
    assert state.points.accounts["energy"].balance == 3
    assert state.entry_count == 3
    assert state.clocks[found.by_time[0].key].next_time == CREATED + 32 * HOUR


def test_what_a_trigger_would_have_given_before_the_user_met_it_is_not_given() -> None:
    found = catalogue(ENERGY)
    state, came = advanced(found, UserState("alice"), CREATED + 9 * HOUR, user())
    assert came == ()
    assert next_time(found, state, ENERGY) == CREATED + 12 * HOUR


def test_the_read_says_when_the_next_unit_comes_and_when_it_is_full() -> None:
    found = catalogue(ENERGY)
    state, _ = advanced(found, met(found), CREATED + 5 * HOUR)
    assert next_time(found, state, ENERGY) == CREATED + 8 * HOUR
    assert full_time(found, state, ENERGY) == CREATED + 12 * HOUR
    full, _ = advanced(found, state, CREATED + 12 * HOUR)
    assert next_time(found, full, ENERGY) is None
    assert full_time(found, full, ENERGY) is None


def test_what_has_no_cap_is_never_full() -> None:
    allowance = PointsSystem("gems", (Trigger("daily", 5, TimeCause(every_days=1)),))
    found = catalogue(allowance)
    assert full_time(found, met(found), allowance) is None
    assert next_time(found, met(found), allowance) == datetime(2024, 2, 28, tzinfo=UTC)


def test_what_comes_every_year_is_full_within_the_calendar_or_nobody_can_tell() -> None:
    for maximum, known in ((50, True), (5_000, False)):
        system = PointsSystem("gifts", (Trigger("birthday", 1, BIRTHDAY),), max_balance=maximum)
        found = catalogue(system)
        assert (full_time(found, met(found, user(birthday="03-07")), system) is not None) is known


def test_decay_takes_what_there_is_and_stops_at_the_minimum() -> None:
    decay = PointsSystem("heat", (Trigger("cool", -2, TimeCause(every_hours=1)), replace(REGROW, amount=5)))
    found = catalogue(decay)
    state, came = advanced(found, met(found), CREATED + 8 * HOUR)
    assert [amount for _, amount in given_at(came)] == [5, -2, -2, -1, 5]
    assert state.points.accounts["heat"].balance == 5


def test_who_does_not_match_has_no_clock_and_who_matches_no_longer_loses_it() -> None:
    pro = replace(REGROW, user_filters=(AttributeFilter("plan", Equals("pro")),))
    found = catalogue(replace(ENERGY, triggers=(pro,)))
    assert met(found).clocks == {}
    state = met(found, user(plan="pro"))
    assert len(state.clocks) == 1
    assert advanced(found, state, CREATED + HOUR, user(plan="free"))[0].clocks == {}


def test_the_clock_of_a_trigger_that_is_gone_is_gone() -> None:
    state, came = advanced(catalogue(), met(catalogue(ENERGY)), CREATED + 30 * HOUR)
    assert (state.clocks, came) == ({}, ())


def test_without_such_triggers_a_state_stays_the_very_same() -> None:
    state = UserState("alice")
    assert advanced(catalogue(), state, CREATED, user())[0] is state


@given(st.lists(st.integers(0, 100), max_size=12), st.sampled_from(["UTC", "Asia/Tokyo", "America/New_York"]))
def test_often_or_seldom_looked_at_the_ledger_is_the_same(hours: list[int], zone: str) -> None:
    found = catalogue(
        replace(ENERGY, max_balance=20),
        PointsSystem(
            "gems", (Trigger("daily", 5, TimeCause(every_days=1)), Trigger("half-daily", 1, TimeCause(12)))
        ),
    )
    known = user(zone)
    start = met(found, known)
    end = CREATED + 101 * HOUR
    seldom, once = advanced(found, start, end)
    state = start
    often: list[Came] = []
    for hour in sorted(hours):
        state, came = advanced(found, state, CREATED + hour * HOUR, known)
        often.extend(came)
    state, came = advanced(found, state, end)
    often.extend(came)
    assert [each.changes for each in often] == [each.changes for each in once]
    assert (state.points, state.clocks) == (seldom.points, seldom.clocks)
