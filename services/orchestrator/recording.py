"""What recording a group of entries does to the ledger, the totals and the users. Pure.

Entries of one group see one another: the second event of a user counts from where the first one left off.
Each entry stands alone: one that is refused leaves its neighbours as they are.
"""

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.orchestrator.contributions import Contribution, contribution_of
from services.orchestrator.domain import (
    MICROS,
    Aggregation,
    Fact,
    InTime,
    Metric,
    Origin,
    Standing,
    TooManyAttributes,
    Total,
    TotalOutOfRange,
    User,
    add_fact,
    event_zone,
    in_time,
    is_newest,
    merge_user,
    said_anew,
    standing_of,
)
from services.orchestrator.said import (
    Reading,
    Said,
    Statement,
    Unknown,
    UserPatch,
    attributes_as_of,
    micros_of,
    pruned,
    rebuild,
    to_read,
)
from shared.errors import (
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    LaurelError,
    NotFound,
    OutOfRange,
    PermissionDenied,
)


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
    by_user: bool = False
    """Asked with a key of one user: its metric has to allow that."""
    origin: Origin = Origin.LIVE
    actor: str = ""
    """Who asked for it, where the caller said so."""
    reason: str = ""
    other_user_ids: tuple[str, ...] = ()
    """Whom it concerns besides the acting user."""
    merges: bool = False
    """From now on the acting user's id leads to the other."""
    moved: bool = False
    """It was recorded before, for a user who is merged. It counts also for who is being deleted meanwhile: the deletion
    waits for the merge.
    """

    @property
    def identity(self) -> UUID:
        """The same for all that ask for the same."""
        return self.key_id or self.entry_id

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Everybody whom it concerns."""
        return (self.patch.user_id, *self.other_user_ids)


MERGED = "USER_MERGED"
"""Why nothing is recorded for a user who was merged; `into_user_id` of the error says whom the id leads to."""

SEQUENCES_PER_WRITE = 1_024
"""A user's sequence begins anew with every write of the user, above all of the write before; a group is smaller."""


class Recorded(Struct, frozen=True):
    """An entry with everything that its recording decided."""

    incoming: Incoming
    user: User
    time_zone: str
    attributes: Mapping[str, str]
    """The user's, as of the entry."""
    newest_attributes: Mapping[str, str] | None = None
    """Those that hold now; None where they are the same."""
    before: Total | None = None
    after: Total | None = None
    unique_value: str | None = None
    contribution: Contribution | None = None
    """What the event contributes; None for an event of a sum, which contributes its value."""
    others: tuple[User, ...] = ()
    """Who else it concerns."""
    user_sequence: int = 0
    """Grows with the user's entries, in the order in which they are recorded."""
    user_changed: bool = False
    """The entry created the user or changed it."""


MetricKey = tuple[str, str]
"""A user's total: user and metric."""
ValueKey = tuple[str, str, str]
"""A value of a UNIQUE metric: user, metric, value."""


class Spoken(Struct, frozen=True):
    """What was said about a user, read from the ledger."""

    read: Reading
    statements: Sequence[Statement]


class Loaded(Struct, frozen=True):
    """What is stored about the users and metrics of a group."""

    users: Mapping[str, User]
    totals: Mapping[MetricKey, Total]
    firsts: Mapping[ValueKey, InTime] = {}
    """Of values that are counted, the first event in the order of times."""
    guards: Mapping[str, int] = {}
    """How often each user has been written."""
    spoken: Mapping[str, Spoken] = {}
    """By user, where a first attempt has wanted it."""
    facts: Mapping[MetricKey, Sequence[Fact]] = {}
    """Live events in the order of their times, from a time on, where a first attempt has wanted them; before that those
    that stand for all.
    """
    life: int = 0
    """Of who is new."""


class Wanted(Struct, frozen=True):
    """What has to be read from the ledger before a group can be decided: something comes late."""

    statements: Mapping[str, Reading]
    facts: Mapping[MetricKey, datetime]
    """From which time on."""

    def __bool__(self) -> bool:
        return bool(self.statements or self.facts)


@dataclass(slots=True)
class Outcome:
    """What a group's recording comes to. `entries` has one item for each incoming entry, in order.

    Where something is wanted, it is to be decided again with that.
    """

    entries: list[Recorded | LaurelError] = field(default_factory=list)
    users: dict[str, User] = field(default_factory=dict)
    totals: dict[MetricKey, Total] = field(default_factory=dict)
    new_firsts: dict[ValueKey, InTime] = field(default_factory=dict)
    """Of the values whose first event in the order of times is one of these."""
    sequences: dict[str, int] = field(default_factory=dict)
    wanted: Wanted = field(default_factory=lambda: Wanted({}, {}))


def first_sequence(guard: int) -> int:
    """The sequence of the first entry that goes with a write of a user who has been written so often before."""
    return (guard + 1) * SEQUENCES_PER_WRITE


