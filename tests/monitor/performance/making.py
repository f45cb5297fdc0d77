"""Outcomes of a classifier, records of them, and promises to hold them against."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.core.proof import Reliability
from ferryman.core.record import Record
from ferryman.core.recording import RecordsSection
from ferryman.monitor.performance.outcome import Outcome
from ferryman.monitor.performance.promise import Promise
from ferryman.monitor.store.keeper import RecordKeeper

BEGUN_S = 1_795_435_200.0  # 2026-11-23 12:00 UTC
MONTH_S = 30 * 86_400.0


def promise(**told: Any) -> Promise:
    """Give a classifier's promise: nine of ten right on 2,000 samples."""
    fields: dict[str, Any] = {
        "metric": "accuracy", "value": 0.9, "samples": 2000, "higher_is_better": True, "max_drop": 0.01,
        "interval_s": MONTH_S, "right": 0.9,
        "reliability": Reliability(error=0.01, bins=((0.6, 0.6, 500), (0.95, 1.0, 1500))),
    }  # fmt: skip
    return Promise(**(fields | told))


def outcomes(right: Sequence[bool] | NDArray[np.bool_], *, every_s: float = 60.0, **told: Any) -> list[Outcome]:
    """Give labelled answers, one each minute."""
    fields: dict[str, Any] = {"label": "car", "confidence": 0.9} | told
    return [
        Outcome(
            id=f"r{place}", item=0, model="street", version="1", at_s=BEGUN_S + place * every_s, told_s=BEGUN_S + 1e6,
            right=bool(is_right), truth="car" if is_right else "bus", **fields,
        )
        for place, is_right in enumerate(right)
    ]  # fmt: skip


def keep(folder: Path, records: Sequence[Record]) -> None:
    """Keep records as a server does."""
    keeper = RecordKeeper(folder / "records", RecordsSection())
    keeper.add(records)
    keeper.tick()
    keeper.close()


def record(name: str, **told: Any) -> Record:
    """Give a record of one answered item."""
    columns = {
        "answer.label": ["car"],
        "answer.confidence": [0.8],
        "picture.brightness": [90.0],
        "cell.zone": ["north"],
    }
    fields: dict[str, Any] = {
        "id": name,
        "model": "street",
        "version": "1",
        "at_s": BEGUN_S,
        "outcome": "ok",
        "columns": columns,
    }
    return Record(**(fields | told))
