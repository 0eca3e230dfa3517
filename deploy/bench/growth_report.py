"""The figures of growth as Markdown."""

from collections.abc import Iterator, Mapping
from typing import Final

from deploy.bench.load import Load
from deploy.bench.report import PROCESSES, Row, number, spread, table
from deploy.bench.results import Results

MARKS: Final = (
    "<!-- growth: begin. What follows is written by `make growth`. -->",
    "<!-- growth: end -->",
)
LOADS: Final[Mapping[str, Load]] = {
    "closed.1": Load("", "event", 1),
    "closed.64": Load("", "event", 64),
    "closed.256": Load("", "event", 256),
    "batch.4": Load("", "batch", 4, batch_size=100),
}
"""What is measured on both stacks."""
COLD: Final = "cold.256"
"""256 callers right after the servers' start."""
BOUND: Final = 1.3
"""How much more CPU time an event may cost on the large one."""

_NAMES: Final = {
    "closed.1": "`IngestEvent`, 1 caller",
    "closed.64": "`IngestEvent`, 64 callers",
    "closed.256": "`IngestEvent`, 256 callers",
    "batch.4": "`IngestEvents` of 100, 4 in flight",
    COLD: "`IngestEvent`, 256 callers, right after the servers' start",
}
_LARGEST: Final = 12
"""Tables that are told one by one."""


def report(results: Results) -> str:
    """All that was measured."""
    sections = (
        ("Cost of an event", _costs(results)),
        ("Where it goes", _processes(results)),
        ("Pages", _pages(results)),
        ("Rates", _rates(results)),
        ("Filling", _filling(results)),
        ("Tables", _tables(results)),
        ("How it was measured", "\n".join(f"* {line}" for line in _facts(results))),
    )
    return "\n\n".join(f"### {title}\n\n{body}" for title, body in sections) + "\n"


def _costs(results: Results) -> str:
    rows = []
    for kind, what in _NAMES.items():
        ratio = results.ratio(f"large.{kind}.cpu", f"small.{kind}.cpu")
        verdict = "reached" if ratio.median <= BOUND else "**not reached**"
        cells = [spread(results.spread(f"{name}.{kind}.cpu")) for name in ("small", "large")]
        rows.append((what, *cells, spread(ratio), f"≤ {BOUND:g}", verdict))
    return table(("µs of CPU an event", "small", "large", "large : small", "target", ""), rows)


def _processes(results: Results) -> str:
    rows = []
    for process in PROCESSES:
        above, below = (f"{name}.closed.256.cpu.{process}" for name in ("large", "small"))
        cells = [number(results.median(each)) for each in (below, above)]
        rows.append(
            (process if process != "load" else "load generator", *cells, spread(results.ratio(above, below)))
        )
    return table(("µs of CPU an event, 256 callers", "small", "large", "large : small"), rows)


def _pages(results: Results) -> str:
    rows = []
    for kind, what in _NAMES.items():
        cells = [spread(results.spread(f"{name}.{kind}.whole_pages")) for name in ("small", "large")]
        rows.append((what, *cells))
    return table(("pages that go whole into the log, by event", "small", "large"), rows)


def _rates(results: Results) -> str:
    rows = []
    for kind, what in _NAMES.items():
        cells = [spread(results.spread(f"{name}.{kind}.rate")) for name in ("small", "large")]
        ratio = results.ratio(f"large.{kind}.rate", f"small.{kind}.rate")
        failed = sum(sum(results.figures[f"{name}.{kind}.failed"]) for name in ("small", "large"))
        rows.append((what, *cells, spread(ratio), number(failed)))
    return table(("events a second", "small", "large", "large : small", "failed"), rows)


def _filling(results: Results) -> str:
    def row(what: str, *values: float) -> Row:
        return (what, *(f"{value:,.0f}" for value in values))

    names = ("small", "large")
    rows = {name: _sum(results, f"{name}.rows.") for name in names}
    seconds = {name: results.median(f"{name}.fill.seconds") for name in names}
    members = {name: results.median(f"{name}.rows.leaderboard.scores") for name in names}
    rebuild = {name: results.median(f"{name}.rebuild.seconds") for name in names}
    return table(
        ("", *names),
        (
            row("users", *(results.median(f"{name}.users") for name in names)),
            row("events", *(results.median(f"{name}.events") for name in names)),
            row("rows in all tables", *rows.values()),
            row("MB with indexes", *(_sum(results, f"{name}.bytes.") / 1e6 for name in names)),
            row("seconds of filling, with indexes and vacuum", *seconds.values()),
            row("rows a second", *(rows[name] / seconds[name] for name in names)),
            row("seconds until ranks come from the sorted sets", *rebuild.values()),
            row("scores a second", *(members[name] / rebuild[name] for name in names)),
            row("MB of Valkey", *(results.median(f"{name}.memory.valkey") / 1e6 for name in names)),
        ),
    )


def _tables(results: Results) -> str:
    prefix = "large.bytes."
    names = [name.removeprefix(prefix) for name in results.names(prefix)]
    names.sort(key=lambda name: -results.median(prefix + name))
    rows = [
        (name, f"{results.median(f'large.rows.{name}'):,.0f}", f"{results.median(prefix + name) / 1e6:,.0f}")
        for name in names[:_LARGEST]
    ]
    rest = sum(results.median(prefix + name) for name in names[_LARGEST:])
    rows.append((f"{len(names) - _LARGEST} smaller ones", "", f"{rest / 1e6:,.0f}"))
    return table(("large", "rows", "MB with indexes"), rows)


def _sum(results: Results, prefix: str) -> float:
    return sum(results.median(name) for name in results.names(prefix))


def _facts(results: Results) -> Iterator[str]:
    for name, value in {**results.machine, **results.method}.items():
        yield f"{name}: {value}"
    yield f"disturbance: other programs took {spread(results.spread('others_share'))} % of the CPU time"
