"""What became of a streak's definition, and the amnesties that are for it: by that a fold knows what has changed since.

A state names the fingerprint of the definition that it was folded under. Each change makes another of it, so a state
that was folded before some of them is told how far back these reach, and is folded anew from there.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from laurel.streak.v1 import streak_pb2, streak_service_pb2
from msgspec import Struct

from services.streak.domain import Amnesty, Changed
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
    "overridable",
    "backfill",
)
"""Fields that a fold does not read: a change of them leaves recorded history as it is."""


class Revised(Struct, frozen=True):
    """A definition as of now, by what it was before."""

    fingerprint: int
    past: Mapping[int, Changed]
    """Fingerprints of before, and what has changed since."""
    earlier: Sequence[tuple[datetime, streak_pb2.Streak]]
    """What it was before, each until the instant at which that changed, ascending."""
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
    return Revised(chain.fingerprint, chain.past, chain.earlier, list(chain.amnesties.values()))


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
        self.past: dict[int, Changed] = {}
        self.earlier: list[tuple[datetime, streak_pb2.Streak]] = []
        self.amnesties: dict[str, Amnesty] = {}
        self._message = streak_pb2.Streak()

    def redefine(self, change: PastDefinition) -> None:
        """The streak was defined, or deleted: what comes after that is another one."""
        if change.message is None:
            self.fingerprint, self.past, self.earlier = None, {}, []
            return
        assert isinstance(change.message, streak_pb2.Streak)
        self._define(change.message, change.number, change.change_time)

    def end_with(self, message: streak_pb2.Streak) -> None:
        """This is what holds, also where a replica wrote it that keeps no history yet."""
        self._define(message, 0, message.update_time.ToDatetime(tzinfo=UTC))

    def declare(self, change: PastDefinition, streak: str) -> None:
        """An amnesty was declared or withdrawn."""
        before = self.amnesties.pop(change.name.key, None)
        message = change.message
        if isinstance(message, streak_pb2.Amnesty) and is_for(message, streak):
            self.amnesties[change.name.key] = window_of(message, change.change_time)
        after = self.amnesties.get(change.name.key)
        touched = [each.start_time for each in (before, after) if each]
        if touched and before != after:
            self._change(Changed(amnestied=min(touched)), str(change.number).encode())

    def _define(self, message: streak_pb2.Streak, number: int, change_time: datetime) -> None:
        folded = _folded(message)
        if self.fingerprint is None:
            self.fingerprint = _hash(folded)
        elif folded != _folded(self._message):
            self.earlier.append((change_time, self._message))
            self._change(Changed(redefined=change_time), str(number).encode() + folded)
        self._message = message

    def _change(self, changed: Changed, token: bytes) -> None:
        if self.fingerprint is None:
            return
        self.past = {known: earlier.and_also(changed) for known, earlier in self.past.items()}
        self.past[self.fingerprint] = changed
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
