"""Totals and users: rules 1.3, 1.5, 2.1 to 2.5 of RULES."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.orchestrator.domain import (
    MAX_GROSS_MICROS,
    MAX_USER_ATTRIBUTES,
    MICROS,
    Aggregation,
    Fact,
    InFuture,
    TimeWindow,
    TooManyAttributes,
    TooOld,
    Total,
    TotalOutOfRange,
    User,
    add_fact,
    can_subtract,
    check_occur_time,
    event_zone,
    in_time,
    merge_user,
    needs_greatest,
    needs_newest,
    subtract_fact,
    without_extreme,
    without_value,
)
from services.orchestrator.said import UserPatch
from tests.unit.orchestrator.slow_total import fold_total

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
WINDOW = TimeWindow(max_age=timedelta(days=7), max_ahead=timedelta(minutes=5))


def fact(number: int, value: int, *, at: datetime = NOON, text: str | None = None) -> Fact:
    return Fact(UUID(int=number), value, at, number, text)


def total_of(aggregation: Aggregation, *facts: Fact) -> Total:
    return fold_total(0, aggregation, facts)


facts = st.lists(
    st.builds(
        lambda value, minutes, text: (value, NOON + timedelta(minutes=minutes), text),
        st.integers(-50, 50).filter(bool),
        st.integers(0, 5),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=12,
).map(lambda items: [fact(i + 1, value, at=at, text=text) for i, (value, at, text) in enumerate(items)])


def test_a_sum_adds_the_values_exactly() -> None:
    total = total_of(Aggregation.SUM, fact(1, 100_000), fact(2, 200_000))
    assert total.total_micros == 300_000


def test_a_maximum_keeps_the_largest_value_also_among_negative_ones() -> None:
    assert total_of(Aggregation.MAX, fact(1, -5), fact(2, -3), fact(3, -9)).total_micros == -3


def test_last_follows_the_newest_event_by_occur_time_whatever_the_order_of_arrival() -> None:
    late = fact(2, 7, at=NOON - timedelta(hours=1))
    assert total_of(Aggregation.LAST, fact(1, 5), late).total_micros == 5


def test_unique_counts_each_value_once() -> None:
    total = total_of(Aggregation.UNIQUE, fact(1, 1, text="x"), fact(2, 1, text="y"), fact(3, 1, text="x"))
    assert total.total_micros == 2 * MICROS


def test_the_peak_outlives_a_negative_event() -> None:
    total = total_of(Aggregation.SUM, fact(1, 10), fact(2, -4))
    assert (total.total_micros, total.peak_micros) == (6, 10)


def test_the_peak_of_a_total_that_was_never_positive_is_its_highest_value() -> None:
    assert total_of(Aggregation.SUM, fact(1, -4), fact(2, -1)).peak_micros == -4


def test_magnitudes_beyond_the_exact_range_are_refused() -> None:
    full = replace(Total(), gross_micros=MAX_GROSS_MICROS, event_count=1)
    with pytest.raises(TotalOutOfRange):
        add_fact(full, Aggregation.SUM, fact(1, 1))


@given(facts, st.sampled_from(Aggregation))
def test_extending_event_by_event_equals_folding_all_of_them(
    items: list[Fact], aggregation: Aggregation
) -> None:
    total, seen = Total(), set[str]()
    for item in items:
        value = item.unique_value or ""
        total = add_fact(total, aggregation, item, seen_before=value in seen)
        seen.add(value)
    folded = fold_total(0, aggregation, items)
    assert replace(total, version=0) == replace(folded, version=0)


@given(facts.filter(bool), st.data())
def test_taking_an_event_out_of_a_sum_without_negative_values_equals_never_having_had_it(
    items: list[Fact], data: st.DataObject
) -> None:
    positive = [replace(item, value_micros=abs(item.value_micros)) for item in items]
    gone = data.draw(st.sampled_from(positive))
    total = fold_total(0, Aggregation.SUM, positive)
    assert can_subtract(total, Aggregation.SUM)
    left = fold_total(0, Aggregation.SUM, [item for item in positive if item is not gone])
    without = subtract_fact(total, gone)
    assert (without.total_micros, without.peak_micros, without.gross_micros, without.event_count) == (
        left.total_micros,
        left.peak_micros,
        left.gross_micros,
        left.event_count,
    )


@given(
    facts.filter(bool), st.sampled_from([Aggregation.MAX, Aggregation.LAST, Aggregation.UNIQUE]), st.data()
)
def test_without_an_event_a_total_that_is_no_sum_is_that_of_the_others(
    items: list[Fact], aggregation: Aggregation, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(items))
    total = fold_total(0, aggregation, items)
    others = [item for item in items if item is not gone]
    if aggregation is Aggregation.UNIQUE:
        lost = all(item.unique_value != gone.unique_value for item in others)
        without = without_value(total, gone, gone=lost)
        # Nobody asks for the newest event of such a metric.
        without = replace(without, newest_time=None, newest_id=None)
    else:
        greatest = newest = None
        if others and needs_greatest(total, gone):
            greatest = max(others, key=lambda item: item.value_micros)
        if others and needs_newest(total, gone):
            newest = max(others, key=in_time)
        without = without_extreme(total, aggregation, gone, greatest, newest)
    left = fold_total(total.version, aggregation, others)
    if aggregation is Aggregation.UNIQUE:
        left = replace(left, newest_time=None, newest_id=None)
    assert without == left


@given(facts, st.randoms())
def test_a_total_of_the_same_events_is_the_same_in_every_order(items: list[Fact], random: object) -> None:
    shuffled = list(items)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    renumbered = [replace(item, position=i) for i, item in enumerate(shuffled)]
    for aggregation in Aggregation:
        one = fold_total(0, aggregation, items).total_micros
        other = fold_total(0, aggregation, renumbered).total_micros
        assert one == other


def test_an_event_of_exactly_the_greatest_age_is_accepted_and_an_older_one_is_not() -> None:
    check_occur_time(NOON - timedelta(days=7), NOON, WINDOW)
    with pytest.raises(TooOld):
        check_occur_time(NOON - timedelta(days=7, microseconds=1), NOON, WINDOW)


def test_an_event_five_minutes_ahead_is_accepted_and_one_further_ahead_is_not() -> None:
    check_occur_time(NOON + timedelta(minutes=5), NOON, WINDOW)
    with pytest.raises(InFuture):
        check_occur_time(NOON + timedelta(minutes=5, microseconds=1), NOON, WINDOW)


def merged(*said: tuple[UserPatch, datetime]) -> User:
    user: User | None = None
    for patch, at in said:
        user = merge_user(user, patch, at, NOON)
    assert user is not None
    return user


def test_the_newest_event_decides_the_stored_zone_whenever_it_arrives() -> None:
    tokyo = (UserPatch("u", time_zone="Asia/Tokyo"), NOON)
    rome = (UserPatch("u", time_zone="Europe/Rome"), NOON - timedelta(hours=1))
    assert merged(tokyo, rome).zone("UTC") == merged(rome, tokyo).zone("UTC") == "Asia/Tokyo"


def test_an_event_is_seen_in_its_own_zone_else_in_the_users_else_in_the_default() -> None:
    user = merged((UserPatch("u", time_zone="Asia/Tokyo"), NOON))
    nobody = merged((UserPatch("u"), NOON))
    assert event_zone(UserPatch("u", time_zone="Europe/Rome"), user, "UTC") == "Europe/Rome"
    assert event_zone(UserPatch("u"), user, "UTC") == "Asia/Tokyo"
    assert event_zone(UserPatch("u"), nobody, "America/Lima") == "America/Lima"


def test_attributes_that_are_given_are_set_and_others_stay() -> None:
    user = merged(
        (UserPatch("u", attributes={"plan": "free", "region": "eu"}), NOON),
        (UserPatch("u", attributes={"plan": "pro"}), NOON + timedelta(seconds=1)),
    )
    assert user.said.plain_attributes() == {"plan": "pro", "region": "eu"}


def test_the_version_grows_only_when_something_changes() -> None:
    first = merged((UserPatch("u", name="Ada"), NOON))
    same = merge_user(first, UserPatch("u", name="Ada"), NOON + timedelta(seconds=1), NOON)
    other = merge_user(first, UserPatch("u", name="Grace"), NOON + timedelta(seconds=1), NOON)
    assert (first.version, same.version, other.version) == (1, 1, 2)


def test_a_user_cannot_gather_attributes_without_end() -> None:
    full = UserPatch("u", attributes={f"a{i}": "x" for i in range(MAX_USER_ATTRIBUTES)})
    with pytest.raises(TooManyAttributes):
        merged((full, NOON), (UserPatch("u", attributes={"one": "more"}), NOON))
