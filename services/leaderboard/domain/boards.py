"""What a leaderboard is: what it ranks, in which order, in which runs and segments (RULES 6)."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from enum import Enum
from functools import lru_cache, partial
from typing import Final

from msgspec import Struct, json
from msgspec.structs import replace

from services.leaderboard.domain.leagues import COHORT, DIVISION, League
from services.leaderboard.domain.prizes import Prize
from services.leaderboard.domain.runs import PERPETUAL, Run, Schedule, run_of
from services.leaderboard.domain.tracking import Tracking
from shared.filters import AttributeFilter
from shared.tenants import shown, stored, tenant_of

DEFAULT_SEGMENT_LIMIT: Final = 10_000

WHOLE: Final = ""
"""The segment that is the whole board."""


class SourceKind(Enum):
    """What a board can rank by."""

    # A part of keys that are looked up for every event: an enumeration's own hash is written in Python.
    __hash__ = object.__hash__

    METRIC = "metric"
    """The values of a metric."""
    BALANCE = "balance"
    """The balance in a points system: boards with one run."""
    POINTS = "points"
    """The changes in a points system: boards with one run after the other."""
    STREAK = "streak"
    """The present length of a streak: boards with one run."""
    PERIODS = "periods"
    """The length of a streak by period: boards with one run after the other."""


class Source(Struct, frozen=True):
    """What a board ranks by: the kind, and the key of the metric, points system or streak."""

    kind: SourceKind
    key: str


class ScoreRule(Enum):
    """How facts make a score (RULES 6.3)."""

    SUM = "sum"
    """The sum of what the metric's events contribute (RULES 2.2)."""
    BEST = "best"
    """The best single value of the metric."""
    LAST = "last"
    """The metric's value of the newest event."""
    NET = "net"
    """The net change of the points."""
    NEWEST = "newest"
    """The newest absolute value: a balance, or the present length of a streak."""
    LENGTH = "length"
    """The length of a streak at the run's end, or now."""

    @property
    def adds(self) -> bool:
        """Whether a score is a sum, of which a part can be taken out again."""
        return self in (ScoreRule.SUM, ScoreRule.NET)


class Order(Enum):
    """Which end of the scores is first."""

    DESC = "desc"
    ASC = "asc"


class RankMode(Enum):
    """How ties are numbered (RULES 6.4)."""

    ORDINAL = "ordinal"
    COMPETITION = "competition"
    DENSE = "dense"


class GroupAggregation(Enum):
    """What the scores of a group's members make (RULES 6.11)."""

    SUM = "sum"
    AVERAGE = "average"
    BEST = "best"


class GroupRule(Struct, frozen=True):
    """How a board's segments are ranked as groups. `best_count` 0: all members count."""

    aggregation: GroupAggregation
    best_count: int = 0
    least_member_count: int = 1


class Board(Struct, frozen=True):
    """A leaderboard. `participant_limit` 0 means no limit."""

    key: str
    source: Source
    rule: ScoreRule = ScoreRule.SUM
    order: Order = Order.DESC
    rank_mode: RankMode = RankMode.ORDINAL
    schedule: Schedule = PERPETUAL
    breakdown: tuple[str, ...] = ()
    participant_limit: int = 0
    shown: tuple[str, ...] = ()
    """Attributes that reads show beside each member."""
    filters: tuple[AttributeFilter, ...] = ()
    """Whom the board is for, by what holds of them now."""
    prizes: tuple[Prize, ...] = ()
    league: League | None = None
    groups: GroupRule | None = None
    daily_depth: int = 0
    """Of so many members of each segment the rank at the end of each date is kept."""
    segment_limit: int = DEFAULT_SEGMENT_LIMIT
    """Of a run; who is beyond is in the whole only (RULES 6.13)."""
    tracking: Tracking | None = None
    """Whether it is looked for who was overtaken."""
    active: bool = True

    @property
    def segment_names(self) -> tuple[str, ...]:
        """What a segment has values of."""
        return (DIVISION, COHORT) if self.league else self.breakdown


