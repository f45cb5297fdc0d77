"""Write a tuning into its bundle: all of it or nothing, and the bundle stays the same by its digest."""

import hashlib
from pathlib import Path

from ferryman.bundle.attach import attach
from ferryman.bundle.layout import MANIFEST, encode_json
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import SIGNATURE, TUNING, Bundle, FileEntry, Tuning


def keep_tuning(path: Path, tuning: Tuning) -> tuple[Bundle, str]:
    """Put `tuning` into the bundle at `path`, a folder or a .ferry file, in the place of an older one.

    Tells of a signature that was there: it doesn't cover what was tuned after it, and goes.
    """
    bundle = load_bundle(path)
    payload = encode_json(tuning.model_dump(mode="json"))
    entry = FileEntry(sha256=hashlib.sha256(payload).hexdigest(), size=len(payload))
    files = dict(sorted({**bundle.manifest.files, TUNING: entry}.items()))
    manifest = encode_json(bundle.manifest.model_copy(update={"files": files}).model_dump(mode="json"))
    warning = "its signature covered the bundle as it was, and is gone: sign it again"
    was_signed = (bundle.path / SIGNATURE).is_file()
    tuned = attach(bundle, path, {TUNING: payload, MANIFEST: manifest}, without=(SIGNATURE,))
    return tuned, warning if was_signed else ""
