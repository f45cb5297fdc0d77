"""How each kind of server is asked, and how its answer is read and judged."""

import base64
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.serving._models import Questions
from benchmarks.serving._v2proto import METHOD, decode_answer, encode_infer, framed

_TENSORS = {"T": "rows", "M": "picture"}
_JSON = {"content-type": "application/json"}
_BYTES = {"content-type": "application/octet-stream"}
_FORM = "----ferryman-bench"
_SCORE_ERROR = 1e-4
_SAME_BOX = 0.9
_LEAST_FOUND = 0.95


@dataclass(frozen=True, slots=True)
class Ask:
    """Hold one request, and what reads the answer: `read(headers, body)` gives scores, or boxes for D."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    read: Callable[[Mapping[str, str], bytes], Any]  # an array, or a mapping with boxes
    is_grpc: bool = False


Form = Callable[[str, Questions], Ask]
"""Make the request of a load's kind: T, M, Mjson, D (or Tgrpc, Mgrpc)."""


def plain(kind: str, asked: Questions) -> Ask:
    """Ask as one would who writes the server: bare JSON, raw floats, a JPEG."""
    if kind == "T":
        return Ask("/T", _JSON, _dump({"rows": asked.row.tolist()}), _read_scores)
    if kind == "M":
        return Ask("/M", _BYTES, asked.tensor.tobytes(), _read_floats)
    if kind == "Mjson":
        return Ask("/Mjson", _JSON, _dump({"values": asked.tensor.ravel().tolist()}), _read_scores)
    if kind == "D":
        return Ask("/D", {"content-type": "image/jpeg"}, asked.jpeg, _read_boxes)
    return over_grpc(kind, asked)


def forms(kind: str, asked: Questions) -> Ask:
    """Ask as `plain` does, but bytes go as a file of a form."""
    ask = plain(kind, asked)
    if kind not in ("M", "D"):
        return ask
    head = f'--{_FORM}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
    body = (
        head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + ask.body + f"\r\n--{_FORM}--\r\n".encode()
    )
    read = _read_scores if kind == "M" else _read_boxes
    return Ask(ask.path, {"content-type": f"multipart/form-data; boundary={_FORM}"}, body, read)


def json_out(kind: str, asked: Questions) -> Ask:
    """Ask as `plain` does; M's scores come as JSON."""
    ask = plain(kind, asked)
    return Ask(ask.path, ask.headers, ask.body, _read_scores) if kind == "M" else ask


def v2_tensors(kind: str, asked: Questions) -> Ask:
    """Ask by the Open Inference Protocol: JSON for T and Mjson, the binary extension for M and D's JPEG."""
    if kind in ("T", "Mjson"):
        return _v2_json(kind[0], asked)
    if kind == "M":
        return _v2_binary("M", _described("picture", "FP32", asked.tensor.shape), asked.tensor.tobytes(), _read_v2)
    if kind == "D":
        element = struct.pack("<I", len(asked.jpeg)) + asked.jpeg
        return _v2_binary("D", _described("jpeg", "BYTES", (1,)), element, _read_v2_boxes)
    return over_grpc(kind, asked)


def v2_text_picture(kind: str, asked: Questions) -> Ask:
    """Ask as `v2_tensors` does, but D's JPEG goes in base64: for servers without binary tensors of bytes."""
    if kind != "D":
        return v2_tensors(kind, asked)
    tensor = _described("jpeg", "BYTES", (1,))
    tensor |= {"data": [base64.b64encode(asked.jpeg).decode()], "parameters": {"content_type": "base64"}}
    return Ask("/v2/models/D/infer", _JSON, json.dumps({"inputs": [tensor]}).encode(), _read_v2_boxes)


def ferryman(kind: str, asked: Questions) -> Ask:
    """Ask by the protocol, and D by posting the picture."""
    if kind == "D":
        return Ask("/v2/models/D/infer", {"content-type": "image/jpeg"}, asked.jpeg, _read_boxes)
    return v2_tensors(kind, asked)


def torchserve(kind: str, asked: Questions) -> Ask:
    """Ask as `plain` does, at TorchServe's addresses."""
    ask = plain(kind, asked)
    return Ask(f"/predictions{ask.path}", ask.headers, ask.body, ask.read)


