"""Writes held against what a service has: what they would do, and what is wrong with them."""

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from laurel.orchestrator.v1.definition_pb2 import Definition, DefinitionName
from laurel.participant.v1 import definition_service_pb2 as pb
from laurel.streak.v1.streak_pb2 import FREQUENCY_DAILY, FREQUENCY_WEEKLY, Frequency, MetricThreshold, Streak

from shared.definition_plan import Plan, StoredDefinitions
from shared.definitions import DefinitionKind, Name, Reference, stamped
from shared.errors import AlreadyExists, InvalidArgument, NotFound, Violations
from shared.rpc.convert import to_timestamp

YESTERDAY = to_timestamp(datetime(2026, 3, 1, tzinfo=UTC))


def validate(streak: Streak, path: str, violations: Violations) -> None:
    for index, metric in enumerate(streak.metrics):
        if metric.threshold < 0:
            violations.add(f"{path}.metrics[{index}].threshold", "must not be negative")


def normalise(streak: Streak) -> Streak:
    for metric in streak.metrics:
        metric.threshold = metric.threshold or 1
    return streak


def references(streak: Streak) -> Iterable[Reference]:
    for index, metric in enumerate(streak.metrics):
        yield Reference(f"metrics[{index}].metric", Name("metric", metric.metric))


def check_change(before: Streak, after: Streak, path: str, violations: Violations) -> None:
    if after.name == "Forbidden" != before.name:
        violations.add(f"{path}.name", "must not become this")


STREAK = DefinitionKind(
    name="streak",
    message_type=Streak,
    validate=validate,
    normalise=normalise,
    references=references,
    check_change=check_change,
    immutable_fields=("frequency",),
    not_found="STREAK_NOT_FOUND",
    exists="STREAK_EXISTS",
    in_use="STREAK_IN_USE",
)


def streak(
    key: str, name: str = "", threshold: float = 1, frequency: Frequency.ValueType = FREQUENCY_DAILY
) -> Streak:
    metrics = [MetricThreshold(metric="lessons", threshold=threshold)]
    return Streak(key=key, name=name or key, frequency=frequency, metrics=metrics)


def plan(*stored: Streak) -> Plan:
    messages = {Name("streak", one.key): stamped(one, YESTERDAY, YESTERDAY) for one in stored}
    return Plan({"streak": STREAK}, StoredDefinitions(7, messages))


def put(message: Streak, path: str = "streaks[0]") -> pb.DefinitionWrite:
    return pb.DefinitionWrite(path=path, put=Definition(streak=message))


def create(message: Streak) -> pb.DefinitionWrite:
    return pb.DefinitionWrite(path="definition.streak", create=Definition(streak=message))


def update(message: Streak, *paths: str) -> pb.DefinitionWrite:
    wanted = pb.DefinitionUpdate(definition=Definition(streak=message), update_mask=FieldMask(paths=paths))
    return pb.DefinitionWrite(path="definition.streak", update=wanted)


def delete(key: str) -> pb.DefinitionWrite:
    return pb.DefinitionWrite(path="streak", delete=DefinitionName(kind="streak", key=key))


def answer(of: Plan, *writes: pb.DefinitionWrite) -> pb.CheckDefinitionsResponse:
    for write in writes:
        of.add(write)
    return of.response()


def wrong(response: pb.CheckDefinitionsResponse) -> list[str]:
    return [violation.field for violation in response.violations]


def there(response: pb.CheckDefinitionsResponse) -> set[str]:
    return {definition.name.key for definition in response.definitions}


def test_a_new_definition_has_its_defaults_and_no_times() -> None:
    sent = streak("daily", threshold=0)
    sent.create_time.seconds = 1
    response = answer(plan(), put(sent))
    (checked,) = response.writes
    assert not checked.HasField("before")
    assert checked.after.streak.metrics[0].threshold == 1
    assert not checked.after.streak.HasField("create_time")


def test_a_definition_is_named_by_its_key_where_it_has_no_name() -> None:
    (checked,) = answer(plan(), put(Streak(key="daily"))).writes
    assert checked.after.streak.name == "daily"


def test_what_is_there_before_is_told_with_its_times_and_the_defaults_of_today() -> None:
    old = streak("daily", threshold=0)
    (checked,) = answer(plan(old), put(streak("daily", "New"))).writes
    assert checked.before.streak.metrics[0].threshold == 1
    assert checked.before.streak.create_time == YESTERDAY
    assert checked.after.streak.name == "New"


