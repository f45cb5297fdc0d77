"""Sign images in their registry and check them there, as cosign does; of an index, each of its images, too."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferryman.core.errors import ConfigError, ImageError, NotInRegistry, Untrusted
from ferryman.core.progress import Progress, silent
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import INDEXES, Descriptor
from ferryman.oci.image import read_image, read_manifest
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply._modelpack import ARTIFACT_TYPE
from ferryman.supply.bom import Bom, image_bom
from ferryman.supply.image_contents import read_contents
from ferryman.supply.image_signature import (
    CYCLONEDX,
    SLSA,
    Kind,
    add_attestation,
    add_signature,
    attestations,
    check_image_signature,
    tag_of,
)
from ferryman.supply.keys import PrivateKey, PublicKey
from ferryman.supply.policy import Policy
from ferryman.supply.provenance import LOCAL, image_provenance
from ferryman.supply.signing import HERE, PLAINLY, Accepted, Place, Signed, Wish, not_attested

_PREDICATES = {"bom": CYCLONEDX, "provenance": SLSA}


@dataclass(frozen=True, slots=True)
class _Desk:
    """Hold an image's repository, and blobs that go when the work is done; a dry run pushes none of them."""

    registry: Registry
    reference: Reference
    blobs: Blobs
    is_dry_run: bool = False

    @property
    def name(self) -> str:
        """Give HOST/NAME, as cosign writes it into what it signs."""
        return f"{self.reference.host}/{self.reference.repository}"

    def beside(self, digest: str, kind: Kind) -> Descriptor | None:
        """Bring what lies beside an image; None where there is nothing."""
        try:
            return self.registry.pull(self.reference.tagged(tag_of(digest, kind)), self.blobs)
        except NotInRegistry:
            return None

    def put(self, manifest: Descriptor, before: Descriptor | None, digest: str, kind: Kind) -> list[str]:
        """Push what changed, or would; gives its tag."""
        if before is not None and before.digest == manifest.digest:
            return []
        if not self.is_dry_run:
            self.registry.push(self.blobs, manifest, self.reference.tagged(tag_of(digest, kind)))
        return [tag_of(digest, kind)]


def sign_image(
    image: str, key: PrivateKey, wish: Wish = PLAINLY, *, place: Place = HERE, progress: Progress = silent
) -> Signed:
    """Sign an image by its digest, and attest what is in it; what this key has signed already stays as it is."""
    written: list[str] = []
    warnings: list[str] = []
    with _desk(image, place, is_dry_run=wish.dry_run) as desk:
        top = desk.registry.resolve(desk.reference)
        if not wish.bare:
            desk.registry.pull(desk.reference.pinned(top.digest), desk.blobs, progress=progress)
        for manifest in _all_of(desk, top):
            if not wish.bare and manifest.media_type not in INDEXES:
                found = _describe(desk, manifest, wish.builder)
                warnings += found.warnings
                written += _attest(desk, manifest, found, key)
            before = desk.beside(manifest.digest, "sig")
            signed = add_signature(desk.blobs, before, desk.name, manifest.digest, key)
            written += desk.put(signed, before, manifest.digest, "sig")
        target = str(desk.reference.pinned(top.digest))
    return Signed(target, key.public.fingerprint, tuple(written), tuple(dict.fromkeys(warnings)))


def accept_image(image: str, policy: Policy, *, place: Place = HERE) -> Accepted:
    """Check an image in its registry against a policy; raises Untrusted that names the image and the keys."""
    if not policy.keys:
        raise ConfigError(f"whose signature should {image} have?", hint="name keys: --require-signature KEY.pub")
    with _desk(image, place) as desk:
        top = desk.registry.resolve(desk.reference)
        signer = _check(desk, top, policy)
        if wanted := sorted(policy.require & _PREDICATES.keys()):
            for manifest in _all_of(desk, top):
                if manifest.media_type not in INDEXES:
                    _check_parts(desk, manifest.digest, wanted, policy)
        return Accepted(str(desk.reference.pinned(top.digest)), top.digest, signer.fingerprint, signer.origin, True)


