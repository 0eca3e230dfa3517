"""A collector that throws everything away: what is measured is the sender."""

import asyncio
import sys
from typing import Any, Final

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

_SERVICES: Final = ("trace.v1.TraceService", "metrics.v1.MetricsService", "logs.v1.LogsService")


async def _swallow(_request: bytes, _context: Any) -> bytes:
    return b""  # an Export response with nothing to say


async def serve(address: str) -> None:
    """Serves OTLP over gRPC on an address until the process is ended."""
    server = grpc.aio.server()
    for name in _SERVICES:
        export: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_swallow)
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    f"opentelemetry.proto.collector.{name}", {"Export": export}
                ),
            )
        )
    servicer = health.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
