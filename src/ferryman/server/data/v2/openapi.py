"""Describe a server's models as OpenAPI 3.1, each with its own tensors or items."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ferryman.server.data.models import Served
from ferryman.server.data.v2.clouds import CloudRoutes
from ferryman.server.data.v2.examples import example_row, example_tensor, is_whole
from ferryman.server.data.v2.messages import describe_tensors
from ferryman.server.data.v2.texts import text_columns, texts_schema

Json = dict[str, Any]  # an OpenAPI document's parts
_ERRORS = {
    "400": "The request is wrong; the error says what and where.",
    "401": "This server answers only callers that it knows.",
    "403": "This caller may not do that here.",
    "404": "There is no such model or version.",
    "405": "This address takes other methods.",
    "408": "The request did not come whole in time.",
    "413": "The body is over the server's limit.",
    "414": "The address is over the server's limit.",
    "415": "This content type can't be read.",
    "426": "This address takes a WebSocket.",
    "429": "The queue is full, or this caller asks too often; try again after Retry-After seconds.",
    "431": "The headers are over the server's limit.",
    "500": "It is the server's fault; its log has more under the id.",
    "501": "This transfer encoding is not known.",
    "503": "The model is loading, failed its golden samples, or the server is stopping.",
    "504": "The answer was not there in the time that the request, or the server, gives.",
}
_HEADERS = {"401": "WWW-Authenticate", "405": "Allow", "426": "Upgrade", "429": "Retry-After", "503": "Retry-After"}
_ANYWHERE = ("400", "401", "403", "405", "408", "414", "429", "431", "500", "501", "503")
_OF_A_BODY = ("413", "415")
_TEXT: Json = {"type": "string"}
_BINARY: Json = {"type": "string", "format": "binary"}
_FLAG: Json = {"type": "boolean"}
_SCHEMAS: dict[str, Json] = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _TEXT}},
    "Server": {
        "type": "object",
        "required": ["name", "version", "extensions"],
        "properties": {"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}},
    },
    "Live": {"type": "object", "required": ["live"], "properties": {"live": _FLAG}},
    "Ready": {"type": "object", "required": ["ready"], "properties": {"name": _TEXT, "ready": _FLAG}},
    "Index": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "version", "state", "reason"],
            "properties": {key: _TEXT for key in ("name", "version", "state", "reason")},
        },
    },
    "Model": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": _TEXT,
            "versions": {"type": "array", "items": _TEXT},
            "platform": _TEXT,
            "inputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "outputs": {"type": "array", "items": {"$ref": "#/components/schemas/Tensor"}},
            "parameters": {"type": "object"},
        },
    },
    "Tensor": {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {"name": _TEXT, "datatype": _TEXT, "shape": {"type": "array", "items": {"type": "integer"}}},
    },
    "Configuration": {
        "type": "object",
        "required": ["name", "platform", "max_batch_size", "input", "output"],
        "properties": {"name": _TEXT, "platform": _TEXT, "max_batch_size": {"type": "integer", "minimum": 0}},
    },
    "Statistics": {
        "type": "object",
        "required": ["model_stats"],
        "properties": {"model_stats": {"type": "array", "items": {"type": "object"}}},
    },
    "Answers": {
        "type": "object",
        "required": ["model_name", "model_version", "answers"],
        "properties": {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "answers": {"type": "array", "items": {"type": "object"}},
        },
    },
    "Parameters": {
        "type": "object",
        "properties": {
            "timeout": {
                "type": "integer", "minimum": 0, "maximum": 3_600_000_000,
                "description": "Microseconds until an answer is of no use; 0 or none: as long as the server gives.",
            },
            "priority": {
                "type": "integer", "minimum": 0, "description": "1 goes first, 0 or none is usual, any more waits."
            },
            "binary_data_output": {"type": "boolean", "description": "Whether outputs come as bytes behind the JSON."},
        },
    },
}  # fmt: skip


def describe(models: Sequence[Served], *, server_version: str, clouds: CloudRoutes | None = None) -> Json:
    """Give the OpenAPI document of a server with these models."""
    clouds = clouds or CloudRoutes()
    paths: Json = {
        "/v2": {"get": _read("Name, version and extensions of this server.", "Server")},
        "/v2/health/live": {"get": _read("The process answers.", "Live")},
        "/v2/health/ready": {"get": _read("Every model answers its golden samples right.", "Ready")},
        "/v2/repository/index": {"post": _steer("What is served here: names, versions, states.", "Index", _index())},
        "/metrics": {"get": _page("Figures for Prometheus.", "text/plain", "application/openmetrics-text")},
        "/openapi.json": {"get": _page("This description.", "application/json")},
        "/docs": {"get": _page("This description, for people.", "text/html")},
        **{path: {"get": _health()} for path in clouds.health},
        **{path: {"post": _only_model()} for path in clouds.infer},
    }
    for name in dict.fromkeys(model.name for model in models):
        base = f"/v2/repository/models/{name}"
        paths[f"{base}/load"] = {"post": _steer("Load this model, or look for a newer version of it.", "", _which())}
        paths[f"{base}/unload"] = {"post": _steer("Serve this model no more.", "", _which())}
    for model in models:
        for base in (f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{model.version}"):
            paths[base] = {"get": _read("Inputs, outputs and versions of this model.", "Model", "404")}
            paths[f"{base}/ready"] = {"get": _read("Whether this model answers.", "Ready", "404")}
            paths[f"{base}/config"] = {"get": _read("How this model is served.", "Configuration", "404")}
            paths[f"{base}/stats"] = {"get": _read("What this model was asked.", "Statistics", "404")}
            paths[f"{base}/stream"] = {"get": _stream()}
            paths[f"{base}/infer"] = {"post": _infer(model)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ferryman: Open Inference Protocol V2", "version": server_version},
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "responses": {status: _error(status) for status in _ERRORS}},
    }


def _read(summary: str, schema: str, *statuses: str) -> Json:
    return {"summary": summary, "responses": {"200": _ok(_ref(schema)), **_errors(*statuses)}}


def _page(summary: str, *content_types: str) -> Json:
    content: Json = {content_type: {} for content_type in content_types}
    return {"summary": summary, "responses": {"200": {"description": "The page.", "content": content}, **_errors()}}


def _steer(summary: str, schema: str, body: Json) -> Json:
    return {
        "summary": summary,
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "responses": {"200": _ok(_ref(schema) if schema else {"type": "object"}), **_errors("404", *_OF_A_BODY)},
    }


def _health() -> Json:
    return {
        "summary": "Whether every model answers its golden samples right, by the status alone.",
        "responses": {"200": {"description": "Ready."}, **_errors(), "503": {"description": "Not ready."}},
    }


def _only_model() -> Json:
    """Describe what clouds ask the one model of a server: any body that its own address takes."""
    content = {
        kind: {"schema": _BINARY} for kind in ("application/octet-stream", "image/jpeg", "image/png", "text/csv")
    }
    instances = {"type": "object", "properties": {"instances": {"type": "array"}}}
    return {
        "summary": "Ask the only model that is served; where there are several, /v2/models/MODEL/infer is theirs.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": instances}, **content}},
        "responses": {"200": _ok({"type": "object"}), **_errors("404", *_OF_A_BODY, "504")},
    }


def _index() -> Json:
    return {"type": "object", "properties": {"ready": _FLAG}, "additionalProperties": False}


def _which() -> Json:
    version = {"type": "string", "minLength": 1, "maxLength": 200}
    parameters = {"type": "object", "properties": {"version": version}, "additionalProperties": False}
    return {"type": "object", "properties": {"parameters": parameters}, "additionalProperties": False}


def _stream() -> Json:
    policy = {
        "name": "policy", "in": "query", "schema": {"enum": ["every", "latest"]},
        "description": "latest drops frames that came while the model was busy, but for the newest.",
    }  # fmt: skip
    return {
        "summary": "Frames over a WebSocket: pictures as binary messages, or what infer takes as text.",
        "parameters": [policy],
        "responses": {"101": {"description": "A WebSocket."}, **_errors("404", "426")},
    }


def _infer(model: Served) -> Json:
    tensors = describe_tensors(model.loaded.signature)
    examples = [example_tensor(tensor) for tensor in tensors["inputs"]]
    content: Json = {
        "application/json": {"schema": {"anyOf": [_request_schema(tensors)]}, "x-tensors": examples},
        "application/octet-stream": {"schema": _BINARY},
    }
    if all(map(is_whole, examples)):
        content["application/json"]["example"] = {"inputs": examples}
    answer: list[Json] = [_answer_schema(tensors["outputs"])]
    if model.loaded.takes == "row":
        content["application/json"]["schema"]["anyOf"].append(_rows_schema())
        content["application/json"]["example"] = {"rows": [example_row(model)]}
        if columns := text_columns(model):
            content["application/json"]["schema"]["anyOf"].append(texts_schema(columns))
    if model.loaded.takes == "picture":
        content |= {f"image/{kind}": {"schema": _BINARY} for kind in ("jpeg", "png")}
    if model.loaded.takes != "tensors":
        answer.append(_ref("Answers"))
    answered = _ok({"anyOf": answer})
    answered["content"]["application/octet-stream"] = {"schema": _BINARY}
    return {
        "summary": f"Ask '{model.name}' ({model.bundle.deployment.task.kind}, {model.bundle.manifest.precision}).",
        "parameters": [
            _header("Inference-Header-Content-Length", "Length of the JSON, where tensors follow as bytes.")
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answered, **_errors("404", *_OF_A_BODY, "504")},
    }


def _header(name: str, description: str) -> Json:
    schema = {"type": "integer", "minimum": 0}
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def _request_schema(tensors: Mapping[str, Sequence[Mapping[str, Any]]]) -> Json:
    wish = {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"enum": [tensor["name"] for tensor in tensors["outputs"]]},
            "parameters": {"type": "object", "properties": {"binary_data": _FLAG}},
        },
    }
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "inputs": _tensors_schema(tensors["inputs"], _sent_shape),
            "outputs": {"type": "array", "items": wish},
            "parameters": _ref("Parameters"),
        },
    }


def _answer_schema(outputs: Sequence[Mapping[str, Any]]) -> Json:
    return {
        "type": "object",
        "required": ["outputs"],
        "properties": {"outputs": _tensors_schema(outputs, _given_shape)},
    }


def _rows_schema() -> Json:
    rows = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    return {"type": "object", "required": ["rows"], "properties": {"rows": rows, "parameters": _ref("Parameters")}}


def _tensors_schema(tensors: Sequence[Mapping[str, Any]], shape_of: Callable[[Sequence[int]], Json]) -> Json:
    return {"type": "array", "items": {"anyOf": [_tensor_schema(tensor, shape_of) for tensor in tensors]}}


def _tensor_schema(tensor: Mapping[str, Any], shape_of: Callable[[Sequence[int]], Json]) -> Json:
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": tensor["name"]},
            "datatype": {"const": tensor["datatype"]},
            "shape": shape_of(tensor["shape"]),
            "data": {"type": "array", "description": "Row by row, nested or flat."},
        },
    }


def _sent_shape(shape: Sequence[int]) -> Json:
    sizes: list[Json] = [{"type": "integer", "minimum": 0} if size == -1 else {"const": size} for size in shape]
    return {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)}


def _given_shape(shape: Sequence[int]) -> Json:
    """Describe an output's shape without `prefixItems`, which not every reader of answers understands."""
    sizes: Json = {"type": "integer", "minimum": 0}
    return {"type": "array", "items": sizes, "minItems": len(shape), "maxItems": len(shape)}


def _ok(schema: Json) -> Json:
    return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: str) -> Json:
    """Give what any request may be told, and `statuses`."""
    return {status: {"$ref": f"#/components/responses/{status}"} for status in sorted({*_ANYWHERE, *statuses})}


def _error(status: str) -> Json:
    told: Json = {"description": _ERRORS[status], "content": {"application/json": {"schema": _ref("Error")}}}
    if header := _HEADERS.get(status):
        told["headers"] = {header: {"schema": _TEXT}}
    return told


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
