"""All that an operator puts beside Prometheus and Grafana, by file name."""

from typing import Any

from ferryman.core.deployment import Deployment
from ferryman.monitor.prometheus.dashboard import dashboard
from ferryman.monitor.prometheus.groups import machine_file, rules_file
from ferryman.monitor.prometheus.unit_tests import machine_tests_file, slow_tests_file, tests_file

MACHINE = "ferryman-machine"


def files_of(deployment: Deployment) -> dict[str, Any]:  # JSON
    """Give names and contents: rules and tests of them (*.yml, for promtool), and a dashboard (*.json)."""
    name, section = f"ferryman-{deployment.model.name}", deployment.monitor.alerts
    rules, machine = f"{name}.rules.yml", f"{MACHINE}.rules.yml"
    if name == MACHINE:
        machine = f"{MACHINE}-itself.rules.yml"
    made = {
        rules: rules_file(deployment),
        f"{name}.tests.yml": tests_file(deployment, rules),
        machine: machine_file(section),
        machine.replace(".rules.", ".tests."): machine_tests_file(section, machine),
        f"{name}.dashboard.json": dashboard(deployment),
    }
    slow = slow_tests_file(deployment, rules)
    return {**made, f"{name}.slow.tests.yml": slow} if slow["tests"] else made
