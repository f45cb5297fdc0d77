"""The same task spec in JavaScript: the same tensors from the same pixels, the same answers from the same tensors."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.core.errors import ConfigError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import TaskSpec, bind_task
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.detect_spec import DetectOutputs, DetectSpec, Suppression
from ferryman.tasks.image import ImageInput
from ferryman.tasks.javascript.module import render_module, render_page
from ferryman.tasks.picture import Picture, read_picture
from ferryman.tasks.tabular import TabularSpec
from ferryman.tasks.tensor import TensorSection
from tests.tasks.asking_node import Node
from tests.tasks.making import noise, picture_model, signature

_WITHIN_A_LEVEL = {"bilinear": 0, "nearest": 0, "area": 1, "bicubic": 1, "lanczos": 1}
"""By interpolation: how many of 255 levels a pixel may differ from OpenCV's."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("node") is None:
        pytest.skip("NOT TESTED: node is not installed")
    with Node(tmp_path_factory.mktemp("node")) as asked:
        yield asked


def prepared(node: Node, spec: TaskSpec, model: Signature, picture: Picture) -> tuple[Array, Array]:
    """Give the input tensor by Python and by JavaScript."""
    wanted = bind_task(spec, model).preprocess([picture]).inputs
    got = node.preprocess(render_module(spec, model), [picture])
    assert got.keys() == wanted.keys()
    name = next(iter(wanted))
    return wanted[name], got[name]


def finished(node: Node, spec: TaskSpec, model: Signature, outputs: Mapping[str, Array], picture: Picture) -> Any:
    """Give the answer by Python and by JavaScript."""
    task = bind_task(spec, model)
    wanted = task.postprocess(outputs, task.preprocess([picture]))
    return wanted[0], node.postprocess(render_module(spec, model), [picture], outputs)[0]


def assert_same_boxes(wanted: Any, got: Any) -> None:
    assert got["classes"] == wanted["classes"]
    assert got["labels"] == wanted["labels"]
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=1e-6)
    if wanted["boxes"]:
        np.testing.assert_allclose(got["boxes"], wanted["boxes"], atol=2e-3)


sizes = st.integers(1, 90)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    how=st.sampled_from(sorted(_WITHIN_A_LEVEL)),
    fit=st.sampled_from(["letterbox", "stretch", "crop"]),
    anchor=st.sampled_from(["center", "top-left"]),
    sides=st.tuples(sizes, sizes, sizes, sizes),
    seed=st.integers(0, 9),
)
def test_any_size_is_fitted_and_resized_as_python_does(
    node: Node, how: Any, fit: Any, anchor: Any, sides: tuple[int, int, int, int], seed: int
) -> None:
    height, width, own_height, own_width = sides
    spec = ClassifySpec(input=ImageInput(fit=fit, anchor=anchor, resize=how))
    model = picture_model((own_height, own_width), {"scores": (1, 3)})
    wanted, got = prepared(node, spec, model, noise(height, width, seed))
    assert got.shape == wanted.shape
    difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    assert difference.max() <= _WITHIN_A_LEVEL[how]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("how", sorted(_WITHIN_A_LEVEL))
def test_shrinking_by_a_whole_number_takes_opencvs_short_cut(node: Node, how: Any, scale: int) -> None:
    spec = ClassifySpec(input=ImageInput(fit="stretch", resize=how))
    wanted, got = prepared(node, spec, picture_model((20, 30), {"s": (1, 3)}), noise(20 * scale, 30 * scale))
    assert np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max() <= _WITHIN_A_LEVEL[how]


