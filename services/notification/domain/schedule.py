"""When what failed is tried again (RULES 8.4): over three days, ever later, with jitter."""

from datetime import datetime, timedelta
from typing import Final

GIVE_UP_AFTER: Final = timedelta(days=3)
"""From the first attempt; the last one is made about then."""
SWITCH_OFF_AFTER: Final = timedelta(days=5)
"""Without any answer of 2xx, counted from the first attempt that failed."""
LONGEST_ASKED: Final = timedelta(hours=1)
"""How long an endpoint may ask to be left alone (`Retry-After`)."""

_PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=12),
)
"""After the first attempt, the second, ..."""
_JITTER: Final = 0.2


def next_attempt(
    attempt_count: int,
    first_attempt: datetime,
    now: datetime,
    *,
    chance: float,
    asked: timedelta = timedelta(),
) -> datetime | None:
    """When to try again after so many attempts, the last of which failed now; None: no more.

    `chance` from 0 to 1 spreads what failed together; `asked` is how long the endpoint wants to be left alone.
    """
    end = first_attempt + GIVE_UP_AFTER
    if now >= end:
        return None
    pause = _PAUSES[min(attempt_count, len(_PAUSES)) - 1]
    pause = max(pause * (1 - _JITTER + 2 * _JITTER * chance), min(asked, LONGEST_ASKED))
    return min(now + pause, end)


def is_to_be_switched_off(failing_since: datetime | None, now: datetime) -> bool:
    """Whether an endpoint has failed for too long."""
    return failing_since is not None and now - failing_since >= SWITCH_OFF_AFTER
