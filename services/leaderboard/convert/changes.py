"""What the service tells of what it found by itself and nobody acts on: the orchestrator makes no entry of it, only
domain events.
"""

from datetime import datetime

from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.participant.v1 import participant_service_pb2 as pb

from services.leaderboard.convert.common import run_to_proto
from services.leaderboard.domain.runs import RunState
from shared.ids import derived_id_at
from shared.rpc.convert import to_timestamp


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
