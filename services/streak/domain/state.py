"""What a fold goes on from, and what it comes to."""

from datetime import date, datetime

from msgspec import Struct

from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand, DateRange, Override
from services.streak.domain.definition import MetricThreshold
from services.streak.domain.facts import Order
from services.streak.domain.freezes import Freezes
from services.streak.domain.rows import Reach, Rows, Run
from services.streak.domain.travel import Sighting
from services.streak.domain.zones import Steps


class Anchor(Struct, frozen=True):
    """A qualified period behind which nothing is provisional."""

    period: int
    run: Run
    """The run that it belongs to, with its length up to here."""
    reach: Reach
    """The event with which it qualified."""
    latest: Sighting
    """Its latest fact."""
    known_date: date
    """The date from which on what had arrived qualified it; never before its last one, up to which it could."""


class Settled(Struct, frozen=True):
    """Everything up to and including the last qualified period before the one with the newest facts."""

    freezes: Freezes
    anchor: Anchor | None = None
    longest: int = 0


class Tally(Struct, frozen=True):
    """The facts of one period, added up; the latest period that has any."""

    period: int
    sums_micros: tuple[int, ...]
    """In the order of the definition's metrics."""
    earliest: Sighting
    latest: Sighting
    latest_order: Order
    late: tuple[tuple[date, tuple[int, ...]], ...] = ()
    """Of the sums, what came after the period's last date: by the local date of its arrival, ascending."""
    reach: Reach | None = None
    """The event with which the sums came to reach the thresholds; None while they do not."""


class StreakState(Struct, frozen=True, omit_defaults=True):
    """All that is needed to go on from here without the facts. Its size does not grow with them."""

    first_order: Order
    latest_date: date
    """The latest local date of any fact."""
    zones: Steps
    """In which zones periods close, from the anchor on, or else from the tally on."""
    settled: Settled
    tally: Tally
    by_hand: ByHand = NOTHING_BY_HAND
    """What was done by hand, kept beside the stored state: it is there also without events."""

    @property
    def zone(self) -> str:
        """The user's zone."""
        return self.zones[-1][1]


class Checkpoint(Struct, frozen=True):
    """What the facts up to and including a qualified period come to: a fold of later ones may begin here."""

    anchor: Anchor
    freezes: Freezes
    longest: int
    first_order: Order


class Current(Struct, frozen=True):
    """A streak as it looks at some instant (RULES 3.10)."""

    run: Run | None
    """The present run; None at length 0."""
    longest: int
    reach_time: datetime
    """When the present length was reached; for a length 0 that never was more, the first fact's time."""
    period_start_date: date
    period_end_date: date
    period_end_time: datetime
    """The local midnight at which the current period closes."""
    period_qualified: bool
    metrics: tuple[MetricThreshold, ...]
    """What the current period is judged by."""
    sums_micros: tuple[int, ...]
    """Progress of the current period, in the order of these metrics."""
    freeze_count: int
    time_zone: str
    expire_time: datetime | None
    """When the last period in which the user can still act ends, freezes not counted; None at length 0, and where the
    user has switched it off.
    """
    next_close_time: datetime | None
    """The next instant at which a period closes with a result; None while nothing is at stake."""
    override: Override | None = None
    """What the user wants otherwise."""
    pauses: tuple[DateRange, ...] = ()
    """Those that have not ended before the current period, by their first dates."""

    @property
    def length(self) -> int:
        """The present length, in periods."""
        return self.run.length if self.run else 0


class Folded(Struct, frozen=True):
    """The result of a fold."""

    rows: Rows
    current: Current
    state: StreakState
