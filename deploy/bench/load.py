"""What a load generator is asked for, and what it answers: plain values that travel as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self

from deploy.bench.events import Mix
from deploy.bench.schedule import Phase
from deploy.bench.statistics import Latencies

Call = Literal["empty", "event", "batch", "stream"]

BUCKET_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """One window of load on one or more replicas.

    With `phases` it is an open loop: requests leave by the schedule, whatever has become of earlier ones, and
    latencies count from the instant at which they should have left. Without, it is a closed loop: `in_flight`
    callers that each wait for an answer before they ask again.
    """

    target: str
    """Addresses, with commas; taken in turn."""
    call: Call
    in_flight: int = 1
    seconds: float = 0.0
    """How long a closed loop is measured."""
    warmup_seconds: float = 0.0
    """How long it runs before."""
    phases: Sequence[Phase] = ()
    batch_size: int = 100
    mix: Mix = field(default_factory=Mix)
    deadline_seconds: float = 20.0
    connections: int = 1
    """Taken in turn."""
    key: str = field(default="", repr=False)
    """What callers show; empty: nothing."""
    authority: str = ""
    """The file with the authority that they believe; empty: nothing is encrypted."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        phases = [Phase(**phase) for phase in content["phases"]]
        return cls(**{**content, "phases": phases, "mix": Mix(**content["mix"])})


@dataclass(frozen=True, slots=True)
class Summary:
    """One phase of a window."""

    seconds: float
    """From the last answer before the phase to the last answer in it."""
    done: int
    """Events answered well meanwhile."""
    answers: Mapping[str, int]
    """Of the requests that belong to the phase: how many events ended with which code."""
    latencies: Latencies
    """Of the requests that were answered well."""
    refusals: Latencies
    """Of those that were answered RESOURCE_EXHAUSTED."""

    @property
    def per_second(self) -> float:
        """Events answered well in a second."""
        return self.done / self.seconds


@dataclass(frozen=True, slots=True)
class Bucket:
    """A tenth of a second of a window, by the instant at which requests were due."""

    ok: int
    refused: int
    p50: float
    """Of all answers, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A whole window."""

    phases: Sequence[Summary]
    buckets: Sequence[Bucket]
    done: int
    """Events answered well, warm-up and the rest after the end included."""
    lag_p99: float
    """How late requests of an open loop left, in milliseconds: the generator's own part in the latencies."""

    @property
    def whole(self) -> Summary:
        """The measured part of a closed loop."""
        return self.phases[0]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` wrote."""
        phases = [
            Summary(
                **{
                    **phase,
                    "latencies": Latencies(**phase["latencies"]),
                    "refusals": Latencies(**phase["refusals"]),
                }
            )
            for phase in content["phases"]
        ]
        return cls(
            **{**content, "phases": phases, "buckets": [Bucket(**each) for each in content["buckets"]]}
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer. Instants are seconds from the start of the window."""

    phase: int
    due: float
    ended: float
    code: str
    events: int


def summarise(samples: Sequence[Sample], spans: Sequence[tuple[float, float]], lag_p99: float) -> Measured:
    """What samples come to, phase by phase (from, to); those of phase -1 are warm-up.

    Work done counts for the phase in which it ended, an answer for the phase in which it was asked for. Events that
    travel together are answered together, in bursts: a rate is taken from burst to burst, so that it does not
    depend on how many of them the clock happens to cut off.
    """
    phases = []
    for index, (begin, end) in enumerate(spans):
        own = [sample for sample in samples if sample.phase == index]
        answers: dict[str, int] = {}
        for sample in own:
            answers[sample.code] = answers.get(sample.code, 0) + sample.events
        seconds, done = _done(samples, begin, end)
        phases.append(
            Summary(seconds, done, answers, _latencies(own, "OK"), _latencies(own, "RESOURCE_EXHAUSTED"))
        )
    done = sum(sample.events for sample in samples if sample.code == "OK")
    return Measured(phases, _buckets(samples), done, lag_p99)


def _done(samples: Sequence[Sample], begin: float, end: float) -> tuple[float, int]:
    """How long was worked, and how many events were done."""
    ended = [
        (sample.ended, sample.events) for sample in samples if sample.code == "OK" and sample.ended < end
    ]
    first = max((instant for instant, _ in ended if instant < begin), default=begin)
    own = [(instant, events) for instant, events in ended if instant > first]
    last = max((instant for instant, _ in own), default=end)
    return last - first, sum(events for _, events in own)


def _latencies(samples: Sequence[Sample], code: str) -> Latencies:
    return Latencies.of(sample.ended - sample.due for sample in samples if sample.code == code)


def _buckets(samples: Sequence[Sample]) -> list[Bucket]:
    last = max((sample.due for sample in samples), default=0.0)
    members: list[list[Sample]] = [[] for _ in range(int(last / BUCKET_SECONDS) + 1)]
    for sample in samples:
        members[int(sample.due / BUCKET_SECONDS)].append(sample)
    return [
        Bucket(
            sum(each.events for each in own if each.code == "OK"),
            sum(each.events for each in own if each.code == "RESOURCE_EXHAUSTED"),
            Latencies.of(each.ended - each.due for each in own).p50,
        )
        for own in members
    ]
