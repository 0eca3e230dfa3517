"""How facts make a score (RULES 6.3): as a fold over all of them, and one by one.

Both ways give the same score, whatever the order. One by one is the common case; the fold is for what
cannot be done so: an entry undone, a board that is newer than the facts.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from functools import reduce
from typing import Final
from uuid import UUID

from msgspec import Struct

from services.leaderboard.domain.boards import Board, Order, ScoreRule, Source

MAX_SCORE: Final = 2**63 - 1
"""Scores are held within 64 bits. The orchestrator bounds the sums of a user far below; this is the last
guard.
"""


class Fact(Struct, frozen=True):
    """What one entry says about one source.

    `amount` is the value in micro-units (metric), the points added (points, net), or the new absolute value
    (points, streaks), which is None when the user has nothing of the kind. `version` orders absolute values.
    `origin_id` is the entry that a correction corrects, else the entry itself.
    """

    source: Source
    entry_id: UUID
    origin_id: UUID
    amount: int | None
    reach_time: datetime
    local_date: date
    version: int = 0

    @property
    def is_correction(self) -> bool:
        """Whether it brings up to date what an earlier entry said."""
        return self.entry_id != self.origin_id


class Score(Struct, frozen=True):
    """A user's score on one board in one run. Without an amount the user is not a member."""

    amount: int | None = None
    reach_time: datetime | None = None
    entry_id: UUID | None = None
    source_version: int = 0

    @property
    def is_member(self) -> bool:
        """Whether the user is on the board."""
        return self.amount is not None


NO_SCORE: Final = Score()


def extended(board: Board, score: Score, fact: Fact) -> Score:
    """The score after one more fact of the same run."""
    match board.rule:
        case ScoreRule.NEWEST:
            return _newest(score, fact)
        case ScoreRule.SUM | ScoreRule.NET:
            return _sum(score, fact)
        case ScoreRule.BEST:
            return _best(board.order, score, fact)
        case ScoreRule.LAST:
            return _last(score, fact)


def folded(board: Board, facts: Iterable[Fact]) -> Score:
    """The score that all these facts of one run make."""
    counted = _without_undone(facts) if board.rule is ScoreRule.NET else facts
    return reduce(lambda score, fact: extended(board, score, fact), counted, NO_SCORE)


def _newest(score: Score, fact: Fact) -> Score:
    if fact.version <= score.source_version:
        return score
    if fact.amount is None:
        return Score(source_version=fact.version)
    return Score(_bounded(fact.amount), fact.reach_time, fact.entry_id, fact.version)


def _sum(score: Score, fact: Fact) -> Score:
    """A sum is reached when the latest of what contributes to it happened."""
    if not fact.amount:
        return score
    if score.amount is None or score.reach_time is None:
        return Score(_bounded(fact.amount), fact.reach_time, fact.origin_id)
    reach_time = max(score.reach_time, fact.reach_time)
    return Score(_bounded(score.amount + fact.amount), reach_time, fact.origin_id)


def _best(order: Order, score: Score, fact: Fact) -> Score:
    """The best value is reached when it first occurred."""
    if fact.amount is None:
        return score
    challenger = Score(_bounded(fact.amount), fact.reach_time, fact.entry_id)
    if score.amount is None or score.reach_time is None:
        return challenger
    if fact.amount == score.amount:
        return challenger if fact.reach_time < score.reach_time else score
    is_better = fact.amount > score.amount if order is Order.DESC else fact.amount < score.amount
    return challenger if is_better else score


def _last(score: Score, fact: Fact) -> Score:
    """Of two events at one instant the greater id is the newer, so that every order of arrival agrees."""
    if fact.amount is None:
        return score
    challenger = Score(_bounded(fact.amount), fact.reach_time, fact.entry_id)
    if score.reach_time is None or score.entry_id is None:
        return challenger
    newer = (fact.reach_time, fact.entry_id) > (score.reach_time, score.entry_id)
    return challenger if newer else score


def _without_undone(facts: Iterable[Fact]) -> list[Fact]:
    """One fact per origin; an origin whose corrections take back all that it added has left nothing."""
    by_origin: defaultdict[UUID, list[Fact]] = defaultdict(list)
    for fact in facts:
        by_origin[fact.origin_id].append(fact)
    return [fact for group in by_origin.values() for fact in group if sum(one.amount or 0 for one in group)]


def _bounded(amount: int) -> int:
    return max(-MAX_SCORE, min(MAX_SCORE, amount))
