"""`python -m deploy.bench.cells`: how evenly users fall over cells, and how many move when there is one more.

A simulation, without a system: users whose activity differs as it does (few do much), each in the cell that the highest
hash of user and cell names. docs/operations/scale.md says what a cell is.
"""

import argparse
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from deploy.bench.report import table

_PARETO: Final = 1.2
"""The busiest fifth does some three quarters of everything."""


def cell_of(user_id: str, cells: Sequence[str]) -> str:
    """Where a user lives. With one cell more, those alone move that the new one gets."""
    return max(cells, key=lambda cell: blake2b(f"{cell}/{user_id}".encode(), digest_size=8).digest())


def main() -> int:
    """Prints a table by the number of cells."""
    parser = argparse.ArgumentParser(prog="python -m deploy.bench.cells", description=__doc__)
    parser.add_argument("--users", type=int, default=200_000, help="default: %(default)s")
    arguments = parser.parse_args()
    rng = random.Random(1)
    activity = {f"user-{number}": rng.paretovariate(_PARETO) for number in range(arguments.users)}
    rows = [_row(activity, count) for count in (2, 4, 8, 16)]
    heads = ["cells", "users, fullest : mean", "events, busiest : mean", "users that one more cell moves"]
    sys.stdout.write(table(heads, rows) + "\n")
    return 0


def _row(activity: dict[str, float], count: int) -> list[str]:
    cells = [f"cell-{number}" for number in range(count + 1)]
    users: Counter[str] = Counter()
    events: dict[str, float] = defaultdict(float)
    moved = 0
    for user, much in activity.items():
        cell = cell_of(user, cells[:-1])
        users[cell] += 1
        events[cell] += much
        moved += cell_of(user, cells) != cell
    return [
        str(count),
        f"{max(users.values()) * count / users.total():.3f}",
        f"{max(events.values()) * count / sum(events.values()):.3f}",
        f"{100 * moved / len(activity):.1f} %",
    ]


if __name__ == "__main__":
    sys.exit(main())
