"""What a metric is, said once beside what records it; `docs/operations/metrics.md` is generated from it."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

Observe = Callable[[], Iterable[Observation]]

_UNITS: Final = {"s": "_seconds", "By": "_bytes"}
"""What Prometheus adds to a name; units in braces are only said."""


class Kind(StrEnum):
    """How a metric is read."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(Struct, frozen=True):
    """One metric of a process."""

    kind: Kind
    name: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()

    @property
    def in_prometheus(self) -> str:
        """Its name where Prometheus reads it; a histogram's ends in `_bucket`, `_sum` or `_count` besides."""
        total = "_total" if self.kind is Kind.COUNTER else ""
        return self.name.replace(".", "_") + _UNITS.get(self.unit, "") + total

    def counter(self, meter: Meter) -> Counter:
        """To add to."""
        return meter.create_counter(self.name, self.unit, self.description)

    def counted(self, meter: Meter, count: Callable[[], int]) -> None:
        """Of something that counts for itself, read like what is observed."""

        def look(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(count())]

        meter.create_observable_counter(self.name, [look], self.unit, self.description)

    def histogram(self, meter: Meter) -> Histogram:
        """To record in."""
        return meter.create_histogram(self.name, self.unit, self.description)

    def observed(self, meter: Meter, observe: Observe) -> None:
        """Asked for whenever metrics are read, on a thread of the reader: `observe` looks and waits for nothing."""

        def look(_: CallbackOptions) -> Iterable[Observation]:
            return observe()

        meter.create_observable_gauge(self.name, [look], self.unit, self.description)
