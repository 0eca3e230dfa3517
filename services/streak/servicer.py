"""The transport of laurel.streak.v1: message, handler, message."""

from typing import Any

from laurel.streak.v1 import streak_service_pb2 as pb
from laurel.streak.v1 import streak_service_pb2_grpc

from services.streak import convert, convert_reads
from services.streak.amnesties import Amnesties
from services.streak.backfills import Backfills
from services.streak.definitions import AMNESTY, STREAK
from services.streak.handlers import StoredCatalogue
from services.streak.queries import Queries
from shared.clock import Clock
from shared.postgres.definitions import Definitions


class StreakServicer(streak_service_pb2_grpc.StreakServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(
        self,
        queries: Queries,
        definitions: Definitions,
        amnesties: Amnesties,
        backfills: Backfills,
        catalogue: StoredCatalogue,
        clock: Clock,
    ) -> None:
        self._queries = queries
        self._amnesties = amnesties
        self._backfills = backfills
        self._catalogue = catalogue
        self._clock = clock
        self._definitions = definitions

    async def GetStreak(self, request: pb.GetStreakRequest, _context: Any) -> pb.GetStreakResponse:
        """Gets a definition."""
        streak = await self._definitions.get(STREAK, request.key)
        definition = (await self._catalogue.latest()).get(request.key)
        progress = await self._backfills.progress(definition) if definition else None
        response = pb.GetStreakResponse(streak=streak)
        if progress is not None:
            response.backfill.looked_at_user_count = progress.looked_count
            response.backfill.found_user_count = progress.found_count
            response.backfill.finished = progress.finish_time is not None
        return response

    async def ListStreaks(self, request: pb.ListStreaksRequest, _context: Any) -> pb.ListStreaksResponse:
        """Lists definitions."""
        found, token = await self._definitions.list(STREAK, request.page_size, request.page_token)
        return pb.ListStreaksResponse(streaks=found, next_page_token=token)

    async def ListUserStreaks(
        self, request: pb.ListUserStreaksRequest, _context: Any
    ) -> pb.ListUserStreaksResponse:
        """Lists a user's streaks."""
        read_time = convert_reads.read_time_from_proto(request)
        shown, token = await self._queries.list_user_streaks(
            request.user_id, read_time, request.page_size, request.page_token
        )
        return pb.ListUserStreaksResponse(
            streaks=[convert.state_to_proto(definition, current) for definition, current in shown],
            next_page_token=token,
        )

    async def ListPeriods(self, request: pb.ListPeriodsRequest, _context: Any) -> pb.ListPeriodsResponse:
        """Lists the periods of a user's streak."""
        convert_reads.check_user_streak(request.user_id, request.streak)
        shown, token = await self._queries.list_periods(
            request.user_id, request.streak, request.page_size, request.page_token
        )
        return pb.ListPeriodsResponse(periods=map(convert.period_to_proto, shown), next_page_token=token)

    async def ListFreezeLedger(
        self, request: pb.ListFreezeLedgerRequest, _context: Any
    ) -> pb.ListFreezeLedgerResponse:
        """Lists a user's freeze ledger."""
        convert_reads.check_user_streak(request.user_id, request.streak)
        shown, token = await self._queries.list_freeze_ledger(
            request.user_id, request.streak, request.page_size, request.page_token
        )
        return pb.ListFreezeLedgerResponse(
            entries=map(convert_reads.ledger_line_to_proto, shown), next_page_token=token
        )

    async def ListLongestStreaks(
        self, request: pb.ListLongestStreaksRequest, _context: Any
    ) -> pb.ListLongestStreaksResponse:
        """Lists the users with the longest runs."""
        convert_reads.check_streak(request.streak)
        shown, token = await self._queries.list_longest_streaks(
            request.streak, request.page_size, request.page_token
        )
        return pb.ListLongestStreaksResponse(
            streaks=map(convert_reads.longest_to_proto, shown), next_page_token=token
        )

    async def GetCalendar(self, request: pb.GetCalendarRequest, _context: Any) -> pb.GetCalendarResponse:
        """Gets the periods of a range of dates."""
        first, last = convert_reads.dates_from_proto(request, convert_reads.MAX_CALENDAR_DAYS)
        shown = await self._queries.calendar(request.user_id, request.streak, first, last)
        return pb.GetCalendarResponse(periods=map(convert.period_to_proto, shown))

    async def BatchGetUserStreaks(
        self, request: pb.BatchGetUserStreaksRequest, _context: Any
    ) -> pb.BatchGetUserStreaksResponse:
        """Gets one streak of several users."""
        read_time = convert_reads.batch_from_proto(request)
        definition, found = await self._queries.batch_get_user_streaks(
            request.streak, request.user_ids, read_time
        )
        return pb.BatchGetUserStreaksResponse(
            streaks=[
                pb.RankedStreak(user_id=user_id, state=convert.state_to_proto(definition, current))
                for user_id, current in found
            ]
        )

    async def ListFirstReaches(
        self, request: pb.ListFirstReachesRequest, _context: Any
    ) -> pb.ListFirstReachesResponse:
        """Lists with which events users first reached lengths."""
        convert_reads.check_first_reaches(request)
        found = await self._queries.list_first_reaches(
            request.streak, request.user_ids, request.least_length, request.most_count
        )
        return convert_reads.first_reaches_to_proto(found)

    async def ListStreaksAtRisk(
        self, request: pb.ListStreaksAtRiskRequest, _context: Any
    ) -> pb.ListStreaksAtRiskResponse:
        """Lists the streaks that end unless their users act."""
        within, read_time = convert_reads.at_risk_from_proto(request)
        found, token = await self._queries.list_streaks_at_risk(
            request.streak, within, request.time_zone, read_time, request.page_size, request.page_token
        )
        return pb.ListStreaksAtRiskResponse(
            streaks=[
                pb.StreakAtRisk(
                    user_id=each.user_id,
                    time_zone=each.current.time_zone,
                    state=convert.state_to_proto(each.definition, each.current),
                )
                for each in found
            ],
            next_page_token=token,
        )

    async def ListStreakEnds(
        self, request: pb.ListStreakEndsRequest, _context: Any
    ) -> pb.ListStreakEndsResponse:
        """Lists whose streak ends in a window unless they act."""
        begin, end = convert_reads.ends_from_proto(request)
        return convert_reads.ends_to_proto(
            *await self._queries.list_streak_ends(
                request.streak, begin, end, request.page_size, request.page_token
            )
        )

    async def GetStreakStatistics(
        self, request: pb.GetStreakStatisticsRequest, _context: Any
    ) -> pb.GetStreakStatisticsResponse:
        """Gets statistics of all users."""
        first, last = convert_reads.dates_from_proto(request, convert_reads.MAX_STATISTICS_DAYS)
        return convert_reads.statistics_to_proto(await self._queries.statistics(request.streak, first, last))

    async def PreviewAmnesty(
        self, request: pb.PreviewAmnestyRequest, _context: Any
    ) -> pb.PreviewAmnestyResponse:
        """Counts what an amnesty would save."""
        now = self._clock.now()
        window = convert_reads.window_from_proto(request, now)
        found = await self._amnesties.preview(window, request.streaks, now)
        return pb.PreviewAmnestyResponse(streaks=map(convert_reads.preview_to_proto, found))

    async def ListAmnesties(
        self, request: pb.ListAmnestiesRequest, _context: Any
    ) -> pb.ListAmnestiesResponse:
        """Lists amnesties."""
        found, token = await self._definitions.list(AMNESTY, request.page_size, request.page_token)
        progress = await self._amnesties.progress([each.key for each in found])
        return pb.ListAmnestiesResponse(
            amnesties=[convert_reads.declared_to_proto(each, progress[each.key]) for each in found],
            next_page_token=token,
        )
