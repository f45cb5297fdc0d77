"""Bring sealed Parquet files to a sink that takes them whole."""

from pathlib import Path

from ferryman.monitor.store.layout import SEALED, SealedFile, sealed_files, segment_number, segments
from ferryman.monitor.store.sinks.cursor import Cursor
from ferryman.monitor.store.sinks.delivery import FIRST_WAIT_S, Delivery
from ferryman.monitor.store.sinks.protocol import FileSink
from ferryman.monitor.store.tally import Tally


class FileDelivery(Delivery):
    """Deliver all files that one journal became, then move on to the next."""

    def __init__(
        self,
        folder: Path,
        name: str,
        tally: Tally,
        sink: FileSink,
        *,
        max_bytes: float,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        super().__init__(folder, name, tally, max_bytes=max_bytes, first_wait_s=first_wait_s)
        self._sink = sink

    def step(self) -> bool:
        """Deliver the files of one segment."""
        files = self._first(self._waiting())
        for sealed in files:
            self._sink.put(sealed.path.relative_to(self._folder / SEALED).as_posix(), sealed.path)
            self.delivered += 1
        return self._passed(files)

    def waiting_bytes(self) -> int:
        """Give the size of files behind the cursor."""
        return sum(_size(sealed.path) for sealed in self._waiting())

    def skip(self) -> bool:
        """Give the files of one segment up."""
        files = self._first(self._waiting())
        self._lose(len(files))
        return self._passed(files)

    def deleted(self, sealed: SealedFile) -> None:
        """Hear of a file that is gone by age or size; count it where it was not delivered."""
        if segment_number(sealed.segment) > self.cursor.number:
            self._lose(1)

    def _passed(self, files: list[SealedFile]) -> bool:
        if files:
            self._move(Cursor(files[0].segment))
        return bool(files)

    def _waiting(self) -> list[SealedFile]:
        """List files behind the cursor, but those of a journal that is being sealed."""
        unsealed = {path.stem for path in segments(self._folder)}
        found = [
            sealed
            for sealed in sealed_files(self._folder)
            if segment_number(sealed.segment) > self.cursor.number and sealed.segment not in unsealed
        ]
        return sorted(found, key=lambda sealed: sealed.segment)

    @staticmethod
    def _first(waiting: list[SealedFile]) -> list[SealedFile]:
        return [sealed for sealed in waiting if sealed.segment == waiting[0].segment]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
