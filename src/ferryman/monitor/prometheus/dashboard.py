"""A dashboard for Grafana, from a contract: what is promised is drawn as a line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ferryman.core.deployment import Deployment
from ferryman.monitor.alerts.alert import short_digest
from ferryman.monitor.prometheus.expressions import number

_SCHEMA = 39  # of Grafana 11; newer ones read it
_CHOSEN = '{model=~"$model",version=~"$version"}'
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_EVERY = "$__rate_interval"
Kind = Literal["timeseries", "stat", "state-timeline"]


@dataclass(frozen=True, slots=True)
class _Panel:
    """Hold one panel: queries with their legends, and the promise that is drawn in red (None: none is)."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    says: str = ""
    kind: Kind = "timeseries"
    promised: float | None = None
    is_least: bool = False
    width: int = 12
    mappings: Sequence[tuple[str, str, str]] = field(default=())


def dashboard(deployment: Deployment) -> dict[str, Any]:  # JSON
    """Give the dashboard's JSON, as `Dashboards > New > Import` and file provisioning take it."""
    name = deployment.model.name
    rows = (("Now", _now(deployment)), ("Requests", _requests(deployment)), ("Drift and records", _drift()))
    panels: list[dict[str, Any]] = []  # JSON
    line = 0
    for title, shown in (*rows, ("Machine", _machine(deployment))):
        panels.append(_row(title, len(panels) + 1, line))
        line += 1
        line = _place(shown, panels, line)
    return {
        "uid": f"ferryman-{short_digest('dashboard', name)}",
        "title": f"Ferryman: {name}",
        "description": f"Written by `ferryman monitor rules` from the contract of {name}.",
        "tags": ["ferryman"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": _SCHEMA,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables(name)},
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def _now(deployment: Deployment) -> list[_Panel]:
    bad_share = deployment.monitor.alerts.availability
    right = (("1", "right", "green"), ("0", "WRONG", "red"))
    return [
        _Panel("Requests a second", [(f"sum(rate(ferryman_requests_total{_CHOSEN}[{_EVERY}]))", "")], "reqps",
               "All that were answered or refused.", "stat", width=4),
        _Panel("Failed", [(_failed_share(), "")], "percentunit", "The server's own faults, of all requests.", "stat",
               1 - bad_share, width=4),
        _Panel("p99", [(_quantile(0.99), "")], "s", "99 of 100 are answered within.", "stat",
               _seconds(deployment.contract.p99_ms), width=4),
        _Panel("Golden samples", [(f"min(ferryman_golden_ok{_CHOSEN})", "")], says="Asked again each 30 s.",
               kind="stat", width=4, mappings=right),
        _Panel("Ready", [(f"min(ferryman_model_ready{_CHOSEN})", "")], says="Answers requests.", kind="stat", width=4,
               mappings=(("1", "ready", "green"), ("0", "DOWN", "red"))),
        _Panel("Drift", [(f"max(ferryman_drifted{_CHOSEN})", "")], says="Is what comes in as it was?", kind="stat",
               width=4, mappings=(("0", "none", "green"), ("1", "DRIFT", "orange"))),
    ]  # fmt: skip


def _requests(deployment: Deployment) -> list[_Panel]:
    stages = ("queue", "prepare", "infer", "finish")
    by_outcome = f"sum by (outcome) (rate(ferryman_requests_total{_CHOSEN}[{_EVERY}]))"
    by_version = f"sum by (version) (rate(ferryman_requests_total{_CHOSEN}[{_EVERY}]))"
    return [
        _Panel("By outcome", [(by_outcome, "{{outcome}}")], "reqps", "How requests ended."),
        _Panel("By version", [(by_version, "{{version}}")], "reqps", "Which version answered: rollouts show here."),
        _Panel("Failed", [(_failed_share(), "failed")], "percentunit", "The error budget is drawn.",
               promised=1 - deployment.monitor.alerts.availability),
        _Panel("Latency", [(_quantile(share), f"p{share * 100:.0f}") for share in (0.5, 0.95, 0.99)], "s",
               "From a request's headers to its answer; the contract's p99 is drawn.",
               promised=_seconds(deployment.contract.p99_ms)),
        _Panel("Where the time goes", [(_mean(f"ferryman_{stage}_seconds"), stage) for stage in stages], "s",
               "Mean time of each stage of a call of the engine."),
        _Panel("Requests in a call", [(_mean("ferryman_batch_rows"), "rows")], says="How full batches are."),
        _Panel("Waiting", [(f"sum(ferryman_waiting{_CHOSEN})", "waiting"),
                           (f"sum(ferryman_in_flight{_CHOSEN})", "in flight")], says="Queue and engine."),
        _Panel("Not a number", [(f"sum(rate(ferryman_nonfinite_answers_total{_CHOSEN}[{_EVERY}]))", "answers")], "cps",
               "Answers with NaN or infinity."),
    ]  # fmt: skip


def _drift() -> list[_Panel]:
    states = (("1", "pending", "orange"), ("2", "firing", "red"))
    return [
        _Panel("Drift of each signal", [(f"max by (version, signal) (ferryman_drift_score{_CHOSEN})",
                                         "{{signal}} {{version}}"),
                                        (f"max by (version) (ferryman_drift_threshold{_CHOSEN})",
                                         "threshold {{version}}")],
               says="Over the threshold it is drift; how often by mistake is stated in the contract."),
        _Panel("Records", [(f"sum(rate(ferryman_records_total[{_EVERY}]))", "taken"),
                           (f"sum by (reason) (rate(ferryman_records_lost_total[{_EVERY}]))", "lost: {{reason}}")],
               "cps", "What was kept of requests, and what was lost."),
        _Panel("Alerts", [(f"max by (rule, version) (ferryman_alert_state{_CHOSEN})", "{{rule}} {{version}}")],
               says="Of the server itself.", kind="state-timeline", width=24, mappings=states),
    ]  # fmt: skip


def _machine(deployment: Deployment) -> list[_Panel]:
    rss = deployment.contract.max_rss_mb
    return [
        _Panel("Memory of workers", [(f"ferryman_worker_rss_bytes{_CHOSEN}", "{{version}} {{worker}}")], "bytes",
               "The contract's is drawn.", promised=None if rss is None else rss * 1e6),
        _Panel("Processor", [(f"sum(rate(ferryman_process_cpu_seconds_total[{_EVERY}]))", "cores")],
               says="Of all models."),
        _Panel("Restarts", [(f'sum by (reason) (increase(ferryman_worker_restarts_total{{model=~"$model"}}[{_EVERY}]))',
                             "{{reason}}")], says="Workers that were started again."),
        _Panel("Temperature", [("ferryman_temperature_celsius", "{{instance}}")], "celsius", "Where it can be read."),
        _Panel("Free disk", [("ferryman_disk_free_share", "{{instance}}")], "percentunit", "Where records lie."),
    ]  # fmt: skip


def _failed_share() -> str:
    faults = '{model=~"$model",version=~"$version",outcome=~"deadline|failed|not_ready|overloaded"}'
    asked = '{model=~"$model",version=~"$version",outcome=~"ok|deadline|failed|not_ready|overloaded"}'
    bad, all_of = (f"sum(rate(ferryman_requests_total{chosen}[{_EVERY}]))" for chosen in (faults, asked))
    return f"{bad} / {all_of}"


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate(ferryman_request_seconds_bucket{_CHOSEN}[{_EVERY}])))"


