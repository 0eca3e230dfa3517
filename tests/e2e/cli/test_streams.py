"""laurel streams."""

from tests.fixtures.command import Laurel


def test_streams_are_created_changed_and_deleted(laurel: Laurel) -> None:
    created = laurel.json("streams", "create", "bus", "--type", "streak.lost", "--redis", "events")["stream"]
    assert created["redis"]["stream"] == "events"
    laurel.run("streams", "update", "bus", "--type", "*", "--redis", "others", "--max-length", "50", "--off")
    shown = laurel.json("streams", "show", "bus")["stream"]
    assert (shown["types"], shown["redis"]["maxLength"], shown["switchedOff"]) == (["*"], "50", True)
    assert "redis others" in laurel.run("streams", "list").stdout
    assert (
        "it is published again"
        in laurel.run("streams", "replay", "bus", "--since", "2026-01-01T00:00:00Z").stdout
    )
    refused = laurel.run("streams", "create", "nats", "--type", "*", "--nats", "LAUREL", code=1)
    assert "LAUREL_NATS_URL" in refused.stdout + refused.stderr
    refused = laurel.run("streams", "create", "kafka", "--type", "*", "--kafka", "laurel", code=1)
    assert "LAUREL_KAFKA_URL" in refused.stdout + refused.stderr
    assert "deleted bus" in laurel.run("streams", "delete", "bus").stdout
    assert "no stream" in laurel.run("streams", "list").stdout
    kept = laurel.json("audit", "--subject", "event_stream/bus")["operations"]
    assert [each["method"] for each in reversed(kept)] == [
        "create_event_stream",
        "update_event_stream",
        "rewind_event_stream",
        "delete_event_stream",
    ]
    assert {each["service"] for each in kept} == {"notification"}
    assert "delete event stream event_stream/bus" in laurel.run("audit", "--limit", "20").stdout
