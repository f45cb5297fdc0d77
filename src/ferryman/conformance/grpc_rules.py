"""Checks of gRPC's own rules with bare messages: typed contents, raw contents, and never both."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ferryman.conformance.broken import Broken, NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.clients import open_stub
from ferryman.conformance.tensors import Tensor, compare, from_bytes

_FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def _grpc() -> Any:  # a module without types
    return importlib.import_module("grpc")


def _ask(case: Case, request: Any) -> Any:  # protobuf messages
    with open_stub(case) as (stub, options):
        return stub.ModelInfer(request, **options)


def _request(case: Case, *, is_typed: bool, is_raw: bool) -> Any:  # protobuf message
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=case.model)
    for tensor in case.inputs:
        one = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if is_typed:
            if tensor.datatype not in _FIELDS:
                raise NotTried(f"{tensor.datatype} has no typed contents: it must be raw")
            getattr(one.contents, _FIELDS[tensor.datatype]).extend(tensor.array.ravel().tolist())
        if is_raw:
            request.raw_input_contents.append(tensor.to_bytes())
    return request


def _outputs_of(answer: Any) -> dict[str, Tensor]:  # protobuf message
    raw = list(answer.raw_output_contents)
    expect(not raw or len(raw) == len(answer.outputs), f"{len(raw)} raw contents for {len(answer.outputs)} outputs")
    outputs = {}
    for place, output in enumerate(answer.outputs):
        if raw:
            expect(output.contents.ByteSize() == 0, f"output '{output.name}' has typed and raw contents")
            entry = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
            outputs[output.name] = from_bytes(entry, raw[place])
            continue
        values = list(getattr(output.contents, _FIELDS.get(output.datatype, "bytes_contents")))
        array = np.array(values, object if output.datatype == "BYTES" else None).reshape(list(output.shape))
        outputs[output.name] = Tensor(output.name, output.datatype, array)
    return outputs


def _typed(case: Case) -> None:
    answer = _ask(case, _request(case, is_typed=True, is_raw=False))
    compare(case.wanted, _outputs_of(answer), way="typed contents")


def _raw(case: Case) -> None:
    answer = _ask(case, _request(case, is_typed=False, is_raw=True))
    compare(case.wanted, _outputs_of(answer), way="raw contents")


def _both(case: Case) -> None:
    _expect_invalid(case, _request(case, is_typed=True, is_raw=True))


def _too_few_raw(case: Case) -> None:
    request = _request(case, is_typed=False, is_raw=True)
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
    _expect_invalid(case, request)


def _raw_missing(case: Case) -> None:
    request = _request(case, is_typed=False, is_raw=True)
    del request.raw_input_contents[-1]
    _expect_invalid(case, request)


def _unknown_datatype(case: Case) -> None:
    request = _request(case, is_typed=False, is_raw=True)
    request.inputs[0].datatype = "FP99"
    _expect_invalid(case, request)


def _unknown_output(case: Case) -> None:
    request = _request(case, is_typed=False, is_raw=True)
    request.outputs.add(name="no-such-output")
    _expect_invalid(case, request)


def _expect_invalid(case: Case, request: Any) -> None:  # protobuf message
    grpc = _grpc()
    try:
        _ask(case, request)
    except grpc.RpcError as error:
        code = error.code()
        if code is not grpc.StatusCode.INVALID_ARGUMENT:
            raise Broken(f"status {code.name}, not INVALID_ARGUMENT: {error.details()}") from None
        return
    raise Broken("it is answered as if it were right")


_WHERE = "GRPC: Tensor Data"


def _check(name: str, title: str, says: str, run: Callable[[Case], None]) -> Check:
    return Check(f"grpc.{name}", title, says, _WHERE, run, needs_grpc=True)


CHECKS = (
    _check("typed", "typed contents", "contents has one field for each kind of datatype", _typed),
    _check("raw", "raw contents", "raw_input_contents hold the inputs in their order", _raw),
    _check("both", "typed and raw together are INVALID_ARGUMENT", "contents must be empty beside raw contents", _both),
    _check(
        "short", "raw contents that don't fill the shape are INVALID_ARGUMENT", "bytes fill the shape", _too_few_raw
    ),
    _check("missing", "a missing raw content is INVALID_ARGUMENT", "one for each input", _raw_missing),
    _check("datatype", "an unknown datatype is INVALID_ARGUMENT", "datatypes are those of the list", _unknown_datatype),
    _check("output", "an unknown output is INVALID_ARGUMENT", "outputs have the metadata's names", _unknown_output),
)
