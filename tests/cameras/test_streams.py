"""Real streams, sent by ffmpeg, broken in the ways that streams break."""

import random
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferryman.cameras.gstreamer import GStreamerCamera
from ferryman.cameras.video import VideoCamera
from tests.cameras.streaming import Kept, ffmpeg, udp_sender, wait_for
from tests.ports import free_port

pytestmark = pytest.mark.tool("ffmpeg")


@pytest.fixture(scope="module")
def bottles(shared_data: Path) -> str:
    return str(shared_data / "video" / "bottle-detection.mp4")


def udp_camera(port: int, **more: float) -> VideoCamera:
    return VideoCamera(source=f"udp://127.0.0.1:{port}", stale_s=1.0, retry_s=0.3, **more)


def test_a_stream_killed_ten_times_comes_back_by_itself_each_time(bottles: str) -> None:
    port = free_port()
    recovered_s = []
    with Kept(udp_camera(port)) as kept:
        for _ in range(10):
            with ffmpeg(*udp_sender(bottles, port)):
                begun_s = time.monotonic()
                kept.has(5)
                recovered_s.append(time.monotonic() - begun_s)
            kept.is_in("stale", "lost")
    assert [number for number, *_ in kept.frames] == list(range(len(kept.frames))), "frames are counted over losses"
    assert kept.camera.health.losses >= 9
    assert max(recovered_s) < 60, "this machine may be busy; what it takes when quiet is in docs/cameras.md"


def test_a_size_that_changes_in_the_stream_changes_the_frames(bottles: str) -> None:
    port = free_port()
    with Kept(udp_camera(port)) as kept:
        with ffmpeg(*udp_sender(bottles, port)):
            kept.has(5)
        with ffmpeg(*udp_sender(bottles, port, "-vf", "scale=320:180")):
            wait_for(lambda: kept.frames[-1][3] == (180, 320, 3), "the smaller picture")
    assert kept.frames[0][3] == (360, 640, 3)


@contextmanager
def damaging(port: int, onto: int) -> Iterator[None]:
    """Pass UDP packets on, with bytes changed in some of them and some of them left out."""
    chance = random.Random(5)
    stopping = threading.Event()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as into,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
    ):
        into.bind(("127.0.0.1", port))
        into.settimeout(0.2)

        def pass_on() -> None:
            while not stopping.is_set():
                try:
                    packet = bytearray(into.recv(65536))
                except TimeoutError:
                    continue
                if chance.random() < 0.1:
                    for _ in range(20):
                        packet[chance.randrange(len(packet))] = chance.randrange(256)
                if chance.random() > 0.02:
                    out.sendto(bytes(packet), ("127.0.0.1", onto))

        thread = threading.Thread(target=pass_on)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()


def test_damaged_and_lost_packets_end_no_camera(bottles: str) -> None:
    port, onto = free_port(), free_port()
    with Kept(udp_camera(onto)) as kept, damaging(port, onto), ffmpeg(*udp_sender(bottles, port)):
        kept.has(60)
    assert kept.camera.health.state in ("live", "ended", "lost")


def test_a_picture_that_stays_the_same_is_told_as_frozen(bottles: str, tmp_path: Path) -> None:
    port = free_port()
    still = str(tmp_path / "still.png")
    subprocess.run(["ffmpeg", "-loglevel", "error", "-i", bottles, "-frames:v", "1", still], check=True)
    with Kept(udp_camera(port, frozen_s=1.0, frozen_levels=12)) as kept:
        with ffmpeg("-loop", "1", *udp_sender(still, port)[:1], *udp_sender(still, port)[3:]):
            kept.is_in("frozen")
        with ffmpeg(*udp_sender(bottles, port)):
            kept.is_in("live")
    assert not kept.camera.health.error


def test_rtsp_is_read_again_after_its_sender_was_killed(bottles: str) -> None:
    port = free_port()
    address = f"rtsp://127.0.0.1:{port}/line"
    push = (
        "-re",
        "-stream_loop",
        "-1",
        "-i",
        bottles,
        "-c:v",
        "mpeg4",
        "-g",
        "5",
        "-f",
        "rtsp",
        "-rtsp_transport",
        "tcp",
    )
    camera = VideoCamera(source=address, listen=True, open_timeout_s=3.0, stale_s=1.0, retry_s=0.2)
    with Kept(camera) as kept:
        for _ in range(3):
            wanted = len(kept.frames) + 5
            end_s = time.monotonic() + 90
            while len(kept.frames) < wanted:  # a sender may come while nobody listens, as real ones do
                assert time.monotonic() < end_s, kept.camera.health
                with ffmpeg(*push, address) as sender:
                    while len(kept.frames) < wanted and sender.poll() is None:
                        assert time.monotonic() < end_s, kept.camera.health
                        time.sleep(0.01)
    assert [number for number, *_ in kept.frames] == list(range(len(kept.frames)))


def test_http_mjpeg_keeps_its_frames_in_order(bottles: str) -> None:
    port = free_port()
    serve = ("-re", "-stream_loop", "-1", "-i", bottles, "-c:v", "mjpeg", "-f", "mpjpeg", "-listen", "1")
    with (
        ffmpeg(*serve, f"http://127.0.0.1:{port}/belt"),
        Kept(VideoCamera(source=f"http://127.0.0.1:{port}/belt", stale_s=2.0, retry_s=0.2)) as kept,
    ):
        kept.has(20)
    captured = [one[1] for one in kept.frames]
    assert captured == sorted(captured)


def test_an_address_where_nobody_sends_is_lost_and_its_password_not_shown() -> None:
    camera = VideoCamera(source=f"rtsp://eye:secret@127.0.0.1:{free_port()}/x", open_timeout_s=1.0, retry_s=0.2)
    with Kept(camera) as kept:
        kept.is_in("lost")
        assert "secret" not in kept.camera.health.error
        assert "eye:***@" in kept.camera.health.error


@pytest.mark.tool("gst-launch-1.0")
def test_a_gstreamer_pipeline_gives_frames_with_their_times() -> None:
    source = "videotestsrc num-buffers=40 ! video/x-raw,width=320,height=240,framerate=20/1"
    with Kept(GStreamerCamera(source=source, live=False)) as kept:
        assert kept.ended.wait(30)
    assert len(kept.frames) == 40
    assert kept.frames[-1][2] == pytest.approx(39 / 20, abs=0.06)
    assert kept.frames[0][3] == (240, 320, 3)


@pytest.mark.tool("gst-launch-1.0")
def test_a_gstreamer_pipeline_that_can_not_run_says_why() -> None:
    with Kept(GStreamerCamera(source="nosuchelement", retry_s=0.2)) as kept:
        kept.is_in("lost")
        assert "nosuchelement" in kept.camera.health.error


def test_streams_are_tried_with_a_real_ffmpeg() -> None:
    assert subprocess.run(["ffmpeg", "-version"], capture_output=True, check=True).stdout.startswith(b"ffmpeg version")
