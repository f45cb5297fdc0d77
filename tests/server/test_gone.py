"""A client that leaves is counted, and what it asked for is not worked on."""

import json
import re
import socket
from pathlib import Path

from tests.bundle.making import bundle_affine
from tests.server.running import Running, running, wait_until


def _outcomes(server: Running) -> dict[str, int]:
    text = server.ask("GET", "/metrics")[1].decode()
    return {
        word: int(count) for word, count in re.findall(r'ferryman_requests_total\{.*outcome="(\w+)".*\} (\d+)', text)
    }


def test_a_client_that_leaves_before_its_answer_is_counted_as_cancelled(tmp_path: Path) -> None:
    body = json.dumps(
        {"inputs": [{"name": "values", "shape": [60000, 3], "datatype": "FP32", "data": [0.5] * 180_000}]}
    ).encode()
    head = f"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with running([bundle_affine(tmp_path / "bundle").path]) as server:
        for _ in range(20):
            with socket.create_connection(server.host_and_port) as link:
                link.sendall(head + body)
        wait_until(lambda: sum(_outcomes(server).values()) >= 20)
        assert _outcomes(server).get("cancelled", 0) > 0
        assert server.ask("GET", "/v2/health/ready")[0] == 200


def test_a_client_that_leaves_while_its_body_is_decoded_is_counted_and_logged(tmp_path: Path) -> None:
    tensor = {"name": "values", "shape": [100_000, 3], "datatype": "FP32", "data": [0.5] * 300_000}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/affine/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    count = 12  # one thread decodes: most of them wait for it
    with running([bundle_affine(tmp_path / "bundle").path], access_log="-") as server:
        for _ in range(count):
            with socket.create_connection(server.host_and_port) as link:
                link.sendall(head + body)
        wait_until(lambda: sum(_outcomes(server).values()) >= count)
        wait_until(lambda: server.log().count('"path":"/v2/models/affine/infer"') >= count)
        assert _outcomes(server).get("cancelled", 0) > 0
        assert sum(_outcomes(server).values()) == count, "each is counted once"
