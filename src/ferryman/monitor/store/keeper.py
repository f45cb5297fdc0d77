"""The one writer of a folder of records: a kill loses nothing that was added, and a full disk raises nothing."""

import contextlib
import errno
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ferryman.core.record import Record
from ferryman.core.recording import PayloadsSection, RecordsSection
from ferryman.monitor.store.claim import Claim
from ferryman.monitor.store.clock import SteadyClock
from ferryman.monitor.store.engine import is_installed
from ferryman.monitor.store.journal import Journal
from ferryman.monitor.store.layout import (
    DAMAGED,
    JOURNAL,
    PAYLOADS,
    SEALED,
    SINKS,
    SPOOL,
    UNFINISHED,
    new_segment,
    sealed_files,
    segment_number,
    segments,
)
from ferryman.monitor.store.merge import Merger
from ferryman.monitor.store.payloads import PayloadShelf
from ferryman.monitor.store.retention import Kept, held_files, oldest_allowed_s, trim
from ferryman.monitor.store.rows import encode
from ferryman.monitor.store.sealer import Sealer
from ferryman.monitor.store.sinks.cursor import last_cursor
from ferryman.monitor.store.sinks.deliveries import Deliveries
from ferryman.monitor.store.tally import Tally

RETENTION_EVERY_S = 60.0
_MB = 10**6
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RecordKeeper:
    """Keep records of requests in a folder.

    `add` and `add_payload` may be called from another thread than `tick`, and wait only for a write to the kernel.
    """

    def __init__(
        self,
        folder: Path,
        section: RecordsSection,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Claim the folder and take over what a killed writer left; raises UserError where another one writes there."""
        self.folder, self._section = folder, section
        self._claim = Claim(folder)
        self._tally = Tally()
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._closing: list[Journal] = []
        self._opened_s = 0.0
        self._added = self._deleted_files = 0
        self._has_room = True
        self._prepare()
        self._clock = SteadyClock(clock, monotonic, self._newest_s())
        self._number = self._last_number()
        self._deliveries = Deliveries(folder, section.sinks, self._tally)
        self._sealer = Sealer(folder, self._tally, spools=self._deliveries.want_events)
        self._merger = Merger(folder)
        self._payloads = PayloadShelf(folder, section.payloads, self._tally, clock)
        self._trimmed_s = -RETENTION_EVERY_S
        self._held_bytes = 0
        self._look_for_room()

    def add(self, records: Sequence[Record]) -> None:
        """Hand records to the kernel. What finds no room is counted in `losses`; nothing is raised."""
        coded, counts = [], Counter[str]()
        for record in records:
            try:
                coded.append(encode(record, counts))
            except (TypeError, ValueError, AttributeError, OverflowError):
                counts["unwritable"] += 1
        self._tally.add(counts)
        if not coded:
            return
        with self._lock:
            if not self._has_room:
                self._tally.count("disk_low", len(coded))
                return
            try:
                self._open_journal().append(coded)
                self._added += len(coded)
            except OSError as error:
                self._tally.count("disk_full" if error.errno in _FULL else "disk_error", len(coded))

    def add_payload(self, record_id: str, model: str, version: str, kind: str, payload: bytes, why: str) -> None:
        """Keep a payload (`kind`: picture, row, answer or text), redacted first; what can't be is counted, not kept."""
        if self._has_room:
            self._payloads.add(record_id, model, version, kind, payload, why)
        else:
            self._tally.count("payload_disk_low")

    def tick(self) -> None:
        """Do, once a second, what is due: sync, seal, delete what is too old or too much, hand over to sinks."""
        passed_s = self._clock.passed_s()
        is_believed = self._clock.is_believed()
        self._look_for_room()
        with self._lock:
            if self._journal and passed_s - self._opened_s >= 60 * self._section.seal_minutes:
                self._rotate()
            closing, self._closing = self._closing, []
            writing = self._journal
            open_from = self._number + (writing is None)  # `add` may rotate from here on: none of those is closed
        for journal in closing:
            journal.close()
        if writing:
            self._sync(writing)
        sealed = self._sealer.step(open_from, passed_s)
        if passed_s - self._trimmed_s >= RETENTION_EVERY_S:
            self._trimmed_s = passed_s
            self._trim(open_from, is_believed=is_believed)
            if self._has_room and is_installed():
                self._merge()
        self._deliveries.nudge(is_new=bool(sealed))

    @property
    def losses(self) -> Mapping[str, int]:
        """Count what was not kept, or not as it came, by reason; only ever grows while this process runs."""
        return self._tally.seen()

    @property
    def payload_rules(self) -> PayloadsSection:
        """Give by what rules payloads are redacted and kept."""
        return self._section.payloads

    @property
    def payloads_kept(self) -> int:
        """Count the payloads that were kept while this process runs."""
        return self._payloads.kept

    def figures(self) -> dict[str, object]:
        """Say how it stands, for /metrics and people: counts, bytes, what waits and why, each sink."""
        with self._lock:
            journal_bytes = self._journal.size if self._journal else 0
        return {
            "records": self._added,
            "sealed_records": self._sealer.sealed_records,
            "journal_bytes": journal_bytes,
            "held_bytes": self._held_bytes,
            "waiting_journals": len(segments(self.folder)) - bool(self._journal),
            "sealing_waits": self._sealer.waits,
            "deleted_files": self._deleted_files,
            "merged_files": self._merger.replaced,
            "clock_jumps": self._clock.jumps,
            "payloads": self._payloads.kept,
            "sinks": self._deliveries.figures(),
            "losses": dict(self.losses),
        }

    def close(self) -> None:
        """Close the journal, stop the sinks and let the folder go; what is unsealed is sealed by the next keeper.

        Call it once, after the last `tick`.
        """
        with self._lock:
            if self._journal:
                self._rotate()
            closing, self._closing = self._closing, []
        for journal in closing:
            journal.close()
        self._deliveries.close()
        self._claim.release()

    def _prepare(self) -> None:
        try:
            self._make_places()
            for left in (self.folder / UNFINISHED).iterdir():
                left.unlink(missing_ok=True)
        except OSError:
            self._tally.count("disk_error")
        for sealed in sealed_files(self.folder):
            if not _looks_whole(sealed.path):
                self._tally.count("damaged_files")
                with contextlib.suppress(OSError):  # read-only by now: readers leave it out by its CRC-32, too
                    sealed.path.replace(self.folder / DAMAGED / f"{sealed.path.stem}.truncated.parquet")

    def _make_places(self) -> None:
        for place in (JOURNAL, SEALED, SPOOL, DAMAGED, PAYLOADS, SINKS, UNFINISHED):
            (self.folder / place).mkdir(mode=0o750, parents=True, exist_ok=True)

    def _newest_s(self) -> float | None:
        paths = [sealed.path for sealed in sealed_files(self.folder)[-1:]]
        times = [
            path.stat().st_mtime for path in (*paths, *segments(self.folder)[-1:], *segments(self.folder, SPOOL)[-1:])
        ]
        return max(times, default=None)

    def _last_number(self) -> int:
        names = [path.stem for path in (*segments(self.folder), *segments(self.folder, SPOOL))]
        names += [sealed.segment for sealed in sealed_files(self.folder)]
        return max([*map(segment_number, names), last_cursor(self.folder)], default=0)

    def _open_journal(self) -> Journal:
        """Give the journal to write to; the caller holds the lock."""
        if self._journal and self._journal.size >= self._section.seal_mb * _MB:
            self._rotate()
        if self._journal is None:
            self._make_places()
            self._journal = Journal(self.folder / JOURNAL / f"{new_segment(self._number + 1)}.log")
            self._number += 1
            self._opened_s = self._clock.passed_s()
        return self._journal

    def _rotate(self) -> None:
        if self._journal:
            self._closing.append(self._journal)
            self._journal = None

    def _sync(self, journal: Journal) -> None:
        try:
            journal.sync()
        except OSError:
            self._tally.count("sync_failed")

    def _look_for_room(self) -> None:
        try:
            self._has_room = shutil.disk_usage(self.folder).free >= self._section.min_free_mb * _MB
        except OSError:
            self._has_room = True  # the write itself will tell

    def _trim(self, open_from: int, *, is_believed: bool) -> None:
        before_s = oldest_allowed_s(self._clock.now_s(), self._section.keep_days) if is_believed else None
        held = held_files(self.folder, open_from)
        trimmed = trim(held, max_bytes=self._section.max_mb * _MB, before_s=before_s, tell=self._goes)
        self._deleted_files += trimmed.files
        self._held_bytes = trimmed.left_bytes
        self._payloads.trim(is_believed=is_believed)

    def _merge(self) -> None:
        try:
            self._merger.step(self._deliveries.delivered)
        except OSError:
            self._tally.count("merge_failed")

    def _goes(self, kept: Kept) -> None:
        if kept.sealed:
            self._deliveries.deleted(kept.sealed)


def _looks_whole(path: Path) -> bool:
    """Tell whether a file begins and ends as Parquet does; `ferryman records check` reads all of it."""
    try:
        with path.open("rb") as opened:
            if opened.read(4) != b"PAR1":
                return False
            opened.seek(-8, os.SEEK_END)
            footer = opened.read(8)
            return footer[4:] == b"PAR1" and int.from_bytes(footer[:4], "little") + 12 <= opened.tell()
    except OSError:
        return False
