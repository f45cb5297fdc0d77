"""The whole way on one machine: pictures, contract, build, refused and repaired INT8, served answer, drawn picture."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from ferryman import api
from ferryman.client.http import Client
from ferryman.core.errors import FerrymanError
from ferryman.core.progress import Progress
from ferryman.core.task import Answer
from ferryman.demo.belt import LABELS, write_dataset

CALIBRATION_PICTURES = 64
EVALUATION_PICTURES = 150
_STOP_S = 20.0

_DEPLOYMENT = """\
[model]
name = "factory"
source = "factory_nano.onnx"

[task]                                  # what the tensors mean
kind = "detect"
decoder = "yolov8"
labels = [{labels}]
input = {{ size = [320, 320], fit = "letterbox", channels = "RGB", scale = 0.00392156862745098 }}
nms = {{ iou = 0.6, score = 0.01 }}

[data]
calibration = "calibration/images/*.jpg"
evaluation = {{ items = "evaluation/images/*.jpg", labels = "evaluation/labels/*.txt", format = "yolo" }}

[contract]                              # the promise
metric = "map"
max_drop = 0.01
max_score_shift = 0.05
p99_ms = 200
at_rps = 20
max_size_mb = 2
prefer = "latency"
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """Hold what the demo came to."""

    built: api.Built
    answer: Answer
    picture: Path
    url: str


def run_demo(folder: Path, *, port: int, progress: Progress, show: Callable[[api.Built], None]) -> Shown:
    """Make a project in `folder`, build it, serve the bundle in a process of its own and ask that about a new picture.

    `show` is called with the build before it is served. Existing pictures and results in `folder` are used again.
    """
    project = make_project(folder, progress)
    built = api.build(project, progress=progress)
    show(built)
    picture = project / "new" / "images" / "0000.jpg"
    with _served(built.bundle.path, port) as url:
        progress(f"ask {url}")
        with Client(url) as client:
            answer = client.infer_item(built.bundle.manifest.name, picture)
    drawn = project / "answer.jpg"
    api.draw(built.bundle.path, picture, answer, drawn)
    return Shown(built, answer, drawn, url)


def make_project(folder: Path, progress: Progress) -> Path:
    """Write the shipped weights, generated pictures with labels, and ferryman.toml; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (
        ("calibration", CALIBRATION_PICTURES, 11_000_000),
        ("evaluation", EVALUATION_PICTURES, 12_000_000),
        ("new", 1, 13_000_007),
    ):
        if not (folder / name / "done").exists():
            progress(f"generate {count} pictures of a conveyor belt")
            write_dataset(folder / name, count=count, seed=seed)
            (folder / name / "done").touch()
    with as_file(files("ferryman.demo") / "factory_nano.onnx") as weights:
        shutil.copyfile(weights, folder / "factory_nano.onnx")
    labels = ", ".join(f'"{label}"' for label in LABELS)
    (folder / "ferryman.toml").write_text(_DEPLOYMENT.format(labels=labels), encoding="utf-8")
    return folder


@contextmanager
def _served(bundle: Path, port: int) -> Iterator[str]:
    command = [sys.executable, "-m", "ferryman", "serve", str(bundle), "--port", str(port), "--json", "--allow-broken"]
    command += ["--quiet", "--access-log", "off", "--admin-port", "off"]
    # our own interpreter and module, no shell
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        first = server.stdout.readline() if server.stdout else ""
        if not first:
            raise FerrymanError(f"the server stopped with exit code {server.wait()}", hint="its words are above")
        yield _url_of(first)
    finally:
        server.terminate()
        server.wait(timeout=_STOP_S)


def _url_of(line: str) -> str:
    url = next((word.strip('",}') for word in line.split() if word.strip('"').startswith("http")), "")
    if not url:
        raise FerrymanError(f"the server did not say its address: {line.strip()}")
    return url
