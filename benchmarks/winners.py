"""Build real models for every kind of place at once: a table of the measured winner of each, and why it won."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks._tables import table
from benchmarks.cases.every import CASES
from benchmarks.cases.project import REPOSITORY, start_project, vary, write_settings

from ferryman import api
from ferryman.core.proof import CandidateProof, Proof

MODELS = ("factory-nano", "squeezenet", "yolox-nano", "deeppcb-nano")
TARGETS = ("server", "edge", "browser", "phone")
_COLUMNS = ("model", "target", "winner", "drop", "of the source's time", "MB", "why")


def find_winners(name: str, folder: Path, budget_s: float) -> list[dict[str, Any]]:
    """Build one model for all targets, beginning nothing after a share of `budget_s`; gives a row a target."""
    if not (folder / "ferryman.toml").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        settings = start_project(CASES[name], folder)
        write_settings(folder, vary(settings, build={"targets": list(TARGETS)}))
    built = api.build(folder, time_budget_s=budget_s, progress=_tell)
    proof = built.proof
    tried = [line for line in proof.candidates if line.status not in ("not tried", "unavailable")]
    print(f"{name}: {len(tried)} of {len(proof.candidates)} candidates tried in {built.seconds:.0f} s", file=sys.stderr)
    late = [line.name for line in proof.candidates if line.status == "not tried"]
    return [{"model": name, "target": target, "not_tried": late, **_row(proof, target)} for target in TARGETS]


def _row(proof: Proof, target: str) -> dict[str, Any]:
    choice = proof.targets[target]
    line = next((one for one in proof.candidates if one.name == choice.winner), None)
    return {"winner": choice.winner, "why": choice.why, **(_figures(line) if line else {})}


def _figures(line: CandidateProof) -> dict[str, float | None]:
    return {
        "drop": line.accuracy.drop if line.accuracy else None,
        "ratio": line.latency.ratio if line.latency else None,
        "noise": line.latency.noise if line.latency else None,
        "size_mb": line.footprint.size_mb if line.footprint else None,
    }


def render(rows: list[dict[str, Any]]) -> str:
    """Write the rows as a Markdown table, and what was not tried below it."""
    late = {row["model"]: row["not_tried"] for row in rows if row["not_tried"]}
    told = [f"{model}, not tried: out of time: {', '.join(names)}" for model, names in late.items()]
    load = f"load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return "\n\n".join([table(list(_COLUMNS), [_cells(row) for row in rows]), *told, load])


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["model"],
        row["target"],
        row["winner"] or "none",
        _figure(row.get("drop"), "+.4f"),
        _figure(row.get("ratio"), ".2f"),
        _figure(row.get("size_mb"), ".2f"),
        row["why"],
    ]


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _tell(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    if note:
        print(f"  {stage}: {note}", file=sys.stderr, flush=True)


def main() -> int:
    """Build and print; the figures go to --json, where that is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=MODELS, help="only this model (again for more)")
    parser.add_argument("--budget-s", type=float, default=1200.0, help="time for each model's search, in seconds")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "winners", help="for projects")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only or MODELS:
        rows += find_winners(name, arguments.folder / name, arguments.budget_s)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(render(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
