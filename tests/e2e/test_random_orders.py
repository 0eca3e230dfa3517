"""Right in every order, at random (RULES 2.5, 5.1, 7.3): three users over ten days, in a world that has everything.

Each history is sent in several orders, to copies of its users. All orders agree in what RULES 2.5 lists; what each
gives is what a slow fold says; and once a third is voided, each is what the others alone give in the same order.

A case that fails is made smaller before it is shown.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.local.stack import Stack
from services.points.domain.definitions import EXPIRED
from tests.fixtures.histories import (
    ACHIEVEMENTS,
    LIMITED,
    POINTS_BOARDS,
    WORLD,
    draw_history,
    given,
)
from tests.fixtures.known import Known, Place, Row, differences, known_of, ranked, scores_in
from tests.fixtures.orders import NOW, Happened, pass_time, send, send_together, stack_on_that_day, void
from tests.fixtures.system import System, connect

SEEDS: Final = (25, 51, 65, 84, 314)
USERS: Final = 3
ORDERS: Final = 4
SHRINKING_SECONDS: Final = 60.0
SHOWN: Final = 12


@pytest.fixture(scope="module")
def own_stack(quick_directory: Path) -> Iterator[Stack]:
    """A stack of its own: the day and the world of these tests are others."""
    with stack_on_that_day(quick_directory / "random-orders") as running:
        yield running


@pytest.fixture(scope="module")
async def world(own_stack: Stack) -> AsyncIterator[System]:
    """Stubs of the system with the world of the histories in it."""
    connected = connect(own_stack)
    await connected.orchestrator.ApplyConfiguration(WORLD)
    yield connected
    await connected.close()


@dataclass(frozen=True)
class Case:
    """A history as it happened, the orders in which it arrives, and what is voided of it."""

    history: Sequence[Happened]
    orders: Sequence[Sequence[int]]
    voided: frozenset[int]

    def without(self, gone: frozenset[int]) -> "Case":
        """The same without some of it."""
        kept = [index for index in range(len(self.history)) if index not in gone]
        place = {index: number for number, index in enumerate(kept)}
        return Case(
            [self.history[index] for index in kept],
            [[place[index] for index in order if index in place] for order in self.orders],
            frozenset(place[index] for index in self.voided if index in place),
        )

    def text(self) -> str:
        """For a person to try again."""
        lines = []
        for index, event in enumerate(self.history):
            arrival = ", ".join(str(list(order).index(index) + 1) for order in self.orders)
            lines.append(
                f"#{index:<2} user {event.who} {event.at:%m-%d %H:%M:%S.%f}Z {event.zone:20} "
                f"{event.metric} {event.value:g} user {dict(event.user)} event {dict(event.event)} arrives {arrival}"
                f"{' VOIDED' if index in self.voided else ''}"
            )
        return "\n".join(lines)


def draw(seed: int) -> Case:
    """A case: as it happened, backwards, and at random."""
    rng = random.Random(seed)
    history = draw_history(rng, USERS)
    indexes = list(range(len(history)))
    orders = [indexes, indexes[::-1], *(rng.sample(indexes, len(indexes)) for _ in range(ORDERS - 2))]
    return Case(history, orders, frozenset(rng.sample(indexes, len(indexes) // 3)))


@dataclass
class Copy:
    """The users of one order, and the entries of their events."""

    name: str
    case: Case
    order: Sequence[int]
    entries: dict[int, str]

    @classmethod
    def of(cls, name: str, case: Case, order: Sequence[int]) -> "Copy":
        """Before anything has arrived."""
        return cls(name, case, order, {})

    def user(self, who: int) -> str:
        """One of the users."""
        return f"{self.name}-{who}"

    @property
    def users(self) -> list[str]:
        """All of them."""
        return [self.user(who) for who in range(USERS)]

    async def arrive(self, system: System, number: int, voided: frozenset[int] = frozenset()) -> None:
        """All events arrive, in groups in every other order; `voided` are voided soon after they came."""
        rng, left = random.Random(number), list(self.order)
        while left:
            size = rng.randrange(1, 9) if number % 2 else 1
            now, left = left[:size], left[size:]
            requests = [
                self.case.history[index].request(self.user(self.case.history[index].who)) for index in now
            ]
            sent = await (send_together if number % 2 else send)(system, requests)
            self.entries.update(zip(now, sent, strict=True))
            for index in sorted(voided & set(self.entries)):
                if not left or rng.random() < 0.5:
                    voided -= {index}
                    await void(system, self.entries[index])

    async def known(self, system: System, places: Mapping[str, dict[Any, Any]]) -> dict[int, Known]:
        """What is known of each user; entries are named by the instants at which they occurred."""
        names = {entry: self.case.history[index].at.isoformat() for index, entry in self.entries.items()}
        every = await known_of(system, self.users, NOW, names, places)
        for known in every.values():
            known["awards"] = _without_dates(known["awards"])
        return dict(enumerate(every.values()))

    def arrived(self, who: int, without: frozenset[int] = frozenset()) -> list[Happened]:
        """A user's events in the order in which they came."""
        return [
            self.case.history[index]
            for index in self.order
            if self.case.history[index].who == who and index not in without
        ]


