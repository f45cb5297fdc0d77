"""Merge small Parquet files of one day, which a server that is often restarted leaves behind, into larger ones."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from ferryman.core.durable import sync_folder, write_whole
from ferryman.monitor.store.engine import connect, exact, failures
from ferryman.monitor.store.layout import (
    JOURNAL,
    SealedFile,
    days,
    delete_replaced,
    replaced,
    sealed_file,
    sealed_files,
    segment_number,
    segments,
)
from ferryman.monitor.store.seal import write_unfinished

SMALL_BYTES = 2_000_000
FEWEST = 8
_MOST = 64  # files at once
READ_S = 60.0  # what was merged away stays that long: whoever has just listed the folder reads it still
_MEMORY_MB = 256


class Merger:
    """Merge what lies in a folder of records; only its writer may.

    The merged file is written aside and synced; then the names of those that it replaces are, beside where it will
    lie; then it is renamed to its place, from when on these are left out of each listing (`sealed_files`). They are
    deleted a minute later. Killed at any moment, the next start goes on from there: each record is seen once.
    """

    def __init__(self, folder: Path) -> None:
        self.replaced = 0
        self._folder = folder
        self._failed: set[Path] = set()

    def step(self, delivered: int | None) -> Path | None:
        """Delete what was merged away, then merge some files of one day; gives the new one.

        `delivered` is the number of the last segment that every sink of files has (None: there are no such sinks).
        """
        for day in days(self._folder):
            self._sweep(day)
        unsealed = {path.stem for path in segments(self._folder, JOURNAL)}
        small: dict[Path, list[SealedFile]] = {}
        for one in sealed_files(self._folder):
            is_delivered = delivered is None or segment_number(one.segment) <= delivered
            if one.segment not in unsealed and is_delivered and one.path.parent not in self._failed and _is_small(one):
                small.setdefault(one.path.parent, []).append(one)
        for day, found in small.items():
            whole = [one for one in found[:_MOST] if one.is_whole()] if len(found) >= FEWEST else []
            if len(whole) >= FEWEST:
                try:
                    return self._merge(day, whole)
                except failures():
                    self._failed.add(day)  # until the next start: small files are no fault
        return None

    def _merge(self, day: Path, small: Sequence[SealedFile]) -> Path:
        connection = connect(memory_mb=_MEMORY_MB)
        try:
            paths = ", ".join(exact(one.path) for one in small)
            query = f"SELECT * FROM read_parquet([{paths}], union_by_name = true, hive_partitioning = false)"  # noqa: S608 - quoted
            unfinished, crc = write_unfinished(self._folder, small[-1].segment, connection, f"{query} ORDER BY at_s")
        finally:
            connection.close()
        final = SealedFile(
            day / f"{small[-1].segment}.{crc:08x}.merged.parquet", small[-1].segment, crc, is_merged=True
        )
        try:
            # What those replaced that are merged again may still be there, and must not come back.
            gone = [one.path.name for one in small] + [name for one in small if one.is_merged for name in replaced(one)]
            write_whole(final.replaced_path, json.dumps(gone).encode())
            unfinished.replace(final.path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_folder(day)
        self.replaced += len(small)
        return final.path

    def _sweep(self, day: Path) -> None:
        """Delete what was merged away a minute ago, and what a killed writer left of a merge that it didn't end."""
        for left in day.glob(".*.new"):
            left.unlink(missing_ok=True)
        for names in day.glob("*.merged.json"):
            merged = sealed_file(names.with_suffix(".parquet"))
            if merged is None or not merged.path.exists():
                names.unlink(missing_ok=True)
            elif not 0 <= time.time() - names.stat().st_mtime < READ_S:
                delete_replaced(merged)


def _is_small(one: SealedFile) -> bool:
    try:
        return one.path.stat().st_size < SMALL_BYTES
    except OSError:
        return False
