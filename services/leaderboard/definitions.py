"""Definitions of boards: what is wrong with a message, what it mentions, and what it means to the domain."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from typing import Final

from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2 as pb

from services.leaderboard.config import (
    DEFAULT_COHORT_SIZE,
    MAX_BEST_COUNT,
    MAX_BREAKDOWN_ATTRIBUTES,
    MAX_COHORT_SIZE,
    MAX_DAILY_DEPTH,
    MAX_DIVISIONS,
    MAX_EVENT_INTERVAL_SECONDS,
    MAX_EVERY,
    MAX_PRIZE_RANK,
    MAX_PRIZE_SYSTEMS,
    MAX_PRIZES,
    MAX_PROFILE_ATTRIBUTES,
    MAX_SEGMENT_LIMIT,
    MAX_TRACKED_DEPTH,
    MAX_ZONE_BANDS,
)
from services.leaderboard.domain.boards import (
    DEFAULT_SEGMENT_LIMIT,
    Board,
    Boards,
    GroupAggregation,
    GroupRule,
    Order,
    RankMode,
    ScoreRule,
    Source,
    SourceKind,
)
from services.leaderboard.domain.leagues import Division, League, keeps_divisions
from services.leaderboard.domain.prizes import Gift, Prize
from services.leaderboard.domain.runs import (
    DEFAULT_START,
    MINUTES_OF_A_DAY,
    WHOLE_DAY,
    RunUnit,
    Schedule,
    Window,
)
from services.leaderboard.domain.tracking import Tracking
from shared.definition_plan import StoredDefinitions
from shared.definitions import DefinitionKind, Name, Reference
from shared.entries import MAX_GIFT
from shared.errors import Violations
from shared.rpc.convert import MAX_ATTRIBUTE_NAME_CHARS, check_key, check_text, date_within, time_of_day
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
    "groups",
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

_GROUP_AGGREGATIONS: Final[Mapping[int, GroupAggregation]] = {
    pb.GROUP_AGGREGATION_UNSPECIFIED: GroupAggregation.SUM,
    pb.GROUP_AGGREGATION_SUM: GroupAggregation.SUM,
    pb.GROUP_AGGREGATION_AVERAGE: GroupAggregation.AVERAGE,
    pb.GROUP_AGGREGATION_BEST: GroupAggregation.BEST,
}
_NO_TIME_OF_DAY: Final = (
    "is only for boards by a metric: points count for a date, and a streak has its length at all times of it"
)
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
    if source != "metric" and (message.schedule.start_time or message.schedule.end_time):
        violations.add(f"{path}.schedule.start_time", _NO_TIME_OF_DAY)
    for field, most in _ATTRIBUTE_LISTS.items():
        _check_attributes(getattr(message, field), most, f"{path}.{field}", violations)
    filters_from_proto(message.user_filters, f"{path}.user_filters", violations)
    _check_prizes(message, f"{path}.prizes", violations)
    if message.HasField("league"):
        _check_league(message, path, violations)
    if message.HasField("groups"):
        _check_groups(message, f"{path}.groups", violations)
    if not 0 <= message.daily_rank_depth <= MAX_DAILY_DEPTH:
        violations.add(f"{path}.daily_rank_depth", f"must be 0 to {MAX_DAILY_DEPTH}")
    _check_tracking(message, path, violations)
    if not 0 <= message.segment_limit <= MAX_SEGMENT_LIMIT:
        violations.add(f"{path}.segment_limit", f"must be 1 to {MAX_SEGMENT_LIMIT}")
    if message.segment_limit and not message.breakdown_attributes:
        violations.add(f"{path}.segment_limit", "is only for boards with breakdown_attributes")
    if message.participant_limit < 0:
        violations.add(f"{path}.participant_limit", "must not be negative")


def _check_schedule(message: pb.RunSchedule, path: str, violations: Violations) -> None:
    start = DEFAULT_START if message.unit else None
    end = None
    if message.HasField("start_date"):
        start = date_within(message.start_date, f"{path}.start_date", violations)
    if message.HasField("end_date"):
        end = date_within(message.end_date, f"{path}.end_date", violations)
    if start and end and end < start:
        violations.add(f"{path}.end_date", "must not be before start_date")
    if message.unit not in _UNITS:
        violations.add(f"{path}.unit", "is not a unit of runs")
    elif message.unit:
        if not 0 <= message.every <= MAX_EVERY:
            violations.add(f"{path}.every", f"must be 1 to {MAX_EVERY}")
    elif message.every:
        violations.add(f"{path}.every", "is only for repeating boards")
    _check_window(message, path, violations)


def _check_tracking(message: pb.Leaderboard, path: str, violations: Violations) -> None:
    if not 0 <= message.tracked_depth <= MAX_TRACKED_DEPTH:
        violations.add(f"{path}.tracked_depth", f"must be 0 to {MAX_TRACKED_DEPTH}")
    if message.event_interval_seconds and not message.tracked_depth:
        violations.add(f"{path}.event_interval_seconds", "is only for boards with tracked_depth")
    if not 0 <= message.event_interval_seconds <= MAX_EVENT_INTERVAL_SECONDS:
        violations.add(f"{path}.event_interval_seconds", f"must be 1 to {MAX_EVENT_INTERVAL_SECONDS}")


def _check_window(message: pb.RunSchedule, path: str, violations: Violations) -> None:
    if not message.start_time and not message.end_time:
        return
    start = time_of_day(message.start_time, f"{path}.start_time", violations)
    end = time_of_day(message.end_time, f"{path}.end_time", violations)
    if start and end and start == end:
        violations.add(f"{path}.end_time", "must be another than start_time")


def _check_prizes(message: pb.Leaderboard, path: str, violations: Violations) -> None:
    if len(message.prizes) > MAX_PRIZES:
        violations.add(path, f"must have at most {MAX_PRIZES} prizes")
    if message.prizes and not (message.schedule.unit or message.schedule.HasField("end_date")):
        violations.add(path, "is only for boards whose runs end")
    for index, prize in enumerate(message.prizes):
        where = f"{path}[{index}]"
        check_key(prize.key, f"{where}.key", violations)
        if prize.key in (other.key for other in message.prizes[:index]):
            violations.add(f"{where}.key", "is given twice")
        _check_winners(prize, where, violations)
        if prize.each_segment and not (message.breakdown_attributes or message.HasField("league")):
            violations.add(
                f"{where}.each_segment", "is only for leagues and boards with breakdown_attributes"
            )
        if not prize.points and not prize.achievement:
            violations.add(where, "must have points or an achievement")
        if prize.achievement:
            check_key(prize.achievement, f"{where}.achievement", violations)
        _check_points(prize, f"{where}.points", violations)


def _check_league(message: pb.Leaderboard, path: str, violations: Violations) -> None:
    if not message.schedule.unit or message.WhichOneof("source") == "streak":
        violations.add(f"{path}.league", "is only for repeating boards by a metric or a points system")
    for field in ("breakdown_attributes", "participant_limit"):
        if getattr(message, field):
            violations.add(f"{path}.{field}", "is not for leagues")
    league, where = message.league, f"{path}.league"
    if not 2 <= len(league.divisions) <= MAX_DIVISIONS:
        violations.add(f"{where}.divisions", f"must be 2 to {MAX_DIVISIONS}")
    for index, division in enumerate(league.divisions):
        check_key(division.key, f"{where}.divisions[{index}].key", violations)
        check_text(division.name, f"{where}.divisions[{index}].name", violations, min_chars=0)
        if division.key in (other.key for other in league.divisions[:index]):
            violations.add(f"{where}.divisions[{index}].key", "is given twice")
        if division.achievement:
            check_key(division.achievement, f"{where}.divisions[{index}].achievement", violations)
    if league.cohort_size and not 2 <= league.cohort_size <= MAX_COHORT_SIZE:
        violations.add(f"{where}.cohort_size", f"must be 2 to {MAX_COHORT_SIZE}")
    for field in ("promoted_count", "demoted_count"):
        if not 0 <= getattr(league, field) <= (league.cohort_size or DEFAULT_COHORT_SIZE):
            violations.add(f"{where}.{field}", "must be 0 to cohort_size")
    if league.zone_band_count and not 2 <= league.zone_band_count <= MAX_ZONE_BANDS:
        violations.add(f"{where}.zone_band_count", f"must be 2 to {MAX_ZONE_BANDS}, or 0 for none")
    if league.inactive_policy not in pb.InactivePolicy.values():
        violations.add(f"{where}.inactive_policy", "is not one of its values")


def _check_groups(message: pb.Leaderboard, path: str, violations: Violations) -> None:
    groups = message.groups
    if not message.breakdown_attributes:
        violations.add(path, "is only for boards with breakdown_attributes")
    if groups.aggregation not in _GROUP_AGGREGATIONS:
        violations.add(f"{path}.aggregation", "is not one of its values")
    if groups.aggregation == pb.GROUP_AGGREGATION_BEST:
        if not 1 <= groups.best_count <= MAX_BEST_COUNT:
            violations.add(f"{path}.best_count", f"must be 1 to {MAX_BEST_COUNT}")
    elif groups.best_count:
        violations.add(f"{path}.best_count", "is only for the best members")
    if groups.least_member_count < 0:
        violations.add(f"{path}.least_member_count", "must not be negative")


def check_change(before: pb.Leaderboard, after: pb.Leaderboard, path: str, violations: Violations) -> None:
    """A league stays one, and its divisions stay what they are: users are in them. Further ones come on top."""
    if before.HasField("league") is not after.HasField("league"):
        violations.add(f"{path}.league", "cannot be made or unmade")
    keys = [[division.key for division in board.league.divisions] for board in (before, after)]
    if not keeps_divisions(*keys):
        violations.add(f"{path}.league.divisions", "must begin with those that there are")


def _check_winners(prize: pb.Prize, path: str, violations: Violations) -> None:
    if prize.top_percent:
        if prize.first_rank or prize.last_rank:
            violations.add(f"{path}.top_percent", "stands instead of ranks")
        if not 0 < prize.top_percent <= 100:
            violations.add(f"{path}.top_percent", "must be above 0 and at most 100")
        return
    if not 0 <= prize.first_rank <= MAX_PRIZE_RANK:
        violations.add(f"{path}.first_rank", f"must be 1 to {MAX_PRIZE_RANK}")
    if not max(prize.first_rank, 1) <= prize.last_rank <= MAX_PRIZE_RANK:
        violations.add(f"{path}.last_rank", f"must be first_rank to {MAX_PRIZE_RANK}; or give top_percent")


def _check_points(prize: pb.Prize, path: str, violations: Violations) -> None:
    if len(prize.points) > MAX_PRIZE_SYSTEMS:
        violations.add(path, f"must have at most {MAX_PRIZE_SYSTEMS} points systems")
    for index, points in enumerate(prize.points):
        where = f"{path}[{index}]"
        check_key(points.points_system, f"{where}.points_system", violations)
        if points.points_system in (other.points_system for other in prize.points[:index]):
            violations.add(f"{where}.points_system", "is given twice")
        if not 1 <= points.amount <= MAX_GIFT:
            violations.add(f"{where}.amount", f"must be 1 to {MAX_GIFT}")


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
    for prize in message.prizes:
        if prize.last_rank:
            prize.first_rank = prize.first_rank or 1
    if message.HasField("groups"):
        message.groups.aggregation = message.groups.aggregation or pb.GROUP_AGGREGATION_SUM
        message.groups.least_member_count = message.groups.least_member_count or 1
    if message.HasField("league"):
        message.league.cohort_size = message.league.cohort_size or DEFAULT_COHORT_SIZE
        message.league.inactive_policy = message.league.inactive_policy or pb.INACTIVE_POLICY_KEEP
    if message.schedule.unit:
        message.schedule.every = message.schedule.every or 1
    elif message.schedule == pb.RunSchedule():
        message.ClearField("schedule")
    return message


def references(message: pb.Leaderboard) -> Iterator[Reference]:
    """What it ranks by, and what its prizes give."""
    source = message.WhichOneof("source")
    if source is not None:
        yield Reference(source, Name(source, getattr(message, source)))
    for index, prize in enumerate(message.prizes):
        for number, points in enumerate(prize.points):
            path = f"prizes[{index}].points[{number}].points_system"
            yield Reference(path, Name("points_system", points.points_system))
        if prize.achievement:
            yield Reference(f"prizes[{index}].achievement", Name("achievement", prize.achievement))
    for index, division in enumerate(message.league.divisions):
        if division.achievement:
            path = f"league.divisions[{index}].achievement"
            yield Reference(path, Name("achievement", division.achievement))


LEADERBOARD: Final = DefinitionKind(
    name="leaderboard",
    message_type=pb.Leaderboard,
    validate=check_leaderboard,
    normalise=normalised,
    references=references,
    immutable_fields=IMMUTABLE_FIELDS,
    check_change=check_change,
    not_found="LEADERBOARD_NOT_FOUND",
    exists="LEADERBOARD_EXISTS",
    in_use="LEADERBOARD_IN_USE",
)

KINDS: Final = (LEADERBOARD,)
"""What this service owns."""


def catalogue_of(stored: StoredDefinitions) -> Boards:
    """All boards as the domain sees them. Stored definitions were checked when they came."""
    return Boards.of(map(_board, stored.of(LEADERBOARD)), stored.tenants)


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
        prizes=tuple(map(_prize, message.prizes)),
        league=_league(message.league) if message.HasField("league") else None,
        groups=_groups(message.groups) if message.HasField("groups") else None,
        daily_depth=message.daily_rank_depth,
        segment_limit=message.segment_limit or DEFAULT_SEGMENT_LIMIT,
        tracking=_tracking(message) if message.tracked_depth else None,
        shown=tuple(message.profile_attributes),
        active=message.status == pb.LEADERBOARD_STATUS_ACTIVE,
    )


def _tracking(message: pb.Leaderboard) -> Tracking:
    seconds = message.event_interval_seconds
    return Tracking(message.tracked_depth, timedelta(seconds=seconds) if seconds else None)


def _prize(message: pb.Prize) -> Prize:
    return Prize(
        message.key,
        message.first_rank or 1,
        message.last_rank,
        message.top_percent,
        message.each_segment,
        tuple(Gift(points.points_system, points.amount) for points in message.points),
        message.achievement,
    )


def _league(message: pb.League) -> League:
    return League(
        tuple(Division(division.key, division.achievement) for division in message.divisions),
        message.cohort_size,
        message.promoted_count,
        message.demoted_count,
        message.inactive_policy == pb.INACTIVE_POLICY_DROP,
        message.zone_band_count,
    )


def _groups(message: pb.GroupRanking) -> GroupRule:
    return GroupRule(_GROUP_AGGREGATIONS[message.aggregation], message.best_count, message.least_member_count)


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
    return Schedule(start, end, _UNITS[message.unit], message.every or 1, _window(message))


def _window(message: pb.RunSchedule) -> Window:
    if not message.start_time:
        return WHOLE_DAY
    first, end = (_minute(time.fromisoformat(text)) for text in (message.start_time, message.end_time))
    return Window(first, (end - first) % MINUTES_OF_A_DAY)


def _minute(of_day: time) -> int:
    return of_day.hour * 60 + of_day.minute


def _date(message: date_pb2.LocalDate) -> date:
    return date(message.year, message.month, message.day)
