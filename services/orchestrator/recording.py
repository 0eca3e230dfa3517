"""What recording a group of entries does to the ledger, the totals and the users. Pure.

Entries of one group see one another: the second event of a user counts from where the first one left off.
Each entry stands alone: one that is refused leaves its neighbours as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.orchestrator.domain import (
    Aggregation,
    Fact,
    Metric,
    Origin,
    TooManyAttributes,
    Total,
    TotalOutOfRange,
    User,
    UserPatch,
    add_fact,
    event_zone,
    merge_user,
)
from shared.errors import FieldViolation, InvalidArgument, LaurelError, NotFound, OutOfRange


class MetricEvent(Struct, frozen=True):
    """The metric part of an incoming entry."""

    metric: str
    value_micros: int
    attributes: Mapping[str, str]


class Incoming(Struct, frozen=True):
    """An entry that asks to be recorded, checked as far as it can be without looking at anything stored."""

    entry_id: UUID
    """It begins with the occur_time: what is stored by it is stored in that order, and of two events at one instant
    their keys decide which comes first, not their arrival (RULES 2.5).
    """
    operation: str
    """The name of its operation."""
    patch: UserPatch
    occur_time: datetime
    now: datetime
    digest: bytes
    request: bytes
    event: MetricEvent | None = None
    time_zone: str = ""
    """For entries that say nothing about the user: the zone in which it happened."""
    key_id: UUID | None = None
    """By which it is known again when it is sent again (RULES 2.4); None where it has no key of its own."""
    counted: bool = False
    """It makes a user exist."""
    origin: Origin = Origin.LIVE
    actor: str = ""
    """Who asked for it, where the caller said so."""
    reason: str = ""
    other_user_ids: tuple[str, ...] = ()
    """Whom it concerns besides the acting user."""

    @property
    def identity(self) -> UUID:
        """The same for all that ask for the same."""
        return self.key_id or self.entry_id

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Everybody whom it concerns."""
        return (self.patch.user_id, *self.other_user_ids)


SEQUENCES_PER_WRITE = 1_024
"""A user's sequence begins anew with every write of the user, above all of the write before; a group is smaller."""


class Recorded(Struct, frozen=True):
    """An entry with everything that its recording decided."""

    incoming: Incoming
    user: User
    time_zone: str
    before: Total | None = None
    after: Total | None = None
    unique_value: str | None = None
    others: tuple[User, ...] = ()
    """Who else it concerns."""
    user_sequence: int = 0
    """Grows with the user's entries, in the order in which they are recorded."""
    user_changed: bool = False
    """The entry created the user or changed it."""


class Loaded(Struct, frozen=True):
    """What is stored about the users and metrics of a group."""

    users: Mapping[str, User]
    totals: Mapping[tuple[str, str], Total]
    seen_values: frozenset[tuple[str, str, str]] = frozenset()
    guards: Mapping[str, int] = {}
    """How often each user has been written."""


@dataclass(slots=True)
class Outcome:
    """What a group's recording comes to. `entries` has one item for each incoming entry, in order."""

    entries: list[Recorded | LaurelError] = field(default_factory=list)
    users: dict[str, User] = field(default_factory=dict)
    totals: dict[tuple[str, str], Total] = field(default_factory=dict)
    new_values: set[tuple[str, str, str]] = field(default_factory=set)
    sequences: dict[str, int] = field(default_factory=dict)


def first_sequence(guard: int) -> int:
    """The sequence of the first entry that goes with a write of a user who has been written so often before."""
    return (guard + 1) * SEQUENCES_PER_WRITE


def record(
    group: Sequence[Incoming], loaded: Loaded, metrics: Mapping[str, Metric], default_zone: str
) -> Outcome:
    """Decides a group, one entry after the other."""
    outcome = Outcome()
    for incoming in group:
        try:
            outcome.entries.append(_record_one(incoming, loaded, metrics, default_zone, outcome))
        except LaurelError as refusal:
            outcome.entries.append(refusal)
    return outcome


def unique_value(event: MetricEvent, metric: Metric | None) -> str | None:
    """The value that a UNIQUE metric counts in this event; None where there is none to count."""
    if metric is None or metric.aggregation is not Aggregation.UNIQUE:
        return None
    return event.attributes.get(metric.unique_attribute)


def _record_one(
    incoming: Incoming, loaded: Loaded, metrics: Mapping[str, Metric], default_zone: str, outcome: Outcome
) -> Recorded:
    user_id = incoming.patch.user_id
    known = outcome.users.get(user_id) or loaded.users.get(user_id)
    try:
        user = merge_user(known, incoming.patch, incoming.occur_time, incoming.now)
    except TooManyAttributes as error:
        raise _invalid("user.attributes", str(error)) from None
    zone = incoming.time_zone or event_zone(incoming.patch, user, default_zone)
    others = tuple(_other(user_id, loaded, outcome) for user_id in incoming.other_user_ids)
    recorded = Recorded(
        incoming,
        user,
        zone,
        others=others,
        user_sequence=outcome.sequences.get(user_id, first_sequence(loaded.guards.get(user_id, 0))),
        user_changed=known is None or user.version != known.version,
    )
    if incoming.event is not None:
        recorded = _count(recorded, incoming.event, loaded, metrics, outcome)
    outcome.users[user_id] = user
    outcome.sequences[user_id] = recorded.user_sequence + 1
    return recorded


def _other(user_id: str, loaded: Loaded, outcome: Outcome) -> User:
    known = outcome.users.get(user_id) or loaded.users.get(user_id)
    if known is None:
        raise NotFound("there is no such user", reason="USER_NOT_FOUND", metadata={"user_id": user_id})
    return known


def _count(
    recorded: Recorded,
    event: MetricEvent,
    loaded: Loaded,
    metrics: Mapping[str, Metric],
    outcome: Outcome,
) -> Recorded:
    """Adds the event to its total."""
    metric = metrics.get(event.metric)
    if metric is None:
        raise NotFound(
            f"no metric has the key {event.metric!r}",
            reason="METRIC_NOT_FOUND",
            metadata={"metric": event.metric},
            violations=(FieldViolation("metric", "names no metric"),),
        )
    user_id = recorded.user.user_id
    key = (user_id, event.metric)
    before = outcome.totals.get(key) or loaded.totals.get(key) or Total()
    value = unique_value(event, metric)
    if metric.aggregation is Aggregation.UNIQUE and not value:
        raise _invalid("attributes", f"must have {metric.unique_attribute!r}, whose values the metric counts")
    counted = (user_id, event.metric, value or "")
    seen_before = value is not None and (counted in loaded.seen_values or counted in outcome.new_values)
    incoming = recorded.incoming
    fact = Fact(incoming.entry_id, event.value_micros, incoming.occur_time, before.version + 1, value)
    try:
        after = add_fact(before, metric.aggregation, fact, seen_before=seen_before)
    except TotalOutOfRange as error:
        raise OutOfRange(
            str(error),
            reason="TOTAL_OUT_OF_RANGE",
            metadata={"metric": event.metric},
            violations=(FieldViolation("value", str(error)),),
        ) from None
    outcome.totals[key] = after
    if value is not None and not seen_before:
        outcome.new_values.add(counted)
    return replace(recorded, before=before, after=after, unique_value=value)


def _invalid(field_path: str, description: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field_path}: {description}",
        reason="INVALID_FIELDS",
        violations=(FieldViolation(field_path, description),),
    )
