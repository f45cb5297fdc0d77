"""Read a bundle and believe nothing that its digests don't prove."""

import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ferryman.bundle._payload import decode_item
from ferryman.bundle.layout import (
    ARTIFACT,
    BASELINE,
    DEPLOYMENT,
    MANIFEST,
    PROOF,
    SAMPLES,
    VERSIONS,
    check_name,
    content_digest,
    decode_json,
)
from ferryman.bundle.manifest import read_manifest
from ferryman.bundle.swap import recover
from ferryman.bundle.unpack import unpack
from ferryman.core.artifact import CARRIED, Artifact, digest_file
from ferryman.core.bundle import ATTACHED, TUNING, Bundle, Golden, Manifest, Tuning
from ferryman.core.deployment import Deployment, parse_deployment
from ferryman.core.errors import BundleError, ConfigError
from ferryman.core.proof import Proof
from ferryman.core.signature import Signature

_AGAIN = "copy it again from where it was built, or build it again"
_Part = TypeVar("_Part", bound=BaseModel)


def load_bundle(path: Path, *, unpack_into: Path | None = None) -> Bundle:
    """Read a bundle's folder, or a .ferry file (unpacked below `unpack_into`, the user's cache by default).

    Checks every file's size and digest first; raises BundleError that names what is wrong with which file.
    """
    if not path.exists():
        recover(path)
    if not path.exists():
        raise BundleError(f"there is no bundle at {path}", hint="ferryman build makes bundles")
    folder = path.resolve() if path.is_dir() else _unpack_sound(path, unpack_into)
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    golden, tolerance = _read_golden(folder)
    return Bundle(
        path=folder,
        manifest=manifest,
        deployment=_read_deployment(folder, manifest),
        artifact=_read_artifact(folder, manifest),
        proof=_read_proof(folder),
        golden=golden,
        tolerance=tolerance,
        baseline=_read_table(folder, BASELINE),
        versions=_read_table(folder, VERSIONS),
        tuning=_read_tuning(folder, manifest),
        exports={name: _read_export(folder, manifest, name) for name in manifest.exports},
    )


def _unpack_sound(file: Path, into: Path | None) -> Path:
    """Unpack, and once more where what was unpacked before has been damaged since."""
    folder = unpack(file, into=into)
    try:
        _check_files(folder, read_manifest(folder))
    except BundleError:
        shutil.rmtree(folder)
        return unpack(file, into=into)
    return folder


def _check_files(folder: Path, manifest: Manifest) -> None:
    found = _list_plain_files(folder)
    if extra := sorted(found - {*manifest.files, MANIFEST, *ATTACHED}):
        raise BundleError(f"{folder / extra[0]} does not belong to the bundle", hint="remove it, or build again")
    for name, entry in manifest.files.items():
        if name not in found:
            raise BundleError(f"{folder / name} is missing", hint=_AGAIN)
        size = (folder / name).stat().st_size
        if size != entry.size:
            raise BundleError(f"{folder / name} was changed: it has {size} bytes, not {entry.size}", hint=_AGAIN)
        if digest_file(folder / name) != entry.sha256:
            raise BundleError(f"{folder / name} was changed: its digest is not the manifest's", hint=_AGAIN)


def _list_plain_files(folder: Path) -> set[str]:
    found: set[str] = set()
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            inner = Path(root, name)
            if inner.is_symlink() or not (inner.is_dir() or inner.is_file()):
                raise BundleError(f"{inner} is not a plain file", hint="a bundle has no links or devices")
        found.update(Path(root, name).relative_to(folder).as_posix() for name in names)
    return found


def _read(folder: Path, name: str) -> Any:  # JSON
    return decode_json((folder / name).read_bytes(), origin=name)


def _read_table(folder: Path, name: str) -> dict[str, Any]:  # JSON
    table = _read(folder, name)
    if not isinstance(table, dict):
        raise BundleError(f"{name} is not a table: {table!r:.60}", hint=_AGAIN)
    return table


def _parse(part: type[_Part], raw: Any, *, origin: str) -> _Part:  # raw JSON
    try:
        return part.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(key) for key in first["loc"])
        raise BundleError(f"{origin}: '{where}': {first['msg']}", hint=_AGAIN) from None


