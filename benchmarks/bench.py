"""Build and time every case: a table on stdout, figures in docs/benchmarks.json, the tables in docs/benchmarks.md."""

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks import _measure, _tables
from benchmarks.cases.every import CASES
from benchmarks.cases.project import REPOSITORY, shared_folder

JSON = REPOSITORY / "docs" / "benchmarks.json"
PAGE = REPOSITORY / "docs" / "benchmarks.md"
Figures = dict[str, Any]  # JSON


def run(names: list[str], folder: Path) -> Figures:
    """Measure the cases; one that can't be run, or fails, doesn't stop the others and is named at the end."""
    load_before = os.getloadavg()[0]
    cases: Figures = {}
    not_run: dict[str, str] = {}
    for name in names:
        if CASES[name].reads_shared and shared_folder() is None:
            not_run[name] = "the real models and data are missing; set FERRYMAN_SHARED to their folder"
            continue
        print(f"-- {name}: {CASES[name].summary} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)
        try:
            cases[name] = _measure.measure_case(CASES[name], folder / name, _tell)
        except Exception as error:  # noqa: BLE001 - whatever happens to one case, the others are measured
            traceback.print_exc()
            not_run[name] = f"{type(error).__name__}: {error}"
    some: Figures = next(iter(cases.values()), {"machine": {}, "versions": {}})
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": some["machine"],
        "versions": some["versions"],
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "cases": {name: _without(case, "machine", "versions") for name, case in cases.items()},
        "not_run": not_run,
    }


def _without(figures: Figures, *names: str) -> Figures:
    return {name: value for name, value in figures.items() if name not in names}


def _tell(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    if note:
        print(f"   {stage}: {note}", file=sys.stderr, flush=True)


def main() -> int:
    """Run, print, write; 1 where a case could not be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=CASES, help="only this case (again for more); writes no docs"
    )
    parser.add_argument("--json", type=Path, help=f"where the figures go (default: {JSON.relative_to(REPOSITORY)})")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "build" / "bench", help="where projects are built")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: write the tables from the figures there"
    )
    arguments = parser.parse_args()
    file = arguments.json or (None if arguments.only else JSON)
    if arguments.render:
        report = json.loads((file or JSON).read_text(encoding="utf-8"))
    else:
        report = run(arguments.only or list(CASES), arguments.folder)
    if file and not arguments.render:
        file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    tables = _tables.render(report) if report["cases"] else ""
    if not arguments.only and arguments.json is None and tables:
        _tables.rewrite(PAGE, tables)
    print(tables)
    for name, why in report["not_run"].items():
        print(f"NOT RUN: {name}: {why}", file=sys.stderr)
    return 1 if report["not_run"] else 0


if __name__ == "__main__":
    sys.exit(main())
