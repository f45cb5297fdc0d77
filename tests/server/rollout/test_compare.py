import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, FerrymanError, NotReady
from ferryman.core.signature import Array
from ferryman.server.control.compare import Comparer, Difference, distance, limits_of
from ferryman.server.data.ask import Ask, Reply
from tests.bundle.making import bundle_affine, bundle_colour, bundle_table

DEADLINE_S = 20
ASK = Ask("model", None, lambda reply, error: None)

IMPORTS = """
import asyncio, sys
from pathlib import Path
from ferryman.bundle.read import load_bundle
from ferryman.server.control.compare import Comparer
from ferryman.server.control.rollout import Rollouts
from ferryman.server.data.ask import Ask, Reply

async def compare():
    told = asyncio.get_running_loop().create_future()
    bundle = load_bundle(Path(sys.argv[1]))
    comparer = Comparer(bundle, None, told.set_result)
    reply = Reply(None, [bundle.golden[0].answer])
    comparer.hear(Ask("m", None, lambda reply, error: None), reply, reply)
    assert not (await told).beyond
    comparer.close()

asyncio.run(compare())
print([name for name in ("cv2", "onnxruntime", "onnx", "openvino") if name in sys.modules])
"""


async def compared(bundle: Bundle, first: Reply, second: Reply | FerrymanError, **limits: float) -> Difference:
    """Compare one pair and give the outcome."""
    told: asyncio.Future[Difference | FerrymanError | None] = asyncio.get_running_loop().create_future()
    comparer = Comparer(bundle, limits or None, told.set_result)
    comparer.hear(ASK, first, second)
    outcome = await asyncio.wait_for(told, DEADLINE_S)
    comparer.close()
    assert isinstance(outcome, Difference), outcome
    return outcome


def row(label: str, heavy: float) -> Reply:
    return Reply(None, [{"label": label, "probabilities": {"light": 1 - heavy, "heavy": heavy}}])


async def test_rows_are_compared_by_label_and_probability(tmp_path: Path) -> None:
    bundle = bundle_table(tmp_path / "table")
    assert not (await compared(bundle, row("heavy", 0.9), row("heavy", 0.901))).beyond
    assert set((await compared(bundle, row("heavy", 0.9), row("light", 0.4))).beyond) == {
        "label_changed", "max_score_diff",
    }  # fmt: skip
    assert not (await compared(bundle, row("heavy", 0.9), row("heavy", 0.6), label_changed=0.0)).beyond


async def test_pictures_classes_are_compared(tmp_path: Path) -> None:
    bundle = bundle_colour(tmp_path / "colour")
    first, other = (Reply(None, [golden.answer]) for golden in bundle.golden)
    assert not (await compared(bundle, first, first)).beyond
    assert (await compared(bundle, first, other)).beyond["label_changed"] == 1.0


def boxes(*corners: list[float]) -> Reply:
    count = len(corners)
    labels, scores = ["car"] * count, [0.9] * count
    return Reply(None, [{"boxes": list(corners), "scores": scores, "classes": [0] * count, "labels": labels}])


async def test_boxes_are_matched_by_their_overlap_whatever_their_order(tmp_path: Path) -> None:
    from ferryman.core.signature import Signature, TensorSpec
    from ferryman.core.task import bind_task
    from ferryman.tasks.detect import DetectTask

    affine = bundle_affine(tmp_path / "affine")
    spec = DetectTask.Spec.model_validate(
        {"kind": "detect", "labels": ["car"], "decoder": "yolov8", "input": {"size": [32, 32]}}
    )
    signature = Signature(
        inputs=(TensorSpec(name="images", dtype="float32", shape=(1, 3, 32, 32)),),
        outputs=(TensorSpec(name="output0", dtype="float32", shape=(1, 5, 21)),),
    )
    bind_task(spec, signature)
    bundle = replace(
        affine,
        deployment=affine.deployment.model_copy(update={"task": spec}),
        artifact=replace(affine.artifact, signature=signature),
        tolerance=dict(DetectTask.tolerance),
    )
    left, right = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 70.0, 70.0]
    assert not (await compared(bundle, boxes(left, right), boxes([50.2, 50.0, 70.0, 70.0], left))).beyond
    alone = await compared(bundle, boxes(left, right), boxes(left))
    assert alone.beyond["unmatched"] == pytest.approx(1 / 3)
    moved = await compared(bundle, boxes(left), boxes([2.0, 0.0, 12.0, 10.0]))
    assert moved.beyond == {"max_box_diff": 2.0}


