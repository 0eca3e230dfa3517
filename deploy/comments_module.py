"""The text of services/cli/comments.py: what the contracts say of operations that can be asked for.

The command's help is made of it; stubs carry no comments.
"""

import json
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

PROTOS: Final = Path(__file__).resolve().parent.parent / "protos"
SERVICE: Final = "laurel/orchestrator/v1/orchestrator_service.proto"
_OPERATIONS: Final = ".laurel.orchestrator.v1.OperationRequest"

_MODULE: Final = '''"""What the contracts say of operations: of a call under its request's name, of fields under theirs.

Generated from the contracts by `make proto`.
"""
# ruff: noqa: E501

from collections.abc import Mapping
from typing import Final

COMMENTS: Final[Mapping[str, str]] = {{
{lines}
}}
'''

_Messages = dict[str, tuple[descriptor_pb2.DescriptorProto, dict[str, str]]]


def comments_module() -> str:
    """The text of services/cli/comments.py."""
    said = dict(sorted(_comments(_described())))
    return _MODULE.format(
        lines="\n".join(f"    {_quoted(name)}: {_quoted(text)}," for name, text in said.items())
    )


def _described() -> descriptor_pb2.FileDescriptorSet:
    """The contract of the orchestrator and what it needs, with comments."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "described.binpb"
        status = protoc.main(
            [
                "protoc",
                f"--proto_path={PROTOS}",
                f"--proto_path={files('grpc_tools') / '_proto'}",
                "--include_imports",
                "--include_source_info",
                f"--descriptor_set_out={target}",
                SERVICE,
            ]
        )
        if status != 0:
            raise SystemExit(status)
        return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes())


def _comments(described: descriptor_pb2.FileDescriptorSet) -> Iterator[tuple[str, str]]:
    messages: _Messages = {}
    for file in described.file:
        said = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
        for number, message in enumerate(file.message_type):
            # By the numbers of fields in descriptor.proto: 4 is a file's messages, 2 a message's fields.
            fields = {field.name: said.get((4, number, 2, at), "") for at, field in enumerate(message.field)}
            messages[f".{file.package}.{message.name}"] = message, fields
    operations, _ = messages[_OPERATIONS]
    requests = {field.type_name for field in operations.field}
    yield from _of_calls(described, requests)
    waiting, seen = sorted(requests), set(requests)
    while waiting:
        name = waiting.pop()
        message, fields = messages[name]
        for field in message.field:
            yield f"{name[1:]}.{field.name}", _one_line(fields[field.name])
            below = field.type_name
            if below.startswith(".laurel.") and below in messages and below not in seen:
                seen.add(below)
                waiting.append(below)


def _of_calls(described: descriptor_pb2.FileDescriptorSet, requests: set[str]) -> Iterator[tuple[str, str]]:
    """What the RPC of each request does, under the request's name."""
    file = next(file for file in described.file if file.name == SERVICE)
    said = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
    for service_at, service in enumerate(file.service):
        for at, method in enumerate(service.method):
            if method.input_type in requests:
                # 6 is a file's services, 2 a service's methods.
                yield method.input_type[1:], _one_line(said.get((6, service_at, 2, at), ""))


def _one_line(comment: str) -> str:
    return " ".join(comment.split())


def _quoted(text: str) -> str:
    """As the formatter would have it."""
    return repr(text) if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)