def record(
    group: Sequence[Incoming],
    loaded: Loaded,
    metrics: Mapping[str, Metric],
    default_zone: str,
    control_ratio: float = 0,
) -> Outcome:
    """Decides a group, one entry after the other. Of new users so large a part is put in the control group."""
    recording = _Recording(group, loaded, metrics, default_zone, control_ratio)
    for incoming in group:
        recording.take(incoming)
    return recording.outcome()


def _unknown(user_id: str) -> NotFound:
    return NotFound("there is no such user", reason="USER_NOT_FOUND", metadata={"user_id": user_id})


def _check_open(user: User, incoming: Incoming) -> None:
    """Raises `FailedPrecondition` for a user for whom nothing is recorded."""
    if user.standing is Standing.ERASING and not incoming.moved:
        raise FailedPrecondition("the user is being deleted", reason="USER_ERASING")
    if user.merged_into:
        raise FailedPrecondition(
            f"the user was merged into {user.merged_into!r}",
            reason=MERGED,
            metadata={"user_id": user.user_id, "into_user_id": user.merged_into},
        )


def unique_value(event: MetricEvent, metric: Metric | None) -> str | None:
    """The value that a UNIQUE metric counts in this event; None where there is none to count."""
    if metric is None or metric.aggregation is not Aggregation.UNIQUE:
        return None
    return event.attributes.get(metric.unique_attribute)


class _Late(Exception):
    """It comes late, and what it means stands in the ledger, which has not been read for it."""


