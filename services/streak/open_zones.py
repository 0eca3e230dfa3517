"""Where users are, while a batch is decided."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain import (
    NO_ENTRY,
    Moved,
    UserZone,
    ZoneChange,
    heard,
    says_nothing_new,
    told_of_nowhere,
    undone,
)
from services.streak.store import Loaded
from services.streak.wanted import Known, Missing, Wanted
from shared.calendar import EARLIEST
from shared.entries import Entry, EntryKind


class OpenZones:
    """One entry after another on the zones of the users. What is needed and not there is noted."""

    def __init__(self, loaded: Loaded, known: Known, missing: Missing) -> None:
        self._known = known
        self._missing = missing
        self._logs = {
            user: _ZoneLog(known.wanted.zones[user], changes) for user, changes in known.zones.items()
        }
        self.users = dict(loaded.zones)
        self.changed_users: set[str] = set()
        """Those of whom something else is remembered."""
        self.said: list[tuple[str, ZoneChange]] = []
        """What the entries of the batch say, by user."""
        self.written: dict[tuple[str, datetime, UUID], str | None] = {}
        """Zones by user and entry; None for what is gone."""

    def hear(self, entry: Entry, own: ZoneChange | None) -> Moved | None:
        """What an entry says of the user's zone, which names `own`; None where that is nothing new, or what is needed
        is missing.
        """
        user_id, snapshot = entry.user.user_id, entry.user
        user = self.users.get(user_id)
        if user is None:
            zone = own.time_zone if own else snapshot.time_zone
            self.users[user_id] = UserZone(zone, snapshot.version)
            self.changed_users.add(user_id)
            moved = None
        elif own is None:
            moved = self._stored(user_id, user, entry)
        elif says_nothing_new(user, own):
            moved = None
        else:
            moved = self._named(user_id, user, own)
        self._heed(user_id, snapshot.version)
        if own is not None:
            self.said.append((user_id, own))
        return moved

    def leave(self, user_id: str, entry_id: UUID, occur_time: datetime) -> Moved | None:
        """What the undoing of an entry changes of the user's zones; None as for `hear`."""
        user = self.users.get(user_id)
        if user is None or user.move_time is None or user.move_time < occur_time:
            return None
        changes = self.changes(user_id, occur_time, exact=True)
        if changes is None or all(change.entry_id != entry_id for change in changes):
            return None
        following = self._following(user_id, occur_time, entry_id)
        if following is None:
            return None
        moved = undone(user, changes, entry_id, following)
        return self._move(user_id, changes, moved) if moved else None

    def outdate(self, user_id: str, version: int) -> None:
        """What is told from now on of versions of the user before this one is out of date. A correction travels by
        itself: that of an earlier undoing may come late, and says what an entry said that is gone since.
        """
        user = self.users.get(user_id)
        if user is not None and version - 1 > user.version:
            self.users[user_id] = replace(user, version=version - 1)
            self.changed_users.add(user_id)

    def changes(self, user_id: str, since: datetime, *, exact: bool = False) -> tuple[ZoneChange, ...] | None:
        """Where a user was from an instant on, and at it; None where that is missing. `exact`: by which entries."""
        log = self._logs.get(user_id)
        if log is not None and log.since <= since:
            return log.changes
        user = self.users[user_id]
        if user.move_time is None or (not exact and user.move_time <= since):
            return (ZoneChange(user.move_time or EARLIEST, NO_ENTRY, user.time_zone),)
        self._missing.note(Wanted(zones={user_id: since}))
        return None

    def _named(self, user_id: str, user: UserZone, own: ZoneChange) -> Moved | None:
        """What an entry changes that names a zone."""
        changes = self.changes(user_id, own.occur_time, exact=True)
        following = self._following(user_id, own.occur_time, own.entry_id)
        if changes is None or following is None:
            return None
        moved = heard(user, changes, own, following)
        return self._move(user_id, changes, moved) if moved else None

    def _stored(self, user_id: str, user: UserZone, entry: Entry) -> Moved | None:
        """What an entry changes that names no zone: something where none names any."""
        stored = entry.user.time_zone
        if entry.user.version <= user.version or stored == user.time_zone:
            return None
        # What an undoing leaves has always been so.
        since = EARLIEST if entry.kind is EntryKind.CORRECTION else entry.now
        changes = self.changes(user_id, since, exact=True)
        naming = self._following(user_id, EARLIEST, NO_ENTRY)
        if changes is None or naming is None:
            return None
        self.changed_users.add(user_id)
        moved = None if naming else told_of_nowhere(user, changes, stored, since)
        return self._move(user_id, changes, moved) if moved else None

    def _following(self, user_id: str, occur_time: datetime, entry_id: UUID) -> tuple[ZoneChange, ...] | None:
        """The next entry after a place that names a zone, also of those that this batch brings, if there is one; None
        where it is not known.
        """
        place = user_id, occur_time, entry_id
        if place not in self._known.following:
            self._missing.note(Wanted(following=frozenset({place})))
            return None
        brought = [
            said for user, said in self.said if user == user_id and said.order > (occur_time, entry_id)
        ]
        return tuple(sorted([*self._known.following[place], *brought], key=lambda change: change.order)[:1])

    def _move(self, user_id: str, before: tuple[ZoneChange, ...], moved: Moved) -> Moved:
        known = before if self.users[user_id].move_time is not None else ()
        self._write_zones(user_id, known, moved.changes)
        self.users[user_id] = moved.user
        log = self._logs.get(user_id)
        self._logs[user_id] = _ZoneLog(log.since if log else EARLIEST, moved.changes)
        self.changed_users.add(user_id)
        return moved

    def _write_zones(
        self, user_id: str, before: tuple[ZoneChange, ...], after: tuple[ZoneChange, ...]
    ) -> None:
        gone, new = set(before) - set(after), set(after) - set(before)
        self.written |= {(user_id, change.occur_time, change.entry_id): None for change in gone}
        self.written |= {(user_id, change.occur_time, change.entry_id): change.time_zone for change in new}

    def _heed(self, user_id: str, version: int) -> None:
        """Remembered where the user is written anyway."""
        user = self.users[user_id]
        if version > user.version:
            self.users[user_id] = replace(user, version=version)


class _ZoneLog(Struct, frozen=True):
    """Where a user was from an instant on, and at it."""

    since: datetime
    changes: tuple[ZoneChange, ...]


def seen(entry: Entry) -> ZoneChange | None:
    """Where the user was, by an entry; None for a correction, which is nothing that a user did."""
    if entry.kind not in (EntryKind.METRIC_EVENT, EntryKind.USER_UPDATE):
        return None
    return ZoneChange(entry.occur_time, entry.entry_id, entry.time_zone)


def named(entry: Entry) -> ZoneChange | None:
    """The same, where the entry names the zone."""
    return None if entry.takes_time_zone else seen(entry)
