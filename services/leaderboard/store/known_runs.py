"""The open runs as they were last read or stored, beside users who are kept in memory (`shared.recent`).

Every open run in which a kept user has a score is among them. What is said of one may be old: it may be over by now, or
rid of segments. The statement that saves checks each run in which something is stored.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from services.leaderboard.domain.runs import RunState
from services.leaderboard.domain.states import RunKey


class KnownRun(Struct, frozen=True):
    """An open run, and how often it was rid of segments that everybody had left."""

    state: RunState
    cleanings: int = 0


class KnownRuns:
    """By board and start."""

    def __init__(self) -> None:
        self._by_board: dict[str, dict[RunKey, KnownRun]] = {}

    def of(self, boards: Sequence[str] | None) -> dict[RunKey, KnownRun]:
        """Those of these boards, or of all."""
        chosen = self._by_board.values() if boards is None else map(self._own, boards)
        return {key: run for own in chosen for key, run in own.items()}

    def read(self, read: Mapping[RunKey, KnownRun], before: Collection[RunKey]) -> bool:
        """All open runs of some boards were read; `before`: those of them that were known when the statement was sent.
        Whether one of these is over.

        What another call has opened since then may not have been there yet to be read, and stays.
        """
        over = [key for key in before if key not in read]
        for key in over:
            self._own(key[0]).pop(key, None)
        for key, run in read.items():
            self._by_board.setdefault(key[0], {})[key] = run
        return bool(over)

    def opened(self, states: Iterable[RunState]) -> None:
        """What was just stored."""
        for state in states:
            key = (state.board, state.run.start)
            self._by_board.setdefault(state.board, {}).setdefault(key, KnownRun(state))

    def _own(self, board: str) -> dict[RunKey, KnownRun]:
        return self._by_board.get(board, {})
