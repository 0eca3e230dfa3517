"""A fact of a user is taken out or changed: what is read for it, in which order, and how little (RULES 5.1).

In the usual case only the fact's own awards differ, and nothing else is read. Where it moves the crossings of later
facts, and nothing depends on what was given, those alone are read that cross more or less. Else the fold goes on from
the fact, in chunks that grow, and ends where both ways have come together. Only where something from there on came
late, it takes all at once.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.counting import HistoryNeeded
from services.points.domain.days import UNKNOWN, Days, last_difference
from services.points.domain.decisions import CountedFact, placed_among
from services.points.domain.definitions import EXPIRED, Catalogue, TriggerKey
from services.points.domain.dependence import Dependence
from services.points.domain.edits import Difference, Edit, LiveAward, Names, edited
from services.points.domain.facts import Fact, Identity
from services.points.domain.ledger import Change, Draft, reached, retaken, write
from services.points.domain.lots import Lots
from services.points.domain.refold import Pair, Plan, begin, drafts_of, go_on, moved, plan, together
from services.points.domain.shortcuts import (
    Shift,
    apart,
    moved_by_shifts,
    moved_by_shortcut,
    shifted,
    shifts,
    shortcut,
)
from services.points.domain.state import UserState
from services.points.domain.timing import set_by

FIRST_CHUNK: Final = 512
LARGEST_CHUNK: Final = 8 * FIRST_CHUNK
"""Others of the service have their turn in between."""


class Chunk(Struct, frozen=True):
    """Facts in the order of arrival, with what was given with them, and their live awards."""

    facts: Sequence[Fact]
    awards: Mapping[tuple[int, Identity], LiveAward]
    is_last: bool = True


class History(Protocol):
    """A user's past, as far as it is asked for."""

    async def at(self, positions: Sequence[int]) -> Chunk:
        """The facts at these positions."""

    async def chunk(self, start: int, size: int | None) -> Chunk:
        """So many facts from a position on; None: all."""

    async def sums_before(self, start: int) -> Mapping[TriggerKey, int]:
        """For each metric trigger, what the facts before a position contributed, in micro-units."""

    async def crossing(self, shift: Shift, start: int) -> tuple[Sequence[tuple[Fact, int]], Names]:
        """The facts from a position on with which a trigger passes more or fewer multiples of X than before its sum
        moved there, each with what the sum was before it; and the trigger's live awards that came with them.
        """

    async def added_since(self, start: int) -> Mapping[str, tuple[int, int]]:
        """For each system, what awards that count at a position or later add to the balance, and to the lifetime."""

    async def days(self, since: date | None, before: int | None = None) -> Days:
        """What was given on dates from one on (None: on all), by arrivals before a position."""

    async def lots(self, before: int | None = None) -> Lots:
        """What is left of awards, by arrivals before a position."""

    async def arrives_before(self, day: date, position: int) -> bool:
        """Whether something arrived after a position that occurred before a date has begun in the last zone."""

    async def window(self, since: datetime | None, before: int | None = None) -> Sequence[CountedFact]:
        """The facts since an instant, with the awards that arrivals before a position brought them."""

    async def write(self, changes: Sequence[Change]) -> None:
        """Add the rows to the ledger."""

    async def reach_time(self, points_system: str) -> datetime | None:
        """When the newest live award of a system occurred that moved the balance."""

    def terms(self, version: int) -> Catalogue:
        """The definitions of a version."""

    def dependence(self, points_system: str) -> Dependence:
        """On what earlier facts the system's awards ever depended."""


async def refold(
    history: History,
    catalogue: Catalogue,
    state: UserState,
    edits: Mapping[int, Edit],
    cause_entry_id: UUID,
    zone: str | None = None,
) -> tuple[UserState, tuple[Change, ...]]:
    """The user's points with these facts changed, and what changed; the ledger's rows are written.

    The facts themselves are the caller's to change. `zone`: where the user is, if that is told.
    """
    if not edits:
        return state, ()
    subject = await history.at(sorted(edits))
    facts = {fact.position: fact for fact in subject.facts}
    # What was undone meanwhile has nothing left to change.
    edits = {position: edit for position, edit in edits.items() if position in facts}
    if not edits:
        return state, ()
    planned = plan(state, facts, edits, history.terms)
    state, drafts = await _drafts(history, state, facts, edits, planned, subject, zone)
    state, changes = write(catalogue, state, drafts, cause_entry_id)
    await history.write(changes)
    expiring = {
        change.points_system for change in changes if history.dependence(change.points_system).expires
    }
    if expiring:
        state = set_by(state, await history.lots(), sorted(expiring), zone)
    systems = retaken(changes)
    if not systems:
        return state, changes
    return reached(state, changes, {key: await history.reach_time(key) for key in sorted(systems)})


