"""Push a bundle to a registry as a ModelPack artifact, and pull it back: whole, checked, and only what changed."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ferryman.bundle.land import landing
from ferryman.bundle.layout import MANIFEST
from ferryman.bundle.manifest import parse_manifest, read_manifest
from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import refuse_foreign
from ferryman.core.artifact import digest_file
from ferryman.core.bundle import ATTACHED, Bundle, FileEntry, Manifest
from ferryman.core.errors import BundleError, Untrusted
from ferryman.core.progress import Progress, silent
from ferryman.core.scratch import try_lock
from ferryman.oci.blobs import Blobs, explain
from ferryman.oci.descriptor import Descriptor
from ferryman.oci.image import children, write_artifact
from ferryman.oci.image import read_manifest as read_oci_manifest
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply._modelpack import (
    ARTIFACT_TYPE,
    CONFIG,
    annotate,
    check_files,
    describe_bundle,
    describe_file,
    files_of,
)
from ferryman.supply.policy import EVERYTHING, Policy

_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Moved:
    """Say what a push or pull did, or would do: `reference` names the artifact by digest, for scripts to keep.

    `moved_bytes` went over the network; `kept_bytes` were at the other end already.
    """

    name: str
    bundle_digest: str
    reference: str
    moved_bytes: int
    kept_bytes: int
    files: int
    path: str = ""


def push_bundle(
    path: Path, reference: Reference, registry: Registry, *, dry_run: bool = False, progress: Progress = silent
) -> Moved:
    """Check a bundle (folder or .ferry) and push it with what lies beside it: its signature, its bill of materials.

    Files that the registry has are not sent; equal bundles have equal digests. Raises BundleError, RegistryError, and
    Untrusted for one that was altered since it was signed: nobody would take it.
    """
    bundle = load_bundle(path)
    EVERYTHING.check(bundle)
    with TemporaryDirectory() as folder:
        blobs = Blobs(Path(folder))
        descriptor = _write(bundle, blobs)
        layers = children(read_oci_manifest(blobs, descriptor), origin=str(reference))
        if dry_run:
            moved = sum(part.size for part in registry.missing(blobs, descriptor, reference))
            kept = sum({part.digest: part.size for part in layers}.values()) - moved
        else:
            pushed = registry.push(blobs, descriptor, reference, progress=progress)
            moved, kept = pushed.sent_bytes, pushed.kept_bytes
    return Moved(
        name=bundle.manifest.name,
        bundle_digest=bundle.manifest.digest,
        reference=str(reference.pinned(descriptor.digest)),
        moved_bytes=moved,
        kept_bytes=kept,
        files=len(layers) - 1,
        path=str(path),
    )


def pull_bundle(
    reference: Reference,
    destination: Path,
    registry: Registry,
    *,
    policy: Policy = EVERYTHING,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Moved:
    """Bring a bundle to the folder `destination`: all of it, each digest checked, or nothing.

    One that `policy` doesn't accept never lands (Untrusted). What is there already in an older version of it is not
    fetched again; what a break or a killed process left lies in a folder beside, and the next pull goes on from it.
    Raises BundleError, ImageError, RegistryError.
    """
    destination = destination.resolve()
    refuse_foreign(destination)
    found = registry.resolve(reference)
    pinned = reference.pinned(found.digest)
    with _staging(destination, is_kept=not dry_run) as folder:
        blobs = Blobs(folder)
        manifest, files, total = _look(pinned, registry, blobs)
        _lend(destination, manifest, blobs)
        parts = {layer.digest: layer.size for layer in files.values() if layer is not files[MANIFEST]}
        kept = sum(_held(blobs, digest, size) for digest, size in parts.items())
        if not dry_run:
            registry.pull(pinned, blobs, progress=progress)
            _land(files, blobs, destination, lambda bundle: _check(bundle, policy, str(pinned)))
    return Moved(
        name=manifest.name,
        bundle_digest=manifest.digest,
        reference=str(pinned),
        moved_bytes=total - kept,
        kept_bytes=kept,
        files=len(files),
        path=str(destination),
    )


def fetch(
    reference: str, cache: Path, *, insecure: bool = False, ca: Path | None = None, progress: Progress = silent
) -> Path:
    """Give the folder of a bundle that a registry holds, pulled below `cache` unless it lies there already.

    One named by digest that is there asks no registry. Raises as `pull_bundle` does.
    """
    named = Reference.parse(reference)
    with Registry.of(named, insecure=insecure, ca=ca) as registry:
        digest = named.digest
        if not digest or not _place(cache, digest).is_dir():
            digest = registry.resolve(named).digest
        place = _place(cache, digest)
        if not place.is_dir():
            pull_bundle(named.pinned(digest), place, registry, progress=progress)
    return place


def _place(cache: Path, digest: str) -> Path:
    return cache / digest.partition(":")[2]


def _write(bundle: Bundle, blobs: Blobs) -> Descriptor:
    """Describe a bundle as an artifact whose layers lie where the bundle does; bundle.json is the first."""
    beside = [name for name in (MANIFEST, *ATTACHED) if (bundle.path / name).is_file()]
    entries = {name: _entry(bundle.path / name) for name in beside} | bundle.manifest.files
    layers = [describe_file(name, entry) for name, entry in entries.items()]
    for name, entry in entries.items():
        blobs.lend(bundle.path / name, f"sha256:{entry.sha256}")
    config = Descriptor(CONFIG, *blobs.add_json(describe_bundle(bundle, layers)))
    return write_artifact(blobs, ARTIFACT_TYPE, layers=layers, config=config, annotations=annotate(bundle))


def _entry(file: Path) -> FileEntry:
    return FileEntry(sha256=digest_file(file), size=file.stat().st_size)


def weigh_bundle(reference: Reference, registry: Registry) -> int:
    """Give the bytes of a bundle that a registry holds, without its files; raises what `pull_bundle` would."""
    with TemporaryDirectory() as folder:
        _, _, size_bytes = _look(reference, registry, Blobs(Path(folder)))
    return size_bytes


def _look(reference: Reference, registry: Registry, blobs: Blobs) -> tuple[Manifest, dict[str, Descriptor], int]:
    """Read what an artifact says of itself, and refuse one whose parts don't fit before they are fetched."""
    raw, parts = registry.read(reference)
    files = files_of(raw, parts[1:], origin=str(reference))
    registry.pull_blob(reference, files[MANIFEST], blobs)
    payload = blobs.read(files[MANIFEST].digest, limit_bytes=files[MANIFEST].size)
    manifest = parse_manifest(payload, origin=f"{reference}: {MANIFEST}")
    check_files(manifest, files, origin=str(reference))
    return manifest, files, sum({part.digest: part.size for part in parts}.values())