class _Recording:
    """A group under way."""

    def __init__(
        self,
        group: Sequence[Incoming],
        loaded: Loaded,
        metrics: Mapping[str, Metric],
        default_zone: str,
        control_ratio: float,
    ) -> None:
        self._control_ratio = control_ratio
        self._group = group
        self._loaded = loaded
        self._metrics = metrics
        self._default_zone = default_zone
        self._outcome = Outcome()
        self._spoken: dict[str, list[Statement]] = {}
        """Of users of whom everything is read: with what this group says."""
        self._facts: dict[MetricKey, list[Fact]] = {}
        """The same of events."""
        self._wanted_statements: dict[str, Reading] = {}
        self._wanted_facts: dict[MetricKey, datetime] = {}

    def outcome(self) -> Outcome:
        """What it comes to."""
        outcome = self._outcome
        outcome.wanted = Wanted(self._wanted_statements, self._wanted_facts)
        for user_id, user in outcome.users.items():
            said = pruned(user.said)
            if said is not user.said:
                outcome.users[user_id] = replace(user, said=said)
        return outcome

    def take(self, incoming: Incoming) -> None:
        """Decides one entry. One that is refused leaves everything as it is."""
        try:
            self._outcome.entries.append(self._decided(incoming))
        except LaurelError as refusal:
            self._outcome.entries.append(refusal)
        except _Late:
            pass  # the group is decided again

    def _decided(self, incoming: Incoming) -> Recorded:
        user_id = incoming.patch.user_id
        outcome, loaded = self._outcome, self._loaded
        known = self._user(user_id)
        if known is not None:
            _check_open(known, incoming)
        elif incoming.merges:
            raise _unknown(user_id)
        try:
            user, attributes, newest = self._told(known, incoming)
        except TooManyAttributes as error:
            raise _invalid("user.attributes", str(error)) from None
        if known is None and incoming.origin is Origin.LIVE:
            user = replace(user, standing=standing_of(user_id, self._control_ratio))
        others = tuple(self._other(other_id, user, incoming) for other_id in incoming.other_user_ids)
        recorded = Recorded(
            incoming,
            user,
            incoming.time_zone or event_zone(incoming.patch, user, self._default_zone),
            attributes,
            newest,
            others=others,
            user_sequence=outcome.sequences.get(user_id, first_sequence(loaded.guards.get(user_id, 0))),
            user_changed=known is None or user.version != known.version,
        )
        if incoming.event is not None:
            recorded = self._counted(recorded, incoming.event)
        outcome.users[user_id] = user
        if incoming.merges:
            [other] = others
            # Both are written, so that neither can be merged or deleted at the same time.
            outcome.users |= {user_id: replace(user, merged_into=other.user_id), other.user_id: other}
        outcome.sequences[user_id] = recorded.user_sequence + 1
        if user_id in loaded.spoken:
            self._statements(user_id).append((incoming.patch, micros_of(incoming.occur_time)))
        return recorded

    def _user(self, user_id: str) -> User | None:
        return self._outcome.users.get(user_id) or self._loaded.users.get(user_id)

    def _other(self, user_id: str, acting: User, incoming: Incoming) -> User:
        known = self._user(user_id)
        if known is None:
            raise _unknown(user_id)
        _check_open(known, incoming)
        withheld = known.standing is Standing.CONTROL and acting.standing is not Standing.CONTROL
        if withheld and not incoming.merges:
            # Withheld from one of them only, it would be half of what was asked for.
            raise FailedPrecondition(
                "the user is in the control group, from which points are withheld",
                reason="USER_IN_CONTROL_GROUP",
                metadata={"user_id": user_id},
            )
        return known

    def _told(
        self, known: User | None, incoming: Incoming
    ) -> tuple[User, dict[str, str], dict[str, str] | None]:
        """The user after an entry, and the attributes as of it. Raises `_Late`."""
        patch = incoming.patch
        at = micros_of(incoming.occur_time)
        try:
            user = merge_user(known, patch, incoming.occur_time, incoming.now, self._loaded.life)
            return user, *attributes_as_of(user.said, patch, at)
        except Unknown:
            user_id = patch.user_id
            if user_id not in self._loaded.spoken:
                self._want_statements(user_id)
                raise _Late from None
            # It interrupts something, and all that was said since is here.
            assert known is not None
            stored = self._loaded.users.get(user_id)
            said = rebuild(
                stored.said if stored else Said(),
                self._loaded.spoken[user_id].read,
                (*self._statements(user_id), (patch, at)),
            )
            user = said_anew(known, known, said)
            return user, *attributes_as_of(said, patch, at)

    def _statements(self, user_id: str) -> list[Statement]:
        found = self._spoken.get(user_id)
        if found is None:
            found = self._spoken[user_id] = list(self._loaded.spoken[user_id].statements)
        return found

    def _want_statements(self, user_id: str) -> None:
        """From the earliest on that this group may ask for."""
        earliest = min(
            micros_of(incoming.occur_time) for incoming in self._group if incoming.patch.user_id == user_id
        )
        stored = self._loaded.users.get(user_id)
        self._wanted_statements[user_id] = to_read(stored.said if stored else Said(), earliest)

    def _want_facts(self, key: MetricKey) -> None:
        """From the earliest on that this group may ask for."""
        self._wanted_facts[key] = min(
            incoming.occur_time
            for incoming in self._group
            if incoming.event is not None and (incoming.patch.user_id, incoming.event.metric) == key
        )

    def _counted(self, recorded: Recorded, event: MetricEvent) -> Recorded:
        """Adds the event to its total."""
        metric = self._metrics.get(event.metric)
        if metric is None:
            raise NotFound(
                f"no metric has the key {event.metric!r}",
                reason="METRIC_NOT_FOUND",
                metadata={"metric": event.metric},
                violations=(FieldViolation("metric", "names no metric"),),
            )
        outcome, incoming = self._outcome, recorded.incoming
        if incoming.by_user and not metric.user_writable:
            raise PermissionDenied(
                f"events of {event.metric!r} cannot be sent with a key of one user",
                reason="METRIC_NOT_USER_WRITABLE",
                metadata={"metric": event.metric},
                violations=(FieldViolation("metric", "does not allow keys of one user"),),
            )
        key = (recorded.user.user_id, event.metric)
        before = outcome.totals.get(key) or self._loaded.totals.get(key) or Total()
        value = unique_value(event, metric)
        if metric.aggregation is Aggregation.UNIQUE and not value:
            raise _invalid(
                "attributes", f"must have {metric.unique_attribute!r}, whose values the metric counts"
            )
        fact = Fact(incoming.entry_id, event.value_micros, incoming.occur_time, before.version + 1, value)
        first = None if value is None else self._first((*key, value))
        try:
            after = add_fact(before, metric.aggregation, fact, seen_before=first is not None)
        except TotalOutOfRange as error:
            raise OutOfRange(
                str(error),
                reason="TOTAL_OUT_OF_RANGE",
                metadata={"metric": event.metric},
                violations=(FieldViolation("value", str(error)),),
            ) from None
        contribution = None
        if metric.aggregation is not Aggregation.SUM:
            contribution = self._contribution(key, metric.aggregation, fact, before, after, first)
        outcome.totals[key] = after
        if value is not None and (first is None or in_time(fact) < first):
            outcome.new_firsts[*key, value] = in_time(fact)
        return replace(recorded, before=before, after=after, unique_value=value, contribution=contribution)

    def _first(self, key: ValueKey) -> InTime | None:
        return self._outcome.new_firsts.get(key) or self._loaded.firsts.get(key)

    def _contribution(
        self,
        key: MetricKey,
        aggregation: Aggregation,
        fact: Fact,
        before: Total,
        after: Total,
        first: InTime | None,
    ) -> Contribution:
        """What an event of a metric that is no sum contributes. Raises `_Late`."""
        if key in self._loaded.facts:
            facts = self._facts.get(key)
            if facts is None:
                facts = self._facts[key] = list(self._loaded.facts[key])
            contribution = contribution_of(aggregation, facts, fact)
            insort(facts, fact, key=in_time)
            return contribution
        if aggregation is Aggregation.UNIQUE:
            if first is not None and in_time(fact) < first:
                return Contribution(MICROS, ((first[1], 0),))
        elif not is_newest(before, fact):
            self._want_facts(key)
            raise _Late
        return Contribution(after.total_micros - before.total_micros)


def _invalid(field_path: str, description: str) -> InvalidArgument:
    return InvalidArgument(
        f"{field_path}: {description}",
        reason="INVALID_FIELDS",
        violations=(FieldViolation(field_path, description),),
    )
