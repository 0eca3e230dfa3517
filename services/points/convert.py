"""Between the messages of laurel.points.v1 and the domain, with all syntactic validation."""

from collections.abc import Sequence
from typing import Final, Literal

from laurel.achievement.v1 import achievement_pb2
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.points.v1 import points_pb2
from laurel.points.v1 import points_service_pb2 as pb
from laurel.streak.v1 import streak_pb2

from services.points.config import MAX_ARRIVALS, MAX_PERIODS
from services.points.definitions import POINTS_SYSTEM, Configuration
from services.points.domain.account import EMPTY_ACCOUNT
from services.points.domain.definitions import PointsSystem
from services.points.domain.facts import (
    AchievementChange,
    Arrival,
    Command,
    CompletionCause,
    Instant,
    PeriodChange,
    StreakChange,
)
from services.points.domain.holds import MAX_HOLDS
from services.points.domain.ledger import Award, Change
from services.points.domain.limits import HoldEnded, HoldTooSmall, NoRoom, NotGiven, Refusal, TooManyHolds
from services.points.domain.state import UserState
from services.points.domain.timing import full_time, next_time
from shared.calendar import local_date
from shared.entries import Entry
from shared.errors import FailedPrecondition, LaurelError, Violations
from shared.rpc.convert import (
    check_key,
    check_user_id,
    date_from_proto,
    instant_field,
    optional_uuid_field,
    set_date,
    set_timestamp,
    to_timestamp,
    uuid_field,
)

DOMAIN: Final = "points.laurel"
"""In whose name errors are."""

_KINDS: Final = (
    achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED,
    achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED,
)


# Requests


def check_read(*, user_id: str | None = None, points_system: str | None = None) -> None:
    """Whose points of which system are asked for, as far as the request says so. Raises `InvalidArgument`."""
    violations = Violations()
    if user_id is not None:
        check_user_id(user_id, "user_id", violations)
    if points_system is not None:
        check_key(points_system, "points_system", violations)
    violations.raise_if_any()


# The saga


def command(entry: Entry, effects: Effects, path: str, violations: Violations) -> Command:
    """The domain's command: what the entry changed about streaks and achievements."""
    if not effects.ByteSize():
        return Command(entry)
    own = Instant(entry.entry_id, entry.occur_time, local_date(entry.occur_time, entry.time_zone))
    streak_changes = _streak_changes(effects.streaks, f"{path}.streaks", violations)
    achievement_changes = _achievement_changes(effects.achievements, own, f"{path}.achievements", violations)
    causes = _completion_causes(effects.completion_causes, f"{path}.completion_causes", violations)
    return Command(entry, streak_changes, achievement_changes, causes)


def _streak_changes(
    effects: Sequence[streak_pb2.StreakEffect], path: str, violations: Violations
) -> tuple[StreakChange, ...]:
    changes = []
    for index, effect in enumerate(effects):
        if not effect.HasField("change"):
            continue
        change, where = effect.change, f"{path}[{index}].change"
        check_key(change.streak, f"{where}.streak", violations)
        changes.append(
            StreakChange(
                change.streak,
                _period_changes(change, where, violations),
                change.version,
                arrivals_before=_arrivals(change.arrivals_before, f"{where}.arrivals_before", violations),
                arrivals_after=_arrivals(change.arrivals_after, f"{where}.arrivals_after", violations),
            )
        )
    return tuple(changes)


def _arrivals(
    messages: Sequence[streak_pb2.Arrival], path: str, violations: Violations
) -> tuple[Arrival, ...]:
    if len(messages) > MAX_ARRIVALS:
        violations.add(path, f"must have at most {MAX_ARRIVALS} arrivals")
        return ()
    return tuple(
        Arrival(
            _period_changes(message, f"{path}[{index}]", violations),
            optional_uuid_field(message.entry_id, f"{path}[{index}].entry_id", violations),
        )
        for index, message in enumerate(messages)
    )


def _period_changes(
    message: streak_pb2.StreakChange | streak_pb2.Arrival, path: str, violations: Violations
) -> tuple[PeriodChange, ...]:
    if len(message.period_changes) > MAX_PERIODS:
        violations.add(f"{path}.period_changes", f"must have at most {MAX_PERIODS} changes")
        return ()
    periods = (
        _period_change(period, f"{path}.period_changes[{number}]", violations)
        for number, period in enumerate(message.period_changes)
    )
    return tuple(period for period in periods if period is not None)


