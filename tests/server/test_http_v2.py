"""The Open Inference Protocol V2, with tritonclient as the judge, and the answers of tasks beside it."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.bundle.read import load_bundle
from ferryman.core.plugins import find, runtime_for
from ferryman.core.signature import Array
from ferryman.core.task import Item, infer_items
from tests.bundle.making import plain_picture
from tests.server.running import Running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent's and tritonclient's own, at import
    import tritonclient.http as triton

AFFINE = {"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
ZOO: dict[str, Array] = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [7, 9]], np.uint8),
    "INT32": np.array([[-(2**31), 2**31 - 1], [0, 1]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1], [0, 1]], np.int64),
    "UINT64": np.array([[0, 2**64 - 1], [0, 1]], np.uint64),
    "FP16": np.array([[0.5, 65504], [-1, 1e-3]], np.float16),
    "FP32": np.array([[0.1, 3e38], [-1e-30, 1]], np.float32),
    "FP64": np.array([[0.1, 1e300], [np.pi, 1]], np.float64),
    "BYTES": np.array([["", "ü"], ["ab", "line\nend"]], object),
}


@pytest.fixture
def client(server: Running) -> Iterator[Any]:  # a triton client
    connected = triton.InferenceServerClient(server.address)
    yield connected
    connected.close()


def zoo_inputs(*, is_binary: bool) -> list[Any]:  # triton's own inputs
    inputs = []
    for datatype, array in ZOO.items():
        tensor = triton.InferInput(f"in_{datatype}", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=is_binary)
        inputs.append(tensor)
    return inputs


def library_answers(path: Path, items: list[Item]) -> list[dict[str, Any]]:
    bundle = load_bundle(path)
    session = runtime_for("onnx").require()().load(bundle.artifact, threads=1)
    task = find("tasks", bundle.deployment.task.kind).require()(bundle.deployment.task, session.signature)
    return infer_items(task, session, items)


def test_tritonclient_finds_the_server_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine")
    assert not client.is_model_ready("nobody")


def test_tritonclient_reads_server_metadata(client: Any) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "ferryman"
    assert {"binary_tensor_data", "model_repository"} <= set(metadata["extensions"])


def test_tritonclient_reads_the_repository_index(client: Any) -> None:
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states == {"affine": "READY", "table": "READY", "colour": "READY", "zoo": "READY"}


def test_tritonclient_reads_model_metadata(client: Any, bundles: dict[str, Path]) -> None:
    metadata = client.get_model_metadata("affine")
    assert metadata["inputs"] == [{"name": "values", "datatype": "FP32", "shape": [-1, 3]}]
    assert metadata["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [-1, 3]}]
    assert metadata["versions"] == [load_bundle(bundles["affine"]).manifest.digest[:12]]


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
def test_every_datatype_survives_the_way_there_and_back(client: Any, is_binary: bool) -> None:
    if not is_binary:
        # triton's client refuses FP16 as JSON; BYTES it sends as text.
        inputs = [tensor for tensor in zoo_inputs(is_binary=True) if tensor.name() == "in_FP16"]
        inputs += [tensor for tensor in _json_inputs() if tensor.name() != "in_FP16"]
    else:
        inputs = zoo_inputs(is_binary=True)
    outputs = [triton.InferRequestedOutput(f"out_{datatype}", binary_data=is_binary) for datatype in ZOO]
    result = client.infer("zoo", inputs, outputs=outputs)
    for datatype, sent in ZOO.items():
        got = result.as_numpy(f"out_{datatype}")
        if datatype == "BYTES":
            got = np.array(
                [[cell.decode() if isinstance(cell, bytes) else cell for cell in row] for row in got], object
            )
        np.testing.assert_array_equal(got, sent)


def _json_inputs() -> list[Any]:  # triton's own inputs
    inputs = []
    for datatype, array in ZOO.items():
        if datatype == "FP16":
            continue
        tensor = triton.InferInput(f"in_{datatype}", list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=False)
        inputs.append(tensor)
    return inputs


def test_without_named_outputs_tritonclient_gets_all_of_them_as_bytes(client: Any) -> None:
    result = client.infer("zoo", zoo_inputs(is_binary=True))
    assert {output["name"] for output in result.get_response()["outputs"]} == {f"out_{name}" for name in ZOO}
    assert all("binary_data_size" in output["parameters"] for output in result.get_response()["outputs"])


def test_a_version_in_the_address_and_an_id_come_back(server: Running, bundles: dict[str, Path]) -> None:
    version = load_bundle(bundles["affine"]).manifest.digest[:12]
    path = f"/v2/models/affine/versions/{version}/infer"
    status, answer, _ = server.ask("POST", path, json.dumps({**AFFINE, "id": "seven"}).encode())
    assert (status, answer["id"], answer["model_version"]) == (200, "seven", version)
    assert answer["outputs"] == [{"name": "sum", "datatype": "FP32", "shape": [1, 3], "data": [3.0, 5.0, 7.0]}]


def test_nested_and_flat_data_are_the_same(server: Running) -> None:
    nested = {"inputs": [{**AFFINE["inputs"][0], "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}]}
    flat = {"inputs": [{**AFFINE["inputs"][0], "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]}
    assert server.infer("affine", nested) == server.infer("affine", flat)
    assert server.infer("affine", flat)[0] == 200


def test_fp16_travels_as_numbers_in_json(server: Running) -> None:
    inputs = [
        {"name": f"in_{name}", "shape": [2, 2], "datatype": name, "data": array.ravel().tolist()}
        for name, array in ZOO.items()
    ]
    status, answer = server.infer("zoo", {"inputs": inputs, "outputs": [{"name": "out_FP16"}]})
    assert status == 200
    assert np.array_equal(np.array(answer["outputs"][0]["data"], np.float16), ZOO["FP16"].ravel())


def test_numbers_that_json_cannot_say_are_spelled_both_ways(server: Running) -> None:
    tensor = {**AFFINE["inputs"][0], "data": ["NaN", "Infinity", "-Infinity"]}
    status, answer = server.infer("affine", {"inputs": [tensor]})
    assert (status, answer["outputs"][0]["data"]) == (200, ["NaN", "Infinity", "-Infinity"])


def test_an_empty_batch_is_answered_with_an_empty_batch(server: Running) -> None:
    status, answer = server.infer("affine", {"inputs": [{**AFFINE["inputs"][0], "shape": [0, 3], "data": []}]})
    assert (status, answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == (200, [0, 3], [])


@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "application/octet-stream"])
def test_a_picture_gets_the_answer_that_the_library_gives(
    server: Running, bundles: dict[str, Path], content_type: str
) -> None:
    picture = plain_picture(30, 200, 90)
    status, answer, _ = server.ask("POST", "/v2/models/colour/infer", picture, {"Content-Type": content_type})
    assert status == 200
    assert answer["answers"] == library_answers(bundles["colour"], [picture])


def test_rows_get_the_answers_that_the_library_gives(server: Running, bundles: dict[str, Path]) -> None:
    rows: list[Item] = [{"width": 1, "height": 2, "weight": 3}, {"weight": 0.5, "height": 0.1, "width": 9}]
    status, answer = server.infer("table", {"rows": rows})
    assert status == 200
    assert answer["answers"] == library_answers(bundles["table"], rows)
    assert [entry["label"] for entry in answer["answers"]] == ["heavy", "light"]


def test_metrics_count_requests_by_outcome_and_time_them_in_seconds(server: Running) -> None:
    server.infer("affine", AFFINE)
    server.infer("affine", b"{")
    server.infer("nobody", AFFINE)
    _, payload, headers = server.ask("GET", "/metrics")
    text = payload.decode()
    assert headers["content-type"].startswith("text/plain")
    version = server.infer("affine", AFFINE)[1]["model_version"]
    served = f'model="affine",version="{version}"'
    for line in (
        f'ferryman_requests_total{{{served},outcome="ok",protocol="http"}}',
        f'ferryman_requests_total{{{served},outcome="invalid",protocol="http"}}',
        f"ferryman_golden_ok{{{served}}} 1",
        f"ferryman_infer_seconds_count{{{served}}}",
        f'ferryman_request_seconds_bucket{{{served},le="0.001"}}',
        f"ferryman_in_flight{{{served}}} 0",
        'ferryman_rejected_total{reason="other"}',
    ):
        assert line in text
    assert "nobody" not in text


def test_the_description_names_every_model_and_shows_nothing_of_the_golden_rows(server: Running) -> None:
    status, description, _ = server.ask("GET", "/openapi.json")
    assert (status, description["openapi"]) == (200, "3.1.0")
    content = description["paths"]["/v2/models/table/infer"]["post"]["requestBody"]["content"]
    assert content["application/json"]["example"] == {"rows": [{"width": 0, "height": 0, "weight": 0}]}
    assert "image/jpeg" in description["paths"]["/v2/models/colour/infer"]["post"]["requestBody"]["content"]


def test_the_documentation_page_needs_nobody_else(server: Running) -> None:
    status, page, headers = server.ask("GET", "/docs")
    assert status == 200
    assert b"http://" not in page
    assert b"https://" not in page
    assert "default-src 'none'" in headers["content-security-policy"]
