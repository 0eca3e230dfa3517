"""Secrets are in nothing that is exported (RULES 9.4): a collector hears what the process tells, and looks for them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from laurel.common.v1.access_pb2 import SCOPE_INGEST
from laurel.orchestrator.v1 import access_service_pb2 as pb
from laurel.orchestrator.v1 import access_service_pb2_grpc
from laurel.orchestrator.v1 import orchestrator_service_pb2 as orchestrator_pb
from pydantic import SecretStr

from tests.fixtures.collector import Collector, collecting
from tests.fixtures.databases import PASSWORD
from tests.fixtures.waiting import until
from tests.service.orchestrator.conftest import Orchestrator, event, refused
from tests.service.orchestrator.test_keys import TOKEN, make, secret_of, shown

if TYPE_CHECKING:
    from laurel.orchestrator.v1.access_service_pb2_grpc import AccessServiceAsyncStub

SOON_MS = "50"
LAST = "laurel.orchestrator.v1.OrchestratorService/GetUser"


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def endpoint(collector: Collector) -> Iterator[str]:
    with collecting(collector) as address:
        yield address


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
        while not collector.spans.heard.empty():
            for resource in collector.spans.heard.get().resource_spans:
                spans.extend([resource.resource, *(each for s in resource.scope_spans for each in s.spans)])
        return [getattr(span, "name", "") for span in spans].count(LAST) == 3

    await until(all_heard, seconds=10, what="the spans are exported")
    names = {getattr(span, "name", "") for span in spans}
    assert any(name.endswith("/IngestEvent") for name in names)
    assert any("/" not in name for name in names if name), "what happens inside has spans too"
    told = "".join(str(span) for span in spans)
    secrets = {TOKEN[:-1], f":{PASSWORD}@"}
    for told_once in (made, rotated):
        secrets |= {told_once.credential[:-1], secret_of(told_once)}
    assert [secret for secret in secrets if secret in told] == []
