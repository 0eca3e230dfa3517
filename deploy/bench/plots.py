"""Pictures of the figures."""

from pathlib import Path
from typing import Any, Final

from deploy.bench.load import BUCKET_SECONDS
from deploy.bench.profiles import CLOSED, OPEN_SHARES
from deploy.bench.report import PROCESSES
from deploy.bench.results import Results

_SIZE: Final = (8.0, 4.2)
_COLOURS: Final = ("#335c81", "#c1666b", "#4f9d69", "#d4a24e", "#7d6b91", "#5f6b6d", "#a44a3f", "#b8b8b8")


def draw(results: Results, directory: Path) -> list[str]:
    """Writes a PNG for each picture that the figures allow; their names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)
    names = []
    for name, paint in (
        ("rates", _rates),
        ("callers", _callers),
        ("cpu", _cpu),
        ("open-loop", _open_loop),
        ("overload", _overload),
    ):
        figure, axes = pyplot.subplots(figsize=_SIZE, layout="constrained")
        if paint(results, axes):
            axes.spines[["top", "right"]].set_visible(False)
            figure.savefig(directory / f"{name}.png", dpi=110, metadata={"Software": None})
            names.append(name)
        pyplot.close(figure)
    return names


def _rates(results: Results, axes: Any) -> bool:
    """Everything in events a second, with ranges, beside its ceilings."""
    kinds = (
        ("empty RPC", "empty.256.rate"),
        ("SQL side by side", "sql.side_by_side.events"),
        ("SQL in order", "sql.in_order.events"),
        ("IngestEvents, 8 × 100", "batch.8.rate"),
        ("StreamEvents", "stream.256.rate"),
        ("IngestEvent, 256", "closed.256.rate"),
        ("two orchestrators", "replicas.256.rate"),
        ("10 % duplicates", "duplicates.256.rate"),
        ("one user", "one_user.256.rate"),
        ("groups of one", "singles.256.rate"),
        ("DBOS", "peer.16.events"),
    )
    known = [(what, results.spread(name)) for what, name in reversed(kinds) if results.has(name)]
    if len(known) < 2:
        return False
    labels = [what for what, _ in known]
    medians = [each.median for _, each in known]
    ranges = [
        [each.median - each.low for _, each in known],
        [each.high - each.median for _, each in known],
    ]
    axes.barh(labels, medians, xerr=ranges, color=_COLOURS[0], error_kw={"ecolor": "#222222", "capsize": 2})
    axes.set_xscale("log")
    axes.set_xlim(left=10)
    axes.set_xlabel("events (or calls) a second, log scale; medians and ranges")
    return True


def _callers(results: Results, axes: Any) -> bool:
    """Rate and latency by the number of callers."""
    if not results.has(*(f"closed.{count}.rate" for count in CLOSED)):
        return False
    axes.plot(CLOSED, [results.median(f"closed.{count}.rate") for count in CLOSED], "o-", color=_COLOURS[0])
    axes.set_xscale("log", base=2)
    axes.set_xticks(CLOSED, [str(count) for count in CLOSED])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("callers of IngestEvent, each waiting for its answer")
    axes.set_ylabel("events a second", color=_COLOURS[0])
    latency = axes.twinx()
    for share, style in (("p50", "o--"), ("p99", "o:")):
        values = [results.median(f"closed.{count}.{share}") for count in CLOSED]
        latency.plot(CLOSED, values, style, color=_COLOURS[1], label=share)
    latency.set_ylim(bottom=0)
    latency.set_ylabel("latency, ms", color=_COLOURS[1])
    latency.legend(frameon=False, loc="upper left")
    return True


def _cpu(results: Results, axes: Any) -> bool:
    """CPU time of an event, stacked by process."""
    if not results.has(*(f"closed.{count}.cpu.{name}" for count in CLOSED for name in PROCESSES)):
        return False
    labels = [f"{count} callers" if count > 1 else "1 caller" for count in CLOSED]
    begins = [0.0] * len(CLOSED)
    for process, colour in zip(PROCESSES, _COLOURS, strict=True):
        values = [results.median(f"closed.{count}.cpu.{process}") for count in CLOSED]
        label = "load generator" if process == "load" else process
        axes.barh(labels, values, left=begins, color=colour, label=label)
        begins = [begin + value for begin, value in zip(begins, values, strict=True)]
    axes.set_xlabel("µs of CPU an event")
    axes.legend(frameon=False, fontsize="small")
    return True


def _open_loop(results: Results, axes: Any) -> bool:
    """Latencies at shares of the saturation."""
    if not results.has(*(f"open.{share}.p99" for share in OPEN_SHARES)):
        return False
    for name, colour in (("p50", _COLOURS[0]), ("p99", _COLOURS[1])):
        spreads = [results.spread(f"open.{share}.{name}") for share in OPEN_SHARES]
        low = [each.median - each.low for each in spreads]
        high = [each.high - each.median for each in spreads]
        medians = [each.median for each in spreads]
        axes.errorbar(OPEN_SHARES, medians, [low, high], fmt="o-", capsize=3, color=colour, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xticks(OPEN_SHARES)
    axes.set_xlabel("offered rate, % of saturation")
    axes.set_ylabel("latency from the instant a call was due, ms")
    axes.legend(frameon=False)
    return True


def _overload(results: Results, axes: Any) -> bool:
    """What became of requests, by the instant at which they were due."""
    if not results.overload:
        return False
    seconds = [BUCKET_SECONDS * index for index in range(len(results.overload))]
    done = [each.ok / BUCKET_SECONDS for each in results.overload]
    refused = [each.refused / BUCKET_SECONDS for each in results.overload]
    axes.stackplot(seconds, done, refused, labels=["done", "refused"], colors=[_COLOURS[2], _COLOURS[1]])
    axes.set_xlabel("seconds")
    axes.set_ylabel("requests a second, by due time")
    axes.legend(frameon=False, loc="upper left")
    latency = axes.twinx()
    latency.plot(seconds, [each.p50 for each in results.overload], color="#222222", linewidth=1)
    latency.set_ylim(bottom=0)
    latency.set_ylabel("median latency of all answers, ms")
    return True