def _mean(metric: str) -> str:
    total, count = (f"sum(rate({metric}_{part}{_CHOSEN}[{_EVERY}]))" for part in ("sum", "count"))
    return f"{total} / {count}"


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _place(shown: Sequence[_Panel], panels: list[dict[str, Any]], line: int) -> int:  # JSON
    """Put panels side by side while they fit; gives the line under them."""
    column = height = 0
    for panel in shown:
        if column + panel.width > 24:
            line, column = line + height, 0
        height = 4 if panel.kind == "stat" else 8
        grid = {"x": column, "y": line, "w": panel.width, "h": height}
        panels.append(_panel(panel, len(panels) + 1, grid))
        column += panel.width
    return line + height


def _panel(panel: _Panel, number_: int, grid: dict[str, int]) -> dict[str, Any]:  # JSON
    made = {
        "id": number_,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCE,
        "gridPos": grid,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
            for place, (expr, legend) in enumerate(panel.queries)
        ],
    }
    if panel.kind == "state-timeline":
        made["interval"] = "30s"
    return made


def _defaults(panel: _Panel) -> dict[str, Any]:  # JSON
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    defaults: dict[str, Any] = {"unit": panel.unit, "mappings": _mapped(panel.mappings)}
    if panel.promised is not None:
        steps.append({"color": "red", "value": float(number(panel.promised))})
    if panel.kind == "timeseries":
        style = "line" if panel.promised is not None else "off"
        defaults["custom"] = {
            "fillOpacity": 10,
            "lineWidth": 1,
            "showPoints": "never",
            "thresholdsStyle": {"mode": style},
        }
        defaults["min"] = 0
    return {**defaults, "thresholds": {"mode": "absolute", "steps": steps}}


def _mapped(mappings: Sequence[tuple[str, str, str]]) -> list[dict[str, Any]]:  # JSON
    if not mappings:
        return []
    options = {
        value: {"text": text, "color": color, "index": place} for place, (value, text, color) in enumerate(mappings)
    }
    return [{"type": "value", "options": options}]


def _row(title: str, number_: int, line: int) -> dict[str, Any]:  # JSON
    grid = {"x": 0, "y": line, "w": 24, "h": 1}
    return {"id": number_, "type": "row", "title": title, "collapsed": False, "gridPos": grid, "panels": []}


def _variables(name: str) -> list[dict[str, Any]]:  # JSON
    model, version = (
        "label_values(ferryman_requests_total, model)",
        ('label_values(ferryman_requests_total{model=~"$model"}, version)'),
    )
    current = {"selected": True, "text": name, "value": name}
    every = {"selected": True, "text": "All", "value": "$__all"}
    return [
        {"name": "datasource", "type": "datasource", "label": "Prometheus", "query": "prometheus"},
        _variable("model", "Model", model, current),
        {**_variable("version", "Version", version, every), "multi": True, "includeAll": True, "allValue": ".*"},
    ]


def _variable(name: str, label: str, query: str, current: dict[str, Any]) -> dict[str, Any]:  # JSON
    return {
        "name": name, "type": "query", "label": label, "datasource": _SOURCE, "current": current, "refresh": 2,
        "query": {"query": query, "refId": f"variable-{name}"}, "sort": 1,
    }  # fmt: skip


_SHOWN = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[Kind, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": _SHOWN, "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto",
        "orientation": "auto",
    },
    "state-timeline": {
        "showValue": "auto", "rowHeight": 0.9, "mergeValues": True,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
}  # fmt: skip
