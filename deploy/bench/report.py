"""The figures as Markdown, ratios first. The same text goes to the terminal and into the documentation."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from deploy.bench.profiles import BATCHES_IN_FLIGHT, CLOSED, OPEN_SHARES, OVERLOAD_CONNECTIONS, TELEMETRY
from deploy.bench.results import Results
from deploy.bench.statistics import Spread
from deploy.bench.targets import TARGETS

BEGIN: Final = "<!-- bench: begin. What follows is written by `make bench`. -->"
END: Final = "<!-- bench: end -->"
PROCESSES: Final = (
    "orchestrator",
    "streak",
    "achievement",
    "points",
    "leaderboard",
    "postgres",
    "valkey",
    "load",
)

Row = Sequence[str]

_LOADS: Final = (
    ("empty.1", "empty RPC, 1 caller"),
    ("empty.rested", "empty RPC, 45 a second"),
    ("empty.256", "empty RPC, 256 callers"),
    *((f"closed.{count}", f"`IngestEvent`, {count} caller{'s' if count > 1 else ''}") for count in CLOSED),
    *((f"batch.{count}", f"`IngestEvents` of 100, {count} in flight") for count in BATCHES_IN_FLIGHT),
    ("stream.256", "`StreamEvents`, 256 in flight"),
    ("singles.256", "groups of one event, 256 callers"),
    ("replicas.256", "two orchestrators, 256 callers"),
    ("duplicates.256", "10 % sent before, 256 callers"),
    ("one_user.256", "all of one user, 256 callers"),
    *((f"open.{share}", f"open loop at {share} % of saturation") for share in OPEN_SHARES),
)


def report(results: Results, plots: Iterable[str] = ()) -> str:
    """All that was measured; what was not is left out. `plots` are names of pictures beside the page."""
    sections = (
        ("Ratios", _targets(results)),
        ("Rates and latencies", _loads(results)),
        ("Ceilings without gRPC, and the peer", _ceilings(results)),
        ("Where the CPU time of an event goes", _cpu(results)),
        ("Round trips, bytes and memory", _footprint(results)),
        ("Overload", _overload(results)),
        ("Telemetry", _telemetry(results)),
        ("Method", _method(results)),
    )
    parts = [f"## {title}\n\n{body}" for title, body in sections if body]
    pictures = "\n".join(f"![{name}](performance/{name}.png)" for name in plots)
    return "\n\n".join([*parts[:1], *([pictures] if pictures else []), *parts[1:]]) + "\n"


def publish(page: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replaces what stands between two marks of a page. Raises `ValueError` where the page lacks them."""
    content = page.read_text()
    head, begin, rest = content.partition(marks[0])
    _, end, tail = rest.partition(marks[1])
    if not (begin and end):
        raise ValueError(f"{page} lacks the marks between which figures belong")
    page.write_text(f"{head}{begin}\n\n{text}\n{end}{tail}")


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table with columns of one width; all but the first are numbers and stand to the right."""
    if not rows:
        return ""
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]

    def line(cells: Row) -> str:
        shown = [
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(shown)} |"

    rule = ["-" * width if index == 0 else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def number(value: float) -> str:
    """Three significant digits, thousands with commas."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(measured: Spread) -> str:
    """The median, and the range where there is one."""
    if measured.low == measured.high:
        return number(measured.median)
    return f"{number(measured.median)} ({number(measured.low)} to {number(measured.high)})"


def _targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        if results.has(*target.needs):
            measured = target.measure(results)
            verdict = "reached" if target.is_reached(measured) else "**not reached**"
            rows.append((target.what, spread(measured), target.bound_text, verdict))
    return table(("ratio", "measured", "target", ""), rows)


def _loads(results: Results) -> str:
    base = results.median("closed.256.rate") if results.has("closed.256.rate") else 0.0
    rows = []
    for name, what in _LOADS:
        if not results.has(f"{name}.rate"):
            continue
        rate = results.spread(f"{name}.rate")
        groups = f"{name}.group_mean"
        rows.append(
            (
                what,
                spread(rate),
                f"{rate.median / base:.2f}" if base else "",
                number(results.median(f"{name}.p50")),
                spread(results.spread(f"{name}.p99")),
                number(results.median(groups)) if results.has(groups) else "",
                number(sum(results.figures[f"{name}.failed"])),
            )
        )
    head = ("load", "a second", "to 256 callers", "p50 ms", "p99 ms", "events a group", "failed")
    return table(head, rows)


