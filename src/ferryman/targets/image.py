"""Which image goes to a place: by its digest, made of the bundle that is deployed, signed where a policy asks."""

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, Untrusted
from ferryman.oci.descriptor import read_annotations
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply.image_signing import accept_image
from ferryman.supply.policy import Policy

_HERE = ("localhost",)  # what podman calls images that are in no registry
_DIGEST = "ferryman.bundle.digest"


def settle_image(image: str, policy: Policy, *, holds: Bundle | None) -> str:
    """Give an image by its digest, as its registry tells it; one of this machine alone keeps its tag.

    A registry is asked for a tag, and where the policy asks for signatures; `holds` is the bundle that the image must
    be made of, where it says of which it is. Raises Untrusted, or ConfigError for an image of another bundle.
    """
    reference = Reference.parse(image)
    if reference.host in _HERE:
        if policy.keys:
            raise Untrusted(
                f"{image} is in no registry, and so has no signature",
                hint="push it (`ferryman package --push`), `ferryman sign` it, and name it by its registry",
            )
        return image
    if policy.keys:
        reference = Reference.parse(accept_image(image, policy).target)
    elif reference.digest:
        return image
    with Registry.of(reference) as registry:
        pinned = reference.pinned(registry.resolve(reference).digest)
        manifest, parts = registry.read(pinned)
        if "manifests" in manifest and parts:  # an index: its images differ in their platform alone
            manifest, _ = registry.read(reference.pinned(parts[0].digest))
    said = read_annotations(manifest.get("annotations"), origin=str(pinned)).get(_DIGEST, "")
    if holds and said and said != f"sha256:{holds.manifest.digest}":
        raise ConfigError(
            f"{image} was made of another bundle ({said[:19]}) than {holds.path} (sha256:{holds.manifest.digest[:12]})",
            hint="`ferryman package` the bundle, or name the one that the image was made of: --bundle",
        )
    return str(pinned)
