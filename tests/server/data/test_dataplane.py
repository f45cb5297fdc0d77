"""A dataplane sends asks on: to the version that answers, and, unseen, to its shadow."""

import asyncio
from typing import Any, cast

import numpy as np

from ferryman.core.bundle import Bundle
from ferryman.core.signature import Signature, TensorSpec
from ferryman.server.data.ask import Ask
from ferryman.server.data.dataplane import Dataplane, Shadow
from ferryman.server.data.job import GoldenVerdict, Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from ferryman.server.data.models import Served
from tests.server.data.test_lane import Engine

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=("n", 2)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("n", 2)),),
)
LOADED = Loaded(SIGNATURE, "tensors", GoldenVerdict("", 0), 8, "", releases_gil=True, load_s=0.0)


def serve(plane: Dataplane, version: str) -> Engine:
    lane, engine = Lane(asyncio.get_running_loop(), LaneLimits(), "model"), Engine()
    lane.add(engine)
    plane.put(Served("model", version, cast(Bundle, None), LOADED, lane))
    return engine


def test_what_a_shadow_did_is_no_part_of_the_callers_trace() -> None:
    async def story() -> None:
        plane = Dataplane(asyncio.get_running_loop())
        engines = [serve(plane, version) for version in ("1", "2")]
        plane.set_shadow("model", Shadow("2", 1.0, lambda ask, reply, echo: None))
        span: Any = object()  # whatever a tracer made
        plane.submit(Ask("model", None, lambda reply, error: None, tensors={"x": np.zeros((1, 2), "f4")}, trace=span))
        async with asyncio.timeout(10):
            while not all(engine.jobs for engine in engines):
                await asyncio.sleep(0)
        assert [engine.jobs[0].asks[0].trace for engine in engines] == [span, None]

    asyncio.run(story())
