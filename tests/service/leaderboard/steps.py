"""What tests do with the service, and what they see of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from laurel.common.v1 import date_pb2
from laurel.leaderboard.v1 import leaderboard_pb2
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.participant.v1 import participant_service_pb2 as participant_pb

from services.leaderboard.store import history
from shared.rpc.convert import to_timestamp
from tests.fixtures.feeds import listed
from tests.service.leaderboard.conftest import Service
from tests.service.leaderboard.messages import WEDNESDAY, apply, selector


async def define(service: Service, key: str, **fields: Any) -> None:
    """Create a board; by commits when nothing else is said."""
    if not {"metric", "points_system", "streak"} & fields.keys():
        fields["metric"] = "commits"
    board = leaderboard_pb2.Leaderboard(key=key, name=key.title(), **fields)
    await service.definitions.create(board)


async def applied(service: Service, *commands: participant_pb.Command) -> list[participant_pb.Outcome]:
    response = await service.participant.ApplyEntries(apply(*commands))
    return list(response.outcomes)


async def standings(service: Service, command: participant_pb.Command) -> list[leaderboard_pb2.Standing]:
    """What one entry did."""
    (outcome,) = await applied(service, command)
    return list(outcome.effects.leaderboards)


async def ranking(
    service: Service,
    board: str,
    segment: Mapping[str, str] | None = None,
    day: date_pb2.LocalDate = WEDNESDAY,
) -> list[tuple[int, str, float]]:
    """Rank, user and score of all members, read in pages of 2."""
    found: list[tuple[int, str, float]] = []
    token = ""
    while True:
        response = await service.stub.ListRankedMembers(
            pb.ListRankedMembersRequest(selector=selector(board, segment, day), page_size=2, page_token=token)
        )
        found += [(member.rank, member.user_id, member.score) for member in response.members]
        token = response.next_page_token
        if not token:
            assert response.member_count == len(found)
            return found


async def maintained(service: Service, now: datetime) -> int:
    """How many runs a pass at this instant archived."""
    done = 0
    while True:
        part = await service.participant.RunMaintenance(
            participant_pb.RunMaintenanceRequest(now=to_timestamp(now))
        )
        done += part.done_count
        if not part.more:
            return done


async def found(service: Service) -> list[participant_pb.Change]:
    """What the service found by itself and somebody acts on."""
    response = await listed(service, participant_pb.ListChangesRequest(page_size=1_000))
    return [change for change in response.changes if not change.HasField("board_run")]


async def rebuilt(service: Service) -> int:
    response = await service.stub.RebuildProjection(pb.RebuildProjectionRequest())
    return response.member_count


async def stored_state(service: Service) -> dict[str, list[tuple[Any, ...]]]:
    """All that was derived from entries, without versions; who is no member any more is not there."""
    queries = {
        "scores": "SELECT user_id, board, run_start, segment, score, reach_time FROM scores "
        "WHERE score IS NOT NULL ORDER BY 1, 2, 3",
        "rank_events": "SELECT user_id, change.board, change.segment, change.previous_rank, change.rank, "
        f"change.score FROM {history.CHANGES} ORDER BY change_time, 1, 2, 3",
        "archive": "SELECT board, run_start, segment, ordinal, rank, user_id, score FROM archive "
        "ORDER BY 1, 2, 3, 4",
        "live facts": "SELECT user_id, metric, value_micros, local_date FROM request_log "
        "WHERE state = 1 AND metric IS NOT NULL ORDER BY 1, 2, 3, 4",
    }
    return {
        name: [tuple(row) for row in await service.database.fetch(query)] for name, query in queries.items()
    }


async def projected(service: Service) -> dict[str, list[Any]]:
    """The members of every sorted set, in order."""
    keys = sorted([key async for key in service.sets.scan_iter("laurel:{*:order")])
    return {key.decode(): list(await service.sets.zrange(key, 0, -1)) for key in keys}
