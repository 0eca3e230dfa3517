"""UpdateUser: what a mask sets, leaves and clears."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from laurel.orchestrator.v1 import orchestrator_service_pb2 as pb

from services.orchestrator.domain import TimeWindow, User
from services.orchestrator.operation import Asked
from services.orchestrator.operations import user_update
from services.orchestrator.said import UserPatch
from shared.errors import InvalidArgument
from tests.unit.orchestrator.living import Life

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ASKED = Asked(NOON, TimeWindow(timedelta(days=7), timedelta(minutes=5)))


def request(
    mask: Sequence[str] | None = None, name: str = "", time_zone: str = "", **attributes: str
) -> pb.UpdateUserRequest:
    message = pb.UpdateUserRequest(request_id="r")
    message.user.user_id = "ada"
    message.user.name, message.user.time_zone = name, time_zone
    message.user.attributes.update(attributes)
    if mask is not None:
        message.update_mask.paths.extend(mask)
        message.update_mask.SetInParent()
    return message


def told(*requests: pb.UpdateUserRequest) -> User:
    """The user after these, one a minute."""
    return after([(user_update.patch(one), NOON + timedelta(minutes=n)) for n, one in enumerate(requests)])


def after(patches: Sequence[tuple[UserPatch, datetime]]) -> User:
    life = Life()
    for patch, at in patches:
        life.say(patch, at)
    assert life.user is not None
    return life.user


def test_without_a_mask_what_has_a_value_is_set_and_everything_else_stays() -> None:
    user = told(request(name="Ada", plan="pro"), request(team="red"))
    assert user.said.plain_name == "Ada"
    assert user.said.plain_attributes() == {"plan": "pro", "team": "red"}


def test_a_field_that_is_named_and_has_no_value_is_cleared() -> None:
    user = told(request(name="Ada", time_zone="Asia/Tokyo", plan="pro"), request(["name", "attributes.plan"]))
    assert user.said.plain_name == ""
    assert user.said.plain_attributes() == {}
    assert user.zone("UTC") == "Asia/Tokyo"


def test_naming_all_attributes_clears_those_without_a_value() -> None:
    user = told(request(plan="pro", team="red"), request(["attributes"], team="blue"))
    assert user.said.plain_attributes() == {"team": "blue"}


def test_what_was_cleared_can_be_set_again() -> None:
    user = told(request(plan="pro"), request(["attributes"]), request(plan="free"))
    assert user.said.plain_attributes() == {"plan": "free"}


def test_a_user_is_the_same_in_whatever_order_changes_and_clearings_arrive() -> None:
    requests = (
        request(name="Ada", plan="pro", team="red"),
        request(["name", "attributes.plan"]),
        request(["attributes"], city="Paris"),
        request(name="Ada L.", team="blue"),
    )
    patches = [(user_update.patch(one), NOON + timedelta(minutes=n)) for n, one in enumerate(requests)]
    users = [after(order) for order in permutations(patches)]
    assert {user.said.plain_name for user in users} == {"Ada L."}
    assert all(user.said.plain_attributes() == {"city": "Paris", "team": "blue"} for user in users)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (request(["nickname"]), "update_mask.paths[0]"),
        (request(["attributes."]), "update_mask.paths[0]"),
        (request(["time_zone"], name="Ada"), "user.name"),
        (request(["attributes.plan"], team="red"), "user.attributes['team']"),
    ],
)
def test_a_mask_that_cannot_be_meant_is_refused_by_the_name_of_the_field(
    message: pb.UpdateUserRequest, field: str
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        user_update.incoming(message, ASKED)
    assert [violation.field for violation in refusal.value.violations] == [field]
