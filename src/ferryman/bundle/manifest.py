"""Read bundle.json: the first thing that is believed of a bundle, and the last that is believed unchecked."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ferryman.bundle.layout import (
    ARTIFACT,
    EXPORTS,
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    MEASURED,
    PARTS,
    check_name,
    decode_json,
    identity_digest,
)
from ferryman.core.bundle import ATTACHED, SPEC_VERSION, Manifest
from ferryman.core.errors import BundleError

_AGAIN = "copy it again from where it was built, or build it again"


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle's folder."""
    file = folder / MANIFEST
    if file.is_symlink() or not file.is_file():
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}", hint="ferryman build makes bundles")
    try:
        with file.open("rb") as stream:
            payload = stream.read(MANIFEST_LIMIT_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{file} can't be read: {error.strerror}", hint=_AGAIN) from None
    return parse_manifest(payload, origin=str(file))


def parse_manifest(payload: bytes, *, origin: str) -> Manifest:
    """Check a manifest's own words: version, names of files, digest."""
    if len(payload) > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{origin} is larger than {MANIFEST_LIMIT_BYTES} bytes", hint="this is not a manifest")
    raw = decode_json(payload, origin=origin)
    _check_version(raw, origin=origin)
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{origin} is not a manifest: '{where}': {first['msg']}", hint=_AGAIN) from None
    _check_names(manifest, origin=origin)
    if identity_digest(manifest) != manifest.digest:
        raise BundleError(f"{origin} was changed: its digest is not {manifest.digest:.12}…", hint=_AGAIN)
    return manifest


def _check_version(raw: Any, *, origin: str) -> None:  # JSON
    version = raw.get("spec_version") if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleError(f"{origin} is not a bundle's manifest: no spec_version", hint="ferryman build makes bundles")
    if version > SPEC_VERSION:
        raise BundleError(
            f"{origin} has spec_version {version}; this ferryman reads up to {SPEC_VERSION}",
            hint="upgrade ferryman: pip install --upgrade ferryman",
        )


def _check_names(manifest: Manifest, *, origin: str) -> None:
    for name in (*manifest.files, manifest.model):
        check_name(name, origin=origin)
    for name, place in manifest.exports.items():
        check_name(name, origin=origin)
        if "/" in name or place != f"{EXPORTS}/{name}" or f"{place}/{ARTIFACT}" not in manifest.files:
            raise BundleError(f"{origin} doesn't list {place}/{ARTIFACT}", hint=_AGAIN)
    if own := sorted({MANIFEST, *ATTACHED} & manifest.files.keys()):
        raise BundleError(f"{origin} lists {own[0]}, which is no part of a bundle", hint=_AGAIN)
    if manifest.measured != MEASURED:
        raise BundleError(
            f"{origin} leaves {list(manifest.measured)} out of its digest; only {list(MEASURED)} may be", hint=_AGAIN
        )
    has_model = manifest.model in manifest.files or any(
        name.startswith(manifest.model + "/") for name in manifest.files
    )
    missing = [part for part in PARTS if part not in manifest.files] + ([] if has_model else [manifest.model])
    if missing:
        raise BundleError(f"{origin} doesn't list {missing[0]}", hint=_AGAIN)
