"""What a disturbed machine measures doesn't lift the limit, and is told."""

import sys
from pathlib import Path

import pytest

from ferryman.client.load import Histogram
from ferryman.core.bundle import Choice, CurvePoint
from ferryman.core.errors import FerrymanError
from ferryman.server.tuning.measuring import ask_alone, make_load, usual_limit
from ferryman.server.tuning.scatter import scatter_of
from ferryman.server.tuning.serving import serving

STUB = (sys.executable, str(Path(__file__).with_name("stub.py")))
CHOICE = Choice(threads=1, instances=1, max_batch=1)


def latencies(*seconds: float) -> Histogram:
    found = Histogram()
    for one in seconds:
        found.add(one)
    return found


def point(rate_rps: float, p99_ms: float | None) -> CurvePoint:
    return CurvePoint(
        rate_rps=rate_rps, achieved_rps=rate_rps, sent=99, answered=99, refused=0, failed=0, lost=0, p50_ms=1,
        p99_ms=p99_ms, p99_low_ms=None, p99_high_ms=None,
    )  # fmt: skip


def test_a_few_slow_answers_do_not_lift_the_limit_and_its_words_are_what_it_is_made_of() -> None:
    limit_ms, words = usual_limit(latencies(*[0.002] * 90, *[0.144] * 10))
    assert limit_ms == pytest.approx(8, rel=0.05)
    times, median = words.removesuffix(" ms, the median of one request alone").split(" x ")
    assert int(times) * float(median) == pytest.approx(limit_ms, abs=0.01)


def test_a_fast_model_has_the_least_limit_and_its_words_say_so() -> None:
    limit_ms, words = usual_limit(latencies(*[0.0003] * 9))
    assert (limit_ms, words.startswith("the least; the median of one request alone is 0.3")) == (5.0, True)


def test_a_disturbed_machine_is_told_by_each_of_its_signs() -> None:
    noisy, quiet = latencies(*[0.002] * 90, *[0.144] * 10), latencies(*[0.002] * 100)
    well = [point(10, 6.0), point(100, 7.9)]
    assert scatter_of(quiet, well, limit_ms=8, found_rps=110, kept_rps=100) == ()
    assert scatter_of(None, well, limit_ms=8, found_rps=110, kept_rps=100) == ()
    (alone,) = scatter_of(noisy, well, limit_ms=8, found_rps=110, kept_rps=100)
    assert "over the limit of 8 ms without any load" in alone
    (lower,) = scatter_of(quiet, [point(10, 60.0), *well[1:]], limit_ms=8, found_rps=110, kept_rps=100)
    assert lower.startswith("10.0 requests/s had a p99 of 60 ms, where the higher rate of 100.0 kept the limit")
    (found,) = scatter_of(quiet, well, limit_ms=8, found_rps=300, kept_rps=100)
    assert found == "the trials found 300.0 requests/s, and the curve confirms 100.0"


def test_who_asks_alone_learns_the_latency_or_that_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_CALL_S", "0.01")
    with serving(Path("any"), CHOICE, cores=(), command=STUB) as address:
        assert ask_alone(make_load(address, [b"GET / HTTP/1.1\r\n\r\n"]), duration_s=0.3).percentile(0.5) > 0.009
        with pytest.raises(FerrymanError, match="a caller alone got no answers"):
            ask_alone(make_load(address, [b"GET /fail HTTP/1.1\r\n\r\n"]), duration_s=0.1)
