"""What a decision needs besides what is always loaded, and what is there of that."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain import Around, History, Since, Window, ZoneChange
from services.streak.rows import Key
from services.streak.store_zones import Contributions, Place

Spot = tuple[Key, UUID]
"""A streak of a user, and a fact that is altered; of several the first."""


class Wanted(Struct, frozen=True):
    """What a decision needs besides what is always loaded."""

    histories: Mapping[Key, Since] = {}
    windows: Mapping[Spot, Window] = {}
    """Of histories not all, first: what is around facts that are altered."""
    zones: Mapping[str, datetime] = {}
    """Of which users the zones, and since when."""
    following: frozenset[Place] = frozenset()
    contributions: frozenset[UUID] = frozenset()

    def and_also(self, more: "Wanted") -> "Wanted":
        """Both; of one history, or the zones of one user, the later word holds."""
        return Wanted(
            {**self.histories, **more.histories},
            {**self.windows, **more.windows},
            {**self.zones, **more.zones},
            self.following | more.following,
            self.contributions | more.contributions,
        )


class Known(Struct, frozen=True):
    """What was loaded because it was wanted."""

    wanted: Wanted = Wanted()
    histories: Mapping[Key, History] = {}
    around: Mapping[Spot, Around] = {}
    zones: Mapping[str, tuple[ZoneChange, ...]] = {}
    following: Mapping[Place, tuple[ZoneChange, ...]] = {}
    contributions: Contributions = Contributions()


class Missing:
    """What a decision has needed so far and not found."""

    def __init__(self, known: Known) -> None:
        self._known = known.wanted
        self.wanted = Wanted()

    def note(self, wanted: Wanted) -> None:
        """Of the zones of one user the earliest that is asked for counts."""
        zones = {
            user: min(since, self.wanted.zones.get(user, since), self._known.zones.get(user, since))
            for user, since in wanted.zones.items()
        }
        self.wanted = self.wanted.and_also(replace(wanted, zones=zones))

    def require_none(self) -> None:
        """Raises `MoreWanted` where something was noted."""
        if self.wanted != Wanted():
            raise MoreWanted(self.wanted)


class MoreWanted(Exception):
    """Something touches a past that is not loaded, or not so far back."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(
            f"{len(wanted.histories)} histories are needed, the zones of {len(wanted.zones)} users"
        )
        self.wanted = wanted
