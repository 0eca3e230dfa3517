"""Where a user stands, what an entry brings, and what comes of it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct, field

from services.achievement.domain.definitions import (
    Achievement,
    ApiTrigger,
    SourceKey,
    SourceKind,
    place_of,
)
from shared.entries import Entry


class Key(NamedTuple):
    """The place of an event in the order of the events' times."""

    occur_time: datetime
    entry_id: UUID


class Reach(Struct, frozen=True):
    """The event with which something was reached, in the order of the events' times."""

    entry_id: UUID
    occur_time: datetime
    local_date: date

    @property
    def key(self) -> Key:
        """Its place in the order of times."""
        return Key(self.occur_time, self.entry_id)


class Source(Struct, frozen=True):
    """How far a metric or streak has come: its total or length, and the highest that live history reached."""

    version: int
    current: int
    highest: int


class Accumulator(Struct, frozen=True):
    """The sum of the live events that count for something."""

    sum_micros: int = 0
    peak_micros: int = 0
    """No less than the highest that the sum ever was, in the order of the events' times. Without negative
    contributions it is the sum. With them it is more than that highest only where a late event raised it: to know
    would take all events after that one (`fold`), and is asked for when it matters.
    """
    negative_count: int = 0
    """How many of the live contributions are negative."""

    def add(self, value_micros: int, *, late: bool = False) -> "Accumulator":
        """With one more event; `late`: not the newest one."""
        total = self.sum_micros + value_micros
        negatives = self.negative_count + (value_micros < 0)
        raised = self.peak_micros + value_micros if late and negatives else total
        return Accumulator(total, max(self.peak_micros, raised) if negatives else total, negatives)

    def without(self, value_micros: int) -> "Accumulator":
        """Without one of its events."""
        return self.revised(value_micros, 0)

    def revised(self, before_micros: int, after_micros: int) -> "Accumulator":
        """With an event that contributes something else from now on."""
        more = after_micros - before_micros
        total = self.sum_micros + more
        negatives = self.negative_count + (after_micros < 0) - (before_micros < 0)
        return Accumulator(total, self.peak_micros + max(0, more) if negatives else total, negatives)


class Total(Struct, frozen=True):
    """What the user's live events of a metric that have arrived add up to."""

    sums: Accumulator = Accumulator()
    newest: datetime | None = None
    """Of all that ever arrived: what does not lie after it is late."""


class Cause(Struct, frozen=True):
    """The event with whose arrival a completion was granted."""

    position: int
    key: Key


class Completion(Struct, frozen=True):
    """A live completion. It belongs to the event with which its condition was met in the order of times."""

    completion_id: UUID
    achievement: str
    reach: Reach
    target: int
    """What had to be reached when it was earned."""
    cause: Cause
    number: int = 1
    """Of a repeatable one: which time it is."""
    backdated: bool = False
    """The user had qualified before the achievement could be earned (RULES 4.6)."""

    @property
    def place(self) -> str:
        """By what it is known among the user's."""
        return place_of(self.achievement, self.number)

    @property
    def entry_id(self) -> UUID:
        """The entry that it belongs to."""
        return self.reach.entry_id


_LONG_AGO: Final = Key(datetime(1900, 1, 1, tzinfo=UTC), UUID(int=0))
UNREAD: Final = Completion(
    _LONG_AGO.entry_id,
    "",
    Reach(_LONG_AGO.entry_id, _LONG_AGO.occur_time, _LONG_AGO.occur_time.date()),
    0,
    Cause(0, _LONG_AGO),
)
"""Stands for one that is held, where only a correction would ask for more."""


class SignUp(Struct, frozen=True):
    """What anniversaries of a user follow from, as the last entry said it."""

    day: date | None
    """When the user signed up; None: that is not said any more."""
    zone: str
    version: int
    """Of the user."""
    eligible: frozenset[str] = frozenset()
    """Of anniversaries that only some users earn, and composites above them: those whose filters matched."""
    next_time: datetime | None = None
    """When something is due next."""


