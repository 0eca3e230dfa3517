"""What the saga tells, and what an entry changed."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Final

from google.protobuf.message import Message
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.leaderboard.config import MAX_AMOUNT
from services.leaderboard.convert.common import date_from_proto, run_to_proto, score_to_proto
from services.leaderboard.domain.boards import Board, segment_values
from services.leaderboard.domain.entries import Command, Draft, Move
from services.leaderboard.domain.facts import PointsChange, StreakChange, facts_of
from services.leaderboard.domain.ranks import Placement, member_of, shown_rank
from services.leaderboard.domain.runs import RunState
from shared.entries import Entry
from shared.errors import Violations
from shared.rpc.convert import (
    check_key,
    instant_field,
    to_datetime,
)

_AMOUNTS: Final = range(-MAX_AMOUNT, MAX_AMOUNT + 1)

_A_DAY: Final = timedelta(days=1)

BoardOf = Callable[[str], Board]
"""The board with a key."""


def command(entry: Entry, effects: Effects, path: str, violations: Violations) -> Command:
    """The domain's command: what the entry changed about streaks and points."""
    streaks = _streak_changes(effects.streaks, f"{path}.streaks", violations)
    points = _points_changes(effects.points, f"{path}.points", violations)
    return Command(entry, facts_of(entry, streaks, points))


def _streak_changes(
    effects: Sequence[streak_pb2.StreakEffect], path: str, violations: Violations
) -> list[StreakChange]:
    changes = []
    before = len(violations)
    for index, effect in enumerate(effects):
        if not effect.HasField("change"):
            continue
        change, where = effect.change, f"{path}[{index}].change"
        check_key(change.streak, f"{where}.streak", violations)
        if change.length < 0:
            violations.add(f"{where}.length", "must not be negative")
        _check_reach_time(change, where, violations)
        changes.append(change)
    if len(violations) > before:
        return []
    return [
        StreakChange(
            one.streak,
            one.version,
            one.length,
            one.longest,
            to_datetime(one.reach_time) if one.HasField("reach_time") else None,
        )
        for one in changes
    ]


def _points_changes(
    messages: Sequence[points_pb2.PointsChange], path: str, violations: Violations
) -> list[PointsChange]:
    before = len(violations)
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        check_key(message.points_system, f"{where}.points_system", violations)
        _check_amount(message.added, f"{where}.added", violations)
        _check_amount(message.balance, f"{where}.balance", violations)
        _check_awards(message.awards, f"{where}.awards", violations)
        _check_reach_time(message, where, violations)
    if len(violations) > before:
        return []
    return [
        PointsChange(
            one.points_system,
            one.version,
            one.added,
            one.balance,
            one.lifetime,
            to_datetime(one.reach_time) if one.HasField("reach_time") else None,
            _added_by_date(one),
        )
        for one in messages
    ]


def _check_amount(amount: int, path: str, violations: Violations) -> None:
    if amount not in _AMOUNTS:
        violations.add(path, f"must have a magnitude of at most {MAX_AMOUNT}")


def _check_awards(messages: Sequence[points_pb2.Award], path: str, violations: Violations) -> None:
    if sum(abs(message.amount) for message in messages) > MAX_AMOUNT:
        violations.add(path, f"must have amounts with a sum of magnitudes of at most {MAX_AMOUNT}")
    for index, message in enumerate(messages):
        if message.HasField("local_date"):
            date_from_proto(message.local_date, f"{path}[{index}].local_date", violations, _A_DAY)


def _added_by_date(message: points_pb2.PointsChange) -> dict[date, int]:
    """Empty where the awards do not say it."""
    added: dict[date, int] = {}
    if not all(award.HasField("local_date") for award in message.awards):
        return added
    for award in message.awards:
        day = date(award.local_date.year, award.local_date.month, award.local_date.day)
        added[day] = added.get(day, 0) + award.amount
    return added


def _check_reach_time(message: Message, path: str, violations: Violations) -> None:
    if message.HasField("reach_time"):
        instant_field(message, "reach_time", path, violations)


def effects(draft: Draft, placements: Sequence[Placement], board_of: BoardOf) -> Effects:
    """What an entry, or its undoing, did to standings once it is projected; a placement for each of its moves."""
    return Effects(leaderboards=_standings(draft, placements, board_of))


def _standings(
    draft: Draft, placements: Sequence[Placement], board_of: BoardOf
) -> list[leaderboard_pb2.Standing]:
    standings = [
        standing_to_proto(draft.user_id, board_of(move.run.board), move, placement)
        for move, placement in zip(draft.moves, placements, strict=True)
        if move.reported
    ]
    return standings + [_closed_standing(draft.user_id, run) for run in draft.closed]


def standing_to_proto(
    user_id: str, board: Board, move: Move, placement: Placement
) -> leaderboard_pb2.Standing:
    """A standing after a move."""
    standing = leaderboard_pb2.Standing(
        user_id=user_id,
        leaderboard=board.key,
        segment=segment_values(move.segment),
        run=run_to_proto(move.run),
        rank=shown_rank(board, placement.after),
        previous_rank=shown_rank(board, placement.before),
    )
    if move.after is not None:
        standing.score = score_to_proto(board, member_of(board.order, move.after).amount)
    if placement.last_ranked is not None:
        standing.threshold = score_to_proto(board, placement.last_ranked.amount)
    return standing


def _closed_standing(user_id: str, run: RunState) -> leaderboard_pb2.Standing:
    return leaderboard_pb2.Standing(
        user_id=user_id, leaderboard=run.board, run=run_to_proto(run), run_finalized=True
    )
