"""The history of ranks as it is stored: a row for each entry, and one for each time that others passed somebody.

An entry counts in several lists at once. Its first change stands in the columns of its row, the others beside it: so it
has one row and one key, whatever the number of lists. In rows of older releases there are none beside it.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from msgspec import Struct, json

from services.leaderboard.domain.states import Draft, Move

# Of what stands beside the first change each is an array, in this order; what will be added comes at its end.
CHANGES: Final = """
    rank_events AS event CROSS JOIN LATERAL (
        SELECT event.board, event.run_start, event.segment, event.previous_rank, event.rank, event.score
         UNION ALL
        SELECT (other->>0) COLLATE "C", (other->>1)::date, (other->>2) COLLATE "C",
               (other->>3)::bigint, (other->>4)::bigint, (other->>5)::bigint
          FROM json_array_elements(event.others::json) AS other
    ) AS change
"""
"""All changes, each as `change`, with what they have in common as `event`."""


class RankChange(Struct, frozen=True):
    """How an entry changed its user's rank in one list."""

    draft: Draft
    move: Move
    previous_rank: int
    rank: int
    score: int


def row(changes: Sequence[RankChange]) -> tuple[Any, ...]:
    """The row of one entry, which changed something."""
    first, *others = changes
    beside = [
        (
            change.move.run.board,
            _text(change.move.run.run.start),
            change.move.segment,
            change.previous_rank,
            change.rank,
            change.score,
        )
        for change in others
    ]
    return (
        first.draft.user_id,
        first.draft.now,
        first.draft.entry_id,
        first.move.run.board,
        first.move.run.run.start,
        first.move.segment,
        first.previous_rank,
        first.rank,
        first.score,
        json.encode(beside).decode() if beside else None,
    )


def _text(start: date) -> str:
    """The beginning of a run as PostgreSQL reads it."""
    return "-infinity" if start == date.min else start.isoformat()
