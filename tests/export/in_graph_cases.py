"""Run graphs that were written for a task, each by itself, in ONNX Runtime and in OpenVINO."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from ferryman.core.signature import Array, Signature, Tensors
from ferryman.core.task import TaskSpec, bind_task
from ferryman.export.in_graph.parts import Parts, write_parts
from ferryman.export.in_graph.picture import INPUT, PICTURES, PLACEMENT, name_in_graph
from ferryman.tasks.javascript.bound import bind_spec
from ferryman.tasks.picture import Picture


def parts_of(spec: TaskSpec, model: Signature, *, opset: int = 13) -> Parts:
    """Write a task's graphs."""
    return write_parts(bind_spec(spec, model), model, "pre+post", opset=opset)


def as_pixels(*pictures: Picture) -> Tensors:
    """Give pictures of one size as the graph takes them: red first."""
    return {PICTURES: np.ascontiguousarray(np.stack(pictures)[..., ::-1])}


def ask(part: Any, inputs: Tensors) -> dict[str, Array]:  # onnx.ModelProto
    """Run a graph in ONNX Runtime; it has to be valid."""
    onnx.checker.check_model(part, full_check=True)
    engine = onnxruntime.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in engine.get_outputs()]
    return dict(zip(names, engine.run(names, dict(inputs)), strict=True))


def ask_openvino(part: Any, inputs: list[Tensors], folder: Path) -> list[dict[str, Array]]:  # onnx.ModelProto
    """Run a graph in OpenVINO, once for each of `inputs`."""
    import openvino

    onnx.save(part, folder / "part.onnx")
    graph = openvino.convert_model(folder / "part.onnx")
    compiled = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = [compiled(dict(each)) for each in inputs]
    return [{port.get_any_name(): np.array(each[port]) for port in compiled.outputs} for each in given]


def prepared(spec: TaskSpec, model: Signature, picture: Picture) -> tuple[Array, Array]:
    """Give the model's input by Python and by the graph; where the picture lies has to be the same."""
    batch = bind_task(spec, model).preprocess([picture])
    got = ask(parts_of(spec, model).before, as_pixels(picture))
    (place,) = batch.contexts
    wanted = [place.scale_x, place.scale_y, place.left, place.top, place.width, place.height]
    np.testing.assert_allclose(np.asarray(got[PLACEMENT], np.float64), wanted, rtol=1e-6)
    return next(iter(batch.inputs.values())), got[INPUT]


def finished(
    spec: TaskSpec, model: Signature, outputs: Tensors, *pictures: Picture, opset: int = 13
) -> tuple[list[Any], list[Any]]:
    """Give the answers by Python and by the graph, as JSON."""
    task = bind_task(spec, model)
    parts = parts_of(spec, model, opset=opset)
    assert parts.after is not None
    placement = ask(parts.before, as_pixels(*pictures))[PLACEMENT]
    given = {**{name_in_graph(name): value for name, value in outputs.items()}, PLACEMENT: placement}
    got = ask(parts.after, {port.name: given[port.name] for port in parts.after.graph.input})
    return task.postprocess(outputs, task.preprocess(list(pictures))), split(got, len(pictures))


def split(outputs: Tensors, count: int) -> list[Any]:
    """Give each picture's answer of a graph's outputs."""
    if "picture_index" not in outputs:
        return [{name: outputs[name][index].tolist() for name in ("scores", "classes")} for index in range(count)]
    names = ("boxes", "scores", "classes")
    return [
        {name: outputs[name][outputs["picture_index"] == index].tolist() for name in names} for index in range(count)
    ]


def assert_same_boxes(wanted: Any, got: Any) -> None:
    assert got["classes"] == wanted["classes"]
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=2e-6)
    if wanted["boxes"]:
        np.testing.assert_allclose(got["boxes"], wanted["boxes"], atol=2e-3)
