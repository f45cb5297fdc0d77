"""A week that was kept: records whose figures are known, and a diary beside them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferryman.core.record import Record
from ferryman.core.recording import RecordsSection
from ferryman.monitor.baseline import make_baseline
from ferryman.monitor.report.diary import Diary
from ferryman.monitor.store.keeper import RecordKeeper

NOW_S = 1_795_435_200.0  # 2026-11-23 12:00 UTC
DAY_S = 86400.0
WEEK_S = 7 * DAY_S
DIGEST = "sha256:0123456789abcdef"


@dataclass
class Week:
    """Hold what was kept: the folder, and each record that went into it."""

    folder: Path
    records: list[Record] = field(default_factory=list)

    @property
    def diary(self) -> Diary:
        return Diary(self.folder / "diary")

    def keep(self, records: Sequence[Record], *, seal: bool = False) -> None:
        keeper = RecordKeeper(self.folder / "records", RecordsSection(min_free_mb=0, seal_minutes=1e-9 if seal else 60))
        keeper.add(records)
        for _ in range(4 if seal else 1):
            keeper.tick()
        keeper.close()
        self.records += records


KeepWeek = Callable[[], Week]


def record(number: int, at_s: float, **told: Any) -> Record:
    """Give a record of a picture's request, looked into."""
    fields: dict[str, Any] = {
        "id": f"id-{number}", "model": "street", "version": "2", "outcome": "ok", "total_s": 0.01 + number % 100 / 1000,
        "columns": {"brightness": [110.0], "label": ["car"]},
    }  # fmt: skip
    return Record(at_s=at_s, **(fields | told))


def darker_week(folder: Path, count: int = 3000) -> Week:
    """Keep a week in which pictures become darker and buses more after 60 % of it; every 50th request fails."""
    rng, week = random.Random(0), Week(folder)
    usual: dict[str, Any] = {
        "brightness": [rng.gauss(110, 20) for _ in range(1000)],
        "contrast": [rng.gauss(50, 5) for _ in range(1000)],
        "label": rng.choices(["car", "person", "bus"], [50, 40, 10], k=1000),
    }
    week.diary.keep_baseline(DIGEST, make_baseline(usual).to_json())
    made = []
    for number in range(count):
        is_late = number >= 0.6 * count
        columns = {
            "brightness": [rng.gauss(60 if is_late else 110, 20)],
            "contrast": [rng.gauss(50, 5)],
            "label": rng.choices(["car", "person", "bus"], [20, 20, 60] if is_late else [50, 40, 10]),
        }
        outcome = ("ok", "failed")[number % 50 == 7]
        at_s = NOW_S - WEEK_S + number * WEEK_S / count
        made.append(record(number, at_s, outcome=outcome, columns=columns if outcome == "ok" else {}))
    week.keep(made, seal=True)
    return week
