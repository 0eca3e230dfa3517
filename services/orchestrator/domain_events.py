"""What is told of an entry: its domain events (RULES 8). Pure.

A row of the feed has an entry and what it changed; the events themselves are made when they are read. They are a
function of the row alone, and so are their ids.
"""

from collections.abc import Container, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final

from google.protobuf.message import Message
from laurel.achievement.v1 import achievement_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.ledger.v1 import effects_pb2, entry_pb2
from laurel.orchestrator.v1 import domain_event_pb2, user_pb2
from laurel.participant.v1 import participant_service_pb2
from laurel.points.v1 import points_pb2
from laurel.streak.v1 import streak_pb2
from msgspec import Struct

from shared.decimals import from_micros
from shared.ids import NamesBeside
from shared.rpc.wire import Part
from shared.tenants import tenant_of


class Type(StrEnum):
    """The types of domain events, as followers know them."""

    # Looked up for every event: an enumeration's own hash is written in Python.
    __hash__ = str.__hash__

    METRIC_RECORDED = "metric.recorded"
    EVENT_VOIDED = "event.voided"
    USER_CREATED = "user.created"
    USER_UPDATED = "user.updated"
    USER_ERASED = "user.erased"
    USER_MERGED = "user.merged"
    STREAK_STARTED = "streak.started"
    STREAK_EXTENDED = "streak.extended"
    STREAK_LOST = "streak.lost"
    STREAK_FROZEN = "streak.frozen"
    STREAK_FREEZE_EARNED = "streak.freeze_earned"
    STREAK_RESTORED = "streak.restored"
    STREAK_RESET = "streak.reset"
    STREAK_PAUSED = "streak.paused"
    ACHIEVEMENT_COMPLETED = "achievement.completed"
    ACHIEVEMENT_REVOKED = "achievement.revoked"
    POINTS_CHANGED = "points.changed"
    POINTS_LEVEL_CHANGED = "points.level_changed"
    POINTS_EXPIRED = "points.expired"
    POINTS_BOOST_STARTED = "points.boost_started"
    POINTS_BOOST_FINISHED = "points.boost_finished"
    LEADERBOARD_CHANGED = "leaderboard.changed"
    LEADERBOARD_RANK_CHANGED = "leaderboard.rank_changed"
    LEADERBOARD_PROMOTED = "leaderboard.promoted"
    LEADERBOARD_DEMOTED = "leaderboard.demoted"
    LEADERBOARD_RUN_STARTED = "leaderboard.run_started"
    LEADERBOARD_RUN_FINISHED = "leaderboard.run_finished"


EVERY_TYPE: Final = frozenset(Type)


def _about(thing: str) -> frozenset[Type]:
    return frozenset(type_ for type_ in Type if type_.startswith(f"{thing}."))


_OF_STREAKS: Final = _about("streak")
_OF_ACHIEVEMENTS: Final = _about("achievement")
_OF_POINTS: Final = _about("points")
_OF_STANDINGS: Final = _about("leaderboard")


class Told(Struct, frozen=True):
    """What is stored of an entry that tells something."""

    entry: bytes
    """laurel.ledger.v1.Entry; of an undoing: the correction."""
    effects: bytes
    """laurel.ledger.v1.Effects."""


class ToldEvent(Struct, frozen=True):
    """One event. Nobody here reads on in it: it leaves as the bytes that followers get."""

    type: Type
    user_id: str
    """Whom it is about; empty: nobody in particular."""
    body: bytes
    """laurel.orchestrator.v1.DomainEvent."""


_Event: Final = domain_event_pb2.DomainEvent
_ID: Final = Part(_Event, "id")
_TYPES: Final[Mapping[Type, bytes]] = {
    type_: Part(_Event, "type").holding(type_.value.encode()) for type_ in Type
}
"""What says its type in an event."""
_DATA: Final[Mapping[type[Message], Part]] = {
    streak_pb2.StreakEffect: Part(_Event, "streak"),
    achievement_pb2.AchievementChange: Part(_Event, "achievement"),
    points_pb2.PointsChange: Part(_Event, "points"),
    leaderboard_pb2.Standing: Part(_Event, "leaderboard"),
}
"""Where a part of the effects stands in an event."""

