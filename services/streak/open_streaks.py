"""The users' streaks while a batch is decided: what was loaded, and what has become of it."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from msgspec.structs import replace

from services.streak.domain import (
    NEVER_SEEN,
    NOT_ASKED,
    Altered,
    Arrivals,
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
    Past,
    Period,
    StreakDefinition,
    StreakState,
    UserStreak,
    Window,
    ZoneChange,
    altered_by_rows,
    altered_within,
    as_they_came,
    asked_since,
    bring_up_to,
    checkpoint,
    counts,
    dated,
    done_since,
    extend,
    facts_since,
    fold,
    follows,
    inside,
    is_outdated,
    moved_since,
    needs_history,
    nothing_left,
    outdated_since,
    refold,
    refold_since,
    start,
    taken_out,
    touched_since,
    wider,
    window_around,
    with_arrivals,
    zone_steps,
)
from services.streak.domain import moved as moved_to
from services.streak.open_contributions import OpenContributions, UndoneEvent
from services.streak.open_history import OpenHistory
from services.streak.open_zones import OpenZones
from services.streak.rows import Key
from services.streak.store import Loaded, StreakRow, Writes
from services.streak.wanted import Known, Missing, Spot, Wanted
from shared.calendar import EARLIEST
from shared.postgres.errors import StateMoved


class OpenStreaks:
    """One decision after another on the same state. Evaluations that need something that is not there are
    noted; `require_all` then raises, and the batch is decided again with that.
    """

    def __init__(self, loaded: Loaded, known: Known) -> None:
        self._loaded = loaded
        self._known = known
        self._streaks = dict(loaded.streaks)
        self._histories = {key: OpenHistory(history) for key, history in known.histories.items()}
        self._missing = Missing(known)
        self.zones = OpenZones(loaded, known, self._missing)
        self.contributions = OpenContributions(known)
        self._next_close_times: dict[Key, datetime | None] = {}
        self._periods: dict[tuple[Key, date], Period | None] = {}
        self._ledger: dict[tuple[Key, LedgerKey], LedgerLine | None] = {}

    def streaks_of(self, user_id: str) -> list[str]:
        """The streaks of a user, as far as they are loaded, that facts are left of."""
        return sorted(
            key[1] for key, state in self._streaks.items() if key[0] == user_id and state.state is not None
        )

    def evaluate(
        self,
        user_id: str,
        definition: StreakDefinition,
        now: datetime,
        fact: Fact | None = None,
        moved: Moved | None = None,
        revised: Sequence[Fact] = (),
        arrivals: Arrivals = NOT_ASKED,
    ) -> Evaluation | None:
        """Close what is due and count a fact, another zone, and what others contribute by now; `arrivals` are told
        with it.

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
            if arrivals.differ:
                return self._store(key, with_arrivals(nothing_left(definition, streak, now), arrivals, now))
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
        if revised and not (fact or moved):
            altered = Altered(revised=tuple(sorted(revised, key=lambda event: event.order)))
            found, is_enough = self._altered(key, definition, altered, min(touched), now)
            if is_enough:
                return found and self._store(key, with_arrivals(found, arrivals, now))
        if touched:
            return self._refold(key, definition, min(touched), now, fact, arrivals=arrivals)
        if fact:
            return self._store(key, extend(definition, streak, fact, now, move))
        return self._store(key, with_arrivals(bring_up_to(definition, streak, now, move), arrivals, now))

    def _begin(
        self, key: Key, definition: StreakDefinition, streak: UserStreak, fact: Fact | None, now: datetime
    ) -> Evaluation | None:
        zones = self.zones.changes(key[0], fact.occur_time) if fact else None
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
        *,
        tells_arrivals: bool = True,
    ) -> Evaluation | None:
        """Take an event away, and what it said of the zone; None where something is missing. `tells_arrivals`: its
        correction will not.
        """
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        fact = dated(definition, fact) if fact else None
        if fact is not None and key in self._histories:
            self._histories[key].facts.pop(fact.entry_id, None)
        if fact is None or not _counts(streak, definition, fact):
            return self.evaluate(user_id, definition, now, moved=moved)
        touched = min(touched_since(definition, streak, fact), asked_since(definition, fact))
        if moved:
            touched = min(touched, moved_since(definition, streak, moved.since))
        else:
            found, is_enough = self._altered(
                key, definition, Altered(gone=fact), touched, now, tells_arrivals=tells_arrivals
            )
            if is_enough:
                return found and self._store(key, found)
        return self._refold(key, definition, touched, now, gone=fact, tells_arrivals=tells_arrivals)

    def _altered(
        self,
        key: Key,
        definition: StreakDefinition,
        altered: Altered,
        touched: date,
        now: datetime,
        *,
        tells_arrivals: bool = True,
    ) -> tuple[Evaluation | None, bool]:
        """What follows where facts are altered, by what is around them, and whether that is enough; it is none where
        something is missing. What is stored is that of before the batch.
        """
        streak = self._streaks.get(key, NEVER_SEEN)
        is_stored = key not in self._histories and key not in self._next_close_times
        if not is_stored or is_outdated(definition, streak):
            return None, False
        spot = key, altered.events[0].entry_id
        window = self._known.wanted.windows.get(spot)
        if window is None:
            wanted = window_around(definition, streak.state, altered, touched)
        else:
            found, wanted = self._altered_around(
                spot, definition, window, altered, now, tells_arrivals=tells_arrivals
            )
            if found or self._missing.wanted.zones:
                return found, True
        if wanted:
            self._missing.note(Wanted(windows={spot: wanted}))
        return None, wanted is not None

    def _altered_around(
        self,
        spot: Spot,
        definition: StreakDefinition,
        window: Window,
        altered: Altered,
        now: datetime,
        *,
        tells_arrivals: bool,
    ) -> tuple[Evaluation | None, Window | None]:
        """What follows by what is around the facts that are altered, or what else is to be looked at for that; neither
        where all is needed, or where the zones are missing.
        """
        key, _ = spot
        streak, around = self._streaks[key], self._known.around[spot]
        zones = self.zones.changes(key[0], facts_since(around.past) if around.past else EARLIEST)
        if zones is None or streak.state is None:
            return None, None
        begin = None
        if around.past is not None:
            begin = checkpoint(definition, streak.state, around.past, around.events, zones, streak.by_hand)
            if begin is None:
                raise StateMoved("the facts of a recorded period are gone")
        if altered.gone is not None:
            others = [event for event in around.events if event.entry_id != altered.gone.entry_id]
            around = replace(around, events=(*others, altered.gone))
        if window.with_rows:
            found = altered_by_rows(
                definition, streak, window, around, zones, altered, now, begin, tells_arrivals=tells_arrivals
            )
            if isinstance(found, frozenset):
                return None, wider(definition, window, found)
        else:
            live = Facts(inside(definition, window, around.events), zones, streak.by_hand)
            found = altered_within(
                definition, streak, live, altered, now, begin, tells_arrivals=tells_arrivals
            )
        return found, None if found else wider(definition, window)

    def arrivals_around(
        self, user_id: str, definition: StreakDefinition, now: datetime, undone: UndoneEvent
    ) -> Arrivals:
        """How a streak changed with each arrival around an event that was taken away, with it and without it: by what
        events contributed then. Nothing where something is missing.
        """
        key = user_id, definition.key
        streak, gone = self._streaks.get(key, NEVER_SEEN), dated(definition, undone.event.fact)
        found = ((), None) if streak.state is None else self._around(key, definition, streak.state, gone)
        if found is None:
            return NOT_ASKED
        events, past = found
        zones = self.zones.changes(user_id, facts_since(past) if past else EARLIEST)
        if zones is None:
            return NOT_ASKED
        begin = None
        if past is not None and streak.state is not None:
            begin = checkpoint(definition, streak.state, past, events, zones, streak.by_hand)
            if begin is None:
                raise StateMoved("the facts of a recorded period are gone")
        counted = (*events, gone) if definition.key in undone.event.streaks else events
        facts, closed_time = Facts(counted, zones, streak.by_hand), max(now, streak.closed_time or now)
        return as_they_came(definition, facts, gone, closed_time, begin, undone.contributed(definition.key))

    def _around(
        self, key: Key, definition: StreakDefinition, state: StreakState, gone: Fact
    ) -> tuple[tuple[Fact, ...], Past | None] | None:
        """The facts around one that was taken away, and what lies before them; None where they are missing."""
        touched, history = asked_since(definition, gone), self._histories.get(key)
        spot = key, gone.entry_id
        known = self._known.wanted.windows.get(spot)
        wanted = window_around(definition, state, Altered(gone=gone), touched)
        if key in self._next_close_times:
            # What is stored is of before the batch.
            wanted = None
        if wanted is not None and known is None:
            self._missing.note(Wanted(windows={spot: wanted}))
            return None
        if wanted is not None and known == wanted:
            around = self._known.around[spot]
            return inside(definition, wanted, around.events), around.past
        if history is not None and history.reaches(touched):
            # Little is later; or two events of the streak were undone, and are corrected together.
            return history.live, history.past
        self._note_history(key, definition, touched)
        return None

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
        zones = self.zones.changes(user_id, history.since)
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
        self._missing.require_none()

    def writes(self) -> Writes:
        """Everything that changed, in order of key."""
        zones, contributions = self.zones, self.contributions
        changed = {user for user, _ in self._next_close_times}
        users = sorted(changed | zones.changed_users | contributions.changed_users)
        stayed = sorted({user for user, _ in zones.said} - set(users))
        return Writes(
            users=[(user, self._loaded.guards[user] + 1, zones.users[user]) for user in users],
            stayed=[(user, self._loaded.guards[user]) for user in stayed],
            streaks=[
                StreakRow(key, self._streaks[key], due)
                for key, due in sorted(self._next_close_times.items(), key=lambda item: item[0])
            ],
            periods=[(*key, self._periods[key]) for key in sorted(self._periods)],
            ledger=[(*key, self._ledger[key]) for key in sorted(self._ledger)],
            zones=[(*key, zones.written[key]) for key in sorted(zones.written)],
            revised=[(entry, *contributions.revised[entry]) for entry in sorted(contributions.revised)],
            told=[(entry, *contributions.told[entry]) for entry in sorted(contributions.told)],
        )

    def _refold(
        self,
        key: Key,
        definition: StreakDefinition,
        touched: date,
        now: datetime,
        fact: Fact | None = None,
        gone: Fact | None = None,
        *,
        tells_arrivals: bool = True,
        arrivals: Arrivals = NOT_ASKED,
    ) -> Evaluation | None:
        """Fold anew what may change from the period on that begins at `touched`; None where its history is
        missing. `fact` is the one that is new, `gone` one that was taken away.
        """
        history = self._histories.get(key)
        if history is None or not history.reaches(touched):
            self._note_history(key, definition, touched)
            return None
        zones = self.zones.changes(key[0], history.since)
        if zones is None:
            return None
        streak = self._streaks.get(key, NEVER_SEEN)
        begin = history.start(definition, streak, zones)
        live = Facts(history.live, zones, streak.by_hand)
        recorded = history.recorded
        evaluation = refold(
            definition, streak, recorded, live, now, fact, begin, gone, tells_arrivals=tells_arrivals
        )
        return self._store(key, with_arrivals(evaluation, arrivals, now))

    def _note_history(self, key: Key, definition: StreakDefinition, touched: date) -> None:
        """The earliest that is touched decides, seen from what is stored."""
        stored = self._loaded.streaks.get(key, NEVER_SEEN).state
        known = self._missing.wanted.histories.get(key)
        if known is None or touched < known.touched:
            self._missing.note(Wanted({key: refold_since(definition, stored, touched)}))

    def _store(self, key: Key, evaluation: Evaluation) -> Evaluation:
        self._streaks[key] = evaluation.streak
        current = evaluation.current
        self._next_close_times[key] = current.next_close_time if current else None
        rows = evaluation.rows
        for first in rows.removed_periods:
            self._periods[key, first] = None
        for row in rows.periods:
            self._periods[key, row.start_date] = row
        for gone in rows.removed_ledger:
            self._ledger[key, gone] = None
        for line in rows.ledger:
            self._ledger[key, line.key] = line
        if key in self._histories:
            self._histories[key].apply(rows)
        return evaluation


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
