"""Put files into a bundle that is there, all of them or none: a tuning, a signature, a bill of materials."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferryman.bundle.layout import MANIFEST
from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.bundle.swap import staged_folder
from ferryman.core.bundle import ATTACHED, Bundle
from ferryman.core.errors import BundleError


def attach(bundle: Bundle, path: Path, files: Mapping[str, bytes], *, without: Sequence[str] = ()) -> Bundle:
    """Write `files` into the bundle at `path`, a folder or a .ferry file, as which `bundle` was read; reads it again.

    What is about the bundle and named in `without` goes. Raises BundleError where the bundle would become another.
    """
    if path.is_dir():
        _rewrite(bundle, path.resolve(), files, without)
    else:
        with tempfile.TemporaryDirectory(dir=path.resolve().parent, prefix=f".{path.name}.") as place:
            folder = Path(place) / "bundle"
            _rewrite(bundle, folder, files, without)
            pack(folder, path)
    return load_bundle(path)


def _rewrite(bundle: Bundle, destination: Path, files: Mapping[str, bytes], without: Sequence[str]) -> None:
    beside = [name for name in ATTACHED if name not in without and (bundle.path / name).is_file()]
    with staged_folder(destination) as folder:
        for name in (MANIFEST, *bundle.manifest.files, *beside):
            if name not in files:
                _take(bundle.path / name, folder / name)
        for name, payload in files.items():
            (folder / name).write_bytes(payload)
        if load_bundle(folder).manifest.digest != bundle.manifest.digest:
            raise BundleError(f"{', '.join(files)} would change what the bundle is", hint="this is a fault of ferryman")


def _take(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can: a model may be large."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