def _ceilings(results: Results) -> str:
    ways = (
        ("sql.in_order.events", "the same SQL statements, one after another: events"),
        ("sql.side_by_side.events", "the same SQL statements, five databases side by side: events"),
        ("scripts.events", "the same sorted-set scripts: events"),
        ("scripts.calls", "the same sorted-set scripts: calls"),
        ("peer.1.events", "DBOS, 1 caller: workflows"),
        ("peer.16.events", "DBOS, 16 callers: workflows"),
    )
    rows = [(what, spread(results.spread(name))) for name, what in ways if results.has(name)]
    return table(("ceiling", "a second"), rows)


def _cpu(results: Results) -> str:
    if not results.has("closed.256.cpu.postgres"):
        return ""
    rows: list[Row] = []
    for process in PROCESSES:
        cells = [number(results.median(f"closed.{count}.cpu.{process}")) for count in CLOSED]
        rows.append((process if process != "load" else "load generator", *cells))
    sums = [
        number(sum(results.median(f"closed.{count}.cpu.{process}") for process in PROCESSES))
        for count in CLOSED
    ]
    rows.append(("together", *sums))
    head = ("µs of CPU an event", *(f"{count} caller{'s' if count > 1 else ''}" for count in CLOSED))
    return table(head, rows)


def _footprint(results: Results) -> str:
    rows = [
        (f"SQL round trips a group, {name.rpartition('.')[2]}", number(results.median(name)))
        for name in results.names("sql.statements_per_group.")
    ]
    for name, what in (
        ("sql.statements_per_event", "SQL round trips an event, all services"),
        ("footprint.wal_bytes_per_event", "bytes of write-ahead log an event"),
    ):
        if results.has(name):
            rows.append((what, spread(results.spread(name))))
    rows += [
        (f"memory of {name.rpartition('.')[2]}, MiB", spread(results.spread(name)))
        for name in results.names("footprint.memory_mib.")
        if not name.endswith(".load")
    ]
    return table(("256 callers", "measured"), rows)


def _overload(results: Results) -> str:
    lines = (
        ("offered", "events offered a second"),
        ("rate", "events answered well a second"),
        ("goodput_share", "goodput : saturation"),
        ("refused_share", "share refused with `RESOURCE_EXHAUSTED`"),
        ("other_share", "share that failed otherwise"),
        ("refusal_p50", "a refusal, p50 ms"),
        ("refusal_p99", "a refusal, p99 ms"),
        ("p50", "an event that was taken, p50 ms"),
        ("p99", "an event that was taken, p99 ms"),
        ("lag_p99", "of that, how late the generator sent, p99 ms"),
        ("recovery_seconds", "seconds until latencies are back"),
    )
    kinds = [f"overload.{connections}" for connections in OVERLOAD_CONNECTIONS]
    rows = [
        (what, *(spread(results.spread(f"{kind}.{name}")) for kind in kinds))
        for name, what in lines
        if results.has(*(f"{kind}.{name}" for kind in kinds))
    ]
    codes = sorted({name.rpartition(".")[2] for kind in kinds for name in results.names(f"{kind}.others.")})
    rows += [
        (
            f"events that ended with `{code}`",
            *(number(sum(results.figures.get(f"{kind}.others.{code}", []))) for kind in kinds),
        )
        for code in codes
    ]
    heads = (f"{each} connection{'s' if each > 1 else ''}" for each in OVERLOAD_CONNECTIONS)
    return table(("three times saturation", *heads), rows)


def _telemetry(results: Results) -> str:
    names = {"without": "taken out", "off": "off", "sampled": "exporting, traces sampled at 1 %"}
    rows = [
        (
            names[kind],
            spread(results.spread(f"telemetry.{kind}.rate")),
            spread(results.spread(f"telemetry.{kind}.cpu")),
        )
        for kind in TELEMETRY
        if results.has(f"telemetry.{kind}.rate")
    ]
    return table(("telemetry", "events a second, 256 callers", "µs of CPU an event"), rows)


def _method(results: Results) -> str:
    return "\n".join(f"* {line}" for line in _facts(results))


def _facts(results: Results) -> Iterator[str]:
    for name, value in {**results.machine, **results.method}.items():
        yield f"{name}: {value}"
    if results.has("others_share"):
        share = spread(results.spread("others_share"))
        yield f"disturbance: other programs took {share} % of the CPU time during the closed loops"
