"""Bring a blob here: go on where the last try stopped, take no byte too many, believe only the digest."""

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ferryman.core.errors import ImageError, RegistryError
from ferryman.oci._session import Session
from ferryman.oci._wire import Answer, Broken
from ferryman.oci.blobs import CHUNK_BYTES, Blobs, explain, keep_blob
from ferryman.oci.descriptor import Descriptor

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
Count = Callable[[int], None]


def download(session: Session, path: str, descriptor: Descriptor, blobs: Blobs, count: Count) -> None:
    """Get a blob into `blobs` unless it is there already; `count` hears of bytes as they are here.

    What came before a break, or before this process was killed, lies in `.partial/` and is not asked for again.
    Raises ImageError for a blob that is larger or another than its descriptor says, RegistryError where there is none.
    """
    if _is_here(blobs, descriptor):
        count(descriptor.size)
        return
    place = blobs.partial(descriptor.digest)
    try:
        with _locked(place) as stream:
            if blobs.has(descriptor.digest):  # another process has brought it meanwhile
                count(descriptor.size)
                return
            _fill(session, path, descriptor, stream, count)
            os.fsync(stream.fileno())
            place.chmod(0o644)
            keep_blob(place, blobs.path(descriptor.digest))
    except OSError as error:
        raise explain(error, place) from error
    except ImageError:
        place.unlink(missing_ok=True)  # the next try begins anew
        raise


def _is_here(blobs: Blobs, descriptor: Descriptor) -> bool:
    """Tell whether a blob is here and sound; one that was damaged since it came is dropped, and got again."""
    if not blobs.has(descriptor.digest):
        return False
    try:
        blobs.check_descriptor(descriptor)
    except ImageError:
        blobs.remove(descriptor.digest)
        return False
    return True


def clean_up(blobs: Blobs) -> None:
    """Remove the folder of partial files, where none is left in it."""
    with suppress(OSError):
        (blobs.folder / ".partial").rmdir()


@contextmanager
def _locked(place: Path) -> Iterator[BinaryIO]:
    """Open a partial file for this process alone; one that vanished while we waited is made anew."""
    while True:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            number = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            continue  # another process has just cleaned up
        with open(number, "r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not place.exists() or place.stat().st_ino != os.fstat(stream.fileno()).st_ino:
                continue
            yield stream
            return


def _fill(session: Session, path: str, descriptor: Descriptor, stream: BinaryIO, count: Count) -> None:
    """Bring the file to its full size and check its digest; one with an old part may begin anew."""
    has_old = os.fstat(stream.fileno()).st_size > 0
    total = _hash_part(stream, descriptor.size)
    count(stream.tell())

    def heard(part: bytes) -> None:
        total.update(part)
        count(len(part))

    attempt = 0
    while (have := stream.tell()) < descriptor.size:
        session.check_going()
        try:
            _take(session, path, descriptor, stream, heard)
        except Broken as error:
            attempt = 0 if stream.tell() > have else attempt + 1
            if attempt >= session.retry.attempts:
                raise RegistryError(f"{session.host}: {error}", hint="run it again: it goes on from here") from None
            session.pause(attempt)
    if f"sha256:{total.hexdigest()}" == descriptor.digest:
        return
    if not has_old:
        raise ImageError(f"{session.host} gives other bytes than {descriptor.digest}", hint="what it holds is damaged")
    count(-descriptor.size)
    stream.seek(0)
    stream.truncate()
    _fill(session, path, descriptor, stream, count)


def _hash_part(stream: BinaryIO, size: int) -> "hashlib._Hash":
    """Hash what is there and stand at its end; a part that is longer than the whole is none."""
    if os.fstat(stream.fileno()).st_size > size:
        stream.truncate(0)
    total = hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        total.update(chunk)
    return total


def _take(
    session: Session, path: str, descriptor: Descriptor, stream: BinaryIO, heard: Callable[[bytes], None]
) -> None:
    """Ask for the rest once and write what comes; raises Broken where it stops short."""
    have = stream.tell()
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    answer = session.ask("GET", path, headers=headers)
    if answer.status not in (200, 206):
        raise session.refuse(answer, f"blob {descriptor.digest}")
    with answer:
        to_skip = _check_place(answer, have, descriptor, session.host)
        while part := answer.read(CHUNK_BYTES):
            session.check_going()
            skipped = min(to_skip, len(part))
            to_skip, part = to_skip - skipped, part[skipped:]
            if stream.tell() + len(part) > descriptor.size:
                raise _too_large(descriptor, session.host)
            stream.write(part)
            heard(part)
        stream.flush()
    if stream.tell() < descriptor.size:
        raise Broken(f"blob {descriptor.digest} ends after {stream.tell()} of {descriptor.size} bytes")


def _check_place(answer: Answer, have: int, descriptor: Descriptor, host: str) -> int:
    """Give how many bytes of this answer we have already; raises ImageError for one of another size."""
    begins = 0
    if answer.status == 206:
        found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
        if found is None or int(found[1]) > have:
            raise RegistryError(f"{host} was asked for bytes from {have} and gives others", hint="ask who runs it")
        begins = int(found[1])
    length = answer.header("Content-Length")
    if length.isdigit() and begins + int(length) > descriptor.size:
        raise _too_large(descriptor, host)
    return have - begins


def _too_large(descriptor: Descriptor, host: str) -> ImageError:
    return ImageError(
        f"{host} gives more than the {descriptor.size} bytes that {descriptor.digest} has",
        hint="what it holds is damaged, or meant to fill the disk",
    )
