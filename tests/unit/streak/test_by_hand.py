"""Freezes given, pauses, resets and restores: facts like events, in whatever order they come (RULES 3.9, 3.12)."""

from datetime import UTC, date, datetime
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.streak.domain import (
    NOTHING_BY_HAND,
    Amnesty,
    ByHand,
    DateRange,
    Done,
    Fact,
    FreezeGrant,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    Override,
    Reset,
    StreakDefinition,
    fact,
    facts,
    fold,
    lost_dates,
    paused_days,
    taken_out,
    with_override,
)
from shared.entries import EntryKind, OfStreak, StreakCall
from tests.unit.streak.slow_fold import slow_fold
from tests.unit.streak.stored import Stored, assert_same
from tests.unit.streak.worlds import (
    Change,
    amnesties,
    by_hands,
    declare,
    definitions,
    redefine,
    slow_by_hand,
    slow_facts,
    slow_rules,
    withdraw,
    worlds,
)

DAILY = StreakDefinition("focus", Frequency.DAILY, (MetricThreshold("commits", 1),))
ONE_FREEZE = replace(DAILY, freezes=FreezeSettings(0, 0, 0, 2))
ENTRY = UUID(int=99)


def on(day: int, hour: int = 12) -> datetime:
    return datetime(2025, 3, day, hour, tzinfo=UTC)


def days(*wanted: int) -> list[Fact]:
    return [fact(UUID(int=day), "commits", 1, on(day), "UTC") for day in wanted]


def seen(
    by_hand: ByHand, history: list[Fact], now: datetime, definition: StreakDefinition = DAILY
) -> list[tuple[int, str, int]]:
    """What became of the periods: days of the month, statuses and lengths."""
    folded = fold(definition, facts(history, by_hand), now)
    assert folded
    return [(row.start_date.day, row.status.name, row.length) for row in folded.rows.periods]


def test_whatever_is_done_to_a_streak_is_one_of_those_for_which_the_service_has_to_have_a_rule() -> None:
    contents = {kind.content for kind in EntryKind if kind.content and issubclass(kind.content, OfStreak)}
    assert contents == set(get_args(StreakCall)), "mypy asks for a rule for each of them"


@given(worlds(), st.data())
def test_any_order_of_all_that_can_happen_with_a_third_voided_and_sent_again_gives_what_goes_day_by_day(
    world: tuple[StreakDefinition, list[Fact], datetime], data: st.DataObject
) -> None:
    definition, history, now = world
    daily = definition.frequency is Frequency.DAILY
    doings: list[tuple[Change, Done]] = data.draw(by_hands(history, daily=daily))
    stored = Stored(definition)
    gone: list[Fact] = []
    windows = data.draw(amnesties(history))
    others = data.draw(st.lists(definitions(), max_size=2))
    times = iter(sorted(data.draw(st.sampled_from(history)).occur_time for _ in others))
    order: list[Fact | Amnesty | StreakDefinition | tuple[Change, Done]] = data.draw(
        st.permutations([*history, *windows, *others, *doings])
    )
    for what in order:
        if isinstance(what, StreakDefinition):
            stored.definition = redefine(stored.definition, what, next(times))
            if data.draw(st.booleans()):
                stored.maintain(now)
        elif isinstance(what, Amnesty):
            stored.definition = declare(stored.definition, what)
            if data.draw(st.booleans()):
                stored.maintain(now)
            if data.draw(st.integers(0, 2)) == 0:
                stored.definition = withdraw(stored.definition, what)
        elif isinstance(what, Fact):
            stored.take(what, min(what.occur_time, now))
            if data.draw(st.integers(0, 2)) == 0:
                gone.append(what)
        elif stored.user is not None:
            change, done = what
            stored.do(change(stored.facts.by_hand, done), done, now)
            if data.draw(st.integers(0, 3)) == 0:
                left, taken = taken_out(stored.facts.by_hand, done.entry_id)
                assert taken == done
                stored.do(left, done, now)
    for number, event in enumerate(gone):
        stored.undo(event, now)
        if data.draw(st.booleans()):
            again = replace(event, entry_id=UUID(int=500 + number))
            stored.take(again, now)
    stored.maintain(now)
    definition = stored.definition
    live, by_hand = list(stored.facts.events), stored.facts.by_hand
    expected = slow_fold(slow_rules(definition), slow_facts(live, definition), now, slow_by_hand(by_hand))
    assert_same(stored, expected)
    folded = fold(definition, facts(live, by_hand), now)
    if folded:
        assert folded.current.freeze_count == expected.balance
        assert folded.current.length == expected.length
        assert stored.streak.state is None or stored.streak.state.by_hand == by_hand


