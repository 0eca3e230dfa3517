"""Figures are what they say they are."""

import pytest

from deploy.bench.load import Bucket, Load, Measured, Sample, summarise
from deploy.bench.profiles import recovery_seconds
from deploy.bench.results import Results
from deploy.bench.schedule import Phase
from deploy.bench.statistics import Latencies, Spread, percentile, ratios
from deploy.bench.targets import TARGETS


def test_a_percentile_is_the_least_value_that_enough_do_not_exceed() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert [percentile(ordered, share) for share in (0.01, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.5) == 7
    assert percentile([], 0.5) == 0


def test_latencies_are_told_in_milliseconds() -> None:
    assert Latencies.of([0.003, 0.001, 0.002]) == Latencies(3, 2.0, 3.0, 3.0, 3.0)


def test_a_spread_is_median_and_range() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])


def test_ratios_compare_what_was_measured_in_the_same_round() -> None:
    assert ratios([10.0, 40.0], [20.0, 40.0]) == [0.5, 1.0]


def test_a_rate_is_taken_from_burst_to_burst() -> None:
    bursts = [Sample(-1 if ended < 1 else 0, 0.0, ended, "OK", 100) for ended in (0.9, 1.4, 1.9, 2.4, 3.2)]
    summary = summarise(bursts, [(1.0, 3.0)], 0.0).whole
    assert summary.done == 300
    assert summary.seconds == pytest.approx(1.5)
    assert summary.per_second == pytest.approx(200)


def test_an_answer_counts_for_the_phase_in_which_it_was_asked_for() -> None:
    samples = [
        Sample(0, 0.5, 0.6, "OK", 1),
        Sample(0, 0.9, 1.5, "RESOURCE_EXHAUSTED", 1),
        Sample(1, 1.1, 1.2, "OK", 1),
    ]
    first, second = summarise(samples, [(0.0, 1.0), (1.0, 2.0)], 0.0).phases
    assert first.answers == {"OK": 1, "RESOURCE_EXHAUSTED": 1}
    assert first.refusals.p50 == pytest.approx(600)
    assert second.answers == {"OK": 1}


def test_warm_up_is_done_but_not_measured() -> None:
    measured = summarise([Sample(-1, 0.0, 0.1, "OK", 5), Sample(0, 1.0, 1.1, "OK", 5)], [(0.5, 2.0)], 0.0)
    assert (measured.done, measured.whole.done, measured.whole.latencies.count) == (10, 5, 1)


def test_an_open_loop_counts_latency_from_the_due_instant() -> None:
    stalled = [Sample(0, due, 1.0, "OK", 1) for due in (0.0, 0.25, 0.5)]
    assert summarise(stalled, [(0.0, 2.0)], 0.0).whole.latencies.longest == pytest.approx(1_000)


def test_loads_and_measurements_survive_the_way_as_json() -> None:
    load = Load("127.0.0.1:1", "event", phases=[Phase(10.0, 2.0)])
    assert Load.from_json(load.to_json()) == load
    measured = summarise([Sample(0, 0.1, 0.2, "OK", 1)], [(0.0, 1.0)], 0.5)
    assert Measured.from_json(measured.to_json()) == measured


def test_recovery_ends_with_the_first_quick_tenth_without_a_refusal() -> None:
    calm, slow, refusing = Bucket(10, 0, 20.0), Bucket(10, 0, 90.0), Bucket(10, 5, 20.0)
    buckets = [*[calm] * 10, *[refusing] * 20, slow, refusing, calm, calm]
    assert recovery_seconds(buckets, 1.0, 2.0) == pytest.approx(0.2)


def test_a_system_that_does_not_recover_is_charged_for_all_that_was_seen() -> None:
    buckets = [*[Bucket(10, 0, 20.0)] * 10, *[Bucket(0, 9, 1.0)] * 25]
    assert recovery_seconds(buckets, 1.0, 2.0) == pytest.approx(0.5)


def test_a_target_is_judged_by_the_median() -> None:
    results = Results(figures={"closed.256.rate": [200.0, 300.0, 400.0], "empty.256.rate": [1_000.0] * 3})
    target = TARGETS[0]
    measured = target.measure(results)
    assert (measured.median, measured.low, measured.high) == (0.3, 0.2, 0.4)
    assert target.is_reached(measured)


def test_the_peer_is_judged_at_its_best() -> None:
    results = Results(
        figures={"closed.256.rate": [800.0], "peer.1.events": [50.0], "peer.16.events": [100.0]}
    )
    target = next(each for each in TARGETS if "DBOS" in each.what)
    assert target.measure(results).median == 8.0
