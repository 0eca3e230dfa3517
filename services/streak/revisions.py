"""What became of a streak's definition, and the amnesties that are for it: by that a fold knows what has changed since.

A state names the fingerprint of the definition that it was folded under. Each change makes another of it, so a state
that was folded before some of them is told how far back these reach, and is folded anew from there.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from laurel.streak.v1 import streak_pb2, streak_service_pb2
from msgspec import Struct

from services.streak.domain import Amnesty
from shared.calendar import EARLIEST
from shared.definition_plan import PastDefinition, StoredDefinitions
from shared.definitions import Name
from shared.ids import digest

_NOT_FOLDED: Final = (
    "name",
    "user_filters",
    "status",
    "create_time",
    "update_time",
    "pause_days_per_year",
)
"""Fields that a fold does not read: a change of them leaves recorded history as it is."""


class Revised(Struct, frozen=True):
    """A definition as of now, by what it was before."""

    fingerprint: int
    past: Mapping[int, datetime]
    """Fingerprints of before, each with the earliest instant that what has changed since is about."""
    amnesties: Sequence[Amnesty]


def revised(message: streak_pb2.Streak, stored: StoredDefinitions) -> Revised:
    """What the history of the definitions comes to for one streak."""
    chain = _Chain()
    for each in stored.history:
        if each.name == Name("streak", message.key):
            chain.redefine(each)
        elif each.name.kind == "amnesty":
            chain.declare(each, message.key)
    chain.end_with(message)
    assert chain.fingerprint is not None
    return Revised(chain.fingerprint, chain.past, list(chain.amnesties.values()))


def window_of(
    message: streak_pb2.Amnesty | streak_service_pb2.PreviewAmnestyRequest, declare_time: datetime
) -> Amnesty:
    """The window of a valid message."""
    return Amnesty(
        message.start_time.ToDatetime(tzinfo=UTC), message.end_time.ToDatetime(tzinfo=UTC), declare_time
    )


def is_for(message: streak_pb2.Amnesty, streak: str) -> bool:
    """Whether an amnesty is for this streak."""
    return not message.streaks or streak in message.streaks


class _Chain:
    """One change after the other."""

    def __init__(self) -> None:
        self.fingerprint: int | None = None
        self.past: dict[int, datetime] = {}
        self.amnesties: dict[str, Amnesty] = {}
        self._folded = b""

    def redefine(self, change: PastDefinition) -> None:
        """The streak was defined, or deleted: what comes after that is another one."""
        if change.message is None:
            self.fingerprint, self.past = None, {}
            return
        assert isinstance(change.message, streak_pb2.Streak)
        self._define(_folded(change.message), change.number)

    def end_with(self, message: streak_pb2.Streak) -> None:
        """This is what holds, also where a replica wrote it that keeps no history yet."""
        self._define(_folded(message), 0)

    def declare(self, change: PastDefinition, streak: str) -> None:
        """An amnesty was declared or withdrawn."""
        before = self.amnesties.pop(change.name.key, None)
        message = change.message
        if isinstance(message, streak_pb2.Amnesty) and is_for(message, streak):
            self.amnesties[change.name.key] = window_of(message, change.change_time)
        after = self.amnesties.get(change.name.key)
        touched = [each.start_time for each in (before, after) if each]
        if touched and before != after:
            self._change(min(touched), str(change.number).encode())

    def _define(self, folded: bytes, number: int) -> None:
        if self.fingerprint is None:
            self.fingerprint = _hash(folded)
        elif folded != self._folded:
            self._change(EARLIEST, str(number).encode() + folded)
        self._folded = folded

    def _change(self, since: datetime, token: bytes) -> None:
        if self.fingerprint is None:
            return
        self.past = {known: min(since, earlier) for known, earlier in self.past.items()}
        self.past[self.fingerprint] = since
        self.fingerprint = _hash(self.fingerprint.to_bytes(8, signed=True) + token)


def _folded(message: streak_pb2.Streak) -> bytes:
    """The same for definitions under which every history folds to the same."""
    folded = streak_pb2.Streak()
    folded.CopyFrom(message)
    for field in _NOT_FOLDED:
        folded.ClearField(field)
    return folded.SerializeToString(deterministic=True)


def _hash(content: bytes) -> int:
    return int.from_bytes(digest(content)[:8], signed=True)
