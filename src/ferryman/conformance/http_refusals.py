"""Raw checks of what a server must refuse, and that it lives on afterwards."""

from collections.abc import Callable
from typing import Any

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.http_facts import check_refusal
from ferryman.conformance.tensors import Tensor

_JSON = {"Content-Type": "application/json"}
_Entries = list[dict[str, Any]]  # JSON


def _body(body: bytes) -> Callable[[Case], None]:
    return lambda case: check_refusal(case.post_bytes(body, _JSON))


def _changed(change: Callable[[_Entries], Any]) -> Callable[[Case], None]:
    """Make a check that asks with inputs of which one thing was made wrong."""

    def run(case: Case) -> None:
        case.need_json()
        entries = [tensor.to_json() for tensor in case.inputs]
        change(entries)
        check_refusal(case.post({"inputs": entries}))

    return run


def _missing_input(case: Case) -> None:
    case.need_json()
    if len(case.inputs) < 2:
        raise NotTried("the model has one input")
    check_refusal(case.ask_json(case.inputs[:-1]))


def _wrong_rank(case: Case) -> None:
    case.need_json()
    first = case.inputs[0]
    reply = case.ask_json([Tensor(first.name, first.datatype, first.array[None]), *case.inputs[1:]])
    check_refusal(reply)


def _wrong_size(case: Case) -> None:
    case.need_json()
    spec = next((spec for spec in case.specs("inputs") if any(size > 0 for size in spec["shape"][1:])), None)
    if spec is None:
        raise NotTried("no input has a fixed size behind the first")
    changed = [_grown(tensor) if tensor.name == spec["name"] else tensor for tensor in case.inputs]
    check_refusal(case.ask_json(changed))


def _grown(tensor: Tensor) -> Tensor:
    return Tensor(tensor.name, tensor.datatype, tensor.array.repeat(2, axis=-1))


def _unknown_output(case: Case) -> None:
    case.need_json()
    check_refusal(case.ask_json(case.inputs, outputs=[{"name": "no-such-output"}]))


def _lives(case: Case) -> None:
    reply = case.target.ask("GET", "/v2/health/live")
    expect(reply.status == 200, f"/v2/health/live gives {reply.status} after all that was refused")
    expect(case.ask_json(case.inputs).status == 200, "the model answers no more")


_ERRORS, _SHAPE = "REST: Inference (error)", "Tensor Data"
CHECKS = (
    Check("refuse.not-json", "what is no JSON is a 4xx", "errors are 4xx with {error}", _ERRORS,
          _body(b'{"inputs": [')),
    Check("refuse.not-object", "a JSON list is a 4xx", "the request is an object", _ERRORS, _body(b"[]")),
    Check("refuse.no-inputs", "a request without inputs is a 4xx", "inputs are required", _ERRORS, _body(b"{}")),
    Check("refuse.no-shape", "an input without a shape is a 4xx", "shape is required", _ERRORS,
          _changed(lambda entries: entries[0].pop("shape"))),
    Check("refuse.no-data", "an input without data is a 4xx", "data is required", _ERRORS,
          _changed(lambda entries: entries[0].pop("data"))),
    Check("refuse.datatype", "an unknown datatype is a 4xx", "datatypes are those of the list", "Tensor Data Types",
          _changed(lambda entries: entries[0].update(datatype="FP99"))),
    Check("refuse.short", "fewer values than the shape says is a 4xx", "data fills the shape", _SHAPE,
          _changed(lambda entries: entries[0].update(data=entries[0]["data"][:-1]))),
    Check("refuse.long", "more values than the shape says is a 4xx", "data fills the shape", _SHAPE,
          _changed(lambda entries: entries[0].update(data=entries[0]["data"] * 2))),
    Check("refuse.negative", "a negative size is a 4xx", "shapes hold sizes", _SHAPE,
          _changed(lambda entries: entries[0].update(shape=[-1] * len(entries[0]["shape"])))),
    Check("refuse.rank", "one dimension too many is a 4xx", "inputs have the metadata's shape", _SHAPE, _wrong_rank),
    Check("refuse.size", "a wrong size is a 4xx", "inputs have the metadata's shape", _SHAPE, _wrong_size),
    Check("refuse.unknown-input", "an input that the model lacks is a 4xx", "inputs have the metadata's names", _ERRORS,
          _changed(lambda entries: entries[0].update(name="no-such-input"))),
    Check("refuse.missing-input", "a missing input is a 4xx", "all inputs are given", _ERRORS, _missing_input),
    Check("refuse.unknown-output", "an output that the model lacks is a 4xx", "outputs have the metadata's names",
          _ERRORS, _unknown_output),
    Check("refuse.lives", "the server lives on", "an error ends one request, nothing else", _ERRORS, _lives),
)  # fmt: skip
