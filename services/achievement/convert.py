"""Between the messages of laurel.achievement.v1 and the domain, with all syntactic validation."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Final

from laurel.achievement.v1 import achievement_pb2, achievement_service_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.streak.v1 import streak_pb2, streak_service_pb2
from msgspec.structs import replace

from services.achievement.config import DEFAULT_SAMPLE, MAX_SAMPLE, MAX_STATISTICS_DAYS
from services.achievement.definitions import achievement_of, check_achievement, normalised
from services.achievement.domain import (
    Achievement,
    Catalogue,
    Change,
    ChangeKind,
    Command,
    Completion,
    FirstGrant,
    MetricTrigger,
    Progress,
    Reach,
    Refusal,
    StreakChange,
)
from services.achievement.history import HistoryQuery, HistoryRow
from services.achievement.records import Backfill, Qualified
from services.achievement.statistics import Statistics
from shared.decimals import MICROS_PER_UNIT, from_micros
from shared.entries import Entry
from shared.errors import FailedPrecondition, LaurelError, NotFound, OutOfRange, Violations
from shared.rpc.convert import (
    check_key,
    check_user_id,
    date_field,
    date_to_proto,
    instant_field,
    optional_uuid_field,
    set_date,
    set_timestamp,
    to_timestamp,
    uuid_field,
)

DOMAIN: Final = "achievement.laurel"
"""In whose name errors are."""

_REFUSALS: Final[Mapping[Refusal, tuple[type[LaurelError], str]]] = {
    Refusal.NOT_FOUND: (NotFound, "there is no such achievement"),
    Refusal.NOT_ACTIVE: (FailedPrecondition, "the achievement is not active"),
    Refusal.NOT_OPEN: (FailedPrecondition, "the achievement cannot be earned at this time"),
    Refusal.TRIGGER_NOT_API: (FailedPrecondition, "the achievement is not earned by call"),
    Refusal.NOT_HELD: (FailedPrecondition, "the user does not hold the achievement"),
    Refusal.REVOKED: (FailedPrecondition, "an admin has taken the achievement from the user"),
    Refusal.TOO_MANY_AT_ONCE: (
        OutOfRange,
        "the event would earn repeatable achievements more than 1,000 times: their thresholds are too small for it",
    ),
    Refusal.USER_NOT_ELIGIBLE: (FailedPrecondition, "the user does not match the achievement's filters"),
}


# The saga


def command(entry: Entry, effects: Effects, path: str, violations: Violations) -> Command:
    """The domain's command: what streaks changed, and for a call the achievement to complete."""
    told = _streak_changes(effects, f"{path}.streaks", violations) if effects.ByteSize() else ()
    return Command(entry, told, entry.achievement)


def _streak_changes(effects: Effects, path: str, violations: Violations) -> tuple[StreakChange, ...]:
    """By streak. What undoes an event can change a streak twice: without it, and by contributions that it revises."""
    changes: dict[str, StreakChange] = {}
    for index, effect in enumerate(effects.streaks):
        if not effect.HasField("change"):
            continue
        change, where = effect.change, f"{path}[{index}].change"
        check_key(change.streak, f"{where}.streak", violations)
        for name, value in (("length", change.length), ("longest", change.longest)):
            if value < 0:
                violations.add(f"{where}.{name}", "must not be negative")
        told = StreakChange(
            change.streak,
            change.version,
            change.length,
            change.longest,
            _first_reaches(change, where, violations),
            granted_before=_granted(change.arrivals_before, f"{where}.arrivals_before", violations),
            granted_after=_granted(change.arrivals_after, f"{where}.arrivals_after", violations),
        )
        changes[told.streak] = _after(changes.get(told.streak), told)
    return tuple(changes.values())


