"""Make what every server gets: the models, the questions with their right answers, Ferryman's bundles."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.cases.project import Settings, shared_folder, write_settings
from benchmarks.serving import _graphs
from numpy.typing import NDArray

MODELS = ("T", "M", "D")
_MADE = 4  # change it when what is made here changes
_CANDIDATES = 150  # places of D that score over its threshold, as a usual street picture has
_THRESHOLD = 0.25


@dataclass(frozen=True, slots=True)
class Questions:
    """Hold one question for each model and its right answer, by plain ONNX Runtime."""

    row: NDArray[np.float32]
    tensor: NDArray[np.float32]
    jpeg: bytes
    row_scores: NDArray[np.float32]
    tensor_scores: NDArray[np.float32]
    found: dict[str, list[Any]]  # boxes, scores, classes

    @property
    def scores(self) -> dict[str, NDArray[np.float32]]:
        """Give the right answers of T and M."""
        return {"T": self.row_scores, "M": self.tensor_scores}


def make_models(folder: Path) -> Path:
    """Write the models and the picture, unless they are there; gives their folder."""
    models = folder / f"models-{_MADE}"
    if (models / "picture.jpg").exists():
        return models
    _graphs.write_mlp(models / "T.onnx")
    _graphs.write_mobilenet(models / "M.onnx")
    jpeg = _picture()
    _graphs.write_detector(models / "D.onnx", bias=0.0)
    _graphs.write_detector(models / "D.onnx", bias=_bias(models, jpeg))
    (models / "picture.jpg").write_bytes(jpeg)
    return models


def ask_models(models: Path) -> Questions:
    """Ask ONNX Runtime itself."""
    os.environ["BENCH_MODELS"] = str(models)
    from benchmarks.serving.peers import nets

    rng = np.random.default_rng(0)
    row = rng.normal(size=(1, 30)).round(6).astype(np.float32)  # as JSON each then takes eight or nine bytes
    tensor = rng.normal(size=(1, 3, 224, 224)).round(6).astype(np.float32)
    jpeg = (models / "picture.jpg").read_bytes()
    found = nets.Detector()(jpeg)
    return Questions(row, tensor, jpeg, nets.Plain("T")(row), nets.Plain("M")(tensor), found)


def build_bundles(folder: Path, models: Path, candidates: tuple[str, ...]) -> list[Path]:
    """Build Ferryman's bundles with its own command, unless they are there; raises CalledProcessError."""
    bundles = []
    for name in MODELS:
        project = folder / "bundles" / f"{_MADE}-{'+'.join(candidates)}" / name
        if not _is_readable(project / "dist"):
            _build(project, name, models, candidates)
        bundles.append(project / "dist")
    return bundles


def _is_readable(bundle: Path) -> bool:
    from ferryman.api import load
    from ferryman.core.errors import FerrymanError

    try:  # one that another version of Ferryman built may not be
        load(bundle)
    except FerrymanError:
        return False
    return True


def _build(project: Path, name: str, models: Path, candidates: tuple[str, ...]) -> None:
    project.mkdir(parents=True, exist_ok=True)
    settings: Settings = {
        "model": {"name": name, "source": str(models / f"{name}.onnx")},
        "task": _task(name),
        "data": {"calibration": _data(project, name, models), "golden": 2},
        "build": {"candidates": list(candidates), "threads": 1, "repair": False},
    }
    write_settings(project, settings)
    command = [sys.executable, "-m", "ferryman", "build", str(project), "--output", str(project / "dist"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"could not build Ferryman's bundle of {name}: {done.stderr.strip()[-2000:]}")
    (project / "built.json").write_text(done.stdout, encoding="utf-8")


def _task(name: str) -> dict[str, Any]:  # TOML's own values
    if name == "T":
        return {"kind": "tabular", "columns": [f"column{place}" for place in range(30)], "labels": ["no", "yes"]}
    if name == "M":
        spec = {"fit": "stretch", "scale": 1 / 255}
        return {"kind": "classify", "labels": [f"class{place}" for place in range(1000)], "input": spec}
    spec = {"fit": "letterbox", "scale": 1 / 255}
    return {"kind": "detect", "decoder": "yolov8", "input": spec, "nms": {"score": _THRESHOLD, "iou": 0.65}}


def _data(project: Path, name: str, models: Path) -> str:
    if name != "T":
        (project / "pictures").mkdir(exist_ok=True)
        for copy in range(2):
            (project / "pictures" / f"{copy}.jpg").write_bytes((models / "picture.jpg").read_bytes())
        return "pictures/*.jpg"
    rows = np.random.default_rng(4).normal(size=(16, 30))
    lines = [",".join(f"column{place}" for place in range(30))]
    lines += [",".join(f"{value:.6f}" for value in row) for row in rows]
    (project / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "rows.csv"


def _picture() -> bytes:
    """Give a JPEG of 1280 x 720: a photograph where there are some, else four pictures of a belt side by side."""
    import cv2

    shared = shared_folder()
    photographs = sorted((shared / "coco128_val" / "images").glob("*.jpg")) if shared else []
    if photographs:
        picture = cv2.imread(str(photographs[1]))
    else:
        from ferryman.demo.belt import render

        picture = np.concatenate([render(seed, size=360)[0] for seed in range(4)], 1)
    large = cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_CUBIC)
    encoded: bytes = cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    return encoded


def _bias(models: Path, jpeg: bytes) -> float:
    """Find what to add to the classes' logits so that as many places as in a usual picture score enough."""
    os.environ["BENCH_MODELS"] = str(models)
    import cv2
    from benchmarks.serving.peers import nets

    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    scores = nets.open_session("D").run(None, {"images": nets.letterbox(picture)[0]})[0][0, 4:].max(0)
    edge = float(np.sort(scores)[-_CANDIDATES])
    return float(np.log(_THRESHOLD / (1 - _THRESHOLD)) - np.log(edge / (1 - edge)))


def engines(bundles: list[Path]) -> dict[str, str]:
    """Give what each bundle holds: format and precision."""
    found = {}
    for name, bundle in zip(MODELS, bundles, strict=True):
        manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        found[name] = f"{manifest.get('format', '?')} {manifest.get('precision', '?')}"
    return found
