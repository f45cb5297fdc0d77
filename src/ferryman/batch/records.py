"""Records of a batch: one for each call of the model, with the signals of its rows."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from ferryman.batch.chunk import Chunk
from ferryman.batch.worker import Done
from ferryman.core.bundle import Bundle
from ferryman.core.record import Record
from ferryman.monitor.store.keeper import RecordKeeper

FOLDER = "records"
TRANSPORT = "score"


class Records:
    """Keep records in `folder`/records, as a server does; a chunk's are there before the chunk counts as done.

    A kill between the two makes its records come twice, under the same ids.
    """

    def __init__(self, folder: Path | None, bundle: Bundle, work: str) -> None:
        self._bundle, self._work = bundle, work
        section = bundle.deployment.monitor.records
        self._keeper = RecordKeeper(folder / FOLDER, section) if folder else None
        self._ticked_s = time.monotonic()

    def __enter__(self) -> Self:
        """Keep the folder until the block ends."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Seal what is due, and let the folder go."""
        if self._keeper is not None:
            self._keeper.tick()
            self._keeper.close()

    def add(self, chunk: Chunk, done: Done) -> None:
        """Hand over the records of a chunk."""
        if self._keeper is not None:
            self._keeper.add(list(self._of(chunk, done)))

    def tick(self) -> None:
        """Do what is due once a second."""
        if self._keeper is not None and time.monotonic() - self._ticked_s >= 1.0:
            self._ticked_s = time.monotonic()
            self._keeper.tick()

    @property
    def losses(self) -> dict[str, int]:
        """Count what was not kept, by reason."""
        return dict(self._keeper.losses) if self._keeper is not None else {}

    def _of(self, chunk: Chunk, done: Done) -> Iterator[Record]:
        manifest, now_s = self._bundle.manifest, time.time()
        head = f"{self._work[:12]}-{chunk.number:06d}"
        for number, call in enumerate(done.calls):
            rows = slice(call.first, call.first + call.rows)
            yield Record(
                id=f"{head}-{number}",
                model=manifest.name,
                version=manifest.digest[:12],
                at_s=now_s,
                outcome="ok",
                transport=TRANSPORT,
                total_s=call.prepare_s + call.infer_s + call.finish_s,
                prepare_s=call.prepare_s,
                infer_s=call.infer_s,
                finish_s=call.finish_s,
                rows=call.rows,
                columns={name: values[rows] for name, values in done.columns.items()},
            )
        for place, why, _ in done.refused:
            one = f"{head}-r{place}"
            yield Record(one, manifest.name, manifest.digest[:12], now_s, why, TRANSPORT)
