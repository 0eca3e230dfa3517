"""Which waiting entries travel together next (DESIGN 2, ADR 9). Pure: the intake asks, and says which group is through.

Nobody waits for company: with nothing under way, whoever is there leaves. While groups are under way another one
leaves only when it is worth its calls (a call costs as much as dozens of events) and as large as the largest of them,
or ample: so many callers make a few large groups and not many small ones. And events of one user are
never under way in two groups at once: both would change the same rows, and one of them would have done its work for
nothing.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class GroupLimits(Struct, frozen=True):
    """What groups may be like."""

    largest: int
    """Events in a group."""
    in_flight: int
    """Groups under way at once."""
    least_beside_others: int
    """Events in a group that leaves while others are under way, however small those are."""
    ample: int
    """Events in a group that leaves while others are under way, however large those are."""


class GroupQueue(Generic[T]):
    """A queue that is left in groups."""

    def __init__(self, limits: GroupLimits, users_of: Callable[[T], Sequence[str]]) -> None:
        self._limits = limits
        self._users_of = users_of
        self._waiting: deque[T] = deque()
        self._users_under_way: set[str] = set()
        self._sizes_under_way: list[int] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: T) -> None:
        """It waits behind all others."""
        self._waiting.append(item)

    def put_back(self, items: Sequence[T]) -> None:
        """They wait before all others."""
        self._waiting.extendleft(reversed(items))

    def next_group(self) -> list[T]:
        """Those who leave now, who from now on are under way; empty while nobody can."""
        if len(self._sizes_under_way) >= self._limits.in_flight:
            return []
        least = self._least()
        if len(self._waiting) < least:
            return []
        group: list[T] = []
        held_up: list[T] = []
        for item in self._waiting:
            if len(group) == self._limits.largest:
                break
            busy = not self._users_under_way.isdisjoint(self._users_of(item))
            (held_up if busy else group).append(item)
        if len(group) < least:
            return []
        for _ in range(len(group) + len(held_up)):
            self._waiting.popleft()
        self.put_back(held_up)
        self._users_under_way.update(*map(self._users_of, group))
        self._sizes_under_way.append(len(group))
        return group

    def _least(self) -> int:
        """How many have to leave together."""
        if not self._sizes_under_way:
            return 1
        return max(self._limits.least_beside_others, min(self._limits.ample, max(self._sizes_under_way)))

    def back(self, group: Sequence[T]) -> None:
        """A group is through."""
        self._sizes_under_way.remove(len(group))
        self._users_under_way.difference_update(*map(self._users_of, group))
