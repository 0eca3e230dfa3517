"""How facts make a score (RULES 6.3): as a fold over all of them, one by one, and with one of them taken out.

All ways give the same score, whatever the order. One by one is the common case; the fold is for a board that is newer
than the facts. What is taken out or revised is subtracted, where the score still says when it was reached.
"""

from collections.abc import Iterable
from datetime import date, datetime
from functools import reduce
from typing import Final
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.leaderboard.domain.boards import Board, Order, ScoreRule, Source

MAX_SCORE: Final = 2**63 - 1
"""Scores are held within 64 bits. The orchestrator bounds the sums of a user far below; this is the last
guard.
"""


class Fact(Struct, frozen=True):
    """What is known of one source under one entry.

    `amount` is the value in micro-units (metric), the points added (points, net), or the new absolute value
    (points, streaks), which is None when the user has nothing of the kind. Points stand under the entry and the local
    date that they belong to, which need not be those of the entry that brings them. `version` orders absolute values,
    and contributions.
    """

    source: Source
    entry_id: UUID
    amount: int | None
    reach_time: datetime
    local_date: date
    version: int = 0
    contribution: int | None = None
    """What a metric's event contributes (RULES 2.2), where that is another thing than its value."""
    local_minute: int | None = None
    """Of a metric's event the minute of the user's day, from 0; None where it was not kept."""

    @property
    def added(self) -> int:
        """What it adds to a sum. What adds nothing counts for nothing."""
        return (self.amount or 0) if self.contribution is None else self.contribution


FactKey = tuple[Source, UUID, date]
"""What a fact stands under: the source, the entry and the local date."""


def key_of(fact: Fact) -> FactKey:
    """What a fact stands under."""
    return fact.source, fact.entry_id, fact.local_date


class Score(Struct, frozen=True):
    """A user's score on one board in one run. Without an amount the user is not a member.

    The entry is that of a single value, where the board looks at one.
    """

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
        case ScoreRule.SUM | ScoreRule.NET:
            return _sum(score, fact)
        case ScoreRule.BEST:
            return _best(board.order, score, fact)
        case ScoreRule.LAST:
            return _last(score, fact)
        case ScoreRule.NEWEST:
            return _newest(score, fact)
        case ScoreRule.LENGTH:
            raise ValueError("the lengths of a streak make this score (domain.lengths)")


def folded(board: Board, facts: Iterable[Fact]) -> Score:
    """The score that all these facts of one run make, each under a key of its own."""
    return reduce(lambda score, fact: extended(board, score, fact), facts, NO_SCORE)


def without(board: Board, score: Score, fact: Fact) -> Score | None:
    """The score without one of the facts that make it; None where only the others tell."""
    if board.rule.adds:
        if not fact.added:
            return score
        if score.amount is None or score.reach_time is None or fact.reach_time >= score.reach_time:
            return None
        return replace(score, amount=_bounded(score.amount - fact.added))
    if board.rule is ScoreRule.BEST:
        is_other = fact.amount != score.amount or (
            score.reach_time is not None and fact.reach_time > score.reach_time
        )
    else:
        is_other = fact.entry_id != score.entry_id
    return score if is_other else None


def lessened(score: Score, fact: Fact, newest: datetime | None) -> Score:
    """A sum without one of its facts, where `newest` is the latest reach time of the others; None: there are none."""
    if newest is None:
        return NO_SCORE
    return Score(_bounded((score.amount or 0) - fact.added), newest)


def _newest(score: Score, fact: Fact) -> Score:
    if fact.version <= score.source_version:
        return score
    if fact.amount is None:
        return Score(source_version=fact.version)
    return Score(_bounded(fact.amount), fact.reach_time, fact.entry_id, fact.version)


def _sum(score: Score, fact: Fact) -> Score:
    """A sum is reached when the latest of what contributes to it happened."""
    added = fact.added
    if not added:
        return score
    if score.amount is None or score.reach_time is None:
        return Score(_bounded(added), fact.reach_time)
    return Score(_bounded(score.amount + added), max(score.reach_time, fact.reach_time))


def _best(order: Order, score: Score, fact: Fact) -> Score:
    """The best value is reached when it first occurred; of two events at one instant the one with the lesser id is
    named, so that every order of arrival agrees.
    """
    if fact.amount is None:
        return score
    challenger = Score(_bounded(fact.amount), fact.reach_time, fact.entry_id)
    if score.amount is None or score.reach_time is None or score.entry_id is None:
        return challenger
    if fact.amount == score.amount:
        is_earlier = (fact.reach_time, fact.entry_id) < (score.reach_time, score.entry_id)
        return challenger if is_earlier else score
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


def _bounded(amount: int) -> int:
    return max(-MAX_SCORE, min(MAX_SCORE, amount))
