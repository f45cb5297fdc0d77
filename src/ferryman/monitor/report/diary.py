"""What records don't hold: who served when, what all requests came to, alerts, drift, losses; a line of JSON each."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ferryman.core.durable import write_whole
from ferryman.core.errors import BundleError
from ferryman.monitor.baseline import Baseline

Kind = Literal["served", "left", "traffic", "drift", "alert", "action", "lost"]
Event = Mapping[str, Any]  # JSON
"""One line: `kind`, `at` (Unix time), and what docs/monitoring/report.md lists for its kind."""

MOST_BYTES = 16_000_000
_FILE, _BEFORE, _BASELINES = "diary.jsonl", "diary.before.jsonl", "baselines"
_LONGEST_LINE = 200_000
_TAIL_BYTES = 500_000


class Diary:
    """Write events into a folder of its own; two files of at most `most_bytes`, the older one is replaced.

    For one thread. A disk that is full loses events, counted in `lost`; nothing is raised.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._is_torn = _ends_torn(folder / _FILE)
        self.lost = 0

    def add(self, kind: Kind, at_s: float, **told: Any) -> None:  # JSON
        """Write one event, with one write; what a kill tears is one line, which readers pass over."""
        line = json.dumps({"kind": kind, "at": round(at_s, 3), **told}, separators=(",", ":")) + "\n"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / _FILE
            if path.exists() and path.stat().st_size + len(line) > self._most_bytes:
                path.replace(self._folder / _BEFORE)
            with path.open("ab", buffering=0) as stream:
                stream.write((b"\n" if self._is_torn else b"") + line.encode())
            self._is_torn = False
        except OSError:
            self.lost += 1
            self._is_torn = True

    def keep_baseline(self, digest: str, baseline: Mapping[str, Any]) -> None:  # JSON
        """Keep what a bundle of this digest was compared with, once."""
        path = _baseline_path(self._folder, digest)
        if path.exists():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(baseline).encode())
        except OSError:
            self.lost += 1


def read_events(folder: Path) -> Iterator[Event]:
    """Give every event that can be read, in the order in which they were written."""
    for name in (_BEFORE, _FILE):
        try:
            with (folder / name).open("rb") as stream:
                while line := stream.readline(_LONGEST_LINE):
                    if (event := _read(line)) is not None:
                        yield event
        except OSError:
            continue


def last_totals(folder: Path) -> dict[tuple[str, str], Counter[str]]:
    """Give what the last writer had counted of each version's requests, where it did not end in order (`left`)."""
    try:
        with (folder / _FILE).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = stream.read(_TAIL_BYTES).splitlines()
    except OSError:
        return {}
    totals: dict[tuple[str, str], Counter[str]] = {}
    for event in filter(None, map(_read, lines)):
        key = (str(event.get("model")), str(event.get("version")))
        if event["kind"] == "left":
            totals.pop(key, None)
        elif event["kind"] == "traffic" and isinstance(event.get("total"), Mapping):
            totals[key] = Counter({str(word): int(n) for word, n in event["total"].items() if isinstance(n, int)})
    return totals


def read_baseline(folder: Path, digest: str) -> Baseline | None:
    """Give the baseline that was kept for a bundle; None where there is none, or it can't be read."""
    try:
        return Baseline.from_json(json.loads(_baseline_path(folder, digest).read_bytes()))
    except (OSError, ValueError, TypeError, AttributeError, BundleError):
        return None


def _baseline_path(folder: Path, digest: str) -> Path:
    plain = "".join(sign for sign in digest if sign.isascii() and sign.isalnum())
    return folder / _BASELINES / f"{plain[:80]}.json"


def _read(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_event = isinstance(event, dict) and isinstance(event.get("kind"), str) and _is_time(event.get("at"))
    return event if is_event else None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11


def _ends_torn(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"
    except OSError:
        return False
