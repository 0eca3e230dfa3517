"""The first members of segments as they were when it was looked last, and what is written of who was overtaken."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct, json

from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.domain.runs import RunState
from services.leaderboard.domain.tracking import Own, Spot
from services.leaderboard.store import history, rows
from shared.postgres.pool import Connection

RUN: Final = """
    SELECT board, start_date, end_date, finalize_time, finalized
      FROM runs WHERE board = $1 AND start_date = $2 AND NOT finalized FOR SHARE
"""
BEGIN: Final = """
    INSERT INTO tracked_tops (board, run_start, segment, look_time) VALUES ($1, $2, $3, '-infinity')
        ON CONFLICT (board, run_start, segment) DO NOTHING
"""
# Of two replicas that look at once, the second waits here and then finds that it is too early.
TAKE: Final = """
    SELECT look_time, members FROM tracked_tops
     WHERE board = $1 AND run_start = $2 AND segment = $3 AND look_time <= $4
       FOR UPDATE
"""
KEEP: Final = """
    UPDATE tracked_tops SET look_time = $4, members = $5 WHERE board = $1 AND run_start = $2 AND segment = $3
"""
OWN: Final = f"""
    SELECT user_id, (array_agg(change.previous_rank ORDER BY change_time, entry_id))[1] AS first,
           (array_agg(change.rank ORDER BY change_time DESC, entry_id DESC))[1] AS last,
           (array_agg(change.score ORDER BY change_time DESC, entry_id DESC))[1] AS score
      FROM {history.CHANGES}
     WHERE user_id = ANY($4::text[]) AND change_time > $5
       AND change.board = $1 AND change.run_start = $2 AND change.segment = $3 AND NOT passed
     GROUP BY user_id
"""
WRITE: Final = """
    INSERT INTO rank_events (user_id, change_time, entry_id, board, run_start, segment, previous_rank, rank, score,
                             passed)
    SELECT event.*, true FROM unnest($1::rank_event_row[]) AS event
"""

_MEMBERS: Final = json.Decoder(dict[str, Spot])


class Look(Struct, frozen=True):
    """The look before; without members there was none."""

    run: RunState
    time: datetime
    members: Mapping[str, Spot] | None


async def take(connection: Connection, key: SegmentKey, now: datetime, interval: timedelta) -> Look | None:
    """The look before, locked until the end of the transaction; None where the run is over, or it is too early."""
    values = (key.board, key.run_start, key.segment)
    run = await connection.fetchrow(RUN, key.board, key.run_start)
    if run is None:
        return None
    await connection.execute(BEGIN, *values)
    row = await connection.fetchrow(TAKE, *values, now - interval)
    if row is None:
        return None
    members = None if row["members"] is None else _MEMBERS.decode(row["members"])
    return Look(rows.run_state(run), row["look_time"], members)


async def keep(connection: Connection, key: SegmentKey, now: datetime, members: Mapping[str, Spot]) -> None:
    """What the next look is compared with."""
    text = json.encode(members).decode()
    await connection.execute(KEEP, key.board, key.run_start, key.segment, now, text)


async def own(
    connection: Connection, key: SegmentKey, user_ids: Collection[str], since: datetime
) -> dict[str, Own]:
    """What these users' own entries made of their ranks since an instant."""
    found = await connection.fetch(OWN, key.board, key.run_start, key.segment, sorted(user_ids), since)
    return {row["user_id"]: Own(row["first"], row["last"], row["score"]) for row in found}


async def write(connection: Connection, events: Sequence[tuple[Any, ...]]) -> None:
    """Rows of the rank history."""
    await connection.execute(WRITE, events)
