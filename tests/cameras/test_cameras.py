"""Files and pictures as cameras, the clock of capture, and what is shown of an address."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferryman.cameras._address import redact
from ferryman.cameras._clock import CaptureClock
from ferryman.cameras.pictures import PicturesCamera
from ferryman.cameras.video import VideoCamera
from ferryman.core.errors import ConfigError, InputError
from tests.cameras.streaming import Kept


def write_pictures(folder: Path, names: list[str]) -> None:
    for place, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((8, 10, 3), place * 20, np.uint8))


def test_every_frame_of_a_file_is_read_once_with_its_time(shared_data: Path) -> None:
    with Kept(VideoCamera(source=str(shared_data / "video" / "vtest.avi"))) as kept:
        assert kept.ended.wait(60)
    assert [frame[0] for frame in kept.frames] == list(range(795))
    assert kept.frames[-1][2] == pytest.approx(79.4)
    assert kept.camera.health.state == "ended"
    assert kept.camera.health.fps == 10


def test_a_gif_is_a_video(shared_data: Path) -> None:
    with Kept(VideoCamera(source=str(shared_data / "video" / "store-aisle-detection.gif"))) as kept:
        assert kept.ended.wait(60)
    assert len(kept.frames) > 20
    assert kept.frames[0][3] == (270, 480, 3)


def test_a_looped_file_goes_on_in_time(shared_data: Path) -> None:
    with Kept(VideoCamera(source=str(shared_data / "video" / "store-aisle-detection.gif"), loop=True)) as kept:
        kept.has(400)
    times = [frame[2] for frame in kept.frames]
    assert times == sorted(times)


def test_real_pace_takes_as_long_as_the_video(tmp_path: Path) -> None:
    write_pictures(tmp_path, [f"{number}.png" for number in range(11)])
    begun_s = time.monotonic()
    with Kept(PicturesCamera(source=str(tmp_path), fps=20, pace="real")) as kept:
        assert kept.ended.wait(30)
    assert time.monotonic() - begun_s >= 0.5
    steps = np.diff([frame[1] for frame in kept.frames])
    assert steps == pytest.approx(0.05), "a frame's time is when it was due, however late it was read"


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["10.png", "9.png", "note.png"])
    (tmp_path / "note.png").rename(tmp_path / "note.txt")
    reader = PicturesCamera(source=str(tmp_path / "*")).open()
    frames = [reader.read(), reader.read()]
    assert [int(frame.picture[0, 0, 0]) for frame in frames if frame] == [20, 0]
    assert reader.read() is None


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png can't be read"):
        PicturesCamera(source=str(tmp_path)).open().read()


@pytest.mark.parametrize("content", [b"", b"nothing that a camera gives" * 100])
def test_a_file_that_is_no_video_is_the_users_mistake(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.mp4 can't be read"):
        VideoCamera(source=str(file)).open()


def test_a_video_that_is_cut_off_gives_what_there_is(shared_data: Path, tmp_path: Path) -> None:
    file = tmp_path / "cut.avi"
    file.write_bytes((shared_data / "video" / "vtest.avi").read_bytes()[:3_000_000])
    with Kept(VideoCamera(source=str(file))) as kept:
        assert kept.ended.wait(60)
    assert 200 < len(kept.frames) < 400


def test_a_file_that_is_not_there_and_hardware_that_is_not_known_are_refused(shared_data: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no video nowhere\.mp4"):
        VideoCamera(source="nowhere.mp4").open()
    with pytest.raises(ConfigError, match="doesn't speak pigeon"):
        VideoCamera(source="pigeon://roof/1").open()
    with pytest.raises(ConfigError, match="hardware = 'abacus'"):
        VideoCamera(source=str(shared_data / "video" / "vtest.avi"), hardware="abacus").open()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://user:pass@camera/1", "rtsp://user:***@camera/1"),
        ("rtsp://user:p@ss@camera/1", "rtsp://user:***@camera/1"),
        ("http://camera/v?key=abc&x", "http://camera/v?key=***&x"),
        ("videos/a:b.mp4", "videos/a:b.mp4"),
    ],
)
def test_no_secret_of_an_address_is_shown(source: str, shown: str) -> None:
    assert redact(source) == shown


def test_a_frame_that_waited_on_its_way_is_older() -> None:
    clock = CaptureClock()
    on_time = [clock.captured_s(media_s, 100 + media_s) for media_s in np.arange(0, 2, 0.1)]
    assert on_time == pytest.approx(list(100 + np.arange(0, 2, 0.1)), abs=1e-3)
    assert clock.captured_s(2.0, 102.5) == pytest.approx(102.0, abs=1e-3), "half a second late"
    assert clock.captured_s(0.0, 110.0) == 110.0, "a stream that begins again"
