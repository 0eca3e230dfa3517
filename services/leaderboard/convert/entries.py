"""What the saga tells, and what an entry changed."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from google.protobuf.message import Message
from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2
from msgspec.structs import replace

from services.leaderboard.config import MAX_AMOUNT
from services.leaderboard.convert.common import run_to_proto, score_to_proto
from services.leaderboard.domain.boards import Board, segment_values
from services.leaderboard.domain.facts import Award, Command, PointsChange, command_of
from services.leaderboard.domain.lengths import Period, StreakChange
from services.leaderboard.domain.ranks import Placement, amount_of, shown_rank
from services.leaderboard.domain.states import Draft, Move
from shared.entries import Entry
from shared.errors import Violations
from shared.rpc.convert import (
    check_key,
    date_within,
    instant_field,
    set_texts,
    to_datetime,
    uuid_field,
)

_AMOUNTS: Final = range(-MAX_AMOUNT, MAX_AMOUNT + 1)

_A_DAY: Final = timedelta(days=1)
_A_MONTH: Final = timedelta(days=31)

BoardOf = Callable[[str], Board]
"""The board with a key."""


def command(entry: Entry, effects: Effects, path: str, violations: Violations) -> Command:
    """The domain's command: what the entry changed about streaks and points; with one for each other user of whom it
    changed points.
    """
    streaks = _streak_changes(effects.streaks, f"{path}.streaks", violations)
    points = _points_changes(effects.points, f"{path}.points", violations)
    if not entry.other_users or len(points) < len(effects.points):
        return command_of(entry, streaks, points)
    of_users: dict[str, list[PointsChange]] = {}
    for message, change in zip(effects.points, points, strict=True):
        of_users.setdefault(message.user_id, []).append(change)
    halves = tuple(
        command_of(entry.half_of(other), (), of_users[other.user_id])
        for other in entry.other_users
        if other.user_id in of_users
    )
    own = command_of(entry, streaks, of_users.get(entry.user.user_id, ()))
    return replace(own, halves=halves)


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
        _reach_time(change, where, violations)
        _check_periods(change.period_changes, f"{where}.period_changes", violations)
        changes.append(change)
    return [_streak_change(one) for one in changes] if len(violations) == before else []


def _check_periods(messages: Sequence[streak_pb2.PeriodChange], path: str, violations: Violations) -> None:
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        start = date_within(message.start_date, f"{where}.start_date", violations, _A_DAY)
        end = date_within(message.end_date, f"{where}.end_date", violations, _A_MONTH)
        if start and end and end < start:
            violations.add(f"{where}.end_date", "must not be before start_date")
        if message.length_after < 0:
            violations.add(f"{where}.length_after", "must not be negative")
        if message.HasField("reach"):
            instant_field(message.reach, "occur_time", f"{where}.reach", violations)


def _streak_change(message: streak_pb2.StreakChange) -> StreakChange:
    return StreakChange(
        message.streak,
        message.version,
        message.length,
        message.longest,
        to_datetime(message.reach_time) if message.HasField("reach_time") else None,
        tuple(
            Period(
                _date(change.start_date),
                _date(change.end_date),
                change.length_after if change.recorded_after else None,
                to_datetime(change.reach.occur_time) if change.HasField("reach") else None,
                message.version,
            )
            for change in message.period_changes
        ),
    )


def _points_changes(
    messages: Sequence[points_pb2.PointsChange], path: str, violations: Violations
) -> list[PointsChange]:
    before = len(violations)
    changes = []
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        system, balance = message.points_system, message.balance
        check_key(system, f"{where}.points_system", violations)
        _check_amount(balance, f"{where}.balance", violations)
        reach_time = _reach_time(message, where, violations)
        awards = _awards(message.awards, f"{where}.awards", violations)
        changes.append(PointsChange(system, message.version, balance, message.lifetime, reach_time, awards))
    return changes if len(violations) == before else []


def _check_amount(amount: int, path: str, violations: Violations) -> None:
    if amount not in _AMOUNTS:
        violations.add(path, f"must have a magnitude of at most {MAX_AMOUNT}")


def _awards(messages: Sequence[points_pb2.Award], path: str, violations: Violations) -> tuple[Award, ...]:
    if sum(abs(message.amount) for message in messages) > MAX_AMOUNT:
        violations.add(path, f"must have amounts with a sum of magnitudes of at most {MAX_AMOUNT}")
    awards = []
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        entry_id = uuid_field(message.entry_id, f"{where}.entry_id", violations)
        occur_time = instant_field(message, "occur_time", where, violations)
        day = date_within(message.local_date, f"{where}.local_date", violations, _A_DAY)
        if entry_id and occur_time and day:
            awards.append(Award(entry_id, message.amount, occur_time, day))
    return tuple(awards)


def _reach_time(message: Message, path: str, violations: Violations) -> datetime | None:
    """It may be left out; None with a violation too."""
    if not message.HasField("reach_time"):
        return None
    return instant_field(message, "reach_time", path, violations)


def effects(draft: Draft, moves: Sequence[tuple[Move, Placement]], board_of: BoardOf) -> Effects:
    """What an entry, or its undoing, did to standings once it is projected. Written in place: a message that is put
    into another one is copied.
    """
    message = Effects()
    for move, placement in moves:
        if move.reported:
            _tell_standing(
                message.leaderboards.add(), draft.user_id, board_of(move.run.board), move, placement
            )
    for run in draft.closed:
        closed = message.leaderboards.add(user_id=draft.user_id, leaderboard=run.board, run_finalized=True)
        closed.run.CopyFrom(run_to_proto(run))
    return message


def standing_to_proto(
    user_id: str, board: Board, move: Move, placement: Placement
) -> leaderboard_pb2.Standing:
    """A standing after a move."""
    message = leaderboard_pb2.Standing()
    _tell_standing(message, user_id, board, move, placement)
    return message


def _tell_standing(
    message: leaderboard_pb2.Standing, user_id: str, board: Board, move: Move, placement: Placement
) -> None:
    message.user_id = user_id
    message.leaderboard = board.key
    if values := segment_values(move.segment):
        set_texts(message.segment, values)
    message.run.CopyFrom(run_to_proto(move.run))
    message.rank = shown_rank(board, placement.after)
    message.previous_rank = shown_rank(board, placement.before)
    message.told_at_interval = board.tracking is not None and board.tracking.interval is not None
    if move.after is not None:
        message.score = score_to_proto(board, amount_of(board.order, move.after))
    if placement.last_ranked is not None:
        message.threshold = score_to_proto(board, placement.last_ranked.amount)


def _date(message: date_pb2.LocalDate) -> date:
    return date(message.year, message.month, message.day)
