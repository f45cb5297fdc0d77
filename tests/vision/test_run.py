"""`ferryman run` as its users meet it: real frames, a real model, real servers that die."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ferryman import api
from ferryman.bundle.read import load_bundle
from ferryman.core.errors import ConfigError, WrongAnswers
from ferryman.tasks.picture import read_picture
from ferryman.vision.engine import LocalEngine
from tests.bundle.making import bundle_colour
from tests.cameras.streaming import wait_for
from tests.server.running import running

COLOURS = {"blue": (250, 10, 10), "green": (10, 250, 10), "red": (10, 20, 240)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_colour(tmp_path_factory.mktemp("run") / "colour").path


def write_project(folder: Path, text: str, frames: int = 30) -> Path:
    """Write a project whose camera `belt` shows blue, green and red in turn."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(frames):
        colour = list(COLOURS.values())[number % 3]
        cv2.imwrite(str(pictures / f"{number}.png"), np.full((40, 60, 3), colour, np.uint8))
    (folder / "ferryman.toml").write_text(
        '[model]\nname = "colour"\nsource = "model.onnx"\n[task]\nkind = "classify"\n'
        'labels = ["blue", "green", "red"]\n'
        'input = { size = [8, 8], fit = "stretch", channels = "BGR", scale = 0.01 }\n' + text,
        encoding="utf-8",
    )
    return folder


BELT = '[camera.belt]\nkind = "pictures"\nsource = "pictures"\n'


def best_of(told: list[api.Told]) -> list[str]:
    return [one.answer["labels"][0] for one in told]


def test_every_frame_of_every_camera_is_answered_right_and_in_order(bundle: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, BELT + BELT.replace("belt", "second") + "[pipeline]\nbatch = 2\n")
    told: list[api.Told] = []
    figures = api.run(project, bundle=bundle, tell=told.append)
    for camera in ("belt", "second"):
        mine = [one for one in told if one.camera == camera]
        assert [one.frame for one in mine] == list(range(30))
        assert best_of(mine) == ["blue", "green", "red"] * 10
        assert figures["cameras"][camera]["answered"] == 30
        assert figures["cameras"][camera]["dropped"] == 0


def test_a_bundle_that_answers_otherwise_is_not_run(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    wrong = {**loaded.golden[0].answer, "scores": [0.1, 0.1, 0.8], "labels": ["green", "blue", "red"]}
    golden = type(loaded.golden[0])("changed", loaded.golden[0].item, {**wrong, "classes": [1, 0, 2]})
    with pytest.raises(WrongAnswers, match="golden sample 'changed'"):
        LocalEngine(replace(loaded, golden=(golden,)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no camera"),
        ('[camera.a]\nsource = "x"\nstale = 3\n', r"unknown key 'camera\.a\.stale'; did you mean 'stale_s'"),
        ('[camera.a]\nkind = "vidoe"\nsource = "x"\n', "there is no kind of camera 'vidoe'; did you mean 'video'"),
        ('[pipeline]\ninfer = "remote"\n', 'it must be "local", or one or more of http'),
        ("[pipeline]\nbacth = 2\n", r"unknown key 'pipeline\.bacth'; did you mean 'batch'"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        api.plan_run(write_project(tmp_path, text))


def test_a_picture_that_is_broken_fails_its_camera_and_no_other(bundle: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, BELT + '[camera.bad]\nkind = "pictures"\nsource = "bad"\n')
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"broken")
    figures = api.run(project, bundle=bundle)["cameras"]
    assert figures["belt"]["answered"] == 30
    assert figures["bad"]["state"] == "failed"
    assert "1.png" in figures["bad"]["error"]


@pytest.mark.slow
def test_two_servers_one_of_which_is_killed_lose_no_frame(bundle: Path, tmp_path: Path) -> None:
    with running([bundle]) as first, running([bundle]) as second:
        addresses = f'[pipeline]\ninfer = ["{first.url}", "{second.url}"]\n'
        project = write_project(tmp_path, BELT + addresses, frames=300)
        told: list[api.Told] = []

        def tell(one: api.Told) -> None:
            told.append(one)
            if one.frame == 60:
                os.kill(first.process.pid, signal.SIGKILL)

        figures = api.run(project, tell=tell)["cameras"]["belt"]
    assert best_of(told) == ["blue", "green", "red"] * 100
    assert figures["failed"] == 0


@contextmanager
def run_verb(project: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the verb; gives its process and the view's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ferryman", "run", str(project), "--port", "0", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr
        line = process.stderr.readline()
        assert "http://" in line, line + process.stderr.read()
        yield process, line.split("ready: ")[1].split()[0]
    finally:
        process.kill()
        process.communicate()


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def cameras_at(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get(f"{url}/v1/cameras")[1])["cameras"]
    return found


LIVE = BELT + 'pace = "real"\nfps = 50\nloop = true\n'


@pytest.mark.slow
def test_the_view_shows_pictures_health_and_metrics_while_it_runs(bundle: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, LIVE)
    with run_verb(project, "--bundle", str(bundle)) as (process, url):
        wait_for(lambda: cameras_at(url)["belt"]["answered"] > 20, "answers")
        assert get(f"{url}/health") == (200, b'{"well": true}')
        status, content = get(f"{url}/v1/cameras/belt/picture.jpg")
        assert status == 200
        assert read_picture(content, name="the picture").shape == (40, 60, 3)
        families = {one.name: one for one in text_string_to_metric_families(get(f"{url}/metrics")[1].decode())}
        assert families["ferryman_camera_answered"].samples[0].value > 20
        assert {one.labels["stage"] for one in families["ferryman_pipeline_stage_seconds"].samples} == {
            "prepare", "infer", "finish",
        }  # fmt: skip
        assert b"belt" in get(f"{url}/")[1]
        assert get(f"{url}/v1/cameras/nobody/picture.jpg")[0] == 404
        with urllib.request.urlopen(f"{url}/v1/cameras/belt/stream.mjpeg", timeout=30) as stream:
            assert stream.readline() == b"--frame\r\n"
            assert stream.readline() == b"Content-Type: image/jpeg\r\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 143)


@pytest.mark.slow
def test_json_gives_a_line_a_frame_and_the_figures_last(bundle: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, BELT)
    result = subprocess.run(
        [sys.executable, "-m", "ferryman", "run", project, "--bundle", bundle, "--json", "--no-view", "--quiet"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["frame"] for one in lines[:-1]] == list(range(30))
    assert lines[-1]["cameras"]["belt"]["state"] == "ended"


def test_a_run_is_stopped_by_its_caller_and_after_its_time(bundle: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path, LIVE)
    stop = threading.Event()
    figures = api.run(project, bundle=bundle, tell=lambda one: stop.set() if one.frame == 20 else None, stop=stop)
    assert figures["cameras"]["belt"]["answered"] >= 20
    figures = api.run(project, bundle=bundle, duration_s=0.5)
    assert 1 < figures["cameras"]["belt"]["answered"] < 60
