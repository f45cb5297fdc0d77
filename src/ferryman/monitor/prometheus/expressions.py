"""What a rule is in PromQL, over the metrics that a server has."""

from ferryman.monitor.alerts.fact import FAULTS
from ferryman.monitor.alerts.rules import Rule, Window

_BY = "by (model, version)"
_FAULTY = "|".join(FAULTS)
READINGS = {
    "ready": "ferryman_model_ready",
    "golden": "ferryman_golden_ok",
    "drift": "ferryman_drifted",
    "performance": "ferryman_metric_drop",
    "actions": "ferryman_actions_stopped",
    "disk": "ferryman_disk_free_share",
    "temperature": "ferryman_temperature_celsius",
    "slowed": "ferryman_processors_slowed",
    "quota": "ferryman_cpu_quota_used_up_share",
}


def expression(rule: Rule) -> str:
    """Give a rule's condition."""
    if rule.sort == "burn":
        return " or ".join(f"({_burning(rule, window)})" for window in rule.windows)
    if rule.sort == "silence":
        return _silence(rule)
    if rule.sort == "rising":
        return "sum(increase(ferryman_records_lost_total[1m])) > 0"
    sign = ">" if rule.sort == "above" else "<"
    chosen = _chosen(rule)
    if rule.fact == "memory":
        return f"max {_BY} (ferryman_worker_rss_bytes{chosen}) {sign} {number(rule.limit)}"
    return f"{READINGS[rule.fact]}{chosen} {sign} {number(rule.limit)}"


def recorded(rule: Rule) -> dict[str, str]:
    """Give by name what a burn rate stands on: a share for each window, a count for each long one."""
    if rule.sort != "burn":
        return {}
    found = {}
    for window in rule.windows:
        for seconds in (window.long_s, window.short_s):
            found[_share(rule, seconds)] = f"{_bad(rule, 'rate', seconds)} / {_all_of(rule, 'rate', seconds)}"
        found[_count(rule, window.long_s)] = _bad(rule, "increase", window.long_s)
    return found


def promql_time(seconds: float) -> str:
    """Write a length of time as PromQL does, in its largest whole unit."""
    for unit, sign in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds / unit:.0f}{sign}"
    return f"{max(round(seconds), 1)}s"


def number(value: float) -> str:
    """Write a number without what binary fractions add to it."""
    return f"{value:.10g}"


def _burning(rule: Rule, window: Window) -> str:
    chosen, least = _chosen(rule), number(window.factor * rule.budget)
    return (
        f"{_share(rule, window.long_s)}{chosen} > {least} and {_share(rule, window.short_s)}{chosen} > {least} "
        f"and {_count(rule, window.long_s)}{chosen} > {number(rule.at_least - 0.5)}"
    )


def _share(rule: Rule, seconds: float) -> str:
    return f"ferryman:{rule.fact}_share:rate{promql_time(seconds)}"


def _count(rule: Rule, seconds: float) -> str:
    return f"ferryman:{rule.fact}:increase{promql_time(seconds)}"


def _bad(rule: Rule, function: str, seconds: float) -> str:
    over = f"[{promql_time(seconds)}]"
    if rule.fact == "failed":
        chosen = _chosen(rule, f'outcome=~"{_FAULTY}"', 'protocol!="probe"')
        return f"sum {_BY} ({function}(ferryman_requests_total{chosen}{over}))"
    return f"sum {_BY} ({function}(ferryman_slow_total{_chosen(rule)}{over}))"


def _all_of(rule: Rule, function: str, seconds: float) -> str:
    words = f"ok|{_FAULTY}" if rule.fact == "failed" else "ok"
    chosen = _chosen(rule, f'outcome=~"{words}"', 'protocol!="probe"')
    return f"sum {_BY} ({function}(ferryman_requests_total{chosen}[{promql_time(seconds)}]))"


def _silence(rule: Rule) -> str:
    asked = "ferryman_requests_total" + _chosen(rule, 'protocol!="probe"')
    if rule.limit:
        return f"sum by (model) (increase({asked}[{promql_time(rule.limit)}])) == 0"
    return (
        f"sum by (model) (increase({asked}[1h])) == 0 and sum by (model) (increase({asked}[1h] offset 1w)) > 20 "
        f"and sum by (model) (increase({asked}[1h] offset 23h)) > 0"
    )


def _chosen(rule: Rule, *more: str) -> str:
    named = [f'model="{rule.model}"'] if rule.model else []
    return f"{{{','.join([*named, *more])}}}" if named or more else ""
