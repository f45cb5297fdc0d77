"""Set ways to quantize beside each other on real models: a table of metric, drop, shift, size and time by method."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._tables import table
from benchmarks.cases.every import CASES
from benchmarks.cases.project import REPOSITORY, start_project

from ferryman.build.cache import Cache
from ferryman.build.performance import singles
from ferryman.build.plan import Candidate
from ferryman.build.run import open_workshop
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import load_project
from ferryman.core.errors import FerrymanError
from ferryman.verify.examine import Examination
from ferryman.verify.latency import compare_latency

MODELS = ("yolox-nano", "deeppcb-nano", "squeezenet", "factory-nano")
Options = dict[str, Any]  # a step's own
_TAIL: Options = {"exclude_tail": True}
_HEAD: Options = {"exclude_head": True}
_FINEST: Options = {"calibrator": "mse", "correct_bias": True}


@dataclass(frozen=True, slots=True)
class Method:
    """Name one way to quantize: the steps and the last one's options."""

    name: str
    format: str
    steps: tuple[str, ...]
    options: Options


def _methods() -> Iterator[Method]:
    for label, options in (
        ("min-max", {}),
        ("min-max, tail in float", _TAIL),
        ("min-max, head in float", _HEAD),
        ("percentile, head in float", {**_HEAD, "calibrator": "percentile"}),
        ("entropy, head in float", {**_HEAD, "calibrator": "entropy"}),
        ("mse, head in float", {**_HEAD, "calibrator": "mse"}),
        ("min-max, head in float, biases corrected", {**_HEAD, "correct_bias": True}),
        ("mse, head in float, biases corrected", {**_HEAD, "calibrator": "mse", "correct_bias": True}),
        ("mse, tail in float, biases corrected", {**_TAIL, **_FINEST}),
        ("mse, tail in float, evened out, biases corrected", {**_TAIL, **_FINEST, "equalize": True}),
    ):
        yield Method(f"int8: {label}", "onnx", ("int8",), options)
    yield Method("openvino-int8: min-max", "openvino", ("openvino", "openvino-int8"), {})
    yield Method("openvino-int8: min-max, head in float", "openvino", ("openvino", "openvino-int8"), _HEAD)
    yield Method("w8: weights alone", "onnx", ("w8",), {})
    yield Method("w4: weights alone", "onnx", ("w4",), {})
    yield Method("openvino-w8: weights alone", "openvino", ("openvino", "openvino-w8"), {})


METHODS = tuple(_methods())
_COLUMNS = ("model", "method", "metric", "drop", "95 % of drop", "shift", "calibration", "MB", "vs source")


def measure_model(name: str, folder: Path, methods: list[Method]) -> list[dict[str, Any]]:
    """Quantize one model by each method and examine it; then time all that came out, turn by turn."""
    if not (folder / "ferryman.toml").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        start_project(CASES[name], folder)
    workshop = open_workshop(load_project(folder), Cache(folder / "cache"), _quiet)
    rows: list[dict[str, Any]] = []
    artifacts = {"source": workshop.source}
    for method in methods:
        candidate = Candidate(method.name, method.format, "int8", method.steps)
        try:
            artifact = workshop.make(candidate, method.options)
            rows.append(_row(name, method.name, artifact, workshop.examine(artifact, method.name)))
            artifacts[method.name] = artifact
        except FerrymanError as error:
            rows.append({"model": name, "method": method.name, "error": str(error)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    ratios = _time(workshop, artifacts)
    for row in rows:
        row["ratio"] = ratios.get(row["method"])
    return rows


def _row(model: str, method: str, artifact: Artifact, examined: Examination) -> dict[str, Any]:
    accuracy = examined.accuracy
    return {
        "model": model,
        "method": method,
        "metric": accuracy.value if accuracy else None,
        "drop": accuracy.drop if accuracy else None,
        "interval": [accuracy.drop_low, accuracy.drop_high] if accuracy else None,
        "shift": examined.agreement.get("score_shift"),
        "calibration": [found.source.error, found.candidate.error] if (found := examined.calibration) else None,
        "size_mb": artifact.size_bytes / 1e6,
    }


def _time(workshop: Workshop, artifacts: dict[str, Artifact]) -> dict[str, float]:
    """Give each one's time as a share of the source's."""
    inputs = singles(workshop)
    with ExitStack() as opened:
        sessions = {name: opened.enter_context(closing(workshop.open(one))) for name, one in artifacts.items()}
        calls = {
            name: lambda index, session=session: session.infer(inputs[index % len(inputs)])
            for name, session in sessions.items()
        }
        taken = compare_latency(calls, "source", budget_s=5.0 + len(calls))
    return {name: latency.ratio for name, latency in taken.items()}


def render(rows: list[dict[str, Any]]) -> str:
    """Write the rows as a Markdown table."""
    return table(list(_COLUMNS), [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [row["model"], row["method"], row["error"], *["-"] * (len(_COLUMNS) - 3)]
    return [
        row["model"],
        row["method"],
        _figure(row["metric"], ".3f"),
        _figure(row["drop"], "+.4f"),
        " to ".join(_figure(value, "+.3f") for value in row["interval"] or ()) or "-",
        _figure(row["shift"], ".3f"),
        " to ".join(_figure(value, ".3f") for value in row.get("calibration") or ()) or "-",
        _figure(row["size_mb"], ".2f"),
        _figure(row["ratio"], ".2f"),
    ]


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _quiet(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    """Tell nothing."""


def main() -> int:
    """Measure and print; the figures go to --json, where that is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=MODELS, help="only this model (again for more)")
    parser.add_argument("--method", action="append", help="only methods whose name holds this (again for more)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "quantization", help="for projects")
    arguments = parser.parse_args()
    wanted = [m for m in METHODS if not arguments.method or any(part in m.name for part in arguments.method)]
    rows = [row for name in arguments.only or MODELS for row in measure_model(name, arguments.folder / name, wanted)]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(render(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
