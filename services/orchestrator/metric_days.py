"""What events contribute to a metric by local date (RULES 1.5, 2.2). Pure.

Every change of a user's total has a version, one above that of the change before: of an event, or of the correction
of one that was undone. So what is summed is told apart from what is not, whoever tells of it, and however often.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from laurel.ledger.v1 import entry_pb2
from msgspec import Struct

from services.orchestrator.contributions import contributions_in_order
from services.orchestrator.domain import MICROS, Aggregation, Fact, in_time
from shared.calendar import local_date

Key = tuple[str, str]
"""User and metric."""


class Amount(Struct, frozen=True):
    """What events of a date come to."""

    micros: int = 0
    event_count: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.micros + other.micros, self.event_count + other.event_count)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.micros - other.micros, self.event_count - other.event_count)


Days = Mapping[date, Amount]
"""Amounts by local date."""

NOTHING = Amount()


class Change(Struct, frozen=True):
    """One change of a user's total."""

    key: Key
    version: int
    receive_time: datetime
    day: date
    amount: Amount | None
    """What it adds to its day; None where it changes what other events contribute too."""


class Counted(Struct, frozen=True):
    """An event that counts."""

    fact: Fact
    day: date


def change_of(entry: entry_pb2.Entry) -> Change | None:
    """What an entry changes of a metric's total; None where it changes none."""
    if entry.HasField("metric_event"):
        fact, event_count = entry.metric_event, 1
    elif entry.HasField("correction") and entry.correction.metric.metric:
        fact, event_count = entry.correction.metric, -1
    else:
        return None
    amount: Amount | None = Amount(fact.total_after_micros - fact.total_before_micros, event_count)
    if fact.revisable:
        # What an event contributed that is undone is not said, and neither what others did before.
        is_alone = event_count > 0 and not fact.revisions
        amount = Amount(fact.contribution_micros, 1) if is_alone else None
    return Change(
        (entry.user.user_id, fact.metric),
        fact.total_version,
        entry.now.ToDatetime(UTC),
        local_date(entry.occur_time.ToDatetime(UTC), entry.time_zone),
        amount,
    )


def following(changes: Iterable[Change], version: int) -> list[Change] | None:
    """Those after a version, in order. None where one is missing among them, or where they do not simply add up."""
    later = {change.version: change for change in changes if change.version > version}
    ordered = [later[each] for each in sorted(later)]
    complete = not ordered or ordered[-1].version == version + len(ordered)
    return ordered if complete and all(change.amount is not None for change in ordered) else None


def added(changes: Iterable[Change]) -> dict[date, Amount]:
    """What changes that add up come to."""
    days: dict[date, Amount] = {}
    for change in changes:
        assert change.amount is not None
        days[change.day] = days.get(change.day, NOTHING) + change.amount
    return days


def folded(aggregation: Aggregation, events: Sequence[Counted], total_micros: int) -> dict[date, Amount]:
    """What all events of a user and metric come to. Of a user who was deleted the values of UNIQUE are not known: the
    first events count, up to the total.
    """
    ordered = sorted(events, key=lambda each: in_time(each.fact))
    facts = [each.fact for each in ordered]
    if aggregation is Aggregation.UNIQUE and any(fact.unique_value is None for fact in facts):
        contributed = [MICROS if place * MICROS < total_micros else 0 for place in range(len(facts))]
    else:
        contributed = contributions_in_order(aggregation, facts)
    days: dict[date, Amount] = {}
    for each, micros in zip(ordered, contributed, strict=True):
        days[each.day] = days.get(each.day, NOTHING) + Amount(micros, 1)
    return days


def difference(after: Days, before: Days) -> dict[date, Amount]:
    """What has to be added to come from one to the other."""
    changed = {day: after.get(day, NOTHING) - before.get(day, NOTHING) for day in {*after, *before}}
    return {day: amount for day, amount in changed.items() if amount != NOTHING}


def fact_of(
    entry_id: UUID,
    value_micros: int,
    occur_time: datetime,
    position: int,
    unique_value: str | None,
    zone: str,
) -> Counted:
    """An event of the ledger, which happened in a zone."""
    fact = Fact(entry_id, value_micros, occur_time, position, unique_value)
    return Counted(fact, local_date(occur_time, zone))
