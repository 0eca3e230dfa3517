"""Transport: a message in, a handler, a message out. What is stored as bytes leaves as bytes, unparsed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from google.protobuf.message import Message
from laurel.orchestrator.v1 import (
    orchestrator_service_pb2,
    orchestrator_service_pb2_grpc,
)

from services.orchestrator import convert
from services.orchestrator.backfills import Backfills
from services.orchestrator.configuration.amnesties import AmnestyHandlers
from services.orchestrator.configuration.handlers import DefinitionHandlers
from services.orchestrator.definitions import METRIC
from services.orchestrator.exporting import Exporter
from services.orchestrator.followers import Followers
from services.orchestrator.handlers import EntryHandlers, ReadHandlers, UndoHandlers
from services.orchestrator.healing import Doctor
from services.orchestrator.importing import Importer
from services.orchestrator.metric_reads import MetricHandlers
from services.orchestrator.operation import AnyOperation
from services.orchestrator.operations import OPERATIONS
from services.orchestrator.points_reads import PointsHandlers
from services.orchestrator.recovery import Maintenance
from services.orchestrator.rollups import Rollups
from services.orchestrator.saga import Step
from services.orchestrator.watching import UserWatchers
from shared.clock import Clock
from shared.errors import Violations
from shared.postgres.definitions import Definitions
from shared.rpc.access import ACTOR_HEADER, actor, check_scope, header
from shared.rpc.admin import MAX_REASON_CHARS, asking
from shared.rpc.convert import (
    check_key,
    check_request_id,
    check_text,
    check_user_id,
    check_user_id_or_none,
    instant_field,
    uuid_field,
)
from shared.rpc.wire import Part

MAX_EVENTS = 1_000
MAX_OPERATIONS = 100
MAX_ENTRIES = 1_000
"""Of which attributes are read at once."""

pb = orchestrator_service_pb2

_RESULT: Final = Part(pb.IngestEventsResponse, "results")
_OPERATION_RESULT: Final = Part(pb.PerformOperationsResponse, "results")


_METHODS: Final = pb.DESCRIPTOR.services_by_name["OrchestratorService"].methods_by_name
"""What each method needs of its caller stands in its contract."""


class OrchestratorServicer(orchestrator_service_pb2_grpc.OrchestratorServiceServicer):
    """laurel.orchestrator.v1.OrchestratorService."""

    def __init__(
        self,
        entries: EntryHandlers,
        undo: UndoHandlers,
        reads: ReadHandlers,
        metric_reads: MetricHandlers,
        points_reads: PointsHandlers,
        metrics: Definitions,
        definitions: DefinitionHandlers,
        amnesties: AmnestyHandlers,
        importer: Importer,
        maintenance: Maintenance,
        rollups: Rollups,
        followers: Followers,
        watchers: UserWatchers,
        exporter: Exporter,
        doctor: Doctor,
        backfills: Backfills,
        clock: Clock,
    ) -> None:
        self._entries = entries
        self._undo = undo
        self._reads = reads
        self._metric_reads = metric_reads
        self._points_reads = points_reads
        self._metrics = metrics
        self._definitions = definitions
        self._amnesties = amnesties
        self._importer = importer
        self._maintenance = maintenance
        self._rollups = rollups
        self._followers = followers
        self._watchers = watchers
        self._exporter = exporter
        self._doctor = doctor
        self._backfills = backfills
        self._clock = clock
        for operation in OPERATIONS.values():
            if operation.method:
                setattr(self, operation.method, self._performing(operation))

    def _performing(self, operation: AnyOperation) -> Callable[[Message, Any], Awaitable[bytes]]:
        """The method by which an operation is asked for. Its reply leaves as it is stored."""

        async def perform(request: Message, context: Any) -> bytes:
            return await self._entries.perform(operation, request, _actor(context))

        return perform

    async def IngestEvents(self, request: pb.IngestEventsRequest, context: Any) -> Any:
        violations = Violations()
        if not 1 <= len(request.events) <= MAX_EVENTS:
            violations.add("events", f"must have 1 to {MAX_EVENTS} events")
        violations.raise_if_any()
        return b"".join(map(_RESULT.holding, await self._entries.ingest_many(request.events)))

    async def PerformOperations(self, request: pb.PerformOperationsRequest, context: Any) -> Any:
        violations = Violations()
        if not 1 <= len(request.operations) <= MAX_OPERATIONS:
            violations.add("operations", f"must have 1 to {MAX_OPERATIONS} operations")
        violations.raise_if_any()
        for operation in request.operations:
            if name := operation.WhichOneof("operation"):
                check_scope(_METHODS[OPERATIONS[name].method])
        results = await self._entries.perform_many(request.operations, _actor(context))
        return b"".join(map(_OPERATION_RESULT.holding, results))

    async def StreamEvents(
        self, request_iterator: AsyncIterator[pb.StreamEventsRequest], context: Any
    ) -> AsyncIterator[Any]:
        async for response in self._entries.stream(request_iterator):
            yield response

    async def ImportEvents(
        self, request_iterator: AsyncIterator[pb.ImportEventsRequest], context: Any
    ) -> AsyncIterator[pb.ImportEventsResponse]:
        async for response in self._importer.run(request_iterator):
            yield response

    async def GetEntry(self, request: pb.GetEntryRequest, context: Any) -> pb.GetEntryResponse:
        violations = Violations()
        entry_id = convert.entry_id_of(request.entry_id, violations)
        violations.raise_if_any()
        assert entry_id is not None
        return pb.GetEntryResponse(entry=await self._reads.entry(entry_id))

    async def ListEntryAttributes(
        self, request: pb.ListEntryAttributesRequest, context: Any
    ) -> pb.ListEntryAttributesResponse:
        violations = Violations()
        if not 1 <= len(request.entry_ids) <= MAX_ENTRIES:
            violations.add("entry_ids", f"must have 1 to {MAX_ENTRIES} ids")
        violations.raise_if_any()
        ids = [
            uuid_field(each, f"entry_ids[{index}]", violations)
            for index, each in enumerate(request.entry_ids)
        ]
        violations.raise_if_any()
        entries = await self._reads.attributes([each for each in ids if each is not None])
        return pb.ListEntryAttributesResponse(entries=entries)

    async def ListUserEntries(
        self, request: pb.ListUserEntriesRequest, context: Any
    ) -> pb.ListUserEntriesResponse:
        entries, token = await self._reads.user_entries(convert.asked_entries(request))
        return pb.ListUserEntriesResponse(entries=entries, next_page_token=token)

    async def SummarizeUserMetric(
        self, request: pb.SummarizeUserMetricRequest, context: Any
    ) -> pb.SummarizeUserMetricResponse:
        return await self._metric_reads.of_user(request)

    async def SummarizeMetric(
        self, request: pb.SummarizeMetricRequest, context: Any
    ) -> pb.SummarizeMetricResponse:
        return await self._metric_reads.of_all(request)

    async def ListMetricUsers(
        self, request: pb.ListMetricUsersRequest, context: Any
    ) -> pb.ListMetricUsersResponse:
        return await self._metric_reads.users(request)

    async def GetFilteredPointsDistribution(
        self, request: pb.GetFilteredPointsDistributionRequest, context: Any
    ) -> pb.GetFilteredPointsDistributionResponse:
        return await self._points_reads.distribution(request)

    async def VoidEntry(self, request: pb.VoidEntryRequest, context: Any) -> Any:
        violations = Violations()
        entry_id = convert.entry_id_of(request.entry_id, violations)
        check_text(request.reason, "reason", violations, max_chars=MAX_REASON_CHARS)
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()
        assert entry_id is not None
        return await self._undo.void(entry_id, request.request_id, asking(request.reason))

    async def GetUser(self, request: pb.GetUserRequest, context: Any) -> pb.GetUserResponse:
        violations = Violations()
        check_user_id(request.user_id, "user_id", violations)
        violations.raise_if_any()
        return await self._reads.user(request.user_id)

    async def ExportUser(
        self, request: pb.ExportUserRequest, context: Any
    ) -> AsyncIterator[pb.ExportUserResponse]:
        _check_user(request.user_id)
        async for rows in self._exporter.export(request.user_id):
            yield pb.ExportUserResponse(rows=rows)

    async def FindUserTraces(
        self, request: pb.FindUserTracesRequest, context: Any
    ) -> AsyncIterator[pb.FindUserTracesResponse]:
        _check_user(request.user_id)
        async for table in self._exporter.search(request.user_id):
            yield pb.FindUserTracesResponse(table=table)

    async def ListUsers(self, request: pb.ListUsersRequest, context: Any) -> pb.ListUsersResponse:
        users, token = await self._reads.users(request.page_size, request.page_token)
        return pb.ListUsersResponse(users=users, next_page_token=token)

    async def GetMetric(self, request: pb.GetMetricRequest, context: Any) -> pb.GetMetricResponse:
        return pb.GetMetricResponse(metric=await self._metrics.get(METRIC, request.key))

    async def ListMetrics(self, request: pb.ListMetricsRequest, context: Any) -> pb.ListMetricsResponse:
        metrics, token = await self._metrics.list(METRIC, request.page_size, request.page_token)
        return pb.ListMetricsResponse(metrics=metrics, next_page_token=token)

    async def CreateDefinition(
        self, request: pb.CreateDefinitionRequest, context: Any
    ) -> pb.CreateDefinitionResponse:
        return await self._definitions.create(request, asking())

    async def GetDefinition(self, request: pb.GetDefinitionRequest, context: Any) -> pb.GetDefinitionResponse:
        return await self._definitions.get(request)

    async def ListDefinitions(
        self, request: pb.ListDefinitionsRequest, context: Any
    ) -> pb.ListDefinitionsResponse:
        return await self._definitions.list(request)

    async def UpdateDefinition(
        self, request: pb.UpdateDefinitionRequest, context: Any
    ) -> pb.UpdateDefinitionResponse:
        return await self._definitions.update(request, asking())

    async def DeleteDefinition(
        self, request: pb.DeleteDefinitionRequest, context: Any
    ) -> pb.DeleteDefinitionResponse:
        return await self._definitions.delete(request, asking())

    async def ApplyConfiguration(
        self, request: pb.ApplyConfigurationRequest, context: Any
    ) -> pb.ApplyConfigurationResponse:
        return await self._definitions.apply(request, asking())

    async def DeclareAmnesty(
        self, request: pb.DeclareAmnestyRequest, context: Any
    ) -> pb.DeclareAmnestyResponse:
        return await self._amnesties.declare(request, asking(request.reason))

    async def WithdrawAmnesty(
        self, request: pb.WithdrawAmnestyRequest, context: Any
    ) -> pb.WithdrawAmnestyResponse:
        return await self._amnesties.withdraw(request, asking(request.reason))

    async def CancelBackfill(
        self, request: pb.CancelBackfillRequest, context: Any
    ) -> pb.CancelBackfillResponse:
        violations = Violations()
        check_key(request.achievement, "achievement", violations)
        check_text(request.reason, "reason", violations, min_chars=0, max_chars=MAX_REASON_CHARS)
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()
        return await self._backfills.cancel(request, asking(request.reason))

    async def ListStreakReaches(
        self, request: pb.ListStreakReachesRequest, context: Any
    ) -> pb.ListStreakReachesResponse:
        return await self._backfills.reaches(request)

    async def ListUserSnapshots(
        self, request: pb.ListUserSnapshotsRequest, context: Any
    ) -> pb.ListUserSnapshotsResponse:
        violations = Violations()
        if not 1 <= len(request.user_ids) <= MAX_ENTRIES:
            violations.add("user_ids", f"must have 1 to {MAX_ENTRIES} users")
        for index, user_id in enumerate(request.user_ids[:MAX_ENTRIES]):
            check_user_id(user_id, f"user_ids[{index}]", violations)
        violations.raise_if_any()
        return pb.ListUserSnapshotsResponse(users=await self._reads.snapshots(request.user_ids))

    async def RunMaintenance(
        self, request: pb.RunMaintenanceRequest, context: Any
    ) -> pb.RunMaintenanceResponse:
        now: datetime | None = self._clock.now()
        if request.HasField("now"):
            violations = Violations()
            now = instant_field(request, "now", "", violations)
            violations.raise_if_any()
        assert now is not None
        passed = await self._maintenance.run(now)
        await self._rollups.catch_up()
        return pb.RunMaintenanceResponse(
            closed_streak_count=passed.done[Step.STREAK],
            finalized_run_count=passed.done[Step.LEADERBOARD],
            followed_change_count=passed.followed,
        )

    async def ListDomainEvents(self, request: pb.ListDomainEventsRequest, context: Any) -> Any:
        return await self._followers.list(request)

    async def WatchDomainEvents(
        self, request: pb.WatchDomainEventsRequest, context: Any
    ) -> AsyncIterator[Any]:
        async for response in self._followers.watch(request):
            yield response

    async def WatchUser(self, request: pb.WatchUserRequest, context: Any) -> AsyncIterator[Any]:
        async for response in self._watchers.watch(request):
            yield response

    async def ListSagas(self, request: pb.ListSagasRequest, context: Any) -> pb.ListSagasResponse:
        violations = Violations()
        states = convert.states_from_proto(request.states, violations)
        check_user_id_or_none(request.user_id, "user_id", violations)
        violations.raise_if_any()
        sagas, token = await self._reads.sagas(states, request.user_id, request.page_size, request.page_token)
        return pb.ListSagasResponse(sagas=sagas, next_page_token=token)

    async def RetrySaga(self, request: pb.RetrySagaRequest, context: Any) -> pb.RetrySagaResponse:
        violations = Violations()
        entry_id = convert.entry_id_of(request.entry_id, violations)
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()
        assert entry_id is not None
        await self._undo.retry(entry_id, request.request_id, asking())
        return pb.RetrySagaResponse(saga=await self._reads.entry(entry_id))

    async def AbandonSaga(self, request: pb.AbandonSagaRequest, context: Any) -> pb.AbandonSagaResponse:
        violations = Violations()
        entry_id = convert.entry_id_of(request.entry_id, violations)
        check_text(request.reason, "reason", violations, max_chars=MAX_REASON_CHARS)
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()
        assert entry_id is not None
        await self._undo.abandon(entry_id, request.request_id, asking(request.reason))
        return pb.AbandonSagaResponse(saga=await self._reads.entry(entry_id))

    async def ExamineLedger(self, request: pb.ExamineLedgerRequest, context: Any) -> pb.ExamineLedgerResponse:
        return pb.ExamineLedgerResponse(examination=await self._doctor.examine(restart=request.restart))

    async def HealLedger(self, request: pb.HealLedgerRequest, context: Any) -> pb.HealLedgerResponse:
        violations = Violations()
        check_text(request.reason, "reason", violations, max_chars=MAX_REASON_CHARS)
        violations.raise_if_any()
        return pb.HealLedgerResponse(examination=await self._doctor.heal(asking(request.reason)))


def _check_user(user_id: str) -> None:
    """Raises `InvalidArgument`."""
    violations = Violations()
    check_user_id(user_id, "user_id", violations)
    violations.raise_if_any()


def _actor(_context: Any) -> str:
    """Who asks. Raises `InvalidArgument` where the caller says too much of itself."""
    said = header(ACTOR_HEADER)
    if said:
        violations = Violations()
        check_text(said, ACTOR_HEADER, violations, min_chars=0)
        violations.raise_if_any()
    return actor(said)
