"""What TLS and keys cost together: `python -m deploy.bench.trust`.

Two systems side by side, one without either and one as `laurel up` starts it, take the same load in turn, so that
whatever else this machine does befalls both. Of each round the CPU time of all processes of a system by event is
compared, and the median of the rounds is what counts. `docs/security.md` has the table; 10 % at most is aimed at.
"""

from collections.abc import Mapping
from statistics import median
from typing import Final

import click

from deploy.bench.costs import Meter
from deploy.bench.lab import FULL, Lab, Say, Scale
from deploy.bench.load import Load
from deploy.local.run_directory import run_directory
from deploy.local.stack import Stack

_BATCH: Final = 100
_LOADS: Final[Mapping[str, tuple[str, int]]] = {
    "256 callers, an event a call": ("event", 256),
    f"8 callers, batches of {_BATCH}": ("batch", 8),
}
_PLAIN: Final = "without"
_GUARDED: Final = "with"


@click.command()
@click.option("--rounds", default=8, show_default=True, help="How often each system takes each load.")
@click.option("--seconds", default=4.0, show_default=True, help="How long each time.")
def main(rounds: int, seconds: float) -> None:
    """Measure, and print a table."""
    scale = Scale(FULL.repeats, seconds, FULL.warmup_seconds, FULL.overload_seconds, FULL.users)
    with (
        run_directory("trust") as home,
        Lab(home, scale, Say()) as lab,
        lab.running("plain") as plain,
        lab.guarded("guarded") as guarded,
    ):
        systems = {_PLAIN: plain, _GUARDED: guarded}
        spent: dict[str, dict[str, list[float]]] = {name: {load: [] for load in _LOADS} for name in systems}
        others: list[float] = []
        for number in range(rounds + 1):
            for load in _LOADS:
                # In turn who begins: the second finds the machine as the first has left it.
                for name in sorted(systems, reverse=bool(number % 2)):
                    cost, share = _cost(lab, systems[name], load)
                    if number:  # the first round warms both up
                        spent[name][load].append(cost)
                        others.append(share)
        _print(spent, others)


def _cost(lab: Lab, stack: Stack, load: str) -> tuple[float, float]:
    """CPU seconds of the system for an event, and the share of the machine that others had meanwhile."""
    call, in_flight = _LOADS[load]
    meter = Meter(stack, lab.generator.pid)
    before = meter.read()
    wanted = Load(
        stack.addresses("orchestrator")[0],
        "batch" if call == "batch" else "event",
        in_flight,
        batch_size=_BATCH,
        mix=lab.mix(),
        key=stack.api_key or "",
        authority=str(stack.authority or ""),
    )
    measured = lab.send(wanted)
    costs = meter.read().since(before)
    return costs.cpu_of_system / measured.done, costs.others_share


def _print(spent: Mapping[str, Mapping[str, list[float]]], others: list[float]) -> None:
    click.echo(
        "| CPU of an event | without | with TLS and keys | of each round, in the median | single rounds |"
    )
    click.echo("| --- | --- | --- | --- | --- |")
    for load in _LOADS:
        plain, guarded = spent[_PLAIN][load], spent[_GUARDED][load]
        ratios = sorted(with_both / without - 1 for without, with_both in zip(plain, guarded, strict=True))
        click.echo(
            f"| {load} | {1e6 * median(plain):,.0f} µs | {1e6 * median(guarded):,.0f} µs "
            f"| {median(ratios):+.1%} | {ratios[0]:+.1%} to {ratios[-1]:+.1%} |"
        )
    click.echo(f"\nOther programs had {median(others):.0%} of the machine meanwhile, in the median.")


if __name__ == "__main__":
    main()
