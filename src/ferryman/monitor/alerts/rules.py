"""The rules that a contract asks for, with what `[monitor.alerts]` changes of them."""

from dataclasses import dataclass, replace
from typing import Literal

from ferryman.core.alerting import AlertsSection
from ferryman.core.deployment import Deployment
from ferryman.core.receivers import Severity

Sort = Literal["burn", "above", "below", "rising", "silence"]
_DISK_FREE, _HOT_C = 0.05, 85.0
_QUOTA_USED_UP = 0.25  # of the periods: then a quarter of all waits is the limit's


@dataclass(frozen=True, slots=True)
class Window:
    """Be a pair of windows of a burn rate: the budget is spent `factor` times too fast over both (seconds)."""

    long_s: float
    short_s: float
    factor: float


# The Site Reliability Workbook (Beyer et al. 2018), chapter 5, table 5-8: 2 % of a month's budget in an hour, 5 % in
# six hours, 10 % in three days.
URGENT = (Window(3600, 300, 14.4), Window(21600, 1800, 6))
SLOW = (Window(259200, 21600, 1),)


@dataclass(frozen=True, slots=True)
class Rule:
    """Say when a fact is an alert. Empty `model` and `version` stand for the machine, or for every version.

    `above`, `below`: a reading of `fact` beyond `limit`. `rising`: one that grew. `burn`: the share of requests that
    were bad (`fact`: failed or slow) was `factor` times `budget` over both windows of one of `windows`, and at least
    `at_least` were. `silence`: no request for `limit` seconds, or where that is 0, twice as long as in eight days.
    """

    name: str
    sort: Sort
    fact: str
    severity: Severity
    model: str = ""
    version: str = ""
    limit: float = 0.0
    for_s: float = 0.0
    clear_s: float = 60.0
    windows: tuple[Window, ...] = ()
    budget: float = 0.0
    at_least: int = 1
    unit: str = ""


def rules_of(deployment: Deployment, section: AlertsSection | None = None, *, version: str = "") -> list[Rule]:
    """Give the rules of a bundle; `section` stands for its own `[monitor.alerts]`."""
    section = section or deployment.monitor.alerts
    contract, name = deployment.contract, deployment.model.name
    bad = 1 - section.availability
    rules = [
        Rule("errors", "burn", "failed", "critical", windows=URGENT, budget=bad, at_least=section.at_least),
        Rule("errors-slow", "burn", "failed", "warning", windows=SLOW, budget=bad, at_least=section.at_least),
        Rule("down", "below", "ready", "critical", limit=1, for_s=60),
        Rule("golden", "below", "golden", "critical", limit=1, for_s=60),
        Rule("drift", "above", "drift", "warning"),
        Rule("performance", "above", "performance", "critical", limit=contract.max_drop, for_s=300, clear_s=300),
        Rule("silence", "silence", "requests", "warning"),
    ]
    if deployment.monitor.actions:
        rules.append(Rule("actions", "above", "actions", "critical"))
    if contract.p99_ms is not None:
        late = Rule(
            "latency", "burn", "slow", "critical", limit=contract.p99_ms, windows=URGENT,
            budget=1 - section.punctuality, at_least=section.at_least, unit="ms",
        )  # fmt: skip
        rules += [late, replace(late, name="latency-slow", severity="warning", windows=SLOW)]
    if contract.max_rss_mb is not None:
        limit = contract.max_rss_mb * 1e6
        rules.append(Rule("memory", "above", "memory", "warning", limit=limit, for_s=300, clear_s=300, unit="B"))
    return [_changed(rule, section, name, version) for rule in rules if _is_wanted(rule, section)]


def rules_of_machine(section: AlertsSection) -> list[Rule]:
    """Give the rules that are of no model: disk, heat, processors that are slowed down, records."""
    rules = [
        Rule("disk", "below", "disk", "critical", limit=_DISK_FREE, for_s=60, clear_s=300, unit="share"),
        Rule("temperature", "above", "temperature", "warning", limit=_HOT_C, for_s=300, clear_s=300, unit="C"),
        Rule("slowed", "above", "slowed", "warning", limit=0.5, for_s=300, clear_s=300),
        Rule("quota", "above", "quota", "warning", limit=_QUOTA_USED_UP, for_s=300, clear_s=300, unit="share"),
        Rule("records", "rising", "records_lost", "info", clear_s=600),
    ]
    return [_changed(rule, section, "", "") for rule in rules if _is_wanted(rule, section)]


def _is_wanted(rule: Rule, section: AlertsSection) -> bool:
    return section.enabled and rule.name not in section.off


def _changed(rule: Rule, section: AlertsSection, model: str, version: str) -> Rule:
    said = next((change.model_dump(exclude_none=True) for key, change in section.rules.items() if key == rule.name), {})
    return replace(rule, model=model, version=version, **said)
