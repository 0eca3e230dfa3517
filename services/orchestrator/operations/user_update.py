"""UpdateUser: a user is created or changed (RULES 2.3).

It visits the achievement service too, where there is a `sign_up_date`.
"""

from collections.abc import Iterator

from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb
from laurel.orchestrator.v1 import user_pb2

from services.orchestrator import convert
from services.orchestrator.operation import Asked, Operation
from services.orchestrator.recording import Incoming
from services.orchestrator.saga import Step
from services.orchestrator.said import UserPatch
from shared.entries import SIGN_UP_DATE
from shared.errors import Violations
from shared.rpc.convert import check_request_id, check_text

NAME = "user_update"

_ATTRIBUTE = "attributes."


def incoming(request: pb.UpdateUserRequest, asked: Asked) -> Incoming:
    """The entry of a change. Raises `InvalidArgument`."""
    violations = Violations()
    convert.user_patch(request.user, violations)
    _check_mask(request, violations)
    check_request_id(request.request_id, "request_id", violations)
    violations.raise_if_any()
    return convert.incoming_call(NAME, patch(request), request, request.request_id, asked)


def patch(request: pb.UpdateUserRequest) -> UserPatch:
    """What a request says: without a mask what has a value, else what the mask names, cleared where it has none."""
    user = request.user
    if not request.HasField("update_mask"):
        return convert.patch_of_user(user)
    paths = set(request.update_mask.paths)
    everything = "attributes" in paths
    named = {path.removeprefix(_ATTRIBUTE) for path in paths if path.startswith(_ATTRIBUTE)}
    cleared = {path for path in ("name", "time_zone") if path in paths and not getattr(user, path)}
    return UserPatch(
        user.user_id,
        name=user.name if "name" in paths else "",
        time_zone=user.time_zone if "time_zone" in paths else "",
        attributes={key: value for key, value in user.attributes.items() if everything or key in named},
        cleared=frozenset(cleared),
        cleared_attributes=frozenset(named - set(user.attributes)),
        clears_other_attributes=everything,
    )


def reply(entry: entry_pb2.Entry) -> pb.UpdateUserResponse:
    """The user as stored."""
    user = entry.user
    return pb.UpdateUserResponse(
        entry_id=entry.entry_id,
        user=user_pb2.StoredUser(
            user_id=user.user_id,
            name=user.name,
            time_zone=user.time_zone,
            attributes=user.newest_attributes if user.has_newest_attributes else user.attributes,
            create_time=user.create_time,
            version=user.version,
            control=user.control,
        ),
    )


def _tell(entry: entry_pb2.Entry, request: bytes) -> None:
    said = patch(pb.UpdateUserRequest.FromString(request))
    entry.user_update.says_sign_up_date = (
        SIGN_UP_DATE in said.attributes
        or SIGN_UP_DATE in said.cleared_attributes
        or said.clears_other_attributes
    )


def _besides(entry: entry_pb2.Entry) -> tuple[Step, ...]:
    """Anniversaries go by the date and the zone of who has said when he signed up (RULES 4)."""
    user = entry.user
    held = user.newest_attributes if user.has_newest_attributes else user.attributes
    return (Step.ACHIEVEMENT,) if entry.user_update.says_sign_up_date or SIGN_UP_DATE in held else ()


def _check_mask(request: pb.UpdateUserRequest, violations: Violations) -> None:
    for index, path in enumerate(request.update_mask.paths):
        where = f"update_mask.paths[{index}]"
        if path.startswith(_ATTRIBUTE):
            check_text(path.removeprefix(_ATTRIBUTE), where, violations, max_chars=64)
        elif path not in ("name", "time_zone", "attributes"):
            violations.add(where, "must be name, time_zone, attributes or attributes.KEY")
    for path in _unmasked(request):
        violations.add(path, "has a value and is not named by update_mask")


def _unmasked(request: pb.UpdateUserRequest) -> Iterator[str]:
    """Values that a mask leaves out: more likely a slip than a wish."""
    if not request.HasField("update_mask"):
        return
    paths = set(request.update_mask.paths)
    for field in ("name", "time_zone"):
        if getattr(request.user, field) and field not in paths:
            yield f"user.{field}"
    if "attributes" not in paths:
        for key in request.user.attributes:
            if f"{_ATTRIBUTE}{key}" not in paths:
                yield f"user.attributes[{key!r}]"


OPERATION = Operation(
    name=NAME,
    request_type=pb.UpdateUserRequest,
    steps=(Step.STREAK, Step.POINTS, Step.LEADERBOARD),
    besides=_besides,
    tell=_tell,
    reply=reply,
    reply_type=pb.UpdateUserResponse,
    method="UpdateUser",
    incoming=incoming,
    patch=patch,
    voidable=True,
    counted=True,
)
