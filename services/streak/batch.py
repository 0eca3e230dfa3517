"""The users' streaks while a batch is decided: what was loaded, and what has become of it."""

from collections.abc import Mapping
from datetime import date, datetime

from services.streak.domain import (
    NEVER_SEEN,
    Checkpoint,
    Evaluation,
    Fact,
    Facts,
    FreezeReason,
    History,
    LedgerLine,
    Period,
    RowChanges,
    Rows,
    Since,
    StreakDefinition,
    StreakState,
    bring_up_to,
    checkpoint,
    extend,
    is_outdated,
    needs_history,
    refold,
    refold_since,
    touched_since,
)
from services.streak.store import Key, Loaded, StreakRow, Writes
from shared.postgres.errors import StateMoved


class HistoryMissing(Exception):
    """Something touches the past of streaks whose histories are not loaded, or not so far back: `wanted`."""

    def __init__(self, wanted: Mapping[Key, Since]) -> None:
        super().__init__(f"{len(wanted)} histories are needed")
        self.wanted = wanted


class Batch:
    """One decision after another on the same state. Evaluations that need a history that is not there are
    noted; `require_histories` then raises, and the batch is decided again with them.
    """

    def __init__(self, loaded: Loaded, histories: Mapping[Key, History]) -> None:
        self._loaded = loaded
        self._streaks = dict(loaded.streaks)
        self._histories = {key: _Open(history) for key, history in histories.items()}
        self._missing: dict[Key, Since] = {}
        self._next_close_times: dict[Key, datetime | None] = {}
        self._periods: dict[tuple[Key, date], Period | None] = {}
        self._ledger: dict[tuple[Key, date, FreezeReason], LedgerLine | None] = {}

    def take(
        self, user_id: str, definition: StreakDefinition, fact: Fact, now: datetime
    ) -> Evaluation | None:
        """Count an event for a streak; None where its history is missing."""
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        if key in self._histories:
            self._histories[key].facts[fact.entry_id] = fact
        if not needs_history(definition, streak, fact):
            return self._store(key, extend(definition, streak, fact, now))
        return self._refold(key, definition, touched_since(definition, streak, fact), now, fact)

    def bring_up_to(self, user_id: str, definition: StreakDefinition, now: datetime) -> Evaluation | None:
        """Close what is due; None where there is nothing, or where its history is missing."""
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        if streak.state is None:
            return None
        if is_outdated(definition, streak):
            return self._refold(key, definition, date.min, now)
        return self._store(key, bring_up_to(definition, streak, now))

    def undo(
        self, user_id: str, definition: StreakDefinition, fact: Fact, now: datetime
    ) -> Evaluation | None:
        """Take an event away; None where its history is missing."""
        key = user_id, definition.key
        if key in self._histories:
            self._histories[key].facts.pop(fact.entry_id, None)
        streak = self._streaks.get(key, NEVER_SEEN)
        return self._refold(key, definition, touched_since(definition, streak, fact), now)

    def require_histories(self) -> None:
        """Raises `HistoryMissing` where one was needed and not there."""
        if self._missing:
            raise HistoryMissing(self._missing)

    def writes(self) -> Writes:
        """Everything that changed, in order of key."""
        users = sorted({user for user, _ in self._next_close_times})
        return Writes(
            guards=[(user, self._loaded.guards[user] + 1) for user in users],
            streaks=[
                StreakRow(key, self._streaks[key], due)
                for key, due in sorted(self._next_close_times.items(), key=lambda item: item[0])
            ],
            periods=[(*key, self._periods[key]) for key in sorted(self._periods)],
            ledger=[(*key, self._ledger[key]) for key in sorted(self._ledger)],
        )

    def _refold(
        self, key: Key, definition: StreakDefinition, touched: date, now: datetime, fact: Fact | None = None
    ) -> Evaluation | None:
        """Fold anew what may change from the period on that begins at `touched`; None where its history is
        missing. `fact` is the one that is new.
        """
        history = self._histories.get(key)
        if history is None or not history.reaches(touched):
            self._note_missing(key, definition, touched)
            return None
        streak = self._streaks.get(key, NEVER_SEEN)
        start = history.start(definition, streak.state)
        return self._store(key, refold(definition, streak, history.recorded, history.live, now, fact, start))

    def _note_missing(self, key: Key, definition: StreakDefinition, touched: date) -> None:
        """The earliest that is touched decides, seen from what is stored."""
        stored = self._loaded.streaks.get(key, NEVER_SEEN).state
        known = self._missing.get(key)
        if known is None or touched < known.touched:
            self._missing[key] = refold_since(definition, stored, touched)

    def _store(self, key: Key, evaluation: Evaluation) -> Evaluation:
        self._streaks[key] = evaluation.streak
        current = evaluation.current
        self._next_close_times[key] = current.next_close_time if current else None
        rows = evaluation.rows
        self._periods |= {(key, start): None for start in rows.removed_periods}
        self._periods |= {(key, row.start_date): row for row in rows.periods}
        self._ledger |= {(key, *line): None for line in rows.removed_ledger}
        self._ledger |= {(key, *line.key): line for line in rows.ledger}
        if key in self._histories:
            self._histories[key].apply(rows)
        return evaluation


class _Open:
    """A history that goes on changing while the batch is decided."""

    def __init__(self, history: History) -> None:
        self.facts = {one.entry_id: one for one in history.facts.events}
        self._past = history.past
        self._periods = {row.key: row for row in history.rows.periods}
        self._ledger = {line.key: line for line in history.rows.ledger}

    @property
    def live(self) -> Facts:
        return Facts(tuple(self.facts.values()))

    @property
    def recorded(self) -> Rows:
        periods = sorted(self._periods.values(), key=lambda row: row.key)
        ledger = sorted(self._ledger.values(), key=lambda line: line.key)
        return Rows(tuple(periods), tuple(ledger))

    def reaches(self, touched: date) -> bool:
        """Whether enough is here for a refold from the period on that begins at `touched`."""
        return self._past is None or self._past.last.start_date < touched

    def start(self, definition: StreakDefinition, state: StreakState | None) -> Checkpoint | None:
        """Where a refold begins; None where everything is here. Raises `StateMoved`."""
        if self._past is None or state is None:
            return None
        start = checkpoint(definition, state, self._past, self.live)
        if start is None:
            raise StateMoved("the facts of a recorded period are gone")
        return start

    def apply(self, changes: RowChanges) -> None:
        for start in changes.removed_periods:
            self._periods.pop(start, None)
        for line in changes.removed_ledger:
            self._ledger.pop(line, None)
        self._periods |= {row.key: row for row in changes.periods}
        self._ledger |= {row.key: row for row in changes.ledger}
