"""A history that goes on changing while a batch is decided."""

from collections.abc import Sequence
from datetime import date, datetime

from services.streak.domain import (
    Checkpoint,
    Fact,
    History,
    RowChanges,
    Rows,
    StreakDefinition,
    UserStreak,
    ZoneChange,
    checkpoint,
    facts_since,
)
from shared.calendar import EARLIEST
from shared.postgres.errors import StateMoved


class OpenHistory:
    """Its facts and rows, as they are by now."""

    def __init__(self, history: History) -> None:
        self.facts = {event.entry_id: event for event in history.events}
        self.past = history.past
        self._periods = {row.key: row for row in history.rows.periods}
        self._ledger = {line.key: line for line in history.rows.ledger}

    @property
    def live(self) -> tuple[Fact, ...]:
        return tuple(self.facts.values())

    @property
    def since(self) -> datetime:
        """No fact that counts lies before."""
        return facts_since(self.past) if self.past else EARLIEST

    def take(self, fact: Fact | None, revised: Sequence[Fact]) -> None:
        """A new fact, and what others of them contribute by now."""
        if fact is not None:
            self.facts[fact.entry_id] = fact
        for event in revised:
            if event.entry_id in self.facts:
                self.facts[event.entry_id] = event

    @property
    def recorded(self) -> Rows:
        periods = sorted(self._periods.values(), key=lambda row: row.key)
        ledger = sorted(self._ledger.values(), key=lambda line: line.key)
        return Rows(tuple(periods), tuple(ledger))

    def reaches(self, touched: date) -> bool:
        """Whether enough is here for a refold from the period on that begins at `touched`."""
        return self.past is None or self.past.last.start_date < touched

    def start(
        self, definition: StreakDefinition, streak: UserStreak, zones: Sequence[ZoneChange]
    ) -> Checkpoint | None:
        """Where a refold begins; None where everything is here. Raises `StateMoved`."""
        if self.past is None or streak.state is None:
            return None
        begin = checkpoint(definition, streak.state, self.past, self.live, zones, streak.by_hand)
        if begin is None:
            raise StateMoved("the facts of a recorded period are gone")
        return begin

    def apply(self, changes: RowChanges) -> None:
        for first in changes.removed_periods:
            self._periods.pop(first, None)
        for line in changes.removed_ledger:
            self._ledger.pop(line, None)
        self._periods |= {row.key: row for row in changes.periods}
        self._ledger |= {row.key: row for row in changes.ledger}
