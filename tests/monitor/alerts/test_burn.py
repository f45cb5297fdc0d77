"""The burn rate: real trouble is told within minutes, and few requests cry no wolf."""

import json
import math

import pytest

from ferryman.monitor.alerts.burn import History
from ferryman.monitor.alerts.fact import Traffic
from ferryman.monitor.alerts.usual import Usual
from tests.monitor.alerts.watching import Watching


def test_a_tenth_failing_after_hours_of_good_traffic_is_told_in_nine_minutes() -> None:
    watch = Watching()
    watch.run(7 * 3600, step_s=60, ok=90)
    before_s = watch.now_s
    while "errors" not in watch.firing() and watch.now_s < before_s + 3600:
        watch.run(10, ok=81, failed=9)
    # 10 % fail against a budget of 0.1 %: 1.44 % over the hour is there after 8.6 minutes (table 5-8's long window).
    assert 480 <= watch.now_s - before_s <= 560


def test_all_failing_is_told_within_a_minute_and_over_soon_after_the_cure() -> None:
    watch = Watching()
    watch.run(3600, ok=50)
    before_s = watch.now_s
    while "errors" not in watch.firing():
        watch.run(10, failed=50)
    assert watch.now_s - before_s <= 60
    cured_s = watch.now_s
    while "errors" in watch.firing():
        watch.run(10, ok=50)
    assert watch.now_s - cured_s <= 3600 / 2 + 120  # the longest short window, and how long it must be gone


def test_within_the_budget_nothing_is_told() -> None:
    watch = Watching(p99_ms=50)
    watch.run(2 * 86400, step_s=60, ok=2000, failed=1, slow=15)  # 0.05 % fail, 0.75 % are late
    assert watch.notices == []


def test_a_slow_burn_is_a_warning() -> None:
    watch = Watching()
    watch.run(2 * 86400, step_s=60, ok=1000, failed=2)  # 0.2 %: twice the budget
    assert watch.firing() == {"errors-slow"}


def test_late_answers_are_told_where_the_contract_promises_latency() -> None:
    watch = Watching(p99_ms=50)
    watch.run(3600, ok=100)
    watch.run(1200, ok=100, slow=30)
    assert watch.firing() == {"latency", "latency-slow"}
    assert "answers take over 50 ms" in watch.alerts()[0].summary
    unpromised = Watching()
    unpromised.run(3600, ok=100, slow=100)
    assert unpromised.firing() == set()


def test_a_few_failures_among_few_requests_are_no_alert() -> None:
    watch = Watching()
    for _ in range(4):
        watch.run(3600, step_s=60)
        watch.counts[0] += 1
        watch.counts[1] += 1  # half of the requests fail, one an hour
    assert watch.firing() == set()
    watch.counts[1] += 5
    watch.run(60)
    assert "errors" in watch.firing()


def test_a_server_that_starts_again_counts_from_nothing() -> None:
    watch = Watching()
    watch.run(3600, ok=50)
    watch.counts = [0, 0, 0]
    watch.run(600, ok=50)
    assert watch.firing() == set()
    watch.run(600, failed=50)
    assert "errors" in watch.firing()


def test_failures_from_before_the_watch_are_no_news() -> None:
    watch = Watching()
    watch.counts = [10, 100_000, 0]
    watch.run(600, ok=5)
    assert watch.firing() == set()


@pytest.mark.parametrize("window_s", [300.0, 1800.0, 3600.0, 21600.0, 259200.0])
def test_windows_count_what_came_in_them(window_s: float) -> None:
    history = History()
    step_s, ok = 5.0, 0
    for tick in range(int(300_000 / step_s)):
        ok += 7
        history.add(Traffic("m", "1", ok), tick * step_s)
    counted, failed, slow = history.over(window_s, 300_000 - step_s)
    slot_s = 10 if window_s <= 3600 else 300
    assert math.isclose(counted, 7 * window_s / step_s, abs_tol=7 * slot_s / step_s)
    assert (failed, slow) == (0, 0)


def test_a_usual_pause_is_learnt_and_nights_and_weekends_are_usual() -> None:
    usual, elapsed_s = Usual(0.0), 0.0
    for minute in range(15 * 1440):  # weekdays from 8 to 18 o'clock
        day, of_day = divmod(minute, 1440)
        elapsed_s += 60
        usual.saw(int(day % 7 < 5 and 480 <= of_day < 1080), elapsed_s)
        limit_s = usual.limit_s(elapsed_s)
        assert limit_s is None or usual.pause_s(elapsed_s) < limit_s
    assert usual.limit_s(elapsed_s) == 2 * 62 * 3600 + 120  # a weekend and two half nights
    restored = Usual.restore(json.loads(json.dumps(usual.save())))
    assert restored == usual
    assert len(usual.longest) <= 8


def test_a_pause_that_is_not_usual_is_told() -> None:
    watch = Watching(monitor={"off": ["errors", "errors-slow"]})
    watch.run(9 * 86400, step_s=60, ok=1)
    assert watch.notices == []
    watch.run(1200, step_s=60)
    assert watch.firing() == {"silence"}
    assert "no request for" in watch.alerts()[0].summary


def test_silence_with_a_limit_needs_no_learning() -> None:
    watch = Watching(monitor={"rules": {"silence": {"limit": 600}}})
    watch.run(100, ok=1)
    watch.run(500)
    assert watch.firing() == set()
    watch.run(200)
    assert watch.firing() == {"silence"}
    watch.run(300, ok=1)
    assert watch.notices[-1].status == "resolved"


def test_no_request_while_no_server_was_there_is_no_silence() -> None:
    watch = Watching(monitor={"rules": {"silence": {"limit": 600}}})
    watch.run(100, ok=1)
    watch.now_s += 7200
    watch.restart()
    watch.run(500)
    assert watch.firing() == set()
    watch.run(200)
    assert watch.firing() == {"silence"}
    watch.now_s += 7200
    watch.restart()
    watch.run(10)
    assert watch.firing() == {"silence"}, "it was silent before, and still is"
