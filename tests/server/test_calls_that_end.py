"""How gRPC calls end that their clients cancel, and what is counted of them."""

import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ferryman.server.data.grpc import frames
from ferryman.server.data.grpc.messages import HEALTH, INFERENCE, InferRequest
from tests.bundle.making import bundle_affine
from tests.server.grpc.raw import RawClient, headers
from tests.server.running import Running, running, wait_until


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[tuple[Running, Path]]:
    log = tmp_path / "access.log"
    with running([bundle_affine(tmp_path / "bundle").path], access_log=str(log)) as server:
        yield server, log


def _ended(log: Path) -> list[str]:
    return [json.loads(line)["path"].rpartition("/")[2] for line in log.read_text().splitlines()]


def _cancelled(server: Running) -> int:
    text = server.ask("GET", "/metrics")[1].decode()
    return next(
        int(line.split()[1])
        for line in text.splitlines()
        if line.startswith('ferryman_rejected_total{reason="cancelled"')
    )


def test_a_watch_and_a_stream_that_was_answered_end_by_being_cancelled_and_are_no_refusals(
    logged: tuple[Running, Path],
) -> None:
    server, log = logged
    request = InferRequest(model_name="affine", raw_input_contents=[np.ones((1, 3), np.float32).tobytes()])
    request.inputs.add(name="values", datatype="FP32", shape=[1, 3])
    with grpc.insecure_channel(server.address) as opened:
        channel: Any = opened  # the stubs know no calls of plain bytes
        watch = channel.unary_stream(f"/{HEALTH}/Watch")(b"")
        next(watch)
        watch.cancel()
        messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        messages.put(request.SerializeToString())
        stream = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")(iter(messages.get, None))
        next(stream)
        stream.cancel()
        messages.put(None)
        wait_until(lambda: sorted(_ended(log)) == ["ModelStreamInfer", "Watch"])
    assert _cancelled(server) == 0


def test_an_inference_whose_message_never_came_is_counted_as_refused(logged: tuple[Running, Path]) -> None:
    server, log = logged
    with RawClient(server.host_and_port[1]) as client:
        client.send(headers(1), frames.reset_frame(1, frames.CANCEL))
        wait_until(lambda: "ModelInfer" in _ended(log))
    assert _cancelled(server) == 1
