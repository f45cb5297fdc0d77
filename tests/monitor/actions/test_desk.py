import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ferryman.core.acting import ActionSection
from ferryman.monitor.actions.action import Action
from ferryman.monitor.actions.desk import ActionDesk
from ferryman.monitor.alerts.alert import Alert
from tests.monitor.actions.making import KEY, NOW_S, a_section, an_alert

DAY_S = 86400.0


class Desk:
    """Step a desk as the watch does, with one action for one version."""

    def __init__(self, folder: Path, section: ActionSection, digest: str = "d2") -> None:
        self.folder, self.section, self.digest = folder, section, digest
        self.heard: list[Action] = []
        self.desk = ActionDesk(folder, self.heard.append)

    def step(self, *alerts: Alert, at_s: float = 0.0, active: str = "2") -> list[dict[str, Any]]:
        self.desk.step(
            alerts, {KEY: {"undo": self.section}}, {KEY: self.digest}, active={"street": active}, now_s=NOW_S + at_s
        )
        return self.desk.orders()

    def answer(self, outcome: str = "done", at_s: float = 0.0) -> None:
        for order in self.desk.orders():
            self.desk.answered({"id": order["id"], "outcome": outcome, "said": "so"}, NOW_S + at_s)

    def killed(self) -> "Desk":
        """Give the desk of a watch that begins after this one was killed."""
        return Desk(self.folder, self.section, self.digest)


def test_an_alert_that_is_meant_gives_one_order_until_its_end_is_heard(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_section())
    [order] = desk.step(an_alert())
    assert (order["do"], order["model"], order["version"], order["why"]) == (
        "roll-back", "street", "2", "street 2: golden",
    )  # fmt: skip
    assert desk.step(an_alert(), at_s=1) == [order]
    desk.answer()
    assert desk.step(an_alert(), at_s=2) == []
    [action] = desk.desk.state()["actions"]
    assert (action["outcome"], action["cause"]["rule"], action["cause"]["limit"]) == ("done", "golden", 1.0)
    assert [each.outcome for each in desk.heard] == ["", "done"]
    assert desk.desk.counts() == [("roll-back", "done", 1)]


@pytest.mark.parametrize(
    "alert",
    [
        an_alert("drift"), an_alert(severity="info"), an_alert(state="pending"), an_alert(muted="silence 1"),
        an_alert(since_s=NOW_S),
    ],
)  # fmt: skip
def test_other_milder_younger_and_silenced_alerts_do_nothing(tmp_path: Path, alert: Alert) -> None:
    assert Desk(tmp_path, a_section(after_s=5)).step(alert) == []


def test_a_killed_watch_goes_on_with_what_was_decided_and_decides_it_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_section())
    [order] = desk.step(an_alert())
    after = desk.killed()
    assert after.desk.orders() == [order]
    assert after.step(an_alert(), at_s=5) == [order]
    after.answer(at_s=6)
    assert after.killed().step(an_alert(), at_s=7) == []


def test_what_can_not_be_written_down_is_not_done(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_section())
    (tmp_path / ".actions.json.new").mkdir()
    assert desk.step(an_alert()) == []
    (tmp_path / ".actions.json.new").rmdir()
    assert len(desk.step(an_alert())) == 1


def test_an_alert_that_comes_and_goes_acts_once_in_a_pause_and_is_stopped_after_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path, a_section("freeze", pause_s=100.0, most_per_day=3))
    done = 0
    with caplog.at_level(logging.WARNING):
        for episode in range(200):
            done += len(desk.step(an_alert(episode=episode), at_s=20.0 * episode))
            desk.answer(at_s=20.0 * episode)
    assert done == 3
    assert desk.desk.stopped == {KEY: "undo of rule golden: 3 in a day: a person must look"}
    assert "not taken: the last freeze was less than 100 s ago" in caplog.text
    assert len(desk.step(an_alert(episode=500), at_s=DAY_S + 4000)) == 1
    assert desk.desk.stopped == {}


def test_the_same_alert_freezes_once_and_a_new_one_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_section("freeze", pause_s=1.0))
    desk.step(an_alert())
    desk.answer()
    assert desk.step(an_alert(), at_s=50) == []
    assert len(desk.step(an_alert(episode=2), at_s=60)) == 1


def test_a_bundle_that_was_rolled_back_is_not_rolled_back_again_and_nothing_returns_to_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_section(pause_s=1.0, most_per_day=100))
    desk.step(an_alert())
    desk.answer()
    assert desk.step(an_alert(episode=2), at_s=100) == []
    desk.digest = "d1"
    [order] = desk.step(an_alert(episode=3), at_s=200)
    assert order["not_to"] == ["d2"]


def test_a_version_that_nobody_is_sent_to_is_not_retrained(tmp_path: Path) -> None:
    desk = Desk(tmp_path, a_section("retrain", command=("true",)))
    desk.step(an_alert(), active="3")
    assert desk.desk.state()["actions"] == []


def test_a_state_that_is_damaged_is_told_and_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "actions.json").write_text('{"form": 1, "actions": [{')
    assert len(Desk(tmp_path, a_section()).step(an_alert())) == 1
    assert "can't be read" in caplog.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"do": "retrain"}, "retrain needs one of command, url and job; it has none"),
        ({"do": "retrain", "command": ("a",), "url": "http://a"}, "it has command, url"),
        ({"do": "freeze", "command": ("a",)}, "freeze takes no command"),
        ({"do": "freeze", "on": ("disk",)}, "Input should be 'errors'"),
        ({"do": "retrain", "command": ("a",), "token": "env:A"}, "a token goes with url"),
        ({"do": "retrain", "url": "http://a", "token": "s3cret"}, "a secret is named"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ActionSection.model_validate({"on": ("golden",), **given})
    assert said in str(refused.value)
    assert "s3cret" not in str(refused.value)
