"""The protocol's tensors in protobuf, to numpy and back: raw bytes, or values in typed fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from ferryman.core.errors import InputError
from ferryman.core.signature import Array
from ferryman.server.data.ask import Priority, Reply
from ferryman.server.data.grpc.messages import InferRequest, InferResponse
from ferryman.server.data.grpc.outbox import Part
from ferryman.server.data.grpc.wire import sized_field, split_field
from ferryman.server.data.v2.codec import check_count, check_shape, datatype_of, dtype_of, encode_binary, misfit
from ferryman.server.data.v2.messages import decode_bytes, priority_of, refuse_sequence, timeout_of
from ferryman.server.data.wording import count

_RAW_INPUTS: Final = 7
_RAW_OUTPUTS: Final = 6
_LARGE_BYTES: Final = 32 * 1024
_FIELDS: Final = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_PACKED: Final = {"FP32": 6, "FP64": 7}  # fields whose bytes on the wire are the array's


@dataclass(slots=True, eq=False)
class InferenceRequest:
    """Hold a decoded request; `is_typed` tells that its tensors came as values, and so shall the answer's."""

    model: str
    version: str
    id: str
    tensors: dict[str, Array]
    outputs: tuple[str, ...] | None
    timeout_s: float
    priority: Priority
    is_typed: bool


def parse_request(message: Part) -> tuple[Any, list[memoryview]]:  # a ModelInferRequest
    """Read a request's protobuf and the raw inputs that were too large to copy; raises InputError."""
    raw: list[memoryview] = []
    if len(message) > _LARGE_BYTES:
        message, raw = split_field(message, _RAW_INPUTS)
    try:
        return InferRequest.FromString(message), raw
    except DecodeError:
        raise InputError(
            "the message is no ModelInferRequest", hint="is it serialized with the protocol's .proto?"
        ) from None


def decode_request(request: Any, raw: Sequence[Part]) -> InferenceRequest:  # a ModelInferRequest
    """Decode what `parse_request` read; raises InputError."""
    raw = raw or request.raw_input_contents
    if not request.inputs:
        raise InputError("the request has no inputs", hint="add one for each input that ModelMetadata tells")
    parameters = _parameters(request) if request.parameters else {}
    refuse_sequence(parameters)
    return InferenceRequest(
        model=request.model_name,
        version=request.model_version,
        id=request.id,
        tensors=_decode_raw(request.inputs, raw) if raw else _decode_typed(request.inputs),
        outputs=_outputs(request.outputs) if request.outputs else None,
        timeout_s=timeout_of(parameters) if parameters else inf,
        priority=priority_of(parameters) if parameters else Priority.NORMAL,
        is_typed=not raw,
    )


def encode_reply(asked: InferenceRequest, reply: Reply) -> list[bytes]:
    """Give a ModelInferResponse's bytes, in parts that follow each other."""
    outputs = reply.outputs or {}
    if asked.outputs is not None:
        outputs = {name: outputs[name] for name in asked.outputs}
    head_id = sized_field(3, len(asked.id.encode())) + asked.id.encode() if asked.id else b""
    if asked.is_typed and all(datatype_of(array) in _FIELDS for array in outputs.values()):
        return [_encode_typed(reply, outputs) + head_id]
    described = tuple([(name, datatype_of(array), array.shape) for name, array in outputs.items()])
    parts = [_describe(reply.model, reply.version, described) + head_id]
    size = len(parts[0])
    for array in outputs.values():
        payload = encode_binary(array)  # a copy: the array may lie in memory that is used again
        parts += (sized_field(_RAW_OUTPUTS, len(payload)), payload)
        size += len(payload)
    return parts if size > _LARGE_BYTES else [b"".join(parts)]


def _decode_raw(inputs: Any, raw: Sequence[Part]) -> dict[str, Array]:  # protobuf's list of InferInputTensor
    if len(raw) != len(inputs):
        raise InputError(
            f"{len(raw)} raw_input_contents for {count(len(inputs), 'input')}",
            hint="one for each input, in the same order",
        )
    tensors: dict[str, Array] = {}
    for tensor, payload in zip(inputs, raw, strict=True):
        name = _new_name(tensor, tensors)
        if tensor.HasField("contents"):
            raise InputError(f"input '{name}' has contents beside raw_input_contents", hint="send one of both")
        tensors[name] = decode_bytes(name, tensor.datatype, check_shape(name, list(tensor.shape)), memoryview(payload))
    return tensors


