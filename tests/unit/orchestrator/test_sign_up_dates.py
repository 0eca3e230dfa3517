"""When a user signed up is an attribute that has to be a date, and what says it visits achievements (RULES 4)."""

import pytest
from laurel.ledger.v1 import entry_pb2
from laurel.orchestrator.v1 import orchestrator_service_pb2, user_pb2

from services.orchestrator import convert
from services.orchestrator.operations.user_update import OPERATION
from services.orchestrator.saga import Step
from shared.errors import Violations

PLAIN = (Step.STREAK, Step.POINTS, Step.LEADERBOARD)


def visited(
    held: dict[str, str], *, said: dict[str, str] | None = None, paths: tuple[str, ...] = ()
) -> object:
    request = orchestrator_service_pb2.UpdateUserRequest(
        user=user_pb2.User(user_id="a", attributes=said or {})
    )
    if paths:
        request.update_mask.paths.extend(paths)
    entry = entry_pb2.Entry(user=entry_pb2.UserSnapshot(user_id="a", attributes=held))
    entry.user_update.SetInParent()
    OPERATION.tell(entry, request.SerializeToString())
    return OPERATION.steps_for(entry)


@pytest.mark.parametrize(
    "value", ["", "yesterday", "2023-02-29", "20240229", "2024-W09-4", "1899-12-31", "2200-01-01"]
)
def test_anything_but_a_date_is_refused_by_its_name(value: str) -> None:
    violations = Violations()
    convert.user_patch(user_pb2.User(user_id="a", attributes={"sign_up_date": value}), violations)
    with pytest.raises(Exception, match="sign_up_date"):
        violations.raise_if_any()


def test_a_date_is_taken() -> None:
    violations = Violations()
    convert.user_patch(user_pb2.User(user_id="a", attributes={"sign_up_date": "2024-02-29"}), violations)
    violations.raise_if_any()


def test_a_change_of_a_user_visits_achievements_where_it_has_to_do_with_a_date() -> None:
    date = {"sign_up_date": "2024-02-29"}
    everywhere = tuple(Step)
    assert visited({"plan": "pro"}, said={"plan": "pro"}) == PLAIN
    assert visited(date, said=date) == everywhere
    assert visited(date, said={"plan": "pro"}) == everywhere
    assert visited({}, paths=("attributes.sign_up_date",)) == everywhere
    assert visited({}, paths=("attributes",)) == everywhere
