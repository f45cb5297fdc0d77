"""The file of rules that Prometheus reads."""

from typing import Any

from ferryman.core.alerting import AlertsSection
from ferryman.core.contract import Contract
from ferryman.core.deployment import Deployment
from ferryman.monitor.alerts.alert import alert_name
from ferryman.monitor.alerts.rules import Rule, rules_of, rules_of_machine
from ferryman.monitor.alerts.words import MORE
from ferryman.monitor.prometheus.expressions import expression, number, promql_time, recorded

_WHO = "{{ $labels.model }} {{ $labels.version }}"
_SAID = {
    "errors": f"{_WHO}: {{{{ $value | humanizePercentage }}}} of requests fail",
    "errors-slow": f"{_WHO}: {{{{ $value | humanizePercentage }}}} of requests fail",
    "latency": f"{_WHO}: {{{{ $value | humanizePercentage }}}} of answers are late",
    "latency-slow": f"{_WHO}: {{{{ $value | humanizePercentage }}}} of answers are late",
    "down": f"{_WHO}: no requests are answered",
    "golden": f"{_WHO}: golden samples are answered wrong",
    "drift": f"{_WHO}: drift",
    "performance": f"{_WHO}: the metric is down by at least {{{{ $value | humanize }}}}",
    "actions": f"{_WHO}: a person must look",
    "memory": f"{_WHO}: a worker takes {{{{ $value | humanize }}}}B",
    "silence": "{{ $labels.model }}: no request for longer than is usual",
    "disk": "{{ $labels.instance }}: {{ $value | humanizePercentage }} of the disk is free",
    "temperature": "{{ $labels.instance }}: {{ $value | humanize }} degrees Celsius",
    "slowed": "{{ $labels.instance }}: heat or the power supply slow the processors down",
    "quota": "{{ $labels.instance }}: the CPU limit was used up in {{ $value | humanizePercentage }} of the time",
    "records": "records are lost",
}


def rules_file(deployment: Deployment) -> dict[str, Any]:  # JSON
    """Give the groups for one model: its burn rates, its alerts. Needs Prometheus 2.42 (keep_firing_for)."""
    contract, name = deployment.contract, deployment.model.name
    rules = rules_of(deployment)
    found: dict[str, str] = {}
    for rule in rules:
        found.update(recorded(rule))
    records = [{"record": key, "expr": expr} for key, expr in found.items()]
    rules_in_order = [*records, *(_alert(rule, contract) for rule in rules)]  # one group: alerts read what is recorded
    return {"groups": [{"name": f"ferryman-{name}", "rules": rules_in_order}]}


def machine_file(section: AlertsSection) -> dict[str, Any]:  # JSON
    """Give the group that is of no model, once for all: disk, temperature, records, a heartbeat, no server at all."""
    alerts = [_alert(rule, Contract()) for rule in rules_of_machine(section)]
    alerts += [
        {
            "alert": "FerrymanGone",
            "expr": "absent(ferryman_processes)",
            "for": "2m",
            "labels": {"severity": "critical", "rule": "gone"},
            "annotations": {"summary": "no server is seen", "description": "None runs, or Prometheus can't reach it."},
        },
        {
            "alert": "FerrymanHeartbeat",
            "expr": "vector(1)",
            "labels": {"severity": "none", "rule": "heartbeat"},
            "annotations": {
                "summary": "always fires",
                "description": "Send it to what raises an alarm when it doesn't come any more.",
            },
        },
    ]
    return {"groups": [{"name": "ferryman-machine", "rules": alerts}]}


def _alert(rule: Rule, contract: Contract) -> dict[str, Any]:  # JSON
    description = MORE[rule.name]
    if rule.fact == "slow":
        description += (
            f" More than {number(rule.budget * 100)} % of answers take over {number(contract.p99_ms or 0)} ms."
        )
    made: dict[str, Any] = {"alert": alert_name(rule.name), "expr": expression(rule)}
    if rule.for_s:
        made["for"] = promql_time(rule.for_s)
    if rule.clear_s:
        made["keep_firing_for"] = promql_time(rule.clear_s)
    made["labels"] = {"severity": rule.severity, "rule": rule.name}
    made["annotations"] = {"summary": _SAID[rule.name], "description": description}
    return made
