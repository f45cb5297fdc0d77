"""Each signal of pictures moves under its own corruption, and hardly under others, on real pictures."""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferryman.core.record import Value
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import Item, bind_task
from ferryman.monitor.signals.read import Signals
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.image import ImageInput
from tests.monitor.signals.corrupting import CORRUPTIONS, Picture, cover, moved

SIDE = 416
Table = Mapping[str, Mapping[str, Sequence[float]]]


def signature(side: int = SIDE, *, dtype: str = "float32", planar: bool = True) -> Signature:
    shape: tuple[str | int, ...] = ("batch", 3, side, side) if planar else ("batch", side, side, 3)
    return Signature(
        inputs=(TensorSpec(name="images", dtype=dtype, shape=shape),),
        outputs=(TensorSpec(name="scores", dtype="float32", shape=("batch", 10)),),
    )


def spec_of(**settings: object) -> ClassifySpec:
    return ClassifySpec(input=ImageInput.model_validate({"fit": "letterbox", **settings}))


def read(
    pictures: Sequence[Item], spec: ClassifySpec, signature: Signature, signals: Signals | None = None
) -> dict[str, list[Value]]:
    signals = signals or Signals(spec, signature)
    batch = bind_task(spec, signature).preprocess(pictures)
    found = signals.read(
        inputs=batch.inputs, items=pictures, contexts=batch.contexts, answers=None, outputs=None, rows=len(pictures)
    )
    assert not signals.unread
    return found


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> list[Picture]:
    files = sorted((shared_data / "coco128_val" / "images").glob("*.jpg"))[::4]
    return [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]


@pytest.fixture(scope="module")
def shifts(pictures: list[Picture]) -> Mapping[str, Mapping[str, float]]:
    """Give how far each signal moved under each corruption: from -0.5 to 0.5."""
    spec, port = spec_of(channels="BGR"), signature()
    clean = read(pictures, spec, port)
    found: dict[str, dict[str, float]] = {}
    for name, spoil in CORRUPTIONS.items():
        spoiled = read([spoil(picture) for picture in pictures], spec, port)
        found[name] = {signal: moved(clean[signal], spoiled[signal]) for signal in clean}  # type: ignore[arg-type]  # numbers
    return found


@pytest.mark.parametrize(
    ("corruption", "signal", "least"),
    [
        ("dark", "brightness", -0.45), ("fog", "contrast", -0.45), ("blur", "sharpness", -0.45),
        ("noise", "noise", 0.4), ("tint", "blue", -0.35), ("tint", "red", 0.2), ("cover", "blocked", 0.4),
        ("jpeg", "noise", -0.4), ("jpeg", "faint", -0.4), ("turned", "aspect", -0.2),
    ],
)  # fmt: skip
def test_a_signal_moves_under_its_own_corruption(
    shifts: Mapping[str, Mapping[str, float]], corruption: str, signal: str, least: float
) -> None:
    found = shifts[corruption][f"picture.{signal}"]
    assert found * np.sign(least) >= abs(least)


@pytest.mark.parametrize(
    ("signal", "others"),
    [
        ("brightness", ("fog", "blur", "noise", "tint", "jpeg", "turned")),
        ("contrast", ("dark", "blur", "noise", "tint", "jpeg", "turned")),
        ("sharpness", ("dark", "fog", "noise", "tint", "jpeg", "turned")),
        ("noise", ("tint", "cover", "turned")),
        ("faint", ("dark", "blur", "tint", "turned")),
        ("blue", ("dark", "fog", "blur", "noise", "cover", "jpeg", "turned")),
        ("red", ("dark", "fog", "blur", "noise", "cover", "jpeg", "turned")),
        ("blocked", ("blur", "noise", "tint", "jpeg", "turned")),
        ("aspect", ("dark", "fog", "blur", "noise", "tint", "cover", "jpeg")),
    ],
)
def test_a_signal_hardly_moves_under_others(
    shifts: Mapping[str, Mapping[str, float]], signal: str, others: Sequence[str]
) -> None:
    found = {other: shifts[other][f"picture.{signal}"] for other in others}
    assert {other: shift for other, shift in found.items() if abs(shift) > 0.18} == {}


