"""States of users that were just stored, kept in memory: who comes again soon is not loaded again.

A kept state is a guess. What makes it safe is the guard in the statement that saves: it refuses a state that is built
on another version than the stored one, and definitions of another version. Whoever is refused forgets what was kept
and loads. So another replica, a void or maintenance may change a user at any time and need tell nobody.

Versions tell the states of one user apart, and begin anew with who is deleted and comes again. So a state is kept of a
life (`UserSnapshot.life`), and known in that life alone.

Where that happens often, as between replicas that take turns with a user, a guess costs more than it saves: each that
is refused is decided twice. So refusals rest the guessing, longer each time, until guesses hold again.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import asyncpg

from shared.postgres.errors import StateMoved, is_conflict

S = TypeVar("S")

LONGEST_REST: Final = 255
"""Batches that are read, at most, before the next guess."""


class RecentStates(Generic[S]):
    """At most so many states, by user; those that were not used for longest go first. A limit of 0 keeps none."""

    def __init__(self, limit: int) -> None:
        self.configuration_version: int | None = None
        """Of the definitions, as last read; None where it has to be read."""
        self._limit: Final = limit
        self._states: OrderedDict[str, tuple[int, S]] = OrderedDict()
        """With the life of which each is."""
        self._rest = 0
        self._resting = 0

    def __len__(self) -> int:
        return len(self._states)

    def known(self, lives: Mapping[str, int], version: int | None = None) -> dict[str, S]:
        """What is kept of these users in their lives; nothing while guesses rest, or where the definitions have to be
        read: also where they are known to be of another `version`.
        """
        current = self.configuration_version
        if self._resting or current is None or version not in (None, current):
            self._resting = max(0, self._resting - 1)
            return {}
        found = {}
        for user_id, life in lives.items():
            kept = self._states.get(user_id)
            if kept is not None and kept[0] == life:
                self._states.move_to_end(user_id)
                found[user_id] = kept[1]
        return found

    def keep(self, states: Mapping[str, S], lives: Mapping[str, int]) -> None:
        """What has just been stored; `lives`: of each of these users, and of others perhaps."""
        for user_id, state in states.items():
            self._states[user_id] = (lives[user_id], state)
            self._states.move_to_end(user_id)
        while len(self._states) > self._limit:
            self._states.popitem(last=False)

    def forget(self, user_ids: Iterable[str]) -> None:
        """What does not hold any more, or may not."""
        for user_id in user_ids:
            self._states.pop(user_id, None)

    def forget_all(self) -> None:
        """Nothing of it holds any more."""
        self._states.clear()

    @contextmanager
    def stored(self, user_ids: Collection[str], *, guessed: bool) -> Iterator[None]:
        """Around storing what was decided about these users; `guessed`: on a kept state."""
        try:
            yield
        except BaseException as error:
            self.forget(user_ids)
            self.configuration_version = None
            if guessed and isinstance(error, StateMoved | asyncpg.SerializationError):
                self._rest = min(self._rest * 2 + 1, LONGEST_REST)
                self._resting = self._rest
            raise
        if guessed:
            self._rest //= 2

    @contextmanager
    def decided_and_stored(self, user_ids: Collection[str], *, guessed: bool) -> Iterator[None]:
        """The same, around deciding too. What goes wrong on a guess may do so because of it: it is done again
        (`StateMoved`).
        """
        with self.stored(user_ids, guessed=guessed):
            try:
                yield
            except Exception as error:
                if guessed and not is_conflict(error):
                    raise StateMoved("decided on what was kept") from error
                raise
