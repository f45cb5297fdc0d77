"""The published figures of real models, measured through the tasks with onnxruntime alone."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ferryman.core.deployment import EvaluationSection
from ferryman.core.plugins import find
from ferryman.core.signature import Array, Signature, Tensors, TensorSpec
from ferryman.core.task import Measurement, infer_items
from ferryman.tasks.data import read_samples

YOLOX = {"decoder": "yolox", "nms": {"iou": 0.65, "score": 0.01}}
LETTERBOX = {"fit": "letterbox", "anchor": "top-left", "pad": 114, "channels": "BGR"}


class _Session:
    """Answer with onnxruntime, without Ferryman's own runtime."""

    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.signature = Signature(
            inputs=_ports(self._session.get_inputs()), outputs=_ports(self._session.get_outputs())
        )

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        names = [port.name for port in self.signature.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Nothing to free."""


def _ports(arguments: list[Any]) -> tuple[TensorSpec, ...]:  # onnxruntime's own
    return tuple(
        TensorSpec(name=each.name, dtype="float32", shape=tuple(size or "n" for size in each.shape))
        for each in arguments
    )


def _measure(folder: Path, model: str, task: dict[str, Any], section: EvaluationSection, metric: str) -> Measurement:
    cls = find("tasks", task["kind"]).cls
    spec = cls.Spec.model_validate(task).resolved(folder)
    session = _Session(folder / "models" / model)
    bound = cls(spec, session.signature)
    samples = read_samples(section, folder, spec)
    answers = [answer for item in samples.items for answer in infer_items(bound, session, [item])]
    assert samples.truths is not None
    measured: Measurement = bound.measure(answers, samples.truths, metric)
    return measured


@pytest.mark.slow
def test_yolox_nano_has_its_published_precision(shared_data: Path) -> None:
    task = {"kind": "detect", "labels": "coco80", "input": {"size": [416, 416], **LETTERBOX}, **YOLOX}
    section = EvaluationSection(items="coco128_val/images/*.jpg", labels="coco128_val/labels/*.txt")
    measured = _measure(shared_data, "yolox_nano.onnx", task, section, "map")
    assert measured.value == pytest.approx(0.339, abs=0.005)
    assert measured.figures["ap50:person"] == pytest.approx(0.630, abs=0.01)
    assert measured.resampled(np.arange(128)[None])[0] == measured.value


@pytest.mark.slow
def test_the_circuit_board_detector_has_its_published_precision(shared_data: Path) -> None:
    labels = ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
    nms = {"iou": 0.5, "score": 0.01, "multi_label": True}
    task = {"kind": "detect", "labels": labels, "input": {"size": [320, 320], **LETTERBOX}, **YOLOX, "nms": nms}
    section = EvaluationSection(items="deeppcb/test/images/*.png", labels="deeppcb/test/labels/*.txt")
    measured = _measure(shared_data, "deeppcb_nano_320.onnx", task, section, "map50")
    assert measured.value == pytest.approx(0.716, abs=0.005)


@pytest.mark.slow
def test_squeezenet_has_its_published_accuracy(shared_data: Path) -> None:
    image = {"size": [227, 227], "fit": "stretch", "channels": "BGR", "mean": [104, 117, 123]}
    section = EvaluationSection(items="imagenet200/*.jpg", labels="imagenet200/labels.csv")
    measured = _measure(shared_data, "squeezenet_v1.1.onnx", {"kind": "classify", "input": image}, section, "top1")
    assert measured.value == pytest.approx(0.675, abs=0.001)


def test_the_elec_table_gives_rows_with_their_truth(shared_data: Path) -> None:
    spec = find("tasks", "tabular").cls.Spec.model_validate({"kind": "tabular"})
    section = EvaluationSection(items="tabular/elec.csv.gz", target="class", limit=100)
    samples = read_samples(section, shared_data, spec)
    assert len(samples.items) == 100 and set(samples.truths or ()) == {"0", "1"}
    first: Any = samples.items[0]
    assert list(first) == ["period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
