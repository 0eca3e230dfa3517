"""What tenants are told can be looked through by the contracts: by fields' names, and nothing is hidden in bytes."""

import re
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from laurel.common.v1 import access_pb2

from shared.rpc.tenants import USER_FIELD
from tests.fixtures.fuzzing import methods

MADE_BY_THE_SERVER = {"laurel.orchestrator.v1.DeleteUserResponse.pseudonym"}
"""Nobody can name them; they are told as any other text."""


def reached(message: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    """Every field of a message and of what is in it."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from reached(field.message_type, seen)


def served() -> Iterator[tuple[str, Descriptor, Descriptor]]:
    for method in methods():
        if method.GetOptions().Extensions[access_pb2.access].for_tenants:
            yield method.full_name, method.input_type, method.output_type


def test_tenants_are_served() -> None:
    assert len(list(served())) > 60


def test_every_text_that_is_called_after_users_is_known_to_name_them() -> None:
    seen: set[str] = set()
    fields = [
        field
        for method in methods()
        for kind in (method.input_type, method.output_type)
        for field in reached(kind, seen)
    ]
    texts = [
        field
        for field in fields
        if field.type == FieldDescriptor.TYPE_STRING and re.search("user|member|owner|pseudonym", field.name)
    ]
    assert len(texts) > 60
    unknown = {field.full_name for field in texts if not USER_FIELD.search(field.name)}
    assert unknown == MADE_BY_THE_SERVER


def test_nothing_that_a_tenant_is_told_is_hidden_in_bytes() -> None:
    hidden = {
        f"{name}: {field.full_name}"
        for name, _, output in served()
        for field in reached(output, set())
        if field.type == FieldDescriptor.TYPE_BYTES and not field.full_name.startswith("google.protobuf.Any.")
    }
    assert hidden == set()


def test_what_configures_and_what_repairs_is_not_for_tenants() -> None:
    for method in methods():
        access = method.GetOptions().Extensions[access_pb2.access]
        if access.scope == access_pb2.SCOPE_CONFIGURE:
            assert not access.for_tenants, method.full_name
