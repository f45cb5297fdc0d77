"""What is asked of `ferryman package`, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ferryman.package.contents import Component

OWN_BASE = "this machine's Python"


class PackageChoices(TypedDict, total=False):
    """Be the keywords of `ferryman.api.package`: fields of PackageSettings."""

    output: Path | None
    platforms: tuple[str, ...]
    base: str
    wheels: Path | None
    dockerfile: Path | None
    extras: tuple[str, ...]
    opencv: bool
    push: bool
    insecure: bool


@dataclass(frozen=True, slots=True)
class PackageSettings:
    """Say what to make: `tag` names the image; "" and None stand for "as usual".

    `output` is a layout's folder, or a .tar; by default BUNDLE.oci beside the bundle, or nothing where it is pushed.
    `base` is a registry's reference or `oci:FOLDER[:TAG]`; by default one is made of this machine's Python. `wheels` is
    a folder to take packages from instead of the network; `dockerfile` one to write a Dockerfile into, instead of an
    image. `extras` are ferryman's own, as auth.
    """

    tag: str
    output: Path | None = None
    platforms: tuple[str, ...] = ()
    base: str = ""
    wheels: Path | None = None
    dockerfile: Path | None = None
    extras: tuple[str, ...] = ()
    opencv: bool = False
    push: bool = False
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Tell of one layer: its bytes compressed and not, and whether it was made now (and not found in the cache)."""

    name: str
    digest: str
    size: int
    size_unpacked: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class PackagedImage:
    """Tell of one platform's image: what is in it, from what base, and what the user should know of it."""

    platform: str
    digest: str
    base: str
    python: str
    parts: tuple[Part, ...]
    contents: tuple[Component, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Give the bytes that a registry keeps."""
        return sum(part.size for part in self.parts)

    @property
    def size_unpacked(self) -> int:
        """Give the bytes of the layers' archives, uncompressed."""
        return sum(part.size_unpacked for part in self.parts)


@dataclass(frozen=True, slots=True)
class Packaged:
    """Tell what was written where: `digest` is that of the image, or of the index of several platforms."""

    reference: str
    digest: str
    output: Path | None
    pushed: bool
    images: tuple[PackagedImage, ...]
    seconds: float
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """Tell what an image for one platform would hold: packages with their versions, and where it would go."""

    reference: str
    platform: str
    base: str
    python: str
    packages: Mapping[str, str]
    bundle_bytes: int
    output: Path | None
    pushed: bool
    notes: tuple[str, ...]
