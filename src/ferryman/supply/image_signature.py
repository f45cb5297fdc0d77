"""Sign images as cosign does, and check what it signed: "simple signing" payloads and attestations, beside an image.

Both lie in the image's repository as manifests of their own, under the tags `sha256-DIGEST.sig` and `.att`. The
formats: cosign's specs/SIGNATURE_SPEC.md and specs/COSIGN_PREDICATE_SPEC.md.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ferryman.core.errors import Untrusted
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor, Platform
from ferryman.oci.image import ImageConfig, children, read_manifest, write_image
from ferryman.oci.layer import Layer
from ferryman.supply.dsse import (
    AGAIN,
    STATEMENT,
    decode_base64,
    not_signed_by,
    parse_json,
    read_envelope,
    read_statement,
    seal,
)
from ferryman.supply.keys import PrivateKey, PublicKey

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
CYCLONEDX = "https://cyclonedx.org/bom"
SLSA = "https://slsa.dev/provenance/v1"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"
_NOWHERE = Platform("unknown", "unknown")
_LIMIT_BYTES = 16 * 1024 * 1024
_LAYERS_AT_MOST = 256
Kind = Literal["sig", "att"]


@dataclass(frozen=True, slots=True)
class Attestation:
    """Hold a signed statement about an image: what it says, and who signed it."""

    predicate_type: str
    predicate: Mapping[str, Any]  # JSON
    signer: PublicKey


def tag_of(digest: str, kind: Kind) -> str:
    """Give the tag under which an image's signatures, or attestations, lie."""
    return f"{digest.replace(':', '-')}.{kind}"


def add_signature(blobs: Blobs, before: Descriptor | None, image: str, digest: str, key: PrivateKey) -> Descriptor:
    """Write a manifest with one more signature of `image` (HOST/NAME); where this key's is there already, `before`."""
    if before is not None:
        for _, payload, signature in _signatures(blobs, before):
            if key.public.verifies(signature, payload, "sha256") and _signed_digest(payload) == digest:
                return before
    document = {
        "critical": {
            "identity": {"docker-reference": image},
            "image": {"docker-manifest-digest": digest},
            "type": _TYPE,
        },
        "optional": None,
    }
    payload = json.dumps(document, separators=(",", ":")).encode()
    value = base64.b64encode(key.sign(payload, "sha256")).decode()
    return _add(blobs, before, SIMPLE, payload, {_SIGNATURE: value})


def add_attestation(
    blobs: Blobs, before: Descriptor | None, subject: Mapping[str, Any], statement: Mapping[str, Any], key: PrivateKey
) -> Descriptor:
    """Write a manifest with one more attestation: `statement` has predicateType and predicate, `subject` name, digest.

    Where this key has attested just that already, gives `before`.
    """
    said = {"_type": STATEMENT, "subject": [subject], **statement}
    if before is not None and any(
        key.public == signer and known == said for known, signer in _statements(blobs, before, [key.public])
    ):
        return before
    payload = json.dumps(seal(said, key, "sha256"), separators=(",", ":")).encode()
    about = {_SIGNATURE: "", "predicateType": str(statement["predicateType"])}
    return _add(blobs, before, DSSE, payload, about)


def check_image_signature(blobs: Blobs, signatures: Descriptor, digest: str, keys: Sequence[PublicKey]) -> PublicKey:
    """Give the key of these that signed an image; raises Untrusted that names the image and the keys."""
    others = []
    for origin, payload, signature in _signatures(blobs, signatures):
        signer = next((key for key in keys if key.verifies(signature, payload, "sha256")), None)
        if signer is None:
            continue
        if (signed := _signed_digest(payload)) == digest:
            return signer
        others.append(f"{origin} signs {signed}")
    if others:
        raise Untrusted(f"{digest} is not what was signed: {others[0]}", hint=AGAIN)
    raise not_signed_by(keys, digest)


def attestations(blobs: Blobs, manifest: Descriptor, digest: str, keys: Sequence[PublicKey]) -> list[Attestation]:
    """Give what these keys attest of an image; what others signed, or what is about another image, is left out."""
    found = []
    for statement, signer in _statements(blobs, manifest, keys):
        subjects = statement.get("subject")
        digests = [one.get("digest") for one in subjects if isinstance(one, dict)] if isinstance(subjects, list) else []
        if any(isinstance(one, dict) and f"sha256:{one.get('sha256')}" == digest for one in digests):
            found.append(Attestation(str(statement.get("predicateType")), statement.get("predicate") or {}, signer))
    return found


def _add(
    blobs: Blobs, before: Descriptor | None, media_type: str, payload: bytes, annotations: Mapping[str, str]
) -> Descriptor:
    digest, size = blobs.add_bytes(payload)
    there = list(_layers(blobs, before)) if before is not None else []
    layers = [*there, Descriptor(media_type, digest, size, annotations)]
    listed = [Layer(descriptor=layer, diff_id=layer.digest, size_unpacked=layer.size) for layer in layers]
    return write_image(blobs, ImageConfig(), listed, platform=_NOWHERE)


def _layers(blobs: Blobs, manifest: Descriptor) -> list[Descriptor]:
    raw = read_manifest(blobs, manifest)
    layers = [one for one in children(raw, origin=manifest.digest) if one.media_type in (SIMPLE, DSSE)]
    if len(layers) > _LAYERS_AT_MOST:
        raise Untrusted(f"{manifest.digest} has {len(layers)} signatures", hint=AGAIN)
    return layers


def _signatures(blobs: Blobs, manifest: Descriptor) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield each signature's origin, payload and value."""
    for layer in _layers(blobs, manifest):
        if layer.media_type == SIMPLE:
            payload = blobs.read(layer.digest, limit_bytes=_LIMIT_BYTES)
            try:
                signature = decode_base64(layer.annotations.get(_SIGNATURE))
            except ValueError as error:
                raise Untrusted(f"{layer.digest}: the signature is {error}", hint=AGAIN) from None
            yield layer.digest, payload, signature


def _statements(
    blobs: Blobs, manifest: Descriptor, keys: Sequence[PublicKey]
) -> Iterator[tuple[dict[str, Any], PublicKey]]:
    """Yield each statement that one of the keys signed."""
    for layer in _layers(blobs, manifest):
        if layer.media_type != DSSE:
            continue
        raw = parse_json(blobs.read(layer.digest, limit_bytes=_LIMIT_BYTES), origin=layer.digest)
        envelope = read_envelope(raw, origin=layer.digest)
        try:
            signer = envelope.signer(keys, "sha256")
        except Untrusted:
            continue  # somebody else's
        yield read_statement(envelope.payload, origin=layer.digest), signer


def _signed_digest(payload: bytes) -> str:
    """Give the digest of the image that a payload is about; "" where it is none of cosign's."""
    document = parse_json(payload, origin="a signature")
    try:
        critical = document["critical"]
        return str(critical["image"]["docker-manifest-digest"]) if critical["type"] == _TYPE else ""
    except (KeyError, TypeError):
        return ""
