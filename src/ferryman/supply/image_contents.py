"""Find out what is in an image from its layers, without running any of it: its bundle and its list of packages."""

import gzip
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from ferryman.bundle.layout import MANIFEST, check_name
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, ImageError
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import LAYER, LAYER_GZIP, Descriptor
from ferryman.oci.image import Image
from ferryman.oci.unlayer import BoundedInfo, is_plain_file
from ferryman.supply.bom import Package
from ferryman.supply.licences import known_as

LIST = "opt/ferryman/contents.json"
_BUNDLE = "bundle/"
_PLACES = ("bundle", "opt", "opt/ferryman", LIST)
_LIST_LIMIT_BYTES = 16 * 1024 * 1024
_UNPACKED_LIMIT_BYTES = 64 * 1024**3
_HINT = "only images of ferryman package say what is in them; --bare signs any other, and attests nothing"


def read_contents(blobs: Blobs, image: Image, into: Path) -> tuple[Bundle, list[Package]]:
    """Give an image's bundle, its files written below `into` and checked, and the packages that it lists.

    Raises ImageError for layers that can't be read, and for an image that says nothing of its packages.
    """
    listed: list[Package] = []
    for layer in image.layers:
        blobs.check_descriptor(layer)
        for name, size, stream in _files(blobs, layer):
            if name == LIST:
                if size > _LIST_LIMIT_BYTES:
                    raise ImageError(f"{image.descriptor.digest}: /{LIST} has {size} bytes", hint=_HINT)
                listed = _read_list(stream.read(), image)
            elif name.startswith(_BUNDLE):
                _take(name.removeprefix(_BUNDLE), stream, into)
    if not (into / MANIFEST).is_file() or not listed:
        lacks = LIST if (into / MANIFEST).is_file() else f"{_BUNDLE}{MANIFEST}"
        raise ImageError(f"{image.descriptor.digest} has no /{lacks}", hint=_HINT)
    return load_bundle(into), listed


def _files(blobs: Blobs, layer: Descriptor) -> Iterator[tuple[str, int, BinaryIO]]:
    """Yield the plain files of a layer that are asked for: name, size, content."""
    if layer.media_type not in (LAYER, LAYER_GZIP):
        raise ImageError(f"{layer.digest} is a {layer.media_type}, which is not read here", hint=_HINT)
    total = 0
    with _unpacked(blobs.path(layer.digest), layer) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedInfo) as archive:
                for member in archive:
                    total += member.size
                    if total > _UNPACKED_LIMIT_BYTES:
                        raise ImageError(f"{layer.digest} has more than {_UNPACKED_LIMIT_BYTES} bytes", hint=_HINT)
                    name = str(PurePosixPath("/", member.name))[1:]
                    is_ours = name in _PLACES or name.startswith(_BUNDLE)
                    if _removes(name) or (is_ours and not (is_plain_file(member) or member.isdir())):
                        raise ImageError(f"{layer.digest}: /{name} hides what lies below it", hint=_HINT)
                    if is_ours and not member.isdir():
                        yield name, member.size, cast(BinaryIO, archive.extractfile(member))
        except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
            raise ImageError(f"{layer.digest} can't be read: {error}", hint="get the image again") from None


def _removes(name: str) -> bool:
    """Tell whether an entry takes away what lower layers put there (image-spec, layer.md, "Whiteouts")."""
    parent, last = str(PurePosixPath(name).parent), PurePosixPath(name).name
    if last == ".wh..wh..opq":
        return parent in (".", *_PLACES) or parent.startswith(_BUNDLE)
    removed = str(PurePosixPath(parent, last.removeprefix(".wh.")))
    return last.startswith(".wh.") and (removed in _PLACES or removed.startswith(_BUNDLE))


@contextmanager
def _unpacked(file: Path, layer: Descriptor) -> Iterator[BinaryIO]:
    with file.open("rb") as packed:
        if layer.media_type == LAYER:
            yield packed
        else:
            with gzip.GzipFile(fileobj=packed) as stream:
                yield cast(BinaryIO, stream)


def _take(name: str, content: BinaryIO, into: Path) -> None:
    check_name(name, origin="an image")
    target = into / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            shutil.copyfileobj(content, out)
    except (NotADirectoryError, IsADirectoryError):
        raise BundleError(f"an image has {name!r} as a file and as a folder", hint=_HINT) from None


def _read_list(payload: bytes, image: Image) -> list[Package]:
    try:
        return [
            Package(
                name=str(one["name"]),
                version=str(one["version"]),
                license=known_as(str(one.get("licence") or "")),
                sha256=str(one.get("sha256") or ""),
                purl=str(one.get("purl") or ""),
            )
            for one in json.loads(payload)
            if one["kind"] != "model"
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"{image.descriptor.digest}: /{LIST} is no list of packages: {error!r}", hint=_HINT) from None
