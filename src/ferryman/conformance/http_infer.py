"""Raw checks of inference with JSON."""

import json

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.tensors import NOT_IN_JSON, compare


def _flat(case: Case) -> None:
    case.need_json()
    reply = case.ask_json(case.inputs)
    answer = reply.object()
    expect(answer.get("model_name") == case.model, f"'model_name' is {answer.get('model_name')!r}")
    version = answer.get("model_version")
    expect(version is None or isinstance(version, str), f"'model_version' is {version!r}, no text")
    compare(case.wanted, case.outputs_of(reply), way="asking again")


def _as_described(case: Case) -> None:
    described = {str(spec["name"]): spec for spec in case.specs("outputs")}
    for name, tensor in case.wanted.items():
        expect(name in described, f"output '{name}' is not in the metadata")
        spec = described[name]
        expect(tensor.datatype == spec["datatype"], f"output '{name}' is {tensor.datatype}, not {spec['datatype']}")
        fits = len(tensor.shape) == len(spec["shape"]) and all(
            want in (-1, got) for want, got in zip(spec["shape"], tensor.shape, strict=True)
        )
        expect(fits, f"output '{name}' has shape {tensor.shape}; the metadata says {spec['shape']}")


def _nested(case: Case) -> None:
    case.need_json()
    compare(case.wanted, case.outputs_of(case.ask_json(case.inputs, is_nested=True)), way="nested data")


def _request_id(case: Case) -> None:
    case.need_json()
    answer = case.ask_json(case.inputs, id="a-name-of-ours").object()
    expect(answer.get("id") == "a-name-of-ours", f"'id' is {answer.get('id')!r}")


def _requested_outputs(case: Case) -> None:
    case.need_json()
    first = next(iter(case.wanted))
    got = case.outputs_of(case.ask_json(case.inputs, outputs=[{"name": first}]))
    compare({first: case.wanted[first]}, got, way="one output asked for")


def _no_outputs_asked(case: Case) -> None:
    case.need_json()
    compare(case.wanted, case.outputs_of(case.ask_json(case.inputs, outputs=[])), way="an empty list of outputs")


def _empty_parameters(case: Case) -> None:
    case.need_json()
    compare(case.wanted, case.outputs_of(case.ask_json(case.inputs, parameters={})), way="empty parameters")


def _version(case: Case) -> None:
    case.need_json()
    if not case.version:
        raise NotTried("the model's metadata lists no versions")
    reply = case.ask_json(case.inputs, version=case.version)
    compare(case.wanted, case.outputs_of(reply), way="asking a version")
    said = reply.object().get("model_version")
    expect(said in (None, case.version), f"'model_version' is {said!r} where {case.version!r} was asked")


def _any_input_order(case: Case) -> None:
    case.need_json()
    if len(case.inputs) < 2:
        raise NotTried("the model has one input")
    compare(case.wanted, case.outputs_of(case.ask_json(case.inputs[::-1])), way="inputs in another order")


def _half_in_json(case: Case) -> None:
    halves = [tensor for tensor in case.inputs if tensor.datatype in NOT_IN_JSON]
    if not halves:
        raise NotTried("the model takes neither FP16 nor BF16")
    reply = case.ask_json(case.inputs)
    if 400 <= reply.status < 500:
        return  # refusing what has no sound form is right
    compare(case.wanted, case.outputs_of(reply), way=f"{halves[0].datatype} in JSON")


def _texts_in_json(case: Case) -> None:
    texts = [tensor for tensor in case.inputs if tensor.datatype == "BYTES"]
    if not texts:
        raise NotTried("the model takes no BYTES")
    case.need_json()
    wrong = [tensor.to_json() for tensor in case.inputs]
    for entry in wrong:
        if entry["datatype"] == "BYTES":
            entry["data"] = [{} for _ in entry["data"]]
    reply = case.post({"inputs": wrong})
    expect(400 <= reply.status < 500, f"objects in the place of texts give {reply.status}, not 4xx")


def _spaces_and_order(case: Case) -> None:
    case.need_json()
    spaced = json.dumps({"id": "x", "inputs": [tensor.to_json() for tensor in case.inputs]}, indent=2)
    reply = case.post_bytes(b" \n" + spaced.encode() + b"\n ", {"Content-Type": "application/json"})
    compare(case.wanted, case.outputs_of(reply), way="JSON with spaces")


_INFER, _DATA = "REST: Inference", "Tensor Data"
CHECKS = (
    Check("infer.json", "JSON in, JSON out", "POST .../infer answers {model_name, outputs}", _INFER, _flat),
    Check("infer.described", "outputs are as described", "outputs have the metadata's names, datatypes and shapes",
          "REST: Model Metadata", _as_described),
    Check("infer.nested", "nested data is as good as flat", "data is row-major, flat or nested as the shape", _DATA,
          _nested),
    Check("infer.id", "the request's id comes back", "a given id is returned", _INFER, _request_id),
    Check("infer.outputs", "only the outputs that were asked for", "outputs name what is returned", _INFER,
          _requested_outputs),
    Check("infer.no-outputs", "an empty list asks for all", "without outputs all of them are returned", _INFER,
          _no_outputs_asked),
    Check("infer.parameters", "empty parameters change nothing", "parameters are optional", "Parameters",
          _empty_parameters),
    Check("infer.version", "one version is asked", "versions/{v}/infer asks that version", _INFER, _version),
    Check("infer.order", "inputs go by name, not by place", "each input has a name", _INFER, _any_input_order),
    Check("infer.spaces", "any spelling of JSON", "the body is a JSON object", _INFER, _spaces_and_order),
    Check("infer.half", "FP16 and BF16 in JSON are right or refused", "they have no sound form in JSON", _DATA,
          _half_in_json),
    Check("infer.texts", "BYTES in JSON are texts", "BYTES are JSON strings", _DATA, _texts_in_json),
)  # fmt: skip
