"""Instances go in and predictions come out, whatever a model takes; rows come as CSV, too."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from websockets.sync.client import connect

from tests.bundle.making import bundle_model, plain_picture, save
from tests.server.running import Running, running

ROWS = [[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]]


def ask(server: Running, model: str, instances: Any, **more: Any) -> tuple[int, Any]:
    return server.infer(model, {"instances": instances, **more})


def test_tensors_of_one_input_are_values_without_their_batch(server: Running) -> None:
    for instances in ([[1, 2, 3], [4, 5, 6.5]], [{"values": [1, 2, 3]}, {"values": [4, 5, 6.5]}]):
        assert ask(server, "affine", instances) == (200, {"predictions": [[3.0, 5.0, 7.0], [9.0, 11.0, 14.0]]})


def test_tensors_of_several_inputs_and_outputs_go_by_name(server: Running) -> None:
    one = {"in_BOOL": [True, False], "in_BYTES": ["a", "ü"], "in_FP32": [0.1, 2], "in_FP64": [1.5, "NaN"]}
    one |= {f"in_{name}": [1, 2] for name in ("UINT8", "INT32", "INT64", "UINT64", "FP16")}
    status, answer = ask(server, "zoo", [one])
    assert status == 200, answer
    (prediction,) = answer["predictions"]
    assert prediction["out_BYTES"] == ["a", "ü"] and prediction["out_FP32"] == [0.1, 2.0]
    assert prediction["out_FP64"] == [1.5, "NaN"] and prediction["out_BOOL"] == [True, False]


def test_rows_go_by_name_or_in_the_columns_order(server: Running) -> None:
    named = [dict(zip(("width", "height", "weight"), row, strict=True)) for row in ROWS]
    status, answer = ask(server, "table", named)
    assert [found["label"] for found in answer["predictions"]] == ["light", "heavy"], (status, answer)
    assert ask(server, "table", ROWS) == (200, answer)
    for text in ("1,2,0.5\n0,0,3\n", "\ufeffwidth,height,weight\r\n1,2,0.5\r\n\r\n0,0,3"):
        told = server.ask("POST", "/v2/models/table/infer", text.encode(), {"Content-Type": "text/csv; charset=utf-8"})
        assert told[:2] == (200, answer)


def test_pictures_come_as_base64(server: Running) -> None:
    text = b64encode(plain_picture(250, 10, 10)).decode()
    for instances in ([{"b64": text}], [{"image_bytes": {"b64": text}}], [text], [{"b64": text}] * 3):
        status, answer = ask(server, "colour", instances, parameters={"priority": 1})
        assert status == 200 and {found["labels"][0] for found in answer["predictions"]} == {"blue"}
        assert len(answer["predictions"]) == len(instances)


@pytest.mark.parametrize(
    ("model", "instances", "told"),
    [
        ("affine", [], "'instances' is []"),
        ("affine", 7, "'instances' is 7"),
        ("affine", [[1, 2, 3], [1, 2]], "is not of shape [2, 3] all through"),
        ("affine", [[1, 2]], "has shape [1, 2]; the model takes [-1, 3]"),
        ("affine", [["a", 2, 3]], "is not a number"),
        ("affine", [{"other": 1}], "instance 1 has no 'values'"),
        ("zoo", [[1]], "instance 1 is [1]"),
        ("table", [[1, 2, 3], [1, 2]], "row 2 has 2 values, not 3"),
        ("table", ["text"], 'instance 1 is "text"'),
        ("table", [{"width": [1]}], "row 1, column 'width' holds no single value"),
        ("colour", [{"b64": "!"}], "instance 1 is not base64"),
        ("colour", [{"b64": 7}], 'instance 1 is {"b64": 7}'),
        ("colour", [{"b64": "aGVsbG8="}], "is not a picture"),
    ],
)
def test_a_wrong_instance_is_named(server: Running, model: str, instances: Any, told: str) -> None:
    status, answer = ask(server, model, instances)
    assert status == 400 and told in answer["error"], answer


@pytest.mark.parametrize("parameters", [7, {"timeout": "soon"}, {"sequence_id": 4}])
def test_wrong_parameters_are_refused(server: Running, parameters: Any) -> None:
    assert ask(server, "affine", [[1, 2, 3]], parameters=parameters)[0] == 400


@pytest.mark.parametrize(
    ("model", "body", "told"),
    [
        ("table", b"", "has no rows"),
        ("table", b"width,height,weight\n", "has no rows"),
        ("table", b"1,2\n", "row 1 has 2 values, not 3"),
        ("table", b'"1,2', "is not CSV"),
        ("table", b"\xff\xfe", "is not CSV"),
        ("affine", b"1,2,3", "doesn't take rows"),
    ],
)
def test_wrong_csv_is_refused(server: Running, model: str, body: bytes, told: str) -> None:
    status, answer, _ = server.ask("POST", f"/v2/models/{model}/infer", body, {"Content-Type": "text/csv"})
    assert status == 400 and told in answer["error"], answer


def test_a_deeply_nested_instance_is_refused(server: Running) -> None:
    body = b'{"instances":' + b"[" * 500 + b"]" * 500 + b"}"
    assert server.infer("affine", body)[0] == 400


def test_long_predictions_are_whole(server: Running) -> None:
    instances = [[place, 0, 0] for place in range(3000)]
    status, answer = server.infer("affine", json.dumps({"instances": instances}).encode())
    assert status == 200 and [found[0] for found in answer["predictions"]] == [2.0 * place + 1 for place in range(3000)]


def test_a_model_without_a_row_for_each_instance_is_asked_otherwise(tmp_path: Path) -> None:
    model = save(
        tmp_path / "sum.onnx",
        [helper.make_node("ReduceSum", ["values"], ["total"], keepdims=0)],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, [])],
    )
    item = {"values": np.ones((1, 3), np.float32)}
    bundle = bundle_model(tmp_path / "bundle", model, {"kind": "tensor"}, [item], name="sum")
    with running([bundle.path]) as server:
        status, answer = ask(server, "sum", [[1, 2, 3]])
        assert status == 400 and "output 'total' has shape [], not a row for each of 1 instances" in answer["error"]


def test_a_stream_answers_instances_too(server: Running) -> None:
    with connect(f"ws://{server.address}/v2/models/affine/stream") as stream:
        stream.send('{"instances": [[1, 2, 3]]}')
        assert json.loads(stream.recv(timeout=10))["predictions"] == [[3.0, 5.0, 7.0]]
