"""To whom what belongs to another entry than the one that brought it is given, and times what (RULES 2.3, 5.2, 5.3).

Filters and boosts look at the user as of the entry that an award belongs to. Of the entry that has just come that is
told with it; of an earlier one its fact says which triggers and boosts applied.
"""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.points.domain.counting import HistoryNeeded
from services.points.domain.definitions import Catalogue, ConfiguredTrigger
from services.points.domain.edits import Terms
from services.points.domain.facts import Due, Fact, Instant
from services.points.domain.multipliers import boosts_at, for_trigger
from shared.entries import Entry
from shared.filters import matches


def _nothing(_version: int) -> Catalogue:
    return Catalogue()


class Owners(Struct, frozen=True):
    """The entry that has come, and those to which what it brings may belong."""

    entry: Entry
    facts: Mapping[UUID, Fact] | None = None
    """None: not loaded. For what has not come here the entry stands."""
    terms: Terms = _nothing
    """Of the facts."""

    def gives(self, trigger: ConfiguredTrigger, owner: Instant) -> bool:
        """Whether the user was one to whom the trigger gives. Raises `HistoryNeeded`."""
        filters = trigger.trigger.user_filters
        if not filters:
            return True
        fact = self._fact(owner)
        return matches(filters, self.entry.user.attributes) if fact is None else trigger.key in fact.triggers

    def boosted(self, catalogue: Catalogue, due: Due) -> Due:
        """What is due, with the boosts of the entry that it belongs to. Raises `HistoryNeeded`."""
        if not catalogue.boosts:
            return due
        fact = self._fact(due.owner) if catalogue.boosts_look_at_users else None
        if fact is not None:
            return replace(due, boosts=for_trigger(self.terms(fact.terms), fact.boosts, due.key))
        boosts = boosts_at(catalogue, self.entry.user.user_id, self.entry.user.attributes, due.owner)
        return replace(due, boosts=for_trigger(catalogue, boosts, due.key))

    def _fact(self, owner: Instant) -> Fact | None:
        if owner.entry_id == self.entry.entry_id:
            return None
        if self.facts is None:
            raise HistoryNeeded
        return self.facts.get(owner.entry_id)
