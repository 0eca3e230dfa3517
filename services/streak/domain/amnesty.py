"""Windows in which the app was down: what was missed there costs nobody anything (RULES 3.12)."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct


class Amnesty(Struct, frozen=True):
    """A window of instants, its end excluded."""

    start_time: datetime
    end_time: datetime
    declare_time: datetime

    def overlaps(self, begin: datetime, end: datetime) -> bool:
        """Whether any instant from `begin` up to `end` is in it."""
        return self.start_time < end and begin < self.end_time


def declared(amnesties: Iterable[Amnesty], begin: datetime, end: datetime) -> datetime | None:
    """When it was first known that a period from `begin` up to `end` is excused; None where it is not."""
    return min((each.declare_time for each in amnesties if each.overlaps(begin, end)), default=None)


class Judged(Struct, frozen=True):
    """What has come of an amnesty: streaks that had been closed without it, and were judged anew."""

    judged_count: int = 0
    saved_count: int = 0
    """Of those that are longer now."""
    refunded_count: int = 0
    """Freezes that came back."""
    finished: bool = False


class Previewed(Struct, frozen=True):
    """What an amnesty would save of one streak, by what is recorded."""

    streak: str
    affected_count: int
    """Users who lost it or spent a freeze in the window."""
    tried_count: int
    """Of those for whom it was tried."""
    saved_count: int
    refunded_count: int
