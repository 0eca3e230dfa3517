"""States of users that were just stored, kept in memory: who comes again soon is not loaded again.

A kept state is a guess. What makes it safe is the guard in the statement that saves: it refuses a state that is built
on another version than the stored one. Whoever is refused forgets what was kept and loads. So another replica, a void
or maintenance may change a user at any time and need tell nobody.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar

S = TypeVar("S")


class RecentStates(Generic[S]):
    """At most so many states, by user; those that were not used for longest go first. A limit of 0 keeps none."""

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._states: OrderedDict[str, S] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def known(self, user_ids: Iterable[str]) -> dict[str, S]:
        """What is kept of these users."""
        found = {}
        for user_id in user_ids:
            state = self._states.get(user_id)
            if state is not None:
                self._states.move_to_end(user_id)
                found[user_id] = state
        return found

    def keep(self, states: Mapping[str, S]) -> None:
        """What has just been stored, or found stored."""
        for user_id, state in states.items():
            self._states[user_id] = state
            self._states.move_to_end(user_id)
        while len(self._states) > self._limit:
            self._states.popitem(last=False)

    def forget(self, user_ids: Iterable[str]) -> None:
        """What turned out not to hold any more, or may not."""
        for user_id in user_ids:
            self._states.pop(user_id, None)

    def clear(self) -> None:
        """Nothing that is kept may hold any more."""
        self._states.clear()
