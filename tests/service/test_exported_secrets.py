"""Secrets are in nothing that any service exports, neither in spans nor in metrics (RULES 9.4). What is told of keys
that are made and rotated: tests/service/orchestrator/test_exported_secrets.py.
"""

import importlib
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2, orchestrator_service_pb2_grpc
from laurel.participant.v1 import trace_service_pb2, trace_service_pb2_grpc
from pydantic import SecretStr

from shared.rpc.keys import credential_of
from shared.rpc.server import running
from tests.conftest import ServiceDatabase
from tests.fixtures.collector import Collector, collecting
from tests.fixtures.databases import PASSWORD

SERVICES: Final = ("streak", "achievement", "points", "leaderboard", "notification", "orchestrator")
TOKEN: Final = "a-token-between-services-that-is-long"
SECRET: Final = "a_secret-that-nobody-is-shown-in-43-letters"
KEY: Final = credential_of("0123456789abcdef", SECRET)
NOWHERE: Final = "127.0.0.1:1"


async def answered(service: str, channel: grpc.aio.Channel, credential: str) -> grpc.StatusCode:
    """What a call that looks into the database is answered with."""
    call: Any
    metadata = (("authorization", f"Bearer {credential}"),)
    if service == "orchestrator":
        users = orchestrator_service_pb2.ListUsersRequest()
        stub: Any = orchestrator_service_pb2_grpc.OrchestratorServiceStub(channel)
        call = stub.ListUsers(users, metadata=metadata, timeout=20)
    else:
        erased = trace_service_pb2.EraseTracesRequest(user_id="ada", pseudonym="nobody")
        stub = trace_service_pb2_grpc.TraceServiceStub(channel)
        call = stub.EraseTraces(erased, metadata=metadata, timeout=20)
    code: grpc.StatusCode = await call.code()
    return code


@pytest.mark.parametrize("service", SERVICES)
async def test_no_span_and_no_metric_of_a_service_has_a_secret_in_it(
    service: str, service_database: ServiceDatabase, valkey_url: str
) -> None:
    collector = Collector()
    built: Any = importlib.import_module(f"services.{service}.server")
    config: Any = importlib.import_module(f"services.{service}.config")
    with collecting(collector) as endpoint:
        settings = config.Settings(
            postgres_dsn=SecretStr(await service_database(service)),
            redis_url=SecretStr(valkey_url),
            listen="127.0.0.1:0",
            drain_grace_seconds=0,
            service_token=SecretStr(TOKEN),
            orchestrator_target=NOWHERE,
            otlp_endpoint=endpoint,
        )
        async with (
            running(await built.build(settings), settings) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            assert await answered(service, channel, TOKEN) is grpc.StatusCode.OK
            for wrong in (TOKEN[:-1], KEY):
                assert await answered(service, channel, wrong) is not grpc.StatusCode.OK
    told = {"spans": "", "metrics": ""}
    for name, heard in (("spans", collector.spans.heard), ("metrics", collector.metrics.heard)):
        while not heard.empty():
            told[name] += str(heard.get())
        assert f"laurel-{service}" in told[name]
    assert "/EraseTraces" in told["spans"] or "/ListUsers" in told["spans"]
    assert "rpc.server.call.duration" in told["metrics"]
    secrets = {TOKEN[:-1], KEY, SECRET, f":{PASSWORD}@"}
    assert [secret for secret in secrets for text in told.values() if secret in text] == []
