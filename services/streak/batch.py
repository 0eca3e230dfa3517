"""The users' streaks while a batch is decided: what was loaded, and what has become of it."""

from collections.abc import Mapping, Set
from datetime import date, datetime
from uuid import UUID

from services.streak.domain import (
    NEVER_SEEN,
    Evaluation,
    Fact,
    Facts,
    FreezeReason,
    LedgerLine,
    Period,
    RowChanges,
    Rows,
    StreakDefinition,
    bring_up_to,
    extend,
    is_outdated,
    needs_history,
    refold,
)
from services.streak.store import History, Key, Loaded, StreakRow, Writes


class HistoryMissing(Exception):
    """Something touches the past of streaks whose histories are not loaded: `keys`."""

    def __init__(self, keys: Set[Key]) -> None:
        super().__init__(f"{len(keys)} histories are needed")
        self.keys = keys


class Batch:
    """One decision after another on the same state. Evaluations that need a history that is not there are
    noted; `require_histories` then raises, and the batch is decided again with them.
    """

    def __init__(self, loaded: Loaded, histories: Mapping[Key, History]) -> None:
        self._guards = loaded.guards
        self._streaks = dict(loaded.streaks)
        self._histories = {key: _Open(history) for key, history in histories.items()}
        self._missing: set[Key] = set()
        self._next_close_times: dict[Key, datetime | None] = {}
        self._periods: dict[tuple[Key, date], Period | None] = {}
        self._ledger: dict[tuple[Key, date, FreezeReason], LedgerLine | None] = {}

    def take(
        self, user_id: str, definition: StreakDefinition, fact: Fact, now: datetime
    ) -> Evaluation | None:
        """Count an event for a streak; None where its history is missing."""
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        touches_past = needs_history(definition, streak, fact)
        history = self._histories.get(key)
        if history:
            history.facts[fact.entry_id] = fact
        if not touches_past:
            return self._store(key, extend(definition, streak, fact, now))
        if history is None:
            self._missing.add(key)
            return None
        return self._store(key, refold(definition, streak, history.recorded, history.live, now, fact))

    def bring_up_to(self, user_id: str, definition: StreakDefinition, now: datetime) -> Evaluation | None:
        """Close what is due; None where there is nothing, or where its history is missing."""
        key = user_id, definition.key
        streak = self._streaks.get(key, NEVER_SEEN)
        if streak.state is None:
            return None
        if not is_outdated(definition, streak):
            return self._store(key, bring_up_to(definition, streak, now))
        history = self._histories.get(key)
        if history is None:
            self._missing.add(key)
            return None
        return self._store(key, refold(definition, streak, history.recorded, history.live, now))

    def undo(self, user_id: str, definition: StreakDefinition, entry_id: UUID, now: datetime) -> Evaluation:
        """Take an event away; the history is there."""
        key = user_id, definition.key
        history = self._histories[key]
        history.facts.pop(entry_id, None)
        streak = self._streaks.get(key, NEVER_SEEN)
        return self._store(key, refold(definition, streak, history.recorded, history.live, now))

    def require_histories(self) -> None:
        """Raises `HistoryMissing` where one was needed and not there."""
        if self._missing:
            raise HistoryMissing(self._missing)

    def writes(self) -> Writes:
        """Everything that changed, in order of key."""
        users = sorted({user for user, _ in self._next_close_times})
        return Writes(
            guards=[(user, self._guards[user] + 1) for user in users],
            streaks=[
                StreakRow(key, self._streaks[key], due)
                for key, due in sorted(self._next_close_times.items(), key=lambda item: item[0])
            ],
            periods=[(*key, self._periods[key]) for key in sorted(self._periods)],
            ledger=[(*key, self._ledger[key]) for key in sorted(self._ledger)],
        )

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

    def apply(self, changes: RowChanges) -> None:
        for start in changes.removed_periods:
            del self._periods[start]
        for line in changes.removed_ledger:
            del self._ledger[line]
        self._periods |= {row.key: row for row in changes.periods}
        self._ledger |= {row.key: row for row in changes.ledger}