def _read_deployment(folder: Path, manifest: Manifest) -> Deployment:
    try:
        deployment = parse_deployment(_read_table(folder, DEPLOYMENT), origin=DEPLOYMENT)
    except ConfigError as error:
        raise BundleError(str(error), hint="it may need a newer ferryman, or a task's plug-in") from None
    if deployment.model.name != manifest.name:
        raise BundleError(f"{DEPLOYMENT} is of '{deployment.model.name}', not '{manifest.name}'", hint=_AGAIN)
    return deployment.model_copy(update={"task": deployment.task.unpacked(folder)})


def _read_artifact(folder: Path, manifest: Manifest) -> Artifact:
    artifact = _parse_artifact(folder / manifest.model, _read_table(folder, ARTIFACT), origin=ARTIFACT)
    if (artifact.format, artifact.precision) != (manifest.format, manifest.precision):
        raise BundleError(f"{ARTIFACT} says {artifact.format}-{artifact.precision}, {MANIFEST} differs", hint=_AGAIN)
    if artifact.digest != content_digest(manifest, manifest.model):
        raise BundleError(f"{manifest.model} is not the model that {ARTIFACT} describes", hint=_AGAIN)
    return artifact


def _read_export(folder: Path, manifest: Manifest, name: str) -> Artifact:
    origin = f"{manifest.exports[name]}/{ARTIFACT}"
    raw = _read_table(folder, origin)
    model = raw.get("model")
    if not isinstance(model, str) or not model.startswith(f"{manifest.exports[name]}/"):
        raise BundleError(f"{origin} names a model outside of its folder: {model!r}", hint=_AGAIN)
    check_name(model, origin=origin)
    if not any(file == model or file.startswith(f"{model}/") for file in manifest.files):
        raise BundleError(f"{origin} names a model that the bundle doesn't hold: {model!r}", hint=_AGAIN)
    artifact = _parse_artifact(folder / model, raw, origin=origin)
    if artifact.digest != content_digest(manifest, model):
        raise BundleError(f"{model} is not the model that {origin} describes", hint=_AGAIN)
    return artifact


def _parse_artifact(path: Path, raw: dict[str, Any], *, origin: str) -> Artifact:  # raw JSON
    loader = raw.get("loader") or {}  # what more a loader needs (a factory, trust in a pickle) is its builder's own
    if (
        not isinstance(loader, dict)
        or set(loader) - CARRIED
        or not all(isinstance(one, str) for one in loader.values())
    ):
        raise BundleError(f"{origin} tells its loader to do more than load: {loader!r:.80}", hint=_AGAIN)
    try:
        return Artifact(
            path=path,
            format=raw["format"],
            signature=_parse(Signature, raw["signature"], origin=origin),
            digest=raw["digest"],
            precision=raw["precision"],
            made_by=tuple(raw["made_by"]),
            loader=loader,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{origin} is not an artifact: {error!r}", hint=_AGAIN) from None


def _read_proof(folder: Path) -> Proof:
    proof = _parse(Proof, _read(folder, PROOF), origin=PROOF)
    names = [candidate.name for candidate in proof.candidates]
    if proof.winner not in names:
        raise BundleError(f"{PROOF}: the winner '{proof.winner}' is none of its candidates: {names}", hint=_AGAIN)
    return proof


def _read_tuning(folder: Path, manifest: Manifest) -> Tuning | None:
    return _parse(Tuning, _read(folder, TUNING), origin=TUNING) if TUNING in manifest.files else None


def _read_golden(folder: Path) -> tuple[tuple[Golden, ...], dict[str, float]]:
    raw = _read_table(folder, SAMPLES)
    try:
        golden = tuple(_read_sample(folder, sample) for sample in raw["samples"])
        tolerance = {str(name): float(limit) for name, limit in raw["tolerance"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise BundleError(f"{SAMPLES} is not a list of samples: {error!r}", hint=_AGAIN) from None
    return golden, tolerance


def _read_sample(folder: Path, raw: dict[str, Any]) -> Golden:  # JSON
    file = raw["file"]
    if not isinstance(file, str) or not file.startswith("golden/") or ".." in file:
        raise BundleError(f"{SAMPLES} names a file outside of the bundle: {file!r}", hint=_AGAIN)
    item = decode_item(raw["kind"], (folder / file).read_bytes(), origin=file)
    return Golden(name=str(raw["name"]), item=item, answer=dict(raw["answer"]))
