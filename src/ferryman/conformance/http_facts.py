"""Raw checks of what a server says of itself and of its models over HTTP."""

from typing import Any

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.target import Reply, model_path
from ferryman.conformance.tensors import DTYPES

_NOBODY = "no-such-model-here"


def check_refusal(reply: Reply) -> None:
    """Raise Broken unless this is a client's error with the protocol's error object."""
    expect(400 <= reply.status < 500, f"status {reply.status}, not 4xx: {reply.payload[:120]!r}")
    error = reply.object().get("error")
    expect(isinstance(error, str) and bool(error), f"no text under 'error': {reply.payload[:120]!r}")


def _live(case: Case) -> None:
    reply = case.target.ask("GET", "/v2/health/live")
    expect(reply.status == 200, f"status {reply.status}")


def _ready(case: Case) -> None:
    reply = case.target.ask("GET", "/v2/health/ready")
    expect(reply.status == 200, f"status {reply.status}: {reply.payload[:120]!r}")


def _server_metadata(case: Case) -> None:
    reply = case.target.ask("GET", "/v2")
    expect(reply.status == 200, f"status {reply.status}")
    about = reply.object()
    for key in ("name", "version"):
        expect(isinstance(about.get(key), str), f"'{key}' is {about.get(key)!r}, no text")
    extensions = about.get("extensions")
    expect(isinstance(extensions, list), f"'extensions' is {extensions!r}, no list")
    expect(all(isinstance(name, str) for name in extensions or []), f"'extensions' is {extensions!r}")


def _json_content_type(case: Case) -> None:
    kind = case.target.ask("GET", "/v2").headers.get("content-type", "")
    expect(kind.partition(";")[0].strip() == "application/json", f"Content-Type is {kind!r}")


def _unknown_model(case: Case) -> None:
    check_refusal(case.target.ask("GET", model_path(_NOBODY)))


def _unknown_model_ready(case: Case) -> None:
    reply = case.target.ask("GET", f"{model_path(_NOBODY)}/ready")
    expect(400 <= reply.status < 500, f"status {reply.status}, not 4xx")


def _unknown_model_infer(case: Case) -> None:
    tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [0.0]}
    check_refusal(Case(case.target, _NOBODY).post({"inputs": [tensor]}))


def _unknown_version(case: Case) -> None:
    reply = case.target.ask("GET", model_path(case.model, "987654321"))
    if not case.version:
        raise NotTried("the model's metadata lists no versions")
    check_refusal(reply)


def _model_ready(case: Case) -> None:
    reply = case.target.ask("GET", f"{model_path(case.model)}/ready")
    expect(reply.status == 200, f"status {reply.status}")


def _model_metadata(case: Case) -> None:
    metadata = case.metadata
    expect(metadata.get("name") == case.model, f"'name' is {metadata.get('name')!r}")
    expect(isinstance(metadata.get("platform"), str), f"'platform' is {metadata.get('platform')!r}")
    versions = metadata.get("versions", [])
    expect(
        isinstance(versions, list) and all(isinstance(version, str) for version in versions),
        f"'versions' is {versions!r}, no list of texts",
    )
    for side in ("inputs", "outputs"):
        tensors = metadata.get(side)
        expect(isinstance(tensors, list), f"'{side}' is {tensors!r}, no list")
        for tensor in tensors or []:
            _check_spec(side, tensor)


def _check_spec(side: str, tensor: Any) -> None:  # from the server
    expect(isinstance(tensor, dict) and isinstance(tensor.get("name"), str), f"'{side}' holds {tensor!r}")
    expect(tensor.get("datatype") in DTYPES, f"{tensor['name']}: datatype {tensor.get('datatype')!r}")
    shape = tensor.get("shape")
    is_shape = isinstance(shape, list) and all(type(size) is int and size >= -1 for size in shape)
    expect(is_shape, f"{tensor['name']}: shape {shape!r}: sizes, with -1 for one that varies")


def _version_path(case: Case) -> None:
    if not case.version:
        raise NotTried("the model's metadata lists no versions")
    reply = case.target.ask("GET", model_path(case.model, case.version))
    expect(reply.status == 200, f"status {reply.status}: {reply.payload[:120]!r}")
    expect(reply.object().get("name") == case.model, "another model answers")
    ready = case.target.ask("GET", f"{model_path(case.model, case.version)}/ready")
    expect(ready.status == 200, f"/ready of the version gives {ready.status}")


_HEALTH, _SERVER, _MODEL = "REST: Health", "REST: Server Metadata", "REST: Model Metadata"
CHECKS = (
    Check("http.live", "the server is live", "GET v2/health/live is 200 where the server works", _HEALTH, _live,
          "server"),
    Check("http.ready", "the server is ready", "GET v2/health/ready is 200 where all models can be asked", _HEALTH,
          _ready, "server"),
    Check("http.server", "the server's metadata", "GET v2 has name, version and extensions", _SERVER,
          _server_metadata, "server"),
    Check("http.json-type", "metadata comes as JSON", "answers are JSON objects, named so", "REST", _json_content_type,
          "server"),
    Check("http.unknown-model", "an unknown model's metadata is a 4xx", "errors are 4xx with {error}", _MODEL,
          _unknown_model, "server"),
    Check("http.unknown-ready", "an unknown model is not ready", "not ready is a 4xx", _HEALTH, _unknown_model_ready,
          "server"),
    Check("http.unknown-infer", "asking an unknown model is a 4xx", "errors are 4xx with {error}", "REST: Inference",
          _unknown_model_infer, "server"),
    Check("http.model-ready", "the model is ready", "GET v2/models/{m}/ready is 200 where it can be asked", _HEALTH,
          _model_ready),
    Check("http.model", "the model's metadata", "name, platform, inputs and outputs with name, datatype, shape", _MODEL,
          _model_metadata),
    Check("http.version", "a version can be named in the path", "versions/{v} may follow the model's name", _MODEL,
          _version_path),
    Check("http.unknown-version", "an unknown version is a 4xx", "errors are 4xx with {error}", _MODEL,
          _unknown_version),
)  # fmt: skip
