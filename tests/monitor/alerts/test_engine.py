"""From facts to notices: pending, firing, over; told once, together, and not while somebody knows."""

import json
import math

import pytest

from ferryman.core.errors import InputError, NotFound
from ferryman.monitor.alerts.engine import AlertEngine
from ferryman.monitor.alerts.fact import Reading
from tests.monitor.alerts.watching import BEGIN_S, HOOK, Watching, golden, told


def test_an_alert_is_pending_then_fires_is_told_once_and_resolves_once() -> None:
    watch = Watching()
    watch.run(30, golden(False))
    assert [(alert.rule, alert.state) for alert in watch.alerts()] == [("golden", "pending")]
    assert watch.notices == []
    watch.run(600, golden(False))
    assert told(watch.notices) == [("firing", ["golden firing"])]
    watch.run(600, golden(True))
    assert told(watch.notices)[1:] == [("resolved", ["golden resolved"])]
    assert watch.notices[0].id != watch.notices[1].id
    assert watch.notices[1].alerts[0].ended_s is not None


def test_what_is_short_is_no_alert() -> None:
    watch = Watching()
    for _ in range(20):
        watch.run(50, golden(False))
        watch.run(50, golden(True))
    assert watch.notices == []


def test_what_still_fires_is_told_again_after_the_interval() -> None:
    watch = Watching(monitor={"repeat_s": 3600})
    watch.run(3 * 3600 + 600, golden(False))
    assert told(watch.notices) == [("firing", ["golden firing"])] * 4


def test_alerts_of_a_model_are_told_together() -> None:
    watch = Watching()
    watch.run(200, golden(False), Reading("ready", 0, "street", "1"))
    assert told(watch.notices) == [("firing", ["down firing", "golden firing"])]


def test_a_second_alert_of_a_group_is_told_with_the_first() -> None:
    watch = Watching()
    drift = Reading("drift", 1, "street", "1", "brightness 112 -> 64")
    watch.run(200, golden(False))
    watch.run(300, golden(False), drift)
    assert told(watch.notices) == [("firing", ["golden firing"]), ("firing", ["drift firing", "golden firing"])]
    assert "brightness 112 -> 64" in watch.notices[1].alerts[0].description


def test_each_receiver_hears_only_news_of_what_it_wants() -> None:
    pager = {"kind": "webhook", "url": "http://127.0.0.1:1/", "severities": ["critical"]}
    watch = Watching(monitor={"notify": {**HOOK, "pager": pager}})
    watch.run(200, golden(False))
    watch.run(400, golden(False), Reading("drift", 1, "street", "1"))
    heard = {name: told([one for one in watch.notices if one.receiver == name]) for name in ("ops", "pager")}
    assert heard["pager"] == [("firing", ["golden firing"])]
    assert heard["ops"][-1] == ("firing", ["drift firing", "golden firing"])


def test_a_receiver_of_another_model_hears_nothing() -> None:
    watch = Watching(monitor={"notify": {"ops": {**HOOK["ops"], "models": ["factory*"]}}})
    watch.run(600, golden(False))
    assert watch.firing() == {"golden"}
    assert watch.notices == []


def test_what_flaps_is_held_down() -> None:
    watch = Watching()
    for _ in range(24):  # 8 hours: wrong for 2 minutes, right for 18
        watch.run(120, golden(False))
        watch.run(1080, golden(True))
    # Without it there are 48. Each end within a day doubles how long it must be right, up to an hour.
    assert len(watch.notices) <= 12
    watch.run(7200, golden(True))
    assert watch.notices[-1].status == "resolved"


def test_a_figure_that_is_unknown_changes_nothing() -> None:
    watch = Watching()
    watch.run(200, golden(False))
    watch.run(240, Reading("golden", math.nan, "street", "1"))
    assert watch.firing() == {"golden"}


def test_a_version_that_is_gone_is_no_alert_any_more() -> None:
    watch = Watching()
    watch.run(200, golden(False))
    watch.run(700)
    assert watch.firing() == set()
    assert watch.notices[-1].status == "resolved"