def _period_change(
    message: streak_pb2.PeriodChange, path: str, violations: Violations
) -> PeriodChange | None:
    if min(message.length_before, message.length_after) < 0:
        violations.add(path, "must not have a negative length")
    start_date = date_from_proto(message.start_date, f"{path}.start_date", violations)
    reach = _reach(message, "reach", path, violations)
    if message.qualified_after and not message.HasField("reach"):
        violations.add(f"{path}.reach", "is required where the period has qualified")
    if start_date is None:
        return None
    return PeriodChange(
        start_date=start_date,
        length_before=message.length_before,
        length_after=message.length_after,
        qualified_before=message.qualified_before,
        qualified_after=message.qualified_after,
        reach=reach,
        granted_before=_reach(message, "granted_before", path, violations),
        granted_after=_reach(message, "granted_after", path, violations),
    )


def _reach(
    message: streak_pb2.PeriodChange,
    field: Literal["reach", "granted_before", "granted_after"],
    path: str,
    violations: Violations,
) -> Instant | None:
    if not message.HasField(field):
        return None
    return _instant(getattr(message, field), "occur_time", f"{path}.{field}", violations)


def _achievement_changes(
    messages: Sequence[achievement_pb2.AchievementChange], own: Instant, path: str, violations: Violations
) -> tuple[AchievementChange, ...]:
    changes = []
    for index, message in enumerate(messages):
        where = f"{path}[{index}]"
        check_key(message.achievement, f"{where}.achievement", violations)
        if message.kind not in _KINDS:
            violations.add(f"{where}.kind", "must be COMPLETED or REVOKED")
        completion_id = uuid_field(message.completion_id, f"{where}.completion_id", violations)
        if message.unrewarded:
            continue
        if completion_id is not None:
            completed = message.kind == achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED
            owner = _instant(message, "complete_time", where, violations) if message.entry_id else own
            cause_id = optional_uuid_field(message.cause_entry_id, f"{where}.cause_entry_id", violations)
            if owner is not None:
                changes.append(
                    AchievementChange(message.achievement, completion_id, completed, owner, cause_id)
                )
    return tuple(changes)


def _completion_causes(
    messages: Sequence[achievement_pb2.CompletionCause], path: str, violations: Violations
) -> tuple[CompletionCause, ...]:
    causes = []
    for index, message in enumerate(messages):
        completion_id = uuid_field(message.completion_id, f"{path}[{index}].completion_id", violations)
        cause_id = uuid_field(message.cause_entry_id, f"{path}[{index}].cause_entry_id", violations)
        if completion_id is not None and cause_id is not None:
            causes.append(CompletionCause(completion_id, cause_id))
    return tuple(causes)


def _instant(
    message: achievement_pb2.AchievementChange | streak_pb2.Reach,
    time_field: str,
    path: str,
    violations: Violations,
) -> Instant | None:
    """The entry that something belongs to."""
    entry_id = uuid_field(message.entry_id, f"{path}.entry_id", violations)
    occur_time = instant_field(message, time_field, path, violations)
    day = date_from_proto(message.local_date, f"{path}.local_date", violations)
    if entry_id is None or occur_time is None or day is None:
        return None
    return Instant(entry_id, occur_time, day)


# What changed


def effects(user_id: str, changes: Sequence[Change]) -> Effects:
    """What an entry, or its undoing, did to a user's points."""
    message = Effects()
    tell(message, user_id, changes)
    return message


def tell(message: Effects, user_id: str, changes: Sequence[Change]) -> None:
    """The same in place: a message that is put into another one is copied."""
    for change in changes:
        _tell_change(message.points.add(), user_id, change)


def refusal(refusal: Refusal) -> LaurelError:
    """The error of an entry that is refused (RULES 5.4, 5.7)."""
    if isinstance(refusal, NotGiven):
        if not refusal.archived:
            return POINTS_SYSTEM.unknown(refusal.points_system)
        return FailedPrecondition(
            f"the points system {refusal.points_system!r} is archived",
            reason="POINTS_SYSTEM_ARCHIVED",
            metadata={"points_system": refusal.points_system},
            domain=DOMAIN,
        )
    if isinstance(refusal, NoRoom):
        return FailedPrecondition(
            "who is to get the points has no room for them",
            reason="NO_ROOM_FOR_POINTS",
            metadata={
                "points_system": refusal.points_system,
                "balance": str(refusal.balance),
                "amount": str(refusal.amount),
                "max_balance": str(refusal.max_balance),
            },
            domain=DOMAIN,
        )
    if isinstance(refusal, HoldEnded | HoldTooSmall | TooManyHolds):
        return _hold_refusal(refusal)
    return FailedPrecondition(
        "the balance does not cover the deduction",
        reason="INSUFFICIENT_POINTS",
        metadata={
            "points_system": refusal.points_system,
            "trigger": refusal.trigger,
            "balance": str(refusal.balance),
            "required": str(refusal.required),
            "min_balance": str(refusal.min_balance),
            **({"held": str(refusal.held)} if refusal.held else {}),
        },
        domain=DOMAIN,
    )


