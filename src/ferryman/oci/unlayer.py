"""Read layers that others made, and take no more from them than was agreed."""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO, Self, cast

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import CHUNK_BYTES, Blobs, explain
from ferryman.oci.descriptor import DOCKER_LAYER, DOCKER_LAYER_GZIP, LAYER, LAYER_GZIP, Descriptor
from ferryman.oci.layer import Layer

_GZIP = (LAYER_GZIP, DOCKER_LAYER_GZIP)
_PLAIN = (LAYER, DOCKER_LAYER)
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_HEADER_LIMIT_BYTES = 1024 * 1024
_DAMAGED = "this image is damaged, or meant to harm: get it again from somebody you trust"


def measure_layer(blobs: Blobs, descriptor: Descriptor, diff_id: str, *, limit_bytes: int) -> Layer:
    """Unpack a layer to nowhere: give it with its size, or raise ImageError where it isn't what `diff_id` says.

    One that would unpack to more than `limit_bytes` is refused before it does.
    """
    total = hashlib.sha256()
    with _opened(blobs, descriptor, limit_bytes) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            total.update(chunk)
        size = stream.done
    if f"sha256:{total.hexdigest()}" != diff_id:
        raise ImageError(f"{descriptor.digest} unpacks to something else than its image's config says", hint=_DAMAGED)
    return Layer(descriptor, diff_id, size)


def list_layer(blobs: Blobs, descriptor: Descriptor, *, limit_bytes: int) -> Iterator[tarfile.TarInfo]:
    """Give a layer's members in order, names relative to `/`; raises ImageError for one that leads out of the image.

    What a link leads to is inside of the image, whatever it says: whoever follows it has to begin at the image's root.
    """
    yield from (member for member, _ in read_layer(blobs, descriptor, limit_bytes=limit_bytes))


def read_layer(
    blobs: Blobs, descriptor: Descriptor, *, limit_bytes: int
) -> Iterator[tuple[tarfile.TarInfo, BinaryIO | None]]:
    """Give a layer's members as `list_layer` does, each plain file with its content, to be read before the next."""
    with _opened(blobs, descriptor, limit_bytes) as stream, _tar(stream, descriptor) as tar:
        try:
            for member in tar:
                member.name = _plain_name(member.name, descriptor)
                if member.name:
                    yield member, cast(BinaryIO, tar.extractfile(member)) if is_plain_file(member) else None
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise ImageError(f"{descriptor.digest} is not a whole layer: {error}", hint=_DAMAGED) from None


def read_member(blobs: Blobs, descriptor: Descriptor, name: str, *, limit_bytes: int) -> bytes:
    """Give one file's content of a layer; raises ImageError where it isn't there, or has over a 16th of the limit."""
    with _opened(blobs, descriptor, limit_bytes) as stream, _tar(stream, descriptor) as tar:
        for member in tar:
            if _plain_name(member.name, descriptor) == name and is_plain_file(member):
                content = tar.extractfile(member)
                if content is not None and member.size <= limit_bytes // 16:
                    return content.read()
    raise ImageError(f"{descriptor.digest} holds no file {name!r} that can be read", hint=_DAMAGED)


class BoundedInfo(tarfile.TarInfo):
    """Refuse headers that are read into memory whole and claim to be huge."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one header block."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > _HEADER_LIMIT_BYTES:
            raise ImageError(f"a tar's header claims {member.size} bytes", hint=_DAMAGED)
        return member


def is_plain_file(member: tarfile.TarInfo) -> bool:
    """Tell a file from links, devices, and sparse files, which are larger than what holds them."""
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()


class _Bounded:
    """Unpack a stream as it is read, up to a limit."""

    def __init__(self, stream: BinaryIO, limit: int, digest: str) -> None:
        self.done = 0
        self._stream, self._limit, self._digest = stream, limit, digest

    def read(self, size: int) -> bytes:
        try:
            chunk = self._stream.read(size)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ImageError(f"{self._digest} is not a whole gzip: {error}", hint=_DAMAGED) from None
        self.done += len(chunk)
        if self.done > self._limit:
            raise ImageError(f"{self._digest} unpacks to more than {self._limit} bytes", hint=_DAMAGED)
        return chunk


@contextmanager
def _opened(blobs: Blobs, descriptor: Descriptor, limit_bytes: int) -> Iterator[_Bounded]:
    blobs.check_descriptor(descriptor)
    if descriptor.media_type not in (*_GZIP, *_PLAIN):
        raise ImageError(
            f"{descriptor.digest} is a layer of type {descriptor.media_type}, which is not read",
            hint="make an image with gzip layers of it: skopeo copy --dest-compress-format gzip",
        )
    path = blobs.path(descriptor.digest)
    try:
        with path.open("rb") as raw:
            if descriptor.media_type in _GZIP:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield _Bounded(cast(BinaryIO, unpacked), limit_bytes, descriptor.digest)
            else:
                yield _Bounded(raw, limit_bytes, descriptor.digest)
    except OSError as error:
        raise explain(error, path) from error


@contextmanager
def _tar(stream: _Bounded, descriptor: Descriptor) -> Iterator[tarfile.TarFile]:
    try:
        tar = tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", tarinfo=BoundedInfo)  # noqa: SIM115 - below
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ImageError(f"{descriptor.digest} is not a layer: {error}", hint=_DAMAGED) from None
    with tar:
        yield tar


def _plain_name(name: str, descriptor: Descriptor) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ImageError(f"{descriptor.digest} holds {name!r}, which leads out of the image", hint=_DAMAGED)
    return str(PurePosixPath(*parts)) if parts else ""
