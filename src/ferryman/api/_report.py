"""A report of a time range: of the folder that a server was given to keep what it saw."""

import time
from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from pathlib import Path

from ferryman.bundle.read import load_bundle
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.report.facts import Report
from ferryman.monitor.report.gather import Asked, gather
from ferryman.monitor.report.page import render_page


def report(
    folder: str | Path,
    since: timedelta = timedelta(days=7),
    *,
    until_s: float | None = None,
    model: str | None = None,
    version: str | None = None,
    bundles: Sequence[str | Path] = (),
) -> Report:
    """Tell what became of requests: of the time `since` ago until `until_s` (Unix time; now).

    `folder` is what `ferryman serve --monitor` was given, or its records alone. `bundles` bring baselines for their
    models, all versions of them, where the folder holds none. Raises UserError, and MissingExtra without DuckDB.
    """
    now_s = time.time() if until_s is None else until_s
    baselines: dict[str, Baseline] = {}
    for path in bundles:
        bundle = load_bundle(Path(path))
        if (baseline := Baseline.from_json(bundle.baseline)) is not None:
            baselines[bundle.manifest.name] = baseline
    return gather(Path(folder), Asked(now_s - since.total_seconds(), now_s, model, version, baselines))


def report_html(made: Report) -> str:
    """Write a report as one page that needs nothing else."""
    style = files("ferryman.verify").joinpath("report.css").read_text(encoding="utf-8")
    return render_page(made, style=style)
