"""The registry of operations: one module each, found by being here. Each has one `OPERATION`."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Final

from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2

from services.orchestrator import convert
from services.orchestrator.operation import AnyOperation
from services.orchestrator.recording import Incoming, Recorded
from shared.errors import Internal


def _registered() -> dict[str, AnyOperation]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}").OPERATION for name in names]
    fields = entry_pb2.Entry.DESCRIPTOR.oneofs_by_name["operation"].fields
    assert {operation.name for operation in found} == {field.name for field in fields}
    return {operation.name: operation for operation in found}


OPERATIONS: Final[Mapping[str, AnyOperation]] = _registered()
"""Every operation by its name."""

COUNTED: Final = sorted(operation.name for operation in OPERATIONS.values() if operation.counted)
"""Those that make a user exist."""


def incoming_change(change: participant_service_pb2.Change) -> Incoming:
    """The entry of something that a service found by itself. Raises `Internal` for what is not known here."""
    finding = change.WhichOneof("finding")
    operation = OPERATIONS.get(finding or "")
    if operation is None or operation.found is None:
        raise Internal(f"the change {change.entry_id} is of an unknown kind", reason="INTERNAL")
    return operation.found(change)


def recorded_entry(recorded: Recorded, default_zone: str) -> entry_pb2.Entry:
    """An entry as participants are told of it, once it is decided what its recording does."""
    entry = convert.base_entry(recorded, default_zone)
    _complete(OPERATIONS[recorded.incoming.operation], entry, recorded.incoming.request)
    return entry


def stored_entry(operation: AnyOperation, entry: bytes, request: bytes) -> entry_pb2.Entry:
    """An entry as participants are told of it, from the ledger.

    One that was recorded before operations had messages of their own is completed from its request.
    """
    message = entry_pb2.Entry.FromString(entry)
    if message.WhichOneof("operation") is None:
        _complete(operation, message, request)
    return message


def _complete(operation: AnyOperation, entry: entry_pb2.Entry, request: bytes) -> None:
    getattr(entry, operation.name).SetInParent()
    operation.tell(entry, request)