@pytest.mark.parametrize("counted", [[4], [3, 4]])
def test_an_event_of_after_a_user_switched_it_off_is_undone_and_nothing_else_is(counted: list[int]) -> None:
    stored = Stored(DAILY)
    off = Override(ENTRY, on(5), date(2025, 3, 5), switched_off=True)
    for event in days(*counted):
        stored.take(event, event.occur_time)
    stored.do(with_override(NOTHING_BY_HAND, off), off, on(5))
    (ignored,) = days(6)
    stored.take(ignored, on(6))
    before = stored.streak
    stored.undo(ignored, on(6))
    assert stored.streak.state == before.state
    assert (stored.streak.followed.length, stored.streak.version) == (len(counted), before.version)


def test_a_pause_carries_the_length_on_and_activity_in_it_still_extends() -> None:
    by_hand = ByHand(pauses=(DateRange(ENTRY, date(2025, 3, 4), date(2025, 3, 7)),))
    assert seen(by_hand, days(3, 6, 8), on(8, 13)) == [
        (3, "QUALIFIED", 1),
        (4, "PAUSED", 1),
        (5, "PAUSED", 1),
        (6, "QUALIFIED", 2),
        (7, "PAUSED", 2),
        (8, "QUALIFIED", 3),
    ]


def test_a_pause_costs_no_freeze_and_a_streak_expires_behind_it() -> None:
    by_hand = ByHand(
        grants=(FreezeGrant(ENTRY, date(2025, 3, 3), 1),),
        pauses=(DateRange(ENTRY, date(2025, 3, 4), date(2025, 3, 5)),),
    )
    folded = fold(ONE_FREEZE, facts(days(3), by_hand), on(5))
    assert folded
    assert folded.current.freeze_count == 1
    assert folded.current.expire_time == datetime(2025, 3, 7, tzinfo=UTC)


def test_freezes_given_by_hand_stop_at_the_maximum_and_save_what_comes_after() -> None:
    given_late = ByHand(grants=(FreezeGrant(ENTRY, date(2025, 3, 5), 5),))
    folded = fold(ONE_FREEZE, facts(days(3), given_late), on(5))
    assert folded
    assert [row.status.name for row in folded.rows.periods] == ["QUALIFIED", "BROKEN"]
    given_in_time = ByHand(grants=(FreezeGrant(ENTRY, date(2025, 3, 4), 5),))
    folded = fold(ONE_FREEZE, facts(days(3), given_in_time), on(5))
    assert folded
    assert [row.status.name for row in folded.rows.periods] == ["QUALIFIED", "FROZEN"]
    assert [(line.reason.name, line.amount) for line in folded.rows.ledger] == [
        ("MANUAL", 2),
        ("CONSUMED", -1),
    ]


def test_freezes_given_before_the_first_event_come_with_it() -> None:
    by_hand = ByHand(grants=(FreezeGrant(ENTRY, date(2025, 1, 1), 1),))
    folded = fold(ONE_FREEZE, facts(days(3), by_hand), on(3, 13))
    assert folded
    assert [(line.effective_date, line.amount) for line in folded.rows.ledger] == [(date(2025, 3, 3), 1)]


def test_a_reset_takes_the_length_and_what_the_day_had_counted_and_leaves_the_longest() -> None:
    reset = ByHand(resets=(Reset(ENTRY, on(5, 15), date(2025, 3, 5)),))
    folded = fold(DAILY, facts(days(3, 4, 5), reset), on(5, 16))
    assert folded
    assert (folded.current.length, folded.current.longest) == (0, 2)
    assert (folded.current.period_qualified, folded.current.sums_micros) == (False, (0,))
    again = fact(UUID(int=50), "commits", 1, on(5, 18), "UTC")
    assert seen(reset, [*days(3, 4, 5), again], on(5, 19)) == [
        (3, "QUALIFIED", 1),
        (4, "QUALIFIED", 2),
        (5, "QUALIFIED", 1),
    ]


def test_a_late_event_from_before_a_reset_adds_to_nothing_that_came_after_it() -> None:
    reset = ByHand(resets=(Reset(ENTRY, on(5, 15), date(2025, 3, 5)),))
    assert seen(reset, days(3, 4, 6), on(6, 13)) == [
        (3, "QUALIFIED", 1),
        (4, "QUALIFIED", 2),
        (5, "RESET", 0),
        (6, "QUALIFIED", 1),
    ]


