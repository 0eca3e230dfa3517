"""What recorded periods tell of their facts (RULES 3.1).

A fact that is altered leaves the facts of other periods as they are. So behind the periods around it a fold need not
read them: which periods qualified, and with which events, stands in their rows, and so does what was missed between
them, as far as the streak was alive there. Of few more is asked than that: those are named, and their facts are read.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Final

from msgspec import Struct

from services.streak.domain.by_hand import ByHand
from services.streak.domain.checkpoint import Past, tally_in
from services.streak.domain.definition import StreakDefinition
from services.streak.domain.facts import Fact, dated
from services.streak.domain.fold import Qualified, joined, settle
from services.streak.domain.rows import FreezeReason, PeriodStatus, Reach, Rows
from services.streak.domain.state import Anchor, Settled
from services.streak.domain.tally import known_since
from services.streak.domain.terms import terms_at
from services.streak.domain.travel import Sighting, forgiven_count
from services.streak.domain.zones import Steps, zone_at

_PASSED_OVER: Final = (PeriodStatus.PAUSED, PeriodStatus.DAY_OFF, PeriodStatus.RESET)
"""What a period is before it is one that was lost to travel."""


class Told(Struct, frozen=True):
    """What rows tell of a period that qualified."""

    period: int
    reach: Reach
    before: int | None
    """The one that qualified before it."""
    forgiven: int
    """Of the periods missed since then, so many, the last ones, were lost to travel."""
    broken: int | None
    """The one of them at which the streak broke: of those behind it nothing is known."""
    is_late_known: bool
    """Whether it is known when it qualified too late for a freeze not to be spent on it."""
    refund_date: date | None
    """When it did: the date on which that freeze came back."""


class Detail(Struct, frozen=True):
    """What else a fold asks of a period that qualified: its first and its latest fact, and since when it was known that
    it did.
    """

    earliest: Sighting
    latest: Sighting
    known_date: date
    reach: Reach
    """The event with which it did."""


class GoneOn(Struct, frozen=True):
    """What a fold comes to behind the facts that it was given."""

    settled: Settled
    rows: Rows
    wanted: frozenset[int]
    """The periods of which details are needed. While there are any, the rest is a guess."""


def told_by(
    definition: StreakDefinition, recorded: Rows, past: Past | None, after: int, until: int
) -> list[Told]:
    """What is told of the periods that qualified, behind one up to another. `recorded` are all rows since `past`."""
    refunds = {
        line.about_date: line.effective_date
        for line in recorded.ledger
        if line.reason is FreezeReason.REFUNDED
    }
    lines = sorted(recorded.ledger, key=lambda line: line.about_date, reverse=True)
    balance = past.freeze_count if past else 0
    before = definition.period_of(past.last.start_date) if past else None
    missed: list[tuple[int, PeriodStatus]] = []
    found = []
    for row in recorded.periods:
        period = definition.period_of(row.start_date)
        if period > until:
            break
        while lines and lines[-1].about_date <= row.end_date:
            balance += lines.pop().amount
        if row.status is not PeriodStatus.QUALIFIED or row.reach is None:
            missed.append((period, row.status))
            continue
        if period > after:
            refund_date = refunds.get(row.end_date)
            asked = row.length > 1 and balance > 0
            broken = missed[-1][0] if missed and missed[-1][1] is PeriodStatus.BROKEN else None
            forgiven = _forgiven(missed, period)
            found.append(Told(period, row.reach, before, forgiven, broken, asked, refund_date))
        before, missed = period, []
    return found


def _forgiven(missed: Sequence[tuple[int, PeriodStatus]], until: int) -> int:
    first = until
    for period, status in reversed(missed):
        if status is PeriodStatus.SKIPPED:
            first = period
        elif status not in _PASSED_OVER:
            break
    return until - first


def details_of(
    definition: StreakDefinition,
    zones: Steps,
    by_hand: ByHand,
    periods: Iterable[int],
    events: Iterable[Fact],
) -> dict[int, Detail]:
    """The details of these periods, of which all facts are among the events. What does not qualify has none."""
    inside: dict[int, list[Fact]] = {period: [] for period in periods}
    for event in events:
        known = dated(definition, event)
        inside.get(definition.period_of(known.local_date), []).append(known)
    found = {}
    for period, known_facts in inside.items():
        tally = tally_in(definition, period, zones, by_hand, known_facts)
        if tally is not None and tally.reach is not None:
            known_date = known_since(terms_at(definition, period, zones, by_hand), tally)
            found[period] = Detail(tally.earliest, tally.latest, known_date, tally.reach)
    return found


def told_anew(told: Iterable[Told], changed: Iterable[int], details: Mapping[int, Detail]) -> list[Told]:
    """What is told, where later periods have changed of which the details are known, as far as they qualify."""
    found = {each.period: each for each in told}
    for period in changed:
        found.pop(period, None)
        if period in details:
            found[period] = Told(
                period,
                details[period].reach,
                before=None,
                forgiven=0,
                broken=None,
                is_late_known=False,
                refund_date=None,
            )
    return [found[period] for period in sorted(found)]


def go_on(
    definition: StreakDefinition,
    settled: Settled,
    zones: Steps,
    by_hand: ByHand,
    told: Iterable[Told],
    details: Mapping[int, Detail],
    changed: Collection[int],
) -> GoneOn:
    """What a fold that has come to `settled` by all facts until then comes to with the periods behind it.

    `changed` are the periods of which facts are altered.
    """
    rows: list[Rows] = []
    wanted: set[int] = set()
    is_known = True
    for each in told:
        anchor, detail = settled.anchor, details.get(each.period)
        qualified, is_exact = _as_told(definition, zones, each, detail), False
        if anchor and is_known and detail:
            qualified, is_exact = _as_it_was(definition, anchor, each, detail), True
        settled, more = settle(
            definition, settled, zones, by_hand, qualified, definition.last_date(each.period)
        )
        is_after_it = anchor is not None and anchor.period == each.before not in changed
        is_told = is_exact or anchor is None or is_after_it
        if anchor and not (is_told and (is_exact or _suffices(definition, each, settled, more, is_known))):
            wanted |= {each.period} if is_known else {anchor.period, each.period}
        is_known = detail is not None
        rows.append(more)
    return GoneOn(settled, joined(rows), frozenset(wanted))


def _as_it_was(definition: StreakDefinition, anchor: Anchor, each: Told, detail: Detail) -> Qualified:
    """The period, by its own facts and those of the one before it."""
    missed = each.period - anchor.period - 1
    is_late = anchor.known_date <= definition.last_date(each.period) < detail.known_date
    return Qualified(
        each.period,
        detail.reach,
        detail.latest,
        detail.known_date,
        forgiven_count(definition, missed, anchor.latest, detail.earliest),
        detail.known_date if is_late else None,
    )


def _as_told(definition: StreakDefinition, zones: Steps, each: Told, detail: Detail | None) -> Qualified:
    """The period, by the rows. What they do not tell is taken for what mostly is so."""
    latest = Sighting(each.reach.occur_time, zone_at(zones, each.period))
    known_date = definition.last_date(each.period)
    if detail:
        latest, known_date = detail.latest, detail.known_date
    return Qualified(each.period, each.reach, latest, known_date, each.forgiven, each.refund_date)


def _suffices(
    definition: StreakDefinition, each: Told, settled: Settled, rows: Rows, is_anchor_known: bool
) -> bool:
    """Whether all was told that this step has asked for."""
    anchor = settled.anchor
    if anchor and anchor.run.length > 1 and settled.freezes.balance > 0 and not each.is_late_known:
        return False
    if not is_anchor_known and any(row.status is PeriodStatus.EXCUSED for row in rows.periods):
        return False
    if each.broken is None:
        return True
    end = definition.first_date(each.broken)
    return any(row.status is PeriodStatus.BROKEN and row.start_date <= end for row in rows.periods)
