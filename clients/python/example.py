"""Ingests an event and prints what it changed: example.py [HOST:PORT [USER]]."""

import sys
import time
from uuid import uuid4

import grpc
import laurel_client
from laurel.ledger.v1.effects_pb2 import Effects
from laurel.orchestrator.v1.event_pb2 import IngestEventRequest
from laurel.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub
from laurel.orchestrator.v1.user_pb2 import User
from laurel_client import LaurelError


def show(effects: Effects) -> None:
    for streak in effects.streaks:
        print(f"  streak       {streak.state.streak}: {streak.state.length}{' (extended)' * streak.extended}")
    for achievement in effects.achievements:
        print(f"  achievement  {achievement.name}")
    for points in effects.points:
        print(f"  points       {points.points_system}: {points.added:+} = {points.balance}")
    for standing in effects.leaderboards:
        print(f"  leaderboard  {standing.leaderboard}: rank {standing.rank}, score {standing.score:g}")


def show_refusal(error: LaurelError) -> None:
    """The parts of an error: decide by code, reason and domain; the message is for people."""
    print(f"refused: {error.reason} by {error.domain}: {error.message}")
    for violation in error.violations:
        print(f"  {violation.field}: {violation.description}")


def main(target: str, user_id: str) -> None:
    with laurel_client.channel(target) as channel:
        laurel = OrchestratorServiceStub(channel)
        # A key of your own makes the event known again for ever; without one the channel draws one for the call.
        event = IngestEventRequest(
            user=User(user_id=user_id, time_zone="Europe/Rome"),
            metric="commits",
            value=1,
            idempotency_key=str(uuid4()),
        )
        try:
            reply = laurel.IngestEvent(event)
        except LaurelError as error:
            # The channel has tried five times. The request in the error has the key: later, or from a queue, it
            # can be sent again, and counts once.
            if error.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(1)
            reply = laurel.IngestEvent(error.request)
        print(f"{reply.metric}: {reply.total_before:g} -> {reply.total_after:g}")
        show(reply.effects)

        again = laurel.IngestEvent(event)
        outcome = "replayed" if again.idempotent_replayed else "counted twice"
        print(f"the same key again: {outcome}, total {again.total_after:g}")

        try:
            laurel.IngestEvent(
                IngestEventRequest(user=User(user_id=user_id), metric="no-such-metric", value=1)
            )
        except LaurelError as error:
            show_refusal(error)
        try:
            laurel.IngestEvent(IngestEventRequest(metric="commits"))
        except LaurelError as error:
            show_refusal(error)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(arguments[0] if arguments else "127.0.0.1:7400", arguments[1] if len(arguments) > 1 else "carol")