def describe_image(image: str, *, provenance: bool = False, place: Place = HERE, progress: Progress = silent) -> Bom:
    """Give the bill of materials, or the provenance, of an image in a registry."""
    with _desk(image, place) as desk:
        top = desk.registry.pull(desk.reference, desk.blobs, progress=progress)
        if top.media_type in INDEXES:
            raise ConfigError(f"{image} has images for several platforms", hint="name one of them by its digest")
        found = _describe(desk, top, LOCAL)
        return Bom(found.provenance, ()) if provenance else Bom(found.bom, found.warnings)


@dataclass(frozen=True, slots=True)
class _Described:
    bom: dict[str, Any]  # JSON
    provenance: dict[str, Any]  # JSON
    warnings: tuple[str, ...]


@contextmanager
def _desk(image: str, place: Place, *, is_dry_run: bool = False) -> Iterator[_Desk]:
    reference = Reference.parse(image)
    with (
        tempfile.TemporaryDirectory(prefix="ferryman-") as folder,
        Registry.of(reference, insecure=place.insecure, ca=place.ca) as registry,
    ):
        yield _Desk(registry, reference, Blobs(Path(folder)), is_dry_run)


def _all_of(desk: _Desk, top: Descriptor) -> list[Descriptor]:
    """List an image, or an index's images and it; asks for manifests alone."""
    if top.media_type not in INDEXES:
        return [top]
    _, inner = desk.registry.read(desk.reference.pinned(top.digest))
    if nested := [one.digest for one in inner if one.media_type in INDEXES]:
        raise ImageError(f"{top.digest} has an index in it, {nested[0]}", hint="name that one by its digest")
    return [*(one for one in inner if one.platform is None or one.platform.os != "unknown"), top]


def _describe(desk: _Desk, manifest: Descriptor, builder: str) -> _Described:
    if read_manifest(desk.blobs, manifest).get("artifactType") == ARTIFACT_TYPE:
        raise ConfigError(
            f"{desk.name}@{manifest.digest} is a bundle, no image", hint="ferryman pull it, and name its folder"
        )
    with tempfile.TemporaryDirectory(prefix="ferryman-") as folder:
        bundle, packages = read_contents(desk.blobs, read_image(desk.blobs, manifest), Path(folder))
        bom = image_bom(desk.name, manifest.digest, bundle, packages)
        provenance = image_provenance(desk.name, manifest.digest, bundle, packages, builder=builder)
    return _Described(bom.document, provenance, bom.warnings)


def _attest(desk: _Desk, manifest: Descriptor, found: _Described, key: PrivateKey) -> list[str]:
    subject = {"name": desk.name, "digest": {"sha256": manifest.digest.removeprefix("sha256:")}}
    before = desk.beside(manifest.digest, "att")
    statements = (
        {"predicateType": CYCLONEDX, "predicate": found.bom},
        {"predicateType": SLSA, "predicate": found.provenance["predicate"]},
    )
    attested = before
    for statement in statements:
        attested = add_attestation(desk.blobs, attested, subject, statement, key)
    return desk.put(attested, before, manifest.digest, "att") if attested else []


def _check(desk: _Desk, top: Descriptor, policy: Policy) -> PublicKey:
    signatures, name = desk.beside(top.digest, "sig"), f"{desk.name}@{top.digest}"
    if signatures is None and top.artifact_type == ARTIFACT_TYPE:
        raise Untrusted(
            f"{name} is a bundle, and not signed as images are",
            hint="a bundle's signature travels in it: ferryman pull --require-signature KEY.pub checks that one",
        )
    if signatures is None:
        raise Untrusted(f"{name} is not signed", hint=f"ferryman sign {name} --key KEY.pem")
    return check_image_signature(desk.blobs, signatures, top.digest, policy.keys)


def _check_parts(desk: _Desk, digest: str, wanted: list[Any], policy: Policy) -> None:
    manifest = desk.beside(digest, "att")
    said = attestations(desk.blobs, manifest, digest, policy.keys) if manifest is not None else []
    for part in wanted:
        if _PREDICATES[part] not in {one.predicate_type for one in said}:
            raise not_attested(f"{desk.name}@{digest}", part)
