"""Preprocessing as a graph: the same tensors from the same pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ferryman.core.errors import NotApplicable
from ferryman.core.task import bind_task
from ferryman.export.in_graph.picture import INPUT
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.image import ImageInput
from ferryman.tasks.tensor import TensorSection
from tests.export.in_graph_cases import as_pixels, ask, ask_openvino, parts_of, prepared
from tests.tasks.making import noise, picture_model, signature

sizes = st.integers(1, 300)


@settings(max_examples=40, deadline=None)
@given(
    how=st.sampled_from(["bilinear", "nearest"]),
    fit=st.sampled_from(["letterbox", "stretch", "crop"]),
    anchor=st.sampled_from(["center", "top-left"]),
    sides=st.tuples(sizes, sizes, sizes, sizes),
)
def test_any_size_is_fitted_and_resized_to_the_last_bit(how: Any, fit: Any, anchor: Any, sides: Any) -> None:
    height, width, own_height, own_width = sides
    spec = ClassifySpec(input=ImageInput(fit=fit, anchor=anchor, resize=how))
    wanted, got = prepared(spec, picture_model((own_height, own_width), {"s": (1, 3)}), noise(height, width))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("height", "width", "how"), [(190, 283, "nearest"), (295, 130, "bilinear")])
def test_places_that_depend_on_the_last_bit_of_a_division_are_the_same(height: int, width: int, how: Any) -> None:
    """An engine that fuses the division with what follows rounds once, and picks another row."""
    model = picture_model((235, 38) if how == "nearest" else (230, 253), {"s": (1, 3)})
    spec = ClassifySpec(input=ImageInput(fit="stretch" if how == "nearest" else "crop", resize=how))
    wanted, got = prepared(spec, model, noise(height, width))
    np.testing.assert_array_equal(got, wanted)


def _differences(spec: ClassifySpec, sizes: list[tuple[int, int]], folder: Path) -> list[NDArray[np.float64]]:
    """Give by how much OpenVINO's input of a model of 300 x 300 differs from Python's, of a picture of each size."""
    model, pictures = picture_model((300, 300), {"s": (1, 3)}), [noise(*size) for size in sizes]
    asked = ask_openvino(parts_of(spec, model).before, [as_pixels(picture) for picture in pictures], folder)
    wanted = [bind_task(spec, model).preprocess([picture]).inputs["images"] for picture in pictures]
    return [
        np.abs(np.asarray(got[INPUT], np.float64) - np.asarray(want, np.float64))
        for got, want in zip(asked, wanted, strict=True)
    ]


def test_openvino_resizes_within_a_level_also_where_a_side_would_end_at_a_half(tmp_path: Path) -> None:
    spec = ClassifySpec(input=ImageInput(fit="letterbox"))
    halves = [(1080, 729), (154, 400)]  # 202.5 and 115.5 pixels: 202 and 116
    for difference in _differences(spec, [(33, 41), (300, 200), *halves], tmp_path):
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001


def test_openvino_takes_the_nearest_of_whole_numbers(tmp_path: Path) -> None:
    """Of 333 to 300 Python itself is a last bit below a whole number twice: OpenVINO doesn't see that."""
    spec = ClassifySpec(input=ImageInput(fit="stretch", resize="nearest"))
    same, other = _differences(spec, [(427, 640), (500, 333)], tmp_path)
    assert same.max() == 0
    assert set(np.nonzero(other)[3]) == {100, 200}


def test_a_half_that_float64_misses_by_its_last_bit_goes_where_python_goes() -> None:
    """480 * (300 / 2304) is 62.5, and more than that in float64."""
    wanted, got = prepared(ClassifySpec(), picture_model((300, 300), {"s": (1, 3)}), noise(480, 2304))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("channels", "layout", "dtype"),
    [("RGB", "NCHW", dtype) for dtype in ("float32", "float16", "float64", "uint8", "int8")]
    + [("BGR", "NCHW", "float32"), ("BGR", "NHWC", "uint8"), ("GRAY", "NCHW", "float32"), ("GRAY", "NHWC", "uint8")],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_every_channel_order_layout_and_dtype_holds_the_same_values(
    channels: Any, layout: Any, dtype: str, scaled: bool
) -> None:
    count = 1 if channels == "GRAY" else 3
    shape = (1, count, 32, 40) if layout == "NCHW" else (1, 32, 40, count)
    model = signature({"x": (dtype, shape)}, {"s": ("float32", (1, 3))})
    spread = {"scale": 1 / 60, "mean": (0.485, 0.456, 0.406)[:count], "std": (0.229, 0.224, 0.225)[:count]}
    spec = ClassifySpec(input=ImageInput(channels=channels, layout=layout, **(spread if scaled else {})))
    wanted, got = prepared(spec, model, noise(57, 43))
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("how", ["area", "bicubic", "lanczos"])
def test_a_resize_that_onnx_cannot_do_alike_is_refused_by_name(how: Any) -> None:
    spec = ClassifySpec(input=ImageInput(resize=how))
    with pytest.raises(NotApplicable, match=f"input.resize = '{how}' can't be put in the graph"):
        parts_of(spec, picture_model((24, 24), {"s": (1, 3)}))


def test_a_task_of_tensors_has_nothing_to_put_in_a_graph() -> None:
    with pytest.raises(NotApplicable, match="kind 'tensor' has nothing that could be put in the graph") as told:
        parts_of(TensorSection(), picture_model((24, 24), {"s": (1, 3)}))
    assert "leave build.in_graph out" in told.value.hint


def test_the_pictures_of_one_call_are_prepared_together() -> None:
    spec, model = ClassifySpec(), signature({"x": ("float32", ("n", 3, 24, 24))}, {"s": ("float32", ("n", 3))})
    pictures = [noise(40, 30, 1), noise(40, 30, 2)]
    got = ask(parts_of(spec, model).before, as_pixels(*pictures))[INPUT]
    np.testing.assert_array_equal(got, bind_task(spec, model).preprocess(pictures).inputs["x"])