_SILENT: Final = (entry_pb2.ENTRY_ORIGIN_IMPORT, entry_pb2.ENTRY_ORIGIN_BACKFILL)

_BY_HAND: Final = {
    "streak_pause": Type.STREAK_PAUSED,
    "streak_reset": Type.STREAK_RESET,
    "streak_restore": Type.STREAK_RESTORED,
}
"""What is told of what is done to a streak by hand, instead of what follows from it."""

_EXPIRED: Final = "(expired)"
"""In place of the trigger of an award: points expired."""

_Finding = tuple[Type, Message | None]
"""A type, and the part of the effects that it tells; None: it tells of the entry."""


def told_of(entry: entry_pb2.Entry, body: bytes, effects: bytes) -> Told | None:
    """What is stored of an entry that is completed, or of the correction of one that is undone.

    `body` is the entry, serialized.

    None for history, of which nothing is told (RULES 8.3). That it is undone by a call is no history.
    """
    if entry.origin in _SILENT and not entry.correction.voided:
        return None
    return Told(body, effects)


def told_of_finding(change: participant_service_pb2.Change) -> Told | None:
    """What is stored of something that a service found and nobody acts on: it stands in no ledger. None for what is to
    be an entry.
    """
    finding = change.WhichOneof("finding")
    if finding not in ("board_run", "board_ranks", "boost_change"):
        return None
    entry = entry_pb2.Entry(
        entry_id=change.entry_id,
        occur_time=change.occur_time,
        origin=change.origin or entry_pb2.ENTRY_ORIGIN_MAINTENANCE,
        board_run=change.board_run if finding == "board_run" else None,
        boost_change=change.boost_change if finding == "boost_change" else None,
    )
    effects = effects_pb2.Effects(leaderboards=change.board_ranks.standings)
    return Told(entry.SerializeToString(deterministic=True), effects.SerializeToString(deterministic=True))


def events_of(
    told: Told, wanted: AbstractSet[Type] = EVERY_TYPE, users: Container[str] | None = None
) -> list[ToldEvent]:
    """The events that a row of the feed tells, in the order of cause and effect.

    Those of the types that are wanted, and about these users; None: about all.
    """
    entry = entry_pb2.Entry.FromString(told.entry)
    effects = effects_pb2.Effects.FromString(told.effects)
    own = entry.user.user_id
    names = None
    events = []
    seen: dict[Type, int] = {}
    beginnings: dict[str, bytes] = {}
    for type_, change in _findings(entry, effects, wanted):
        number = seen[type_] = seen.get(type_, -1) + 1
        if type_ not in wanted:
            continue
        about = getattr(change, "user_id", "") or own
        if users is not None and (about or entry.board_run.leaderboard) not in users:
            continue
        beginning = beginnings.get(about)
        if beginning is None:
            beginning = beginnings[about] = _beginning(entry, about)
        if names is None:
            names = NamesBeside(entry.entry_id)
        name = _ID.holding(names.text(type_, str(number)).encode())
        body = b"".join((name, _TYPES[type_], beginning, _data(entry, effects, type_, change)))
        events.append(ToldEvent(type_, about, body))
    return events


def told_of_refusal(applied: effects_pb2.Effects, undone: effects_pb2.Effects) -> effects_pb2.Effects:
    """What is to be told when an entry has been refused and undone: of the entry itself nobody had been told.

    Others may have built on it before it was undone, and what they told does not hold any more. What came and went with
    the entry is left out; what came and stayed, because others would have brought it about too, is told now.
    """
    came = {change.completion_id for change in applied.achievements}
    went = {change.completion_id for change in undone.achievements}
    versions = {(effect.user_id, effect.change.streak): effect.change.version for effect in applied.streaks}
    return effects_pb2.Effects(
        # Of two successive changes the second has taken back the first.
        streaks=[
            effect
            for effect in undone.streaks
            if versions.get((effect.user_id, effect.change.streak)) != effect.change.version - 1
        ],
        achievements=[
            *(change for change in applied.achievements if change.completion_id not in went),
            *(change for change in undone.achievements if change.completion_id not in came),
        ],
        points=undone.points,
        leaderboards=undone.leaderboards,
    )