def _decode_typed(inputs: Any) -> dict[str, Array]:  # protobuf's list of InferInputTensor
    tensors: dict[str, Array] = {}
    for tensor in inputs:
        name = _new_name(tensor, tensors)
        tensors[name] = _decode_contents(name, tensor)
    return tensors


def _decode_contents(name: str, tensor: Any) -> Array:  # an InferInputTensor
    datatype, shape = tensor.datatype, check_shape(name, list(tensor.shape))
    if datatype in ("FP16", "BF16"):
        raise InputError(f"input '{name}': {datatype} has no typed contents", hint="send raw_input_contents")
    dtype = dtype_of(name, datatype)
    wanted = _FIELDS[datatype]
    if wrong := [field.name for field, _ in tensor.contents.ListFields() if field.name != wanted]:
        raise InputError(f"input '{name}': {datatype} values are in {wrong[0]}", hint=f"they belong into {wanted}")
    values = getattr(tensor.contents, wanted)
    check_count(name, shape, len(values))
    if datatype in _PACKED and values:
        packed = tensor.contents.SerializeToString()  # the field's number and size, then what an array holds
        array: Array = np.frombuffer(packed, dtype, len(values), len(packed) - len(values) * dtype.itemsize)
        array = array if array.flags.aligned else array.copy()
    elif datatype == "BYTES":
        array = np.array(_texts(name, values), dtype=object)
    else:
        array = _whole_numbers(name, datatype, dtype, values)
    try:
        return array.reshape(shape)
    except ValueError:  # an empty array whose other sizes are absurd
        raise InputError(f"input '{name}': {list(shape)} is too large a shape") from None


def _whole_numbers(name: str, datatype: str, dtype: np.dtype[Any], values: Any) -> Array:  # protobuf's list
    wide = np.fromiter(values, bool if dtype.kind == "b" else f"{dtype.kind}8", len(values))
    array: Array = wide.astype(dtype, copy=False)
    if dtype.itemsize < 4 and not np.array_equal(array, wide):
        raise misfit(name, dtype, wide.tolist())
    return array


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    texts: list[str] = []
    for value in values:
        try:
            texts.append(value.decode())
        except UnicodeDecodeError as error:
            raise InputError(f"input '{name}': text {len(texts)} is not UTF-8: {error.reason}") from None
    return texts


def _new_name(tensor: Any, taken: Mapping[str, Array]) -> str:  # an InferInputTensor
    name: str = tensor.name
    if name in taken:
        raise InputError(f"'{name}' is twice in 'inputs'", hint="give each name once")
    return name


def _outputs(outputs: Any) -> tuple[str, ...]:  # protobuf's list of InferRequestedOutputTensor
    names = tuple(output.name for output in outputs)
    if len(set(names)) != len(names):
        raise InputError("an output is asked for twice", hint="name each output once")
    for output in outputs:
        if output.parameters and output.parameters["classification"].int64_param:
            raise InputError(f"output '{output.name}': classification is not offered", hint="ask for the tensor")
    return names


def _parameters(request: Any) -> dict[str, Any]:  # a ModelInferRequest; bool, int, float or str
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
        for name, value in request.parameters.items()
    }


@lru_cache(maxsize=1024)
def _describe(model: str, version: str, outputs: tuple[tuple[str, str, tuple[int, ...]], ...]) -> bytes:
    response = InferResponse(model_name=model, model_version=version)
    for name, datatype, shape in outputs:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    encoded: bytes = response.SerializeToString()
    return encoded


def _encode_typed(reply: Reply, outputs: Mapping[str, Array]) -> bytes:
    response = InferResponse(model_name=reply.model, model_version=reply.version)
    for name, array in outputs.items():
        datatype = datatype_of(array)
        output = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if datatype in _PACKED:
            payload = encode_binary(array)
            output.contents.MergeFromString(sized_field(_PACKED[datatype], len(payload)) + payload)
        elif datatype == "BYTES":
            output.contents.bytes_contents.extend(
                [text if isinstance(text, bytes) else str(text).encode() for text in array.flat]
            )
        else:
            getattr(output.contents, _FIELDS[datatype]).extend(array.ravel().tolist())
    encoded: bytes = response.SerializeToString()
    return encoded
