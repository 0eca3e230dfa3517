"""Sorted sets brought up to date from PostgreSQL, for some users in some segments."""

from collections.abc import Callable, Sequence

from services.leaderboard.domain.boards import Board
from services.leaderboard.domain.ranks import Step
from services.leaderboard.projection import Projection
from services.leaderboard.store.standings import StandingStore


async def bring_up_to_date(
    projection: Projection, standings: StandingStore, steps: Sequence[Step], board_of: Callable[[str], Board]
) -> None:
    """Set what is now true of these users in these segments. What became true only after it was read, and was
    forgotten by the sets before it was written, is seen by reading once more.
    """
    written, current = None, await standings.current(steps, board_of)
    while current != written:
        await projection.place(current, board_of)
        written, current = current, await standings.current(steps, board_of)
