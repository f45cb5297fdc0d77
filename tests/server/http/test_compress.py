import gzip
import json
import zlib
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse

import numpy as np
import pytest
import tritonclient.http as triton

from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.request import Request, Respond, Response
from tests.server.http.serving import Echo, Serving, serving


def ask(server: Serving, body: bytes, path: str = "/echo", **headers: str) -> tuple[HTTPResponse, bytes]:
    client = HTTPConnection(*server.address, timeout=30)
    client.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = client.getresponse()
    content = answer.read()
    client.close()
    return answer, content


@pytest.mark.parametrize("size", [0, 10, 300_000, 20_000_000])
@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_bodies_arrive_inflated(encoding: str, pack: Callable[[bytes], bytes], size: int) -> None:
    body = b"0123456789" * (size // 10)
    with serving() as server:
        answer, content = ask(server, pack(body), Content_Encoding=encoding)
        assert (answer.status, json.loads(content)["length"]) == (200, size)


def test_a_body_that_inflates_over_the_limit_is_refused_and_not_kept() -> None:
    bomb = gzip.compress(b"\0" * 200_000_000)
    with serving(Limits(body_bytes=1_000_000)) as server:
        answer, content = ask(server, bomb, Content_Encoding="gzip")
        assert answer.status == 413 and b"1000000 bytes when it is inflated" in content
        assert server.application.forgotten == 1 and server.connections.intake.held_bytes == 0


@pytest.mark.parametrize(
    "body",
    [b"not gzip at all", gzip.compress(b"a" * 1000)[:-1], gzip.compress(b"a")[:5], gzip.compress(b"a") + b"more"],
    ids=["nothing of the kind", "cut", "cut early", "more behind it"],
)
def test_a_body_that_is_not_what_it_says_is_refused_and_the_connection_goes_on(body: bytes) -> None:
    with serving() as server:
        client = HTTPConnection(*server.address, timeout=10)
        for _ in range(2):
            client.request("POST", "/echo", body, {"Content-Encoding": "gzip"})
            answer = client.getresponse()
            assert answer.status == 400 and b"gzip" in answer.read()
        client.close()


def test_an_inflating_body_counts_as_what_it_may_become() -> None:
    with serving(Limits(body_bytes=10_000_000), total_bytes=10_000_000) as server:
        client = HTTPConnection(*server.address, timeout=10)
        client.request("POST", "/later", b"a" * 1000)
        server.until(lambda: len(server.application.kept) == 1)
        answer, _ = ask(server, gzip.compress(b"a" * 5_000_000), Content_Encoding="gzip")
        assert answer.status == 429
        server.let_go()
        assert client.getresponse().status == 200
        client.close()


@pytest.mark.parametrize(("asked", "got"), [("gzip", "gzip"), ("br, deflate;q=0.5", "deflate"), ("gzip;q=0", None)])
def test_large_text_answers_come_compressed_to_those_who_ask(asked: str, got: str | None) -> None:
    with serving() as server:
        answer, content = ask(server, b"", "/large?1000000", Accept_Encoding=asked)
        assert answer.getheader("content-encoding") == got
        unpack: dict[str | None, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
        assert unpack.get(got, bytes)(content) == b"x" * 500_000 + b"y" * 500_000
        small, _ = ask(server, b"", "/large?1000", Accept_Encoding=asked)
        assert small.getheader("content-encoding") is None


class Doubling(Echo):
    """Answer as the protocol's servers do, JSON only."""

    def answer(self, request: Request, respond: Respond) -> None:
        asked = json.loads(request.body)["inputs"][0]
        output = {"name": "y", "shape": asked["shape"], "datatype": "FP32", "data": [2 * x for x in asked["data"]]}
        respond(Response(200, json.dumps({"model_name": "m", "model_version": "1", "outputs": [output]}).encode()))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclients_compression_works_both_ways(algorithm: str) -> None:
    rows = np.random.default_rng(0).random((20, 1000), dtype=np.float32)
    with serving(application=Doubling()) as server:
        client = triton.InferenceServerClient(f"{server.address[0]}:{server.address[1]}")
        tensor = triton.InferInput("x", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=False)
        result = client.infer(
            "m", [tensor], request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
        )
        np.testing.assert_allclose(result.as_numpy("y"), 2 * rows, rtol=1e-6)
        client.close()
