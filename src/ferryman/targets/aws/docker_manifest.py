"""An image's manifest as Docker wrote them before there was OCI (Image Manifest Version 2, Schema 2)."""

from ferryman.core.errors import ImageError
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import (
    CONFIG,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    LAYER,
    LAYER_GZIP,
    Descriptor,
)
from ferryman.oci.image import read_manifest

_TYPES = {CONFIG: DOCKER_CONFIG, LAYER: DOCKER_LAYER, LAYER_GZIP: DOCKER_LAYER_GZIP}
_KNOWN = (DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LAYER_GZIP)


def as_docker(blobs: Blobs, descriptor: Descriptor) -> Descriptor:
    """Write an image's manifest again, as Docker's; its config and layers stay as they are, byte for byte.

    Raises ImageError for a layer that Docker's format has no word for (zstd).
    """
    if descriptor.media_type == DOCKER_MANIFEST:
        return descriptor
    raw = read_manifest(blobs, descriptor)
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _part(raw["config"], descriptor.digest),
        "layers": [_part(layer, descriptor.digest) for layer in raw["layers"]],
    }
    digest, size = blobs.add_json(document)
    return Descriptor(DOCKER_MANIFEST, digest, size)


def _part(raw: dict[str, object], origin: str) -> dict[str, object]:
    said = str(raw["mediaType"])
    media_type = _TYPES.get(said, said)
    if media_type not in _KNOWN:
        raise ImageError(
            f"{origin}: Docker's format has no parts of type {said}", hint="make the image with gzip layers, as we do"
        )
    return {"mediaType": media_type, "digest": raw["digest"], "size": raw["size"]}
