"""From a fact to real receivers, and over a restart: told once that it fires, once that it is over."""

from pathlib import Path

import pytest

from ferryman.core.alerting import AlertsSection
from ferryman.monitor.alerts.fact import Reading
from ferryman.monitor.alerts.rules import Rule
from ferryman.monitor.notify.desk import AlertDesk
from tests.monitor.notify.alertmanagers import alertmanager, mail_server
from tests.monitor.notify.telling import BEGIN_S, receiving
from tests.server.running import wait_until

RULE = Rule("golden", "below", "golden", "critical", model="street", limit=1, for_s=2, clear_s=2)


@pytest.mark.tool("prometheus-alertmanager")
def test_an_alert_fires_and_resolves_once_at_webhook_mailbox_and_alertmanager(tmp_path: Path) -> None:
    with receiving() as hook, receiving() as behind, mail_server() as (box, mail_port):
        behind_url = behind.url.partition("?")[0]
        with alertmanager(tmp_path, behind_url) as address:
            mail = {"kind": "email", "host": "127.0.0.1", "port": mail_port, "security": "none"}
            section = AlertsSection.model_validate(
                {
                    "group_wait_s": 0,
                    "group_interval_s": 0,
                    "notify": {
                        "hook": {"kind": "webhook", "url": "env:HOOK"},
                        "mail": {**mail, "sender": "ferry@example.com", "to": ["ops@example.com"]},
                        "am": {"kind": "alertmanager", "url": f"http://{address}", "refresh_s": 1},
                    },
                }
            )
            now_s = BEGIN_S
            for turn in range(2):
                for is_right in (turn == 1,) * 10:
                    desk = AlertDesk(tmp_path / "desk", section, {"HOOK": hook.url}, instance="box-7")
                    desk.use([RULE])
                    for _ in range(2):  # each desk lives for two seconds: nothing may hang on one that goes on
                        now_s += 1
                        desk.observe([Reading("golden", float(is_right), "street", "1")], now_s)
                    desk.close(now_s)
                if turn == 0:
                    desk = AlertDesk(tmp_path / "desk", section, {"HOOK": hook.url}, instance="box-7")
                    wait_until(lambda: len(hook.asked) == len(box.mails) == len(behind.asked) == 1)
                    desk.close(now_s)
            desk = AlertDesk(tmp_path / "desk", section, {"HOOK": hook.url}, instance="box-7")
            wait_until(lambda: len(hook.asked) == len(box.mails) == len(behind.asked) == 2, timeout_s=30)
            status = desk.outbox.status()
            desk.close(now_s)
    assert [body["status"] for _, _, body in hook.asked] == ["firing", "resolved"]
    assert [str(mail["Subject"]).split()[0] for mail in box.mails] == ["[FIRING", "[RESOLVED]"]
    assert [body["status"] for _, _, body in behind.asked] == ["firing", "resolved"]
    assert behind.asked[0][2]["alerts"][0]["labels"]["alertname"] == "FerrymanGolden"
    assert {name: one["waiting"] for name, one in status.items()} == {"hook": 0, "mail": 0, "am": 0}


def test_a_desk_whose_disk_is_damaged_begins_anew_and_says_so(tmp_path: Path) -> None:
    section = AlertsSection()
    (tmp_path / "alerts.json").write_text('{"form": 1, "pa')
    desk = AlertDesk(tmp_path, section, {})
    assert "can't be read" in desk.engine.refused
    desk.close(BEGIN_S)
    again = AlertDesk(tmp_path, section, {})
    assert again.engine.refused == ""
    again.close(BEGIN_S)


def test_a_silence_is_kept_at_once(tmp_path: Path) -> None:
    desk = AlertDesk(tmp_path, AlertsSection(), {})
    made = desk.silence({"rule": "*"}, until_s=BEGIN_S + 60, author="jo", comment="x", now_s=BEGIN_S)
    desk.outbox.close()  # as a kill would: nothing is saved any more
    again = AlertDesk(tmp_path, AlertsSection(), {})
    assert again.engine.silences(BEGIN_S) == [made]
    again.unsilence(made.id, BEGIN_S)
    again.outbox.close()
    last = AlertDesk(tmp_path, AlertsSection(), {})
    assert last.engine.silences(BEGIN_S) == []
    last.close(BEGIN_S)
