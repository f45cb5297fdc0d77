"""The load generator counts everything, and a server that stalls can't hide."""

import asyncio
import sys
from collections.abc import Iterator
from math import inf, isinf
from pathlib import Path

import pytest

from ferryman.client.load import Address, Histogram, Load, closed_loop, open_loop
from ferryman.core.bundle import Choice
from ferryman.server.tuning.serving import serving

STUB = (sys.executable, str(Path(__file__).with_name("stub.py")))


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(Path("any"), Choice(threads=1, instances=8, max_batch=8), cores=(), command=STUB) as one:
        yield one


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def load_of(address: Address, *paths: str, connections: int = 16) -> Load:
    return Load(address, [get(path) for path in paths], connections=connections, timeout_s=2)


def test_every_scheduled_request_is_sent_and_counted(address: Address) -> None:
    tally = asyncio.run(open_loop(load_of(address, "/"), rate_rps=200, duration_s=1.0))
    assert 140 < tally.sent < 260, "Poisson arrivals around the rate"
    assert tally.answered == tally.sent == tally.latency.count
    assert tally.latency.percentile(0.5) > 0.001


def test_the_same_seed_gives_the_same_schedule(address: Address) -> None:
    sent = [asyncio.run(open_loop(load_of(address, "/"), rate_rps=100, duration_s=0.5)).sent for _ in range(2)]
    assert sent[0] == sent[1]


@pytest.mark.parametrize(("path", "fate"), [("/refuse", "refused"), ("/fail", "failed"), ("/drop", "lost")])
def test_what_is_not_answered_is_counted_and_never_fast(address: Address, path: str, fate: str) -> None:
    tally = asyncio.run(open_loop(load_of(address, "/", path), rate_rps=100, duration_s=0.6))
    assert getattr(tally, fate) == tally.sent // 2
    assert tally.answered + getattr(tally, fate) == tally.sent
    assert isinf(tally.latency.percentile(0.99))


def test_a_server_that_stalls_can_not_hide_in_the_open_loop(address: Address) -> None:
    paths = ["/"] * 400
    paths[100] = "/stall"
    opened = asyncio.run(open_loop(load_of(address, *paths, connections=4), rate_rps=250, duration_s=1.2))
    patient = asyncio.run(closed_loop(load_of(address, *paths[:101], connections=1), duration_s=1.0))
    assert opened.latency.percentile(0.85) > 0.05, "a third of the arrivals came while it stood still"
    assert patient.latency.percentile(0.85) < 0.05, "the patient caller met it once, and hides it"
    assert opened.answered == opened.sent


def test_chunked_answers_are_read(address: Address) -> None:
    tally = asyncio.run(closed_loop(load_of(address, "/chunked", connections=2), duration_s=0.3))
    assert tally.answered == tally.sent > 10


def test_nobody_there_means_that_all_is_lost() -> None:
    with_nobody = load_of(Address("127.0.0.1", 9), "/", connections=2)
    tally = asyncio.run(closed_loop(with_nobody, duration_s=0.1))
    assert tally.lost == tally.sent > 0


def test_a_histogram_is_right_to_one_percent() -> None:
    histogram = Histogram()
    for millisecond in range(1, 1001):
        histogram.add(millisecond / 1e3)
    assert histogram.percentile(0.5) == pytest.approx(0.5, rel=0.011)
    assert histogram.percentile(0.99) == pytest.approx(0.99, rel=0.011)
    low, high = histogram.interval(0.99)
    assert low < 0.99 < high < inf


def test_few_samples_leave_the_percentile_unbounded() -> None:
    histogram = Histogram()
    for _ in range(50):
        histogram.add(0.01)
    assert isinf(histogram.interval(0.99)[1])


def test_what_was_lost_is_slower_than_all_others() -> None:
    histogram = Histogram()
    for _ in range(98):
        histogram.add(0.01)
    histogram.add_lost()
    histogram.add_lost()
    assert histogram.percentile(0.98) == pytest.approx(0.01, rel=0.011)
    assert isinf(histogram.percentile(0.99))
