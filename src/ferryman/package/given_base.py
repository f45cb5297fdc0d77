"""Stand on an image that the user names: its Python is found by looking into its layers, and none of it is run."""

import posixpath
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ferryman.core.errors import ImageError
from ferryman.core.progress import Progress
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor, Platform
from ferryman.oci.image import Image, read_image
from ferryman.oci.layer import Layer
from ferryman.oci.layout import Layout, split_place
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.oci.unlayer import list_layer, measure_layer, read_member
from ferryman.package.base import Base
from ferryman.package.contents import Component
from ferryman.package.store import Store
from ferryman.package.target import Target

_PYTHON = re.compile(r"python3(\.\d+)?")
_LIBRARY = re.compile(r"(?:.*/)?lib(?:64)?/python(3\.\d+)/os\.pyc?")
_GLIBC = re.compile(rb"release version (\d+)\.(\d+)")
_OLD_GLIBC = re.compile(r"libc-2\.\d+\.so")
_MUSL = re.compile(r"ld-musl-[a-z0-9_]+\.so\.1")
_LARGEST_LAYER_BYTES = 16 * 1024**3
_LINKS = 40
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class _Tree:
    """Hold what of an image's files is of interest, as its layers lay them over each other."""

    links: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    libc: dict[str, Descriptor] = field(default_factory=dict)  # glibc's files, each with the layer that it is in
    has_musl: bool = False

    def take(self, member: tarfile.TarInfo, layer: Descriptor) -> None:
        """Put one entry over what is there (OCI image specification, "Whiteouts")."""
        folder, file = posixpath.split(member.name)
        if file == ".wh..wh..opq":
            self._remove(f"{folder}/")
        elif file.startswith(".wh."):
            self._remove(posixpath.join(folder, file.removeprefix(".wh.")))
        elif member.issym():
            self._remove(member.name)
            self.links[member.name] = member.linkname
        elif member.isfile() or member.islnk():
            self._take_file(member.name, file, layer)

    def resolve(self, name: str) -> str:
        """Follow links to a file; "" where there is none."""
        for _ in range(_LINKS):
            if name in self.files:
                return name
            linked = next((part for part in _prefixes(name) if part in self.links), None)
            if linked is None:
                return ""
            leads = posixpath.join("/", posixpath.dirname(linked), self.links[linked])
            name = posixpath.normpath(leads).lstrip("/") + name[len(linked) :]
        return ""

    def _take_file(self, name: str, file: str, layer: Descriptor) -> None:
        if _PYTHON.fullmatch(file) or _LIBRARY.fullmatch(name) or ".so" in file:
            self.links.pop(name, None)
            self.files.add(name)
        self.has_musl = self.has_musl or bool(_MUSL.fullmatch(file))
        if file == "libc.so.6" or _OLD_GLIBC.fullmatch(file):
            self.libc[name] = layer

    def _remove(self, name: str) -> None:
        """Forget a file, or a folder with all in it; with a slash at the end, only what is in it."""
        folder = name if name.endswith("/") else f"{name}/"
        for held in [one for one in (*self.files, *self.links) if one == name or one.startswith(folder)]:
            self.files.discard(held)
            self.links.pop(held, None)


def find_base(name: str, platform: Platform, store: Store, progress: Progress) -> Base:
    """Get the base that a user names: `oci:FOLDER[:TAG]`, or a registry's; raises ImageError, RegistryError."""
    if name.startswith("oci:"):
        descriptor = _from_layout(name, platform, store.blobs)
    else:
        reference = Reference.parse(name)
        with Registry.of(reference) as registry:
            descriptor = registry.pull(reference, store.blobs, platform=platform, progress=progress)
    image = read_image(store.blobs, descriptor, platform)
    progress(f"look into {name}")
    facts = store.value("given-base", image.descriptor.digest, lambda: _look(image, store.blobs, name))
    layers = tuple(
        Layer(layer, diff_id, size)
        for layer, diff_id, size in zip(image.layers, image.diff_ids, facts["sizes"], strict=True)
    )
    version = facts["version"]
    return Base(
        target=Target(version, facts["libc"], tuple(facts["libc_version"]), image.platform.architecture),
        layers=layers,
        python=f"/{facts['python']}",
        config=image.config,
        libraries=frozenset(facts["libraries"]),
        contents=(Component("python", version, "python", "PSF-2.0", f"pkg:generic/python@{version}"),),
        name=name,
        digest=image.descriptor.digest,
    )


def _from_layout(name: str, platform: Platform, blobs: Blobs) -> Descriptor:
    text = name.removeprefix("oci:")
    folder, tag = split_place(text)
    if not folder.is_dir() or not text:
        raise ImageError(f"there is no folder {text!r}", hint="write oci:FOLDER or oci:FOLDER:TAG")
    layout = Layout.open(folder)
    image = read_image(layout.blobs, layout.find(tag), platform)
    for part in (image.config_descriptor, *image.layers, image.descriptor):
        blobs.add_file(layout.blobs.path(part.digest), part.digest)
    return image.descriptor


def _look(image: Image, blobs: Blobs, name: str) -> dict[str, Any]:  # JSON
    """Find Python, its version and the C library in an image's layers."""
    tree, sizes = _Tree(), []
    for descriptor, diff_id in zip(image.layers, image.diff_ids, strict=True):
        sizes.append(measure_layer(blobs, descriptor, diff_id, limit_bytes=_LARGEST_LAYER_BYTES).size_unpacked)
        for member in list_layer(blobs, descriptor, limit_bytes=_LARGEST_LAYER_BYTES):
            tree.take(member, descriptor)
    python, version = _find_python(image, tree, name)
    libc, libc_version = _libc(tree, blobs, name)
    libraries = sorted({one.rpartition("/")[2] for one in (*tree.files, *tree.links) if ".so" in one})
    return {
        "python": python, "version": version, "libc": libc, "libc_version": libc_version, "libraries": libraries,
        "sizes": sizes,
    }  # fmt: skip


def _find_python(image: Image, tree: _Tree, name: str) -> tuple[str, str]:
    """Give the first python3 on the image's PATH that has a library, and its version."""
    libraries = {found[1] for one in tree.files if (found := _LIBRARY.fullmatch(one))}
    for folder in (image.config.env.get("PATH") or _PATH).split(":"):
        place = posixpath.join(folder.strip("/"), "python3")
        program = tree.resolve(place)
        version = program.rpartition("/")[2].removeprefix("python")
        version = next(iter(libraries)) if program and version == "3" and len(libraries) == 1 else version
        if program and version in libraries:
            return place, version
    raise ImageError(f"the base {name} has no python3 on its PATH", hint="name one that has: python:3.11-slim")


def _libc(tree: _Tree, blobs: Blobs, name: str) -> tuple[str, tuple[int, int]]:
    if tree.has_musl:
        return "musl", (1, 2)  # since Python 3.9 all of Alpine's images have 1.2
    place = next((one for one in map(tree.resolve, sorted(tree.libc)) if one in tree.libc), "")
    if place:
        content = read_member(blobs, tree.libc[place], place, limit_bytes=_LARGEST_LAYER_BYTES)
        if found := _GLIBC.search(content):
            return "glibc", (int(found[1]), int(found[2]))
    raise ImageError(f"the base {name} has no C library that is known", hint="glibc and musl are")


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])
