"""What the tests of this room make images of, and how they look into one."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

from ferryman.oci.descriptor import Platform
from ferryman.oci.image import Image, ImageConfig, read_image, write_image
from ferryman.oci.layer import Entry, write_layer
from ferryman.oci.layout import Layout

AMD = Platform("linux", "amd64")
GLIBC = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36."


def image_in(folder: Path, name: str = "") -> Image:
    """Read the image that lies in a layout."""
    layout = Layout.open(folder)
    return read_image(layout.blobs, layout.find(name))


def files_in(folder: Path, layer: int) -> dict[str, tarfile.TarInfo]:
    """List what one layer of a layout's image holds; negative numbers count from the top."""
    layout, image = Layout.open(folder), image_in(folder)
    with tarfile.open(layout.blobs.path(image.layers[layer].digest)) as tar:
        return {member.name: member for member in tar}


def content_of(folder: Path, name: str) -> bytes:
    """Read one file of a layout's image."""
    layout, image = Layout.open(folder), image_in(folder)
    for layer in reversed(image.layers):
        with tarfile.open(layout.blobs.path(layer.digest)) as tar:
            if name in tar.getnames():
                stream = tar.extractfile(name)
                assert stream is not None
                return stream.read()
    raise AssertionError(f"no {name} in {folder}")


def unpack(folder: Path, into: Path) -> Path:
    """Lay all layers of a layout's image over each other."""
    layout, image = Layout.open(folder), image_in(folder)
    for layer in image.layers:
        with tarfile.open(layout.blobs.path(layer.digest)) as tar:
            tar.extractall(into, filter="tar")
    return into


def base_layout(folder: Path, *layers: list[Entry], path: str = "/usr/local/bin:/usr/bin") -> Path:
    """Write an image of these layers, as others' bases are."""
    layout = Layout.create(folder)
    made = [write_layer(entries, layout.blobs) for entries in layers]
    config = ImageConfig(env={"PATH": path, "LANG": "C.UTF-8"}, labels={"maker": "somebody"})
    layout.tag(write_image(layout.blobs, config, made, platform=AMD), "base:1")
    return folder


def fake_python(*, libc: bytes = GLIBC, version: str = "3.11") -> list[Entry]:
    """Give what of an image tells which Python is in it; nothing of it can run."""
    return [
        Entry(f"usr/local/bin/python{version}", 0o755, b"\x7fELF"),
        Entry("usr/local/bin/python3", link=f"python{version}", kind="link"),
        Entry(f"usr/local/lib/python{version}/os.py", content=b""),
        Entry("usr/lib/x86_64-linux-gnu/libc.so.6", 0o755, libc),
        Entry("lib", link="usr/lib", kind="link"),
    ]


def in_process(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, env=environment, check=False
    )