def _findings(
    entry: entry_pb2.Entry, effects: effects_pb2.Effects, wanted: AbstractSet[Type]
) -> Iterator[_Finding]:
    """All of them, but for effects that tell nothing that is wanted."""
    if entry.HasField("user_erasure"):
        yield Type.USER_ERASED, None
        return
    if entry.HasField("user_merge"):
        yield Type.USER_MERGED, None
        return
    if entry.HasField("metric_event"):
        yield Type.METRIC_RECORDED, None
    if entry.correction.voided:
        yield Type.EVENT_VOIDED, None
    if entry.HasField("league_move"):
        yield Type.LEADERBOARD_PROMOTED if entry.league_move.promoted else Type.LEADERBOARD_DEMOTED, None
    if entry.HasField("board_run"):
        finished = entry.board_run.finished
        yield Type.LEADERBOARD_RUN_FINISHED if finished else Type.LEADERBOARD_RUN_STARTED, None
    if entry.HasField("boost_change"):
        finished = entry.boost_change.finished
        yield Type.POINTS_BOOST_FINISHED if finished else Type.POINTS_BOOST_STARTED, None
    if entry.user.changed:
        yield Type.USER_CREATED if entry.user.version == 1 else Type.USER_UPDATED, None
    if not _OF_STREAKS.isdisjoint(wanted):
        for streak in effects.streaks:
            yield from _of_streak(entry, streak)
    if not _OF_ACHIEVEMENTS.isdisjoint(wanted):
        for achievement in effects.achievements:
            yield from _of_achievement(achievement)
    if not _OF_POINTS.isdisjoint(wanted):
        for points in effects.points:
            yield from _of_points(points)
    if not _OF_STANDINGS.isdisjoint(wanted):
        for standing in effects.leaderboards:
            yield from _of_standing(standing)


def _of_streak(entry: entry_pb2.Entry, effect: streak_pb2.StreakEffect) -> Iterator[_Finding]:
    statuses = {period.status for period in effect.periods}
    if effect.earned_freeze_count + effect.given_freeze_count > 0:
        yield Type.STREAK_FREEZE_EARNED, effect
    if streak_pb2.PERIOD_STATUS_FROZEN in statuses:
        yield Type.STREAK_FROZEN, effect
    name = entry.WhichOneof("operation") or ""
    if name in _BY_HAND and getattr(entry, name).streak == effect.state.streak:
        yield _BY_HAND[name], effect
        return
    if not effect.HasField("change"):
        return
    before, after = effect.change.length_before, effect.change.length
    if after - before > effect.extended and streak_pb2.PERIOD_STATUS_EXCUSED in statuses:
        # An amnesty has given back what was lost: found by maintenance, or with an event that came first.
        yield Type.STREAK_RESTORED, effect
        if effect.extended:
            yield Type.STREAK_EXTENDED, effect
        return
    ended = before > 0 and (after == 0 or streak_pb2.PERIOD_STATUS_BROKEN in statuses)
    if ended:
        yield Type.STREAK_LOST, effect
    if after > 0 and (ended or before == 0):
        yield Type.STREAK_STARTED, effect
    elif after > before:
        yield Type.STREAK_EXTENDED, effect


def _of_achievement(change: achievement_pb2.AchievementChange) -> Iterator[_Finding]:
    if change.kind == achievement_pb2.ACHIEVEMENT_CHANGE_KIND_COMPLETED:
        yield Type.ACHIEVEMENT_COMPLETED, change
    elif change.kind == achievement_pb2.ACHIEVEMENT_CHANGE_KIND_REVOKED:
        yield Type.ACHIEVEMENT_REVOKED, change


