"""Tensors in typed contents, and messages that say what can't be."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest
from tests.server.grpc.asking import ROWS, infer, request


def test_typed_contents_are_answered_with_typed_contents(channel: Any) -> None:
    built = InferRequest(model_name="double")
    built.inputs.add(name="x", datatype="FP32", shape=[2, 30]).contents.fp32_contents.extend(ROWS.ravel())
    answer = infer(channel)(built)
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp32_contents) == (2 * ROWS).ravel().tolist()


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"),
    [
        ("BOOL", "bool", [True, False]),
        ("INT8", "int8", [-128, 127]),
        ("INT64", "int64", [-(2**63), 2**63 - 1]),
        ("UINT16", "uint16", [0, 65535]),
        ("UINT64", "uint64", [0, 2**64 - 1]),
        ("FP64", "float64", [0.1, float("inf")]),
        ("BYTES", "string", [b"", "ß".encode()]),
    ],
)
def test_typed_values_keep_their_limits(channel: Any, datatype: str, dtype: str, values: list[Any]) -> None:
    field = {"BOOL": "bool", "INT8": "int", "INT64": "int64", "UINT16": "uint", "UINT64": "uint64", "FP64": "fp64"}
    built = InferRequest(model_name=f"echo-{dtype}")
    contents = built.inputs.add(name="x", datatype=datatype, shape=[1, 2]).contents
    getattr(contents, f"{field.get(datatype, 'bytes')}_contents").extend(values)
    answer = infer(channel)(built)
    assert list(getattr(answer.outputs[0].contents, f"{field.get(datatype, 'bytes')}_contents")) == values


def _mixed(built: Any) -> None:
    built.inputs[0].contents.fp32_contents.append(1)


def _too_few(built: Any) -> None:
    del built.raw_input_contents[:]


def _half(built: Any) -> None:
    del built.raw_input_contents[:]
    built.inputs[0].datatype = "FP16"


def _wrong_field(built: Any) -> None:
    del built.raw_input_contents[:]
    built.inputs[0].contents.int_contents.extend([1] * 60)


def _overflow(built: Any) -> None:
    del built.raw_input_contents[:]
    built.model_name = "echo-int8"
    built.inputs[0].datatype, built.inputs[0].shape[:] = "INT8", [1, 1]
    built.inputs[0].contents.int_contents.append(128)


def _twice(built: Any) -> None:
    built.inputs.append(built.inputs[0])
    built.raw_input_contents.append(built.raw_input_contents[0])


def _short(built: Any) -> None:
    built.raw_input_contents[0] = b"1234"


def _negative(built: Any) -> None:
    built.inputs[0].shape[0] = -1


def _nothing(built: Any) -> None:
    built.ClearField("inputs")


def _unknown_output(built: Any) -> None:
    built.outputs.add(name="nope")


def _bad_timeout(built: Any) -> None:
    built.parameters["timeout"].string_param = "soon"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_mixed, "contents beside raw_input_contents"),
        (_too_few, "0 values can't have shape"),
        (_half, "FP16 has no typed contents"),
        (_wrong_field, "values are in int_contents"),
        (_overflow, "does not fit INT8"),
        (_twice, "twice"),
        (_short, "4 bytes can't be FP32"),
        (_negative, "is not a shape"),
        (_nothing, "no inputs"),
        (_unknown_output, "no output is called 'nope'"),
        (_bad_timeout, "timeout"),
    ],
)
def test_what_can_not_be_read_is_an_invalid_argument(channel: Any, spoil: Callable[[Any], None], words: str) -> None:
    built = request()
    spoil(built)
    with pytest.raises(grpc.RpcError) as failure:
        infer(channel)(built)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in str(failure.value.details())


def test_bytes_that_are_no_message_are_an_invalid_argument(channel: Any) -> None:
    for size in (3, 100_000):
        with pytest.raises(grpc.RpcError) as failure:
            channel.unary_unary(f"/{INFERENCE}/ModelInfer")(b"\xff" * size)
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_method_that_is_not_there_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/inference.GRPCInferenceService/SystemSharedMemoryStatus")(b"")
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