def test_compression_shows_on_pictures_of_one_bit(shared_data: Path) -> None:
    files = sorted((shared_data / "deeppcb" / "test" / "images").glob("*.png"))[::25]
    boards = [np.asarray(cv2.imread(str(file)), np.uint8) for file in files]
    spec, port = spec_of(channels="BGR"), signature(320)
    clean = read(boards, spec, port)["picture.faint"]
    for quality in (12, 50, 85):
        saved = [cv2.imencode(".jpg", board, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for board in boards]
        spoiled = [np.asarray(cv2.imdecode(one, cv2.IMREAD_COLOR), np.uint8) for one in saved]
        assert moved(clean, read(spoiled, spec, port)["picture.faint"]) > 0.45  # type: ignore[arg-type]  # numbers


def test_the_padding_of_a_letterbox_is_left_out(pictures: list[Picture]) -> None:
    wide = cv2.resize(pictures[0], (400, 100))
    padded = read([wide], spec_of(pad=0), signature())
    filling = read([wide], spec_of(fit="stretch"), signature())
    assert padded["picture.brightness"][0] == pytest.approx(filling["picture.brightness"][0], abs=1)


def test_what_a_caller_padded_is_left_out_too(pictures: list[Picture]) -> None:
    spec, port = spec_of(), signature()
    picture = cv2.resize(pictures[0], (400, 100))
    batch = bind_task(spec, port).preprocess([picture])
    by_item = read([picture], spec, port)
    by_tensor = Signals(spec, port).read(
        inputs=batch.inputs, items=None, contexts=(), answers=None, outputs=None, rows=1
    )
    assert by_tensor["picture.brightness"] == by_item["picture.brightness"]
    assert by_tensor["picture.sharpness"] == by_item["picture.sharpness"]
    assert math.isnan(by_tensor["picture.aspect"][0])  # type: ignore[arg-type]  # a number


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": "RGB"},
        {"channels": "BGR", "layout": "NHWC"},
        {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"channels": "BGR", "dtype": "uint8"},
        {"dtype": "float16"},
    ],
)
def test_signals_are_of_pixels_whatever_the_model_takes(pictures: list[Picture], settings: dict[str, object]) -> None:
    plain = read(pictures[:4], spec_of(channels="BGR"), signature())
    port = signature(dtype=str(settings.get("dtype", "float32")), planar="layout" not in settings)
    other = read(pictures[:4], spec_of(**settings), port)
    assert other.keys() == plain.keys()
    for name, values in plain.items():
        assert other[name] == pytest.approx(values, rel=0.01, abs=0.02), name


def test_a_grey_model_has_no_colour_cast(pictures: list[Picture]) -> None:
    port = Signature(
        inputs=(TensorSpec(name="images", dtype="float32", shape=("batch", 1, SIDE, SIDE)),),
        outputs=signature().outputs,
    )
    found = read(pictures[:2], spec_of(channels="GRAY"), port)
    assert "picture.red" not in found
    colours = read(pictures[:2], spec_of(), signature())
    assert found["picture.brightness"] == pytest.approx(colours["picture.brightness"], abs=1)


def test_a_frozen_frame_is_noticed_and_a_new_one_is_not(pictures: list[Picture]) -> None:
    spec, port = spec_of(), signature()
    signals = Signals(spec, port)
    stream = [*pictures[:5], pictures[4], pictures[4], pictures[5]]
    found = [read([picture], spec, port, signals)["picture.repeated"][0] for picture in stream]
    assert found == [0, 0, 0, 0, 0, 1, 1, 0]


def test_a_frame_is_forgotten_after_64_others(pictures: list[Picture]) -> None:
    spec, port = spec_of(), signature(64)
    signals = Signals(spec, port)
    others = [np.full((64, 64, 3), level, np.uint8) for level in range(64)]
    read([pictures[0], *others], spec, port, signals)
    assert read([pictures[0]], spec, port, signals)["picture.repeated"] == [0.0]
    assert read([pictures[0]], spec, port, signals)["picture.repeated"] == [1.0]


def test_a_lens_that_is_covered_wholly_is_all_blocked(pictures: list[Picture]) -> None:
    rng = np.random.default_rng(1)
    covered = np.clip(20 + rng.normal(0, 3, pictures[0].shape), 0, 255).astype(np.uint8)
    assert read([covered], spec_of(), signature())["picture.blocked"] == [1.0]
    half = read([cover(pictures[0])], spec_of(), signature())["picture.blocked"][0]
    assert half >= 0.45  # type: ignore[operator]  # a number


@pytest.mark.parametrize("side", [1, 7, 8, 40])
def test_tiny_inputs_are_read_as_far_as_they_go(side: int) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (30, 50, 3), np.uint8)
    found = read([picture], spec_of(fit="stretch"), signature(side))
    assert found["picture.aspect"] == [round(math.log2(50 / 30), 3)]
    assert ("picture.brightness" in found) == (side >= 8)


def test_infinities_and_nan_in_a_tensor_are_numbers_or_missing() -> None:
    values = np.full((3, 3, SIDE, SIDE), np.nan, np.float32)
    values[1] = np.inf
    values[2] = 1e38
    signals = Signals(spec_of(), signature())
    found = signals.read(inputs={"images": values}, items=None, contexts=(), answers=None, outputs=None, rows=3)
    assert not signals.unread
    assert all(len(column) == 3 for column in found.values())


def test_looking_at_a_picture_costs_little(pictures: list[Picture]) -> None:
    spec, port = spec_of(), signature()
    batch = bind_task(spec, port).preprocess(pictures[:1])
    signals = Signals(spec, port)
    times = []
    for _ in range(200):
        began_s = time.thread_time()
        signals.read(inputs=batch.inputs, items=None, contexts=batch.contexts, answers=None, outputs=None, rows=1)
        times.append(time.thread_time() - began_s)
    assert min(times) < 0.001  # 0.25 ms on an idle core
