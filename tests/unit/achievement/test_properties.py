"""Effects commute, for any history (RULES 2.5, 7.2). That they undo exactly, and bear the right dates: `test_order`."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from services.achievement.domain import Command
from tests.unit.achievement.builders import (
    MERGED,
    Player,
    achievement,
    event,
    for_pros,
    player,
)

VALUES = st.integers(-20, 20).filter(bool)
POSITIVE = st.integers(1, 20)


@dataclass(frozen=True)
class Happening:
    value: int
    merged: bool
    pro: bool


def happenings(values: st.SearchStrategy[int]) -> st.SearchStrategy[list[Happening]]:
    return st.lists(st.builds(Happening, values, st.booleans(), st.booleans()), min_size=1, max_size=12)


def someone() -> Player:
    return player(
        *(achievement(f"total-{threshold}", threshold) for threshold in (1, 10, 25, 60)),
        *(achievement(f"merged-{threshold}", threshold, event_filters=[MERGED]) for threshold in (5, 30)),
        for_pros(achievement("pro", 20)),
    )


def recorded(history: list[Happening]) -> list[Command]:
    """The events with the totals that the ledger gives them, in the order in which it took them in."""
    total, peak, commands = 0, 0, []
    for version, happening in enumerate(history, start=1):
        total += happening.value
        peak = max(peak, total)
        commands.append(
            event(
                version,
                happening.value,
                total=total,
                peak=peak,
                attributes={"state": "merged"} if happening.merged else {},
                user={"plan": "pro" if happening.pro else "free"},
            )
        )
    return commands


@given(happenings(POSITIVE), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_completions(history: list[Happening], random: object) -> None:
    commands = recorded(history)
    in_order, shuffled = someone(), someone()
    in_order.apply(*commands)
    random.shuffle(commands)  # type: ignore[attr-defined]
    shuffled.apply(*commands)
    assert shuffled.held == in_order.held
    assert {key: source.current for key, source in shuffled.state.sources.items()} == {
        key: source.current for key, source in in_order.state.sources.items()
    }
    assert shuffled.state.totals == in_order.state.totals
    assert shuffled.state.accumulators == in_order.state.accumulators


@given(happenings(VALUES))
def test_what_is_held_is_what_the_highest_totals_say(history: list[Happening]) -> None:
    alice = someone()
    alice.apply(*recorded(history))
    total = merged = peak = merged_peak = pro_peak = 0
    for happening in history:
        total += happening.value
        merged += happening.value if happening.merged else 0
        peak, merged_peak = max(peak, total), max(merged_peak, merged)
        pro_peak = peak if happening.pro else pro_peak
    expected = {f"total-{threshold}" for threshold in (1, 10, 25, 60) if peak >= threshold}
    expected |= {f"merged-{threshold}" for threshold in (5, 30) if merged_peak >= threshold}
    expected |= {"pro"} if pro_peak >= 20 else set()
    assert alice.held == expected
