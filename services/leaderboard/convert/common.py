"""Dates, runs and scores: what every other conversion is made of."""

from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2

from services.leaderboard.domain.boards import Board, SourceKind
from services.leaderboard.domain.runs import RunState
from shared.calendar import EARLIEST_DATE, LATEST_DATE
from shared.decimals import MICROS_PER_UNIT, from_micros
from shared.errors import Violations
from shared.rpc.convert import date_to_proto as date_message
from shared.rpc.convert import to_timestamp

DOMAIN: Final = "leaderboard.laurel"
"""In whose name errors are."""


def date_from_proto(
    message: date_pb2.LocalDate, path: str, violations: Violations, margin: timedelta = timedelta(0)
) -> date | None:
    """The date, or None with a violation.

    The local date of an accepted instant may lie a day beyond the bounds: that is what a `margin` is for.
    """
    try:
        day = date(message.year, message.month, message.day)
    except (ValueError, OverflowError):
        violations.add(path, "is not a date")
        return None
    if not EARLIEST_DATE - margin <= day < LATEST_DATE + margin:
        violations.add(path, f"must be a date from {EARLIEST_DATE:%Y} to {LATEST_DATE:%Y}")
        return None
    return day


def date_to_proto(day: date) -> date_pb2.LocalDate | None:
    """The message of a date; none for the open end of a run."""
    if day in (date.min, date.max):
        return None
    return date_message(day)


@lru_cache(maxsize=1_024)
def run_to_proto(state: RunState) -> leaderboard_pb2.Run:
    """The message of a run, to be put into others: nobody changes it, and the few that are open are made once."""
    return leaderboard_pb2.Run(
        start_date=date_to_proto(state.run.start),
        end_date=date_to_proto(state.run.end),
        finalize_time=to_timestamp(state.finalize_time) if state.finalize_time else None,
        finalized=state.finalized,
    )


def mean_to_proto(board: Board, mean: float) -> float:
    """A mean of scores, in the unit in which scores are told."""
    return mean / MICROS_PER_UNIT if board.source.kind is SourceKind.METRIC else mean


def score_to_proto(board: Board, amount: int) -> float:
    """A score as it is told: a decimal for metrics, else a whole number."""
    return from_micros(amount) if board.source.kind is SourceKind.METRIC else float(amount)
