"""What `ferryman monitor` shows, of two looks at a server."""

from typing import Any

import pytest

from ferryman.cli.feedback_table import render_feedback
from ferryman.cli.monitor_figures import Rates, figures, percentile
from ferryman.cli.monitor_view import render_lines, render_screen
from ferryman.verify.columns import Paint
from tests.cli.running import ferryman

PLAIN = Paint(color=False)
URL = "http://127.0.0.1:8081"
BOUNDS = [0.01, 0.02, 0.05]


def look(at_s: float, requests: int, **told: Any) -> dict[str, Any]:
    """Give a look at a server of which so many requests were answered, all between 10 and 20 ms, each tenth late."""
    version: dict[str, Any] = {
        "model": "street", "version": "2", "active": True, "ready": True, "golden_ok": True, "cpu_s": requests * 0.0021,
        "outcomes": {"ok": requests, "failed": requests // 20, "invalid": 0},
        "latency": {"bounds_s": BOUNDS, "counts": [0, requests, requests // 20, 0]}, "promised_p99_s": 0.03,
        "waiting": 3, "in_flight": 1, "worker_bytes": [100_000_000, 50_000_000],
    }  # fmt: skip
    watch = {
        "watching": True, "records": float(requests), "lost": {"queue_full": 2.0}, "restarts": 0.0, "share": 0.4,
        "drift": [{"model": "street", "version": "2", "drifted": True, "threshold": 4.0,
                   "scores": {"brightness": 6.0, "label": 1.0}}],
        "alerts": [{"rule": "drift", "model": "street", "version": "2", "severity": "warning", "state": "firing"}],
        "machine": {"temperature_c": None, "disk_free": 0.5},
    }  # fmt: skip
    whole = {"at_s": at_s, "ready": True, "reason": "", "cpu_s": at_s / 2, "front_bytes": 80_000_000}
    return whole | {"versions": [version | told], "watch": watch}


def drawn(shown: Any, *, width: int = 120, height: int = 50, trouble: str = "") -> list[str]:
    return render_screen(shown, url=URL, trouble=trouble, width=width, height=height, paint=PLAIN).split("\n")


def test_rates_are_of_what_came_between_two_looks() -> None:
    shown = figures(look(100.0, 1000), look(104.0, 1400))
    [one] = shown["versions"]
    assert (one["requests_per_s"], one["failed_per_s"]) == (105.0, 5.0)
    assert one["failed_share"] == pytest.approx(20 / 420)
    assert one["p50_s"] == pytest.approx(0.01 + 0.01 * 210 / 400)
    assert one["p99_s"] == pytest.approx(0.02 + 0.03 * (0.99 * 420 - 400) / 20)
    assert (shown["cpu_cores"], shown["watch"]["records_per_s"]) == (0.5, 100.0)
    assert one["memory_bytes"] == 150_000_000
    assert one["cpu_s_a_request"] == pytest.approx(0.002)


def test_the_first_look_has_no_rates() -> None:
    [one] = Rates().add(look(100.0, 1000))["versions"]
    assert one["requests_per_s"] is one["p99_s"] is one["failed_share"] is None
    assert any("street" in line for line in drawn(Rates().add(look(100.0, 1000))))


def test_rates_are_of_the_last_ten_seconds() -> None:
    rates = Rates()
    for second in range(30):
        shown = rates.add(look(100.0 + second, 100 * max(0, second - 15)))
    assert shown["window_s"] == 10.0
    assert shown["versions"][0]["requests_per_s"] == pytest.approx(105.0)


def test_a_server_that_was_started_again_has_no_negative_rates() -> None:
    rates = Rates()
    rates.add(look(100.0, 5000))
    again = rates.add({**look(101.0, 10), "cpu_s": 1.0})
    assert again["versions"][0]["requests_per_s"] is None
    assert figures(look(100.0, 5000), look(101.0, 10))["versions"][0]["requests_per_s"] is None


@pytest.mark.parametrize(
    ("counts", "share", "told"),
    [([0, 0, 0, 0], 0.5, None), ([4, 0, 0, 0], 0.5, 0.005), ([0, 0, 0, 9], 0.5, 0.05), ([1, 1, 0, 0], 1.0, 0.02)],
)
def test_a_percentile_lies_within_its_bucket(counts: list[int], share: float, told: float | None) -> None:
    assert percentile(BOUNDS, counts, share) == (pytest.approx(told) if told is not None else None)


def test_the_screen_tells_traffic_drift_alerts_and_losses() -> None:
    text = "\n".join(drawn(figures(look(100.0, 1000), look(104.0, 1400))))
    for told in (
        "105.0",
        "4.8%",
        "street",
        "2 *",
        "150 MB",
        "150% of an alarm  brightness",
        "firing",
        "queue_full 2",
        "40%",
    ):
        assert told in text, told
    wide = "\n".join(drawn(figures(look(100.0, 1000), look(104.0, 1400)), width=140)).splitlines()
    assert any("CPU ms" in line for line in wide)
    assert any(line.startswith("street") and line.split()[-3] == "2" for line in wide)
    assert "█" * 20 in text
    assert "█" * 5 + "░" * 15 in text


@pytest.mark.parametrize("width", [200, 80, 60, 40, 20, 8])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    long = look(104.0, 1400, model="a-model-of-a-very-long-name-" * 5)
    for trouble in ("", "nobody listens at http://127.0.0.1:8081"):
        lines = drawn(figures(look(100.0, 1000), long), width=width, trouble=trouble)
        assert max(map(len, lines)) <= width
        assert len(lines) >= 6


@pytest.mark.parametrize("height", [2, 3, 7, 50])
def test_no_screen_is_higher_than_the_terminal(height: int) -> None:
    lines = drawn(figures(look(100.0, 1000), look(104.0, 1400)), height=height)
    assert len(lines) <= height
    assert URL in lines[0]


def test_hostile_names_can_not_steer_the_terminal() -> None:
    name = "\x1b[2J\x07evil\n\u202e"
    shown = figures(look(100.0, 1), look(101.0, 2, model=name))
    shown["alerts"] = [{"rule": name, "model": name, "version": name, "severity": name, "state": name}]
    for text in ("\n".join(drawn(shown)), render_lines(shown, url=URL, trouble="")):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert len(render_lines(shown, url=URL, trouble="").splitlines()) == 1


def test_a_server_that_is_gone_is_said_with_the_time_of_the_figures() -> None:
    shown = figures(look(100.0, 1000), look(104.0, 1400))
    assert "nobody listens (figures of " in drawn(shown, trouble="nobody listens")[0]
    assert drawn(None, trouble="nobody listens") == [f"{URL}  nobody listens"]
    assert render_lines(None, url=URL, trouble="nobody listens").endswith(f"{URL}: nobody listens")


def test_a_version_that_is_down_is_said() -> None:
    shown = figures(look(100.0, 1), look(101.0, 2, ready=False))
    assert any("down" in line for line in drawn(shown))
    assert "(down)" in render_lines(shown, url=URL, trouble="")


def test_once_and_nobody_there_is_an_error_with_a_way_out() -> None:
    ended = ferryman("monitor", "http://127.0.0.1:1", "--once")
    assert ended.returncode != 0
    assert "nobody listens at http://127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [["http://a:1", "more"], ["rules", "a", "b"], ["not an address"]])
def test_words_that_mean_nothing_are_refused(words: list[str]) -> None:
    ended = ferryman("monitor", *words)
    assert ended.returncode == 2
    assert "hint:" in ended.stderr


def test_foreign_text_moves_no_cursor() -> None:
    told = look(104.0, 1400)
    told["watch"]["alerts"][0]["rule"] = "drift\x1b[2J"
    shown = figures(look(100.0, 1000), told)
    version = {"model": "street", "version": "2", "rolling": None, "labels_never_answered": {"bus\x1b[2J": 3}}
    texts = [
        "\n".join(drawn(shown)),
        render_lines(shown, url=URL, trouble="no\x1b[2J"),
        render_feedback({"taken": 3, "replaced": 0, "feedback": {}, "versions": [version]}, paint=PLAIN),
    ]
    assert all("[2J" in text and "\x1b" not in text for text in texts)