def _after(known: StreakChange | None, told: StreakChange) -> StreakChange:
    """Two changes of a streak as one: the newer word holds, which tells all that there is to tell of arrivals."""
    if known is None:
        return told
    older, newer = sorted((known, told), key=lambda change: change.version)
    reaches = {**dict(older.first_reaches), **dict(newer.first_reaches)}
    return replace(newer, first_reaches=tuple(reaches.items()))


def _granted(
    messages: Sequence[streak_pb2.Arrival], path: str, violations: Violations
) -> dict[int, FirstGrant]:
    """By length, how it was first reached."""
    found: dict[int, FirstGrant] = {}
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        told = optional_uuid_field(message.entry_id, f"{where}.entry_id", violations)
        for length, reach in _first_reaches(message, where, violations):
            if reach is not None:
                found.setdefault(length, FirstGrant(reach, told))
    return found


def _first_reaches(
    message: streak_pb2.StreakChange | streak_pb2.Arrival, path: str, violations: Violations
) -> tuple[tuple[int, Reach | None], ...]:
    return tuple(
        (reach.length, _first_reach(reach, f"{path}.first_reaches[{at}].reach", violations))
        for at, reach in enumerate(message.first_reaches)
    )


def _first_reach(message: streak_pb2.FirstReach, path: str, violations: Violations) -> Reach | None:
    if not message.HasField("reach"):
        return None
    reach = message.reach
    entry_id = uuid_field(reach.entry_id, f"{path}.entry_id", violations)
    occur_time = instant_field(reach, "occur_time", path, violations)
    try:
        day = date(reach.local_date.year, reach.local_date.month, reach.local_date.day)
    except ValueError:
        violations.add(f"{path}.local_date", "must be a date")
        return None
    return Reach(entry_id, occur_time, day) if entry_id is not None and occur_time is not None else None


# Reads


def check_user(user_id: str) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(user_id, "user_id", violations)
    violations.raise_if_any()


def history_query(request: achievement_service_pb2.ListCompletionsRequest) -> HistoryQuery:
    """What a history is asked for. Raises `InvalidArgument`."""
    violations = Violations()
    if request.user_id:
        check_user_id(request.user_id, "user_id", violations)
    if request.achievement or not request.user_id:
        check_key(request.achievement, "achievement", violations)
    if request.kind not in (0, *ChangeKind):
        violations.add("kind", "is not a kind of change")
    since = instant_field(request, "since", "", violations) if request.HasField("since") else None
    until = instant_field(request, "until", "", violations) if request.HasField("until") else None
    violations.raise_if_any()
    kind = ChangeKind(request.kind) if request.kind else None
    return HistoryQuery(request.user_id, request.achievement, kind, since, until)


def history_to_proto(row: HistoryRow) -> achievement_pb2.CompletionRecord:
    """A completion, or its revocation."""
    return achievement_pb2.CompletionRecord(
        user_id=row.user_id,
        achievement=row.achievement,
        kind=achievement_pb2.AchievementChangeKind.ValueType(row.kind),
        completion_id=str(row.completion_id),
        number=row.number,
        time=to_timestamp(row.time),
        entry_id=str(row.entry_id),
        cause_entry_id=str(row.cause_id),
        local_date=date_to_proto(row.local_date),
        backdated=row.backdated,
    )


# Backfills


def reaches_of(message: streak_service_pb2.UserFirstReaches) -> tuple[tuple[int, Reach], ...]:
    """With which event a user first reached each length, as the streak service says it."""
    unchecked = Violations()
    found = ((each.length, _first_reach(each, "first_reaches", unchecked)) for each in message.first_reaches)
    return tuple((length, reach) for length, reach in found if reach is not None)


def check_achievement_key(key: str) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_key(key, "achievement", violations)
    violations.raise_if_any()


