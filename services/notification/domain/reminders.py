"""Which streaks a user is reminded of, and when one is looked for who has to be (RULES 8.6)."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Final

from msgspec import Struct

from services.notification.domain.timing import last_before

WINDOW: Final = timedelta(hours=1)
"""Streaks that end in such a time are looked for at once."""
AHEAD: Final = timedelta(hours=2)
"""So long before reminders are due their users are looked for: a window, and the hour that a day may be longer."""
_DAY: Final = timedelta(days=1)


class Streak(Struct, frozen=True):
    """A streak of a user as of now."""

    key: str
    name: str
    length: int
    is_safe: bool
    """The period is done already."""
    freeze_count: int
    """Freezes that would be spent on the period."""
    expire_time: datetime | None
    """When it ends unless something is done; behind a pause and days off."""

    @property
    def is_at_risk(self) -> bool:
        """Whether it is lost unless something is done: a freeze would keep it."""
        return self.length > 0 and not self.is_safe and not self.freeze_count and self.expire_time is not None


def next_window(found_until: datetime, send_time: time, now: datetime) -> tuple[datetime, datetime] | None:
    """The ends of streaks that are to be looked for next, of which those before an instant have been; None: it is not
    time yet.
    """
    begin = max(found_until, now)
    end = begin + WINDOW
    day_left = _DAY - timedelta(hours=send_time.hour, minutes=send_time.minute)
    return (begin, end) if end <= now + day_left + AHEAD else None


def due_time(streak: Streak, send_time: time, user_id: str, time_zone: str) -> datetime:
    """When the user is reminded of a streak that is at risk: at the last such time before its end."""
    assert streak.expire_time is not None
    return last_before(streak.expire_time, send_time, user_id, time_zone)


def due(
    streaks: Sequence[Streak], send_time: time, user_id: str, time_zone: str, now: datetime
) -> tuple[Streak, ...]:
    """The streaks of which the user is reminded now, the longest first."""
    found = [
        streak
        for streak in streaks
        if streak.is_at_risk and due_time(streak, send_time, user_id, time_zone) <= now
    ]
    return tuple(sorted(found, key=lambda streak: (-streak.length, streak.key)))
