"""What a fleet should run: a small signed document, and which of two bundles a box takes by it."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferryman.core.errors import Untrusted
from ferryman.oci.reference import Reference
from ferryman.supply.dsse import AGAIN, STATEMENT, parse_json, read_envelope, read_statement, seal
from ferryman.supply.keys import PrivateKey, PublicKey

PREDICATE = "urn:ferryman:fleet-release:v1"
_PARTS = 10_000
Stage = Annotated[int, Field(ge=1, le=100)] | Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]
"""A group by its name, or a share of all boxes in percent."""


class Release(BaseModel):
    """Say which bundle the boxes of the first `stage` + 1 stages run; the others keep `before`.

    Numbers only grow: a box never believes an older release again. To go back is a new release, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec_version: Literal[1] = 1
    fleet: str
    number: int = Field(ge=1)
    bundle: str = Field(description="an artifact in a registry, by digest")
    before: str = Field("", description="what boxes run that are not due yet; nothing new where it is empty")
    stages: tuple[Stage, ...] = Field((100,), min_length=1)
    stage: int = Field(0, ge=0)
    is_halted: bool = Field(False, description="no box that hasn't begun begins; none goes back")
    size_bytes: int = Field(0, ge=0, description="room that the bundle takes")
    note: str = ""

    def is_due(self, box: str, group: str) -> bool:
        """Tell whether a box is among those that run the new bundle."""
        return any(self._takes(stage, box, group) for stage in self.stages[: self.stage + 1])

    def choose(self, box: str, group: str, serving: str) -> str:
        """Give the bundle that a box which serves `serving` should run; "" to stay as it is."""
        if self.is_halted:
            return serving
        return self.bundle if self.is_due(box, group) else self.before

    @property
    def is_complete(self) -> bool:
        """Tell whether every box is due."""
        return 100 in self.stages[: self.stage + 1]

    def _takes(self, stage: int | str, box: str, group: str) -> bool:
        return stage == group if isinstance(stage, str) else place_of(box, self.bundle) < stage * _PARTS // 100


def place_of(box: str, bundle: str) -> int:
    """Give a box's place, 0 to 9999, in the order in which boxes get a bundle: always the same one for this bundle."""
    return int.from_bytes(hashlib.sha256(f"{bundle}\0{box}".encode()).digest()[:8]) % _PARTS


def sign_release(release: Release, key: PrivateKey) -> dict[str, Any]:  # JSON
    """Give the signed envelope of a release: an in-toto statement about its bundle."""
    digest = Reference.parse(release.bundle).digest.removeprefix("sha256:")
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": release.bundle, "digest": {"sha256": digest}}],
        "predicateType": PREDICATE,
        "predicate": release.model_dump(mode="json"),
    }
    return seal(statement, key, "sha256")


def read_release(payload: bytes, keys: Sequence[PublicKey], fleet: str, *, origin: str) -> Release:
    """Read a release that one of the keys signed for this fleet; raises Untrusted."""
    envelope = read_envelope(parse_json(payload, origin=origin), origin=origin)
    envelope.signer(keys, "sha256")
    statement = read_statement(envelope.payload, origin=origin)
    if statement.get("predicateType") != PREDICATE:
        raise Untrusted(f"{origin} is signed, and no release of a fleet", hint=AGAIN)
    try:
        release = Release.model_validate(statement.get("predicate"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Untrusted(f"{origin}: '{where}': {first['msg']}", hint="a newer ferryman may have signed it") from None
    if release.fleet != fleet:
        raise Untrusted(f"{origin} is a release of the fleet '{release.fleet}', not of '{fleet}'", hint="look at both")
    if not Reference.parse(release.bundle).digest or (release.before and not Reference.parse(release.before).digest):
        raise Untrusted(f"{origin} names a bundle without its digest", hint="sign it again")
    return release
