"""Months as ranges of entry ids, which of them a table should have, and which are old. Pure.

An entry id begins with the milliseconds since 1970 of the entry's occur_time (`shared.ids.derived_id_at`): the ids of a
month lie between two bounds. Months are those of UTC.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

MONTHS_AHEAD: Final = 2
"""How many months beyond the present one a table has: so many may pass without anybody making more."""

_CONDENSED: Final = "_condensed"
_BITS_BELOW_TIME: Final = 80
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Month(Struct, frozen=True, order=True):
    """A month of the calendar, in UTC."""

    year: int
    month: int

    @property
    def begin(self) -> datetime:
        """The month's first instant."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after the month."""
        return self.next().begin

    def next(self) -> "Month":
        """The month after this one."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)


class Months(Struct, frozen=True):
    """The months that a table has, as the names of its partitions tell."""

    whole: frozenset[Month]
    condensed: frozenset[Month]
    """Those of which only facts are kept (`shared.postgres.condensing`)."""

    @property
    def all(self) -> frozenset[Month]:
        """Every month that there is a partition for."""
        return self.whole | self.condensed


def month_of(instant: datetime) -> Month:
    """The month that an instant lies in."""
    at = instant.astimezone(UTC)
    return Month(at.year, at.month)


def lowest_id(instant: datetime) -> UUID:
    """The lowest id of this instant or later; instants in whole milliseconds."""
    return UUID(int=(instant - _EPOCH) // timedelta(milliseconds=1) << _BITS_BELOW_TIME)


def partition_name(table: str, month: Month) -> str:
    """The table that holds a month: `request_log_2026_11`."""
    return f"{table}_{month.year:04}_{month.month:02}"


def condensed_name(table: str, month: Month) -> str:
    """The table that holds a month of which only facts are kept: `request_log_2026_11_condensed`."""
    return partition_name(table, month) + _CONDENSED


def months_of(table: str, names: Collection[str]) -> Months:
    """The months that these partitions of the table hold; others, as the default partition, hold none."""
    plain = {name for name in names if not name.endswith(_CONDENSED)}
    rest = {name.removesuffix(_CONDENSED) for name in names if name not in plain}
    return Months(
        *(
            frozenset(month for name in part if (month := month_of_partition(table, name)))
            for part in (plain, rest)
        )
    )


def month_of_partition(table: str, name: str) -> Month | None:
    """The month that a partition of the table holds; None for one that is not of a month."""
    year, _, month = name.removeprefix(f"{table}_").partition("_")
    if not (year.isdigit() and month.isdigit() and 1 <= int(month) <= 12):
        return None
    found = Month(int(year), int(month))
    return found if partition_name(table, found) == name else None


def months_to_make(existing: Collection[Month], now: datetime) -> list[Month]:
    """The present month and the next ones, as far as they are missing."""
    month = month_of(now)
    wanted = [month]
    for _ in range(MONTHS_AHEAD):
        month = month.next()
        wanted.append(month)
    return [month for month in wanted if month not in existing]


def months_past(existing: Collection[Month], now: datetime, age: timedelta) -> list[Month]:
    """The months of which even the last instant is older than `age`, oldest first."""
    return sorted(month for month in existing if month.end <= now - age)
