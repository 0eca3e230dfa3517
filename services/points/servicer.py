"""The transport of laurel.points.v1: message, handler, message."""

from typing import Any

from laurel.points.v1 import points_service_pb2 as pb
from laurel.points.v1 import points_service_pb2_grpc
from msgspec.structs import astuple

from services.points import convert, convert_reads
from services.points.definitions import POINTS_SYSTEM
from services.points.level_days import LevelDays
from services.points.reads import Reads
from shared.clock import Clock
from shared.pages import read_page
from shared.postgres.definitions import Definitions


class PointsServicer(points_service_pb2_grpc.PointsServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(
        self,
        reads: Reads,
        level_days: LevelDays,
        definitions: Definitions,
        clock: Clock,
    ) -> None:
        self._reads = reads
        self._level_days = level_days
        self._definitions = definitions
        self._clock = clock

    async def GetPointsSystem(
        self, request: pb.GetPointsSystemRequest, _context: Any
    ) -> pb.GetPointsSystemResponse:
        """Gets a definition."""
        return pb.GetPointsSystemResponse(
            points_system=await self._definitions.get(POINTS_SYSTEM, request.key)
        )

    async def ListPointsSystems(
        self, request: pb.ListPointsSystemsRequest, _context: Any
    ) -> pb.ListPointsSystemsResponse:
        """Lists definitions."""
        found, token = await self._definitions.list(POINTS_SYSTEM, request.page_size, request.page_token)
        return pb.ListPointsSystemsResponse(points_systems=found, next_page_token=token)

    async def ListUserPoints(
        self, request: pb.ListUserPointsRequest, _context: Any
    ) -> pb.ListUserPointsResponse:
        """Gets a user's balances and levels."""
        convert.check_read(user_id=request.user_id)
        page = read_page(
            request.page_size,
            request.page_token,
            keyset=[str],
            query=["list_user_points", request.user_id],
        )
        configuration, state, keys, token = await self._reads.list_user_points(
            request.user_id, page, self._clock.now()
        )
        return pb.ListUserPointsResponse(
            points=[convert.user_points_to_proto(configuration, state, key) for key in keys],
            next_page_token=token,
        )

    async def ListAwards(self, request: pb.ListAwardsRequest, _context: Any) -> pb.ListAwardsResponse:
        """Lists a user's awards."""
        wanted = convert_reads.award_filter(request)
        page = read_page(
            request.page_size,
            request.page_token,
            keyset=[int],
            query=["list_awards", request.user_id, *map(str, astuple(wanted))],
        )
        awards, token = await self._reads.list_awards(request.user_id, wanted, page)
        return pb.ListAwardsResponse(awards=map(convert.award_to_proto, awards), next_page_token=token)

    async def GetLevelDistribution(
        self, request: pb.GetLevelDistributionRequest, _context: Any
    ) -> pb.GetLevelDistributionResponse:
        """Counts users by level."""
        convert.check_read(points_system=request.points_system)
        return convert.distribution_to_proto(*await self._reads.level_distribution(request.points_system))

    async def ListLevelDays(
        self, request: pb.ListLevelDaysRequest, _context: Any
    ) -> pb.ListLevelDaysResponse:
        """Counts users by level, date by date."""
        first, last = convert_reads.level_day_range(request)
        return convert_reads.level_days_to_proto(
            await self._level_days.list(request.points_system, first, last)
        )

    async def SummarizePoints(
        self, request: pb.SummarizePointsRequest, _context: Any
    ) -> pb.SummarizePointsResponse:
        """Sums a user's points by period."""
        unit, first, last = convert_reads.summary_range(request)
        return convert_reads.summary_to_proto(
            await self._reads.summary(request.user_id, request.points_system, unit, first, last)
        )

    async def GetPointsDistribution(
        self, request: pb.GetPointsDistributionRequest, _context: Any
    ) -> pb.GetPointsDistributionResponse:
        """Counts users by ranges."""
        convert_reads.check_distribution(request)
        counts = await self._reads.users_by_range(
            request.points_system,
            request.bounds,
            by_lifetime=request.by_lifetime,
            only=request.only.user_ids if request.HasField("only") else None,
        )
        return convert_reads.distribution_to_proto(request.bounds, counts)

    async def ListUserBoosts(
        self, request: pb.ListUserBoostsRequest, _context: Any
    ) -> pb.ListUserBoostsResponse:
        """Lists the boosts that apply to a user now."""
        now = self._clock.now()
        day = convert_reads.moment(request, now)
        return convert_reads.boosts_to_proto(
            *await self._reads.boosts(request.user_id, request.attributes, now, day)
        )

    async def PreviewAward(self, request: pb.PreviewAwardRequest, _context: Any) -> pb.PreviewAwardResponse:
        """Says what an event would give."""
        command = convert_reads.previewed(request, self._clock.now())
        return convert_reads.preview_to_proto(request.user_id, await self._reads.preview(command))

    async def ListExpiringPoints(
        self, request: pb.ListExpiringPointsRequest, _context: Any
    ) -> pb.ListExpiringPointsResponse:
        """Lists what expires."""
        convert_reads.check_expiring(request)
        return convert_reads.expiring_to_proto(
            await self._reads.expiring(
                request.user_id, request.points_system, request.within_days, self._clock.now()
            )
        )

    async def AuditPoints(self, request: pb.AuditPointsRequest, _context: Any) -> pb.AuditPointsResponse:
        """Compares what is stored with what the facts give."""
        convert_reads.check_audit(request)
        page = read_page(
            request.page_size,
            request.page_token,
            keyset=[str],
            query=["audit_points", request.user_id],
        )
        return convert_reads.audit_to_proto(*await self._reads.audit(request.user_id, page))
