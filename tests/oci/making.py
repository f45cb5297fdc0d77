"""Make small images, and run the programs that read them."""

import subprocess
from pathlib import Path

from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor, Platform
from ferryman.oci.image import ImageConfig, write_image, write_index
from ferryman.oci.layer import Entry, write_layer

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def make_image(blobs: Blobs, content: bytes = b"hello\n", *, platform: Platform = AMD64) -> Descriptor:
    """Write an image with one file and a link to it."""
    layer = write_layer(
        [Entry("app/hello.txt", content=content), Entry("app/link", kind="link", link="hello.txt")], blobs
    )
    config = ImageConfig(user="65532:65532", env={"A": "b=c"}, entrypoint=["/app/hello"], labels={"who": "tests"})
    return write_image(blobs, config, [layer], platform=platform, annotations={"org.opencontainers.image.title": "t"})


def make_index(blobs: Blobs, content: bytes = b"hello\n") -> Descriptor:
    """Write an index of two platforms' images."""
    return write_index(blobs, [make_image(blobs, content, platform=one) for one in (AMD64, ARM64)])


def run(*words: str | Path, folder: Path | None = None) -> str:
    """Run a program; gives what it says, and fails with it where it fails."""
    done = subprocess.run([*map(str, words)], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}"
    return done.stdout
