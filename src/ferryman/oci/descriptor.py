"""Name content by its digest: the descriptors and platforms of the OCI image specification, v1.1."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ferryman.core.errors import ImageError

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
INDEXES = (INDEX, DOCKER_INDEX)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
REF_NAME = "org.opencontainers.image.ref.name"
TITLE = "org.opencontainers.image.title"
MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024  # what registries take: distribution-spec v1.1, "Pushing Manifests"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}", re.ASCII)
_SIZE_LIMIT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Platform:
    """Say which machines an image runs on, in the words of Go's GOOS and GOARCH."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `linux/arm64` or `linux/arm/v7`; raises ImageError."""
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9_.]+", part) for part in parts):
            raise ImageError(f"{text!r} is not a platform", hint="write linux/amd64, linux/arm64 or linux/arm/v7")
        return cls(*parts)

    @classmethod
    def from_json(cls, raw: Any, *, origin: str) -> Self:  # JSON
        """Read the `platform` of a descriptor, or an image's config, which has the same keys."""
        if not isinstance(raw, Mapping):
            raise ImageError(f"{origin}: the platform is not a table: {raw!r:.60}", hint="this image is damaged")
        values = [raw.get(key) or "" for key in ("os", "architecture", "variant")]
        if not all(isinstance(value, str) for value in values):
            raise ImageError(f"{origin}: the platform is not made of words: {raw!r:.80}", hint="this image is damaged")
        return cls(*values)

    def to_json(self) -> dict[str, str]:
        """Give it as a descriptor holds it."""
        variant = {"variant": self.variant} if self.variant else {}
        return {"architecture": self.architecture, "os": self.os, **variant}

    def runs(self, image: "Platform") -> bool:
        """Tell whether an image for `image` is what is asked for with this: a variant that isn't said fits any."""
        same = (self.os, self.architecture) == (image.os, image.architecture)
        plain = {"arm64": "v8", "amd64": "v1"}.get(self.architecture, "")
        return same and (not self.variant or self.variant == (image.variant or plain))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Name one blob: what it is, its digest (`sha256:...`) and its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    artifact_type: str = ""

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give it as manifests and indexes hold it."""
        raw: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            raw["platform"] = self.platform.to_json()
        if self.annotations:
            raw["annotations"] = dict(sorted(self.annotations.items()))
        if self.artifact_type:
            raw["artifactType"] = self.artifact_type
        return raw

    @classmethod
    def from_json(cls, raw: Any, *, origin: str) -> Self:  # JSON
        """Read a descriptor and believe none of it: raises ImageError that names `origin`."""
        if not isinstance(raw, Mapping):
            raise ImageError(f"{origin}: not a descriptor: {raw!r:.60}", hint="this image is damaged")
        size, media_type = raw.get("size"), raw.get("mediaType")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _SIZE_LIMIT:
            raise ImageError(f"{origin}: a descriptor's size is {size!r:.40}", hint="this image is damaged")
        if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
            raise ImageError(f"{origin}: a descriptor's media type is {media_type!r:.60}", hint="this image is damaged")
        platform = raw.get("platform")
        return cls(
            media_type=media_type,
            digest=check_digest(raw.get("digest"), origin=origin),
            size=size,
            annotations=read_annotations(raw.get("annotations"), origin=origin),
            platform=None if platform is None else Platform.from_json(platform, origin=origin),
            artifact_type=str(raw.get("artifactType") or ""),
        )


def check_digest(digest: Any, *, origin: str) -> str:  # JSON
    """Give the digest back; raises ImageError for what is not `sha256:` and 64 hexadecimal digits."""
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ImageError(f"{origin}: not a sha256 digest: {digest!r:.80}", hint="write sha256: and 64 of 0-9a-f")
    return digest


def read_annotations(raw: Any, *, origin: str) -> dict[str, str]:  # JSON
    """Read a table of annotations or labels: words to words; None is an empty one."""
    if raw is None:
        return {}
    if not isinstance(raw, Mapping) or not all(isinstance(part, str) for pair in raw.items() for part in pair):
        raise ImageError(f"{origin}: annotations are not words: {raw!r:.80}", hint="this image is damaged")
    return dict(raw)
