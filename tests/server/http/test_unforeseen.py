"""What nobody foresaw while a request is taken in costs that request alone, and is noted once."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from ferryman.server.data.gate.gate import Gate
from ferryman.server.data.http.head import parse_head
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.signals.access_log import AccessLog
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.v2.http import HttpV2, Rules
from ferryman.server.data.v2.journal import Journal
from ferryman.server.data.v2.pages import Pages
from tests.bundle.making import bundle_affine
from tests.server.control.house import house, live

HEAD = b"POST /v2/models/affine/infer HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\r\n"
TENSOR = {"name": "values", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}


def test_an_unforeseen_error_is_one_incident_and_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle_affine(tmp_path / "r" / "affine" / "1")

    def lose_the_way(model: str) -> bool:
        raise RuntimeError(f"nobody thought of {model}")

    async def story() -> None:
        async with house([tmp_path / "r"]) as one:
            (version,) = one.plane.versions("affine")
            one.plane.evict("affine", version)
            one.plane.on_missing = lose_the_way
            log = AccessLog(tmp_path / "log")
            log.start(asyncio.get_running_loop())
            pages = Pages(one.plane, one.metrics, server_version="1")
            application = HttpV2(one.plane, Gate(), pages, Journal(Metrics(), log, None), Rules())
            body = json.dumps({"inputs": [TENSOR]}).encode()
            request = Request(parse_head(HEAD, Limits()), "127.0.0.1", body, time.monotonic())
            assert application.admit(request, len(body)) is None
            answers: list[Response] = []
            application.answer(request, answers.append)
            application.forget(request)  # the connection closes
            application.close()
            log.close()
            assert [answer.status for answer in answers] == [500]

    live(story)
    assert sum(record.exc_info is not None for record in caplog.records) == 1
    (line,) = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert (line["status"], line["model"]) == (500, "affine")
