"""Dates, runs and scores: what every other conversion is made of."""

from datetime import date
from functools import lru_cache
from typing import Final

from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2

from services.leaderboard.domain.boards import Board, SourceKind
from services.leaderboard.domain.runs import RunState
from shared.decimals import MICROS_PER_UNIT, from_micros
from shared.rpc.convert import date_to_proto as date_message
from shared.rpc.convert import to_timestamp

DOMAIN: Final = "leaderboard.laurel"
"""In whose name errors are."""


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
