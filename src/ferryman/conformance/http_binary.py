"""Raw checks of the binary tensor extension."""

from collections.abc import Callable

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import JSON_LENGTH, Case
from ferryman.conformance.check import Check
from ferryman.conformance.http_facts import check_refusal
from ferryman.conformance.tensors import compare

EXTENSION = "binary_tensor_data"


def _in(case: Case) -> None:
    compare(case.wanted, case.outputs_of(case.ask_binary(case.inputs, is_binary_out=False)), way="binary in")


def _both(case: Case) -> None:
    reply = case.ask_binary(case.inputs, is_binary_out=True)
    compare(case.wanted, case.outputs_of(reply), way="binary in and out")
    expect(JSON_LENGTH in reply.headers, "a binary answer has no Inference-Header-Content-Length")


def _out(case: Case) -> None:
    case.need_json()
    reply = case.ask_json(case.inputs, parameters={"binary_data_output": True})
    compare(case.wanted, case.outputs_of(reply), way="JSON in, binary out")
    expect(JSON_LENGTH in reply.headers, "binary_data_output gives no binary answer")


def _one_output(case: Case) -> None:
    first, *others = case.wanted
    asked = [{"name": first, "parameters": {"binary_data": True}}, *({"name": name} for name in others)]
    reply = case.ask_binary(case.inputs, is_binary_out=False, outputs=asked)
    compare(case.wanted, case.outputs_of(reply), way="one binary output")
    expect(JSON_LENGTH in reply.headers, "binary_data: true gives no binary answer")


def _overruled(case: Case) -> None:
    asked = [{"name": name, "parameters": {"binary_data": False}} for name in case.wanted]
    reply = case.ask_binary(case.inputs, is_binary_out=True, outputs=asked)
    compare(case.wanted, case.outputs_of(reply), way="binary_data: false")
    declared = int(reply.headers.get(JSON_LENGTH, len(reply.payload)))
    expect(declared == len(reply.payload), "an output that asked for JSON came as bytes")


def _mixed(case: Case) -> None:
    case.need_json()
    if len(case.inputs) < 2:
        raise NotTried("the model has one input")
    payload = case.inputs[0].to_bytes()
    entry = {**case.inputs[0].head(), "parameters": {"binary_data_size": len(payload)}}
    request = {"inputs": [entry, *(tensor.to_json() for tensor in case.inputs[1:])]}
    compare(case.wanted, case.outputs_of(case.post_binary(request, payload)), way="one input binary, others JSON")


def _request(case: Case, *, extra_bytes: int) -> tuple[dict[str, object], bytes]:
    """Give a request whose first input declares so many bytes more than its tensor has."""
    payloads = [tensor.to_bytes() for tensor in case.inputs]
    sizes = [len(payload) for payload in payloads]
    sizes[0] += extra_bytes
    entries = [
        {**tensor.head(), "parameters": {"binary_data_size": size}}
        for tensor, size in zip(case.inputs, sizes, strict=True)
    ]
    return {"inputs": entries}, b"".join(payloads)


def _bytes_missing(case: Case) -> None:
    request, blob = _request(case, extra_bytes=0)
    check_refusal(case.post_binary(request, blob[:-1]))


def _bytes_left(case: Case) -> None:
    request, blob = _request(case, extra_bytes=0)
    check_refusal(case.post_binary(request, blob + b"\0\0\0\0"))


def _size_not_of_shape(case: Case) -> None:
    request, blob = _request(case, extra_bytes=4)
    check_refusal(case.post_binary(request, blob + b"\0\0\0\0"))


def _length_too_long(case: Case) -> None:
    request, blob = _request(case, extra_bytes=0)
    check_refusal(case.post_binary(request, blob, json_length=10**9))


def _length_no_number(case: Case) -> None:
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "many"}
    check_refusal(case.post_bytes(b"{}", headers))


def _texts_cut(case: Case) -> None:
    if case.inputs[0].datatype != "BYTES" or len(case.inputs) != 1:
        raise NotTried("the model's only input is not BYTES")
    entry = {**case.inputs[0].head(), "parameters": {"binary_data_size": 6}}
    check_refusal(case.post_binary({"inputs": [entry]}, b"\xff\0\0\0ab"))


_WHERE = "Binary Tensor Data Extension"


def _check(name: str, title: str, says: str, run: Callable[[Case], None]) -> Check:
    return Check(f"binary.{name}", title, says, _WHERE, run, extension=EXTENSION)


CHECKS = (
    _check("in", "bytes in, JSON out", "binary_data_size bytes behind the JSON hold the tensor", _in),
    _check("both", "bytes in, bytes out", "the answer's header gives the length of its JSON", _both),
    _check("out", "JSON in, bytes out", "binary_data_output asks for bytes of all outputs", _out),
    _check("one-output", "bytes for one output", "binary_data asks for bytes of one output", _one_output),
    _check("overrule", "an output's own wish wins", "binary_data overrules binary_data_output", _overruled),
    _check("mixed", "bytes beside JSON", "each input is in the one form or the other", _mixed),
    _check("missing", "too few bytes are a 4xx", "the body holds all declared bytes", _bytes_missing),
    _check("left", "bytes of no tensor are a 4xx", "the body holds nothing else", _bytes_left),
    _check("size", "bytes that don't fill the shape are a 4xx", "the size is that of the tensor", _size_not_of_shape),
    _check("length", "a JSON length over the body is a 4xx", "the header gives the JSON's length", _length_too_long),
    _check("no-length", "a JSON length that is no number is a 4xx", "the header holds a number", _length_no_number),
    _check("texts", "a text over the end is a 4xx", "each text is behind its 4-byte length", _texts_cut),
)
