"""One event and everything that it changes, over the running system (RULES 2, 7)."""

import asyncio
import uuid
from datetime import UTC, timedelta

import grpc
import grpc.aio
import pytest
from laurel.achievement.v1.achievement_pb2 import ACHIEVEMENT_CHANGE_KIND_COMPLETED as COMPLETED
from laurel.achievement.v1.achievement_pb2 import ACHIEVEMENT_CHANGE_KIND_REVOKED as REVOKED
from laurel.orchestrator.v1 import audit_pb2, event_pb2, orchestrator_service_pb2
from laurel.points.v1 import points_service_pb2
from laurel.streak.v1 import streak_service_pb2

from shared.errors import LaurelError, from_rpc_error
from tests.fixtures import clock
from tests.fixtures.invariants import violations
from tests.fixtures.ledger import read_ledger
from tests.fixtures.system import System, event, event_request

pytestmark = pytest.mark.calendar

NOW = clock.now()
TODAY = NOW.timestamp()
DAY = 86_400.0

pb = orchestrator_service_pb2


@pytest.fixture
def user() -> str:
    """A user whom nobody has seen."""
    return f"user-{uuid.uuid4().hex[:12]}"


async def refusal(system: System, request: event_pb2.IngestEventRequest) -> LaurelError:
    """The error that an event is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.orchestrator.IngestEvent(request)
    return from_rpc_error(caught.value)


async def balance(system: System, user: str, points_system: str) -> int:
    response = await system.points.ListUserPoints(points_service_pb2.ListUserPointsRequest(user_id=user))
    return next((points.balance for points in response.points if points.points_system == points_system), 0)


async def length(system: System, user: str) -> int:
    response = await system.streak.ListUserStreaks(streak_service_pb2.ListUserStreaksRequest(user_id=user))
    return next((state.length for state in response.streaks), 0)


async def test_points_pass_from_one_to_another_on_the_boards_too_and_back_again(
    system: System, user: str
) -> None:
    other = f"{user}-other"
    for each in (user, other):
        await system.orchestrator.IngestEvent(event(each, "k"))
    held = [await balance(system, each, "xp") for each in (user, other)]
    request = pb.TransferPointsRequest(
        user_id=user, to_user_id=other, points_system="xp", amount=7, reason="a present", request_id="t"
    )
    reply = await system.orchestrator.TransferPoints(request)
    assert [await balance(system, each, "xp") for each in (user, other)] == [held[0] - 7, held[1] + 7]
    scores = {(each.user_id, each.score) for each in reply.effects.leaderboards if each.leaderboard == "xp"}
    assert scores == {(user, held[0] - 7), (other, held[1] + 7)}
    again = await system.orchestrator.TransferPoints(request)
    assert (again.idempotent_replayed, again.effects) == (True, reply.effects)
    undone = await system.orchestrator.VoidEntry(
        pb.VoidEntryRequest(entry_id=reply.entry_id, reason="no present", request_id=f"v-{user}")
    )
    assert [await balance(system, each, "xp") for each in (user, other)] == held
    scores = {(each.user_id, each.score) for each in undone.effects.leaderboards if each.leaderboard == "xp"}
    assert scores == {(user, held[0]), (other, held[1])}
    for wrong, reason in (user, "INVALID_FIELDS"), (f"{user}-none", "USER_NOT_FOUND"):
        request.to_user_id, request.request_id = wrong, reason
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.orchestrator.TransferPoints(request)
        assert from_rpc_error(caught.value).reason == reason


async def test_points_are_held_captured_and_given_back(system: System, user: str) -> None:
    await system.orchestrator.IngestEvent(event(user, "k"))
    before = await balance(system, user, "xp")
    request = pb.HoldPointsRequest(user_id=user, points_system="xp", amount=9, request_id="h")
    hold = (await system.orchestrator.HoldPoints(request)).entry_id
    assert (await system.orchestrator.HoldPoints(request)).idempotent_replayed
    capture = pb.CapturePointsRequest(user_id=user, hold_entry_id=hold, amount=7, request_id="c")
    reply = await system.orchestrator.CapturePoints(capture)
    assert await balance(system, user, "xp") == before - 7
    assert [each.score for each in reply.effects.leaderboards if each.leaderboard == "xp"] == [before - 7]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.orchestrator.ReleasePoints(
            pb.ReleasePointsRequest(user_id=user, hold_entry_id=hold, request_id="r")
        )
    assert from_rpc_error(caught.value).reason == "HOLD_ENDED"
    await system.orchestrator.VoidEntry(
        pb.VoidEntryRequest(entry_id=reply.entry_id, reason="sent back", request_id=f"v-{user}")
    )
    assert await balance(system, user, "xp") == before


async def test_the_reply_to_one_event_says_everything_that_it_changed(system: System, user: str) -> None:
    # Nobody else lives there.
    region = f"moon of {user}"
    reply = await system.orchestrator.IngestEvent(event(user, "k", zone="Asia/Tokyo", region=region))
    assert (reply.total_before, reply.total_after) == (0, 1)
    (streak,) = reply.effects.streaks
    assert (streak.extended, streak.state.length, streak.state.period_qualified) == (True, 1, True)
    assert [change.achievement for change in reply.effects.achievements] == ["first-step"]
    points = {result.points_system: result for result in reply.effects.points}
    assert (points["xp"].added, points["xp"].balance, points["xp"].level) == (135, 135, "novice")
    assert (points["coins"].added, points["coins"].balance) == (5, 5)
    boards = {
        (standing.leaderboard, *sorted(standing.segment.values())) for standing in reply.effects.leaderboards
    }
    assert boards == {
        ("steps",),
        ("steps", region),
        ("weekly",),
        ("xp",),
        ("weekly-coins",),
        ("daily",),
        ("weekly-days",),
    }
    moon = next(standing for standing in reply.effects.leaderboards if standing.segment)
    assert (moon.score, moon.rank, moon.previous_rank) == (1, 1, 0)


async def test_a_second_event_counts_on_and_tells_the_rank_before(system: System, user: str) -> None:
    await system.orchestrator.IngestEvent(event(user, region=user))
    reply = await system.orchestrator.IngestEvent(event(user, value=0.5))
    assert (reply.total_before, reply.total_after) == (1, 1.5)
    assert not reply.effects.streaks[0].extended
    segment = next(standing for standing in reply.effects.leaderboards if standing.segment)
    assert (segment.score, segment.rank, segment.previous_rank) == (1.5, 1, 1)


async def test_the_same_key_with_the_same_payload_gets_the_original_reply(system: System, user: str) -> None:
    first = await system.orchestrator.IngestEvent(event(user, "k"))
    again = await system.orchestrator.IngestEvent(event(user, "k"))
    assert again.idempotent_replayed
    again.idempotent_replayed = False
    assert again.SerializeToString() == first.SerializeToString()
    assert await balance(system, user, "coins") == 5


async def test_the_same_key_with_another_payload_is_refused(system: System, user: str) -> None:
    await system.orchestrator.IngestEvent(event(user, "k"))
    error = await refusal(system, event(user, "k", value=2))
    assert (error.code, error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")


async def test_the_same_key_serves_once_for_each_user_and_metric(system: System, user: str) -> None:
    await system.orchestrator.IngestEvent(event(user, "k", value=3))
    other = await system.orchestrator.IngestEvent(event(user, "k", metric="purchases"))
    assert not other.idempotent_replayed
    assert await balance(system, user, "coins") == 8


async def test_of_two_at_once_with_one_key_one_runs_and_both_get_its_reply(system: System, user: str) -> None:
    replies = await asyncio.gather(*(system.orchestrator.IngestEvent(event(user, "k")) for _ in range(8)))
    assert sorted(reply.idempotent_replayed for reply in replies) == [False] + [True] * 7
    assert {(reply.entry_id, reply.total_after) for reply in replies} == {(replies[0].entry_id, 1)}


async def test_two_hundred_events_of_one_user_at_once_end_as_one_after_another(
    system: System, user: str
) -> None:
    events = [event(user, f"k{i}", at=TODAY - (i % 5) * DAY, value=1 + i % 3) for i in range(200)]
    one_by_one = f"{user}-serial"
    await asyncio.gather(*(system.orchestrator.IngestEvent(each) for each in events))
    for each in events:
        each.user.user_id = one_by_one
        await system.orchestrator.IngestEvent(each)
    for name in ("coins", "xp"):
        assert await balance(system, user, name) == await balance(system, one_by_one, name)
    assert await length(system, user) == await length(system, one_by_one) == 5
    assert await violations(system) == []


async def test_an_event_that_the_user_cannot_pay_for_is_refused_and_leaves_no_trace(
    system: System, user: str
) -> None:
    await system.orchestrator.IngestEvent(event(user, "earn"))
    error = await refusal(system, event(user, "spend", metric="purchases"))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INSUFFICIENT_POINTS")
    assert error.domain == "points.laurel"
    assert {key: error.metadata[key] for key in ("points_system", "balance", "required")} == {
        "points_system": "coins",
        "balance": "5",
        "required": "7",
    }
    profile = await system.orchestrator.GetUser(pb.GetUserRequest(user_id=user))
    assert [metric.metric for metric in profile.metrics] == ["steps"]
    assert await balance(system, user, "coins") == 5
    assert await violations(system) == []


async def test_a_refused_event_stays_refused_under_its_key_and_stands_in_the_ledger(
    system: System, user: str
) -> None:
    first = await refusal(system, event(user, "spend", metric="purchases"))
    await system.orchestrator.IngestEvent(event(user, "earn", value=5))
    again = await refusal(system, event(user, "spend", metric="purchases"))
    assert (again.reason, again.metadata) == (first.reason, first.metadata)
    events = await system.orchestrator.ListUserEntries(pb.ListUserEntriesRequest(user_id=user))
    states = {
        event_request(audit).idempotency_key: audit.state
        for audit in events.entries
        if audit.operation == "metric_event"
    }
    assert states == {"spend": audit_pb2.ENTRY_STATE_REJECTED, "earn": audit_pb2.ENTRY_STATE_DONE}


async def test_a_user_whose_only_event_is_refused_does_not_come_to_be(system: System, user: str) -> None:
    await refusal(system, event(user, "spend", metric="purchases", region="nowhere"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await system.orchestrator.GetUser(pb.GetUserRequest(user_id=user))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert await balance(system, user, "xp") == 0


async def test_voiding_the_event_that_began_a_streak_leaves_what_the_later_one_alone_would_have_given(
    system: System, user: str
) -> None:
    began = await system.orchestrator.IngestEvent(event(user, "a", at=TODAY - DAY))
    later = await system.orchestrator.IngestEvent(event(user, "b", at=TODAY))
    assert await length(system, user) == 2
    undone = await system.orchestrator.VoidEntry(
        pb.VoidEntryRequest(entry_id=began.entry_id, reason="mistake", request_id=f"void-{user}")
    )
    assert await length(system, user) == 1
    changes = [(change.achievement, change.kind, change.entry_id) for change in undone.effects.achievements]
    assert sorted(changes) == [
        ("first-step", COMPLETED, later.entry_id),
        ("first-step", REVOKED, began.entry_id),
        ("two-days", REVOKED, later.entry_id),
    ]
    assert undone.total_after == 1
    alone = f"{user}-alone"
    await system.orchestrator.IngestEvent(event(alone, "b", at=TODAY))
    for name in ("xp", "coins"):
        assert await balance(system, user, name) == await balance(system, alone, name)
    assert await violations(system) == []


async def test_voiding_twice_is_one_void_with_one_answer(system: System, user: str) -> None:
    reply = await system.orchestrator.IngestEvent(event(user, "a"))
    request = pb.VoidEntryRequest(entry_id=reply.entry_id, reason="mistake", request_id=f"void-{user}")
    answers = await asyncio.gather(*(system.orchestrator.VoidEntry(request) for _ in range(4)))
    assert len({answer.SerializeToString() for answer in answers}) == 1
    request.request_id += "-again"
    assert await system.orchestrator.VoidEntry(request) == answers[0]
    assert await balance(system, user, "coins") == 0
    assert await violations(system) == []


async def test_a_voided_event_still_answers_its_key_with_the_original_reply(
    system: System, user: str
) -> None:
    reply = await system.orchestrator.IngestEvent(event(user, "a"))
    await system.orchestrator.VoidEntry(
        pb.VoidEntryRequest(entry_id=reply.entry_id, reason="mistake", request_id=f"void-{user}")
    )
    again = await system.orchestrator.IngestEvent(event(user, "a"))
    assert (again.idempotent_replayed, again.entry_id) == (True, reply.entry_id)
    assert await balance(system, user, "coins") == 0


async def test_the_audit_of_an_event_tells_what_was_asked_and_what_came_of_it(
    system: System, user: str
) -> None:
    reply = await system.orchestrator.IngestEvent(event(user, "a"))
    audit = (await system.orchestrator.GetEntry(pb.GetEntryRequest(entry_id=reply.entry_id))).entry
    assert audit.state == audit_pb2.ENTRY_STATE_DONE
    assert event_request(audit).idempotency_key == "a"
    stored = event_pb2.IngestEventResponse()
    assert audit.response.Unpack(stored)
    assert stored == reply


async def test_a_batch_answers_each_item_and_a_bad_one_harms_nobody(system: System, user: str) -> None:
    events = [
        event(user, "a"),
        event(user, "b", value=0),
        event(user, "c", metric="unheard-of"),
        event(user, "d"),
    ]
    response = await system.orchestrator.IngestEvents(pb.IngestEventsRequest(events=events))
    kinds = [result.WhichOneof("result") for result in response.results]
    assert kinds == ["event", "error", "error", "event"]
    assert response.results[1].error.violations[0].field == "value"
    assert response.results[2].error.reason == "METRIC_NOT_FOUND"
    assert response.results[3].event.total_after == 2


async def test_of_different_payloads_under_one_key_in_one_batch_the_ledger_knows_which_is_the_original(
    system: System, user: str
) -> None:
    original = await system.orchestrator.IngestEvent(event(user, "k", value=2))
    payloads = [event(user, "k", value=value) for value in (3, 2, 2)]
    response = await system.orchestrator.IngestEvents(pb.IngestEventsRequest(events=payloads))
    answers = [result.error.reason or result.event.entry_id for result in response.results]
    assert answers == ["IDEMPOTENCY_KEY_REUSED", original.entry_id, original.entry_id]


async def test_a_refused_payload_does_not_stand_in_the_way_of_a_good_one_under_the_same_key(
    system: System, user: str
) -> None:
    await system.orchestrator.IngestEvent(event(user, "full", value=1e12))
    payloads = [event(user, "k", value=value) for value in (1e12, 5)]
    for number in range(8):
        await system.orchestrator.IngestEvent(event(user, f"full-{number}", value=1e12 - 1))
    response = await system.orchestrator.IngestEvents(pb.IngestEventsRequest(events=payloads))
    assert response.results[0].error.reason == "TOTAL_OUT_OF_RANGE"
    assert response.results[1].event.total_after == 9e12 - 8 + 5


async def test_a_stream_answers_every_event_under_its_number(system: System, user: str) -> None:
    count = 600
    call = system.orchestrator.StreamEvents()

    async def send() -> None:
        for number in range(count):
            await call.write(pb.StreamEventsRequest(sequence=number, event=event(user, f"k{number}")))
        await call.done_writing()

    sending = asyncio.create_task(send())
    answers = {response.sequence: response.result async for response in call}
    await sending
    assert set(answers) == set(range(count))
    assert {answers[number].WhichOneof("result") for number in answers} == {"event"}
    profile = await system.orchestrator.GetUser(pb.GetUserRequest(user_id=user))
    assert [metric.total for metric in profile.metrics] == [count]


async def test_an_achievement_is_completed_by_call_once(system: System, user: str) -> None:
    request = pb.CompleteAchievementRequest(achievement="by-call", request_id="r")
    request.user.user_id = user
    reply = await system.orchestrator.CompleteAchievement(request)
    assert [change.achievement for change in reply.effects.achievements] == ["by-call"]
    assert [result.added for result in reply.effects.points] == [125]
    again = await system.orchestrator.CompleteAchievement(request)
    assert again.idempotent_replayed
    request.request_id = "another"
    other = await system.orchestrator.CompleteAchievement(request)
    assert list(other.effects.achievements) == []


async def test_a_change_of_region_moves_the_score_whole_to_the_new_segment(system: System, user: str) -> None:
    await system.orchestrator.IngestEvent(event(user, value=3, region=f"old-{user}"))
    request = pb.UpdateUserRequest(request_id="move")
    request.user.user_id = user
    request.user.attributes["region"] = f"new-{user}"
    reply = await system.orchestrator.UpdateUser(request)
    assert reply.user.attributes["region"] == f"new-{user}"
    assert await violations(system) == []


async def test_a_changed_definition_holds_from_the_next_event_on(system: System, user: str) -> None:
    key = f"m-{user}"[:60]
    assert (await refusal(system, event(user, metric=key))).reason == "METRIC_NOT_FOUND"
    request = pb.CreateDefinitionRequest(request_id=key)
    request.definition.metric.key = key
    await system.orchestrator.CreateDefinition(request)
    assert (await system.orchestrator.IngestEvent(event(user, metric=key))).total_after == 1


def crowded() -> event_pb2.IngestEventRequest:
    """An event whose user has one attribute too many."""
    request = event("u")
    request.user.attributes.update({f"a{number}": "x" for number in range(33)})
    return request


BAD: list[tuple[str, event_pb2.IngestEventRequest, str, str]] = [
    ("unknown metric", event("u", metric="unheard-of"), "METRIC_NOT_FOUND", "metric"),
    ("malformed metric", event("u", metric="No!"), "INVALID_FIELDS", "metric"),
    ("unknown zone", event("u", zone="Mars/Olympus"), "INVALID_FIELDS", "user.time_zone"),
    ("an offset as zone", event("u", zone="+09:00"), "INVALID_FIELDS", "user.time_zone"),
    ("zero", event("u", value=0), "INVALID_FIELDS", "value"),
    ("not a number", event("u", value=float("nan")), "INVALID_FIELDS", "value"),
    ("infinite", event("u", value=float("inf")), "INVALID_FIELDS", "value"),
    ("too large", event("u", value=1.000001e12), "INVALID_FIELDS", "value"),
    ("too small to count", event("u", value=1e-7), "INVALID_FIELDS", "value"),
    ("too old", event("u", at=TODAY - 8 * DAY), "EVENT_TOO_OLD", "occur_time"),
    ("in the future", event("u", at=TODAY + DAY), "EVENT_IN_FUTURE", "occur_time"),
    ("an impossible instant", event("u", at=-6e10), "INVALID_FIELDS", "occur_time"),
    ("an empty user id", event(""), "INVALID_FIELDS", "user.user_id"),
    ("an oversized user id", event("x" * 256), "INVALID_FIELDS", "user.user_id"),
    ("a user id with U+0000", event("a\x00b"), "INVALID_FIELDS", "user.user_id"),
    ("an oversized key", event("u", "k" * 256), "INVALID_FIELDS", "idempotency_key"),
    (
        "too many user attributes",
        crowded(),
        "INVALID_FIELDS",
        "user.attributes",
    ),
    ("an oversized attribute", event("u", a="x" * 256), "INVALID_FIELDS", "user.attributes['a']"),
]


@pytest.mark.parametrize(("name", "request_", "reason", "field"), BAD, ids=[name for name, *_ in BAD])
async def test_bad_input_gets_a_typed_error_that_names_the_field(
    system: System, name: str, request_: event_pb2.IngestEventRequest, reason: str, field: str
) -> None:
    before = len((await read_ledger(system)).events)
    error = await refusal(system, request_)
    assert error.reason == reason, name
    assert field in [violation.field for violation in error.violations]
    assert len((await read_ledger(system)).events) == before


async def test_every_mistake_of_one_event_is_reported_at_once(system: System) -> None:
    error = await refusal(system, event("", "k" * 256, metric="No!", value=0, zone="+01:00"))
    fields = {violation.field for violation in error.violations}
    assert fields == {"user.user_id", "idempotency_key", "metric", "value", "user.time_zone"}


async def test_a_batch_over_the_limit_is_refused_whole(system: System) -> None:
    for events in ([], [event("u")] * 1_001):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system.orchestrator.IngestEvents(pb.IngestEventsRequest(events=events))
        error = from_rpc_error(caught.value)
        assert (error.code, error.violations[0].field) == (grpc.StatusCode.INVALID_ARGUMENT, "events")


async def test_magnitudes_that_no_sum_could_hold_are_refused(system: System, user: str) -> None:
    for number in range(9):
        await system.orchestrator.IngestEvent(event(user, f"k{number}", value=1e12))
    error = await refusal(system, event(user, "last", value=1))
    assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "TOTAL_OUT_OF_RANGE")


async def test_an_event_without_a_time_happens_when_it_is_received(system: System, user: str) -> None:
    reply = await system.orchestrator.IngestEvent(event(user))
    assert abs(reply.occur_time.ToDatetime(tzinfo=UTC) - clock.now()) < timedelta(minutes=5)


async def test_events_are_paged_newest_first(system: System, user: str) -> None:
    for number in range(5):
        await system.orchestrator.IngestEvent(event(user, f"k{number}"))
    keys: list[str] = []
    token = ""
    while True:
        page = await system.orchestrator.ListUserEntries(
            pb.ListUserEntriesRequest(user_id=user, page_size=2, page_token=token)
        )
        keys += [event_request(audit).idempotency_key for audit in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert keys == ["k4", "k3", "k2", "k1", "k0"]
