"""Where things lie in a bundle, and the exact bytes that its JSON files have."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ferryman.core.artifact import Artifact
from ferryman.core.bundle import SPEC_VERSION, TUNING, FileEntry, Manifest
from ferryman.core.errors import BundleError

MANIFEST = "bundle.json"
DEPLOYMENT = "deployment.json"
PROOF = "proof.json"
ARTIFACT = "artifact.json"
BASELINE = "baseline.json"
VERSIONS = "versions.json"
SAMPLES = "golden/samples.json"
MODEL = "model"
EXPORTS = "exports"
TASK = "task"
PARTS = (DEPLOYMENT, PROOF, ARTIFACT, BASELINE, VERSIONS, SAMPLES)
MEASURED = (PROOF,)
MANIFEST_LIMIT_BYTES = ATTACHED_LIMIT_BYTES = 16 * 1024 * 1024
_NOT_FINITE = ("nan", "inf", "-inf")


def encode_json(value: Any, *, is_ordered: bool = False) -> bytes:  # JSON with numbers that are not finite
    """Give a JSON document's only spelling: NaN and infinities as {"$float": "nan"}, keys sorted.

    `is_ordered` keeps the order of keys, for a table's rows, where it may say which column is which.
    """
    text = json.dumps(_tag(value), sort_keys=not is_ordered, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def decode_json(payload: bytes, *, origin: str) -> Any:  # JSON
    """Read what `encode_json` wrote; raises BundleError that names `origin`."""
    try:
        return json.loads(payload, object_hook=_untag, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{origin} is not valid JSON: {error}", hint="build the bundle again") from None


def check_name(name: str, *, origin: str) -> None:
    """Raise BundleError unless `name` is a plain relative path that stays inside the bundle on every system."""
    parts = name.split("/")
    is_plain = name.isprintable() and not any(char in name for char in '\\:*?"<>|')
    if not is_plain or any(part in ("", ".", "..") for part in parts) or PurePosixPath(name).is_absolute():
        raise BundleError(
            f"{origin} names a file outside of the bundle: {name!r}", hint="this bundle was not written by ferryman"
        )


def write_manifest(
    name: str, artifact: Artifact, model: str, files: Mapping[str, FileEntry], exports: Mapping[str, str]
) -> Manifest:
    """List a bundle's files and give them their digest."""
    manifest = Manifest(
        spec_version=SPEC_VERSION,
        name=name,
        digest="",
        format=artifact.format,
        precision=artifact.precision,
        model=model,
        files=dict(sorted(files.items())),
        measured=MEASURED,
        exports=dict(exports),
    )
    return manifest.model_copy(update={"digest": identity_digest(manifest)})


def identity_digest(manifest: Manifest) -> str:
    """Give the sha256 of all that a manifest says, but for the files that hold timings."""
    identity = manifest.model_dump(mode="json", exclude={"digest"})
    if not manifest.exports:
        del identity["exports"]  # it had no such word before there were exports
    left_out = {*manifest.measured, TUNING}  # a tuning is added after the build
    identity["files"] = {name: entry for name, entry in identity["files"].items() if name not in left_out}
    return hashlib.sha256(encode_json(identity)).hexdigest()


def content_digest(manifest: Manifest, model: str) -> str:
    """Give the digest of a model's file or folder as `core.artifact.digest_path` would, from the manifest alone."""
    if model in manifest.files:
        return manifest.files[model].sha256
    prefix = model + "/"
    total = hashlib.sha256()
    inner = {name.removeprefix(prefix): entry for name, entry in manifest.files.items() if name.startswith(prefix)}
    for name in sorted(inner, key=PurePosixPath):
        total.update(name.encode() + b"\0" + inner[name].sha256.encode() + b"\n")
    return total.hexdigest()


def _tag(value: Any) -> Any:  # JSON
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, Mapping):
        return {key: _tag(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_tag(inner) for inner in value]
    return value


def _untag(value: dict[str, Any]) -> Any:  # JSON
    if value.keys() != {"$float"}:
        return value
    if value["$float"] not in _NOT_FINITE:
        raise ValueError(f'{value!r:.60}: "$float" is one of {", ".join(_NOT_FINITE)}')
    return float(value["$float"])


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
