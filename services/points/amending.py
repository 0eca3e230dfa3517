"""A command that says something about earlier facts, or that only more of the past can decide, one at a time."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from msgspec.structs import replace

from services.points.domain.amendments import Amendment, amendment, amends, entries_named
from services.points.domain.counting import HistoryNeeded
from services.points.domain.decisions import Applied, apply, days_asked, late, since, with_days, with_window
from services.points.domain.definitions import Catalogue, TriggerKey
from services.points.domain.edits import Edit
from services.points.domain.facts import Command, Fact
from services.points.domain.ledger import Change, merged
from services.points.domain.limits import Refusal
from services.points.domain.owners import Owners
from services.points.domain.state import UserState
from services.points.domain.streaks import LivePeriod, shifts
from services.points.refolding import History, refold
from shared.entries import MetricFact


class AmendableHistory(History, Protocol):
    """A user's past, as far as commands say something about it."""

    async def named(self, entry_ids: Collection[UUID]) -> Mapping[UUID, Fact]:
        """The facts of those entries that are live."""

    async def given(
        self, completion_ids: Collection[UUID], triggers: Collection[TriggerKey]
    ) -> Sequence[LivePeriod]:
        """The live awards for these completions, and those of these streak triggers."""

    async def newer(self, metric: MetricFact) -> Mapping[UUID, int]:
        """The revisions of live facts that are newer than what is known of these. Those of unknown entries are kept."""

    async def revise(self, contributions: Mapping[UUID, int], version: int) -> None:
        """Change what facts contribute."""


async def undo(
    history: History, catalogue: Catalogue, state: UserState, entry_id: UUID, position: int
) -> tuple[UserState, tuple[Change, ...]]:
    """The user's points as though the entry had never come; what streaks and achievements made of it aside."""
    return await refold(history, catalogue, state, {position: Edit(taken_out=True)}, entry_id)


async def apply_amending(
    history: AmendableHistory, catalogue: Catalogue, state: UserState, command: Command
) -> Applied | Refusal:
    """What a command does, with all that it changes of earlier facts. Those rows are written, its own are not."""
    amended: Amendment | None = None
    written: tuple[Change, ...] = ()
    metric = command.entry.metric
    if amends(command):
        revised = await history.newer(metric) if metric is not None and metric.revisions else {}
        amended = await _amendment(history, catalogue, state, command, revised)
        entry_id, zone = command.entry.entry_id, command.entry.user.time_zone
        state, written = await refold(history, catalogue, state, amended.edits, entry_id, zone)
        if metric is not None and revised:
            await history.revise(revised, metric.total_version)
    keys = late(catalogue, state, command)
    time = since(state, keys, command.entry.occur_time)
    asked = days_asked(catalogue, state, command)
    owners: Owners | None = None
    for is_last, start in enumerate((time, None)):
        try:
            if catalogue.day_limited and (is_last or asked is not None):
                state = with_days(state, await history.days(None if is_last else asked))
            if keys:
                window = await history.window(start)
                state = with_window(state, keys, window, start, history.terms)
            decided = apply(catalogue, state, command, amended, owners)
        except HistoryNeeded:
            state = await _with_rewarded_periods(history, catalogue, state, command)
            named = await history.named(entries_named(command, state, ()))
            owners = Owners(command.entry, named, history.terms)
            continue
        if not isinstance(decided, Applied):
            return decided
        return replace(decided, changes=merged((*written, *decided.changes)), written=written)
    raise AssertionError("the whole history decides everything")


async def _amendment(
    history: AmendableHistory,
    catalogue: Catalogue,
    state: UserState,
    command: Command,
    revised: Mapping[UUID, int],
) -> Amendment:
    completion_ids = {change.completion_id for change in command.achievement_changes if not change.completed}
    completion_ids |= {known.completion_id for known in command.completion_causes}
    triggers = {shift.configured.key for shift in shifts(catalogue, command.streak_changes)}
    live = await history.given(completion_ids, triggers) if completion_ids or triggers else ()
    facts = await history.named(entries_named(command, state, triggers))
    return amendment(catalogue, state, command, live, facts, revised, history.terms)


async def _with_rewarded_periods(
    history: AmendableHistory, catalogue: Catalogue, state: UserState, command: Command
) -> UserState:
    triggers = {shift.configured.key for shift in shifts(catalogue, command.streak_changes)}
    if not triggers:
        return state
    live = await history.given((), triggers)
    periods = {
        key: frozenset(
            period.due.period for period in live if period.due.key == key and period.due.period is not None
        )
        for key in triggers
    }
    return replace(state, rewarded_periods=periods)
