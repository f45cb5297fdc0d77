"""Pictures are the same pixels with OpenCV and without it."""

import base64
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ferryman.core.errors import ConfigError, MissingExtra
from ferryman.tasks import _opencv, _pillow
from ferryman.tasks.classify import ClassifySpec
from ferryman.tasks.headers import BadPicture, read_header
from ferryman.tasks.image import ImageInput, bind_image, needs_opencv
from ferryman.tasks.pixels import VARIABLE, picture_engine
from ferryman.tasks.tabular import TabularSpec
from tests.tasks.engines import pictures_with
from tests.tasks.making import CMYK_JPEG, encode, exif_jpeg, noise, picture_model, png, png_chunk

SIDE = st.integers(1, 96)
PHOTO = np.add.outer(np.arange(67) * 3, np.arange(93) * 2)[:, :, None] + np.array([0, 60, 120]) & 255
COLOUR = Image.fromarray(PHOTO.astype(np.uint8))


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Write a picture with Pillow; options are the format's own."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def check_equal(content: bytes) -> None:
    header = read_header(content)
    np.testing.assert_array_equal(_pillow.decode(content, header), _opencv.decode(content, header))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def raw_png(bits: int, colour: int, channels: int) -> bytes:
    random = np.random.default_rng(bits + colour)
    length = (31 * channels * bits + 7) // 8
    rows = b"".join(b"\0" + random.bytes(length) for _ in range(17))
    palette = [png_chunk(b"PLTE", random.bytes(3 << bits))] if colour == 3 else []
    return png(31, 17, bits, colour, rows, [png_chunk(b"gAMA", struct.pack(">I", 100_000)), *palette])


JPEGS = [
    (kind, options)
    for kind in ("RGB", "L", "CMYK")
    for options in ({"quality": 30}, {"quality": 92, "subsampling": 0}, {"progressive": True, "subsampling": 1})
]


@pytest.mark.parametrize(("kind", "options"), JPEGS)
def test_a_jpeg_is_the_same_pixels(kind: str, options: dict[str, Any]) -> None:
    check_equal(saved(COLOUR.convert(kind), "JPEG", **options))


def test_a_jpeg_of_adobes_inks_and_one_of_plain_colours_are_the_same_pixels() -> None:
    check_equal(base64.b64decode(CMYK_JPEG))
    check_equal(saved(COLOUR, "JPEG", keep_rgb=True))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_alike(orientation: int) -> None:
    check_equal(exif_jpeg(noise(21, 34), orientation))
    check_equal(saved(COLOUR, "TIFF", tiffinfo={274: orientation}))
    for kind in ("PNG", "WEBP", "AVIF"):
        check_equal(saved(COLOUR, kind, exif=turned(orientation)))


FORMS = [
    *[(form, kind) for form in ("PNG", "WEBP", "AVIF") for kind in ("1", "L", "LA", "P", "RGB", "RGBA")],
    *[(form, kind) for form in ("BMP", "GIF", "TIFF") for kind in ("1", "L", "P", "RGB")], ("BMP", "RGBA"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_every_kind_of_colours_is_the_same_pixels(form: str, kind: str) -> None:
    picture = COLOUR.convert(kind)
    if kind.endswith("A"):
        picture.putalpha(Image.fromarray(noise(*PHOTO.shape[:2])[:, :, 0]))
    check_equal(saved(picture, form))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_pngs_of_all_depths_are_the_same_pixels(bits: int) -> None:
    check_equal(raw_png(bits, 0, 1))
    if bits < 16:
        check_equal(raw_png(bits, 3, 1))
    if bits >= 8:
        for colour, channels in ((2, 3), (4, 2), (6, 4)):
            check_equal(raw_png(bits, colour, channels))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "jpeg"])
def test_compressed_tiffs_are_the_same_pixels(compression: str) -> None:
    check_equal(saved(COLOUR, "TIFF", compression=compression))


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_is_taken_with_both(form: str) -> None:
    check_equal(saved(COLOUR, form, save_all=True, append_images=[COLOUR.transpose(Image.Transpose.ROTATE_180)]))


