"""Layers that were made before, found again by what goes into them; safe to kill, safe to share."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from ferryman.core.artifact import digest_file
from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs, explain
from ferryman.oci.descriptor import Descriptor
from ferryman.oci.layer import Entry, Layer, write_layer

_KEPT_S = 30 * 86400
_HERE = Path(__file__).resolve().parent


class Store:
    """Keep layers in a folder. Each note of one is written last: what it names is whole, and is checked on use.

    `made` are the digests of the layers that were written, and not found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = Blobs(folder)
        self.made: set[str] = set()

    def layer(self, kind: str, key: Any, make: Callable[[], Iterable[Entry]]) -> Layer:  # key: JSON
        """Give the layer that was made for this key before, or write it of the entries that `make` gives."""
        note = self.folder / "layers" / f"{kind}-{digest_key(key)}.json"
        if (held := self._read(note)) is not None:
            for file in (note, self.blobs.path(held.descriptor.digest)):
                os.utime(file)  # in use: `forget_old` leaves it
            return held
        layer = write_layer(make(), self.blobs)
        self._write(note, layer)
        self.made.add(layer.descriptor.digest)
        return layer

    def value(self, kind: str, key: Any, make: Callable[[], Any]) -> Any:  # JSON
        """Give the JSON that was made for this key before, or make it."""
        held = self.find(kind, key)
        return self.keep(kind, key, make()) if held is None else held

    def find(self, kind: str, key: Any) -> Any:  # JSON
        """Give the JSON that is kept for this key, or None."""
        try:
            return json.loads(self._place(kind, key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def keep(self, kind: str, key: Any, value: Any) -> Any:  # JSON
        """Keep JSON for a key; gives it back."""
        write_note(self._place(kind, key), value)
        return value

    def forget_old(self) -> None:
        """Remove what no image was made of for a month; whatever is wanted again is made or got again."""
        oldest = time.time() - _KEPT_S
        for folder in ("layers", "values", "blobs", "wheels"):
            for file in (self.folder / folder).rglob("*"):
                with contextlib.suppress(OSError):  # another run may be at it, too
                    if file.is_file() and file.stat().st_mtime < oldest:
                        file.unlink()

    def _place(self, kind: str, key: Any) -> Path:  # JSON
        return self.folder / "values" / f"{kind}-{digest_key(key)}.json"

    def _read(self, note: Path) -> Layer | None:
        try:
            raw = json.loads(note.read_text(encoding="utf-8"))
            descriptor = Descriptor.from_json(raw["descriptor"], origin=str(note))
            self.blobs.check_descriptor(descriptor)
            return Layer(descriptor, str(raw["diff_id"]), int(raw["size_unpacked"]))
        except (OSError, ValueError, KeyError, TypeError, ImageError):
            return None  # not there, or damaged: it is made again

    def _write(self, note: Path, layer: Layer) -> None:
        record = {
            "descriptor": layer.descriptor.to_json(), "diff_id": layer.diff_id, "size_unpacked": layer.size_unpacked,
        }  # fmt: skip
        write_note(note, record)


def write_note(note: Path, record: Any) -> None:  # JSON
    """Write a small JSON file whole or not at all."""
    unfinished = note.with_name(f".{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(record), encoding="utf-8")
        os.replace(unfinished, note)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise explain(error, note) from error


def digest_key(key: Any) -> str:  # JSON
    """Give a name for a key: it changes with what this room does, too."""
    text = json.dumps([key, _code_digest()], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _code_digest() -> str:
    total = hashlib.sha256()
    for path in (*sorted(_HERE.glob("*.py")), _HERE.parent / "oci" / "layer.py"):
        total.update(digest_file(path).encode())
    return total.hexdigest()