def _without_dates(awards: Mapping[Row, tuple[int, Any]]) -> dict[Row, tuple[int, Any]]:
    """The same with what expired in a system as one: on which date that was found is for whatever looked first."""
    gone: Counter[str] = Counter()
    for row, (amount, _) in awards.items():
        if row.trigger == EXPIRED:
            gone[row.points_system] += amount
    kept = {row: said for row, said in awards.items() if row.trigger != EXPIRED}
    return kept | {
        Row(system, EXPIRED, "", date.min): (amount, None) for system, amount in gone.items() if amount
    }


NUMBERS: Final = count()


async def problems(system: System, case: Case) -> list[str]:
    """Everything that is not as it should be, by the order in which it was seen; users that nobody had before."""
    name = f"case{next(NUMBERS):05}"
    copies = [Copy.of(f"{name}-{number}", case, order) for number, order in enumerate(case.orders)]
    # Of these events and voids take turns.
    mixed = [replace(copy, name=f"{copy.name}m", entries={}) for copy in copies[-1:]]
    await asyncio.gather(*(copy.arrive(system, number) for number, copy in enumerate(copies)))
    await pass_time(system, NOW)
    found = _compare(copies, await _known(system, copies, await ranked(system)), frozenset())
    kept = [
        Copy.of(f"{copy.name}t", case, [index for index in copy.order if index not in case.voided])
        for copy in (*copies, *mixed)
    ]
    await asyncio.gather(
        *(_void_all(system, copy) for copy in copies),
        *(copy.arrive(system, ORDERS, case.voided) for copy in mixed),
        *(twin.arrive(system, number) for number, twin in enumerate(kept)),
    )
    await pass_time(system, NOW)
    places = await ranked(system)
    every = await _known(system, [*copies, *mixed, *kept], places)
    mine, theirs = every[: len(kept)], every[len(kept) :]
    found += _compare([*copies, *mixed], mine, case.voided)
    for copy, one, other in zip((*copies, *mixed), mine, theirs, strict=True):
        found += [f"{copy.name}, voided | never there: {line}" for line in differences(one, other)]
    return found + _ranks(places, [*copies, *mixed], kept)


async def _known(
    system: System, copies: Sequence[Copy], places: Mapping[Place, Sequence[Any]]
) -> list[dict[int, Known]]:
    scores = scores_in(places)
    return list(await asyncio.gather(*(copy.known(system, scores) for copy in copies)))


async def _void_all(system: System, copy: Copy) -> None:
    await asyncio.gather(*(void(system, copy.entries[index]) for index in copy.case.voided))


def _compare(copies: Sequence[Copy], known: Sequence[dict[int, Known]], without: frozenset[int]) -> list[str]:
    """Where orders do not agree, or do not give what they should."""
    found = []
    should = [[given(copy.arrived(who, without)) for who in range(USERS)] for copy in copies]
    for copy, mine, wanted in zip(copies, known, should, strict=True):
        for who in range(USERS):
            told = f"{copy.name} user {who}{' after voids' if without else ''}"
            completions = {
                key: said["at"]
                for key, said in mine[who]["achievements"].items()
                if said["completed"] and key in ACHIEVEMENTS
            }
            found += [
                f"{told}, is | should: {line}"
                for line in differences(completions, dict(wanted[who].completions))
            ]
            rows = {
                row: said for row, said in mine[who]["awards"].items() if row.points_system not in LIMITED
            }
            found += [f"{told}, is | should: {line}" for line in differences(rows, dict(wanted[who].awards))]
            found += [f"{told}, its ledger: {line}" for line in _ledger(mine[who])]
    for who in range(USERS):
        first = agreed(known[0][who])
        for copy, mine, wanted in zip(copies[1:], known[1:], should[1:], strict=True):
            # What a late event took away again had been granted in one order and not in another.
            alike = _numbers(wanted[who].awards) == _numbers(should[0][who].awards)
            here, there = first, agreed(mine[who])
            for part in () if alike else ("achievements", "points", "awards", "points boards"):
                here, there = {**here, part: {}}, {**there, part: {}}
            found += [
                f"{copies[0].name} | {copy.name} user {who}{' after voids' if without else ''}: {line}"
                for line in differences(here, there)
            ]
    return found