def _lend(destination: Path, wanted: Manifest, blobs: Blobs) -> None:
    """Use the files of the bundle that is there, where they are sound and wanted again."""
    try:
        held = read_manifest(destination)
    except BundleError:
        return
    digests = {entry.sha256 for entry in wanted.files.values()}
    for name, entry in held.files.items():
        file, digest = destination / name, f"sha256:{entry.sha256}"
        is_sound = entry.sha256 in digests and file.is_file() and digest_file(file) == entry.sha256
        if is_sound and not blobs.has(digest):
            blobs.lend(file, digest)


def _held(blobs: Blobs, digest: str, size: int) -> int:
    """Give how many of a blob's bytes are here: all, those that came before a break, or none."""
    if blobs.has(digest):
        return size
    begun = blobs.partial(digest)
    return min(begun.stat().st_size, size) if begun.is_file() else 0


def _check(bundle: Bundle, policy: Policy, name: str) -> None:
    """Check the policy, and name what was pulled: the folder that it came to goes again."""
    try:
        policy.check(bundle)
    except Untrusted as error:
        said = str(error).replace(str(bundle.path), name)
        raise Untrusted(said, hint="trust the key of who signed it, or sign the bundle and push it again") from None


def _land(files: dict[str, Descriptor], blobs: Blobs, destination: Path, accept: Callable[[Bundle], object]) -> None:
    with landing(destination, accept) as folder:
        taken: set[str] = set()
        for name, layer in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _place_file(blobs.path(layer.digest), target, is_first=layer.digest not in taken)
            taken.add(layer.digest)


def _place_file(source: Path, target: Path, *, is_first: bool) -> None:
    """Give a blob its name in the bundle: a second name for the same bytes, or a copy where two files are equal."""
    try:
        if is_first:
            os.link(source, target)
            return
    except OSError:
        pass  # this file system knows no second names
    try:
        shutil.copyfile(source, target)
        target.chmod(0o644)
    except OSError as error:
        raise explain(error, target) from error


@contextmanager
def _staging(destination: Path, *, is_kept: bool) -> Iterator[Path]:
    """Give the folder beside `destination` where a pull gathers; it stays after a failure, and goes after success."""
    folder = destination.with_name(f".{destination.name}.pull")
    if not is_kept:
        with TemporaryDirectory() as place:
            yield Path(place)
        return
    lock = None
    while lock is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain(error, folder) from error
        if folder.is_symlink():
            raise BundleError(f"{folder} is a link", hint="remove it")
        lock = try_lock(folder)
        if lock is None:
            time.sleep(_LOOK_EVERY_S)  # another pull is at work there: what it brings needn't be fetched again
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
