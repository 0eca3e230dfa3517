"""To which event belongs what others grant for a period, also where an event of it is undone (RULES 2.5)."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.streak.domain import (
    NEVER_SEEN,
    Fact,
    Frequency,
    MetricThreshold,
    PeriodChange,
    PeriodStatus,
    Reach,
    Rows,
    StreakDefinition,
    fact,
    facts,
    fold,
    refold,
)

WEEKLY = StreakDefinition("focus", Frequency.WEEKLY, (MetricThreshold("commits", 2),))
MONDAY = datetime(2025, 6, 9, tzinfo=UTC)
NOW = MONDAY + timedelta(days=7)


def event(number: int, hour: int, value: int = 1) -> Fact:
    """The event that arrives as the `number`th, and happened in an hour of the week."""
    arrive_time = NOW - timedelta(minutes=60 - number)
    return fact(UUID(int=number), "commits", value, MONDAY + timedelta(hours=hour), "UTC", arrive_time)


def told(history: Sequence[Fact], gone: Fact) -> PeriodChange | None:
    """What is told of the week when an event is taken away."""
    left = facts(one for one in history if one is not gone)
    before = fold(WEEKLY, facts(history), NOW)
    evaluation = refold(WEEKLY, NEVER_SEEN, before.rows if before else Rows(), left, NOW, gone=gone)
    periods = evaluation.change.history.periods if evaluation.change else ()
    return next((change for change in periods if change.qualified_after), None)


def granted(history: Sequence[Fact]) -> Reach | None:
    """The event with which the week qualified when it did, seen after every arrival."""
    reach = None
    for count in range(1, len(history) + 1):
        folded = fold(WEEKLY, facts(history[:count]), NOW)
        periods = folded.rows.periods if folded else ()
        week = next((period for period in periods if period.status is PeriodStatus.QUALIFIED), None)
        reach = (reach or week.reach) if week else None
    return reach


def owner(reach: Reach | None) -> UUID | None:
    return reach.entry_id if reach else None


def test_an_earlier_event_that_comes_later_takes_nothing_from_the_one_that_qualified_the_week() -> None:
    first, second, earlier, gone = event(1, 50), event(2, 90), event(3, 10), event(4, 100)
    change = told([first, second, earlier, gone], gone)
    assert change
    assert owner(change.reach) == first.entry_id
    assert owner(change.granted_before) == second.entry_id
    assert change.granted_after == change.granted_before


def test_what_an_undone_event_had_passes_to_the_one_that_would_have_had_it_when_it_came() -> None:
    gone, first, second, earlier = event(1, 100), event(2, 50), event(3, 90), event(4, 10)
    change = told([gone, first, second, earlier], gone)
    assert change
    assert owner(change.reach) == first.entry_id
    assert owner(change.granted_before) == gone.entry_id
    assert owner(change.granted_after) == second.entry_id


@given(
    st.lists(st.tuples(st.integers(0, 167), st.sampled_from((1, 2, -1))), min_size=1, max_size=8), st.data()
)
def test_it_is_told_as_it_would_be_seen_after_every_arrival(
    happened: Sequence[tuple[int, int]], data: st.DataObject
) -> None:
    history = [event(number, hour, value) for number, (hour, value) in enumerate(happened)]
    gone = data.draw(st.sampled_from(history))
    left = [one for one in history if one is not gone]
    change = told(history, gone)
    if change is None:
        assert granted(left) is None
    else:
        assert change.granted_before == granted(history)
        assert change.granted_after == granted(left)