def agreed(known: Known) -> dict[str, Any]:
    """What is the same in every order of arrival (RULES 2.5); of what was granted, not when."""
    return {
        "totals": known["totals"],
        "streaks": known["streaks"],
        "boards": {
            place: said for place, said in known["boards"].items() if place.board not in POINTS_BOARDS
        },
        "achievements": {
            key: (said["completed"], said["current"], said["percent"])
            for key, said in known["achievements"].items()
        },
        "points": {key: said for key, said in known["points"].items() if key not in LIMITED},
        "awards": _numbers(known["awards"]),
        "points boards": {
            place: said.score
            for place, said in known["boards"].items()
            if place.board in POINTS_BOARDS
            and place.run is None
            and POINTS_BOARDS[place.board] not in LIMITED
        },
    }


def _numbers(awards: Mapping[Row, tuple[int, Any]]) -> dict[tuple[str, str], int]:
    """How much each trigger has given."""
    found: dict[tuple[str, str], int] = {}
    for row, (amount, _) in awards.items():
        if row.points_system not in LIMITED:
            key = (row.points_system, row.trigger)
            found[key] = found.get(key, 0) + amount
    return found


def _ledger(known: Known) -> list[str]:
    """Balances and boards of points that are not what the ledger says."""
    sums: dict[str, int] = {}
    boards: dict[Place, dict[str, tuple[int, Any]]] = {}
    for row, (amount, at) in known["awards"].items():
        sums[row.points_system] = sums.get(row.points_system, 0) + amount
        for place in {
            place for place in known["boards"] if POINTS_BOARDS.get(place.board) == row.points_system
        }:
            length = 1 if place.board.endswith("daily") else 7
            if place.run is None or 0 <= (row.day - place.run).days < length:
                entries = boards.setdefault(place, {})
                entries[row.entry] = (entries.get(row.entry, (0, at))[0] + amount, at)
    wrong = differences(
        {key: said[0] for key, said in known["points"].items() if said[0]},
        {key: amount for key, amount in sums.items() if amount},
    )
    for place, said in known["boards"].items():
        if place.board in POINTS_BOARDS:
            entries = {entry: one for entry, one in boards.get(place, {}).items() if one[0]}
            right = (
                sum(amount for amount, _ in entries.values()),
                max((at for _, at in entries.values()), default=None),
            )
            wrong += differences({place: tuple(said)}, {place: right})
    return wrong


def _ranks(places: Mapping[Place, Sequence[Any]], copies: Sequence[Copy], twins: Sequence[Copy]) -> list[str]:
    """Where the users of a copy are in another order among themselves than those of its twin."""
    found = []
    for place, members in places.items():
        ids = [member.user_id for member in members]
        for copy, twin in zip(copies, twins, strict=True):
            mine = [copy.users.index(one) for one in ids if one in copy.users]
            theirs = [twin.users.index(one) for one in ids if one in twin.users]
            if mine != theirs:
                found.append(f"{copy.name} ranks, voided | never there: {place}: {mine} | {theirs}")
    return found


async def smaller(system: System, case: Case) -> tuple[Case, list[str]]:
    """The smallest case that was found in a minute, greedily, and what is wrong with it."""
    deadline = time.monotonic() + SHRINKING_SECONDS
    wrong = await problems(system, case)
    size = max(1, len(case.history) // 2)
    while size:
        first = 0
        while first < len(case.history) and time.monotonic() < deadline:
            less = case.without(frozenset(range(first, first + size)))
            found = await problems(system, less) if less.history else []
            if found:
                case, wrong = less, found
            else:
                first += size
        size //= 2
    return case, wrong


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
async def test_all_orders_agree_and_voids_leave_what_the_others_alone_give(world: System, seed: int) -> None:
    case = draw(seed)
    wrong = await problems(world, case)
    if wrong:
        less, shown = await smaller(world, case)
        pytest.fail(
            f"seed {seed}: {len(wrong)} differences. As little as was found to show some:\n{less.text()}\n"
            + "\n".join((shown or wrong)[:SHOWN])
        )