def _hold_refusal(refusal: HoldEnded | HoldTooSmall | TooManyHolds) -> LaurelError:
    match refusal:
        case HoldEnded():
            return FailedPrecondition(
                "nothing is held under this name",
                reason="HOLD_ENDED",
                metadata={"hold_entry_id": str(refusal.hold_id)},
                domain=DOMAIN,
            )
        case HoldTooSmall():
            return FailedPrecondition(
                "more is to be captured than is held",
                reason="HOLD_TOO_SMALL",
                metadata={
                    "hold_entry_id": str(refusal.hold_id),
                    "held": str(refusal.held),
                    "amount": str(refusal.amount),
                },
                domain=DOMAIN,
            )
        case TooManyHolds():
            return FailedPrecondition(
                f"at most {MAX_HOLDS} holds of a user's points in a system at once",
                reason="TOO_MANY_HOLDS",
                metadata={"points_system": refusal.points_system},
                domain=DOMAIN,
            )


def _tell_change(message: points_pb2.PointsChange, user_id: str, change: Change) -> None:
    before, after = change.before, change.after
    message.user_id = user_id
    message.points_system = change.points_system
    message.version = after.version
    message.added = change.added
    message.balance_before = before.balance
    message.balance = after.balance
    message.lifetime = after.lifetime
    message.level_before = before.level
    message.level = after.level
    for award in change.awards:
        _tell_award(message.awards.add(), award)
    if after.reach_time is not None:
        set_timestamp(message.reach_time, after.reach_time)


# Reads


def award_to_proto(award: Award) -> points_pb2.Award:
    """A row of the ledger."""
    message = points_pb2.Award()
    _tell_award(message, award)
    return message


def _tell_award(message: points_pb2.Award, award: Award) -> None:
    key, product = award.key, award.product
    message.award_id = str(award.award_id)
    message.points_system = key.points_system
    message.amount = award.amount
    message.base_amount = award.base_amount
    message.clipped_amount = award.clipped_amount
    message.trigger = key.trigger
    message.entry_id = str(award.entry_id)
    message.cause_entry_id = str(award.cause_entry_id)
    set_timestamp(message.occur_time, award.occur_time)
    if award.reversed_award_id:
        message.reversed_award_id = str(award.reversed_award_id)
    set_date(message.local_date, award.local_date)
    message.multiplier = product.multiplier
    if product.boosts:
        message.boosts.extend(product.boosts)
    if product.level:
        message.multiplying_level = product.level
    if award.expire_date is not None:
        set_date(message.expire_date, award.expire_date)


def user_points_to_proto(configuration: Configuration, state: UserState, key: str) -> points_pb2.UserPoints:
    """A user's points in one system, with the levels as they are defined now."""
    system = configuration.catalogue.system(key)
    account = state.points.accounts.get(key, EMPTY_ACCOUNT)
    message = points_pb2.UserPoints(points_system=key, balance=account.balance, lifetime=account.lifetime)
    for hold in state.holds.get(key, ()):
        held = message.holds.add(entry_id=str(hold.hold_id), amount=hold.amount)
        held.expire_time.CopyFrom(to_timestamp(hold.expire_time))
        message.held += hold.amount
    levels = _levels(configuration, key)
    if level := system.level_at(account.balance, account.lifetime):
        message.level.CopyFrom(levels[level.key])
    if level := system.level_after(account.balance, account.lifetime):
        message.next_level.CopyFrom(levels[level.key])
    if time := next_time(configuration.catalogue, state, system):
        message.next_time.CopyFrom(to_timestamp(time))
    if time := full_time(configuration.catalogue, state, system):
        message.full_time.CopyFrom(to_timestamp(time))
    return message


def distribution_to_proto(
    configuration: Configuration, system: PointsSystem, user_counts: Sequence[int]
) -> pb.GetLevelDistributionResponse:
    """Users by level; the first count is of those below the first level."""
    levels = _levels(configuration, system.key)
    response = pb.GetLevelDistributionResponse()
    response.levels.add(user_count=user_counts[0])
    for level, user_count in zip(system.levels, user_counts[1:], strict=True):
        response.levels.add(level=levels[level.key], user_count=user_count)
    return response


def _levels(configuration: Configuration, key: str) -> dict[str, points_pb2.Level]:
    message = configuration.messages.get(key)
    return {level.key: level for level in message.levels} if message else {}
