from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ferryman.core.errors import ConfigError, InputError
from ferryman.tasks.image import ImageInput, bind_image
from tests.tasks.making import noise, picture_model, signature

MODEL = picture_model((32, 48), {"out": (1, 5)})


def test_letterbox_at_the_top_left_pads_right_and_below() -> None:
    port = bind_image(ImageInput(anchor="top-left", channels="BGR"), MODEL)
    values, (placement,) = port.write([noise(32, 32)])
    assert values.shape == (1, 3, 32, 48) and values.dtype == np.float32
    assert np.array_equal(values[0, :, :, :32], noise(32, 32).transpose(2, 0, 1))
    assert np.all(values[0, :, :, 32:] == 114)
    assert (placement.left, placement.top, placement.scale_x) == (0, 0, 1)


def test_letterbox_in_the_centre_pads_both_sides() -> None:
    values, (placement,) = bind_image(ImageInput(pad=7), MODEL).write([noise(32, 32)])
    assert np.all(values[0, :, :, :8] == 7) and np.all(values[0, :, :, 40:] == 7)
    assert placement.left == 8


def test_values_follow_the_formula_in_the_order_of_the_channels() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    port = bind_image(ImageInput(fit="stretch", channels="RGB", scale=1 / 255, mean=mean, std=std), MODEL)
    pixels = noise(32, 48)
    values, _ = port.write([pixels])
    wanted = (pixels[:, :, ::-1] / 255 - mean) / std
    np.testing.assert_allclose(values[0].transpose(1, 2, 0), wanted, rtol=1e-5, atol=1e-6)


def test_nhwc_is_nchw_with_its_channels_last() -> None:
    spec: dict[str, Any] = {"scale": 0.5, "mean": (1.0, 2.0, 3.0), "std": (2.0,)}  # keywords of several types
    planar, _ = bind_image(ImageInput(**spec), MODEL).write([noise(50, 20)])
    last = signature({"images": ("float32", (1, 32, 48, 3))}, {"out": ("float32", (1, 5))})
    interleaved, _ = bind_image(ImageInput(layout="NHWC", **spec), last).write([noise(50, 20)])
    np.testing.assert_array_equal(interleaved.transpose(0, 3, 1, 2), planar)


def test_crop_resizes_the_short_side_and_cuts_the_centre() -> None:
    square = picture_model((20, 20), {"out": (1, 5)})
    values, _ = bind_image(ImageInput(fit="crop", channels="BGR"), square).write([noise(20, 60)])
    assert np.array_equal(values[0].transpose(1, 2, 0), noise(20, 60)[:, 20:40])


def test_grey_pictures_have_one_channel() -> None:
    model = signature({"images": ("float32", ("batch", 1, 32, 48))}, {"out": ("float32", ("batch", 5))})
    values, _ = bind_image(ImageInput(channels="GRAY"), model).write([noise(9, 9), noise(40, 40)])
    assert values.shape == (2, 1, 32, 48)


def test_uint8_inputs_keep_pixels_and_int8_inputs_are_rounded_and_clipped() -> None:
    bytes_in = signature({"images": ("uint8", (1, 32, 48, 3))}, {"out": ("uint8", (1, 5))})
    values, _ = bind_image(ImageInput(layout="NHWC", channels="BGR"), bytes_in).write([noise(32, 48)])
    assert np.array_equal(values[0], noise(32, 48))
    signed = signature({"images": ("int8", (1, 32, 48, 3))}, {"out": ("int8", (1, 5))})
    port = bind_image(ImageInput(layout="NHWC", channels="BGR", mean=(128.0,)), signed)
    assert np.array_equal(port.write([noise(32, 48)])[0][0], (noise(32, 48).astype(int) - 128).astype(np.int8))


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    fit=st.sampled_from(["letterbox", "stretch", "crop"]),
    anchor=st.sampled_from(["center", "top-left"]),
)
def test_a_box_comes_back_to_where_it_was(height: int, width: int, fit: str, anchor: str) -> None:
    port = bind_image(ImageInput.model_validate({"fit": fit, "anchor": anchor}), MODEL)
    _, (place,) = port.write([noise(height, width)])
    box = np.asarray([[0.2 * width, 0.3 * height, 0.7 * width, 0.9 * height]])
    scale, offset = np.asarray([place.scale_x, place.scale_y] * 2), np.asarray([place.left, place.top] * 2)
    np.testing.assert_allclose(place.to_picture(box * scale + offset), box, atol=1e-6)


def test_boxes_outside_of_the_picture_are_clipped_to_it() -> None:
    _, (place,) = bind_image(ImageInput(), MODEL).write([noise(10, 10)])
    assert place.to_picture(np.asarray([[-1e9, -5.0, 1e9, 1e9]])).tolist() == [[0, 0, 10, 10]]


def test_a_thin_picture_cannot_be_blown_up_without_limit() -> None:
    port = bind_image(ImageInput(fit="crop"), MODEL)
    with pytest.raises(InputError, match="would be enlarged to"):
        port.write([np.zeros((1, 200_000, 3), np.uint8)])


@pytest.mark.parametrize(
    ("settings_given", "message"),
    [
        ({"size": (416, 416)}, "input.size is .416, 416., but the model's input 'images' is .1, 3, 32, 48."),
        ({"channels": "GRAY"}, "needs 1 channels, but the model's input"),
        ({"layout": "NHWC"}, "in layout NHWC needs 3 channels"),
        ({"dtype": "uint8"}, "input.dtype is uint8, but the model's input 'images' is float32"),
    ],
)
def test_a_spec_that_does_not_fit_the_model_is_refused(settings_given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_image(ImageInput(**settings_given), MODEL)


def test_a_model_of_any_size_needs_a_size() -> None:
    model = signature({"images": ("float32", (1, 3, "h", "w"))}, {"out": ("float32", (1, 5))})
    with pytest.raises(ConfigError, match="its size varies"):
        bind_image(ImageInput(), model)
    assert bind_image(ImageInput(size=(64, 96)), model).write([noise(5, 5)])[0].shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [0.1, 0.2]},
        {"std": [0.0]},
        {"scale": float("inf")},
        {"size": [0, 10]},
        {"resize_short": 256},
        {"sise": [1, 1]},
        {"pad": 300},
    ],
)
def test_a_wrong_setting_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImageInput.model_validate(wrong)
