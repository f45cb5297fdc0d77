"""Sign, accept and describe: a bundle or an image, whichever a name means."""

from collections.abc import Sequence
from pathlib import Path

from ferryman.core.progress import Progress, silent
from ferryman.oci.reference import Reference, means_image
from ferryman.oci.registry import Registry
from ferryman.supply.bom import Bom
from ferryman.supply.image_signing import accept_image, describe_image, sign_image
from ferryman.supply.keys import load_private
from ferryman.supply.modelpack import Moved, pull_bundle, push_bundle
from ferryman.supply.policy import EVERYTHING, Policy, make_policy
from ferryman.supply.provenance import LOCAL
from ferryman.supply.signing import (
    HERE,
    PLAINLY,
    Accepted,
    Place,
    Signed,
    Wish,
    accept_bundle,
    describe_bundle,
    sign_bundle,
)


def sign(
    target: str | Path,
    key: str | Path,
    *,
    passphrase: bytes | None = None,
    wish: Wish = PLAINLY,
    place: Place = HERE,
) -> Signed:
    """Sign a bundle (folder or .ferry), or an image in its registry, with all that says what is in it."""
    signer = load_private(Path(key), passphrase=passphrase)
    return (
        sign_image(str(target), signer, wish, place=place)
        if means_image(str(target))
        else sign_bundle(Path(target), signer, wish)
    )


def accept(
    target: str | Path, *, policy: str | Path | None = None, keys: Sequence[str | Path] = (), place: Place = HERE
) -> Accepted:
    """Check that a bundle or an image is as one of these keys, or a policy's, signed it; raises Untrusted.

    Without keys only that a bundle that was signed is still as it was then.
    """
    asked = make_policy(Path(policy) if policy else None, [Path(key) for key in keys])
    return (
        accept_image(str(target), asked, place=place)
        if means_image(str(target))
        else accept_bundle(Path(target), asked)
    )


def bom(
    target: str | Path,
    *,
    provenance: bool = False,
    builder: str = LOCAL,
    place: Place = HERE,
    progress: Progress = silent,
) -> Bom:
    """Give the bill of materials of a bundle or an image (CycloneDX 1.6), or its `provenance` (SLSA v1)."""
    if means_image(str(target)):
        return describe_image(str(target), provenance=provenance, place=place, progress=progress)
    return describe_bundle(Path(target), provenance=provenance, builder=builder)


def push(
    bundle: str | Path, reference: str, *, place: Place = HERE, dry_run: bool = False, progress: Progress = silent
) -> Moved:
    """Push a bundle to a registry as a ModelPack artifact: only the files that it lacks; gives the name by digest."""
    name = Reference.parse(reference)
    with Registry.of(name, insecure=place.insecure, ca=place.ca) as registry:
        return push_bundle(Path(bundle), name, registry, dry_run=dry_run, progress=progress)


def pull(
    reference: str,
    output: str | Path | None = None,
    *,
    policy: Policy = EVERYTHING,
    place: Place = HERE,
    dry_run: bool = False,
    progress: Progress = silent,
) -> Moved:
    """Pull a bundle from a registry into a folder (dist/ and the name's last word by default): all of it or nothing.

    One that `policy` doesn't accept never lands: raises Untrusted.
    """
    name = Reference.parse(reference)
    destination = Path(output) if output else Path("dist") / name.repository.rpartition("/")[2]
    with Registry.of(name, insecure=place.insecure, ca=place.ca) as registry:
        return pull_bundle(name, destination, registry, policy=policy, dry_run=dry_run, progress=progress)
