"""Write and read images, indexes and artifacts: the manifests over blobs (OCI image specification, v1.1)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import (
    CONFIG,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    EMPTY,
    INDEX,
    INDEXES,
    LAYER,
    LAYER_GZIP,
    MANIFEST,
    MANIFESTS,
    Descriptor,
    Platform,
    read_annotations,
)
from ferryman.oci.layer import Layer

NOTHING: Mapping[str, str] = MappingProxyType({})
EPOCH = "1970-01-01T00:00:00Z"  # when an image was made would change its digest: a label may say it
_OCI_TYPES = {DOCKER_LAYER: LAYER, DOCKER_LAYER_GZIP: LAYER_GZIP}
_DAMAGED = "this image is damaged: get it again"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Say how an image is run; `exposed` are ports as "8080/tcp".

    `healthcheck` has Docker's keys (Test, Interval in nanoseconds, ...), which OCI images carry too, though only Docker
    and Podman look at it.
    """

    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    cmd: Sequence[str] = ()
    exposed: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    healthcheck: Mapping[str, Any] | None = None  # JSON
    working_dir: str = ""
    stop_signal: str = ""

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give the `config` of an image's configuration, without what is not said."""
        raw: dict[str, Any] = {
            "User": self.user,
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "ExposedPorts": {port: {} for port in self.exposed},
            "Labels": dict(self.labels),
            "Healthcheck": dict(self.healthcheck) if self.healthcheck else None,
            "WorkingDir": self.working_dir,
            "StopSignal": self.stop_signal,
        }
        return {key: value for key, value in raw.items() if value}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "ImageConfig":  # JSON
        """Read the `config` of an image that others made; what is null or missing is empty."""
        return cls(
            user=str(raw.get("User") or ""),
            env=dict(str(pair).partition("=")[::2] for pair in raw.get("Env") or ()),
            entrypoint=_words(raw.get("Entrypoint")),
            cmd=_words(raw.get("Cmd")),
            exposed=tuple(sorted(raw.get("ExposedPorts") or {})),
            labels=read_annotations(raw.get("Labels"), origin="an image's labels"),
            healthcheck=raw.get("Healthcheck") or None,
            working_dir=str(raw.get("WorkingDir") or ""),
            stop_signal=str(raw.get("StopSignal") or ""),
        )


@dataclass(frozen=True, slots=True)
class Image:
    """Be one platform's image, as read: its layers from the bottom up, with their uncompressed digests."""

    descriptor: Descriptor
    platform: Platform
    config: ImageConfig
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    annotations: Mapping[str, str]
    config_descriptor: Descriptor


def write_image(
    blobs: Blobs,
    config: ImageConfig,
    layers: Sequence[Layer],
    *,
    platform: Platform,
    annotations: Mapping[str, str] = NOTHING,
) -> Descriptor:
    """Write an image's config and manifest; the same parts give the same digest."""
    layers = [replace(layer, descriptor=_as_oci(layer.descriptor)) for layer in layers]
    document = {
        **platform.to_json(),
        "created": EPOCH,
        "config": config.to_json(),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": EPOCH, "created_by": "ferryman"} for _ in layers],
    }
    digest, size = blobs.add_json(document)
    manifest = _manifest(Descriptor(CONFIG, digest, size), [layer.descriptor for layer in layers], annotations)
    return _keep(blobs, MANIFEST, manifest, platform=platform)


