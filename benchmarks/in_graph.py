"""Set models with their task in the graph beside the separate task: `python benchmarks/in_graph.py`.

Prints a table for docs/in-graph.md: model inputs, boxes and scores of 20 pictures, and time in one interleaved run.
The last column is what ONNX's own Resize would give instead of the resize that is written here.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.plugins import runtime_for
from ferryman.core.proof import CandidateProof
from ferryman.core.signature import Array
from ferryman.core.step import StepContext
from ferryman.core.task import TaskSpec, bind_task, infer_items
from ferryman.demo.belt import LABELS, write_dataset
from ferryman.export.in_graph import JOINERS
from ferryman.export.openvino import ToOpenVINO
from ferryman.runtimes.onnx import OnnxSession
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.detect_spec import DetectSpec
from ferryman.tasks.image import ImageInput
from ferryman.tasks.javascript.bound import bind_spec
from ferryman.tasks.picture import Picture, read_picture
from ferryman.verify.in_graph import STEP, examine_in_graph

DATA = Path(os.environ.get("FERRYMAN_SHARED") or Path(__file__).resolve().parents[2] / "shared" / "data")
COUNT = 20
Case = tuple[str, Path, TaskSpec, list[Path]]


def cases(folder: Path) -> list[Case]:
    """List the models, each with its task and pictures."""
    import cv2

    write_dataset(folder / "belt", count=COUNT, seed=2)
    belt_pictures = sorted((folder / "belt" / "images").glob("*.jpg"))
    for path in belt_pictures:  # else they would be of the model's own size
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (500, 430), interpolation=cv2.INTER_CUBIC))
    models, coco = DATA / "models", sorted((DATA / "coco128_val" / "images").glob("*.jpg"))[:COUNT]
    yolox = DetectSpec(decoder="yolox", labels="coco80", input=ImageInput(anchor="top-left", channels="BGR"))
    belt = DetectSpec(decoder="yolov8", labels=tuple(LABELS), input=ImageInput(scale=1 / 255))
    squeeze = ClassifySpec(input=ImageInput(fit="stretch", channels="BGR", mean=(104, 117, 123)))
    shipped = Path(str(files("ferryman.demo") / "factory_nano.onnx"))
    return [
        ("yolox_nano", models / "yolox_nano.onnx", yolox.resolved(folder), coco),
        ("shipped detector", shipped, belt, belt_pictures),
        ("squeezenet", models / "squeezenet_v1.1.onnx", squeeze, sorted((DATA / "imagenet200").glob("*.jpg"))[:COUNT]),
    ]


def measure(case: Case, engine: str, folder: Path) -> str:
    """Give one row of the table."""
    name, path, spec, pictures = case
    bare = Artifact(path, "onnx", OnnxSession(path, threads=1).signature, digest_file(path))
    if engine == "openvino":
        bare = ToOpenVINO().run(bare, StepContext(folder))
    (folder / "whole").mkdir()
    joined = JOINERS[engine](bare, bind_spec(spec, bare.signature), "pre+post", folder / "whole")
    whole = replace(joined, made_by=(STEP,))
    line = CandidateProof(name=name, format=engine, precision="fp32", status="failed")
    proof = examine_in_graph(line, spec, (bare, whole), pictures, threads=1)
    figures = proof.agreement
    pixels = max(proof.parity.max_abs.values()) if proof.parity else float("nan")
    boxes = f"{figures['max_iou_loss']:.1e}" if "max_iou_loss" in figures else "same classes"
    return (
        f"| {name} | {engine} | {proof.status} | {pixels:.3g} | {boxes} | {figures['max_score_diff']:.1e} | "
        f"{timed(spec, bare, whole, pictures):.2f} | {other_resize(spec, bare, pictures)} |"
    )


def timed(spec: TaskSpec, bare: Artifact, whole: Artifact, pictures: list[Path]) -> float:
    """Give the median of (joined / separate) over turns on decoded pictures, each on one thread."""
    task = bind_task(spec, bare.signature)
    sessions = [runtime_for(one.format).cls().load(one, threads=1) for one in (bare, whole)]
    ratios = []
    for path in pictures * 3:
        picture = read_picture(path, name=path.name)
        started = time.perf_counter()
        infer_items(task, sessions[0], [picture])
        between = time.perf_counter()
        sessions[1].infer({"pictures": np.ascontiguousarray(picture[None, :, :, ::-1])})
        ratios.append((time.perf_counter() - between) / (between - started))
    return median(ratios)


def other_resize(spec: Any, bare: Artifact, pictures: list[Path]) -> str:  # a task's own spec
    """Tell what differs where ONNX's Resize (linear, half_pixel) is rounded to bytes: pixels, and scores."""
    import cv2

    task = bind_task(spec, bare.signature)
    session = runtime_for(bare.format).cls().load(bare, threads=1)
    wanted, got, shares = [], [], []
    for path in pictures:
        picture = read_picture(path, name=path.name)
        placement = task.preprocess([picture]).contexts[0]
        sides = [round(placement.scale_y * placement.height), round(placement.scale_x * placement.width)]
        resized = onnx_resize(picture, sides)
        shares.append(float((resized != cv2.resize(picture, sides[::-1])).mean()))
        wanted += infer_items(task, session, [picture])
        batch = task.preprocess([resized])  # of the size wanted: nothing is resized again
        plain = task.preprocess([picture])
        got += task.postprocess(session.infer(batch.inputs), plain)
    score = task.agreement(wanted, got).figures["max_score_diff"]
    return f"{100 * np.mean(shares):.0f} % of pixels, scores {score:.1e}"


def onnx_resize(picture: Picture, sides: list[int]) -> Picture:
    """Resize by ONNX's operator, and round."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    node = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"
    )
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c", "h", "w"]) for name in "xy"]
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 3, *sides])
    graph = helper.make_graph([node], "resize", ports[:1], ports[1:], [sizes])
    model = helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    engine = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    planes: Array = engine.run(None, {"x": picture.transpose(2, 0, 1)[None].astype(np.float32)})[0]
    return np.ascontiguousarray(np.rint(np.asarray(planes)[0].transpose(1, 2, 0)).astype(np.uint8))


def main() -> None:
    """Print the table."""
    print("| model | engine | verdict | input differs | 1 - IoU, worst | score | time | with ONNX's Resize |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for number, case in enumerate(cases(Path(name))):
            for engine in JOINERS:
                folder = Path(name) / f"{number}-{engine}"
                folder.mkdir()
                print(measure(case, engine, folder))
                sys.stdout.flush()


if __name__ == "__main__":
    main()
