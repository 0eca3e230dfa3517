"""A user whom statements reach one by one, as they reach the orchestrator; and an obvious fold of the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from msgspec.structs import replace

from services.orchestrator.domain import User, merge_user, said_anew
from services.orchestrator.said import (
    Statement,
    Unknown,
    UserPatch,
    attributes_as_of,
    micros_of,
    pruned,
    rebuild,
    to_read,
    to_read_without,
    without,
)

CREATED = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass
class Life:
    """What is stored of the user, and the ledger beside it."""

    user: User | None = None
    ledger: list[Statement] = field(default_factory=list)
    page: int = 3
    """How many statements that follow are looked at first when one is undone."""
    readings: int = 0
    """How often the ledger was asked."""

    def say(self, patch: UserPatch, when: datetime) -> tuple[dict[str, str], dict[str, str] | None]:
        """A statement arrives; the attributes as of it, and those of now where they differ."""
        at = micros_of(when)
        try:
            user = merge_user(self.user, patch, when, CREATED)
            told = attributes_as_of(user.said, patch, at)
        except Unknown:
            assert self.user is not None
            self.readings += 1
            read = to_read(self.user.said, at)
            said = rebuild(self.user.said, read, [*self._read(read.since), (patch, at)])
            user = said_anew(self.user, self.user, said)
            told = attributes_as_of(said, patch, at)
        self.ledger.append((patch, at))
        self.user = replace(user, said=pruned(user.said))
        return told

    def unsay(self, place: int) -> None:
        """A statement is undone."""
        patch, at = self.ledger.pop(place)
        assert self.user is not None
        read = to_read_without(self.user.said, patch, at)
        if read is not None:
            later = sorted((one for one in self.ledger if one[1] >= at), key=lambda one: one[1])
            until = later[self.page][1] - 1 if len(later) > self.page else None
            seen = [one for one in later if until is None or one[1] <= until]
            said = without(self.user.said, patch, at, seen, until)
            if said is None:
                self.readings += 1
                said = rebuild(self.user.said, read, self._read(read.since))
            self.user = replace(self.user, said=pruned(said))

    def _read(self, since: int | None) -> list[Statement]:
        return [one for one in self.ledger if since is None or one[1] >= since]


def obvious_attributes(ledger: Iterable[Statement], own: UserPatch, at: int) -> Mapping[str, str]:
    """The attributes as of an event: everything that had been said by then, one after the other."""
    known: dict[str, tuple[int, str | None]] = {}
    said = sorted((one for one in ledger if one[1] <= at), key=lambda one: one[1])
    instants = sorted({when for _, when in said})
    for instant in instants:
        together = [patch for patch, when in said if when == instant]
        spoken: dict[str, list[str]] = {}
        for patch in together:
            for key, value in patch.attributes.items():
                spoken.setdefault(key, []).append(value)
        cleared = {key for patch in together for key in patch.cleared_attributes}
        if any(patch.clears_other_attributes for patch in together):
            cleared |= known.keys()
        for key in cleared:
            known[key] = (instant, None)
        for key, values in spoken.items():
            known[key] = (instant, max(values))
    held = {key: value for key, (_, value) in known.items() if value is not None}
    if own.clears_other_attributes:
        held = {}
    for key in own.cleared_attributes:
        held.pop(key, None)
    return held | dict(own.attributes)


def obvious_newest(ledger: Iterable[Statement], field_name: str) -> str:
    """The name or the zone that holds now."""
    said = [
        (at, getattr(patch, field_name))
        for patch, at in ledger
        if getattr(patch, field_name) or field_name in patch.cleared
    ]
    return max(said)[1] if said else ""
