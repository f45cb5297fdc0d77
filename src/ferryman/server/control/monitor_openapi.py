"""Describe what can be asked of the watch as OpenAPI 3.1, at /v1/monitor/openapi.json of the admin listener."""

from typing import Any

from ferryman.monitor.alerts.silences import MATCHED

Json = dict[str, Any]  # an OpenAPI document's parts
_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_FLAG: Json = {"type": "boolean"}
_COUNTS: Json = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}}


def _maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def _object(properties: Json, *, optional: tuple[str, ...] = ()) -> Json:
    return {"type": "object", "required": sorted({*properties} - {*optional}), "properties": properties}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_BRIEF = _object({"model": _TEXT, "version": _TEXT, "drifted": _FLAG, "threshold": _NUMBER, "scores": _COUNTS})
_SHORT = _object({name: _TEXT for name in ("rule", "model", "version", "severity", "state")})
_GPU = _object({
    "number": _COUNT, "name": _TEXT, "busy": _maybe(_NUMBER), "used_bytes": _maybe(_NUMBER),
    "total_bytes": _maybe(_NUMBER), "temperature_c": _maybe(_NUMBER), "power_w": _maybe(_NUMBER),
    "joules": _maybe(_NUMBER), "slowed": _maybe(_NUMBER),
})  # fmt: skip
_MACHINE_FIGURES = ("temperature_c", "disk_free", "slowed", "quota_used_up", "joules")
_MACHINE = _object(
    {
        **{name: _maybe(_NUMBER) for name in _MACHINE_FIGURES},
        "gpus": _list(_GPU),
        "model_joules": _list({"type": "array"}),
        "missing": _list(_TEXT),
    },
    optional=(*_MACHINE_FIGURES, "gpus", "model_joules", "missing"),  # none of them before the first turn
)
_VERSION = _object({
    "model": _TEXT, "version": _TEXT, "active": _FLAG, "ready": _FLAG, "golden_ok": _maybe(_FLAG), "outcomes": _COUNTS,
    "cpu_s": _NUMBER,
    "latency": _object({"bounds_s": _list(_NUMBER), "counts": _list(_COUNT)}), "promised_p99_s": _maybe(_NUMBER),
    "waiting": _COUNT, "in_flight": _COUNT, "worker_bytes": _list(_COUNT),
})  # fmt: skip
_WATCH = _object({
    "watching": _FLAG, "records": _NUMBER, "lost": _COUNTS, "restarts": _NUMBER, "share": _NUMBER,
    "drift": _list(_ref("Brief")), "alerts": _list(_ref("ShortAlert")), "machine": _MACHINE,
})  # fmt: skip
_LIVE = _object({
    "at_s": _NUMBER, "ready": _FLAG, "reason": _TEXT, "cpu_s": _NUMBER, "front_bytes": _COUNT,
    "versions": _list(_VERSION), "watch": _WATCH,
})  # fmt: skip
_STATUS = _object({
    "cpu_s": _NUMBER, "looking_s": _NUMBER, "taking_s": _NUMBER, "records": _COUNT, "rows": _COUNT, "lost": _COUNTS,
    "drift": _list(_ref("Brief")), "alerts": _list(_ref("ShortAlert")), "machine": _MACHINE,
    "notices": _list({"type": "array"}), "actions": _list({"type": "array"}), "stopped": _list({"type": "array"}),
    "orders": _list({"type": "object"}),
})  # fmt: skip
_MOVED = _object({
    "signal": _TEXT, "kind": _TEXT, "score": _NUMBER, "threshold": _NUMBER, "since_s": _NUMBER, "rows": _COUNT,
    "before": _maybe(_NUMBER), "after": _maybe(_NUMBER), "category": _TEXT, "text": _TEXT,
})  # fmt: skip
_DRIFT = _object({
    "model": _TEXT, "version": _TEXT, "drifted": _FLAG, "since_s": _maybe(_NUMBER), "moved": _list(_MOVED),
    "threshold": _NUMBER, "scores": _COUNTS, "rows": _COUNT, "requests": _COUNT, "ready": _FLAG,
})  # fmt: skip
_ALERT = _object({
    "id": _TEXT, "rule": _TEXT, "model": _TEXT, "version": _TEXT, "severity": _TEXT, "state": _TEXT, "summary": _TEXT,
    "description": _TEXT, "value": _maybe(_NUMBER), "limit": _maybe(_NUMBER), "since": _NUMBER,
    "ended": _maybe(_NUMBER), "episode": _COUNT, "muted": _TEXT,
})  # fmt: skip
_SILENCE = _object({
    "id": _TEXT, "matchers": {"type": "object", "additionalProperties": _TEXT}, "until_s": _NUMBER, "author": _TEXT,
    "comment": _TEXT, "made_s": _NUMBER,
})  # fmt: skip
_WINDOW = _object({
    "from": _TEXT, "to": _TEXT, "days": _list(_TEXT), "zone": _TEXT, "models": _list(_TEXT), "why": _TEXT,
    "active": _FLAG,
})  # fmt: skip
_SILENCES = _object({"silences": _list(_ref("Silence")), "maintenance": _list(_WINDOW)})
_ASKED = _object(
    {
        "matchers": {
            "type": "object", "minProperties": 1, "propertyNames": {"enum": list(MATCHED)},
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 200},
        },
        "for_s": {"type": "number", "exclusiveMinimum": 0},
        "comment": {"type": "string", "minLength": 1, "maxLength": 200},
        "author": {"type": "string", "minLength": 1, "maxLength": 200},
    },
    optional=("author",),
)  # fmt: skip
_CAUSE = _object({
    "alert": _TEXT, "rule": _TEXT, "episode": _COUNT, "summary": _TEXT, "value": _maybe(_NUMBER),
    "limit": _maybe(_NUMBER),
})  # fmt: skip
_ACTION = _object({
    "id": _TEXT, "name": _TEXT, "do": _TEXT, "model": _TEXT, "version": _TEXT, "digest": _TEXT, "cause": _CAUSE,
    "began": _NUMBER, "ended": _maybe(_NUMBER), "outcome": _TEXT, "said": _TEXT,
})  # fmt: skip
_ACTIONS = _object({"actions": _list(_ACTION), "rolled_back": _list(_TEXT)})
_PATHS: dict[str, tuple[str, Json]] = {
    "/v1/monitor": ("What the watch took, lost and cost, and what it found in brief.", _STATUS),
    "/v1/monitor/live": ("Counters of every loaded version, and what the watch said last; two make a rate.", _LIVE),
    "/v1/monitor/drift": ("The drift of each version, with every signal.", _list(_DRIFT)),
    "/v1/monitor/alerts": ("What is pending, fires, or was over within the hour.", _list(_ALERT)),
    "/v1/monitor/silences": ("What mutes alerts: silences, and the contract's maintenance windows.", _SILENCES),
    "/v1/monitor/actions": (
        "What was done because of alerts, and bundles that nothing returns to.",
        _ACTIONS,
    ),
    "/v1/monitor/openapi.json": ("This description.", {"type": "object"}),
}
_SILENCED = "/v1/monitor/silences"
_NO_WATCH = {"/v1/monitor/live", "/v1/monitor/openapi.json"}  # answered while the watch doesn't


