"""Describe a server's models as OpenAPI 3.1, each with its own tensors or items."""

from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.server.data.models import Served
from ferryman.server.data.v2.messages import describe_tensors

Json = dict[str, Any]  # an OpenAPI document's parts
_EXAMPLE_VALUES = {"BOOL": True, "BYTES": "text"}
_SHOWN_VALUES = 8
_ERRORS = {
    "400": "The request is wrong; the error says what and where.",
    "404": "There is no such model or version.",
    "413": "The body is over the server's limit.",
    "415": "This content type can't be read.",
    "429": "The queue is full; try again after Retry-After seconds.",
    "503": "The model is loading, failed its golden samples, or the server is stopping.",
}
_ERROR_SCHEMA: Json = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_ANSWERS_SCHEMA: Json = {
    "type": "object",
    "required": ["model_name", "model_version", "answers"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "answers": {"type": "array", "items": {"type": "object"}},
    },
}


def describe(models: Sequence[Served], *, server_version: str) -> Json:
    """Give the OpenAPI document of a server with these models."""
    paths: Json = {
        "/v2": {"get": _read("Name, version and extensions of this server.")},
        "/v2/health/live": {"get": _read("The process answers.")},
        "/v2/health/ready": {"get": _read("Every model answers its golden samples right.", busy=True)},
        "/v2/repository/index": {"post": _read("What is served here: names, versions, states.")},
        "/metrics": {"get": {"summary": "Figures for Prometheus.", "responses": {"200": {"description": "Text."}}}},
    }
    for model in models:
        for base in (f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{model.version}"):
            paths[base] = {"get": _read("Inputs, outputs and versions of this model.", busy=True)}
            paths[f"{base}/ready"] = {"get": _read("Whether this model answers.", busy=True)}
            paths[f"{base}/infer"] = {"post": _infer(model)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Ferryman: Open Inference Protocol V2", "version": server_version},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR_SCHEMA, "Answers": _ANSWERS_SCHEMA}},
    }


def _read(summary: str, *, busy: bool = False) -> Json:
    return {"summary": summary, "responses": {"200": _ok({"type": "object"}), **(_errors("503") if busy else {})}}


def _infer(model: Served) -> Json:
    tensors = describe_tensors(model.loaded.signature)
    content: Json = {
        "application/json": {
            "schema": {"anyOf": [_request_schema(tensors["inputs"])]},
            "example": {"inputs": [_example(tensor) for tensor in tensors["inputs"]]},
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    answer: list[Json] = [_answer_schema(tensors["outputs"])]
    if model.loaded.takes == "row":
        content["application/json"]["schema"]["anyOf"].append(_rows_schema())
        content["application/json"]["example"] = {"rows": [_example_row(model)]}
    if model.loaded.takes == "picture":
        content |= {f"image/{kind}": {"schema": {"type": "string", "format": "binary"}} for kind in ("jpeg", "png")}
    if model.loaded.takes != "tensors":
        answer.append({"$ref": "#/components/schemas/Answers"})
    return {
        "summary": f"Ask '{model.name}' ({model.bundle.deployment.task.kind}, {model.bundle.manifest.precision}).",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _ok({"anyOf": answer}), **_errors(*_ERRORS)},
    }


def _example_row(model: Served) -> Json:
    """Show the columns and their kinds; the golden row's own values may be private."""
    item = model.bundle.golden[0].item
    columns = item.items() if isinstance(item, Mapping) else ()
    return {column: "text" if isinstance(cell, str) else 0 for column, cell in columns}


def _request_schema(inputs: Sequence[Mapping[str, Any]]) -> Json:
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"id": {"type": "string"}, "inputs": _tensors_schema(inputs), "outputs": {"type": "array"}},
    }


def _answer_schema(outputs: Sequence[Mapping[str, Any]]) -> Json:
    return {"type": "object", "required": ["outputs"], "properties": {"outputs": _tensors_schema(outputs)}}


def _rows_schema() -> Json:
    rows = {"type": "array", "minItems": 1, "items": {"type": "object"}}
    return {"type": "object", "required": ["rows"], "properties": {"rows": rows}}


def _tensors_schema(tensors: Sequence[Mapping[str, Any]]) -> Json:
    return {"type": "array", "items": {"anyOf": [_tensor_schema(tensor) for tensor in tensors]}}


def _tensor_schema(tensor: Mapping[str, Any]) -> Json:
    sizes = [{"type": "integer", "minimum": 0} if size == -1 else {"const": size} for size in tensor["shape"]]
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": tensor["name"]},
            "datatype": {"const": tensor["datatype"]},
            "shape": {"type": "array", "prefixItems": sizes, "minItems": len(sizes), "maxItems": len(sizes)},
            "data": {"type": "array", "description": "Row by row, nested or flat."},
        },
    }


def _example(tensor: Mapping[str, Any]) -> Json:
    """Show one whole tensor where it is small, and the beginning of its data where it isn't."""
    shape = [1 if size == -1 else size for size in tensor["shape"]]
    count = 1
    for size in shape:
        count *= size
    values: list[Any] = [_EXAMPLE_VALUES.get(tensor["datatype"], 0)] * min(count, _SHOWN_VALUES)  # of its datatype
    return {**tensor, "shape": shape, "data": values + (["…"] if count > _SHOWN_VALUES else [])}


def _ok(schema: Json) -> Json:
    return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: str) -> Json:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": _ERRORS[status], "content": error} for status in statuses}
