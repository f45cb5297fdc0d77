"""What is wrong with a request, and the way out, in the words of HTTP and gRPC: read as a caller would."""

from typing import Any

import grpc
import pytest

from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse
from tests.server.running import Running

_FORM = "application/x-www-form-urlencoded"
_TABLE = """it takes JSON (-H 'Content-Type: application/json'), as {"rows":[{"width":0,"height":0,"weight":0}]} or"""
_PICTURE = "it takes a picture's bytes (-H 'Content-Type: image/jpeg' --data-binary @FILE), or JSON"


@pytest.mark.parametrize(
    ("model", "content_type", "body", "words"),
    [
        ("table", _FORM, b"width=1", ("(curl -d sends it unless told otherwise)", "'table'", _TABLE)),
        ("table", "text/xml", b"<row/>", ("'text/xml' is nothing that model 'table' takes", _TABLE)),
        ("table", "image/jpeg", b"\xff\xd8\xff", ("model 'table' doesn't take pictures", _TABLE)),
        ("colour", _FORM, b"\xff\xd8\xff", (_FORM, _PICTURE)),
        (
            "colour",
            "multipart/form-data; boundary=x",
            b"--x",
            ("'multipart/form-data' is nothing that model", _PICTURE),
        ),
        ("affine", "text/plain", b"1", ('{"name":"values","datatype":"FP32","shape":[1,3],"data":[0,0,0]}',)),
    ],
)
def test_a_content_type_that_is_not_taken_is_answered_with_those_that_are(
    server: Running, model: str, content_type: str, body: bytes, words: tuple[str, ...]
) -> None:
    status, answer, _ = server.ask("POST", f"/v2/models/{model}/infer", body, {"Content-Type": content_type})
    assert status == 415
    for word in words:
        assert word in answer["error"]


def test_a_form_that_holds_json_is_read_as_json(server: Running) -> None:
    body = b' {"rows": [{"width": 1, "height": 2, "weight": 0.5}]}'
    assert server.ask("POST", "/v2/models/table/infer", body, {"Content-Type": _FORM})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v2/models", 404, "POST /v2/repository/index lists the models"),
        ("POST", "/v2/models/affine/infer/", 404, "perhaps /v2/models/affine/infer, without the last slash"),
        ("POST", "/predict", 404, "nothing is at '/predict'; this server has /v2"),
        ("GET", "/v2/models/affine/infer", 405, "GET can't be used at '/v2/models/affine/infer'; it takes POST"),
    ],
)
def test_a_wrong_address_is_answered_with_the_right_one(
    server: Running, method: str, path: str, status: int, words: str
) -> None:
    got, answer, _ = server.ask(method, path, b"{}" if method == "POST" else None)
    assert got == status
    assert words in answer["error"]


@pytest.mark.parametrize("kind", [_FORM, "application/json", ""])
@pytest.mark.parametrize("body", [b"null", b"[]", b" 12.5 ", b'"text"', b"true"])
def test_json_that_is_no_object_is_one_mistake_whatever_it_is_called(server: Running, body: bytes, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    status, answer, _ = server.ask("POST", "/v2/models/table/infer", body, headers)
    words = f"the request is not a JSON object but {body.decode().strip()}; send"
    assert (status, answer["error"][: len(words)]) == (400, words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"no picture", "picture 1 is not a picture that can be read: it looks like text: 'no picture'"),
        (b"", "picture 1 is empty (0 bytes)"),
        (b"\xff\xd8\xff\xe0abc", "picture 1 is a JPEG that is cut off"),
    ],
)
def test_what_is_no_picture_is_named(server: Running, body: bytes, words: str) -> None:
    status, answer, _ = server.ask("POST", "/v2/models/colour/infer", body, {"Content-Type": "image/jpeg"})
    assert (status, answer["error"][: len(words)]) == (400, words)


_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"model": "afine"}, "no model is called 'afine'; this server has affine"),
    "a sequence": ({"sequence_id": 7}, "parameter 'sequence_id' is 7, and sequences of requests are not offered"),
    "another name": ({"name": "x"}, "no input is called 'x'; this model takes 'values' FP32 [-1, 3]"),
    "another datatype": ({"datatype": "FP64", "field": "fp64_contents"}, "'values' is FP64; the model takes FP32"),
    "an unknown datatype": ({"datatype": "float"}, 'unknown datatype "float"; one of BOOL'),
    "no datatype": ({"datatype": ""}, "input 'values' has no 'datatype'"),
    "another shape": ({"shape": [3]}, "'values' has shape [3]; the model takes [-1, 3]; -1 stands for any size"),
    "a value too few": ({"values": [1]}, "1 value can't have shape [1, 3]; that takes 3 values"),
    "a negative size": ({"shape": [-1, 3]}, "[-1, 3] is not a shape; a list of"),
    "another field": ({"field": "int_contents"}, "values are in int_contents; they belong into fp32_contents"),
    "too few bytes": ({"raw": [b"12345678"]}, "8 bytes can't be FP32 [1, 3]; that takes 12 bytes"),
    "too many tensors of bytes": ({"raw": [b"", b""]}, "2 raw_input_contents for 1 input; one for each"),
    "an unknown output": ({"output": "total"}, "no output is called 'total'; this model gives 'sum'"),
    "a row with a gap": ({"model": "table", "name": "rows", "values": [1, float("nan"), 2]}, "'height' is empty"),
    "a number that does not fit": (
        {"model": "zoo", "name": "in_UINT8", "datatype": "UINT8", "shape": [2, 1], "values": [1, 300],
         "field": "uint_contents"},
        "300 does not fit UINT8; it holds 0 to 255",
    ),
}  # fmt: skip


def _call(
    model: str = "affine",
    name: str = "values",
    datatype: str = "FP32",
    **more: Any,  # shape, values, field, raw and output
) -> Any:  # a ModelInferRequest
    request = InferRequest(model_name=model, raw_input_contents=more.get("raw", []))
    tensor = request.inputs.add(name=name, datatype=datatype, shape=more.get("shape", [1, 3]))
    if "raw" not in more:
        getattr(tensor.contents, more.get("field", "fp32_contents")).extend(more.get("values", [1, 2, 3]))
    if "sequence_id" in more:
        request.parameters["sequence_id"].int64_param = more["sequence_id"]
    if "output" in more:
        request.outputs.add(name=more["output"])
    return request


@pytest.mark.parametrize("case", _CALLS)
def test_a_wrong_call_is_told_what_is_wrong_and_the_way_out(server: Running, case: str) -> None:
    given, words = _CALLS[case]
    with grpc.insecure_channel(server.address) as opened:
        channel: Any = opened  # its stubs know no calls of plain messages
        ask = channel.unary_unary(f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, InferResponse.FromString)
        with pytest.raises(grpc.RpcError) as caught:
            ask(_call(**given), timeout=20)
    told: Any = caught.value  # a grpc.Call, too
    assert told.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
    assert words in told.details()


def test_statistics_have_counts_and_times(server: Running) -> None:
    tensor = {"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    assert server.infer("affine", {"inputs": [tensor]})[0] == 200
    status, answer, _ = server.ask("GET", "/v2/models/affine/stats")
    stats = answer["model_stats"][0]["inference_stats"]
    assert status == 200 and set(stats) == {
        "success", "fail", "queue", "compute_input", "compute_infer", "compute_output",
    }  # fmt: skip
    assert stats["compute_infer"]["ns"] > 0 and stats["success"]["count"] == stats["compute_infer"]["count"] > 0
    parts = sum(stats[stage]["ns"] for stage in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert abs(stats["success"]["ns"] - parts) <= 4
