"""Make signed things, and things that are wrong."""

import json
from pathlib import Path
from typing import Any

from ferryman.bundle.layout import MANIFEST, encode_json, identity_digest
from ferryman.bundle.manifest import read_manifest
from ferryman.core.artifact import digest_file
from ferryman.core.bundle import SIGNATURE, FileEntry
from ferryman.supply.keys import PublicKey, load_private, load_public
from ferryman.supply.signing import Wish, sign_bundle

BARE = Wish(bare=True)


def sign(bundle: Path, keys: Path, wish: Wish = BARE, *, name: str = "good") -> None:
    """Sign with one of the keys of the session."""
    sign_bundle(bundle, load_private(keys / f"{name}.pem"), wish)


def public(keys: Path, name: str = "good") -> PublicKey:
    return load_public(keys / f"{name}.pub")


def forge(bundle: Path, name: str, payload: bytes) -> None:
    """Change a file of a bundle as somebody would who knows bundles: the manifest and its digest agree with it."""
    (bundle / name).write_bytes(payload)
    manifest = read_manifest(bundle)
    entry = FileEntry(sha256=digest_file(bundle / name), size=len(payload))
    changed = manifest.model_copy(update={"files": {**manifest.files, name: entry}})
    changed = changed.model_copy(update={"digest": identity_digest(changed)})
    (bundle / MANIFEST).write_bytes(encode_json(changed.model_dump(mode="json")))


def signature_of(bundle: Path) -> dict[str, Any]:
    """Read a signature as JSON."""
    document: dict[str, Any] = json.loads((bundle / SIGNATURE).read_bytes())
    return document
