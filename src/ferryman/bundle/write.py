"""Write a bundle: all of it or nothing."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ferryman.bundle._payload import encode_item
from ferryman.bundle.layout import (
    ARTIFACT,
    BASELINE,
    DEPLOYMENT,
    EXPORTS,
    MANIFEST,
    MODEL,
    PROOF,
    SAMPLES,
    TASK,
    VERSIONS,
    check_name,
    encode_json,
    write_manifest,
)
from ferryman.bundle.manifest import read_manifest
from ferryman.bundle.read import load_bundle
from ferryman.bundle.swap import staged_folder
from ferryman.core.artifact import Artifact, digest_file, digest_path, files_of
from ferryman.core.bundle import ATTACHED, Bundle, FileEntry, Golden
from ferryman.core.deployment import RUN_SECTIONS, Deployment
from ferryman.core.errors import BundleError
from ferryman.core.proof import Proof


def write_bundle(  # noqa: PLR0913 - each part of a bundle is named
    destination: Path,
    *,
    deployment: Deployment,
    artifact: Artifact,
    proof: Proof,
    golden: Sequence[Golden],
    tolerance: Mapping[str, float],
    baseline: Mapping[str, Any],  # JSON statistics, each task's own
    versions: Mapping[str, str],
    exports: Mapping[str, Artifact] = MappingProxyType({}),
    pages: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Bundle:
    """Write a bundle's folder in one step and read it back.

    `exports` are candidates in other formats, by name; `pages` are text files that lie beside an export's model.
    A crash at any moment leaves what was there before, or the new bundle. The same inputs give the same bytes.
    Raises BundleError where `destination` holds anything but a bundle, or can't be written.
    """
    destination = destination.resolve()
    refuse_foreign(destination)
    spec, carried = deployment.task.packed()
    deployment = deployment.model_copy(update={"task": spec, "targets": {}})  # where it lands is no part of what it is
    parts = {
        DEPLOYMENT: deployment.model_dump(mode="json", exclude=set(RUN_SECTIONS)),
        PROOF: proof.model_dump(mode="json"),
        ARTIFACT: _describe(artifact),
        BASELINE: baseline,
        VERSIONS: versions,
    }
    with staged_folder(destination) as folder:
        model = _copy_model(artifact, folder, MODEL)
        placed = {name: f"{EXPORTS}/{name}" for name in exports}
        for name, export in exports.items():
            inner = _copy_model(export, folder, f"{placed[name]}/{MODEL}")
            parts[f"{placed[name]}/{ARTIFACT}"] = {**_describe(export), "model": inner}
            for page, text in pages.get(name, {}).items():
                _write(folder / placed[name] / page, text.encode())
        for name, file in carried.items():
            _check_carried(name, deployment.task.kind)
            _write(folder / name, file.read_bytes())
        parts[SAMPLES] = _write_golden(folder, golden, tolerance)
        for name, part in parts.items():
            _write(folder / name, _encode(part, origin=name))
        files = _list_files(folder)
        manifest = write_manifest(deployment.model.name, artifact, model, files, placed)
        _write(folder / MANIFEST, encode_json(manifest.model_dump(mode="json")))
        bundle = load_bundle(folder)  # before the swap: what can't be read never takes the place of what can
    return _moved(bundle, destination)


def _moved(bundle: Bundle, destination: Path) -> Bundle:
    """Give a bundle that was read in one folder as it lies in another."""

    def there(artifact: Artifact) -> Artifact:
        return replace(artifact, path=destination / artifact.path.relative_to(bundle.path))

    deployment = bundle.deployment.model_copy(update={"task": bundle.deployment.task.unpacked(destination)})
    exports = {name: there(export) for name, export in bundle.exports.items()}
    return replace(bundle, path=destination, deployment=deployment, artifact=there(bundle.artifact), exports=exports)


def refuse_foreign(destination: Path) -> None:
    """Never replace what is not ours: a file, a folder without a manifest, or one with files that it doesn't list."""
    if not destination.exists() or (destination.is_dir() and not any(destination.iterdir())):
        return
    hint = "choose another place, or remove it yourself"
    if not destination.is_dir() or not (destination / MANIFEST).is_file():
        raise BundleError(f"{destination} exists and is not a bundle", hint=hint)
    try:
        listed = {*read_manifest(destination).files, MANIFEST, *ATTACHED}
    except BundleError as error:
        raise BundleError(f"{destination} exists and is not a whole bundle: {error}", hint=hint) from None
    found = {file.relative_to(destination).as_posix() for file in destination.rglob("*") if not file.is_dir()}
    if extra := sorted(found - listed):
        raise BundleError(f"{destination} holds a file that is not the bundle's: {extra[0]}", hint=hint)


def _describe(artifact: Artifact) -> dict[str, Any]:  # JSON
    return {
        "format": artifact.format,
        "precision": artifact.precision,
        "digest": artifact.digest,
        "signature": artifact.signature.model_dump(mode="json"),
        "loader": artifact.loader,
        "made_by": artifact.made_by,
    }


def _check_carried(name: str, kind: str) -> None:
    """Raise BundleError for a task's file that would lie outside of the bundle, or on what is the bundle's own."""
    check_name(name, origin=f"[task] kind = '{kind}'")
    if not name.startswith(f"{TASK}/"):
        raise BundleError(
            f"[task] kind = '{kind}' carries a file named {name!r}, where the bundle's own lie",
            hint=f"its packed() has to name it {TASK}/{name}",
        )


def _copy_model(artifact: Artifact, folder: Path, place: str) -> str:
    """Copy the model's file or folder to `place`; gives its path in the bundle."""
    is_folder = artifact.path.is_dir()
    model = place if is_folder else f"{place}/{artifact.path.name}"
    target = folder / model
    target.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        for file in files_of(artifact.path):
            copied = target / file.relative_to(artifact.path)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)
    else:
        shutil.copyfile(artifact.path, target)
    if digest_path(target) != artifact.digest:
        raise BundleError(f"{artifact.path} changed since it was verified", hint="build again")
    return model


def _write_golden(folder: Path, golden: Sequence[Golden], tolerance: Mapping[str, float]) -> dict[str, Any]:  # JSON
    samples = []
    for number, sample in enumerate(golden):
        kind, suffix, payload = encode_item(sample.item, name=sample.name)
        file = f"golden/{number:04d}.{suffix}"
        _write(folder / file, payload)
        samples.append({"name": sample.name, "kind": kind, "file": file, "answer": sample.answer})
    return {"tolerance": tolerance, "samples": samples}


def _list_files(folder: Path) -> dict[str, FileEntry]:
    files = {}
    for file in files_of(folder):
        name = file.relative_to(folder).as_posix()
        check_name(name, origin="the model")
        files[name] = FileEntry(sha256=digest_file(file), size=file.stat().st_size)
    return files


def _encode(part: Any, *, origin: str) -> bytes:  # JSON, or what a plug-in took for it
    try:
        return encode_json(part, is_ordered=origin == SAMPLES)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{origin} can't be written: {error}", hint="only JSON values can be bundled") from None


def _write(path: Path, payload: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)