def write_index(
    blobs: Blobs, descriptors: Sequence[Descriptor], *, annotations: Mapping[str, str] = NOTHING
) -> Descriptor:
    """Write an index: one name for the images of several platforms."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [descriptor.to_json() for descriptor in descriptors],
    }
    return _keep(blobs, INDEX, _annotated(document, annotations))


def write_artifact(
    blobs: Blobs,
    artifact_type: str,
    *,
    layers: Sequence[Descriptor],
    config: Descriptor | None = None,
    annotations: Mapping[str, str] = NOTHING,
    subject: Descriptor | None = None,
) -> Descriptor:
    """Write the manifest of what is no image: a model, a signature, a bill of materials about `subject`.

    Its layers' blobs must be there already; without a config it gets the empty one that the specification names.
    """
    if config is None:
        config = Descriptor(EMPTY, *blobs.add_bytes(b"{}"))
    document = {**_manifest(config, layers, annotations), "artifactType": artifact_type}
    if subject:
        document["subject"] = Descriptor(subject.media_type, subject.digest, subject.size).to_json()
    return _keep(blobs, MANIFEST, document, artifact_type=artifact_type)


def read_manifest(blobs: Blobs, descriptor: Descriptor) -> dict[str, Any]:  # JSON
    """Read a manifest or an index, checked: its digest, its size, and that it is what its media type says."""
    blobs.check_descriptor(descriptor)
    return check_manifest(blobs.read_json(descriptor.digest), descriptor.media_type, origin=descriptor.digest)


def check_manifest(raw: Any, media_type: str, *, origin: str) -> dict[str, Any]:  # JSON
    """Give back a manifest that is one; raises ImageError.

    One that is both, a manifest and an index, one tool would read as this and another as that (CVE-2021-41190).
    """
    if not isinstance(raw, dict) or raw.get("schemaVersion") != 2:
        raise ImageError(f"{origin} is not a manifest of schema version 2", hint=_DAMAGED)
    said = raw.get("mediaType") or media_type
    if said != media_type:
        raise ImageError(f"{origin} calls itself {said!r:.80}, but is named as {media_type}", hint=_DAMAGED)
    if media_type not in (*INDEXES, *MANIFESTS):
        raise ImageError(f"{origin}: manifests of type {media_type} are not read", hint="push it as an OCI image")
    wrong = "layers" if media_type in INDEXES else "manifests"
    if wrong in raw or (media_type in INDEXES and "config" in raw):
        raise ImageError(f"{origin} is a manifest and an index in one", hint=_DAMAGED)
    return raw


def children(raw: Mapping[str, Any], *, origin: str) -> list[Descriptor]:  # raw JSON
    """List what a manifest or an index stands on: its config and layers, or its manifests."""
    keys = ("manifests",) if "manifests" in raw else ("layers",)
    lists = [raw.get(key) for key in keys]
    if not all(isinstance(one, list) for one in lists):
        raise ImageError(f"{origin} has no list of {keys[0]}", hint=_DAMAGED)
    config = [raw["config"]] if "config" in raw else []
    return [
        Descriptor.from_json(one, origin=origin) for one in (*config, *(one for part in lists for one in part or ()))
    ]


def read_image(blobs: Blobs, descriptor: Descriptor, platform: Platform | None = None) -> Image:
    """Read the image of one platform (of the only one, where none is said) behind a manifest or an index."""
    chosen = choose(blobs, descriptor, platform)
    raw = read_manifest(blobs, chosen)
    config, *layers = children(raw, origin=chosen.digest)
    if config.media_type not in (CONFIG, DOCKER_CONFIG):
        raise ImageError(
            f"{chosen.digest} is no image: its config is of type {config.media_type}", hint="name an image"
        )
    blobs.check_descriptor(config)
    document = blobs.read_json(config.digest)
    found = Platform.from_json(document, origin=config.digest)
    if platform is not None and not platform.runs(found):
        raise ImageError(f"{chosen.digest} is for {found}, not for {platform}", hint="name an image for that platform")
    return Image(
        descriptor=chosen,
        platform=found,
        config=ImageConfig.from_json(document.get("config") or {}),
        layers=tuple(layers),
        diff_ids=_diff_ids(document, len(layers), origin=config.digest),
        annotations=read_annotations(raw.get("annotations"), origin=chosen.digest),
        config_descriptor=config,
    )


def choose(blobs: Blobs, descriptor: Descriptor, platform: Platform | None) -> Descriptor:
    """Go from an index to the manifest of a platform; a manifest is its own. Raises ImageError that lists platforms."""
    if descriptor.media_type not in INDEXES:
        return descriptor
    found = children(read_manifest(blobs, descriptor), origin=descriptor.digest)
    return choose_of(found, platform, origin=descriptor.digest)


def choose_of(found: Iterable[Descriptor], platform: Platform | None, *, origin: str) -> Descriptor:
    """Choose among an index's manifests; attestations, whose platform is unknown/unknown, are never meant."""
    images = [one for one in found if one.platform is None or one.platform.os != "unknown"]
    fits = [one for one in images if platform is None or one.platform is None or platform.runs(one.platform)]
    if not fits or (platform is None and len(fits) > 1):
        known = ", ".join(str(one.platform) for one in images) or "none"
        wanted = f"has no image for {platform}" if platform else "has images for several platforms"
        raise ImageError(f"{origin} {wanted}: {known}", hint="say which with a platform, as linux/amd64")
    return fits[0]


def _diff_ids(document: Mapping[str, Any], layers: int, *, origin: str) -> tuple[str, ...]:  # JSON
    rootfs = document.get("rootfs")
    found = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    if not isinstance(found, list) or len(found) != layers or not all(isinstance(one, str) for one in found):
        raise ImageError(f"{origin} doesn't name the digests of its {layers} layers", hint=_DAMAGED)
    return tuple(found)


def _manifest(config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return _annotated(document, annotations)


def _annotated(document: dict[str, Any], annotations: Mapping[str, str]) -> dict[str, Any]:
    return {**document, "annotations": dict(sorted(annotations.items()))} if annotations else document


def _keep(
    blobs: Blobs,
    media_type: str,
    document: Mapping[str, Any],
    *,
    platform: Platform | None = None,
    artifact_type: str = "",
) -> Descriptor:
    digest, size = blobs.add_json(document)
    return Descriptor(media_type, digest, size, platform=platform, artifact_type=artifact_type)


def _as_oci(layer: Descriptor) -> Descriptor:
    """Name a base's layer by its OCI type: Docker's is the same bytes, and one manifest mixes no types."""
    return replace(layer, media_type=_OCI_TYPES.get(layer.media_type, layer.media_type))


def _words(raw: Any) -> tuple[str, ...]:  # JSON
    if raw is None or isinstance(raw, str):
        return (raw,) if raw else ()
    return tuple(str(word) for word in raw)
