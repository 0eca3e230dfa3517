"""Secrets are in nothing that is exported (RULES 9.4): a collector hears what the process tells, and looks for them."""

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from laurel.common.v1.access_pb2 import SCOPE_INGEST
from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.orchestrator.v1 import access_service_pb2_grpc
from laurel.orchestrator.v1 import orchestrator_service_pb2 as orchestrator_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from pydantic import SecretStr

from tests.fixtures.databases import PASSWORD
from tests.fixtures.waiting import until
from tests.service.orchestrator.conftest import Orchestrator, event, refused
from tests.service.orchestrator.test_keys import TOKEN, make, shown

if TYPE_CHECKING:
    from laurel.orchestrator.v1.access_service_pb2_grpc import AccessServiceAsyncStub

SOON_MS = "50"
LAST = "laurel.orchestrator.v1.OrchestratorService/GetUser"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans over OTLP, and keeps them as they came."""

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[trace_service_pb2.ExportTraceServiceRequest] = queue.SimpleQueue()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.heard.put(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def endpoint(collector: Collector) -> Iterator[str]:
    with ThreadPoolExecutor(max_workers=1) as threads:
        server = grpc.server(threads)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"http://127.0.0.1:{port}"
        server.stop(grace=None).wait()


@pytest.fixture
def settings(endpoint: str, monkeypatch: pytest.MonkeyPatch, valkey_url: str) -> dict[str, Any]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", SOON_MS)
    return {"service_token": TOKEN, "redis_url": SecretStr(valkey_url), "otlp_endpoint": endpoint}


@pytest.fixture
def access(orchestrator: Orchestrator) -> "AccessServiceAsyncStub":
    return access_service_pb2_grpc.AccessServiceStub(orchestrator.channel)


async def test_no_span_has_a_key_a_token_or_a_password_in_it(
    orchestrator: Orchestrator, access: "AccessServiceAsyncStub", collector: Collector
) -> None:
    made = await make(access, SCOPE_INGEST)
    rotate = pb.RotateKeyRequest(key_id=made.key.key_id, request_id="r2")
    rotated = await access.RotateKey(rotate, metadata=shown(TOKEN), timeout=10)
    for credential in (made.credential, rotated.credential):
        await orchestrator.stub.IngestEvent(event(), metadata=shown(credential), timeout=20)
    get_user = orchestrator_pb.GetUserRequest(user_id="ada")
    for wrong in (made.credential, made.credential[:-1], TOKEN[:-1]):
        await refused(orchestrator.stub.GetUser(get_user, metadata=shown(wrong), timeout=10))

    spans: list[Any] = []

    async def all_heard() -> bool:
        while not collector.heard.empty():
            for resource in collector.heard.get().resource_spans:
                spans.extend([resource.resource, *(each for s in resource.scope_spans for each in s.spans)])
        return [getattr(span, "name", "") for span in spans].count(LAST) == 3

    await until(all_heard, seconds=10, what="the spans are exported")
    names = {getattr(span, "name", "") for span in spans}
    assert any(name.endswith("/IngestEvent") for name in names)
    assert any("/" not in name for name in names if name), "what happens inside has spans too"
    told = "".join(str(span) for span in spans)
    secrets = {TOKEN[:-1], f":{PASSWORD}@"}
    for credential in (made.credential, rotated.credential):
        secrets |= {credential[:-1], credential.split("_")[-1]}
    assert [secret for secret in secrets if secret in told] == []
