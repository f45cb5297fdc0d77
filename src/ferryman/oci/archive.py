"""Make one tar file of an image, which docker, podman and skopeo load both as a docker and as an OCI archive."""

import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs, copy_hashed, encode_json, explain
from ferryman.oci.descriptor import (
    INDEX,
    INDEXES,
    LAYER_ZSTD,
    MANIFEST_LIMIT_BYTES,
    REF_NAME,
    Descriptor,
    Platform,
)
from ferryman.oci.image import children, read_image, read_manifest
from ferryman.oci.layout import Layout
from ferryman.oci.unlayer import BoundedInfo, is_plain_file

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_DOCKER = "manifest.json"
_INDEX = "index.json"
_MARKER = "oci-layout"
_AGAIN = "save it again from where it came"


def write_archive(
    blobs: Blobs, descriptor: Descriptor, file: Path, *, name: str = "", platform: Platform | None = None
) -> Path:
    """Write an image, or an index with all its images, to `file` in one step; equal images give equal bytes.

    `docker load` and `podman load` take it, as do skopeo's `docker-archive:` and `oci-archive:`. `name` is its
    host/name:tag; `platform` says which image of an index a docker archive's reader gets. Raises ImageError.
    """
    image = read_image(blobs, descriptor, platform)
    if zstd := [layer for layer in image.layers if layer.media_type == LAYER_ZSTD]:
        raise ImageError(f"docker archives hold no zstd layers, as {zstd[0].digest} is", hint="write a layout instead")
    listed = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size, {REF_NAME: name} if name else {})
    docker = {
        "Config": _place(image.config_descriptor.digest),
        "RepoTags": [name] if name else None,
        "Layers": [_place(layer.digest) for layer in image.layers],
    }
    texts = {
        _MARKER: {"imageLayoutVersion": "1.0.0"},
        _INDEX: {"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed.to_json()]},
        _DOCKER: [docker],
    }
    digests = sorted(set(_all_of(blobs, descriptor)))
    staged: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        number, path = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        staged = Path(path)
        with os.fdopen(number, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for text, document in texts.items():
                    payload = encode_json(document)
                    tar.addfile(_member(text, len(payload)), io.BytesIO(payload))
                for digest in digests:
                    _add_blob(tar, blobs, digest)
            stream.flush()
            os.fsync(stream.fileno())
        staged.chmod(0o644)
        os.replace(staged, file)
    except OSError as error:
        raise explain(error, file) from error
    finally:
        if staged is not None:
            staged.unlink(missing_ok=True)
    return file


def read_archive(file: Path, folder: Path) -> Layout:
    """Unpack an OCI archive (what `write_archive`, skopeo and `podman save --format oci-archive` write) into a layout.

    Only its index and blobs are taken, each by its digest: nothing that a tar may smuggle in is looked at. Raises
    ImageError.
    """
    layout = Layout.create(folder)
    try:
        index = _take_parts(file, layout.blobs)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ImageError(f"{file} is not a whole archive: {error}", hint=_AGAIN) from None
    except OSError as error:
        raise explain(error, file) from error
    if not index:
        raise ImageError(f"{file} is no OCI archive: it has no {_INDEX}", hint="podman save --format oci-archive")
    layout.replace_index(index)
    for descriptor in layout.manifests():
        for digest in _all_of(layout.blobs, descriptor):
            layout.blobs.check(digest)
    return layout


def _take_parts(file: Path, blobs: Blobs) -> bytes:
    """Take the blobs, and give the index."""
    index = b""
    with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:", tarinfo=BoundedInfo) as archive:
        for member in filter(is_plain_file, archive):
            name, content = member.name.removeprefix("./"), cast(BinaryIO, archive.extractfile(member))
            if name == _INDEX and member.size <= MANIFEST_LIMIT_BYTES:
                index = content.read()
            elif found := _BLOB.fullmatch(name):
                _take_blob(content, f"sha256:{found[1]}", blobs, file)
    return index


def _take_blob(content: BinaryIO, digest: str, blobs: Blobs, file: Path) -> None:
    with blobs.writing() as (target, keep):
        found, _ = copy_hashed(content, target)
        if found != digest:
            raise ImageError(f"{file}: the blob {digest} was changed", hint=_AGAIN)
        keep(digest)


def _all_of(blobs: Blobs, descriptor: Descriptor) -> Iterator[str]:
    yield descriptor.digest
    for child in children(read_manifest(blobs, descriptor), origin=descriptor.digest):
        if descriptor.media_type in INDEXES:
            yield from _all_of(blobs, child)
        else:
            yield child.digest


def _add_blob(tar: tarfile.TarFile, blobs: Blobs, digest: str) -> None:
    blobs.check(digest)
    with blobs.path(digest).open("rb") as stream:
        tar.addfile(_member(_place(digest), os.fstat(stream.fileno()).st_size), stream)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
