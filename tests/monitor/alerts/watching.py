"""An engine with a clock of its own, for tests that live through days in milliseconds."""

from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.core.alerting import AlertsSection
from ferryman.core.deployment import Deployment, parse_deployment
from ferryman.monitor.alerts.alert import Alert, Notice
from ferryman.monitor.alerts.engine import AlertEngine
from ferryman.monitor.alerts.fact import Fact, Reading, Traffic
from ferryman.monitor.alerts.rules import rules_of, rules_of_machine

BEGIN_S = 1_770_000_000.0
HOOK = {"ops": {"kind": "webhook", "url": "http://127.0.0.1:1/", "severities": ["critical", "warning", "info"]}}


def deployment(*, monitor: Mapping[str, Any] | None = None, **contract: float) -> Deployment:
    """Give a ferryman.toml with these promises and `[monitor.alerts]`."""
    raw = {
        "model": {"name": "street", "source": "street.onnx"},
        "task": {"kind": "tensor"},
        "contract": contract,
        "monitor": {"alerts": {"notify": HOOK, **(monitor or {})}},
    }
    return parse_deployment(raw, origin="test")


class Watching:
    """Hold an engine of one version, its counts and its time."""

    def __init__(self, *, monitor: Mapping[str, Any] | None = None, **contract: float) -> None:
        self.deployment = deployment(monitor=monitor, **contract)
        self.section: AlertsSection = self.deployment.monitor.alerts
        self.rules = [*rules_of(self.deployment, version="1"), *rules_of_machine(self.section)]
        self.engine = AlertEngine(self.rules, self.section)
        self.now_s = BEGIN_S
        self.counts = [0, 0, 0]
        self.notices: list[Notice] = []

    def restart(self) -> None:
        """Go on with a new engine that has read what the old one saved."""
        self.engine = AlertEngine(self.rules, self.section, state=self.engine.save())

    def observe(self, *facts: Fact) -> list[Notice]:
        """Tell facts now, beside the counts."""
        due = self.engine.observe([Traffic("street", "1", *self.counts), *facts], self.now_s)
        self.notices += due
        return due

    def run(
        self, seconds: float, *facts: Fact, step_s: float = 10.0, ok: int = 0, failed: int = 0, slow: int = 0
    ) -> list[Notice]:
        """Let time pass; so many requests a second are answered, fail, or are answered late."""
        due = []
        for _ in range(int(seconds / step_s)):
            self.now_s += step_s
            for place, rate in enumerate((ok, failed, slow)):
                self.counts[place] += int(rate * step_s)
            due += self.observe(*facts)
        return due

    def firing(self) -> set[str]:
        """Name the rules that fire."""
        return {alert.rule for alert in self.alerts() if alert.state == "firing"}

    def alerts(self) -> list[Alert]:
        """Give all alerts."""
        return self.engine.alerts(self.now_s)


def golden(is_right: bool, version: str = "1") -> Reading:
    """Say what the golden probe found."""
    return Reading("golden", float(is_right), "street", version)


def told(notices: Sequence[Notice]) -> list[tuple[str, list[str]]]:
    """Give of each notice its status and the rules it tells of."""
    return [(notice.status, [f"{alert.rule} {alert.state}" for alert in notice.alerts]) for notice in notices]