def describe_monitor(version: str) -> Json:
    """Give the document; `version` is the server's."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ferryman: what is watched (admin listener)", "version": version},
        "paths": _paths(),
        "components": {
            "schemas": {
                "Brief": _BRIEF,
                "ShortAlert": _SHORT,
                "Silence": _SILENCE,
                "Error": _object({"error": _TEXT, "hint": _TEXT}, optional=("hint",)),
            }
        },
    }


def _paths() -> Json:
    paths: Json = {path: {"get": _get(path, summary, schema)} for path, (summary, schema) in _PATHS.items()}
    made = _get(_SILENCED, "Mute the alerts whose labels fit all matchers (* and ? in them) for a time.", {})
    made["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ASKED}}}
    made["responses"]["400"] = _answer("The silence would mute nothing, for ever, or nobody says why.", _ref("Error"))
    made["responses"]["201"] = _answer("The silence.", _ref("Silence"))
    del made["responses"]["200"]
    paths[_SILENCED]["post"] = made
    ended = _get(_SILENCED, "End a silence.", _ref("Silence"))
    ended["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
    ended["responses"]["404"] = _answer("There is no such silence.", _ref("Error"))
    paths[f"{_SILENCED}/{{id}}"] = {"delete": ended}
    return paths


def _get(path: str, summary: str, schema: Json) -> Json:
    responses: Json = {"200": _answer("The answer.", schema)}
    for status, why in (("401", "Who asks is not known here."), ("403", "This caller may not.")):
        responses[status] = _answer(why, _ref("Error"))
    if path not in _NO_WATCH:
        responses["503"] = _answer("Nothing is watched yet, or the watch is just starting.", _ref("Error"))
    return {"summary": summary, "responses": responses}


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
