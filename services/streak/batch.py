"""The users' streaks while a batch is decided: what was loaded, and what has become of it."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.streak.domain import (
    NEVER_SEEN,
    NO_ENTRY,
    ByHand,
    Catalogue,
    Done,
    Evaluation,
    Fact,
    Facts,
    Folded,
    LedgerKey,
    LedgerLine,
    Moved,
    Period,
    StreakDefinition,
    StreakState,
    UserStreak,
    UserZone,
    Window,
    ZoneChange,
    bring_up_to,
    checkpoint,
    counts,
    dated,
    done_since,
    extend,
    facts_since,
    fold,
    follows,
    heard,
    inside,
    is_outdated,
    moved_since,
    needs_history,
    outdated_since,
    refold,
    refold_since,
    says_nothing_new,
    start,
    taken_out,
    told_of_nowhere,
    touched_since,
    undone,
    undone_within,
    windows,
    zone_steps,
)
from services.streak.domain import moved as moved_to
from services.streak.open_history import OpenHistory
from services.streak.store import Key, Loaded, StreakRow, Writes
from services.streak.store_zones import Contribution, Counted
from services.streak.wanted import Known, MoreWanted, Wanted
from shared.calendar import EARLIEST
from shared.entries import Entry, EntryKind
from shared.postgres.errors import StateMoved


class Batch:
    """One decision after another on the same state. Evaluations that need something that is not there are
    noted; `require_all` then raises, and the batch is decided again with that.
    """

    def __init__(self, loaded: Loaded, known: Known) -> None:
        self._loaded = loaded
        self._known = known
        self._streaks = dict(loaded.streaks)
        self._users = dict(loaded.zones)
        self._histories = {key: OpenHistory(history) for key, history in known.histories.items()}
        self._logs = {
            user: _ZoneLog(known.wanted.zones[user], changes) for user, changes in known.zones.items()
        }
        self._said: list[tuple[str, ZoneChange]] = []
        self._counted = dict(known.contributions.counted)
        self._told = dict(known.contributions.told)
        self._missing = Wanted()
        self._changed_users: set[str] = set()
        self._next_close_times: dict[Key, datetime | None] = {}
        self._periods: dict[tuple[Key, date], Period | None] = {}
        self._ledger: dict[tuple[Key, LedgerKey], LedgerLine | None] = {}
        self._zones: dict[tuple[str, datetime, UUID], str | None] = {}
        self._revised: dict[UUID, tuple[str, int, int]] = {}
        self._told_anew: dict[UUID, tuple[str, int, int]] = {}

    # Where users are

    def hear(self, entry: Entry, own: ZoneChange | None) -> Moved | None:
        """What an entry says of the user's zone, which names `own`; None where that is nothing new, or what is needed
        is missing.
        """
        user_id, snapshot = entry.user.user_id, entry.user
        user = self._users.get(user_id)
        if user is None:
            zone = own.time_zone if own else snapshot.time_zone
            self._users[user_id] = UserZone(zone, snapshot.version)
            self._changed_users.add(user_id)
            moved = None
        elif own is None:
            moved = self._stored(user_id, user, entry)
        elif says_nothing_new(user, own):
            moved = None
        else:
            moved = self._named(user_id, user, own)
        self._heed(user_id, snapshot.version)
        if own is not None:
            self._said.append((user_id, own))
        return moved

    def leave(self, user_id: str, entry_id: UUID, occur_time: datetime) -> Moved | None:
        """What the undoing of an entry changes of the user's zones; None as for `hear`."""
        user = self._users.get(user_id)
        if user is None or user.move_time is None or user.move_time < occur_time:
            return None
        changes = self._changes(user_id, occur_time, exact=True)
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
        user = self._users.get(user_id)
        if user is not None and version - 1 > user.version:
            self._users[user_id] = replace(user, version=version - 1)
            self._changed_users.add(user_id)

    def streaks_of(self, user_id: str) -> list[str]:
        """The streaks of a user, as far as they are loaded, that facts are left of."""
        return sorted(
            key[1] for key, state in self._streaks.items() if key[0] == user_id and state.state is not None
        )

    def _named(self, user_id: str, user: UserZone, own: ZoneChange) -> Moved | None:
        """What an entry changes that names a zone."""
        changes = self._changes(user_id, own.occur_time, exact=True)
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
        changes = self._changes(user_id, since, exact=True)
        naming = self._following(user_id, EARLIEST, NO_ENTRY)
        if changes is None or naming is None:
            return None
        self._changed_users.add(user_id)
        moved = None if naming else told_of_nowhere(user, changes, stored, since)
        return self._move(user_id, changes, moved) if moved else None

    def _following(self, user_id: str, occur_time: datetime, entry_id: UUID) -> tuple[ZoneChange, ...] | None:
        """The next entry after a place that names a zone, also of those that this batch brings, if there is one; None
        where it is not known.
        """
        place = user_id, occur_time, entry_id
        if place not in self._known.following:
            self._note(Wanted(following=frozenset({place})))
            return None
        brought = [
            said for user, said in self._said if user == user_id and said.order > (occur_time, entry_id)
        ]
        return tuple(sorted([*self._known.following[place], *brought], key=lambda change: change.order)[:1])

    def _changes(
        self, user_id: str, since: datetime, *, exact: bool = False
    ) -> tuple[ZoneChange, ...] | None:
        """Where a user was from an instant on, and at it; None where that is missing. `exact`: by which entries."""
        log = self._logs.get(user_id)
        if log is not None and log.since <= since:
            return log.changes
        user = self._users[user_id]
        if user.move_time is None or (not exact and user.move_time <= since):
            return (ZoneChange(user.move_time or EARLIEST, NO_ENTRY, user.time_zone),)
        self._note(Wanted(zones={user_id: since}))
        return None

    def _move(self, user_id: str, before: tuple[ZoneChange, ...], moved: Moved) -> Moved:
        known = before if self._users[user_id].move_time is not None else ()
        self._write_zones(user_id, known, moved.changes)
        self._users[user_id] = moved.user
        log = self._logs.get(user_id)
        self._logs[user_id] = _ZoneLog(log.since if log else EARLIEST, moved.changes)
        self._changed_users.add(user_id)
        return moved

    def _write_zones(
        self, user_id: str, before: tuple[ZoneChange, ...], after: tuple[ZoneChange, ...]
    ) -> None:
        gone, new = set(before) - set(after), set(after) - set(before)
        self._zones |= {(user_id, change.occur_time, change.entry_id): None for change in gone}
        self._zones |= {(user_id, change.occur_time, change.entry_id): change.time_zone for change in new}

    def _heed(self, user_id: str, version: int) -> None:
        """Remembered where the user is written anyway."""
        user = self._users[user_id]
        if version > user.version:
            self._users[user_id] = replace(user, version=version)

    # What events contribute

    def contribution(self, entry: Entry) -> tuple[int, int | None]:
        """What an event contributes, and as of which version where that may change: what was told last."""
        metric = entry.metric
        assert metric is not None  # of an event of a metric
        if not metric.revisable:
            return metric.contribution_micros, None
        told = self._told.get(entry.entry_id)
        if told is not None and told.version > metric.total_version:
            return told.micros, told.version
        return metric.contribution_micros, metric.total_version

    def came(self, entry_id: UUID, fact: Fact, version: int, streaks: Sequence[str]) -> None:
        """An event came whose contribution may change; others of the batch may be about it."""
        self._counted[entry_id] = Counted(fact, version, streaks)

    def revise(self, entry: Entry) -> dict[str, list[Fact]]:
        """The facts, by streak, that contribute something else since an entry came or went."""
        revised: dict[str, list[Fact]] = {}
        if entry.metric is None or not entry.metric.revisions:
            return revised
        user_id, version = entry.user.user_id, entry.metric.total_version
        for revision in entry.metric.revisions:
            micros, counted = revision.contribution_micros, self._counted.get(revision.entry_id)
            if counted is not None:
                if counted.version >= version:
                    continue
                changed = replace(counted.fact, contribution_micros=micros)
                self._counted[revision.entry_id] = Counted(changed, version, counted.streaks)
                self._revised[revision.entry_id] = user_id, micros, version
                for streak in counted.streaks if changed != counted.fact else ():
                    revised.setdefault(streak, []).append(changed)
            elif revision.entry_id not in self._known.contributions.undone:
                told = self._told.get(revision.entry_id)
                if told is None or told.version < version:
                    self._told[revision.entry_id] = Contribution(micros, version)
                    self._told_anew[revision.entry_id] = user_id, micros, version
                    # Whoever brings that event meanwhile is kept from overlooking this.
                    self._changed_users.add(user_id)
        return revised

    def latest(self, fact: Fact) -> tuple[Fact, int | None]:
        """An event of the batch as it is at its end, and as of which version."""
        counted = self._counted.get(fact.entry_id)
        return (counted.fact, counted.version) if counted else (fact, None)

    # Streaks

    def evaluate(
        self,
        user_id: str,
        definition: StreakDefinition,
        now: datetime,
        fact: Fact | None = None,
        moved: Moved | None = None,
        revised: Sequence[Fact] = (),
    ) -> Evaluation | None:
        """Close what is due and count a fact, another zone, and what others contribute by now.

        None where there is nothing, or where something is missing.
        """
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        fact = dated(definition, fact) if fact else None
        revised = [dated(definition, event) for event in revised]
        if key in self._histories:
            self._histories[key].take(fact, revised)
        if streak.by_hand:
            fact = fact if fact and _counts(streak, definition, fact) else None
            revised = [event for event in revised if _counts(streak, definition, event)]
        if streak.state is None:
            return self._begin(key, definition, streak, fact, now)
        move = moved.since if moved and moved.appended else None
        if fact and not _is_counted(definition, streak.state, fact, move):
            fact = None
        touched = [touched_since(definition, streak, event) for event in revised]
        if needs_history(definition, streak, fact, move):
            touched += [touched_since(definition, streak, fact)] if fact else []
            touched += [moved_since(definition, streak, move)] if move else []
            touched.append(outdated_since(definition, streak))
        if moved and not moved.appended:
            touched.append(moved_since(definition, streak, moved.since))
        if touched:
            return self._refold(key, definition, min(touched), now, fact)
        if fact:
            return self._store(key, extend(definition, streak, fact, now, move))
        return self._store(key, bring_up_to(definition, streak, now, move))

    def _begin(
        self, key: Key, definition: StreakDefinition, streak: UserStreak, fact: Fact | None, now: datetime
    ) -> Evaluation | None:
        zones = self._changes(key[0], fact.occur_time) if fact else None
        if fact is None or zones is None:
            return None
        if not counts(definition, zone_steps(definition, zones), streak.by_hand, fact):
            return None
        return self._store(key, start(definition, streak, fact, zones, now))

    def undo(
        self,
        user_id: str,
        definition: StreakDefinition,
        now: datetime,
        fact: Fact | None,
        moved: Moved | None,
    ) -> Evaluation | None:
        """Take an event away, and what it said of the zone; None where something is missing."""
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        fact = dated(definition, fact) if fact else None
        if fact is not None and key in self._histories:
            self._histories[key].facts.pop(fact.entry_id, None)
        if fact is None or not _counts(streak, definition, fact):
            return self.evaluate(user_id, definition, now, moved=moved)
        touched = touched_since(definition, streak, fact)
        if moved:
            touched = min(touched, moved_since(definition, streak, moved.since))
        elif key not in self._histories and not (streak.by_hand or is_outdated(definition, streak)):
            looked_at = self._known.wanted.windows.get(key)
            tries = windows(definition, streak.state, fact, touched)
            if looked_at in tries:
                evaluation = self._undone_within(key, definition, looked_at, fact, now)
                if evaluation or self._missing.zones:
                    return evaluation
                tries = tries[tries.index(looked_at) + 1 :]
            if tries:
                self._note(Wanted(windows={key: tries[0]}))
                return None
        return self._refold(key, definition, touched, now, gone=fact)

    def _undone_within(
        self, key: Key, definition: StreakDefinition, window: Window, gone: Fact, now: datetime
    ) -> Evaluation | None:
        """Take an event away by what is around it; None where that is not enough, or where the zones are missing."""
        streak, around = self._streaks[key], self._known.around[key]
        zones = self._changes(key[0], facts_since(around.past) if around.past else EARLIEST)
        if zones is None or streak.state is None:
            return None
        begin = None
        if around.past is not None:
            begin = checkpoint(definition, streak.state, around.past, around.events, zones)
            if begin is None:
                raise StateMoved("the facts of a recorded period are gone")
        others = [event for event in around.events if event.entry_id != gone.entry_id]
        live = Facts(inside(definition, window, (*others, gone)), zones)
        evaluation = undone_within(definition, streak, live, gone, now, begin)
        return self._store(key, evaluation) if evaluation else None

    # What is done by hand

    def by_hand(self, user_id: str, streak: str) -> ByHand:
        """What was done to a streak."""
        return self._streaks.get((user_id, streak), NEVER_SEEN).by_hand

    def has_facts(self, user_id: str, streak: str) -> bool:
        """Whether a user has a state of a streak."""
        return self._streaks.get((user_id, streak), NEVER_SEEN).state is not None

    def is_outdated(self, user_id: str, definition: StreakDefinition) -> bool:
        """Whether a streak was folded under what the definition was before."""
        return is_outdated(definition, self._streaks.get((user_id, definition.key), NEVER_SEEN))

    def fold_anew(self, user_id: str, definition: StreakDefinition, now: datetime) -> Evaluation | None:
        """A streak from its beginning, stored; None where something is missing."""
        return self._refold((user_id, definition.key), definition, date.min, now)

    def whole(self, user_id: str, definition: StreakDefinition, now: datetime) -> Folded | None:
        """A streak from its beginning; None where something is missing, or where there are no facts."""
        key = user_id, definition.key
        streak, history = self._streaks.get(key, NEVER_SEEN), self._histories.get(key)
        if history is None or not history.reaches(date.min):
            self._note_history(key, definition, date.min)
            return None
        zones = self._changes(user_id, history.since)
        if zones is None:
            return None
        closed_time = max(now, streak.closed_time or now)
        return fold(definition, Facts(history.live, zones, streak.by_hand), closed_time)

    def do(
        self,
        user_id: str,
        definition: StreakDefinition,
        by_hand: ByHand,
        done: Done,
        now: datetime,
        moved: Moved | None,
    ) -> Evaluation | None:
        """Something is done to a streak, or undone, after which `by_hand` holds; None where something is missing."""
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        touched = done_since(definition, streak, done)
        if moved:
            touched = min(touched, moved_since(definition, streak, moved.since))
        self._streaks[key] = replace(streak, by_hand=by_hand)
        return self._refold(key, definition, touched, now)

    def undo_by_hand(
        self,
        catalogue: Catalogue,
        user_id: str,
        entry_id: UUID,
        now: datetime,
        moved: Moved | None,
    ) -> tuple[StreakDefinition, Evaluation] | None:
        """Take away what an entry did; None where it did nothing, or where something is missing."""
        for (user, streak), known in list(self._streaks.items()):
            left, done = taken_out(known.by_hand, entry_id) if user == user_id else (known.by_hand, None)
            definition = catalogue.get(streak)
            if done is not None and definition is not None:
                evaluation = self.do(user_id, definition, left, done, now, moved)
                return (definition, evaluation) if evaluation else None
        return None

    def require_all(self) -> None:
        """Raises `MoreWanted` where something was needed and not there."""
        if self._missing != Wanted():
            raise MoreWanted(self._missing)

    def writes(self) -> Writes:
        """Everything that changed, in order of key."""
        users = sorted({user for user, _ in self._next_close_times} | self._changed_users)
        stayed = sorted({user for user, _ in self._said} - set(users))
        return Writes(
            users=[(user, self._loaded.guards[user] + 1, self._users[user]) for user in users],
            stayed=[(user, self._loaded.guards[user]) for user in stayed],
            streaks=[
                StreakRow(key, self._streaks[key], due)
                for key, due in sorted(self._next_close_times.items(), key=lambda item: item[0])
            ],
            periods=[(*key, self._periods[key]) for key in sorted(self._periods)],
            ledger=[(*key, self._ledger[key]) for key in sorted(self._ledger)],
            zones=[(*key, self._zones[key]) for key in sorted(self._zones)],
            revised=[(entry, *self._revised[entry]) for entry in sorted(self._revised)],
            told=[(entry, *self._told_anew[entry]) for entry in sorted(self._told_anew)],
        )

    def _refold(
        self,
        key: Key,
        definition: StreakDefinition,
        touched: date,
        now: datetime,
        fact: Fact | None = None,
        gone: Fact | None = None,
    ) -> Evaluation | None:
        """Fold anew what may change from the period on that begins at `touched`; None where its history is
        missing. `fact` is the one that is new, `gone` one that was taken away.
        """
        history = self._histories.get(key)
        if history is None or not history.reaches(touched):
            self._note_history(key, definition, touched)
            return None
        zones = self._changes(key[0], history.since)
        if zones is None:
            return None
        streak = self._streaks.get(key, NEVER_SEEN)
        begin = history.start(definition, streak, zones)
        live = Facts(history.live, zones, streak.by_hand)
        return self._store(key, refold(definition, streak, history.recorded, live, now, fact, begin, gone))

    def _note_history(self, key: Key, definition: StreakDefinition, touched: date) -> None:
        """The earliest that is touched decides, seen from what is stored."""
        stored = self._loaded.streaks.get(key, NEVER_SEEN).state
        known = self._missing.histories.get(key)
        if known is None or touched < known.touched:
            self._note(Wanted({key: refold_since(definition, stored, touched)}))

    def _note(self, wanted: Wanted) -> None:
        zones = {
            user: min(since, self._missing.zones.get(user, since), self._known.wanted.zones.get(user, since))
            for user, since in wanted.zones.items()
        }
        self._missing = self._missing.and_also(replace(wanted, zones=zones))

    def _store(self, key: Key, evaluation: Evaluation) -> Evaluation:
        self._streaks[key] = evaluation.streak
        current = evaluation.current
        self._next_close_times[key] = current.next_close_time if current else None
        rows = evaluation.rows
        self._periods |= {(key, first): None for first in rows.removed_periods}
        self._periods |= {(key, row.start_date): row for row in rows.periods}
        self._ledger |= {(key, line): None for line in rows.removed_ledger}
        self._ledger |= {(key, line.key): line for line in rows.ledger}
        if key in self._histories:
            self._histories[key].apply(rows)
        return evaluation


class _ZoneLog(Struct, frozen=True):
    """Where a user was from an instant on, and at it."""

    since: datetime
    changes: tuple[ZoneChange, ...]


def _counts(streak: UserStreak, definition: StreakDefinition, fact: Fact) -> bool:
    return streak.by_hand.counts(definition, fact.order, fact.local_date)


def _is_counted(
    definition: StreakDefinition, state: StreakState, fact: Fact, move: ZoneChange | None
) -> bool:
    """Whether an event counts that comes after all others; of another one the fold tells."""
    if not follows(definition, state, fact):
        return True
    zones = moved_to(definition, state, move).zones if move else state.zones
    return counts(definition, zones, state.by_hand, fact)


def seen(entry: Entry) -> ZoneChange | None:
    """Where the user was, by an entry; None for a correction, which is nothing that a user did."""
    if entry.kind not in (EntryKind.METRIC_EVENT, EntryKind.USER_UPDATE):
        return None
    return ZoneChange(entry.occur_time, entry.entry_id, entry.time_zone)


def named(entry: Entry) -> ZoneChange | None:
    """The same, where the entry names the zone."""
    return None if entry.takes_time_zone else seen(entry)
