"""What the service tells of what it found by itself and nobody acts on: the orchestrator makes no entry of it, only
domain events.
"""

from collections.abc import Sequence
from datetime import datetime

from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.participant.v1 import participant_service_pb2 as pb

from services.leaderboard.convert.common import run_to_proto, score_to_proto
from services.leaderboard.domain.boards import Board, segment_values
from services.leaderboard.domain.runs import RunState
from services.leaderboard.domain.tracking import Moved
from shared.ids import derived_id_at
from shared.rpc.convert import to_timestamp


def ranks_change(
    board: Board, run: RunState, segment: str, found: Sequence[Moved], at: datetime, *, at_look: bool
) -> bytes:
    """What became of members of a segment since the look before. `at_look`: also of what their own entries did nothing
    was told.
    """
    name = (board.key, run.run.start.isoformat(), segment, at.isoformat())
    change = pb.Change(
        entry_id=str(derived_id_at(at, "ranks", *name)),
        occur_time=to_timestamp(at),
        board_ranks=leaderboard_pb2.BoardRanks(
            standings=[
                leaderboard_pb2.Standing(
                    user_id=one.user_id,
                    leaderboard=board.key,
                    segment=segment_values(segment),
                    run=run_to_proto(run),
                    score=score_to_proto(board, one.score),
                    rank=one.rank,
                    previous_rank=one.previous_rank if at_look else one.passed_from or 0,
                    passed=not (at_look and one.own),
                )
                for one in found
            ]
        ),
    )
    return change.SerializeToString(deterministic=True)


def run_change(state: RunState, at: datetime, member_count: int | None = None) -> bytes:
    """That a run began; with a number of members, that it ended."""
    name = "run started" if member_count is None else "run finished"
    change = pb.Change(
        entry_id=str(derived_id_at(at, name, state.board, state.run.start.isoformat())),
        occur_time=to_timestamp(at),
        board_run=leaderboard_pb2.BoardRun(
            leaderboard=state.board,
            run=run_to_proto(state),
            finished=member_count is not None,
            member_count=member_count or 0,
        ),
    )
    return change.SerializeToString(deterministic=True)