def _of_points(change: points_pb2.PointsChange) -> Iterator[_Finding]:
    if change.balance != change.balance_before:
        yield Type.POINTS_CHANGED, change
    if change.level != change.level_before:
        yield Type.POINTS_LEVEL_CHANGED, change
    if any(award.trigger == _EXPIRED and award.amount < 0 for award in change.awards):
        yield Type.POINTS_EXPIRED, change


def _of_standing(standing: leaderboard_pb2.Standing) -> Iterator[_Finding]:
    if standing.run_finalized or standing.told_at_interval:
        return
    if not standing.passed:
        yield Type.LEADERBOARD_CHANGED, standing
    if standing.rank != standing.previous_rank:
        yield Type.LEADERBOARD_RANK_CHANGED, standing


def _beginning(entry: entry_pb2.Entry, user_id: str) -> bytes:
    """What the events of an entry about one user have in common."""
    is_own = user_id == entry.user.user_id
    return _Event(
        time=entry.now if entry.HasField("correction") else entry.occur_time,
        user_id=user_id,
        user_sequence=entry.user_sequence if is_own else 0,
        entry_id=entry.entry_id,
        user_attributes=entry.user.attributes if is_own else None,
        control=entry.user.control and is_own,
        tenant=tenant_of(user_id or entry.board_run.leaderboard),
    ).SerializeToString()


def _data(entry: entry_pb2.Entry, effects: effects_pb2.Effects, type_: Type, change: Message | None) -> bytes:
    if change is not None:
        return _DATA[type(change)].holding(change.SerializeToString())
    return _told_of_entry(type_, entry, effects).SerializeToString()


def _told_of_entry(
    type_: Type, entry: entry_pb2.Entry, effects: effects_pb2.Effects
) -> domain_event_pb2.DomainEvent:
    match type_:
        case Type.METRIC_RECORDED:
            return _Event(metric=_metric(entry.metric_event))
        case Type.EVENT_VOIDED:
            return _Event(voided=_voided(entry, effects))
        case Type.LEADERBOARD_PROMOTED | Type.LEADERBOARD_DEMOTED:
            return _Event(league_move=entry.league_move)
        case Type.LEADERBOARD_RUN_STARTED | Type.LEADERBOARD_RUN_FINISHED:
            return _Event(board_run=entry.board_run)
        case Type.POINTS_BOOST_STARTED | Type.POINTS_BOOST_FINISHED:
            return _Event(boost=entry.boost_change)
        case Type.USER_MERGED:
            return _Event(merge=entry.user_merge)
        case _:
            return _Event(user=_user(entry.user))


def _metric(fact: entry_pb2.MetricFact) -> domain_event_pb2.RecordedMetric:
    return domain_event_pb2.RecordedMetric(
        metric=fact.metric,
        value=from_micros(fact.value_micros),
        total_before=from_micros(fact.total_before_micros),
        total_after=from_micros(fact.total_after_micros),
        attributes=fact.attributes,
    )


def _voided(entry: entry_pb2.Entry, effects: effects_pb2.Effects) -> domain_event_pb2.VoidedEntry:
    correction = entry.correction
    return domain_event_pb2.VoidedEntry(
        entry_id=correction.corrected_entry_id,
        occur_time=entry.occur_time,
        metric=correction.metric.metric,
        total_after=from_micros(correction.metric.total_after_micros),
        effects=effects,
    )


def _user(snapshot: entry_pb2.UserSnapshot) -> user_pb2.StoredUser:
    return user_pb2.StoredUser(
        user_id=snapshot.user_id,
        name=snapshot.name,
        time_zone=snapshot.time_zone,
        attributes=snapshot.newest_attributes if snapshot.has_newest_attributes else snapshot.attributes,
        create_time=snapshot.create_time,
        version=snapshot.version,
        control=snapshot.control,
    )
