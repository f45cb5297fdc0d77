"""`[monitor.alerts]` of ferryman.toml: what is taken, what is refused, and when a window is open."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from ferryman.core.alerting import AlertsSection
from ferryman.core.deployment import Deployment, parse_deployment
from ferryman.core.errors import ConfigError
from ferryman.core.maintenance import MaintenanceSection


def parsed(**alerts: Any) -> Deployment:  # raw TOML
    raw = {"model": {"name": "m", "source": "m.onnx"}, "task": {"kind": "tensor"}, "monitor": {"alerts": alerts}}
    return parse_deployment(raw, origin="ferryman.toml")


MAIL = {"kind": "email", "host": "mail", "sender": "a@b.c", "to": ["d@e.f"]}


@pytest.mark.parametrize(
    ("receiver", "said"),
    [
        ({"url": "http://a"}, "kind = one of webhook, slack, email, alertmanager, command"),
        ({"kind": "webhok", "url": "http://a"}, "kind = one of"),
        ({"kind": "webhook", "url": "http://a", "tokn": "env:X"}, "did you mean 'token'"),
        ({"kind": "webhook", "url": "ftp://a"}, "no http"),
        ({"kind": "webhook", "url": "http://jo:pass@a/"}, "in every bundle"),
        ({"kind": "webhook", "url": "http://a", "token": "hunter2"}, "a secret is named, not written here"),
        ({"kind": "slack", "url": "https://hooks.slack.com/services/T0/B0/XX"}, "a secret is named"),
        ({**MAIL, "user": "jo"}, "go together"),
        ({**MAIL, "user": "jo", "password": "env:P", "security": "none"}, "is read by others"),
        ({**MAIL, "to": ["a@b.c\nBcc: x@y.z"]}, "pattern"),
        ({"kind": "command", "command": []}, "at least 1"),
    ],
)
def test_a_receiver_that_makes_no_sense_is_refused_by_name(receiver: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"monitor\.alerts\.notify\.ops") as caught:
        parsed(notify={"ops": receiver})
    assert said in str(caught.value)


@pytest.mark.parametrize("secret", ["hunter2", "https://hooks.slack.com/services/T0/B0/XX"])
def test_a_secret_that_was_written_down_is_never_repeated(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(notify={"ops": {"kind": "slack", "url": secret}})
    assert secret not in str(caught.value)


def test_unknown_rules_are_errors() -> None:
    with pytest.raises(ConfigError):
        parsed(off=["goldn"])
    with pytest.raises(ConfigError):
        parsed(rules={"goldn": {"for_s": 1}})


def test_what_a_bundle_keeps_reads_back_the_same() -> None:
    window = {"from": "22:00", "to": "02:00", "days": ["fri"], "zone": "Europe/Berlin"}
    notify = {"ops": {"kind": "webhook", "url": "env:HOOK"}, "mail": MAIL, "run": {"kind": "command", "command": ["x"]}}
    made = parsed(maintenance=[window], notify=notify, rules={"disk": {"limit": 0.1}})
    again = parse_deployment(made.model_dump(mode="json"), origin="bundle")
    assert again == made
    assert type(again.monitor.alerts.notify["mail"]) is type(made.monitor.alerts.notify["mail"])


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def window(**said: Any) -> MaintenanceSection:  # raw TOML
    return MaintenanceSection.model_validate(said)


def test_a_weekly_window_is_open_on_its_days_in_its_zone() -> None:
    night = window(**{"from": "22:00", "to": "02:00"}, days=["fri"], zone="Europe/Berlin")
    open_at = ["2026-11-20T22:00", "2026-11-20T23:59", "2026-11-21T01:59"]  # a Friday and its night
    shut_at = ["2026-11-20T21:59", "2026-11-21T02:00", "2026-11-21T22:30", "2026-11-20T01:00"]
    assert [night.covers(at(text, "Europe/Berlin")) for text in open_at] == [True] * 3
    assert [night.covers(at(text, "Europe/Berlin")) for text in shut_at] == [False] * 4


def test_a_window_keeps_its_hour_when_the_clocks_change() -> None:
    noon = window(**{"from": "12:00", "to": "13:00"}, zone="Europe/Berlin")
    assert noon.covers(at("2026-07-01T10:30"))  # UTC+2
    assert noon.covers(at("2026-12-01T11:30"))  # UTC+1
    assert not noon.covers(at("2026-12-01T10:30"))


def test_a_window_over_the_hour_that_a_clock_change_skips_ends() -> None:
    skipped = window(**{"from": "02:15", "to": "02:45"}, zone="Europe/Berlin")  # 2026-03-29: 02:00 is 03:00
    around = [skipped.covers(at("2026-03-28T23:00") + 60 * minute) for minute in range(300)]
    assert sum(around) == 30


def test_a_window_may_be_once_or_the_whole_day() -> None:
    once = window(**{"from": "2026-12-24 18:00", "to": "2026-12-27 08:00"})
    assert [once.covers(at(text)) for text in ("2026-12-24T17:59", "2026-12-26T00:00", "2026-12-27T08:00")] == [
        False, True, False,
    ]  # fmt: skip
    whole = window(**{"from": "00:00", "to": "24:00"}, days=["sun"])
    assert [whole.covers(at(text)) for text in ("2026-11-22T23:59", "2026-11-23T00:00")] == [True, False]


@pytest.mark.parametrize(
    "said",
    [
        {"from": "25:00", "to": "02:00"},
        {"from": "2026-12-24 18:00", "to": "02:00"},
        {"from": "2026-12-24 18:00", "to": "2026-12-24 18:00"},
        {"from": "2026-13-24 18:00", "to": "2026-12-24 18:00"},
        {"from": "01:00", "to": "02:00", "zone": "Mars/Base"},
        {"from": "01:00", "to": "02:00", "zone": "../../etc/passwd"},
        {"from": "01:00", "to": "02:00", "days": ["monday"]},
    ],
)
def test_a_window_that_makes_no_sense_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        window(**said)


def test_alerts_are_on_by_default() -> None:
    assert AlertsSection().enabled
    assert parsed().monitor.alerts == AlertsSection()