def test_everything_wrong_is_told_with_its_path_and_then_nothing_would_be_done() -> None:
    response = answer(
        plan(),
        put(streak("a"), "streaks[0]"),
        put(streak("b", threshold=-1), "streaks[1]"),
        put(streak("a"), "streaks[2]"),
        put(streak("No Key"), "streaks[3]"),
    )
    assert wrong(response) == ["streaks[1].metrics[0].threshold", "streaks[3].key", "streaks[2].key"]
    assert list(response.writes) == []
    assert there(response) == {"a", "b", "No Key"}


@pytest.mark.parametrize("write", [put, lambda message: update(message, "frequency"), update])
def test_an_immutable_field_stays(write: object) -> None:
    response = answer(plan(streak("a")), write(streak("a", frequency=FREQUENCY_WEEKLY)))  # type: ignore[operator]
    assert [field.rpartition(".")[2] for field in wrong(response)] == ["frequency"]


@pytest.mark.parametrize("write", [put, lambda message: update(message, "name"), update])
def test_a_change_that_the_kind_does_not_allow_is_refused(write: object) -> None:
    response = answer(plan(streak("a")), write(streak("a", "Forbidden")))  # type: ignore[operator]
    assert [field.rpartition(".")[2] for field in wrong(response)] == ["name"]


def test_an_update_changes_the_masked_fields_only() -> None:
    (checked,) = answer(plan(streak("a", "A")), update(streak("a", "B", 9), "name")).writes
    assert (checked.after.streak.name, checked.after.streak.metrics[0].threshold) == ("B", 1)


def test_an_update_is_checked_as_a_whole() -> None:
    response = answer(plan(streak("a")), update(streak("a", threshold=-1), "metrics"))
    assert wrong(response) == ["definition.streak.metrics[0].threshold"]


def test_an_update_that_names_no_field_of_the_kind_is_refused() -> None:
    with pytest.raises(InvalidArgument) as raised:
        plan(streak("a")).add(update(streak("a"), "nonsense"))
    assert [violation.field for violation in raised.value.violations] == ["update_mask"]


def test_a_full_update_leaves_an_immutable_field_that_it_does_not_name() -> None:
    new = Streak(key="a", name="New", metrics=[MetricThreshold(metric="reviews", threshold=2)])
    (checked,) = answer(plan(streak("a")), update(new, "*")).writes
    assert checked.after.streak.frequency == FREQUENCY_DAILY
    assert checked.after.streak.metrics[0].metric == "reviews"


def test_a_key_that_is_taken_or_unknown_is_refused_with_the_reason_of_the_kind() -> None:
    with pytest.raises(AlreadyExists) as taken:
        plan(streak("a")).add(create(streak("a", frequency=FREQUENCY_WEEKLY)))
    assert taken.value.reason == "STREAK_EXISTS"
    for write in (update(streak("b", "B")), delete("b")):
        with pytest.raises(NotFound) as unknown:
            plan(streak("a")).add(write)
        assert unknown.value.reason == "STREAK_NOT_FOUND"


def test_what_is_wrong_with_a_new_definition_is_told_before_whether_its_key_is_taken() -> None:
    with pytest.raises(InvalidArgument) as raised:
        plan(streak("a")).add(create(streak("a", threshold=-1)))
    assert [violation.field for violation in raised.value.violations] == [
        "definition.streak.metrics[0].threshold"
    ]


def test_a_kind_that_is_kept_elsewhere_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        plan().add(pb.DefinitionWrite(path="metric", delete=DefinitionName(kind="metric", key="a")))


def test_what_no_write_names_stays_and_tells_what_it_mentions() -> None:
    response = answer(plan(streak("a"), streak("b")), put(streak("a", "A")))
    stays = next(definition for definition in response.definitions if definition.name.key == "b")
    assert stays.path == ""
    (reference,) = stays.references
    assert (reference.path, reference.name.kind, reference.name.key) == (
        "metrics[0].metric",
        "metric",
        "lessons",
    )


def test_a_deleted_definition_is_not_among_those_that_would_be_there() -> None:
    response = answer(plan(streak("a"), streak("b")), delete("a"))
    (checked,) = response.writes
    assert checked.before.streak.key == "a"
    assert not checked.HasField("after")
    assert there(response) == {"b"}


def test_pruning_deletes_what_no_write_names() -> None:
    pruning = plan(streak("a"), streak("b"), streak("c"))
    pruning.add(put(streak("b")))
    pruning.prune()
    response = pruning.response()
    assert [write.before.streak.key for write in response.writes] == ["b", "a", "c"]
    assert there(response) == {"b"}
    assert list(pruning.deletes.values()) == ["", ""]
