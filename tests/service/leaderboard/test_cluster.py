"""RULES 6.7 on a Valkey Cluster: the same service, the same answers; and a master that dies."""

from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest
from laurel.leaderboard.v1 import leaderboard_service_pb2 as pb
from laurel.leaderboard.v1.leaderboard_service_pb2_grpc import LeaderboardServiceStub
from laurel.participant.v1.participant_service_pb2_grpc import ParticipantServiceStub
from redis.asyncio import RedisCluster

from services.leaderboard.domain.ranks import SegmentKey
from services.leaderboard.projection import keys_of
from shared.redis.client import answers_and_keeps
from tests.fixtures.databases import owner_of
from tests.fixtures.definitions import Administrator
from tests.fixtures.valkey_cluster import ValkeyCluster
from tests.fixtures.waiting import until
from tests.service.leaderboard.conftest import (
    KEEP_CLOCK_OFF,
    PATIENCE_SECONDS,
    Service,
    ServiceDatabase,
    are_marked,
    served,
)
from tests.service.leaderboard.messages import WEEKLY, event
from tests.service.leaderboard.steps import applied, define, ranking, rebuilt
from tests.service.leaderboard.test_lost_keys import (
    test_a_board_that_lost_its_keys_is_filled_alone,
    test_a_new_segment_is_not_taken_for_a_lost_one,
    test_the_registry_names_the_segments_that_are_there,
    test_who_left_a_segment_does_not_come_back_when_it_is_filled,
)
from tests.service.leaderboard.test_maintenance import (
    test_segments_are_archived_with_ranks_of_their_own,
    test_the_sorted_sets_of_an_archived_run_are_gone,
)
from tests.service.leaderboard.test_members import test_friends_come_best_first_with_their_ranks_among_all
from tests.service.leaderboard.test_projection import (
    test_a_late_write_does_not_bring_back_what_is_stale,
    test_a_rebuild_gives_what_the_events_gave,
    test_emptied_sets_are_noticed_answered_for_and_filled_again,
    test_events_go_on_during_a_rebuild,
)
from tests.service.leaderboard.test_reads import (
    test_a_users_standings_are_told_by_board_and_segment,
    test_members_around_a_user_are_cut_at_the_ends,
)
from tests.service.leaderboard.test_revert import (
    test_an_undone_entry_leaves_state_and_sets_as_if_it_had_never_been,
)
from tests.service.leaderboard.test_verify import verified

pytestmark = pytest.mark.servers

SAME_ON_A_CLUSTER = (
    test_a_board_that_lost_its_keys_is_filled_alone,
    test_a_late_write_does_not_bring_back_what_is_stale,
    test_a_new_segment_is_not_taken_for_a_lost_one,
    test_a_rebuild_gives_what_the_events_gave,
    test_a_users_standings_are_told_by_board_and_segment,
    test_an_undone_entry_leaves_state_and_sets_as_if_it_had_never_been,
    test_emptied_sets_are_noticed_answered_for_and_filled_again,
    test_events_go_on_during_a_rebuild,
    test_friends_come_best_first_with_their_ranks_among_all,
    test_members_around_a_user_are_cut_at_the_ends,
    test_segments_are_archived_with_ranks_of_their_own,
    test_the_registry_names_the_segments_that_are_there,
    test_the_sorted_sets_of_an_archived_run_are_gone,
    test_who_left_a_segment_does_not_come_back_when_it_is_filled,
)
"""The core of the suite: the same tests, with the service of this module."""


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ValkeyCluster]:
    started = await ValkeyCluster.start(tmp_path_factory.mktemp("cluster"))
    yield started
    started.stop()


@pytest.fixture
async def service(service_database: ServiceDatabase, cluster: ValkeyCluster) -> AsyncIterator[Service]:
    """A service on the cluster, which is empty."""
    cluster.flush()
    dsn = await service_database("leaderboard")
    database = await asyncpg.connect(owner_of(dsn))
    await database.execute(KEEP_CLOCK_OFF)
    sets = RedisCluster.from_url(cluster.url)
    async with served(dsn, cluster.url, cluster=True) as channel:
        stub = LeaderboardServiceStub(channel)

        async def is_filled() -> bool:
            return await are_marked(database, sets)

        await until(is_filled, seconds=PATIENCE_SECONDS, what="the sorted sets are filled for the first time")
        yield Service(
            stub, ParticipantServiceStub(channel), Administrator(channel), database, dsn, sets, cluster.url
        )
    await sets.aclose()
    await database.close()


async def many_boards(service: Service) -> list[str]:
    """Boards whose segments lie on all masters."""
    keys = ["alfa", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett"]
    for key in keys:
        await define(service, key, schedule=WEEKLY)
    await applied(
        service, *(event(user, score, user=user) for user, score in zip("abc", (3, 2, 1), strict=True))
    )
    return keys


async def test_the_keys_of_a_segment_lie_together_and_segments_on_all_masters(service: Service) -> None:
    keys = await many_boards(service)
    run = await service.database.fetchval("SELECT min(start_date) FROM runs")
    assert isinstance(service.sets, RedisCluster)
    masters = set()
    for key in keys:
        nodes = [service.sets.get_node_from_key(one) for one in keys_of(SegmentKey(key, run, ""))]
        names = {node.name for node in nodes if node}
        assert len(names) == 1
        masters |= names
    assert len(masters) == 3
    await answers_and_keeps(service.sets)


async def test_a_master_that_dies_is_noticed_and_all_is_as_it_was(
    service: Service, cluster: ValkeyCluster
) -> None:
    """The last of the module: afterwards the cluster has another first master."""
    keys = await many_boards(service)
    before = [await ranking(service, key) for key in keys]
    await cluster.fail_over()
    outcome = None

    async def is_applied() -> bool:
        nonlocal outcome
        try:
            (outcome,) = await applied(service, event("later", 5, user="c", minutes=1))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    await until(is_applied, seconds=30, what="events are taken again")
    assert outcome is not None
    assert [standing.rank for standing in outcome.effects.leaderboards] == [1] * len(keys)
    await rebuilt(service)
    assert not (await verified(service)).differences
    for key, members in zip(keys, before, strict=True):
        assert [user for _, user, _ in members] == ["a", "b", "c"]
        assert [user for _, user, _ in await ranking(service, key)] == ["c", "a", "b"]
    response = await service.stub.ListRankedMembers(
        pb.ListRankedMembersRequest(selector=pb.SegmentSelector(leaderboard=keys[0]))
    )
    assert not response.rebuilding
