"""Take real models through every format that an installed step makes: one table each of what came out, and why not.

What was measured stays in the folder, and is not measured again but with --again. Times are taken apart (--latency),
all formats of a model in one interleaved run, since they mean something on a quiet machine only.
"""

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._formats_tables import render
from benchmarks._tables import rewrite
from benchmarks.cases.every import CASES
from benchmarks.cases.project import REPOSITORY, start_project

from ferryman.build.cache import Cache
from ferryman.build.exports import Result
from ferryman.build.performance import singles
from ferryman.build.plan import Candidate, Plan, make_plan
from ferryman.build.run import open_workshop
from ferryman.build.search import Clock, assess
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import load_project
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import plugins
from ferryman.core.proof import CandidateProof
from ferryman.core.signature import Signature
from ferryman.verify.latency import call_in_turn, compare_latency

MODELS = ("factory-nano", "yolox-nano", "squeezenet", "torch-digits")
REFERENCE = "onnx-fp32"
FORMATS = (
    "onnx",
    "openvino",
    "torch-export",
    "torchscript",
    "aotinductor",
    "litert",
    "tf-savedmodel",
    "tfjs",
    "ort-web",
    "coreml",
    "executorch",
    "ncnn",
    "mnn",
    "tensorrt",
)
NOT_TIMED = ("coreml",)
"""Here the saved program is evaluated: Apple's runtime, which the times would be of, is on the device."""
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")
_REPAIR_S = 1800.0
Row = dict[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class Shelf:
    """Keep what came of each candidate of one model in a folder: a row of figures, and the model where it holds."""

    folder: Path

    def row(self, name: str) -> Row | None:
        """Give what was measured of a candidate before."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def artifact(self, row: Row) -> Artifact | None:
        """Give the model of a row; None where none came out, or what came out was refused."""
        if "artifact" not in row:
            return None
        kept = row["artifact"]
        signature = Signature.model_validate(kept["signature"])
        path = self.folder / kept["path"]
        return Artifact(**{**kept, "path": path, "signature": signature, "made_by": tuple(kept["made_by"])})

    def put(self, row: Row, artifact: Artifact | None) -> Row:
        """Keep a row, and a copy of its model."""
        home = self.folder / row["name"]
        shutil.rmtree(home, ignore_errors=True)
        if artifact is not None:
            home.mkdir(parents=True)
            (shutil.copytree if artifact.path.is_dir() else shutil.copyfile)(artifact.path, home / artifact.path.name)
            row["artifact"] = {
                "path": f"{row['name']}/{artifact.path.name}",
                "format": artifact.format,
                "signature": artifact.signature.model_dump(mode="json"),
                "digest": artifact.digest,
                "precision": artifact.precision,
                "made_by": list(artifact.made_by),
                "loader": dict(artifact.loader),
            }
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write(row["name"], row)
        return row

    def write(self, name: str, told: Any) -> None:  # JSON
        """Write a file whole."""
        partial = self.folder / f"{name}.partial"
        partial.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
        partial.replace(self.folder / f"{name}.json")


def open_model(name: str, folder: Path, *, threads: int) -> Workshop:
    """Open one model's project; it is written first where it isn't there. 0 threads are all that there are."""
    if not (folder / "ferryman.toml").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        start_project(CASES[name], folder)
    project = load_project(folder)
    build = project.deployment.build.model_copy(update={"budget_s": _REPAIR_S, "threads": threads})
    project = replace(project, deployment=project.deployment.model_copy(update={"build": build}))
    return open_workshop(project, Cache(folder / "cache"), _quiet)


def every_candidate(workshop: Workshop) -> list[Candidate]:
    """Give each format and usual precision that installed steps make of the model."""
    made = {plugin.cls.produces for plugin in plugins("steps").values()}
    section = workshop.deployment.build.model_copy(update={"formats": tuple(name for name in FORMATS if name in made)})
    count = len(workshop.calibration.items) if workshop.calibration else 0
    candidates = make_plan(workshop.source.format, section, calibration=count).candidates
    return [one for one in candidates if one.format in FORMATS and one.precision in PRECISIONS]


def measure_model(name: str, folder: Path, wanted: list[str], again: list[str]) -> None:
    """Make and examine the candidates of one model that were not measured before, or are to be again."""
    shelf = Shelf(folder / "rows")
    workshop = open_model(name, folder, threads=1)  # engines that spin for each other's threads crawl on a busy machine
    shelf.folder.mkdir(exist_ok=True)
    shelf.write("source", {"format": workshop.source.format, **workshop.source_figures, **_about(workshop)})
    for candidate in every_candidate(workshop):
        is_again = any(part in candidate.name for part in again)
        if (wanted and candidate.name not in wanted) or (shelf.row(candidate.name) and not is_again):
            continue
        started = time.monotonic()
        (result,) = assess(workshop, Plan(workshop.source.format, (candidate,)), Clock(started))
        seconds = time.monotonic() - started
        row = shelf.put(
            {**_row(result), "wall_s": round(seconds, 1), "measured": time.strftime("%F %T")}, result.artifact
        )
        told = {key: row[key] for key in ("status", "reason", "error", "drop", "wall_s")}
        print(f"{name} {candidate.name}: {json.dumps(told)}", file=sys.stderr, flush=True)


def _about(workshop: Workshop) -> Row:
    return {"samples": len(workshop.samples.items), "size_mb": workshop.source.size_bytes / 1e6}


def _row(result: Result) -> Row:
    proof, artifact = result.proof, result.artifact
    accuracy = proof.accuracy
    return {
        "name": proof.name,
        "format": proof.format,
        "precision": proof.precision,
        "steps": list(proof.steps),
        "status": proof.status,
        "reason": proof.reason,
        "repaired_by": proof.attempts[-1].label if proof.status == "repaired" else "",
        "tries": len(proof.attempts),
        "is_cut_short": any(attempt.why.startswith("not tried") for attempt in proof.attempts),
        "error": max(proof.parity.max_rel.values(), default=None) if proof.parity else None,
        "agreement": dict(proof.agreement),
        "metric": accuracy.value if accuracy else None,
        "drop": accuracy.drop if accuracy else None,
        "interval": [accuracy.drop_low, accuracy.drop_high] if accuracy else None,
        "samples": accuracy.samples if accuracy else None,
        "size_mb": artifact.size_bytes / 1e6 if artifact else _tried_mb(proof),
        "diverges_at": f"{proof.divergence.op} {proof.divergence.node}" if proof.divergence else None,
    }


def _tried_mb(proof: CandidateProof) -> float | None:
    return next((one.figures["size_mb"] for one in proof.attempts if "size_mb" in one.figures), None)


def time_model(name: str, folder: Path, budget_s: float) -> None:
    """Time all that holds of one model beside ONNX Runtime in float, each once a round, in an order drawn anew."""
    shelf = Shelf(folder / "rows")
    workshop = open_model(name, folder, threads=0)
    load_before = os.getloadavg()[0]
    with ExitStack() as opened:
        calls = {}
        for candidate in every_candidate(workshop):
            row = shelf.row(candidate.name)
            if row is None or candidate.format in NOT_TIMED or (artifact := shelf.artifact(row)) is None:
                continue
            try:
                session = opened.enter_context(closing(workshop.open(artifact)))
                calls[candidate.name] = call_in_turn(session, singles(workshop, artifact))
            except FerrymanError as error:
                print(f"{name} {candidate.name} is not timed: {error}", file=sys.stderr)
        taken = compare_latency(calls, REFERENCE, budget_s=budget_s, progress=_quiet)
    ratios = {one: {"ratio": figures.ratio, "min_ms": figures.min_ms} for one, figures in taken.items()}
    noise = taken[REFERENCE]
    shelf.write(
        "latency",
        {
            "ratios": ratios,
            "noise": noise.noise,
            "rounds": noise.rounds,
            "threads": workshop.threads,
            "load": [load_before, os.getloadavg()[0]],
        },
    )


def _places() -> dict[str, tuple[str, ...]]:
    """Give the targets of each format, by the runtimes that load it."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(FORMATS, ())
    for plugin in plugins("runtimes").values():
        for name in plugin.cls.formats & set(FORMATS):
            found[name] = plugin.cls.targets
    return found


def _quiet(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    """Tell nothing."""


def main() -> int:
    """Measure, or time, what is not there yet; then print the table of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=MODELS, help="only this model (again for more)")
    parser.add_argument("--candidate", action="append", default=[], help="only this candidate (again for more)")
    parser.add_argument("--again", action="append", default=[], help="measure anew what has this in its name")
    parser.add_argument("--latency", action="store_true", help="take times of what was made, instead of making more")
    parser.add_argument("--budget-s", type=float, default=120.0, help="seconds for each model's times")
    parser.add_argument("--render", action="store_true", help="measure nothing: only write the table")
    parser.add_argument("--page", type=Path, help="the page whose table between its marks is written anew")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "formats", help="for projects and rows")
    arguments = parser.parse_args()
    for name in [] if arguments.render else arguments.only or MODELS:
        if arguments.latency:
            time_model(name, arguments.folder / name, arguments.budget_s)
        else:
            measure_model(name, arguments.folder / name, arguments.candidate, arguments.again)
    tables = render(arguments.folder, MODELS, _places(), PRECISIONS)
    if arguments.page:
        rewrite(arguments.page, tables, mark="formats")
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