def now_of(request: achievement_service_pb2.EndBackfillRequest) -> datetime:
    """When it was decided to end a backfill. Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.achievement, "achievement", violations)
    now = instant_field(request, "now", "", violations)
    violations.raise_if_any()
    assert now is not None
    return now


def backfill_to_proto(backfill: Backfill) -> achievement_pb2.Backfill:
    """How far it has come."""
    message = achievement_pb2.Backfill(
        achievement=backfill.achievement,
        backfill_id=str(backfill.backfill_id),
        state=achievement_pb2.BackfillState.ValueType(backfill.state),
        create_time=to_timestamp(backfill.create_time),
        update_time=to_timestamp(backfill.update_time),
        user_count=backfill.user_count,
        looked_at_count=backfill.looked_at_count,
        completed_user_count=backfill.completed_user_count,
        completion_count=backfill.completion_count,
        percent=_percent(backfill),
        last_error=backfill.last_error,
    )
    if backfill.finish_time is not None:
        message.finish_time.CopyFrom(to_timestamp(backfill.finish_time))
    return message


def _percent(backfill: Backfill) -> float:
    """Users who came since it began are looked at, too."""
    if backfill.state == achievement_pb2.BACKFILL_STATE_DONE:
        return 100.0
    return min(99.9, 100.0 * backfill.looked_at_count / max(1, backfill.user_count))


def proposal_of(request: achievement_service_pb2.PreviewAchievementRequest) -> Achievement | None:
    """The definition that a preview is about, where it is not a stored one. Raises `InvalidArgument`."""
    violations = Violations()
    if not 0 <= request.sample_size <= MAX_SAMPLE:
        violations.add("sample_size", f"must be 0 to {MAX_SAMPLE}")
    subject = request.WhichOneof("subject")
    if subject is None:
        violations.add("key", "or achievement is required")
    elif subject == "key":
        check_key(request.key, "key", violations)
    else:
        check_key(request.achievement.key, "achievement.key", violations)
        check_achievement(request.achievement, "achievement", violations)
    violations.raise_if_any()
    return achievement_of(normalised(request.achievement)) if subject == "achievement" else None


def preview_to_proto(
    found: Mapping[str, Qualified],
    *,
    looked_at: int,
    user_count: int,
    holder_count: int,
    seconds: float,
    sample_size: int,
) -> achievement_service_pb2.PreviewAchievementResponse:
    """Who would be given it. What was not looked at is taken to be as what was."""
    estimated = looked_at < user_count
    share = user_count / looked_at if estimated and looked_at else 1.0
    return achievement_service_pb2.PreviewAchievementResponse(
        qualified_count=round(len(found) * share),
        estimated=estimated,
        looked_at_count=looked_at,
        user_count=user_count,
        sample=[
            achievement_pb2.QualifiedUser(
                user_id=user_id,
                complete_time=to_timestamp(found[user_id].complete_time),
                completion_count=found[user_id].completion_count,
            )
            for user_id in sorted(found)[: sample_size or DEFAULT_SAMPLE]
        ],
        estimated_seconds=seconds,
        holder_count=holder_count,
    )


# Statistics


def statistics_query(
    request: achievement_service_pb2.GetAchievementStatisticsRequest,
) -> tuple[datetime | None, date, date]:
    """The instant, and the range of dates. Raises `InvalidArgument`."""
    violations = Violations()
    check_key(request.achievement, "achievement", violations)
    first = date_field(request, "start_date", "", violations)
    last = date_field(request, "end_date", "", violations)
    if first and last and not 0 <= (last - first).days <= MAX_STATISTICS_DAYS:
        violations.add(
            "end_date", f"must not lie before start_date, nor more than {MAX_STATISTICS_DAYS} days after it"
        )
    asked = request.HasField("read_time")
    read_time = instant_field(request, "read_time", "", violations) if asked else None
    violations.raise_if_any()
    assert first is not None
    assert last is not None
    return read_time, first, last


def statistics_to_proto(
    achievement: Achievement, found: Statistics, *, looked_at: int, user_count: int
) -> achievement_service_pb2.GetAchievementStatisticsResponse:
    """Shares of those that were looked at."""
    return achievement_service_pb2.GetAchievementStatisticsResponse(
        user_count=user_count,
        looked_at_count=looked_at,
        holder_count=found.holder_count,
        share=found.holder_count / max(1, looked_at),
        median_seconds=found.median_seconds,
        median_entry_count=found.median_entry_count,
        begun_count=found.begun_count,
        abandoned_count=found.abandoned_count,
        abandoned_share=found.abandoned_count / max(1, found.begun_count),
        at_a_stroke=found.at_a_stroke,
        daily_value=found.daily_micros / MICROS_PER_UNIT,
        difficulty_days=achievement.trigger.target / found.daily_micros if found.daily_micros else 0,
        days=[
            achievement_service_pb2.CompletionDay(date=date_to_proto(day), count=count)
            for day, count in found.days.items()
        ],
    )


# What changed


def effects(user_id: str, changes: Sequence[Change], catalogue: Catalogue) -> Effects:
    """What an entry did to a user's achievements. In place: a message that is put into another one is copied."""
    message = Effects()
    for change in changes:
        _tell_change(message.achievements.add(), user_id, change, catalogue)
    return message


