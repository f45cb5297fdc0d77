"""Write a tuning into its bundle: all of it or nothing, and the bundle stays the same by its digest."""

import os
import shutil
import tempfile
from pathlib import Path

from ferryman.bundle._swap import staged_folder
from ferryman.bundle.layout import MANIFEST, encode_json
from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.core.artifact import digest_file
from ferryman.core.bundle import TUNING, Bundle, FileEntry, Tuning
from ferryman.core.errors import BundleError


def keep_tuning(path: Path, tuning: Tuning) -> Bundle:
    """Put `tuning` into the bundle at `path`, a folder or a .ferry file, in the place of an older one."""
    bundle = load_bundle(path)
    if path.is_dir():
        _rewrite(bundle, path.resolve(), tuning)
    else:
        with tempfile.TemporaryDirectory(dir=path.resolve().parent, prefix=f".{path.name}.") as place:
            folder = Path(place) / "bundle"
            _rewrite(bundle, folder, tuning)
            pack(folder, path)
    return load_bundle(path)


def _rewrite(bundle: Bundle, destination: Path, tuning: Tuning) -> None:
    with staged_folder(destination) as folder:
        for name in bundle.manifest.files:
            if name != TUNING:
                _take(bundle.path / name, folder / name)
        file = folder / TUNING
        file.write_bytes(encode_json(tuning.model_dump(mode="json")))
        entry = FileEntry(sha256=digest_file(file), size=file.stat().st_size)
        manifest = bundle.manifest.model_copy(
            update={"files": dict(sorted({**bundle.manifest.files, TUNING: entry}.items()))}
        )
        (folder / MANIFEST).write_bytes(encode_json(manifest.model_dump(mode="json")))
        if load_bundle(folder).manifest.digest != bundle.manifest.digest:
            raise BundleError("the tuning would change what the bundle is", hint="this is a fault of ferryman")


def _take(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can: a model may be large."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
