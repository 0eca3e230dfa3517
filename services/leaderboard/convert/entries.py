"""Commands and reversals, and their outcomes."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.message import Message
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2

from services.leaderboard.config import MAX_AMOUNT, MAX_CHANGES, MAX_COMMANDS
from services.leaderboard.convert.common import DOMAIN, date_from_proto, run_to_proto, score_to_proto
from services.leaderboard.domain.boards import Board, segment_values
from services.leaderboard.domain.entries import Command, Draft, Move
from services.leaderboard.domain.facts import PointsChange, StreakChange, facts_of
from services.leaderboard.domain.ranks import Placement, member_of, shown_rank
from services.leaderboard.domain.runs import RunState
from shared.errors import InvalidArgument, LaurelError, Violations
from shared.participant import ReversalWork, Work
from shared.rpc.convert import (
    check_key,
    digest_of,
    entry_from_proto,
    error_message,
    instant_field,
    reversal_from_proto,
    to_datetime,
)

_AMOUNTS: Final = range(-MAX_AMOUNT, MAX_AMOUNT + 1)

_A_DAY: Final = timedelta(days=1)

BoardOf = Callable[[str], Board]
"""The board with a key."""


def commands_from_proto(request: pb.ApplyEventsRequest) -> list[Work[Command] | LaurelError]:
    """Each command, or what is wrong with it. Raises `InvalidArgument` for too many or none."""
    _check_count(request.commands, "commands")
    return [_command(message, f"commands[{index}]") for index, message in enumerate(request.commands)]


def reversals_from_proto(request: pb.RevertEventsRequest) -> list[ReversalWork]:
    """The reversals. Raises `InvalidArgument` with every violation."""
    _check_count(request.reversals, "reversals")
    violations = Violations()
    found = [
        reversal_from_proto(message, f"reversals[{index}]", violations)
        for index, message in enumerate(request.reversals)
    ]
    violations.raise_if_any()
    return [ReversalWork(one.entry_id, one.user_id, one.now) for one in found if one is not None]


def _check_count(items: Sequence[Message], field: str) -> None:
    if not 1 <= len(items) <= MAX_COMMANDS:
        violations = Violations()
        violations.add(field, f"must have 1 to {MAX_COMMANDS} items")
        violations.raise_if_any()


def _command(message: pb.ApplyEventsCommand, path: str) -> Work[Command] | LaurelError:
    violations = Violations()
    entry = entry_from_proto(message.entry, f"{path}.entry", violations)
    _check_amount(message.entry.metric.value_micros, f"{path}.entry.metric.value_micros", violations)
    streaks = _streak_changes(message.streak_changes, f"{path}.streak_changes", violations)
    points = _points_changes(message.points_changes, f"{path}.points_changes", violations)
    try:
        violations.raise_if_any()
    except InvalidArgument as error:
        return error
    assert entry is not None  # or there would be a violation
    return Work(
        Command(entry, facts_of(entry, streaks, points)),
        entry.entry_id,
        entry.user.user_id,
        digest_of(message),
    )


def _streak_changes(
    messages: Sequence[streak_pb2.StreakChange], path: str, violations: Violations
) -> list[StreakChange]:
    if len(messages) > MAX_CHANGES:
        violations.add(path, f"must have at most {MAX_CHANGES} items")
        return []
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        check_key(message.streak, f"{where}.streak", violations)
        if message.length < 0:
            violations.add(f"{where}.length", "must not be negative")
        _check_reach_time(message, where, violations)
    if len(violations):
        return []
    return [
        StreakChange(
            one.streak,
            one.version,
            one.length,
            one.longest,
            to_datetime(one.reach_time) if one.HasField("reach_time") else None,
        )
        for one in messages
    ]


def _points_changes(
    messages: Sequence[points_pb2.PointsChange], path: str, violations: Violations
) -> list[PointsChange]:
    if len(messages) > MAX_CHANGES:
        violations.add(path, f"must have at most {MAX_CHANGES} items")
        return []
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        check_key(message.points_system, f"{where}.points_system", violations)
        _check_amount(message.added, f"{where}.added", violations)
        _check_amount(message.balance, f"{where}.balance", violations)
        _check_awards(message.awards, f"{where}.awards", violations)
        _check_reach_time(message, where, violations)
    if len(violations):
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


def applied_outcome(draft: Draft, placements: Sequence[Placement], board_of: BoardOf) -> bytes:
    """The outcome of an entry once it is projected; a placement for each of its moves."""
    return _serialized(
        pb.ApplyEventsOutcome(entry_id=str(draft.entry_id), standings=_standings(draft, placements, board_of))
    )


def reverted_outcome(draft: Draft, placements: Sequence[Placement], board_of: BoardOf) -> bytes:
    """The outcome of a reversal once it is projected; a placement for each of its moves."""
    return _serialized(
        pb.RevertEventsOutcome(
            entry_id=str(draft.entry_id), reverted=True, standings=_standings(draft, placements, board_of)
        )
    )


def outcome_without_standings(entry_id: UUID) -> bytes:
    """The outcome of an entry that no board ranks."""
    return _serialized(pb.ApplyEventsOutcome(entry_id=str(entry_id)))


def refused_outcome(entry_id: UUID | str, error: LaurelError) -> bytes:
    """The outcome that refuses an entry."""
    return _serialized(pb.ApplyEventsOutcome(entry_id=str(entry_id), error=error_message(error, DOMAIN)))


def nothing_reverted(entry_id: UUID) -> bytes:
    """The outcome of a reversal that found nothing to undo."""
    return _serialized(pb.RevertEventsOutcome(entry_id=str(entry_id), reverted=False))


def _standings(
    draft: Draft, placements: Sequence[Placement], board_of: BoardOf
) -> list[leaderboard_pb2.Standing]:
    standings = [
        standing_to_proto(board_of(move.run.board), move, placement)
        for move, placement in zip(draft.moves, placements, strict=True)
        if move.reported
    ]
    return standings + [_closed_standing(run) for run in draft.closed]


def standing_to_proto(board: Board, move: Move, placement: Placement) -> leaderboard_pb2.Standing:
    """A standing after a move."""
    standing = leaderboard_pb2.Standing(
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


def _closed_standing(run: RunState) -> leaderboard_pb2.Standing:
    return leaderboard_pb2.Standing(leaderboard=run.board, run=run_to_proto(run), run_finalized=True)


def _serialized(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
