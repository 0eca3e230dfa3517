"""What events contribute after each arrival, as a correction tells it (RULES 2.5). Pure."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from shared.entries import ContributionRevision, MetricArrival


class AsTold:
    """What events contribute while one after the other comes.

    They need not come in the order in which the ledger had them: what the ledger said last of an event holds.
    """

    def __init__(self, today: Mapping[UUID, int], arrivals: Sequence[MetricArrival]) -> None:
        """`today`: what the events that are to come contribute where nothing is told of them."""
        self._micros = {entry_id: (-1, micros) for entry_id, micros in today.items()}
        self._arrivals = arrivals
        self._places = {arrival.entry_id: place for place, arrival in enumerate(arrivals)}
        # Of these it is never heard that they come: they are passed by with the next that does.
        self._others = deque(place for entry_id, place in self._places.items() if entry_id not in today)

    def come(self, entry_id: UUID) -> None:
        """One more has come."""
        place = self._places.get(entry_id)
        if place is None:
            return
        while self._others and self._others[0] < place:
            self._tell(self._others.popleft())
        self._tell(place)

    def micros(self, entry_id: UUID) -> int:
        """What an event contributes by now, of those that were to come."""
        return self._micros[entry_id][1]

    def _tell(self, place: int) -> None:
        arrival = self._arrivals[place]
        own = ContributionRevision(arrival.entry_id, arrival.contribution_micros)
        said: Iterable[ContributionRevision] = (own, *arrival.revisions)
        for one in said:
            known = self._micros.get(one.entry_id)
            if known is not None and known[0] < place:
                self._micros[one.entry_id] = place, one.contribution_micros