def test_a_restart_that_loads_models_one_by_one_ends_no_alert() -> None:
    watch = Watching()
    watch.run(3600, golden(True), ok=10)
    watch.run(200, golden(False), failed=10)
    before = len(watch.notices)
    watch.restart()
    watch.engine.use([])
    watch.engine.observe([], watch.now_s + 60)
    watch.engine.use(watch.rules)
    watch.now_s += 60
    watch.run(400, golden(False), failed=10)
    assert watch.firing() == {"errors", "errors-slow", "golden"}
    assert len(watch.notices) == before


def test_what_fires_by_a_rule_that_is_gone_is_over_soon() -> None:
    watch = Watching()
    watch.run(200, golden(False))
    watch.engine.use([rule for rule in watch.rules if rule.name != "golden"])
    watch.run(430, golden(False))
    assert told(watch.notices) == [("firing", ["golden firing"]), ("resolved", ["golden resolved"])]


def test_rules_can_be_turned_off_and_changed() -> None:
    watch = Watching(monitor={"off": ["golden"], "rules": {"down": {"for_s": 600, "severity": "info"}}})
    watch.run(500, golden(False), Reading("ready", 0, "street", "1"))
    assert watch.firing() == set()
    watch.run(200, golden(False), Reading("ready", 0, "street", "1"))
    assert [(alert.rule, alert.severity) for alert in watch.alerts()] == [("down", "info")]


def test_memory_over_the_contract_is_an_alert_after_five_minutes() -> None:
    watch = Watching(max_rss_mb=300)
    watch.run(280, Reading("memory", 301e6, "street", "1"))
    assert watch.firing() == set()
    watch.run(60, Reading("memory", 301e6, "street", "1"))
    assert watch.alerts()[0].summary == "street 1: a worker takes 301 MB, 300 MB are promised"


def test_the_machine_has_rules_of_its_own() -> None:
    watch = Watching()
    watch.run(400, Reading("disk", 0.02), Reading("temperature", 91))
    assert {(alert.rule, alert.model) for alert in watch.alerts()} == {("disk", ""), ("temperature", "")}
    assert watch.alerts()[0].summary == "this machine: 2.0% of the disk is free"


def test_records_that_are_lost_are_an_alert_while_more_are_lost() -> None:
    watch = Watching()
    for count in range(20):
        watch.run(10, Reading("records_lost", count))
    assert watch.firing() == {"records"}
    watch.run(900, Reading("records_lost", 19))
    assert watch.firing() == set()


def test_a_silence_mutes_and_what_still_fires_is_told_when_it_ends() -> None:
    watch = Watching()
    made = watch.engine.silence(
        {"rule": "golden", "model": "str*"}, until_s=BEGIN_S + 3600, author="jo", comment="a new lens", now_s=BEGIN_S
    )
    watch.run(3500, golden(False))
    assert watch.notices == []
    assert watch.alerts()[0].muted == f"silence {made.id}"
    watch.run(200, golden(False))
    assert told(watch.notices) == [("firing", ["golden firing"])]


def test_what_was_told_and_ends_under_a_silence_is_told_as_over() -> None:
    watch = Watching()
    watch.run(200, golden(False))
    watch.engine.silence({"rule": "*"}, until_s=watch.now_s + 3600, author="jo", comment="seen", now_s=watch.now_s)
    watch.run(600, golden(True))
    assert [status for status, _ in told(watch.notices)] == ["firing", "resolved"]


def test_a_silence_that_was_ended_mutes_no_more() -> None:
    watch = Watching()
    made = watch.engine.silence({"rule": "*"}, until_s=BEGIN_S + 9e5, author="jo", comment="x", now_s=BEGIN_S)
    watch.run(300, golden(False))
    watch.engine.unsilence(made.id)
    watch.run(60, golden(False))
    assert [status for status, _ in told(watch.notices)] == ["firing"]
    with pytest.raises(NotFound):
        watch.engine.unsilence(made.id)


