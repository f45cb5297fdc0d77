"""Asks share a call of the engine only where their tensors can be laid together, and their answers taken apart."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.server.data.ask import Ask
from ferryman.server.data.tensors import TensorPlan
from ferryman.server.data.worker.asking import write_tensors
from ferryman.server.data.worker.parcel import Parcel
from tests.server.misbehaving import ANSWER, SLEEP, bundle_misbehaving, with_plugin
from tests.server.running import read_until_done, running, wait_until


def spec(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=shape)


def asked(plan: TensorPlan, shapes: Mapping[str, tuple[int, ...]]) -> Ask:
    tensors: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    ask = Ask("model", None, lambda reply, error: None, tensors=tensors)
    ask.rows, ask.shape = plan.check(tensors)
    return ask


def planned(*inputs: TensorSpec) -> TensorPlan:
    return TensorPlan(Signature(inputs=inputs, outputs=(spec("y", "n"),)))


@pytest.mark.parametrize(
    ("inputs", "shapes"),
    [
        ((spec("a", "n", 2),), {"a": (0, 2)}),
        ((spec("a", "n", "k"),), {"a": (0, 2)}),
        ((spec("a", "n", 2), spec("b", "n", 2)), {"a": (0, 2), "b": (0, 2)}),
        ((spec("a", "n", 2), spec("b", "k", 2)), {"a": (2, 2), "b": (3, 2)}),
        ((spec("a", "n", 2), spec("b")), {"a": (2, 2), "b": ()}),
        ((spec("a"),), {"a": ()}),
    ],
)
def test_an_ask_without_rows_of_its_own_shares_with_nobody(
    inputs: tuple[TensorSpec, ...], shapes: dict[str, tuple[int, ...]]
) -> None:
    plan = planned(*inputs)
    one, other = asked(plan, shapes), asked(plan, shapes)
    assert one.shape != other.shape, "they would share a call"
    assert one.shape is not None, "it would share one with those that have rows"
    assert write_tensors([one], Parcel())["r"] == [1]


@pytest.mark.parametrize("tail", [2, "k"])
def test_asks_of_any_number_of_rows_share_a_call(tail: int | str) -> None:
    plan = planned(spec("a", "n", tail), spec("b", "n"))
    asks = [asked(plan, {"a": (rows, 2), "b": (rows,)}) for rows in (1, 3)]
    assert asks[0].shape == asks[1].shape
    assert write_tensors(asks, Parcel())["r"] == [1, 3]


def test_an_empty_request_spoils_no_other_that_waits_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    bundle_misbehaving(tmp_path / "bundle")

    def request(*rows: tuple[float, float]) -> bytes:
        values = [value for row in rows for value in row]
        tensor = {"name": "order", "shape": [len(rows), 2], "datatype": "FP32", "data": values}
        body = json.dumps({"inputs": [tensor]}).encode()
        return b"POST /v2/models/misbehaving/infer HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    # Two are in work as long as all others come.
    asked = [request((SLEEP, 1.0))] * 2 + [request((ANSWER, 1.0))] * 3 + [request()] * 2
    with running([tmp_path / "bundle"], max_batch=8) as server:
        links = [socket.create_connection(server.host_and_port, timeout=20) for _ in asked]
        for place, (link, block) in enumerate(zip(links, asked, strict=True)):
            link.sendall(block)
            if place < 2:  # one after the other, so that each is a call by itself
                wait_until(lambda count=place + 1: b"in_flight" in _figure(server.ask("GET", "/metrics")[1], count))
        statuses = [read_until_done(link)[9:12] for link in links]
        for link in links:
            link.close()
        assert statuses == [b"200"] * len(asked)


def _figure(metrics: bytes, count: int) -> bytes:
    """Give the line that says that so many requests are in the engine, where it is there."""
    lines = [line for line in metrics.splitlines() if line.startswith(b"ferryman_in_flight") and b"} " in line]
    return b"".join(line for line in lines if float(line.rpartition(b" ")[2]) == count)
