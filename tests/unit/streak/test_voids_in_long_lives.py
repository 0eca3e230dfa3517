"""Voids of events with much behind them: what the rows of later periods tell stands for their facts (RULES 3.1)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.streak.domain import (
    Fact,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    StreakDefinition,
    fact,
)
from tests.unit.streak.slow_fold import slow_fold
from tests.unit.streak.stored import Stored, assert_same
from tests.unit.streak.worlds import (
    BEGINNING,
    METRICS,
    ZONES,
    amnesties,
    by_hands,
    declare,
    definitions,
    redefine,
    slow_by_hand,
    slow_facts,
    slow_rules,
)

DAILY = StreakDefinition("focus", Frequency.DAILY, (MetricThreshold("commits", 1),))
DAYS = {Frequency.DAILY: 1, Frequency.WEEKLY: 7, Frequency.MONTHLY: 30}

# What happens in a stretch as long as a period: events, each by how many days it is late, and whether abroad.
STRETCHES: tuple[tuple[tuple[int, bool], ...], ...] = (
    (),
    (),
    ((0, False),),
    ((0, False),),
    ((0, False),),
    ((0, False), (0, False)),
    ((1, False),),
    ((2, False), (0, False)),
    ((0, True),),
    ((1, True), (0, False)),
)


@st.composite
def lives(draw: st.DrawFn) -> tuple[StreakDefinition, list[Fact]]:
    """A definition, and up to 50 periods in the order of time."""
    definition = draw(definitions())
    home, abroad = draw(st.sampled_from(ZONES)), draw(st.sampled_from(ZONES))
    length = timedelta(days=DAYS[definition.frequency])
    found: list[Fact] = []
    for number, stretch in enumerate(draw(st.lists(st.sampled_from(STRETCHES), min_size=15, max_size=50))):
        for days_late, is_abroad in stretch:
            entry = len(found) + 1
            occur_time = BEGINNING + number * length + timedelta(minutes=entry * 457 % 1440)
            metric = METRICS[entry % 5 == 0]
            zone = abroad if is_abroad else home
            late = occur_time + timedelta(days=days_late)
            found.append(fact(UUID(int=entry), metric, 1 + entry % 3, occur_time, zone, late))
    return definition, sorted(found, key=lambda event: event.order)


@given(lives(), st.data())
def test_a_void_leaves_what_the_others_alone_would_have_given(
    life: tuple[StreakDefinition, list[Fact]], data: st.DataObject
) -> None:
    definition, history = life
    if not history:
        return
    stored = Stored(definition, compares_checkpoints=False)
    now = max(event.arrive_time for event in history) + timedelta(hours=data.draw(st.integers(0, 200)))
    changes = data.draw(st.lists(st.tuples(st.integers(0, len(history) - 1), definitions()), max_size=2))
    redefined = dict(changes)
    for number, event in enumerate(history):
        stored.take(event, event.arrive_time)
        if number in redefined:
            after = replace(redefined[number], frequency=definition.frequency)
            stored.definition = redefine(stored.definition, after, event.arrive_time)
    for amnesty in data.draw(amnesties(history)):
        stored.definition = declare(stored.definition, amnesty)
    if data.draw(st.booleans()):
        for change, done in data.draw(by_hands(history, daily=definition.frequency is Frequency.DAILY)):
            stored.do(change(stored.facts.by_hand, done), done, now)
    stored.maintain(now)
    for event in data.draw(st.lists(st.sampled_from(history), unique=True, min_size=1, max_size=3)):
        stored.undo(event, now)
        left = list(stored.facts.events)
        if left:
            # As where an event of a metric is undone whose contributions change.
            others = data.draw(st.lists(st.sampled_from(left), unique=True, max_size=3))
            stored.revise(
                [replace(other, contribution_micros=data.draw(st.integers(0, 3))) for other in others], now
            )
    expected = slow_fold(
        slow_rules(stored.definition),
        slow_facts(list(stored.facts.events), definition),
        now,
        slow_by_hand(stored.facts.by_hand),
    )
    assert_same(stored, expected)


def lived(days: int, definition: StreakDefinition) -> Stored:
    """Two events a day, one on each tenth, none on weekends, all in one zone and in time."""
    stored = Stored(definition, compares_checkpoints=False)
    for day in range(days):
        noon = datetime(2025, 3, 3, 12, tzinfo=UTC) + timedelta(days=day)
        for number in range(0 if day % 7 > 4 else 1 if day % 10 == 0 else 2):
            event = fact(UUID(int=day * 10 + number + 1), "commits", 1, noon + timedelta(hours=number), "UTC")
            stored.take(event, event.occur_time)
    return stored


@pytest.mark.parametrize(
    "freezes", [FreezeSettings(), FreezeSettings(2, 2, 7, 3), FreezeSettings(0, 1, 7, 2)]
)
@pytest.mark.parametrize("day", [30, 50])
def test_what_is_read_of_later_periods_does_not_grow_with_them(freezes: FreezeSettings, day: int) -> None:
    read = []
    for days in (90, 180):
        stored = lived(days, replace(DAILY, freezes=freezes))
        last = stored.facts.events[-1].occur_time
        stored.undo(next(e for e in stored.facts.events if e.entry_id == UUID(int=day * 10 + 1)), last)
        read.append(stored.looked_at)
    assert read[0] == read[1]
    assert read[0]
    assert max(each or 0 for each in read[0]) <= 12


@pytest.mark.parametrize("freezes", [FreezeSettings(), FreezeSettings(2, 2, 7, 3)])
def test_of_what_lies_between_two_events_that_contribute_something_else_little_is_read(
    freezes: FreezeSettings,
) -> None:
    read = []
    for day in (50, 150):
        stored = lived(180, replace(DAILY, freezes=freezes))
        last = stored.facts.events[-1].occur_time
        # Days that have one event, which does not suffice any more.
        ids = [UUID(int=number * 10 + 1) for number in (30, day)]
        events = [event for event in stored.facts.events if event.entry_id in ids]
        stored.revise([replace(event, contribution_micros=0) for event in events], last)
        read.append(stored.looked_at[-1])
    assert all(each is not None and each <= 12 for each in read)


def test_one_more_event_in_time_tells_that_a_freeze_was_not_spent_on_a_day_of_which_another_came_late() -> (
    None
):
    stored = Stored(replace(DAILY, freezes=FreezeSettings(1, 0, 0, 1)))
    for number, day in enumerate((3, 4), start=1):
        event = fact(UUID(int=number), "commits", 1, datetime(2025, 3, day, 12, tzinfo=UTC), "UTC")
        stored.take(event, event.occur_time)
    late, early = datetime(2025, 3, 6, 9, tzinfo=UTC), datetime(2025, 3, 5, 10, tzinfo=UTC)
    stored.take(fact(UUID(int=3), "commits", 1, datetime(2025, 3, 5, 9, tzinfo=UTC), "UTC", late), late)
    assert [line.reason.name for line in stored.rows.ledger] == ["INITIAL", "CONSUMED", "REFUNDED"]
    # It had come in time, and was kept from the service until now.
    stored.take(fact(UUID(int=4), "commits", 1, early, "UTC", early), late)
    assert [line.reason.name for line in stored.rows.ledger] == ["INITIAL"]
