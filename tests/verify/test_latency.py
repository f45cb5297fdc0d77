"""Latency in turns and under Poisson arrivals."""

import math
import threading
import time

from ferryman.verify.latency import compare_latency, poisson_p99


def _work(seconds: float) -> None:
    """Wait on an event that never comes: takes its time without the processor's."""
    threading.Event().wait(seconds)


def test_the_ratio_is_to_the_source_of_the_same_round() -> None:
    calls = {"source": lambda _: _work(0.004), "twice": lambda _: _work(0.008)}
    taken = compare_latency(calls, "source", budget_s=0.5)
    assert 1.5 < taken["twice"].ratio < 2.5
    assert 0.8 < taken["source"].ratio < 1.2
    assert taken["twice"].min_ms <= taken["twice"].p50_ms <= taken["twice"].p95_ms <= taken["twice"].p99_ms


def test_every_call_sees_the_same_inputs_as_often() -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    calls = {name: (lambda index, name=name: seen[name].append(index)) for name in seen}
    compare_latency(calls, "a", budget_s=0.01)
    assert sorted(seen["a"]) == sorted([*seen["b"], *seen["b"]])  # the source runs twice a round


def test_a_request_pays_for_the_ones_that_it_waits_behind() -> None:
    started = time.perf_counter()
    p99_ms, count = poisson_p99(lambda _: _work(0.01), rps=80, seconds=0.5, seed=3)
    assert count == 40
    assert p99_ms > 15  # service takes 10 ms; at 80 % load the queue adds more than half of that again
    assert time.perf_counter() - started < 5


def test_requests_that_come_faster_than_they_are_answered_end_at_the_limit_and_never_hold() -> None:
    started = time.perf_counter()
    p99_ms, count = poisson_p99(lambda _: _work(0.05), rps=200, seconds=0.3, seed=3)
    assert p99_ms == math.inf
    assert 0 < count < 60
    assert time.perf_counter() - started < 2  # 60 requests of 50 ms take 3 s


def test_the_limit_can_be_given() -> None:
    p99_ms, count = poisson_p99(lambda _: _work(0.05), rps=200, seconds=0.3, seed=3, max_s=30)
    assert count == 60
    assert 1000 < p99_ms < 30_000


def test_rare_requests_are_few_and_not_waited_for() -> None:
    started = time.perf_counter()
    p99_ms, count = poisson_p99(lambda _: _work(0.01), rps=0.05, seconds=2, seed=3)
    assert count == 5
    assert 9 < p99_ms < 1000  # of one request that nobody is before; its arrival is minutes after the last
    assert time.perf_counter() - started < 10