@pytest.mark.parametrize(
    ("matchers", "until_s", "author", "said"),
    [
        ({}, 60, "jo", "every alert"),
        ({"colour": "red"}, 60, "jo", "no 'colour'"),
        ({"rule": ""}, 60, "jo", "1 to 200"),
        ({"rule": "*"}, -1, "jo", "ends in the future"),
        ({"rule": "*"}, 1e9, "jo", "ends in the future"),
        ({"rule": "*"}, 60, " ", "an author"),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused(
    matchers: dict[str, str], until_s: float, author: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        Watching().engine.silence(matchers, until_s=BEGIN_S + until_s, author=author, comment="x", now_s=BEGIN_S)


def test_a_maintenance_window_mutes_its_models_alerts() -> None:
    window = {"from": "00:00", "to": "24:00", "models": ["street"], "why": "cleaning"}
    watch = Watching(monitor={"maintenance": [window]})
    watch.run(300, golden(False))
    assert watch.notices == []
    assert watch.alerts()[0].muted == "maintenance cleaning"


def test_a_restart_tells_nothing_twice_and_forgets_nothing() -> None:
    watch = Watching()
    watch.run(200, golden(False))
    watch.engine.silence({"rule": "drift"}, until_s=BEGIN_S + 1e5, author="jo", comment="x", now_s=watch.now_s)
    watch.restart()
    watch.run(400, golden(False))
    assert told(watch.notices) == [("firing", ["golden firing"])]
    assert [one.comment for one in watch.engine.silences(watch.now_s)] == ["x"]
    watch.run(60, golden(True))
    watch.restart()
    watch.run(300, golden(True))
    assert told(watch.notices)[1:] == [("resolved", ["golden resolved"])]


def test_the_same_news_after_a_crash_have_the_same_id() -> None:
    watch = Watching()
    watch.run(60, golden(False))
    state = watch.engine.save()
    now_s, before = watch.now_s, watch.run(100, golden(False))
    watch.engine, watch.now_s = AlertEngine(watch.rules, watch.section, state=state), now_s + 3  # killed, and again
    again = watch.run(100, golden(False))
    assert [notice.id for notice in before] == [notice.id for notice in again]
    assert len(before) == 1


@pytest.mark.parametrize("state", [{}, {"form": 99}, {"form": 1, "pace": 3}, {"form": 1, "pace": {}, "knowledge": []}])
def test_a_damaged_state_is_refused_and_said(state: dict[str, object]) -> None:
    watch = Watching()
    engine = AlertEngine(watch.rules, watch.section, state=state)
    assert "can't be read" in engine.refused
    watch.engine = engine
    watch.run(200, golden(False))
    assert told(watch.notices) == [("firing", ["golden firing"])]


def test_any_part_of_a_state_may_be_missing() -> None:
    watch = Watching()
    watch.run(400, golden(False), ok=5, failed=1)
    state = watch.engine.save()
    for key in state:
        broken = {name: value for name, value in state.items() if name != key}
        assert AlertEngine(watch.rules, watch.section, state=broken).refused
    assert AlertEngine(watch.rules, watch.section, state=state).refused == ""


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0, -3.0e8, 3.0e8])
def test_a_clock_that_is_set_makes_nothing_old_or_new(jump_s: float) -> None:
    watch = Watching()
    watch.run(30, golden(False))  # pending, needs a minute
    watch.now_s += jump_s
    assert watch.observe(golden(True)) == []
    assert watch.firing() == set()
    watch.run(200, golden(False))
    watch.now_s -= jump_s
    watch.run(200, golden(False))
    assert told(watch.notices) == [("firing", ["golden firing"])]
    assert watch.engine.jumps == 2


def test_a_heartbeat_comes_while_all_is_well_and_only_to_those_who_want_it() -> None:
    watch = Watching(monitor={"notify": {**HOOK, "dead": {**HOOK["ops"], "heartbeat": True}}})
    watch.run(3000, golden(True))
    assert {(notice.receiver, notice.is_heartbeat) for notice in watch.notices} == {("dead", True)}
    assert 10 <= len(watch.notices) <= 12
    assert len({notice.id for notice in watch.notices}) == len(watch.notices)


def test_the_state_stays_small() -> None:
    watch = Watching()
    watch.run(3 * 86400, golden(True), step_s=60, ok=50, failed=1)
    assert len(json.dumps(watch.engine.save())) < 50_000
