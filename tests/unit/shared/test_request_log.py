"""What the request log says about a request (RULES 7.4)."""

import uuid

import pytest

from shared.postgres.request_log import (
    Conflict,
    Expired,
    Known,
    New,
    NothingToRevert,
    RefusedAfterRevert,
    Replay,
    ReplayRevert,
    Revert,
    State,
    Tombstone,
    classify_apply,
    classify_revert,
)


def known(state: State, *, digest: bytes = b"d", revert_outcome: bytes | None = None) -> Known:
    return Known(uuid.UUID(int=1), digest, state, b"outcome", revert_outcome)


def test_a_command_never_seen_is_new() -> None:
    assert classify_apply(None, b"d") == New()


@pytest.mark.parametrize("state", [State.APPLIED, State.REJECTED])
def test_the_same_command_gets_the_same_answer_be_it_yes_or_no(state: State) -> None:
    assert classify_apply(known(state), b"d") == Replay(b"outcome")


@pytest.mark.parametrize("state", [State.APPLIED, State.REJECTED, State.REVERTED])
def test_the_same_id_with_other_content_is_refused(state: State) -> None:
    assert classify_apply(known(state), b"other") == Conflict()


def test_a_late_original_after_its_compensation_is_refused() -> None:
    assert classify_apply(known(State.REVERTED), b"d") == RefusedAfterRevert()
    assert classify_apply(known(State.TOMBSTONE, digest=b""), b"d") == RefusedAfterRevert()


@pytest.mark.parametrize("state", [State.APPLIED, State.REJECTED])
def test_what_is_condensed_is_refused_because_its_answer_is_not_kept(state: State) -> None:
    assert classify_apply(known(state, digest=b""), b"d") == Expired()


def test_what_is_condensed_can_be_undone_and_then_stays_so() -> None:
    assert classify_revert(known(State.APPLIED, digest=b"")) == Revert()
    undone = known(State.REVERTED, digest=b"", revert_outcome=b"undone")
    assert classify_revert(undone) == ReplayRevert(b"undone")
    assert classify_apply(undone, b"d") == RefusedAfterRevert()


def test_what_was_applied_is_undone_once() -> None:
    assert classify_revert(known(State.APPLIED)) == Revert()
    assert classify_revert(known(State.REVERTED, revert_outcome=b"undone")) == ReplayRevert(b"undone")


def test_a_compensation_of_something_never_seen_is_recorded_and_then_repeated() -> None:
    assert classify_revert(None) == Tombstone()
    assert classify_revert(known(State.TOMBSTONE)) == ReplayRevert(b"")


def test_a_rejected_command_leaves_nothing_to_undo() -> None:
    assert classify_revert(known(State.REJECTED)) == NothingToRevert()