class FirstReach(Struct, frozen=True):
    """With which event a streak first had a length, as of a version of the streak."""

    version: int
    reach: Reach | None
    """None: no more; as of version 0, not yet told, though a newer change has."""


class UserState(Struct, frozen=True):
    """One user's state, or the part of it that a batch of entries can touch."""

    user_id: str
    version: int = 0
    """Of the stored state; 0 for a user who has none."""
    entry_count: int = 0
    """How many entries were ever applied; gives each its place in the order of arrival."""
    sources: Mapping[SourceKey, Source] = field(default_factory=dict)
    totals: Mapping[str, Total] = field(default_factory=dict)
    """By metric."""
    accumulators: Mapping[str, Accumulator] = field(default_factory=dict)
    """By achievement that counts only the events which match its filters."""
    completions: Mapping[str, Completion] = field(default_factory=dict)
    """By place."""
    reaches: Mapping[tuple[str, int], FirstReach] = field(default_factory=dict)
    """By streak and length, of lengths that matter to an achievement."""
    awaited: frozenset[str] = frozenset()
    """Achievements whose backfill has not come to this user: what was met before is left to it (`backfill`)."""
    unseen: frozenset[str] = frozenset()
    """Places of completions that the user has not been shown; read only where it is asked for."""
    withheld: frozenset[str] = frozenset()
    """Achievements that an admin has taken away: nothing earns them (`withholding`)."""
    sign_up: SignUp | None = None
    """None: nothing was said of it since anniversaries can be earned."""

    def count(self, achievement: Achievement) -> int:
        """How many times it is completed: multiples come in their order and go from the last."""
        if not achievement.repeatable:
            return int(achievement.key in self.completions)
        count = 0
        while place_of(achievement.key, count + 1) in self.completions:
            count += 1
        return count

    def last_number(self, achievement: Achievement) -> int:
        """The greatest number that is held. While contributions of a metric that is no sum change, multiples may lack
        below it.
        """
        prefix = f"{achievement.key} "
        numbers = [int(place.removeprefix(prefix)) for place in self.completions if place.startswith(prefix)]
        return max(numbers, default=int(achievement.key in self.completions))

    def sums(self, achievement: Achievement, metric: str) -> Accumulator:
        """What counts for an achievement by this metric adds up to."""
        if achievement.event_filters:
            return self.accumulators.get(achievement.key, Accumulator())
        total = self.totals.get(metric)
        return total.sums if total else Accumulator()


class FirstGrant(Struct, frozen=True):
    """How a length was first reached, by what had come until then."""

    reach: Reach
    cause_id: UUID | None = None
    """The event whose arrival did it; None: an older release told it."""


class StreakChange(Struct, frozen=True):
    """A change of one streak of the user, in periods."""

    streak: str
    version: int
    length: int
    longest: int
    first_reaches: tuple[tuple[int, Reach | None], ...] = ()
    """Lengths that are first reached with another event from now on, or no more."""
    granted_before: Mapping[int, FirstGrant] = field(default_factory=dict)
    """Of a correction that tells of arrivals: by length, how it was first reached."""
    granted_after: Mapping[int, FirstGrant] = field(default_factory=dict)
    """The same without the event that is undone."""


class Command(Struct, frozen=True):
    """One entry to apply, with what it changed about streaks; for a call, the achievement to complete."""

    entry: Entry
    streak_changes: tuple[StreakChange, ...] = ()
    achievement: str = ""


class ChangeKind(IntEnum):
    """What happened to a completion."""

    COMPLETED = 1
    REVOKED = 2


class Change(Struct, frozen=True):
    """A completion that came, or one that went."""

    kind: ChangeKind
    completion: Completion