async def test_raw_tensors_are_compared_by_their_largest_difference(tmp_path: Path) -> None:
    bundle = bundle_table(tmp_path / "table")

    def tensors(*values: float) -> Reply:
        return Reply({"probabilities": np.array([values], np.float32)})

    assert not (await compared(bundle, tensors(0.2, 0.8), tensors(0.2001, 0.7999))).beyond
    assert (await compared(bundle, tensors(0.2, 0.8), tensors(0.3, 0.7))).beyond["max_rel_diff"] == pytest.approx(0.125)
    assert (await compared(bundle, tensors(0.2, 0.8), tensors(float("nan"), 0.8))).beyond
    assert not (await compared(bundle, tensors(float("nan"), 0.8), tensors(float("nan"), 0.8))).beyond


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"a": np.ones(2)}, {"b": np.ones(2)}),
        ({"a": np.ones(2)}, {"a": np.ones(3)}),
        ({"a": np.ones(2)}, {}),
        ({"a": np.array(["x"], object)}, {"a": np.array(["y"], object)}),
    ],
)
def test_outputs_that_can_not_be_set_side_by_side_are_infinitely_far(
    first: dict[str, Array], second: dict[str, Array]
) -> None:
    assert distance(first, second) == float("inf")


async def test_answers_that_the_task_can_not_read_do_not_agree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await compared(bundle_table(tmp_path / "table"), row("heavy", 0.9), Reply(None, [{"else": 1}]))
    assert list(outcome.beyond) == ["can't be compared: KeyError"]
    assert "can't be compared" in caplog.text


async def test_arrays_may_be_written_over_as_soon_as_they_were_heard(tmp_path: Path) -> None:
    told: asyncio.Future[Difference | FerrymanError | None] = asyncio.get_running_loop().create_future()
    comparer = Comparer(bundle_affine(tmp_path / "affine"), None, told.set_result)
    first, second = np.ones((1, 3), np.float32), np.ones((1, 3), np.float32)
    comparer.hear(ASK, Reply({"sum": first}), Reply({"sum": second}))
    second[:] = 7
    outcome = await told
    comparer.close()
    assert isinstance(outcome, Difference) and not outcome.beyond


async def test_what_comes_too_fast_is_dropped_and_told(tmp_path: Path) -> None:
    told: list[Any] = []
    comparer = Comparer(bundle_affine(tmp_path / "affine"), None, told.append)
    reply = Reply({"sum": np.ones((1, 3), np.float32)})
    for _ in range(500):
        comparer.hear(ASK, reply, reply)
    loop = asyncio.get_running_loop()
    until_s = loop.time() + DEADLINE_S
    while len(told) < 500 and loop.time() < until_s:
        await asyncio.sleep(0.001)
    comparer.close()
    assert len(told) == 500
    assert 1 <= sum(outcome is not None for outcome in told) <= 64


async def test_nothing_is_told_once_it_is_closed(tmp_path: Path) -> None:
    told: list[Any] = []
    comparer = Comparer(bundle_affine(tmp_path / "affine"), None, told.append)
    reply = Reply({"sum": np.ones((1, 3), np.float32)})
    comparer.hear(ASK, reply, reply)
    comparer.close()
    comparer.hear(ASK, reply, reply)
    comparer.hear(ASK, reply, NotReady("gone"))
    await asyncio.sleep(0.05)
    assert told == []


def test_limits_are_the_golden_tolerance_unless_they_are_given(tmp_path: Path) -> None:
    from ferryman.core.task import bind_task

    bundle = bundle_table(tmp_path / "table")
    task = bind_task(bundle.deployment.task, bundle.artifact.signature)
    assert limits_of(bundle, task, None) == bundle.tolerance
    assert limits_of(bundle, task, {"label_changed": 1, "score_shift": 0.1}) == {"label_changed": 1, "score_shift": 0.1}
    assert limits_of(bundle, task, {}) == {}
    with pytest.raises(ConfigError, match="no figure is called 'unmatched'"):
        limits_of(bundle, task, {"unmatched": 1})


@pytest.mark.parametrize("make", [bundle_table, bundle_colour, bundle_affine])
def test_comparing_loads_no_engine_and_no_picture_library(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, str(tmp_path / "bundle")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
