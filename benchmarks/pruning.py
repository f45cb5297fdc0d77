"""Take channels out of the shipped detector, recover, and set the results beside it: metric, drop, size and time."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks._tables import table
from benchmarks.cases.pictures import write_factory
from benchmarks.cases.project import vary, write_settings

from ferryman.build.cache import Cache
from ferryman.build.performance import singles
from ferryman.build.plan import Candidate
from ferryman.build.run import open_workshop
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import load_project
from ferryman.demo.belt import write_dataset
from ferryman.verify.latency import compare_latency

TRAINING_SEED = 1_000_000  # the pictures that the detector itself was trained on; none of those it is measured on
_COLUMNS = ("candidate", "work left", "mAP", "drop", "95 % of drop", "MB", "least ms", "speed", "holds")
_LEAST_SPEED, _MOST_DROP = 1.8, 0.010


def start(folder: Path, options: dict[str, Any], *, pictures: int) -> None:
    """Make the project: hold-out pictures to measure on, others to learn from, no labels of which are read."""
    folder.mkdir(parents=True)
    settings = write_factory(folder)
    write_dataset(folder / "recovery", count=pictures, seed=TRAINING_SEED)
    data = {"calibration": "recovery/images/*.jpg", "calibration_limit": pictures}
    write_settings(folder, vary(settings, data=data, build={"options": {"prune": options}, "threads": 2}))


def candidates() -> Iterator[Candidate]:
    """Give the pruned graph, and what else becomes of it."""
    yield Candidate("onnx-pruned", "onnx", "pruned", ("prune",))
    yield Candidate("onnx-pruned-int8", "onnx", "pruned-int8", ("prune", "int8"))
    yield Candidate("openvino-pruned", "openvino", "pruned", ("prune", "openvino"))
    yield Candidate("openvino-pruned-int8", "openvino", "pruned-int8", ("prune", "openvino", "openvino-int8"))


def measure(workshop: Workshop) -> list[dict[str, Any]]:
    """Make each candidate and examine it; then time all of them by turns."""
    artifacts: dict[str, Artifact] = {"source": workshop.source}
    rows: list[dict[str, Any]] = [{"name": "source", "value": workshop.source_figures["value"], "drop": 0.0}]
    for candidate in candidates():
        head = {"exclude_head": True} if candidate.precision.endswith("int8") else {}
        artifact = workshop.make(candidate, head)
        accuracy = workshop.examine(artifact, candidate.name).accuracy
        artifacts[candidate.name] = artifact
        if accuracy:
            interval = [accuracy.drop_low, accuracy.drop_high]
            rows.append({"name": candidate.name, "value": accuracy.value, "drop": accuracy.drop, "interval": interval})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    times = _time(workshop, artifacts)
    for row in rows:
        row |= {"mb": artifacts[row["name"]].size_bytes / 1e6, **times[row["name"]]}
    return rows


def _time(workshop: Workshop, artifacts: dict[str, Artifact]) -> dict[str, dict[str, float]]:
    inputs = singles(workshop, workshop.source)
    with ExitStack() as opened:
        sessions = {name: opened.enter_context(closing(workshop.open(one))) for name, one in artifacts.items()}
        calls = {
            name: lambda index, session=session: session.infer(inputs[index % len(inputs)])
            for name, session in sessions.items()
        }
        taken = compare_latency(calls, "source", budget_s=20.0)
    return {name: {"ms": latency.min_ms, "ratio": latency.ratio} for name, latency in taken.items()}


def render(rows: list[dict[str, Any]], left: float) -> str:
    """Write the rows as a Markdown table."""
    lines = []
    for row in rows:
        speed = 1 / row["ratio"]
        holds = "yes" if speed >= _LEAST_SPEED and row["drop"] <= _MOST_DROP else "no"
        lines.append(
            [
                row["name"],
                "100 %" if row["name"] == "source" else f"{left:.0%}",
                f"{row['value']:.4f}",
                f"{row['drop']:+.4f}",
                " to ".join(f"{side:+.3f}" for side in row.get("interval", ())) or "-",
                f"{row['mb']:.2f}",
                f"{row['ms']:.2f}",
                f"{speed:.2f}x",
                "-" if row["name"] == "source" else holds,
            ]
        )
    return table(list(_COLUMNS), lines)


def main() -> None:
    """Make what is missing, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for project and cache; kept for the next run")
    parser.add_argument("--pictures", type=int, default=4000, help="how many to learn from")
    parser.add_argument("--sparsity", type=float, default=0.58, help="share of the multiplications that goes")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=15.0, help="the recovery's limit")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="torch's; 1 on a busy machine")
    parser.add_argument("--bfloat16", action="store_true", help="faster on a CPU with AMX, slower elsewhere")
    asked = parser.parse_args()
    options = {key: getattr(asked, key) for key in ("sparsity", "steps", "minutes", "batch", "threads", "bfloat16")}
    if not (asked.out / "project" / "ferryman.toml").is_file():
        start(asked.out / "project", options, pictures=asked.pictures)
    workshop = open_workshop(load_project(asked.out / "project"), Cache(asked.out / "cache"), _tell)
    print(render(measure(workshop), 1 - asked.sparsity))


def _tell(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    if note:
        print(f"{stage} {done}/{total} {note}" if total else f"{stage} {note}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
