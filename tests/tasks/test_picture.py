import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman.core.errors import InputError
from ferryman.tasks.picture import read_picture, read_picture_size
from ferryman.tasks.pixels import ENGINES
from tests.tasks.engines import pictures_with
from tests.tasks.making import CMYK_JPEG, encode, exif_jpeg, noise, png, png_chunk, write_picture

LOSSLESS = (".png", ".bmp", ".tiff")
SUFFIXES = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff")


@pytest.fixture(params=ENGINES, scope="module", autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    with pictures_with(request.param):
        yield


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_a_lossless_picture_keeps_its_pixels(suffix: str) -> None:
    picture = noise(23, 31)
    assert np.array_equal(read_picture(encode(suffix, picture), name="a"), picture)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_every_format_gives_its_size_without_decoding(suffix: str, tmp_path: Path) -> None:
    assert read_picture_size(write_picture(tmp_path / f"a{suffix}", 23, 31), name="a") == (23, 31)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_off_file_is_refused_at_any_length(suffix: str) -> None:
    content = encode(suffix, noise(33, 47))
    for length in range(0, len(content) - 20, 37):
        with pytest.raises(InputError, match=r"^half\.img is "):
            read_picture(content[:length], name="half.img")


def test_a_cut_off_jpeg_is_refused_even_if_it_holds_a_whole_thumbnail() -> None:
    thumbnail = encode(".jpg", noise(8, 8))
    content = encode(".jpg", noise(64, 64))
    block = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = content[:2] + block + content[2:]
    assert read_picture(whole, name="a").shape == (64, 64, 3)
    with pytest.raises(InputError, match="cut off: its end marker is missing"):
        read_picture(whole[:-500], name="a")


WAYS = {
    "plain": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 7],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("share", [0.1, 0.33, 0.5, 0.65])
def test_a_cut_off_jpeg_is_refused_even_if_it_was_given_an_end(way: str, share: float) -> None:
    photo = cv2.GaussianBlur(noise(360, 640), (0, 0), 3)
    content = encode(".jpg", photo, WAYS[way])
    assert read_picture(content, name="a").shape == (360, 640, 3)
    with pytest.raises(InputError, match=r"^a is a JPEG that is cut off"):
        read_picture(content[: int(len(content) * share)] + b"\xff\xd9", name="a")


@pytest.mark.parametrize("way", WAYS)
def test_a_grey_jpeg_is_not_taken_for_a_cut_off_one(way: str) -> None:
    for seed, (height, width) in enumerate([(1, 1), (8, 8), (17, 33), (64, 200)]):
        grey = np.full((height, width, 3), 128, np.uint8)
        assert np.array_equal(read_picture(encode(".jpg", grey, WAYS[way]), name="a"), grey)
        half = noise(height, width, seed)
        half[height // 2 :] = 128
        assert read_picture(encode(".jpg", half, WAYS[way]), name="a").shape == half.shape


def test_photos_are_read_whole_and_refused_cut_off(shared_data: Path) -> None:
    for photo in sorted(shared_data.glob("imagenet200/*.jpg"))[:40]:
        content = photo.read_bytes()
        read_picture(content, name="a")
        with pytest.raises(InputError, match="is a JPEG that is cut off"):
            read_picture(content[: len(content) // 3] + b"\xff\xd9", name="a")


def test_an_empty_file_says_so() -> None:
    with pytest.raises(InputError, match=r"a\.jpg is empty \(0 bytes\)"):
        read_picture(b"", name="a.jpg")


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"%PDF-1.7 ....", "a PDF document"),
        (b"hello, this is text", "text: 'hello, this is text'"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture; convert it to JPEG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"\x80\x81\x82\x83", "unknown bytes: 80 81 82 83"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, looks_like: str) -> None:
    with pytest.raises(InputError) as caught:
        read_picture(content, name="a.jpg")
    assert f"a.jpg is not a picture that can be read: it looks like {looks_like}" in str(caught.value)


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    side = 30_000
    jpeg = bytearray(encode(".jpg", noise(8, 8)))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", side, side)
    gif = bytearray(encode(".gif", noise(8, 8)))
    gif[6:10] = struct.pack("<HH", side, side)
    webp = bytearray(encode(".webp", noise(8, 8), [cv2.IMWRITE_WEBP_QUALITY, 80]))
    webp[26:30] = struct.pack("<HH", 16383, 16383)
    bmp = bytearray(encode(".bmp", noise(8, 8)))
    bmp[18:26] = struct.pack("<ii", side, -side)
    bmp[30:34] = struct.pack("<I", 1)  # run-length: few bytes may make many pixels
    entries = struct.pack("<HHII", 256, 4, 1, side) + struct.pack("<HHII", 257, 4, 1, side)
    tiff = b"II*\0" + struct.pack("<IH", 8, 2) + entries + struct.pack("<I", 0)
    return {
        "png": png(side, side, 1, 0, bytes(side // 8 + 1) * side),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
        "webp": bytes(webp),
        "bmp": bytes(bmp),
        "tiff": tiff,
    }


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp", "tiff"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(kind: str, bombs: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"bomb: \d+ x \d+ pixels are over the limit of 100000000"):
        read_picture(bombs[kind], name="bomb")


def test_the_limit_of_pixels_can_be_lowered() -> None:
    with pytest.raises(InputError, match="20 x 10 pixels are over the limit of 199"):
        read_picture(encode(".png", noise(10, 20)), name="a", max_pixels=199)


def test_a_cmyk_jpeg_keeps_its_colour() -> None:
    picture = read_picture(base64.b64decode(CMYK_JPEG), name="a")
    blue, green, red = picture.reshape(-1, 3).mean(axis=0)
    assert blue > 250 and green > 250 and red < 5


def test_a_16_bit_png_keeps_its_high_bytes() -> None:
    picture = read_picture(encode(".png", np.full((4, 5, 3), 0x80FF, np.uint16)), name="a")
    assert picture.dtype == np.uint8 and set(picture.ravel().tolist()) == {0x80}


def test_a_grey_picture_gets_three_equal_channels() -> None:
    picture = read_picture(encode(".png", noise(6, 7)[:, :, 0]), name="a")
    assert np.array_equal(picture[:, :, 0], noise(6, 7)[:, :, 0])
    assert np.array_equal(picture[:, :, 0], picture[:, :, 2])


def test_alpha_is_dropped_and_not_blended() -> None:
    picture = np.full((4, 4, 4), (10, 20, 30, 0), np.uint8)
    assert read_picture(encode(".png", picture), name="a")[0, 0].tolist() == [10, 20, 30]


def test_a_jpeg_is_turned_upright_and_its_size_says_so(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(exif_jpeg(noise(20, 40), 6))
    assert read_picture(path, name="a").shape == (40, 20, 3)
    assert read_picture_size(path, name="a") == (40, 20)


def test_the_size_of_a_png_that_is_turned_is_that_of_its_decoded_pixels(tmp_path: Path) -> None:
    exif = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHIHH", 274, 3, 1, 6, 0) + struct.pack("<I", 0)
    path = tmp_path / "turned.png"
    path.write_bytes(png(40, 20, 8, 0, (b"\0" + bytes(40)) * 20, [png_chunk(b"eXIf", exif)]))
    height, width = read_picture(path, name="a").shape[:2]
    assert read_picture_size(path, name="a") == (height, width)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [np.full((6, 8, 3), colour, np.uint8) for colour in ((0, 0, 255), (0, 255, 0))]
    animation = cv2.Animation()
    animation.frames = frames
    animation.durations = [100, 100]
    is_done, content = cv2.imencodeanimation(".gif", animation)
    assert is_done
    _, green, red = read_picture(content.tobytes(), name="a")[0, 0].tolist()
    assert red > 245 and green < 10


def test_a_png_with_a_wrong_checksum_is_refused() -> None:
    content = bytearray(encode(".png", noise(10, 10)))
    content[content.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(InputError, match="checksum of its IDAT chunk is wrong"):
        read_picture(bytes(content), name="a")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a: .*gone\.jpg can't be read: No such file"):
        read_picture(tmp_path / "gone.jpg", name="a")


def test_an_array_must_be_a_picture() -> None:
    assert read_picture(noise(4, 5), name="a").shape == (4, 5, 3)
    for wrong in (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), np.uint8), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(InputError, match="is not a picture"):
            read_picture(wrong, name="a")


def test_a_row_is_not_a_picture() -> None:
    with pytest.raises(InputError, match="a table's row is not a picture"):
        read_picture({"a": 1}, name="a")


@settings(max_examples=60, deadline=None)
@given(
    suffix=st.sampled_from(SUFFIXES),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_altered_bytes_give_a_picture_or_an_input_error(suffix: str, changes: list[tuple[int, int]]) -> None:
    content = bytearray(encode(suffix, noise(12, 16)))
    for place, value in changes:
        content[place % len(content)] = value
    try:
        assert read_picture(bytes(content), name="a", max_pixels=10_000).ndim == 3
    except InputError as error:
        assert str(error).startswith(("a: ", "a is "))
