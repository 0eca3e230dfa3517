"""Definitions of boards: what is wrong with a message, what it mentions, and what it means to the domain."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Final

from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2 as pb

from services.leaderboard.config import MAX_BREAKDOWN_ATTRIBUTES, MAX_EVERY, MAX_PROFILE_ATTRIBUTES
from services.leaderboard.convert.common import date_from_proto
from services.leaderboard.domain.boards import (
    Board,
    Boards,
    Order,
    RankMode,
    ScoreRule,
    Source,
    SourceKind,
)
from services.leaderboard.domain.runs import RunUnit, Schedule
from shared.definition_plan import StoredDefinitions
from shared.definitions import DefinitionKind, Name, Reference
from shared.errors import Violations
from shared.rpc.convert import MAX_ATTRIBUTE_NAME_CHARS, check_key, check_text
from shared.rpc.filters import filters_from_proto

IMMUTABLE_FIELDS: Final = (
    "metric",
    "points_system",
    "streak",
    "aggregation",
    "order",
    "rank_mode",
    "schedule",
    "breakdown_attributes",
    "user_filters",
)
"""What a score or a position is made of: a change would give those that exist another meaning."""

_RULES: Final[Mapping[int, ScoreRule]] = {
    pb.SCORE_AGGREGATION_UNSPECIFIED: ScoreRule.SUM,
    pb.SCORE_AGGREGATION_SUM: ScoreRule.SUM,
    pb.SCORE_AGGREGATION_BEST: ScoreRule.BEST,
    pb.SCORE_AGGREGATION_LAST: ScoreRule.LAST,
}
_ORDERS: Final[Mapping[int, Order]] = {
    pb.SORT_ORDER_UNSPECIFIED: Order.DESC,
    pb.SORT_ORDER_DESC: Order.DESC,
    pb.SORT_ORDER_ASC: Order.ASC,
}
_RANK_MODES: Final[Mapping[int, RankMode]] = {
    pb.RANK_MODE_UNSPECIFIED: RankMode.ORDINAL,
    pb.RANK_MODE_ORDINAL: RankMode.ORDINAL,
    pb.RANK_MODE_COMPETITION: RankMode.COMPETITION,
    pb.RANK_MODE_DENSE: RankMode.DENSE,
}
_UNITS: Final[Mapping[int, RunUnit | None]] = {
    pb.RUN_UNIT_UNSPECIFIED: None,
    pb.RUN_UNIT_DAY: RunUnit.DAY,
    pb.RUN_UNIT_WEEK: RunUnit.WEEK,
    pb.RUN_UNIT_MONTH: RunUnit.MONTH,
    pb.RUN_UNIT_YEAR: RunUnit.YEAR,
}
_ATTRIBUTE_LISTS: Final = {
    "breakdown_attributes": MAX_BREAKDOWN_ATTRIBUTES,
    "profile_attributes": MAX_PROFILE_ATTRIBUTES,
}
"""Fields that name attributes of users, and how many they may name."""

_STATUSES: Final = frozenset(pb.LeaderboardStatus.values())


def check_leaderboard(message: pb.Leaderboard, path: str, violations: Violations) -> None:
    """Everything that is wrong with a definition, besides its key."""
    check_text(message.name, f"{path}.name", violations, min_chars=0)
    source = message.WhichOneof("source")
    if source is None:
        violations.add(path, "must have one of metric, points_system, streak")
    else:
        check_key(getattr(message, source), f"{path}.{source}", violations)
    if message.aggregation not in _RULES:
        violations.add(f"{path}.aggregation", "is not an aggregation")
    elif message.aggregation and source is not None and source != "metric":
        violations.add(f"{path}.aggregation", "is only for boards by a metric")
    for field, values in (("order", _ORDERS), ("rank_mode", _RANK_MODES), ("status", _STATUSES)):
        if getattr(message, field) not in values:
            violations.add(f"{path}.{field}", "is not one of its values")
    _check_schedule(message.schedule, f"{path}.schedule", violations)
    for field, most in _ATTRIBUTE_LISTS.items():
        _check_attributes(getattr(message, field), most, f"{path}.{field}", violations)
    filters_from_proto(message.user_filters, f"{path}.user_filters", violations)
    if message.participant_limit < 0:
        violations.add(f"{path}.participant_limit", "must not be negative")


def _check_schedule(message: pb.RunSchedule, path: str, violations: Violations) -> None:
    start = end = None
    if message.HasField("start_date"):
        start = date_from_proto(message.start_date, f"{path}.start_date", violations)
    if message.HasField("end_date"):
        end = date_from_proto(message.end_date, f"{path}.end_date", violations)
    if start and end and end < start:
        violations.add(f"{path}.end_date", "must not be before start_date")
    if message.unit not in _UNITS:
        violations.add(f"{path}.unit", "is not a unit of runs")
    elif message.unit:
        if message.HasField("end_date"):
            violations.add(f"{path}.end_date", "is only for perpetual boards")
        if not 0 <= message.every <= MAX_EVERY:
            violations.add(f"{path}.every", f"must be 1 to {MAX_EVERY}")
    elif message.every:
        violations.add(f"{path}.every", "is only for repeating boards")


def _check_attributes(names: Sequence[str], most: int, path: str, violations: Violations) -> None:
    if len(names) > most:
        violations.add(path, f"must have at most {most} attributes")
    for index, name in enumerate(names):
        check_text(name, f"{path}[{index}]", violations, max_chars=MAX_ATTRIBUTE_NAME_CHARS)
        if name in names[:index]:
            violations.add(f"{path}[{index}]", "is given twice")


def normalised(message: pb.Leaderboard) -> pb.Leaderboard:
    """With its defaults made explicit."""
    message.order = message.order or pb.SORT_ORDER_DESC
    message.rank_mode = message.rank_mode or pb.RANK_MODE_ORDINAL
    message.status = message.status or pb.LEADERBOARD_STATUS_ACTIVE
    if message.WhichOneof("source") == "metric":
        message.aggregation = message.aggregation or pb.SCORE_AGGREGATION_SUM
    if message.schedule.unit:
        message.schedule.every = message.schedule.every or 1
    elif message.schedule == pb.RunSchedule():
        message.ClearField("schedule")
    return message


def references(message: pb.Leaderboard) -> Iterator[Reference]:
    """What it ranks by."""
    source = message.WhichOneof("source")
    if source is not None:
        yield Reference(source, Name(source, getattr(message, source)))


LEADERBOARD: Final = DefinitionKind(
    name="leaderboard",
    message_type=pb.Leaderboard,
    validate=check_leaderboard,
    normalise=normalised,
    references=references,
    immutable_fields=IMMUTABLE_FIELDS,
    not_found="LEADERBOARD_NOT_FOUND",
    exists="LEADERBOARD_EXISTS",
    in_use="LEADERBOARD_IN_USE",
)

KINDS: Final = (LEADERBOARD,)
"""What this service owns."""


def catalogue_of(stored: StoredDefinitions) -> Boards:
    """All boards as the domain sees them. Stored definitions were checked when they came."""
    return Boards.of(map(_board, stored.of(LEADERBOARD)))


def _board(message: pb.Leaderboard) -> Board:
    schedule = _schedule(message.schedule)
    source, rule = _source(message, schedule)
    return Board(
        key=message.key,
        source=source,
        rule=rule,
        order=_ORDERS[message.order],
        rank_mode=_RANK_MODES[message.rank_mode],
        schedule=schedule,
        breakdown=tuple(message.breakdown_attributes),
        participant_limit=message.participant_limit,
        filters=filters_from_proto(message.user_filters, "user_filters", Violations()),
        shown=tuple(message.profile_attributes),
        active=message.status == pb.LEADERBOARD_STATUS_ACTIVE,
    )


def _source(message: pb.Leaderboard, schedule: Schedule) -> tuple[Source, ScoreRule]:
    """Perpetual boards rank by the balance and the present length; others by the net change of points, and the length
    at the run's end (RULES 6.3).
    """
    match message.WhichOneof("source"):
        case "points_system" if schedule.unit is None:
            return Source(SourceKind.BALANCE, message.points_system), ScoreRule.NEWEST
        case "points_system":
            return Source(SourceKind.POINTS, message.points_system), ScoreRule.NET
        case "streak" if schedule.unit is not None:
            return Source(SourceKind.PERIODS, message.streak), ScoreRule.LENGTH
        case "streak":
            return Source(SourceKind.STREAK, message.streak), ScoreRule.NEWEST
        case _:
            return Source(SourceKind.METRIC, message.metric), _RULES[message.aggregation]


def _schedule(message: pb.RunSchedule) -> Schedule:
    start = _date(message.start_date) if message.HasField("start_date") else None
    end = _date(message.end_date) if message.HasField("end_date") else None
    return Schedule(start, end, _UNITS[message.unit], message.every or 1)


def _date(message: date_pb2.LocalDate) -> date:
    return date(message.year, message.month, message.day)
