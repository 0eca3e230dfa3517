"""Updates with a `google.protobuf.FieldMask` (AIP-134)."""

from collections.abc import Collection
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from shared.errors import Violations

M = TypeVar("M", bound=Message)


def updated(
    current: M,
    update: M,
    mask: FieldMask,
    *,
    immutable: Collection[str] = (),
    output_only: Collection[str] = (),
) -> M:
    """`current` with the masked fields of `update`; neither is changed.

    A masked field that `update` leaves empty is cleared; repeated fields and messages are replaced whole. An
    empty mask means every field that `update` sets, `*` every field. `output_only` fields are passed over, and
    `immutable` ones that `update` leaves empty: whether they may be what they become, the caller checks. Paths
    are proto names, those two at the top level. Raises `InvalidArgument` that names `update_mask`.
    """
    violations = Violations()
    paths = _paths(update, mask)
    for path in paths:
        if not _is_valid(update.DESCRIPTOR, path):
            violations.add("update_mask", f"{path!r} is not a field of {update.DESCRIPTOR.name}")
    violations.raise_if_any()
    result = type(current)()
    result.CopyFrom(current)
    passed_over = {*output_only, *(set(immutable) - set(_populated(update)))}
    writable = [path for path in paths if _top(path) not in passed_over]
    FieldMask(paths=writable).MergeMessage(
        update, result, replace_message_field=True, replace_repeated_field=True
    )
    return result


def _paths(update: Message, mask: FieldMask) -> list[str]:
    if not mask.paths:
        return _populated(update)
    if list(mask.paths) == ["*"]:
        return [field.name for field in update.DESCRIPTOR.fields]
    return list(mask.paths)


def _top(path: str) -> str:
    return path.partition(".")[0]


def _populated(message: Message) -> list[str]:
    return [field.name for field, _ in message.ListFields()]


def _is_valid(descriptor: Any, path: str) -> bool:
    """Whether the path leads through singular messages to a field."""
    name, _, rest = path.partition(".")
    field = descriptor.fields_by_name.get(name)
    if field is None:
        return False
    if not rest:
        return not path.endswith(".")
    return field.message_type is not None and not field.is_repeated and _is_valid(field.message_type, rest)
