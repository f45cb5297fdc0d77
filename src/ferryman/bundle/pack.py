"""Pack a bundle's folder into one .ferry file: an uncompressed tar with always the same bytes."""

import os
import tarfile
import tempfile
from pathlib import Path

from ferryman.bundle.layout import MANIFEST
from ferryman.bundle.read import load_bundle
from ferryman.bundle.swap import explain, replace_file
from ferryman.core.bundle import ATTACHED
from ferryman.core.errors import BundleError


def pack(folder: Path, destination: Path) -> Path:
    """Write the bundle in `folder` to `destination` in one step; raises BundleError where the bundle is damaged."""
    destination = destination.resolve()
    bundle = load_bundle(folder)
    _refuse_foreign(destination)
    staged: Path | None = None
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{destination.name}.", suffix=".partial", dir=destination.parent)
        staged = Path(name)
        with (
            os.fdopen(descriptor, "wb") as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            attached = [name for name in ATTACHED if (bundle.path / name).is_file()]
            for file in (MANIFEST, *attached, *sorted(bundle.manifest.files)):
                _add(tar, bundle.path / file, file)
        staged.chmod(0o644)
        replace_file(staged, destination)
    except OSError as error:
        raise explain(error, destination) from error
    finally:
        if staged is not None:
            staged.unlink(missing_ok=True)
    return destination


def _add(tar: tarfile.TarFile, file: Path, name: str) -> None:
    member = tarfile.TarInfo(name)  # no owner, no time, one mode: the same bytes from every machine
    member.size = file.stat().st_size
    member.mode = 0o644
    with file.open("rb") as stream:
        tar.addfile(member, stream)


def _refuse_foreign(destination: Path) -> None:
    if not destination.exists():
        return
    try:
        with tarfile.open(destination, mode="r:") as tar:
            first = tar.next()
            is_ours = first is not None and first.name == MANIFEST
    except (OSError, tarfile.TarError):
        is_ours = False
    if not is_ours:
        raise BundleError(
            f"{destination} exists and is not a .ferry file", hint="choose another place, or remove it yourself"
        )
