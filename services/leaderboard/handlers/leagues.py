"""Leagues: those who had to wait are put into cohorts, and where a user stands is told (RULES 6.12)."""

from msgspec.structs import replace

from services.leaderboard.config import SEATS_AT_ONCE
from services.leaderboard.convert.common import DOMAIN
from services.leaderboard.domain.boards import WHOLE, Boards
from services.leaderboard.domain.leagues import (
    Cohort,
    League,
    Outcome,
    cohort_segment,
    division_after,
    kept_count,
    outcome_of,
    promoted_count,
)
from services.leaderboard.domain.ranks import LOOK_ONLY, Member, SegmentKey, Step
from services.leaderboard.domain.states import RunKey
from services.leaderboard.handlers.lists import Lists
from services.leaderboard.handlers.refreshing import bring_up_to_date
from services.leaderboard.projection import Projection
from services.leaderboard.results import LeagueStanding, MemberList, RankedMembers, Selector
from services.leaderboard.store.leagues import LeagueStore, UserSeat
from services.leaderboard.store.standings import StandingStore
from shared.errors import NotFound
from shared.postgres.pool import Pool


class Leagues:
    """What time brings, and what is read."""

    def __init__(self, pool: Pool, projection: Projection, lists: Lists) -> None:
        self._store = LeagueStore(pool)
        self._standings = StandingStore(pool)
        self._projection = projection
        self._lists = lists

    async def seat_waiting(self, boards: Boards) -> int:
        """Put those into cohorts who were active before it was decided what the run before brings; how many."""
        seated = 0
        for run in await self._store.runs_waiting():
            board = boards.by_key.get(run[0])
            if board is None or board.league is None:
                continue
            while count := await self._store.seat_waiting(board.league, run, SEATS_AT_ONCE):
                seated += count
            while segments := await self._store.unprojected(board.league, run, SEATS_AT_ONCE):
                await self._project(boards, run, segments)
        return seated

    async def _project(self, boards: Boards, run: RunKey, segments: dict[str, str]) -> None:
        """Tell the sorted sets; a crash before it is noted lets it be told again."""
        steps = [
            Step(SegmentKey(*run, part), user_id, LOOK_ONLY, None, None)
            for user_id, segment in segments.items()
            for part in (WHOLE, segment)
        ]
        await bring_up_to_date(self._projection, self._standings, steps, boards.by_key.__getitem__)
        await self._store.set_projected(run, list(segments))

    async def standing(self, selector: Selector, user_id: str) -> LeagueStanding:
        """Where a user stands. Raises `NotFound`."""
        wanted = await self._lists.understand(selector)
        league = wanted.board.league
        if league is None:
            raise NotFound(
                f"the leaderboard {wanted.board.key!r} is no league",
                reason="LEAGUE_NOT_FOUND",
                metadata={"leaderboard": wanted.board.key},
                domain=DOMAIN,
            )
        known = await self._store.of_user((wanted.board.key, wanted.key.run_start), user_id)
        if known.seat is None or known.seat.cohort is None:
            return _without_cohort(league, wanted, user_id, known)
        cohort = known.seat.cohort
        key = replace(wanted.key, segment=cohort_segment(league, cohort))
        found = await self._lists.page_of(replace(wanted, key=key), 0, league.cohort_size)
        return _in_cohort(league, cohort, found, user_id, known.outcome)


def _without_cohort(league: League, wanted: MemberList, user_id: str, known: UserSeat) -> LeagueStanding:
    """Of who is not active, or waits."""
    waits = known.seat is not None
    after = known.division - 1 if league.drops_inactive and not waits else known.division
    members = RankedMembers(wanted.board, wanted.run, wanted.key, [], {}, 0)
    return LeagueStanding(members, user_id, known.division, None, waits, 0, None, max(after, 0), None, None)


def _in_cohort(
    league: League, cohort: Cohort, found: RankedMembers, user_id: str, stored: Outcome | None
) -> LeagueStanding:
    """Of who is in a cohort; `stored` is what a run that is over brought."""
    division, members = cohort.division, [member for _, member in found.members]
    place = next((index for index, member in enumerate(members) if member.user_id == user_id), None)
    if place is None:
        return LeagueStanding(found, user_id, division, cohort, False, 0, None, division, None, None)
    outcome = stored or outcome_of(league, division, place + 1, len(members))
    up, kept = promoted_count(league, division), kept_count(league, division, len(members))
    return LeagueStanding(
        found,
        user_id,
        division,
        cohort,
        False,
        found.members[place][0],
        outcome,
        division_after(division, outcome),
        _distance(members[place], members[min(up, len(members)) - 1]) if 0 < up <= place else None,
        _distance(members[place], members[kept]) if place < kept < len(members) else None,
    )


def _distance(member: Member, other: Member) -> int:
    return abs(member.amount - other.amount)