@pytest.mark.parametrize("channels", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_channel_order_layout_and_normalization_gives_the_same_floats(
    node: Node, channels: Any, layout: Any
) -> None:
    count = 1 if channels == "GRAY" else 3
    mean, std = (0.485, 0.456, 0.406)[:count], (0.229, 0.224, 0.225)[:count]
    spec = ClassifySpec(input=ImageInput(channels=channels, layout=layout, scale=1 / 255, mean=mean, std=std))
    shape = (1, count, 32, 40) if layout == "NCHW" else (1, 32, 40, count)
    model = signature({"x": ("float32", shape)}, {"scores": ("float32", (1, 3))})
    wanted, got = prepared(node, spec, model, noise(57, 43))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int8"])
@pytest.mark.parametrize("shift", [0.0, 127.5])
def test_every_dtype_of_tensor_holds_the_same_values(node: Node, dtype: str, shift: float) -> None:
    spec = ClassifySpec(input=ImageInput(mean=(shift,)))
    model = signature({"x": (dtype, (1, 3, 24, 24))}, {"scores": ("float32", (1, 3))})
    wanted, got = prepared(node, spec, model, noise(30, 41))
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


def test_a_crop_that_would_need_an_enormous_picture_is_refused_here_too(node: Node) -> None:
    spec = ClassifySpec(input=ImageInput(fit="crop"))
    with pytest.raises(RuntimeError, match="would be enlarged to 1120000 x 224"):
        node.preprocess(render_module(spec, picture_model((224, 224), {"s": (1, 3)})), [noise(1, 5000)])


def test_pixels_that_are_not_rgba_are_refused_by_their_size(node: Node) -> None:
    module = render_module(ClassifySpec(), picture_model((8, 8), {"s": (1, 3)}))
    with pytest.raises(RuntimeError, match="picture 1 is not RGBA: 3 bytes for 2 x 2 pixels"):
        node.ask(module, "preprocess([{data: new Uint8Array(3), width: 2, height: 2}])")


def _grid_output(rows: int, classes: int, seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    output = generator.random((1, rows, 5 + classes), dtype=np.float32)
    output[..., :2] *= 2
    output[..., 2:4] = generator.normal(1, 0.6, (1, rows, 2))
    output[..., 4] **= 4
    return output


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("agnostic", [False, True])
def test_a_yolox_grid_becomes_the_same_boxes(node: Node, multi_label: bool, agnostic: bool) -> None:
    nms = Suppression(multi_label=multi_label, agnostic=agnostic, score=0.2, max=60)
    spec = DetectSpec(decoder="yolox", nms=nms, labels=("a", "b", "c"))
    model = picture_model((64, 96), {"output": (1, 126, 8)})
    wanted, got = finished(node, spec, model, {"output": _grid_output(126, 3)}, noise(50, 80))
    assert len(wanted["boxes"]) > 10
    assert_same_boxes(wanted, got)


@pytest.mark.parametrize(("decoder", "shape"), [("yolov5", (1, 60, 9)), ("yolov8", (1, 8, 60)), ("yolov8", (1, 60, 8))])
def test_boxes_in_pixels_become_the_same_boxes(node: Node, decoder: Any, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(4)
    values = generator.random(shape, dtype=np.float32)
    rows = values.transpose(0, 2, 1) if decoder == "yolov8" and shape[1] == 8 else values
    rows[..., :2] *= 64
    rows[..., 2:4] *= 30
    spec = DetectSpec(decoder=decoder, labels=("a", "b", "c", "d"), nms=Suppression(score=0.1, iou=0.5))
    wanted, got = finished(node, spec, picture_model((64, 64), {"output": shape}), {"output": values}, noise(90, 70))
    assert len(wanted["boxes"]) > 5
    assert_same_boxes(wanted, got)


@pytest.mark.parametrize("box_format", ["xyxy", "yxyx", "xywh", "cxcywh"])
@pytest.mark.parametrize("decoder", ["nms", "end2end"])
def test_listed_boxes_of_every_format_become_the_same_boxes(node: Node, decoder: Any, box_format: Any) -> None:
    rows = np.random.default_rng(5).random((1, 30, 6), dtype=np.float32)
    rows[..., 5] = np.arange(30) % 4 - 1  # -1: padding
    spec = DetectSpec(decoder=decoder, box_format=box_format, normalized=True, first_class=0)
    wanted, got = finished(node, spec, picture_model((48, 64), {"rows": (1, 30, 6)}), {"rows": rows}, noise(40, 50))
    assert wanted["boxes"]
    assert_same_boxes(wanted, got)


def test_separate_boxes_scores_and_classes_end_at_their_count(node: Node) -> None:
    model = signature(
        {"images": ("float32", (1, 3, 32, 32))},
        {
            "boxes": ("float32", (1, 9, 4)), "scores": ("float32", (1, 9)), "classes": ("int64", (1, 9)),
            "num": ("int32", (1,)),
        },
    )  # fmt: skip
    generator = np.random.default_rng(6)
    outputs: dict[str, Array] = {
        "boxes": generator.random((1, 9, 4), dtype=np.float32) * 32, "scores": generator.random((1, 9), np.float32),
        "classes": np.arange(9, dtype=np.int64)[None], "num": np.array([6], np.int32),
    }  # fmt: skip
    named = DetectOutputs(boxes="boxes", scores="scores", classes="classes", count="num")
    spec = DetectSpec(decoder="nms", box_format="xywh", first_class=1, outputs=named)
    wanted, got = finished(node, spec, model, outputs, noise(30, 30))
    assert 0 < len(wanted["boxes"]) < 6
    assert_same_boxes(wanted, got)


def test_a_broken_model_s_infinities_and_nans_give_the_same_answer(node: Node) -> None:
    output = _grid_output(126, 3)
    output[0, ::3, 0], output[0, 1::7, 2], output[0, ::5, 4] = np.nan, 1e4, np.nan
    spec = DetectSpec(decoder="yolox")
    wanted, got = finished(
        node, spec, picture_model((64, 96), {"output": (1, 126, 8)}), {"output": output}, noise(8, 8)
    )
    assert_same_boxes(wanted, got)


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_classes_and_scores_are_the_same(node: Node, activation: Any) -> None:
    values = np.random.default_rng(7).normal(0, 3, (1, 50)).astype(np.float32)
    values[0, 3] = values[0, 30]  # a tie, in the order of classes
    spec = ClassifySpec(activation=activation, top_k=40, labels=tuple(f"é{number}" for number in range(50)))
    wanted, got = finished(node, spec, picture_model((8, 8), {"s": (1, 50)}), {"s": values}, noise(8, 8))
    assert (got["classes"], got["labels"]) == (wanted["classes"], wanted["labels"])
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=1e-6)


def test_a_score_that_is_no_number_comes_last(node: Node) -> None:
    values = np.array([[0.1, np.nan, 0.3]], np.float32)
    wanted, got = finished(
        node, ClassifySpec(top_k=3), picture_model((8, 8), {"s": (1, 3)}), {"s": values}, noise(8, 8)
    )
    assert got["classes"] == wanted["classes"] == [2, 0, 1]


_COLUMNS = signature(
    {"age": ("float32", ("n", 1)), "city": ("string", ("n", 1)), "visits": ("int64", ("n", 1))},
    {"label": ("int64", ("n",)), "probabilities": ("float32", ("n", 2))},
)


def test_rows_become_the_same_columns_and_labels(node: Node) -> None:
    spec = TabularSpec(labels=("stays", "goes"))
    rows: list[Any] = [{"age": "1.5", "city": "Köln", "visits": 3}, {"age": 2, "city": None, "visits": True}]
    module, task = render_module(spec, _COLUMNS), bind_task(spec, _COLUMNS)
    wanted, got = task.preprocess(rows), node.ask(module, f"preprocess({json.dumps(rows)}).inputs")
    for name, values in wanted.inputs.items():
        assert got[name]["dtype"] == ("string" if values.dtype == object else values.dtype.name)
        assert got[name]["shape"] == list(values.shape)
        assert got[name]["data"] == values.ravel().tolist()
    shares = np.array([[0.75, 0.25], [0.125, 0.875]], np.float32)
    outputs: dict[str, Array] = {"label": np.array([0, 1], np.int64), "probabilities": shares}
    assert node.postprocess(module, [None, None], outputs) == task.postprocess(outputs, wanted)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"age": "old", "city": "x", "visits": 1}, "row 1, column 'age': \"old\" is not a number"),
        ({"age": 1, "city": "x", "visits": 1.5}, "row 1, column 'visits': 1.5 is not a whole number"),
        ({"age": 1, "city": "x"}, "row 1 lacks column 'visits'"),
        ({"age": 1, "city": "x", "visits": 1, "sex": 0}, "row 1 has a column 'sex' that the model doesn't take"),
        ({"age": None, "city": "x", "visits": 1}, "row 1, column 'age' is empty"),
        ({"age": 1, "city": ["x"], "visits": 1}, "row 1, column 'city': what it holds is neither text nor a number"),
    ],
)
def test_a_wrong_row_is_refused_by_row_and_column(node: Node, row: dict[str, Any], told: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        node.ask(render_module(TabularSpec(), _COLUMNS), f"preprocess([{json.dumps(row)}])")
    assert told in str(caught.value)


@pytest.mark.parametrize(("name", "shape"), [("prediction", ("n", 1)), ("probabilities", ("n", 1))])
def test_a_value_and_a_one_sided_probability_are_read_as_in_python(
    node: Node, name: str, shape: Sequence[int | str]
) -> None:
    model = signature({"x": ("float32", ("n", 2))}, {name: ("float32", shape)})
    rows = [{"a": 1.0, "b": 2.0}, {"a": 0.0, "b": 0.0}]
    outputs = {name: np.array([[0.25], [0.75]], np.float32)}
    task = bind_task(TabularSpec(), model)
    wanted = task.postprocess(outputs, task.preprocess(rows))
    assert node.postprocess(render_module(TabularSpec(), model), [None, None], outputs) == wanted


def test_tensors_pass_through_with_or_without_their_batch_dimension(node: Node) -> None:
    model = signature({"x": ("int64", ("n", 2))}, {"y": ("float32", ("n", 2))})
    module, task = render_module(TensorSection(), model), bind_task(TensorSection(), model)
    items: list[Any] = [{"x": [1, 2]}, {"x": [[3, 4], [5, 6]]}]
    batch = task.preprocess(items)
    got = node.ask(module, f"preprocess({json.dumps(items)})")
    assert got["inputs"]["x"] == {"dtype": "int64", "shape": [3, 2], "data": [1, 2, 3, 4, 5, 6]}
    outputs = {"y": np.arange(6, dtype=np.float32).reshape(3, 2)}
    answers = node.postprocess(module, list(batch.contexts), outputs)
    assert answers == task.postprocess(outputs, batch)


def test_a_kind_of_task_without_javascript_is_refused_by_name() -> None:
    class OtherSpec(TaskSpec):
        kind: str = "speech"

    with pytest.raises(ConfigError, match="tasks of kind 'speech' have no JavaScript"):
        render_module(OtherSpec(), picture_model((8, 8), {"s": (1, 3)}))


def test_the_module_is_the_same_each_time_and_imports_nothing() -> None:
    spec, model = DetectSpec(decoder="yolox"), picture_model((64, 96), {"output": (1, 126, 8)})
    module = render_module(spec, model)
    assert module == render_module(spec, model)
    assert not [line for line in module.splitlines() if line.startswith("import")]
    assert len(module) < 50_000


def test_a_title_can_t_break_out_of_the_page() -> None:
    page = render_page(ClassifySpec(), picture_model((8, 8), {"s": (1, 3)}), title="<script>alert(1)</script>")
    assert "<script>alert" not in page["index.html"]
    assert set(page) == {"index.html", "page.js", "ferryman.js", "package.json"}


def test_twenty_photographs_become_the_same_tensors(node: Node, shared_data: Path) -> None:
    photographs = sorted((shared_data / "coco128_val" / "images").iterdir())[:20]
    spec = DetectSpec(decoder="yolox", input=ImageInput(anchor="top-left", channels="BGR"))
    model = picture_model((416, 416), {"output": (1, 3549, 85)})
    for path in photographs:
        wanted, got = prepared(node, spec, model, read_picture(path, name=path.name))
        np.testing.assert_array_equal(got, wanted, path.name)