def effects_of_undoing(
    user_id: str, changes: Sequence[Change], moved: Sequence[Completion], catalogue: Catalogue
) -> Effects:
    """What an undoing, or the correction after it, did: also with whose arrival what is there would have come."""
    message = effects(user_id, changes, catalogue)
    for change, told in zip(changes, message.achievements, strict=True):
        if change.kind is ChangeKind.COMPLETED:
            told.cause_entry_id = str(change.completion.cause.key.entry_id)
    for completion in moved:
        message.completion_causes.add(
            completion_id=str(completion.completion_id), cause_entry_id=str(completion.cause.key.entry_id)
        )
    return message


def refusal_error(refusal: Refusal, achievement: str) -> LaurelError:
    """The error of a call that is refused."""
    error_type, message = _REFUSALS[refusal]
    return error_type(message, reason=refusal.value, metadata={"achievement": achievement}, domain=DOMAIN)


def _tell_change(
    message: achievement_pb2.AchievementChange, user_id: str, change: Change, catalogue: Catalogue
) -> None:
    completion = change.completion
    message.user_id = user_id
    message.achievement = completion.achievement
    message.kind = achievement_pb2.AchievementChangeKind.ValueType(change.kind)
    message.completion_id = str(completion.completion_id)
    set_timestamp(message.complete_time, completion.reach.occur_time)
    message.entry_id = str(completion.entry_id)
    set_date(message.local_date, completion.reach.local_date)
    message.number = completion.number
    message.backdated = completion.backdated
    if definition := catalogue.get(completion.achievement):
        completed = change.kind is ChangeKind.COMPLETED
        message.unrewarded = completed and completion.backdated and not definition.award_backdated
        message.name = definition.name
        message.tier_group = definition.tier_group
        message.tier = definition.tier
        message.badge_url = definition.badge_url


def progress_to_proto(progress: Progress) -> achievement_pb2.UserAchievement:
    """A user's state with one achievement; amounts in units of its target."""
    definition = progress.achievement

    def in_units(amount: float) -> float:
        return from_micros(int(amount)) if isinstance(definition.trigger, MetricTrigger) else float(amount)

    message = achievement_pb2.UserAchievement(
        achievement=definition.key,
        name=definition.name,
        completed=progress.completion is not None,
        completion_count=progress.count,
        current=in_units(progress.current),
        target=in_units(progress.target),
        percent=progress.percent,
        tier_group=definition.tier_group,
        tier=definition.tier,
        badge_url=definition.badge_url,
        backdated=progress.completion is not None and progress.completion.backdated,
        revoked=progress.withheld,
        unseen=progress.unseen,
    )
    if progress.completion is not None:
        message.complete_time.CopyFrom(to_timestamp(progress.completion.reach.occur_time))
        message.entry_id = str(progress.completion.entry_id)
    return message
