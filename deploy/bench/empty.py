"""The ceiling of every unary RPC here: a method that does nothing, served by the runtime that serves Laurel."""

import asyncio
from typing import Any, Final

import grpc
import uvloop
from google.protobuf import empty_pb2

from shared.config import Settings, load
from shared.rpc.server import Application, Servicer, serve

_FULL_NAME: Final = "laurel.bench.EmptyService"
EMPTY_METHOD: Final = f"/{_FULL_NAME}/Call"


class EmptyServicer:
    """Takes nothing and gives nothing."""

    async def call(self, _request: empty_pb2.Empty, _context: Any) -> empty_pb2.Empty:
        """The answer to everything."""
        return empty_pb2.Empty()


def add_to_server(servicer: Any, server: grpc.aio.Server) -> None:
    """As generated code would register it."""
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.call,
        request_deserializer=empty_pb2.Empty.FromString,
        response_serializer=empty_pb2.Empty.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_FULL_NAME, {"Call": handler}),))


def main() -> None:
    """Serves until SIGTERM. Settings are those of any service; there is no database behind it."""
    settings = load(Settings, postgres_dsn="postgresql://nowhere")
    application = Application("bench", [Servicer(add_to_server, EmptyServicer(), _FULL_NAME)])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(application, settings))


if __name__ == "__main__":
    main()
