"""Bring the image that is asked for into the engine: a reference, an OCI layout's folder, a docker archive."""

import contextlib
import json
import platform
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ferryman.container.engine import Engine, EngineFailed, ImageFacts, loaded_name
from ferryman.container.owner import new_name
from ferryman.core.errors import UserError
from ferryman.oci.archive import write_archive
from ferryman.oci.descriptor import INDEXES, Platform
from ferryman.oci.image import choose, read_image
from ferryman.oci.layout import Layout, split_place
from ferryman.oci.reference import means_image
from ferryman.oci.unlayer import BoundedInfo

OCI, ARCHIVE = "oci:", "docker-archive:"
_MOST_JSON_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """Hold an image that the engine has; `packed_mb` is its compressed size where the source itself says it."""

    told: str
    facts: ImageFacts
    packed_mb: float | None = None


def is_image(target: str) -> bool:
    """Tell an image from a bundle: a known prefix, or no path that is there, with a tag, a digest or a host."""
    return target.startswith((OCI, ARCHIVE)) or means_image(target)


def refuse_unnamed(target: str) -> None:
    """Refuse an image in a file or a folder that is not called one; raises UserError that says its name."""
    place = Path(target)
    if place.is_file() and place.suffix == ".tar":
        raise UserError(f"{target} is no bundle", hint=f"an image's archive is {ARCHIVE}{target}")
    if (place / "oci-layout").is_file():
        raise UserError(f"{target} is an image's layout, no bundle", hint=f"write {OCI}{target}")


@contextlib.contextmanager
def image_of(engine: Engine, target: str) -> Iterator[Source]:
    """Have an image in the engine for the length of a block; what was loaded only for this is removed afterwards.

    Raises UserError for an image that can't be found, fetched or read.
    """
    packed_mb = None
    name = loaded_name(new_name())
    place = target.partition(":")[2]
    if target.startswith(OCI):
        packed_mb = _load_layout(engine, place, name)
    elif target.startswith(ARCHIVE):
        _load_archive(engine, Path(place), name)
    else:
        # A name of our own keeps the image while others remove or replace theirs.
        engine.tag(_fetched(engine, target).id, name)
    try:
        facts = engine.find_image(name)
        if facts is None:
            raise EngineFailed(f"{engine.program} has not kept {target}", hint=f"{engine.program} images")
        yield Source(target, facts, packed_mb)
    finally:
        engine.remove_image(name)


def _fetched(engine: Engine, name: str) -> ImageFacts:
    facts = engine.find_image(name)
    if facts is None:
        engine.pull(name)
        facts = engine.find_image(name)
    if facts is None:
        raise EngineFailed(f"{engine.program} has not kept {name}", hint=f"{engine.program} images")
    return facts


def _load_archive(engine: Engine, file: Path, name: str) -> None:
    """Load a docker archive under a name of ours; the names in it mean what they meant before."""
    if not file.is_file():
        raise UserError(f"there is no archive {file}", hint=f"{engine.program} save -o {file} IMAGE writes one")
    before = {inner: engine.find_image(inner) for inner in _names_in(file) if inner != name}
    loaded = engine.load(file)
    if loaded != name:
        engine.tag(loaded, name)
    for inner, facts in before.items():
        if facts is None:
            engine.remove_image(inner)
        else:
            engine.tag(facts.id, inner)


def _names_in(file: Path) -> list[str]:
    try:
        with tarfile.open(file, "r:*", tarinfo=BoundedInfo) as archive:
            content = archive.extractfile("manifest.json")
            listed = json.loads(content.read(_MOST_JSON_BYTES)) if content else []
            return [str(name) for image in listed for name in image.get("RepoTags") or ()]
    except (OSError, KeyError, ValueError, TypeError, AttributeError, EOFError, tarfile.TarError) as error:
        said, _, _ = str(error).partition(":\n")  # tarfile lists what it tried
        raise UserError(
            f"{file} is no docker archive: {said}",
            hint="docker save, or podman save, writes one",
        ) from None


def _load_layout(engine: Engine, place: str, name: str) -> float:
    """Load an OCI layout, FOLDER or FOLDER:TAG; gives its layers' size in 10^6 bytes."""
    folder, tag = split_place(place)
    layout = Layout.open(folder)
    found = layout.find(tag)
    chosen = choose(layout.blobs, found, _here() if found.media_type in INDEXES else None)
    image = read_image(layout.blobs, chosen)
    with tempfile.TemporaryDirectory(prefix="ferryman-") as into:
        _load_archive(engine, write_archive(layout.blobs, chosen, Path(into, "image.tar"), name=name), name)
    return sum(layer.size for layer in image.layers) / 1e6


def _here() -> Platform:
    machine = platform.machine().lower()
    return Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine))
