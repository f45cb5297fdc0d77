"""Tests of the rules, for `promtool test rules`: each alert stays quiet, fires in trouble, and is over after it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ferryman.core.alerting import AlertsSection
from ferryman.core.deployment import Deployment
from ferryman.monitor.alerts.alert import alert_name
from ferryman.monitor.alerts.rules import Rule, rules_of, rules_of_machine
from ferryman.monitor.prometheus.expressions import READINGS, promql_time

_WEEK = 10080  # minutes, as all times here
_CALLS = 600  # requests a minute
_COARSE, _SELDOM = 5, 30  # minutes between samples, and between looks, where a test lasts a week
_DAY_S = 86400.0
_LEAST_LIMIT_S = 240.0  # less can't be told by samples a minute apart


@dataclass(frozen=True, slots=True)
class _Case:
    """Hold series by name, and the minutes at which the alert must be quiet, fire and be over."""

    series: dict[str, str]
    quiet: int
    firing: int
    over: int
    step: int = 1


def tests_file(deployment: Deployment, rules_name: str) -> dict[str, Any]:  # JSON
    """Give the tests of one model's rules, which lie beside them in the file `rules_name`."""
    rules = [rule for rule in rules_of(deployment) if not _is_slow(rule)]
    kept = [rule for rule in rules if rule.sort != "silence" or rule.limit >= _LEAST_LIMIT_S]
    return _file(rules_name, [_test(rule, _CASES[rule.sort](rule)) for rule in kept])


def slow_tests_file(deployment: Deployment, rules_name: str) -> dict[str, Any]:  # JSON
    """Give the tests that last up to a week; they look at the rules each half an hour, to be done in seconds."""
    rules = [rule for rule in rules_of(deployment) if _is_slow(rule)]
    tests = [_test(rule, _unusual(rule) if rule.sort == "silence" else _burn(rule)) for rule in rules]
    return {**_file(rules_name, tests), "evaluation_interval": f"{_SELDOM}m"}


def machine_tests_file(section: AlertsSection, rules_name: str) -> dict[str, Any]:  # JSON
    """Give the tests of the machine's rules."""
    rules = rules_of_machine(section)
    tests = [_test(rule, _reading(rule)) for rule in rules]
    gone = _Case({"ferryman_processes": "3x10 _x20 3x20"}, 10, 20, 40)
    tests.append(_checks("FerrymanGone", "", gone))
    return _file(rules_name, tests)


def _file(rules_name: str, tests: Sequence[dict[str, Any]]) -> dict[str, Any]:  # JSON
    return {"rule_files": [rules_name], "evaluation_interval": "1m", "tests": list(tests)}


def _test(rule: Rule, case: _Case) -> dict[str, Any]:  # JSON
    return _checks(alert_name(rule.name), rule.model, case)


def _checks(name: str, model: str, case: _Case) -> dict[str, Any]:  # JSON
    about = f',model="{model}"' if model else ""
    query = f'count(ALERTS{{alertname="{name}",alertstate="firing"{about}}}) or vector(0)'
    moments = ((case.quiet, 0), (case.firing, 1), (case.over, 0))
    return {
        "name": name,
        "interval": f"{case.step}m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "promql_expr_test": [
            {"expr": query, "eval_time": promql_time(at * 60), "exp_samples": [{"labels": "{}", "value": value}]}
            for at, value in moments
        ],
    }


def _is_slow(rule: Rule) -> bool:
    return (rule.sort == "burn" and rule.windows[0].long_s >= _DAY_S) or (rule.sort == "silence" and not rule.limit)


def _burn(rule: Rule) -> _Case:
    """Have so many requests go wrong that both windows see it, then none."""
    step = _COARSE if _is_slow(rule) else 1
    window = rule.windows[0]
    share = min(max(3 * window.factor * rule.budget, 10 * rule.at_least / (_CALLS * 60)), 0.9)
    quiet, trouble = (120, 240) if _is_slow(rule) else (60, 60)
    calm = (int(max(one.short_s for one in rule.windows) + rule.clear_s) // 60 // _SELDOM + 2) * _SELDOM
    moments = (quiet, quiet + trouble, quiet + trouble + calm)
    calls = _CALLS * step

    minutes = [length // step for length in (quiet, trouble, calm)]
    good, bad = counter(minutes, (calls, calls, calls)), counter(minutes, (0, round(calls * share), 0))

    timed = f'{{model="{rule.model}",version="1"'
    if rule.fact == "failed":
        failed = f'ferryman_requests_total{timed},protocol="http",outcome="failed"}}'
        return _Case({_answered(rule): good, failed: bad}, *moments, step)
    return _Case({_answered(rule): good, f"ferryman_slow_total{timed}}}": bad}, *moments, step)


def _reading(rule: Rule) -> _Case:
    """Have a figure go beyond its limit for long enough, and come back."""
    trouble = int(rule.for_s / 60) + 10
    calm = int(rule.clear_s / 60) + 15
    about = f'model="{rule.model}",version="1"' if rule.model else 'instance="box"'
    if rule.sort == "rising":
        phases = (20, trouble, calm)
        series = {f'ferryman_records_lost_total{{{about},reason="full"}}': counter(phases, (0, 5, 0))}
        return _Case(series, 15, 20 + trouble - 1, 20 + trouble + calm)
    far = abs(rule.limit) * 0.5 + 0.5
    good, bad = (rule.limit, rule.limit + far) if rule.sort == "above" else (rule.limit, rule.limit - far)
    metric = "ferryman_worker_rss_bytes" if rule.fact == "memory" else READINGS[rule.fact]
    worker = ',worker="0"' if rule.fact == "memory" else ""
    values = f"{good:.10g}x19 {bad:.10g}x{trouble - 1} {good:.10g}x{calm}"
    return _Case({f"{metric}{{{about}{worker}}}": values}, 15, 20 + trouble - 1, 20 + trouble + calm - 2)


def _silent(rule: Rule) -> _Case:
    """Have requests come for an hour, then none for longer than may be."""
    phases = (60, int((rule.limit + rule.for_s) / 60) + 15, int(rule.clear_s / 60) + 15)
    return _Case({_answered(rule): counter(phases, (10, 0, 10))}, 60, sum(phases[:2]) - 1, sum(phases))


def _unusual(rule: Rule) -> _Case:
    """Have requests come for more than a week, then none for an hour and more."""
    long = 60 + (int(rule.for_s / 60) // _SELDOM + 2) * _SELDOM
    calm = (int(rule.clear_s / 60) // _SELDOM + 3) * _SELDOM
    begin = _WEEK + 6 * _SELDOM
    values = counter([minutes // _COARSE for minutes in (begin, long, calm)], (50, 0, 50))
    return _Case({_answered(rule): values}, begin, begin + long, begin + long + calm, _COARSE)


def _answered(rule: Rule) -> str:
    return f'ferryman_requests_total{{model="{rule.model}",version="1",protocol="http",outcome="ok"}}'


def counter(phases: Sequence[int], rates: Sequence[int]) -> str:
    """Write a counter that grows at a rate for so many minutes, then at another."""
    value, parts = 0, []
    for minutes, rate in zip(phases, rates, strict=True):
        parts.append(f"{value}+{rate}x{minutes - 1}")
        value += rate * minutes
    return " ".join([*parts, f"{value}x1"])


_CASES: dict[str, Callable[[Rule], _Case]] = {
    "burn": _burn,
    "above": _reading,
    "below": _reading,
    "rising": _reading,
    "silence": _silent,
}
