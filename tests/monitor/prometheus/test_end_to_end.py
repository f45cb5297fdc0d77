"""A real server under failing load, a real Prometheus with the rules, a real Alertmanager, and who is told."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferryman.cli.main import main
from tests.monitor.notify.alertmanagers import alertmanager, mail_server
from tests.monitor.notify.telling import receiving
from tests.server.misbehaving import ANSWER, RAISE, bundle_misbehaving, with_plugin
from tests.server.running import Running, started, wait_until
from tests.server.signals.prometheus import Prometheus, prometheus

# The windows of the rules, shortened: what is waited for in hours is seen in seconds. All else is as it was written.
SHORT = {"1h": "10s", "5m": "2s", "6h": "10s", "30m": "2s", "3d": "10s"}
# What only some servers have: they fill these panels where it is so.
SELDOM = {
    "ferryman_drift_score", "ferryman_drift_threshold", "ferryman_drifted", "ferryman_records_total",
    "ferryman_records_lost_total", "ferryman_alert_state", "ferryman_temperature_celsius", "ferryman_disk_free_share",
    "ferryman_worker_restarts_total", "ferryman_model_energy_joules_total", "ferryman_processors_slowed",
    "ferryman_cpu_quota_used_up_share", "ferryman_gpu_busy_share", "ferryman_gpu_used_bytes",
    "ferryman_gpu_power_watts",
}  # fmt: skip


def shortened(rules: str) -> str:
    """Give the rules with short windows, and alerts that end after a second."""
    text = re.sub(r"\[(\w+)\]", lambda found: f"[{SHORT.get(found[1], found[1])}]", rules)
    return re.sub(r"keep_firing_for: \S+", 'keep_firing_for: "1s"', text)


@contextmanager
def failing(bundle: Path) -> Iterator[Running]:
    """Serve a bundle whose faults leave traces in the log."""
    with started([str(bundle)], {}) as (process, errors):
        assert process.stdout is not None
        url, _, _ = process.stdout.readline().strip().partition(" ")
        assert url, errors.read_text()
        yield Running(url, process, errors)


def ask(server: Running, code: int, times: int) -> set[int]:
    """Send requests, and give their statuses."""
    order = {"name": "order", "datatype": "FP32", "shape": [1, 2], "data": [code, 0]}
    return {server.infer("misbehaving", {"inputs": [order]})[0] for _ in range(times)}


@pytest.mark.slow
@pytest.mark.tool("prometheus", "prometheus-alertmanager")
def test_an_alert_fires_and_resolves_once_and_each_query_of_the_dashboard_gives_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_plugin(monkeypatch)
    bundle = bundle_misbehaving(tmp_path / "misbehaving")
    assert main(["monitor", "rules", str(bundle.path), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    rules = shortened((tmp_path / "out" / "ferryman-misbehaving.rules.yml").read_text())
    made = json.loads((tmp_path / "out" / "ferryman-misbehaving.dashboard.json").read_text())
    (tmp_path / "am").mkdir()
    with receiving() as hook, mail_server() as (box, mail_port), failing(bundle.path) as server:
        url = hook.url.partition("?")[0]
        with (
            alertmanager(tmp_path / "am", url, mail_port) as manager,
            prometheus(tmp_path, server.address, rules, alertmanager=manager) as watcher,
        ):
            wait_until(lambda: ask(server, ANSWER, 5) == {200} and watcher.value("ferryman:failed_share:rate1h") == 0)
            assert watcher.alerts() == set()
            wait_until(lambda: ask(server, RAISE, 5) == {500} and "FerrymanErrors" in watcher.alerts(), timeout_s=40)
            wait_until(lambda: len(box.mails) >= 1 and told(hook.asked, "FerrymanErrors") == ["firing"], timeout_s=20)
            wait_until(lambda: not without_data(made, watcher, server), timeout_s=20)
            wait_until(
                lambda: (
                    ask(server, ANSWER, 5) == {200} and told(hook.asked, "FerrymanErrors") == ["firing", "resolved"]
                ),
                timeout_s=60,
            )
            wait_until(lambda: len([one for one in box.mails if "FerrymanErrors " in str(one["Subject"])]) == 2)
    assert told(hook.asked, "FerrymanErrors") == ["firing", "resolved"]
    subjects = [str(mail["Subject"]) for mail in box.mails if "FerrymanErrors " in str(mail["Subject"])]
    assert ["FIRING" in subjects[0], "RESOLVED" in subjects[1]] == [True, True]


def without_data(made: object, watcher: Prometheus, server: Running) -> list[str]:
    """Give the queries that find nothing, though the server tells all that they ask for."""
    exposed = server.ask("GET", "/metrics")[1].decode()
    lacking = {name for name in SELDOM if f"\n{name}" not in exposed}
    empty = [query for query in queries(made) if not watcher.ask(query)]
    return [query for query in empty if not lacking & set(re.findall(r"ferryman_\w+", query))]


def queries(made: object) -> list[str]:
    """Give the dashboard's queries as Grafana sends them, with all models and versions chosen."""
    text = json.dumps(made)
    for variable, value in (("$model", ".*"), ("$version", ".*"), ("$__rate_interval", "4s")):
        text = text.replace(variable, value)
    return [target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", [])]


def told(asked: list[tuple[str, dict[str, str], dict[str, object]]], name: str) -> list[object]:
    """Give the statuses that came of an alert."""
    return [body["status"] for _, _, body in asked if body["groupLabels"] == {"alertname": name}]