async def _drafts(
    history: History,
    state: UserState,
    facts: Mapping[int, Fact],
    edits: Mapping[int, Edit],
    planned: Plan,
    subject: Chunk,
    zone: str | None,
) -> tuple[UserState, list[Draft]]:
    differing = apart(state, planned, facts, edits, history.terms, history.dependence)
    if differing is not None:
        return state, list(drafts_of(differing, subject.awards))
    if len(edits) == 1:
        ((position, edit),) = edits.items()
        live = list(subject.awards.values())
        drafts = shortcut(state, planned, facts[position], edit, live, history.dependence)
        if drafts is not None:
            return moved_by_shortcut(state, facts[position], edit), drafts
        found = await _shifted(history, state, facts[position], edit, planned)
        if found is not None:
            return found
    whole = Plan(1, planned.systems, late=True)
    for attempt, settling in ((planned, True), (whole, True), (whole, False)):
        try:
            return await _folded(history, state, edits, attempt, zone, settling=settling)
        except HistoryNeeded:
            continue
    raise AssertionError("the whole history decides everything")


async def _shifted(
    history: History, state: UserState, fact: Fact, edit: Edit, planned: Plan
) -> tuple[UserState, list[Draft]] | None:
    """What is different where only crossings are; None where more may be."""
    moving = shifts(state, planned, fact, edit, history.terms, history.dependence)
    if moving is None:
        return None
    differing: dict[int, Difference] = {}
    awards: dict[tuple[int, Identity], LiveAward] = {}
    for shift in moving:
        crossing, live = await history.crossing(shift, fact.position)
        awards.update(live)
        for position, before, after in shifted(shift, crossing, fact, edit, history.terms):
            _, more_before, more_after = differing.get(position, (position, (), ()))
            differing[position] = (position, more_before + before, more_after + after)
    grants = (grant for _, before, after in differing.values() for grant in (*before, *after))
    if any(grant.amount < 0 for grant in grants):
        # What it takes depends on what there is.
        return None
    drafts = drafts_of([differing[position] for position in sorted(differing)], awards)
    return moved_by_shifts(state, moving), list(drafts)


async def _folded(
    history: History,
    state: UserState,
    edits: Mapping[int, Edit],
    planned: Plan,
    zone: str | None,
    *,
    settling: bool,
) -> tuple[UserState, list[Draft]]:
    start = planned.start
    zone = zone or next((clock.zone for key, clock in state.clocks.items() if key.trigger == EXPIRED), None)
    reaches = [history.dependence(key).day_reach for key in planned.systems]
    day_reach = max((reach for reach in reaches if reach is not None), default=None)
    days = UNKNOWN
    if day_reach is not None:
        days = await history.days(None, start) if start > 1 else Days()
    lots = None
    if any(history.dependence(key).expires for key in planned.systems):
        lots = await history.lots(start) if start > 1 else Lots()
    begun = begin(
        state,
        planned,
        await history.sums_before(start) if start > 1 else {},
        await history.added_since(start) if start > 1 else {},
        days,
        lots,
        greeted=state.first_position is not None and state.first_position < start,
    )
    pair = Pair(begun, begun)
    drafts: list[Draft] = []
    first: int | None = None
    size: int | None = None if planned.late else FIRST_CHUNK
    last_edit = max(edits)
    while True:
        chunk = await history.chunk(start, size)
        if planned.late and start > 1:
            pair = await _with_window(history, pair, chunk.facts, start)
        pair, differing = go_on(pair, chunk.facts, edits, history.terms, planned, zone, settling=settling)
        drafts.extend(drafts_of(differing, chunk.awards))
        first = first or _first(chunk.facts, edits)
        if chunk.is_last:
            break
        start = chunk.facts[-1].position + 1
        if (
            last_edit < start
            and together(pair, state, planned, start - 1, history.dependence)
            and not await _days_matter(history, pair, day_reach, start - 1)
        ):
            break
        size = min(4 * size, LARGEST_CHUNK) if size is not None else None
    state = moved(state, pair, planned)
    taken = edits.get(state.first_position or 0)
    if taken is not None and taken.taken_out:
        state = replace(state, first_position=first, points=replace(state.points, greeted=first is not None))
    return state, drafts


async def _days_matter(history: History, pair: Pair, day_reach: timedelta | None, position: int) -> bool:
    """Whether something follows that depends on the dates on which both ways gave something else."""
    last = last_difference(pair.before.days, pair.after.days)
    if last is None or day_reach is None:
        return False
    return await history.arrives_before(last + day_reach + timedelta(days=1), position)


async def _with_window(history: History, pair: Pair, facts: Sequence[Fact], start: int) -> Pair:
    """The beginning of the fold, with all events one by one among which something arrives."""
    if not facts:
        return pair
    since = min(fact.instant.occur_time for fact in facts)
    window = await history.window(since, start)
    timelines = {
        key: placed_among(timeline, key, window, since, history.terms)
        for key, timeline in pair.before.timelines.items()
    }
    begun = replace(pair.before, timelines=timelines)
    return Pair(begun, begun)


def _first(facts: Sequence[Fact], edits: Mapping[int, Edit]) -> int | None:
    """The first fact that can be the user's first."""
    for fact in facts:
        edit = edits.get(fact.position)
        if not (edited(fact, edit) if edit else fact).follows:
            return fact.position
    return None
