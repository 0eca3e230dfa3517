"""How many users have how many points, of those whose attributes meet filters: this service knows the attributes, the
points service the points.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import grpc.aio
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.points.v1 import points_service_pb2, points_service_pb2_grpc

from services.orchestrator.store.reads import ReadStore
from shared.errors import FailedPrecondition, Violations
from shared.filters import AttributeFilter, matches
from shared.rpc.channel import call
from shared.rpc.filters import filters_from_proto
from shared.tenants import own_range

_USERS_AT_ONCE: Final = 500
"""Who are read together: what is made of them holds up everything else of the process."""
_COUNTED_AT_ONCE: Final = 1_000


class PointsHandlers:
    """Reads of points by what holds of users."""

    def __init__(
        self, reads: ReadStore, points: grpc.aio.Channel, max_users: int, timeout_seconds: float
    ) -> None:
        self._reads = reads
        self._points = points_service_pb2_grpc.PointsServiceStub(points)
        self._max_users = max_users
        self._timeout_seconds = timeout_seconds

    async def distribution(
        self, request: pb.GetFilteredPointsDistributionRequest
    ) -> pb.GetFilteredPointsDistributionResponse:
        """Users by ranges of points. Raises `InvalidArgument`, `FailedPrecondition` where there are too many users, or
        what the points service answers with.
        """
        violations = Violations()
        filters = filters_from_proto(request.user_filters, "user_filters", violations)
        if not request.user_filters:
            violations.add("user_filters", "must have a filter; without, the points service counts all users")
        violations.raise_if_any()
        first, end = own_range() or ("", None)
        if await self._reads.has_more_users(first, end, self._max_users):
            raise FailedPrecondition(
                f"there are more than {self._max_users:,} users, which is as many as are looked at",
                reason="TOO_MANY_USERS",
                metadata={"limit": str(self._max_users)},
            )
        response = pb.GetFilteredPointsDistributionResponse()
        async for user_ids in self._matching(filters, first, end):
            response.matching_user_count += len(user_ids)
            counted = await self._counted(request, user_ids)
            if not response.ranges:
                response.ranges.extend(counted.ranges)
                continue
            for own, part in zip(response.ranges, counted.ranges, strict=True):
                own.user_count += part.user_count
        return response

    async def _counted(
        self, request: pb.GetFilteredPointsDistributionRequest, user_ids: Sequence[str]
    ) -> points_service_pb2.GetPointsDistributionResponse:
        """Of these users. What is wrong with system and bounds the points service says."""
        asked = points_service_pb2.GetPointsDistributionRequest(
            points_system=request.points_system,
            bounds=request.bounds,
            by_lifetime=request.by_lifetime,
            only=points_service_pb2.UserSet(user_ids=user_ids),
        )
        return await call(self._points.GetPointsDistribution, asked, timeout_seconds=self._timeout_seconds)

    async def _matching(
        self, filters: Sequence[AttributeFilter], after: str, end: str | None
    ) -> AsyncIterator[list[str]]:
        """The ids of those who meet the filters, a bounded number at a time; at least once, perhaps of nobody."""
        found: list[str] = []
        while users := await self._reads.users(after, end, _USERS_AT_ONCE):
            after = users[-1].user_id
            found += [user.user_id for user in users if matches(filters, user.said.plain_attributes())]
            if len(found) >= _COUNTED_AT_ONCE:
                yield found[:_COUNTED_AT_ONCE]
                found = found[_COUNTED_AT_ONCE:]
        yield found
