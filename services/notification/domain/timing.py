"""When in a user's day something goes out."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zlib import crc32

from shared.calendar import local_date, zone

SPREAD_SECONDS: Final = 900
"""What is due for all users of a zone at one time of the day goes out within so long."""
_DAY: Final = timedelta(days=1)


def at_local_time(day: date, at: time, user_id: str, time_zone: str) -> datetime:
    """A time on a date of the user, spread over some minutes by the user's id."""
    return _wall(day, at, time_zone) + timedelta(seconds=crc32(user_id.encode()) % SPREAD_SECONDS)


def last_before(end: datetime, at: time, user_id: str, time_zone: str) -> datetime:
    """The last such time of the user's days before an end, spread as far as there is room before it."""
    wall, room = _last_wall(end, at, time_zone)
    return wall + timedelta(0, crc32(user_id.encode()) % room)


# Many users are in one zone, and what is planned at once is about the same days.
@lru_cache(maxsize=4_096)
def _last_wall(end: datetime, at: time, time_zone: str) -> tuple[datetime, int]:
    """The time, and how many seconds there are to spread over."""
    day = local_date(end, time_zone)
    wall = _wall(day, at, time_zone)
    while wall >= end:
        day -= _DAY
        wall = _wall(day, at, time_zone)
    return wall, max(1, min(SPREAD_SECONDS, int((end - wall).total_seconds())))


@lru_cache(maxsize=4_096)
def _wall(day: date, at: time, time_zone: str) -> datetime:
    return datetime.combine(day, at, tzinfo=zone(time_zone)).astimezone(UTC)