REFUSED = {
    "a transparent GIF": encode(".gif", np.dstack([noise(20, 30), np.indices((20, 30))[0] % 2 * 255]).astype(np.uint8)),
    "a transparent TIFF": saved(COLOUR.convert("RGBA"), "TIFF"),
    "a TIFF of inks": saved(COLOUR.convert("CMYK"), "TIFF"),
    "a TIFF of 16 bits": encode(".tiff", noise(9, 9).astype(np.uint16) * 257),
    "a TIFF of another space": saved(COLOUR.convert("LAB"), "TIFF"),
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_what_would_be_other_pixels_is_refused_without_opencv(content: bytes) -> None:
    with pytest.raises(BadPicture, match="can't be decoded without OpenCV"):
        _pillow.decode(content, read_header(content))


@pytest.mark.parametrize("form", [".jpg", ".png", ".bmp", ".webp"])
def test_a_damaged_file_is_the_same_pixels_or_refused_by_both(form: str) -> None:
    content, random = encode(form, noise(24, 32)), np.random.default_rng(1)
    told = {"decoded": 0, "refused": 0}
    for _ in range(150):
        place, value = random.integers(0, len(content)), random.bytes(1)
        altered = content[:place] + value + content[place + 1 :]
        try:
            header = read_header(altered)
        except BadPicture:
            continue
        if header.width * header.height > 10_000:
            continue
        found = [decoded(engine, altered) for engine in (_opencv, _pillow)]
        told["refused" if found[0] is None else "decoded"] += 1
        assert (found[0] is None) == (found[1] is None)
        if found[0] is not None and found[1] is not None:
            np.testing.assert_array_equal(found[0], found[1])
    assert sum(told.values()) >= (0 if form == ".png" else 20), told  # of a PNG each chunk has its checksum


def decoded(engine: Any, content: bytes) -> NDArray[np.uint8] | None:  # a module
    try:
        pixels: NDArray[np.uint8] = engine.decode(content, read_header(content))
    except BadPicture:
        return None
    return pixels


def test_all_real_pictures_are_the_same_pixels(shared_data: Path) -> None:
    pictures = sorted([*shared_data.rglob("*.jpg"), *shared_data.rglob("*.png")])
    assert len(pictures) > 300
    for picture in pictures[::4]:
        check_equal(picture.read_bytes())


@settings(max_examples=400, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from(["free", "half", "double", "rows", "columns"]))
def test_resized_pictures_are_the_same_pixels(height: int, width: int, to: int, across: int, ratio: str) -> None:
    sizes = {"half": (2 * to, 2 * across), "rows": (to, width), "columns": (height, across)}
    picture = noise(*sizes.get(ratio, (height, width)))
    if ratio == "double":
        to, across = 2 * height, 2 * width
    for how in ("bilinear", "nearest"):
        wanted = _opencv.resize(picture, to, across, how)
        np.testing.assert_array_equal(_pillow.resize(picture, to, across, how), wanted)


@pytest.mark.parametrize(
    "sizes", [(480, 640, 312, 416), (1080, 1920, 234, 416), (375, 500, 480, 640), (3, 5000, 224, 224), (1, 1, 300, 300)]
)
def test_large_pictures_are_resized_to_the_same_pixels(sizes: tuple[int, int, int, int]) -> None:
    picture = noise(*sizes[:2])
    for how in ("bilinear", "nearest"):
        wanted = _opencv.resize(picture, *sizes[2:], how)
        np.testing.assert_array_equal(_pillow.resize(picture, *sizes[2:], how), wanted)


def test_brightness_is_the_same() -> None:
    every = (np.indices((52, 52, 52)) * 5).astype(np.uint8).reshape(3, 52, -1).transpose(1, 2, 0)
    np.testing.assert_array_equal(_pillow.grey(every), _opencv.grey(np.ascontiguousarray(every)))


@pytest.fixture
def pillow() -> Iterator[None]:
    with pictures_with("pillow"):
        yield


@pytest.mark.usefixtures("pillow")
@pytest.mark.parametrize("how", ["area", "bicubic", "lanczos"])
def test_a_resize_that_only_opencv_does_is_refused_as_the_model_is_loaded(how: Any) -> None:
    with pytest.raises(MissingExtra, match=rf"input\.resize = '{how}' needs OpenCV") as caught:
        bind_image(ImageInput(resize=how), picture_model((8, 8), {"out": (1, 2)}))
    assert "opencv-python-headless" in caught.value.hint and "bilinear and nearest" in caught.value.hint


def test_a_task_tells_whether_it_needs_opencv() -> None:
    assert needs_opencv(ClassifySpec(input=ImageInput(resize="area")))
    assert not needs_opencv(ClassifySpec())
    assert not needs_opencv(TabularSpec())


def test_an_engine_that_does_not_exist_is_named() -> None:
    with pictures_with("gimp"), pytest.raises(ConfigError, match=rf"{VARIABLE} is 'gimp'"):
        picture_engine()


@pytest.mark.usefixtures("pillow")
def test_the_engine_that_is_asked_for_is_used() -> None:
    assert picture_engine() is _pillow
