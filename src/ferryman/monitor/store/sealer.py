"""Seal closed journals one after the other, in their order; set aside what can't be, and wait where that helps."""

import errno
import os
import shutil
from pathlib import Path

from ferryman.core.durable import sync_folder
from ferryman.core.errors import MissingExtra
from ferryman.monitor.store.engine import failures, is_installed
from ferryman.monitor.store.journal import Segment, each_of, read_segment
from ferryman.monitor.store.layout import DAMAGED, SPOOL, day_of, segment_number, segments
from ferryman.monitor.store.seal import seal
from ferryman.monitor.store.tally import Tally

_TRIES = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 5.0, 300.0
_NEEDS_EXTRA = "DuckDB is not installed (pip install 'ferryman[records]'): journals are kept as they are"
_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Sealer:
    """Turn closed journals of a folder into Parquet. `waits` says why it doesn't, "" while it does."""

    def __init__(self, folder: Path, tally: Tally, *, spools: bool) -> None:
        """`spools`: journals that are sealed are kept for sinks, in `spool`."""
        self._folder, self._tally, self._spools = folder, tally, spools
        self._failed: Path | None = None
        self._tries = 0
        self._wait_s = 0.0
        self._not_before_s = 0.0
        self.waits = ""
        self.sealed_records = 0

    def step(self, open_from: int, passed_s: float) -> list[Path]:
        """Seal the oldest closed journal, if it is time; gives the Parquet files. `passed_s` only ever grows.

        Journals whose number is `open_from` or higher may be written to, and are left alone.
        """
        closed = [path for path in segments(self._folder) if segment_number(path.stem) < open_from]
        if not closed or passed_s < self._not_before_s:
            return []
        if not is_installed():
            self.waits = _NEEDS_EXTRA
            return []
        return self._tried(closed[0], passed_s)

    def _tried(self, path: Path, passed_s: float) -> list[Path]:
        try:
            segment = Segment()
            files = seal(self._folder, path.stem, each_of(path, segment), today=day_of(path.stat().st_mtime))
            self._done(path, segment)
        except MissingExtra as error:
            self.waits = str(error)
            return []
        except failures() as error:
            self._later(path, error, passed_s)
            return []
        self.waits, self._tries, self._wait_s, self._not_before_s, self._failed = "", 0, 0.0, 0.0, None
        self.sealed_records += segment.records
        return files

    def _done(self, path: Path, segment: Segment) -> None:
        damage = segment.damage
        self._tally.count("torn", bool(damage.torn_bytes))
        self._tally.count("corrupt", damage.gaps + segment.undecodable)
        if damage.is_corrupt or segment.undecodable:
            self._set_aside(path, "corrupt", copies=self._spools)
        if self._spools:
            path.replace(self._folder / SPOOL / path.name)
        else:
            path.unlink(missing_ok=True)
        sync_folder(path.parent)

    def _later(self, path: Path, error: BaseException, passed_s: float) -> None:
        self.waits = f"{path.name} can't be sealed: {error}".splitlines()[0]
        self._tries = self._tries + 1 if path == self._failed else 1
        self._failed = path
        self._wait_s = min(max(2 * self._wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
        self._not_before_s = passed_s + self._wait_s
        if self._tries >= _TRIES and not _is_of_the_place(error, self._folder):
            try:
                self._tally.count("unsealable", len(read_segment(path).raws))
                self._set_aside(path, "unsealable", copies=False)
            except OSError as worse:
                self.waits = f"{path.name} can't be set aside: {worse}"

    def _set_aside(self, path: Path, why: str, *, copies: bool) -> None:
        aside = self._folder / DAMAGED / f"{path.stem}.{why}.log"
        if copies:
            shutil.copyfile(path, aside)
        else:
            path.replace(aside)


def _is_of_the_place(error: BaseException, folder: Path) -> bool:
    """Tell an error of the disk or of memory, which passes, from one of what is in the journal."""
    if isinstance(error, OSError) and error.errno in (*_ROOM, errno.EIO, errno.EROFS, errno.EACCES):
        return True
    text = str(error)
    if any(os.strerror(number) in text for number in _ROOM) or "Out of Memory" in text:
        return True
    try:
        return shutil.disk_usage(folder).free < 64 << 20
    except OSError:
        return True