def over_grpc(kind: str, asked: Questions) -> Ask:
    """Ask over gRPC, values raw."""
    model = kind.removesuffix("grpc")
    values = asked.row if model == "T" else asked.tensor
    headers = {"content-type": "application/grpc", "te": "trailers"}
    body = framed(encode_infer(model, _TENSORS[model], values))
    return Ask(METHOD, headers, body, lambda _, message: decode_answer(message), is_grpc=True)


def fault(kind: str, asked: Questions, answer: Any) -> str:  # an array, or a mapping with boxes
    """Say how an answer differs from ONNX Runtime's own; "" where it doesn't."""
    if kind == "D":
        return _fault_of_boxes(asked.found, answer)
    right = asked.scores[kind[0]].ravel()
    given = np.asarray(answer, np.float32).ravel()
    if given.shape != right.shape:
        return f"{given.size} scores, not {right.size}"
    error = float(np.abs(given - right).max())
    return "" if error <= _SCORE_ERROR else f"scores differ by {error:.2g}"


def _fault_of_boxes(right: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    boxes, others = np.array(right["boxes"]), np.array(given["boxes"]).reshape(-1, 4)
    if not len(others):
        return f"no boxes, not {len(boxes)}"
    low, high = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(2)
    areas, other_areas = (boxes[:, 2:] - boxes[:, :2]).prod(1), (others[:, 2:] - others[:, :2]).prod(1)
    overlap = shared / (areas[:, None] + other_areas[None] - shared)
    same = overlap * (np.array(right["classes"])[:, None] == np.array(given["classes"])[None])
    found = min((same.max(1) >= _SAME_BOX).mean(), (same.max(0) >= _SAME_BOX).mean())
    return "" if found >= _LEAST_FOUND else f"only {found:.0%} of the boxes agree"


def _v2_json(model: str, asked: Questions) -> Ask:
    values = asked.row if model == "T" else asked.tensor
    tensor = {**_described(_TENSORS[model], "FP32", values.shape), "data": values.ravel().tolist()}
    return Ask(f"/v2/models/{model}/infer", _JSON, _dump({"inputs": [tensor]}), _read_v2)


def _v2_binary(model: str, tensor: dict[str, Any], raw: bytes, read: Callable[[Mapping[str, str], bytes], Any]) -> Ask:
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {**_BYTES, "inference-header-content-length": str(len(head))}
    return Ask(f"/v2/models/{model}/infer", headers, head + raw, read)


def _described(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _dump(value: Any) -> bytes:
    # The values have six decimals; as float32 they have more digits than anyone would send.
    rounded = json.loads(json.dumps(value), parse_float=lambda digits: round(float(digits), 6))
    return json.dumps(rounded, separators=(",", ":")).encode()


def _read_scores(_: Mapping[str, str], body: bytes) -> Any:
    return json.loads(body)["scores"]


def _read_floats(_: Mapping[str, str], body: bytes) -> Any:
    return np.frombuffer(body, np.float32)


def _read_boxes(_: Mapping[str, str], body: bytes) -> Any:
    return _with_boxes(json.loads(body))


def _with_boxes(value: Any) -> Any:  # JSON: the first object that holds boxes
    if isinstance(value, dict) and "boxes" in value:
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for each in inner if (found := _with_boxes(each)) is not None), None)


def _read_v2(headers: Mapping[str, str], body: bytes) -> Any:
    head = int(headers.get("inference-header-content-length", len(body)))
    outputs = json.loads(body[:head])["outputs"]
    return outputs[0]["data"] if "data" in outputs[0] else np.frombuffer(body[head:], np.float32)


def _read_v2_boxes(headers: Mapping[str, str], body: bytes) -> Any:
    head = int(headers.get("inference-header-content-length", len(body)))
    output = json.loads(body[:head])["outputs"][0]
    text = output["data"][0] if "data" in output else body[head + 4 :]
    if (output.get("parameters") or {}).get("content_type") == "base64":
        text = base64.b64decode(text)
    return json.loads(text)
