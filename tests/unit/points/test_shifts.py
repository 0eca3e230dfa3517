"""A void that moves the crossings of later events: those alone are looked at that cross more or less (RULES 5.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.points.domain.definitions import (
    POINTS_LIMIT,
    AchievementCause,
    MetricCause,
    PointsSystem,
    StreakCause,
    Trigger,
)
from services.points.domain.dependence import Dependence
from services.points.domain.facts import Instant
from shared.entries import EntryKind
from tests.unit.points.user import UNIT, Past, User, instant, period


class Careful(Past):
    """A past in which every award may depend on all before it."""

    def dependence(self, points_system: str) -> Dependence:
        return replace(super().dependence(points_system), on_level=True)


def systems(every: int, other: int) -> list[PointsSystem]:
    tenth = Trigger("tenth", 10, MetricCause("commits", every * UNIT))
    each = Trigger("each", 3, MetricCause("fun", UNIT))
    return [
        PointsSystem("gems", (Trigger("many", 1, MetricCause("commits", other * UNIT)),)),
        PointsSystem("xp", (tenth, each)),
    ]


@given(
    st.integers(2, 12),
    st.integers(1, 5),
    st.lists(
        st.tuples(st.sampled_from(("commits", "commits", "fun")), st.integers(1, 9)), min_size=4, max_size=30
    ),
    st.lists(st.integers(0, 29), min_size=1, max_size=4, unique=True),
    st.integers(0, 9),
)
def test_it_gives_the_rows_and_the_state_that_a_fold_of_everything_later_gives(
    every: int, other: int, events: list[tuple[str, int]], voided: list[int], late: int
) -> None:
    quick, careful = User(systems(every, other)), User(systems(every, other), past=Careful())
    for user in (quick, careful):
        for number, (metric, value) in enumerate(events):
            at = 0.5 if number == 3 and not late else None
            user.earn(value, metric=metric, at=at)
    for index in voided:
        if index >= len(events) or index == 0:
            continue
        entry_id = quick.past.facts[index + 1].instant.entry_id
        for user in (quick, careful):
            user.undo(entry_id)
        assert quick.ledger == careful.ledger
        assert quick.state == careful.state


@pytest.mark.parametrize("value", [1, 3])
def test_no_later_event_is_folded_that_crosses_as_before(value: int) -> None:
    alice = User([PointsSystem("xp", (Trigger("tenth", 10, MetricCause("commits", 10 * UNIT)),))])
    for _ in range(40):
        alice.earn(value)
    alice.past.asked.clear()
    alice.undo(alice.past.facts[5].instant.entry_id)
    assert alice.past.asked == ["crossing"]
    assert alice.balance == 39 * value // 10 * 10


@pytest.mark.parametrize(("amount", "maximum"), [(10, 50), (-10, POINTS_LIMIT)])
def test_where_something_depends_on_what_was_given_everything_later_is_folded(
    amount: int, maximum: int
) -> None:
    trigger = Trigger("tenth", amount, MetricCause("commits", 10 * UNIT))
    alice = User([PointsSystem("xp", (trigger,), max_balance=maximum)])
    for _ in range(40):
        alice.earn(3)
    alice.past.asked.clear()
    alice.undo(alice.past.facts[5].instant.entry_id)
    assert "chunk" in alice.past.asked


@given(st.lists(st.integers(0, 9), min_size=3, max_size=25), st.integers(2, 6))
def test_what_is_taken_back_of_completions_and_periods_gives_the_rows_that_a_fold_of_everything_later_gives(
    events: list[int], length: int
) -> None:
    triggers = (
        Trigger("tenth", 10, MetricCause("commits", 4 * UNIT)),
        Trigger("badge", 15, AchievementCause(None)),
        Trigger("weeks", 5, StreakCause("daily", length)),
    )
    quick = User([PointsSystem("xp", triggers)])
    careful = User([PointsSystem("xp", triggers)], past=Careful())
    for user in (quick, careful):
        reaches: list[Instant] = []
        for number, what in enumerate(events):
            if what < 4:
                user.earn(what + 1)
            elif what < 6:
                user.applied(user.achievement_event((f"badge-{number}", True)))
            else:
                command = user.extension(len(reaches) + 1)
                reaches.append(instant(command.entry))
                user.applied(command)
        # The first day is gone: all later ones are one shorter.
        gone = [period(day, day, day - 1 or None, reach) for day, reach in enumerate(reaches, start=1)]
        user.applied(user.streak_event(*gone, kind=EntryKind.CORRECTION))
        for number in (number for number, what in enumerate(events) if what == 4):
            taken = (f"badge-{number}", False)
            user.applied(user.achievement_event(taken, kind=EntryKind.CORRECTION))
    assert quick.ledger == careful.ledger
    assert quick.state == careful.state
    assert "chunk" not in quick.past.asked
