"""When what failed is tried again (RULES 8.4)."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.notification.domain.schedule import (
    GIVE_UP_AFTER,
    SWITCH_OFF_AFTER,
    is_to_be_switched_off,
    next_attempt,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def attempts(*, chance: float) -> list[datetime]:
    """When an event is tried that nobody ever accepts, each attempt failing at once."""
    times = [NOON]
    while (following := next_attempt(len(times), NOON, times[-1], chance=chance)) is not None:
        times.append(following)
    return times


def test_an_event_is_tried_over_three_days_ever_later() -> None:
    times = attempts(chance=0.5)
    assert [round((time - NOON).total_seconds()) for time in times[:4]] == [0, 5, 35, 335]
    assert times[-1] == NOON + GIVE_UP_AFTER
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[:-1] == sorted(pauses[:-1])
    assert 10 <= len(times) <= 16


@given(st.floats(0, 1))
def test_whatever_chance_says_the_last_attempt_is_three_days_after_the_first(chance: float) -> None:
    times = attempts(chance=chance)
    assert times[-1] == NOON + GIVE_UP_AFTER
    assert all(after > before for before, after in pairwise(times))


def test_what_failed_together_is_not_tried_again_together() -> None:
    spread = {next_attempt(3, NOON, NOON, chance=chance / 10) for chance in range(11)}
    assert len(spread) == 11


def test_an_endpoint_may_ask_to_be_left_alone_for_an_hour_at_most() -> None:
    asked = timedelta(minutes=20)
    assert next_attempt(1, NOON, NOON, chance=0, asked=asked) == NOON + asked
    long = next_attempt(1, NOON, NOON, chance=0, asked=timedelta(days=2))
    assert long == NOON + timedelta(hours=1)


def test_an_endpoint_is_switched_off_when_it_has_failed_for_five_days() -> None:
    assert not is_to_be_switched_off(None, NOON)
    assert not is_to_be_switched_off(NOON, NOON + SWITCH_OFF_AFTER - timedelta(seconds=1))
    assert is_to_be_switched_off(NOON, NOON + SWITCH_OFF_AFTER)
