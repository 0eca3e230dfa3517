"""What an entry asks of the past: facts that are stored, read only where they can matter."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct, field

from services.achievement.domain.state import Fact, Key, Revision


class Start(NamedTuple):
    """Where a span of a metric's facts begins in the order of times: at the first that came from `position` on, and
    not after `key`. No key: at the first of all.
    """

    metric: str
    position: int
    key: Key | None
    changing: bool = False
    """Only facts that contribute something."""


class Span(Struct, frozen=True):
    """The live facts of a metric from a start on, in the order of times; or the first of them."""

    facts: tuple[Fact, ...]
    complete: bool
    """There are no more."""
    rest: Mapping[str, int] = field(default_factory=dict)
    """What those that are left out contribute: under "" in all, and for each achievement for which they count."""

    @property
    def settled(self) -> int | None:
        """The last place in the order of arrival up to which no fact from the start on is left out; None: any.

        What is not late lies in the order of arrival as in that of times, so all that lies beyond the last such fact
        came after it.
        """
        if self.complete:
            return None
        return max((fact.position for fact in self.facts if not fact.late), default=-1)


class Past(Struct, frozen=True):
    """What is known of it so far."""

    facts: Mapping[UUID, Fact | None] = field(default_factory=dict)
    """By entry, of those that were asked for by their ids; None: there is none."""
    revisions: Mapping[UUID, Revision] = field(default_factory=dict)
    """Of entries that had not come."""
    spans: Mapping[Start, Span] = field(default_factory=dict)


class Wanted(Exception):
    """A span, or more of it, is needed to decide: no error, the same is asked again with more of the past."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self.start = start


class WantedFacts(Exception):
    """Facts of other entries are needed to decide; asked again as with `Wanted`."""

    def __init__(self, entry_ids: frozenset[UUID]) -> None:
        super().__init__(entry_ids)
        self.entry_ids = entry_ids
