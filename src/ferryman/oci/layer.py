"""Write layers: tar archives whose bytes depend on their entries alone."""

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs, explain
from ferryman.oci.descriptor import LAYER, LAYER_GZIP, Descriptor

_TYPES = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


@dataclass(frozen=True, slots=True)
class Entry:
    """Be one file, folder or symbolic link of a layer; `name` is relative to `/`, `link` is where a link leads."""

    name: str
    mode: int = 0o644
    content: bytes | Path | None = None
    link: str = ""
    kind: Literal["file", "folder", "link"] = "file"


@dataclass(frozen=True, slots=True)
class Layer:
    """Name a written layer; `diff_id` is the digest of the uncompressed tar, `size_unpacked` that tar's bytes."""

    descriptor: Descriptor
    diff_id: str
    size_unpacked: int


def write_layer(entries: Iterable[Entry], blobs: Blobs, *, level: int = 6) -> Layer:
    """Write a layer's blob: sorted by name, time 0, owner 0:0; the same entries give the same digest.

    Folders that lead to an entry are added with mode 0755 where they aren't entries themselves: an engine that makes
    them by itself closes them to all but root. `level` is gzip's; 0 leaves the tar as it is, for content that doesn't
    compress. Between zlib's makes the compressed digest may differ, `diff_id` never. Raises ImageError.
    """
    with blobs.writing() as (stream, keep):
        packed = _Hashed(stream)
        with _compressed(packed, level) as inner:
            total = _Hashed(inner)
            _write_tar(_complete(entries), total)
        keep(packed.digest)
    media_type = LAYER_GZIP if level else LAYER
    return Layer(Descriptor(media_type, packed.digest, packed.size), total.digest, total.size)


def check_entry_name(name: str) -> str:
    """Give back a plain relative name; raises ImageError for one that leads out of the image's root."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ImageError(f"a layer can't hold {name!r}", hint="names are relative, without '.', '..' or empty parts")
    return name


class _Hashed:
    """Count and hash what goes through to a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._total = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._total.hexdigest()}"

    def write(self, chunk: bytes) -> int:
        self._total.update(chunk)
        self.size += len(chunk)
        return self._stream.write(chunk)

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def _compressed(stream: _Hashed, level: int) -> Iterator[BinaryIO]:
    plain = cast(BinaryIO, stream)  # all that gzip and tarfile do with it is to write
    if not level:
        yield plain
        return
    with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=plain, mtime=0) as packed:
        yield cast(BinaryIO, packed)


def _write_tar(entries: list[Entry], stream: _Hashed) -> None:
    fileobj = cast(BinaryIO, stream)
    with tarfile.open(fileobj=fileobj, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1024 * 1024) as tar:
        for entry in entries:
            try:
                _add(tar, entry)
            except OSError as error:
                raise explain(error, entry.content if isinstance(entry.content, Path) else Path(entry.name)) from error


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.name)
    member.mode, member.type, member.linkname = entry.mode, _TYPES[entry.kind], entry.link
    if isinstance(entry.content, Path):
        with entry.content.open("rb") as stream:
            member.size = os.fstat(stream.fileno()).st_size
            tar.addfile(member, stream)
        return
    payload = entry.content or b""
    member.size = len(payload)
    tar.addfile(member, io.BytesIO(payload))


def _complete(entries: Iterable[Entry]) -> list[Entry]:
    """Sort, and add the folders that lead to each; a name comes before what lies below it in the order of strings."""
    named: dict[str, Entry] = {}
    for entry in entries:
        if check_entry_name(entry.name) in named:
            raise ImageError(f"a layer holds {entry.name!r} twice", hint="each file has one place")
        named[entry.name] = entry
    for name in [*named]:
        for parent in [str(parent) for parent in PurePosixPath(name).parents][:-1]:
            held = named.setdefault(parent, Entry(parent, 0o755, kind="folder"))
            if held.kind != "folder":
                raise ImageError(f"a layer can't hold {name!r}: {parent!r} is a {held.kind}", hint="name another place")
    return [named[name] for name in sorted(named)]
