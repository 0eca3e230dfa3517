"""What the system has to reach, in ratios of figures of one run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from deploy.bench.results import Results
from deploy.bench.statistics import Spread, ratios


@dataclass(frozen=True, slots=True)
class Target:
    """One ratio, and the bound that it has to keep."""

    what: str
    needs: tuple[str, ...]
    """The figures that it is made of."""
    measure: Callable[[Results], Spread]
    bound: float
    at_least: bool = True

    def is_reached(self, measured: Spread) -> bool:
        """Whether the median keeps the bound."""
        return measured.median >= self.bound if self.at_least else measured.median <= self.bound

    @property
    def bound_text(self) -> str:
        """The bound for a reader."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


def _ratio(above: str, below: str) -> Callable[[Results], Spread]:
    return lambda results: results.ratio(above, below)


def _best_ratio(prefix: str, suffix: str, below: str) -> Callable[[Results], Spread]:
    """Of the figures of this kind, the one with the best median."""

    def measure(results: Results) -> Spread:
        names = [name for name in results.names(prefix) if name.endswith(suffix)]
        best = max(names, key=results.median)
        return results.ratio(best, below)

    return measure


def _excess(name: str, base: str) -> Callable[[Results], Spread]:
    """How many percent more than the base."""

    def measure(results: Results) -> Spread:
        pairs = ratios(results.figures[name], results.figures[base])
        return Spread.of([100 * (ratio - 1) for ratio in pairs])

    return measure


def _peer(results: Results) -> Spread:
    """Against DBOS with as many callers as suit it best."""
    names = [name for name in results.names("peer.") if name.endswith(".events")]
    return results.ratio("closed.256.rate", max(names, key=results.median))


TARGETS: Final = (
    Target(
        "`IngestEvent`, 256 callers : empty RPC, 256 callers",
        ("closed.256.rate", "empty.256.rate"),
        _ratio("closed.256.rate", "empty.256.rate"),
        0.22,
    ),
    Target(
        "`IngestEvent`, 256 callers : groups of one",
        ("closed.256.rate", "singles.256.rate"),
        _ratio("closed.256.rate", "singles.256.rate"),
        7.0,
    ),
    Target(
        "`IngestEvent`, 256 callers : DBOS, the same four steps",
        ("closed.256.rate", "peer.1.events"),
        _peer,
        10.0,
    ),
    Target(
        "`IngestEvents` of 100, events : empty RPC, 256 callers",
        ("batch.1.rate", "empty.256.rate"),
        _best_ratio("batch.", ".rate", "empty.256.rate"),
        0.35,
    ),
    Target(
        "a lone event, p50 : an empty RPC as seldom, p50",
        ("closed.1.p50", "empty.rested.p50"),
        _ratio("closed.1.p50", "empty.rested.p50"),
        6.0,
        at_least=False,
    ),
    Target(
        "open loop at 50 % of saturation, p99 : lone event, p50",
        ("open.50.p99", "closed.1.p50"),
        _ratio("open.50.p99", "closed.1.p50"),
        5.0,
        at_least=False,
    ),
    Target(
        "`IngestEvents`, events : the same SQL statements, one after another",
        ("batch.1.rate", "sql.in_order.events"),
        _best_ratio("batch.", ".rate", "sql.in_order.events"),
        0.6,
    ),
    Target(
        "telemetry off : no telemetry, CPU of an event, % more",
        ("telemetry.off.cpu", "telemetry.without.cpu"),
        _excess("telemetry.off.cpu", "telemetry.without.cpu"),
        3.0,
        at_least=False,
    ),
    Target(
        "traces sampled at 1 % : telemetry off, CPU of an event, % more",
        ("telemetry.sampled.cpu", "telemetry.off.cpu"),
        _excess("telemetry.sampled.cpu", "telemetry.off.cpu"),
        10.0,
        at_least=False,
    ),
    Target(
        "goodput at three times saturation : saturation, one connection",
        ("overload.1.goodput_share",),
        lambda results: results.spread("overload.1.goodput_share"),
        0.85,
    ),
    Target(
        "the same from eight connections",
        ("overload.8.goodput_share",),
        lambda results: results.spread("overload.8.goodput_share"),
        0.85,
    ),
)
