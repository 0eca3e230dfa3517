"""What a run has found: figures by name, each measured once a repetition."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from deploy.bench.load import Bucket
from deploy.bench.statistics import Spread, ratios


@dataclass
class Results:
    """Figures, and what they were measured with."""

    machine: dict[str, str] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)
    overload: list[Bucket] = field(default_factory=list)
    """The last overload, tenth of a second by tenth."""

    def add(self, name: str, value: float) -> None:
        """One more repetition of a figure."""
        self.figures.setdefault(name, []).append(value)

    def has(self, *names: str) -> bool:
        """Whether all these were measured."""
        return all(self.figures.get(name) for name in names)

    def spread(self, name: str) -> Spread:
        """Median and range of a figure."""
        return Spread.of(self.figures[name])

    def median(self, name: str) -> float:
        """The median of a figure."""
        return self.spread(name).median

    def ratio(self, above: str, below: str) -> Spread:
        """Median and range of the repetitions' ratios."""
        return Spread.of(ratios(self.figures[above], self.figures[below]))

    def names(self, prefix: str) -> Sequence[str]:
        """The figures that begin like this, in the order in which they were first measured."""
        return [name for name in self.figures if name.startswith(prefix)]

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote."""
        content = json.loads(path.read_text())
        return cls(**{**content, "overload": [Bucket(**each) for each in content["overload"]]})
