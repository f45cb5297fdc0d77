"""Requests leave nothing behind that only the garbage collector could free."""

import asyncio
import gc
import json
import time
from pathlib import Path

from ferryman.server.data.gate.gate import Gate
from ferryman.server.data.http.head import parse_head
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.v2.http import HttpV2, Rules
from ferryman.server.data.v2.journal import Journal
from ferryman.server.data.v2.pages import Pages
from tests.bundle.making import bundle_affine
from tests.server.control.house import House, house, live

COUNT = 100


def _application(one: House) -> HttpV2:
    metrics = Metrics()
    pages = Pages(one.plane, metrics, server_version="1")
    return HttpV2(one.plane, Gate(), pages, Journal(metrics, None, None), Rules())


async def _ask(application: HttpV2, body: bytes) -> Response:
    block = b"POST /v2/models/affine/infer HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\r\n"
    request = Request(parse_head(block, Limits()), "127.0.0.1", body, time.monotonic())
    refused = application.admit(request, len(body))
    if refused is not None:
        return refused
    answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
    application.answer(request, answered.set_result)
    return await answered


def test_answered_and_refused_requests_leave_no_cycles(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "r" / "affine" / "1")

    async def story() -> None:
        async with house([tmp_path / "r"]) as one:
            application = _application(one)
            (spec,) = one.plane.find("affine").loaded.signature.inputs
            shape = [size if isinstance(size, int) else 1 for size in spec.shape]
            tensor = {"name": spec.name, "datatype": "FP32", "shape": shape, "data": [0.5] * shape[-1]}
            good, bad = json.dumps({"inputs": [tensor]}).encode(), b'{"inputs": 7}'
            assert [(await _ask(application, body)).status for body in (good, bad)] == [200, 400]
            gc.collect()
            gc.disable()
            try:
                for _ in range(COUNT):
                    await asyncio.gather(*(_ask(application, body) for body in (good, good, bad)))
                left = gc.collect()
            finally:
                gc.enable()
            assert left < COUNT, f"{left} objects were left behind by {3 * COUNT} requests"
            application.close()

    live(story)
