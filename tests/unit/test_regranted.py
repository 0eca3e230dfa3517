"""What is granted by lengths when an event is undone: told by the streak service, read by the two that grant, and held
against what is granted arrival by arrival (RULES 2.5, 7.3).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st
from laurel.ledger.v1.effects_pb2 import Effects
from msgspec import Struct

from services.achievement import convert as achievement_convert
from services.orchestrator.contributions import Arrival, asked_when
from services.orchestrator.contributions import Arrivals as LedgerArrivals
from services.orchestrator.contributions import as_they_came as ledger_as_they_came
from services.orchestrator.domain import Aggregation
from services.orchestrator.domain import Fact as LedgerFact
from services.points import convert as points_convert
from services.points.domain.definitions import Catalogue, PointsSystem, StreakCause, Trigger
from services.points.domain.streaks import Shift, shifts
from services.points.domain.streaks import as_they_came as granted_as_they_came
from services.streak import convert as streak_convert
from services.streak.convert import Effect
from services.streak.domain import (
    NEVER_SEEN,
    Contributed,
    Evaluation,
    Fact,
    FreezeSettings,
    Frequency,
    MetricThreshold,
    Rows,
    StreakDefinition,
    as_they_came,
    fact,
    facts,
    fold,
    refold,
    with_arrivals,
)
from services.streak.domain.arrivals import MOST_EVENTS
from shared.entries import ContributionRevision, EntryKind, MetricArrival
from shared.errors import Violations
from tests.fixtures.slow_grants import contributions, grants
from tests.unit.points.user import User
from tests.unit.streak.slow_fold import SlowFact, SlowResult, SlowRules, slow_fold

DAILY = StreakDefinition(
    "daily", Frequency.DAILY, (MetricThreshold("commits", 1),), freezes=FreezeSettings(1, 0, 0, 1)
)
RULES = SlowRules("DAILY", {"commits": 1}, initial=1, maximum=1)
LENGTH = 2
XP = PointsSystem("xp", (Trigger("days", 11, StreakCause("daily", LENGTH)),))
CATALOGUE = Catalogue.of([XP])
FIRST = datetime(2025, 6, 9, tzinfo=UTC)
NOW = FIRST + timedelta(days=10)

Happened = tuple[int, int]
"""A day and an hour."""


def arrived(happened: Sequence[Happened]) -> list[Fact]:
    """Events in the order in which they arrived."""
    return [
        fact(
            UUID(int=number + 1),
            "commits",
            1,
            FIRST + timedelta(days=day, hours=hour, seconds=number),
            "UTC",
            NOW - timedelta(minutes=len(happened) - number),
        )
        for number, (day, hour) in enumerate(happened)
    ]


def undone(history: Sequence[Fact], gone: Fact) -> Evaluation:
    """What becomes of the streak when an event is taken away."""
    left = facts(event for event in history if event is not gone)
    before = fold(DAILY, facts(history), NOW)
    assert before
    return refold(DAILY, NEVER_SEEN, before.rows, left, NOW, gone=gone)


def slow_pasts(history: Sequence[Fact]) -> list[SlowResult]:
    """The streak after each arrival."""
    known = [SlowFact(event.occur_time, number, "commits", 1, "UTC") for number, event in enumerate(history)]
    return [slow_fold(RULES, known[:count], NOW) for count in range(1, len(known) + 1)]


def slow_awards(pasts: Sequence[SlowResult]) -> dict[date, tuple[datetime, int]]:
    """By period, when the event happened that the award belongs to, and with which arrival it came."""
    due = [
        {
            start: at
            for start, _, status, length, at in past.periods
            if status == "QUALIFIED" and length % LENGTH == 0
        }
        for past in pasts
    ]
    granted = grants(dict.fromkeys(one, 1) for one in due)
    return {period: (due[arrival][period], arrival) for arrival, period, _ in granted}


def slow_completions(pasts: Sequence[SlowResult]) -> dict[int, tuple[datetime, int]]:
    """By length, when the event happened with which it had been reached when it first was, and with which arrival."""
    found: dict[int, tuple[datetime, int]] = {}
    for arrival, past in enumerate(pasts):
        for length, reach in past.first_reaches.items():
            found.setdefault(length, (reach.time, arrival))
    return found


def retold(told: Effects) -> Shift | None:
    """What points read of it."""
    violations = Violations()
    command = points_convert.command(User([XP]).entry(EntryKind.CORRECTION), told, "effects", violations)
    violations.raise_if_any()
    return next(iter(shifts(CATALOGUE, command.streak_changes)), None)


def check_told(
    told: Effects,
    before: Sequence[SlowResult],
    after: Sequence[SlowResult],
    history: Sequence[UUID],
    gone: UUID,
) -> None:
    """That who reads what is told of arrivals grants what is granted by the streaks after each, with the undone event
    and without it, and with the same arrivals. `history`: in the order of arrival.
    """
    change = told.streaks[0].change
    if not (change.arrivals_before or change.arrivals_after):
        return
    shift = retold(told)
    assert shift
    assert shift.retold
    places = [
        {one: at for at, one in enumerate(came)}
        for came in (history, [one for one in history if one != gone])
    ]
    for arrivals, wanted, place in zip(
        (shift.retold.before, shift.retold.after), (before, after), places, strict=True
    ):
        granted = granted_as_they_came(shift.configured, arrivals, lambda _owner: True)
        assert {
            day: (owner.occur_time, place[cause])
            for day, owner in granted.owners.items()
            if (cause := granted.causes[day])
        } == slow_awards(wanted)
    violations = Violations()
    command = achievement_convert.command(User([XP]).entry(EntryKind.CORRECTION), told, "effects", violations)
    violations.raise_if_any()
    (read,) = command.streak_changes
    for reached, wanted, place in zip(
        (read.granted_before, read.granted_after), (before, after), places, strict=True
    ):
        assert {
            length: (first.reach.occur_time, place[first.cause_id])
            for length, first in reached.items()
            if first.cause_id
        } == slow_completions(wanted)


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 22)), min_size=2, max_size=9),
    st.integers(0, 8),
)
@example([(3, 9), (2, 9), (1, 9), (0, 9)], 0)
@example([(1, 9), (0, 9), (2, 9), (2, 4)], 0)
def test_what_is_granted_without_an_event_is_what_the_others_would_have_been_granted_as_they_came(
    happened: list[Happened], which: int
) -> None:
    history = arrived(happened)
    gone = history[which % len(history)]
    told = streak_convert.effects("ada", [Effect(DAILY, undone(history, gone))])
    others = [event for event in history if event is not gone]
    ids = [event.entry_id for event in history]
    check_told(told, slow_pasts(history), slow_pasts(others), ids, gone.entry_id)


def test_where_the_undone_event_and_all_since_came_in_order_arrivals_are_not_told() -> None:
    history = arrived([(3, 9), (1, 9), (2, 9), (4, 9), (5, 9)])
    change = undone(history, history[3]).change
    assert change
    assert change.history.periods
    assert not change.arrivals.after


def test_of_more_events_than_are_folded_again_arrivals_are_not_told() -> None:
    history = arrived([(4, 9), *((number % 4, number % 20) for number in range(MOST_EVENTS))])
    change = undone(history, history[0]).change
    assert change
    assert not change.arrivals.after


MICROS = 1_000_000
AGGREGATIONS = {"UNIQUE": Aggregation.UNIQUE, "MAX": Aggregation.MAX, "LAST": Aggregation.LAST}


class Visit(Struct, frozen=True):
    """An event of a metric that is no sum."""

    fact: LedgerFact
    arrive_time: datetime
    counts: bool
    """For the streak; to the metric it contributes in any case."""

    def as_fact(self, micros: int) -> Fact:
        """What the streak service has of it."""
        known = self.fact
        return fact(known.entry_id, "commits", micros, known.occur_time, "UTC", self.arrive_time)


def visits(happened: Sequence[tuple[Happened, int, bool]]) -> list[Visit]:
    """Events in the order in which they arrived."""
    return [
        Visit(
            LedgerFact(
                UUID(int=number + 1),
                value * MICROS,
                FIRST + timedelta(days=day, hours=hour, seconds=number),
                number,
                f"item {value}",
            ),
            NOW - timedelta(minutes=len(happened) - number),
            counts,
        )
        for number, ((day, hour), value, counts) in enumerate(happened)
    ]


def contributed_by(aggregation: str, came: Sequence[Visit]) -> dict[UUID, int]:
    """What each of these contributes among them."""
    ordered = sorted((visit.fact for visit in came), key=lambda known: known.occur_time)
    values = [(known.value_micros, known.unique_value or "") for known in ordered]
    return dict(zip((known.entry_id for known in ordered), contributions(aggregation, values), strict=True))


def slow_visits(aggregation: str, came: Sequence[Visit]) -> list[SlowResult]:
    """The streak after each arrival, by what had come until then."""
    pasts = []
    for count in range(1, len(came) + 1):
        amounts = contributed_by(aggregation, came[:count])
        known = [
            SlowFact(
                visit.fact.occur_time, visit.fact.position, "commits", amounts[visit.fact.entry_id], "UTC"
            )
            for visit in came[:count]
            if visit.counts
        ]
        pasts.append(slow_fold(RULES, known, NOW))
    return pasts


def told_as(arrivals: Sequence[Arrival]) -> list[MetricArrival]:
    """What the ledger tells, as it is read."""
    return [
        MetricArrival(
            arrival.entry_id,
            arrival.contribution.micros,
            tuple(ContributionRevision(*revision) for revision in arrival.contribution.revisions),
        )
        for arrival in arrivals
    ]


def told_in_ledger(
    aggregation: Aggregation, others: Sequence[LedgerFact], gone: LedgerFact
) -> LedgerArrivals:
    """What the ledger tells of arrivals."""
    asked = asked_when(others, gone)
    since = min(known.occur_time for known in (*asked, gone))
    earlier = [known for known in others if known.occur_time < since]
    return ledger_as_they_came(aggregation, earlier, asked, gone) if asked else LedgerArrivals()


def corrected(aggregation: str, came: Sequence[Visit], gone: Visit) -> Effects:
    """What the correction tells of the streak after an event was taken away."""
    others = [visit for visit in came if visit is not gone]
    told = told_in_ledger(AGGREGATIONS[aggregation], [visit.fact for visit in others], gone.fact)
    before, after = contributed_by(aggregation, came), contributed_by(aggregation, others)
    counted = [visit.as_fact(before[visit.fact.entry_id]) for visit in came if visit.counts]
    left = [visit.as_fact(after[visit.fact.entry_id]) for visit in others if visit.counts]
    names = {arrival.entry_id for arrival in told.before} | {gone.fact.entry_id}
    contributed = Contributed(
        told_as(told.before),
        told_as(told.after or told.before),
        tuple(visit.as_fact(0) for visit in came if not visit.counts and visit.fact.entry_id in names),
        {entry_id: micros for entry_id, micros in after.items() if micros != before[entry_id]},
    )
    event = gone.as_fact(before[gone.fact.entry_id])
    arrivals = as_they_came(DAILY, facts(counted), event, NOW, None, contributed)
    reverted = fold(DAILY, facts(event for event in counted if event.entry_id != gone.fact.entry_id), NOW)
    rows = reverted.rows if reverted else Rows()
    evaluation = with_arrivals(refold(DAILY, NEVER_SEEN, rows, facts(left), NOW), arrivals, NOW)
    return streak_convert.effects("ada", [Effect(DAILY, evaluation)])


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(0, 7), st.integers(0, 22)),
            st.integers(-2, 3).filter(bool),
            st.integers(0, 4).map(bool),
        ),
        min_size=2,
        max_size=9,
    ),
    st.integers(0, 8),
    st.sampled_from(sorted(AGGREGATIONS)),
)
@example([((3, 9), 1, True), ((2, 9), 1, True), ((4, 9), 2, True), ((1, 9), 2, True)], 1, "UNIQUE")
@example([((3, 9), 2, True), ((4, 9), 3, True), ((4, 10), -2, True)], 1, "LAST")
@example([((5, 8), 1, True), ((1, 9), 1, True), ((3, 9), 2, True), ((5, 9), 3, True)], 3, "UNIQUE")
def test_lengths_by_contributions_are_told_as_these_stood_when_each_event_came(
    happened: list[tuple[Happened, int, bool]], which: int, aggregation: str
) -> None:
    came = visits(happened)
    gone = came[which % len(came)]
    others = [visit for visit in came if visit is not gone]
    told = corrected(aggregation, came, gone)
    pasts = slow_visits(aggregation, came), slow_visits(aggregation, others)
    check_told(told, *pasts, [visit.fact.entry_id for visit in came], gone.fact.entry_id)


def test_where_an_event_since_took_away_arrivals_are_told_though_all_came_in_order() -> None:
    """A length was there, and is not any more: what was granted for it goes with the event that it was granted with."""
    came = visits([((3, 9), 2, True), ((4, 9), 3, True), ((4, 10), -2, True)])
    change = corrected("LAST", came, came[1]).streaks[0].change
    lengths = [
        [(period.start_date.day, period.length_after) for period in arrival.period_changes]
        for arrival in change.arrivals_before
    ]
    assert [lengths[0][0], lengths[1][0], lengths[2][0]] == [(12, 1), (13, 2), (13, 0)]
    assert len(change.arrivals_after) == 1


def test_where_others_contribute_more_without_the_undone_event_arrivals_are_told_though_all_came_in_order() -> (
    None
):
    """A day that still qualifies did so earlier: what was granted for it belongs to the event with which it did."""
    came = visits([((1, 9), 1, True), ((6, 12), 1, True), ((6, 13), 2, True)])
    told = corrected("UNIQUE", came, came[0])
    assert told.streaks[0].change.arrivals_after
    ids = [visit.fact.entry_id for visit in came]
    check_told(told, slow_visits("UNIQUE", came), slow_visits("UNIQUE", came[1:]), ids, ids[0])
