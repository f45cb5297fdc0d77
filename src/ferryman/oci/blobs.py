"""Keep content under its digest, as an OCI image layout does: `blobs/sha256/...`, whole or not at all."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ferryman.core.errors import ImageError
from ferryman.core.scratch import scratch_folder
from ferryman.oci.descriptor import MANIFEST_LIMIT_BYTES, Descriptor, check_digest

CHUNK_BYTES = 1024 * 1024
_INGEST = ".ingest-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Blobs:
    """Hold blobs below `folder`; what is written is complete and on the disk before it has its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lent: dict[str, Path] = {}

    @staticmethod
    def digest_of(payload: bytes) -> str:
        """Give the digest of bytes."""
        return f"sha256:{hashlib.sha256(payload).hexdigest()}"

    def lend(self, path: Path, digest: str) -> None:
        """Use a file as a blob where it lies, for as long as this object lives: what is only read needs no copy."""
        self._lent[check_digest(digest, origin=str(path))] = path

    def path(self, digest: str) -> Path:
        """Say where a blob lies, or would lie."""
        if digest in self._lent:
            return self._lent[digest]
        algorithm, _, value = check_digest(digest, origin=str(self.folder)).partition(":")
        return self.folder / "blobs" / algorithm / value

    def partial(self, digest: str) -> Path:
        """Say where the beginning of a blob lies, whose download broke off."""
        return self.folder / ".partial" / check_digest(digest, origin=str(self.folder)).partition(":")[2]

    def has(self, digest: str) -> bool:
        """Tell whether a blob is here; whether it is sound is `check`'s to say."""
        return self.path(digest).is_file()

    def add_bytes(self, payload: bytes) -> tuple[str, int]:
        """Keep bytes; gives their digest and size."""
        digest = self.digest_of(payload)
        if self._size_of(digest) != len(payload):
            with self.writing() as (stream, keep):
                stream.write(payload)
                keep(digest)
        return digest, len(payload)

    def add_json(self, document: Any) -> tuple[str, int]:  # JSON
        """Keep a JSON document in its one spelling: sorted keys, no spaces."""
        return self.add_bytes(encode_json(document))

    def add_file(self, path: Path, digest: str | None = None) -> tuple[str, int]:
        """Copy a file in; gives its digest and size. One whose digest is said and that is here isn't read again.

        Raises ImageError where the file's digest is another than the one said.
        """
        try:
            size = path.stat().st_size
            if digest is not None and self._size_of(digest) == size:
                return digest, size
            with path.open("rb") as source, self.writing() as (stream, keep):
                found, size = copy_hashed(source, stream)
                if digest not in (None, found):
                    raise ImageError(
                        f"{path} has the digest {found}, not {digest}", hint="it was changed; make it again"
                    )
                keep(found)
        except OSError as error:
            raise explain(error, path) from error
        return found, size

    @contextmanager
    def writing(self) -> Iterator[tuple[BinaryIO, Callable[[str], None]]]:
        """Give a stream for a blob, and what to call with its digest at the end; without that, nothing stays."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with scratch_folder(self.folder, prefix=_INGEST) as scratch, (scratch / "blob").open("w+b") as stream:
                yield stream, lambda digest: self._keep(stream, scratch / "blob", digest)
        except OSError as error:
            raise explain(error, self.folder) from error

    def read(self, digest: str, *, limit_bytes: int = MANIFEST_LIMIT_BYTES) -> bytes:
        """Read a small blob and check it; raises ImageError where it is missing, altered or larger than the limit."""
        try:
            with self.path(digest).open("rb") as stream:
                payload = stream.read(limit_bytes + 1)
        except OSError as error:
            raise explain(error, self.path(digest)) from error
        if len(payload) > limit_bytes:
            raise ImageError(f"{digest} has more than {limit_bytes} bytes", hint="this is not a manifest or a config")
        if self.digest_of(payload) != digest:
            raise self._altered(digest)
        return payload

    def read_json(self, digest: str) -> Any:  # JSON
        """Read a JSON blob of at most 4 MiB and check it; raises ImageError."""
        return decode_json(self.read(digest), origin=digest)

    def check(self, digest: str, size: int | None = None) -> None:
        """Raise ImageError unless the blob is here, and its bytes (and size) are what its name says."""
        path = self.path(digest)
        try:
            with path.open("rb") as stream:
                found = os.fstat(stream.fileno()).st_size
                if size is not None and found != size:
                    raise ImageError(f"{path} has {found} bytes, not {size}", hint="remove the file and get it again")
                value = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise explain(error, path) from error
        if f"sha256:{value}" != digest:
            raise self._altered(digest)

    def check_descriptor(self, descriptor: Descriptor) -> None:
        """Check the blob that a descriptor names, its size as well."""
        self.check(descriptor.digest, descriptor.size)

    def remove(self, digest: str) -> None:
        """Forget a blob; one that isn't here is no error."""
        if self._lent.pop(digest, None) is None:
            self.path(digest).unlink(missing_ok=True)

    def _altered(self, digest: str) -> ImageError:
        return ImageError(f"{self.path(digest)} was changed: its digest is another", hint="remove it and get it again")

    def _size_of(self, digest: str) -> int:
        try:
            return self.path(digest).stat().st_size
        except OSError:
            return -1

    def _keep(self, stream: BinaryIO, written: Path, digest: str) -> None:
        stream.flush()
        os.fsync(stream.fileno())
        written.chmod(0o644)
        keep_blob(written, self.path(digest))


def keep_blob(written: Path, place: Path) -> None:
    """Give a finished file its place, durably."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.replace(written, place)
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def copy_hashed(source: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    """Copy a stream; gives the digest and size of what went through."""
    total, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        total.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return f"sha256:{total.hexdigest()}", size


def encode_json(document: Any) -> bytes:  # JSON
    """Give a JSON document's only spelling, so that equal documents have equal digests."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def decode_json(payload: bytes, *, origin: str) -> Any:  # JSON
    """Read JSON; raises ImageError that names `origin`."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{origin} is not valid JSON: {error}", hint="this image is damaged") from None


def explain(error: OSError, path: Path) -> ImageError:
    """Turn what the system says into an ImageError that says what to do."""
    if error.errno in _FULL:
        return ImageError(
            f"{path} can't be written: the disk is full", hint="free space; nothing half-written was kept"
        )
    if error.errno == errno.ENOENT:
        return ImageError(f"{error.filename or path} is missing", hint="get it again from where it came from")
    return ImageError(f"{error.filename or path}: {error.strerror or error}", hint="nothing half-written was kept")
