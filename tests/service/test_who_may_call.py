"""Every method of every service asks for a credential: generated from the contracts, so that none is forgotten."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc
import grpc.aio
import laurel
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from laurel.common.v1 import access_pb2

from shared.rpc.access import SERVICE, Caller, Need, needs_of
from shared.rpc.server import Application, Running, Servicer, running
from tests.fixtures.echo import settings

TOKEN = "a-token-between-services-that-is-long"
SCOPES = {
    name: frozenset({number})
    for name, number in access_pb2.Scope.items()
    if number not in (access_pb2.SCOPE_UNSPECIFIED, SERVICE)
}


def _services() -> Iterator[tuple[ServiceDescriptor, Servicer]]:
    """Every service of every contract, with methods that are not implemented."""
    for module in pkgutil.walk_packages(laurel.__path__, "laurel."):
        if module.name.endswith("_pb2_grpc"):
            stubs: Any = importlib.import_module(module.name)
            messages: Any = importlib.import_module(module.name.removesuffix("_grpc"))
            for name, service in messages.DESCRIPTOR.services_by_name.items():
                add = getattr(stubs, f"add_{name}Servicer_to_server")
                servicer = getattr(stubs, f"{name}Servicer")()
                yield service, Servicer(add, servicer, service.full_name)


SERVICES = list(_services())
METHODS = {
    f"/{service.full_name}/{method.name}": method for service, _ in SERVICES for method in service.methods
}
NEEDS = dict(needs_of([service.full_name for service, _ in SERVICES]))
every_method = pytest.mark.parametrize("path", METHODS)


class OneOfEach:
    """A key for each scope, one of a user with all of them, and one of a tenant."""

    async def caller(self, credential: str) -> Caller | None:
        if credential == "alice":
            return Caller("alice", frozenset().union(*SCOPES.values()), "alice")
        if credential == "acme":
            return Caller("acme", frozenset().union(*SCOPES.values()), tenant="acme")
        return Caller(credential, SCOPES[credential]) if credential in SCOPES else None


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Running]:
    application = Application("test", [servicer for _, servicer in SERVICES], keys=OneOfEach())
    async with running(application, settings(service_token=TOKEN)) as started:
        yield started


STILL_SENDING: Final = "Internal error from Core"
"""What grpc's own client says, now and then, where the answer comes while it sends: the server's is lost on it."""


async def answer(server: Running, path: str, credential: str = "", request: bytes = b"") -> grpc.StatusCode:
    """What a call of a method is answered with."""
    metadata = [("authorization", f"Bearer {credential}")] if credential else []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        method = METHODS[path]
        kind = "stream" if method.client_streaming else "unary"
        kind += "_stream" if method.server_streaming else "_unary"
        call: Any = getattr(channel, kind)(path, request_serializer=None, response_deserializer=None)
        while True:
            sent: Any = iter([request]) if method.client_streaming else request
            asked = call(sent, metadata=metadata, timeout=10)
            code: grpc.StatusCode = await asked.code()
            if await asked.details() != STILL_SENDING:
                return code


def test_there_are_methods() -> None:
    assert len(METHODS) > 70


@every_method
def test_a_method_says_what_it_needs(path: str) -> None:
    assert NEEDS[path] != Need() or METHODS[path].GetOptions().HasExtension(access_pb2.access), (
        "say `option (laurel.common.v1.access).scope = SCOPE_...` in the contract"
    )


@every_method
def test_the_fields_that_name_a_user_exist(path: str) -> None:
    for field in NEEDS[path].user_fields:
        found = field_at(METHODS[path], field)
        assert found.type == FieldDescriptor.TYPE_STRING


@every_method
def test_what_reads_of_one_user_may_be_called_with_a_key_of_that_user(path: str) -> None:
    field = METHODS[path].input_type.fields_by_name.get("user_id")
    if NEEDS[path].scope == access_pb2.SCOPE_READ and field is not None:
        assert NEEDS[path].user_fields == ("user_id",)


@every_method
async def test_a_call_without_a_credential_or_with_a_wrong_one_is_refused(server: Running, path: str) -> None:
    assert await answer(server, path) is grpc.StatusCode.UNAUTHENTICATED
    assert await answer(server, path, "of-nobody") is grpc.StatusCode.UNAUTHENTICATED
    assert await answer(server, path, TOKEN[:-1]) is grpc.StatusCode.UNAUTHENTICATED


@every_method
async def test_a_call_passes_with_the_scope_that_the_method_needs_and_with_no_other(
    server: Running, path: str
) -> None:
    answers = {scope: await answer(server, path, scope) for scope in SCOPES}
    allowed = {scope for scope, code in answers.items() if code is grpc.StatusCode.UNIMPLEMENTED}
    assert allowed == {scope for scope, numbers in SCOPES.items() if NEEDS[path].scope in numbers}
    assert {answers[scope] for scope in SCOPES.keys() - allowed} <= {grpc.StatusCode.PERMISSION_DENIED}
    assert await answer(server, path, TOKEN) is grpc.StatusCode.UNIMPLEMENTED


@every_method
async def test_a_key_of_a_tenant_opens_what_says_that_it_is_for_tenants(server: Running, path: str) -> None:
    is_open = NEEDS[path].for_tenants and NEEDS[path].scope != SERVICE
    wanted = grpc.StatusCode.UNIMPLEMENTED if is_open else grpc.StatusCode.PERMISSION_DENIED
    assert await answer(server, path, "acme") is wanted


@every_method
async def test_a_key_of_one_user_reaches_that_user_alone(server: Running, path: str) -> None:
    method = METHODS[path]
    if not NEEDS[path].user_fields:
        assert await answer(server, path, "alice") is grpc.StatusCode.PERMISSION_DENIED
        return
    assert (
        await answer(server, path, "alice", naming(method, path, "bob")) is grpc.StatusCode.PERMISSION_DENIED
    )
    assert await answer(server, path, "alice", naming(method, path, "alice")) is grpc.StatusCode.UNIMPLEMENTED
    assert await answer(server, path, "alice") is grpc.StatusCode.PERMISSION_DENIED


def field_at(method: MethodDescriptor, path: str) -> FieldDescriptor:
    """The field of a method's request that a path names."""
    message: Any = method.input_type
    field: FieldDescriptor | None = None
    for name in path.split("."):
        field = message.fields_by_name[name]
        message = field.message_type
    assert field is not None
    return field


def naming(method: MethodDescriptor, path: str, user: str) -> bytes:
    """A request that names this user wherever it can."""
    request: Any = message_factory.GetMessageClass(method.input_type)()
    for field in NEEDS[path].user_fields:
        message: Any = request
        *outer, last = field.split(".")
        for name in outer:
            inner = getattr(message, name)
            message = inner.add() if message.DESCRIPTOR.fields_by_name[name].is_repeated else inner
        setattr(message, last, user)
    return bytes(request.SerializeToString())