class Fact(Struct, frozen=True):
    """What is remembered of an applied entry, so that it, or another one, can be undone (RULES 7.2)."""

    entry_id: UUID
    position: int
    """Its place in the order of arrival, among the user's entries."""
    occur_time: datetime
    local_date: date
    metric: str = ""
    """Of a metric event."""
    value_micros: int = 0
    """What it contributes to the metric's total."""
    version: int = 0
    """Where that can be revised: the total's version as of which it holds."""
    counted: tuple[str, ...] = ()
    """The achievements with event filters for which it counts."""
    grounds: tuple[str, ...] = ()
    """The achievements that it can earn where not every entry can: its user matched their filters, or called for it."""
    late: bool = False
    """An event of the metric with a later time had arrived before."""
    live: bool = True
    """It was not undone."""
    undone_count: int | None = None
    """How many entries of the user had come when it was undone; None: it was not, or before this was remembered."""

    @property
    def key(self) -> Key:
        """Its place in the order of times."""
        return Key(self.occur_time, self.entry_id)

    @property
    def reach(self) -> Reach:
        """For what is reached with it."""
        return Reach(self.entry_id, self.occur_time, self.local_date)

    @property
    def cause(self) -> Cause:
        """For what its arrival brings about."""
        return Cause(self.position, self.key)

    def counts_for(self, achievement: Achievement) -> bool:
        """Whether it adds to what the achievement asks for; of an event of the achievement's metric."""
        return not achievement.event_filters or achievement.key in self.counted

    def can_earn(self, achievement: Achievement) -> bool:
        """Whether its user was one who can earn the achievement, as of this event, and then (RULES 4.2, 4.7)."""
        matched = not achievement.user_filters or achievement.key in self.grounds
        return matched and achievement.is_open_at(self.occur_time)


class Revision(Struct, frozen=True):
    """What an event contributes as of a version of the total, told before the event itself came."""

    entry_id: UUID
    version: int
    contribution_micros: int


class Refusal(Enum):
    """Why a call to complete an achievement, or an event, is refused."""

    NOT_FOUND = "ACHIEVEMENT_NOT_FOUND"
    NOT_ACTIVE = "ACHIEVEMENT_NOT_ACTIVE"
    NOT_OPEN = "ACHIEVEMENT_NOT_OPEN"
    TRIGGER_NOT_API = "TRIGGER_NOT_API"
    USER_NOT_ELIGIBLE = "USER_NOT_ELIGIBLE"
    NOT_HELD = "ACHIEVEMENT_NOT_HELD"
    REVOKED = "ACHIEVEMENT_REVOKED"
    TOO_MANY_AT_ONCE = "TOO_MANY_AT_ONCE"


class Decision(Struct, frozen=True):
    """What an entry comes to: the state after it, the fact to remember, and the changes or the refusal."""

    state: UserState
    fact: Fact
    changes: tuple[Change, ...] = ()
    refusal: Refusal | None = None
    revised: tuple[Fact, ...] = ()
    """Earlier facts that contribute something else from now on."""
    kept: tuple[Revision, ...] = ()
    """Revisions of events that have not come yet."""
    seen: tuple[str, ...] | None = None
    """The achievements that the user has been shown; empty: all of them; None: nothing is said of it."""
    taken: tuple[Completion, ...] = ()
    """What an admin takes away; kept, to be given back."""
    moved: tuple[Completion, ...] = ()
    """Of a correction: what stays, though another arrival would have brought it."""


def sources_of(command: Command) -> dict[SourceKey, Source]:
    """What the entry tells about its metric and its streaks."""
    told = {
        SourceKey(SourceKind.STREAK, change.streak): Source(change.version, change.length, change.longest)
        for change in command.streak_changes
    }
    if metric := command.entry.metric:
        key = SourceKey(SourceKind.METRIC, metric.metric)
        told[key] = Source(metric.total_version, metric.total_after_micros, metric.peak_micros)
    return told


def threshold(achievement: Achievement, live: Completion | None) -> int:
    """What has to be reached: for what is completed the target of its day, or today's where that became easier, so
    that a changed definition takes nothing away.
    """
    target = achievement.trigger.target
    return target if live is None or isinstance(achievement.trigger, ApiTrigger) else min(live.target, target)


def changed(held: Mapping[str, Completion], changes: Iterable[Change]) -> Mapping[str, Completion]:
    """The live completions after these changes."""
    live = dict(held)
    for change in changes:
        if change.kind is ChangeKind.COMPLETED:
            live[change.completion.place] = change.completion
        else:
            live.pop(change.completion.place, None)
    return live
