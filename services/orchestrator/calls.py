"""What operations have in common that are asked for by a call with a user and a request id.

What an operation says is checked in the request, and written into the entry, by the fields that the request has in
common with what the entry says (`shared/entries.py`). Only what is otherwise stands in the operation's own file.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from laurel.ledger.v1 import entry_pb2
from msgspec.structs import replace

from services.orchestrator import convert
from services.orchestrator.operation import AnyOperation, Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.entries import GIFT, Content, EntryKind
from shared.errors import Violations
from shared.rpc import contents
from shared.rpc.admin import MAX_REASON_CHARS
from shared.rpc.convert import check_key, check_limit, check_request_id, check_text

EVERYWHERE = (Step.STREAK, Step.ACHIEVEMENT, Step.POINTS, Step.LEADERBOARD)


def _nothing_else(_request: Any, _violations: Violations) -> None:
    """For a request that is checked by what it has in common with the entry."""


def _nobody_else(_request: Any) -> tuple[str, ...]:
    """For a call that concerns one user."""
    return ()


def call(
    kind: EntryKind,
    method: str,
    request_type: type[Message],
    reply_type: type[Message],
    steps: tuple[Step, ...],
    *,
    check: Callable[[Any, Violations], None] = _nothing_else,
    tell: Callable[[entry_pb2.Entry, Any], None] | None = None,
    others: Callable[[Any], tuple[str, ...]] = _nobody_else,
    voidable: bool = True,
) -> AnyOperation:
    """The operation of `method`. `check` finds what is wrong with the request besides; `tell` writes into the entry
    what has no field of the same name there; `others` are those whom it concerns besides its user.
    """
    says = kind.content or Content

    def incoming(request: Any, asked: Asked) -> Incoming:
        violations = Violations()
        patch = _checked_patch(request, violations)
        contents.check(says, request, violations)
        check(request, violations)
        reason = getattr(request, "reason", "")
        check_text(reason, "reason", violations, min_chars=0, max_chars=MAX_REASON_CHARS)
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()
        incoming = convert.incoming_call(kind.value, patch, request, request.request_id, asked, reason)
        return replace(incoming, other_user_ids=others(request))

    def told(entry: entry_pb2.Entry, stored: bytes) -> None:
        request = request_type.FromString(stored)
        contents.copy_common(request, getattr(entry, kind.value))
        if tell is not None:
            tell(entry, request)

    return Operation(
        name=kind.value,
        request_type=request_type,
        steps=steps,
        reply=lambda entry: reply_type(entry_id=entry.entry_id),
        reply_type=reply_type,
        method=method,
        incoming=incoming,
        patch=_patch,
        tell=told,
        voidable=voidable,
        counted=True,
    )


def gift_call(
    kind: EntryKind,
    method: str,
    request_type: type[Message],
    reply_type: type[Message],
    *,
    gives: bool,
    check: Callable[[Any, Violations], None] = _nothing_else,
    others: Callable[[Any], tuple[str, ...]] = _nobody_else,
) -> AnyOperation:
    """The operation of a call that gives the user points, or else takes them (RULES 5.7)."""

    def check_gift(request: Any, violations: Violations) -> None:
        check_key(request.points_system, "points_system", violations)
        check_limit(GIFT, request.amount, "amount", violations)
        check(request, violations)

    def tell(entry: entry_pb2.Entry, request: Any) -> None:
        gift = getattr(entry, kind.value).gift
        gift.points_system = request.points_system
        gift.amount = request.amount if gives else -request.amount

    steps = (Step.POINTS, Step.LEADERBOARD)
    return call(kind, method, request_type, reply_type, steps, check=check_gift, tell=tell, others=others)


def _checked_patch(request: Any, violations: Violations) -> UserPatch:
    """Whose entry it is: `user`, with what is said of it, or else `user_id`."""
    if "user" in request.DESCRIPTOR.fields_by_name:
        return convert.user_patch(request.user, violations)
    convert.check_user(request.user_id, "user_id", violations)
    return UserPatch(request.user_id)


def _patch(request: Any) -> UserPatch:
    """The same of a request that was checked when it came."""
    if "user" in request.DESCRIPTOR.fields_by_name:
        return convert.patch_of_user(request.user)
    return UserPatch(request.user_id)
