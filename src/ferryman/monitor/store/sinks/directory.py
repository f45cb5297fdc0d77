"""Copy Parquet files to another folder."""

import os
import shutil
from pathlib import Path

from ferryman.core.durable import sync_folder
from ferryman.monitor.store.sinks.protocol import SinkDown


class DirectorySink:
    """Copy files below a folder; each appears there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, path: Path) -> None:
        """Copy one file, synced to the disk."""
        final = self._folder / name
        unfinished = final.with_name(f".{final.name}.unfinished")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(path, unfinished)
                with unfinished.open("rb") as opened:
                    os.fsync(opened.fileno())
                unfinished.replace(final)
            finally:
                unfinished.unlink(missing_ok=True)
            sync_folder(final.parent)
        except OSError as error:
            raise SinkDown(f"{final}: {error.strerror or error}") from None
