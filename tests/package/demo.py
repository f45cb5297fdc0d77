"""The demo's detector, built small and packaged: what the clouds, another machine and OpenVINO are tried with."""

from pathlib import Path

import pytest

from ferryman import api
from ferryman.core.bundle import Bundle
from ferryman.core.progress import silent
from ferryman.core.task import Answer, bind_task
from ferryman.demo import run

_BUILD = '\n[build]\ncandidates = ["{candidate}"]\n'


def build_demo(folder: Path, candidate: str, *, golden: int, pictures: int = 8, more: str = "") -> Bundle:
    """Build the demo's detector in one format and precision, on few pictures and without a promise of latency."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CALIBRATION_PICTURES", 8)
        patch.setattr(run, "EVALUATION_PICTURES", pictures)
        project = run.make_project(folder, silent)
    file = project / "ferryman.toml"
    text = file.read_text(encoding="utf-8").replace("p99_ms = 200\nat_rps = 20\n", "")
    text = text.replace("[data]\n", f"[data]\ngolden = {golden}\n") + _BUILD.format(candidate=candidate) + more
    file.write_text(text, encoding="utf-8")
    return api.load(api.build(project, output=folder / candidate).bundle.path)


def beyond(bundle: Bundle, answers: list[Answer]) -> dict[str, float]:
    """Give by which figures answers to the golden samples are beyond tolerance; nothing where all are right."""
    task = bind_task(bundle.deployment.task, bundle.artifact.signature)
    agreement = task.agreement([golden.answer for golden in bundle.golden], answers)
    return dict(agreement.beyond(bundle.tolerance))