class Boards(Struct, frozen=True):
    """Every board, as of one version of the configuration.

    Each tenant has every board for itself (RULES 9.3): its key has the tenant in front, and only its users are on it.
    """

    by_key: Mapping[str, Board]
    tenants: frozenset[str]
    """Those that have been heard of."""
    _defined: Mapping[str, Board]
    _by_source: Mapping[str, Mapping[Source, tuple[Board, ...]]]
    """By tenant; "" for users of none."""
    _runs_on: Callable[[str, Source, date], Sequence[tuple[Board, Run]]]
    """What is found there, for a date: remembered, for nearly all events are of today."""
    has_tracked: bool = False
    """Whether there is a board on which it is looked for who was overtaken."""

    @classmethod
    def of(cls, boards: Iterable[Board], tenants: Iterable[str] = ()) -> "Boards":
        """The catalogue of these boards, for these tenants too."""
        defined = {board.key: board for board in sorted(boards, key=lambda board: board.key)}
        known = frozenset(tenants)
        by_key = dict(defined)
        by_source = {"": _by_source(by_key.values())}
        for tenant in sorted(known):
            own = [_of_tenant(board, tenant) for board in defined.values()]
            by_key.update((board.key, board) for board in own)
            by_source[tenant] = _by_source(own)
        runs_on = lru_cache(_REMEMBERED)(partial(_runs_on, by_source))
        has_tracked = any(board.tracking is not None for board in defined.values())
        return cls(by_key, known, defined, by_source, runs_on, has_tracked)

    def ranking(self, source: Source, user_id: str) -> tuple[Board, ...]:
        """The active boards that rank this user by this source, by key."""
        return self._by_source.get(tenant_of(user_id), _NO_SOURCES).get(source, ())

    def runs_on(self, source: Source, user_id: str, day: date) -> Sequence[tuple[Board, Run]]:
        """The same boards, each with its run in which this local date lies; without those of which none does."""
        return self._runs_on(tenant_of(user_id), source, day)

    def find(self, key: str) -> Board | None:
        """The board of a stored key; that of a tenant that has not been heard of is empty."""
        board = self.by_key.get(key)
        if board is None and (tenant := tenant_of(key)):
            defined = self._defined.get(shown(key))
            return None if defined is None else _of_tenant(defined, tenant)
        return board

    def for_user(self, user_id: str) -> list[Board]:
        """The boards on which this user may be, by key."""
        tenant = tenant_of(user_id)
        if not tenant:
            return list(self._defined.values())
        return (
            [_of_tenant(board, tenant) for board in self._defined.values()] if tenant in self.tenants else []
        )

    def of_tenants(self, tenants: Iterable[str]) -> list[str]:
        """The keys of all boards of these tenants ("": of none)."""
        return [stored(tenant, key) for tenant in sorted(tenants) for key in self._defined]


_NO_SOURCES: Final[Mapping[Source, tuple[Board, ...]]] = {}
_REMEMBERED: Final = 4_096


def _runs_on(
    by_source: Mapping[str, Mapping[Source, tuple[Board, ...]]], tenant: str, source: Source, day: date
) -> Sequence[tuple[Board, Run]]:
    boards = by_source.get(tenant, _NO_SOURCES).get(source, ())
    return tuple((board, run) for board in boards if (run := run_of(board.schedule, day)) is not None)


def _of_tenant(board: Board, tenant: str) -> Board:
    return replace(board, key=stored(tenant, board.key))


def _by_source(boards: Iterable[Board]) -> dict[Source, tuple[Board, ...]]:
    by_source: defaultdict[Source, list[Board]] = defaultdict(list)
    for board in boards:
        if board.active:
            by_source[board.source].append(board)
    return {source: tuple(ranked) for source, ranked in by_source.items()}


def segment_of(board: Board, attributes: Mapping[str, str]) -> str:
    """The segment of a user with these attributes; `WHOLE` where one of the breakdown attributes is
    missing.
    """
    if not board.breakdown:
        return WHOLE
    values = tuple(map(attributes.get, board.breakdown))
    return WHOLE if None in values else _segment_of_values(board.breakdown, values)


@lru_cache(maxsize=10_000)
def _segment_of_values(names: tuple[str, ...], values: tuple[str | None, ...]) -> str:
    """Users outnumber segments."""
    return segment_text(dict(zip(names, values, strict=True)))


def segment_text(values: Mapping[str, str | None]) -> str:
    """The one way in which a segment is written, so that equal segments are equal texts."""
    if not values:
        return WHOLE
    return json.encode(dict(values), order="sorted").decode()


@lru_cache(maxsize=10_000)
def segment_values(segment: str) -> Mapping[str, str]:
    """The attribute values of a segment; none for the whole board."""
    if segment == WHOLE:
        return {}
    values: dict[str, str] = json.decode(segment)
    return values
