"""Where a fleet's release lies: a tag in a registry, on a small artifact that holds the signed document."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from ferryman.core.errors import ImageError
from ferryman.fleet.release import Release, read_release, sign_release
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor
from ferryman.oci.image import write_artifact
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply.keys import PrivateKey, PublicKey
from ferryman.supply.modelpack import pull_bundle, weigh_bundle

ARTIFACT_TYPE = "application/vnd.ferryman.fleet.release.v1"
_ENVELOPE = "application/vnd.dsse.envelope.v1+json"
_LIMIT_BYTES = 1024 * 1024


class Channel:
    """Hold a fleet's tag; `insecure` and `ca` are for its registry, and for the one that bundles come from."""

    def __init__(self, reference: str, fleet: str, *, insecure: bool = False, ca: Path | None = None) -> None:
        self.reference = Reference.parse(reference)
        self._fleet, self._insecure, self._ca = fleet, insecure, ca

    def look(self) -> str:
        """Give the digest of the release that is there now: all that a box asks for most of the time."""
        with self._registry(self.reference) as registry:
            return registry.resolve(self.reference).digest

    def read(self, keys: Sequence[PublicKey], digest: str = "") -> Release:
        """Read the release that is there, or the one with this digest; raises RegistryError, ImageError, Untrusted."""
        reference = self.reference.pinned(digest) if digest else self.reference
        with self._registry(reference) as registry, TemporaryDirectory() as folder:
            blobs = Blobs(Path(folder))
            _, parts = registry.read(reference)
            held = [part for part in parts if part.media_type == _ENVELOPE]
            if len(held) != 1 or held[0].size > _LIMIT_BYTES:
                raise ImageError(f"{reference} is no release of a fleet", hint="ferryman fleet release writes one")
            registry.pull_blob(reference, held[0], blobs)
            payload = blobs.read(held[0].digest, limit_bytes=_LIMIT_BYTES)
        return read_release(payload, keys, self._fleet, origin=str(reference))

    def publish(self, release: Release, key: PrivateKey) -> str:
        """Sign a release and put it in the place of the one before; gives its digest."""
        with self._registry(self.reference) as registry, TemporaryDirectory() as folder:
            blobs = Blobs(Path(folder))
            payload = json.dumps(sign_release(release, key), sort_keys=True).encode()
            layer = Descriptor(_ENVELOPE, *blobs.add_bytes(payload))
            annotations = {"org.opencontainers.image.title": f"{release.fleet} {release.number}"}
            artifact = write_artifact(blobs, ARTIFACT_TYPE, layers=[layer], annotations=annotations)
            registry.push(blobs, artifact, self.reference)
        return artifact.digest

    def resolve(self, bundle: str) -> tuple[str, int]:
        """Give a bundle's reference by digest, and the bytes that it takes; raises RegistryError, BundleError."""
        reference = Reference.parse(bundle)
        with self._registry(reference) as registry:
            found = registry.resolve(reference)
            pinned = reference.pinned(found.digest)
            return str(pinned), weigh_bundle(pinned, registry)

    def fetch(self, source: str, folder: Path) -> None:
        """Bring a bundle to a folder; what came before a break is not asked for again."""
        reference = Reference.parse(source)
        with self._registry(reference) as registry:
            pull_bundle(reference, folder, registry)

    def _registry(self, reference: Reference) -> Registry:
        return Registry.of(reference, insecure=self._insecure, ca=self._ca)
