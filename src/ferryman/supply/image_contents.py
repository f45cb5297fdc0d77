"""Find out what is in an image from its layers, without running any of it: its bundle and its list of packages."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ferryman.bundle.layout import MANIFEST, check_name
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, ImageError
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor
from ferryman.oci.image import Image
from ferryman.oci.unlayer import read_layer
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
    for member, content in read_layer(blobs, layer, limit_bytes=_UNPACKED_LIMIT_BYTES):
        is_ours = member.name in _PLACES or member.name.startswith(_BUNDLE)
        if _removes(member.name) or (is_ours and content is None and not member.isdir()):
            raise ImageError(f"{layer.digest}: /{member.name} hides what lies below it", hint=_HINT)
        if is_ours and content is not None:
            yield member.name, member.size, content


def _removes(name: str) -> bool:
    """Tell whether an entry takes away what lower layers put there (image-spec, layer.md, "Whiteouts")."""
    parent, last = str(PurePosixPath(name).parent), PurePosixPath(name).name
    if last == ".wh..wh..opq":
        return parent in (".", *_PLACES) or parent.startswith(_BUNDLE)
    removed = str(PurePosixPath(parent, last.removeprefix(".wh.")))
    return last.startswith(".wh.") and (removed in _PLACES or removed.startswith(_BUNDLE))


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
