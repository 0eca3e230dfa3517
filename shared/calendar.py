"""Instants seen in zones (RULES 1.1): the only place where time zones are looked up.

Zone data comes from the pinned `tzdata` package; the host's own is switched off for the whole process, so
that two replicas never disagree about a date.
"""

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo

EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
"""No instant that a client sends may lie before this one."""

LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""No instant that a client sends may lie at or after this one."""

EARLIEST_DATE: Final = EARLIEST.date()
LATEST_DATE: Final = LATEST.date()

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_LONGEST_QUOTED_NAME: Final = 64

zoneinfo.reset_tzpath(to=[])
ZoneInfo.clear_cache()


class UnknownZone(ValueError):
    """The name is not an IANA zone: unknown, an offset, a path, in the wrong case, or empty."""

    def __init__(self, name: str) -> None:
        shown = name if len(name) <= _LONGEST_QUOTED_NAME else name[:_LONGEST_QUOTED_NAME] + "…"
        super().__init__(f"{shown!r} is not the name of an IANA time zone such as 'Europe/Berlin'")


def zone(name: str) -> ZoneInfo:
    """The zone of this IANA name, cached. Raises `UnknownZone`."""
    return _zone(name)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every accepted name: those of the pinned package, without `Factory`, which stands for "not set"."""
    names = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(names) - {"Factory"}


def local_date(instant: datetime, zone_name: str) -> date:
    """The date on the wall at this instant in this zone. Raises `UnknownZone`, or `ValueError` if naive."""
    if instant.tzinfo is None:
        raise ValueError("an instant must carry its offset")
    return instant.astimezone(_zone(zone_name)).date()


def local_day_and_minute(instant: datetime, zone_name: str) -> tuple[date, int]:
    """The date on the wall, and the minute of its day, from 0. Raises as `local_date` does."""
    if instant.tzinfo is None:
        raise ValueError("an instant must carry its offset")
    wall = instant.astimezone(zone(zone_name))
    return wall.date(), wall.hour * 60 + wall.minute


def utc_hour(instant: datetime, zone_name: str) -> int:
    """So many whole hours this zone's clock is ahead of UTC at this instant, rounded down; negative: behind. Raises as
    `local_date` does.
    """
    if instant.tzinfo is None:
        raise ValueError("an instant must carry its offset")
    offset = instant.astimezone(zone(zone_name)).utcoffset()
    assert offset is not None  # it has a zone
    return offset // _HOUR


def local_midnight(day: date, zone_name: str) -> datetime:
    """The instant (UTC) at which this local date begins: the first at which the wall shows it or a later one.

    Where the clock jumps over midnight, that is the instant of the jump; a date that the zone skipped whole
    (Pacific/Apia, 2011-12-30) begins where the next one does. Where midnight comes twice, the first counts.
    Raises `UnknownZone`.
    """
    return _midnight(day, zone_name)


def day_of(instant: datetime, zone_name: str, start: timedelta) -> date:
    """The day at this instant in this zone, where days begin so long after midnight (RULES 1.6): what happens before
    that belongs to the day before. Raises as `local_date` does.
    """
    day = local_date(instant, zone_name)
    return day - _DAY if start and instant < day_begins(day, zone_name, start) else day


def day_begins(day: date, zone_name: str, start: timedelta) -> datetime:
    """The instant (UTC) at which a day begins, so long after midnight by the wall: the first at which it shows that or
    later. Raises `UnknownZone`.
    """
    return _begins(day, start, zone_name) if start else _midnight(day, zone_name)


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    if name not in zone_names():
        raise UnknownZone(name)
    return ZoneInfo(name)


@lru_cache(maxsize=65_536)
def _midnight(day: date, zone_name: str) -> datetime:
    local = _zone(zone_name)
    return _reaches(datetime.combine(day, time(), tzinfo=local), local)


@lru_cache(maxsize=65_536)
def _begins(day: date, start: timedelta, zone_name: str) -> datetime:
    local = _zone(zone_name)
    return _reaches(datetime.combine(day, time(), tzinfo=local) + start, local)


def _reaches(wall: datetime, local: ZoneInfo) -> datetime:
    """The first instant at which the wall shows this or later."""
    begins = wall.astimezone(UTC)
    if begins.astimezone(local).replace(fold=0, tzinfo=None) == wall.replace(tzinfo=None):
        return begins
    # It falls into a gap. Read with the offset of after the jump it lies before the jump, read with the
    # one of before it lies at the jump or after it; in between what the wall shows only grows.
    before, reached = wall.replace(fold=1).astimezone(UTC), begins
    while reached - before > _MICROSECOND:
        middle = before + (reached - before) // 2
        if middle.astimezone(local).replace(fold=0, tzinfo=None) >= wall.replace(tzinfo=None):
            reached = middle
        else:
            before = middle
    return reached
