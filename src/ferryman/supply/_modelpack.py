"""Say what a bundle is in the words of ModelPack, the CNCF's specification of models in registries.

https://github.com/modelpack/model-spec, `docs/spec.md`, `docs/config.md` and `docs/annotations.md` as of 2026-05.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.bundle.layout import ATTACHED_LIMIT_BYTES, MANIFEST, MANIFEST_LIMIT_BYTES, check_name
from ferryman.core.bundle import ATTACHED, Bundle, FileEntry, Manifest
from ferryman.core.errors import BundleError
from ferryman.oci.descriptor import TITLE, Descriptor

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
FILE_PATH = "org.cncf.model.filepath"
BUNDLE_DIGEST = "dev.ferryman.bundle.digest"
_LAYER = "application/vnd.cncf.model.{}.v1.raw"
_FILE_METADATA = "org.cncf.model.file.metadata+json"
_LICENSES = "org.opencontainers.image.licenses"
_REGULAR_FILE = ord("0")  # the type flag of tar
_FIRST_FOLDERS = {"model": "weight", "golden": "dataset", "task": "weight.config"}
_SUFFIXES = {".md": "doc", ".txt": "doc", ".html": "doc", ".py": "code", ".js": "code", ".json": "weight.config"}
_PRECISIONS = {"fp32": "float32", "fp64": "float64", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}
_INPUTS = {"classify": "image", "detect": "image", "text-classify": "text", "embed": "text"}
_DAMAGED = "it was not pushed by ferryman, or it was altered"


def describe_file(name: str, entry: FileEntry) -> Descriptor:
    """Give the layer of one file: its own bytes, so that a file that didn't change is never sent twice."""
    metadata = {
        "name": name, "mode": 0o644, "uid": 0, "gid": 0, "size": entry.size, "mtime": "1970-01-01T00:00:00Z",
        "typeflag": _REGULAR_FILE,
    }  # fmt: skip
    annotations = {FILE_PATH: name, TITLE: name, _FILE_METADATA: json.dumps(metadata, separators=(",", ":"))}
    return Descriptor(_LAYER.format(_kind(name)), f"sha256:{entry.sha256}", entry.size, annotations)


def describe_bundle(bundle: Bundle, layers: Sequence[Descriptor]) -> dict[str, Any]:  # JSON
    """Give the artifact's config: what can be said of the model without its weights."""
    manifest, license_ = bundle.manifest, bundle.deployment.model.license
    precision = _PRECISIONS.get(manifest.precision)
    kind = _INPUTS.get(bundle.deployment.task.kind, "other")
    return {
        "descriptor": {
            "name": manifest.name,
            **({"licenses": [license_]} if license_ else {}),
        },
        "config": {
            "format": manifest.format,
            **({"precision": precision} if precision else {"quantization": manifest.precision}),
            "capabilities": {"inputTypes": [kind], "outputTypes": ["embedding" if kind == "embed" else "other"]},
        },
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }


def annotate(bundle: Bundle) -> dict[str, str]:
    """Give the manifest's annotations: no tag among them, so that equal bundles have one digest under every name."""
    said = {
        TITLE: bundle.manifest.name,
        _LICENSES: bundle.deployment.model.license or "",
        BUNDLE_DIGEST: bundle.manifest.digest,
    }
    return {key: value for key, value in said.items() if value}


def files_of(raw: Mapping[str, Any], layers: Sequence[Descriptor], *, origin: str) -> dict[str, Descriptor]:  # JSON
    """Give an artifact's layers by the names of their files; raises BundleError for what is no bundle's artifact."""
    if raw.get("artifactType") != ARTIFACT_TYPE:
        kind = raw.get("artifactType") or "a container image, or something of no said type"
        raise BundleError(f"{origin} is no model: it is {kind}", hint="name what `ferryman push` made")
    files: dict[str, Descriptor] = {}
    for layer in layers:
        name = layer.annotations.get(FILE_PATH, "")
        check_name(name, origin=origin)
        if name in files or not layer.media_type.endswith(".raw"):
            problem = "is there twice" if name in files else f"is packed as {layer.media_type}"
            raise BundleError(f"{origin}: {name!r} {problem}", hint=_DAMAGED)
        files[name] = layer
    if MANIFEST not in files or files[MANIFEST].size > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"{origin} is a model but no bundle: it has no {MANIFEST} of its size", hint=_DAMAGED)
    return files


def check_files(manifest: Manifest, files: Mapping[str, Descriptor], *, origin: str) -> None:
    """Raise BundleError unless an artifact holds exactly the files that its bundle lists, before they are fetched."""
    for name, entry in manifest.files.items():
        layer = files.get(name)
        if layer is None:
            raise BundleError(f"{origin} lacks {name}, which its {MANIFEST} lists", hint=_DAMAGED)
        if (layer.digest, layer.size) != (f"sha256:{entry.sha256}", entry.size):
            raise BundleError(f"{origin}: {name} is not what its {MANIFEST} lists", hint=_DAMAGED)
    if extra := sorted(files.keys() - {*manifest.files, MANIFEST, *ATTACHED}):
        raise BundleError(f"{origin} holds {extra[0]!r}, which its {MANIFEST} doesn't list", hint=_DAMAGED)
    if large := [name for name in ATTACHED if name in files and files[name].size > ATTACHED_LIMIT_BYTES]:
        raise BundleError(f"{origin}: {large[0]} claims {files[large[0]].size} bytes", hint=_DAMAGED)


def _kind(name: str) -> str:
    first, _, rest = name.partition("/")
    if first == "exports":
        first = "model" if rest.partition("/")[2].startswith("model") else ""
    suffix = f".{name.rpartition('.')[2]}"
    return _FIRST_FOLDERS.get(first) or _SUFFIXES.get(suffix, "weight.config")
