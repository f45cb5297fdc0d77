"""What stands at the end: refused rows, figures and the verdict of drift, one file where it is wanted."""

import json
from collections import Counter
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from ferryman.batch.journal import FIGURES, FINISHED, REFUSED, Entry, Journal
from ferryman.batch.layout import Layout
from ferryman.batch.part import join
from ferryman.batch.window import Window
from ferryman.core.artifact import digest_file
from ferryman.core.bundle import Bundle
from ferryman.core.durable import sync_folder, write_whole
from ferryman.monitor.baseline import Baseline

Figures = dict[str, JsonValue]


def write_refused(journal: Journal) -> None:
    """Write every refused row with its keys, why ("refused", "failed" or "killed") and the error, in order."""
    unfinished = journal.unfinished / REFUSED
    with unfinished.open("w", encoding="ascii") as opened:
        for entry in journal.entries():
            for row in entry["refused"]:
                opened.write(json.dumps(row) + "\n")
    unfinished.replace(journal.folder / REFUSED)


def figures_of(bundle: Bundle, journal: Journal, layout: Layout, digest: str) -> Figures:
    """Give what score.json holds: nothing that a second run would make otherwise."""
    rows, why = 0, Counter[str]()
    parts: list[JsonValue] = []
    for number, entry in zip(sorted(journal.done), journal.entries(), strict=True):
        rows += entry["rows"]
        why.update(row["why"] for row in entry["refused"])
        answered = entry["rows"] - len(entry["refused"])
        parts.append({"file": journal.part(number).name, "rows": answered, "sha256": entry["sha256"]})
    baseline = Baseline.from_json(bundle.baseline)
    window = Window(baseline or Baseline({}, 0), bundle.deployment.contract.drift)
    return {
        "bundle": {"name": bundle.manifest.name, "digest": bundle.manifest.digest},
        "input": digest,
        "rows": rows,
        "answered": rows - why.total(),
        "refused": cast(JsonValue, {name: why[name] for name in ("refused", "failed", "killed")}),
        "columns": cast(JsonValue, layout.columns),
        "parts": parts,
        "drift": cast(JsonValue, window.judge(entry["window"] for entry in journal.entries())),
    }


def join_parts(journal: Journal, file: Path) -> None:
    """Make the one file of all parts, whole or not at all."""
    unfinished = journal.unfinished / f"joined{file.suffix}"
    join(journal.parts(), unfinished)
    note: Entry = {"sha256": digest_file(unfinished)}
    write_whole(journal.folder / FINISHED, json.dumps(note).encode())
    unfinished.replace(file)
    sync_folder(file.parent)


def drop_parts(journal: Journal) -> None:
    """Delete the parts of which the one file was made."""
    for part in journal.folder.glob("part-*.parquet"):
        part.unlink()


def read_finished(journal: Journal, file: Path | None) -> Figures | None:
    """Give the figures of a work whose one file is there as it was written; None else."""
    try:
        note = json.loads((journal.folder / FINISHED).read_text(encoding="ascii"))
        if file is None or digest_file(file) != note["sha256"]:
            return None
        figures: Figures = json.loads((journal.folder / FIGURES).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        return None
    return figures
