"""What must never happen: a traceback, a hang, or a server that does not answer the next one."""

import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.bundle.making import plain_picture
from tests.server.running import Running, running, wait_until

GOOD = {"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
PICTURE = plain_picture(1, 2, 3, suffix=".jpg")


def tensor(**changes: Any) -> dict[str, Any]:
    changed = {**GOOD, **changes}
    return {"inputs": [{key: value for key, value in changed.items() if value is not None}]}


def zoo(datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": f"in_{datatype}", "shape": [1, len(data)], "datatype": datatype, "data": data}]}


JSON_REQUESTS: dict[str, tuple[str, object, int, str]] = {
    "not JSON": ("affine", b'{"inputs": [', 400, "not valid JSON"),
    "not UTF-8": ("affine", b'{"inputs": "\xff\xfe\xfd"}', 400, "not valid JSON"),
    "empty": ("affine", b"", 400, "not valid JSON"),
    "a list": ("affine", [1], 400, "not a JSON object"),
    "no inputs": ("affine", {}, 400, "the request has no 'inputs'; send {"),
    "empty inputs": ("affine", {"inputs": []}, 400, "empty"),
    "inputs of text": ("affine", {"inputs": ["values"]}, 400, "'inputs' is no list of objects: [\"values\"]"),
    "another protocol": ("affine", {"data": {"ndarray": [[1, 2, 3]]}}, 400, "has no 'inputs' (it has 'data')"),
    "encoded twice": ("affine", '{"inputs": []}', 400, "encoded twice"),
    "a byte order mark": ("affine", b"\xef\xbb\xbf{}", 400, "send UTF-8 without a byte order mark"),
    "UTF-16": ("affine", '{"inputs": []}'.encode("utf-16"), 400, "not UTF-8 text; this looks like UTF-16"),
    "gzip": ("affine", b"\x1f\x8b\x08\0", 400, "this is gzip: say so with Content-Encoding"),
    "a JPEG": ("colour", b"\xff\xd8\xff\xe0", 400, "this is a JPEG: say so with Content-Type: image/jpeg"),
    "single quotes": ("affine", b"{'inputs': []}", 400, "double quotes"),
    "no name": ("affine", tensor(name=None), 400, "an entry of 'inputs' has no 'name'"),
    "another name": (
        "affine",
        tensor(name="value"),
        400,
        "no input is called 'value'; this model takes 'values' FP32 [-1, 3]",
    ),
    "a name twice": ("affine", {"inputs": [GOOD, GOOD]}, 400, "twice"),
    "no data": ("affine", tensor(data=None), 400, "input 'values' has no 'data'"),
    "data of text": ("affine", tensor(data="AACAPw=="), 400, "has \"AACAPw==\" as 'data', which is no list"),
    "no shape": ("affine", tensor(shape=None), 400, "input 'values' has no 'shape'"),
    "shape of text": ("affine", tensor(shape=["1", "3"]), 400, "not a shape"),
    "shape of booleans": ("affine", tensor(shape=[True, 3]), 400, "not a shape"),
    "negative sizes": ("affine", tensor(shape=[-1, -3]), 400, "not a shape"),
    "2^63": ("affine", tensor(shape=[2**63, 3]), 400, "not a shape"),
    "product overflows": ("affine", tensor(shape=[2**31 - 1] * 4), 400, "can't have shape"),
    "absurd but empty": ("affine", tensor(shape=[0] + [2**31 - 1] * 4, data=[]), 400, "shape"),
    "thousand dimensions": ("affine", tensor(shape=[1] * 1000), 400, "not a shape"),
    "product too small": ("affine", tensor(shape=[1, 2]), 400, "3 values can't have shape [1, 2]"),
    "wrong width": (
        "affine",
        tensor(shape=[3, 1]),
        400,
        "has shape [3, 1]; the model takes [-1, 3]; -1 stands for any size",
    ),
    "ragged": ("affine", tensor(shape=[2, 3], data=[[1, 2, 3], [4, 5]]), 400, "not of shape"),
    "nested too little": (
        "affine",
        tensor(shape=[2, 3], data=[[1, 2, 3]]),
        400,
        "data with 1 row can't have shape [2, 3]",
    ),
    "nested too deep": ("affine", tensor(data=[[[1], [2], [3]]]), 400, "holds a list"),
    "nested in a scalar": ("affine", tensor(shape=[], data=[[1]]), 400, "can't have shape"),
    "no datatype": ("affine", tensor(datatype=None), 400, "input 'values' has no 'datatype'; one of BOOL"),
    "unknown datatype": ("affine", tensor(datatype="FLOAT"), 400, 'unknown datatype "FLOAT"'),
    "another datatype": ("affine", tensor(datatype="FP64"), 400, "is FP64; the model takes FP32; send it as FP32"),
    "text for numbers": ("affine", tensor(data=["1", 2, 3]), 400, '"1" is not a number; send numbers, or "NaN"'),
    "null for numbers": ("affine", tensor(data=[None, 2, 3]), 400, "holds null, which is no FP32"),
    "booleans for numbers": ("affine", tensor(data=[True, 2, 3]), 400, "holds a boolean"),
    "objects for numbers": ("affine", tensor(data=[{}, 2, 3]), 400, "holds an object"),
    "NaN": ("affine", b'{"inputs":[{"name":"values","shape":[1,1],"datatype":"FP32","data":[NaN]}]}', 400, "not JSON"),
    "1e400": ("affine", b'{"inputs":[{"name":"values","shape":[1,1],"datatype":"FP32","data":[1e400]}]}', 400, "infin"),
    "too large for FP32": (
        "affine",
        tensor(data=[1e300, 2, 3]),
        400,
        "1e+300 does not fit FP32; it holds -3.403e+38 to 3.403e+38",
    ),
    "endless integer": ("affine", tensor(data=[10**400, 2, 3]), 400, "infinity"),
    "number too large for UINT8": ("zoo", zoo("UINT8", [256, 1]), 400, "256 does not fit UINT8; it holds 0 to 255"),
    "negative UINT64": ("zoo", zoo("UINT64", [-1, 1]), 400, "does not fit UINT64"),
    "fraction for INT32": ("zoo", zoo("INT32", [1.5, 1]), 400, "holds a fraction"),
    "numbers for BYTES": ("zoo", zoo("BYTES", [1, 2]), 400, "holds a number"),
    "numbers for BOOL": ("zoo", zoo("BOOL", [1, 0]), 400, "holds a number"),
    "10k deep": ("affine", b'{"inputs":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, ""),
    "90k deep": ("affine", b"[" * 90_000, 400, ""),
    "100k digits": ("affine", b'{"inputs":[' + b"9" * 100_000 + b"]}", 400, "not valid JSON"),
    "unknown output": ("affine", {**tensor(), "outputs": [{"name": "total"}]}, 400, "no output is called 'total'"),
    "outputs of text": ("affine", {**tensor(), "outputs": ["sum"]}, 400, "of objects"),
    "classification": (
        "affine",
        {**tensor(), "outputs": [{"name": "sum", "parameters": {"classification": 3}}]},
        400,
        "classification",
    ),
    "id of a number": ("affine", {**tensor(), "id": 7}, 400, "'id' is not text; give it in quotes"),
    "timeout of text": (
        "affine",
        {**tensor(), "parameters": {"timeout": "5s"}},
        400,
        "'timeout' is \"5s\"; give micro",
    ),
    "priority of text": ("affine", {**tensor(), "parameters": {"priority": "high"}}, 400, "'priority' is \"high\""),
    "parameters of text": ("affine", {**tensor(), "parameters": "x"}, 400, "'parameters'"),
    "binary without bytes": (
        "affine",
        tensor(data=None, parameters={"binary_data_size": 12}),
        400,
        "and 0 bytes are left",
    ),
    "unknown model": ("nobody", tensor(), 404, "no model is called 'nobody'"),
    "unknown version": ("affine/versions/9", tensor(), 404, "version '9'"),
    "rows for tensors": ("affine", {"rows": [{"a": 1}]}, 400, "doesn't take rows; it takes JSON"),
    "rows and inputs": ("table", {"rows": [{}], **tensor()}, 400, "both"),
    "no rows": ("table", {"rows": []}, 400, "'rows' is empty; send {\"rows\": [{COLUMN: VALUE"),
    "a sequence": ("affine", {**tensor(), "parameters": {"sequence_id": 7}}, 400, "'sequence_id' is 7, and sequences"),
    "a sequence of rows": (
        "table",
        {"rows": [{"width": 1, "height": 1, "weight": 1}], "parameters": {"sequence_end": True}},
        400,
        "'sequence_end' is true, and sequences of requests are not offered",
    ),
    "a row of lists": ("table", {"rows": [[1, 2, 3]]}, 400, "'rows' is no list of objects: [[1, 2, 3]]"),
    "a cell of lists": ("table", {"rows": [{"width": [1], "height": 1, "weight": 1}]}, 400, "column 'width'"),
    "a missing column": ("table", {"rows": [{"width": 1, "height": 1}]}, 400, "weight"),
    "an unknown column": ("table", {"rows": [{"width": 1, "height": 1, "weight": 1, "x": 1}]}, 400, "'x'"),
    "text in a number's column": ("table", {"rows": [{"width": "w", "height": 1, "weight": 1}]}, 400, "width"),
}


def assert_still_answers(server: Running) -> None:
    status, answer = server.infer("affine", tensor())
    assert (status, answer["outputs"][0]["data"]) == (200, [3.0, 5.0, 7.0])


@pytest.mark.parametrize("case", JSON_REQUESTS)
def test_a_wrong_json_request_is_told_what_is_wrong(server: Running, case: str) -> None:
    model, request, wanted, words = JSON_REQUESTS[case]
    status, answer = server.infer(model, request)
    assert status == wanted, answer
    assert list(answer) == ["error"]
    assert words in answer["error"]
    assert "Traceback" not in answer["error"]
    assert_still_answers(server)


def with_bytes(header: dict[str, Any], payload: bytes, *, length: str | None = None) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(header).encode()
    return head + payload, {"Inference-Header-Content-Length": length if length is not None else str(len(head))}


def binary(size: Any, datatype: str = "FP32", name: str = "values", shape: Any = None) -> dict[str, Any]:
    entry = {"name": name, "shape": shape or [1, 3], "datatype": datatype, "parameters": {"binary_data_size": size}}
    return {"inputs": [entry]}


VALUES = struct.pack("<3f", 1, 2, 3)
BINARY_REQUESTS: dict[str, tuple[str, bytes, dict[str, str], str]] = {
    "size too small": ("affine", *with_bytes(binary(8), VALUES), "8 bytes can't be FP32"),
    "size too large": ("affine", *with_bytes(binary(13), VALUES), "binary_data_size is 13, and 12 bytes are left"),
    "size negative": ("affine", *with_bytes(binary(-12), VALUES), "binary_data_size is -12"),
    "size of text": ("affine", *with_bytes(binary("12"), VALUES), 'binary_data_size is "12"'),
    "size of 2^70": ("affine", *with_bytes(binary(2**70), VALUES), "12 bytes are left"),
    "bytes left over": ("affine", *with_bytes(binary(12), VALUES + b"!"), "1 byte after the JSON"),
    "header longer than the body": (
        "affine",
        *with_bytes(binary(12), VALUES, length="9999"),
        "is '9999'; the body has",
    ),
    "header negative": ("affine", *with_bytes(binary(12), VALUES, length="-1"), "-1"),
    "header of words": ("affine", *with_bytes(binary(12), VALUES, length="many"), "many"),
    "header cuts the JSON": (
        "affine",
        *with_bytes(binary(12), VALUES, length="10"),
        "the first 10 bytes of the body are JSON",
    ),
    "huge shape, few bytes": ("affine", *with_bytes(binary(12, shape=[2**31 - 1] * 3), VALUES), "can't be FP32"),
    "a BOOL of 2": ("zoo", *with_bytes(binary(2, "BOOL", "in_BOOL", [1, 2]), b"\x01\x02"), "neither 0 nor 1"),
    "texts that lie": (
        "zoo",
        *with_bytes(binary(8, "BYTES", "in_BYTES", [1, 2]), b"\xff\xff\xff\xffabcd"),
        "don't add up",
    ),
    "texts that are too few": (
        "zoo",
        *with_bytes(binary(5, "BYTES", "in_BYTES", [1, 2]), b"\x01\x00\x00\x00a"),
        "has 1 text; its shape takes 2",
    ),
    "texts that are not UTF-8": (
        "zoo",
        *with_bytes(binary(5, "BYTES", "in_BYTES", [1, 1]), b"\x01\x00\x00\x00\xff"),
        "not UTF-8",
    ),
}


@pytest.mark.parametrize("case", BINARY_REQUESTS)
def test_a_wrong_binary_request_is_told_what_is_wrong(server: Running, case: str) -> None:
    model, body, headers, words = BINARY_REQUESTS[case]
    status, answer, _ = server.ask("POST", f"/v2/models/{model}/infer", body, headers)
    assert status == 400, answer
    assert words in answer["error"]
    assert_still_answers(server)


PICTURES = {
    "empty": b"",
    "cut": PICTURE[: len(PICTURE) // 2],
    "only a header": PICTURE[:20],
    "text": b"this is no picture",
    "a PNG that claims 100000 x 100000": (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 100_000, 100_000) + b"\x08\x02\0\0\0\0\0\0\0"
    ),
}


@pytest.mark.parametrize("case", PICTURES)
def test_what_is_no_whole_picture_is_refused(server: Running, case: str) -> None:
    headers = {"Content-Type": "image/jpeg"}
    status, answer, _ = server.ask("POST", "/v2/models/colour/infer", PICTURES[case], headers)
    assert (status, list(answer)) == (400, ["error"])
    assert_still_answers(server)


@pytest.mark.parametrize(
    ("method", "path", "headers", "wanted"),
    [
        ("GET", "/v2/models/affine/infer", {}, 405),
        ("DELETE", "/v2/models/affine", {}, 405),
        ("GET", "/v3", {}, 404),
        ("GET", "/v2/models/../../etc/passwd", {}, 404),
        ("GET", "/v2/models/%00", {}, 400),
        ("POST", "/v2/models/affine/infer", {"Content-Type": "text/plain"}, 415),
        ("POST", "/v2/models/affine/infer", {"Content-Type": "image/png"}, 415),
        ("POST", "/v2/models/affine/infer", {"Content-Encoding": "gzip"}, 400),
        ("POST", "/v2/models/affine/infer", {"Content-Encoding": "br"}, 415),
    ],
)
def test_wrong_methods_paths_and_types_are_json_errors(
    server: Running, method: str, path: str, headers: dict[str, str], wanted: int
) -> None:
    status, answer, _ = server.ask(method, path, b"{}" if method == "POST" else None, headers)
    assert (status, list(answer)) == (wanted, ["error"])
    assert_still_answers(server)


@pytest.mark.parametrize(("body", "wanted"), [(b" {}", 400), (b"a=1", 415), (PICTURE, 415), (b"", 415)])
def test_a_forms_name_is_taken_for_json_where_the_body_is_an_object(server: Running, body: bytes, wanted: int) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert server.ask("POST", "/v2/models/affine/infer", body, headers)[0] == wanted


def test_an_answer_is_given_to_what_curl_sends_by_itself(server: Running) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    status, answer, _ = server.ask("POST", "/v2/models/affine/infer", json.dumps(tensor()).encode(), headers)
    assert (status, answer["outputs"][0]["data"]) == (200, [3, 5, 7])


def test_an_unknown_path_is_told_which_there_are(server: Running) -> None:
    _, answer, _ = server.ask("GET", "/v2/model/affine")
    assert "nothing is at '/v2/model/affine'" in answer["error"]
    assert "/v2/models/MODEL/infer" in answer["error"]


def test_a_body_over_the_limit_is_refused_before_it_is_sent(server: Running) -> None:
    answer = server.raw(b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"200000 bytes" in answer and b"--max-body-mb" in answer
    assert_still_answers(server)


def test_a_chunked_body_over_the_limit_is_refused_when_it_gets_there(server: Running) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    head = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert server.raw(head + chunk * 4).startswith(b"HTTP/1.1 413 ")
    assert_still_answers(server)


def test_a_body_that_never_comes_ends_at_its_deadline(server: Running) -> None:
    answer = server.raw(b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert_still_answers(server)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: many\r\n\r\n{}",
        b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"GET /v2 HTTP/1.1\r\nHo st\x00: h\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_400(server: Running, garbage: bytes) -> None:
    assert server.raw(garbage).startswith(b"HTTP/1.1 400 ")
    assert_still_answers(server)


def test_clients_that_go_away_in_the_middle_do_no_harm(server: Running) -> None:
    head = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{"
    for length in range(1, len(head), 4):
        with socket.create_connection(server.host_and_port) as link:
            link.sendall(head[:length])
    assert_still_answers(server)


def test_bodies_that_are_too_much_together_are_refused_before_they_are_read(bundles: dict[str, Path]) -> None:
    limits: dict[str, Any] = {"max_body_bytes": 100_000, "max_in_flight_bytes": 100_000}  # of ServerSettings
    head = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    with running([bundles["affine"]], **limits) as server:
        with socket.create_connection(server.host_and_port) as link:
            link.sendall(head % 90_000 + b" " * 70_000)  # it has room for the rest
            wait_until(lambda: server.raw(head % 20_000).startswith(b"HTTP/1.1 429 "))
            refused = server.raw(head % 20_000)
            assert b"hold 90000 bytes; 20000 more are over this server's limit of 100000" in refused
            assert b"retry-after: 1" in refused.lower()
            assert_still_answers(server)
        body = json.dumps(tensor()).encode() + b" " * 20_000
        wait_until(lambda: server.infer("affine", body)[0] == 200)


def test_bodies_in_chunks_count_as_they_come(bundles: dict[str, Path]) -> None:
    limits: dict[str, Any] = {"max_body_bytes": 100_000, "max_in_flight_bytes": 100_000}  # of ServerSettings
    head = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with running([bundles["affine"]], **limits) as server, socket.create_connection(server.host_and_port) as link:
        link.sendall(head % b"Content-Length: 90000" + b" " * 70_000)
        wait_until(lambda: server.raw(head % b"Content-Length: 20000").startswith(b"HTTP/1.1 429 "))
        assert server.raw(head % b"Transfer-Encoding: chunked" + chunk).startswith(b"HTTP/1.1 429 ")