def test_a_restore_gives_back_from_the_loss_to_the_next_period_that_qualified() -> None:
    history = days(3, 4, 9, 10)
    folded = fold(DAILY, facts(history), on(11))
    assert folded
    lost = lost_dates(folded.rows.periods, ENTRY, None, date(2025, 3, 11))
    assert lost == DateRange(ENTRY, date(2025, 3, 5), date(2025, 3, 8))
    assert seen(ByHand(restores=(lost,)), history, on(11))[-2:] == [(9, "QUALIFIED", 3), (10, "QUALIFIED", 4)]


def test_what_was_lost_last_or_on_a_date_is_found() -> None:
    folded = fold(DAILY, facts(days(3, 6, 7)), on(20))
    assert folded
    rows, today = folded.rows.periods, date(2025, 3, 20)
    assert lost_dates(rows, ENTRY, None, today) == DateRange(ENTRY, date(2025, 3, 8), date(2025, 3, 19))
    assert lost_dates(rows, ENTRY, date(2025, 3, 4), today) == DateRange(
        ENTRY, date(2025, 3, 4), date(2025, 3, 5)
    )
    assert lost_dates(rows, ENTRY, date(2025, 3, 7), today) is None
    assert lost_dates((), ENTRY, None, today) is None


def test_days_that_users_pause_count_once_and_in_their_years() -> None:
    first = DateRange(ENTRY, date(2025, 12, 28), date(2026, 1, 2), by_user=True)
    assert paused_days((), first) == {2025: 4, 2026: 2}
    overlapping = DateRange(ENTRY, date(2026, 1, 1), date(2026, 1, 3), by_user=True)
    assert paused_days((first,), overlapping) == {2026: 3}
    assert paused_days((replace(first, by_user=False),), overlapping) == {2026: 3}
    assert taken_out(ByHand(pauses=(first,)), ENTRY) == (NOTHING_BY_HAND, first)


def excused(declared: datetime, first: int = 4, last: int = 5) -> StreakDefinition:
    """One freeze at most, and an amnesty from noon to noon."""
    return replace(ONE_FREEZE, amnesties=(Amnesty(on(first), on(last), declared),))


def test_an_amnesty_keeps_the_streak_of_everybody_who_missed_a_period_that_it_overlaps() -> None:
    assert seen(NOTHING_BY_HAND, days(3, 6, 8), on(9), excused(on(3))) == [
        (3, "QUALIFIED", 1),
        (4, "EXCUSED", 1),
        (5, "EXCUSED", 1),
        (6, "QUALIFIED", 2),
        (7, "BROKEN", 0),
        (8, "QUALIFIED", 1),
    ]


def test_an_amnesty_covers_no_period_that_ends_when_it_begins_or_begins_when_it_ends() -> None:
    window = Amnesty(on(5, 0), on(6, 0), on(3))
    found = seen(NOTHING_BY_HAND, days(3, 5), on(9), replace(DAILY, amnesties=(window,)))
    assert found == [(3, "QUALIFIED", 1), (4, "BROKEN", 0), (5, "QUALIFIED", 1), (6, "BROKEN", 0)]


def test_a_freeze_that_was_spent_before_the_amnesty_was_declared_comes_back_and_both_stand_in_the_ledger() -> (
    None
):
    by_hand = ByHand(grants=(FreezeGrant(ENTRY, date(2025, 3, 3), 1),))
    folded = fold(excused(on(7)), facts(days(3, 6, 7), by_hand), on(7, 13))
    assert folded
    assert (folded.current.length, folded.current.freeze_count) == (3, 1)
    assert [(line.effective_date.day, line.reason.name, line.amount) for line in folded.rows.ledger] == [
        (3, "MANUAL", 1),
        (4, "CONSUMED", -1),
        (7, "REFUNDED", 1),
    ]
    known_before = fold(excused(on(3)), facts(days(3, 6, 7), by_hand), on(7, 13))
    assert known_before
    assert [line.reason.name for line in known_before.rows.ledger] == ["MANUAL"]


def test_a_pause_and_a_day_off_come_before_an_amnesty() -> None:
    by_hand = ByHand(pauses=(DateRange(ENTRY, date(2025, 3, 4), date(2025, 3, 4)),))
    definition = replace(excused(on(3)), days_off=frozenset({2}))  # Wednesday, the fifth
    assert [status for _, status, _ in seen(by_hand, days(3, 6), on(6, 13), definition)] == [
        "QUALIFIED",
        "PAUSED",
        "DAY_OFF",
        "QUALIFIED",
    ]
